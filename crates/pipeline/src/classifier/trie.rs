//! How can a map change without being copied? A trie of 64-bit keys whose nodes are shared between versions.
//!
//! A clone is one reference count. A change copies the nodes on the way to its key, and only those that another
//! version shares. Keys are consumed from the most significant bit, so iteration is in order of keys.

use smallvec::SmallVec;
// Without weak references: whether a node is shared is one load, and every change asks that of every node on its way.
use triomphe::Arc;

/// Bits consumed per level.
const BITS: u32 = 6;
/// Slots that a node may have.
const DIGITS: usize = 1 << BITS;

/// A persistent map from `u64`, which is a hash or a number that wants order.
#[derive(Clone, Debug)]
pub(crate) struct Trie<V> {
    root: Arc<Node<V>>,
    len: usize,
}

#[derive(Debug)]
struct Node<V> {
    bitmap: u64,
    slots: Vec<Slot<V>>,
}

impl<V: Clone> Clone for Node<V> {
    /// Whoever copies a node is about to change it: with room for one more.
    fn clone(&self) -> Self {
        let mut slots = Vec::with_capacity(self.slots.len() + 1);
        slots.extend_from_slice(&self.slots);
        Node { bitmap: self.bitmap, slots }
    }
}

#[derive(Clone, Debug)]
enum Slot<V> {
    Leaf(u64, V),
    Node(Arc<Node<V>>),
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Trie { root: Arc::new(Node::empty()), len: 0 }
    }
}

/// The digit of `key` at a depth.
fn digit(key: u64, depth: u32) -> u32 {
    let used = depth * BITS;
    ((key << used) >> (64 - BITS)) as u32
}

impl<V> Node<V> {
    fn empty() -> Self {
        Node { bitmap: 0, slots: Vec::new() }
    }
    /// Inserts a slot. Nodes are many: room is made for a third more, and for no more than there are digits.
    fn insert(&mut self, at: usize, slot: Slot<V>) {
        let len = self.slots.len();
        if len == self.slots.capacity() {
            self.slots.reserve_exact((2 + len / 3).min(DIGITS.saturating_sub(len)));
        }
        self.slots.insert(at, slot);
    }
    fn position(&self, digit: u32) -> (bool, usize) {
        let below = self.bitmap & ((1 << digit) - 1);
        (self.bitmap & (1 << digit) != 0, below.count_ones() as usize)
    }
}

impl<V: Clone> Trie<V> {
    /// Number of keys.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }
    /// Whether both are the same version of one map. False proves nothing.
    pub(crate) fn is_same(&self, other: &Trie<V>) -> bool {
        Arc::ptr_eq(&self.root, &other.root)
    }

    /// Whether there is no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        let mut node = &self.root;
        let mut depth = 0;
        loop {
            let (found, at) = node.position(digit(key, depth));
            if !found {
                return None;
            }
            match &node.slots[at] {
                Slot::Leaf(k, v) => return (*k == key).then_some(v),
                Slot::Node(child) => node = child,
            }
            depth += 1;
        }
    }

    /// The node in which `key` is or would be, going by the number of keys: it is not looked at.
    pub(crate) fn near(&self, key: u64) -> Near<'_, V> {
        let mut near = Near(&self.root, digit(key, 0));
        for depth in 1..=self.len.checked_ilog2().unwrap_or(0) / BITS {
            let (found, at) = near.0.position(near.1);
            match near.0.slots.get(at) {
                Some(Slot::Node(child)) if found => near = Near(child, digit(key, depth)),
                _ => break,
            }
        }
        near
    }

    /// The value of `key`, to change; made by `default` if there is none.
    pub(crate) fn entry(&mut self, key: u64, default: impl Fn() -> V) -> &mut V {
        self.get_or_insert(key, default).0
    }

    /// The value of `key`, to change, and whether it was just made by `default`.
    pub(crate) fn get_or_insert(&mut self, key: u64, default: impl Fn() -> V) -> (&mut V, bool) {
        let (value, added) = entry(Arc::make_mut(&mut self.root), key, 0, &default);
        self.len += usize::from(added);
        (value, added)
    }

    /// The value of `key`, to change.
    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        self.get(key)?;
        Some(self.entry_present(key))
    }

    fn entry_present(&mut self, key: u64) -> &mut V {
        let mut node = Arc::make_mut(&mut self.root);
        let mut depth = 0;
        loop {
            let (_, at) = node.position(digit(key, depth));
            match &mut node.slots[at] {
                Slot::Leaf(_, v) => return v,
                Slot::Node(child) => node = Arc::make_mut(child),
            }
            depth += 1;
        }
    }

    /// Removes `key`.
    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        self.get(key)?;
        self.len -= 1;
        remove(Arc::make_mut(&mut self.root), key, 0)
    }

    /// The greatest key.
    pub(crate) fn max_key(&self) -> Option<u64> {
        let mut node = &self.root;
        loop {
            match node.slots.last()? {
                Slot::Leaf(k, _) => return Some(*k),
                Slot::Node(child) => node = child,
            }
        }
    }

    /// Keys and values, in order.
    pub(crate) fn iter(&self) -> Iter<'_, V> {
        Iter { here: self.root.slots.iter(), above: SmallVec::new() }
    }

    /// The values, in order of their keys.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, v)| v)
    }

    /// Keys that are `from` or greater, and their values, in order.
    pub(crate) fn iter_from(&self, from: u64) -> Iter<'_, V> {
        match from.checked_sub(1) {
            Some(before) => self.iter_after(before),
            None => self.iter(),
        }
    }

    /// Keys greater than `key`, and their values, in order.
    pub(crate) fn iter_after(&self, key: u64) -> Iter<'_, V> {
        let mut above = SmallVec::new();
        let mut node = &self.root;
        let mut depth = 0;
        loop {
            let (found, at) = node.position(digit(key, depth));
            if !found {
                return Iter { here: node.slots[at..].iter(), above };
            }
            match &node.slots[at] {
                Slot::Leaf(k, _) => {
                    return Iter { here: node.slots[at + usize::from(*k <= key)..].iter(), above };
                }
                Slot::Node(child) => {
                    above.push(node.slots[at + 1..].iter());
                    node = child;
                }
            }
            depth += 1;
        }
    }
}

fn entry<'a, V: Clone>(
    node: &'a mut Node<V>,
    key: u64,
    depth: u32,
    default: &impl Fn() -> V,
) -> (&'a mut V, bool) {
    let digit_here = digit(key, depth);
    let (found, at) = node.position(digit_here);
    if !found {
        node.bitmap |= 1 << digit_here;
        node.insert(at, Slot::Leaf(key, default()));
    } else if let Slot::Leaf(other, _) = &node.slots[at]
        && *other != key
    {
        split(&mut node.slots[at], depth + 1);
    }
    match &mut node.slots[at] {
        Slot::Leaf(_, v) => (v, !found),
        Slot::Node(child) => entry(Arc::make_mut(child), key, depth + 1, default),
    }
}

/// Puts a leaf one level deeper.
fn split<V>(slot: &mut Slot<V>, depth: u32) {
    let node = Slot::Node(Arc::new(Node::empty()));
    if let leaf @ Slot::Leaf(..) = std::mem::replace(slot, node)
        && let (Slot::Leaf(key, _), Slot::Node(child)) = (&leaf, slot)
        && let Some(child) = Arc::get_mut(child)
    {
        child.bitmap = 1 << digit(*key, depth);
        child.insert(0, leaf);
    }
}

fn remove<V: Clone>(node: &mut Node<V>, key: u64, depth: u32) -> Option<V> {
    let digit_here = digit(key, depth);
    let (found, at) = node.position(digit_here);
    if !found {
        return None;
    }
    if let Slot::Node(child) = &mut node.slots[at] {
        let child = Arc::make_mut(child);
        let removed = remove(child, key, depth + 1);
        // A lone leaf moves up, so that the shape depends on the keys only.
        match child.slots.len() {
            1 if matches!(child.slots[0], Slot::Leaf(..)) => {
                if let Some(leaf) = child.slots.pop() {
                    node.slots[at] = leaf;
                }
            }
            _ => {}
        }
        return removed;
    }
    node.bitmap &= !(1 << digit_here);
    match node.slots.remove(at) {
        Slot::Leaf(_, v) => Some(v),
        Slot::Node(_) => None,
    }
}

/// Iterator over the keys and values of a [`Trie`].
pub(crate) struct Iter<'a, V> {
    /// What is left of the node at hand.
    here: std::slice::Iter<'a, Slot<V>>,
    /// What is left of the nodes above it.
    above: SmallVec<[std::slice::Iter<'a, Slot<V>>; 4]>,
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (u64, &'a V);

    #[inline]
    fn next(&mut self) -> Option<(u64, &'a V)> {
        loop {
            match self.here.next() {
                Some(Slot::Leaf(k, v)) => return Some((*k, v)),
                Some(Slot::Node(child)) => {
                    let rest = std::mem::replace(&mut self.here, child.slots.iter());
                    // Nodes of which nothing is left are not come back to: those on the way down often have one child.
                    if !rest.as_slice().is_empty() {
                        self.above.push(rest);
                    }
                }
                None => self.here = self.above.pop()?,
            }
        }
    }
}

/// A node, and a digit to look for in it.
pub(crate) struct Near<'a, V>(&'a Node<V>, u32);

impl<V> Near<'_, V> {
    /// Reads the node.
    pub(crate) fn touch(&self) -> u64 {
        self.0.bitmap
    }
    /// Reads the slot.
    pub(crate) fn touch_slot(&self) -> u64 {
        let slot = self.0.slots.get(self.0.position(self.1).1);
        u64::from(matches!(slot, Some(Slot::Leaf(..))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a BTreeMap, with old versions that must not change.
        #[test]
        fn is_a_map(ops in proptest::collection::vec((any::<bool>(), 0u64..64, any::<bool>()), 1..200)) {
            let mut model = BTreeMap::new();
            let mut trie = Trie::default();
            let mut old = Vec::new();
            for (n, (insert, key, low)) in ops.into_iter().enumerate() {
                // Keys that differ at the very top or at the very bottom.
                let key = if low { key } else { key << 56 };
                if n % 16 == 0 {
                    old.push((model.clone(), trie.clone()));
                }
                if insert {
                    model.insert(key, n);
                    *trie.entry(key, || 0) = n;
                } else {
                    prop_assert_eq!(trie.remove(key), model.remove(&key));
                }
                if let Some(v) = trie.get_mut(key) {
                    *v += 1;
                    *model.get_mut(&key).unwrap() += 1;
                }
                prop_assert_eq!(trie.max_key(), model.keys().last().copied());
            }
            old.push((model, trie));
            for (model, trie) in old {
                prop_assert_eq!(trie.len(), model.len());
                prop_assert_eq!(trie.values().collect::<Vec<_>>(), model.values().collect::<Vec<_>>());
                for key in (0..64).flat_map(|k| [k, k << 56]) {
                    let after: Vec<_> = trie.iter_after(key).map(|(k, v)| (k, *v)).collect();
                    prop_assert_eq!(after, model.range(key + 1..).map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
                    let from = trie.iter_from(key).count();
                    prop_assert_eq!(from, model.range(key..).count());
                }
                for key in model.keys() {
                    prop_assert_eq!(trie.get(*key), model.get(key));
                    prop_assert!(trie.near(*key).touch() != 0);
                }
            }
        }
    }
}
