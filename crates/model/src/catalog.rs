//! Which resources are there, how do they belong together, and where do they contradict each other?
//!
//! A [`Catalog`] holds resources with indexes over what they refer to and what they claim (addresses, hardware
//! addresses, network numbers, devices), so that checking one change costs O(log n), not O(n).

mod check;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::kind::Kind;
use crate::network::{Network, NetworkMode};
use crate::object::{ObjectRef, Resource};
use crate::pool::AddressPool;
use crate::port::{AttachmentRef, Port};
use crate::problem::Problem;
use crate::router::Router;
use crate::scalar::MacAddr;
use crate::subnet::{Gateway, Subnet};

/// A set of resources, by kind and name.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    all: BTreeMap<Kind, BTreeMap<String, Arc<Resource>>>,
    /// Network → its subnets.
    subnets: HashMap<String, BTreeSet<String>>,
    /// Network → its ports.
    ports: HashMap<String, BTreeSet<String>>,
    /// What may exist only once → who claims it.
    claims: HashMap<Claim, BTreeSet<String>>,
    /// Subnet or network → the routers that join it.
    joined: HashMap<ObjectRef, BTreeSet<String>>,
    /// Pool → the subnets that use it.
    pool_users: HashMap<String, BTreeSet<String>>,
}

/// Something that only one resource may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Claim {
    /// A VNI.
    Key(u32),
    /// An address of a port in a network.
    Ip(String, IpAddr),
    /// A hardware address of a port in a network.
    Mac(String, MacAddr),
    /// A device, socket or interface id on a node.
    Attachment(Option<String>, &'static str, String),
    /// An uplink with a VLAN.
    Uplink(String, Option<u16>),
}

impl Claim {
    fn words(&self) -> String {
        match self {
            Self::Key(key) => format!("key {key}"),
            Self::Ip(_, ip) => ip.to_string(),
            Self::Mac(_, mac) => mac.to_string(),
            Self::Attachment(_, what, name) => format!("{what} {name}"),
            Self::Uplink(name, None) => format!("uplink {name}"),
            Self::Uplink(name, Some(vlan)) => format!("uplink {name} with VLAN {vlan}"),
        }
    }
}

impl Catalog {
    /// An empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a resource in, in place of one of the same kind and name, which is returned. Nothing is checked.
    pub fn insert(&mut self, resource: impl Into<Arc<Resource>>) -> Option<Arc<Resource>> {
        let resource = resource.into();
        let old = self.remove(&resource.reference());
        self.index(&resource, true);
        self.all.entry(resource.kind()).or_default().insert(resource.name().to_owned(), resource);
        old
    }

    /// Takes a resource out.
    pub fn remove(&mut self, reference: &ObjectRef) -> Option<Arc<Resource>> {
        let old = self.all.get_mut(&reference.kind)?.remove(&reference.name)?;
        self.index(&old, false);
        Some(old)
    }

    /// The resource of this kind and name.
    #[must_use]
    pub fn get(&self, reference: &ObjectRef) -> Option<&Arc<Resource>> {
        self.all.get(&reference.kind)?.get(&reference.name)
    }

    /// All resources of a kind, by name.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = &Arc<Resource>> {
        self.all.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    /// All resources, in the order of [`Kind::ALL`], then by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        Kind::ALL.into_iter().flat_map(|kind| self.list(kind))
    }

    /// How many resources there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.values().map(BTreeMap::len).sum()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, kind: Kind, name: &str) -> Option<&Resource> {
        self.all.get(&kind)?.get(name).map(Arc::as_ref)
    }

    /// The network of this name.
    #[must_use]
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.find(Kind::Network, name).and_then(Resource::as_network)
    }

    /// The subnet of this name.
    #[must_use]
    pub fn subnet(&self, name: &str) -> Option<&Subnet> {
        self.find(Kind::Subnet, name).and_then(Resource::as_subnet)
    }

    /// The port of this name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.find(Kind::Port, name).and_then(Resource::as_port)
    }

    /// The router of this name.
    #[must_use]
    pub fn router(&self, name: &str) -> Option<&Router> {
        self.find(Kind::Router, name).and_then(Resource::as_router)
    }

    /// The address pool of this name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&AddressPool> {
        self.find(Kind::AddressPool, name).and_then(Resource::as_pool)
    }

    /// All networks.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.list(Kind::Network).filter_map(|r| r.as_network())
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.list(Kind::Port).filter_map(|r| r.as_port())
    }

    /// All routers.
    pub fn routers(&self) -> impl Iterator<Item = &Router> {
        self.list(Kind::Router).filter_map(|r| r.as_router())
    }

    /// The subnets of a network, by name.
    pub fn subnets_of(&self, network: &str) -> impl Iterator<Item = &Subnet> {
        self.subnets.get(network).into_iter().flatten().filter_map(|name| self.subnet(name))
    }

    /// The ports of a network, by name.
    pub fn ports_of(&self, network: &str) -> impl Iterator<Item = &Port> {
        self.ports.get(network).into_iter().flatten().filter_map(|name| self.port(name))
    }

    /// How many ports a network has.
    #[must_use]
    pub fn port_count(&self, network: &str) -> usize {
        self.ports.get(network).map_or(0, BTreeSet::len)
    }

    /// The port that has this address in a network.
    #[must_use]
    pub fn port_by_ip(&self, network: &str, ip: IpAddr) -> Option<&Port> {
        self.claimed(&Claim::Ip(network.to_owned(), ip))
    }

    /// The port that has this hardware address in a network.
    #[must_use]
    pub fn port_by_mac(&self, network: &str, mac: MacAddr) -> Option<&Port> {
        self.claimed(&Claim::Mac(network.to_owned(), mac))
    }

    fn claimed(&self, claim: &Claim) -> Option<&Port> {
        self.claims.get(claim).and_then(|names| names.first()).and_then(|name| self.port(name))
    }

    /// The subnets that a router joins: those named, and all of the networks named; each once, those that exist.
    #[must_use]
    pub fn subnets_of_router(&self, router: &Router) -> Vec<&Subnet> {
        let named = router.spec.subnets.iter().filter_map(|name| self.subnet(name));
        let whole = router.spec.networks.iter().flat_map(|network| self.subnets_of(network));
        let mut seen = BTreeSet::new();
        named.chain(whole).filter(|subnet| seen.insert(subnet.name().to_owned())).collect()
    }

    /// The routers that join a subnet, by its name or its network's.
    pub fn routers_of(&self, subnet: &Subnet) -> impl Iterator<Item = &Router> {
        let keys = [subnet.reference(), ObjectRef::new(Kind::Network, &subnet.spec.network)];
        let names: BTreeSet<&String> = keys.iter().filter_map(|key| self.joined.get(key)).flatten().collect();
        names.into_iter().filter_map(|name| self.router(name)).collect::<Vec<_>>().into_iter()
    }

    /// The gateway's address of a subnet: see [`SubnetSpec::gateway_address`](crate::SubnetSpec::gateway_address). An
    /// isolated network that a router joins has one where nothing else is written: by that the router leads.
    #[must_use]
    pub fn gateway_of(&self, subnet: &Subnet) -> Option<IpAddr> {
        let mode = self.network(&subnet.spec.network)?.spec.mode;
        let joined = || {
            let silent = mode == NetworkMode::Isolated && subnet.spec.gateway == Gateway::Auto;
            silent && !subnet.spec.dhcp.relayed && self.routers_of(subnet).next().is_some()
        };
        let auto = || if joined() { subnet.spec.first_address() } else { None };
        subnet.spec.gateway_address(mode).or_else(auto)
    }

    /// Whether a router leads into a subnet that it joins and out of it: not without a gateway, nor where somebody else has
    /// it.
    #[must_use]
    pub fn is_routed(&self, subnet: &Subnet) -> bool {
        let ours = self.network(&subnet.spec.network).is_some_and(|network| !network.is_foreign());
        ours && !subnet.spec.dhcp.relayed && self.gateway_of(subnet).is_some()
    }

    /// Everything that refers to a resource, so that it cannot be removed before.
    #[must_use]
    pub fn users(&self, reference: &ObjectRef) -> Vec<ObjectRef> {
        let named = |kind, names: Option<&BTreeSet<String>>| -> Vec<ObjectRef> {
            names.into_iter().flatten().map(|name| ObjectRef::new(kind, name)).collect()
        };
        let name = &reference.name;
        let mut users = match reference.kind {
            Kind::Network => {
                let mut users = named(Kind::Subnet, self.subnets.get(name));
                users.extend(named(Kind::Port, self.ports.get(name)));
                users
            }
            Kind::AddressPool => named(Kind::Subnet, self.pool_users.get(name)),
            Kind::Subnet => self.residents(name),
            Kind::Port | Kind::Router => Vec::new(),
        };
        users.extend(named(Kind::Router, self.joined.get(reference)));
        users
    }

    /// The ports that would be left with an address in no subnet if this one were not there.
    fn residents(&self, subnet: &str) -> Vec<ObjectRef> {
        let Some(subnet) = self.subnet(subnet) else { return Vec::new() };
        let inside = |port: &&Port| {
            port.spec.addresses.iter().chain(&port.status.addresses).any(|ip| subnet.spec.cidr.contains(ip))
        };
        self.ports_of(&subnet.spec.network).filter(inside).map(Port::reference).collect()
    }

    /// What is wrong between a resource, as it is or as somebody wants it to be, and all others. Its place in the catalog,
    /// if it has one, is taken as empty.
    #[must_use]
    pub fn check(&self, resource: &Resource) -> Vec<Problem> {
        check::check(self, resource)
    }

    /// What is wrong between all resources.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.iter().flat_map(|resource| self.check(resource)).collect()
    }

    /// Adds a resource to the indexes or takes it out of them.
    fn index(&mut self, resource: &Resource, add: bool) {
        let name = resource.name();
        for claim in claims(resource) {
            note(&mut self.claims, claim, name, add);
        }
        match resource {
            Resource::Subnet(subnet) => {
                note(&mut self.subnets, subnet.spec.network.clone(), name, add);
                if let Some(pool) = &subnet.spec.address_pool {
                    note(&mut self.pool_users, pool.clone(), name, add);
                }
            }
            Resource::Port(port) => note(&mut self.ports, port.spec.network.clone(), name, add),
            Resource::Router(router) => {
                for subnet in &router.spec.subnets {
                    note(&mut self.joined, ObjectRef::new(Kind::Subnet, subnet), name, add);
                }
                for network in &router.spec.networks {
                    note(&mut self.joined, ObjectRef::new(Kind::Network, network), name, add);
                }
            }
            Resource::Network(_) | Resource::AddressPool(_) => {}
        }
    }
}

impl FromIterator<Resource> for Catalog {
    fn from_iter<T: IntoIterator<Item = Resource>>(resources: T) -> Self {
        let mut catalog = Self::new();
        for resource in resources {
            catalog.insert(resource);
        }
        catalog
    }
}

fn note<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<String>>, key: K, name: &str, add: bool) {
    if add {
        map.entry(key).or_default().insert(name.to_owned());
    } else if let std::collections::hash_map::Entry::Occupied(mut entry) = map.entry(key) {
        entry.get_mut().remove(name);
        if entry.get().is_empty() {
            entry.remove();
        }
    }
}

/// What a resource claims for itself alone.
fn claims(resource: &Resource) -> Vec<Claim> {
    match resource {
        Resource::Network(network) => {
            let mut claims: Vec<Claim> = network.key().map(Claim::Key).into_iter().collect();
            if let Some(uplink) = network.spec.bridged.as_ref().and_then(|b| b.uplink.clone()) {
                let vlan = network.spec.vlan.as_ref();
                let own = vlan.and_then(|v| v.id);
                let trunk: BTreeSet<u16> = vlan.iter().flat_map(|v| &v.trunk).copied().collect();
                if own.is_some() || trunk.is_empty() {
                    claims.push(Claim::Uplink(uplink.clone(), own));
                }
                let others = trunk.into_iter().filter(|id| Some(*id) != own);
                claims.extend(others.map(|id| Claim::Uplink(uplink.clone(), Some(id))));
            }
            claims
        }
        Resource::Port(port) => {
            let network = &port.spec.network;
            let mut claims = vec![Claim::Mac(network.clone(), port.mac())];
            let ips: BTreeSet<&IpAddr> = port.spec.addresses.iter().chain(&port.status.addresses).collect();
            claims.extend(ips.into_iter().map(|ip| Claim::Ip(network.clone(), *ip)));
            claims.extend(attachment(port));
            claims
        }
        Resource::Subnet(_) | Resource::Router(_) | Resource::AddressPool(_) => Vec::new(),
    }
}

fn attachment(port: &Port) -> Option<Claim> {
    let (what, name) = match port.spec.attachment.as_ref()?.get()? {
        AttachmentRef::Netns(netns) => {
            let device = netns.device.as_deref().unwrap_or("eth0");
            let space = netns.path.as_deref().or(netns.name.as_deref()).unwrap_or_default();
            ("device", format!("{device} in {space}"))
        }
        AttachmentRef::Tap(tap) => ("device", tap.name.clone()),
        AttachmentRef::Device(device) => ("device", device.to_owned()),
        AttachmentRef::VhostUser(vhost) => ("socket", vhost.socket.clone()),
        AttachmentRef::IfaceId(id) => ("iface-id", id.to_owned()),
    };
    Some(Claim::Attachment(port.spec.node.clone(), what, name))
}
