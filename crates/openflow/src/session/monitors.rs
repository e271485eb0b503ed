//! Which changes of rules does this controller hear of?
//!
//! A connection keeps its monitors; the switch says what changed, and the session says it to those who asked. When too
//! much waits to be sent it pauses: rules that go are still told, others are told together once the peer reads again.

use weft_flow::{Action, Instructions, Match, OfPort, OptionValue};

use super::switch::SwitchSession;
use crate::message::Message;
use crate::msg::flow::GROUP_ANY;
use crate::msg::monitor::{
    FlowEvent, FlowUpdate, MonitorCommand, MonitorRequest, MonitorUpdate, monitor_flags,
};
use crate::stats::{MultipartReply, StatsReply};
use crate::{ErrorCode, Version};

/// Monitors that one connection may have.
const MAX_MONITORS: usize = 1024;

/// The monitors of a connection.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    list: Vec<MonitorRequest>,
    /// Since when changes are not told, milliseconds.
    paused: Option<u64>,
    /// The controller's own transaction that was named last.
    abbreviated: Option<u32>,
}

impl Monitors {
    /// Adds, changes and deletes monitors, all or none, and returns those whose rules are to be told now.
    pub(super) fn change(&mut self, requests: Vec<MonitorRequest>) -> Result<Vec<MonitorRequest>, ErrorCode> {
        let mut list = self.list.clone();
        let mut initial = Vec::new();
        for request in requests {
            let at = list.iter().position(|m| m.id == request.id);
            match (request.command, at) {
                (MonitorCommand::Add, Some(_)) => return Err(ErrorCode::OFPMOFC_MONITOR_EXISTS),
                (MonitorCommand::Add, None) if list.len() >= MAX_MONITORS => {
                    return Err(ErrorCode::OFPMOFC_UNKNOWN);
                }
                (MonitorCommand::Modify | MonitorCommand::Delete, None) => {
                    return Err(ErrorCode::OFPMOFC_UNKNOWN_MONITOR);
                }
                (MonitorCommand::Delete, Some(i)) => {
                    list.remove(i);
                    continue;
                }
                (MonitorCommand::Modify, Some(i)) => list[i] = request.clone(),
                (MonitorCommand::Add, None) => list.push(request.clone()),
            }
            if request.flags & monitor_flags::INITIAL != 0 {
                initial.push(request);
            }
        }
        self.list = list;
        Ok(initial)
    }

    pub(super) fn cancel(&mut self, id: u32) -> Result<(), ErrorCode> {
        let at = self.list.iter().position(|m| m.id == id).ok_or(ErrorCode::OFPMOFC_UNKNOWN_MONITOR)?;
        self.list.remove(at);
        Ok(())
    }
}

/// Whether everything that `inner` matches is matched by `outer`.
fn within(inner: &Match, outer: &Match) -> bool {
    let masks = outer.mask.words().iter().zip(inner.mask.words());
    let keys = outer.key.words().iter().zip(inner.key.words());
    masks.zip(keys).all(|((om, im), (ok, ik))| om & im == *om && ik & om == *ok)
}

/// Whether options are matched by `inner` at least as narrowly as by `outer`.
fn options_within(inner: &[OptionValue], outer: &[OptionValue]) -> bool {
    outer.iter().all(|outer| {
        let Some(inner) = inner.iter().find(|inner| inner.field == outer.field) else { return false };
        // Options end together; what one of them lacks in front it does not look at.
        let bytes = outer.mask.iter().rev().zip(outer.value.iter().rev());
        let own = inner.mask.iter().rev().zip(inner.value.iter().rev()).chain(std::iter::repeat((&0, &0)));
        bytes.zip(own).all(|((om, ov), (im, iv))| om & im == *om && (ov ^ iv) & om == 0)
    })
}

fn any_action(list: &[Action], test: &impl Fn(&Action) -> bool) -> bool {
    list.iter().any(|action| match action {
        Action::Clone(inner) => any_action(inner, test),
        other => test(other),
    })
}

fn uses(i: &Instructions, test: impl Fn(&Action) -> bool) -> bool {
    any_action(&i.apply, &test) || any_action(&i.write, &test)
}

impl MonitorRequest {
    /// Whether a rule is one of those watched, whatever happened to it.
    pub fn watches(&self, rule: &FlowUpdate) -> bool {
        let outputs = |action: &Action| match action {
            Action::Output { port, .. } | Action::OutputTrunc { port, .. } | Action::Enqueue { port, .. } => {
                *port == self.out_port
            }
            Action::Controller(_) => self.out_port == OfPort::CONTROLLER,
            _ => false,
        };
        let group = |action: &Action| matches!(action, Action::Group(id) if *id == self.out_group);
        self.table.is_none_or(|t| t == rule.table_id)
            && within(&rule.matching, &self.matching)
            && options_within(&rule.options, &self.options)
            && (self.out_port == OfPort::ANY || uses(&rule.instructions, outputs))
            && (self.out_group == GROUP_ANY || uses(&rule.instructions, group))
    }
}

/// A rule as a controller hears of it: only those who want it hear what it does.
fn told(update: &FlowUpdate, flags: u16) -> MonitorUpdate {
    let mut update = Box::new(update.clone());
    if flags & monitor_flags::INSTRUCTIONS == 0 {
        update.instructions = Instructions::default();
    }
    MonitorUpdate::Full(update)
}

/// What monitors that begin tell of a rule that is there, if they watch it: parts of the answer to
/// [`StatsRequest::FlowMonitor`](crate::stats::StatsRequest::FlowMonitor).
pub fn initial_update(monitors: &[MonitorRequest], rule: &FlowUpdate) -> Option<MonitorUpdate> {
    let watching = monitors.iter().filter(|m| m.watches(rule));
    let flags = watching.map(|m| m.flags).reduce(|all, flags| all | flags)?;
    Some(told(&FlowUpdate { event: FlowEvent::Initial, ..rule.clone() }, flags))
}

impl SwitchSession {
    /// Whether this connection watches any rules.
    pub fn has_monitors(&self) -> bool {
        !self.monitors.list.is_empty()
    }

    /// Tells changes of rules to the monitors of this connection. `own`: the transaction, when it was this controller
    /// that asked for them.
    pub fn flow_changed(&mut self, updates: &[FlowUpdate], own: Option<u32>, now_ms: u64) {
        if self.monitors.list.is_empty() || self.channel.closed().is_some() {
            return;
        }
        let mut list = Vec::new();
        for update in updates {
            let event = match update.event {
                FlowEvent::Initial | FlowEvent::Added => monitor_flags::ADD,
                FlowEvent::Removed => monitor_flags::REMOVED,
                FlowEvent::Modified => monitor_flags::MODIFY,
            };
            let wanting = self.monitors.list.iter().filter(|m| m.flags & event != 0 && m.watches(update));
            let Some(flags) = wanting.map(|m| m.flags).reduce(|all, flags| all | flags) else { continue };
            let paused = self.monitors.paused.is_some();
            if paused && update.event != FlowEvent::Removed {
                continue;
            }
            let full = flags & (monitor_flags::NO_ABBREV | monitor_flags::ONLY_OWN) != 0 || paused;
            match own.filter(|_| !full) {
                None => list.push(told(update, flags)),
                Some(xid) if self.monitors.abbreviated != Some(xid) => {
                    self.monitors.abbreviated = Some(xid);
                    list.push(MonitorUpdate::Abbrev(xid));
                }
                Some(_) => {}
            }
        }
        self.send_updates(list);
        if self.monitors.paused.is_none() && self.channel.congested() {
            self.monitors.paused = Some(now_ms);
            self.send_pause(MonitorUpdate::Paused, &Message::FlowMonitorPaused);
        }
    }

    /// Since when the monitors are paused, once the peer reads again: answer by [`SwitchSession::flow_resumed`] with
    /// every rule that was added or changed since.
    pub fn monitors_resumable(&self) -> Option<u64> {
        self.monitors.paused.filter(|_| self.channel.backlog() <= self.channel.options.backlog / 2)
    }

    /// Tells what changed while the monitors were paused, and that they go on.
    pub fn flow_resumed(&mut self, updates: &[FlowUpdate], now_ms: u64) {
        if self.monitors.paused.take().is_some() {
            self.flow_changed(updates, None, now_ms);
            self.send_pause(MonitorUpdate::Resumed, &Message::FlowMonitorResumed);
        }
    }

    fn send_updates(&mut self, list: Vec<MonitorUpdate>) {
        if !list.is_empty() {
            let body = StatsReply::FlowMonitor(list);
            let reply = MultipartReply { more: false, nicira: false, body };
            self.channel.send(0, &Message::MultipartReply(reply));
        }
    }

    fn send_pause(&mut self, update: MonitorUpdate, message: &Message) {
        if self.version_or_oldest() >= Version::V14 {
            self.send_updates(vec![update]);
        } else {
            self.channel.send(0, message);
        }
    }
}
