//! What does the switch do about each thing that happens? The owner of all control state, and its handlers by cause.

mod network;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use weft_datapath::{Datapath, PacketIn};
use weft_ovsdb::Commit;
use weft_pipeline::Pipeline;

use crate::bridge::{Host, Role, Static, World, report};
use crate::clock::now_ms;
use crate::db::{Db, Written};
use crate::export::Export;
use crate::net::{Links, Native};
use crate::openflow::{OpenFlow, Target};
use crate::process::paths::{Daemon, Paths};
use crate::process::vlog::Vlog;
use crate::remotes::Remotes;
use crate::stream::{Conn, ConnId, EndpointId, StreamEvent, Streams, Tls};
use crate::unixctl::{Call, Unixctl};
use crate::wanted::{Limits, Wanted};
use crate::watched::asks_for_something;

/// Time between retries of what could not be opened.
const RETRY_MS: u64 = 5_000;
/// Time between looks at time-outs and ages.
const TICK_MS: u64 = 1_000;
/// Time between looks for neighbours that packets wait for, while there are native tunnels.
const RESOLVE_MS: u64 = 50;
/// Bytes of OpenFlow that are carried out together: understood they take many times as much, which is to stay small.
const PIECE: usize = 4 << 10;

/// Who speaks on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Ovsdb,
    Unixctl(Daemon),
    OpenFlow,
}

/// Commits that are gone through one by one.
const COMMITS: usize = 64;

/// How the switch is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Internal devices of bridges stay, with the host's addresses on them.
    Keep,
    /// Everything the switch made goes.
    Cleanup,
}

/// The switch: everything but packets.
pub(crate) struct Control {
    /// Where its files are.
    pub paths: Paths,
    /// The log.
    pub vlog: Vlog,
    /// Sockets.
    pub streams: Streams,
    /// Keys.
    pub tls: Arc<Tls>,
    /// The database.
    pub db: Db,
    /// Where database clients come from.
    pub remotes: Remotes,
    /// What is asked for.
    pub wanted: Wanted,
    /// What there is.
    pub world: World,
    /// The host's network.
    pub links: Links,
    /// Tunnels through our own bridges.
    pub native: Native,
    /// Decisions.
    pub pipeline: Arc<Pipeline>,
    /// Packets.
    pub datapath: Arc<dyn Datapath>,
    /// Controllers.
    pub openflow: OpenFlow,
    /// Exporters of samples.
    pub export: Export,
    /// Set when the switch is to end.
    pub exit: Option<Exit>,
    pub(crate) unixctl: Unixctl,
    /// The daemon whose socket the command being run came by.
    pub(crate) unixctl_daemon: Daemon,
    /// Calls that are answered when the database is compacted.
    compactions: Vec<(ConnId, Call)>,
    facts: Static,
    /// Cached flows there may be unless the database says.
    flow_limit: usize,
    services: HashMap<EndpointId, Service>,
    talking: HashMap<ConnId, (Service, EndpointId)>,
    todo: Todo,
    due: Due,
}

/// What [`Control::settle`] has to do.
#[derive(Default)]
struct Todo {
    /// The database asks for something else.
    wishes: bool,
    /// What clients changed since it was read what the database asks for; `None`: too much to go through.
    commits: Option<Vec<Arc<Commit>>>,
    /// What exists changed.
    world: bool,
    /// Devices changed.
    devices: BTreeSet<String>,
    /// The host's routes or addresses changed.
    routes: bool,
    /// The database is to be told what there is.
    report: bool,
    /// Counters are to be told too.
    statistics: bool,
}

/// When the next of each is to be done, in milliseconds of the clock.
struct Due {
    tick: u64,
    retry: u64,
    statistics: u64,
    resolve: u64,
}

/// The parts a [`Control`] is made of.
pub(crate) struct Parts {
    /// Where its files are.
    pub paths: Paths,
    /// The log.
    pub vlog: Vlog,
    /// Sockets.
    pub streams: Streams,
    /// Keys.
    pub tls: Arc<Tls>,
    /// The database.
    pub db: Db,
    /// Where database clients come from.
    pub remotes: Remotes,
    /// The host's network.
    pub links: Links,
    /// Decisions.
    pub pipeline: Arc<Pipeline>,
    /// Packets.
    pub datapath: Arc<dyn Datapath>,
}

impl Control {
    /// A switch that has read nothing yet.
    pub(crate) fn new(parts: Parts) -> Control {
        let now = now_ms();
        let facts = Static::read(&parts.db.database().schema().version);
        Control {
            openflow: OpenFlow::new(
                parts.paths.rundir.clone(),
                parts.paths.db.parent().unwrap_or(&parts.paths.rundir).to_owned(),
            ),
            world: World::new(parts.paths.rundir.clone()),
            paths: parts.paths,
            vlog: parts.vlog,
            streams: parts.streams,
            tls: parts.tls,
            db: parts.db,
            remotes: parts.remotes,
            wanted: Wanted::default(),
            links: parts.links,
            native: Native::default(),
            pipeline: parts.pipeline,
            flow_limit: parts.datapath.tuning().flow_limit,
            export: Export::new(&parts.datapath),
            datapath: parts.datapath,
            exit: None,
            unixctl: Unixctl::default(),
            unixctl_daemon: Daemon::Vswitchd,
            compactions: Vec::new(),
            facts,
            services: HashMap::new(),
            talking: HashMap::new(),
            todo: Todo { wishes: true, routes: true, statistics: true, ..Todo::default() },
            due: Due { tick: now, retry: now + RETRY_MS, statistics: now, resolve: now },
        }
    }

    /// Opens the control sockets of both daemons.
    pub(crate) fn open_control_sockets(&mut self) -> std::io::Result<()> {
        for daemon in Daemon::ALL {
            let target =
                crate::stream::Target::Passive(crate::stream::Listen::Unix(self.paths.unixctl(daemon)));
            let endpoint = self.streams.open(&target, Duration::ZERO)?;
            self.services.insert(endpoint, Service::Unixctl(daemon));
        }
        Ok(())
    }

    /// When something is to be done without anything happening.
    pub(crate) fn deadline_ms(&self) -> u64 {
        if self.openflow.has_work() {
            return 0;
        }
        let mut next = self.due.tick.min(self.openflow.deadline().unwrap_or(u64::MAX));
        if self.native.is_active() {
            next = next.min(self.due.resolve);
        }
        next.min(self.db.deadline_ms().unwrap_or(u64::MAX))
    }

    /// Something happened on a stream.
    pub(crate) fn on_stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened { endpoint, conn } => self.on_opened(endpoint, conn),
            StreamEvent::Data { conn, bytes } => self.on_data(conn, &bytes),
            // What waited for room goes out in `settle`.
            StreamEvent::Drained => {}
            StreamEvent::Closed { conn, why } => self.on_closed(conn, &why),
            StreamEvent::Dial { endpoint, state, error } => {
                if let Some(remote) = self.remotes.by_endpoint(endpoint) {
                    remote.status.dial(state, error);
                } else {
                    self.openflow.on_dial(endpoint, state, error);
                }
            }
        }
    }

    fn on_opened(&mut self, endpoint: EndpointId, conn: Conn) {
        let now = now_ms();
        let service = match self.services.get(&endpoint) {
            Some(service) => *service,
            None if self.openflow.owns(endpoint) => Service::OpenFlow,
            None => Service::Ovsdb,
        };
        self.talking.insert(conn.id, (service, endpoint));
        match service {
            Service::Unixctl(daemon) => self.unixctl.opened(conn, daemon),
            Service::OpenFlow => self.openflow.on_opened(endpoint, conn, now),
            Service::Ovsdb => {
                // An endpoint closed in the meantime: dropping the connection ends it.
                let Some(remote) = self.remotes.by_endpoint(endpoint) else { return };
                remote.status.opened(now);
                let probe = remote.probe_ms(conn.peer.is_empty());
                self.db.connected(conn, probe, now);
            }
        }
    }

    fn on_data(&mut self, conn: ConnId, bytes: &[u8]) {
        let now = now_ms();
        match self.talking.get(&conn) {
            Some((Service::Ovsdb, _)) => self.db.received(conn, bytes, now),
            Some((Service::OpenFlow, _)) => {
                for piece in bytes.chunks(PIECE) {
                    self.openflow.on_data(conn, piece, now);
                    if bytes.len() > PIECE {
                        self.execute();
                    }
                }
            }
            Some((Service::Unixctl(_), _)) => {
                for call in self.unixctl.received(conn, bytes) {
                    match crate::unixctl::execute(self, &call) {
                        Some(answer) => self.unixctl.answer(conn, call, answer),
                        None => self.compactions.push((conn, call)),
                    }
                }
                self.answer_compactions();
            }
            None => {}
        }
    }

    fn on_closed(&mut self, conn: ConnId, why: &str) {
        let now = now_ms();
        match self.talking.remove(&conn) {
            Some((Service::Ovsdb, endpoint)) => {
                if let Some(remote) = self.remotes.by_endpoint(endpoint) {
                    remote.status.closed(now);
                }
                self.db.disconnected(conn, now);
            }
            Some((Service::OpenFlow, _)) => self.openflow.on_closed(conn, why, now),
            Some((Service::Unixctl(_), _)) => self.unixctl.closed(conn),
            None => {}
        }
    }

    /// Answers those who asked for a compaction that is done.
    fn answer_compactions(&mut self) {
        if !self.compactions.is_empty() && !self.db.is_compacting() {
            for (conn, call) in std::mem::take(&mut self.compactions) {
                self.unixctl.answer(conn, call, Ok(String::new()));
            }
        }
    }

    /// The database writer finished a job.
    pub(crate) fn on_written(&mut self, written: Written) {
        if written.result.is_err() {
            // What the database says of reality is taken back with the rest, and said again later: a full disk is not
            // to keep us busy.
            self.world.forget_told();
            self.due.statistics = self.due.statistics.min(now_ms() + RETRY_MS);
        }
        self.db.written(written);
        self.answer_compactions();
    }

    /// A packet for controllers.
    pub(crate) fn on_packet_in(&mut self, packet: PacketIn) {
        self.openflow.on_packet_in(&self.world, &self.pipeline, packet, now_ms());
    }

    /// Time passed.
    pub(crate) fn on_time(&mut self) {
        let now = now_ms();
        self.openflow.on_time(now);
        if self.db.deadline_ms().is_some_and(|at| at <= now) {
            self.db.tick(now);
        }
        if now >= self.due.tick {
            self.due.tick = now + TICK_MS;
            self.close_orphans();
            self.db.tick(now);
            self.pipeline.age(now);
            self.openflow.on_tick(now);
            crate::unixctl::tick(self, now);
            if !self.world.restoring {
                self.expire_rules(now);
            }
            self.todo.world |= self.openflow.is_waiting_for_controllers();
        }
        if now >= self.due.retry {
            self.due.retry = now + RETRY_MS;
            self.remotes.retry(&mut self.streams);
            self.openflow.retry(&mut self.streams);
            if self.world.ifaces().any(|(_, i)| i.error.is_some() || i.ofport.is_none()) {
                self.world.retry(&mut Host { datapath: &*self.datapath, links: &mut self.links });
                self.todo.world = true;
            }
        }
        if now >= self.due.statistics {
            self.due.statistics = now + self.wanted.stats_interval.as_millis() as u64;
            self.todo.statistics = true;
        }
        if self.native.is_active() && now >= self.due.resolve {
            self.due.resolve = now + RESOLVE_MS;
            self.native.resolve(&mut self.links, &self.pipeline, now);
        }
    }

    /// Ends connections whose remote or controller is no more. A dialler that was stopped does not tell its end.
    fn close_orphans(&mut self) {
        let orphan = |(service, endpoint): &(Service, EndpointId)| match service {
            Service::Ovsdb => !self.remotes.owns(*endpoint),
            Service::OpenFlow => !self.openflow.owns(*endpoint),
            Service::Unixctl(_) => false,
        };
        let orphans: Vec<ConnId> =
            self.talking.iter().filter(|(_, t)| orphan(t)).map(|(conn, _)| *conn).collect();
        for conn in orphans {
            self.on_closed(conn, "its remote was removed");
        }
    }

    /// A command changed something: it is published, and routes are looked at again.
    pub(crate) fn changed_by_hand(&mut self) {
        (self.todo.world, self.todo.routes) = (true, true);
    }

    fn expire_rules(&mut self, now: u64) {
        let snapshot = self.pipeline.snapshot();
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        if !snapshot.bridges().any(|b| due(b.tables.next_expiry())) {
            return;
        }
        // Traffic that is still in the caches counts as use.
        self.datapath.refresh();
        self.openflow.expire(&self.pipeline, now);
    }

    /// Does what follows from everything that was taken in since the last call: makes reality match, publishes once,
    /// answers, and tells the database.
    pub(crate) fn settle(&mut self) {
        self.read_changes();
        self.execute();
        self.todo.world |= self.openflow.take_port_changes();
        if self.todo.wishes {
            self.todo.wishes = false;
            self.make_match();
        }
        self.end_orphans();
        if !self.todo.devices.is_empty() {
            self.follow_devices();
        }
        if std::mem::take(&mut self.todo.routes) {
            self.follow_routes();
        }
        if std::mem::take(&mut self.todo.world) {
            self.publish();
            self.todo.report = true;
        }
        if self.todo.report || self.todo.statistics {
            self.write_back();
        }
        self.db.pump();
        self.openflow.tell_learned(&self.pipeline, now_ms());
        self.openflow.keep_journals(&self.world, &self.pipeline);
        self.openflow.flush(&*self.datapath, &self.pipeline);
    }

    /// Whether a controller that was just served is likely to say more at once.
    pub(crate) fn take_conversing(&mut self) -> bool {
        self.openflow.take_conversing()
    }

    /// Carries out what controllers asked.
    fn execute(&mut self) {
        self.openflow.execute(Target {
            pipeline: &self.pipeline,
            datapath: &*self.datapath,
            world: &mut self.world,
            links: &mut self.links,
            export: &self.export,
            now: now_ms(),
        });
    }

    /// Looks whether clients changed anything that asks for something.
    fn read_changes(&mut self) {
        for commit in self.db.take_changes().into_iter().filter(|commit| !commit.local) {
            self.todo.wishes |= asks_for_something(&commit);
            self.todo.commits = self.todo.commits.take().filter(|kept| kept.len() < COMMITS);
            self.todo.commits.iter_mut().for_each(|kept| kept.push(Arc::clone(&commit)));
        }
    }

    fn make_match(&mut self) {
        if self.db.database().only_row("Open_vSwitch").is_none() {
            self.db.edit(now_ms(), |edit| edit.insert("Open_vSwitch", &[]).map(drop));
        }
        let commits = self.todo.commits.replace(Vec::new());
        let changes = commits.and_then(|commits| self.wanted.follow(self.db.database(), &commits));
        let whole = changes.is_none();
        if whole {
            self.read_all();
        }
        self.world.apply(
            &self.wanted,
            changes,
            &mut Host { datapath: &*self.datapath, links: &mut self.links },
        );
        if whole {
            self.export.configure(self.world.bridges.values().map(|b| (b.id, &b.wanted.exports)));
        }
        self.openflow.reconcile(&self.world, &mut self.streams);
        self.todo.world = true;
        // Ports that the host's routes neither lead to nor lead change nothing about them.
        self.todo.routes |=
            self.world.take_touched(Role::Internal) | self.world.take_touched(Role::Tunnel) | whole;
    }

    /// Reads what the whole database asks for.
    fn read_all(&mut self) {
        let before = std::mem::replace(&mut self.wanted, Wanted::read(self.db.database()));
        for line in self.wanted.absent.difference(&before.absent) {
            tracing::warn!(target: "bridge", "{line}");
        }
        self.set_zone_timeouts(&before.datapath.zones);
        self.openflow.set_bundle_idle_timeout(self.wanted.bundle_idle_timeout);
        self.set_limits(before.datapath.limits);
        if self.world.restoring && !self.wanted.flow_restore_wait {
            self.world.restoring = false;
            self.world.touch_all();
        }
        self.tls.set(self.wanted.tls.clone());
        self.remotes.reconcile(&self.wanted, &mut self.streams);
    }

    /// Gives zones of connection tracking the timeouts that the database asks for.
    fn set_zone_timeouts(&self, before: &std::collections::BTreeMap<u16, crate::wanted::Timeouts>) {
        let zones = &self.wanted.datapath.zones;
        if zones == before {
            return;
        }
        self.datapath.conntrack().set_limits(|limits| {
            limits.policies.clear();
            for (zone, timeouts) in zones {
                let mut policy = limits.default_policy;
                for (name, seconds) in timeouts {
                    if let Err(e) = policy.set(name, *seconds) {
                        tracing::warn!("zone {zone}: {e}");
                    }
                }
                limits.policies.insert(*zone, policy);
            }
        });
    }

    /// Has the datapath cache flows, and read tags, as the database asks.
    fn set_limits(&mut self, before: Limits) {
        let limits = self.wanted.datapath.limits;
        if limits == before || limits == Limits::default() {
            return;
        }
        let mut tuning = self.datapath.tuning();
        if limits.flows != before.flows {
            tuning.flow_limit = limits.flows.unwrap_or(self.flow_limit);
        }
        (tuning.max_idle_ms, tuning.vlan_limit) = (limits.max_idle_ms, limits.vlans);
        self.datapath.tune(tuning);
    }

    /// Ends connections that came by endpoints that are no more.
    fn end_orphans(&mut self) {
        let closed = self.streams.take_closed();
        if closed.is_empty() {
            return;
        }
        let orphans = self.talking.iter().filter(|(_, (_, e))| closed.contains(e)).map(|(id, _)| *id);
        for conn in orphans.collect::<Vec<_>>() {
            self.on_closed(conn, "no longer configured");
        }
    }

    /// Publishes the world if that changes anything, and tells controllers of ports that changed.
    fn publish(&mut self) {
        self.openflow.note_controllers(&mut self.world);
        let (world, links, openflow) = (&self.world, &self.links, &mut self.openflow);
        let published = self.pipeline.update(|snapshot| {
            let changed = world.compile(snapshot, links);
            if openflow.apply_fail_modes(snapshot, world, now_ms()) || changed { Ok(()) } else { Err(()) }
        });
        if published.is_ok() {
            self.openflow.note_published();
        }
        self.openflow.tell_ports(&self.world);
        self.world.published();
        self.export.forget_ports();
        self.openflow.configure_tables(&self.world, &self.pipeline, now_ms());
    }

    /// One transaction with everything the database does not know yet.
    fn write_back(&mut self) {
        self.todo.report = false;
        let traffic = std::mem::take(&mut self.todo.statistics);
        if traffic {
            self.world.read_statistics(&*self.datapath);
        }
        let (world, wanted, links, facts) = (&mut self.world, &self.wanted, &self.links, &self.facts);
        let (remotes, streams, openflow) = (&self.remotes, &self.streams, &self.openflow);
        let now = now_ms();
        self.db.edit(now, |edit| {
            report(edit, world, wanted, links, facts, traffic)?;
            openflow.report(edit, streams, now, traffic)?;
            if traffic { remotes.report(edit, streams, now) } else { Ok(()) }
        });
    }

    /// Removes what is to go with the switch.
    pub(crate) fn finish(&mut self, exit: Exit) {
        self.export.finish();
        if exit == Exit::Cleanup {
            let mut host = Host { datapath: &*self.datapath, links: &mut self.links };
            self.world.apply(&Wanted::default(), None, &mut host);
        }
    }
}
