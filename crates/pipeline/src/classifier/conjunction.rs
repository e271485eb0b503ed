//! When do rules match together? Conjunctive matches, as `ovs-fields(7)` describes them.
//!
//! A rule with `conjunction(id, k/n)` actions says that one of the *n* clauses of conjunction `id` matches. When for
//! some id all do, at the same priority, the table is searched once more with `conj_id` set to it, clauses left aside.

use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{Action, FlowKey, FlowMask};

use super::subtable::Covered;
use super::{Classifier, is_clause, priority_of};
use crate::table::Rule;

/// Rules of one subtable that cover the key, highest priority first; the first is a clause.
type Clauses<'a> = &'a [Arc<Rule>];

impl Classifier {
    pub(super) fn lookup_conjunctive(
        &self,
        key: &FlowKey,
        read: &mut FlowMask,
        covered: &mut Covered,
    ) -> Option<&Arc<Rule>> {
        let (mut best, mut clauses) = self.candidates(key, read, covered);
        loop {
            clauses.retain(|rules| best.is_none_or(|b| rules[0].priority > b.priority));
            let Some(top) = clauses.iter().map(|rules| rules[0].priority).max() else { return best };
            for id in complete(clauses.iter().map(|rules| &rules[0]).filter(|r| r.priority == top)) {
                let mut key = *key;
                key.pipeline.conj_id = id;
                let found = self.plain(&key, read, covered);
                if found.is_some() {
                    return found;
                }
            }
            // Nothing at this priority: what its clauses hide is next.
            let mut next: SmallVec<[Clauses<'_>; 8]> = SmallVec::new();
            for mut rules in clauses {
                if rules[0].priority == top {
                    rules = below(rules, key);
                }
                match rules {
                    [first, ..] if is_clause(first) => next.push(rules),
                    [first, ..] if best.is_none_or(|b| first.priority > b.priority) => best = Some(first),
                    _ => {}
                }
            }
            clauses = next;
        }
    }

    /// The best rule that is no clause and hidden by none, and the clauses that may matter more.
    fn candidates(
        &self,
        key: &FlowKey,
        read: &mut FlowMask,
        covered: &mut Covered,
    ) -> (Option<&Arc<Rule>>, SmallVec<[Clauses<'_>; 8]>) {
        let (mut best, mut clauses) = (None::<&Arc<Rule>>, SmallVec::new());
        for (at, subtable) in self.order.iter() {
            if best.is_some_and(|b| b.priority >= priority_of(at)) {
                break;
            }
            let Some(rules) = subtable.lookup(key, read, &self.prefixes, covered) else { continue };
            if is_clause(&rules[0]) {
                clauses.push(rules);
            } else if best.is_none_or(|b| rules[0].priority > b.priority) {
                best = Some(&rules[0]);
            }
        }
        (best, clauses)
    }

    /// The best rule that is no clause.
    fn plain(&self, key: &FlowKey, read: &mut FlowMask, covered: &mut Covered) -> Option<&Arc<Rule>> {
        let mut best: Option<&Arc<Rule>> = None;
        for (at, subtable) in self.order.iter() {
            if best.is_some_and(|b| b.priority >= priority_of(at)) {
                break;
            }
            let found = subtable.lookup(key, read, &self.prefixes, covered).unwrap_or_default();
            let rule = found.iter().find(|r| !is_clause(r) && r.matching.covers(key));
            if let Some(rule) = rule
                && best.is_none_or(|b| rule.priority > b.priority)
            {
                best = Some(rule);
            }
        }
        best
    }
}

/// What a rule hides: rules after it that cover the key.
fn below<'a>(rules: Clauses<'a>, key: &FlowKey) -> Clauses<'a> {
    let next = rules.iter().skip(1).position(|r| r.matching.covers(key));
    next.map_or(&[], |n| &rules[n + 1..])
}

/// Conjunctions all of whose clauses are among the rules, lowest identifier first.
fn complete<'a>(rules: impl Iterator<Item = &'a Arc<Rule>>) -> impl Iterator<Item = u32> {
    let mut met: BTreeMap<(u32, u8), u64> = BTreeMap::new();
    for rule in rules {
        for action in &rule.instructions.apply {
            if let Action::Conjunction { id, clause, clauses } = action {
                *met.entry((*id, *clauses)).or_default() |= 1u64.checked_shl((*clause).into()).unwrap_or(0);
            }
        }
    }
    let whole = |clauses: u8| u64::MAX.checked_shr(64 - u32::from(clauses.clamp(1, 64))).unwrap_or(0);
    met.into_iter()
        .filter(move |((_, clauses), met)| met & whole(*clauses) == whole(*clauses))
        .map(|((id, _), _)| id)
}
