//! Which frames are to be looked up again, and how do they become a batch?
//!
//! Frames that a list of actions recirculates wait here, each held once more, until the batch in hand is done. Then
//! they are a batch like any other; their keys have the identifier of the walk they resume, and the sections that the
//! frames carry along.

use smallvec::SmallVec;
use weft_flow::{DropReason, Recirc};

use crate::executor::Executor;
use crate::lane::Lane;
use crate::packet::{BATCH, Slot};

/// Most times that a frame is looked up again.
const MAX_PASSES: u8 = 32;
/// Most frames that are looked up again for one batch received: lists that recirculate twice would else double them
/// with each pass.
pub(crate) const BUDGET: u32 = 128 * BATCH as u32;

/// Frames that resume the same walk.
pub(crate) struct Resumed {
    /// Keeps the walk alive.
    recirc: Recirc,
    /// Outer headers that the frames have lost.
    depth: u8,
    /// How often they were looked up again, this time included.
    passes: u8,
    slots: SmallVec<[Slot; BATCH]>,
}

impl Executor {
    /// Leaves frames to be looked up again after the batch.
    pub(crate) fn recirculate(&mut self, slots: &[Slot], recirc: &Recirc) {
        let allowed = if self.passes < MAX_PASSES { slots.len().min(self.budget as usize) } else { 0 };
        let (slots, refused) = slots.split_at(allowed);
        refused.iter().for_each(|slot| self.drop_slot(*slot, DropReason::RecursionTooDeep));
        if slots.is_empty() {
            return;
        }
        self.budget -= slots.len() as u32;
        slots.iter().for_each(|slot| self.pool.hold(*slot));
        let (depth, passes) = (self.depth, self.passes + 1);
        match self.resumed.back_mut() {
            Some(last)
                if last.recirc == *recirc
                    && (last.depth, last.passes) == (depth, passes)
                    && last.slots.len() + slots.len() <= BATCH =>
            {
                last.slots.extend_from_slice(slots);
            }
            _ => {
                self.resumed.push_back(Resumed { recirc: recirc.clone(), depth, passes, slots: slots.into() })
            }
        }
    }
}

impl Lane {
    /// Makes a batch of frames to be looked up again. False: there are none.
    pub(crate) fn begin_resumed(&mut self) -> bool {
        let (batch, exec) = (&mut self.batch, &mut self.exec);
        let Some(first) = exec.resumed.front() else { return false };
        let level = (first.depth, first.passes);
        (exec.depth, exec.passes) = level;
        batch.begin(0);
        while let Some(entry) = exec.resumed.front_mut()
            && (entry.depth, entry.passes) == level
            && batch.len < BATCH
        {
            let n = entry.slots.len().min(BATCH - batch.len);
            for slot in entry.slots.drain(..n) {
                batch.resume(slot, entry.recirc.id);
            }
            batch.frozen.push(entry.recirc.clone());
            if entry.slots.is_empty() {
                exec.resumed.pop_front();
            }
        }
        exec.handle().counters.recirculate.add(batch.len as u64);
        true
    }
}
