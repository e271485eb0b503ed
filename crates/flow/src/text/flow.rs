//! What does a whole `ovs-ofctl add-flow` line say?

use std::fmt::Write;

use super::action_format::format_instructions;
use super::action_parse::parse_instructions;
use super::error::{ParseError, Result, bad};
use super::lex::{Pair, pairs};
use super::match_format::{DEFAULT_PRIORITY, format_with_priority};
use super::match_parse::add_field;
use super::value::{int, number_of};
use super::{Style, Syntax};
use crate::{CheckContext, Field, Instructions, Match, OfPort};

/// A flow as a line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowText {
    /// Table; `None`: 0 for additions, every table for deletions.
    pub table: Option<u8>,
    /// Priority; 32768 unless given.
    pub priority: u16,
    /// Whether the priority was given.
    pub has_priority: bool,
    /// Cookie to set.
    pub cookie: u64,
    /// Cookie and mask to select flows by (`cookie=value/mask`).
    pub cookie_match: Option<(u64, u64)>,
    /// Seconds without traffic after which the flow goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds after which the flow goes; 0: never.
    pub hard_timeout: u16,
    /// Importance for eviction.
    pub importance: u16,
    /// Tell the controller when the flow goes.
    pub send_flow_rem: bool,
    /// Refuse to add the flow if it overlaps another one.
    pub check_overlap: bool,
    /// Set counters to zero.
    pub reset_counts: bool,
    /// Packet counts are not needed.
    pub no_packet_counts: bool,
    /// Byte counts are not needed.
    pub no_byte_counts: bool,
    /// Only flows that output there (deletions and dumps).
    pub out_port: Option<OfPort>,
    /// Only flows that send to that group (deletions and dumps).
    pub out_group: Option<u32>,
    /// What it matches.
    pub matching: Match,
    /// Fields that were given without their prerequisites and are therefore not matched.
    pub ignored: Vec<Field>,
    /// What it does; `None`: the line has no `actions=`.
    pub instructions: Option<Instructions>,
}

impl Default for FlowText {
    fn default() -> Self {
        FlowText {
            table: None,
            priority: DEFAULT_PRIORITY,
            has_priority: false,
            cookie: 0,
            cookie_match: None,
            idle_timeout: 0,
            hard_timeout: 0,
            importance: 0,
            send_flow_rem: false,
            check_overlap: false,
            reset_counts: false,
            no_packet_counts: false,
            no_byte_counts: false,
            out_port: None,
            out_group: None,
            matching: Match::any(),
            ignored: Vec::new(),
            instructions: None,
        }
    }
}

/// Reads a flow that is to be added: as [`parse_flow`], but actions must be given, and what only selects flows that are
/// there (a cookie's mask, `out_port`, `out_group`) must not.
///
/// # Errors
/// As [`parse_flow`], and what an addition cannot have or lacks.
pub fn parse_addition(text: &str, syntax: &Syntax<'_>) -> Result<FlowText> {
    let flow = parse_flow(text, syntax)?;
    let selects = [(flow.out_port.is_some(), "out_port"), (flow.out_group.is_some(), "out_group")];
    if let Some((_, keyword)) = selects.iter().find(|(given, _)| *given) {
        return Err(ParseError::UnknownKeyword((*keyword).to_owned()));
    }
    match (flow.cookie_match, &flow.instructions) {
        (Some(_), _) => Err(ParseError::CookieMask),
        (None, None) => Err(ParseError::NoActions),
        (None, Some(_)) => Ok(flow),
    }
}

/// Reads a flow, or what selects flows. `actions=` comes last, and everything behind it belongs to it.
///
/// As `ovs-ofctl` does, fields that are matched without their prerequisites are dropped from the match; they are
/// listed in [`FlowText::ignored`]. Columns that `dump-flows` adds (`duration=`, `n_packets=`, …) are skipped.
///
/// # Errors
/// The first thing that is wrong; actions that do not fit the match among them.
pub fn parse_flow(text: &str, syntax: &Syntax<'_>) -> Result<FlowText> {
    let mut flow = FlowText::default();
    let (head, actions) = split_actions(text);
    for pair in pairs(head)? {
        if !option(&mut flow, &pair, syntax)? && !add_field(&mut flow.matching, &pair, syntax)? {
            return Err(ParseError::UnknownKeyword(pair.key.to_owned()));
        }
    }
    if flow.matching.get(Field::SkbPriority).is_some() {
        return Err(ParseError::Unsupported(
            "skb_priority, which OpenFlow has no number for, in a flow".to_owned(),
        ));
    }
    flow.ignored = flow.matching.normalize();
    if let Some(actions) = actions {
        let instructions = parse_instructions(actions, &flow.matching, syntax)?;
        let table = Some(flow.table.unwrap_or(0));
        let lenient = syntax.style == Style::OpenFlow10;
        let context =
            CheckContext { table, lenient, own_actions: lenient, ..CheckContext::new(&flow.matching) };
        instructions.check_in(&context)?;
        flow.instructions = Some(instructions);
    }
    Ok(flow)
}

/// A cookie or its mask; -1 is all ones.
fn cookie(key: &str, text: &str) -> Result<u64> {
    if text == "-1" { Ok(u64::MAX) } else { number_of(key, text, 64).map(|n| n as u64) }
}

/// Splits at `actions=` (or `action=`), where a keyword may stand.
fn split_actions(text: &str) -> (&str, Option<&str>) {
    for word in ["actions=", "action="] {
        let mut from = 0;
        while let Some(at) = text[from..].find(word).map(|i| i + from) {
            if text[..at].chars().next_back().is_none_or(|c| c == ',' || c.is_ascii_whitespace()) {
                return (&text[..at], Some(&text[at + word.len()..]));
            }
            from = at + word.len();
        }
    }
    (text, None)
}

/// Reads a pair that is about the flow and not about the packet. False: it is something else.
fn option(flow: &mut FlowText, pair: &Pair<'_>, syntax: &Syntax<'_>) -> Result<bool> {
    let text = pair.text();
    match pair.key {
        "table" => flow.table = Some(int::<u8>(pair.key, text)?).filter(|t| *t != 255),
        "priority" => (flow.priority, flow.has_priority) = (int(pair.key, text)?, true),
        "cookie" => match text.split_once('/') {
            Some((value, mask)) => {
                let (value, mask) = (cookie(pair.key, value)?, cookie(pair.key, mask)?);
                flow.cookie_match = Some((value & mask, mask));
            }
            None => flow.cookie = cookie(pair.key, text)?,
        },
        "idle_timeout" => flow.idle_timeout = int(pair.key, text)?,
        "hard_timeout" => flow.hard_timeout = int(pair.key, text)?,
        "importance" => flow.importance = int(pair.key, text)?,
        "send_flow_rem" => flow.send_flow_rem = true,
        "check_overlap" => flow.check_overlap = true,
        "reset_counts" => flow.reset_counts = true,
        "no_packet_counts" => flow.no_packet_counts = true,
        "no_byte_counts" => flow.no_byte_counts = true,
        "out_port" => {
            let unknown = || ParseError::UnknownPort(text.to_owned());
            flow.out_port = Some(syntax.parse_port(text).ok_or_else(unknown)?);
        }
        "out_group" => flow.out_group = Some(int(pair.key, text)?),
        "duration" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" => {
            if pair.value.is_none_or(str::is_empty) {
                return Err(bad(pair.key, text, "a number"));
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

impl FlowText {
    /// Writes the flow so that [`parse_flow`] reads the same.
    pub fn format(&self, syntax: &Syntax<'_>) -> String {
        let mut head = Vec::new();
        let mut number = |name: &str, n: u64| {
            if n != 0 {
                head.push(format!("{name}={n}"));
            }
        };
        number("idle_timeout", self.idle_timeout.into());
        number("hard_timeout", self.hard_timeout.into());
        number("importance", self.importance.into());
        if let Some(table) = self.table {
            head.insert(0, format!("table={table}"));
        }
        if self.cookie != 0 {
            head.insert(0, format!("cookie={:#x}", self.cookie));
        }
        if let Some((value, mask)) = self.cookie_match {
            head.insert(0, format!("cookie={value:#x}/{mask:#x}"));
        }
        let flags = [
            (self.send_flow_rem, "send_flow_rem"),
            (self.check_overlap, "check_overlap"),
            (self.reset_counts, "reset_counts"),
            (self.no_packet_counts, "no_packet_counts"),
            (self.no_byte_counts, "no_byte_counts"),
        ];
        head.extend(flags.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()));
        if let Some(port) = self.out_port {
            head.push(format!("out_port={}", syntax.port(port)));
        }
        if let Some(group) = self.out_group {
            head.push(format!("out_group={group}"));
        }
        if self.has_priority && self.priority == DEFAULT_PRIORITY {
            head.push(format!("priority={DEFAULT_PRIORITY}"));
        }
        let matching = format_with_priority(&self.matching, self.priority, syntax);
        if !matching.is_empty() {
            head.push(matching);
        }
        let mut out = head.join(",");
        if let Some(instructions) = &self.instructions {
            let space = if out.is_empty() { "" } else { " " };
            let _ = write!(out, "{space}actions={}", format_instructions(instructions, syntax));
        }
        out
    }
}
