//! Which connections have this hash?
//!
//! Open addressing with linear probing over words of a 32-bit hash and a 32-bit reference. Entries are taken out by
//! moving later ones back, so there are no tombstones and a table does not decay under churn.

/// Where a connection is: a shard and a slot in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnRef(pub(crate) u32);

/// Bits of a [`ConnRef`] that name the slot.
pub(crate) const SLOT_BITS: u32 = 24;

impl ConnRef {
    pub(crate) fn new(shard: usize, slot: u32) -> Self {
        ConnRef((shard as u32) << SLOT_BITS | slot)
    }
    #[inline]
    pub(crate) fn shard(self) -> usize {
        (self.0 >> SLOT_BITS) as usize
    }
    #[inline]
    pub(crate) fn slot(self) -> u32 {
        self.0 & ((1 << SLOT_BITS) - 1)
    }
}

const EMPTY: u64 = u64::MAX;
const MIN_SIZE: usize = 16;

/// The index of one shard.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: Vec<u64>,
    used: usize,
}

impl Index {
    #[inline]
    fn mask(&self) -> usize {
        self.entries.len().wrapping_sub(1)
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * 8
    }

    /// The references under `hash`, in no order.
    #[inline]
    pub(crate) fn get(&self, hash: u32) -> impl Iterator<Item = ConnRef> {
        let mask = self.mask();
        let mut at = hash as usize & mask;
        std::iter::from_fn(move || {
            loop {
                let entry = *self.entries.get(at)?;
                if entry == EMPTY {
                    return None;
                }
                at = (at + 1) & mask;
                if (entry >> 32) as u32 == hash {
                    return Some(ConnRef(entry as u32));
                }
            }
        })
    }

    /// Adds a reference.
    pub(crate) fn insert(&mut self, hash: u32, to: ConnRef) {
        // At most 13/16 full: probes stay short, and never run around.
        if (self.used + 1) * 16 > self.entries.len() * 13 {
            self.resize((self.entries.len() * 2).max(MIN_SIZE));
        }
        self.used += 1;
        place(&mut self.entries, u64::from(hash) << 32 | u64::from(to.0));
    }

    /// Takes a reference out. False if it was not there.
    pub(crate) fn remove(&mut self, hash: u32, to: ConnRef) -> bool {
        let mask = self.mask();
        let wanted = u64::from(hash) << 32 | u64::from(to.0);
        let mut hole = hash as usize & mask;
        loop {
            match self.entries.get(hole) {
                Some(&entry) if entry == wanted => break,
                None | Some(&EMPTY) => return false,
                Some(_) => hole = (hole + 1) & mask,
            }
        }
        self.used -= 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry == EMPTY {
                break;
            }
            // It may move into the hole unless its home lies behind the hole.
            let home = (entry >> 32) as usize & mask;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = EMPTY;
        if self.entries.len() > 4 * MIN_SIZE && self.used * 8 < self.entries.len() {
            self.resize(self.entries.len() / 2);
        }
        true
    }

    fn resize(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.entries, vec![EMPTY; size]);
        for entry in old {
            if entry != EMPTY {
                place(&mut self.entries, entry);
            }
        }
    }
}

/// Puts an entry into the first free place; there is one.
fn place(entries: &mut [u64], entry: u64) {
    let mask = entries.len() - 1;
    let mut at = (entry >> 32) as usize & mask;
    while entries[at] != EMPTY {
        at = (at + 1) & mask;
    }
    entries[at] = entry;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn holds_what_a_set_holds(steps in prop::collection::vec((any::<bool>(), 0u32..48, 0u32..64), 1..400)) {
            let mut index = Index::default();
            let mut model = BTreeSet::new();
            for (add, hash, n) in steps {
                // Few hashes, some near the end of the table.
                let hash = if hash < 24 { hash } else { u32::MAX - hash };
                if add && model.insert((hash, n)) {
                    index.insert(hash, ConnRef(n));
                } else if !add {
                    prop_assert_eq!(index.remove(hash, ConnRef(n)), model.remove(&(hash, n)));
                }
                let found: BTreeSet<_> = index.get(hash).map(|r| (hash, r.0)).collect();
                let want: BTreeSet<_> = model.iter().copied().filter(|m| m.0 == hash).collect();
                prop_assert_eq!(found, want);
                prop_assert_eq!(index.used, model.len());
            }
        }
    }

    #[test]
    fn references() {
        let r = ConnRef::new(255, 0xff_fffe);
        assert_eq!((r.shard(), r.slot()), (255, 0xff_fffe));
        assert!(Index::default().get(5).next().is_none() && !Index::default().remove(5, r));
    }
}
