//! What becomes of rules that packets asked for, and of those whose learner went?

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::flow_mod::{FlowMod, FlowModError, FlowModOutcome, Learned};
use super::rule::{Referent, RemovedReason, Rule};
use super::{INTERNAL_TABLE, TableSet};
use crate::classifier::MiniMatch;

impl TableSet {
    /// Adds a learned rule, or refreshes the one that is there already: its hard timeout counts from now. An empty
    /// outcome: nothing changed that packets would notice, so nothing is to be published; either it was refreshed or
    /// the limit does not let it be learned.
    ///
    /// # Errors
    /// When the rule is refused; nothing has changed then.
    pub fn learn(&mut self, learned: &Learned, now_ms: u64) -> Result<FlowModOutcome, FlowModError> {
        let flow_mod = &learned.rule;
        if flow_mod.table == INTERNAL_TABLE {
            return Err(FlowModError::ReadOnly(flow_mod.table));
        }
        let matching = small(flow_mod);
        match self.existing(flow_mod, &matching) {
            Some(old) if is_same(old, flow_mod) => {
                old.stats.refreshed_ms.fetch_max(now_ms, Ordering::Relaxed);
                Ok(FlowModOutcome::default())
            }
            None if !self.has_room(learned) => Ok(FlowModOutcome::default()),
            _ => self.add(flow_mod, matching, now_ms),
        }
    }

    /// Refreshes a learned rule without changing any table; false: it is not there as it was learned.
    pub fn refresh_learned(&self, learned: &Learned, now_ms: u64) -> bool {
        let Some(old) = self.learned(learned) else { return false };
        old.stats.refreshed_ms.fetch_max(now_ms, Ordering::Relaxed);
        true
    }

    /// Whether a rule is there as it was learned.
    pub(crate) fn has_learned(&self, learned: &Learned) -> bool {
        self.learned(learned).is_some()
    }

    fn learned(&self, learned: &Learned) -> Option<&Arc<Rule>> {
        self.existing(&learned.rule, &small(&learned.rule)).filter(|old| is_same(old, &learned.rule))
    }

    /// Whether the limit lets the rule be learned, or it is there already.
    pub fn may_learn(&self, learned: &Learned) -> bool {
        learned.limit == 0
            || self.existing(&learned.rule, &small(&learned.rule)).is_some()
            || self.has_room(learned)
    }

    fn has_room(&self, learned: &Learned) -> bool {
        let (limit, cookie) = (learned.limit as usize, learned.rule.cookie);
        let Some(table) = self.table(learned.rule.table) else { return true };
        let same = || table.classifier.iter().filter(|r| r.cookie == cookie);
        limit == 0 || table.classifier.len() < limit || same().take(limit).count() < limit
    }

    fn existing(&self, flow_mod: &FlowMod, matching: &MiniMatch) -> Option<&Arc<Rule>> {
        self.table(flow_mod.table)?.classifier.find(matching, flow_mod.priority)
    }

    /// Removes learned rules that nothing learns any more (`delete_learned`), and those they learned.
    pub(super) fn drop_orphans(&mut self, outcome: &mut FlowModOutcome) {
        while let Some((table, cookie)) = self.orphans.pop() {
            if self.is_referred(Referent::Learned(table, cookie)) {
                continue;
            }
            let rules = self.each_table(Some(table)).flat_map(|t| t.classifier.iter());
            let rules = rules.filter(|r| r.cookie == cookie).cloned().collect();
            self.drop_all(rules, RemovedReason::Delete, outcome);
        }
    }
}

fn small(flow_mod: &FlowMod) -> MiniMatch {
    MiniMatch::new(&flow_mod.matching)
}

/// Whether a rule is already what would be learned.
fn is_same(rule: &Rule, flow_mod: &FlowMod) -> bool {
    rule.cookie == flow_mod.cookie
        && rule.idle_timeout == flow_mod.idle_timeout
        && rule.hard_timeout == flow_mod.hard_timeout
        && rule.importance == flow_mod.importance
        && rule.flags == flow_mod.flags.kept()
        && *rule.instructions == flow_mod.instructions
}
