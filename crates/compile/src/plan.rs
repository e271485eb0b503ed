//! What does a node know of the networks it takes part in?
//!
//! Resources with their names, defaults and allocations are resolved before; here everything has a number.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_flow::OfPort;
use weft_wire::Mac;

/// Number of a network on this node, 1 to 2²⁴ − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetKey(pub u32);

/// Groups of networks have numbers from this one on.
pub const GROUP_BASE: u32 = 0x5700_0000;

impl NetKey {
    /// The group that floods the network.
    pub const fn group(self) -> u32 {
        GROUP_BASE | self.0 & 0x00ff_ffff
    }
}

/// Number of a port on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortKey(pub u32);

/// Meters of ports have numbers from this one on: the upper half of what Open vSwitch's datapath takes, so that those of
/// others, who count from one, are told from ours.
pub const METER_BASE: u32 = 1 << 17;

impl PortKey {
    /// The meters of what the port sends and of what it receives.
    pub const fn meters(self) -> (u32, u32) {
        let first = METER_BASE.saturating_add(self.0.saturating_mul(2));
        (first, first.saturating_add(1))
    }
}

/// Networks and ports of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Networks.
    pub nets: BTreeMap<NetKey, Net>,
    /// Ports of these networks on this node.
    pub ports: BTreeMap<PortKey, Port>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Net {
    /// MAC address of its gateway, the same on every node.
    pub gateway_mac: Mac,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// The host's own link to the network, which has the gateway's addresses.
    pub host: Option<HostLink>,
    /// How it reaches other nodes.
    pub overlay: Option<Overlay>,
    /// A device of the node, or a bridge beyond it, that the network is joined to.
    pub uplink: Option<Uplink>,
    /// Networks that this one is routed to: those of the same router, without itself.
    pub routed: Vec<NetKey>,
    /// Ways to prefixes beyond these networks; the first of a prefix counts.
    pub hops: Vec<Hop>,
    /// Largest IP packet in bytes; 0: it is not known.
    pub mtu: u16,
    /// Ports may talk to the gateway only.
    pub isolated: bool,
    /// The agent asks by ARP whether addresses are free before it offers them.
    pub probes: bool,
    /// DNS questions to the gateway are answered by the node's name server.
    pub dns: bool,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Network address.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// Address of the gateway.
    pub gateway: Option<IpAddr>,
    /// Addresses are given by DHCP.
    pub dhcp: bool,
    /// Routers are announced (IPv6).
    pub adverts: bool,
}

/// A machine that routes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Network address of what lies behind it.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
    /// The network that it is in: this one, or one that this one is routed to.
    pub net: NetKey,
    /// Its MAC address.
    pub mac: Mac,
}

/// The host's link to a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLink {
    /// Its port on the bridge.
    pub port: OfPort,
    /// What no subnet has goes there: the host routes on.
    pub default_route: bool,
}

/// An overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The tunnel port, whose remote address and key are set by flows.
    pub port: OfPort,
    /// Virtual network identifier.
    pub vni: u32,
    /// Addresses of the other nodes.
    pub peers: Vec<IpAddr>,
}

/// A device that the network is joined to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its port on the bridge.
    pub port: OfPort,
    /// The network's VLAN there; 0: untagged.
    pub vlan: u16,
    /// Other VLANs that pass with their tags, between it and the ports that are in them.
    pub trunk: Vec<u16>,
}

/// Which VLANs of its network's uplink a port is in: those without a tag, and those with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// Of which VLAN frames without a tag are; 0: of the network's own. `None`: they are dropped.
    pub untagged: Option<u16>,
    /// The tag that the network's own VLAN is known by at the port, if it is; whether its frames leave with it.
    pub own_tag: Option<(u16, bool)>,
    /// Other VLANs, with their tags both ways: of the uplink's `trunk`.
    pub tags: Vec<u16>,
}

impl Default for Vlans {
    /// In the network's own, without a tag.
    fn default() -> Vlans {
        Vlans { untagged: Some(0), own_tag: None, tags: Vec::new() }
    }
}

impl Vlans {
    /// Whether the network answers for the port: it is in the network's own VLAN, and frames of that have no tag.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.untagged == Some(0) && self.own_tag.is_none_or(|(_, leaves)| !leaves)
    }
}

/// What a port may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Only from its own addresses, and from these prefixes besides, each with its length in bits.
    On(Vec<(Mac, IpAddr, u8)>),
    /// Anything.
    #[default]
    Off,
}

/// A port of a network on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Port {
    /// Its network.
    pub net: NetKey,
    /// Its number on the bridge.
    pub port: OfPort,
    /// MAC address.
    pub mac: Mac,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
    /// What it may send.
    pub guard: Guard,
    /// Which VLANs it is in, where its network has an uplink.
    pub vlans: Vlans,
    /// How much it may send, if there is a limit.
    pub sends: Option<Limit>,
    /// How much is sent to it, if there is a limit.
    pub receives: Option<Limit>,
}

/// A rate: what exceeds it is dropped by a meter of the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Kilobits per second; not 0.
    pub rate: u32,
    /// Kilobits that may come at once.
    pub burst: u32,
}
