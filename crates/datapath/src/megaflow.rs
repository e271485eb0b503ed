//! Which cached flow matches this packet? Tuple-space search over the masks in use.
//!
//! Flows with the same mask share a [`Subtable`]: a hash table over the masked words. A look-up tries the
//! subtables in the order of their hits. Values stand in the flows themselves ([`crate::flows`]); tables hold
//! indices and tags only.

use weft_flow::{FlowKey, FlowMask, SparseMask};

/// Index of no flow.
const EMPTY: u32 = u32::MAX;
/// Index of a removed flow: probing goes on past it.
const GONE: u32 = u32::MAX - 1;
/// Largest number of masks; a verdict with a further one is not cached, so that crafted rules and packets cannot
/// make every look-up long (the tuple-space explosion of CoNEXT 2019).
pub(crate) const MAX_MASKS: usize = 512;

/// A slot of a subtable: the high half of the hash and the flow.
#[derive(Clone, Copy)]
struct Slot {
    tag: u32,
    flow: u32,
}

/// The flows of one mask.
pub(crate) struct Subtable {
    pub(crate) mask: SparseMask,
    /// The mask as it came, to recognise it by.
    whole: Box<FlowMask>,
    slots: Box<[Slot]>,
    /// Live flows.
    len: usize,
    /// Slots not [`EMPTY`].
    used: usize,
    /// Hits since the last sort, decaying.
    hits: u64,
}

impl Subtable {
    fn new(mask: &FlowMask) -> Self {
        let (mask, whole) = (SparseMask::cached(mask), Box::new(*mask));
        Subtable {
            mask,
            whole,
            slots: vec![Slot { tag: 0, flow: EMPTY }; 16].into(),
            len: 0,
            used: 0,
            hits: 0,
        }
    }

    /// The first flow under the hash that `equal` accepts.
    #[inline]
    fn find(&self, hash: u64, mut equal: impl FnMut(u32) -> bool) -> Option<(usize, u32)> {
        let (tag, wrap) = ((hash >> 32) as u32, self.slots.len() - 1);
        let mut at = hash as usize & wrap;
        loop {
            let slot = self.slots[at];
            if slot.flow == EMPTY {
                return None;
            }
            if slot.tag == tag && slot.flow != GONE && equal(slot.flow) {
                return Some((at, slot.flow));
            }
            at = (at + 1) & wrap;
        }
    }

    fn place(slots: &mut [Slot], hash: u64, flow: u32) -> bool {
        let wrap = slots.len() - 1;
        let mut at = hash as usize & wrap;
        while slots[at].flow < GONE {
            at = (at + 1) & wrap;
        }
        let fresh = slots[at].flow == EMPTY;
        slots[at] = Slot { tag: (hash >> 32) as u32, flow };
        fresh
    }
}

/// All subtables of one lane.
pub(crate) struct Classifier {
    /// Start of every hash.
    seed: u64,
    /// Subtables by number; a number is kept as long as the mask has flows.
    tables: Vec<Option<Subtable>>,
    /// Numbers of the subtables, most hits first.
    order: Vec<u16>,
}

/// Gives the values of a flow, packed as its mask packs them.
pub(crate) trait Values {
    fn values(&self, flow: u32) -> &[u64];
}

impl Classifier {
    /// An empty one; `seed` is random and never 0.
    pub(crate) fn new(seed: u64) -> Self {
        Classifier { seed: seed | 1, tables: Vec::new(), order: Vec::new() }
    }

    /// Number of masks.
    pub(crate) fn masks(&self) -> usize {
        self.order.len()
    }

    /// The subtable of that number, which must have flows.
    #[inline]
    pub(crate) fn table(&self, number: u16) -> Option<&Subtable> {
        self.tables.get(usize::from(number))?.as_ref()
    }

    /// Finds the flow that matches `key`. Returns it and how many masks were tried.
    pub(crate) fn lookup(&mut self, key: &FlowKey, flows: &impl Values) -> (Option<u32>, u32) {
        for (tried, number) in self.order.iter().enumerate() {
            let Some(table) = &mut self.tables[usize::from(*number)] else { continue };
            let (mask, key) = (&table.mask, key.words());
            let hash = mask.hash_masked(key, self.seed);
            let found = table.find(hash, |flow| mask.matches_packed(key, flows.values(flow)));
            if let Some((_, flow)) = found {
                table.hits += 1;
                return (Some(flow), tried as u32 + 1);
            }
        }
        (None, self.order.len() as u32)
    }

    /// The number of the subtable for a mask, made if need be; `None` if there are too many masks.
    pub(crate) fn table_for(&mut self, mask: &FlowMask) -> Option<u16> {
        let known = self.order.iter().find(|n| self.table(**n).is_some_and(|t| *t.whole == *mask));
        if let Some(number) = known {
            return Some(*number);
        }
        if self.order.len() >= MAX_MASKS {
            return None;
        }
        let at = self.tables.iter().position(Option::is_none).unwrap_or_else(|| {
            self.tables.push(None);
            self.tables.len() - 1
        });
        self.tables[at] = Some(Subtable::new(mask));
        self.order.push(at as u16);
        Some(at as u16)
    }

    /// The flow with exactly these values in a subtable.
    pub(crate) fn exact(&self, number: u16, key: &FlowKey, flows: &impl Values) -> Option<u32> {
        let table = self.table(number)?;
        let (mask, key) = (&table.mask, key.words());
        let hash = mask.hash_masked(key, self.seed);
        table.find(hash, |flow| mask.matches_packed(key, flows.values(flow))).map(|(_, flow)| flow)
    }

    /// Puts a flow into its subtable; `key` is any key that it matches.
    pub(crate) fn insert(&mut self, number: u16, key: &FlowKey, flow: u32, flows: &impl Values) {
        let Some(table) = &mut self.tables[usize::from(number)] else { return };
        if (table.used + 1) * 2 > table.slots.len() {
            let room = ((table.len + 1) * 4).next_power_of_two().max(16);
            let mut slots: Box<[Slot]> = vec![Slot { tag: 0, flow: EMPTY }; room].into();
            for slot in table.slots.iter().filter(|s| s.flow < GONE) {
                let hash = table.mask.hash_packed(flows.values(slot.flow), self.seed);
                Subtable::place(&mut slots, hash, slot.flow);
            }
            table.slots = slots;
            table.used = table.len;
        }
        let hash = table.mask.hash_masked(key.words(), self.seed);
        table.used += usize::from(Subtable::place(&mut table.slots, hash, flow));
        table.len += 1;
    }

    /// Removes a flow; its values must still be there.
    pub(crate) fn remove(&mut self, number: u16, flow: u32, flows: &impl Values) {
        let Some(table) = &mut self.tables[usize::from(number)] else { return };
        let hash = table.mask.hash_packed(flows.values(flow), self.seed);
        if let Some((at, _)) = table.find(hash, |f| f == flow) {
            table.slots[at].flow = GONE;
            table.len -= 1;
        }
        if table.len == 0 {
            self.tables[usize::from(number)] = None;
            self.order.retain(|n| *n != number);
        }
    }

    /// Puts the subtables that were hit most to the front, and lets old hits fade.
    pub(crate) fn sort(&mut self) {
        let tables = &mut self.tables;
        self.order.sort_by_key(|n| std::cmp::Reverse(tables[usize::from(*n)].as_ref().map_or(0, |t| t.hits)));
        for table in tables.iter_mut().flatten() {
            table.hits /= 2;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.tables.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Store(Vec<Vec<u64>>);
    impl Values for Store {
        fn values(&self, flow: u32) -> &[u64] {
            &self.0[flow as usize]
        }
    }

    fn mask(kind: u8) -> FlowMask {
        let mut m = FlowMask::empty();
        m.0.packet.in_port = u32::MAX;
        match kind % 3 {
            0 => m.0.packet.ipv4_dst = u32::MAX,
            1 => m.0.packet.ipv4_dst = 0xffff_ff00,
            _ => m.0.packet.tp_dst = u16::MAX,
        }
        m
    }

    fn key(port: u32, dst: u32) -> FlowKey {
        let mut k = FlowKey::default();
        (k.packet.in_port, k.packet.ipv4_dst, k.packet.tp_dst) = (port, dst, dst as u16);
        k
    }

    proptest! {
        /// Whatever is put in and taken out, a look-up finds what a search through all flows finds.
        #[test]
        fn agrees_with_a_linear_search(steps in prop::collection::vec((any::<bool>(), 0u8..3, 0u32..4, 0u32..600), 1..300)) {
            let (mut store, mut classifier) = (Store::default(), Classifier::new(7));
            let mut live: Vec<(u32, u16, SparseMask)> = Vec::new();
            for (add, kind, port, dst) in steps {
                // Masks partition the in_ports, so that no two flows overlap.
                let k = key(port * 3 + u32::from(kind), dst);
                if add {
                    let number = classifier.table_for(&mask(kind)).unwrap();
                    if classifier.exact(number, &k, &store).is_none() {
                        let sparse = SparseMask::cached(&mask(kind));
                        let flow = store.0.len() as u32;
                        store.0.push(sparse.pack(k.words()).to_vec());
                        classifier.insert(number, &k, flow, &store);
                        live.push((flow, number, sparse));
                    }
                } else if !live.is_empty() {
                    let (flow, number, _) = live.swap_remove(dst as usize % live.len());
                    classifier.remove(number, flow, &store);
                }
                classifier.sort();
                for probe in [k, key(port * 3, dst ^ 1), key(1, dst)] {
                    let slow = live.iter().find(|(f, _, m)| m.matches_packed(probe.words(), store.values(*f))).map(|l| l.0);
                    prop_assert_eq!(classifier.lookup(&probe, &store).0, slow);
                }
            }
            for (flow, number, _) in live {
                classifier.remove(number, flow, &store);
            }
            prop_assert_eq!(classifier.masks(), 0);
        }
    }
}
