//! Who answers names? One task has the name servers of all networks.
//!
//! ```text
//!  punts (UDP, out of the flows) ─▶ ┐             ┌─▶ packets out by the port they came from
//!  streams (TCP, host's device) ──▶ ├─▶ servers ──┼─▶ streams
//!  replies of forwarders ─────────▶ ┘             └─▶ upstream: sockets to forwarders
//! ```
//! It is a task of its own, so that a flood of questions delays no lease. What is not answered in time is asked again by
//! whoever asked: everything here is bounded, and what is too much is dropped.

mod config;
mod resolv;
mod stream;
mod upstream;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep_until;
use weft_flow::OfPort;
use weft_model::Catalog;
use weft_services::dns::{Data, Entry, Server, Step, Transport, Zone};
use weft_services::frame::{Datagram, Envelope};

pub use config::{Names, names};

use super::wall;
use crate::resolve::Keys;
use crate::south::{Flows, Punt, Punts};
use resolv::Resolv;
use stream::{Query, Streams};
use upstream::{Reply, Upstream};

/// Packets handled at a time.
const BATCH: usize = 256;
/// How often files, devices and ends of leases are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Where a machine says whom it asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the name servers are told.
#[derive(Debug)]
pub enum Tell {
    /// A network, by its key, has this name server, or none.
    Configure(u64, Option<Box<Names>>),
    /// A network is gone.
    Gone(u64),
    /// A port of a network has these names.
    Port(u64, String, Vec<Entry>),
    /// An address of a network is leased to somebody of this name until then, in seconds since 1970; or no more.
    Lease(u64, IpAddr, Option<(Arc<str>, u64)>),
    /// The file that says whom the node asks.
    ResolvConf(PathBuf),
}

/// The way to the name servers.
#[derive(Debug)]
pub struct Dns {
    tell: mpsc::Sender<Tell>,
    told: config::Told,
}

impl Dns {
    /// Tells them what changed with these networks and ports.
    pub async fn settle(
        &mut self,
        catalog: &Catalog,
        keys: &Keys,
        dirty: (&BTreeSet<String>, &BTreeSet<String>),
        underlay_mtu: u16,
    ) {
        for change in self.told.changes(catalog, keys, dirty, underlay_mtu) {
            let _ = self.tell.send(change).await;
        }
    }

    /// Where to tell them anything.
    pub fn teller(&self) -> mpsc::Sender<Tell> {
        self.tell.clone()
    }
}

/// The way back to who asked.
#[derive(Clone, Debug)]
enum Back {
    Port(OfPort, Box<Envelope>),
    Stream(mpsc::Sender<Vec<u8>>),
}

/// The name server of a network, and what it must know again when it is configured anew.
#[derive(Default)]
struct Network {
    names: Option<Box<Names>>,
    server: Option<Server<Back>>,
    ports: HashMap<String, Vec<Entry>>,
    leases: HashMap<IpAddr, (Arc<str>, u64)>,
}

/// All of them.
struct Servers {
    flows: Flows,
    networks: HashMap<u64, Network>,
    /// Networks with questions on their way.
    asking: BTreeSet<u64>,
    /// Addresses that we answer at, and never ask.
    own: HashSet<IpAddr>,
    resolv: Resolv,
    upstream: Upstream,
    streams: Streams,
    started: Instant,
}

/// Starts the task. It ends when what it is told by or the queue of packets does.
pub fn start(flows: Flows, punted: Punts) -> Dns {
    let (tell, told) = mpsc::channel(1024);
    let (upstream, replies) = Upstream::new();
    let (streams, queries) = Streams::new();
    let servers = Servers {
        flows,
        networks: HashMap::new(),
        asking: BTreeSet::new(),
        own: HashSet::new(),
        resolv: Resolv::new(RESOLV_CONF.into()),
        upstream,
        streams,
        started: Instant::now(),
    };
    tokio::spawn(servers.run(told, punted, replies, queries));
    Dns { tell, told: config::Told::default() }
}

/// A number that nobody foresees.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|why| {
        tracing::error!(%why, "the kernel gives no random numbers");
        std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), Instant::now())
    })
}

impl Servers {
    async fn run(
        mut self,
        mut told: mpsc::Receiver<Tell>,
        mut punted: Punts,
        mut replies: mpsc::Receiver<Reply>,
        mut queries: mpsc::Receiver<Query>,
    ) {
        let mut look = Instant::now();
        let mut punts = Vec::with_capacity(BATCH);
        loop {
            let server = |key: &u64| self.networks.get(key)?.server.as_ref()?.next_at();
            let next = self.asking.iter().filter_map(server).min();
            let next = next.map_or(look, |ms| look.min(self.started + Duration::from_millis(ms)));
            tokio::select! {
                tell = told.recv() => match tell {
                    Some(tell) => self.take(tell),
                    None => return,
                },
                count = punted.recv_many(&mut punts, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    punts.drain(..).for_each(|punt| self.punt(&punt));
                    // Other tasks of this thread have their turn.
                    tokio::task::yield_now().await;
                }
                Some(reply) = replies.recv() => self.reply(&reply),
                Some(query) = queries.recv() => {
                    let Query { key, client, bytes, back } = query;
                    self.query(key, client, Back::Stream(back), Transport::Tcp, &bytes);
                }
                () = sleep_until(next.into()) => {}
            }
            self.poll();
            if Instant::now() >= look {
                look = Instant::now() + LOOK;
                self.look().await;
            }
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn take(&mut self, tell: Tell) {
        match tell {
            Tell::Configure(key, names) => {
                let network = self.networks.entry(key).or_default();
                network.names = names;
                self.addresses();
                self.configure(key);
            }
            Tell::Gone(key) => {
                self.networks.remove(&key);
                self.asking.remove(&key);
                self.upstream.forget(key);
                self.addresses();
            }
            Tell::Port(key, port, entries) => self.networks.entry(key).or_default().set_port(port, entries),
            Tell::Lease(key, address, lease) => {
                self.networks.entry(key).or_default().set_lease(address, lease);
            }
            Tell::ResolvConf(path) => {
                self.resolv = Resolv::new(path);
                self.read_resolv();
            }
        }
    }

    /// Notes the addresses that are ours; those that were asked are asked no more.
    fn addresses(&mut self) {
        let names = self.networks.values().filter_map(|n| n.names.as_ref());
        let own: HashSet<IpAddr> = names.flat_map(|n| n.config.addresses.iter().copied()).collect();
        let other: HashSet<IpAddr> = own.symmetric_difference(&self.own).copied().collect();
        self.own = own;
        let asks = |n: &Network| n.asks(self.resolv.servers()).any(|server| other.contains(&server.ip()));
        let keys: Vec<u64> = self.networks.iter().filter(|(_, n)| asks(n)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| self.configure(key));
    }

    fn configure_all(&mut self) {
        let keys: Vec<u64> = self.networks.keys().copied().collect();
        keys.into_iter().for_each(|key| self.configure(key));
    }

    fn configure(&mut self, key: u64) {
        let Some(network) = self.networks.get_mut(&key) else { return };
        if network.names.is_none() {
            network.server = None;
            self.asking.remove(&key);
            self.upstream.forget(key);
            return;
        }
        network.configure(&self.own, self.resolv.servers());
    }

    fn read_resolv(&mut self) {
        if self.resolv.look() {
            tracing::info!(servers = ?self.resolv.servers(), "whom the node asks for names");
            self.configure_all();
        }
    }

    /// Files, devices, and leases that ended.
    async fn look(&mut self) {
        self.read_resolv();
        let now = wall();
        self.networks.values_mut().for_each(|network| network.expire(now));
        let mut places = Vec::new();
        for (key, names) in self.networks.iter().filter_map(|(key, n)| Some((*key, n.names.as_ref()?))) {
            if let Some(device) = &names.device {
                places.extend(names.config.addresses.iter().map(|ip| (key, device.clone(), *ip)));
            }
        }
        self.streams.look(places).await;
    }

    /// A question out of a flow.
    fn punt(&mut self, punt: &Punt) {
        let names = self.networks.get(&punt.metadata).and_then(|n| n.names.as_ref());
        let (Some(names), Ok(asked)) = (names, Datagram::parse(&punt.frame)) else { return };
        // To nobody, from nobody, and what may be an answer of another server.
        if !names.config.addresses.contains(&asked.dst) || asked.dst_port != 53 || asked.src_port == 0 {
            return;
        }
        let envelope = Envelope { mac_src: names.mac, ..asked.reply() };
        let back = Back::Port(punt.in_port, Box::new(envelope));
        self.query(punt.metadata, asked.src, back, Transport::Udp, asked.payload);
    }

    fn query(&mut self, key: u64, client: IpAddr, back: Back, transport: Transport, bytes: &[u8]) {
        let now = self.now();
        let Some(network) = self.networks.get_mut(&key) else { return };
        let Some(mut server) = network.server.take() else { return };
        let joined = self.networks.get(&key).and_then(|n| n.names.as_ref()).map_or(&[][..], |n| &n.joined);
        let zone = |key: &u64| Some(self.networks.get(key)?.server.as_ref()?.zone());
        let others: Vec<&Zone> = joined.iter().filter_map(zone).collect();
        let step = server.handle_query_among(&others, client, back, transport, bytes, now, &mut random);
        self.networks.entry(key).or_default().server = Some(server);
        self.step(key, step);
    }

    fn reply(&mut self, reply: &Reply) {
        let Reply { key, token, from, transport, bytes } = reply;
        let now = self.now();
        let Some(server) = self.networks.get_mut(key).and_then(|n| n.server.as_mut()) else { return };
        let steps = server.handle_response(*token, *from, *transport, bytes, now, &mut random);
        if !server.is_pending(*token) {
            self.upstream.finish((*key, *token));
        }
        steps.into_iter().for_each(|step| self.step(*key, step));
    }

    /// Questions whose time is over.
    fn poll(&mut self) {
        let now = self.now();
        let due = |server: &Server<Back>| server.next_at().is_some_and(|at| at <= now);
        for key in self.asking.clone() {
            let server = self.networks.get_mut(&key).and_then(|n| n.server.as_mut());
            let Some(server) = server.filter(|s| s.next_at().is_some()) else {
                self.asking.remove(&key);
                continue;
            };
            if due(server) {
                let steps = server.poll(now, &mut random);
                steps.into_iter().for_each(|step| self.step(key, step));
            }
        }
    }

    fn step(&mut self, key: u64, step: Step<Back>) {
        match step {
            Step::Answer(Back::Port(port, envelope), bytes) => match envelope.seal(&bytes) {
                Ok(frame) => self.flows.try_send(port, frame),
                Err(why) => tracing::debug!(%why, "an answer could not be sent"),
            },
            // Who does not read has what it asked for.
            Step::Answer(Back::Stream(back), bytes) => drop(back.try_send(bytes)),
            Step::Ask(ask) => {
                self.asking.insert(key);
                self.upstream.ask(key, ask);
            }
            Step::Ignore(why) => tracing::trace!(%why, "nothing is answered"),
        }
    }
}

impl Network {
    /// Everybody who is asked, were they not ourselves.
    fn asks<'a>(&'a self, node: &'a [SocketAddr]) -> impl Iterator<Item = &'a SocketAddr> {
        let names = self.names.iter();
        names.flat_map(move |n| {
            let node = if n.ask_node { node } else { &[] };
            n.config.forwarders.iter().chain(n.config.domains.iter().flat_map(|d| &d.servers)).chain(node)
        })
    }

    /// Makes the server what it is to be, or makes one.
    fn configure(&mut self, own: &HashSet<IpAddr>, node: &[SocketAddr]) {
        let Some(names) = &self.names else { return };
        let mut config = names.config.clone();
        if names.ask_node {
            config.forwarders.extend(node);
        }
        let foreign = |server: &SocketAddr| !own.contains(&server.ip());
        config.forwarders.retain(foreign);
        config.domains.iter_mut().for_each(|d| d.servers.retain(foreign));
        let fresh = self.server.is_none();
        let server = self.server.get_or_insert_with(|| Server::new(config.clone()));
        if !fresh {
            // The names of leases stay.
            server.configure(config);
        }
        let zone = server.zone_mut();
        for entry in self.ports.values().flatten() {
            zone.add(entry);
        }
        if fresh {
            for (address, (name, _)) in &self.leases {
                zone.set_lease(name, *address);
            }
        }
    }

    fn set_port(&mut self, port: String, entries: Vec<Entry>) {
        let old = self.ports.remove(&port).unwrap_or_default();
        // Nor is there anybody who has its lease.
        let address = |entry: &Entry| if let Data::Address(ip) = entry.data { Some(ip) } else { None };
        let kept: HashSet<IpAddr> = entries.iter().filter_map(address).collect();
        old.iter()
            .filter_map(address)
            .filter(|ip| !kept.contains(ip))
            .for_each(|ip| self.set_lease(ip, None));
        if let Some(server) = &mut self.server {
            old.iter().for_each(|entry| server.zone_mut().remove(entry));
            for entry in &entries {
                server.zone_mut().add(entry);
            }
        }
        if !entries.is_empty() {
            self.ports.insert(port, entries);
        }
    }

    fn set_lease(&mut self, address: IpAddr, lease: Option<(Arc<str>, u64)>) {
        let known = self.leases.get(&address).map(|(name, _)| name);
        if known != lease.as_ref().map(|(name, _)| name)
            && let Some(server) = &mut self.server
        {
            if let Some(name) = known {
                server.zone_mut().remove_lease(name, address);
            }
            if let Some((name, _)) = &lease {
                server.zone_mut().set_lease(name, address);
            }
        }
        match lease {
            Some(lease) => drop(self.leases.insert(address, lease)),
            None => drop(self.leases.remove(&address)),
        }
    }

    fn expire(&mut self, now: u64) {
        let ended = self.leases.iter().filter(|(_, (_, until))| *until <= now).map(|(a, _)| *a);
        ended.collect::<Vec<_>>().into_iter().for_each(|address| self.set_lease(address, None));
    }
}
