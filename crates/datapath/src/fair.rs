//! Who gets how much of a lane's time?
//!
//! Two rules. Sources that have frames at the same time get equal shares of it, time in the slow path counting more,
//! so that whoever makes a lane walk the tables pays for it himself. And on a lane that never sleeps, the slow path
//! gets at most a third: beyond, packets that no cached flow matches are dropped ([`weft_flow::DropReason::UpcallOverload`]),
//! and those of known flows are forwarded. Crafted packets that each need a walk, or a mask, thus take no more than
//! half of the forwarding rate, by whichever port they come.

use crate::arch::ticks;

/// Ticks that a source may be ahead of the one that had the least.
const AHEAD: u64 = 200_000;
/// Ticks of the slow path that are saved up while a lane sleeps: bursts of new connections are served at once.
const SAVED: i64 = 40_000_000;
/// Rounds without a packet of a known flow after which there is nobody to protect.
const ALONE: u32 = 64;

/// What sources have had, and what the slow path may have.
#[derive(Default)]
pub(crate) struct Fairness {
    /// Ticks that each source had, by index; as many as `floor` for a source that had less while it had no frames.
    had: Vec<u64>,
    /// The least that any source with frames had. It only grows.
    floor: u64,
    /// Ticks that the slow path may still have; may be negative.
    credit: i64,
    /// Ticks in the slow path since the turn began.
    slow: u64,
    /// Rounds since a packet of a known flow came.
    without_hits: u32,
    /// Whether misses are to be dropped.
    spent: bool,
}

impl Fairness {
    /// A source has frames: it does not make up for the time in which it had none, nor does it pay for the time in
    /// which others had none.
    pub(crate) fn joined(&mut self, source: usize) {
        if self.had.len() <= source {
            self.had.resize(source + 1, 0);
        }
        self.had[source] = self.had[source].max(self.floor);
    }

    /// A round over these sources begins. Returns what the one that had the least had.
    pub(crate) fn round(&mut self, ready: &[usize]) -> u64 {
        let least = ready.iter().filter_map(|source| self.had.get(*source)).min().copied();
        self.floor = self.floor.max(least.unwrap_or(0));
        self.floor
    }

    /// Whether it is the source's turn, when the others had at least `least`.
    pub(crate) fn may(&self, source: usize, least: u64) -> bool {
        self.had.get(source).is_none_or(|had| *had <= least + AHEAD)
    }

    /// A turn ends that began at `start`.
    pub(crate) fn turn_ends(&mut self, source: usize, start: u64) {
        let ticks = ticks().wrapping_sub(start);
        let slow = std::mem::take(&mut self.slow).min(ticks);
        if let Some(had) = self.had.get_mut(source) {
            *had += ticks + 2 * slow;
        }
        // The slow path may have half as much as all else.
        self.credit = (self.credit + (ticks - slow) as i64 / 2 - slow as i64).clamp(-SAVED, SAVED);
        self.spent = self.credit < 0 && self.without_hits < ALONE;
    }

    /// The slow path was left that was entered at `start`.
    pub(crate) fn slow_ends(&mut self, start: u64) {
        self.slow += ticks().wrapping_sub(start);
    }

    /// So many packets of a batch were of known flows.
    #[inline(always)]
    pub(crate) fn hits(&mut self, hits: usize) {
        self.without_hits = if hits > 0 { 0 } else { self.without_hits.saturating_add(1) };
    }

    /// Whether the slow path had its share.
    #[inline(always)]
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }

    /// The lane had nothing to do: whoever comes first is alone.
    pub(crate) fn slept(&mut self) {
        (self.credit, self.spent, self.without_hits) = (SAVED, false, ALONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns() {
        let mut fair = Fairness::default();
        (0..2).for_each(|source| fair.joined(source));
        fair.had = vec![10 + AHEAD + 1, 10];
        let least = fair.round(&[0, 1]);
        assert!(!fair.may(0, least) && fair.may(1, least));
        let alone = fair.round(&[0]);
        assert!(fair.may(0, alone), "alone it is always its turn");
        // Who joins has no claim on the past, and whoever was busy then is not made to wait for it.
        fair.joined(2);
        let least = fair.round(&[0, 2]);
        assert!(fair.had[2] == fair.had[0] && fair.may(0, least) && fair.may(2, least));
    }

    #[test]
    fn the_slow_path_has_its_share() {
        let mut fair = Fairness::default();
        fair.joined(0);
        let turn = |fair: &mut Fairness, slow: u64, fast: u64| {
            fair.slow = slow;
            fair.turn_ends(0, ticks().wrapping_sub(slow + fast));
        };
        fair.slept();
        turn(&mut fair, 90_000_000, 0);
        assert!(!fair.is_spent(), "nobody else was there yet");
        fair.slept();
        fair.hits(1);
        turn(&mut fair, 30_000_000, 0);
        assert!(!fair.is_spent(), "saved up");
        turn(&mut fair, 30_000_000, 0);
        assert!(fair.is_spent());
        turn(&mut fair, 0, 90_000_000);
        assert!(!fair.is_spent(), "earned by the others");
        turn(&mut fair, 90_000_000, 0);
        assert!(fair.is_spent());
        (0..ALONE).for_each(|_| fair.hits(0));
        turn(&mut fair, 1_000, 0);
        assert!(!fair.is_spent(), "there is nobody else");
    }
}
