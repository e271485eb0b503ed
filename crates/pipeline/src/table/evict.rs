//! Which rule does a full table give up? (`ovs-vswitchd.conf.db(5)`, Flow_Table, Eviction Policy.)

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::TableSet;
use super::flow_mod::FlowModOutcome;
use super::rule::{RemovedReason, Rule};

/// Values of the fields by which rules are grouped.
type GroupValues = SmallVec<[u128; 2]>;

impl TableSet {
    /// Of the rules that have a timeout, and are in the largest group of such, the one of the lowest importance that
    /// expires first.
    pub(super) fn victim(&self, table: u8) -> Option<Arc<Rule>> {
        let config = self.table_config(table);
        let mut groups: HashMap<GroupValues, (usize, Arc<Rule>)> = HashMap::new();
        let rank = |rule: &Rule| (rule.importance, rule.expiry().map_or(u64::MAX, |(at, _)| at), rule.id);
        for rule in self.table(table)?.classifier.iter().filter(|r| r.is_mortal()) {
            let mut values = GroupValues::new();
            if !config.groups.is_empty() {
                let key = rule.matching.expand().key;
                let bits = |n: u16| u128::MAX.checked_shl(n.into()).map_or(u128::MAX, |m| !m);
                values.extend(config.groups.iter().map(|s| s.field.get(&key) >> s.start & bits(s.bits)));
            }
            let (count, first) = groups.entry(values).or_insert_with(|| (0, rule.clone()));
            *count += 1;
            if rank(rule) < rank(first) {
                *first = rule.clone();
            }
        }
        let largest = groups.values().map(|(count, _)| *count).max()?;
        let candidates = groups.into_values().filter(|(count, _)| *count == largest);
        candidates.map(|(_, rule)| rule).min_by_key(|rule| rank(rule))
    }

    pub(super) fn evict(&mut self, victim: Arc<Rule>) -> FlowModOutcome {
        let mut outcome = FlowModOutcome::default();
        self.drop_all(vec![victim], RemovedReason::Eviction, &mut outcome);
        outcome
    }
}
