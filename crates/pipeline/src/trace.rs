//! What did the walk do, and why? A tree of steps, written by the walk itself.

use std::fmt;

use serde::Serialize;

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

/// The record of a walk.
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
        writeln!(f, "Flow: {}", self.flow)
    }
}
