//! How do flow-mods and what becomes of rules go between sessions and flow tables?

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use weft_flow::{Action, Match, TlvTable};
use weft_openflow::msg::flow::{FlowCommand, flow_flags};
use weft_openflow::msg::flow_removed::FlowRemoved;
use weft_openflow::stats::TellFlow;
use weft_openflow::stats::flow::{FlowStats, FlowStatsRequest};
use weft_openflow::{ErrorCode, Version, match_with_options, msg, options_of};
use weft_pipeline::classifier::MiniMatch;
use weft_pipeline::{
    ALL_TABLES, FlowFlags, FlowMod, FlowModCommand, FlowModError, Pipeline, Removed, Rule, RuleCursor,
    RuleFilter,
};

use super::OpenFlow;
use super::changes::Done;

/// The change a message asks for.
///
/// # Errors
/// What the message names does not exist.
pub(super) fn flow_mod(
    m: &msg::flow::FlowMod,
    version: Version,
    tlv: &TlvTable,
) -> Result<FlowMod, ErrorCode> {
    let mut change = nothing();
    read(&mut change, &mut m.clone(), version, tlv)?;
    Ok(change)
}

/// A change to be written over.
pub(super) fn nothing() -> FlowMod {
    FlowMod::new(FlowModCommand::Add, 0, 0, Match::any())
}

/// Writes the change a message asks for over `change`: it is too large to be handed around. What the rule is to do is
/// taken out of the message.
///
/// # Errors
/// As [`flow_mod`].
pub(super) fn read(
    change: &mut FlowMod,
    m: &mut msg::flow::FlowMod,
    version: Version,
    tlv: &TlvTable,
) -> Result<(), ErrorCode> {
    if m.buffer_id.is_some() && !m.deletes() {
        return Err(ErrorCode::OFPBRC_BUFFER_UNKNOWN);
    }
    let old = version <= Version::V11;
    let add = m.command == FlowCommand::Add;
    // Named one by one, so that nothing of the last change stays.
    let FlowMod {
        command,
        table,
        priority,
        matching,
        cookie,
        cookie_match,
        cookie_mask,
        instructions,
        idle_timeout,
        hard_timeout,
        importance,
        flags,
        out_port,
        out_group,
    } = change;
    *command = match m.command {
        FlowCommand::Add => FlowModCommand::Add,
        FlowCommand::Modify => FlowModCommand::Modify { strict: false, or_add: old },
        FlowCommand::ModifyStrict => FlowModCommand::Modify { strict: true, or_add: old },
        FlowCommand::Delete => FlowModCommand::Delete { strict: false },
        FlowCommand::DeleteStrict => FlowModCommand::Delete { strict: true },
    };
    if m.options.is_empty() {
        matching.clone_from(&m.matching);
    } else {
        *matching = match_with_options(&m.matching, &m.options, tlv)?;
    }
    (*table, *priority) = (m.table.unwrap_or(if add { 0 } else { ALL_TABLES }), m.priority);
    *cookie = m.new_cookie.unwrap_or(if add { 0 } else { u64::MAX });
    (*cookie_match, *cookie_mask) = (m.cookie, if add { 0 } else { m.cookie_mask });
    *instructions = std::mem::take(&mut m.instructions);
    (*idle_timeout, *hard_timeout, *importance) = (m.idle_timeout, m.hard_timeout, m.importance);
    (*out_port, *out_group) = (m.out_port, m.out_group);
    let has = |bit: u16| m.flags & bit != 0;
    *flags = FlowFlags {
        send_flow_rem: has(flow_flags::SEND_FLOW_REM),
        check_overlap: has(flow_flags::CHECK_OVERLAP),
        // Before OpenFlow 1.2 a rule that replaces another always counts from zero.
        reset_counts: has(flow_flags::RESET_COUNTS) || add && old,
        no_packet_counts: has(flow_flags::NO_PKT_COUNTS),
        no_byte_counts: has(flow_flags::NO_BYT_COUNTS),
    };
    Ok(())
}

/// Whether the groups and meters that a rule is to use exist, and its match is one that controllers may make.
pub(super) fn check_references(change: &FlowMod, bridge: &weft_pipeline::Bridge) -> Result<(), ErrorCode> {
    if change.matching.mask.0.ct.dp_hash != 0 || change.matching.key.packet.recirc_id != 0 {
        return Err(ErrorCode::OFPBRC_EPERM);
    }
    if matches!(change.command, FlowModCommand::Delete { .. }) {
        return Ok(());
    }
    if change.instructions.meter.is_some_and(|id| bridge.meters.get(id).is_none()) {
        return Err(ErrorCode::OFPMMFC_INVALID_METER);
    }
    check_actions(&change.instructions.apply, bridge)?;
    check_actions(&change.instructions.write, bridge)
}

/// Whether the groups and meters that actions use exist.
pub(super) fn check_actions(actions: &[Action], bridge: &weft_pipeline::Bridge) -> Result<(), ErrorCode> {
    let (mut list, mut later) = (actions, Vec::new());
    loop {
        for action in list {
            match action {
                Action::Group(id) if bridge.groups.get(*id).is_none() => {
                    return Err(ErrorCode::OFPBAC_BAD_OUT_GROUP);
                }
                Action::Meter(id) if bridge.meters.get(*id).is_none() => {
                    return Err(ErrorCode::OFPMMFC_INVALID_METER);
                }
                Action::Clone(inner) => later.push(inner.as_slice()),
                _ => {}
            }
        }
        match later.pop() {
            Some(next) => list = next,
            None => return Ok(()),
        }
    }
}

pub(super) fn error_code(error: FlowModError) -> ErrorCode {
    match error {
        FlowModError::BadTableId(_) => ErrorCode::OFPFMFC_BAD_TABLE_ID,
        FlowModError::ReadOnly(_) => ErrorCode::OFPBRC_EPERM,
        FlowModError::Overlap { .. } => ErrorCode::OFPFMFC_OVERLAP,
        FlowModError::TableFull { .. } => ErrorCode::OFPFMFC_TABLE_FULL,
        FlowModError::BadGoto { .. } => ErrorCode::OFPBIC_BAD_TABLE_ID,
    }
}

/// The rules that a question is about.
///
/// # Errors
/// It names a tunnel option that is no field.
pub(super) fn filter(request: &FlowStatsRequest, tlv: &TlvTable) -> Result<RuleFilter, ErrorCode> {
    Ok(RuleFilter {
        table: request.table,
        matching: match_with_options(&request.matching, &request.options, tlv)?,
        cookie: request.cookie,
        cookie_mask: request.cookie_mask,
        out_port: request.out_port,
        out_group: request.out_group,
    })
}

pub(super) fn bits(flags: FlowFlags) -> u16 {
    let bit = |on: bool, bit: u16| if on { bit } else { 0 };
    bit(flags.send_flow_rem, flow_flags::SEND_FLOW_REM)
        | bit(flags.no_packet_counts, flow_flags::NO_PKT_COUNTS)
        | bit(flags.no_byte_counts, flow_flags::NO_BYT_COUNTS)
}

/// A rule, as an answer tells of it.
pub(super) fn stats(rule: &Rule, now: u64, tlv: &TlvTable) -> FlowStats {
    let mut entry = FlowStats { matching: rule.matching.expand(), ..FlowStats::default() };
    fill(&mut entry, rule, now);
    entry.options = options_of(&entry.matching, tlv);
    entry.instructions = (*rule.instructions).clone();
    entry
}

/// Tells of the next rules, `n` at most. True: there are more.
pub(super) fn tell(rules: &mut RuleCursor, n: usize, now: u64, tlv: &TlvTable, tell: TellFlow<'_>) -> bool {
    let mut entry = FlowStats::default();
    let mut before: Option<MiniMatch> = None;
    rules.visit(n, &mut |rule| {
        let same = before.as_ref().is_some_and(|before| before.is_alike(&rule.matching));
        rule.matching.expand_after(before.as_ref(), &mut entry.matching);
        if !same {
            before = Some(rule.matching.clone());
        }
        fill(&mut entry, rule, now);
        // Where no option is looked at, none is.
        if !(same && entry.options.is_empty()) {
            entry.options = options_of(&entry.matching, tlv);
        }
        tell(&entry, &rule.instructions, same);
    });
    !rules.is_done()
}

/// All of a rule but what it matches and does.
fn fill(entry: &mut FlowStats, rule: &Rule, now: u64) {
    let age = |since: u64| u16::try_from(now.saturating_sub(since) / 1000).unwrap_or(u16::MAX);
    let used = rule.stats.used_ms.load(Relaxed).max(rule.created_ms);
    entry.table_id = rule.table;
    entry.priority = rule.priority;
    entry.duration = Duration::from_millis(now.saturating_sub(rule.created_ms));
    entry.idle_timeout = rule.idle_timeout;
    entry.hard_timeout = rule.hard_timeout;
    entry.flags = bits(rule.flags);
    entry.importance = rule.importance;
    entry.cookie = rule.cookie;
    entry.packets = rule.stats.packets.load(Relaxed);
    entry.bytes = rule.stats.bytes.load(Relaxed);
    entry.idle_age = Some(age(used));
    entry.hard_age = (rule.modified_ms != rule.created_ms).then(|| age(rule.modified_ms));
}

impl OpenFlow {
    /// Tells controllers of rules that went and were to be told of.
    pub(super) fn tell_removed(&mut self, bridge: u32, removed: &[Removed], tlv: &TlvTable, now: u64) {
        for Removed { rule, reason } in removed.iter().filter(|r| r.rule.flags.send_flow_rem) {
            let matching = rule.matching.expand();
            let message = FlowRemoved {
                options: options_of(&matching, tlv),
                matching,
                cookie: rule.cookie,
                priority: rule.priority,
                reason: super::changes::reason(*reason),
                table_id: rule.table,
                duration: Duration::from_millis(now.saturating_sub(rule.created_ms)),
                idle_timeout: rule.idle_timeout,
                hard_timeout: rule.hard_timeout,
                packets: rule.stats.packets.load(Relaxed),
                bytes: rule.stats.bytes.load(Relaxed),
            };
            for session in self.sessions_of(bridge) {
                session.flow_removed(message.clone());
            }
        }
    }

    /// Removes rules whose time is over.
    pub(crate) fn expire(&mut self, pipeline: &Pipeline, now: u64) {
        let mut gone: Vec<Done> = Vec::new();
        let _ = pipeline.update(|snapshot| {
            let due = |b: &&Arc<weft_pipeline::Bridge>| b.tables.next_expiry().is_some_and(|at| at <= now);
            let bridges: Vec<u32> = snapshot.bridges().filter(due).map(|b| b.config.id).collect();
            for id in bridges {
                if let Some(tables) = snapshot.tables_mut(id) {
                    gone.push(Done { bridge: id, outcome: tables.expire(now), by: None, message: None });
                }
            }
            // Rules that traffic kept alive are due later now, which is worth remembering.
            if gone.is_empty() { Err(()) } else { Ok(()) }
        });
        self.unsynced |= !gone.is_empty();
        for done in gone {
            self.tell(&done, pipeline, now);
        }
    }
}
