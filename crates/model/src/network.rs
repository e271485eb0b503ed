//! What is a network: one L2 segment, how it reaches the world, and how it spans nodes?

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dns::{Dns, Domain};
use crate::kind::Kind;
use crate::object::{Object, Spec};
use crate::problem::Checker;
use crate::scalar::{AddressRange, MacAddr, PortRange, check_label};
use crate::status::{Condition, Phase};

/// One L2 segment.
pub type Network = Object<NetworkSpec>;

/// How a network reaches what is outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// Not at all.
    Isolated,
    /// Through the node, behind addresses of the node.
    #[default]
    Nat,
    /// Through the node with its own addresses, and only with neighbours that have a route.
    Routed,
    /// Routed, and the firewall of the node is left to the operator.
    Open,
    /// It is a part of a network outside: an uplink device or a bridge of the kernel.
    Bridged,
    /// As `bridged`, but ports reach what is outside only, not each other, whatever `portIsolation` says.
    Private,
}

/// What a network is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// How it reaches what is outside.
    pub mode: NetworkMode,
    /// Its domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// Largest IP packet in bytes; absent: what the underlay carries, less the overlay's headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// VLAN on the uplink.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// Where a `bridged` or `private` network is joined to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridged: Option<Bridged>,
    /// How it spans nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// Address translation of a `nat` network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat: Option<Nat>,
    /// Names.
    pub dns: Dns,
    /// Drop what a port sends with addresses that are not its own.
    pub spoof_guard: bool,
    /// Ports do not reach each other, on one node or on several; those of a `private` network never do.
    pub port_isolation: bool,
    /// Limits of every port that has none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Hardware address of the gateway; absent: one that follows from the network's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_mac: Option<MacAddr>,
    /// What libvirt's document said and has no meaning here, by its place in `<network>` (`bridge/@stp`, `portgroup[2]`);
    /// kept for the way back.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub libvirt: BTreeMap<String, String>,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            mode: NetworkMode::Nat,
            domain: None,
            mtu: None,
            vlan: None,
            bridged: None,
            overlay: None,
            nat: None,
            dns: Dns::default(),
            spoof_guard: true,
            port_isolation: false,
            bandwidth: None,
            gateway_mac: None,
            libvirt: BTreeMap::new(),
        }
    }
}

impl NetworkSpec {
    /// Whether ports are kept from each other: they reach the gateway, or what is outside, only.
    #[must_use]
    pub fn isolates_ports(&self) -> bool {
        self.port_isolation || self.mode == NetworkMode::Private
    }
}

/// VLAN of a network (IEEE 802.1Q).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Vlan {
    /// The VLAN, 1–4094; with `trunk` the native one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// VLANs that pass with their tags, between the uplink and the ports that are in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trunk: Vec<u16>,
    /// Whether frames of the native VLAN carry a tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_mode: Option<VlanNativeMode>,
}

/// Whether frames of the native VLAN carry a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VlanNativeMode {
    /// They do.
    Tagged,
    /// They do not.
    Untagged,
}

/// What a network is joined to: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bridged {
    /// A device that becomes a port: `eth1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// An existing bridge of the kernel: `virbr0`, `cni0`, `k6t-eth0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
}

/// Encapsulation between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverlayKind {
    /// RFC 8926.
    #[default]
    Geneve,
    /// RFC 7348.
    Vxlan,
    /// RFC 2784 with keys (RFC 2890).
    Gre,
    /// The network stays on its node.
    None,
}

impl OverlayKind {
    /// Bytes that an encapsulated Ethernet frame carries in front of the inner IP packet: outer IP header, tunnel headers
    /// and the inner Ethernet header.
    #[must_use]
    pub const fn overhead(self, outer_ipv6: bool) -> u16 {
        let outer = if outer_ipv6 { 40 } else { 20 };
        match self {
            Self::None => 0,
            Self::Vxlan => outer + 8 + 8 + 14,
            // Room for one option of 8 bytes beside the 8 of the header.
            Self::Geneve => outer + 8 + 8 + 8 + 14,
            Self::Gre => outer + 8 + 14,
        }
    }
}

/// How a network spans nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Overlay {
    /// Encapsulation.
    pub kind: OverlayKind,
    /// The network's number on the wire (VNI), 1–16777215; absent: one is allocated, see `status.key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
    /// Addresses of the other nodes' tunnel endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub peers: Vec<IpAddr>,
}

/// Address translation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Nat {
    /// Addresses to hide behind; absent: the node's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_range: Option<AddressRange>,
    /// Ports to use for TCP and UDP.
    pub port_range: PortRange,
    /// Translate IPv6 too.
    pub ipv6: bool,
    /// Ports of the node that lead into the network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
}

impl Default for Nat {
    fn default() -> Self {
        Self {
            address_range: None,
            port_range: PortRange { start: 1024, end: u16::MAX },
            ipv6: false,
            forwards: Vec::new(),
        }
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// A port forward: what arrives at `listen` goes to `to`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forward {
    /// Transport.
    #[serde(default)]
    pub protocol: Protocol,
    /// Where it arrives.
    pub listen: Listen,
    /// Where it goes.
    pub to: ForwardTarget,
}

/// Where a forwarded connection arrives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listen {
    /// Address of the node; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// Port.
    pub port: u16,
}

/// Where a forwarded connection goes: exactly one of `name` and `address`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ForwardTarget {
    /// Name of a Port resource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Address inside the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// Port; absent: the same as it arrived at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Limits of bandwidth, seen from the machine at the port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bandwidth {
    /// What it receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbound: Option<Rate>,
    /// What it sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound: Option<Rate>,
}

/// A rate, in libvirt's units.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Lasting rate in kilobytes per second.
    pub average: u32,
    /// Highest rate in kilobytes per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<u32>,
    /// Kibibytes that may pass at the highest rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Rate in kilobytes per second that is kept free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<u32>,
}

/// How a network fares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkStatus {
    /// How far it has come.
    pub phase: Phase,
    /// The generation of the spec that this status is about.
    pub observed_generation: u64,
    /// Its number on the wire (VNI).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
    /// Largest IP packet in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// What the device or bridge that it is joined to takes, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_mtu: Option<u16>,
    /// How many ports are plugged in.
    pub ports: u32,
    /// In detail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Spec for NetworkSpec {
    const KIND: Kind = Kind::Network;
    type Status = NetworkStatus;

    fn check(&self, c: &mut Checker) {
        if let Some(domain) = &self.domain {
            c.field("domain", |c| domain.check(c));
        }
        if let Some(mtu) = self.mtu {
            c.within("mtu", mtu, 576, 65_535);
        }
        if let Some(vlan) = &self.vlan {
            c.field("vlan", |c| vlan.check(c));
        }
        let joined = matches!(self.mode, NetworkMode::Bridged | NetworkMode::Private);
        match &self.bridged {
            Some(_) if !joined => {
                c.add("bridged", "needs mode bridged or private", "set `mode: bridged` or remove `bridged`");
            }
            None if self.mode == NetworkMode::Bridged => {
                c.add(
                    "bridged",
                    "is missing",
                    "add `bridged: {uplink: DEVICE}` or `bridged: {bridge: NAME}`",
                );
            }
            Some(bridged) => c.field("bridged", |c| bridged.check(c)),
            None => {}
        }
        if joined && self.overlay.as_ref().is_some_and(|o| o.kind != OverlayKind::None) {
            let what = "beside what is joined outside would be a loop, as soon as two nodes are joined to it";
            c.add("overlay", what, "remove `overlay`: the network outside spans the nodes");
        }
        if let Some(overlay) = &self.overlay {
            c.field("overlay", |c| overlay.check(c));
        }
        if let Some(nat) = &self.nat {
            if self.mode != NetworkMode::Nat {
                c.add("nat", "needs mode nat", "set `mode: nat` or remove `nat`");
            }
            c.field("nat", |c| nat.check(c));
        }
        c.field("dns", |c| self.dns.check(c));
        if let Some(bandwidth) = &self.bandwidth {
            c.field("bandwidth", |c| bandwidth.check(c));
        }
        if self.gateway_mac.is_some_and(|mac| !mac.0.is_unicast()) {
            c.add("gatewayMac", "is not the address of one machine", "use a unicast address");
        }
        check_kept(c, &self.libvirt);
    }
}

/// Notes more of libvirt's words than are kept.
pub(crate) fn check_kept(c: &mut Checker, kept: &BTreeMap<String, String>) {
    if kept.len() > 256 {
        c.add("libvirt", format!("has {} elements", kept.len()), "keep to 256 at most");
    }
    let size: usize = kept.iter().map(|(k, v)| k.len() + v.len()).sum();
    if size > 256 * 1024 {
        c.add("libvirt", format!("is {size} bytes"), "keep to 256 KiB at most");
    }
}

impl Vlan {
    pub(crate) fn check(&self, c: &mut Checker) {
        if self.id.is_none() && self.trunk.is_empty() {
            c.add("id", "is missing", "add `id` or `trunk`");
        }
        if let Some(id) = self.id {
            c.within("id", id, 1, 4_094);
        }
        c.each("trunk", 4_094, &self.trunk, |c, _, id| c.within("", *id, 1, 4_094));
        if self.native_mode.is_some() && (self.id.is_none() || self.trunk.is_empty()) {
            c.add("nativeMode", "needs `id` and `trunk`", "add them or remove `nativeMode`");
        }
    }
}

impl Bridged {
    fn check(&self, c: &mut Checker) {
        match (&self.uplink, &self.bridge) {
            (Some(_), Some(_)) => c.add("", "names an uplink and a bridge", "keep one of them"),
            (None, None) => c.add("", "names neither uplink nor bridge", "add one of them"),
            (Some(name), None) => check_device(c, "uplink", name),
            (None, Some(name)) => check_device(c, "bridge", name),
        }
    }
}

impl Overlay {
    fn check(&self, c: &mut Checker) {
        if let Some(key) = self.key {
            c.within("key", key, 1, 0xff_ffff);
        }
        c.each("peers", 1_024, &self.peers, |c, i, peer| {
            if peer.is_unspecified() || peer.is_multicast() || peer.is_loopback() {
                c.add("", format!("{peer} is not the address of a node"), "use a unicast address");
            }
            if self.peers.iter().take(i).any(|p| p == peer) {
                c.add("", format!("{peer} is there twice"), "remove one");
            }
        });
        if self.kind == OverlayKind::None && (self.key.is_some() || !self.peers.is_empty()) {
            c.add("kind", "none has no key and no peers", "choose vxlan, geneve or gre, or remove them");
        }
    }
}

impl Nat {
    fn check(&self, c: &mut Checker) {
        if let Some(range) = &self.address_range
            && let Err(why) = range.check()
        {
            c.add("addressRange", why.to_string(), "write the lower address as `start`");
        }
        if self.port_range.start == 0 || self.port_range.end < self.port_range.start {
            c.add("portRange", "is not a range of ports", "write it as {start: 1024, end: 65535}");
        }
        c.each("forwards", 4_096, &self.forwards, |c, i, forward| {
            c.within("listen.port", forward.listen.port, 1, u16::MAX);
            match (&forward.to.name, &forward.to.address) {
                (Some(name), None) => {
                    c.text("to.name", name, check_label(name), "write the name of a Port");
                }
                (None, Some(_)) => {}
                _ => c.add("to", "needs exactly one of name and address", "name a Port or give an address"),
            }
            if forward.to.port == Some(0) {
                c.add("to.port", "0 is not a port", "use a number from 1 to 65535");
            }
            if let (Some(a), Some(b)) = (forward.listen.address, forward.to.address)
                && a.is_ipv4() != b.is_ipv4()
            {
                c.add("to.address", "is of another family than `listen.address`", "use one family");
            }
            let same = |f: &&Forward| f.protocol == forward.protocol && f.listen == forward.listen;
            if self.forwards.iter().take(i).any(|f| same(&f)) {
                c.add("listen", "is forwarded twice", "remove one of the two");
            }
        });
    }
}

impl Bandwidth {
    pub(crate) fn check(&self, c: &mut Checker) {
        for (field, rate) in [("inbound", &self.inbound), ("outbound", &self.outbound)] {
            let Some(rate) = rate else { continue };
            c.field(field, |c| {
                if rate.average == 0 {
                    c.add("average", "0 lets nothing through", "give a rate in kilobytes per second");
                }
                if rate.peak.is_some_and(|peak| peak < rate.average) {
                    c.add("peak", "is below `average`", "raise it or remove it");
                }
            });
        }
    }
}

/// A name of a network device: 1–15 bytes without slash and white space (`dev_valid_name` of the kernel).
pub(crate) fn check_device(c: &mut Checker, field: &str, name: &str) {
    let bad = |b: u8| b == b'/' || b == b':' || b.is_ascii_whitespace() || b.is_ascii_control();
    let why = match name {
        "" => "is empty",
        "." | ".." => "is not a device name",
        _ if name.len() > 15 => "is longer than 15 bytes",
        _ if name.bytes().any(bad) => "has a slash, colon or white space",
        _ => return,
    };
    c.text(field, name, Err(why), "write the name of a device such as eth1");
}
