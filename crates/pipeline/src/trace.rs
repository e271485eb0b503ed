//! What did the walk do, and why? A tree of steps, written by the walk itself.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use weft_flow::text::{Syntax, format_action, format_dp_actions, format_key, format_match, format_megaflow};
use weft_flow::{Action, Ct, CtZone, DpPort, FlowKey, Nat, OfPort, Verdict};

use crate::frozen::Frozen;
use crate::snapshot::Bridge;
use crate::table::{FlowMod, Rule};

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// A bridge was entered.
    Bridge,
    /// A table was looked up: a rule matched, or none. Also the action set.
    Table,
    /// An action of a rule.
    Action,
    /// A bucket of a group.
    Bucket,
    /// One of two ways that a packet may go.
    Branch,
    /// A walk is resumed.
    Thaw,
    /// What came of the step before.
    Note,
    /// What went wrong in the step before.
    Warning,
}

/// One step of a walk, and what followed from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is about.
    pub kind: StepKind,
    /// One line for people.
    pub text: String,
    /// The same with ports by name, where that differs: what `{:#}` shows.
    #[serde(skip)]
    pub named: Option<String>,
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
    /// Flow, final flow, megaflow and actions with ports by name: what `{:#}` shows.
    #[serde(skip)]
    pub(crate) named: Box<Named>,
    /// Why the packet goes nowhere, if it does ([`weft_flow::DropReason::name`]).
    pub drop: Option<&'static str>,
    /// Whose doing that is: a rule by table and cookie, or a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_at: Option<String>,
    /// What the copies did that were looked up again, in the order in which they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resumed: Vec<ResumedTrace>,
    /// Walks that are still to be resumed.
    #[serde(skip)]
    pub(crate) pending: Vec<Pending>,
}

/// Parts of a trace with ports by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    flow: String,
    final_flow: Option<String>,
    megaflow: String,
    actions: String,
}

/// The record of a walk that was resumed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResumedTrace {
    /// What it waited for, in lines for people.
    pub title: Vec<String>,
    /// The walk.
    pub trace: Trace,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (flow, last, megaflow, actions) = if f.alternate() {
            let named = &*self.named;
            (&named.flow, &named.final_flow, &named.megaflow, &named.actions)
        } else {
            (&self.flow, &self.final_flow, &self.megaflow, &self.actions)
        };
        writeln!(f, "Flow: {flow}")?;
        print(f, &self.steps, 0)?;
        writeln!(f)?;
        writeln!(f, "Final flow: {}", last.as_deref().unwrap_or("unchanged"))?;
        writeln!(f, "Megaflow: {megaflow}")?;
        write!(f, "Datapath actions: {actions}")?;
        if let Some(reason) = self.drop {
            write!(f, "\nDrop reason: {reason}")?;
        }
        if let Some(at) = &self.drop_at {
            write!(f, " ({at})")?;
        }
        for resumed in &self.resumed {
            let bar = "=".repeat(79);
            write!(f, "\n\n{bar}\n{}\n{bar}\n\n", resumed.title.join("\n"))?;
            resumed.trace.fmt(f)?;
        }
        Ok(())
    }
}

/// Writes steps of a level. What ends a list of steps is not indented, unless nothing can follow from its kind: a chain
/// of tables reads as a list.
fn print(f: &mut fmt::Formatter<'_>, steps: &[Step], level: usize) -> fmt::Result {
    for (n, step) in steps.iter().enumerate() {
        let opens = matches!(step.kind, StepKind::Bridge | StepKind::Table | StepKind::Thaw);
        let more = usize::from(n + 1 < steps.len() || !opens);
        let (column, text) =
            ((level + more) * 4, step.named.as_ref().filter(|_| f.alternate()).unwrap_or(&step.text));
        match step.kind {
            StepKind::Bridge => {
                writeln!(f, "\n{:column$}{text}\n{:column$}{}", "", "", "-".repeat(text.len()))?
            }
            StepKind::Note => writeln!(f, "{:column$} -> {text}", "")?,
            StepKind::Warning => writeln!(f, "{:column$} >> {text}", "")?,
            _ => writeln!(f, "{:column$}{text}", "")?,
        }
        print(f, &step.steps, level + 2 * more)?;
    }
    Ok(())
}

/// Writes steps down as the walk takes them.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    done: Vec<Step>,
    open: Vec<Step>,
    /// Walks that go on once the packet was looked up again.
    pending: Vec<Pending>,
    /// Whose doing it is that the packet goes nowhere.
    pub(crate) drop_at: Option<String>,
}

/// A walk that goes on once its packet was tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) id: u32,
    pub(crate) zone: u16,
    pub(crate) nat: Option<Nat>,
    /// The packet when it was frozen.
    pub(crate) key: Box<FlowKey>,
    /// Keeps the frozen walk.
    pub(crate) frozen: Arc<Frozen>,
}

impl Recorder {
    /// Notes that a walk goes on elsewhere.
    pub(crate) fn resumes(&mut self, pending: Pending) {
        self.pending.push(pending);
    }

    /// Opens the last step again: what is recorded next is at its end.
    pub(crate) fn reopen(&mut self) -> bool {
        let steps = self.open.last_mut().map_or(&mut self.done, |parent| &mut parent.steps);
        let last = steps.pop_if(|step| step.kind == StepKind::Table);
        let reopened = last.is_some();
        self.open.extend(last);
        reopened
    }

    /// Opens a step beneath the one that is open.
    pub(crate) fn enter(&mut self, kind: StepKind, text: String) {
        self.open.push(Step { kind, text, named: None, steps: Vec::new() });
    }

    /// Opens a step whose text may name ports of a bridge.
    pub(crate) fn enter_on(&mut self, bridge: &Bridge, kind: StepKind, text: impl Fn(&Syntax<'_>) -> String) {
        let name = |port: OfPort| port_name(bridge, port);
        let named = text(&Syntax { port_name: &name, ..Syntax::default() });
        self.enter(kind, text(&Syntax::default()));
        if let Some(step) = self.open.last_mut() {
            step.named = Some(named).filter(|named| *named != step.text);
        }
    }

    /// Closes the step that was opened last.
    pub(crate) fn leave(&mut self) {
        if let Some(step) = self.open.pop() {
            self.open.last_mut().map_or(&mut self.done, |parent| &mut parent.steps).push(step);
        }
    }

    pub(crate) fn finish(
        mut self,
        key: &FlowKey,
        last: &FlowKey,
        verdict: &Verdict,
        of_name: &dyn Fn(OfPort) -> Option<String>,
        dp_name: &dyn Fn(DpPort) -> Option<String>,
    ) -> Trace {
        while !self.open.is_empty() {
            self.leave();
        }
        let told = |syntax: &Syntax<'_>, dp_name: &dyn Fn(DpPort) -> Option<String>| {
            let (flow, last) = (format_key(key, syntax), format_key(last, syntax));
            Named {
                final_flow: (last != flow).then_some(last),
                flow,
                megaflow: format_megaflow(key, &verdict.mask, syntax),
                actions: format_dp_actions(&verdict.actions, &key.packet, dp_name),
            }
        };
        let plain = told(&Syntax::default(), &|_| None);
        let named = told(&Syntax { port_name: of_name, ..Syntax::default() }, dp_name);
        Trace {
            flow: plain.flow,
            final_flow: plain.final_flow,
            steps: self.done,
            megaflow: plain.megaflow,
            actions: plain.actions,
            named: Box::new(named),
            drop: verdict.drop.map(|d| d.name()),
            drop_at: self.drop_at.filter(|_| verdict.drop.is_some()),
            resumed: Vec::new(),
            pending: self.pending,
        }
    }
}

/// Name of a port of a bridge, if it has one.
pub(crate) fn port_name(bridge: &Bridge, port: OfPort) -> Option<String> {
    bridge.port(port).map(|port| port.name.clone())
}

/// A rule's match, priority and cookie.
pub(crate) fn rule_text(rule: &Rule, syntax: &Syntax<'_>) -> String {
    let text = format_match(&rule.matching.expand(), syntax);
    let text = if text.is_empty() { text } else { format!("{text}, ") };
    let cookie = if rule.cookie == 0 { String::new() } else { format!(", cookie {:#x}", rule.cookie) };
    format!("{text}priority {}{cookie}", rule.priority)
}

/// A rule that a packet teaches.
pub(crate) fn learned_text(rule: &FlowMod, syntax: &Syntax<'_>) -> String {
    let mut text = format!("table={}", rule.table);
    let matching = format_match(&rule.matching, syntax);
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
    let actions = actions_text(rule.instructions.apply.iter(), syntax);
    text + " actions=" + if actions.is_empty() { "drop" } else { &actions }
}

/// Actions, as `ovs-ofctl` writes them.
pub(crate) fn actions_text<'a>(actions: impl Iterator<Item = &'a Action>, syntax: &Syntax<'_>) -> String {
    actions.map(|action| format_action(action, syntax)).collect::<Vec<_>>().join(",")
}

/// The translation of a `ct` action, as `ovs-ofctl` writes it.
pub(crate) fn nat_text(nat: &Nat) -> String {
    let ct = Ct {
        commit: false,
        force: false,
        zone: CtZone::Number(0),
        table: None,
        alg: 0,
        nat: Some(*nat),
        exec: Vec::new(),
    };
    let text = format_action(&Action::Ct(Box::new(ct)), &Syntax::default());
    text.strip_prefix("ct(").and_then(|t| t.strip_suffix(')')).unwrap_or(&text).to_owned()
}
