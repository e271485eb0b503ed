//! Which frames does a list of actions have in hand, and which of them may it change?
//!
//! A frame that a queue, or an enclosing list, still needs as it is gets copied by whoever changes it.

use smallvec::SmallVec;
use weft_flow::DropReason;
use weft_wire::segment::Segmenter;

use crate::executor::Executor;
use crate::packet::{BATCH, Packet, Slot};
use crate::rewrite::NotThere;

/// Frames in hand; those beyond the caller's own are copies, to be released.
pub(crate) struct Hand {
    pub(crate) slots: SmallVec<[Slot; BATCH]>,
    /// Whether each is a copy made here.
    copied: SmallVec<[bool; BATCH]>,
}

impl Hand {
    /// Frames that the caller holds.
    pub(crate) fn of(slots: &[Slot]) -> Self {
        Hand { slots: slots.into(), copied: SmallVec::from_elem(false, slots.len()) }
    }
}

impl Executor {
    /// Lets go of the frame at a place.
    fn put_down(&mut self, hand: &mut Hand, at: usize) {
        let slot = hand.slots.remove(at);
        if hand.copied.remove(at) {
            self.pool.release(slot);
        }
    }

    /// Lets go of all frames.
    pub(crate) fn put_down_all(&mut self, hand: Hand) {
        for (slot, copied) in hand.slots.iter().zip(&hand.copied) {
            if *copied {
                self.pool.release(*slot);
            }
        }
    }

    /// Makes the frame at a place one that may be changed: a copy, if others need it as it is. False: dropped.
    pub(crate) fn own(&mut self, hand: &mut Hand, at: usize) -> bool {
        if !self.pool.is_shared(hand.slots[at]) {
            return true;
        }
        let copy = self.copy(hand.slots[at]);
        if hand.copied[at] {
            self.pool.release(hand.slots[at]);
        }
        hand.copied[at] = copy.is_some();
        if let Some(copy) = copy {
            hand.slots[at] = copy;
        }
        copy.is_some()
    }

    /// Changes every frame in hand. Frames that the change does not fit are dropped.
    pub(crate) fn change(
        &mut self,
        hand: &mut Hand,
        mut change: impl FnMut(&mut Packet) -> Result<(), NotThere>,
    ) {
        self.each(hand, |exec, hand, at| {
            if !exec.own(hand, at) {
                return false;
            }
            let fits = change(exec.pool.get_mut(hand.slots[at])).is_ok();
            if !fits {
                exec.drop_slot(hand.slots[at], DropReason::BadAction);
            }
            fits
        });
    }

    /// Has every frame in hand judged; one that is not to stay is let go of.
    pub(crate) fn each(
        &mut self,
        hand: &mut Hand,
        mut stays: impl FnMut(&mut Executor, &mut Hand, usize) -> bool,
    ) {
        let mut at = 0;
        while at < hand.slots.len() {
            if stays(self, hand, at) {
                at += 1;
            } else {
                self.put_down(hand, at);
            }
        }
    }

    /// Changes the frame at a place in a list that [`Executor::each`] goes through. False: dropped.
    pub(crate) fn change_one(
        &mut self,
        hand: &mut Hand,
        at: usize,
        change: impl FnOnce(&mut Packet) -> Result<(), NotThere>,
    ) -> bool {
        if !self.own(hand, at) {
            return false;
        }
        let slot = hand.slots[at];
        let fits = change(self.pool.get_mut(slot)).is_ok();
        if !fits {
            self.drop_slot(slot, DropReason::BadAction);
        }
        fits
    }

    /// Cuts a GSO frame and hands the segments on, some at a time, in order; each is done with when `then` returns.
    pub(crate) fn cut(&mut self, slot: Slot, mut then: impl FnMut(&mut Executor, &[Slot])) {
        if self.pool.spare() < BATCH {
            self.flush();
        }
        let whole = self.pool.detach(slot);
        let offload = whole.offload;
        let mut failed = None;
        match Segmenter::new(whole.data(), &offload) {
            Ok(cut) => {
                self.handle().counters.gso_segment.add(1);
                let mut index = 0;
                while index < cut.count() && failed.is_none() {
                    let mut part: SmallVec<[Slot; BATCH]> = SmallVec::new();
                    while index < cut.count()
                        && part.len() < BATCH
                        && let Some(to) = self.pool.take()
                    {
                        part.push(to);
                        let packet = self.pool.get_mut(to);
                        packet.received(cut.segment_len(index), whole.in_port);
                        packet.inherit(&whole);
                        if cut.write(index, packet.data_mut()).is_err() {
                            packet.truncate(0);
                        }
                        index += 1;
                    }
                    if part.is_empty() {
                        failed = Some(DropReason::TxQueueFull);
                    }
                    then(self, &part);
                    part.iter().for_each(|slot| self.pool.release(*slot));
                }
            }
            Err(_) => failed = Some(DropReason::BadOffloadHeader),
        }
        if let Some(reason) = failed {
            self.drop_received(whole.in_port, reason, 1);
        }
        self.pool.attach(slot, whole);
    }
}
