//! What does the kernel have to know of the networks? The host's own ends: up, with the gateway's addresses, and the
//! settings by which the kernel forwards for them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use weft_host::netlink::{self, Link, Netlink, NextHop};
use weft_model::{Catalog, NetworkMode, Route};

use crate::heal::Ledger;
use crate::resolve::{has_host, host_device};
use crate::settings::Settings;

/// What the host's end of a network is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostEnd {
    /// Addresses, with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What lies behind machines of the network.
    pub routes: Vec<Route>,
    /// The kernel forwards packets of this network: of IPv4, of IPv6.
    pub forwards: (bool, bool),
}

/// Marks routes of ours, as `proto 87` in `ip route`: nobody else's number.
const PROTOCOL: u8 = 0x57;
/// The kernel's main routing table.
const MAIN: u32 = 254;

/// The host's ends by device.
pub type Wanted = BTreeMap<String, HostEnd>;

/// The host's ends of all networks.
pub fn wanted(catalog: &Catalog) -> Wanted {
    let mut out = Wanted::new();
    for network in catalog.networks().filter(|n| has_host(&n.spec)) {
        let addresses = catalog
            .subnets_of(network.name())
            .filter_map(|s| Some((s.spec.service_address(network.spec.mode)?, s.spec.cidr.prefix_len())));
        let addresses: Vec<_> = addresses.collect();
        if addresses.is_empty() {
            continue;
        }
        let beyond = network.spec.mode != NetworkMode::Isolated;
        let of = |v4: bool| beyond && addresses.iter().any(|(ip, _)| ip.is_ipv4() == v4);
        let forwards = (of(true), of(false));
        let of_subnets = catalog.subnets_of(network.name()).flat_map(|s| s.spec.routes.iter().copied());
        let reached = |r: &Route| addresses.iter().any(|(ip, _)| ip.is_ipv4() == r.via.is_ipv4());
        let routes = of_subnets.filter(reached).collect();
        out.insert(host_device(network.name()), HostEnd { forwards, routes, addresses });
    }
    out
}

/// What was as it should be when it was seen last.
#[derive(Debug, Default)]
pub struct Links {
    /// What settings of the host were.
    pub settings: Settings,
    right: BTreeSet<String>,
    /// Devices that were there.
    there: BTreeSet<String>,
    /// There are no routes of ours, as was seen last.
    unrouted: bool,
    /// Devices that somebody deleted, which the switch does not make again unless it is asked to.
    pub gone: BTreeSet<String>,
}

impl Links {
    /// Puts right what is not as it should be. Devices that are not there yet are passed over: the switch makes them.
    pub fn ensure(&mut self, wanted: &Wanted, ledger: &mut Ledger) {
        if wanted.is_empty() && self.right.is_empty() {
            return;
        }
        let mut netlink = match Netlink::open() {
            Ok(netlink) => netlink,
            Err(why) => return ledger.wrong(why.to_string()),
        };
        let addresses = netlink.addresses().unwrap_or_default();
        let routed = wanted.values().any(|end| !end.routes.is_empty());
        let mut routes = if routed || !self.unrouted { ours(&mut netlink) } else { Vec::new() };
        self.unrouted = !routed;
        let mut right = BTreeSet::new();
        let mut look = |cause, what: String, ok: bool, mend: &mut dyn FnMut() -> Result<(), String>| {
            if !ok {
                match mend() {
                    Ok(()) => ledger.told(cause, self.right.contains(&what), &what),
                    Err(why) => return ledger.wrong(format!("{what}: {why}")),
                }
            }
            right.insert(what);
        };
        for (device, end) in wanted {
            let Ok(link) = netlink.link(device) else {
                if self.there.remove(device) {
                    self.gone.insert(device.clone());
                }
                continue;
            };
            self.there.insert(device.clone());
            self.gone.remove(device);
            for (path, value) in settings_of(device) {
                setting(&mut look, &path, value, &mut |v| std::fs::write(&path, v));
            }
            look("device", format!("{device} is up"), link.admin_up, &mut || {
                netlink.set_up(link.index, true).map_err(|e| e.to_string())
            });
            for (ip, prefix) in &end.addresses {
                let has = |a: &weft_host::netlink::Address| {
                    a.ifindex == link.index && a.ip == *ip && a.prefix == *prefix
                };
                let ok = link.admin_up && addresses.iter().any(has);
                look("address", format!("{device} has {ip}/{prefix}"), ok, &mut || {
                    netlink.add_address(link.index, *ip, *prefix).map_err(|e| e.to_string())
                });
            }
            if link.admin_up {
                lead(&mut look, &mut netlink, &link, &end.routes, &mut routes);
            }
        }
        for stale in routes {
            // One that went with its device is gone.
            let _ = netlink.delete_this_route(&stale);
        }
        if wanted.values().any(|end| end.forwards.0) {
            let forward = sysctl("ipv4/ip_forward");
            setting(&mut look, &forward, "1", &mut |v| self.settings.set(&forward, v));
        }
        if wanted.values().any(|end| end.forwards.1) {
            let forwarding = sysctl("ipv6/conf/all/forwarding");
            if std::fs::read_to_string(&forwarding).is_ok_and(|now| now.trim() != "1") {
                keep_routers(&mut look, &mut self.settings);
            }
            setting(&mut look, &forwarding, "1", &mut |v| self.settings.set(&forwarding, v));
        }
        self.right = right;
        self.there.retain(|device| wanted.contains_key(device));
        self.gone.retain(|device| wanted.contains_key(device));
    }
}

/// The routes that carry our mark, of all devices.
fn ours(netlink: &mut Netlink) -> Vec<netlink::Route> {
    let mut routes = netlink.routes().unwrap_or_default();
    routes.retain(|route| route.protocol == PROTOCOL && route.table == MAIN);
    routes
}

/// Routes by a host's end; those that are there are taken out of `there`.
fn lead(
    look: &mut Look<'_>,
    netlink: &mut Netlink,
    link: &Link,
    wanted: &[Route],
    there: &mut Vec<netlink::Route>,
) {
    for route in wanted {
        let (dst, prefix) = (route.to.network(), route.to.prefix_len());
        let same = |r: &netlink::Route| {
            let hop = r.hops.first();
            let metric = route.metric.is_none_or(|m| m == 0 || m == r.priority);
            let by = hop.is_some_and(|h| h.gateway == Some(route.via) && h.ifindex == link.index);
            (r.dst, r.prefix) == (dst, prefix) && metric && by
        };
        let found = there.iter().position(same).map(|at| there.swap_remove(at));
        let what = format!("{} leads to {} by {}", link.name, route.to, route.via);
        look("route", what, found.is_some(), &mut || {
            // Of ours, that led elsewhere.
            for old in there.extract_if(.., |r| (r.dst, r.prefix) == (dst, prefix)) {
                let _ = netlink.delete_this_route(&old);
            }
            let hops = vec![NextHop { gateway: Some(route.via), ifindex: link.index }];
            let new = netlink::Route {
                dst,
                prefix,
                hops,
                source: None,
                table: MAIN,
                priority: route.metric.unwrap_or(0),
                protocol: PROTOCOL,
                local: false,
                mtu: None,
            };
            netlink.new_route(&new).map_err(|why| match why.exists() {
                true => format!("there is another route to {}", route.to),
                false => why.to_string(),
            })
        });
    }
}

type Look<'a> = dyn FnMut(&'static str, String, bool, &mut dyn FnMut() -> Result<(), String>) + 'a;

fn sysctl(path: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(path)
}

/// Settings of a device of ours: it takes no router's word for it, least of all a guest's; and answers of guests that are
/// reached by another way are not lost. Its addresses are the network's gateway on each node: nobody is asked whether they
/// are free (RFC 4862 §5.4 would hold packets back for a second).
fn settings_of(device: &str) -> [(PathBuf, &'static str); 4] {
    [
        (sysctl(&format!("ipv4/conf/{device}/rp_filter")), "2"),
        (sysctl(&format!("ipv4/conf/{device}/forwarding")), "1"),
        (sysctl(&format!("ipv6/conf/{device}/accept_ra")), "0"),
        (sysctl(&format!("ipv6/conf/{device}/accept_dad")), "0"),
    ]
}

/// A kernel setting; one that the kernel does not have is passed over.
fn setting(look: &mut Look<'_>, path: &Path, value: &str, set: &mut dyn FnMut(&str) -> io::Result<()>) {
    let Ok(there) = std::fs::read_to_string(path) else { return };
    let what = format!("{} is {value}", path.display());
    look("sysctl", what, there.trim() == value, &mut || set(value).map_err(|e| e.to_string()));
}

/// A host that forwards IPv6 no longer listens to routers, unless it is told to: those that listen now go on (`accept_ra`
/// 2), or the host would lose its own way out.
fn keep_routers(look: &mut Look<'_>, settings: &mut Settings) {
    let Ok(devices) = std::fs::read_dir(sysctl("ipv6/conf")) else { return };
    for device in devices.flatten() {
        let name = device.file_name();
        if name == "all" || name == "lo" {
            continue;
        }
        let path = device.path().join("accept_ra");
        if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == "1") {
            setting(look, &path, "2", &mut |v| settings.set(&path, v));
        }
    }
}
