//! How are the lanes controlled? The user datapath, seen from the switch.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use weft_conntrack::{Conntrack, Limits};
use weft_flow::{DpAction, DpPort, DropReason, Match};
use weft_pipeline::Pipeline;

use crate::clock::now_ms;
use crate::contract::{
    Capabilities, ControllerSink, Datapath, DatapathStats, DropCounts, Error, Execute, FlowEntry,
    PortChanged, PortInfo, PortKind, PortSpec, PortStats, Result, RuleDrop, SampleSink, Tuning,
};
use crate::lane::{Lane, MAX_IDLE_MS};
use crate::packet::FRAME_ROOM;
use crate::police::{Policer, Policing};
use crate::ports::{Io, MAX_PORTS, Port, Source, VhostDevice};
use crate::shared::{Command, LaneHandle, Shared, lock};
use crate::sweep::merge_entries;
use crate::tunnel::{ListenKey, Listener, TunnelPort};

/// How often a barrier looks for answers before it sleeps until they come: some tens of microseconds.
const SPINS: u32 = 1_000;

/// Frames of control's that may wait for a lane; control waits with more.
const FRAMES: usize = 1_024;

/// How to set up a [`UserDatapath`].
#[derive(Clone, Debug)]
pub struct UserOptions {
    /// Threads that forward; `None`: one for every two processors, from one to four, so that the workloads whose
    /// traffic it is have processors too.
    pub lanes: Option<usize>,
    /// Cached flows per lane.
    pub flow_limit: usize,
    /// Processors for the lanes, in order (`other_config:pmd-cpu-mask`); empty: the kernel places them.
    pub cpus: Vec<usize>,
}

impl Default for UserOptions {
    fn default() -> Self {
        UserOptions { lanes: None, flow_limit: 200_000, cpus: Vec::new() }
    }
}

/// The datapath in user space: lanes, caches, ports.
///
/// Sockets and devices are opened in the network namespace of the thread that calls [`Datapath::add_port`]; the
/// sockets that tunnels send by, in that of the thread that made the datapath.
pub struct UserDatapath {
    shared: Arc<Shared>,
    ports: Mutex<Ports>,
    tuning: Mutex<Tuning>,
    port_changed: Mutex<Option<PortChanged>>,
    threads: Vec<JoinHandle<()>>,
    /// Ends the thread that lets connections expire, when it is dropped.
    sweeper: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What control knows of the ports.
#[derive(Default)]
struct Ports {
    by_number: BTreeMap<u32, Entry>,
    /// Their numbers by name.
    by_name: HashMap<String, u32>,
    /// Ports that each lane receives for, tunnels aside.
    load: Vec<usize>,
    /// How many tunnel ports listen on each socket, and the lane that receives from it.
    listeners: HashMap<ListenKey, (usize, usize)>,
    /// Drops of ports that were removed.
    gone: Option<Box<DropCounts>>,
    /// Number given last. Numbers go round, so that a cached flow of a removed port is gone long before another port
    /// has its number.
    last: u32,
}

struct Entry {
    port: Arc<Port>,
    listens: Vec<ListenKey>,
}

impl Ports {
    fn insert(&mut self, number: DpPort, entry: Entry, lanes: usize) {
        self.by_name.insert(entry.port.name.clone(), number.0);
        if entry.listens.is_empty() {
            self.load.resize(lanes, 0);
            self.load[entry.port.lane % lanes] += 1;
        }
        self.by_number.insert(number.0, entry);
    }

    fn remove(&mut self, number: DpPort, lanes: usize) -> Option<Entry> {
        let entry = self.by_number.remove(&number.0)?;
        self.by_name.remove(&entry.port.name);
        if entry.listens.is_empty() {
            self.load[entry.port.lane % lanes] -= 1;
        }
        Some(entry)
    }
}

impl UserDatapath {
    /// Starts the lanes.
    ///
    /// # Errors
    /// When the host has no descriptors or threads left.
    pub fn new(pipeline: Arc<Pipeline>, sink: ControllerSink, options: &UserOptions) -> Result<Self> {
        let cores = weft_host::thread::allowed_cpus().map_or(1, |cpus| cpus.len());
        let count = options.lanes.unwrap_or((cores / 2).clamp(1, 4)).clamp(1, 64);
        let handles = (0..count).map(|_| LaneHandle::new()).collect::<std::io::Result<_>>();
        let shared = Arc::new(Shared {
            pipeline,
            sink,
            samples: OnceLock::new(),
            rule_drops: Arc::default(),
            egress_ports: AtomicU32::new(0),
            conntrack: Conntrack::new(random(), Limits::default()),
            seed: random(),
            lanes: handles.map_err(|e| Error::os("make a lane's doorbell", e))?,
            tunnel_pools: Mutex::default(),
        });
        let flow_limit = options.flow_limit.saturating_mul(count);
        let tuning = Mutex::new(Tuning {
            flow_limit,
            megaflows: true,
            sweep: true,
            max_idle_ms: MAX_IDLE_MS,
            vlan_limit: weft_flow::MAX_VLANS,
            egress_ports: None,
        });
        let mut this = UserDatapath {
            shared,
            ports: Mutex::default(),
            tuning,
            port_changed: Mutex::default(),
            threads: Vec::new(),
            sweeper: None,
        };
        for number in 0..count {
            let lane = Lane::new(&this.shared, number, options.flow_limit)
                .map_err(|e| Error::os("set up a lane", e))?;
            let cpu = options.cpus.get(number % options.cpus.len().max(1)).copied();
            let name = format!("weft-lane{number}");
            let body = move || {
                if let Some(cpu) = cpu {
                    // A wish: where it cannot be granted, the kernel places the lane.
                    let _ = weft_host::thread::pin(&[cpu]);
                }
                run(lane);
            };
            let thread = std::thread::Builder::new().name(name).spawn(body);
            this.threads.push(thread.map_err(|e| Error::os("start a lane", e))?);
        }
        let (shared, (stop, stopped)) = (this.shared.clone(), channel());
        let thread = std::thread::Builder::new().name("weft-ct".into());
        let thread = thread.spawn(move || sweep_connections(&shared.conntrack, &stopped));
        this.sweeper = Some((stop, thread.map_err(|e| Error::os("start a thread", e))?));
        Ok(this)
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        self.shared.lanes.len()
    }

    /// Sends every lane a command that is answered, and waits for the answers.
    fn ask_all<T>(&self, command: impl Fn(Sender<T>) -> Command) -> Vec<T> {
        let (sender, answers) = channel();
        for lane in &self.shared.lanes {
            lane.send(command(sender.clone()));
        }
        drop(sender);
        answers.iter().collect()
    }

    /// The lane that receives for the next port: the one with the fewest.
    fn quietest_lane(ports: &Ports, lanes: usize) -> usize {
        let mut load = ports.load.clone();
        load.resize(lanes, 0);
        for (_, lane) in ports.listeners.values() {
            load[lane % lanes] += 1;
        }
        (0..lanes).min_by_key(|lane| load[*lane]).unwrap_or(0)
    }

    fn port(&self, number: DpPort) -> Result<Arc<Port>> {
        let ports = lock(&self.ports);
        ports.by_number.get(&number.0).map(|e| e.port.clone()).ok_or(Error::NoPort(number))
    }

    /// Opens what a port needs and tells the lanes.
    fn open(&self, ports: &mut Ports, number: DpPort, spec: &PortSpec) -> Result<Entry> {
        let lanes = self.lanes();
        let lane = Self::quietest_lane(ports, lanes);
        if let PortKind::Tunnel(tunnel) = &spec.kind {
            let io = Io::Tunnel(TunnelPort { spec: tunnel.clone(), sequence: Default::default() });
            let port = Arc::new(Port::new(number, spec, io, 0, lanes));
            let mut listens = Vec::new();
            for key in ListenKey::of(tunnel) {
                self.listen(ports, key, &mut listens)?;
            }
            return Ok(Entry { port, listens });
        }
        if let PortKind::Vhost(vhost) = &spec.kind {
            let changed = lock(&self.port_changed).clone();
            let io = Io::Vhost(VhostDevice::open(number, vhost, lanes, lane, changed)?);
            let mut port = Port::new(number, spec, io, vhost.mtu, lanes);
            port.lane = lane;
            let port = Arc::new(port);
            self.announce(&port);
            // Its queues are spread over the lanes.
            for (shard, handle) in self.shared.lanes.iter().enumerate() {
                handle.send(Command::AddSource(Source::Vhost { port: port.clone(), shard }));
            }
            return Ok(Entry { port, listens: Vec::new() });
        }
        let (mut port, replay) = Port::open(number, spec, lanes)?;
        port.lane = lane;
        let port = Arc::new(port);
        self.announce(&port);
        let source = match replay {
            Some(replay) => Some(Source::Replay { port: port.clone(), replay }),
            None if matches!(port.io, Io::Null) => None,
            None => Some(Source::Port(port.clone())),
        };
        if let Some(source) = source {
            self.shared.lanes[lane].send(Command::AddSource(source));
        }
        Ok(Entry { port, listens: Vec::new() })
    }

    /// Makes all lanes know a port.
    fn announce(&self, port: &Arc<Port>) {
        for lane in &self.shared.lanes {
            lane.send(Command::AddPort(port.clone()));
        }
    }

    /// Listens on a socket, or joins those who do. That there is no IPv6 here is not an error.
    fn listen(&self, ports: &mut Ports, key: ListenKey, listens: &mut Vec<ListenKey>) -> Result<()> {
        if let Some((users, _)) = ports.listeners.get_mut(&key) {
            *users += 1;
        } else {
            let listener = match Listener::open(key) {
                Ok(listener) => listener,
                Err(_) if key.local.is_ipv6() => return Ok(()),
                Err(e) => return Err(e.into()),
            };
            let lane = Self::quietest_lane(ports, self.lanes());
            ports.listeners.insert(key, (1, lane));
            self.shared.lanes[lane].send(Command::AddSource(Source::Underlay(listener)));
        }
        listens.push(key);
        Ok(())
    }
}

/// Runs a lane. Should it panic, the process goes: a switch that lost some of its ports is worse than one that is
/// started again.
fn run(lane: Lane) {
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lane.run()));
    if ran.is_err() {
        std::process::abort();
    }
}

/// Lets connections expire, a few at a time, until the other end of `stopped` is dropped.
fn sweep_connections(conntrack: &Conntrack, stopped: &Receiver<()>) {
    let mut wait = Duration::from_secs(1);
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
        // Were all of them over at once, they were gone in six seconds.
        let count = conntrack.count();
        conntrack.sweep(now_ms(), count / 32 + 256);
        wait = Duration::from_millis(if count > 0 { 200 } else { 1000 });
    }
}

/// A number nobody can guess.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Waits for an answer; none comes if the lane is gone.
fn answer<T>(answers: &Receiver<T>) -> Result<T> {
    answers.recv().map_err(|_| Error::Stopped)
}

impl Datapath for UserDatapath {
    fn name(&self) -> &'static str {
        "user"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            gso: true,
            native_tunnels: true,
            max_vlan_headers: 2,
            trunc: true,
            clone_depth: 16,
            max_ports: MAX_PORTS,
        }
    }

    fn add_port(&self, spec: &PortSpec) -> Result<PortInfo> {
        let mut ports = lock(&self.ports);
        if ports.by_name.contains_key(&spec.name) {
            return Err(Error::PortExists(spec.name.clone()));
        }
        let number = match spec.number {
            Some(DpPort(number)) if number >= MAX_PORTS => return Err(Error::TooManyPorts(MAX_PORTS)),
            Some(DpPort(number)) if ports.by_number.contains_key(&number) => {
                return Err(Error::PortExists(format!("number {number}")));
            }
            Some(number) => number,
            None => {
                // Number 0 stays free: in a key it means "no port".
                let mut round = (ports.last + 1..MAX_PORTS).chain(1..=ports.last);
                let free = round.find(|n| !ports.by_number.contains_key(n));
                ports.last = free.ok_or(Error::TooManyPorts(MAX_PORTS))?;
                DpPort(ports.last)
            }
        };
        let entry = self.open(&mut ports, number, spec)?;
        if !entry.listens.is_empty() {
            self.announce(&entry.port);
        }
        let info = entry.port.info();
        ports.insert(number, entry, self.lanes());
        Ok(info)
    }

    fn del_port(&self, port: DpPort) -> Result<()> {
        let mut ports = lock(&self.ports);
        let entry = ports.remove(port, self.lanes()).ok_or(Error::NoPort(port))?;
        self.ask_all(|done| Command::RemovePort(port, done));
        for key in &entry.listens {
            let users = ports.listeners.get_mut(key).map_or(0, |(users, _)| {
                *users -= 1;
                *users
            });
            if users == 0 {
                ports.listeners.remove(key);
                self.ask_all(|done| Command::RemoveListener(*key, done));
            }
        }
        let gone = ports.gone.get_or_insert_with(|| Box::new([0; DropReason::COUNT]));
        entry.port.sum_drops(gone);
        Ok(())
    }

    fn ports(&self) -> Vec<PortInfo> {
        let ports: Vec<_> = lock(&self.ports).by_number.values().map(|e| e.port.clone()).collect();
        ports.iter().map(|port| port.info()).collect()
    }

    fn port_info(&self, port: DpPort) -> Result<PortInfo> {
        Ok(self.port(port)?.info())
    }

    fn on_port_change(&self, changed: PortChanged) {
        *lock(&self.port_changed) = Some(changed);
    }

    fn police(&self, port: DpPort, policing: Policing) -> Result<()> {
        let policer = policing.limits().then(|| Arc::new(Policer::new(policing, crate::clock::now_us())));
        self.port(port)?.policer.store(policer);
        Ok(())
    }

    fn queueing(&self, port: DpPort, queues: bool) -> Result<()> {
        if let Io::Device(device) = &self.port(port)?.io {
            device.queues.store(queues, Ordering::Relaxed);
        }
        Ok(())
    }

    fn on_sample(&self, sink: SampleSink) {
        let _ = self.shared.samples.set(sink);
    }

    fn port_stats(&self, port: DpPort) -> Result<PortStats> {
        Ok(self.port(port)?.stats())
    }

    fn port_drops(&self, port: DpPort) -> Result<DropCounts> {
        let mut total = [0; DropReason::COUNT];
        self.port(port)?.sum_drops(&mut total);
        Ok(total)
    }

    fn flows(&self) -> Vec<FlowEntry> {
        merge_entries(self.ask_all(Command::Flows))
    }

    fn flush_flows(&self) {
        self.ask_all(Command::Flush);
    }

    fn put_flow(&self, matching: &Match, actions: &[DpAction]) -> Result<()> {
        let put = self.ask_all(|done| Command::Put(Box::new(*matching), actions.to_vec(), done));
        if !put.is_empty() && put.iter().all(|put| *put) { Ok(()) } else { Err(Error::NoFlow) }
    }

    fn del_flow(&self, matching: &Match) -> Result<()> {
        let found = self.ask_all(|done| Command::Delete(Box::new(*matching), done));
        if found.contains(&true) { Ok(()) } else { Err(Error::NoFlow) }
    }

    fn tuning(&self) -> Tuning {
        *lock(&self.tuning)
    }

    fn tune(&self, tuning: Tuning) {
        let mut now = lock(&self.tuning);
        let ports = tuning.egress_ports.map_or(0, |(first, last)| u32::from(first) << 16 | u32::from(last));
        self.shared.egress_ports.store(ports, Ordering::Relaxed);
        let each = tuning.flow_limit.div_ceil(self.lanes());
        self.ask_all(|done| Command::Tune(tuning, each, done));
        *now = tuning;
    }

    fn execute(&self, packet: Execute) -> Result<()> {
        if packet.frame.len() > FRAME_ROOM {
            return Err(Error::FrameTooLong(packet.frame.len()));
        }
        // Packets of one port stay in order: they go by one lane.
        let lane = packet.in_port.0 as usize % self.lanes();
        let lane = &self.shared.lanes[lane];
        if lane.send(Command::Execute(packet)) >= FRAMES {
            let (sender, answers) = channel();
            lane.send(Command::Sync(sender));
            return answer(&answers);
        }
        Ok(())
    }

    fn conntrack(&self) -> &Conntrack {
        &self.shared.conntrack
    }

    fn drops(&self) -> DropCounts {
        let ports = lock(&self.ports);
        let mut total = ports.gone.as_deref().copied().unwrap_or([0; DropReason::COUNT]);
        for entry in ports.by_number.values() {
            entry.port.sum_drops(&mut total);
        }
        for lane in &self.shared.lanes {
            lane.counters.drops.sum_into(&mut total);
        }
        total
    }

    fn rule_drops(&self) -> Vec<RuleDrop> {
        self.shared.rule_drops.list()
    }

    fn stats(&self) -> DatapathStats {
        let mut total = DatapathStats::default();
        for counters in self.shared.lanes.iter().map(|lane| &lane.counters) {
            total.hits += counters.cache_hit.get() + counters.megaflow_hit.get();
            total.misses += counters.upcall.get();
            total.flows += counters.flows.get();
            total.masks += counters.masks.get();
            total.masks_looked_at += counters.megaflow_masks_looked_at.get();
        }
        total
    }

    fn coverage(&self) -> Vec<(&'static str, u64)> {
        let mut total: Vec<(&'static str, u64)> = Vec::new();
        for lane in &self.shared.lanes {
            for (i, (name, count)) in lane.counters.named().into_iter().enumerate() {
                match total.get_mut(i) {
                    Some((_, sum)) => *sum += count,
                    None => total.push((name, count)),
                }
            }
        }
        total
    }

    fn sync(&self) {
        let (sender, answers) = channel();
        // A lane that sleeps has nothing in hand, and is not woken for this.
        for lane in self.shared.lanes.iter().filter(|lane| !lane.is_idle()) {
            lane.send(Command::Sync(sender.clone()));
        }
        drop(sender);
        // One that works answers between two batches: sooner than this thread would sleep and be woken.
        let mut tries = 0;
        loop {
            match answers.try_recv() {
                Ok(()) => {}
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) if tries < SPINS => {
                    tries += 1;
                    std::hint::spin_loop();
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        answers.iter().for_each(drop);
    }

    fn refresh(&self) {
        self.ask_all(Command::Refresh);
    }
}

impl Drop for UserDatapath {
    fn drop(&mut self) {
        for lane in &self.shared.lanes {
            lane.send(Command::Stop);
        }
        for thread in self.threads.drain(..) {
            // A lane that panicked is stopped too.
            let _ = thread.join();
        }
        if let Some((stop, thread)) = self.sweeper.take() {
            drop(stop);
            let _ = thread.join();
        }
    }
}
