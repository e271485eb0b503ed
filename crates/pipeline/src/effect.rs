//! What do packets change in flow tables? `learn` adds rules, `fin_timeout` shortens timeouts.
//!
//! A walk only says what is to be done; the pipeline does it after, and again when a cached flow that stands for the
//! walk was used.

use std::sync::Arc;

use crate::snapshot::Snapshot;
use crate::table::{FlowModOutcome, Learned, Rule, TableSet};

/// A change of flow tables that a packet brings about.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// `learn(...)`.
    Learn { bridge: u32, learned: Box<Learned> },
    /// `fin_timeout(...)`, for a packet that ends its connection.
    FinTimeout { bridge: u32, rule: Arc<Rule>, idle: u16, hard: u16 },
}

impl Effect {
    pub(crate) fn bridge(&self) -> u32 {
        match self {
            Effect::Learn { bridge, .. } | Effect::FinTimeout { bridge, .. } => *bridge,
        }
    }

    /// Whether tables must change. A rule that was learned already is only made young again.
    pub(crate) fn is_due(&self, snapshot: &Snapshot, now_ms: u64) -> bool {
        if let (Effect::Learn { learned, .. }, Some(bridge)) = (self, snapshot.bridge(self.bridge())) {
            bridge.tables.refresh_learned(learned, now_ms);
        }
        self.would_change(snapshot)
    }

    /// Whether a packet would have tables changed. Nothing is made young.
    pub(crate) fn would_change(&self, snapshot: &Snapshot) -> bool {
        let Some(bridge) = snapshot.bridge(self.bridge()) else { return false };
        match self {
            Effect::Learn { learned, .. } => {
                !bridge.tables.has_learned(learned) && bridge.tables.may_learn(learned)
            }
            Effect::FinTimeout { rule, idle, hard, .. } => {
                current(&bridge.tables, rule).is_some_and(|r| shortened(r, *idle, *hard).is_some())
            }
        }
    }

    /// Changes the tables. `None`: there was nothing to change.
    pub(crate) fn apply(&self, snapshot: &mut Snapshot, now_ms: u64) -> Option<FlowModOutcome> {
        let tables = snapshot.tables_mut(self.bridge())?;
        let outcome = match self {
            // A rule that is refused is not learned, and nobody is there to be told.
            Effect::Learn { learned, .. } => tables.learn(learned, now_ms).ok()?,
            Effect::FinTimeout { rule, idle, hard, .. } => {
                let short = shortened(current(tables, rule)?, *idle, *hard)?;
                let modified = vec![tables.replace(short)];
                FlowModOutcome { modified, ..FlowModOutcome::default() }
            }
        };
        (!outcome.is_empty()).then_some(outcome)
    }
}

/// The rule as it is now.
fn current<'a>(tables: &'a TableSet, rule: &Rule) -> Option<&'a Arc<Rule>> {
    let found = tables.table(rule.table)?.classifier.find(&rule.matching, rule.priority)?;
    (found.created_ms == rule.created_ms && found.cookie == rule.cookie).then_some(found)
}

/// The rule with timeouts no longer than these (0: unchanged); `None`: they are not.
fn shortened(rule: &Rule, idle: u16, hard: u16) -> Option<Rule> {
    let shorter = |old: u16, new: u16| if new != 0 && (old == 0 || new < old) { new } else { old };
    let idle_timeout = shorter(rule.idle_timeout, idle);
    let hard_timeout = shorter(rule.hard_timeout, hard);
    let changed = (idle_timeout, hard_timeout) != (rule.idle_timeout, rule.hard_timeout);
    changed.then(|| Rule { idle_timeout, hard_timeout, ..rule.clone() })
}
