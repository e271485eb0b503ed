//! How is everything that controllers asked carried out together?

use std::sync::Arc;

use weft_datapath::Datapath;
use weft_openflow::ErrorCode;
use weft_openflow::msg::control::{Role, RoleMessage};
use weft_openflow::msg::handshake::{SwitchConfig, frag};
use weft_openflow::msg::notify::{RoleStatus, role_reason};
use weft_openflow::msg::port::PortMod;
use weft_openflow::session::{ReplyTo, Request};
use weft_openflow::stats::{StatsReply, StatsRequest};
use weft_openflow::{Message, Version};
use weft_pipeline::{BridgeConfig, FlowMod, FlowModOutcome, FragMode, Pipeline, Snapshot};

use super::changes::Done;
use super::dump::Dump;
use super::stats::Sources;
use super::{OpenFlow, conntrack, flows, groups, packets, ports, resume, stats, tables, tlv};
use crate::bridge::World;
use crate::export::Export;
use crate::net::Links;
use crate::stream::ConnId;

/// Requests from which on it is worth to look at them together first.
const BURST: usize = 8;
/// Most that are looked at.
const MOST: usize = 64;
/// Kinds of refused actions that are logged.
const MAX_REFUSALS: usize = 256;

/// What requests are carried out on.
pub(crate) struct Target<'a> {
    /// Decisions.
    pub pipeline: &'a Pipeline,
    /// Packets.
    pub datapath: &'a dyn Datapath,
    /// What there is.
    pub world: &'a mut World,
    /// The host's network.
    pub links: &'a mut Links,
    /// Exporters of samples.
    pub export: &'a Export,
    /// The time.
    pub now: u64,
}

/// Flow tables being changed: a copy of what is published, until something needs to be seen by packets. While there is
/// none, flow-mods change what is published.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) snapshot: Option<Snapshot>,
    /// Flow-mods changed what is published, and lanes were not told.
    in_place: bool,
    pub(super) done: Vec<Done>,
    /// The flow-mod at hand.
    change: Option<Box<FlowMod>>,
    /// Whether anybody is to be told of changes of this bridge's rules; known until something but rules is changed.
    pub(super) told: Option<(u32, bool)>,
}

impl Draft {
    /// The bridge with the changes so far.
    fn with_bridge<T>(
        &self,
        pipeline: &Pipeline,
        bridge: u32,
        look: impl FnOnce(&weft_pipeline::Bridge) -> T,
    ) -> Option<T> {
        match &self.snapshot {
            Some(snapshot) => snapshot.bridge(bridge).map(|b| look(b)),
            None => pipeline.with_bridge(bridge, look),
        }
    }

    fn apply(
        &mut self,
        bridge: u32,
        change: &weft_pipeline::FlowMod,
        target: &Target<'_>,
    ) -> Result<FlowModOutcome, ErrorCode> {
        if self.snapshot.is_none()
            && let Some(result) = target.pipeline.flow_mod(bridge, change, target.now)
        {
            self.in_place = true;
            return result.map_err(flows::error_code);
        }
        let tables = self.open(target.pipeline).tables_mut(bridge).ok_or(ErrorCode::OFPFMFC_EPERM)?;
        tables.apply(change, target.now).map_err(flows::error_code)
    }

    pub(super) fn open(&mut self, pipeline: &Pipeline) -> &mut Snapshot {
        self.snapshot.get_or_insert_with(|| Snapshot::clone(&pipeline.snapshot()))
    }

    /// What tables are like with the changes so far.
    fn view(&self, pipeline: &Pipeline) -> Arc<Snapshot> {
        self.snapshot.as_ref().map_or_else(|| pipeline.snapshot(), |s| Arc::new(s.clone()))
    }
}

impl OpenFlow {
    /// Carries out what was asked since the last call, in order. Flow-mods that follow each other are published
    /// together.
    pub(crate) fn execute(&mut self, mut target: Target<'_>) {
        self.warm(target.pipeline);
        let mut draft = Draft::default();
        let mut pending = std::mem::take(&mut self.pending);
        for (conn, to, request) in pending.drain(..) {
            let Some(connection) = self.connections.get_mut(&conn) else { continue };
            if connection.is_busy() {
                connection.waiting.push_back((to, request));
                continue;
            }
            let bridge = connection.bridge;
            if target.world.by_id(bridge).is_none() {
                continue;
            }
            if let Err(code) = self.one(conn, bridge, &to, request, &mut draft, &mut target)
                && let Some(connection) = self.connections.get_mut(&conn)
            {
                tracing::debug!("{}: request {:#x} refused: {code}", connection.conn.peer, to.xid);
                connection.session.refuse(&to, code);
            }
        }
        self.publish(&mut draft, &target);
        if self.pending.is_empty() && pending.capacity() <= 2 * MOST {
            self.pending = pending;
        }
    }

    /// Lets the flow tables know which rules will be asked for.
    fn warm(&self, pipeline: &Pipeline) {
        if self.pending.len() < BURST {
            return;
        }
        // Bursts come by one connection, and are of one table mostly.
        let Some((first, _, Request::FlowMod(like))) = self.pending.first() else { return };
        let Some(connection) = self.connections.get(first) else { return };
        let matches = self.pending.iter().filter_map(|(conn, _, request)| match request {
            Request::FlowMod(m) if conn == first && m.table == like.table => Some(&m.matching),
            _ => None,
        });
        pipeline.warm(connection.bridge, like.table.unwrap_or(0), matches.take(MOST));
    }

    pub(super) fn publish(&mut self, draft: &mut Draft, target: &Target<'_>) {
        if let Some(snapshot) = draft.snapshot.take() {
            target.pipeline.publish(snapshot);
            self.unsynced = true;
        }
        if std::mem::take(&mut draft.in_place) {
            target.pipeline.announce_flow_mods();
            self.unsynced = true;
        }
        for done in draft.done.drain(..) {
            self.tell(&done, target.pipeline, target.now);
        }
    }

    fn one(
        &mut self,
        conn: ConnId,
        bridge: u32,
        to: &ReplyTo,
        request: Request,
        draft: &mut Draft,
        target: &mut Target<'_>,
    ) -> Result<(), ErrorCode> {
        if !matches!(request, Request::FlowMod(_)) {
            draft.told = None;
        }
        match request {
            Request::FlowMod(m) => self.flow_mod((conn, to.xid), bridge, m, draft, target),
            Request::Echo(data) => {
                self.session(conn, |session| {
                    let _ = session.reply(to, &Message::EchoReply(data));
                });
                Ok(())
            }
            Request::Refused(code, action) => {
                if let Some(action) = action {
                    let name = target.world.by_id(bridge).map_or("", |b| b.name.as_str());
                    // Once for each: a controller may go on asking.
                    let line = format!("{name}: {action} is refused: {code}");
                    if self.refusals.len() < MAX_REFUSALS && self.refusals.insert(line.clone()) {
                        tracing::warn!("{line}");
                    }
                }
                Err(code)
            }
            Request::PacketOut(m) => {
                self.publish(draft, target);
                let version = self.version_of(conn)?;
                let live = target.world.by_id(bridge).ok_or(ErrorCode::OFPBRC_EPERM)?;
                let vlans = target.datapath.tuning().vlan_limit;
                let outgoing = target
                    .pipeline
                    .with_bridge(bridge, |tables| packets::prepare(m, version, live, tables, vlans))
                    .ok_or(ErrorCode::OFPBRC_EPERM)??;
                if let Some(outgoing) = outgoing {
                    let done = outgoing.send(bridge, None, target.pipeline, target.datapath, target.now);
                    self.spare.put_packet_out(done);
                    self.unsynced = true;
                }
                Ok(())
            }
            Request::PortMod(change) => self.port_mod(bridge, &change, target),
            Request::BundleCommit(commit) => {
                self.commit(conn, bridge, to, &commit, draft, target);
                Ok(())
            }
            Request::GroupMod(m) => {
                self.group_mod((conn, to.xid), bridge, &m, draft, target)?;
                self.forward(conn, bridge, to.xid, &Message::GroupMod(m));
                Ok(())
            }
            Request::MeterMod(m) => {
                meter_mod((conn, to.xid), bridge, &m, draft, target)?;
                self.forward(conn, bridge, to.xid, &Message::MeterMod(m));
                Ok(())
            }
            Request::TlvTableMod(m) => tlv_mod(bridge, &m, draft, target),
            Request::TlvTable => {
                let view = draft.view(target.pipeline);
                let table = view.bridge(bridge).ok_or(ErrorCode::OFPBRC_EPERM)?.tlv.clone();
                self.session(conn, |session| {
                    let _ = session.reply(to, &Message::TlvTableReply(tlv::reply(&table)));
                });
                Ok(())
            }
            Request::Resume(packet) => {
                self.publish(draft, target);
                let live = target.world.by_id(bridge).ok_or(ErrorCode::OFPBRC_EPERM)?;
                self.unsynced = true;
                resume::resume(&packet, live, target.pipeline, target.datapath, target.now)
            }
            Request::CtFlush(m) => {
                target.datapath.conntrack().flush(&conntrack::filter(&m));
                Ok(())
            }
            Request::Role(message) => self.role(conn, bridge, to, message),
            Request::TableMod(m) => {
                let version = self.version_of(conn)?;
                let snapshot = draft.open(target.pipeline);
                let tables = snapshot.tables_mut(bridge).ok_or(ErrorCode::OFPTMFC_EPERM)?;
                let outcome = tables::modify(tables, &m, version)?;
                draft.done.push(Done { bridge, outcome, by: Some((conn, to.xid)), message: None });
                Ok(())
            }
            Request::SetConfig(config) => {
                set_fragments(bridge, config, draft, target);
                Ok(())
            }
            Request::Barrier => {
                (self.barrier, self.conversing) = (true, true);
                self.session(conn, |session| session.reply_barrier(to));
                Ok(())
            }
            Request::GetConfig => {
                let mode = target.world.by_id(bridge).map(|live| live.fragments).unwrap_or_default();
                let flags = match mode {
                    FragMode::Normal => frag::NORMAL,
                    FragMode::Drop => frag::DROP,
                    FragMode::NxMatch => frag::NX_MATCH,
                };
                self.session(conn, |session| session.reply_config(to, flags));
                Ok(())
            }
            Request::Features => {
                let live = target.world.by_id(bridge).ok_or(ErrorCode::OFPBRC_EPERM)?;
                let reply = Message::FeaturesReply(stats::features(live));
                self.session(conn, |session| {
                    let _ = session.reply(to, &reply);
                });
                Ok(())
            }
            Request::Stats(StatsRequest::ControllerStatus) => {
                let list = self.controller_statuses(bridge);
                self.session(conn, |session| {
                    session.reply_stats(to, StatsReply::ControllerStatus(list), false);
                });
                Ok(())
            }
            Request::Stats(mut question) => {
                let version = self.version_of(conn)?;
                let state = self.bridges.get_mut(&bridge).ok_or(ErrorCode::OFPBRC_EPERM)?;
                let snapshot = draft.view(target.pipeline);
                if let StatsRequest::TableFeatures(list) = &mut question
                    && !list.is_empty()
                {
                    let flow = snapshot.bridge(bridge).ok_or(ErrorCode::OFPBRC_EPERM)?;
                    tables::rename(&mut state.table_names, &flow.tables, list, version)?;
                    list.clear();
                }
                let named = &state.table_names;
                let bridge = target.world.by_id(bridge).zip(snapshot.bridge(bridge));
                let (bridge, tables) = bridge.ok_or(ErrorCode::OFPBRC_EPERM)?;
                let sources = Sources {
                    bridge,
                    flow: tables,
                    links: target.links,
                    datapath: target.datapath,
                    export: target.export,
                    now: target.now,
                    named,
                };
                let connection = self.connections.get_mut(&conn).ok_or(ErrorCode::OFPBRC_EPERM)?;
                let dump = sources.answer(&mut connection.session, to, question)?;
                connection.dump = dump.map(|cursor| Dump { to: to.clone(), cursor });
                Ok(())
            }
        }
    }

    /// The version a connection speaks.
    pub(super) fn version_of(&self, conn: ConnId) -> Result<Version, ErrorCode> {
        let connection = self.connections.get(&conn).ok_or(ErrorCode::OFPBRC_EPERM)?;
        Ok(connection.session.version_or_oldest())
    }

    pub(super) fn session(
        &mut self,
        conn: ConnId,
        f: impl FnOnce(&mut weft_openflow::session::SwitchSession),
    ) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            f(&mut connection.session);
        }
    }

    /// Tells other controllers of a change of groups or meters.
    fn forward(&mut self, by: ConnId, bridge: u32, xid: u32, request: &Message) {
        for (id, connection) in self.connections.iter_mut() {
            if *id != by && connection.bridge == bridge {
                connection.session.forward_request(xid, request);
            }
        }
    }

    pub(super) fn flow_mod(
        &mut self,
        by: (ConnId, u32),
        bridge: u32,
        mut m: Box<weft_openflow::msg::flow::FlowMod>,
        draft: &mut Draft,
        target: &Target<'_>,
    ) -> Result<(), ErrorCode> {
        let version = self.version_of(by.0)?;
        let mut change = draft.change.take().unwrap_or_else(|| Box::new(flows::nothing()));
        let fits = draft.with_bridge(target.pipeline, bridge, |live| {
            flows::read(&mut change, &mut m, version, &live.tlv)?;
            flows::check_references(&change, live)
        });
        self.spare.put(m);
        let outcome = match fits.unwrap_or(Err(ErrorCode::OFPFMFC_EPERM)) {
            Ok(()) => draft.apply(bridge, &change, target),
            Err(code) => Err(code),
        };
        draft.change = Some(change);
        let outcome = outcome?;
        let told = match draft.told {
            Some((of, told)) if of == bridge => told,
            _ => self.is_watched(bridge),
        };
        draft.told = Some((bridge, told));
        if told || super::changes::is_notable(&outcome) {
            draft.done.push(Done { bridge, outcome, by: Some(by), message: None });
        }
        Ok(())
    }

    pub(super) fn group_mod(
        &mut self,
        by: (ConnId, u32),
        bridge: u32,
        m: &weft_openflow::msg::group::GroupMod,
        draft: &mut Draft,
        target: &Target<'_>,
    ) -> Result<(), ErrorCode> {
        let snapshot = draft.open(target.pipeline);
        let outcome =
            snapshot.group_mod(bridge, &groups::group_mod(m), target.now).map_err(groups::group_error)?;
        let message = Some(Box::new(Message::GroupMod(Box::new(m.clone()))));
        draft.done.push(Done { bridge, outcome, by: Some(by), message });
        Ok(())
    }

    pub(super) fn port_mod(
        &mut self,
        bridge: u32,
        change: &PortMod,
        target: &mut Target<'_>,
    ) -> Result<(), ErrorCode> {
        let live = target.world.by_id_mut(bridge).ok_or(ErrorCode::OFPPMFC_EPERM)?;
        let changed = ports::modify(live, change)?;
        self.ports_changed |= changed;
        // Whoever is behind a device of ours is to see that its link is down.
        if let Some(iface) = live.by_ofport(change.port_no).filter(|i| changed && i.is_ours()) {
            let up = !iface.flags.down;
            if let Err(e) = target.links.netlink().set_up(iface.state.ifindex, up) {
                tracing::warn!(
                    "{}: set the device {}: {e}",
                    iface.wanted.name,
                    if up { "up" } else { "down" }
                );
            }
        }
        Ok(())
    }

    /// Elects (OpenFlow 1.5.1 §6.3.6): a new primary makes the one before it secondary.
    fn role(
        &mut self,
        conn: ConnId,
        bridge: u32,
        to: &ReplyTo,
        message: RoleMessage,
    ) -> Result<(), ErrorCode> {
        let state = self.bridges.get_mut(&bridge).ok_or(ErrorCode::OFPRRFC_UNSUP)?;
        if let (Role::Primary | Role::Secondary, Some(new)) = (message.role, message.generation_id) {
            let stale = |old: u64| (new.wrapping_sub(old) as i64) < 0;
            if state.generation.is_some_and(stale) {
                return Err(ErrorCode::OFPRRFC_STALE);
            }
            state.generation = Some(new);
        }
        let generation = state.generation.unwrap_or(u64::MAX);
        for (id, connection) in self.connections.iter_mut().filter(|(_, c)| c.bridge == bridge) {
            if *id == conn {
                connection.session.set_role(message.role);
            } else if message.role == Role::Primary && connection.session.role() == Role::Primary {
                connection.session.role_status(RoleStatus {
                    role: Role::Secondary,
                    reason: role_reason::PRIMARY_REQUEST,
                    generation_id: generation,
                });
                connection.session.set_role(Role::Secondary);
            }
        }
        self.controllers_changed = true;
        self.session(conn, |session| session.reply_role(to, generation));
        Ok(())
    }
}

/// Has fragments treated as a controller says, cached flows included.
fn set_fragments(bridge: u32, config: SwitchConfig, draft: &mut Draft, target: &mut Target<'_>) {
    let mode = match config.flags & frag::MASK {
        frag::NORMAL => FragMode::Normal,
        frag::DROP => FragMode::Drop,
        frag::NX_MATCH => FragMode::NxMatch,
        // Fragments are not put together for flow tables: that mode is not taken.
        _ => return,
    };
    let Some(live) = target.world.by_id_mut(bridge).filter(|live| live.fragments != mode) else { return };
    live.fragments = mode;
    let snapshot = draft.open(target.pipeline);
    if let Some(old) = snapshot.bridge(bridge).map(|b| Arc::clone(&b.config)) {
        snapshot.set_bridge(BridgeConfig { fragments: mode, ..BridgeConfig::clone(&old) });
    }
}

fn meter_mod(
    by: (ConnId, u32),
    bridge: u32,
    m: &weft_openflow::msg::meter::MeterMod,
    draft: &mut Draft,
    target: &Target<'_>,
) -> Result<(), ErrorCode> {
    let change = groups::meter_mod(m)?;
    let snapshot = draft.open(target.pipeline);
    let outcome = snapshot.meter_mod(bridge, &change, target.now).map_err(groups::meter_error)?;
    let message = Some(Box::new(Message::MeterMod(Box::new(m.clone()))));
    draft.done.push(Done { bridge, outcome, by: Some(by), message });
    Ok(())
}

fn tlv_mod(
    bridge: u32,
    m: &weft_openflow::msg::tlv::TlvTableMod,
    draft: &mut Draft,
    target: &Target<'_>,
) -> Result<(), ErrorCode> {
    let snapshot = draft.open(target.pipeline);
    let old = snapshot.bridge(bridge).ok_or(ErrorCode::OFPBRC_EPERM)?.tlv.clone();
    let table = tlv::change(&old, m)?;
    snapshot.set_tlv_table(bridge, table);
    let message = Some(Box::new(Message::TlvTableMod(m.clone())));
    draft.done.push(Done { bridge, outcome: FlowModOutcome::default(), by: None, message });
    Ok(())
}
