//! How do samples become IPFIX messages at their collectors?
//!
//! ```text
//!   lanes ──Sampled (bounded; what finds no room is counted)──▶ weft-export ──UDP──▶ collectors
//!                                                                    │ one Exporter by bridge or collector set
//!   control ── configure, statistics ──────────(mutex)───────────────┘
//! ```
//! `exporter` turns samples into messages: `record` says which flow a sample is of, `counts` adds up, `cache` keeps flows
//! until it is time. The thread is there from the first time that the database asks for exports.

mod cache;
mod counts;
mod exporter;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weft_datapath::{Datapath, PortInfo, Sampled};
use weft_flow::{DpPort, SampleTo, Sampler, TunnelKind};
use weft_openflow::stats::misc::IpfixStats;

use crate::wanted::{Exports, Ipfix};
use exporter::{Exporter, Moment};
use record::Interface;

/// Samples that may wait for the thread; more are lost and counted.
const WAITING: usize = 8_192;
/// Samples that are taken in before what they come to is sent.
const BATCH: usize = 512;
/// IANA's numbers of interface types: `ethernetCsmacd`, `tunnel`.
const ETHERNET: u32 = 6;
const TUNNEL: u32 = 131;

/// An exporter's name: the bridge, and the collector set; `None`: the bridge's own.
type Name = (u32, Option<u32>);
/// Packets lost on the way to each exporter.
type Losses = Arc<RwLock<BTreeMap<Name, Arc<AtomicU64>>>>;

fn name(to: &SampleTo) -> Name {
    match to.sampler {
        Sampler::Bridge => (to.bridge, None),
        Sampler::Rule { collector_set_id, .. } => (to.bridge, Some(collector_set_id)),
    }
}

/// The exporters, as control sees them.
pub(crate) struct Export {
    state: Arc<Mutex<State>>,
    losses: Losses,
    datapath: Weak<dyn Datapath>,
    /// The thread is there.
    runs: bool,
}

/// What the thread and control share.
struct State {
    exporters: BTreeMap<Name, Sender>,
    /// What is known of ports that samples named, until ports change.
    ports: HashMap<DpPort, Interface>,
    datapath: Weak<dyn Datapath>,
    began: Instant,
}

/// An exporter with its sockets.
struct Sender {
    exporter: Exporter,
    sockets: BTreeMap<SocketAddr, UdpSocket>,
    sent: u64,
    failed: u64,
    lost: Arc<AtomicU64>,
}

impl Export {
    /// No exporters, for a datapath.
    pub(crate) fn new(datapath: &Arc<dyn Datapath>) -> Export {
        let datapath = Arc::downgrade(datapath);
        let state = State {
            exporters: BTreeMap::new(),
            ports: HashMap::new(),
            datapath: datapath.clone(),
            began: Instant::now(),
        };
        Export { state: Arc::new(Mutex::new(state)), losses: Losses::default(), datapath, runs: false }
    }

    /// Has exporters be as the database asks for, by bridge. Flows of those that change are exported before.
    pub(crate) fn configure<'a>(&mut self, wanted: impl Iterator<Item = (u32, &'a Exports)>) {
        let wanted: BTreeMap<Name, &Ipfix> = wanted
            .flat_map(|(bridge, exports)| {
                let sets = exports.sets.iter().map(move |(id, ipfix)| ((bridge, Some(*id)), ipfix));
                exports.bridge.iter().map(move |ipfix| ((bridge, None), ipfix)).chain(sets)
            })
            .collect();
        if wanted.is_empty() && !self.runs {
            return;
        }
        self.start();
        let mut state = lock(&self.state);
        let now = state.now();
        state.exporters.retain(|name, sender| {
            let stays = wanted.contains_key(name);
            if !stays {
                sender.exporter.export_all(now);
                sender.send();
            }
            stays
        });
        for (name, ipfix) in wanted {
            let sender = state.exporters.entry(name).or_insert_with(|| Sender::new(ipfix));
            sender.configure(ipfix, now);
        }
        let lost = state.exporters.iter().map(|(name, sender)| (*name, sender.lost.clone())).collect();
        *self.losses.write().unwrap_or_else(PoisonError::into_inner) = lost;
    }

    /// Ports changed: what was known of them is asked anew.
    pub(crate) fn forget_ports(&self) {
        if self.runs {
            lock(&self.state).ports.clear();
        }
    }

    /// Exports what waits: the switch ends.
    pub(crate) fn finish(&self) {
        if self.runs {
            let mut state = lock(&self.state);
            let now = state.now();
            for sender in state.exporters.values_mut() {
                sender.exporter.export_all(now);
                sender.send();
            }
        }
    }

    /// Statistics of a bridge's own exporter, if there is one.
    pub(crate) fn of_bridge(&self, bridge: u32) -> Option<IpfixStats> {
        lock(&self.state).exporters.get(&(bridge, None)).map(|sender| sender.stats(0))
    }

    /// Statistics of a bridge's collector sets.
    pub(crate) fn of_rules(&self, bridge: u32) -> Vec<IpfixStats> {
        let state = lock(&self.state);
        let sets = state.exporters.range((bridge, Some(0))..=(bridge, Some(u32::MAX)));
        sets.map(|((_, set), sender)| sender.stats(set.unwrap_or(0))).collect()
    }

    /// Starts the thread, unless it is there.
    fn start(&mut self) {
        let Some(datapath) = self.datapath.upgrade().filter(|_| !self.runs) else { return };
        let (sender, receiver) = sync_channel(WAITING);
        let state = Arc::clone(&self.state);
        let thread = std::thread::Builder::new().name("weft-export".into());
        match thread.spawn(move || run(&state, &receiver)) {
            Ok(_) => {
                self.runs = true;
                let losses = Arc::clone(&self.losses);
                datapath.on_sample(Arc::new(move |sampled| offer(&sender, &losses, sampled)));
            }
            Err(e) => tracing::error!(target: "ipfix", "nothing is exported: start a thread: {e}"),
        }
    }
}

/// Hands a sample to the thread, or counts it as lost.
fn offer(sender: &SyncSender<Box<Sampled>>, losses: &Losses, sampled: Box<Sampled>) -> bool {
    let Err(TrySendError::Full(sampled) | TrySendError::Disconnected(sampled)) = sender.try_send(sampled)
    else {
        return true;
    };
    let losses = losses.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(lost) = losses.get(&name(&sampled.to)) {
        lost.fetch_add(u64::from(sampled.packets), Relaxed);
    }
    false
}

/// The thread's life: until the datapath is gone.
fn run(state: &Mutex<State>, samples: &Receiver<Box<Sampled>>) {
    loop {
        let wait = lock(state).wait();
        let first = match wait {
            None => samples.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => samples.recv_timeout(wait),
        };
        if matches!(first, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        let mut state = lock(state);
        let now = state.now();
        for sampled in first.into_iter().chain(samples.try_iter()).take(BATCH) {
            state.take(&sampled, now);
        }
        for sender in state.exporters.values_mut() {
            sender.exporter.lost = sender.lost.load(Relaxed);
            sender.exporter.export_due(now);
            sender.exporter.finish();
            sender.send();
        }
    }
}

impl State {
    fn now(&self) -> Moment {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        Moment { steady: self.began.elapsed().as_micros() as u64, unix }
    }

    /// How long there is nothing to do; `None`: until a sample comes.
    fn wait(&self) -> Option<Duration> {
        let due = self.exporters.values().filter_map(|sender| sender.exporter.due()).min()?;
        Some(Duration::from_micros(due.saturating_sub(self.now().steady)))
    }

    fn take(&mut self, sampled: &Sampled, now: Moment) {
        let Some(sender) = self.exporters.get_mut(&name(&sampled.to)) else { return };
        for port in [Some(DpPort(sampled.key.in_port)), sampled.to.output].into_iter().flatten() {
            let datapath = &self.datapath;
            self.ports.entry(port).or_insert_with(|| {
                let info = datapath.upgrade().and_then(|datapath| datapath.port_info(port).ok());
                info.map_or_else(Interface::default, Interface::from)
            });
        }
        let unknown = Interface::default();
        let input = self.ports.get(&DpPort(sampled.key.in_port)).unwrap_or(&unknown);
        let output = sampled.to.output.map(|port| self.ports.get(&port).unwrap_or(&unknown));
        sender.exporter.take(sampled, input, output, now);
    }
}

impl From<PortInfo> for Interface {
    fn from(info: PortInfo) -> Interface {
        let tunnel = match info.kind {
            "vxlan" => Some(TunnelKind::Vxlan),
            "geneve" => Some(TunnelKind::Geneve),
            "gre" => Some(TunnelKind::Gre),
            _ => None,
        };
        let kind = if tunnel.is_some() { TUNNEL } else { ETHERNET };
        Interface { index: info.ifindex.unwrap_or(0), kind, name: info.name, tunnel }
    }
}

impl Sender {
    fn new(config: &Ipfix) -> Sender {
        // Of no targets: they are opened by `configure`.
        let config = Ipfix { targets: BTreeSet::new(), ..config.clone() };
        Sender {
            exporter: Exporter::new(config),
            sockets: BTreeMap::new(),
            sent: 0,
            failed: 0,
            lost: Arc::default(),
        }
    }

    fn configure(&mut self, config: &Ipfix, now: Moment) {
        if self.exporter.config == *config {
            return;
        }
        self.exporter.export_all(now);
        self.send();
        self.exporter.reconfigure(config.clone());
        self.sockets.retain(|target, _| config.targets.contains(target));
        for target in &config.targets {
            if self.sockets.contains_key(target) {
                continue;
            }
            match open(*target) {
                Ok(socket) => _ = self.sockets.insert(*target, socket),
                Err(e) => tracing::warn!(target: "ipfix", "collector {target}: {e}"),
            }
        }
    }

    /// Sends the messages that are ready to each collector.
    fn send(&mut self) {
        for message in std::mem::take(&mut self.exporter.messages) {
            for (target, socket) in &self.sockets {
                match socket.send_to(&message, target) {
                    Ok(_) => self.sent += 1,
                    Err(_) => self.failed += 1,
                }
            }
        }
    }

    fn stats(&self, collector_set_id: u32) -> IpfixStats {
        let (tally, lost) = (self.exporter.tally, self.lost.load(Relaxed));
        let waiting = self.exporter.waiting() as u64;
        let counts = [
            tally.flows,
            waiting,
            tally.sampled + lost,
            tally.ipv4,
            tally.ipv6,
            lost,
            0,
            0,
            self.sent,
            self.failed,
        ];
        IpfixStats { counts, collector_set_id }
    }
}

/// A socket that never waits, for one collector. It is not connected: there may be a route later.
fn open(target: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
