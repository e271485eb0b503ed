//! How do lanes and the switch share decisions? One object: the published snapshot, the MAC tables, and who is told.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use weft_flow::{Action, DepTags, FdbRef, FlowKey, Match, OfPort, Opaque, Verdict};
use weft_wire::Mac;

use crate::changes::{ChangeHub, Changed, Changes};
use crate::effect::Effect;
use crate::fdb::{Fdb, FdbEntry, FdbStats};
use crate::frozen::{Frozen, FrozenTable};
use crate::retrace;
use crate::snapshot::{Bridge, Snapshot};
use crate::table::{FlowMod, FlowModError, FlowModOutcome};
use crate::trace::Trace;
use crate::tunnel;
use crate::walk::{self, Mode, Outcome, View};

/// Neighbours that may wait for being asked for at once.
const MAX_RESOLVES: usize = 1024;
/// Effects that are remembered for snapshots being made.
const MAX_DONE: usize = 4096;
/// Changes of flow tables that may wait for being asked for.
const MAX_LEARNED: usize = 65_536;

/// A neighbour that a packet needs: to be asked for by ARP or ND on the bridge's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolve {
    /// Bridge.
    pub bridge: u32,
    /// Its internal port from which to ask.
    pub port: OfPort,
    /// Whom to ask for.
    pub addr: IpAddr,
    /// Address to ask from.
    pub src: IpAddr,
}

/// A packet that a controller or the switch sends through a bridge.
#[derive(Clone, Copy, Debug)]
pub struct PacketOut<'a> {
    /// Bridge.
    pub bridge: u32,
    /// Port that the packet pretends to come from; reserved ports and [`OfPort::ANY`] stand for none.
    pub in_port: OfPort,
    /// What to do. `Output` to [`OfPort::TABLE`] walks the flow tables.
    pub actions: &'a [Action],
}

/// Where a traced packet comes from.
#[derive(Clone, Copy, Debug)]
pub enum TraceFrom<'a> {
    /// From `key.packet.in_port`.
    DpPort,
    /// From a port of a bridge.
    Port(u32, OfPort),
    /// From a controller.
    PacketOut(PacketOut<'a>),
}

/// Decides about packets. Shared by all lanes and the switch.
#[derive(Debug, Default)]
pub struct Pipeline {
    /// Locked while a walk reads it; for writing only as long as one flow-mod takes, or a pointer.
    snapshot: RwLock<Arc<Snapshot>>,
    /// Held by whoever makes the next snapshot.
    writer: Mutex<()>,
    hub: ChangeHub,
    resolves: Mutex<BTreeSet<Resolve>>,
    frozen: FrozenTable,
    /// What packets did to flow tables, for whoever watches them.
    learned: Mutex<Vec<(u32, FlowModOutcome)>>,
    /// The latest of what they did, with the snapshot that has it and when.
    done: Mutex<VecDeque<(u64, Arc<Effect>, u64)>>,
}

impl Pipeline {
    /// A pipeline without bridges.
    pub fn new() -> Pipeline {
        Pipeline::default()
    }

    /// What is published.
    ///
    /// Whoever keeps it makes flow-mods copy what they change.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().clone()
    }

    /// Shows a bridge as it is published; `None`: there is none. Walks wait for nothing, flow-mods for `look`.
    pub fn with_bridge<T>(&self, bridge: u32, look: impl FnOnce(&Bridge) -> T) -> Option<T> {
        self.snapshot.read().bridge(bridge).map(|b| look(b))
    }

    /// Publishes a snapshot. When it was copied from what is published and only its flow tables were changed since,
    /// cached flows that the changed rules may concern are walked again; otherwise all are. What packets learned since
    /// the copy was made is learned again.
    pub fn publish(&self, snapshot: Snapshot) {
        let _writer = self.writer.lock();
        self.publish_next(snapshot);
    }

    /// [`Pipeline::publish`], by who holds the lock.
    fn publish_next(&self, mut snapshot: Snapshot) {
        let old = self.snapshot();
        let base = snapshot.version();
        if base != old.version() {
            for (_, effect, now_ms) in self.done.lock().iter().filter(|(version, ..)| *version > base) {
                effect.apply(&mut snapshot, *now_ms);
            }
        }
        let tags = snapshot.succeed(&old);
        let snapshot = Arc::new(snapshot);
        *self.snapshot.write() = Arc::clone(&snapshot);
        // Nobody learns by the old picture any more.
        for bridge in snapshot.bridges() {
            let Some(before) = old.bridge(bridge.config.id) else { continue };
            if Arc::ptr_eq(&before.config, &bridge.config) {
                continue;
            }
            for (gone, _) in bridge.config.ports.differences(&before.config.ports).filter(|d| d.1.is_none()) {
                // All cached flows are walked again anyway.
                gone.into_iter().for_each(|port| _ = bridge.fdb.forget_port(port.ofport));
            }
        }
        match tags {
            Some(tags) => self.announce(tags),
            None => self.hub.announce(Changed { tables: true, tags: DepTags::default() }),
        }
    }

    /// Changes a copy of what is published and publishes it: one call for a batch of flow-mods. What `change` returns
    /// is returned; nothing is published when that is an error.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn update<T, E>(&self, change: impl FnOnce(&mut Snapshot) -> Result<T, E>) -> Result<T, E> {
        let _writer = self.writer.lock();
        let mut snapshot = Snapshot::clone(&self.snapshot());
        let result = change(&mut snapshot)?;
        self.publish_next(snapshot);
        Ok(result)
    }

    /// Executes a flow-mod on what is published, in place: walks see it at once, and nothing is copied that nobody else
    /// holds. Cached flows learn of it by [`Pipeline::announce_flow_mods`], to be called after the last of a burst.
    /// `None`: it may take long, or there is no such bridge; nothing was done, and it is for [`Pipeline::update`].
    ///
    /// A snapshot that was copied before must not be published after.
    pub fn flow_mod(
        &self,
        bridge: u32,
        flow_mod: &FlowMod,
        now_ms: u64,
    ) -> Option<Result<FlowModOutcome, FlowModError>> {
        let _writer = self.writer.lock();
        let mut published = self.snapshot.write();
        if !published.bridge(bridge)?.tables.is_quick(flow_mod) {
            return None;
        }
        let tables = Arc::make_mut(&mut published).tables_in_place(bridge)?;
        Some(tables.apply(flow_mod, now_ms))
    }

    /// Reads what flow-mods of a table with these matches will read, together: to be called before a burst of them.
    /// Changes nothing.
    pub fn warm<'a>(&self, bridge: u32, table: u8, matches: impl Iterator<Item = &'a Match>) {
        self.with_bridge(bridge, |bridge| {
            if let Some(table) = bridge.tables.table(table) {
                table.classifier.warm(matches);
            }
        });
    }

    /// Tells lanes of the flow-mods since the last call.
    pub fn announce_flow_mods(&self) {
        let _writer = self.writer.lock();
        let tags = Arc::make_mut(&mut self.snapshot.write()).take_changed();
        self.announce(tags);
    }

    /// Learns (`Some`) or forgets the link-layer address of an underlay neighbour. Only flows that rest on it are
    /// walked again.
    pub fn set_neighbour(&self, bridge: u32, addr: IpAddr, mac: Option<Mac>) {
        let _writer = self.writer.lock();
        let old = self.snapshot();
        if old.underlay().neighbour(bridge, addr) == mac {
            return;
        }
        let mut snapshot = Snapshot::clone(&old);
        snapshot.underlay_mut().set_neighbour(bridge, addr, mac);
        *self.snapshot.write() = Arc::new(snapshot);
        self.announce(DepTags::of(tunnel::neighbour_tag(bridge, addr)));
    }

    /// A cursor over what changes from now on, one for each lane.
    pub fn subscribe(&self) -> Changes {
        self.hub.subscribe()
    }

    fn announce(&self, tags: DepTags) {
        if tags != DepTags::default() {
            self.hub.announce(Changed { tables: false, tags });
        }
    }

    fn view<'a>(&'a self, snapshot: &'a Snapshot) -> View<'a> {
        View { snapshot, frozen: &self.frozen }
    }

    /// Decides about a packet that was received: `key` holds its headers, datapath port and outer header; or about one
    /// that resumes the walk that `key.packet.recirc_id` names. MAC addresses and rules are learned, and missing
    /// neighbours noted for [`Pipeline::take_resolves`]. Statistics are for the caller to credit, to the rules and
    /// counters of the verdict.
    pub fn walk(&self, key: &FlowKey, now_ms: u64) -> Verdict {
        let outcome = walk::received(&self.view(&self.snapshot.read()), key, now_ms, Mode::Learn);
        self.settle(outcome, now_ms)
    }

    /// The verdict on a cached flow as of now, without learning. Where a packet would be learned from,
    /// [`Verdict::cacheable`] is false: the flow is to be removed, so that its next packet walks.
    pub fn revalidate(&self, key: &FlowKey, now_ms: u64) -> Verdict {
        let snapshot = self.snapshot.read();
        let Outcome { mut verdict, effects, .. } =
            walk::received(&self.view(&snapshot), key, now_ms, Mode::DryRun);
        // Kept, the flow would let packets pass before the tables are changed as they ask.
        verdict.cacheable &= !effects.iter().any(|effect| effect.would_change(&snapshot));
        verdict
    }

    /// The verdict on a packet, without learning, and how it came about.
    pub fn trace(&self, key: &FlowKey, now_ms: u64) -> (Verdict, Trace) {
        self.trace_through(TraceFrom::DpPort, key, &[], now_ms)
    }

    /// [`Pipeline::trace`] of a packet that comes in by a port of a bridge, a patch port perhaps, whatever
    /// `key.packet.in_port` says.
    pub fn trace_on(&self, bridge: u32, port: OfPort, key: &FlowKey, now_ms: u64) -> (Verdict, Trace) {
        self.trace_through(TraceFrom::Port(bridge, port), key, &[], now_ms)
    }

    /// The verdict on a packet-out, without learning, and how it came about.
    pub fn trace_packet_out(&self, out: &PacketOut<'_>, key: &FlowKey, now_ms: u64) -> (Verdict, Trace) {
        self.trace_through(TraceFrom::PacketOut(*out), key, &[], now_ms)
    }

    /// The verdict on a packet, without learning, and how it came about, through connection tracking: copies that are
    /// looked up again have these states (`ct_state`) in turn, or start a connection when there are no more.
    pub fn trace_through(
        &self,
        from: TraceFrom<'_>,
        key: &FlowKey,
        ct_next: &[u16],
        now_ms: u64,
    ) -> (Verdict, Trace) {
        let (outcomes, trace) = self.traced(from, key, ct_next, Mode::Trace, now_ms);
        (outcomes.0.verdict, trace)
    }

    /// [`Pipeline::trace_through`] of a packet that is really there, but does not leave: what it teaches is learned.
    pub fn trace_and_learn(
        &self,
        from: TraceFrom<'_>,
        key: &FlowKey,
        ct_next: &[u16],
        now_ms: u64,
    ) -> (Verdict, Trace) {
        let ((first, later), trace) = self.traced(from, key, ct_next, Mode::TraceAndLearn, now_ms);
        let verdict = self.settle(first, now_ms);
        later.into_iter().for_each(|outcome| drop(self.settle(outcome, now_ms)));
        (verdict, trace)
    }

    /// Walks and resumed walks of a traced packet.
    fn traced(
        &self,
        from: TraceFrom<'_>,
        key: &FlowKey,
        ct_next: &[u16],
        mode: Mode,
        now_ms: u64,
    ) -> ((Outcome, Vec<Outcome>), Trace) {
        let snapshot = self.snapshot();
        let view = self.view(&snapshot);
        let mut outcome = match from {
            TraceFrom::DpPort => walk::received(&view, key, now_ms, mode),
            TraceFrom::Port(bridge, port) => {
                walk::received_on(&view, Some((bridge, port)), key, now_ms, mode)
            }
            TraceFrom::PacketOut(out) => walk::packet_out(&view, &out, key, now_ms, mode),
        };
        let mut trace = outcome.trace.take().unwrap_or_default();
        let later = retrace::follow(&view, &mut trace, ct_next, mode, now_ms);
        ((outcome, later), trace)
    }

    /// What to do with a packet-out. `key` holds the packet's headers; its `in_port` is set here.
    pub fn packet_out(&self, out: &PacketOut<'_>, key: &FlowKey, now_ms: u64) -> Verdict {
        let outcome = walk::packet_out(&self.view(&self.snapshot.read()), out, key, now_ms, Mode::Learn);
        self.settle(outcome, now_ms)
    }

    /// [`Pipeline::packet_out`] by tables that need not be those that are published: what a bundle had made of them where
    /// the packet stood in it. What packets change, such as learned addresses, is changed in those that are published.
    pub fn packet_out_by(
        &self,
        tables: &Snapshot,
        out: &PacketOut<'_>,
        key: &FlowKey,
        now_ms: u64,
    ) -> Verdict {
        let outcome = walk::packet_out(&self.view(tables), out, key, now_ms, Mode::Learn);
        self.settle(outcome, now_ms)
    }

    /// Goes on with a walk that was paused, for a controller that resumes it. `key` holds the packet's headers, tunnel
    /// and connection, and in its `pipeline` section the registers and the like as the controller gave them back.
    pub fn resume(&self, frozen: &Frozen, key: &FlowKey, now_ms: u64) -> Verdict {
        let outcome = walk::resumed(&self.view(&self.snapshot.read()), frozen, key, now_ms, Mode::Learn);
        self.settle(outcome, now_ms)
    }

    fn settle(&self, outcome: Outcome, now_ms: u64) -> Verdict {
        self.announce(outcome.learned);
        if !outcome.resolves.is_empty() {
            let mut waiting = self.resolves.lock();
            waiting.extend(outcome.resolves);
            while waiting.len() > MAX_RESOLVES {
                waiting.pop_last();
            }
        }
        self.bring_about(&outcome.effects, now_ms);
        outcome.verdict
    }

    /// Neighbours that packets needed since the last call, each once: for the switch to ask for, and to answer by
    /// [`Pipeline::set_neighbour`].
    pub fn take_resolves(&self) -> Vec<Resolve> {
        std::mem::take(&mut *self.resolves.lock()).into_iter().collect()
    }

    /// Keeps a learned address alive (or moves it back) because a cached flow was used. `used_ms` is when its last
    /// packet came.
    pub fn refresh(&self, fdb: &FdbRef, used_ms: u64) {
        let report = |bridge: &Bridge| {
            let known = bridge.port(fdb.port).is_some();
            known.then(|| bridge.fdb.report(fdb.vlan, fdb.mac, fdb.port, used_ms))
        };
        if let Some(tags) = self.with_bridge(fdb.bridge, report).flatten() {
            self.announce(tags);
        }
    }

    /// Tells of the use of a cached flow whose verdict had this among its effects. `used_ms` is when its last packet
    /// came.
    pub fn effect(&self, effect: &Opaque, used_ms: u64) {
        if let Ok(effect) = effect.0.clone().downcast::<Effect>() {
            self.bring_about(&[effect], used_ms);
        }
    }

    /// Changes flow tables as packets ask, if there is anything to change.
    fn bring_about(&self, effects: &[Arc<Effect>], now_ms: u64) {
        if effects.is_empty() {
            return;
        }
        let due = |snapshot: &Snapshot| effects.iter().any(|e| e.is_due(snapshot, now_ms));
        if !due(&self.snapshot.read()) {
            return;
        }
        let _writer = self.writer.lock();
        let mut snapshot = Snapshot::clone(&self.snapshot());
        let changes = |e: &Arc<Effect>| Some((e.bridge(), e.apply(&mut snapshot, now_ms)?));
        let outcomes: Vec<_> = effects.iter().filter_map(changes).collect();
        if outcomes.is_empty() {
            return;
        }
        self.publish_next(snapshot);
        self.remember(effects, now_ms);
        let mut learned = self.learned.lock();
        let room = MAX_LEARNED.saturating_sub(learned.len());
        learned.extend(outcomes.into_iter().take(room));
    }

    /// Keeps what was done for snapshots that were copied before it and will be published after.
    fn remember(&self, effects: &[Arc<Effect>], now_ms: u64) {
        let version = self.snapshot.read().version();
        let mut done = self.done.lock();
        done.extend(effects.iter().map(|effect| (version, effect.clone(), now_ms)));
        while done.len() > MAX_DONE {
            done.pop_front();
        }
    }

    /// What packets did to flow tables since the last call, by bridge: for flow monitors.
    pub fn take_learned(&self) -> Vec<(u32, FlowModOutcome)> {
        std::mem::take(&mut *self.learned.lock())
    }

    fn fdb(&self, bridge: u32) -> Option<Arc<Fdb>> {
        self.with_bridge(bridge, |b| b.fdb.clone())
    }

    /// The MAC table of a bridge, by VLAN and address.
    pub fn fdb_entries(&self, bridge: u32, now_ms: u64) -> Vec<FdbEntry> {
        self.fdb(bridge).map(|fdb| fdb.entries(now_ms)).unwrap_or_default()
    }

    /// Counters of the MAC table of a bridge.
    pub fn fdb_stats(&self, bridge: u32) -> FdbStats {
        self.fdb(bridge).map(|fdb| fdb.stats()).unwrap_or_default()
    }

    /// Begins the counters of a bridge's MAC table anew.
    pub fn fdb_stats_clear(&self, bridge: u32) {
        if let Some(bridge) = self.snapshot.read().bridge(bridge) {
            bridge.fdb.clear_stats();
        }
    }

    /// Forgets what a bridge learned.
    pub fn fdb_flush(&self, bridge: u32) {
        if let Some(fdb) = self.fdb(bridge) {
            self.announce(fdb.flush(None));
        }
    }

    /// Forgets what a bridge learned from one port, for instance because its link went down.
    pub fn fdb_flush_port(&self, bridge: u32, port: OfPort) {
        if let Some(fdb) = self.fdb(bridge) {
            self.announce(fdb.flush(Some(port)));
        }
    }

    /// Configures an entry of a MAC table, which then neither ages nor moves. False: there is no such bridge.
    pub fn fdb_add_static(&self, bridge: u32, vlan: u16, mac: Mac, port: OfPort) -> bool {
        let Some(fdb) = self.fdb(bridge) else { return false };
        self.announce(fdb.set_static(vlan, mac, port));
        true
    }

    /// Removes an entry of a MAC table, configured or learned.
    pub fn fdb_remove(&self, bridge: u32, vlan: u16, mac: Mac) {
        if let Some(fdb) = self.fdb(bridge) {
            self.announce(fdb.remove(vlan, mac));
        }
    }

    /// Lets MAC table entries age; to be called about once a second.
    pub fn age(&self, now_ms: u64) {
        let fdbs: Vec<Arc<Fdb>> = self.snapshot.read().bridges().map(|b| b.fdb.clone()).collect();
        for fdb in fdbs {
            self.announce(fdb.age(now_ms));
        }
    }
}
