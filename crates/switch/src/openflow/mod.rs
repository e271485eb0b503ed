//! What do controllers ask of bridges, and what are they told?
//!
//! Bytes go through a [`SwitchSession`] per connection; its requests wait until [`OpenFlow::execute`], which carries out
//! everything that was read together with one publication of the flow tables. What sessions have to say leaves in
//! [`OpenFlow::flush`], after the datapath has taken in all that a barrier promises.

mod bundles;
mod changes;
mod connection;
mod conntrack;
mod controllers;
mod dump;
mod endpoints;
mod execute;
mod fail_mode;
mod flows;
mod groups;
mod journal;
pub(crate) mod packet_ins;
mod packets;
mod persist;
mod ports;
mod queues;
mod resume;
mod stats;
mod tables;
mod tlv;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weft_datapath::Datapath;
use weft_openflow::msg::control::Role;
use weft_openflow::session::{
    BundleBudget, ConnectionKind, Event, Options, ReplyTo, Request, Spare, SwitchSession,
};
use weft_openflow::{Version, VersionSet};
use weft_ovsdb::{Datum, Edit, Result};
use weft_pipeline::Pipeline;

use crate::bridge::put;
use crate::remotes::report_status;
use crate::stream::{Conn, ConnId, DialState, EndpointId, Streams};
use connection::{Connection, Pumped};
use endpoints::Endpoints;
use ports::KnownPorts;

pub(crate) use execute::Target;
pub(crate) use queues::counted as queue_counts;

/// Silence after which a controller is probed, unless configured.
const DEFAULT_PROBE: Duration = Duration::from_secs(5);

/// Every OpenFlow connection of the switch.
pub(crate) struct OpenFlow {
    rundir: PathBuf,
    /// Where journals of flows are.
    journals: PathBuf,
    bridges: BTreeMap<u32, Bridge>,
    connections: BTreeMap<ConnId, Connection>,
    /// Messages that are done with.
    spare: Spare,
    pending: Vec<(ConnId, ReplyTo, Request)>,
    /// Something was published, or a packet is on its way, that the datapath has not been waited for.
    unsynced: bool,
    /// A barrier waits for the datapath.
    barrier: bool,
    /// A barrier was asked for: more may follow its answer at once.
    conversing: bool,
    ports_changed: bool,
    /// A controller came, went, or has another role: others may want to hear of it.
    controllers_changed: bool,
    /// What was logged of actions that are not taken.
    refusals: BTreeSet<String>,
    /// Packet-ins of connections that are over that were dropped.
    dropped_before: u64,
    /// What bundles of all connections may hold.
    bundles: Arc<BundleBudget>,
}

/// The OpenFlow side of a bridge.
struct Bridge {
    name: String,
    endpoints: Endpoints,
    versions: VersionSet,
    /// Ports as controllers were told of them.
    known: KnownPorts,
    /// Controllers as others were told of them.
    known_controllers: controllers::KnownControllers,
    /// Names that controllers gave to flow tables.
    table_names: BTreeMap<u8, String>,
    generation: Option<u64>,
    fail_mode: fail_mode::State,
    /// Where its flows are kept, if they are.
    journal: Option<journal::Journal>,
}

impl OpenFlow {
    /// No bridges yet.
    pub(crate) fn new(rundir: PathBuf, journals: PathBuf) -> OpenFlow {
        OpenFlow {
            rundir,
            journals,
            bridges: BTreeMap::new(),
            connections: BTreeMap::new(),
            spare: Spare::default(),
            pending: Vec::new(),
            unsynced: false,
            barrier: false,
            conversing: false,
            ports_changed: false,
            controllers_changed: false,
            refusals: BTreeSet::new(),
            dropped_before: 0,
            bundles: Arc::default(),
        }
    }

    /// Sets how long a bundle may stand idle, in seconds (`other_config:bundle-idle-timeout`); 0 or nothing: 10.
    pub(crate) fn set_bundle_idle_timeout(&self, seconds: Option<u64>) {
        let ms = seconds.filter(|s| *s != 0).map(|s| s.saturating_mul(1000));
        self.bundles.set_idle_ms(ms);
    }

    /// Whether an endpoint is one of a bridge's.
    pub(crate) fn owns(&self, endpoint: EndpointId) -> bool {
        self.bridges.values().any(|b| b.endpoints.contains(endpoint))
    }

    /// A peer came.
    pub(crate) fn on_opened(&mut self, endpoint: EndpointId, conn: Conn, now: u64) {
        let Some((id, bridge)) = self.bridges.iter_mut().find(|(_, b)| b.endpoints.contains(endpoint)) else {
            return;
        };
        if bridge.endpoints.is_snoop(endpoint) {
            // Onlookers agree on a version like everybody, then see messages of whatever version.
            let hello = SwitchSession::new(Options::default(), now);
            if conn.send(hello.output().to_vec()).is_ok() {
                bridge.endpoints.snoopers.push(conn);
            }
            return;
        }
        let controller = bridge.endpoints.controller_mut(endpoint);
        let bundles = self.bundles.clone();
        let mut options = Options { versions: bridge.versions, bundles, ..Options::default() };
        let (mut primary, mut limits) = (false, None);
        if let Some(controller) = controller {
            controller.status.opened(now);
            (primary, limits) = (!controller.wanted.service, controller.wanted.limits);
            if controller.wanted.async_messages {
                options.kind = ConnectionKind::Controller;
            }
            let probe = controller.wanted.probe.unwrap_or(DEFAULT_PROBE);
            options.probe_interval_ms = probe.as_millis() as u64;
        }
        let session = SwitchSession::new(options, now);
        let mut connection = Connection::new(conn, session, *id, endpoint, now);
        (connection.primary, connection.snooped) = (primary, primary);
        connection.packet_ins.limit(limits, now);
        self.connections.insert(connection.conn.id, connection);
    }

    /// A peer sent bytes.
    pub(crate) fn on_data(&mut self, conn: ConnId, bytes: &[u8], now: u64) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        for event in connection.session.receive_with(bytes, now, &mut self.spare) {
            match event {
                Event::Connected(version) => {
                    tracing::debug!("{}: {}", connection.conn.peer, version.name());
                    self.ports_changed |= connection.primary;
                    self.controllers_changed = true;
                }
                Event::Request(to, request) if connection.is_busy() => {
                    connection.waiting.push_back((to, request));
                }
                Event::Request(to, request) => self.pending.push((conn, to, request)),
                Event::Error(error) => tracing::info!("{}: sent error {error:?}", connection.conn.peer),
            }
        }
        if connection.snooped
            && let Some(bridge) = self.bridges.get_mut(&connection.bridge)
        {
            bridge.endpoints.snoop(bytes);
        }
    }

    /// A peer went.
    pub(crate) fn on_closed(&mut self, conn: ConnId, why: &str, now: u64) {
        match self.connections.remove(&conn) {
            Some(connection) => {
                self.ports_changed |= connection.primary;
                self.controllers_changed = true;
                self.dropped_before += connection.packet_ins.dropped();
                let Some(bridge) = self.bridges.get_mut(&connection.bridge) else { return };
                if let Some(controller) = bridge.endpoints.controller_mut(connection.endpoint) {
                    tracing::info!("{}: {}: {why}", bridge.name, connection.conn.peer);
                    controller.status.closed(now);
                }
            }
            None => {
                for bridge in self.bridges.values_mut() {
                    bridge.endpoints.snoopers.retain(|s| s.id != conn);
                }
            }
        }
    }

    /// A dialler's state changed.
    pub(crate) fn on_dial(&mut self, endpoint: EndpointId, state: DialState, error: Option<String>) {
        for bridge in self.bridges.values_mut() {
            if let Some(controller) = bridge.endpoints.controller_mut(endpoint) {
                controller.status.dial(state, error);
                return;
            }
        }
    }

    /// Lets time pass: silent peers are probed, and those that do not read or say hello given up.
    pub(crate) fn on_tick(&mut self, now: u64) {
        let mut ended = Vec::new();
        for (id, connection) in &mut self.connections {
            connection.session.tick(now);
            ended.extend(connection.give_up(now).map(|why| (*id, why)));
        }
        for (id, why) in ended {
            self.on_closed(id, why, now);
        }
    }

    /// Sends packets whose turn has come.
    pub(crate) fn on_time(&mut self, now: u64) {
        for connection in self.connections.values_mut().filter(|c| c.packet_ins.is_limited()) {
            while let Some(waiting) = connection.packet_ins.next(now) {
                connection.send_packet_in(waiting, &mut self.spare);
            }
        }
    }

    /// When [`OpenFlow::on_time`] has something to do.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.connections.values().filter_map(|c| c.packet_ins.deadline()).min()
    }

    /// Whether requests wait that can be carried out now.
    pub(crate) fn has_work(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Packets that controllers were too slow for, or that exceeded their limits.
    pub(crate) fn dropped_packet_ins(&self) -> u64 {
        self.dropped_before + self.connections.values().map(|c| c.packet_ins.dropped()).sum::<u64>()
    }

    /// Whether bridges have to be compiled anew because a controller came or went, or changed a port.
    pub(crate) fn take_port_changes(&mut self) -> bool {
        std::mem::take(&mut self.ports_changed)
    }

    /// Whether a controller asked for a barrier since the last call.
    pub(crate) fn take_conversing(&mut self) -> bool {
        std::mem::take(&mut self.conversing)
    }

    /// Something was published: barriers have to wait for the datapath.
    pub(crate) fn note_published(&mut self) {
        self.unsynced = true;
    }

    /// Drops the controllers' connections of one bridge or all; diallers connect again.
    pub(crate) fn reconnect(&mut self, bridge: Option<u32>) {
        self.connections.retain(|_, c| !(c.primary && bridge.is_none_or(|b| b == c.bridge)));
    }

    /// Sends what sessions have to say. Before a barrier's answer leaves, the datapath has taken in what it promises.
    pub(crate) fn flush(&mut self, datapath: &dyn Datapath, pipeline: &Pipeline) {
        self.resume_monitors(pipeline, crate::clock::now_ms());
        self.write_journals();
        self.tell_controllers();
        if std::mem::take(&mut self.barrier) && std::mem::take(&mut self.unsynced) {
            datapath.sync();
        }
        let mut ended = Vec::new();
        for (id, connection) in &mut self.connections {
            let mut onlookers =
                connection.snooped.then(|| self.bridges.get_mut(&connection.bridge)).flatten();
            let pumped = connection.pump(|bytes| {
                if let Some(bridge) = &mut onlookers {
                    bridge.endpoints.snoop(bytes);
                }
            });
            if pumped == Pumped::Resumed {
                self.pending.extend(connection.waiting.drain(..).map(|(to, request)| (*id, to, request)));
            }
            if let Some(why) = connection.session.closed().filter(|_| connection.session.output().is_empty())
            {
                tracing::debug!("{}: {why}", connection.conn.peer);
                ended.push(*id);
            } else if pumped == Pumped::Overflow {
                tracing::warn!("{}: the peer does not read what it is sent", connection.conn.peer);
                ended.push(*id);
            }
        }
        for id in ended {
            self.on_closed(id, "closed by the switch", crate::clock::now_ms());
        }
    }

    /// Writes the state of controllers to their rows.
    pub(crate) fn report(
        &self,
        edit: &mut Edit<'_, '_>,
        streams: &Streams,
        now: u64,
        statistics: bool,
    ) -> Result<()> {
        for (id, bridge) in &self.bridges {
            for controller in bridge.endpoints.controllers() {
                let row = controller.wanted.uuid;
                let connected = self
                    .connections
                    .values()
                    .find(|c| c.bridge == *id && Some(c.endpoint) == controller.endpoint);
                let role = connected.map(|c| match c.session.role() {
                    Role::Equal | Role::NoChange => "other",
                    Role::Primary => "master",
                    Role::Secondary => "slave",
                });
                put(edit, "Controller", row, "role", role.map_or_else(Datum::empty, Datum::scalar))?;
                if statistics {
                    let port = controller.endpoint.and_then(|e| streams.address(e)).map(|a| a.port());
                    let limited = connected.and_then(|c| c.packet_ins.counts());
                    report_status(edit, "Controller", row, &controller.status, now, port, limited)?;
                } else {
                    let connected = Datum::scalar(controller.status.connections > 0);
                    put(edit, "Controller", row, "is_connected", connected)?;
                }
            }
        }
        Ok(())
    }

    /// Sessions of a bridge.
    fn sessions_of(&mut self, bridge: u32) -> impl Iterator<Item = &mut SwitchSession> {
        self.connections.values_mut().filter(move |c| c.bridge == bridge).map(|c| &mut c.session)
    }

    /// Versions that primary controllers of a bridge speak on connections that are up.
    fn controllers_of(&self, bridge: u32) -> BTreeSet<Version> {
        let ours = self.connections.values().filter(|c| c.bridge == bridge && c.primary);
        ours.filter_map(|c| c.session.version()).collect()
    }
}
