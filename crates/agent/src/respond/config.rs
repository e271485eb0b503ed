//! What do the responders of a network say? From the resources, in the words of the `services` room.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_model::{Catalog, DhcpOptions, IpNet, Network, Route, Subnet, parse_hex};
use weft_services::frame::link_local;
use weft_services::{dhcp4, dhcp6, ra};
use weft_wire::Mac;

use super::Routers;
use crate::resolve::gateway_mac;

/// The services of one network. What its ports are to them is told apart: see [`super::Station`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// DHCPv4, if it is served.
    pub dhcp4: Option<dhcp4::Config>,
    /// DHCPv6, if it is served.
    pub dhcp6: Option<dhcp6::Config>,
    /// Router advertisements, if they are sent.
    pub router: Option<ra::Config>,
    /// Who speaks for the gateway.
    pub routers: Routers,
    /// The subnets, whose names leases are stored under.
    pub subnets: Vec<(String, IpNet)>,
}

fn v4(addresses: &[IpAddr]) -> Vec<Ipv4Addr> {
    addresses.iter().filter_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None }).collect()
}

fn v6(addresses: &[IpAddr]) -> Vec<Ipv6Addr> {
    addresses.iter().filter_map(|a| if let IpAddr::V6(a) = a { Some(*a) } else { None }).collect()
}

/// The services of a network of ours; `None`: there is no such network.
pub fn services(catalog: &Catalog, name: &str, underlay_mtu: u16) -> Option<Services> {
    let network = catalog.network(name)?;
    let mac = gateway_mac(network);
    let subnets: Vec<&Subnet> = catalog.subnets_of(name).collect();
    let addresses = subnets.iter().filter_map(|s| s.spec.service_address(network.spec.mode)).collect();
    let served = subnets.iter().filter(|s| s.spec.serves_dhcp(&network.spec));
    let (mut four, mut six) = (dhcp4::Config::new(mac), dhcp6::Config::new(mac));
    for subnet in served {
        match subnet.spec.cidr {
            IpNet::V4(cidr) => {
                let Some(server) = server_of(subnet, &subnets, network) else { continue };
                let mut base = dhcp4::Subnet::new(cidr.network(), cidr.prefix_len(), server);
                base.relayed = subnet.spec.dhcp.relayed;
                base.probe = subnet.spec.probes(&network.spec);
                let mut told = subnet4(network, subnet, base, underlay_mtu);
                told.options.routers = v4(&catalog.gateway_of(subnet).into_iter().collect::<Vec<_>>());
                four.subnets.push(told);
            }
            IpNet::V6(cidr) => {
                let mut base = dhcp6::Subnet::new(cidr.network(), cidr.prefix_len());
                base.relayed = subnet.spec.dhcp.relayed;
                six.subnets.push(subnet6(network, subnet, base));
            }
        }
    }
    Some(Services {
        dhcp4: (!four.subnets.is_empty()).then_some(four),
        dhcp6: (!six.subnets.is_empty()).then_some(six),
        router: router(catalog, network, &subnets, underlay_mtu),
        routers: Routers { mac, addresses },
        subnets: subnets.iter().map(|s| (s.name().to_owned(), s.spec.cidr)).collect(),
    })
}

/// Where clients of a subnet find the server: in the subnet, or, behind a relay, where the relay finds it. What they send to
/// a router outside passes here, and is answered in its name.
fn server_of(subnet: &Subnet, all: &[&Subnet], network: &Network) -> Option<Ipv4Addr> {
    let serves = |s: &Subnet| match s.spec.service_address(network.spec.mode) {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    };
    let relayed = subnet.spec.dhcp.relayed.then(|| all.iter().find_map(|s| serves(s)));
    let router = || match subnet.spec.gateway_address(network.spec.mode) {
        Some(IpAddr::V4(address)) if network.is_foreign() => Some(address),
        _ => None,
    };
    serves(subnet).or(relayed.flatten()).or_else(router)
}

/// The domain of a network.
fn domain(network: &Network) -> Option<String> {
    network.spec.domain.as_ref().map(|d| d.name.clone())
}

/// Where names of a subnet are answered: at the gateway's address, if they are at all.
fn name_server(network: &Network, subnet: &Subnet) -> Vec<IpAddr> {
    let address = subnet.spec.service_address(network.spec.mode);
    address.filter(|_| network.spec.dns.enabled).into_iter().collect()
}

fn routes4(routes: &[Route]) -> Vec<dhcp4::option::Route> {
    let route = |r: &Route| match (r.to, r.via) {
        (IpNet::V4(to), IpAddr::V4(via)) => {
            Some(dhcp4::option::Route { network: to.network(), prefix_len: to.prefix_len(), via })
        }
        _ => None,
    };
    routes.iter().filter_map(route).collect()
}

pub(super) fn options4(o: &DhcpOptions) -> dhcp4::Options {
    let forced = o.raw.iter().filter(|r| r.force).filter_map(|r| u8::try_from(r.code).ok());
    let raw = o.raw.iter().filter_map(|r| Some((u8::try_from(r.code).ok()?, r.bytes()?)));
    dhcp4::Options {
        dns: v4(&o.dns),
        domain: o.domain.clone(),
        search: o.search.clone(),
        mtu: o.mtu,
        ntp: v4(&o.ntp),
        routes: routes4(&o.routes),
        tftp_server: o.tftp_server.clone(),
        raw: raw.collect(),
        force: forced.collect(),
        ..dhcp4::Options::default()
    }
}

pub(super) fn boot4(o: &DhcpOptions) -> Vec<dhcp4::Boot> {
    let server_name = o.tftp_server.clone();
    let ipxe = o.ipxe.iter().map(|b| dhcp4::Boot {
        ipxe: Some(true),
        file: b.boot_file.clone(),
        next_server: o.next_server,
        ..dhcp4::Boot::default()
    });
    let by_architecture = o.pxe.iter().map(|b| dhcp4::Boot {
        architectures: vec![b.arch],
        file: b.boot_file.clone(),
        next_server: b.next_server.or(o.next_server),
        server_name: server_name.clone(),
        ..dhcp4::Boot::default()
    });
    let plain = o.boot_file.clone().or_else(|| o.next_server.map(|_| String::new()));
    let plain = plain.into_iter().map(|file| dhcp4::Boot {
        file,
        next_server: o.next_server,
        server_name: server_name.clone(),
        ..dhcp4::Boot::default()
    });
    ipxe.chain(by_architecture).chain(plain).collect()
}

/// What DHCPv6 says of these options, which may be of a port of both families: numbers there are other options here, and
/// a boot file is a URL (RFC 5970 §3.1).
pub(super) fn options6(o: &DhcpOptions) -> dhcp6::Options {
    dhcp6::Options {
        dns: v6(&o.dns),
        search: o.search.clone(),
        ntp: v6(&o.ntp),
        boot_url: o.boot_file.clone().filter(|file| file.contains("://")),
        domain: o.domain.clone(),
        raw: Vec::new(),
    }
}

fn subnet4(network: &Network, subnet: &Subnet, base: dhcp4::Subnet, underlay_mtu: u16) -> dhcp4::Subnet {
    let dhcp = &subnet.spec.dhcp;
    let mut options = options4(&dhcp.options);
    options.routes.extend(routes4(&subnet.spec.routes));
    options.domain = options.domain.or_else(|| domain(network));
    if options.dns.is_empty() {
        options.dns = v4(&name_server(network, subnet));
    }
    options.mtu = options.mtu.or(Some(network.mtu(underlay_mtu)));
    let written = dhcp.hosts.iter().filter_map(|h| {
        let id = match (&h.client_id, h.mac) {
            // Digits, or the text itself.
            (Some(id), _) => {
                dhcp4::HostId::ClientId(parse_hex(id).unwrap_or_else(|| id.clone().into_bytes()))
            }
            (None, Some(mac)) => dhcp4::HostId::Mac(mac.0),
            (None, None) => dhcp4::HostId::Name(dhcp4::option::label(h.name.as_ref()?.as_bytes())?),
        };
        let address = v4(&h.ip.into_iter().collect::<Vec<_>>()).first().copied();
        let none = dhcp4::Options::default();
        let boot = Vec::new();
        let lease_seconds = h.lease_seconds;
        Some(dhcp4::Host { id, address, name: h.name.clone(), lease_seconds, options: none, boot })
    });
    dhcp4::Subnet {
        ranges: dhcp
            .ranges
            .iter()
            .filter_map(|r| Some((v4(&[r.start]).pop()?, v4(&[r.end]).pop()?)))
            .collect(),
        range_seconds: dhcp
            .ranges
            .iter()
            .filter_map(|r| Some((v4(&[r.start]).pop()?, v4(&[r.end]).pop()?, r.lease_seconds?)))
            .collect(),
        lease_seconds: dhcp.lease_seconds,
        renew_seconds: dhcp.renew_seconds,
        rebind_seconds: dhcp.rebind_seconds,
        // A port has one address in every state of its machine, firmware to operating system.
        ignore_client_id: true,
        rapid_commit: dhcp.rapid_commit,
        hosts: written.collect(),
        boot: boot4(&dhcp.options),
        options,
        ..base
    }
}

fn subnet6(network: &Network, subnet: &Subnet, base: dhcp6::Subnet) -> dhcp6::Subnet {
    let dhcp = &subnet.spec.dhcp;
    let o = &dhcp.options;
    let raw = o.raw.iter().filter_map(|r| Some((r.code, r.bytes()?)));
    let mut options = dhcp6::Options {
        boot_url: o.boot_file.clone(),
        domain: o.domain.clone().or_else(|| domain(network)),
        raw: raw.collect(),
        ..options6(o)
    };
    if options.dns.is_empty() {
        options.dns = v6(&name_server(network, subnet));
    }
    if options.search.is_empty() {
        options.search = domain(network).into_iter().collect();
    }
    let written = dhcp.hosts.iter().filter_map(|h| {
        let id = match (&h.duid, h.mac) {
            (Some(duid), _) => dhcp6::HostId::Duid(parse_hex(duid)?),
            (None, Some(mac)) => dhcp6::HostId::Mac(mac.0),
            (None, None) => dhcp6::HostId::Name(dhcp4::option::label(h.name.as_ref()?.as_bytes())?),
        };
        let address = v6(&h.ip.into_iter().collect::<Vec<_>>()).first().copied();
        let (lease_seconds, options) = (h.lease_seconds, dhcp6::Options::default());
        Some(dhcp6::Host { id, address, name: h.name.clone(), lease_seconds, options })
    });
    dhcp6::Subnet {
        ranges: dhcp
            .ranges
            .iter()
            .filter_map(|r| Some((v6(&[r.start]).pop()?, v6(&[r.end]).pop()?)))
            .collect(),
        range_seconds: dhcp
            .ranges
            .iter()
            .filter_map(|r| Some((v6(&[r.start]).pop()?, v6(&[r.end]).pop()?, r.lease_seconds?)))
            .collect(),
        valid_seconds: dhcp.lease_seconds,
        preferred_seconds: dhcp.lease_seconds,
        renew_seconds: dhcp.renew_seconds,
        rebind_seconds: dhcp.rebind_seconds,
        rapid_commit: dhcp.rapid_commit,
        hosts: written.collect(),
        options,
        ..base
    }
}

/// Whether machines are told to ask by DHCPv6 (flag M), in a network with these subnets that are advertised.
fn managed(said: &[&Subnet], network: &Network) -> bool {
    let written = said.first().and_then(|s| s.spec.ra.as_ref()?.managed);
    written.unwrap_or_else(|| said.iter().any(|s| s.spec.serves_dhcp(&network.spec)))
}

/// Whether machines make addresses of a subnet by themselves (flag A).
fn autonomous(subnet: &Subnet, managed: bool) -> bool {
    let written = subnet.spec.ra.as_ref().and_then(|ra| ra.autonomous);
    written.unwrap_or(!managed) && subnet.spec.cidr.prefix_len() == 64
}

/// The addresses that a machine with this MAC address makes by itself of what is advertised in its network (SLAAC,
/// RFC 4862 §5.5.3, with the identifier of RFC 4291 appendix A).
pub(crate) fn self_made(catalog: &Catalog, network: &Network, mac: Mac) -> Vec<IpAddr> {
    let said: Vec<_> =
        catalog.subnets_of(network.name()).filter(|s| s.spec.advertises(&network.spec)).collect();
    let managed = managed(&said, network);
    let interface = u128::from(link_local(mac)) & u128::from(u64::MAX);
    let made = said.into_iter().filter(|s| autonomous(s, managed)).filter_map(|s| match s.spec.cidr {
        IpNet::V6(cidr) => Some(Ipv6Addr::from(u128::from(cidr.network()) | interface).into()),
        IpNet::V4(_) => None,
    });
    made.collect()
}

/// The advertisement of a network's IPv6 subnets.
fn router(
    catalog: &Catalog,
    network: &Network,
    subnets: &[&Subnet],
    underlay_mtu: u16,
) -> Option<ra::Config> {
    let said: Vec<&Subnet> = subnets.iter().copied().filter(|s| s.spec.advertises(&network.spec)).collect();
    let first = said.first()?;
    let base = first.spec.ra.clone().unwrap_or_default();
    let serves = said.iter().any(|s| s.spec.serves_dhcp(&network.spec));
    let is_router = !network.is_foreign() && said.iter().any(|s| catalog.gateway_of(s).is_some());
    let managed = managed(&said, network);
    let prefixes = said.iter().filter_map(|s| match s.spec.cidr {
        IpNet::V6(cidr) => {
            let ra = s.spec.ra.clone().unwrap_or_default();
            Some(ra::Prefix {
                prefix: cidr.network(),
                len: cidr.prefix_len(),
                on_link: true,
                autonomous: autonomous(s, managed),
                valid: ra.valid_seconds,
                preferred: ra.preferred_seconds,
            })
        }
        IpNet::V4(_) => None,
    });
    let interval = u32::from(base.interval_seconds);
    Some(ra::Config {
        managed,
        other: base.other.unwrap_or(serves),
        lifetime: if is_router { base.router_lifetime_seconds } else { 0 },
        mtu: base.mtu.or(Some(network.mtu(underlay_mtu).into())),
        prefixes: prefixes.collect(),
        rdnss: if base.rdnss.is_empty() {
            said.iter().flat_map(|s| v6(&name_server(network, s))).collect()
        } else {
            base.rdnss.clone()
        },
        dnssl: if base.dnssl.is_empty() { domain(network).into_iter().collect() } else { base.dnssl },
        interval: (interval / 3, interval),
        ..ra::Config::new(gateway_mac(network))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{NetworkSpec, Resource, RouterAdvertisement, SubnetSpec};

    /// What a machine makes is its own exactly where it is told that it may.
    #[test]
    fn machines_make_addresses_where_they_are_told_to() {
        let told = |cidr: &str, dhcp: Option<bool>, ra: RouterAdvertisement| {
            let mut catalog = Catalog::new();
            catalog.insert(Resource::from(Network::new("blue", NetworkSpec::default())));
            let mut spec = SubnetSpec::new("blue", cidr.parse().expect("a prefix"));
            (spec.dhcp.enabled, spec.ra) = (dhcp, Some(ra));
            catalog.insert(Resource::from(Subnet::new("six", spec)));
            let network = catalog.network("blue").cloned().expect("it is there");
            let all = services(&catalog, "blue", 1500).and_then(|s| s.router);
            let flag = all.is_some_and(|router| router.prefixes.iter().any(|p| p.autonomous));
            let made = self_made(&catalog, &network, Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]));
            assert_eq!(flag, !made.is_empty(), "what is advertised and what is let pass are one");
            made
        };
        let plain = RouterAdvertisement::default;
        let own: IpAddr = "fd00:1::5054:ff:fe12:3456".parse().expect("an address");
        assert!(told("fd00:1::/64", None, plain()).is_empty(), "DHCPv6 gives them");
        assert_eq!(told("fd00:1::/64", Some(false), plain()), [own]);
        let both = RouterAdvertisement { autonomous: Some(true), ..plain() };
        assert_eq!(told("fd00:1::/64", None, both.clone()), [own]);
        assert!(told("fd00:1::/80", None, both.clone()).is_empty(), "there is no room for 64 bits");
        assert!(told("10.1.0.0/24", Some(false), plain()).is_empty());
        let silent = RouterAdvertisement { enabled: Some(false), ..both };
        assert!(told("fd00:1::/64", None, silent).is_empty(), "nobody is told");
    }
}
