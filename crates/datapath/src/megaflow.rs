//! Which cached flow matches this packet? Tuple-space search over the masks in use.
//!
//! Flows of one input port and walk ([`Scope`]) with the same mask share a [`Subtable`]: a hash table over the masked
//! words. A look-up tries the subtables of its scope in the order of their hits. Values stand in the flows themselves
//! ([`crate::flows`]); tables hold indices and tags only.
//!
//! Crafted packets can bring about a mask each (the tuple-space explosion of CoNEXT 2019). They make look-ups of their
//! own port long, not of others; and a scope takes only so many masks, the later ones slowly: see
//! [`Classifier::table_for`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use weft_flow::{FlowKey, FlowMask, SparseMask};

use crate::arch::prefetch;

/// Index of no flow.
const EMPTY: u32 = u32::MAX;
/// Index of a removed flow: probing goes on past it.
const GONE: u32 = u32::MAX - 1;
/// Largest number of masks of a scope.
pub(crate) const MAX_MASKS: usize = 128;
/// Masks of a scope that come without delay. Rules that people write seldom bring about more for one port.
const FREE_MASKS: usize = 32;
/// Milliseconds to wait for each mask beyond those, and how many may be waited for in advance.
const MASK_MS: u64 = 50;
const SAVED_MASKS: u64 = 16;
/// Largest number of subtables; their numbers have 16 bits.
const MAX_TABLES: usize = 32_768;

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
    /// Whose it is: input port and walk that its flows match, the first word of their keys.
    scope: u64,
    slots: Box<[Slot]>,
    /// Live flows.
    len: usize,
    /// Slots not [`EMPTY`].
    used: usize,
    /// Hits since the last sort, decaying.
    hits: u64,
}

impl Subtable {
    fn new(mask: &FlowMask, scope: u64) -> Self {
        let (mask, whole) = (SparseMask::cached(mask), Box::new(*mask));
        Subtable {
            mask,
            whole,
            scope,
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

/// The subtables that packets of one input port, at one stage of their way, may find their flow in.
#[derive(Default)]
struct Scope {
    /// Their numbers, most hits first.
    order: Vec<u16>,
    /// When a further mask would have been waited for, milliseconds.
    paid_until_ms: u64,
}

impl Scope {
    /// Whether one more mask may come now.
    fn admits(&mut self, now_ms: u64) -> bool {
        if self.order.len() < FREE_MASKS {
            return true;
        }
        let paid = self.paid_until_ms.max(now_ms.saturating_sub(SAVED_MASKS * MASK_MS)) + MASK_MS;
        let admitted = self.order.len() < MAX_MASKS && paid <= now_ms;
        if admitted {
            self.paid_until_ms = paid;
        }
        admitted
    }
}

/// Hashes the first word of a key, which nobody outside chooses.
#[derive(Default)]
struct WordHasher(u64);

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

/// All subtables of one lane.
pub(crate) struct Classifier {
    /// Start of every hash.
    seed: u64,
    /// Subtables by number; a number is kept as long as the mask has flows.
    tables: Vec<Option<Subtable>>,
    /// Numbers that are free.
    free: Vec<u16>,
    scopes: HashMap<u64, Scope, BuildHasherDefault<WordHasher>>,
}

/// Gives the values of a flow, packed as its mask packs them.
pub(crate) trait Values {
    fn values(&self, flow: u32) -> &[u64];
}

impl Classifier {
    /// An empty one; `seed` is random and never 0.
    pub(crate) fn new(seed: u64) -> Self {
        Classifier { seed: seed | 1, tables: Vec::new(), free: Vec::new(), scopes: HashMap::default() }
    }

    /// Number of masks, those of each scope counted apart.
    pub(crate) fn masks(&self) -> usize {
        self.tables.len() - self.free.len()
    }

    /// The subtable of that number, which must have flows.
    #[inline]
    pub(crate) fn table(&self, number: u16) -> Option<&Subtable> {
        self.tables.get(usize::from(number))?.as_ref()
    }

    /// Asks for the memory that a look-up begins with.
    #[inline]
    pub(crate) fn prefetch(&self, key: &FlowKey) {
        let key = key.words();
        let first = self.scopes.get(&key[0]).and_then(|scope| scope.order.first());
        if let Some(Some(table)) = first.map(|number| &self.tables[usize::from(*number)]) {
            let at = table.mask.hash_masked(key, self.seed) as usize & (table.slots.len() - 1);
            prefetch(&table.slots[at]);
        }
    }

    /// Finds the flow that matches `key`, under the `most` masks that are hit most. Returns it and how many were tried.
    pub(crate) fn lookup(&self, key: &FlowKey, most: usize, flows: &impl Values) -> (Option<u32>, u32) {
        let key = key.words();
        let Some(scope) = self.scopes.get(&key[0]) else { return (None, 0) };
        let mut tried = 0;
        for number in scope.order.iter().take(most) {
            let Some(table) = &self.tables[usize::from(*number)] else { continue };
            let mask = &table.mask;
            tried += 1;
            let hash = mask.hash_masked(key, self.seed);
            let found = table.find(hash, |flow| mask.matches_packed(key, flows.values(flow)));
            if let Some((_, flow)) = found {
                return (Some(flow), tried);
            }
        }
        (None, tried)
    }

    /// The number of the subtable for a mask of flows like `key`, made if need be. `None`: there are too many masks, or
    /// they come too fast; not when the mask is `wanted` all the same.
    pub(crate) fn table_for(
        &mut self,
        key: &FlowKey,
        mask: &FlowMask,
        wanted: bool,
        now_ms: u64,
    ) -> Option<u16> {
        let word = key.words()[0];
        let scope = self.scopes.entry(word).or_default();
        let tables = &self.tables;
        let is_it = |number: &&u16| tables[usize::from(**number)].as_ref().is_some_and(|t| *t.whole == *mask);
        if let Some(number) = scope.order.iter().find(is_it) {
            return Some(*number);
        }
        let room = !self.free.is_empty() || self.tables.len() < MAX_TABLES;
        if !room || !(wanted || scope.admits(now_ms)) {
            return None;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.tables.push(None);
            (self.tables.len() - 1) as u16
        });
        self.tables[usize::from(number)] = Some(Subtable::new(mask, word));
        scope.order.push(number);
        Some(number)
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
            if let Some(scope) = self.scopes.get_mut(&table.scope) {
                scope.order.retain(|n| *n != number);
            }
            self.tables[usize::from(number)] = None;
            self.free.push(number);
        }
    }

    /// Counts packets that found a flow of a subtable without asking for it here.
    pub(crate) fn used(&mut self, number: u16, packets: u64) {
        // Masks of narrow flows stay last: what others wait for is not found there.
        if let Some(Some(table)) = self.tables.get_mut(usize::from(number))
            && table.whole.0.packet.pad0 == 0
        {
            table.hits += packets;
        }
    }

    /// Puts the subtables that were hit most to the front, and lets old hits fade.
    pub(crate) fn sort(&mut self) {
        let tables = &mut self.tables;
        let hits = |n: &u16| std::cmp::Reverse(tables[usize::from(*n)].as_ref().map_or(0, |t| t.hits));
        self.scopes.values_mut().for_each(|scope| scope.order.sort_by_key(hits));
        // Walks that nobody resumes any more.
        self.scopes.retain(|_, scope| !scope.order.is_empty());
        for table in tables.iter_mut().flatten() {
            table.hits /= 2;
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.tables.clear();
        self.free.clear();
        self.scopes.clear();
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
                    let number = classifier.table_for(&k, &mask(kind), true, 0).unwrap();
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
                    prop_assert_eq!(classifier.lookup(&probe, usize::MAX, &store).0, slow);
                }
            }
            for (flow, number, _) in live {
                classifier.remove(number, flow, &store);
            }
            prop_assert_eq!(classifier.masks(), 0);
        }
    }
}
