//! Which rules' time is over? An index by the first moment at which each may expire.
//!
//! Traffic puts a rule's end off without anyone touching the index. A rule whose moment comes is looked at, and if it
//! lives on gets a later one; so what is looked at is what may be due.

use std::sync::Arc;

use smallvec::SmallVec;

use super::TableSet;
use super::flow_mod::FlowModOutcome;
use super::rule::{RemovedReason, Rule};
use crate::classifier::Trie;

/// Rules that may expire.
#[derive(Clone, Debug, Default)]
pub(super) struct Mortal {
    /// By [`place`].
    due: Trie<SmallVec<[Arc<Rule>; 1]>>,
    /// Places of rules that got a later one, by number.
    moved: Trie<u64>,
}

/// Key of [`Mortal::due`]: moments of 1024 ms, and the number of the rule to keep keys apart.
fn place(deadline_ms: u64, rule: &Rule) -> u64 {
    (deadline_ms >> 10).min(u64::from(u32::MAX)) << 32 | rule.id & 0xffff_ffff
}

/// The beginning of the moment of a place.
fn begins(place: u64) -> u64 {
    (place >> 32) << 10
}

impl Mortal {
    pub(super) fn insert(&mut self, rule: &Arc<Rule>) {
        if rule.is_mortal() {
            self.due.entry(place(rule.first_deadline(), rule), SmallVec::new).push(rule.clone());
        }
    }

    pub(super) fn remove(&mut self, rule: &Rule) {
        if !rule.is_mortal() {
            return;
        }
        let at = self.place_of(rule);
        self.moved.remove(rule.id.reverse_bits());
        self.take(at, rule);
    }

    fn place_of(&self, rule: &Rule) -> u64 {
        self.moved.get(rule.id.reverse_bits()).copied().unwrap_or_else(|| place(rule.first_deadline(), rule))
    }

    /// Whether a rule is still in its table.
    fn holds(&self, rule: &Rule) -> bool {
        self.due.get(self.place_of(rule)).is_some_and(|rules| rules.iter().any(|r| r.id == rule.id))
    }

    fn take(&mut self, from: u64, rule: &Rule) -> Option<Arc<Rule>> {
        let rules = self.due.get_mut(from)?;
        let at = rules.iter().position(|r| r.id == rule.id)?;
        let taken = rules.swap_remove(at);
        if rules.is_empty() {
            self.due.remove(from);
        }
        Some(taken)
    }

    /// Gives a rule a later place.
    fn put_off(&mut self, from: u64, rule: &Rule, deadline_ms: u64) {
        let to = place(deadline_ms, rule);
        if to != from
            && let Some(rule) = self.take(from, rule)
        {
            *self.moved.entry(rule.id.reverse_bits(), || to) = to;
            self.due.entry(to, SmallVec::new).push(rule);
        }
    }
}

impl TableSet {
    /// Removes rules whose time is over.
    pub fn expire(&mut self, now_ms: u64) -> FlowModOutcome {
        let due = self.mortal.due.iter().take_while(|(at, _)| begins(*at) <= now_ms);
        let due: Vec<(u64, Arc<Rule>)> =
            due.flat_map(|(at, rules)| rules.iter().map(move |r| (at, r.clone()))).collect();
        let mut gone: Vec<(u64, RemovedReason, Arc<Rule>)> = Vec::new();
        for (place, rule) in due {
            match rule.expiry() {
                Some((at, reason)) if at <= now_ms => gone.push((at, reason, rule)),
                Some((at, _)) => self.mortal.put_off(place, &rule, at),
                None => {}
            }
        }
        gone.sort_by_key(|(at, _, rule)| (*at, rule.id));
        let mut outcome = FlowModOutcome::default();
        for same in gone.chunk_by(|a, b| a.1 == b.1) {
            // Those that a rule before them had learned went with it.
            let there = same.iter().map(|(_, _, rule)| rule).filter(|rule| self.mortal.holds(rule));
            let there = there.cloned().collect();
            self.drop_all(there, same[0].1, &mut outcome);
        }
        outcome
    }

    /// When the next rule may expire, if its traffic ends now; `None`: no rule ever does.
    pub fn next_expiry(&self) -> Option<u64> {
        let mut first: Option<u64> = None;
        for (at, rules) in self.mortal.due.iter() {
            if first.is_some_and(|first| first < begins(at)) {
                break;
            }
            first = rules.iter().filter_map(|r| r.expiry()).map(|(at, _)| at).chain(first).min();
        }
        first
    }
}
