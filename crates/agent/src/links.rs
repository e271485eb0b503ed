//! What does the kernel have to know of the networks? The host's own ends: up, with the gateway's addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_host::netlink::Netlink;
use weft_model::Catalog;

use crate::resolve::{has_host, host_device};

/// Addresses that the host's devices are to have: address and prefix length by device.
pub type Wanted = BTreeMap<String, Vec<(IpAddr, u8)>>;

/// The host's ends of all networks.
pub fn wanted(catalog: &Catalog) -> Wanted {
    let mut out = Wanted::new();
    for network in catalog.networks().filter(|n| has_host(&n.spec)) {
        let addresses = catalog
            .subnets_of(network.name())
            .filter_map(|s| Some((s.spec.service_address(network.spec.mode)?, s.spec.cidr.prefix_len())));
        let addresses: Vec<_> = addresses.collect();
        if !addresses.is_empty() {
            out.insert(host_device(network.name()), addresses);
        }
    }
    out
}

/// What looking at the kernel came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// What was put right.
    pub mended: Vec<String>,
    /// What the kernel refused.
    pub wrong: Vec<String>,
}

impl Looked {
    fn note<E: std::fmt::Display>(&mut self, what: String, result: Result<(), E>) {
        match result {
            Ok(()) => self.mended.push(what),
            Err(why) => self.wrong.push(why.to_string()),
        }
    }
}

/// Puts right what is not as it should be. Devices that are not there are passed over: the switch makes them.
pub fn ensure(wanted: &Wanted) -> Looked {
    let mut looked = Looked::default();
    let mut netlink = match Netlink::open() {
        Ok(netlink) => netlink,
        Err(why) => {
            looked.wrong.push(why.to_string());
            return looked;
        }
    };
    let addresses = netlink.addresses().unwrap_or_default();
    for (device, list) in wanted {
        let Ok(link) = netlink.link(device) else { continue };
        if !link.admin_up {
            looked.note(format!("{device} is up"), netlink.set_up(link.index, true));
        }
        for (ip, prefix) in list {
            if !addresses.iter().any(|a| a.ifindex == link.index && a.ip == *ip && a.prefix == *prefix) {
                looked.note(
                    format!("{device} has {ip}/{prefix}"),
                    netlink.add_address(link.index, *ip, *prefix),
                );
            }
        }
        if let Some((setting, value)) = forwarding(list) {
            let there = std::fs::read_to_string(setting).unwrap_or_default();
            if there.trim() != value {
                looked.note(format!("{setting} is {value}"), std::fs::write(setting, value));
            }
        }
    }
    looked
}

/// The setting by which the kernel forwards for a network of these addresses.
fn forwarding(addresses: &[(IpAddr, u8)]) -> Option<(&'static str, &'static str)> {
    let v4 = addresses.iter().any(|(ip, _)| ip.is_ipv4());
    v4.then_some(("/proc/sys/net/ipv4/ip_forward", "1"))
}
