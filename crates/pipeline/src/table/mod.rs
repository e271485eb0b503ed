//! What do flow-mods do to flow tables?
//!
//! The semantics of OpenFlow 1.0–1.5 (1.5.1 §6.4) in one form; codecs translate each version's message to a
//! [`FlowMod`] and the error to a number. A [`TableSet`] is a value: a copy costs nothing and shares everything that is
//! not changed after; a change copies a few nodes, and none that nobody else sees.

mod apply;
mod config;
mod evict;
mod expire;
mod filter;
mod flow_mod;
mod learn;
mod rule;
mod share;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weft_flow::{Action, Match, OfPort, RuleStats};

use crate::classifier::{Classifier, MiniMatch, Trie, tags};
use crate::config::FailMode;

pub use config::{MAX_RULES, TableConfig, TableEvent, TableMiss, Vacancy};
use evict::Evictable;
use expire::Mortal;
pub use filter::RuleFilter;
pub use flow_mod::{FlowMod, FlowModCommand, FlowModError, FlowModOutcome, Learned, Modified};
use rule::Referent;
pub(crate) use rule::Uses;
pub use rule::{FlowFlags, Removed, RemovedReason, Rule};
use share::Shared;

/// Number of tables: 0 to 254, of which the last is the switch's own.
pub const TABLES: u8 = 255;
/// The table that no flow-mod may change.
pub const INTERNAL_TABLE: u8 = 254;
/// In a [`FlowMod`] that modifies or deletes: all tables.
pub const ALL_TABLES: u8 = 255;

/// Statistics of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Rules.
    pub active: usize,
    /// Distinct masks.
    pub masks: usize,
    /// Packets looked up.
    pub lookups: u64,
    /// Packets that matched a rule.
    pub matched: u64,
}

/// One flow table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) classifier: Classifier,
    /// Packets that matched nothing.
    pub(crate) missed: Arc<RuleStats>,
    config: Arc<TableConfig>,
    /// Controllers were told that little is free.
    vacancy_down: bool,
    /// Packets of rules that are gone, for the table's own counters.
    departed: u64,
    /// Which rule to give up next, once one had to be.
    evictable: Option<Evictable>,
}

/// The flow tables of a bridge. A clone shares everything that is not changed after.
#[derive(Clone, Debug)]
pub struct TableSet {
    /// By number.
    tables: Trie<Arc<Table>>,
    /// Of tables that were not configured each for itself.
    config: Arc<TableConfig>,
    /// Rules that may expire.
    mortal: Mortal,
    /// How many rules refer to what, by [`share::hash`].
    referents: Trie<u32>,
    /// Learned rules whose last learner went: to be removed before the change is over.
    orphans: Vec<(u8, u64)>,
    /// What equal rules share.
    shared: Shared,
    next_id: u64,
    /// Tags of what changed since the tables were last published (see `classifier::tags`).
    changed: u64,
}

impl Default for TableSet {
    fn default() -> Self {
        TableSet {
            tables: Trie::default(),
            config: Arc::default(),
            mortal: Mortal::default(),
            referents: Trie::default(),
            orphans: Vec::new(),
            shared: Shared::default(),
            next_id: 1,
            changed: everything(),
        }
    }
}

/// The tags of a change that concerns all flows.
fn everything() -> u64 {
    u64::MAX
}

/// Whether cached flows of one version of a rule are right for the other.
fn decides_alike(old: &Rule, new: &Rule) -> bool {
    Arc::ptr_eq(&old.instructions, &new.instructions)
        && Arc::ptr_eq(&old.stats, &new.stats)
        && old.cookie == new.cookie
}

/// The key of a table in [`TableSet::tables`].
fn key_of(table: u8) -> u64 {
    u64::from(table) << 56
}

impl TableSet {
    /// Empty tables.
    pub fn new() -> TableSet {
        TableSet::default()
    }

    /// The tables of a new bridge: one rule, `priority=0,actions=NORMAL`, unless it is fail-secure.
    pub fn initial(fail_mode: FailMode) -> TableSet {
        let mut tables = TableSet::new();
        if fail_mode == FailMode::Standalone {
            let normal = Action::Output { port: OfPort::NORMAL, max_len: 0 };
            let rule = tables.make(
                &FlowMod::add(0, 0, Match::any(), vec![normal]),
                MiniMatch::new(&Match::any()),
                0,
            );
            tables.put(rule);
        }
        tables
    }

    /// Number of rules in all tables.
    pub fn len(&self) -> usize {
        self.tables.values().map(|t| t.classifier.len()).sum()
    }
    /// Number of rules in a table.
    pub fn len_of(&self, table: u8) -> usize {
        self.table(table).map_or(0, |t| t.classifier.len())
    }
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table after `table`, or the first, that has ever held a rule or been configured.
    pub(crate) fn next_table(&self, after: Option<u8>) -> Option<u8> {
        let next = match after {
            Some(table) => self.tables.iter_after(key_of(table)).next(),
            None => self.tables.iter().next(),
        };
        next.map(|(key, _)| (key >> 56) as u8)
    }

    pub(crate) fn table(&self, table: u8) -> Option<&Table> {
        self.tables.get(key_of(table)).map(Arc::as_ref)
    }

    /// Tags of what changed since [`TableSet::published`].
    pub(crate) fn changed(&self) -> u64 {
        self.changed
    }

    /// From now on changes are counted anew.
    pub(crate) fn published(&mut self) {
        self.changed = 0;
    }

    /// Statistics of a table.
    pub fn stats(&self, table: u8) -> TableStats {
        let Some(table) = self.table(table) else { return TableStats::default() };
        let packets = |stats: &RuleStats| stats.packets.load(Ordering::Relaxed);
        let matched = table.departed + table.classifier.iter().map(|r| packets(&r.stats)).sum::<u64>();
        TableStats {
            active: table.classifier.len(),
            masks: table.classifier.subtables(),
            lookups: matched + packets(&table.missed),
            matched,
        }
    }

    fn each_table(&self, table: Option<u8>) -> impl Iterator<Item = &Arc<Table>> {
        let one = table.map(|t| self.tables.get(key_of(t)));
        let all = table.is_none().then(|| self.tables.values());
        one.flatten().into_iter().chain(all.into_iter().flatten())
    }

    fn table_mut(&mut self, table: u8) -> &mut Table {
        let config = &self.config;
        let made = || Arc::new(Table { config: config.clone(), ..Table::default() });
        Arc::make_mut(self.tables.entry(key_of(table), made))
    }

    /// A rule as a flow-mod wants it.
    fn make(&mut self, flow_mod: &FlowMod, matching: MiniMatch, now_ms: u64) -> Rule {
        let id = self.next_id;
        self.next_id += 1;
        Rule {
            id,
            table: flow_mod.table,
            priority: flow_mod.priority,
            matching,
            cookie: flow_mod.cookie,
            instructions: self.shared.instructions(&flow_mod.instructions),
            idle_timeout: flow_mod.idle_timeout,
            hard_timeout: flow_mod.hard_timeout,
            importance: flow_mod.importance,
            flags: flow_mod.flags.kept(),
            created_ms: now_ms,
            modified_ms: now_ms,
            stats: Arc::default(),
            uses: Uses::of(&flow_mod.instructions),
        }
    }

    /// Puts a rule in its table, in place of one with the same match and priority, which is returned beside it.
    fn put(&mut self, rule: Rule) -> (Arc<Rule>, Option<Arc<Rule>>) {
        let table = self.table_mut(rule.table);
        let generation = table.classifier.generation();
        let (rule, old) = table.classifier.insert(rule);
        if let Some(index) = &mut table.evictable {
            old.iter().for_each(|old| index.remove(old, &table.config.groups));
            index.insert(&rule, &table.config.groups);
        }
        let new_mask = table.classifier.generation() != generation;
        if old.as_deref().is_none_or(|old| !decides_alike(old, &rule)) {
            self.changed |= tags::changed(&rule, new_mask);
        }
        if let Some(old) = &old {
            self.mortal.remove(old);
        }
        self.mortal.insert(&rule);
        self.refer(&rule);
        if let Some(old) = &old {
            self.unrefer(old);
        }
        (rule, old)
    }

    /// Takes a rule out of its table. False: it is not there.
    fn take(&mut self, rule: &Arc<Rule>) -> bool {
        let table = self.table_mut(rule.table);
        if table.classifier.remove(&rule.matching, rule.priority).is_none() {
            return false;
        }
        table.departed += rule.stats.packets.load(Ordering::Relaxed);
        if let Some(index) = &mut table.evictable {
            index.remove(rule, &table.config.groups);
        }
        self.changed |= tags::changed(rule, false);
        self.forget(rule);
        true
    }

    /// Empties a table of all its rules, which are these.
    fn clear(&mut self, number: u8, rules: &[Arc<Rule>]) {
        let table = self.table_mut(number);
        let departed: u64 = rules.iter().map(|r| r.stats.packets.load(Ordering::Relaxed)).sum();
        table.departed += departed;
        table.classifier = Classifier::default();
        table.evictable = None;
        self.changed = everything();
        for rule in rules {
            self.forget(rule);
        }
    }

    /// Removes a rule from the indexes.
    fn forget(&mut self, rule: &Rule) {
        self.mortal.remove(rule);
        self.unrefer(rule);
    }

    /// Removes rules for a reason. Those learned by them with `delete_learned` go too.
    fn drop_all(&mut self, rules: Vec<Arc<Rule>>, reason: RemovedReason, outcome: &mut FlowModOutcome) {
        let mut tables: Vec<u8> = Vec::new();
        for rules in rules.chunk_by(|a, b| a.table == b.table) {
            let table = rules[0].table;
            tables.push(table);
            if rules.len() > 1 && rules.len() == self.len_of(table) {
                self.clear(table, rules);
            } else {
                rules.iter().for_each(|rule| {
                    self.take(rule);
                });
            }
        }
        outcome.removed.extend(rules.into_iter().map(|rule| Removed { rule, reason }));
        self.drop_orphans(outcome);
        for table in tables {
            self.note_vacancy(table, outcome);
        }
    }

    fn refer(&mut self, rule: &Rule) {
        if rule.uses.is_empty() {
            return;
        }
        for referent in rule.referents() {
            *self.referents.entry(share::hash(&referent), || 0) += 1;
        }
    }

    fn unrefer(&mut self, rule: &Rule) {
        if rule.uses.is_empty() {
            return;
        }
        for referent in rule.referents() {
            let hash = share::hash(&referent);
            let Some(count) = self.referents.get_mut(hash) else { continue };
            *count -= 1;
            if *count == 0 {
                self.referents.remove(hash);
                if let Referent::Learned(table, cookie) = referent {
                    self.orphans.push((table, cookie));
                }
            }
        }
    }

    fn is_referred(&self, referent: Referent) -> bool {
        self.referrers(referent) > 0
    }

    fn referrers(&self, referent: Referent) -> u32 {
        self.referents.get(share::hash(&referent)).copied().unwrap_or(0)
    }

    /// Number of rules that execute a group. Takes the same time however many rules there are.
    pub fn group_users(&self, id: u32) -> u32 {
        self.referrers(Referent::Group(id))
    }

    /// Number of rules that pass a meter. Takes the same time however many rules there are.
    pub fn meter_users(&self, id: u32) -> u32 {
        self.referrers(Referent::Meter(id))
    }
}
