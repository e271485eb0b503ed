//! What did the walk do, and why? A tree of steps, written by the walk itself.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use weft_flow::text::{Syntax, format_action, format_dp_actions, format_key, format_match, format_megaflow};
use weft_flow::{Action, FlowKey, Verdict};

use crate::frozen::Frozen;
use crate::table::{FlowMod, Rule};

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// A bridge was entered.
    Bridge,
    /// A table was looked up: a rule matched, or none.
    Table,
    /// An action of a rule.
    Action,
    /// A bucket of a group.
    Bucket,
    /// One of two ways that a packet may go.
    Branch,
    /// A walk is resumed.
    Thaw,
    /// What came of it.
    Note,
}

/// One step of a walk, and what followed from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is about.
    pub kind: StepKind,
    /// One line for people.
    pub text: String,
    /// What followed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// The record of a walk. Written out, it reads like the output of `ovs-appctl ofproto/trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The packet, as a flow.
    pub flow: String,
    /// The steps.
    pub steps: Vec<Step>,
    /// The packet after the walk, when that differs.
    pub final_flow: Option<String>,
    /// What of the packet had a part in the decision.
    pub megaflow: String,
    /// Datapath actions.
    pub actions: String,
    /// Why the packet goes nowhere, if it does ([`weft_flow::DropReason::name`]).
    pub drop: Option<&'static str>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Flow: {}", self.flow)?;
        print(f, &self.steps, 0, 0, true)?;
        writeln!(f)?;
        writeln!(f, "Final flow: {}", self.final_flow.as_deref().unwrap_or("unchanged"))?;
        writeln!(f, "Megaflow: {}", self.megaflow)?;
        write!(f, "Datapath actions: {}", self.actions)?;
        if let Some(reason) = self.drop {
            write!(f, "\nDrop reason: {reason}")?;
        }
        Ok(())
    }
}

/// Writes steps from a column on. What an action led to is indented, unless nothing comes after it (`tail`): a chain
/// of tables reads as a list. Notes stand at `notes`, by the action they belong to.
fn print(f: &mut fmt::Formatter<'_>, steps: &[Step], column: usize, notes: usize, tail: bool) -> fmt::Result {
    for (n, step) in steps.iter().enumerate() {
        let tail = tail && n + 1 == steps.len();
        let text = &step.text;
        match step.kind {
            StepKind::Bridge => {
                writeln!(f, "\n{:column$}{text}\n{:column$}{}", "", "", "-".repeat(text.len()))?;
                print(f, &step.steps, column, column, tail)?;
            }
            StepKind::Table => {
                writeln!(f, "{:column$}{text}", "")?;
                print(f, &step.steps, column + 4, column + 4, tail)?;
            }
            StepKind::Action => {
                writeln!(f, "{:column$}{text}", "")?;
                let below = if tail { column.saturating_sub(4) } else { column + 4 };
                print(f, &step.steps, below, column + 1, tail)?;
            }
            StepKind::Bucket | StepKind::Branch | StepKind::Thaw => {
                writeln!(f, "{:column$}{text}", "")?;
                print(f, &step.steps, column + 4, column + 4, tail)?;
            }
            StepKind::Note => {
                writeln!(f, "{:notes$}-> {text}", "")?;
                print(f, &step.steps, column, notes, tail)?;
            }
        }
    }
    Ok(())
}

/// Writes steps down as the walk takes them.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    done: Vec<Step>,
    open: Vec<Step>,
    /// Walks that go on once the packet was looked up again.
    pub(crate) resumed: Vec<Resumed>,
}

/// A walk that goes on once its packet was looked up again.
#[derive(Clone, Debug)]
pub(crate) struct Resumed {
    pub(crate) id: u32,
    /// What it waits for.
    pub(crate) title: String,
    /// The packet when it was frozen.
    pub(crate) key: Box<FlowKey>,
    /// Keeps the frozen walk.
    pub(crate) frozen: Arc<Frozen>,
}

impl Recorder {
    /// Notes that a walk goes on elsewhere.
    pub(crate) fn resumes(&mut self, id: u32, title: &str, key: &FlowKey, frozen: Arc<Frozen>) {
        self.resumed.push(Resumed { id, title: title.to_owned(), key: Box::new(*key), frozen });
    }

    /// Opens a step beneath the one that is open.
    pub(crate) fn enter(&mut self, kind: StepKind, text: String) {
        self.open.push(Step { kind, text, steps: Vec::new() });
    }

    /// Closes the step that was opened last.
    pub(crate) fn leave(&mut self) {
        if let Some(step) = self.open.pop() {
            self.open.last_mut().map_or(&mut self.done, |parent| &mut parent.steps).push(step);
        }
    }

    pub(crate) fn finish(mut self, key: &FlowKey, last: &FlowKey, verdict: &Verdict) -> Trace {
        while !self.open.is_empty() {
            self.leave();
        }
        let syntax = Syntax::default();
        let flow = format_key(key, &syntax);
        let last = format_key(last, &syntax);
        Trace {
            final_flow: (last != flow).then_some(last),
            flow,
            steps: self.done,
            megaflow: format_megaflow(key, &verdict.mask, &syntax),
            actions: format_dp_actions(&verdict.actions, &key.packet, &|_| None),
            drop: verdict.drop.map(|d| d.name()),
        }
    }
}

/// An action, as `ovs-ofctl` writes it.
pub(crate) fn action_text(action: &Action) -> String {
    format_action(action, &Syntax::default())
}

/// A rule's match, priority and cookie.
pub(crate) fn rule_text(rule: &Rule) -> String {
    let text = format_match(&rule.matching.expand(), &Syntax::default());
    let text = if text.is_empty() { text } else { format!("{text}, ") };
    let cookie = if rule.cookie == 0 { String::new() } else { format!(", cookie {:#x}", rule.cookie) };
    format!("{text}priority {}{cookie}", rule.priority)
}

/// A rule that a packet teaches.
pub(crate) fn learned_text(rule: &FlowMod) -> String {
    let syntax = Syntax::default();
    let mut text = format!("table={}", rule.table);
    let matching = format_match(&rule.matching, &syntax);
    if !matching.is_empty() {
        text += &format!(" {matching}");
    }
    text += &format!(" priority={}", rule.priority);
    if rule.cookie != 0 {
        text += &format!(" cookie={:#x}", rule.cookie);
    }
    for (name, seconds) in [("idle", rule.idle_timeout), ("hard", rule.hard_timeout)] {
        if seconds != 0 {
            text += &format!(" {name}={seconds}");
        }
    }
    let actions: Vec<_> = rule.instructions.apply.iter().map(action_text).collect();
    text + " actions=" + &if actions.is_empty() { "drop".to_owned() } else { actions.join(",") }
}
