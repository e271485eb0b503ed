//! Where does a walk begin, and what does it leave? Packets received, sent by controllers, and resumed.

use std::mem::take;
use std::sync::Arc;

use weft_flow::{
    Action, DepTags, DpAction, DpPort, DropReason, EXTRA_CT, FRAG_ANY, FRAG_LATER, FlowKey, FlowMask, OfPort,
    Opaque, PipelineKey, Verdict,
};
use weft_wire::EtherType;

use super::packet::Packet;
use super::{End, Frame, List, Mode, Origin, Outcome, Root, Walk, reason};
use crate::frozen::{Frozen, FrozenTable};
use crate::pipeline::PacketOut;
use crate::snapshot::{Bridge, Snapshot};
use crate::trace::{Recorder, StepKind};

/// Frames that most walks have at once.
const USUAL_FRAMES: usize = 4;

/// What all walks see.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) frozen: &'a FrozenTable,
}

/// Walks a packet that came in by `key.packet.in_port`, or resumes the walk that `key.packet.recirc_id` names.
pub(crate) fn received(view: &View<'_>, key: &FlowKey, now_ms: u64, mode: Mode) -> Outcome {
    if key.packet.recirc_id == 0 {
        return received_on(view, view.snapshot.port_of(DpPort(key.packet.in_port)), key, now_ms, mode);
    }
    match view.frozen.get(key.packet.recirc_id) {
        Some(frozen) => recirculated(view, &frozen, key, now_ms, mode),
        None => Outcome { ..nothing(key, DropReason::RecircGone, mode) },
    }
}

/// Walks a packet that came in by a port of a bridge.
pub(crate) fn received_on(
    view: &View<'_>,
    port: Option<(u32, OfPort)>,
    key: &FlowKey,
    now_ms: u64,
    mode: Mode,
) -> Outcome {
    let Some((bridge, port)) = port.and_then(|(b, p)| Some((view.snapshot.bridge(b)?, p))) else {
        return nothing(key, DropReason::NotAttached, mode);
    };
    let mut walk = Walk::new(view, bridge, key, now_ms, mode);
    walk.began = PipelineKey { in_port: port.0, ..walk.packet.key.pipeline };
    walk.record(StepKind::Bridge, || format!("bridge(\"{}\")", bridge.config.name));
    walk.sample_input();
    if walk.admit(port) {
        walk.as_frame(port);
        walk.enter(port);
    }
    walk.finish(key)
}

/// Executes a packet-out.
pub(crate) fn packet_out(
    view: &View<'_>,
    out: &PacketOut<'_>,
    key: &FlowKey,
    now_ms: u64,
    mode: Mode,
) -> Outcome {
    let Some(bridge) = view.snapshot.bridge(out.bridge) else {
        return nothing(key, DropReason::NotAttached, mode);
    };
    let mut key = *key;
    key.packet.in_port = bridge.port(out.in_port).and_then(|p| p.dp_port).map_or(u32::MAX, |p| p.0);
    let mut walk = Walk::new(view, bridge, &key, now_ms, mode);
    walk.packet_out = true;
    walk.record(StepKind::Bridge, || format!("bridge(\"{}\")", bridge.config.name));
    walk.cacheable = false;
    walk.packet.key.pipeline = PipelineKey { packet_type: key.packet.packet_type(), ..key.pipeline };
    walk.packet.key.pipeline.in_port = out.in_port.0;
    walk.began = walk.packet.key.pipeline;
    walk.packet.key.pipeline.actset_output = OfPort::UNSET.0;
    let origin = Origin { table: 0, cookie: u64::MAX, reason: reason::PACKET_OUT };
    walk.run(vec![Frame::of(List::Slice(out.actions), origin)]);
    walk.finish(&key)
}

/// Goes on with a walk whose packet was looked up again.
fn recirculated(view: &View<'_>, frozen: &Frozen, key: &FlowKey, now_ms: u64, mode: Mode) -> Outcome {
    let Some(bridge) = view.snapshot.bridge(frozen.bridge) else {
        return nothing(key, DropReason::RecircGone, mode);
    };
    let mut walk = Walk::new(view, bridge, key, now_ms, mode);
    walk.packet.thaw(frozen);
    walk.go_on(frozen);
    walk.finish(key)
}

/// Goes on with a walk that a controller resumes: registers and the like are those of `key`.
pub(crate) fn resumed(view: &View<'_>, frozen: &Frozen, key: &FlowKey, now_ms: u64, mode: Mode) -> Outcome {
    let Some(bridge) = view.snapshot.bridge(frozen.bridge) else {
        return nothing(key, DropReason::RecircGone, mode);
    };
    let mut walk = Walk::new(view, bridge, key, now_ms, mode);
    walk.cacheable = false;
    walk.packet.key.pipeline = PipelineKey { packet_type: key.packet.packet_type(), ..key.pipeline };
    if key.packet.extras & EXTRA_CT == 0 {
        // The datapath's packet is a new one.
        walk.packet.forget_tracking();
    }
    walk.go_on(frozen);
    walk.finish(key)
}

/// Adds to a mask what every verdict looks at.
fn look_least(mask: &mut FlowMask) {
    mask.0.packet.in_port = u32::MAX;
    mask.0.packet.recirc_id = u32::MAX;
    mask.0.packet.extras = u16::MAX;
}

/// A packet of which nothing can be said.
fn nothing(key: &FlowKey, why: DropReason, mode: Mode) -> Outcome {
    let mut mask = Box::new(FlowMask::empty());
    look_least(&mut mask);
    let verdict = Verdict {
        actions: Vec::new(),
        mask,
        drop: Some(why),
        cacheable: why != DropReason::RecircGone,
        deps: DepTags::default(),
        rules: Vec::new(),
        refresh: Vec::new(),
        counters: Vec::new(),
        effects: Vec::new(),
    };
    let trace = mode.tells().then(|| Recorder::default().finish(key, key, &verdict, &|_| None, &|_| None));
    Outcome { verdict, learned: DepTags::default(), resolves: Vec::new(), effects: Vec::new(), trace }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        view: &View<'a>,
        bridge: &'a Bridge,
        key: &FlowKey,
        now_ms: u64,
        mode: Mode,
    ) -> Walk<'a> {
        let mut walk = Walk {
            snapshot: view.snapshot,
            frozen: view.frozen,
            bridge,
            now_ms,
            mode,
            packet: Packet::BLANK,
            mask: FlowMask::empty(),
            out: Vec::new(),
            action_set: Vec::new(),
            stack: Vec::new(),
            exit: false,
            fatal: None,
            blame: None,
            trunc: None,
            depth: 0,
            lookups: 0,
            forks: 0,
            buckets: 0,
            emitted: 0,
            tunnels: Vec::new(),
            packet_out: false,
            began: PipelineKey::default(),
            cacheable: true,
            deps: DepTags::default(),
            learned: DepTags::default(),
            resolves: Vec::new(),
            rules: Vec::new(),
            matched: Vec::new(),
            refresh: Vec::new(),
            counters: Vec::new(),
            effects: Vec::new(),
            recorder: mode.tells().then(Recorder::default),
        };
        walk.packet.receive(key, &PipelineKey::default());
        let mask = &mut walk.mask;
        look_least(mask);
        mask.0.packet.eth_type = u16::MAX;
        if matches!(EtherType(key.packet.eth_type), EtherType::IPV4 | EtherType::IPV6) {
            mask.0.packet.ip_frag = FRAG_ANY | FRAG_LATER;
        }
        walk
    }

    /// Does what is left of a frozen walk.
    fn go_on(&mut self, frozen: &'a Frozen) {
        let bridge = self.bridge;
        self.record(StepKind::Bridge, || format!("bridge(\"{}\")", bridge.config.name));
        self.began = self.packet.key.pipeline;
        self.packet_out = frozen.packet_out;
        self.cacheable &= !frozen.packet_out;
        self.trunc = frozen.trunc;
        self.stack = frozen.stack.clone();
        self.action_set = frozen.action_set.iter().collect::<Vec<&'a Action>>();
        self.record(StepKind::Thaw, || "thaw".to_owned());
        let mut frames: Vec<Frame<'a>> = frozen
            .frames
            .iter()
            .rev()
            .map(|frame| {
                let origin = Origin { table: frame.table, cookie: frame.cookie, reason: frame.reason };
                let end = frame.rest.as_ref().map_or(End::Return, End::Rule);
                Frame { end, ..Frame::of(List::Slice(&frame.actions), origin) }
            })
            .collect();
        if let Some(table) = frozen.table {
            self.record(StepKind::Thaw, || format!("Resuming from table {table}"));
            self.leave();
            self.leave();
            frames.extend(self.frame_for(table, self.in_port(), false));
        } else {
            self.leave();
        }
        self.run(frames);
    }

    /// What came of the walk, taken out of it: it is over, and too large to be handed on whole.
    pub(super) fn finish(&mut self, key: &FlowKey) -> Outcome {
        let mut actions = super::seal(take(&mut self.out));
        if self.fatal.is_some() {
            actions.clear();
        }
        let why = self.fatal.or(self.blame).unwrap_or(DropReason::RuleDrop);
        let effects = if self.fatal.is_some() { Vec::new() } else { take(&mut self.effects) };
        let verdict = Verdict {
            drop: DpAction::send_nothing(&actions).then_some(why),
            actions,
            mask: Box::new(self.mask),
            cacheable: self.cacheable,
            deps: self.deps,
            rules: take(&mut self.rules),
            refresh: take(&mut self.refresh),
            counters: take(&mut self.counters),
            effects: effects.iter().map(|e| Opaque(e.clone() as Arc<_>)).collect(),
        };
        let dropped_by = self.matched.last().filter(|_| why == DropReason::RuleDrop);
        let trace = self.recorder.take().map(|mut recorder| {
            if let Some(rule) = dropped_by {
                let at = || format!("table {}, cookie {:#x}", rule.table, rule.cookie);
                recorder.drop_at.get_or_insert_with(at);
            }
            let (mut first, mut last) = (*key, self.packet.key);
            first.pipeline = PipelineKey { actset_output: 0, ..self.began };
            last.pipeline.actset_output = 0;
            let snapshot = self.snapshot;
            let name = |port: DpPort| {
                let (bridge, ofport) = snapshot.port_of(port)?;
                Some(snapshot.bridge(bridge)?.port(ofport)?.name.clone())
            };
            let began = snapshot.port_of(DpPort(key.packet.in_port));
            let first_bridge = began.and_then(|(bridge, _)| snapshot.bridge(bridge));
            let bridge = first_bridge.map_or(self.bridge, |bridge| &**bridge);
            let of_name = |port: OfPort| crate::trace::port_name(bridge, port);
            recorder.finish(&first, &last, &verdict, &of_name, &name)
        });
        Outcome { verdict, learned: self.learned, resolves: take(&mut self.resolves), effects, trace }
    }

    /// Walks the tables of the bridge at hand from the first one on, as received by `port`, action set included.
    pub(super) fn enter(&mut self, port: OfPort) {
        self.packet.key.pipeline.in_port = port.0;
        self.packet.key.pipeline.actset_output = OfPort::UNSET.0;
        if let Some(frame) = self.frame_for(0, port, false) {
            let mut frames = Vec::with_capacity(USUAL_FRAMES);
            frames.push(frame);
            self.run(frames);
        }
    }

    /// Executes frames until none is left, then the action set.
    pub(super) fn run(&mut self, mut frames: Vec<Frame<'a>>) {
        self.run_frames(&mut frames, Root::Whole);
        self.run_set();
    }

    /// Executes the action set, which is empty after.
    pub(super) fn run_set(&mut self) {
        let set = take(&mut self.action_set);
        if !set.is_empty() && self.fatal.is_none() {
            self.exit = false;
            self.execute_set(&set);
        }
    }
}
