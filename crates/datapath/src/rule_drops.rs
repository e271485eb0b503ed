//! Which rules drop packets, and how many?
//!
//! Counted when a cached flow is credited, not when it is hit: a hit costs nothing more. Only rules that drop take
//! memory, and there is a bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use weft_flow::{DropReason, RuleRef};

use crate::contract::RuleDrop;
use crate::shared::lock;

/// Most rules and reasons that are told apart.
const MOST: usize = 65_536;

/// Drops by the rule that decided, of all lanes.
#[derive(Debug, Default)]
pub(crate) struct RuleDrops {
    /// By address of the rule's statistics, which the entry keeps from being used again.
    by_rule: Mutex<HashMap<(usize, DropReason), RuleDrop>>,
}

impl RuleDrops {
    /// Adds packets that the last of `rules`, if there is one, decided about.
    pub(crate) fn add(&self, rules: &[RuleRef], reason: DropReason, packets: u64, bytes: u64) {
        let Some(rule) = rules.last() else { return };
        let mut by_rule = lock(&self.by_rule);
        let key = (Arc::as_ptr(&rule.stats).addr(), reason);
        if by_rule.len() >= MOST && !by_rule.contains_key(&key) {
            forget_gone(&mut by_rule);
            if by_rule.len() >= MOST {
                return;
            }
        }
        let new = || RuleDrop { rule: rule.clone(), reason, packets: 0, bytes: 0 };
        let drop = by_rule.entry(key).or_insert_with(new);
        drop.packets += packets;
        drop.bytes += bytes;
    }

    /// All of them, without rules that are gone.
    pub(crate) fn list(&self) -> Vec<RuleDrop> {
        let mut by_rule = lock(&self.by_rule);
        forget_gone(&mut by_rule);
        by_rule.values().cloned().collect()
    }
}

/// Forgets rules that nobody else knows, neither their table nor a flow.
fn forget_gone(by_rule: &mut HashMap<(usize, DropReason), RuleDrop>) {
    // One rule may drop for several reasons.
    let mut own: HashMap<usize, usize> = HashMap::new();
    by_rule.keys().for_each(|(rule, _)| *own.entry(*rule).or_default() += 1);
    by_rule.retain(|(rule, _), drop| Arc::strong_count(&drop.rule.stats) > own[rule]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_is_charged_as_long_as_it_is_there() {
        let rule = |cookie| RuleRef { bridge: 1, table: 0, cookie, stats: Arc::default() };
        let (a, b, drops) = (rule(1), rule(2), RuleDrops::default());
        drops.add(&[], DropReason::TableMiss, 9, 9);
        drops.add(&[a.clone(), b.clone()], DropReason::RuleDrop, 2, 200);
        drops.add(std::slice::from_ref(&b), DropReason::RuleDrop, 1, 100);
        drops.add(std::slice::from_ref(&b), DropReason::TableMiss, 5, 500);
        let mut list = drops.list();
        list.sort_by_key(|d| d.reason);
        let told: Vec<_> = list.iter().map(|d| (d.rule.cookie, d.reason, d.packets, d.bytes)).collect();
        assert_eq!(told, [(2, DropReason::TableMiss, 5, 500), (2, DropReason::RuleDrop, 3, 300)]);
        drop((a, b, list));
        assert!(drops.list().is_empty());
    }
}
