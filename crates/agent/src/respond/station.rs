//! What does a port mean to the responders of its network? Addresses that are kept for it, and where it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_flow::OfPort;
use weft_model::{Catalog, IpNet, Port};
use weft_services::{dhcp4, dhcp6};

use super::config::{boot4, options4, options6};

/// A port as a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Station {
    /// Fixed DHCPv4 hosts, with the address of the subnet that each is of.
    pub hosts4: Vec<(Ipv4Addr, dhcp4::Host)>,
    /// Fixed DHCPv6 hosts.
    pub hosts6: Vec<(Ipv6Addr, dhcp6::Host)>,
    /// Its number on this node's bridge, if it is plugged in here.
    pub port: Option<OfPort>,
}

/// What a port is: a fixed host in each subnet that it has an address of.
pub fn station(catalog: &Catalog, port: &Port, plugged: Option<OfPort>) -> Station {
    let mut out = Station { port: plugged, ..Station::default() };
    let own = || port.spec.addresses.iter().chain(&port.status.addresses);
    let mac = port.mac().0;
    for subnet in catalog.subnets_of(&port.spec.network) {
        let cidr = subnet.spec.cidr;
        match (cidr, own().find(|ip| cidr.contains(*ip))) {
            (IpNet::V4(net), Some(IpAddr::V4(address))) => {
                let mut host = dhcp4::Host::fixed(mac, *address);
                host.name = Some(port.hostname().to_owned());
                if let Some(options) = &port.spec.dhcp_options {
                    (host.options, host.boot) = (options4(options), boot4(options));
                }
                out.hosts4.push((net.network(), host));
            }
            (IpNet::V6(net), Some(IpAddr::V6(address))) => {
                let (id, name) = (dhcp6::HostId::Mac(mac), Some(port.hostname().to_owned()));
                let (address, lease_seconds) = (Some(*address), None);
                let options = port.spec.dhcp_options.as_ref().map(options6).unwrap_or_default();
                out.hosts6.push((net.network(), dhcp6::Host { id, address, name, lease_seconds, options }));
            }
            _ => {}
        }
    }
    out
}
