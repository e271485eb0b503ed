//! What is counted only when somebody asks? Subnets, routers and address pools as they are shown.
//!
//! Leases come and go by the thousand, and a port's addresses count for its subnet and the subnet's pool: written back with
//! each change, one change would cost as much as there are. So their status is made when it is read.

use std::collections::HashMap;
use std::net::IpAddr;

use weft_model::{AddressPool, Catalog, Condition, Phase, Resource, Route, Router, Subnet};

/// Running leases by subnet.
pub(crate) type Leases = HashMap<String, u64>;

/// Whether a resource's status is made when it is read.
pub(crate) fn is_counted(resource: &Resource) -> bool {
    matches!(resource, Resource::Subnet(_) | Resource::Router(_) | Resource::AddressPool(_))
}

/// Fills in the status of a resource whose status is made when it is read.
pub(crate) fn see(resource: &mut Resource, catalog: &Catalog, leases: &Leases) {
    match resource {
        Resource::Subnet(subnet) => see_subnet(subnet, catalog, leases),
        Resource::Router(router) => see_router(router, catalog),
        Resource::AddressPool(pool) => see_pool(pool, catalog),
        Resource::Network(_) | Resource::Port(_) => {}
    }
}

/// How far a subnet has come: as far as its network.
fn phase_of(subnet: &Subnet, catalog: &Catalog) -> Phase {
    catalog.network(&subnet.spec.network).map_or(Phase::Pending, |network| network.status.phase)
}

/// Addresses of a subnet that ports have.
fn taken<'a>(subnet: &'a Subnet, catalog: &'a Catalog) -> impl Iterator<Item = IpAddr> + 'a {
    let addresses =
        catalog.ports_of(&subnet.spec.network).flat_map(|port| port.status.addresses.iter().copied());
    addresses.filter(|address| subnet.spec.cidr.contains(address))
}

fn see_subnet(subnet: &mut Subnet, catalog: &Catalog, leases: &Leases) {
    subnet.status.phase = phase_of(subnet, catalog);
    subnet.status.observed_generation = subnet.metadata.generation;
    subnet.status.gateway = catalog.gateway_of(subnet);
    subnet.status.allocated = taken(subnet, catalog).count() as u64;
    subnet.status.leases = leases.get(subnet.name()).copied().unwrap_or(0);
}

fn see_router(router: &mut Router, catalog: &Catalog) {
    let joined = catalog.subnets_of_router(router);
    let phases = joined.iter().map(|subnet| phase_of(subnet, catalog));
    let worst = phases.fold(Phase::Ready, |worst, phase| match (worst, phase) {
        (Phase::Error, _) | (_, Phase::Error) => Phase::Error,
        (Phase::Pending, _) | (_, Phase::Pending) => Phase::Pending,
        _ => Phase::Ready,
    });
    router.status.phase = if joined.is_empty() { Phase::Pending } else { worst };
    router.status.subnets = joined.iter().map(|subnet| subnet.name().to_owned()).collect();
    router.status.observed_generation = router.metadata.generation;
    router.status.conditions =
        router.spec.routes.iter().filter_map(|route| unknown(route, &joined, catalog)).collect();
    if !router.status.conditions.is_empty() && router.status.phase == Phase::Ready {
        router.status.phase = Phase::Pending;
    }
    let apart: Vec<&str> = joined.iter().filter(|s| !catalog.is_routed(s)).map(|s| s.name()).collect();
    if !apart.is_empty() {
        let message = format!(
            "no packet is routed to or from {}: a router needs a gateway of ours there; take out `gateway: none` and \
             `dhcp.relayed`, and join no network that is bridged or private",
            apart.join(", ")
        );
        let (kind, reason) = ("Ready".into(), "NoGateway".into());
        let condition = Condition { kind, status: false, reason, message, last_transition: 0 };
        router.status.conditions.push(condition);
        router.status.phase = Phase::Error;
    }
}

/// Whether the machine that a route leads to is not known: only ports of ours have a MAC address that is.
fn unknown(route: &Route, joined: &[&Subnet], catalog: &Catalog) -> Option<Condition> {
    let here = joined.iter().find(|subnet| subnet.spec.cidr.contains(&route.via));
    if here.is_some_and(|subnet| catalog.port_by_ip(&subnet.spec.network, route.via).is_some()) {
        return None;
    }
    let message = format!(
        "no port has {}: declare one with this address, or packets to {} have no way",
        route.via, route.to
    );
    let kind = format!("RouteTo {}", route.to);
    Some(Condition { kind, status: false, reason: "NextHopUnknown".into(), message, last_transition: 0 })
}

fn see_pool(pool: &mut AddressPool, catalog: &Catalog) {
    let inside = |address: &IpAddr| pool.spec.all().any(|range| range.contains(*address));
    let users = catalog.users(&pool.reference());
    let subnets = users.iter().filter_map(|user| catalog.subnet(&user.name));
    let count = subnets.flat_map(|subnet| taken(subnet, catalog)).filter(inside).count();
    pool.status.allocated = count as u64;
    pool.status.phase = Phase::Ready;
    pool.status.observed_generation = pool.metadata.generation;
}
