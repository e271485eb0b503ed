//! What does the agent do all day? It brings the node in line with what is wanted, a change at a time.
//!
//! ```text
//!  store ──watch──▶ ┐                          ┌──▶ database: bridge and ports
//!  database ─view─▶ ├─▶ dirty names ─▶ settle ─┼──▶ flows: one bundle
//!  flows ──events─▶ ┘                          ├──▶ links: addresses of the host's ends
//!      │                                       ├──▶ responders: DHCP, router advertisements
//!      └──punts──▶ responders                  └──▶ store: status
//! ```
//! One task owns all of it but connections and responders. What fails is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use weft_compile::{Change as PlanChange, Compiler, NetKey, PortKey};
use weft_model::{Catalog, Kind, Network, ObjectRef, Port, Resource};
use weft_store::{Change, Event as StoreEvent, Expect, Op, Store, StoreError, Transaction, Watch};

use crate::ipam::Ipam;
use crate::resolve::{self, Resolver};
use crate::respond::{self, Tell};
use crate::south::{BRIDGE, Database, Event, Flows, View, Wanted, program, replace};
use crate::status::{self, Fault};
use crate::{links, nat};

/// Wait before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often the kernel is looked at for what others changed.
const LOOK: Duration = Duration::from_secs(1);
/// Changes taken in before the node is brought in line.
const BATCH: usize = 4096;

/// What a node's agent is told at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's name, which ports name.
    pub node: String,
    /// Run directory of the switch: its database's socket and the integration bridge's are there.
    pub rundir: PathBuf,
    /// Datapath of the integration bridge; see [`Wanted::datapath`].
    pub datapath: String,
    /// Largest IP packet between nodes, in bytes.
    pub underlay_mtu: u16,
}

/// How far a node has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The store's version that the switch is programmed for.
    pub version: u64,
    /// The integration bridge is connected and has its flows.
    pub connected: bool,
    /// Where the switch is.
    pub switch: String,
    /// Flows of ours.
    pub flows: u64,
}

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store fails.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// A task of ours ended.
    #[error("{0} ended")]
    Ended(&'static str),
}

/// A node's agent.
pub struct Node<S> {
    config: Config,
    store: Arc<S>,
    watch: Watch,
    catalog: Catalog,
    resolver: Resolver,
    ipam: Ipam,
    compiler: Compiler,
    database: Database,
    views: watch::Receiver<Option<Arc<View>>>,
    view: Arc<View>,
    flows: Flows,
    events: mpsc::Receiver<Event>,
    responders: mpsc::Sender<Tell>,
    /// Networks and ports to be looked at.
    nets: BTreeSet<String>,
    ports: BTreeSet<String>,
    /// Ports by what they are plugged in by.
    anchors: BTreeMap<String, BTreeSet<String>>,
    connected: bool,
    /// The groups that the bridge had, when it has to be told everything.
    whole: Option<Vec<u32>>,
    faults: BTreeMap<String, (&'static str, String)>,
    installed: nat::Installed,
    /// What the kernel refused when it was last looked at.
    wrong: Vec<String>,
    /// The store's version that was taken in last.
    version: u64,
    progress: Option<watch::Sender<Progress>>,
    /// The bridge holds what is compiled, as was told last.
    in_line: bool,
    again: Option<Instant>,
    look: Instant,
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl<S: Store> Node<S> {
    /// Starts the connections and reads what is wanted.
    ///
    /// # Errors
    /// The store fails.
    pub async fn new(store: Arc<S>, config: Config) -> Result<Node<S>, NodeError> {
        let (database, views) = Database::start(config.rundir.join("db.sock"));
        let (flows, events) = Flows::start(config.rundir.join(format!("{BRIDGE}.mgmt")));
        let responders = respond::start(Arc::clone(&store), flows.clone());
        let (catalog, version) = store.catalog().await?;
        let watch = store.watch(version).await?;
        let mut node = Node {
            resolver: Resolver { node: config.node.clone(), ..Resolver::default() },
            ipam: Ipam::default(),
            compiler: Compiler::new().0,
            view: Arc::default(),
            nets: catalog.networks().map(|n| n.name().to_owned()).collect(),
            ports: catalog.ports().map(|p| p.name().to_owned()).collect(),
            anchors: BTreeMap::new(),
            connected: false,
            whole: None,
            faults: BTreeMap::new(),
            installed: nat::Installed::default(),
            wrong: Vec::new(),
            version,
            progress: None,
            in_line: false,
            again: None,
            look: Instant::now(),
            config,
            store,
            watch,
            catalog,
            database,
            views,
            flows,
            events,
            responders,
        };
        let ports: Vec<Port> = node.catalog.ports().cloned().collect();
        ports.iter().for_each(|port| node.anchor(port, true));
        Ok(node)
    }

    /// The same node, that tells how far it has come.
    #[must_use]
    pub fn telling(self, progress: watch::Sender<Progress>) -> Node<S> {
        Node { progress: Some(progress), ..self }
    }

    /// Works until the store or a task of ours ends.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn run(mut self) -> Result<(), NodeError> {
        loop {
            let wake = self.again.unwrap_or(self.look).min(self.look);
            tokio::select! {
                event = self.watch.next() => {
                    self.take_resource(event?);
                    for _ in 0..BATCH {
                        let Some(event) = self.watch.try_next()? else { break };
                        self.take_resource(event);
                    }
                }
                changed = self.views.changed() => {
                    changed.map_err(|_| NodeError::Ended("the connection to the database"))?;
                    self.take_view();
                }
                event = self.events.recv() => {
                    let event = event.ok_or(NodeError::Ended("the connection to the bridge"))?;
                    if self.take_event(event).await {
                        continue;
                    }
                }
                () = sleep_until(wake) => {
                    if self.again.take().is_none() {
                        self.host().await;
                        continue;
                    }
                }
            }
            self.settle().await?;
        }
    }

    /// What the switch says. True: nothing is to be settled.
    async fn take_event(&mut self, event: Event) -> bool {
        match event {
            Event::Punt(punt) => {
                // A full queue is a busy cable.
                let _ = self.responders.try_send(Tell::Punt(punt));
                return true;
            }
            Event::Connected(groups) => (self.connected, self.whole) = (true, Some(groups)),
            Event::Disconnected => self.connected = false,
        }
        false
    }

    /// What somebody wants.
    fn take_resource(&mut self, event: StoreEvent) {
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
                let spec = |r: Option<&Arc<Resource>>| r.and_then(|r| r.as_network().map(|n| n.spec.clone()));
                if spec(old.as_ref()) != spec(new) {
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
                let networks = both.iter().filter_map(|r| r.as_port()).map(|p| p.spec.network.clone());
                if old.map(|p| (&p.spec, &p.status.addresses)) != new.map(|p| (&p.spec, &p.status.addresses))
                {
                    self.nets.extend(networks);
                }
                self.ports.insert(reference.name);
            }
            Kind::Router => {
                for router in both.iter().filter_map(|r| r.as_router()) {
                    let subnets = self.catalog.subnets_of_router(router).into_iter();
                    let joined: Vec<String> = subnets.map(|s| s.spec.network.clone()).collect();
                    self.nets.extend(joined);
                }
            }
            Kind::AddressPool => {
                let users = self.catalog.users(&reference);
                for user in users.iter().filter(|u| u.kind == Kind::Subnet) {
                    self.ipam.subnet_changed(&user.name);
                }
            }
        }
    }

    /// Remembers what a port is plugged in by, or forgets it.
    fn anchor(&mut self, port: &Port, add: bool) {
        for anchor in resolve::anchors(port) {
            let names = self.anchors.entry(anchor.clone()).or_default();
            if add {
                names.insert(port.name().to_owned());
            } else {
                names.remove(port.name());
            }
            if names.is_empty() {
                self.anchors.remove(&anchor);
            }
        }
    }

    /// What the switch's database holds.
    fn take_view(&mut self) {
        let Some(view) = self.views.borrow_and_update().clone() else { return };
        let old = std::mem::replace(&mut self.view, view);
        let view = Arc::clone(&self.view);
        if old.bridge != view.bridge {
            self.everything();
            return;
        }
        let names: BTreeSet<&String> = old.interfaces.keys().chain(view.interfaces.keys()).collect();
        for name in names {
            let (before, after) = (old.interfaces.get(name), view.interfaces.get(name));
            if before == after {
                continue;
            }
            let ids = before.into_iter().chain(after).filter_map(|i| i.ids.get("iface-id"));
            for anchor in ids.chain([name]) {
                self.ports.extend(self.anchors.get(anchor).into_iter().flatten().cloned());
            }
            let ours = before.into_iter().chain(after).any(|i| i.ids.contains_key(crate::south::OWNER.0));
            if ours || !self.anchors.contains_key(name) {
                self.nets.extend(self.catalog.networks().map(|n| n.name().to_owned()));
            }
        }
    }

    fn everything(&mut self) {
        self.nets.extend(self.catalog.networks().map(|n| n.name().to_owned()));
        self.ports.extend(self.catalog.ports().map(|p| p.name().to_owned()));
    }

    /// Brings the node in line.
    async fn settle(&mut self) -> Result<(), NodeError> {
        let mut written = BTreeMap::new();
        self.addresses(&mut written);
        self.numbers(&mut written);
        let mut nets = std::mem::take(&mut self.nets);
        let mut ports = std::mem::take(&mut self.ports);
        if !self.devices().await {
            self.again = Some(Instant::now() + AGAIN);
        }
        let told = self.program(&nets, &ports).await;
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
        self.host().await;
        self.configure(&nets, &ports).await;
        if let Some(progress) = &self.progress {
            let switch = self.config.rundir.display().to_string();
            let flows = self.compiler.len() as u64;
            let version = if in_line { self.version } else { progress.borrow().version };
            progress.send_replace(Progress { version, connected: in_line, switch, flows });
        }
        self.report(&nets, &ports, written).await
    }

    /// Gives ports the addresses they lack.
    fn addresses(&mut self, written: &mut BTreeMap<ObjectRef, Resource>) {
        for name in self.ports.clone() {
            let Some(port) = self.catalog.port(&name).cloned() else { continue };
            match self.ipam.assign(&self.catalog, &port) {
                Ok(addresses) => {
                    self.faults.remove(&name);
                    let mac = Some(port.mac());
                    if port.status.addresses == addresses && port.status.mac == mac {
                        continue;
                    }
                    let mut new = port.clone();
                    (new.status.addresses, new.status.mac) = (addresses, mac);
                    let resource = Resource::from(new.clone());
                    self.catalog.insert(resource.clone());
                    self.ipam.port_changed(&self.catalog, Some(&port), Some(&new));
                    self.nets.insert(port.spec.network.clone());
                    written.insert(port.reference(), resource);
                }
                Err(why) => {
                    self.faults.insert(name, ("NoAddress", why));
                }
            }
        }
    }

    /// Gives overlays the numbers they lack.
    fn numbers(&mut self, written: &mut BTreeMap<ObjectRef, Resource>) {
        for name in self.nets.clone() {
            let Some(network) = self.catalog.network(&name).cloned() else { continue };
            let overlaid = network.spec.overlay.as_ref();
            let needs = overlaid.is_some_and(|o| resolve::tunnel_device(o.kind).is_some());
            if !needs || network.key().is_some() {
                continue;
            }
            let taken: BTreeSet<u32> = self.catalog.networks().filter_map(Network::key).collect();
            let mut new = network;
            new.status.key = (1..1 << 24).find(|key| !taken.contains(key));
            let resource = Resource::from(new);
            self.catalog.insert(resource.clone());
            written.insert(resource.reference(), resource);
        }
    }

    /// Bridge and ports of ours. False: it did not work.
    async fn devices(&mut self) -> bool {
        if self.views.borrow().is_none() {
            return true;
        }
        let ports = resolve::devices(&self.catalog, self.config.underlay_mtu);
        let wanted = Wanted { datapath: self.config.datapath.clone(), ports };
        match self.database.ensure(&wanted, &self.view).await {
            Ok(_) => true,
            Err(why) => {
                tracing::warn!(%why, "the switch's database was not changed");
                false
            }
        }
    }

    /// Flows. False: the bridge did not take them.
    async fn program(&mut self, nets: &BTreeSet<String>, ports: &BTreeSet<String>) -> bool {
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
        for name in nets.iter().filter(|n| self.catalog.network(n).is_none()) {
            self.tell(name, |key| Tell::Configure(key, None)).await;
            self.resolver.nets.forget(name);
        }
        for name in ports.iter().filter(|n| self.catalog.port(n).is_none()) {
            self.resolver.ports.forget(name);
            self.faults.remove(name);
        }
        // Before it is known which ports there are, the bridge keeps what it has.
        if !self.connected || self.view.bridge.is_none() {
            return true;
        }
        let messages = match &self.whole {
            Some(groups) => replace(&self.compiler.whole(), groups),
            None => program(&delta),
        };
        match self.flows.commit(messages).await {
            Ok(()) => {
                self.whole = None;
                true
            }
            Err(why) => {
                tracing::warn!(%why, "the integration bridge did not take its flows");
                // Which groups it has now is known: it took none of them.
                let groups = self.compiler.plan().nets.keys().map(|k| k.group());
                self.whole.get_or_insert_with(|| groups.collect());
                false
            }
        }
    }

    /// The host's ends of networks: what others changed is put right.
    async fn host(&mut self) {
        self.look = Instant::now() + LOOK;
        let wanted = links::wanted(&self.catalog);
        let rules = nat::rules(&self.catalog);
        let mut installed = std::mem::take(&mut self.installed);
        let work = move || {
            let mut done = links::ensure(&wanted);
            match installed.ensure(rules) {
                Ok(true) => done.mended.push("the table inet weft".into()),
                Ok(false) => {}
                Err(why) => done.wrong.push(why),
            }
            (done, installed)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((done, installed)) => {
                self.installed = installed;
                done.mended.iter().for_each(|what| tracing::info!(what, "put right"));
                // Said once, however long it stays so.
                let new = done.wrong.iter().filter(|why| !self.wrong.contains(why));
                new.for_each(|why| tracing::warn!(why, "the host's part of the networks"));
                self.wrong = done.wrong;
            }
            Err(why) => tracing::error!(%why, "looking at the kernel failed"),
        }
    }

    async fn tell(&self, network: &str, message: impl FnOnce(u64) -> Tell) {
        if let Some(key) = self.resolver.nets.get(network) {
            let _ = self.responders.send(message(key.into())).await;
        }
    }

    /// What the responders say.
    async fn configure(&self, nets: &BTreeSet<String>, ports: &BTreeSet<String>) {
        let of_ports = ports.iter().filter_map(|p| self.catalog.port(p)).map(|p| &p.spec.network);
        let all: BTreeSet<&String> = nets.iter().chain(of_ports).collect();
        for name in all {
            let Some(services) = respond::services(&self.catalog, name, self.config.underlay_mtu) else {
                continue;
            };
            self.tell(name, |key| Tell::Configure(key, Some(Box::new(services)))).await;
            let Some(key) = self.resolver.nets.get(name) else { continue };
            let plan = self.compiler.plan();
            let out = plan.ports.values().filter(|p| p.net.0 == key).map(|p| p.port).collect();
            self.tell(name, |key| Tell::Ports(key, out)).await;
        }
    }

    /// Tells how resources fare.
    async fn report(
        &self,
        nets: &BTreeSet<String>,
        ports: &BTreeSet<String>,
        mut written: BTreeMap<ObjectRef, Resource>,
    ) -> Result<(), NodeError> {
        let switch = (!self.in_line)
            .then(|| ("SwitchGone", "the switch is not there, or did not take its flows".to_owned()));
        for port in ports.iter().filter_map(|name| self.catalog.port(name)) {
            if port.spec.node.as_ref().is_some_and(|n| *n != self.config.node) {
                continue;
            }
            let (fault, at) = self.fares(port, &switch);
            let new = status::port(port, &fault, at, &self.config.node, now());
            if new != *port || written.contains_key(&port.reference()) {
                written.insert(port.reference(), Resource::from(new));
            }
        }
        for network in nets.iter().filter_map(|name| self.catalog.network(name)) {
            let new = status::network(network, &self.catalog, &switch, self.config.underlay_mtu, now());
            if new != *network || written.contains_key(&network.reference()) {
                written.insert(network.reference(), Resource::from(new));
            }
        }
        if written.is_empty() {
            return Ok(());
        }
        let op = |resource| Op::PutStatus { resource, expect: Expect::Any };
        let ops: Vec<Op> = written.into_values().map(op).collect();
        match self.store.commit(Transaction { ops: ops.clone(), dry_run: false }).await {
            Ok(_) => Ok(()),
            Err(e @ (StoreError::Disk(_) | StoreError::Closed)) => Err(e.into()),
            // One of them is gone, or changed, meanwhile: the others are told one by one.
            Err(_) => {
                for op in ops {
                    let one = Transaction { ops: vec![op], dry_run: false };
                    if let Err(e @ (StoreError::Disk(_) | StoreError::Closed)) = self.store.commit(one).await
                    {
                        return Err(e.into());
                    }
                }
                Ok(())
            }
        }
    }

    /// Why a port is not ready, and where it is plugged in.
    fn fares(&self, port: &Port, switch: &Fault) -> (Fault, Option<(String, u32)>) {
        let interface = resolve::interface_of(port, &self.view);
        let there = interface.as_ref().and_then(|name| self.view.interfaces.get(name));
        let at = interface.clone().zip(there.and_then(|i| i.ofport));
        let fault = self.faults.get(port.name()).cloned();
        let unplugged = || {
            let why = there.and_then(|i| i.error.clone());
            let waits = "nothing is plugged in yet".to_owned();
            at.is_none().then(|| ("NotPlugged", why.unwrap_or(waits)))
        };
        (fault.or_else(unplugged).or_else(|| switch.clone()), at)
    }
}
