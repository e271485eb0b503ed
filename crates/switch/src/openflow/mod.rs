//! What do controllers ask of bridges, and what are they told?
//!
//! Bytes go through a [`SwitchSession`] per connection; its requests wait until [`OpenFlow::execute`], which carries out
//! everything that was read together with one publication of the flow tables. What sessions have to say leaves in
//! [`OpenFlow::flush`], after the datapath has taken in all that a barrier promises.

mod conntrack;
mod endpoints;
mod execute;
mod fail_mode;
mod flows;
mod groups;
mod packets;
mod ports;
mod resume;
mod stats;
mod tables;
mod tlv;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use weft_datapath::Datapath;
use weft_openflow::msg::control::Role;
use weft_openflow::session::{ConnectionKind, Event, Options, ReplyTo, Request, SwitchSession};
use weft_openflow::{Version, VersionSet};
use weft_ovsdb::{Datum, Edit, Result};

use crate::bridge::put;
use crate::remotes::report_status;
use crate::stream::{Conn, ConnId, DialState, EndpointId, Streams};
use endpoints::Endpoints;
use ports::KnownPorts;

pub(crate) use execute::Target;

/// Silence after which a controller is probed, unless configured.
const DEFAULT_PROBE: Duration = Duration::from_secs(5);

/// Every OpenFlow connection of the switch.
pub(crate) struct OpenFlow {
    rundir: PathBuf,
    bridges: BTreeMap<u32, Bridge>,
    connections: HashMap<ConnId, Connection>,
    pending: Vec<(ConnId, ReplyTo, Request)>,
    /// Something was published that the datapath has not been waited for.
    unsynced: bool,
    /// A barrier waits for the datapath.
    barrier: bool,
    ports_changed: bool,
}

/// The OpenFlow side of a bridge.
struct Bridge {
    name: String,
    endpoints: Endpoints,
    versions: VersionSet,
    /// Ports as controllers were told of them.
    known: KnownPorts,
    /// How fragments are treated, as controllers set it.
    config_flags: u16,
    generation: Option<u64>,
    fail_mode: fail_mode::State,
}

/// A connection.
struct Connection {
    conn: Conn,
    session: SwitchSession,
    bridge: u32,
    endpoint: EndpointId,
    /// Whether it is a controller of the Controller table with a part in the fail mode.
    primary: bool,
    /// Copies of messages go here too.
    snooped: bool,
}

impl OpenFlow {
    /// No bridges yet.
    pub(crate) fn new(rundir: PathBuf) -> OpenFlow {
        OpenFlow {
            rundir,
            bridges: BTreeMap::new(),
            connections: HashMap::new(),
            pending: Vec::new(),
            unsynced: false,
            barrier: false,
            ports_changed: false,
        }
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
        let mut options = Options { versions: bridge.versions, ..Options::default() };
        let mut primary = false;
        if let Some(controller) = controller {
            controller.status.opened(now);
            primary = !controller.wanted.service;
            if controller.wanted.async_messages {
                options.kind = ConnectionKind::Controller;
            }
            let probe = controller.wanted.probe.unwrap_or(DEFAULT_PROBE);
            options.probe_interval_ms = probe.as_millis() as u64;
        }
        let session = SwitchSession::new(options, now);
        let connection = Connection { session, bridge: *id, endpoint, primary, snooped: primary, conn };
        self.connections.insert(connection.conn.id, connection);
    }

    /// A peer sent bytes.
    pub(crate) fn on_data(&mut self, conn: ConnId, bytes: &[u8], now: u64) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        for event in connection.session.receive(bytes, now) {
            match event {
                Event::Connected(version) => {
                    tracing::debug!("{}: {}", connection.conn.peer, version.name());
                    self.ports_changed |= connection.primary;
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

    /// Lets time pass: silent peers are probed and given up.
    pub(crate) fn on_tick(&mut self, now: u64) {
        for connection in self.connections.values_mut() {
            connection.session.tick(now);
        }
    }

    /// Whether bridges have to be compiled anew because a controller came or went, or changed a port.
    pub(crate) fn take_port_changes(&mut self) -> bool {
        std::mem::take(&mut self.ports_changed)
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
    pub(crate) fn flush(&mut self, datapath: &dyn Datapath) {
        if std::mem::take(&mut self.barrier) && std::mem::take(&mut self.unsynced) {
            datapath.sync();
        }
        let mut ended = Vec::new();
        for (id, connection) in &mut self.connections {
            let output = connection.session.output();
            if !output.is_empty() {
                let bytes = output.to_vec();
                connection.session.consume(bytes.len());
                if connection.snooped
                    && let Some(bridge) = self.bridges.get_mut(&connection.bridge)
                {
                    bridge.endpoints.snoop(&bytes);
                }
                if let Err(e) = connection.conn.send(bytes) {
                    tracing::warn!("{}: {e}", connection.conn.peer);
                    ended.push(*id);
                }
            }
            if let Some(why) = connection.session.closed() {
                tracing::debug!("{}: {why}", connection.conn.peer);
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
                    report_status(edit, "Controller", row, &controller.status, now, port)?;
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
