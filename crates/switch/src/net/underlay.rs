//! Which tunnels leave by one of our own bridges, and to which link-layer address do their packets go?
//!
//! The kernel is asked for routes and asked to resolve neighbours (it sends the ARP or ND query out of the bridge's
//! internal port, and tells us the answer), so there is one truth for the host and for native tunnels.

use std::collections::HashMap;
use std::net::IpAddr;

use weft_flow::OfPort;
use weft_host::netlink::Neighbour;
use weft_pipeline::{Pipeline, Resolve, Route, TunnelAddr, TunnelConfig};

use super::Links;
use crate::bridge::{Egress, Role, World};
use crate::wanted::IfaceKind;

/// The main routing table.
const RT_TABLE_MAIN: u32 = 254;
/// A neighbour in use is asked for again after this long, because native tunnels use it behind the kernel's back.
const CONFIRM_MS: u64 = 30_000;

/// Native tunnels: the bridges that lead to tunnel ends.
#[derive(Default)]
pub(crate) struct Native {
    /// Routes that were added by hand.
    pub(crate) by_hand: Vec<Route>,
    /// Our internal ports by device.
    ports: HashMap<u32, (u32, OfPort)>,
    /// Whether any route leads through them.
    active: bool,
    confirmed_ms: u64,
}

impl Native {
    /// Whether packets may wait for neighbours.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Finds anew by which device each tunnel leaves, and the routes through our own bridges.
    pub(crate) fn refresh(&mut self, world: &mut World, links: &mut Links) -> Vec<Route> {
        let internal = world.bridges.values().flat_map(|b| {
            let devices = b.ifaces.with_role(Role::Internal).filter(|i| i.state.ifindex != 0);
            devices.filter_map(|i| Some((i.state.ifindex, (b.id, i.ofport?))))
        });
        self.ports = internal.collect();
        let mut routes = self.by_hand.clone();
        let mut by_flow = false;
        for bridge in world.bridges.values_mut() {
            let mut ways = Vec::new();
            for iface in bridge.ifaces.with_role(Role::Tunnel) {
                let Ok(IfaceKind::Tunnel { config, .. }) = &iface.wanted.kind else { continue };
                by_flow |= config.remote == TunnelAddr::Flow;
                let way = self.way_of(config, links);
                let (egress, route) = way.map_or((None, None), |(egress, route)| (Some(egress), route));
                if iface.egress != egress {
                    ways.push((iface.wanted.name.clone(), egress));
                }
                if let Some(route) = route.filter(|r| !routes.iter().any(|old| old.prefix == r.prefix)) {
                    routes.push(route);
                }
            }
            for (name, egress) in ways {
                bridge.ifaces.edit(&name, |iface| iface.egress = egress);
            }
        }
        if by_flow {
            routes.extend(self.all_routes(links));
        }
        self.active = !routes.is_empty();
        routes
    }

    /// The device by which a tunnel's packets leave, and the route if it is ours.
    fn way_of(&self, config: &TunnelConfig, links: &mut Links) -> Option<(Egress, Option<Route>)> {
        let TunnelAddr::Addr(remote) = config.remote else { return None };
        let local = match config.local {
            TunnelAddr::Addr(local) => Some(local),
            TunnelAddr::Any | TunnelAddr::Flow => None,
        };
        // The longest prefix decides: the kernel's way there is not to hide a route added by hand.
        match self.way_by_hand(remote, links) {
            Some(egress) => Some((egress, None)),
            None => self.way_to(remote, local, links),
        }
    }

    /// The device by which packets to `remote` leave by a route added by hand.
    fn way_by_hand(&self, remote: IpAddr, links: &Links) -> Option<Egress> {
        let route = self.by_hand.iter().filter(|r| r.covers(remote)).max_by_key(|r| r.plen)?;
        let at = (route.bridge, route.port);
        let index = self.ports.iter().find(|(_, port)| **port == at).map(|(index, _)| *index)?;
        let device = links.by_index(index)?;
        Some(Egress { device: device.name.clone(), carrier: device.carrier, source: Some(route.src) })
    }

    /// The device by which packets to `remote` leave, and the route if it is ours.
    fn way_to(
        &self,
        remote: IpAddr,
        local: Option<IpAddr>,
        links: &mut Links,
    ) -> Option<(Egress, Option<Route>)> {
        let way = links.netlink().route_to(remote, local).ok()?;
        let hop = way.hops.first()?;
        let device = links.by_index(hop.ifindex)?;
        let source = local.or(way.source);
        let egress = Egress { device: device.name.clone(), carrier: device.carrier, source };
        let ours = self.ports.get(&hop.ifindex).filter(|_| !way.local);
        let route = ours.zip(source).map(|((bridge, port), src)| Route {
            prefix: remote,
            plen: if remote.is_ipv4() { 32 } else { 128 },
            bridge: *bridge,
            port: *port,
            gateway: hop.gateway,
            src,
        });
        Some((egress, route))
    }

    /// Every route through our own bridges, for tunnels whose remote address flows decide.
    fn all_routes(&self, links: &mut Links) -> Vec<Route> {
        let Ok(all) = links.netlink().routes() else { return Vec::new() };
        let ours = all.into_iter().filter(|r| r.table == RT_TABLE_MAIN && !r.local).filter_map(|route| {
            let hop = route.hops.first()?;
            let (bridge, port) = *self.ports.get(&hop.ifindex)?;
            let fits = |a: &&IpAddr| a.is_ipv4() == route.dst.is_ipv4();
            let src = route.source.or_else(|| links.addresses(hop.ifindex).iter().find(fits).copied())?;
            Some(Route { prefix: route.dst, plen: route.prefix, bridge, port, gateway: hop.gateway, src })
        });
        ours.collect()
    }

    /// Tells the pipeline every neighbour that is known on our bridges.
    pub(crate) fn load_neighbours(&self, links: &mut Links, pipeline: &Pipeline) {
        let Ok(neighbours) = links.netlink().neighbours() else { return };
        for n in neighbours {
            self.neighbour(n.ifindex, n.ip, n.mac.filter(|_| Neighbour::usable(&n)), pipeline);
        }
    }

    /// A neighbour was learned or lost.
    pub(crate) fn neighbour(
        &self,
        ifindex: u32,
        ip: IpAddr,
        mac: Option<weft_wire::Mac>,
        pipeline: &Pipeline,
    ) {
        if let Some((bridge, _)) = self.ports.get(&ifindex) {
            pipeline.set_neighbour(*bridge, ip, mac);
        }
    }

    /// Has the kernel ask for neighbours that packets wait for, and now and then for those that are in use.
    pub(crate) fn resolve(&mut self, links: &mut Links, pipeline: &Pipeline, now_ms: u64) {
        let mut wanted: Vec<(u32, OfPort, IpAddr)> = pipeline
            .take_resolves()
            .into_iter()
            .map(|Resolve { bridge, port, addr, .. }| (bridge, port, addr))
            .collect();
        if now_ms.saturating_sub(self.confirmed_ms) >= CONFIRM_MS {
            self.confirmed_ms = now_ms;
            let snapshot = pipeline.snapshot();
            let used = snapshot.underlay().routes().iter();
            wanted.extend(used.filter_map(|r| {
                let hop = r.gateway.or_else(|| (r.plen == 32 || r.plen == 128).then_some(r.prefix))?;
                snapshot.underlay().neighbour(r.bridge, hop).map(|_| (r.bridge, r.port, hop))
            }));
        }
        for (bridge, port, addr) in wanted {
            let device = self.ports.iter().find(|(_, at)| **at == (bridge, port)).map(|(index, _)| *index);
            if let Some(index) = device
                && let Err(e) = links.netlink().probe_neighbour(index, addr)
            {
                tracing::debug!(target: "tunnel", "{e}");
            }
        }
    }
}
