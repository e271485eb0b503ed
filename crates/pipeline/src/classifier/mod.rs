//! Which rule matches? Tuple-space search over one flow table.
//!
//! Rules with the same mask are a subtable, a map from masked words to rules. Subtables are searched in order of their
//! highest priority until none can do better. Within a subtable the words are looked at in stages, and prefixes of
//! addresses and ports are checked against a trie of the whole table, so that a subtable that is of no use for a
//! packet adds as few bits as possible to the mask of what was looked at.
//!
//! The mask is exact in this sense: every key that agrees with the one looked up in the bits added finds the same rule,
//! by the same steps.

mod mini;
mod prefix;
mod trie;

use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{FlowKey, FlowMask};

pub use mini::MiniMatch;
use mini::{MiniMask, STAGES, finish, mix};
use prefix::{Covering, PREFIX_FIELDS, PrefixField, PrefixTrie};
pub(crate) use trie::Trie;

use crate::table::Rule;

/// Rules that share a hash, highest priority first.
type Bucket = SmallVec<[Arc<Rule>; 1]>;

/// A place in a [`Classifier::scan`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    subtable: usize,
    /// The last hash shown.
    hash: Option<u64>,
}

/// The rules of one table. A clone shares everything.
#[derive(Clone, Debug, Default)]
pub struct Classifier {
    /// Highest priority first.
    subtables: Vec<Arc<Subtable>>,
    prefixes: [PrefixTrie; PREFIX_FIELDS],
    len: usize,
}

#[derive(Clone, Debug)]
struct Subtable {
    mask: Arc<MiniMask>,
    /// Length of the prefix that the mask has of each tracked field, or 0.
    plens: [u8; PREFIX_FIELDS],
    /// Hashes of the words up to the end of a stage, for each stage that another follows, with the number of rules.
    stages: [Trie<u32>; STAGES - 1],
    /// Number of the last stage that has words.
    last: usize,
    rules: Trie<Bucket>,
    /// Rules per priority, which is in the high bits of the key.
    priorities: Trie<u32>,
    max_priority: u16,
}

/// Tries of the packet at hand, looked up when first needed.
#[derive(Default)]
struct Covered([Option<Covering>; PREFIX_FIELDS]);

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
        self.subtables.len()
    }

    /// The matching rule of highest priority. Adds to `read` the bits that had a part in the choice.
    pub fn lookup(&self, key: &FlowKey, read: &mut FlowMask) -> Option<&Arc<Rule>> {
        let mut covered = Covered::default();
        let mut best: Option<&Arc<Rule>> = None;
        for subtable in &self.subtables {
            if best.is_some_and(|b| b.priority >= subtable.max_priority) {
                break;
            }
            let found = subtable.lookup(key, read, &self.prefixes, &mut covered);
            if let Some(rule) = found
                && best.is_none_or(|b| rule.priority > b.priority)
            {
                best = Some(rule);
            }
        }
        best
    }

    /// The rule with exactly this match and priority.
    pub fn find(&self, matching: &MiniMatch, priority: u16) -> Option<&Arc<Rule>> {
        let subtable = self.subtables.iter().find(|s| s.mask == matching.mask)?;
        let bucket = subtable.rules.get(matching.hash())?;
        bucket.iter().find(|r| r.priority == priority && r.matching == *matching)
    }

    /// Adds a rule, in place of one with the same match and priority, which is returned beside it.
    pub fn insert(&mut self, mut rule: Rule) -> (Arc<Rule>, Option<Arc<Rule>>) {
        let at = match self.subtables.iter().position(|s| s.mask == rule.matching.mask) {
            Some(at) => at,
            None => {
                self.subtables.push(Arc::new(Subtable::new(&rule.matching)));
                self.subtables.len() - 1
            }
        };
        let subtable = Arc::make_mut(&mut self.subtables[at]);
        rule.matching.mask = subtable.mask.clone();
        let rule = Arc::new(rule);
        let old = subtable.insert(rule.clone());
        if old.is_none() {
            self.len += 1;
            let full = rule.matching.expand();
            for (field, trie) in PrefixField::ALL.into_iter().zip(&mut self.prefixes) {
                if let Some((prefix, len)) = field.of(&full) {
                    trie.insert(prefix, len);
                }
            }
            self.sort();
        }
        (rule, old)
    }

    /// Removes the rule with exactly this match and priority.
    pub fn remove(&mut self, matching: &MiniMatch, priority: u16) -> Option<Arc<Rule>> {
        self.find(matching, priority)?;
        let at = self.subtables.iter().position(|s| s.mask == matching.mask)?;
        let subtable = Arc::make_mut(&mut self.subtables[at]);
        let removed = subtable.remove(matching, priority)?;
        if subtable.rules.is_empty() {
            self.subtables.remove(at);
        }
        self.len -= 1;
        let full = matching.expand();
        for (field, trie) in PrefixField::ALL.into_iter().zip(&mut self.prefixes) {
            if let Some((prefix, len)) = field.of(&full) {
                trie.remove(prefix, len);
            }
        }
        self.sort();
        Some(removed)
    }

    /// The rules, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.subtables.iter().flat_map(|s| s.rules.values()).flatten()
    }

    /// Shows the rules from a position on, in no particular order, until `each` has enough. Rules that share a hash are
    /// shown together. False: there are no more.
    pub(crate) fn scan(&self, from: &mut Position, mut each: impl FnMut(&Arc<Rule>) -> bool) -> bool {
        while let Some(subtable) = self.subtables.get(from.subtable) {
            let rules = match from.hash {
                Some(hash) => subtable.rules.values_after(hash),
                None => subtable.rules.values(),
            };
            for bucket in rules {
                let mut more = true;
                for rule in bucket {
                    from.hash = Some(rule.matching.hash());
                    more &= each(rule);
                }
                if !more {
                    return true;
                }
            }
            *from = Position { subtable: from.subtable + 1, hash: None };
        }
        false
    }

    fn sort(&mut self) {
        if !self.subtables.is_sorted_by_key(|s| std::cmp::Reverse(s.max_priority)) {
            self.subtables.sort_by_key(|s| std::cmp::Reverse(s.max_priority));
        }
    }
}

impl Subtable {
    fn new(matching: &MiniMatch) -> Subtable {
        let full = matching.mask.expand();
        let ends = &matching.mask.ends;
        let words = matching.mask.words.len() as u8;
        Subtable {
            plens: PrefixField::ALL.map(|f| f.prefix_len(&full) as u8),
            last: ends.iter().position(|e| *e == words).unwrap_or(0),
            mask: matching.mask.clone(),
            stages: Default::default(),
            rules: Trie::default(),
            priorities: Trie::default(),
            max_priority: 0,
        }
    }

    fn lookup<'a>(
        &'a self,
        key: &FlowKey,
        read: &mut FlowMask,
        tries: &[PrefixTrie; PREFIX_FIELDS],
        covered: &mut Covered,
    ) -> Option<&'a Arc<Rule>> {
        let (mut hash, mut start) = (0, 0);
        for stage in 0..=self.last {
            if self.ruled_out(stage, key, read, tries, covered) {
                self.mask.add_to(read, start);
                return None;
            }
            let end = usize::from(self.mask.ends[stage]);
            for &(word, bits) in &self.mask.words[start..end] {
                hash = mix(hash, key.words()[usize::from(word)] & bits);
            }
            if stage < self.last && end > start && self.stages[stage].get(finish(hash)).is_none() {
                self.mask.add_to(read, end);
                return None;
            }
            start = end;
        }
        self.mask.add_to(read, start);
        self.rules.get(finish(hash))?.iter().find(|r| r.matching.covers(key))
    }

    /// Whether a prefix tells that no rule here matches. Adds the bits of the prefix that tell it.
    fn ruled_out(
        &self,
        stage: usize,
        key: &FlowKey,
        read: &mut FlowMask,
        tries: &[PrefixTrie; PREFIX_FIELDS],
        covered: &mut Covered,
    ) -> bool {
        for (i, field) in PrefixField::ALL.into_iter().enumerate() {
            let plen = u32::from(self.plens[i]);
            if plen == 0 || field.stage() != stage {
                continue;
            }
            let covering = covered.0[i].get_or_insert_with(|| tries[i].lookup(field.get(key)));
            // Worth it only when it takes no more bits than the subtable itself would.
            if !covering.has(plen) && covering.checked <= plen {
                field.add_prefix(read, covering.checked);
                return true;
            }
        }
        false
    }

    /// Hashes up to the end of each stage that another follows.
    fn stage_hashes(&self, values: &[u64]) -> SmallVec<[(usize, u64); STAGES]> {
        let (mut hash, mut start) = (0, 0);
        let mut hashes = SmallVec::new();
        for stage in 0..self.last {
            let end = usize::from(self.mask.ends[stage]);
            hash = values[start..end].iter().fold(hash, |h, v| mix(h, *v));
            if end > start {
                hashes.push((stage, finish(hash)));
            }
            start = end;
        }
        hashes
    }

    fn insert(&mut self, rule: Arc<Rule>) -> Option<Arc<Rule>> {
        let bucket = self.rules.entry(rule.matching.hash(), Bucket::new);
        let same = bucket.iter_mut().find(|r| r.priority == rule.priority && r.matching == rule.matching);
        if let Some(same) = same {
            return Some(std::mem::replace(same, rule));
        }
        let at = bucket.partition_point(|r| r.priority >= rule.priority);
        bucket.insert(at, rule.clone());
        for (stage, hash) in self.stage_hashes(&rule.matching.values) {
            *self.stages[stage].entry(hash, || 0) += 1;
        }
        *self.priorities.entry(priority_key(rule.priority), || 0) += 1;
        self.max_priority = self.max_priority.max(rule.priority);
        None
    }

    fn remove(&mut self, matching: &MiniMatch, priority: u16) -> Option<Arc<Rule>> {
        let hash = matching.hash();
        let bucket = self.rules.get_mut(hash)?;
        let at = bucket.iter().position(|r| r.priority == priority && r.matching == *matching)?;
        let rule = bucket.remove(at);
        if bucket.is_empty() {
            self.rules.remove(hash);
        }
        for (stage, hash) in self.stage_hashes(&matching.values) {
            decrement(&mut self.stages[stage], hash);
        }
        decrement(&mut self.priorities, priority_key(priority));
        self.max_priority = self.priorities.max_key().map_or(0, |k| (k >> 48) as u16);
        Some(rule)
    }
}

fn priority_key(priority: u16) -> u64 {
    u64::from(priority) << 48
}

fn decrement(counts: &mut Trie<u32>, key: u64) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
