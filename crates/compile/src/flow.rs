//! What is a flow here? As little as tells it: a Match of the `flow` room is over a kilobyte, and there are many.

use smallvec::SmallVec;
use weft_flow::{Action, Field, Instructions, Match};
use weft_wire::{EtherType, IpProto, Mac};

use crate::stage::{Register, Stage};
use crate::{Cookie, NetKey};

/// Bits of a field that must have a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Field.
    pub field: Field,
    /// Its value, only bits of `mask`.
    pub value: u128,
    /// Bits that count.
    pub mask: u128,
}

/// What tells a flow from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId {
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Match: number of the field, value, mask; ascending.
    pub terms: Vec<(u16, u128, u128)>,
}

/// A flow of the integration bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Stage.
    pub stage: Stage,
    /// Priority.
    pub priority: u16,
    /// Whose it is and what for.
    pub cookie: Cookie,
    /// What it matches.
    pub terms: SmallVec<[Term; 4]>,
    /// What it does.
    pub instructions: Instructions,
}

impl Flow {
    /// A flow that matches every packet of a stage and drops it.
    pub(crate) fn new(stage: Stage, priority: u16, cookie: Cookie) -> Flow {
        Flow { stage, priority, cookie, terms: SmallVec::new(), instructions: Instructions::default() }
    }

    /// Matches a whole field.
    pub(crate) fn on(self, field: Field, value: impl Into<u128>) -> Flow {
        self.on_bits(field, value.into(), field.value_mask())
    }

    /// Matches bits of a field.
    pub(crate) fn on_bits(mut self, field: Field, value: u128, mask: u128) -> Flow {
        self.terms.push(Term { field, value: value & mask, mask });
        self
    }

    /// Matches packets of a network.
    pub(crate) fn of(self, net: NetKey) -> Flow {
        self.on(Field::Metadata, net.0)
    }

    /// Matches a register.
    pub(crate) fn on_register(self, register: Register, value: u32) -> Flow {
        let at = register.subfield();
        let mask = (1u128 << at.bits) - 1;
        self.on_bits(at.field, u128::from(value) << at.start, mask << at.start)
    }

    /// Matches an Ethernet type.
    pub(crate) fn ethertype(self, ty: EtherType) -> Flow {
        self.on(Field::EthType, ty.0)
    }

    /// Matches a transport over IPv4 or IPv6.
    pub(crate) fn transport(self, v6: bool, proto: IpProto) -> Flow {
        self.ethertype(if v6 { EtherType::IPV6 } else { EtherType::IPV4 }).on(Field::NwProto, proto.0)
    }

    /// Adds actions.
    pub(crate) fn act(mut self, actions: impl IntoIterator<Item = Action>) -> Flow {
        self.instructions.apply.extend(actions);
        self
    }

    /// Then on to a stage.
    pub(crate) fn goto(mut self, stage: Stage) -> Flow {
        self.instructions.goto = Some(stage.table());
        self
    }

    /// What tells it from all others.
    pub fn id(&self) -> FlowId {
        let mut terms: Vec<_> = self.terms.iter().map(|t| (t.field as u16, t.value, t.mask)).collect();
        terms.sort_unstable();
        FlowId { table: self.stage.table(), priority: self.priority, terms }
    }

    /// Its match.
    pub fn to_match(&self) -> Match {
        let mut m = Match::any();
        for term in &self.terms {
            m.set_masked(term.field, term.value, term.mask);
        }
        m
    }
}

/// One copy of what a group sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Number within the group.
    pub id: u32,
    /// What is done with the copy.
    pub actions: Vec<Action>,
}

/// All that a flooded packet of a network goes to: a group of type `all`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Copies, by ascending number.
    pub buckets: Vec<Bucket>,
}

/// Sets a register.
pub(crate) fn put(register: Register, value: u32) -> Action {
    let at = register.subfield();
    Action::load(at.field, u128::from(value) << at.start, ((1u128 << at.bits) - 1) << at.start)
}

/// Sets a whole field.
pub(crate) fn set(field: Field, value: impl Into<u128>) -> Action {
    Action::set(field, value.into(), field.value_mask())
}

/// A MAC address as a number.
pub(crate) fn mac(mac: Mac) -> u128 {
    mac.to_u64().into()
}
