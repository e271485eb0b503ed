//! Which actions does each version have, under which numbers, and how long are they?
//!
//! The numbers of Open vSwitch 3.1 (`ovs-actions(7)`), plus the two that copy TTLs (OpenFlow 1.1 §4.7), which it refuses.

use crate::Version;

/// Who numbered an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The standard.
    Standard,
    /// Nicira.
    Nicira,
    /// The Open Networking Foundation, between versions.
    Onf,
}

/// Actions of OpenFlow 1.0.
pub(super) mod ofpat10 {
    pub(crate) const OUTPUT: u16 = 0;
    pub(crate) const SET_VLAN_VID: u16 = 1;
    pub(crate) const SET_VLAN_PCP: u16 = 2;
    pub(crate) const STRIP_VLAN: u16 = 3;
    pub(crate) const SET_DL_SRC: u16 = 4;
    pub(crate) const SET_DL_DST: u16 = 5;
    pub(crate) const SET_NW_SRC: u16 = 6;
    pub(crate) const SET_NW_DST: u16 = 7;
    pub(crate) const SET_NW_TOS: u16 = 8;
    pub(crate) const SET_TP_SRC: u16 = 9;
    pub(crate) const SET_TP_DST: u16 = 10;
    pub(crate) const ENQUEUE: u16 = 11;
}

/// Actions of OpenFlow 1.1 and later. Those that set one field are superseded in 1.2, but still understood.
pub(super) mod ofpat {
    pub(crate) const OUTPUT: u16 = 0;
    pub(crate) const SET_VLAN_VID: u16 = 1;
    pub(crate) const SET_VLAN_PCP: u16 = 2;
    pub(crate) const SET_DL_SRC: u16 = 3;
    pub(crate) const SET_DL_DST: u16 = 4;
    pub(crate) const SET_NW_SRC: u16 = 5;
    pub(crate) const SET_NW_DST: u16 = 6;
    pub(crate) const SET_NW_TOS: u16 = 7;
    pub(crate) const SET_NW_ECN: u16 = 8;
    pub(crate) const SET_TP_SRC: u16 = 9;
    pub(crate) const SET_TP_DST: u16 = 10;
    pub(crate) const COPY_TTL_OUT: u16 = 11;
    pub(crate) const COPY_TTL_IN: u16 = 12;
    pub(crate) const SET_MPLS_LABEL: u16 = 13;
    pub(crate) const SET_MPLS_TC: u16 = 14;
    pub(crate) const SET_MPLS_TTL: u16 = 15;
    pub(crate) const DEC_MPLS_TTL: u16 = 16;
    pub(crate) const PUSH_VLAN: u16 = 17;
    pub(crate) const POP_VLAN: u16 = 18;
    pub(crate) const PUSH_MPLS: u16 = 19;
    pub(crate) const POP_MPLS: u16 = 20;
    pub(crate) const SET_QUEUE: u16 = 21;
    pub(crate) const GROUP: u16 = 22;
    pub(crate) const SET_NW_TTL: u16 = 23;
    pub(crate) const DEC_NW_TTL: u16 = 24;
    pub(crate) const SET_FIELD: u16 = 25;
    pub(crate) const COPY_FIELD: u16 = 28;
    pub(crate) const METER: u16 = 29;
}

/// Nicira's actions.
pub(super) mod nxast {
    pub(crate) const RESUBMIT: u16 = 1;
    pub(crate) const SET_TUNNEL: u16 = 2;
    pub(crate) const SET_QUEUE: u16 = 4;
    pub(crate) const POP_QUEUE: u16 = 5;
    pub(crate) const REG_MOVE: u16 = 6;
    pub(crate) const REG_LOAD: u16 = 7;
    pub(crate) const NOTE: u16 = 8;
    pub(crate) const SET_TUNNEL64: u16 = 9;
    pub(crate) const MULTIPATH: u16 = 10;
    pub(crate) const BUNDLE: u16 = 12;
    pub(crate) const BUNDLE_LOAD: u16 = 13;
    pub(crate) const RESUBMIT_TABLE: u16 = 14;
    pub(crate) const OUTPUT_REG: u16 = 15;
    pub(crate) const LEARN: u16 = 16;
    pub(crate) const EXIT: u16 = 17;
    pub(crate) const DEC_TTL: u16 = 18;
    pub(crate) const FIN_TIMEOUT: u16 = 19;
    pub(crate) const CONTROLLER: u16 = 20;
    pub(crate) const DEC_TTL_CNT_IDS: u16 = 21;
    pub(crate) const WRITE_METADATA: u16 = 22;
    pub(crate) const PUSH_MPLS: u16 = 23;
    pub(crate) const POP_MPLS: u16 = 24;
    pub(crate) const SET_MPLS_TTL: u16 = 25;
    pub(crate) const DEC_MPLS_TTL: u16 = 26;
    pub(crate) const STACK_PUSH: u16 = 27;
    pub(crate) const STACK_POP: u16 = 28;
    pub(crate) const SAMPLE: u16 = 29;
    pub(crate) const SET_MPLS_LABEL: u16 = 30;
    pub(crate) const SET_MPLS_TC: u16 = 31;
    pub(crate) const OUTPUT_REG2: u16 = 32;
    pub(crate) const REG_LOAD2: u16 = 33;
    pub(crate) const CONJUNCTION: u16 = 34;
    pub(crate) const CT: u16 = 35;
    pub(crate) const NAT: u16 = 36;
    pub(crate) const CONTROLLER2: u16 = 37;
    pub(crate) const SAMPLE2: u16 = 38;
    pub(crate) const OUTPUT_TRUNC: u16 = 39;
    pub(crate) const GROUP: u16 = 40;
    pub(crate) const SAMPLE3: u16 = 41;
    pub(crate) const CLONE: u16 = 42;
    pub(crate) const CT_CLEAR: u16 = 43;
    pub(crate) const RESUBMIT_TABLE_CT: u16 = 44;
    pub(crate) const LEARN2: u16 = 45;
    pub(crate) const ENCAP: u16 = 46;
    pub(crate) const DECAP: u16 = 47;
    pub(crate) const DEC_NSH_TTL: u16 = 48;
    pub(crate) const CHECK_PKT_LARGER: u16 = 49;
    pub(crate) const DELETE_FIELD: u16 = 50;
}

/// ONF's copy-field, the extension that became an action of OpenFlow 1.5.
pub(super) const ONFACT_COPY_FIELD: u16 = 3200;

/// Lengths an action may have, header included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// This one.
    Exactly(usize),
    /// This one or a greater one.
    AtLeast(usize),
}

impl Length {
    pub(super) fn allows(self, length: usize) -> bool {
        match self {
            Length::Exactly(n) => length == n,
            Length::AtLeast(n) => length >= n,
        }
    }
}

/// The lengths of an action; `None`: the version has none of this number.
pub(super) fn length(version: Version, owner: Owner, number: u16) -> Option<Length> {
    match owner {
        Owner::Standard if version == Version::V10 => standard10(number),
        Owner::Standard => standard(version, number),
        Owner::Nicira => nicira(version, number),
        Owner::Onf if [Version::V13, Version::V14].contains(&version) && number == ONFACT_COPY_FIELD => {
            Some(Length::AtLeast(24))
        }
        Owner::Onf => None,
    }
}

fn standard10(number: u16) -> Option<Length> {
    use ofpat10::*;
    match number {
        SET_DL_SRC | SET_DL_DST | ENQUEUE => Some(Length::Exactly(16)),
        OUTPUT..=ENQUEUE => Some(Length::Exactly(8)),
        _ => None,
    }
}

fn standard(version: Version, number: u16) -> Option<Length> {
    use ofpat::*;
    match number {
        OUTPUT | SET_DL_SRC | SET_DL_DST => Some(Length::Exactly(16)),
        SET_VLAN_VID..=DEC_NW_TTL => Some(Length::Exactly(8)),
        SET_FIELD if version >= Version::V12 => Some(Length::AtLeast(8)),
        COPY_FIELD if version >= Version::V15 => Some(Length::AtLeast(16)),
        METER if version >= Version::V15 => Some(Length::Exactly(8)),
        _ => None,
    }
}

fn nicira(version: Version, number: u16) -> Option<Length> {
    use nxast::*;
    let since = match number {
        ENCAP | DECAP => Version::V13,
        _ => Version::V10,
    };
    // Where the standard took an action over, Nicira's form ends.
    let until = match number {
        SET_QUEUE | DEC_TTL | PUSH_MPLS | POP_MPLS | SET_MPLS_TTL | DEC_MPLS_TTL | SET_MPLS_LABEL
        | SET_MPLS_TC | GROUP => Version::V10,
        REG_MOVE | REG_LOAD | REG_LOAD2 => Version::V14,
        _ => Version::V15,
    };
    if !(since..=until).contains(&version) {
        return None;
    }
    Some(match number {
        RESUBMIT | SET_TUNNEL | SET_QUEUE | POP_QUEUE | RESUBMIT_TABLE | EXIT | DEC_TTL | FIN_TIMEOUT
        | CONTROLLER | PUSH_MPLS | POP_MPLS | SET_MPLS_TTL | DEC_MPLS_TTL | SET_MPLS_LABEL | SET_MPLS_TC
        | CONJUNCTION | OUTPUT_TRUNC | GROUP | CT_CLEAR | RESUBMIT_TABLE_CT | DEC_NSH_TTL => {
            Length::Exactly(16)
        }
        REG_LOAD | SET_TUNNEL64 | OUTPUT_REG | OUTPUT_REG2 | STACK_PUSH | STACK_POP | SAMPLE
        | DELETE_FIELD => Length::Exactly(24),
        MULTIPATH | WRITE_METADATA | SAMPLE2 | SAMPLE3 => Length::Exactly(32),
        REG_MOVE | NOTE | DEC_TTL_CNT_IDS | REG_LOAD2 | NAT | CONTROLLER2 | CLONE | ENCAP | DECAP => {
            Length::AtLeast(16)
        }
        CT | CHECK_PKT_LARGER => Length::AtLeast(24),
        BUNDLE | BUNDLE_LOAD | LEARN => Length::AtLeast(32),
        LEARN2 => Length::AtLeast(40),
        _ => return None,
    })
}
