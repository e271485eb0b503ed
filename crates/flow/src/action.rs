//! What a rule may ask for: OpenFlow actions and instructions of every version, in one form.
//!
//! Codecs translate each protocol version to and from these; the pipeline executes them.

use weft_wire::EtherType;

use crate::{Field, OfPort};

/// A run of bits of a field: `NXM_NX_REG0[8..15]` is `start` 8, `bits` 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subfield {
    /// Field.
    pub field: Field,
    /// Lowest bit, 0 being the least significant.
    pub start: u16,
    /// Number of bits, at least 1.
    pub bits: u16,
}

/// An OpenFlow action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Output to a port or a reserved port.
    Output {
        /// Where to.
        port: OfPort,
        /// Bytes to send when `port` is the controller.
        max_len: u16,
    },
    /// Output to the port whose number is in a subfield (`output:NXM_NX_REG0[]`).
    OutputReg {
        /// Where the port number stands.
        src: Subfield,
        /// Bytes to send when the port is the controller.
        max_len: u16,
    },
    /// Output at most `max_len` bytes (`output(port=N,max_len=M)`).
    OutputTrunc {
        /// Where to.
        port: OfPort,
        /// Bytes, at least 14.
        max_len: u32,
    },
    /// Send to a controller with a reason (`controller(...)`).
    Controller {
        /// Bytes to send.
        max_len: u16,
        /// Controller identifier.
        id: u16,
        /// `OFPR_*`.
        reason: u8,
    },
    /// Set bits of a field (`set_field`, `load`): `field = field & !mask | value`.
    SetField {
        /// Field.
        field: Field,
        /// New value, right aligned, only bits of `mask`.
        value: u128,
        /// Bits to change.
        mask: u128,
    },
    /// Copy bits between fields.
    Move {
        /// From.
        src: Subfield,
        /// To, as many bits.
        dst: Subfield,
    },
    /// Push a subfield on the walk's stack.
    StackPush(Subfield),
    /// Pop the walk's stack into a subfield.
    StackPop(Subfield),
    /// Push an 802.1Q or 802.1ad tag.
    PushVlan(EtherType),
    /// Pop the outermost tag (`pop_vlan`, `strip_vlan`).
    PopVlan,
    /// Set the VID, pushing a tag if there is none (OpenFlow 1.0 `mod_vlan_vid`).
    SetVlanVid(u16),
    /// Set the PCP, pushing a priority tag if there is none (OpenFlow 1.0 `mod_vlan_pcp`).
    SetVlanPcp(u8),
    /// Decrement TTL or hop limit.
    DecTtl,
    /// Look up again, maybe in another table and as if received elsewhere.
    Resubmit {
        /// Input port to pretend; `None` or `IN_PORT`: unchanged.
        port: Option<OfPort>,
        /// Table; `None`: the current one.
        table: Option<u8>,
    },
    /// Run actions on a copy; what they change is undone after.
    Clone(Vec<Action>),
    /// Bytes for people; no effect.
    Note(Vec<u8>),
    /// Stop here.
    Exit,
}

/// An OpenFlow instruction, in the order in which they execute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instructions {
    /// Apply-actions.
    pub apply: Vec<Action>,
    /// Clear-actions.
    pub clear: bool,
    /// Write-actions.
    pub write: Vec<Action>,
    /// Write-metadata: value and mask.
    pub metadata: Option<(u64, u64)>,
    /// Goto-table.
    pub goto: Option<u8>,
}

impl Instructions {
    /// A list of actions, as OpenFlow 1.0 rules have.
    pub fn apply(actions: Vec<Action>) -> Self {
        Instructions { apply: actions, ..Instructions::default() }
    }
}
