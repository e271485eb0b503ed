//! What do flow-mods do to flow tables?
//!
//! The semantics of OpenFlow 1.0–1.5 (1.5.1 §6.4) in one form; codecs translate each version's message to a
//! [`FlowMod`] and the error to a number.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weft_flow::{Action, Instructions, Match, OfPort, RuleStats};

use crate::classifier::{Classifier, MiniMatch, Trie};
use crate::config::FailMode;

/// Number of tables: 0 to 254.
pub const TABLES: u8 = 255;
/// In a [`FlowMod`] that deletes: all tables.
pub const ALL_TABLES: u8 = 255;

/// A flow entry. Immutable; a change makes another one that shares what stayed.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Number by which the rule is known inside the bridge; grows, so it tells the order of creation.
    pub id: u64,
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// What it matches.
    pub matching: MiniMatch,
    /// Cookie.
    pub cookie: u64,
    /// What it does.
    pub instructions: Arc<Instructions>,
    /// Seconds without traffic after which it goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds after which it goes; 0: never.
    pub hard_timeout: u16,
    /// Importance (OpenFlow 1.4), kept for eviction.
    pub importance: u16,
    /// Flags.
    pub flags: FlowFlags,
    /// When it was created, milliseconds.
    pub created_ms: u64,
    /// When it was last modified, milliseconds: the hard timeout counts from here.
    pub modified_ms: u64,
    /// Its traffic.
    pub stats: Arc<RuleStats>,
}

impl Rule {
    /// When the rule expires, if it does, given its last use.
    fn expiry(&self) -> Option<(u64, RemovedReason)> {
        let hard = u64::from(self.hard_timeout) * 1000;
        let idle = u64::from(self.idle_timeout) * 1000;
        let used = self.stats.used_ms.load(Ordering::Relaxed).max(self.modified_ms);
        let hard = (hard > 0).then(|| (self.modified_ms + hard, RemovedReason::HardTimeout));
        let idle = (idle > 0).then(|| (used + idle, RemovedReason::IdleTimeout));
        hard.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }
    /// Whether an action of the rule outputs to `port`.
    fn outputs_to(&self, port: OfPort) -> bool {
        fn any(actions: &[Action], port: OfPort) -> bool {
            actions.iter().any(|action| match action {
                Action::Output { port: p, .. } | Action::OutputTrunc { port: p, .. } => *p == port,
                Action::Controller(_) => port == OfPort::CONTROLLER,
                Action::Clone(actions) => any(actions, port),
                _ => false,
            })
        }
        any(&self.instructions.apply, port) || any(&self.instructions.write, port)
    }
}

/// Flags of a flow entry (`OFPFF_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowFlags {
    /// Tell controllers when the rule goes.
    pub send_flow_rem: bool,
    /// In an add: refuse when a rule of the same priority overlaps.
    pub check_overlap: bool,
    /// Reset counters when the rule is replaced or modified.
    pub reset_counts: bool,
    /// Packets need not be counted.
    pub no_packet_counts: bool,
    /// Bytes need not be counted.
    pub no_byte_counts: bool,
}

/// What a [`FlowMod`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowModCommand {
    /// Add a rule, or replace the one with the same match and priority.
    Add,
    /// Change the instructions of rules.
    Modify {
        /// Only the rule with the same match and priority.
        strict: bool,
        /// OpenFlow 1.0 and 1.1: add the rule when there is none to modify, and change cookies (unless all ones).
        or_add: bool,
    },
    /// Delete rules.
    Delete {
        /// Only the rule with the same match and priority.
        strict: bool,
    },
}

/// A change to flow tables.
#[derive(Clone, Debug)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowModCommand,
    /// Table; [`ALL_TABLES`] when deleting from all of them.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Match.
    pub matching: Match,
    /// Cookie of the rule added.
    pub cookie: u64,
    /// When modifying or deleting: value that cookies must have in the bits of `cookie_mask`.
    pub cookie_match: u64,
    /// Bits of cookies that count.
    pub cookie_mask: u64,
    /// Instructions.
    pub instructions: Instructions,
    /// Seconds; 0: none.
    pub idle_timeout: u16,
    /// Seconds; 0: none.
    pub hard_timeout: u16,
    /// Importance.
    pub importance: u16,
    /// Flags.
    pub flags: FlowFlags,
    /// When deleting: only rules that output to this port; [`OfPort::ANY`]: all.
    pub out_port: OfPort,
}

impl FlowMod {
    /// A flow-mod with this command, everything else zero or "any".
    pub fn new(command: FlowModCommand, table: u8, priority: u16, matching: Match) -> FlowMod {
        FlowMod {
            command,
            table,
            priority,
            matching,
            cookie: 0,
            cookie_match: 0,
            cookie_mask: 0,
            instructions: Instructions::default(),
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            flags: FlowFlags::default(),
            out_port: OfPort::ANY,
        }
    }
    /// A flow-mod that adds a rule.
    pub fn add(table: u8, priority: u16, matching: Match, actions: Vec<Action>) -> FlowMod {
        let instructions = Instructions::apply(actions);
        FlowMod { instructions, ..FlowMod::new(FlowModCommand::Add, table, priority, matching) }
    }
}

/// Why a flow-mod was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowModError {
    /// `OFPFMFC_BAD_TABLE_ID`.
    #[error("OFPFMFC_BAD_TABLE_ID: there is no table {0}")]
    BadTableId(u8),
    /// `OFPFMFC_OVERLAP`.
    #[error("OFPFMFC_OVERLAP: a rule of the same priority in table {table} overlaps")]
    Overlap {
        /// Table.
        table: u8,
    },
    /// `OFPFMFC_TABLE_FULL`.
    #[error("OFPFMFC_TABLE_FULL: table {table} holds {limit} rules already")]
    TableFull {
        /// Table.
        table: u8,
        /// Limit.
        limit: usize,
    },
    /// `OFPBIC_BAD_TABLE_ID`.
    #[error("OFPBIC_BAD_TABLE_ID: goto_table:{to} does not lead forward from table {from}")]
    BadGoto {
        /// Table of the rule.
        from: u8,
        /// Table it goes to.
        to: u8,
    },
}

/// Why a rule went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedReason {
    /// `OFPRR_IDLE_TIMEOUT`.
    IdleTimeout,
    /// `OFPRR_HARD_TIMEOUT`.
    HardTimeout,
    /// `OFPRR_DELETE`.
    Delete,
}

/// A rule that went.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Why.
    pub reason: RemovedReason,
}

/// What a flow-mod did.
#[derive(Clone, Debug, Default)]
pub struct FlowModOutcome {
    /// Rules added, replacements included.
    pub added: Vec<Arc<Rule>>,
    /// Rules as they are after being modified.
    pub modified: Vec<Arc<Rule>>,
    /// Rules deleted. A rule that was replaced is not among them (OpenFlow 1.5.1 §6.4: no flow-removed message).
    pub removed: Vec<Removed>,
}

/// Which rules to list.
#[derive(Clone, Debug)]
pub struct RuleFilter {
    /// Table; `None`: all.
    pub table: Option<u8>,
    /// Rules whose match is this or narrower.
    pub matching: Match,
    /// Value of cookies in the bits of `cookie_mask`.
    pub cookie: u64,
    /// Bits of cookies that count.
    pub cookie_mask: u64,
    /// Rules that output to this port; [`OfPort::ANY`]: all.
    pub out_port: OfPort,
}

impl Default for RuleFilter {
    fn default() -> Self {
        RuleFilter { table: None, matching: Match::any(), cookie: 0, cookie_mask: 0, out_port: OfPort::ANY }
    }
}

impl RuleFilter {
    /// Whether a rule is one of those asked for; `wanted` is the filter's match.
    pub(crate) fn selects(&self, rule: &Rule, wanted: &MiniMatch) -> bool {
        (rule.cookie ^ self.cookie) & self.cookie_mask == 0
            && (self.out_port == OfPort::ANY || rule.outputs_to(self.out_port))
            && rule.matching.is_within(wanted)
    }
}

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
    /// Packets of rules that are gone, for the table's own counters.
    departed: u64,
}

/// The flow tables of a bridge. A clone shares everything that is not changed after.
#[derive(Clone, Debug)]
pub struct TableSet {
    tables: Vec<Option<Arc<Table>>>,
    /// Rules that may expire, by number.
    mortal: Trie<Arc<Rule>>,
    next_id: u64,
    limit: usize,
}

impl Default for TableSet {
    fn default() -> Self {
        TableSet { tables: Vec::new(), mortal: Trie::default(), next_id: 1, limit: 1_000_000 }
    }
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
            let rule = tables.rule(
                &FlowMod::add(0, 0, Match::any(), vec![normal]),
                MiniMatch::new(&Match::any()),
                0,
            );
            tables.put(rule);
        }
        tables
    }

    /// Most rules a table may hold.
    pub fn set_limit(&mut self, rules: usize) {
        self.limit = rules;
    }

    /// Number of rules in all tables.
    pub fn len(&self) -> usize {
        self.tables.iter().flatten().map(|t| t.classifier.len()).sum()
    }
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn table_count(&self) -> usize {
        self.tables.len()
    }

    pub(crate) fn table(&self, table: u8) -> Option<&Table> {
        self.tables.get(usize::from(table))?.as_deref()
    }

    /// Executes a flow-mod.
    ///
    /// # Errors
    /// When the flow-mod is refused; nothing has changed then.
    pub fn apply(&mut self, flow_mod: &FlowMod, now_ms: u64) -> Result<FlowModOutcome, FlowModError> {
        let matching = MiniMatch::new(&Match::new(&flow_mod.matching.key, flow_mod.matching.mask));
        match flow_mod.command {
            FlowModCommand::Add => self.add(flow_mod, matching, now_ms),
            FlowModCommand::Modify { strict, or_add } => {
                check(flow_mod, true)?;
                let rules = self.selected(flow_mod, &matching, strict, false);
                if rules.is_empty() && or_add && flow_mod.cookie_mask == 0 {
                    return self.add(flow_mod, matching, now_ms);
                }
                check_goto(flow_mod, rules.iter().map(|r| r.table))?;
                let modified = rules.iter().map(|rule| self.modify(rule, flow_mod, now_ms)).collect();
                Ok(FlowModOutcome { modified, ..FlowModOutcome::default() })
            }
            FlowModCommand::Delete { strict } => {
                check(flow_mod, true)?;
                let rules = self.selected(flow_mod, &matching, strict, true);
                Ok(FlowModOutcome {
                    removed: self.drop_all(rules, RemovedReason::Delete),
                    ..Default::default()
                })
            }
        }
    }

    /// Removes rules whose time is over.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Removed> {
        let due: Vec<_> = self
            .mortal
            .values()
            .filter_map(|rule| {
                let (at, reason) = rule.expiry()?;
                (at <= now_ms).then(|| (rule.clone(), reason))
            })
            .collect();
        due.into_iter().flat_map(|(rule, reason)| self.drop_all(vec![rule], reason)).collect()
    }

    /// When the next rule may expire, if its traffic ends now; `None`: no rule ever does.
    pub fn next_expiry(&self) -> Option<u64> {
        self.mortal.values().filter_map(|rule| rule.expiry()).map(|(at, _)| at).min()
    }

    /// The rules that a filter selects: by table, then highest priority first, then oldest first.
    pub fn rules(&self, filter: &RuleFilter) -> Vec<Arc<Rule>> {
        let wanted = MiniMatch::new(&filter.matching);
        let mut rules: Vec<Arc<Rule>> = self
            .each_table(filter.table)
            .flat_map(|t| t.classifier.iter())
            .filter(|rule| filter.selects(rule, &wanted))
            .cloned()
            .collect();
        rules.sort_by_key(|r| (r.table, std::cmp::Reverse(r.priority), r.id));
        rules
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
        let tables = self.tables.iter().enumerate();
        tables
            .filter(move |(n, _)| table.is_none_or(|t| usize::from(t) == *n))
            .filter_map(|(_, t)| t.as_ref())
    }

    fn table_mut(&mut self, table: u8) -> &mut Table {
        let at = usize::from(table);
        if self.tables.len() <= at {
            self.tables.resize(at + 1, None);
        }
        Arc::make_mut(self.tables[at].get_or_insert_with(Arc::default))
    }

    fn add(
        &mut self,
        flow_mod: &FlowMod,
        matching: MiniMatch,
        now_ms: u64,
    ) -> Result<FlowModOutcome, FlowModError> {
        check(flow_mod, false)?;
        let table = flow_mod.table;
        check_goto(flow_mod, [table].into_iter())?;
        let existing =
            self.table(table).and_then(|t| t.classifier.find(&matching, flow_mod.priority)).cloned();
        let rules = self.table(table).map(|t| &t.classifier);
        if flow_mod.flags.check_overlap
            && let Some(rules) = rules
            && rules.iter().any(|r| r.priority == flow_mod.priority && r.matching.overlaps(&matching))
        {
            return Err(FlowModError::Overlap { table });
        }
        if existing.is_none() && rules.is_some_and(|r| r.len() >= self.limit) {
            return Err(FlowModError::TableFull { table, limit: self.limit });
        }
        let mut rule = self.rule(flow_mod, matching, now_ms);
        if let Some(old) = existing
            && !flow_mod.flags.reset_counts
        {
            rule.stats = old.stats.clone();
        }
        let rule = self.put(rule);
        Ok(FlowModOutcome { added: vec![rule], ..FlowModOutcome::default() })
    }

    fn rule(&mut self, flow_mod: &FlowMod, matching: MiniMatch, now_ms: u64) -> Rule {
        let id = self.next_id;
        self.next_id += 1;
        Rule {
            id,
            table: flow_mod.table,
            priority: flow_mod.priority,
            matching,
            cookie: flow_mod.cookie,
            instructions: Arc::new(flow_mod.instructions.clone()),
            idle_timeout: flow_mod.idle_timeout,
            hard_timeout: flow_mod.hard_timeout,
            importance: flow_mod.importance,
            flags: flow_mod.flags,
            created_ms: now_ms,
            modified_ms: now_ms,
            stats: Arc::default(),
        }
    }

    /// Puts a rule in its table, in place of one with the same match and priority.
    fn put(&mut self, rule: Rule) -> Arc<Rule> {
        let (rule, old) = self.table_mut(rule.table).classifier.insert(rule);
        if let Some(old) = old {
            self.mortal.remove(old.id);
        }
        if rule.idle_timeout != 0 || rule.hard_timeout != 0 {
            *self.mortal.entry(rule.id, || rule.clone()) = rule.clone();
        }
        rule
    }

    fn modify(&mut self, old: &Arc<Rule>, flow_mod: &FlowMod, now_ms: u64) -> Arc<Rule> {
        let mut rule = Rule::clone(old);
        rule.instructions = Arc::new(flow_mod.instructions.clone());
        rule.modified_ms = now_ms;
        let changes_cookie = matches!(flow_mod.command, FlowModCommand::Modify { or_add: true, .. });
        if changes_cookie && flow_mod.cookie_mask == 0 && flow_mod.cookie != u64::MAX {
            rule.cookie = flow_mod.cookie;
        }
        if flow_mod.flags.reset_counts {
            rule.stats = Arc::default();
        }
        self.put(rule)
    }

    fn drop_all(&mut self, rules: Vec<Arc<Rule>>, reason: RemovedReason) -> Vec<Removed> {
        for rule in &rules {
            let table = self.table_mut(rule.table);
            if table.classifier.remove(&rule.matching, rule.priority).is_some() {
                table.departed += rule.stats.packets.load(Ordering::Relaxed);
            }
            self.mortal.remove(rule.id);
        }
        rules.into_iter().map(|rule| Removed { rule, reason }).collect()
    }

    /// The rules that a modify or delete is about.
    fn selected(
        &self,
        flow_mod: &FlowMod,
        matching: &MiniMatch,
        strict: bool,
        by_port: bool,
    ) -> Vec<Arc<Rule>> {
        let table = (flow_mod.table != ALL_TABLES).then_some(flow_mod.table);
        let cookie_fits = |r: &Rule| (r.cookie ^ flow_mod.cookie_match) & flow_mod.cookie_mask == 0;
        let port_fits =
            |r: &Rule| !by_port || flow_mod.out_port == OfPort::ANY || r.outputs_to(flow_mod.out_port);
        let fits = |r: &&Arc<Rule>| cookie_fits(r) && port_fits(r);
        let tables = self.each_table(table);
        if strict {
            return tables
                .filter_map(|t| t.classifier.find(matching, flow_mod.priority))
                .filter(fits)
                .cloned()
                .collect();
        }
        let rules = tables.flat_map(|t| t.classifier.iter()).filter(|r| r.matching.is_within(matching));
        rules.filter(fits).cloned().collect()
    }
}

fn check(flow_mod: &FlowMod, all_allowed: bool) -> Result<(), FlowModError> {
    if flow_mod.table == ALL_TABLES && !all_allowed {
        return Err(FlowModError::BadTableId(flow_mod.table));
    }
    Ok(())
}

fn check_goto(flow_mod: &FlowMod, tables: impl Iterator<Item = u8>) -> Result<(), FlowModError> {
    let Some(to) = flow_mod.instructions.goto else { return Ok(()) };
    if to == ALL_TABLES {
        return Err(FlowModError::BadGoto { from: flow_mod.table, to });
    }
    for from in tables {
        if to <= from {
            return Err(FlowModError::BadGoto { from, to });
        }
    }
    Ok(())
}
