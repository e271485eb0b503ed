//! Which rule matches? Tuple-space search over one flow table.
//!
//! Rules with the same mask are a subtable, a map from masked words to rules. Subtables are searched in order of their
//! highest priority until none can do better. Within a subtable the words are looked at in stages, and prefixes of
//! addresses and ports are checked against a trie of the whole table, so that a subtable that is of no use for a
//! packet adds as few bits as possible to the mask of what was looked at.
//!
//! The mask is exact in this sense: every key that agrees with the one looked up in the bits added finds the same rule,
//! by the same steps.

mod conjunction;
mod mini;
mod prefix;
mod subtable;
pub(crate) mod tags;
mod trie;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use weft_flow::{FlowKey, FlowMask, Match};

use mini::MiniMask;
pub use mini::MiniMatch;
pub(crate) use mini::{finish, mix};
use prefix::{PrefixLens, Prefixes};
use subtable::{Bucket, Covered, Subtable};
pub(crate) use trie::Trie;

use crate::table::{Rule, Uses};

/// A place in a [`Classifier::scan`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    subtable: u64,
    /// The last hash shown.
    hash: Option<u64>,
}

/// The rules of one table. A clone shares everything.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    /// Highest priority first: the key's high 16 bits are the complement of the priority, the others a number that no
    /// other subtable has.
    order: Trie<Arc<Subtable>>,
    /// Keys of `order`, by the hash of the mask.
    by_mask: Trie<SmallVec<[u64; 1]>>,
    /// Subtables that were ever made.
    made: u64,
    masks: usize,
    prefixes: Prefixes,
    len: usize,
    /// Rules that are clauses of conjunctive matches.
    conjunctive: usize,
}

impl Classifier {
    /// Number of rules.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Number of masks.
    pub fn subtables(&self) -> usize {
        self.masks
    }

    /// The matching rule of highest priority. Adds to `read` the bits that had a part in the choice.
    ///
    /// Rules that are clauses of conjunctive matches are never found themselves; where all clauses of a conjunction
    /// match, and nothing of a higher priority does, the table is searched for the conjunction's identifier.
    pub fn lookup(&self, key: &FlowKey, read: &mut FlowMask) -> Option<&Arc<Rule>> {
        let mut covered = Covered::default();
        if self.conjunctive > 0 {
            return self.lookup_conjunctive(key, read, &mut covered);
        }
        let mut best: Option<&Arc<Rule>> = None;
        for (at, subtable) in self.order.iter() {
            if best.is_some_and(|b| b.priority >= priority_of(at)) {
                break;
            }
            let found = subtable.lookup(key, read, &self.prefixes, &mut covered);
            if let Some([rule, ..]) = found
                && best.is_none_or(|b| rule.priority > b.priority)
            {
                best = Some(rule);
            }
        }
        best
    }

    /// The rule with exactly this match and priority.
    pub fn find(&self, matching: &MiniMatch, priority: u16) -> Option<&Arc<Rule>> {
        self.order.get(self.place(&matching.mask)?)?.find(matching, priority)
    }

    /// Whether a rule of this priority has a packet in common with `matching`.
    pub(crate) fn overlaps(&self, matching: &MiniMatch, priority: u16) -> bool {
        let able = self.order.iter().take_while(|(at, _)| priority_of(*at) >= priority);
        let rules = able.flat_map(|(_, s)| s.rules.values()).flat_map(|b| b.rules());
        rules.into_iter().any(|r| r.priority == priority && r.matching.overlaps(matching))
    }

    /// The small form of a match, which shares its mask with the rules that have the same.
    pub(crate) fn small(&self, matching: &Match) -> MiniMatch {
        let mask = MiniMask::new(&matching.mask);
        let values = mask.values(&matching.key);
        let known = self.place(&mask).and_then(|at| self.order.get(at));
        MiniMatch { mask: known.map_or_else(|| Arc::new(mask), |s| s.mask.clone()), values }
    }

    /// The key in `order` of the subtable with this mask.
    fn place(&self, mask: &MiniMask) -> Option<u64> {
        let keys = self.by_mask.get(mask.hash())?;
        keys.iter()
            .copied()
            .find(|at| self.order.get(*at).is_some_and(|s| std::ptr::eq(&*s.mask, mask) || *s.mask == *mask))
    }

    /// Reads what finding and adding rules with these matches will read: all are waited for at once rather than one after
    /// the other. Only large tables are not near anyway.
    pub(crate) fn warm<'a>(&self, matches: impl Iterator<Item = &'a Match>) {
        if self.len < LARGE {
            return;
        }
        let (mut rules, mut counts): (SmallVec<[_; 64]>, SmallVec<[_; 64]>) = Default::default();
        for matching in matches {
            let mask = MiniMask::new(&matching.mask);
            let Some(subtable) = self.place(&mask).and_then(|at| self.order.get(at)) else { continue };
            let values = mask.values(&matching.key);
            rules.push(subtable.rules.near(mask.hash_of(&matching.key)));
            counts.extend(subtable.near_counts(&values));
        }
        let mut read = rules.iter().fold(0, |read, near| read ^ near.touch());
        read = counts.iter().fold(read, |read, near| read ^ near.touch());
        read = rules.iter().fold(read, |read, near| read ^ near.touch_slot());
        std::hint::black_box(counts.iter().fold(read, |read, near| read ^ near.touch_slot()));
    }

    /// Adds a rule, in place of one with the same match and priority, which is returned beside it.
    pub fn insert(&mut self, mut rule: Rule) -> (Arc<Rule>, Option<Arc<Rule>>) {
        let at = match self.place(&rule.matching.mask) {
            Some(at) => at,
            None => self.make(&rule),
        };
        let mut plens = PrefixLens::default();
        if let Some(subtable) = self.order.get(at) {
            plens = subtable.plens;
            if !Arc::ptr_eq(&rule.matching.mask, &subtable.mask) {
                rule.matching.mask = subtable.mask.clone();
            }
        }
        let rule = Arc::new(rule);
        let old = self.change(at, |subtable| subtable.insert(&rule));
        self.conjunctive += usize::from(is_clause(&rule));
        match &old {
            Some(old) => self.conjunctive -= usize::from(is_clause(old)),
            None => {
                self.len += 1;
                self.prefixes.insert(&plens, &rule.matching.packet());
            }
        }
        (rule, old)
    }

    /// Removes the rule with exactly this match and priority.
    pub fn remove(&mut self, matching: &MiniMatch, priority: u16) -> Option<Arc<Rule>> {
        let at = self.place(&matching.mask)?;
        let subtable = self.order.get(at)?;
        subtable.find(matching, priority)?;
        let plens = subtable.plens;
        let removed = self.change(at, |subtable| subtable.remove(matching, priority))?;
        self.len -= 1;
        self.conjunctive -= usize::from(is_clause(&removed));
        self.prefixes.remove(&plens, &matching.packet());
        Some(removed)
    }

    /// Makes the subtable for a rule, still empty, and returns its key.
    fn make(&mut self, rule: &Rule) -> u64 {
        let mask = &rule.matching.mask;
        let at = key_of(rule.priority, self.made);
        self.made += 1;
        self.masks += 1;
        self.order.entry(at, || Arc::new(Subtable::new(mask.clone())));
        self.by_mask.entry(mask.hash(), SmallVec::new).push(at);
        at
    }

    /// Changes a subtable, and its place in the order if its highest priority changed.
    fn change<T: Default>(&mut self, at: u64, change: impl FnOnce(&mut Subtable) -> T) -> T {
        let Some(subtable) = self.order.get_mut(at) else { return T::default() };
        let subtable = Arc::make_mut(subtable);
        let result = change(subtable);
        let (priority, hash, empty) =
            (subtable.max_priority, subtable.mask.hash(), subtable.rules.is_empty());
        if priority == priority_of(at) && !empty {
            return result;
        }
        let moved = self.order.remove(at).filter(|_| !empty);
        let keys = self.by_mask.entry(hash, SmallVec::new);
        keys.retain(|k| *k != at);
        match moved {
            Some(subtable) => {
                let to = u64::from(!priority) << 48 | at & NUMBER;
                keys.push(to);
                self.order.entry(to, || subtable.clone());
            }
            None => {
                self.masks -= 1;
                if keys.is_empty() {
                    self.by_mask.remove(hash);
                }
            }
        }
        result
    }

    /// The rules, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.order.values().flat_map(|s| s.rules.values()).flat_map(|b| b.rules())
    }

    /// Shows the rules from a position on, in no particular order, until `each` has enough. Rules that share a hash are
    /// shown together. False: there are no more.
    pub(crate) fn scan(&self, from: &mut Position, mut each: impl FnMut(&Arc<Rule>) -> bool) -> bool {
        for (at, subtable) in self.order.iter_from(from.subtable) {
            if from.subtable != at {
                *from = Position { subtable: at, hash: None };
            }
            let mut rules = match from.hash {
                Some(hash) => subtable.rules.iter_after(hash),
                None => subtable.rules.iter(),
            };
            loop {
                let some: SmallVec<[(u64, &Bucket); AT_ONCE]> = rules.by_ref().take(AT_ONCE).collect();
                fetch(some.iter().flat_map(|(_, bucket)| bucket.rules()));
                for (hash, bucket) in &some {
                    from.hash = Some(*hash);
                    let mut more = true;
                    for rule in bucket.rules() {
                        more &= each(rule);
                    }
                    if !more {
                        return true;
                    }
                }
                if some.len() < AT_ONCE {
                    break;
                }
            }
        }
        false
    }
}

/// Rules of a table that does not fit into caches.
const LARGE: usize = 1 << 15;
/// Buckets of a scan that are fetched together.
const AT_ONCE: usize = 16;

/// Reads something of each rule: all are waited for at once rather than one after the other.
fn fetch<'a>(rules: impl Iterator<Item = &'a Arc<Rule>>) {
    let read = rules.fold(0, |read, rule| {
        let value = rule.matching.values.first().copied().unwrap_or(0);
        read ^ rule.id ^ value ^ rule.stats.packets.load(Ordering::Relaxed)
    });
    std::hint::black_box(read);
}

/// Bits of a key of `order` that tell subtables apart.
const NUMBER: u64 = (1 << 48) - 1;

/// The key in `order` of subtable number `n` with this highest priority. Numbers are spread, so that the trie is flat.
fn key_of(priority: u16, n: u64) -> u64 {
    u64::from(!priority) << 48 | n.wrapping_mul(0x9e37_79b9_7f4b) & NUMBER
}

fn priority_of(at: u64) -> u16 {
    !((at >> 48) as u16)
}

fn is_clause(rule: &Rule) -> bool {
    rule.uses.has(Uses::CONJUNCTION)
}
