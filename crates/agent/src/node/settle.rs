//! How is the node brought in line with what is wanted?

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;
use weft_compile::{Change as PlanChange, NetKey, PortKey};
use weft_host::netlink::Netlink;
use weft_model::{Network, ObjectRef, Resource};
use weft_store::Store;

use super::{AGAIN, Look, NO_ADDRESS, Node, NodeError, Progress, WRONG_MAC, mend, now};
use crate::ipam::{Leased, NoAddress};
use crate::resolve;
use crate::respond::{self, Tell};
use crate::south::{program, replace};

impl<S: Store> Node<S> {
    /// Brings the node in line.
    pub(super) async fn settle(&mut self) -> Result<(), NodeError> {
        if self.views.has_changed() {
            // By what is changed now.
            self.take_view();
        }
        let mut written = BTreeMap::new();
        self.addresses(&mut written).await?;
        self.numbers(&mut written);
        self.joined_mtus(&mut written);
        let mut nets = std::mem::take(&mut self.nets);
        let mut ports = std::mem::take(&mut self.ports);
        self.want(&nets, &ports);
        if !self.devices().await {
            self.again = Some(Instant::now() + AGAIN);
        }
        let mut told = self.program(&nets, &ports).await;
        if told && self.miscounted().await {
            told = self.program(&BTreeSet::new(), &BTreeSet::new()).await;
        }
        if !told {
            self.again = Some(Instant::now() + AGAIN);
        }
        let in_line = self.connected && self.whole.is_none();
        if in_line != self.in_line {
            // Every resource fares otherwise than before.
            self.in_line = in_line;
            self.everything();
            nets.append(&mut self.nets);
            ports.append(&mut self.ports);
        }
        self.host(Look::Changed).await;
        self.configure(&nets, &ports).await;
        let mtu = self.config.underlay_mtu;
        self.names.settle(&self.catalog, &self.resolver.nets, (&nets, &ports), mtu).await;
        if let Some(progress) = &self.progress {
            let switch = self.config.rundir.display().to_string();
            let flows = self.compiler.len() as u64;
            let version = if in_line { self.version } else { progress.borrow().version };
            progress.send_modify(|p| {
                *p = Progress { version, connected: in_line, switch, flows, ..std::mem::take(p) };
            });
        }
        nets.append(&mut self.counted);
        self.report(&nets, &ports, written).await
    }

    /// Gives ports the addresses they lack.
    async fn addresses(&mut self, written: &mut BTreeMap<ObjectRef, Resource>) -> Result<(), NodeError> {
        let mut leased = Leased::new();
        for name in self.ports.clone() {
            let Some(port) = self.catalog.port(&name).cloned() else { continue };
            let mut assigned = self.ipam.assign(&self.catalog, &port, &leased);
            while let Err(NoAddress::Leases(subnet)) = assigned {
                let leases = self.store.leases(Some(&subnet)).await?;
                let held = leases.iter().filter(|lease| respond::is_held(lease, now())).map(|l| l.address);
                leased.insert(subnet, held.collect());
                assigned = self.ipam.assign(&self.catalog, &port, &leased);
            }
            match assigned {
                Ok(addresses) => {
                    let (mac, fault) = resolve::mac(&self.catalog, &self.view, &port);
                    match fault {
                        Some(why) => drop(self.faults.insert(name.clone(), (WRONG_MAC, why))),
                        None => drop(self.faults.remove(&name)),
                    }
                    let mac = Some(mac);
                    if port.status.addresses == addresses && port.status.mac == mac {
                        continue;
                    }
                    let mut new = port.clone();
                    (new.status.addresses, new.status.mac) = (addresses, mac);
                    let resource = Resource::from(new.clone());
                    self.catalog.insert(resource.clone());
                    self.ipam.port_changed(&self.catalog, Some(&port), Some(&new));
                    written.insert(port.reference(), resource);
                }
                Err(NoAddress::Because(why) | NoAddress::Leases(why)) => {
                    self.faults.insert(name, (NO_ADDRESS, why));
                }
            }
        }
        Ok(())
    }

    /// Gives overlays the numbers they lack.
    pub(super) fn numbers(&mut self, written: &mut BTreeMap<ObjectRef, Resource>) {
        let mut taken: Option<BTreeSet<u32>> = None;
        for name in self.nets.clone() {
            let Some(network) = self.catalog.network(&name) else { continue };
            let overlaid = network.spec.overlay.as_ref();
            let needs = overlaid.is_some_and(|o| resolve::tunnel_device(o.kind).is_some());
            if !needs || network.key().is_some() {
                continue;
            }
            let mut new = network.clone();
            let taken =
                taken.get_or_insert_with(|| self.catalog.networks().filter_map(Network::key).collect());
            new.status.key = (1..1 << 24).find(|key| !taken.contains(key));
            taken.extend(new.status.key);
            let resource = Resource::from(new);
            self.catalog.insert(resource.clone());
            written.insert(resource.reference(), resource);
        }
    }

    /// Networks that are joined to a device or a bridge take its MTU; one that is not there leaves what was seen last.
    fn joined_mtus(&mut self, written: &mut BTreeMap<ObjectRef, Resource>) {
        for (name, mtu) in self.mtus_of(self.nets.iter()) {
            let Some(network) = self.catalog.network(&name) else { continue };
            let mut new = network.clone();
            new.status.device_mtu = Some(mtu);
            self.ports.extend(self.catalog.ports_of(&name).map(|p| p.name().to_owned()));
            let resource = Resource::from(new);
            self.catalog.insert(resource.clone());
            written.insert(resource.reference(), resource);
        }
    }

    /// The networks whose device or bridge has another MTU than was seen last, and which.
    fn mtus_of<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<(String, u16)> {
        let joined = names.filter_map(|name| self.catalog.network(name)).filter(|n| n.joined_to().is_some());
        let joined: Vec<&Network> = joined.collect();
        let netlink = (!joined.is_empty()).then(Netlink::open);
        let Some(Ok(mut netlink)) = netlink else { return Vec::new() };
        let mut other = |network: &&Network| {
            let link = netlink.link(network.joined_to()?).ok()?;
            let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
            (network.status.device_mtu != Some(mtu)).then(|| (network.name().to_owned(), mtu))
        };
        joined.iter().filter_map(&mut other).collect()
    }

    /// Networks whose device or bridge got another MTU are to be looked at.
    pub(super) fn follow_mtus(&mut self) {
        let joined: Vec<String> = self
            .catalog
            .networks()
            .filter(|n| n.joined_to().is_some())
            .map(|n| n.name().to_owned())
            .collect();
        let changed = self.mtus_of(joined.iter());
        self.nets.extend(changed.into_iter().map(|(name, _)| name));
    }

    /// Takes in what is wanted of the database for networks and ports that changed.
    fn want(&mut self, nets: &BTreeSet<String>, ports: &BTreeSet<String>) {
        let mut names = self.wire(nets, ports);
        if !nets.is_empty() {
            let new = resolve::devices(&self.catalog, self.config.underlay_mtu);
            let old = std::mem::replace(&mut self.shared, new);
            let both = old.keys().chain(self.shared.keys());
            names.extend(both.filter(|name| old.get(*name) != self.shared.get(*name)).cloned());
        }
        for name in names {
            match self.host.wiring.devices.get(&name).or_else(|| self.shared.get(&name)) {
                Some(device) => drop(self.wanted.ports.insert(name.clone(), device.clone())),
                None => drop(self.wanted.ports.remove(&name)),
            }
            if let Some(unmade) = &mut self.unmade {
                unmade.insert(name);
            }
        }
    }

    /// Bridge and ports of ours. False: it did not work.
    pub(super) async fn devices(&mut self) -> bool {
        if !self.views.is_connected() || self.unmade.as_ref().is_some_and(BTreeSet::is_empty) {
            return true;
        }
        match self.database.ensure(&self.wanted, self.unmade.as_ref(), &self.view).await {
            Ok(_) => {
                self.unmade = Some(BTreeSet::new());
                true
            }
            Err(why) => {
                tracing::warn!(%why, "the switch's database was not changed");
                false
            }
        }
    }

    /// Flows. False: the bridge did not take them.
    pub(super) async fn program(&mut self, nets: &BTreeSet<String>, ports: &BTreeSet<String>) -> bool {
        let mut changes = Vec::new();
        for name in nets {
            match self.resolver.network(&self.catalog, &self.view, name) {
                Some((key, net)) => changes.push(PlanChange::Net(key, Some(net))),
                None => {
                    changes.extend(self.resolver.nets.get(name).map(|k| PlanChange::Net(NetKey(k), None)))
                }
            }
        }
        for name in ports {
            match self.resolver.port(&self.catalog, &self.view, name) {
                Some((key, port)) => changes.push(PlanChange::Port(key, Some(port))),
                None => {
                    changes.extend(self.resolver.ports.get(name).map(|k| PlanChange::Port(PortKey(k), None)))
                }
            }
        }
        let delta = self.compiler.apply(changes);
        // Before it is known which ports there are, the bridge keeps what it has.
        if !self.connected || self.view.bridge.is_none() {
            return true;
        }
        let (mended, all, again) = self.again();
        let messages = match &self.whole {
            Some(groups) => replace(&self.compiler.whole(), groups),
            None => program(&delta).into_iter().chain(program(&again)).collect(),
        };
        match self.flows.commit(messages).await {
            Ok(()) => {
                self.whole = None;
                mend::tell(&mut self.host.ledger, &self.resolver, &mended, all);
                self.tell_mends();
                true
            }
            Err(why) => {
                tracing::warn!(%why, "the integration bridge did not take its flows");
                self.tell_all();
                false
            }
        }
    }

    /// What the responders say.
    pub(super) async fn configure(&mut self, nets: &BTreeSet<String>, ports: &BTreeSet<String>) {
        let mut tells = Vec::new();
        for name in nets {
            let Some(key) = self.resolver.nets.get(name) else { continue };
            let services = respond::services(&self.catalog, name, self.config.underlay_mtu);
            if services.is_none() {
                self.resolver.nets.forget(name);
            }
            tells.push(Tell::Configure(key.into(), services.map(Box::new)));
        }
        let mut stations = Vec::new();
        for name in ports {
            let Some(port) = self.catalog.port(name) else {
                stations.extend(self.resolver.ports.forget(name).map(|key| (key, None)));
                self.faults.remove(name);
                continue;
            };
            let Some(net) = self.resolver.nets.get(&port.spec.network) else { continue };
            let key = self.resolver.ports.of(name);
            let plugged = self.compiler.plan().ports.get(&PortKey(key)).map(|p| p.port);
            stations.push((key, Some((net.into(), respond::station(&self.catalog, port, plugged)))));
        }
        if !stations.is_empty() {
            tells.push(Tell::Stations(stations));
        }
        let lost = std::mem::take(&mut self.lost).into_iter();
        let lost: Vec<String> = lost.filter(|name| self.catalog.subnet(name).is_none()).collect();
        if !lost.is_empty() {
            tells.push(Tell::Forget(lost));
        }
        for tell in tells {
            // Why they ended is told elsewhere.
            let _ = self.responders.send(tell).await;
        }
    }
}
