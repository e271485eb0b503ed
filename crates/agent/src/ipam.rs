//! Which addresses does a port get?

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_model::{AddressRange, AllocError, Allocator, Catalog, Port, Subnet};

/// Who has which addresses of the subnets. Follows the catalog; knows nothing else.
#[derive(Debug, Default)]
pub struct Ipam {
    subnets: BTreeMap<String, Allocator>,
}

fn single(ip: IpAddr) -> AddressRange {
    AddressRange { start: ip, end: ip }
}

/// The addresses of a subnet that ports may get.
fn allocator(catalog: &Catalog, subnet: &Subnet) -> Option<Allocator> {
    let spec = &subnet.spec;
    let network = catalog.network(&spec.network)?;
    let pooled = spec.address_pool.as_ref().and_then(|name| catalog.pool(name));
    let ranges: Vec<AddressRange> = match (spec.pool.as_slice(), pooled) {
        ([], Some(pool)) => pool.spec.all().filter(|r| spec.cidr.contains(&r.start)).collect(),
        // Whoever owns a foreign network gives its addresses, unless some are set aside for us.
        ([], None) if network.is_foreign() => Vec::new(),
        ([], None) => spec.usable().into_iter().collect(),
        (own, _) => own.to_vec(),
    };
    if ranges.is_empty() {
        return None;
    }
    let mut out = Allocator::new(ranges);
    let mode = network.spec.mode;
    let ours = [spec.gateway_address(mode), spec.service_address(mode)].into_iter().flatten();
    let dynamic = spec.dhcp.ranges.iter().map(|r| AddressRange { start: r.start, end: r.end });
    let fixed = spec.dhcp.hosts.iter().filter_map(|h| h.ip).map(single);
    let taken = spec.reserved.iter().copied().chain(ours.map(single)).chain(dynamic).chain(fixed);
    taken.for_each(|range| out.withdraw(range));
    for port in catalog.ports_of(&spec.network) {
        held(port).for_each(|ip| out.reserve(single(ip)));
    }
    Some(out)
}

/// The addresses that a port has, by its own wish or by allocation.
fn held(port: &Port) -> impl Iterator<Item = IpAddr> + '_ {
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
        for name in subnets {
            let Some(allocator) = self.subnets.get_mut(&name) else { continue };
            let kept = |ip: &IpAddr| new.is_some_and(|p| held(p).any(|other| other == *ip));
            old.into_iter().flat_map(held).filter(|ip| !kept(ip)).for_each(|ip| {
                allocator.release(ip);
            });
            new.into_iter().flat_map(held).for_each(|ip| allocator.reserve(single(ip)));
        }
    }

    /// The addresses that a port is to have: those it asks for, those it has, and one of each subnet that it has none of.
    ///
    /// # Errors
    /// A subnet has none left.
    pub fn assign(&mut self, catalog: &Catalog, port: &Port) -> Result<Vec<IpAddr>, String> {
        let mut out: Vec<IpAddr> = port.spec.addresses.clone();
        for subnet in catalog.subnets_of(&port.spec.network).filter(|s| !s.spec.dhcp.relayed) {
            let inside = |ip: &&IpAddr| subnet.spec.cidr.contains(*ip);
            if out.iter().any(|ip| inside(&ip)) {
                continue;
            }
            if let Some(has) = port.status.addresses.iter().find(inside) {
                out.push(*has);
                continue;
            }
            let name = subnet.name();
            if !self.subnets.contains_key(name) {
                let Some(new) = allocator(catalog, subnet) else { continue };
                self.subnets.insert(name.to_owned(), new);
            }
            let Some(allocator) = self.subnets.get_mut(name) else { continue };
            match allocator.allocate() {
                Ok(ip) => out.push(ip),
                Err(AllocError::Exhausted) => return Err(format!("subnet {name} has no address left")),
                Err(why) => return Err(why.to_string()),
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Network, NetworkSpec, PortSpec, Resource, SubnetSpec};

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

    #[test]
    fn every_port_gets_one_of_each_subnet_until_none_is_left() {
        let mut catalog = catalog();
        let mut ipam = Ipam::default();
        let mut seen = std::collections::BTreeSet::new();
        // Six usable, one is the gateway's.
        for n in 0..5 {
            let mut port = port(&format!("p{n}"));
            port.status.addresses = ipam.assign(&catalog, &port).unwrap();
            assert_eq!(port.status.addresses.len(), 2, "{port:?}");
            assert!(port.status.addresses.iter().all(|ip| seen.insert(*ip)), "{port:?}");
            catalog.insert(Resource::from(port.clone()));
            ipam.port_changed(&catalog, None, Some(&port));
            assert_eq!(ipam.assign(&catalog, &port).unwrap(), port.status.addresses, "it keeps what it has");
        }
        assert!(!seen.contains(&"10.0.0.1".parse::<IpAddr>().unwrap()), "the gateway's");
        assert!(ipam.assign(&catalog, &port("late")).unwrap_err().contains("v4"));
        let gone = catalog.port("p2").cloned().unwrap();
        catalog.remove(&gone.reference());
        ipam.port_changed(&catalog, Some(&gone), None);
        assert_eq!(ipam.assign(&catalog, &port("late")).unwrap()[0], gone.status.addresses[0]);
    }

    #[test]
    fn what_dhcp_gives_or_is_reserved_no_port_gets_even_when_one_had_it() {
        let mut catalog = Catalog::new();
        catalog.insert(Resource::from(Network::new("blue", NetworkSpec::default())));
        let mut subnet = Subnet::new("v4", SubnetSpec::new("blue", "10.0.0.0/29".parse().unwrap()));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        subnet.spec.reserved = vec![single(ip("10.0.0.2"))];
        let (start, end) = (ip("10.0.0.3"), ip("10.0.0.4"));
        subnet.spec.dhcp.ranges = vec![weft_model::DhcpRange { start, end, lease_seconds: None }];
        catalog.insert(Resource::from(subnet));
        let mut ipam = Ipam::default();
        assert_eq!(ipam.assign(&catalog, &port("a")).unwrap(), [ip("10.0.0.5")]);
        // One that was given such an address on purpose goes: the address is still not for others.
        let mut wish = port("wish");
        wish.spec.addresses = vec![start];
        ipam.port_changed(&catalog, None, Some(&wish));
        ipam.port_changed(&catalog, Some(&wish), None);
        assert_eq!(ipam.assign(&catalog, &port("b")).unwrap(), [ip("10.0.0.6")]);
        assert!(ipam.assign(&catalog, &port("c")).is_err());
    }

    #[test]
    fn wishes_are_granted_and_not_given_to_others() {
        let mut catalog = catalog();
        let mut wish = port("wish");
        wish.spec.addresses = vec!["10.0.0.2".parse().unwrap()];
        catalog.insert(Resource::from(wish.clone()));
        let mut ipam = Ipam::default();
        assert_eq!(ipam.assign(&catalog, &port("a")).unwrap()[0], "10.0.0.3".parse::<IpAddr>().unwrap());
        assert_eq!(ipam.assign(&catalog, &wish).unwrap()[0], wish.spec.addresses[0]);
    }
}
