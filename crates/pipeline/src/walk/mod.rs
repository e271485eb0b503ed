//! What do the flow tables do with a packet? The walk itself.
//!
//! `begin` finds the bridge and walks its tables; `lookup` finds rules; `action` executes actions, the larger ones in
//! files of their own; `set` is the action set; `output` sends to ports, to other bridges and to controllers; `normal`
//! switches; `sample` has packets exported; `encap` feeds tunnels; `header` puts headers in front; `freeze` interrupts and forks walks; `packet`, `fields` and `commit` keep the books
//! of what was looked at and what was changed. Resubmits and clones are frames on a stack of the walk's own, so that no
//! set of rules can exhaust the thread's.

mod action;
mod begin;
mod choose;
mod commit;
mod ct;
mod encap;
mod fields;
mod freeze;
mod group;
mod header;
mod learn;
mod lookup;
mod mpls;
mod normal;
mod output;
mod packet;
mod sample;
mod set;

use std::sync::Arc;

use weft_flow::text::{Syntax, format_action};
use weft_flow::{
    Action, DepTags, DpAction, DpPort, DropReason, FdbRef, FlowMask, Instructions, OfPort, PipelineKey,
    RuleRef, RuleStats, Subfield, Verdict,
};

use crate::effect::Effect;
use crate::frozen::FrozenTable;
use crate::pipeline::Resolve;
use crate::snapshot::{Bridge, Snapshot};
use crate::table::Rule;
use crate::trace::{Recorder, StepKind, Trace};

pub(crate) use begin::{View, packet_out, received, received_on, resumed};
use packet::Packet;

/// Bridges, tunnels and backward resubmits that may be inside each other.
const MAX_DEPTH: u32 = 64;
/// Table lookups that one packet may cause.
const MAX_LOOKUPS: u32 = 4096;
/// Datapath actions that one packet may cause.
const MAX_ACTIONS: usize = 16_384;
/// Times that a packet may be walked both ways.
const MAX_FORKS: u32 = 64;
/// Buckets that one packet may pass.
const MAX_BUCKETS: u32 = 16_384;
/// Rules that one packet may teach.
const MAX_EFFECTS: usize = 1024;
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
    /// Someone wants to know, and what the packet teaches is learned.
    TraceAndLearn,
}

impl Mode {
    /// Whether the steps are recorded.
    fn tells(self) -> bool {
        matches!(self, Mode::Trace | Mode::TraceAndLearn)
    }
    /// Whether packets teach.
    fn learns(self) -> bool {
        matches!(self, Mode::Learn | Mode::TraceAndLearn)
    }
}

/// What a walk returns.
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// What it learned.
    pub(crate) learned: DepTags,
    pub(crate) resolves: Vec<Resolve>,
    /// What it does to flow tables.
    pub(crate) effects: Vec<Arc<Effect>>,
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

impl Origin {
    /// No rule.
    fn none() -> Origin {
        Origin { table: 0, cookie: u64::MAX, reason: reason::ACTION }
    }
    /// The action set.
    fn of_set() -> Origin {
        Origin { reason: reason::ACTION_SET, ..Origin::none() }
    }
}

/// What happens when the actions of a frame are done.
enum End<'a> {
    /// Nothing.
    Return,
    /// The rule's other instructions.
    Rule(&'a Arc<Instructions>),
    /// The action set, and then as [`End::Restore`].
    Clone(Box<Saved<'a>>),
    /// The packet is again what it was.
    Restore(Box<Saved<'a>>),
}

/// Actions to be executed.
#[derive(Clone)]
enum List<'a> {
    Slice(&'a [Action]),
    /// Of an action set or bucket, put in order.
    Set(Vec<&'a Action>),
}

impl<'a> List<'a> {
    fn get(&self, i: usize) -> Option<&'a Action> {
        match self {
            List::Slice(actions) => actions.get(i),
            List::Set(actions) => actions.get(i).copied(),
        }
    }
    fn len(&self) -> usize {
        match self {
            List::Slice(actions) => actions.len(),
            List::Set(actions) => actions.len(),
        }
    }
}

/// Actions being executed.
struct Frame<'a> {
    actions: List<'a>,
    next: usize,
    origin: Origin,
    end: End<'a>,
    /// Whether the frame counts for the depth.
    deep: bool,
    /// Steps of the trace that end with the frame.
    steps: u16,
}

impl<'a> Frame<'a> {
    /// Actions, and nothing after them.
    fn of(actions: List<'a>, origin: Origin) -> Frame<'a> {
        Frame { actions, next: 0, origin, end: End::Return, deep: false, steps: 0 }
    }
}

impl Frame<'_> {
    /// Whether another table comes after the actions.
    fn goes_to_table(&self) -> bool {
        matches!(self.end, End::Rule(rest) if rest.goto.is_some())
    }
    /// Leaves out the rest of the actions and the rule's other instructions.
    fn skip(&mut self) {
        self.next = self.actions.len();
        if matches!(self.end, End::Rule(_)) {
            self.end = End::Return;
        }
    }
}

/// What the frames that are run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// All of a bridge's pipeline: the action set comes after.
    Whole,
    /// A bucket, or the action set itself.
    Part,
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
    /// All that is left is done twice: on packets longer than this, whose bit is set, and on others.
    Fork(u16, Subfield),
    /// The rest waits until the packet was looked up again; it begins with this action itself.
    Again(Why),
    /// The rest waits until the packet was looked up again; it begins with the next action.
    Later(Why),
    /// The rest waits for a controller.
    Pause(&'a weft_flow::ControllerAction),
}

/// Why a packet must be looked up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// To see what is beneath the label stack.
    Mpls,
    /// To see what is beneath a header that was taken off.
    Decap,
    /// To know its hash.
    Hash {
        /// Perturbs the hash.
        basis: u32,
        /// The same in both directions.
        symmetric: bool,
    },
}

struct Walk<'a> {
    snapshot: &'a Snapshot,
    frozen: &'a FrozenTable,
    bridge: &'a Bridge,
    now_ms: u64,
    mode: Mode,
    packet: Packet,
    /// What was looked at of the packet received.
    mask: FlowMask,
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
    forks: u32,
    buckets: u32,
    emitted: usize,
    /// Tunnels that the packet at hand was encapsulated for.
    tunnels: Vec<DpPort>,
    packet_out: bool,
    /// The packet's state in the pipeline when the walk began, for traces.
    began: PipelineKey,
    cacheable: bool,
    deps: DepTags,
    learned: DepTags,
    resolves: Vec<Resolve>,
    rules: Vec<RuleRef>,
    /// The rules themselves.
    matched: Vec<&'a Arc<Rule>>,
    refresh: Vec<FdbRef>,
    counters: Vec<Arc<RuleStats>>,
    effects: Vec<Arc<Effect>>,
    recorder: Option<Recorder>,
}

/// `OFPR_*`: why a packet goes to a controller.
mod reason {
    pub(super) const NO_MATCH: u8 = 0;
    pub(super) const ACTION: u8 = 1;
    pub(super) const INVALID_TTL: u8 = 2;
    pub(super) const ACTION_SET: u8 = 3;
    pub(super) const GROUP: u8 = 4;
    pub(super) const PACKET_OUT: u8 = 5;
}

impl<'a> Walk<'a> {
    /// Notes why the packet goes nowhere; the first reason counts.
    fn blame(&mut self, reason: DropReason) {
        self.blame.get_or_insert(reason);
        self.warn(|| format!("{reason}: {}", reason.describe()));
    }

    fn fatal(&mut self, reason: DropReason) {
        self.fatal.get_or_insert(reason);
        self.warn(|| format!("{reason}: {}", reason.describe()));
    }

    /// Notes why the packet goes nowhere, and whose doing that is.
    fn blame_on(&mut self, reason: DropReason, whom: impl Fn() -> String) {
        if self.blame.is_none()
            && let Some(recorder) = &mut self.recorder
        {
            recorder.drop_at = Some(whom());
        }
        self.blame.get_or_insert(reason);
        self.warn(|| format!("{reason}: {} ({})", reason.describe(), whom()));
    }

    /// Records an action, beneath which nothing is recorded.
    fn step(&mut self, text: impl FnOnce() -> String) {
        self.record(StepKind::Action, text);
        self.leave();
    }

    /// As [`Walk::record`], of a text that may name ports.
    fn record_on(&mut self, kind: StepKind, text: impl Fn(&Syntax<'_>) -> String) {
        if let Some(recorder) = &mut self.recorder {
            recorder.enter_on(self.bridge, kind, text);
        }
    }

    /// Records an action.
    fn step_action(&mut self, action: &Action) {
        self.record_on(StepKind::Action, |syntax| format_action(action, syntax));
        self.leave();
    }

    fn warn(&mut self, text: impl FnOnce() -> String) {
        self.record(StepKind::Warning, text);
        self.leave();
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        self.record(StepKind::Note, text);
        self.leave();
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

    fn leave_steps(&mut self, steps: u16) {
        (0..steps).for_each(|_| self.leave());
    }

    /// Adds what looking at `bits` of the packet tells.
    fn look(&mut self, bits: &FlowMask) {
        self.packet.look(bits, &mut self.mask);
    }

    fn in_port(&self) -> OfPort {
        OfPort(self.packet.key.pipeline.in_port)
    }

    /// Executes frames until none is left.
    fn run_frames(&mut self, frames: &mut Vec<Frame<'a>>, root: Root) {
        while let Some(frame) = frames.last_mut() {
            let done = self.exit || self.fatal.is_some();
            match frame.actions.get(frame.next) {
                Some(action) if !done => {
                    frame.next += 1;
                    let origin = frame.origin;
                    self.step_action(action);
                    let next = self.action(action, origin);
                    self.follow(next, frames, root);
                }
                // The next table looks at all of the packet.
                _ if !done && self.packet.beneath_unknown && frame.goes_to_table() => {
                    self.look_up_again(Why::Mpls, frames, root);
                }
                _ => {
                    let Some(frame) = frames.pop() else { return };
                    self.end(frame, frames, done);
                }
            }
        }
    }

    fn follow(&mut self, next: Next<'a>, frames: &mut Vec<Frame<'a>>, root: Root) {
        match next {
            Next::Into(frame) => frames.push(frame),
            Next::Go => {}
            Next::Stop => {
                if let Some(frame) = frames.last_mut() {
                    frame.skip();
                }
            }
            Next::Fork(len, dst) => self.fork(len, dst, frames, root),
            Next::Again(why) => {
                if let Some(frame) = frames.last_mut() {
                    frame.next -= 1;
                }
                self.look_up_again(why, frames, root);
            }
            Next::Later(why) => self.look_up_again(why, frames, root),
            Next::Pause(to) => self.pause(to, frames, root),
        }
    }

    fn end(&mut self, frame: Frame<'a>, frames: &mut Vec<Frame<'a>>, done: bool) {
        if frame.deep {
            self.depth -= 1;
        }
        let goto = match frame.end {
            End::Return => None,
            End::Clone(mut saved) => {
                // An exit within ends what is around it too.
                saved.exit |= self.exit;
                match self.frame_of_set() {
                    // What a clone's actions wrote, and what was written before, is done within it.
                    Some(set) => {
                        self.leave_steps(frame.steps);
                        return frames.push(Frame { end: End::Restore(saved), ..set });
                    }
                    None => {
                        self.restore(*saved);
                        None
                    }
                }
            }
            End::Restore(saved) => {
                self.restore(*saved);
                None
            }
            End::Rule(_) if done => None,
            End::Rule(rest) => self.instructions(rest, frame.origin),
        };
        let Some(table) = goto else { return self.leave_steps(frame.steps) };
        match self.frame_for(table, self.in_port(), false) {
            Some(next) => frames.push(Frame { steps: frame.steps + next.steps, ..next }),
            None => self.leave_steps(frame.steps),
        }
    }

    /// The instructions after apply-actions. Returns the next table.
    fn instructions(&mut self, rest: &'a Instructions, origin: Origin) -> Option<u8> {
        if rest.clear {
            self.step(|| "clear_actions".to_owned());
            self.clear_set();
        }
        if !rest.write.is_empty() {
            let written = |syntax: &Syntax<'_>| {
                format!("write_actions({})", crate::trace::actions_text(rest.write.iter(), syntax))
            };
            self.record_on(StepKind::Action, written);
            self.leave();
            rest.write.iter().for_each(|action| self.write_set(action));
            let set = set::ordered(self.action_set.iter().copied());
            let is = |syntax: &Syntax<'_>| crate::trace::actions_text(set.iter().copied(), syntax);
            self.record_on(StepKind::Note, |syntax| format!("action set is: {}", is(syntax)));
            self.leave();
        }
        if let Some((value, mask)) = rest.metadata {
            self.step(|| match mask {
                u64::MAX => format!("write_metadata:{value:#x}"),
                _ => format!("write_metadata:{value:#x}/{mask:#x}"),
            });
            let metadata = &mut self.packet.key.pipeline.metadata;
            *metadata = *metadata & !mask | value & mask;
        }
        let table = rest.goto?;
        if table <= origin.table {
            self.blame(DropReason::BadAction);
            return None;
        }
        self.step(|| format!("goto_table:{table}"));
        Some(table)
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
        let inner = self.undo(saved);
        if inner.iter().any(changes_packet) {
            self.out.push(DpAction::Clone(inner.into()));
        } else {
            self.out.extend(inner);
        }
    }

    /// Undoes what was done to the packet since [`Walk::save`]. Returns what was sent.
    fn undo(&mut self, saved: Saved<'a>) -> Vec<DpAction> {
        let inner = std::mem::replace(&mut self.out, saved.out);
        self.packet = saved.packet;
        self.bridge = saved.bridge;
        self.action_set = saved.action_set;
        self.stack = saved.stack;
        self.exit = saved.exit;
        seal(inner)
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

/// Whether an action changes the packet for those after it, or may end it.
fn changes_packet(action: &DpAction) -> bool {
    has_no_effect(action)
        || matches!(action, DpAction::Ct(_) | DpAction::Meter(_) | DpAction::CheckPktLen { .. })
}

/// Whether an action changes nothing but the packet.
fn has_no_effect(action: &DpAction) -> bool {
    matches!(
        action,
        DpAction::Set(_)
            | DpAction::PushVlan { .. }
            | DpAction::PopVlan
            | DpAction::PushMpls { .. }
            | DpAction::PopMpls(_)
            | DpAction::CopyTtl { .. }
            | DpAction::AddMpls { .. }
            | DpAction::PushEth { .. }
            | DpAction::PopEth
            | DpAction::PushNsh(_)
            | DpAction::PopNsh
            | DpAction::CtClear
            | DpAction::Hash { .. }
    )
}

/// Whether an action does anything by itself.
fn sends(action: &DpAction) -> bool {
    !has_no_effect(action) && !matches!(action, DpAction::SetTunnel(_) | DpAction::Trunc(_))
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
