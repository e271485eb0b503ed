//! How is a walk interrupted? What is left of it is put by until the packet is looked up again or a controller resumes
//! it; or it is walked twice, for two outcomes that only the datapath knows.
//!
//! What is left reaches to the end of the clone or bucket that the walk is in, or of the bridge's pipeline: what comes
//! after that works on the packet as it was before.

use std::sync::Arc;

use weft_flow::{
    Action, ControllerAction, DpAction, DropReason, EXTRA_CT, FlowKey, Instructions, Nat, Opaque,
    PipelineKey, Recirc, Subfield,
};

use super::packet::Packet;
use super::{End, Frame, MAX_DEPTH, MAX_FORKS, Origin, Root, Walk, Why};
use crate::frozen::{Frozen, FrozenFrame};
use crate::trace::{Pending, StepKind};

/// The instructions after apply-actions, if they do anything.
fn rest(instructions: &Arc<Instructions>) -> Option<Arc<Instructions>> {
    let i = instructions;
    let any = i.clear || !i.write.is_empty() || i.metadata.is_some() || i.goto.is_some();
    any.then(|| i.clone())
}

/// How many of the frames are beyond the clone that the walk is in, and whether there is none. A clone ends with the
/// action set, as a bridge's pipeline does.
fn boundary(frames: &[Frame<'_>]) -> (usize, bool) {
    let clone = frames.iter().rposition(|f| matches!(f.end, End::Clone(_) | End::Restore(_)));
    (clone.unwrap_or(0), clone.is_none())
}

impl<'a> Walk<'a> {
    /// The packet's state and the walk's, with nothing left to do.
    pub(super) fn freeze(&mut self) -> Frozen {
        let packet = &self.packet;
        let settled = &packet.settled.0;
        let known = |key: &FlowKey| {
            let mut out = *key;
            out.words_mut().iter_mut().zip(packet.settled.words()).for_each(|(w, s)| *w &= s);
            out
        };
        let key = known(&packet.key);
        let options = packet.options_written.then(|| Box::new((key.tun_metadata, settled.tun_metadata)));
        Frozen {
            bridge: self.bridge.config.id,
            table: None,
            frames: Vec::new(),
            stack: self.stack.clone(),
            action_set: Vec::new(),
            pipeline: packet.key.pipeline,
            tunnel: (key.tunnel, settled.tunnel),
            options,
            conntracked: packet.is_tracked(),
            hashed: false,
            told: packet.told,
            trunc: self.trunc,
            packet_out: self.packet_out,
        }
    }

    /// Freezes all that is left of the frames, which do nothing any more.
    fn freeze_frames(&mut self, frames: &mut [Frame<'a>], root: Root) -> Frozen {
        let mut frozen = self.freeze();
        let (from, whole) = boundary(frames);
        for frame in frames[from..].iter_mut().rev() {
            let actions: Vec<Action> =
                (frame.next..frame.actions.len()).filter_map(|i| frame.actions.get(i).cloned()).collect();
            let rest = if let End::Rule(i) = frame.end { rest(i) } else { None };
            let Origin { table, cookie, reason } = frame.origin;
            if !actions.is_empty() || rest.is_some() {
                frozen.frames.push(FrozenFrame { table, cookie, reason, actions, rest });
            }
            frame.skip();
        }
        if !whole || root == Root::Whole {
            frozen.action_set = self.action_set.drain(..).cloned().collect();
        }
        frozen
    }

    /// Has the packet looked up again and the walk resumed then, after it was `tracked` in a zone and translated.
    pub(super) fn recirculate(&mut self, frozen: Frozen, tracked: Option<(u16, Option<Nat>)>) {
        let (id, frozen) = self.frozen.intern(frozen);
        if let (Some(recorder), Some((zone, nat))) = (&mut self.recorder, tracked) {
            let mut key = Box::new(self.packet.key);
            key.packet.recirc_id = id;
            recorder.resumes(Pending { id, zone, nat, key, frozen: frozen.clone() });
        }
        self.emit(DpAction::Recirc(Recirc { id, frozen: Opaque(frozen) }));
    }

    pub(super) fn look_up_again(&mut self, why: Why, frames: &mut [Frame<'a>], root: Root) {
        let mut frozen = self.freeze_frames(frames, root);
        frozen.hashed = matches!(why, Why::Hash { .. });
        self.commit();
        if let Why::Hash { basis, symmetric } = why {
            self.out.push(DpAction::Hash { basis, symmetric });
        }
        self.note(|| "The packet is looked up again, and goes on here then.".to_owned());
        self.recirculate(frozen, None);
    }

    /// Sends the packet to a controller, which has the rest of the walk done, or not.
    pub(super) fn pause(&mut self, to: &ControllerAction, frames: &mut [Frame<'a>], root: Root) {
        let origin = frames.last().map_or(Origin::none(), |f| f.origin);
        let frozen = self.freeze_frames(frames, root);
        self.tell_controllers(to, origin, Some(Opaque(Arc::new(frozen))));
        self.blame.get_or_insert(DropReason::Paused);
    }

    /// Does all that is left once with the bit set and once with it cleared, and lets the datapath choose.
    pub(super) fn fork(&mut self, len: u16, dst: Subfield, frames: &mut [Frame<'a>], root: Root) {
        self.forks += 1;
        if self.forks > MAX_FORKS || self.depth >= MAX_DEPTH {
            return self.fatal(DropReason::TooManyResubmits);
        }
        self.commit();
        self.depth += 1;
        let (from, whole) = boundary(frames);
        // Whether what is around a clone ends is known before the datapath chooses: the longer packets say it, as they
        // do in Open vSwitch.
        let mut exits = false;
        let mut lists = [1, 0].map(|bit| {
            let mut copies: Vec<Frame<'a>> = frames[from..].iter().map(again).collect();
            let saved = self.save();
            self.write(dst, bit);
            self.record(StepKind::Branch, || match bit {
                1 => format!("packets longer than {len}:"),
                _ => format!("packets of at most {len}:"),
            });
            self.run_frames(&mut copies, root);
            exits |= bit == 1 && self.exit;
            if !whole || root == Root::Whole {
                self.run_set();
            }
            self.leave();
            let list: Arc<[DpAction]> = self.undo(*saved).into();
            list
        });
        self.depth -= 1;
        frames[from..].iter_mut().for_each(Frame::skip);
        self.exit |= exits;
        if !whole || root == Root::Whole {
            self.action_set.clear();
        }
        if lists.iter().any(|list| !list.is_empty()) {
            let [greater, not_greater] = std::mem::take(&mut lists);
            self.emit(DpAction::CheckPktLen { len, greater, not_greater });
        }
    }
}

/// What is left of a frame, to be executed once more.
fn again<'a>(frame: &Frame<'a>) -> Frame<'a> {
    let end = if let End::Rule(i) = frame.end { End::Rule(i) } else { End::Return };
    Frame { next: frame.next, end, ..Frame::of(frame.actions.clone(), frame.origin) }
}

impl Packet {
    /// Whether what connection tracking said of the datapath's packet counts.
    pub(super) fn is_tracked(&self) -> bool {
        self.key.packet.extras & EXTRA_CT != 0 && self.settled.0.ct.state == 0
    }

    /// Forgets what connection tracking said, but not the hash.
    pub(super) fn forget_tracking(&mut self) {
        let (hash, settled) = (self.key.ct.dp_hash, self.settled.0.ct.dp_hash);
        let mut ones = FlowKey::default();
        ones.words_mut().fill(u64::MAX);
        self.key.ct = weft_flow::CtKey { dp_hash: hash, ..Default::default() };
        self.settled.0.ct = weft_flow::CtKey { dp_hash: settled, ..ones.ct };
    }

    /// Takes a frozen walk's state over.
    pub(super) fn thaw(&mut self, frozen: &Frozen) {
        // What the packet begins with is known anew.
        let packet_type = self.key.pipeline.packet_type;
        self.key.pipeline = PipelineKey { packet_type, ..frozen.pipeline };
        self.told = frozen.told;
        self.hashed = frozen.hashed;
        let (mut known, mut bits) = (FlowKey::default(), FlowKey::default());
        (known.tunnel, bits.tunnel) = frozen.tunnel;
        if let Some(options) = &frozen.options {
            (known.tun_metadata, bits.tun_metadata) = **options;
            self.options_written = true;
        }
        let words = self.key.words_mut().iter_mut().zip(self.settled.0.words_mut());
        for ((word, settled), (known, bits)) in words.zip(known.words().iter().zip(bits.words())) {
            *word = *word & !bits | known & bits;
            *settled |= bits;
        }
        if !frozen.conntracked {
            self.forget_tracking();
        }
    }
}
