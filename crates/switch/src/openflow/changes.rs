//! What became of rules, and who is told: flow-removed messages, flow monitors, table status.

use std::sync::Arc;

use weft_flow::TlvTable;
use weft_openflow::msg::flow_removed::removed_reason;
use weft_openflow::msg::monitor::{FlowEvent, FlowUpdate};
use weft_openflow::msg::table::{TableReason, TableStatus};
use weft_openflow::{Message, options_of};
use weft_pipeline::{FlowModOutcome, Pipeline, RemovedReason, Rule, RuleCursor, RuleFilter};

use super::{OpenFlow, tables};
use crate::stream::ConnId;

/// Rules looked at together.
const AT_ONCE: usize = 512;

/// Something that was done to the tables of a bridge.
pub(super) struct Done {
    pub(super) bridge: u32,
    pub(super) outcome: FlowModOutcome,
    /// The connection that asked for it, and the transaction; `None`: packets or time did it.
    pub(super) by: Option<(ConnId, u32)>,
    /// The message that changed groups, meters or tunnel options, which are more than rules.
    pub(super) message: Option<Box<Message>>,
}

/// The number by which controllers know why a rule went.
pub(super) fn reason(reason: RemovedReason) -> u8 {
    match reason {
        RemovedReason::IdleTimeout => removed_reason::IDLE_TIMEOUT,
        RemovedReason::HardTimeout => removed_reason::HARD_TIMEOUT,
        RemovedReason::Delete => removed_reason::DELETE,
        RemovedReason::GroupDelete => removed_reason::GROUP_DELETE,
        RemovedReason::MeterDelete => removed_reason::METER_DELETE,
        RemovedReason::Eviction => removed_reason::EVICTION,
    }
}

/// A rule, as monitors tell of it.
pub(super) fn update(rule: &Rule, event: FlowEvent, reason: u8, tlv: &TlvTable) -> FlowUpdate {
    let matching = rule.matching.expand();
    FlowUpdate {
        event,
        reason,
        table_id: rule.table,
        priority: rule.priority,
        idle_timeout: rule.idle_timeout,
        hard_timeout: rule.hard_timeout,
        cookie: rule.cookie,
        options: options_of(&matching, tlv),
        matching,
        instructions: (*rule.instructions).clone(),
    }
}

/// What monitors tell of a change.
fn updates(outcome: &FlowModOutcome, tlv: &TlvTable) -> Vec<FlowUpdate> {
    let gone = outcome.removed.iter().map(|r| update(&r.rule, FlowEvent::Removed, reason(r.reason), tlv));
    // A rule that came in place of another one is a rule that changed.
    let replaces = |rule: &Arc<Rule>| {
        let same = |old: &&Arc<Rule>| {
            (old.table, old.priority) == (rule.table, rule.priority) && old.matching == rule.matching
        };
        outcome.replaced.iter().find(same).is_some()
    };
    let added = outcome.added.iter().map(|rule| {
        update(rule, if replaces(rule) { FlowEvent::Modified } else { FlowEvent::Added }, 0, tlv)
    });
    let modified = outcome.modified.iter().map(|m| update(&m.rule, FlowEvent::Modified, 0, tlv));
    gone.chain(added).chain(modified).collect()
}

/// Whether controllers are told of a change of rules even if none of them watches rules.
pub(super) fn is_notable(outcome: &FlowModOutcome) -> bool {
    !outcome.events.is_empty() || outcome.removed.iter().any(|r| r.rule.flags.send_flow_rem)
}

impl OpenFlow {
    /// Whether every change of a bridge's rules is told, or kept.
    pub(super) fn is_watched(&mut self, bridge: u32) -> bool {
        self.bridges.get(&bridge).is_some_and(|b| b.journal.is_some())
            || self.sessions_of(bridge).any(|session| session.has_monitors())
    }

    /// Tells controllers what was done.
    pub(super) fn tell(&mut self, done: &Done, pipeline: &Pipeline, now: u64) {
        let Done { bridge, outcome, by, message } = done;
        self.keep(*bridge, outcome, message.as_deref(), pipeline);
        let told = outcome.removed.iter().any(|r| r.rule.flags.send_flow_rem);
        let watched = self.sessions_of(*bridge).any(|session| session.has_monitors());
        if told || watched {
            let tlv = pipeline.with_bridge(*bridge, |b| b.tlv.clone()).unwrap_or_default();
            self.tell_removed(*bridge, &outcome.removed, &tlv, now);
            if watched {
                let updates = updates(outcome, &tlv);
                for (id, connection) in self.connections.iter_mut().filter(|(_, c)| c.bridge == *bridge) {
                    let own = by.filter(|(conn, _)| conn == id).map(|(_, xid)| xid);
                    connection.session.flow_changed(&updates, own, now);
                }
            }
        }
        if outcome.events.is_empty() {
            return;
        }
        let snapshot = pipeline.snapshot();
        let Some(live) = snapshot.bridge(*bridge) else { return };
        for event in &outcome.events {
            let reason = if event.down { TableReason::VacancyDown } else { TableReason::VacancyUp };
            let mut table = tables::describe(&live.tables, event.table);
            if let Some(vacancy) = &mut table.vacancy {
                vacancy.now = event.vacancy;
            }
            for session in self.sessions_of(*bridge) {
                session.table_status(TableStatus { reason, table });
            }
        }
    }

    /// Tells controllers what packets did to flow tables.
    pub(crate) fn tell_learned(&mut self, pipeline: &Pipeline, now: u64) {
        for (bridge, outcome) in pipeline.take_learned() {
            self.tell(&Done { bridge, outcome, by: None, message: None }, pipeline, now);
        }
    }

    /// Lets monitors go on whose controllers read again: they are told what changed meanwhile.
    pub(super) fn resume_monitors(&mut self, pipeline: &Pipeline, now: u64) {
        for connection in self.connections.values_mut() {
            let Some(since) = connection.session.monitors_resumable() else { continue };
            let snapshot = pipeline.snapshot();
            let Some(bridge) = snapshot.bridge(connection.bridge) else { continue };
            let mut rules = RuleCursor::new(bridge.tables.clone(), RuleFilter::default());
            let mut changed = Vec::new();
            while !rules.is_done() {
                for rule in rules.next_page(AT_ONCE) {
                    if rule.created_ms >= since {
                        changed.push(update(&rule, FlowEvent::Added, 0, &bridge.tlv));
                    } else if rule.modified_ms >= since {
                        changed.push(update(&rule, FlowEvent::Modified, 0, &bridge.tlv));
                    }
                }
            }
            connection.session.flow_resumed(&changed, now);
        }
    }
}
