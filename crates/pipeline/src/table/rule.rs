//! What is a flow entry, and what do its actions refer to?

use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use weft_flow::{Action, Instructions, OfPort, RuleStats};

use crate::classifier::MiniMatch;

/// A flow entry. Immutable; a change makes another one that shares what stayed.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Number by which the rule is known inside the bridge; grows, so it tells the order of creation.
    pub id: u64,
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// What it matches.
    pub matching: MiniMatch,
    /// Cookie.
    pub cookie: u64,
    /// What it does.
    pub instructions: Arc<Instructions>,
    /// Seconds without traffic after which it goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds after which it goes; 0: never.
    pub hard_timeout: u16,
    /// Importance (OpenFlow 1.4): of rules that may be evicted, those of the lowest go first.
    pub importance: u16,
    /// Flags.
    pub flags: FlowFlags,
    /// When it was created, milliseconds.
    pub created_ms: u64,
    /// When it was last modified, milliseconds: the hard timeout counts from here.
    pub modified_ms: u64,
    /// Its traffic.
    pub stats: Arc<RuleStats>,
    /// What its actions refer to.
    pub(crate) uses: Uses,
}

/// Flags of a flow entry (`OFPFF_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowFlags {
    /// Tell controllers when the rule goes.
    pub send_flow_rem: bool,
    /// In an add: refuse when a rule of the same priority overlaps.
    pub check_overlap: bool,
    /// Reset counters when the rule is replaced or modified.
    pub reset_counts: bool,
    /// Packets need not be counted.
    pub no_packet_counts: bool,
    /// Bytes need not be counted.
    pub no_byte_counts: bool,
}

impl FlowFlags {
    /// The flags that stay with a rule; the others are about the change that makes it.
    pub(super) fn kept(self) -> FlowFlags {
        FlowFlags { check_overlap: false, reset_counts: false, ..self }
    }
}

/// What the actions of a rule refer to, so that nobody searches those that refer to nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses(u8);

impl Uses {
    /// The rule is a clause of conjunctive matches.
    pub(crate) const CONJUNCTION: Uses = Uses(1);
    /// A group.
    pub(crate) const GROUP: Uses = Uses(2);
    /// A meter.
    pub(crate) const METER: Uses = Uses(4);
    /// It learns rules that go with it.
    pub(crate) const DELETE_LEARNED: Uses = Uses(8);

    pub(crate) fn of(instructions: &Instructions) -> Uses {
        let mut uses = Uses::default();
        each_action(instructions, &mut |action| {
            uses.0 |= match action {
                Action::Conjunction { .. } => Uses::CONJUNCTION.0,
                Action::Group(_) => Uses::GROUP.0,
                Action::Meter(_) => Uses::METER.0,
                Action::Learn(learn) if learn.delete_learned => Uses::DELETE_LEARNED.0,
                _ => 0,
            };
        });
        if instructions.meter.is_some() {
            uses.0 |= Uses::METER.0;
        }
        uses
    }
    pub(crate) fn has(self, other: Uses) -> bool {
        self.0 & other.0 != 0
    }
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Something that rules refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Referent {
    Group(u32),
    Meter(u32),
    /// Rules of a table with a cookie, learned by an action with `delete_learned`.
    Learned(u8, u64),
}

impl Rule {
    /// When the rule expires, if it does, given its last use.
    pub(super) fn expiry(&self) -> Option<(u64, RemovedReason)> {
        let hard = u64::from(self.hard_timeout) * 1000;
        let idle = u64::from(self.idle_timeout) * 1000;
        let refreshed = self.refreshed_at();
        let used = self.stats.used_ms.load(Ordering::Relaxed).max(refreshed);
        let hard = (hard > 0).then(|| (refreshed + hard, RemovedReason::HardTimeout));
        let idle = (idle > 0).then(|| (used + idle, RemovedReason::IdleTimeout));
        hard.into_iter().chain(idle).min_by_key(|(at, _)| *at)
    }

    /// When the rule was last modified, or learned again as it is, milliseconds.
    pub fn refreshed_at(&self) -> u64 {
        self.modified_ms.max(self.stats.refreshed_ms.load(Ordering::Relaxed))
    }

    /// Whether it may expire.
    pub(super) fn is_mortal(&self) -> bool {
        self.idle_timeout != 0 || self.hard_timeout != 0
    }

    /// The first moment at which it may expire, if nobody uses or refreshes it. Follows from the rule alone.
    pub(super) fn first_deadline(&self) -> u64 {
        let seconds = [self.idle_timeout, self.hard_timeout].into_iter().filter(|t| *t != 0).min();
        self.modified_ms + u64::from(seconds.unwrap_or(u16::MAX)) * 1000
    }

    /// Whether an action of the rule outputs to `port`.
    pub fn outputs_to(&self, port: OfPort) -> bool {
        let mut found = false;
        each_action(&self.instructions, &mut |action| {
            found |= match action {
                Action::Output { port: p, .. }
                | Action::OutputTrunc { port: p, .. }
                | Action::Enqueue { port: p, .. } => *p == port,
                Action::Controller(_) => port == OfPort::CONTROLLER,
                _ => false,
            }
        });
        found
    }

    /// Whether an action of the rule executes group `id`.
    pub fn uses_group(&self, id: u32) -> bool {
        self.uses.has(Uses::GROUP) && self.referents().contains(&Referent::Group(id))
    }

    /// Whether the rule passes meter `id`.
    pub fn uses_meter(&self, id: u32) -> bool {
        self.uses.has(Uses::METER) && self.referents().contains(&Referent::Meter(id))
    }

    /// What its actions refer to, each once.
    pub(super) fn referents(&self) -> Vec<Referent> {
        let mut all: Vec<Referent> = self.instructions.meter.map(Referent::Meter).into_iter().collect();
        each_action(&self.instructions, &mut |action| match action {
            Action::Group(id) => all.push(Referent::Group(*id)),
            Action::Meter(id) => all.push(Referent::Meter(*id)),
            Action::Learn(learn) if learn.delete_learned => {
                all.push(Referent::Learned(learn.table, learn.cookie));
            }
            _ => {}
        });
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// Shows every action of the instructions, those inside other actions included.
fn each_action(instructions: &Instructions, each: &mut impl FnMut(&Action)) {
    let mut lists: SmallVec<[&[Action]; 4]> = SmallVec::new();
    lists.extend([instructions.apply.as_slice(), instructions.write.as_slice()]);
    while let Some(list) = lists.pop() {
        for action in list {
            each(action);
            match action {
                Action::Clone(inner) => lists.push(inner),
                Action::Ct(ct) => lists.push(&ct.exec),
                _ => {}
            }
        }
    }
}

/// Why a rule went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemovedReason {
    /// `OFPRR_IDLE_TIMEOUT`.
    IdleTimeout,
    /// `OFPRR_HARD_TIMEOUT`.
    HardTimeout,
    /// `OFPRR_DELETE`.
    Delete,
    /// `OFPRR_GROUP_DELETE` (OpenFlow 1.3).
    GroupDelete,
    /// `OFPRR_METER_DELETE` (OpenFlow 1.4).
    MeterDelete,
    /// `OFPRR_EVICTION` (OpenFlow 1.4).
    Eviction,
}

/// A rule that went.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Why.
    pub reason: RemovedReason,
}
