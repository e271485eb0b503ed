//! What do the resources come to on this node? Numbers in place of names, addresses in place of defaults.
//!
//! One resource is resolved at a time, so that a change costs what it touches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use weft_compile::{Guard, Hop, HostLink, Limit, Net, NetKey, Overlay, Port, PortKey, Uplink, Vlans};
use weft_flow::OfPort;
use weft_model::{
    AttachmentRef, Bandwidth, Catalog, MacAddr, NetworkMode, NetworkSpec, OverlayKind, Rate, Route, Router,
    Subnet, VhostMode, VhostUser, Vlan, VlanNativeMode, stable_mac,
};

use crate::respond::self_made;
use crate::south::{BRIDGE, Device, View};

/// `external_ids` of ports of ours: which resource they are of.
pub(crate) const RESOURCE: &str = "weft-resource";
/// Bits of the largest frame, in thousands.
const LARGEST_FRAME_KBIT: u32 = 600;
/// Longest name of a device (`IFNAMSIZ` less the zero).
const DEVICE_NAME: usize = 15;

/// Numbers for names, the lowest that is free each time.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    numbers: HashMap<String, u32>,
    names: BTreeMap<u32, String>,
    free: BTreeSet<u32>,
}

impl Keys {
    /// The number of a name, given now if it has none. From 1.
    pub fn of(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let next = self.names.last_key_value().map_or(1, |(last, _)| last + 1);
        let number = self.free.pop_first().unwrap_or(next);
        self.numbers.insert(name.to_owned(), number);
        self.names.insert(number, name.to_owned());
        number
    }

    /// The number of a name that has one.
    pub fn get(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// The name of a number.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get(&number).map(String::as_str)
    }

    /// Gives a name's number back.
    pub fn forget(&mut self, name: &str) -> Option<u32> {
        let number = self.numbers.remove(name)?;
        self.names.remove(&number);
        self.free.insert(number);
        Some(number)
    }
}

/// Names and numbers on this node.
#[derive(Clone, Debug, Default)]
pub struct Resolver {
    /// This node's name.
    pub node: String,
    /// Largest IP packet between nodes, in bytes.
    pub underlay_mtu: u16,
    /// Networks.
    pub nets: Keys,
    /// Ports.
    pub ports: Keys,
}

/// The device by which the host takes part in a network, as `virbr0` does in libvirt's: `wn-NAME`, cut and made unique by
/// a hash when it is too long.
pub fn host_device(network: &str) -> String {
    device_name("wn-", network)
}

/// The device of a port that the agent plugs in.
pub fn port_device(port: &str) -> String {
    device_name("wp-", port)
}

/// The port of the switch for a vhost-user socket. A switch that listens calls its socket as the port, in its run
/// directory.
pub fn vhost_device(port: &str, vhost: &VhostUser) -> String {
    let file = std::path::Path::new(&vhost.socket).file_name().and_then(|name| name.to_str());
    match (vhost.mode, file) {
        (VhostMode::Server, Some(file)) => file.to_owned(),
        _ => port_device(port),
    }
}

/// Begins the name of a cable to a Linux bridge.
pub(crate) const CABLE: &str = "wc-";

/// The end on the bridge of the cable to a Linux bridge.
pub fn cable_device(network: &str) -> String {
    device_name(CABLE, network)
}

/// The end on the Linux bridge of that cable.
pub fn bridge_end(network: &str) -> String {
    device_name("wb-", network)
}

fn device_name(prefix: &str, name: &str) -> String {
    if prefix.len() + name.len() <= DEVICE_NAME {
        return format!("{prefix}{name}");
    }
    let hash = stable_mac(name).0.to_u64() & 0x00ff_ffff;
    let room = DEVICE_NAME - prefix.len() - 7;
    // Names of resources are ASCII.
    let start: String = name.chars().take(room).collect();
    format!("{prefix}{start}-{hash:06x}")
}

/// The tunnel port of a kind of overlay.
pub const fn tunnel_device(kind: OverlayKind) -> Option<(&'static str, &'static str)> {
    match kind {
        OverlayKind::Geneve => Some(("weft-geneve", "geneve")),
        OverlayKind::Vxlan => Some(("weft-vxlan", "vxlan")),
        OverlayKind::Gre => Some(("weft-gre", "gre")),
        OverlayKind::None => None,
    }
}

/// A port's number on the integration bridge.
fn ofport(view: &View, name: &str) -> Option<OfPort> {
    let interface = view.interfaces.get(name).filter(|i| i.bridge.as_deref() == Some(BRIDGE))?;
    interface.ofport.map(OfPort)
}

/// The name of the interface that a port resource is plugged in by.
pub fn interface_of(port: &weft_model::Port, view: &View) -> Option<String> {
    let plugged = |id: &str| view.plugged(id).map(str::to_owned);
    match port.spec.attachment.as_ref().and_then(|a| a.get()) {
        Some(AttachmentRef::IfaceId(id)) => plugged(id),
        Some(AttachmentRef::Device(device)) => Some(device.to_owned()),
        Some(AttachmentRef::Tap(tap)) => Some(tap.name.clone()),
        Some(AttachmentRef::Netns(_)) => Some(port_device(port.name())),
        Some(AttachmentRef::VhostUser(vhost)) => Some(vhost_device(port.name(), vhost)),
        None => plugged(port.name()).or_else(|| plugged(&port.metadata.uid)),
    }
}

/// The MAC address of a port: what is written, else what whoever plugged the machine in says that it has (libvirt's
/// `external-ids:attached-mac`), else what the port had. And what is wrong with it.
pub fn mac(catalog: &Catalog, view: &View, port: &weft_model::Port) -> (MacAddr, Option<String>) {
    let interface = match port.spec.attachment.as_ref().and_then(|a| a.get()) {
        None | Some(AttachmentRef::IfaceId(_)) => interface_of(port, view),
        Some(_) => None,
    };
    let ids = interface.and_then(|name| view.interfaces.get(&name)).map(|i| &i.ids);
    let attached = ids.and_then(|ids| ids.get("attached-mac")?.parse::<MacAddr>().ok());
    let Some(attached) = attached.filter(|mac| mac.0.is_unicast() && *mac != port.mac()) else {
        return (port.mac(), None);
    };
    let why = match (port.spec.mac, catalog.port_by_mac(&port.spec.network, attached)) {
        (Some(written), _) => format!(
            "the machine has MAC address {attached} (external_ids:attached-mac), and `mac` says {written}: write \
             {attached}, or take `mac` out"
        ),
        (None, Some(other)) => format!(
            "the machine has MAC address {attached} (external_ids:attached-mac), which is of {}: give one of them \
             another",
            other.reference()
        ),
        (None, None) => return (attached, None),
    };
    (port.mac(), Some(why))
}

/// What a port resource may be plugged in by: `iface-id`s and names of interfaces.
pub fn anchors(port: &weft_model::Port) -> Vec<String> {
    match port.spec.attachment.as_ref().and_then(|a| a.get()) {
        Some(AttachmentRef::IfaceId(id)) => vec![id.to_owned()],
        Some(AttachmentRef::Device(device)) => vec![device.to_owned()],
        Some(AttachmentRef::Tap(tap)) => vec![tap.name.clone()],
        Some(AttachmentRef::Netns(_)) => vec![port_device(port.name())],
        Some(AttachmentRef::VhostUser(vhost)) => vec![vhost_device(port.name(), vhost)],
        None => vec![port.name().to_owned(), port.metadata.uid.clone()],
    }
}

/// Other networks that routers join to one.
pub fn joined<'a>(catalog: &'a Catalog, name: &str) -> BTreeSet<&'a str> {
    let routers = catalog.subnets_of(name).flat_map(|s| catalog.routers_of(s));
    let subnets = routers.flat_map(|r| catalog.subnets_of_router(r));
    subnets.map(|s| s.spec.network.as_str()).filter(|n| *n != name).collect()
}

/// The routes by which a network's gateway leads on: its subnets' own, those of its routers, and those of subnets that
/// these join.
pub fn routes<'a>(catalog: &'a Catalog, name: &'a str) -> impl Iterator<Item = &'a Route> {
    let own = catalog.subnets_of(name);
    let routers: BTreeMap<&str, &Router> =
        catalog.subnets_of(name).flat_map(|s| catalog.routers_of(s)).map(|r| (r.name(), r)).collect();
    let others = joined(catalog, name).into_iter().flat_map(move |other| catalog.subnets_of(other));
    let of_subnets = |s: &'a Subnet| s.spec.routes.iter();
    let of_routers = routers.into_values().flat_map(|r| r.spec.routes.iter());
    own.flat_map(of_subnets).chain(of_routers).chain(others.flat_map(of_subnets))
}

/// The machine that a route of a network's gateway leads to, and its network; `None`: no port has its address.
pub fn next_machine<'a>(
    catalog: &'a Catalog,
    name: &'a str,
    route: &Route,
) -> Option<(&'a str, &'a weft_model::Port)> {
    let mut nets = [name].into_iter().chain(joined(catalog, name));
    nets.find_map(|net| Some((net, catalog.port_by_ip(net, route.via)?)))
}

/// The networks whose gateways may lead on by a port of a network that has one of these addresses.
pub fn led_by(catalog: &Catalog, name: &str, addresses: &[IpAddr]) -> BTreeSet<String> {
    let leads = routes(catalog, name).any(|route| addresses.contains(&route.via));
    let nets = [name].into_iter().chain(joined(catalog, name)).filter(|_| leads);
    nets.map(str::to_owned).collect()
}

/// The devices by which a network has to do with the bridge.
pub fn joints(network: &weft_model::Network) -> Vec<String> {
    let (name, spec) = (network.name(), &network.spec);
    let mut out = vec![host_device(name), cable_device(name)];
    out.extend(
        spec.overlay.as_ref().and_then(|o| tunnel_device(o.kind)).map(|(device, _)| device.to_owned()),
    );
    out.extend(spec.bridged.as_ref().and_then(|b| b.uplink.clone()));
    out
}

/// Whether the host has an end in a network: one that is ours and has an address to answer at.
pub fn has_host(network: &NetworkSpec) -> bool {
    !matches!(network.mode, NetworkMode::Bridged | NetworkMode::Private)
}

impl Resolver {
    /// A network as it is here; `None`: there is none of the name.
    pub fn network(&mut self, catalog: &Catalog, view: &View, name: &str) -> Option<(NetKey, Net)> {
        let network = catalog.network(name)?;
        let spec = &network.spec;
        let key = NetKey(self.nets.of(name));
        let here = catalog.subnets_of(name).filter(|s| !s.spec.dhcp.relayed);
        let subnets = here.map(|s| weft_compile::Subnet {
            address: s.spec.cidr.network(),
            prefix: s.spec.cidr.prefix_len(),
            gateway: s.spec.service_address(spec.mode),
            dhcp: s.spec.serves_dhcp(spec),
            adverts: s.spec.advertises(spec),
        });
        let host = has_host(spec).then(|| ofport(view, &host_device(name))).flatten();
        let default_route = matches!(spec.mode, NetworkMode::Nat | NetworkMode::Routed | NetworkMode::Open);
        let overlay = spec.overlay.as_ref().and_then(|o| {
            let (device, _) = tunnel_device(o.kind)?;
            Some(Overlay { port: ofport(view, device)?, vni: network.key()?, peers: o.peers.clone() })
        });
        let uplink = spec.bridged.as_ref().and_then(|b| {
            let cable = b.bridge.as_ref().map(|_| cable_device(name));
            let port = ofport(view, b.uplink.as_ref().or(cable.as_ref())?)?;
            let own = spec.vlan.as_ref().and_then(|v| v.id);
            let trunk = spec.vlan.iter().flat_map(|v| &v.trunk).copied().filter(|id| Some(*id) != own);
            let trunk = BTreeSet::from_iter(trunk).into_iter().collect();
            Some(Uplink { port, vlan: own.unwrap_or(0), trunk })
        });
        let net = Net {
            gateway_mac: gateway_mac(network),
            subnets: subnets.collect(),
            host: host.map(|port| HostLink { port, default_route }),
            overlay,
            uplink,
            routed: self.routed(catalog, name),
            hops: self.hops(catalog, name),
            mtu: network.mtu(self.underlay_mtu),
            isolated: spec.isolates_ports(),
            probes: catalog.subnets_of(name).any(|s| s.spec.probes(spec)),
            dns: spec.dns.enabled,
        };
        Some((key, net))
    }

    /// Other networks of the same routers.
    fn routed(&mut self, catalog: &Catalog, name: &str) -> Vec<NetKey> {
        joined(catalog, name).into_iter().map(|n| NetKey(self.nets.of(n))).collect()
    }

    /// The ways beyond a network and those that it is routed to, of which the next machine is known.
    fn hops(&mut self, catalog: &Catalog, name: &str) -> Vec<Hop> {
        let hop = |route: &Route| {
            let (network, port) = next_machine(catalog, name, route)?;
            let (address, prefix) = (route.to.network(), route.to.prefix_len());
            Some(Hop { address, prefix, net: NetKey(self.nets.of(network)), mac: port.mac().0 })
        };
        routes(catalog, name).filter_map(hop).collect()
    }

    /// A port as it is here; `None`: it is elsewhere, or not plugged in yet.
    pub fn port(&mut self, catalog: &Catalog, view: &View, name: &str) -> Option<(PortKey, Port)> {
        let port = catalog.port(name)?;
        if port.spec.node.as_ref().is_some_and(|n| *n != self.node) {
            return None;
        }
        let network = catalog.network(&port.spec.network)?;
        let number = ofport(view, &interface_of(port, view)?)?;
        let guarded = port.spec.spoof_guard.unwrap_or(network.spec.spoof_guard);
        let mac = port.mac();
        let pairs = port.spec.allowed_pairs.iter();
        let pairs = pairs.map(|p| (p.mac.unwrap_or(mac).0, p.ip.network(), p.ip.prefix_len())).collect();
        let mut addresses: BTreeSet<IpAddr> =
            port.spec.addresses.iter().chain(&port.status.addresses).copied().collect();
        addresses.extend(self_made(catalog, network, mac.0));
        let limits = port.spec.bandwidth.as_ref().or(network.spec.bandwidth.as_ref());
        let limit = |rate: fn(&Bandwidth) -> Option<&Rate>| limits.and_then(rate).map(limit);
        let port = Port {
            net: NetKey(self.nets.of(&port.spec.network)),
            port: number,
            mac: mac.0,
            addresses: addresses.into_iter().collect(),
            guard: if guarded { Guard::On(pairs) } else { Guard::Off },
            vlans: vlans(&network.spec, port.spec.vlan.as_ref()),
            sends: limit(|b| b.outbound.as_ref()),
            receives: limit(|b| b.inbound.as_ref()),
        };
        Some((PortKey(self.ports.of(name)), port))
    }
}

/// Whether a network has a VLAN on its uplink.
pub fn has_vlan(network: &NetworkSpec, id: u16) -> bool {
    network.vlan.as_ref().is_some_and(|v| v.id == Some(id) || v.trunk.contains(&id))
}

/// Which VLANs of the uplink a port is in: those that it names and its network has, or all of its network's.
fn vlans(network: &NetworkSpec, port: Option<&Vlan>) -> Vlans {
    let Some(wanted) = port.or(network.vlan.as_ref()) else { return Vlans::default() };
    let own = network.vlan.as_ref().and_then(|v| v.id);
    let trunk = !wanted.trunk.is_empty();
    let native = wanted.id.filter(|id| has_vlan(network, *id));
    let tagged = wanted.native_mode == Some(VlanNativeMode::Tagged);
    let tags = wanted.trunk.iter().filter(|id| has_vlan(network, **id) && Some(**id) != own);
    let mut tags: BTreeSet<u16> = tags.copied().collect();
    // The network's own VLAN may be one of those with tags, too.
    let own_tag = own.filter(|own| trunk && (native == Some(*own) || wanted.trunk.contains(own)));
    let own_tag = own_tag.map(|own| (own, native != Some(own) || tagged));
    let untagged = match native {
        Some(id) if Some(id) == own => Some(0),
        other => other,
    };
    // A frame with the native VLAN's tag is of that VLAN; whether others have one says the mode.
    if let Some(id) = untagged.filter(|id| *id != 0) {
        let _ = if trunk && tagged { tags.insert(id) } else { tags.remove(&id) };
    }
    Vlans { untagged, own_tag, tags: tags.into_iter().collect() }
}

/// A rate as a meter has it. libvirt's kilobytes are 1,000 bytes, its bursts kibibytes. Frames cross whole, up to 64 KiB:
/// a burst has room for one.
fn limit(rate: &Rate) -> Limit {
    let kbit = rate.average.saturating_mul(8).max(1);
    let burst = rate.burst.map_or(kbit / 5, |kib| (u64::from(kib) * 8192 / 1000).min(u32::MAX.into()) as u32);
    Limit { rate: kbit, burst: burst.max(LARGEST_FRAME_KBIT) }
}

/// A network's gateway has the same MAC address on every node, written or not: machines that move find it again.
pub fn gateway_mac(network: &weft_model::Network) -> weft_wire::Mac {
    network.spec.gateway_mac.unwrap_or_else(|| stable_mac(&format!("gateway of {}", network.name()))).0
}

/// The ports that the agent makes on the integration bridge for networks.
pub fn devices(catalog: &Catalog, underlay_mtu: u16) -> BTreeMap<String, Device> {
    let mut out = BTreeMap::new();
    for network in catalog.networks() {
        let name = network.name();
        let ids = BTreeMap::from([(RESOURCE.to_owned(), network.reference().to_string())]);
        if has_host(&network.spec) && catalog.subnets_of(name).next().is_some() {
            let device = Device {
                kind: "internal".into(),
                mac: Some(gateway_mac(network).to_string()),
                mtu: Some(network.mtu(underlay_mtu).into()),
                ids: ids.clone(),
                ..Device::default()
            };
            out.insert(host_device(name), device);
        }
        if let Some((device, kind)) = network.spec.overlay.as_ref().and_then(|o| tunnel_device(o.kind)) {
            let options = [("key", "flow"), ("remote_ip", "flow")];
            let options = options.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
            out.insert(device.to_owned(), Device { kind: kind.into(), options, ..Device::default() });
        }
        if let Some(bridged) = &network.spec.bridged {
            let cable = bridged.bridge.as_ref().map(|_| cable_device(name));
            if let Some(device) = bridged.uplink.clone().or(cable) {
                out.insert(device, Device { ids, ..Device::default() });
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        assert_eq!(host_device("blue"), "wn-blue");
        let long = ["a-network-of-many-letters", "a-network-of-many-words"].map(host_device);
        assert!(long.iter().all(|n| n.len() == DEVICE_NAME), "{long:?}");
        assert_ne!(long[0], long[1]);
    }

    #[test]
    fn numbers_are_used_again() {
        let mut keys = Keys::default();
        assert_eq!(["a", "b", "a", "c"].map(|n| keys.of(n)), [1, 2, 1, 3]);
        assert_eq!(keys.forget("b"), Some(2));
        assert_eq!((keys.get("b"), keys.name(2)), (None, None));
        assert_eq!(["d", "e"].map(|n| keys.of(n)), [2, 4]);
    }
}
