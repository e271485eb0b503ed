//! What may a flow-mod ask for, why may it be refused, and what does it do?

use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{Action, Instructions, Match, OfPort};

use super::config::TableEvent;
use super::rule::{FlowFlags, Removed, Rule};

/// Any group (`OFPG_ANY`).
pub(super) const GROUP_ANY: u32 = 0xffff_ffff;
/// All groups, when they are deleted (`OFPG_ALL`).
pub(super) const GROUP_ALL: u32 = 0xffff_fffc;

/// What a [`FlowMod`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowModCommand {
    /// Add a rule, or replace the one with the same match and priority.
    Add,
    /// Change the instructions of rules.
    Modify {
        /// Only the rule with the same match and priority.
        strict: bool,
        /// OpenFlow 1.0 and 1.1: add the rule when there is none to modify, and change cookies; neither when
        /// the cookie is all ones, and nothing is added when cookies choose the rules.
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
    /// Table; [`super::ALL_TABLES`] when modifying or deleting in all of them.
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
    /// When deleting: only rules that execute this group; 0xffffffff (`OFPG_ANY`): all.
    pub out_group: u32,
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
            out_group: GROUP_ANY,
        }
    }
    /// A flow-mod that adds a rule.
    pub fn add(table: u8, priority: u16, matching: Match, actions: Vec<Action>) -> FlowMod {
        let instructions = Instructions::apply(actions);
        FlowMod { instructions, ..FlowMod::new(FlowModCommand::Add, table, priority, matching) }
    }
}

/// A rule that a packet made a `learn` action ask for.
#[derive(Clone, Debug)]
pub struct Learned {
    /// The rule, as an addition.
    pub rule: FlowMod,
    /// Learn no more once as many rules with its cookie are in its table; 0: no limit.
    pub limit: u32,
}

/// Why a flow-mod was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowModError {
    /// `OFPFMFC_BAD_TABLE_ID`.
    #[error("OFPFMFC_BAD_TABLE_ID: there is no table {0}")]
    BadTableId(u8),
    /// `OFPBRC_EPERM`: the switch keeps the table for itself.
    #[error("OFPBRC_EPERM: table {0} is not for controllers to change")]
    ReadOnly(u8),
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

/// A rule that was modified.
#[derive(Clone, Debug)]
pub struct Modified {
    /// As it is.
    pub rule: Arc<Rule>,
    /// As it was.
    pub old: Arc<Rule>,
}

/// What a change did. Lists are in the order in which things happened.
#[derive(Clone, Debug, Default)]
pub struct FlowModOutcome {
    /// Rules added, replacements included.
    pub added: SmallVec<[Arc<Rule>; 1]>,
    /// Rules in whose place added ones came. They are not among those removed (OpenFlow 1.5.1 §6.4: no flow-removed
    /// message).
    pub replaced: SmallVec<[Arc<Rule>; 1]>,
    /// Rules modified.
    pub modified: Vec<Modified>,
    /// Rules deleted, evicted or expired.
    pub removed: Vec<Removed>,
    /// What controllers are to be told of tables.
    pub events: Vec<TableEvent>,
}

impl FlowModOutcome {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty()
            && self.modified.is_empty()
            && self.removed.is_empty()
            && self.replaced.is_empty()
            && self.events.is_empty()
    }
    /// Adds what happened after.
    pub fn extend(&mut self, later: FlowModOutcome) {
        self.added.extend(later.added);
        self.replaced.extend(later.replaced);
        self.modified.extend(later.modified);
        self.removed.extend(later.removed);
        self.events.extend(later.events);
    }
}
