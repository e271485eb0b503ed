//! What do the flow tables do with a packet? The walk itself.
//!
//! `received` finds the bridge and walks its tables; `action` executes actions; `output` sends to ports, to other
//! bridges and to controllers; `normal` switches; `encap` feeds tunnels; `packet` and `commit` keep the books of what
//! was looked at and what was changed. Resubmits and clones are frames on a stack of the walk's own, so that no set of
//! rules can exhaust the thread's.

mod action;
mod commit;
mod encap;
mod normal;
mod output;
mod packet;

use std::sync::Arc;

use weft_flow::{
    Action, DepTags, DpAction, DpPort, DropReason, FRAG_ANY, FRAG_LATER, FdbRef, FlowKey, FlowMask,
    Instructions, OfPort, RuleRef, Verdict,
};
use weft_wire::EtherType;

use crate::pipeline::{PacketOut, Resolve};
use crate::snapshot::{Bridge, Snapshot};
use crate::table::Rule;
use crate::trace::{Recorder, StepKind, Trace};

use packet::Packet;

/// Bridges, tunnels and backward resubmits that may be inside each other.
const MAX_DEPTH: u32 = 64;
/// Table lookups that one packet may cause.
const MAX_LOOKUPS: u32 = 4096;
/// Datapath actions that one packet may cause.
const MAX_ACTIONS: usize = 16_384;
/// Values on the stack of `push` and `pop`.
const MAX_STACK: usize = 4096;

/// What a walk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A packet is there: learn from it.
    Learn,
    /// A cached flow is checked.
    DryRun,
    /// Someone wants to know.
    Trace,
}

/// What a walk returns.
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// What it learned.
    pub(crate) learned: DepTags,
    pub(crate) resolves: Vec<Resolve>,
    pub(crate) trace: Option<Trace>,
}

/// Who put an action in the list: for packet-ins and relative resubmits.
#[derive(Clone, Copy, Debug)]
struct Origin {
    table: u8,
    cookie: u64,
    /// Reason of a packet-in.
    reason: u8,
}

/// What happens when the actions of a frame are done.
enum End<'a> {
    /// Nothing.
    Return,
    /// The rule's other instructions.
    Rule(&'a Instructions),
    /// The packet is again what it was.
    Restore(Box<Saved<'a>>),
}

/// Actions being executed.
struct Frame<'a> {
    actions: &'a [Action],
    next: usize,
    origin: Origin,
    end: End<'a>,
    /// Whether the frame counts for the depth.
    deep: bool,
    /// Steps of the trace that end with the frame.
    steps: u8,
}

/// What a clone, another bridge or a tunnel must not change.
struct Saved<'a> {
    packet: Packet,
    bridge: &'a Bridge,
    action_set: Vec<&'a Action>,
    stack: Vec<u128>,
    exit: bool,
    out: Vec<DpAction>,
}

/// What an action does to the list it is in.
enum Next<'a> {
    /// On with the next one.
    Go,
    /// The rest of the list and the rule's other instructions are skipped.
    Stop,
    /// These actions come first.
    Into(Frame<'a>),
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    bridge: &'a Bridge,
    now_ms: u64,
    mode: Mode,
    packet: Packet,
    /// What was looked at of the packet received.
    mask: Box<FlowMask>,
    out: Vec<DpAction>,
    action_set: Vec<&'a Action>,
    stack: Vec<u128>,
    /// An `exit` action was met.
    exit: bool,
    /// What ends the whole walk: the packet is dropped.
    fatal: Option<DropReason>,
    /// Why the packet goes nowhere, if it goes nowhere.
    blame: Option<DropReason>,
    /// Bytes to cut outputs to.
    trunc: Option<u32>,
    depth: u32,
    lookups: u32,
    emitted: usize,
    /// Tunnels that the packet at hand was encapsulated for.
    tunnels: Vec<DpPort>,
    packet_out: bool,
    /// Where the packet came in.
    first_port: OfPort,
    cacheable: bool,
    deps: DepTags,
    learned: DepTags,
    resolves: Vec<Resolve>,
    rules: Vec<RuleRef>,
    refresh: Vec<FdbRef>,
    recorder: Option<Recorder>,
}

/// Walks a packet that came in by `key.packet.in_port`.
pub(crate) fn received(snapshot: &Snapshot, key: &FlowKey, now_ms: u64, mode: Mode) -> Outcome {
    received_on(snapshot, snapshot.port_of(DpPort(key.packet.in_port)), key, now_ms, mode)
}

/// Walks a packet that came in by a port of a bridge.
pub(crate) fn received_on(
    snapshot: &Snapshot,
    port: Option<(u32, OfPort)>,
    key: &FlowKey,
    now_ms: u64,
    mode: Mode,
) -> Outcome {
    let Some((bridge, port)) = port.and_then(|(b, p)| Some((snapshot.bridge(b)?, p))) else {
        return unattached(key, mode);
    };
    let mut walk = Walk::new(snapshot, bridge, key, now_ms, mode);
    walk.first_port = port;
    walk.record(StepKind::Bridge, || format!("bridge(\"{}\")", bridge.config.name));
    if walk.admit(port) {
        walk.enter(port);
    }
    walk.finish(key)
}

/// Executes a packet-out.
pub(crate) fn packet_out(
    snapshot: &Snapshot,
    out: &PacketOut<'_>,
    key: &FlowKey,
    now_ms: u64,
    mode: Mode,
) -> Outcome {
    let Some(bridge) = snapshot.bridge(out.bridge) else { return unattached(key, mode) };
    let mut key = *key;
    key.packet.in_port = bridge.port(out.in_port).and_then(|p| p.dp_port).map_or(u32::MAX, |p| p.0);
    let mut walk = Walk::new(snapshot, bridge, &key, now_ms, mode);
    walk.packet_out = true;
    walk.record(StepKind::Bridge, || format!("bridge(\"{}\")", bridge.config.name));
    walk.first_port = out.in_port;
    walk.cacheable = false;
    walk.packet.key.pipeline = key.pipeline;
    walk.packet.key.pipeline.in_port = out.in_port.0;
    walk.packet.key.pipeline.actset_output = OfPort::UNSET.0;
    let origin = Origin { table: 0, cookie: u64::MAX, reason: reason::PACKET_OUT };
    let frame = Frame { actions: out.actions, next: 0, origin, end: End::Return, deep: false, steps: 0 };
    walk.run(vec![frame]);
    walk.finish(&key)
}

/// `OFPR_*`: why a packet goes to a controller.
mod reason {
    pub(super) const NO_MATCH: u8 = 0;
    pub(super) const ACTION: u8 = 1;
    pub(super) const INVALID_TTL: u8 = 2;
    pub(super) const ACTION_SET: u8 = 3;
    pub(super) const PACKET_OUT: u8 = 5;
}

/// The mask that every verdict has at least.
fn least_mask() -> Box<FlowMask> {
    let mut mask = Box::new(FlowMask::empty());
    mask.0.packet.in_port = u32::MAX;
    mask.0.packet.recirc_id = u32::MAX;
    mask.0.packet.extras = u16::MAX;
    mask
}

fn unattached(key: &FlowKey, mode: Mode) -> Outcome {
    let verdict = Verdict {
        actions: Vec::new(),
        mask: least_mask(),
        drop: Some(DropReason::NotAttached),
        cacheable: true,
        deps: DepTags::default(),
        rules: Vec::new(),
        refresh: Vec::new(),
        counters: Vec::new(),
        effects: Vec::new(),
    };
    let trace = (mode == Mode::Trace).then(|| Recorder::default().finish(key, key, &verdict));
    Outcome { verdict, learned: DepTags::default(), resolves: Vec::new(), trace }
}

impl<'a> Walk<'a> {
    fn new(snapshot: &'a Snapshot, bridge: &'a Bridge, key: &FlowKey, now_ms: u64, mode: Mode) -> Walk<'a> {
        let mut mask = least_mask();
        mask.0.packet.eth_type = u16::MAX;
        if matches!(EtherType(key.packet.eth_type), EtherType::IPV4 | EtherType::IPV6) {
            mask.0.packet.ip_frag = FRAG_ANY | FRAG_LATER;
        }
        let mut key = *key;
        key.pipeline = Default::default();
        Walk {
            snapshot,
            bridge,
            now_ms,
            mode,
            packet: Packet::received(&key),
            mask,
            out: Vec::new(),
            action_set: Vec::new(),
            stack: Vec::new(),
            exit: false,
            fatal: None,
            blame: None,
            trunc: None,
            depth: 0,
            lookups: 0,
            emitted: 0,
            tunnels: Vec::new(),
            packet_out: false,
            first_port: OfPort::NONE,
            cacheable: true,
            deps: DepTags::default(),
            learned: DepTags::default(),
            resolves: Vec::new(),
            rules: Vec::new(),
            refresh: Vec::new(),
            recorder: (mode == Mode::Trace).then(Recorder::default),
        }
    }

    fn finish(mut self, key: &FlowKey) -> Outcome {
        let mut actions = seal(std::mem::take(&mut self.out));
        if self.fatal.is_some() {
            actions.clear();
        }
        let why = self.fatal.or(self.blame).unwrap_or(DropReason::RuleDrop);
        let verdict = Verdict {
            drop: actions.is_empty().then_some(why),
            actions,
            mask: self.mask,
            cacheable: self.cacheable,
            deps: self.deps,
            rules: self.rules,
            refresh: self.refresh,
            counters: Vec::new(),
            effects: Vec::new(),
        };
        let trace = self.recorder.map(|recorder| {
            let (mut first, mut last) = (*key, self.packet.key);
            first.pipeline.in_port = self.first_port.0;
            last.pipeline.actset_output = 0;
            recorder.finish(&first, &last, &verdict)
        });
        Outcome { verdict, learned: self.learned, resolves: self.resolves, trace }
    }

    /// Notes why the packet goes nowhere; the first reason counts.
    fn blame(&mut self, reason: DropReason) {
        self.blame.get_or_insert(reason);
        self.note(|| format!("{reason}: {}", reason.describe()));
    }

    fn fatal(&mut self, reason: DropReason) {
        self.fatal.get_or_insert(reason);
        self.note(|| format!("{reason}: {}", reason.describe()));
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        self.record(StepKind::Note, text);
        if let Some(recorder) = &mut self.recorder {
            recorder.leave();
        }
    }

    /// Opens a step of the trace; what is recorded until [`Recorder::leave`] is beneath it.
    fn record(&mut self, kind: StepKind, text: impl FnOnce() -> String) {
        if let Some(recorder) = &mut self.recorder {
            recorder.enter(kind, text());
        }
    }

    fn leave(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.leave();
        }
    }

    fn leave_steps(&mut self, steps: u8) {
        (0..steps).for_each(|_| self.leave());
    }

    /// Adds what looking at `bits` of the packet tells.
    fn look(&mut self, bits: &FlowMask) {
        self.packet.look(bits, &mut self.mask);
    }

    fn in_port(&self) -> OfPort {
        OfPort(self.packet.key.pipeline.in_port)
    }

    /// Walks the tables of the bridge at hand from the first one on, as received by `port`, action set included.
    fn enter(&mut self, port: OfPort) {
        self.packet.key.pipeline.in_port = port.0;
        self.packet.key.pipeline.actset_output = OfPort::UNSET.0;
        if let Some(frame) = self.frame_for(0, port, false) {
            self.run(vec![frame]);
        }
    }

    /// Executes frames until none is left, then the action set.
    fn run(&mut self, mut frames: Vec<Frame<'a>>) {
        self.run_frames(&mut frames);
        let set = std::mem::take(&mut self.action_set);
        if !set.is_empty() && self.fatal.is_none() {
            self.exit = false;
            self.execute_set(&set);
        }
    }

    fn run_frames(&mut self, frames: &mut Vec<Frame<'a>>) {
        while let Some(frame) = frames.last_mut() {
            let done = self.exit || self.fatal.is_some();
            match frame.actions.get(frame.next) {
                Some(action) if !done => {
                    frame.next += 1;
                    let origin = frame.origin;
                    self.record(StepKind::Action, || crate::trace::action_text(action));
                    match self.action(action, origin) {
                        Next::Go => self.leave(),
                        Next::Stop => {
                            self.leave();
                            frame.next = frame.actions.len();
                            if matches!(frame.end, End::Rule(_)) {
                                frame.end = End::Return;
                            }
                        }
                        Next::Into(frame) => frames.push(frame),
                    }
                }
                _ => {
                    let Some(frame) = frames.pop() else { return };
                    self.end(frame, frames, done);
                }
            }
        }
    }

    fn end(&mut self, frame: Frame<'a>, frames: &mut Vec<Frame<'a>>, done: bool) {
        if frame.deep {
            self.depth -= 1;
        }
        let goto = match frame.end {
            End::Return => None,
            End::Restore(saved) => {
                self.restore(*saved);
                None
            }
            End::Rule(_) if done => None,
            End::Rule(rest) => self.instructions(rest, frame.origin),
        };
        // The next table's step takes the place of this one's.
        let Some(table) = goto else { return self.leave_steps(frame.steps) };
        self.leave();
        match self.frame_for(table, self.in_port(), false) {
            Some(next) => frames.push(Frame { steps: frame.steps, ..next }),
            None => self.leave_steps(frame.steps - 1),
        }
    }

    /// The instructions after apply-actions. Returns the next table.
    fn instructions(&mut self, rest: &'a Instructions, origin: Origin) -> Option<u8> {
        if rest.clear {
            self.note(|| "clear_actions".to_owned());
            self.clear_set();
        }
        for action in &rest.write {
            self.note(|| format!("write_actions({})", crate::trace::action_text(action)));
            self.write_set(action);
        }
        if let Some((value, mask)) = rest.metadata {
            self.note(|| format!("write_metadata:{value:#x}/{mask:#x}"));
            let metadata = &mut self.packet.key.pipeline.metadata;
            *metadata = *metadata & !mask | value & mask;
        }
        let table = rest.goto?;
        if table <= origin.table {
            self.blame(DropReason::BadAction);
            return None;
        }
        self.note(|| format!("goto_table:{table}"));
        Some(table)
    }

    /// Looks the packet up in a table as if received by `port`; the matching rule's actions, or `None` after the
    /// table's miss.
    fn frame_for(&mut self, table: u8, port: OfPort, resubmit: bool) -> Option<Frame<'a>> {
        self.lookups += 1;
        if self.lookups > MAX_LOOKUPS {
            self.fatal(DropReason::TooManyResubmits);
            return None;
        }
        let Some(rule) = self.lookup(table, port) else {
            self.record(StepKind::Table, || format!("{table:2}. No match."));
            self.miss(table, resubmit);
            self.leave();
            return None;
        };
        self.record(StepKind::Table, || format!("{table:2}. {}", crate::trace::rule_text(rule)));
        let is_miss_rule = rule.priority == 0 && rule.matching.is_any();
        let reason = if is_miss_rule { reason::NO_MATCH } else { reason::ACTION };
        let origin = Origin { table, cookie: rule.cookie, reason };
        let instructions: &'a Instructions = &rule.instructions;
        let end = End::Rule(instructions);
        Some(Frame { actions: &instructions.apply, next: 0, origin, end, deep: false, steps: 1 })
    }

    fn lookup(&mut self, table: u8, port: OfPort) -> Option<&'a Rule> {
        let bridge: &'a Bridge = self.bridge;
        let tables = bridge.tables.table(table)?;
        let in_port = std::mem::replace(&mut self.packet.key.pipeline.in_port, port.0);
        let mut looked = FlowMask::empty();
        let rule = tables.classifier.lookup(&self.packet.key, &mut looked);
        self.packet.key.pipeline.in_port = in_port;
        self.look(&looked);
        let (cookie, stats) = match rule {
            Some(rule) => (rule.cookie, &rule.stats),
            None => (u64::MAX, &tables.missed),
        };
        self.rules.push(RuleRef { bridge: bridge.config.id, table, cookie, stats: stats.clone() });
        rule.map(Arc::as_ref)
    }

    fn miss(&mut self, table: u8, resubmit: bool) {
        let config = &self.bridge.config;
        let in_port = self.bridge.port(self.in_port());
        let wants = config.miss_to_controller && in_port.is_none_or(|p| !p.flags.no_packet_in);
        if !resubmit && wants {
            let origin = Origin { table, cookie: u64::MAX, reason: reason::NO_MATCH };
            self.packet_in(u16::MAX, 0, origin.reason, origin);
        } else if config.fail_mode == crate::FailMode::Secure && !config.controller_connected {
            self.blame(DropReason::FailSecure);
        } else {
            self.blame(DropReason::TableMiss);
        }
        if !resubmit {
            self.action_set.clear();
        }
    }

    /// Remembers what the actions that follow must not change.
    fn save(&mut self) -> Box<Saved<'a>> {
        Box::new(Saved {
            packet: self.packet.clone(),
            bridge: self.bridge,
            action_set: self.action_set.clone(),
            stack: self.stack.clone(),
            exit: self.exit,
            out: std::mem::take(&mut self.out),
        })
    }

    /// Undoes what was done to the packet since [`Walk::save`]; what was sent stays sent.
    fn restore(&mut self, saved: Saved<'a>) {
        let inner = std::mem::replace(&mut self.out, saved.out);
        self.packet = saved.packet;
        self.bridge = saved.bridge;
        self.action_set = saved.action_set;
        self.stack = saved.stack;
        self.exit = saved.exit;
        let inner = seal(inner);
        if inner.iter().any(changes_packet) {
            self.out.push(DpAction::Clone(inner.into()));
        } else {
            self.out.extend(inner);
        }
    }

    /// Emits an action that sends the packet somewhere.
    fn emit(&mut self, action: DpAction) {
        self.emitted += 1;
        if self.emitted > MAX_ACTIONS {
            return self.fatal(DropReason::TooManyResubmits);
        }
        self.out.push(action);
    }
}

/// Whether an action changes the packet for those after it.
fn changes_packet(action: &DpAction) -> bool {
    matches!(action, DpAction::Set(_) | DpAction::PushVlan { .. } | DpAction::PopVlan)
}

/// Whether an action does anything by itself.
fn sends(action: &DpAction) -> bool {
    !changes_packet(action) && !matches!(action, DpAction::SetTunnel(_) | DpAction::Trunc(_))
}

/// Leaves out what has no effect at the end of a list: changes after which nothing is sent, and the copy that a last
/// clone would work on.
fn seal(mut actions: Vec<DpAction>) -> Vec<DpAction> {
    loop {
        match actions.last() {
            Some(DpAction::Clone(_)) => {
                if let Some(DpAction::Clone(inner)) = actions.pop() {
                    actions.extend(inner.iter().cloned());
                }
            }
            Some(action) if !sends(action) => {
                actions.pop();
            }
            _ => return actions,
        }
    }
}
