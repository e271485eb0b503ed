//! Which of the rules with one mask matches? A map from masked words to rules, looked up in stages.

use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{FlowKey, FlowMask};

use super::mini::{MiniMask, MiniMatch, STAGES, finish, mix};
use super::prefix::{Covering, PREFIX_FIELDS, PrefixField, PrefixLens, Prefixes};
use super::trie::{Near, Trie};
use crate::table::Rule;

/// Rules that share a hash, highest priority first. Nearly always one.
#[derive(Clone, Debug)]
pub(super) enum Bucket {
    One(Arc<Rule>),
    Many(Arc<Vec<Arc<Rule>>>),
}

impl Bucket {
    pub(super) fn rules(&self) -> &[Arc<Rule>] {
        match self {
            Bucket::One(rule) => std::slice::from_ref(rule),
            Bucket::Many(rules) => rules,
        }
    }
    fn rules_mut(&mut self) -> &mut [Arc<Rule>] {
        match self {
            Bucket::One(rule) => std::slice::from_mut(rule),
            Bucket::Many(rules) => Arc::make_mut(rules).as_mut_slice(),
        }
    }
    fn insert(&mut self, rule: Arc<Rule>) {
        let mut rules = self.rules().to_vec();
        let at = rules.partition_point(|r| r.priority >= rule.priority);
        rules.insert(at, rule);
        *self = Bucket::Many(Arc::new(rules));
    }
    /// Takes out the rule at a place of several.
    fn remove(&mut self, at: usize) {
        let mut rules = self.rules().to_vec();
        rules.remove(at);
        *self = match <[Arc<Rule>; 1]>::try_from(rules) {
            Ok([rule]) => Bucket::One(rule),
            Err(rules) => Bucket::Many(Arc::new(rules)),
        };
    }
}

/// Rules with the same mask.
#[derive(Clone, Debug)]
pub(super) struct Subtable {
    pub(super) mask: Arc<MiniMask>,
    pub(super) plens: PrefixLens,
    /// Hashes of the words up to the end of a stage, for each stage that another follows, with the number of rules.
    stages: [Trie<u32>; STAGES - 1],
    /// The rules match an Ethernet header and no packet type: they are for frames.
    for_frames: bool,
    /// Number of the last stage that has words.
    last: usize,
    pub(super) rules: Trie<Bucket>,
    /// Rules per priority, which is in the high bits of the key.
    priorities: Trie<u32>,
    pub(super) max_priority: u16,
}

/// Whether rules with this mask are for frames only: an Ethernet header is asked for, as it is by every field of a layer
/// above it, and nothing said of the packet's type (`ovs-fields(7)`, "packet_type").
fn is_for_frames(mask: &FlowMask) -> bool {
    let p = &mask.0.packet;
    let tags = p.vlan.iter().any(|tag| (tag.tpid, tag.tci) != (0, 0));
    let ethernet = p.eth_type != 0 || !p.eth_src.is_zero() || !p.eth_dst.is_zero() || tags;
    ethernet && mask.0.pipeline.packet_type == 0
}

/// Tries of the packet at hand, looked up when first needed.
#[derive(Default)]
pub(super) struct Covered([Option<Covering>; PREFIX_FIELDS]);

impl Subtable {
    pub(super) fn new(mask: Arc<MiniMask>) -> Subtable {
        let full = mask.expand();
        let words = mask.words.len() as u8;
        Subtable {
            plens: PrefixField::ALL.map(|f| f.prefix_len(&full) as u8),
            for_frames: is_for_frames(&full),
            last: mask.ends.iter().position(|e| *e == words).unwrap_or(0),
            mask,
            stages: Default::default(),
            rules: Trie::default(),
            priorities: Trie::default(),
            max_priority: 0,
        }
    }

    /// The rules that match `key`, highest priority first.
    pub(super) fn lookup<'a>(
        &'a self,
        key: &FlowKey,
        read: &mut FlowMask,
        prefixes: &Prefixes,
        covered: &mut Covered,
    ) -> Option<&'a [Arc<Rule>]> {
        if key.pipeline.packet_type != 0 && self.for_frames {
            return None;
        }
        let (mut hash, mut start) = (0, 0);
        for stage in 0..=self.last {
            if self.ruled_out(stage, key, read, prefixes, covered) {
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
        let rules = self.rules.get(finish(hash))?.rules();
        // Rules of another hash value may share the bucket, at either end of it.
        let from = rules.iter().position(|r| r.matching.covers(key))?;
        Some(&rules[from..])
    }

    /// Whether a prefix tells that no rule here matches. Adds the bits of the prefix that tell it.
    fn ruled_out(
        &self,
        stage: usize,
        key: &FlowKey,
        read: &mut FlowMask,
        prefixes: &Prefixes,
        covered: &mut Covered,
    ) -> bool {
        for (i, field) in PrefixField::ALL.into_iter().enumerate() {
            let plen = u32::from(self.plens[i]);
            if plen == 0 || field.stage() != stage {
                continue;
            }
            let covering = covered.0[i].get_or_insert_with(|| prefixes.lookup(field, key));
            // Worth it only when it takes no more bits than the subtable itself would.
            if !covering.has(plen) && covering.checked <= plen {
                field.add_prefix(read, covering.checked);
                return true;
            }
        }
        false
    }

    pub(super) fn find(&self, matching: &MiniMatch, priority: u16) -> Option<&Arc<Rule>> {
        let rules = self.rules.get(matching.hash())?.rules();
        rules.iter().find(|r| r.priority == priority && r.matching == *matching)
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

    /// Where a rule with these values is counted.
    pub(super) fn near_counts(&self, values: &[u64]) -> impl Iterator<Item = Near<'_, u32>> {
        self.stage_hashes(values).into_iter().map(|(stage, hash)| self.stages[stage].near(hash))
    }

    /// Adds a rule; the one with the same match and priority whose place it takes is returned.
    pub(super) fn insert(&mut self, rule: &Arc<Rule>) -> Option<Arc<Rule>> {
        let (bucket, added) = self.rules.get_or_insert(rule.matching.hash(), || Bucket::One(rule.clone()));
        if !added {
            let mut rules = bucket.rules_mut().iter_mut();
            let same = rules.find(|r| r.priority == rule.priority && r.matching == rule.matching);
            if let Some(same) = same {
                return Some(std::mem::replace(same, rule.clone()));
            }
            bucket.insert(rule.clone());
        }
        for (stage, hash) in self.stage_hashes(&rule.matching.values) {
            *self.stages[stage].entry(hash, || 0) += 1;
        }
        *self.priorities.entry(priority_key(rule.priority), || 0) += 1;
        self.max_priority = self.max_priority.max(rule.priority);
        None
    }

    pub(super) fn remove(&mut self, matching: &MiniMatch, priority: u16) -> Option<Arc<Rule>> {
        let hash = matching.hash();
        let rules = self.rules.get(hash)?.rules();
        let at = rules.iter().position(|r| r.priority == priority && r.matching == *matching)?;
        let rule = rules[at].clone();
        if rules.len() == 1 {
            self.rules.remove(hash);
        } else if let Some(bucket) = self.rules.get_mut(hash) {
            bucket.remove(at);
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
