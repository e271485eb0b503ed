//! Which rule does a full table give up? (`ovs-vswitchd.conf.db(5)`, Flow_Table, Eviction Policy.)
//!
//! ```text
//!   sizes of groups ─▶ groups of the largest size, by their first rule ─▶ that rule
//!                      a group's rules: by importance, then by when they expire, then by age
//! ```
//! The index is made when a table first has to give up a rule. Traffic puts a rule's end off without anyone touching the
//! index, so a rule is known by a moment before which it does not expire: one that is first and lives longer than that
//! gets a later place.

use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::Subfield;

use super::flow_mod::FlowModOutcome;
use super::rule::{RemovedReason, Rule};
use super::{TableSet, share};
use crate::classifier::Trie;

/// Rules that an eviction gives a later place at most. With more that had traffic the best of these is evicted.
const LOOKED_AT: usize = 128;

/// Things in order of a place, then of a number.
#[derive(Clone, Debug)]
struct Ordered<V>(Trie<Trie<V>>);

/// The rules of a group that may be evicted.
#[derive(Clone, Debug)]
struct Group {
    rules: Ordered<Arc<Rule>>,
    len: u64,
}

/// Rules of a table that may be evicted.
#[derive(Clone, Debug, Default)]
pub(super) struct Evictable {
    /// By [`group_of`].
    groups: Trie<Group>,
    /// Numbers of groups by their first rule, by how many rules they have.
    sizes: Trie<Ordered<u64>>,
    /// Places of rules that got a later one, by number.
    moved: Trie<u64>,
}

/// The place of a rule that expires then: importance counts before time.
fn place(rule: &Rule, expires_ms: u64) -> u64 {
    u64::from(rule.importance) << 48 | expires_ms.min((1 << 48) - 1)
}

/// Number of the group of a rule: rules that have the same values in the fields are in one.
fn group_of(rule: &Rule, fields: &[Subfield]) -> u64 {
    #[cfg(test)]
    tests::look();
    if fields.is_empty() {
        return 0;
    }
    let key = rule.matching.expand().key;
    let bits = |n: u16| u128::MAX.checked_shl(n.into()).map_or(u128::MAX, |m| !m);
    let values: SmallVec<[u128; 4]> =
        fields.iter().map(|s| s.field.get(&key) >> s.start & bits(s.bits)).collect();
    share::hash(&values)
}

impl<V: Clone> Ordered<V> {
    fn insert(&mut self, place: u64, number: u64, value: V) {
        self.0.entry(place, Trie::default).entry(number, || value.clone());
    }

    fn remove(&mut self, place: u64, number: u64) -> Option<V> {
        let same = self.0.get_mut(place)?;
        let value = same.remove(number);
        if same.is_empty() {
            self.0.remove(place);
        }
        value
    }

    /// The first, its place and its number.
    fn first(&self) -> Option<(u64, u64, &V)> {
        let (place, same) = self.0.iter().next()?;
        let (number, value) = same.iter().next()?;
        Some((place, number, value))
    }
}

impl Evictable {
    /// An index of these rules, as far as they may be evicted.
    fn of<'a>(rules: impl Iterator<Item = &'a Arc<Rule>>, fields: &[Subfield]) -> Evictable {
        let mut index = Evictable::default();
        rules.for_each(|rule| index.insert(rule, fields));
        index
    }

    pub(super) fn insert(&mut self, rule: &Arc<Rule>, fields: &[Subfield]) {
        if rule.is_mortal() {
            let at = place(rule, rule.first_deadline());
            self.change(group_of(rule, fields), |group| {
                group.rules.insert(at, rule.id, rule.clone());
                group.len += 1;
            });
        }
    }

    pub(super) fn remove(&mut self, rule: &Rule, fields: &[Subfield]) {
        if rule.is_mortal() {
            let moved = self.moved.remove(rule.id.reverse_bits());
            let at = moved.unwrap_or_else(|| place(rule, rule.first_deadline()));
            self.change(group_of(rule, fields), |group| {
                group.len -= u64::from(group.rules.remove(at, rule.id).is_some());
            });
        }
    }

    /// Changes a group, and gives it the place among groups that it has then.
    fn change(&mut self, number: u64, change: impl FnOnce(&mut Group)) {
        let group = self.groups.entry(number, || Group { rules: Ordered(Trie::default()), len: 0 });
        let head = |group: &Group| group.rules.first().map(|(place, id, _)| (group.len, place, id));
        let before = head(group);
        change(group);
        let after = head(group);
        if before == after {
            return;
        }
        if let Some((len, place, id)) = before
            && let Some(same) = self.sizes.get_mut(len)
        {
            same.remove(place, id);
            if same.0.is_empty() {
                self.sizes.remove(len);
            }
        }
        match after {
            Some((len, place, id)) => {
                self.sizes.entry(len, || Ordered(Trie::default())).insert(place, id, number);
            }
            None => drop(self.groups.remove(number)),
        }
    }

    /// Of the rules in the largest groups, the one of the lowest importance that expires first.
    fn victim(&mut self) -> Option<Arc<Rule>> {
        let mut best: Option<(u64, Arc<Rule>)> = None;
        for _ in 0..LOOKED_AT {
            #[cfg(test)]
            tests::look();
            let (from, _, number) = self.sizes.get(self.sizes.max_key()?)?.first()?;
            let number = *number;
            let rule = self.groups.get(number)?.rules.first()?.2.clone();
            let to = place(&rule, rule.expiry()?.0);
            if to <= from {
                return Some(rule);
            }
            self.change(number, |group| {
                group.rules.remove(from, rule.id);
                group.rules.insert(to, rule.id, rule.clone());
            });
            *self.moved.entry(rule.id.reverse_bits(), || to) = to;
            if best.as_ref().is_none_or(|(at, old)| (to, rule.id) < (*at, old.id)) {
                best = Some((to, rule));
            }
        }
        best.map(|(_, rule)| rule)
    }
}

impl TableSet {
    /// Of the rules that have a timeout, and are in the largest group of such, the one of the lowest importance that
    /// expires first.
    pub(super) fn victim(&mut self, table: u8) -> Option<Arc<Rule>> {
        self.table(table).filter(|t| !t.classifier.is_empty())?;
        let table = self.table_mut(table);
        let made = || Evictable::of(table.classifier.iter(), &table.config.groups);
        table.evictable.get_or_insert_with(made).victim()
    }

    pub(super) fn evict(&mut self, victim: Arc<Rule>) -> FlowModOutcome {
        let mut outcome = FlowModOutcome::default();
        self.drop_all(vec![victim], RemovedReason::Eviction, &mut outcome);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::sync::atomic::Ordering;

    use proptest::prelude::*;
    use weft_flow::text::{Syntax, parse_flow};
    use weft_flow::{Field, Match};

    use super::super::{FlowMod, FlowModCommand, RuleFilter, TableConfig};
    use super::*;

    thread_local! {
        /// Rules that were looked at.
        static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    /// Counts a rule that is looked at.
    pub(super) fn look() {
        LOOKS.set(LOOKS.get() + 1);
    }

    fn matching(line: &str) -> Match {
        parse_flow(line, &Syntax::default()).expect("a match").matching
    }

    fn full(rules: usize, groups: Vec<Subfield>) -> TableSet {
        let mut tables = TableSet::new();
        tables.configure(0, |c| (c.max_rules, c.evict, c.groups) = (rules, true, groups.clone()));
        tables
    }

    fn in_port() -> Vec<Subfield> {
        vec![Subfield { field: Field::InPort, start: 0, bits: 32 }]
    }

    /// As [`TableSet::victim`], by looking at all rules.
    fn scan(tables: &TableSet) -> Option<u64> {
        let config = tables.table_config(0);
        let rank = |rule: &Rule| (rule.importance, rule.expiry().map(|e| e.0), rule.id);
        let mut groups: HashMap<Vec<u128>, Vec<Arc<Rule>>> = HashMap::new();
        for rule in tables.rules(&RuleFilter { table: Some(0), ..RuleFilter::default() }) {
            let key = rule.matching.expand().key;
            let of = |s: &Subfield| s.field.get(&key) >> s.start & ((1 << s.bits) - 1);
            if rule.is_mortal() {
                groups.entry(config.groups.iter().map(of).collect()).or_default().push(rule);
            }
        }
        let largest = groups.values().map(Vec::len).max()?;
        let all = groups.into_values().filter(|g| g.len() == largest).flatten();
        all.min_by_key(|rule| rank(rule)).map(|rule| rule.id)
    }

    /// A full table looks at few rules to add one, however many it has, with traffic and without.
    #[test]
    fn eviction_looks_at_few_rules() {
        for groups in [Vec::new(), in_port()] {
            let mut tables = full(3000, groups);
            let mut add = |n: u64| {
                let line = format!("in_port={},ip,nw_src=10.0.{}.{}", n % 7, n >> 8 & 255, n & 255);
                let rule = FlowMod::add(0, 1, matching(&line), Vec::new());
                let rule = FlowMod { idle_timeout: 60, ..rule };
                let outcome = tables.apply(&rule, n).expect("it evicts");
                outcome.added[0].stats.used_ms.store(n * 2, Ordering::Relaxed);
                outcome.removed.len()
            };
            assert_eq!((0..3001).map(&mut add).sum::<usize>(), 1);
            LOOKS.set(0);
            assert_eq!((3001..6000).map(&mut add).sum::<usize>(), 2999);
            // What is added, what goes, and what is found to have had traffic, which is once here.
            assert!(LOOKS.get() <= 5 * 2999, "{} looks", LOOKS.get());
        }
    }

    #[test]
    fn rules_that_all_had_traffic_are_not_all_looked_at() {
        let mut tables = full(1000, Vec::new());
        for n in 0..1001 {
            let rule = FlowMod::add(0, n, Match::any(), Vec::new());
            tables.apply(&FlowMod { hard_timeout: 9, ..rule }, 0).expect("it evicts");
        }
        for rule in tables.rules(&RuleFilter::default()) {
            rule.stats.refreshed_ms.store(1000 + rule.id, Ordering::Relaxed);
        }
        LOOKS.set(0);
        let last = FlowMod::add(0, 2000, Match::any(), Vec::new());
        let outcome = tables.apply(&last, 2000).expect("it evicts");
        assert_eq!(outcome.removed.len(), 1);
        assert!(LOOKS.get() <= LOOKED_AT + 2, "{} looks", LOOKS.get());
    }

    fn configure(config: &mut TableConfig, what: u16) {
        match what {
            0 => config.evict = !config.evict,
            1 => config.groups = Vec::new(),
            2 => config.groups = in_port(),
            3 => {
                config.groups.push(Subfield { field: Field::NwProto, start: 0, bits: 4 });
                config.groups.truncate(3);
            }
            n => config.max_rules = usize::from(n % 20),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        /// What is evicted is what looking at all rules says, after whatever changes.
        #[test]
        fn the_index_agrees_with_a_scan(
            ops in proptest::collection::vec((0u8..16, 0u16..24, 0u16..4, 0u16..4, 0u64..800), 1..120),
        ) {
            let mut tables = full(8, in_port());
            let (mut now, mut older) = (0, tables.clone());
            for (n, (what, which, a, b, later)) in ops.into_iter().enumerate() {
                now += later;
                if n % 30 == 29 {
                    // What one version learns does not reach another.
                    std::mem::swap(&mut older, &mut tables);
                }
                let line = format!("in_port={},ip,nw_proto={}", which % 4, which / 4);
                let rule = FlowMod::add(0, 1, matching(&line), Vec::new());
                let rule = FlowMod { idle_timeout: a, hard_timeout: b, importance: which % 2, ..rule };
                let delete = FlowModCommand::Delete { strict: which % 3 != 0 };
                let rules = tables.rules(&RuleFilter::default());
                let one = rules.get(usize::from(which) % rules.len().max(1));
                match (what, one) {
                    (0..8, _) => {
                        let victim = scan(&tables);
                        let config = tables.table_config(0);
                        let here = tables.rules(&RuleFilter { matching: rule.matching, ..RuleFilter::default() });
                        let gives = config.evicts() && here.is_empty() && tables.len_of(0) >= config.max_rules;
                        if let Ok(outcome) = tables.apply(&rule, now) {
                            let gone: Vec<u64> = outcome.removed.iter().map(|r| r.rule.id).collect();
                            prop_assert_eq!(gone, Vec::from_iter(victim.filter(|_| gives)));
                        }
                    }
                    (8, _) => drop(tables.apply(&FlowMod { command: delete, ..rule }, now)),
                    (9, _) => drop(tables.configure(0, |c| configure(c, which))),
                    (10, _) => drop(tables.expire(now)),
                    (11, Some(one)) => drop(tables.shorten(one, a, b)),
                    (12, Some(one)) => one.stats.refreshed_ms.store(now, Ordering::Relaxed),
                    (_, Some(one)) => one.stats.used_ms.store(now, Ordering::Relaxed),
                    _ => {}
                }
                let victim = scan(&tables);
                prop_assert_eq!(tables.clone().victim(0).map(|r| r.id), victim);
            }
        }
    }
}
