//! Which addresses does a port get?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weft_model::{AddressRange, AllocError, Allocator, Catalog, Port, Subnet};

/// Who has which addresses of the subnets. Follows the catalog; knows nothing else.
#[derive(Debug, Default)]
pub struct Ipam {
    subnets: BTreeMap<String, Free>,
    /// Addresses of networks that somebody else has.
    contested: BTreeSet<(String, IpAddr)>,
}

/// What is free in a subnet.
#[derive(Debug)]
struct Free {
    /// For ports.
    own: Allocator,
    /// What DHCP gives away, for ports when nothing else is left: libvirt's `default` has a range of all its addresses.
    dynamic: Allocator,
}

/// Addresses that others have by DHCP, by subnet.
pub type Leased = BTreeMap<String, BTreeSet<IpAddr>>;

/// Why a port gets no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// This is why.
    Because(String),
    /// Only what DHCP gives away is left in this subnet, and it is not known who has what of it.
    Leases(String),
}

fn single(ip: IpAddr) -> AddressRange {
    AddressRange { start: ip, end: ip }
}

/// The addresses of a subnet that ports may get; `None`: others give its addresses.
fn free(catalog: &Catalog, subnet: &Subnet) -> Result<Option<Free>, NoAddress> {
    let spec = &subnet.spec;
    let Some((network, usable)) = catalog.network(&spec.network).zip(spec.usable()) else { return Ok(None) };
    let pooled = spec.address_pool.as_ref().and_then(|name| catalog.pool(name));
    // Where it is written what ports may get, that is all they get.
    let written = !spec.pool.is_empty() || spec.address_pool.is_some();
    let ranges: Vec<AddressRange> = match pooled {
        Some(pool) => pool.spec.all().collect(),
        None if written => spec.pool.clone(),
        // Whoever owns a foreign network gives its addresses, unless some are set aside for us.
        None if network.is_foreign() => return Ok(None),
        None => vec![usable],
    };
    // The prefix's own address and the broadcast address are nobody's, whatever range they are in.
    let inside = |range: AddressRange| range.meet(&usable);
    let ranges: Vec<AddressRange> = ranges.into_iter().filter_map(inside).collect();
    if ranges.is_empty() {
        let (name, cidr) = (subnet.name(), spec.cidr);
        let pool = spec
            .address_pool
            .as_ref()
            .map_or_else(|| "its `pool`".to_owned(), |p| format!("AddressPool/{p}"));
        return Err(NoAddress::Because(format!(
            "{pool} has no address of subnet {name}, {cidr}: add a range of it"
        )));
    }
    let given = || spec.dhcp.ranges.iter().map(|r| AddressRange { start: r.start, end: r.end });
    let own = Allocator::new(ranges);
    let dynamic = Allocator::new(given().filter(|_| !written).filter_map(inside));
    let mut out = Free { own, dynamic };
    given().for_each(|range| out.own.withdraw(range));
    let mode = network.spec.mode;
    let ours = [spec.gateway_address(mode), spec.service_address(mode)].into_iter().flatten();
    let fixed = spec.dhcp.hosts.iter().filter_map(|h| h.ip).map(single);
    let taken = spec.reserved.iter().copied().chain(ours.map(single)).chain(fixed);
    for range in taken {
        out.own.withdraw(range);
        out.dynamic.withdraw(range);
    }
    for port in catalog.ports_of(&spec.network) {
        held(port).for_each(|ip| out.reserve(ip));
    }
    Ok(Some(out))
}

impl Free {
    fn reserve(&mut self, ip: IpAddr) {
        self.own.reserve(single(ip));
        self.dynamic.reserve(single(ip));
    }

    fn release(&mut self, ip: IpAddr) {
        self.own.release(ip);
        self.dynamic.release(ip);
    }

    /// An address for a port, the lowest; one that is leased is for nobody else.
    fn take(&mut self, name: &str, leased: &Leased) -> Result<IpAddr, NoAddress> {
        match self.own.allocate() {
            Err(AllocError::Exhausted) if self.dynamic.available() > 0 => {}
            Err(AllocError::Exhausted) => return Err(exhausted(name)),
            other => return other.map_err(|why| NoAddress::Because(why.to_string())),
        }
        let leased = leased.get(name).ok_or_else(|| NoAddress::Leases(name.to_owned()))?;
        let mut passed = Vec::new();
        let found = loop {
            match self.dynamic.allocate() {
                Ok(ip) if leased.contains(&ip) => passed.push(ip),
                found => break found,
            }
        };
        for ip in passed {
            self.dynamic.release(ip);
        }
        found.map_err(|_| exhausted(name))
    }
}

fn exhausted(subnet: &str) -> NoAddress {
    NoAddress::Because(format!("subnet {subnet} has no address left"))
}

/// The addresses that a port has, by its own wish or by allocation.
pub fn held(port: &Port) -> impl Iterator<Item = IpAddr> + '_ {
    port.spec.addresses.iter().chain(&port.status.addresses).copied()
}

impl Ipam {
    /// A subnet, its pool or its network changed: its free addresses are counted anew when they are next asked for.
    pub fn subnet_changed(&mut self, name: &str) {
        self.subnets.remove(name);
    }

    /// A port came, went or changed.
    pub fn port_changed(&mut self, catalog: &Catalog, old: Option<&Port>, new: Option<&Port>) {
        let Some(network) = new.or(old).map(|p| p.spec.network.clone()) else { return };
        let subnets: Vec<String> = catalog.subnets_of(&network).map(|s| s.name().to_owned()).collect();
        let contested = |ip: &IpAddr| self.contested.contains(&(network.clone(), *ip));
        for name in subnets {
            let Some(free) = self.subnets.get_mut(&name) else { continue };
            let kept = |ip: &IpAddr| new.is_some_and(|p| held(p).any(|other| other == *ip));
            old.into_iter()
                .flat_map(held)
                .filter(|ip| !kept(ip) && !contested(ip))
                .for_each(|ip| free.release(ip));
            new.into_iter().flat_map(held).for_each(|ip| free.reserve(ip));
        }
    }

    /// Somebody else has an address: no port gets it or keeps it, but one that it is written for.
    pub fn contest(&mut self, catalog: &Catalog, network: &str, address: IpAddr) {
        self.contested.insert((network.to_owned(), address));
        catalog.subnets_of(network).for_each(|s| self.subnet_changed(s.name()));
    }

    /// Nobody else has it any more, as far as is known.
    pub fn release(&mut self, catalog: &Catalog, network: &str, address: IpAddr) {
        self.contested.remove(&(network.to_owned(), address));
        catalog.subnets_of(network).for_each(|s| self.subnet_changed(s.name()));
    }

    /// What is free in a subnet, counted now if it is not known.
    fn free(&mut self, catalog: &Catalog, subnet: &Subnet) -> Result<Option<&mut Free>, NoAddress> {
        let name = subnet.name();
        if !self.subnets.contains_key(name)
            && let Some(mut new) = free(catalog, subnet)?
        {
            let contested = self.contested.iter().filter(|(net, _)| *net == subnet.spec.network);
            contested.for_each(|(_, ip)| new.reserve(*ip));
            self.subnets.insert(name.to_owned(), new);
        }
        Ok(self.subnets.get_mut(name))
    }

    /// The addresses that a port is to have: those it asks for, those it has, and one of each subnet that it has none of.
    ///
    /// # Errors
    /// A subnet has none left, or it must be known who has leases there: call again with them.
    pub fn assign(
        &mut self,
        catalog: &Catalog,
        port: &Port,
        leased: &Leased,
    ) -> Result<Vec<IpAddr>, NoAddress> {
        let mut out: Vec<IpAddr> = port.spec.addresses.clone();
        let mut given = Vec::new();
        for subnet in catalog.subnets_of(&port.spec.network).filter(|s| !s.spec.dhcp.relayed) {
            let inside = |ip: &&IpAddr| subnet.spec.cidr.contains(*ip);
            if out.iter().any(|ip| inside(&ip)) {
                continue;
            }
            let contested = |ip: &IpAddr| self.contested.contains(&(port.spec.network.clone(), *ip));
            if let Some(has) = port.status.addresses.iter().find(|ip| inside(ip) && !contested(ip)) {
                out.push(*has);
                continue;
            }
            let name = subnet.name();
            let taken = match self.free(catalog, subnet) {
                Ok(None) => continue,
                Ok(Some(free)) => free.take(name, leased),
                Err(why) => Err(why),
            };
            match taken {
                Ok(ip) => {
                    given.push((name.to_owned(), ip));
                    out.push(ip);
                }
                Err(why) => {
                    // What other subnets gave meanwhile is theirs again.
                    for (name, ip) in given {
                        self.subnets.get_mut(&name).into_iter().for_each(|free| free.release(ip));
                    }
                    return Err(why);
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weft_model::{
        AddressPool, AddressPoolSpec, IpNet, Network, NetworkSpec, PortSpec, Resource, SubnetSpec,
    };

    fn catalog() -> Catalog {
        let mut catalog = Catalog::new();
        catalog.insert(Resource::from(Network::new("blue", NetworkSpec::default())));
        let subnet = |name: &str, cidr: &str| {
            Resource::from(Subnet::new(name, SubnetSpec::new("blue", cidr.parse().unwrap())))
        };
        catalog.insert(subnet("v4", "10.0.0.0/29"));
        catalog.insert(subnet("v6", "fd00::/64"));
        catalog
    }

    fn port(name: &str) -> Port {
        Port::new(name, PortSpec { network: "blue".into(), ..PortSpec::default() })
    }

    fn assign(ipam: &mut Ipam, catalog: &Catalog, port: &Port) -> Result<Vec<IpAddr>, NoAddress> {
        ipam.assign(catalog, port, &Leased::new())
    }

    #[test]
    fn every_port_gets_one_of_each_subnet_until_none_is_left() {
        let mut catalog = catalog();
        let mut ipam = Ipam::default();
        let mut seen = std::collections::BTreeSet::new();
        // Six usable, one is the gateway's.
        for n in 0..5 {
            let mut port = port(&format!("p{n}"));
            port.status.addresses = assign(&mut ipam, &catalog, &port).unwrap();
            assert_eq!(port.status.addresses.len(), 2, "{port:?}");
            assert!(port.status.addresses.iter().all(|ip| seen.insert(*ip)), "{port:?}");
            catalog.insert(Resource::from(port.clone()));
            ipam.port_changed(&catalog, None, Some(&port));
            assert_eq!(
                assign(&mut ipam, &catalog, &port).unwrap(),
                port.status.addresses,
                "it keeps what it has"
            );
        }
        assert!(!seen.contains(&"10.0.0.1".parse::<IpAddr>().unwrap()), "the gateway's");
        assert!(assign(&mut ipam, &catalog, &port("late")) == Err(exhausted("v4")));
        let gone = catalog.port("p2").cloned().unwrap();
        catalog.remove(&gone.reference());
        ipam.port_changed(&catalog, Some(&gone), None);
        assert_eq!(assign(&mut ipam, &catalog, &port("late")).unwrap()[0], gone.status.addresses[0]);
    }

    #[test]
    fn what_dhcp_gives_comes_last_and_what_is_leased_or_reserved_never() {
        let mut catalog = Catalog::new();
        catalog.insert(Resource::from(Network::new("blue", NetworkSpec::default())));
        let mut subnet = Subnet::new("v4", SubnetSpec::new("blue", "10.0.0.0/29".parse().unwrap()));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        subnet.spec.reserved = vec![single(ip("10.0.0.4"))];
        let (start, end) = (ip("10.0.0.0"), ip("10.0.0.5"));
        subnet.spec.dhcp.ranges = vec![weft_model::DhcpRange { start, end, lease_seconds: None }];
        let host = weft_model::DhcpHost { ip: Some(ip("10.0.0.5")), ..Default::default() };
        subnet.spec.dhcp.hosts = vec![host];
        let mut written = subnet.clone();
        catalog.insert(Resource::from(subnet));
        let mut ipam = Ipam::default();
        let taken = assign(&mut ipam, &catalog, &port("a")).unwrap();
        assert_eq!(taken, [ip("10.0.0.6")], "outside of the range");
        assert_eq!(assign(&mut ipam, &catalog, &port("b")), Err(NoAddress::Leases("v4".into())));
        let leased = Leased::from([("v4".to_owned(), BTreeSet::from([ip("10.0.0.2")]))]);
        // Neither the prefix's own, the gateway's, the leased, the reserved nor the fixed host's.
        assert_eq!(ipam.assign(&catalog, &port("b"), &leased).unwrap(), [ip("10.0.0.3")]);
        assert_eq!(ipam.assign(&catalog, &port("c"), &leased), Err(exhausted("v4")));
        // The lease is over.
        let over = Leased::from([("v4".to_owned(), BTreeSet::new())]);
        assert_eq!(ipam.assign(&catalog, &port("c"), &over).unwrap(), [ip("10.0.0.2")]);
        // It is written what ports may get: the range is DHCP's alone.
        written.spec.pool = vec![single(ip("10.0.0.6"))];
        catalog.insert(Resource::from(written));
        let mut ipam = Ipam::default();
        assert_eq!(assign(&mut ipam, &catalog, &port("a")).unwrap(), [ip("10.0.0.6")]);
        assert_eq!(ipam.assign(&catalog, &port("b"), &over), Err(exhausted("v4")));
    }

    #[test]
    fn what_one_subnet_gave_is_its_own_again_when_another_has_none() {
        let mut catalog = catalog();
        let mut full = Subnet::new("none", SubnetSpec::new("blue", "10.9.0.0/30".parse().unwrap()));
        full.spec.reserved = vec![single("10.9.0.2".parse().unwrap())];
        catalog.insert(Resource::from(full.clone()));
        let mut ipam = Ipam::default();
        for _ in 0..20 {
            assert_eq!(assign(&mut ipam, &catalog, &port("a")), Err(exhausted("none")));
        }
        catalog.remove(&full.reference());
        assert_eq!(
            assign(&mut ipam, &catalog, &port("a")).unwrap()[0],
            "10.0.0.2".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn wishes_are_granted_and_not_given_to_others() {
        let mut catalog = catalog();
        let mut wish = port("wish");
        wish.spec.addresses = vec!["10.0.0.2".parse().unwrap()];
        catalog.insert(Resource::from(wish.clone()));
        let mut ipam = Ipam::default();
        assert_eq!(
            assign(&mut ipam, &catalog, &port("a")).unwrap()[0],
            "10.0.0.3".parse::<IpAddr>().unwrap()
        );
        assert_eq!(assign(&mut ipam, &catalog, &wish).unwrap()[0], wish.spec.addresses[0]);
    }

    fn range(base: u32, (start, length): (u16, u16)) -> AddressRange {
        let ip = |n: u32| IpAddr::V4((base + n).into());
        AddressRange { start: ip(start.into()), end: ip((u32::from(start) + u32::from(length)).min(0xffff)) }
    }

    proptest! {
        /// Whatever the pool is, a port gets an address of it in the subnet that is nobody else's, or is told why not.
        #[test]
        fn addresses_are_of_pool_and_subnet(
            (bits, at) in (20u8..=31, 0u32..0x1_0000),
            (pool_bits, pool_at) in (16u8..=30, 0u32..0x1_0000),
            own in any::<bool>(),
            more in proptest::option::of((any::<u16>(), 0u16..300)),
            reserved in proptest::collection::vec((0u16..64, 0u16..4), 0..3),
            dhcp in proptest::option::of((0u16..64, 0u16..8)),
        ) {
            let base = u32::from_be_bytes([10, 20, 0, 0]);
            let net = |at: u32, bits| IpNet::new(IpAddr::V4((base + at).into()), bits).unwrap().trunc();
            let cidr = net(at, bits);
            let IpAddr::V4(first) = cidr.network() else { unreachable!() };
            let whole = AddressRange::of(cidr);
            let near = |pair| range(first.into(), pair).meet(&whole);
            let mut spec = SubnetSpec::new("blue", cidr);
            spec.reserved = reserved.into_iter().filter_map(near).collect();
            spec.dhcp.ranges = dhcp.into_iter().filter_map(near)
                .map(|r| weft_model::DhcpRange { start: r.start, end: r.end, lease_seconds: None }).collect();
            let mut pool = AddressPoolSpec { cidrs: vec![net(pool_at, pool_bits)], ..AddressPoolSpec::default() };
            pool.ranges = more.map(|pair| range(base, pair)).into_iter().collect();
            let allowed: Vec<AddressRange> = if own { vec![whole] } else { pool.all().collect() };
            if own { spec.pool = allowed.clone() } else { spec.address_pool = Some("pool".into()) }
            let subnet = Subnet::new("v4", spec.clone());
            let mut catalog = Catalog::new();
            catalog.insert(Resource::from(AddressPool::new("pool", pool)));
            catalog.insert(Resource::from(Network::new("blue", NetworkSpec::default())));
            catalog.insert(Resource::from(subnet));
            let (mut ipam, mut seen) = (Ipam::default(), BTreeSet::new());
            let free = |ip: &IpAddr| spec.usable().unwrap().contains(*ip)
                && allowed.iter().any(|r| r.contains(*ip))
                && !spec.reserved.iter().any(|r| r.contains(*ip))
                && !spec.dhcp.ranges.iter().any(|r| r.start <= *ip && *ip <= r.end)
                && spec.service_address(weft_model::NetworkMode::Nat) != Some(*ip);
            let all: Vec<IpAddr> = cidr.hosts().chain([cidr.network(), cidr.broadcast()]).collect();
            let most = all.iter().collect::<BTreeSet<_>>().into_iter().filter(|ip| free(ip)).count();
            for n in 0..12 {
                let mut port = port(&format!("p{n}"));
                match assign(&mut ipam, &catalog, &port) {
                    Ok(addresses) => {
                        prop_assert_eq!(addresses.len(), 1);
                        prop_assert!(free(&addresses[0]), "{} is not to be given", addresses[0]);
                        prop_assert!(seen.insert(addresses[0]), "{} twice", addresses[0]);
                        port.status.addresses = addresses;
                        catalog.insert(Resource::from(port.clone()));
                        ipam.port_changed(&catalog, None, Some(&port));
                    }
                    Err(NoAddress::Because(why)) => {
                        prop_assert_eq!(seen.len(), most, "{}", why);
                        prop_assert!(why.contains("v4"), "it names the subnet: {}", why);
                    }
                    Err(other) => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }
}
