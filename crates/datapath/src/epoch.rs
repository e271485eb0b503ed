//! Is a cached flow still right? Epochs tell when it has to be asked.
//!
//! Each change that a lane takes notice of begins a new epoch. A flow of an older epoch is stale if the tables
//! changed since, or something it depends on (by its tags). Nothing is walked at once: that would stop traffic for
//! as long as the cache is large. A stale flow is walked again when it is next hit, or by the sweep.

use weft_flow::DepTags;
use weft_pipeline::Changed;

/// When what changed, as a lane saw it.
pub(crate) struct Epochs {
    now: u32,
    tables: u32,
    /// By bit of [`DepTags`].
    tags: [u32; 64],
}

impl Default for Epochs {
    fn default() -> Self {
        Epochs { now: 1, tables: 0, tags: [0; 64] }
    }
}

impl Epochs {
    /// The current epoch.
    #[inline(always)]
    pub(crate) fn now(&self) -> u32 {
        self.now
    }

    /// Begins a new epoch.
    pub(crate) fn follow(&mut self, changed: Changed) {
        self.now += 1;
        if changed.tables {
            self.tables = self.now;
        }
        for (bit, epoch) in self.tags.iter_mut().enumerate() {
            if changed.tags.0 & (1 << bit) != 0 {
                *epoch = self.now;
            }
        }
    }

    /// Whether a flow found right in `epoch` may be wrong now.
    pub(crate) fn is_stale(&self, epoch: u32, deps: DepTags) -> bool {
        self.tables > epoch
            || self.tags.iter().enumerate().any(|(bit, since)| deps.0 & (1 << bit) != 0 && *since > epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_since_makes_stale() {
        let mut epochs = Epochs::default();
        let (mine, other) = (DepTags(0b101), DepTags(0b010));
        let before = epochs.now();
        assert!(!epochs.is_stale(before, mine));
        epochs.follow(Changed { tables: false, tags: DepTags(0b100) });
        assert!(epochs.is_stale(before, mine) && !epochs.is_stale(before, other));
        let after = epochs.now();
        assert!(!epochs.is_stale(after, mine));
        epochs.follow(Changed { tables: true, tags: DepTags(0) });
        assert!(epochs.is_stale(after, mine) && epochs.is_stale(before, other));
        assert!(!epochs.is_stale(epochs.now(), mine));
    }
}
