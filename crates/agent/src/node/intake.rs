//! What happened: what does a change of a resource, of the database or of the bridge touch?

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::{Kind, Network, Port, Resource};
use weft_store::{Change, Event as StoreEvent, Store};

use super::Node;
use crate::south::{Disturbed, Event};
use crate::{ipam, resolve};

impl<S: Store> Node<S> {
    /// What the switch says.
    pub(super) fn take_event(&mut self, event: Event) {
        match event {
            Event::Connected(groups) => {
                (self.connected, self.whole) = (true, Some(groups));
                // It is told everything.
                self.mends.disturbed = Disturbed::default();
            }
            Event::Disconnected => self.connected = false,
            Event::Disturbed(what) => self.mends.disturbed.merge(what),
        }
    }

    /// What somebody wants.
    pub(super) fn take_resource(&mut self, event: StoreEvent) {
        let reference = event.resource.reference();
        self.version = event.version;
        let old = match event.change {
            Change::Put => self.catalog.insert(Arc::clone(&event.resource)),
            Change::Delete => self.catalog.remove(&reference),
        };
        let new = (event.change == Change::Put).then_some(&event.resource);
        let both: Vec<&Resource> = old.iter().chain(new).map(Arc::as_ref).collect();
        match reference.kind {
            Kind::Network => {
                let network = |r: Option<&Arc<Resource>>| r.and_then(|r| r.as_network().cloned());
                let (old, new) = (network(old.as_ref()), network(new));
                let both = old.as_ref().zip(new.as_ref());
                if both.is_some_and(|(old, new)| {
                    old.spec == new.spec && old.key() == new.key() && old.mtu(0) == new.mtu(0)
                }) {
                    // What was said of it changed, mostly by us.
                    self.counted.insert(reference.name);
                    return;
                }
                if let Some(old) = &old {
                    self.joint(old, false);
                }
                if let Some(new) = &new {
                    self.joint(new, true);
                }
                if old.map(|n| n.spec) != new.map(|n| n.spec) {
                    let ports = self.catalog.ports_of(&reference.name).map(|p| p.name().to_owned());
                    self.ports.extend(ports);
                    let subnets: Vec<String> =
                        self.catalog.subnets_of(&reference.name).map(|s| s.name().to_owned()).collect();
                    subnets.iter().for_each(|s| self.ipam.subnet_changed(s));
                }
                self.nets.insert(reference.name);
            }
            Kind::Subnet => {
                self.ipam.subnet_changed(&reference.name);
                if new.is_none() {
                    self.lost.push(reference.name.clone());
                }
                for subnet in both.iter().filter_map(|r| r.as_subnet()) {
                    let network = &subnet.spec.network;
                    self.nets.insert(network.clone());
                    self.ports.extend(self.catalog.ports_of(network).map(|p| p.name().to_owned()));
                    let routers =
                        self.catalog.routers_of(subnet).flat_map(|r| self.catalog.subnets_of_router(r));
                    let joined: Vec<String> = routers.map(|s| s.spec.network.clone()).collect();
                    self.nets.extend(joined);
                }
            }
            Kind::Port => {
                let (old, new) = (old.as_ref().and_then(|r| r.as_port()), new.and_then(|r| r.as_port()));
                self.ipam.port_changed(&self.catalog, old, new);
                if let Some(old) = old {
                    self.anchor(&old.clone(), false);
                }
                if let Some(new) = new {
                    self.anchor(&new.clone(), true);
                }
                for port in old.iter().chain(&new) {
                    let held: Vec<IpAddr> = ipam::held(port).collect();
                    self.nets.extend(resolve::led_by(&self.catalog, &port.spec.network, &held));
                }
                let kept = |ip| new.is_some_and(|p| ipam::held(p).any(|other| other == ip));
                if old.is_some_and(|p| ipam::held(p).any(|ip| !kept(ip))) {
                    // What it had may be for those who have none.
                    self.ask_again();
                }
                let network = |p: Option<&Port>| p.map(|p| p.spec.network.clone());
                let (left, joined) = (network(old), network(new));
                // A forward that names it may lead somewhere now, or nowhere any more.
                if left != joined || self.host.is_forwarded(&reference.name) {
                    self.counted.extend(left.into_iter().chain(joined));
                }
                self.ports.insert(reference.name);
            }
            Kind::Router => {
                let parts =
                    |r: &&Resource| r.as_router().map(|r| (r.spec.subnets.clone(), r.spec.networks.clone()));
                let same = both.len() == 2 && both.first().and_then(parts) == both.last().and_then(parts);
                for router in both.iter().filter_map(|r| r.as_router()) {
                    let subnets = self.catalog.subnets_of_router(router).into_iter();
                    let joined: BTreeSet<String> = subnets.map(|s| s.spec.network.clone()).collect();
                    // It brings gateways, which machines in namespaces have routes to.
                    for network in joined.iter().filter(|_| !same) {
                        self.ports.extend(self.catalog.ports_of(network).map(|p| p.name().to_owned()));
                    }
                    self.nets.extend(joined);
                }
            }
            Kind::AddressPool => {
                let users = self.catalog.users(&reference);
                for user in users.iter().filter(|u| u.kind == Kind::Subnet) {
                    self.ipam.subnet_changed(&user.name);
                }
                self.ask_again();
            }
        }
    }

    /// Ports that got no address, of either kind, are to be looked at again.
    pub(super) fn ask_again(&mut self) {
        self.ports.extend(self.faults.keys().cloned());
    }

    /// Remembers what a port is plugged in by, or forgets it.
    pub(super) fn anchor(&mut self, port: &Port, add: bool) {
        note(&mut self.anchors, resolve::anchors(port), port.name(), add);
    }

    /// Remembers by which devices a network has to do with the bridge, or forgets it.
    pub(super) fn joint(&mut self, network: &Network, add: bool) {
        note(&mut self.joints, resolve::joints(network), network.name(), add);
    }

    /// What the switch's database holds.
    pub(super) fn take_view(&mut self) {
        let touched = self.views.take(&mut self.view);
        if touched.bridge {
            self.unmade = None;
            self.everything();
            return;
        }
        for (name, before) in touched.interfaces {
            let after = self.view.interfaces.get(&name);
            let ids = before.iter().chain(after).filter_map(|i| i.ids.get("iface-id"));
            for anchor in ids.chain([&name]) {
                self.ports.extend(self.anchors.get(anchor).into_iter().flatten().cloned());
            }
            self.nets.extend(self.joints.get(&name).into_iter().flatten().cloned());
            if let Some(unmade) = &mut self.unmade {
                unmade.insert(name);
            }
        }
    }

    pub(super) fn everything(&mut self) {
        self.nets.extend(self.catalog.networks().map(|n| n.name().to_owned()));
        self.ports.extend(self.catalog.ports().map(|p| p.name().to_owned()));
    }
}

/// Adds a name under each key, or takes it away.
fn note(names: &mut BTreeMap<String, BTreeSet<String>>, keys: Vec<String>, name: &str, add: bool) {
    for key in keys {
        let known = names.entry(key.clone()).or_default();
        if add {
            known.insert(name.to_owned());
        } else {
            known.remove(name);
        }
        if known.is_empty() {
            names.remove(&key);
        }
    }
}
