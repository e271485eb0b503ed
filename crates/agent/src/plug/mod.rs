//! What do attachments of ports and bridged networks need of the node: which devices, and which ports of `br-int`?
//!
//! ```text
//!   netns   wp-NAME on br-int ──veth── eth0 in the namespace, with the port's addresses
//!   tap     the TAP on br-int, which QEMU opens
//!   vhost   wp-NAME, a port type of the switch
//!   bridge  wc-NAME on br-int ──veth── wb-NAME on a bridge of the kernel
//! ```
//! Pure; [`kernel`] makes it so.

pub mod kernel;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;

use weft_host::Mac;
use weft_model::{AttachmentRef, Catalog, IpNet, Netns, Network, Port, VhostMode};

use crate::resolve::{RESOURCE, bridge_end, cable_device, port_device, vhost_device};
use crate::south::Device;

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// A device that the agent makes. Its name is the key under which it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    /// The resource that it is for, as `Port/web`.
    pub owner: String,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// What it is.
    pub kind: PlugKind,
}

/// What kind of device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlugKind {
    /// A veth pair into a namespace.
    Netns(Inside),
    /// A TAP that stays when its user goes.
    Tap {
        /// More than one queue may be opened.
        multi_queue: bool,
        /// User who may open it.
        owner: Option<String>,
    },
    /// A veth pair onto a bridge of the kernel.
    Cable {
        /// The end on the bridge.
        peer: String,
        /// The bridge.
        bridge: String,
    },
}

/// The end in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// File of the namespace.
    pub path: PathBuf,
    /// Name of the device.
    pub device: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its addresses, with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Routers, one for each family at most.
    pub gateways: Vec<IpAddr>,
    /// What lies behind other machines of its networks: prefix, its length, the machine.
    pub routes: Vec<(IpAddr, u8, IpAddr)>,
    /// Checksums are computed before frames leave it: the switch takes whole frames only.
    pub whole: bool,
}

/// Everything that is plugged in on this node by the agent; follows the catalog a resource at a time.
#[derive(Clone, Debug, Default)]
pub struct Wiring {
    /// This node's name.
    pub node: String,
    /// The switch takes whole frames only.
    pub whole: bool,
    /// Largest IP packet between nodes.
    pub underlay_mtu: u16,
    /// Devices to be made, by name.
    pub plugs: BTreeMap<String, Plug>,
    /// Ports of `br-int` for [`Port`] resources, by name.
    pub devices: BTreeMap<String, Device>,
    /// The device of each resource.
    pub(crate) of: HashMap<String, String>,
    /// How many resources have each device.
    pub(crate) owners: HashMap<String, usize>,
}

impl Wiring {
    /// A port or its network changed. The devices that are to be made, changed or removed.
    pub fn port_changed(&mut self, catalog: &Catalog, name: &str) -> Vec<String> {
        let new = catalog.port(name).and_then(|port| self.port(catalog, port));
        self.put(format!("Port/{name}"), new)
    }

    /// A network changed. As [`Wiring::port_changed`].
    pub fn network_changed(&mut self, catalog: &Catalog, name: &str) -> Vec<String> {
        let cable = catalog.network(name).and_then(|n| self.cable(n));
        // Its port of the bridge is one of the network's.
        self.put(format!("Network/{name}"), cable.map(|(name, plug)| (name, Some(plug), None)))
    }

    fn put(&mut self, owner: String, new: Option<(String, Option<Plug>, Option<Device>)>) -> Vec<String> {
        let mut changed = Vec::new();
        let name = new.as_ref().map(|(name, ..)| name.clone());
        if let Some(old) = self.of.get(&owner).filter(|old| Some(*old) != name.as_ref()).cloned() {
            self.of.remove(&owner);
            let owners = self.owners.get_mut(&old).map_or(0, |owners| {
                *owners -= 1;
                *owners
            });
            // Two resources may want one device: who came last has it.
            if owners == 0 {
                self.owners.remove(&old);
                self.plugs.remove(&old);
                self.devices.remove(&old);
            }
            changed.push(old);
        }
        let Some((name, plug, device)) = new else { return changed };
        if self.of.insert(owner, name.clone()).is_none() {
            *self.owners.entry(name.clone()).or_default() += 1;
        }
        if self.plugs.get(&name) != plug.as_ref() || self.devices.get(&name) != device.as_ref() {
            changed.push(name.clone());
        }
        match plug {
            Some(plug) => drop(self.plugs.insert(name.clone(), plug)),
            None => drop(self.plugs.remove(&name)),
        }
        match device {
            Some(device) => drop(self.devices.insert(name, device)),
            None => drop(self.devices.remove(&name)),
        }
        changed
    }

    /// Device of a port, what has to be made for it, and its port of the bridge.
    fn port(&self, catalog: &Catalog, port: &Port) -> Option<(String, Option<Plug>, Option<Device>)> {
        if port.spec.node.as_ref().is_some_and(|n| *n != self.node) {
            return None;
        }
        let network = catalog.network(&port.spec.network)?;
        let owner = port.reference().to_string();
        let mtu = network.mtu(self.underlay_mtu).into();
        let ids = BTreeMap::from([(RESOURCE.to_owned(), owner.clone())]);
        let mut device = Device { ids, ..Device::default() };
        let plug = |kind| Some(Plug { owner, mtu, kind });
        Some(match port.spec.attachment.as_ref()?.get()? {
            AttachmentRef::IfaceId(_) => return None,
            AttachmentRef::Device(name) => (name.to_owned(), None, Some(device)),
            AttachmentRef::Tap(tap) => {
                let kind = PlugKind::Tap { multi_queue: tap.queues > 1, owner: tap.owner.clone() };
                (tap.name.clone(), plug(kind), Some(device))
            }
            AttachmentRef::Netns(netns) => {
                let inside = self.inside(catalog, network, port, netns)?;
                (port_device(port.name()), plug(PlugKind::Netns(inside)), Some(device))
            }
            AttachmentRef::VhostUser(vhost) => {
                match vhost.mode {
                    VhostMode::Client => {
                        device.kind = "dpdkvhostuserclient".into();
                        device.options.insert("vhost-server-path".into(), vhost.socket.clone());
                    }
                    VhostMode::Server => device.kind = "dpdkvhostuser".into(),
                }
                device.mtu = Some(network.mtu(self.underlay_mtu).into());
                (vhost_device(port.name(), vhost), None, Some(device))
            }
        })
    }

    fn inside(&self, catalog: &Catalog, network: &Network, port: &Port, netns: &Netns) -> Option<Inside> {
        let path = match (&netns.path, &netns.name) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(name)) => PathBuf::from(NAMES).join(name),
            (None, None) => return None,
        };
        let mut addresses: Vec<(IpAddr, u8)> = Vec::new();
        let mut gateways: Vec<IpAddr> = Vec::new();
        for ip in port.spec.addresses.iter().chain(&port.status.addresses) {
            if addresses.iter().any(|(other, _)| other == ip) {
                continue;
            }
            let subnet = catalog.subnets_of(network.name()).find(|s| s.spec.cidr.contains(ip));
            let alone = IpNet::from(*ip).prefix_len();
            addresses.push((*ip, subnet.map_or(alone, |s| s.spec.cidr.prefix_len())));
            let gateway = subnet.and_then(|s| catalog.gateway_of(s));
            if let Some(gateway) = gateway
                && !gateways.iter().any(|other| other.is_ipv4() == gateway.is_ipv4())
            {
                gateways.push(gateway);
            }
        }
        let device = netns.device.clone().unwrap_or_else(|| "eth0".to_owned());
        let own = |ip: IpAddr| addresses.iter().any(|(own, _)| *own == ip);
        let here = catalog
            .subnets_of(network.name())
            .filter(|s| addresses.iter().any(|(ip, _)| s.spec.cidr.contains(ip)));
        let routes = here.flat_map(|s| &s.spec.routes).filter(|r| !own(r.via) && !own(r.to.addr()));
        let routes = routes.map(|r| (r.to.network(), r.to.prefix_len(), r.via)).collect();
        Some(Inside { path, device, mac: port.mac().0, addresses, gateways, routes, whole: self.whole })
    }

    /// The cable to a bridge of the kernel that a network is joined to.
    fn cable(&self, network: &Network) -> Option<(String, Plug)> {
        let bridge = network.spec.bridged.as_ref()?.bridge.clone()?;
        let kind = PlugKind::Cable { peer: bridge_end(network.name()), bridge };
        let mtu = network.mtu(self.underlay_mtu).into();
        Some((cable_device(network.name()), Plug { owner: network.reference().to_string(), mtu, kind }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: n}\nspec: {mtu: 1400}\n---\n\
        apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec: {network: n, cidr: 10.0.0.0/24}\n";

    fn catalog(attachment: &str) -> Catalog {
        let port = format!(
            "---\napiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: web}}\n\
             spec: {{network: n, addresses: [10.0.0.9], attachment: {{{attachment}}}}}\n"
        );
        let mut catalog = Catalog::new();
        for parsed in weft_model::parse(&format!("{NETWORK}{port}")).unwrap() {
            catalog.insert(parsed.resource);
        }
        catalog
    }

    #[test]
    fn a_port_becomes_a_device_and_changes_with_it() {
        let mut wiring = Wiring { node: "here".into(), underlay_mtu: 1500, ..Wiring::default() };
        let netns = catalog("netns: {name: box}");
        assert_eq!(wiring.port_changed(&netns, "web"), ["wp-web"]);
        assert!(wiring.port_changed(&netns, "web").is_empty(), "nothing changed");
        let plug = &wiring.plugs["wp-web"];
        assert_eq!((plug.mtu, plug.owner.as_str()), (1400, "Port/web"));
        let PlugKind::Netns(inside) = &plug.kind else { panic!("{plug:?}") };
        assert_eq!((inside.path.to_str(), inside.device.as_str()), (Some("/run/netns/box"), "eth0"));
        assert_eq!(inside.addresses, [("10.0.0.9".parse().unwrap(), 24)]);
        assert_eq!(inside.gateways, ["10.0.0.1".parse::<IpAddr>().unwrap()]);

        // What lies behind another machine of its subnet is told to it, and not to that machine.
        let mut routed = catalog("netns: {name: box}");
        let mut subnet = routed.subnet("s").cloned().unwrap();
        let route = |to: &str, via: &str| weft_model::Route {
            to: to.parse().unwrap(),
            via: via.parse().unwrap(),
            metric: None,
        };
        subnet.spec.routes = vec![route("10.9.0.0/16", "10.0.0.7"), route("10.8.0.0/16", "10.0.0.9")];
        routed.insert(weft_model::Resource::from(subnet));
        assert_eq!(wiring.port_changed(&routed, "web"), ["wp-web"]);
        let PlugKind::Netns(inside) = &wiring.plugs["wp-web"].kind else { panic!("a namespace") };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(inside.routes, [(ip("10.9.0.0"), 16, ip("10.0.0.7"))]);

        let changed = wiring.port_changed(&catalog("tap: {name: tap7, queues: 4}"), "web");
        assert_eq!(changed, ["wp-web", "tap7"]);
        assert_eq!(wiring.plugs.keys().collect::<Vec<_>>(), ["tap7"]);
        assert_eq!(wiring.port_changed(&catalog("vhostUser: {socket: /run/vm.sock}"), "web").len(), 2);
        assert!(wiring.plugs.is_empty());
        let device = &wiring.devices["wp-web"];
        assert_eq!((device.kind.as_str(), wiring.devices.len()), ("dpdkvhostuserclient", 1));
        assert_eq!(wiring.port_changed(&Catalog::new(), "web"), ["wp-web"]);
        assert!(wiring.devices.is_empty() && wiring.plugs.is_empty());
    }

    #[test]
    fn a_device_goes_with_the_last_who_wants_it() {
        let mut wiring = Wiring { node: "here".into(), underlay_mtu: 1500, ..Wiring::default() };
        let mut catalog = catalog("device: eth7");
        let mut other = catalog.port("web").cloned().unwrap();
        other.metadata.name = "db".into();
        catalog.insert(weft_model::Resource::from(other.clone()));
        wiring.port_changed(&catalog, "web");
        wiring.port_changed(&catalog, "db");
        wiring.port_changed(&catalog, "db");
        catalog.remove(&other.reference());
        assert_eq!(wiring.port_changed(&catalog, "db"), ["eth7"]);
        assert!(wiring.devices.contains_key("eth7"), "the other port has it");
        assert_eq!(wiring.port_changed(&Catalog::new(), "web"), ["eth7"]);
        assert!(wiring.devices.is_empty() && wiring.owners.is_empty());
    }

    #[test]
    fn others_nodes_ports_are_theirs() {
        let mut wiring = Wiring { node: "here".into(), ..Wiring::default() };
        let mut catalog = catalog("device: eth7");
        let mut port = catalog.port("web").cloned().unwrap();
        port.spec.node = Some("there".into());
        catalog.insert(weft_model::Resource::from(port));
        assert!(wiring.port_changed(&catalog, "web").is_empty());
        assert!(wiring.devices.is_empty());
    }
}
