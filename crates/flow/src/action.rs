//! What a rule may ask for: OpenFlow actions and instructions of every version, in one form.
//!
//! The larger actions have structures of their own, in `action_parts`. Codecs translate each protocol version to and from these; the pipeline executes them.

use weft_wire::EtherType;

use crate::action_parts::{Bundle, ControllerAction, Ct, Encap, Learn, Multipath, OptionValue, Sample};
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
    Controller(Box<ControllerAction>),
    /// Set bits of a field (`set_field`, `load`): `field = field & !mask | value`.
    SetField {
        /// Field.
        field: Field,
        /// New value, right aligned, only bits of `mask`.
        value: u128,
        /// Bits to change.
        mask: u128,
        /// Asked for as `load`. Both do the same; the rule is listed as it was given.
        load: bool,
    },
    /// Set a tunnel option, whose value may be longer than 128 bits (`set_field:…->tun_metadata0`).
    SetOption(Box<OptionValue>),
    /// Remove a tunnel option (`delete_field:tun_metadata0`).
    DeleteField(Field),
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
    /// Set the transport source port, or destination port with `dst`, of a TCP, UDP or SCTP packet; nothing on
    /// others (OpenFlow 1.0 `mod_tp_src`, `mod_tp_dst`).
    SetTpPort {
        /// The destination port rather than the source port.
        dst: bool,
        /// The port.
        port: u16,
    },
    /// Decrement TTL or hop limit. When it runs out, tell the controllers with these identifiers; empty: 0.
    DecTtl(Vec<u16>),
    /// Push an MPLS label stack entry under this EtherType.
    PushMpls(EtherType),
    /// Pop the outermost MPLS label stack entry; what is beneath has this EtherType.
    PopMpls(EtherType),
    /// Decrement the TTL of the outermost MPLS label stack entry.
    DecMplsTtl,
    /// Copy the TTL outwards: from the second outermost header that has one to the outermost (OpenFlow 1.1).
    CopyTtlOut,
    /// Copy the TTL inwards: from the outermost header that has one to the second (OpenFlow 1.1).
    CopyTtlIn,
    /// Choose the queue of the outputs that follow.
    SetQueue(u32),
    /// Back to the queue the packet came with.
    PopQueue,
    /// Output to a port by one of its queues (`enqueue`).
    Enqueue {
        /// Where to.
        port: OfPort,
        /// Which queue.
        queue: u32,
    },
    /// Execute a group.
    Group(u32),
    /// Pass a meter (an action since OpenFlow 1.5, an instruction before).
    Meter(u32),
    /// Write the number of one of several links into a field.
    Multipath(Box<Multipath>),
    /// Output to one of several ports, or write its number into a field (`bundle`, `bundle_load`).
    Bundle(Box<Bundle>),
    /// Add, or change, a rule made from this packet.
    Learn(Box<Learn>),
    /// This rule is one clause of a conjunctive match.
    Conjunction {
        /// Number that rules of the conjunction match in `conj_id`.
        id: u32,
        /// Which clause, from 0.
        clause: u8,
        /// How many clauses, 2 to 64.
        clauses: u8,
    },
    /// Shorten the rule's timeouts when a TCP connection ends.
    FinTimeout {
        /// Idle timeout in seconds; 0: unchanged.
        idle: u16,
        /// Hard timeout in seconds; 0: unchanged.
        hard: u16,
    },
    /// Export a sample to a collector set.
    Sample(Box<Sample>),
    /// Pass connection tracking.
    Ct(Box<Ct>),
    /// Forget what connection tracking said.
    CtClear,
    /// Write into one bit whether the packet is longer.
    CheckPktLarger {
        /// Bytes from the Ethernet header on.
        len: u16,
        /// One bit.
        dst: Subfield,
    },
    /// Put a header in front (`encap`).
    Encap(Encap),
    /// Take the outermost header off (`decap`); the packet type it must have after, if given (namespace and type).
    Decap(Option<u32>),
    /// Decrement the TTL of a network service header.
    DecNshTtl,
    /// Look up again, maybe in another table and as if received elsewhere.
    Resubmit {
        /// Input port to pretend; `None` or `IN_PORT`: unchanged.
        port: Option<OfPort>,
        /// Table; `None`: the current one.
        table: Option<u8>,
        /// Look up with the addresses and ports of the connection's original direction (`resubmit(,N,ct)`).
        ct: bool,
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
    /// Meter, passed before everything else (OpenFlow 1.3 and 1.4).
    pub meter: Option<u32>,
}

impl Action {
    /// Sets bits of a field, as `set_field` does.
    pub fn set(field: Field, value: u128, mask: u128) -> Action {
        Action::SetField { field, value, mask, load: false }
    }
    /// Sets bits of a field, as `load` does.
    pub fn load(field: Field, value: u128, mask: u128) -> Action {
        Action::SetField { field, value, mask, load: true }
    }
    /// Sends to a controller: identifier 0, nothing but a length, an identifier and a reason.
    pub fn controller(max_len: u16, id: u16, reason: u8) -> Action {
        let plain = ControllerAction { max_len, id, reason, userdata: Vec::new(), pause: false, meter: None };
        Action::Controller(Box::new(plain))
    }
}

impl Instructions {
    /// A list of actions, as OpenFlow 1.0 rules have.
    pub fn apply(actions: Vec<Action>) -> Self {
        Instructions { apply: actions, ..Instructions::default() }
    }
}
