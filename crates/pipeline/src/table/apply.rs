//! How is a flow-mod carried out?

use std::sync::Arc;

use weft_flow::OfPort;

use super::filter::RuleFilter;
use super::flow_mod::{
    FlowMod, FlowModCommand, FlowModError, FlowModOutcome, GROUP_ALL, GROUP_ANY, Modified,
};
use super::rule::{Referent, RemovedReason, Rule};
use super::{ALL_TABLES, INTERNAL_TABLE, TableSet};
use crate::classifier::MiniMatch;

impl TableSet {
    /// Executes a flow-mod.
    ///
    /// # Errors
    /// When the flow-mod is refused; nothing has changed then.
    pub fn apply(&mut self, flow_mod: &FlowMod, now_ms: u64) -> Result<FlowModOutcome, FlowModError> {
        let matching = match self.table(flow_mod.table) {
            Some(table) => table.classifier.small(&flow_mod.matching),
            None => MiniMatch::new(&flow_mod.matching),
        };
        if flow_mod.table == INTERNAL_TABLE {
            return Err(FlowModError::ReadOnly(flow_mod.table));
        }
        match flow_mod.command {
            FlowModCommand::Add => self.add(flow_mod, matching, now_ms),
            FlowModCommand::Modify { strict, or_add } => {
                let rules = self.selected(flow_mod, &matching, strict, false);
                let new_cookie = (or_add && flow_mod.cookie != u64::MAX).then_some(flow_mod.cookie);
                if rules.is_empty() && new_cookie.is_some() && flow_mod.cookie_mask == 0 {
                    return self.add(flow_mod, matching, now_ms);
                }
                check_goto(flow_mod, rules.iter().map(|r| r.table))?;
                let mut outcome = FlowModOutcome::default();
                for old in rules {
                    outcome.modified.push(self.modify(old, flow_mod, new_cookie, now_ms));
                }
                self.drop_orphans(&mut outcome);
                Ok(outcome)
            }
            FlowModCommand::Delete { strict } => {
                let rules = self.selected(flow_mod, &matching, strict, true);
                let mut outcome = FlowModOutcome::default();
                self.drop_all(rules, RemovedReason::Delete, &mut outcome);
                Ok(outcome)
            }
        }
    }

    /// Whether a flow-mod takes a short time, however many rules there are.
    pub(crate) fn is_quick(&self, flow_mod: &FlowMod) -> bool {
        match flow_mod.command {
            FlowModCommand::Add => {
                let (table, config) = (flow_mod.table, self.table_config(flow_mod.table));
                // The first eviction of a table looks at all of it.
                let evicts = config.evicts() && self.len_of(table) >= config.max_rules;
                let knows_how = self.table(table).is_some_and(|t| t.evictable.is_some());
                !flow_mod.flags.check_overlap && (!evicts || knows_how)
            }
            FlowModCommand::Modify { strict, .. } | FlowModCommand::Delete { strict } => strict,
        }
    }

    /// Executes flow-mods in order: all of them, or none.
    ///
    /// # Errors
    /// The place of the first one that is refused, and why; nothing has changed then.
    pub fn apply_all<'a>(
        &mut self,
        flow_mods: impl IntoIterator<Item = &'a FlowMod>,
        now_ms: u64,
    ) -> Result<FlowModOutcome, (usize, FlowModError)> {
        let before = self.clone();
        let mut outcome = FlowModOutcome::default();
        for (n, flow_mod) in flow_mods.into_iter().enumerate() {
            match self.apply(flow_mod, now_ms) {
                Ok(done) => outcome.extend(done),
                Err(error) => {
                    *self = before;
                    return Err((n, error));
                }
            }
        }
        Ok(outcome)
    }

    /// Puts a rule in the place of the one with the same match and priority, as a rule modified.
    pub(crate) fn replace(&mut self, rule: Rule) -> Modified {
        let (rule, old) = self.put(rule);
        Modified { old: old.unwrap_or_else(|| rule.clone()), rule }
    }

    /// Deletes the rules that execute a group, or any group with 0xfffffffc (`OFPG_ALL`): the group is gone (OpenFlow 1.3.5 §6.5).
    pub fn delete_group_users(&mut self, id: u32) -> FlowModOutcome {
        let all = id == GROUP_ALL;
        let uses = |rule: &Rule| {
            if all { rule.uses.has(super::Uses::GROUP) } else { rule.uses_group(id) }
        };
        let known = if all { usize::MAX } else { self.referrers(Referent::Group(id)) as usize };
        self.delete_users(known, uses, RemovedReason::GroupDelete)
    }

    /// Deletes the rules that pass a meter: it is gone (OpenFlow 1.3.5 §6.5).
    pub fn delete_meter_users(&mut self, id: u32) -> FlowModOutcome {
        let known = self.referrers(Referent::Meter(id)) as usize;
        self.delete_users(known, |rule| rule.uses_meter(id), RemovedReason::MeterDelete)
    }

    /// Deletes the rules that use something, of which `known` there are.
    fn delete_users(
        &mut self,
        known: usize,
        uses: impl Fn(&Rule) -> bool,
        reason: RemovedReason,
    ) -> FlowModOutcome {
        let mut outcome = FlowModOutcome::default();
        if known > 0 {
            let rules = self.each_table(None).flat_map(|t| t.classifier.iter());
            // Behind the last one there is nothing to look for.
            let rules = rules.filter(|r| uses(r)).take(known).cloned().collect();
            self.drop_all(rules, reason, &mut outcome);
        }
        outcome
    }

    pub(super) fn add(
        &mut self,
        flow_mod: &FlowMod,
        matching: MiniMatch,
        now_ms: u64,
    ) -> Result<FlowModOutcome, FlowModError> {
        let table = flow_mod.table;
        if table == ALL_TABLES {
            return Err(FlowModError::BadTableId(table));
        }
        check_goto(flow_mod, [table].into_iter())?;
        let classifier = self.table(table).map(|t| &t.classifier);
        let existing = classifier.and_then(|c| c.find(&matching, flow_mod.priority)).cloned();
        let mut outcome = FlowModOutcome::default();
        if existing.is_none() {
            let overlaps = |c: &crate::classifier::Classifier| c.overlaps(&matching, flow_mod.priority);
            if flow_mod.flags.check_overlap && classifier.is_some_and(overlaps) {
                return Err(FlowModError::Overlap { table });
            }
            let limit = self.table_config(table).max_rules;
            if self.len_of(table) >= limit {
                let victim = if self.table_config(table).evicts() { self.victim(table) } else { None };
                let victim = victim.ok_or(FlowModError::TableFull { table, limit })?;
                outcome.extend(self.evict(victim));
            }
        }
        let mut rule = self.make(flow_mod, matching, now_ms);
        if let Some(old) = &existing
            && !flow_mod.flags.reset_counts
        {
            rule.stats = old.stats.clone();
        }
        let (rule, old) = self.put(rule);
        outcome.added.push(rule);
        outcome.replaced.extend(old);
        self.drop_orphans(&mut outcome);
        self.note_vacancy(table, &mut outcome);
        Ok(outcome)
    }

    fn modify(&mut self, old: Arc<Rule>, flow_mod: &FlowMod, cookie: Option<u64>, now_ms: u64) -> Modified {
        let mut rule = Rule::clone(&old);
        rule.instructions = self.shared.instructions(&flow_mod.instructions);
        rule.uses = super::Uses::of(&flow_mod.instructions);
        rule.modified_ms = now_ms;
        rule.cookie = cookie.unwrap_or(rule.cookie);
        if flow_mod.flags.reset_counts {
            rule.stats = Arc::default();
        }
        Modified { rule: self.put(rule).0, old }
    }

    /// Gives a rule shorter timeouts, in seconds, for instance because a connection ended; 0 leaves one as it is.
    /// Nothing happens when the rule is no more what it was.
    pub fn shorten(&mut self, rule: &Rule, idle: u16, hard: u16) -> Option<Modified> {
        let old = self.table(rule.table)?.classifier.find(&rule.matching, rule.priority)?.clone();
        let least = |old: u16, new: u16| match (old, new) {
            (old, 0) => old,
            (0, new) => new,
            (old, new) => old.min(new),
        };
        let (idle, hard) = (least(old.idle_timeout, idle), least(old.hard_timeout, hard));
        if old.id != rule.id || (idle, hard) == (old.idle_timeout, old.hard_timeout) {
            return None;
        }
        let rule = Rule { idle_timeout: idle, hard_timeout: hard, ..Rule::clone(&old) };
        Some(Modified { rule: self.put(rule).0, old })
    }

    /// The rules that a modify or delete is about; only a delete looks at ports and groups.
    fn selected(
        &self,
        flow_mod: &FlowMod,
        matching: &MiniMatch,
        strict: bool,
        deletes: bool,
    ) -> Vec<Arc<Rule>> {
        let filter = RuleFilter {
            table: (flow_mod.table != ALL_TABLES).then_some(flow_mod.table),
            matching: flow_mod.matching,
            cookie: flow_mod.cookie_match,
            cookie_mask: flow_mod.cookie_mask,
            out_port: if deletes { flow_mod.out_port } else { OfPort::ANY },
            out_group: if deletes { flow_mod.out_group } else { GROUP_ANY },
        };
        if !strict {
            return self.select(&filter, matching);
        }
        let tables = self.each_table(filter.table);
        let rules = tables.filter_map(|t| t.classifier.find(matching, flow_mod.priority));
        rules.filter(|rule| filter.selects(rule, matching)).cloned().collect()
    }
}

fn check_goto(flow_mod: &FlowMod, tables: impl Iterator<Item = u8>) -> Result<(), FlowModError> {
    let Some(to) = flow_mod.instructions.goto else { return Ok(()) };
    if to >= INTERNAL_TABLE {
        return Err(FlowModError::BadGoto { from: flow_mod.table, to });
    }
    for from in tables {
        if to <= from {
            return Err(FlowModError::BadGoto { from, to });
        }
    }
    Ok(())
}
