//! Which tunnel does a packet belong to, and which outer header does it get?

pub(crate) mod outer;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_flow::{DpPort, DropReason, OfPort, TUN_GBP, TUN_GPE, TUN_KEY, TunnelKey, TunnelKind};
use weft_wire::Mac;

use crate::config::{PacketTypes, TunnelAddr, TunnelConfig, TunnelId};

/// What tunnel ports listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelListener {
    /// Encapsulation.
    pub kind: TunnelKind,
    /// UDP destination port; 0 for GRE.
    pub dst_port: u16,
    /// One of the ports that listen there.
    pub port: DpPort,
}

/// Tunnel ports by what they take.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TunnelMap {
    exact: HashMap<TunnelMatch, (DpPort, Arc<TunnelConfig>)>,
    listeners: Vec<TunnelListener>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TunnelMatch {
    kind: TunnelKind,
    dst_port: u16,
    /// `None`: any key.
    id: Option<u64>,
    /// `None`: any peer.
    remote: Option<IpAddr>,
    local: TunnelAddr,
    packets: PacketTypes,
}

impl TunnelMap {
    pub(crate) fn insert(&mut self, port: DpPort, config: &Arc<TunnelConfig>) {
        let (kind, dst_port) = (config.kind, config.dst_port);
        let id = match config.in_key {
            TunnelId::None => Some(0),
            TunnelId::Flow => None,
            TunnelId::Key(id) => Some(id),
        };
        let remote = match config.remote {
            TunnelAddr::Addr(addr) => Some(addr),
            TunnelAddr::Any | TunnelAddr::Flow => None,
        };
        let key = TunnelMatch { kind, dst_port, id, remote, local: config.local, packets: config.packets };
        self.exact.entry(key).or_insert_with(|| (port, config.clone()));
        if !self.listeners.iter().any(|l| (l.kind, l.dst_port) == (kind, dst_port)) {
            self.listeners.push(TunnelListener { kind, dst_port, port });
        }
    }

    pub(crate) fn listeners(&self) -> impl Iterator<Item = TunnelListener> {
        self.listeners.iter().copied()
    }

    /// Most specific first: the key outweighs the peer, the peer the local address. `bare`: the packet has no Ethernet
    /// header.
    pub(crate) fn demux(
        &self,
        kind: TunnelKind,
        dst_port: u16,
        key: &TunnelKey,
        bare: bool,
    ) -> Result<DpPort, DropReason> {
        let own = if bare { PacketTypes::LegacyL3 } else { PacketTypes::LegacyL2 };
        let id = if key.flags & TUN_KEY != 0 { key.id } else { 0 };
        let locals = [TunnelAddr::Addr(key.dst()), TunnelAddr::Any, TunnelAddr::Flow];
        for id in [Some(id), None] {
            for remote in [Some(key.src()), None] {
                for (local, packets) in locals.into_iter().flat_map(|l| [(l, own), (l, PacketTypes::Any)]) {
                    let wanted = TunnelMatch { kind, dst_port, id, remote, local, packets };
                    if let Some((port, config)) = self.exact.get(&wanted) {
                        let refused = key.flags & TUN_GBP != 0 && !config.gbp
                            || key.flags & TUN_GPE != 0 && !config.gpe;
                        return if refused { Err(DropReason::TunnelFlags) } else { Ok(*port) };
                    }
                }
            }
        }
        let other = if bare { PacketTypes::LegacyL2 } else { PacketTypes::LegacyL3 };
        let refused = |m: &TunnelMatch| {
            (m.kind, m.dst_port, m.packets) == (kind, dst_port, other)
                && m.remote.is_none_or(|r| r == key.src())
                && m.id.is_none_or(|known| known == id)
                && locals.contains(&m.local)
        };
        if self.exact.keys().any(refused) {
            return Err(DropReason::PacketType);
        }
        let peer_is_known = self.exact.keys().any(|m| {
            (m.kind, m.dst_port) == (kind, dst_port)
                && m.remote.is_none_or(|r| r == key.src())
                && locals.contains(&m.local)
        });
        Err(if peer_is_known { DropReason::TunnelWrongVni } else { DropReason::TunnelWrongPeer })
    }
}

/// A route to remote tunnel ends through one of our bridges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Network.
    pub prefix: IpAddr,
    /// Length of the prefix, bits.
    pub plen: u8,
    /// Bridge that leads there.
    pub bridge: u32,
    /// Internal port of that bridge, the host's interface.
    pub port: OfPort,
    /// Next hop; `None`: on link.
    pub gateway: Option<IpAddr>,
    /// Source address to use.
    pub src: IpAddr,
}

impl Route {
    /// Whether it leads to `addr`.
    pub fn covers(&self, addr: IpAddr) -> bool {
        prefix_covers(self.prefix, self.plen, addr)
    }
}

/// A link-layer address known on a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Bridge.
    pub bridge: u32,
    /// Address.
    pub addr: IpAddr,
    /// Its link-layer address.
    pub mac: Mac,
}

/// Routes and neighbours for native tunnels.
#[derive(Clone, Debug, Default)]
pub struct Underlay {
    routes: Vec<Route>,
    neighbours: HashMap<(u32, IpAddr), Mac>,
}

impl Underlay {
    /// Replaces the routes.
    pub fn set_routes(&mut self, mut routes: Vec<Route>) {
        routes.sort_by_key(|r| std::cmp::Reverse(r.plen));
        self.routes = routes;
    }
    /// The routes, longest prefix first.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
    /// The route to `addr` by longest prefix.
    pub fn route(&self, addr: IpAddr) -> Option<&Route> {
        self.routes.iter().find(|r| prefix_covers(r.prefix, r.plen, addr))
    }
    /// Learns (`Some`) or forgets a neighbour. Prefer [`crate::Pipeline::set_neighbour`], which disturbs fewer flows.
    pub fn set_neighbour(&mut self, bridge: u32, addr: IpAddr, mac: Option<Mac>) {
        match mac {
            Some(mac) => self.neighbours.insert((bridge, addr), mac),
            None => self.neighbours.remove(&(bridge, addr)),
        };
    }
    /// The link-layer address of a neighbour.
    pub fn neighbour(&self, bridge: u32, addr: IpAddr) -> Option<Mac> {
        self.neighbours.get(&(bridge, addr)).copied()
    }
    /// All neighbours.
    pub fn neighbours(&self) -> impl Iterator<Item = Neighbour> {
        self.neighbours.iter().map(|(&(bridge, addr), &mac)| Neighbour { bridge, addr, mac })
    }
}

/// Whether `addr` is in the network `prefix/plen`.
fn prefix_covers(prefix: IpAddr, plen: u8, addr: IpAddr) -> bool {
    match (prefix, addr) {
        (IpAddr::V4(p), IpAddr::V4(a)) => {
            (p.to_bits() ^ a.to_bits()).checked_shr(32 - u32::from(plen.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(p), IpAddr::V6(a)) => {
            (p.to_bits() ^ a.to_bits()).checked_shr(128 - u32::from(plen.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// What decisions rest on that look a neighbour up.
pub(crate) fn neighbour_tag(bridge: u32, addr: IpAddr) -> u64 {
    let bits = match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()) | 1 << 32,
        IpAddr::V6(a) => a.to_bits(),
    };
    let folded = (bits as u64) ^ ((bits >> 64) as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
    folded ^ u64::from(bridge).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}
