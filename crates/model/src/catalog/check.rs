//! Where does one resource contradict the others?

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Catalog, Claim, claims};
use crate::kind::Kind;
use crate::network::{Network, NetworkMode};
use crate::object::Resource;
use crate::port::Port;
use crate::problem::{Checker, Problem, nearest};
use crate::router::Router;
use crate::scalar::AddressRange;
use crate::subnet::Subnet;

pub(super) fn check(catalog: &Catalog, resource: &Resource) -> Vec<Problem> {
    let mut c = Checker::at("spec");
    exclusive(catalog, &mut c, resource);
    match resource {
        Resource::Network(network) => check_network(catalog, &mut c, network),
        Resource::Subnet(subnet) => check_subnet(catalog, &mut c, subnet),
        Resource::Port(port) => check_port(catalog, &mut c, port),
        Resource::Router(router) => check_router(catalog, &mut c, router),
        Resource::AddressPool(_) => {}
    }
    let mut problems = c.finish();
    for problem in &mut problems {
        problem.object = Some(resource.reference());
    }
    problems
}

/// What two resources claim for themselves.
fn exclusive(catalog: &Catalog, c: &mut Checker, resource: &Resource) {
    for claim in claims(resource) {
        let others = catalog.claims.get(&claim).into_iter().flatten();
        let Some(other) = others.into_iter().find(|name| *name != resource.name()) else { continue };
        let (field, mend) = match &claim {
            Claim::Key(_) => ("overlay.key", "choose another number, or none to have one allocated"),
            Claim::Ip(..) => ("addresses", "choose another address, or none to have one allocated"),
            Claim::Mac(..) => ("mac", "choose another one, or none"),
            Claim::Attachment(..) => ("attachment", "plug each port in at a place of its own"),
            Claim::Uplink(..) => ("bridged.uplink", "use another uplink or a VLAN of its own"),
        };
        let kind = resource.kind();
        c.add(field, format!("{} belongs to {kind}/{other} already", claim.words()), mend);
    }
}

/// Notes a name of a resource that does not exist.
fn known(catalog: &Catalog, c: &mut Checker, field: &str, kind: Kind, name: &str) -> bool {
    let there = catalog.find(kind, name).is_some();
    if !there {
        let names: Vec<&str> = catalog.list(kind).take(200).map(|r| r.name()).collect();
        let near = nearest(name, &names);
        let mend = if near.starts_with("did you") { near } else { format!("create {kind}/{name} first") };
        c.add(field, format!("there is no {kind} {name:?}"), mend);
    }
    there
}

/// IPv6 wants links that carry this much (RFC 8200 §5); the kernel takes IPv6 off one that does not.
const IPV6_MTU: u16 = 1_280;

fn check_network(catalog: &Catalog, c: &mut Checker, network: &Network) {
    let six = catalog.subnets_of(network.name()).find(|s| s.spec.is_ipv6());
    if let Some((mtu, six)) = network.spec.mtu.filter(|mtu| *mtu < IPV6_MTU).zip(six) {
        let what = format!("{mtu} is too little for IPv6, and {} has {}", six.reference(), six.spec.cidr);
        c.add("mtu", what, format!("write {IPV6_MTU} or more"));
    }
    let Some(nat) = &network.spec.nat else { return };
    let others: Vec<&Network> = catalog.networks().filter(|n| n.name() != network.name()).collect();
    c.each("nat.forwards", 4_096, &nat.forwards, |c, _, forward| {
        if let Some(port) = forward.to.name.as_ref().and_then(|name| catalog.port(name))
            && port.spec.network != network.name()
        {
            let what = format!("Port/{} is in network {}", port.name(), port.spec.network);
            c.add("to.name", what, "name a port of this network");
        }
        for other in &others {
            let theirs = other.spec.nat.iter().flat_map(|nat| &nat.forwards);
            for taken in
                theirs.filter(|f| f.protocol == forward.protocol && f.listen.port == forward.listen.port)
            {
                let (a, b) = (forward.listen.address, taken.listen.address);
                if a.is_none() || b.is_none() || a == b {
                    let what = format!("port {} is forwarded by {}", forward.listen.port, other.reference());
                    c.add("listen.port", what, "choose another port or address");
                }
            }
        }
    });
}

/// True when the node's own routing table holds the network's prefixes.
fn leaves(mode: NetworkMode) -> bool {
    matches!(mode, NetworkMode::Nat | NetworkMode::Routed | NetworkMode::Open)
}

fn check_subnet(catalog: &Catalog, c: &mut Checker, subnet: &Subnet) {
    let spec = &subnet.spec;
    let range = AddressRange::of(spec.cidr);
    let clashes =
        |other: &Subnet| other.name() != subnet.name() && AddressRange::of(other.spec.cidr).overlaps(&range);
    if known(catalog, c, "network", Kind::Network, &spec.network) {
        for other in catalog.subnets_of(&spec.network).filter(|s| clashes(s)) {
            let what = format!("{} overlaps {} of {}", spec.cidr, other.spec.cidr, other.reference());
            c.add("cidr", what, "use another prefix");
        }
        let mtu = catalog.network(&spec.network).and_then(|n| n.spec.mtu);
        if let Some(mtu) = mtu.filter(|mtu| *mtu < IPV6_MTU && spec.is_ipv6()) {
            let what = format!("{} has mtu {mtu}, too little for IPv6", spec.network);
            c.add("network", what, format!("raise the network's `mtu` to {IPV6_MTU} or more"));
        }
    }
    let mut told = BTreeSet::new();
    let mode = catalog.network(&spec.network).map(|n| n.spec.mode);
    let routed = catalog.routers_of(subnet).flat_map(|router| catalog.subnets_of_router(router));
    let through_node = catalog
        .networks()
        .filter(|n| mode.is_some_and(leaves) && leaves(n.spec.mode))
        .flat_map(|n| catalog.subnets_of(n.name()));
    for other in routed.chain(through_node) {
        if other.spec.network != spec.network && clashes(other) && told.insert(other.name().to_owned()) {
            let what = format!("{} overlaps {} of {}", spec.cidr, other.spec.cidr, other.reference());
            c.add("cidr", what, "use another prefix; what is routed together must differ");
        }
    }
    if let Some(name) = &spec.address_pool
        && known(catalog, c, "addressPool", Kind::AddressPool, name)
        && let Some(pool) = catalog.pool(name)
        && !pool.spec.all().any(|r| r.overlaps(&range))
    {
        c.add("addressPool", format!("{name} has no address of {}", spec.cidr), "choose another pool");
    }
    if let Some(gateway) = mode.and_then(|mode| spec.gateway_address(mode))
        && let Some(port) = catalog.port_by_ip(&spec.network, gateway)
    {
        let what = format!("{gateway} belongs to {}", port.reference());
        c.add("gateway", what, "choose another address");
    }
    if let Some(old) = catalog.subnet(subnet.name()) {
        let lost = |ip: &&IpAddr| old.spec.cidr.contains(*ip) && !spec.cidr.contains(*ip);
        for port in catalog.ports_of(&old.spec.network) {
            if let Some(ip) = port.spec.addresses.iter().find(lost) {
                let what = format!("{} has {ip}, which would be outside", port.reference());
                c.add("cidr", what, "move or delete the port first");
            }
        }
    }
}

fn check_port(catalog: &Catalog, c: &mut Checker, port: &Port) {
    let spec = &port.spec;
    if !known(catalog, c, "network", Kind::Network, &spec.network) {
        return;
    }
    let mode = catalog.network(&spec.network).map(|n| n.spec.mode).unwrap_or_default();
    c.each("addresses", 64, &spec.addresses, |c, _, ip| {
        let Some(subnet) = catalog.subnets_of(&spec.network).find(|s| s.spec.cidr.contains(ip)) else {
            let has: Vec<String> =
                catalog.subnets_of(&spec.network).take(8).map(|s| s.spec.cidr.to_string()).collect();
            let mend = match has.as_slice() {
                [] => format!("create a Subnet of network {} first", spec.network),
                _ => format!("use an address of {}", has.join(", ")),
            };
            c.add("", format!("{ip} is in no subnet of network {}", spec.network), mend);
            return;
        };
        let at = subnet.reference();
        let usable = subnet.spec.usable().is_some_and(|range| range.contains(*ip));
        if !usable {
            c.add("", format!("{ip} is the network's or broadcast address of {at}"), "use another address");
        }
        if subnet.spec.gateway_address(mode) == Some(*ip) || subnet.spec.service_address(mode) == Some(*ip) {
            c.add("", format!("{ip} is the gateway of {at}"), "use another address");
        }
        if subnet.spec.reserved.iter().any(|range| range.contains(*ip)) {
            c.add("", format!("{ip} is reserved in {at}"), "use another address");
        }
        let mac = port.mac();
        let host =
            subnet.spec.dhcp.hosts.iter().find(|h| h.ip == Some(*ip) && h.mac.is_some_and(|m| m != mac));
        if let Some(host) = host {
            let who = host.name.clone().or(host.mac.map(|m| m.to_string())).unwrap_or_default();
            c.add("", format!("{ip} is kept for host {who} in {at}"), "use another address");
        }
    });
}

fn check_router(catalog: &Catalog, c: &mut Checker, router: &Router) {
    let spec = &router.spec;
    c.each("subnets", 1_024, &spec.subnets, |c, _, name| {
        known(catalog, c, "", Kind::Subnet, name);
    });
    c.each("networks", 1_024, &spec.networks, |c, _, name| {
        known(catalog, c, "", Kind::Network, name);
    });
    let mut joined = catalog.subnets_of_router(router);
    for subnet in &joined {
        if let Some(other) = catalog.routers_of(subnet).find(|r| r.name() != router.name()) {
            let what = format!("{} is joined by {} already", subnet.reference(), other.reference());
            c.add("", what, "join it in one router");
        }
    }
    // Sorted by where they begin, overlapping prefixes are neighbours: prefixes nest or are disjoint.
    joined.sort_by_key(|s| (s.spec.is_ipv6(), s.spec.cidr.network(), s.spec.cidr.prefix_len()));
    let mut widest: Option<&Subnet> = None;
    for subnet in joined.iter().copied() {
        match widest {
            Some(wide) if AddressRange::of(wide.spec.cidr).overlaps(&AddressRange::of(subnet.spec.cidr)) => {
                let at = |s: &Subnet| format!("{} of {}", s.spec.cidr, s.reference());
                c.add("", format!("{} overlaps {}", at(subnet), at(wide)), "give them different prefixes");
            }
            _ => widest = Some(subnet),
        }
    }
    let mode = |s: &&Subnet| catalog.network(&s.spec.network).map(|n| n.spec.mode);
    if spec.nat && !joined.is_empty() && !joined.iter().filter_map(mode).any(leaves) {
        let what = "hides what leaves the node, and none of its networks does";
        c.add("nat", what, "give a network the mode routed, open or nat, or remove it");
    }
    c.each("routes", 1_024, &spec.routes, |c, _, route| {
        if let Some(same) = joined.iter().find(|s| s.spec.cidr.trunc() == route.to.trunc()) {
            c.add("to", format!("{} is {} itself", route.to, same.reference()), "remove the route");
        }
        if !joined.iter().any(|s| s.spec.cidr.contains(&route.via)) {
            let mend = "use the address of a machine in a subnet that the router joins";
            c.add("via", format!("{} is in none of the router's subnets", route.via), mend);
        }
    });
}
