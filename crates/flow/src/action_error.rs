//! What can be wrong with actions? Each with the error that OpenFlow has for it.

use crate::{Field, OfPort};

/// Why actions do not fit a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// A field that actions may not change (`OFPBAC_BAD_SET_ARGUMENT`).
    #[error("{} is read-only", .0.name())]
    ReadOnly(Field),
    /// A field that is read or set on packets that may not have it (`OFPBAC_MATCH_INCONSISTENT`).
    #[error("actions are invalid with specified match: {} lacks its prerequisites", .0.name())]
    Prerequisite(Field),
    /// `vlan_vid` set without the bit that says that there is a tag (`OFPBAC_BAD_SET_ARGUMENT`).
    #[error("vlan_vid must be set with bit 12 (0x1000)")]
    VlanNotPresent,
    /// A subfield that is empty, or reaches beyond its field (`OFPBAC_BAD_SET_LEN`).
    #[error("subfield reaches beyond {}", .0.name())]
    BadSubfield(Field),
    /// A value with bits outside the mask or the field (`OFPBAC_BAD_SET_ARGUMENT`).
    #[error("value does not fit {}", .0.name())]
    BadValue(Field),
    /// The zone of `ct` is not 16 bits of a field (`OFPBAC_BAD_SET_LEN`).
    #[error("the zone must be 16 bits of {}", .0.name())]
    BadZone(Field),
    /// Something within `ct` that does not set `ct_mark` or `ct_label` (`OFPBAC_BAD_ARGUMENT`).
    #[error("ct may change ct_mark and ct_label, and nothing else")]
    NotOfConnection(Option<Field>),
    /// `ct_mark` or `ct_label` set outside of `ct` (`OFPBAC_BAD_SET_ARGUMENT`).
    #[error("cannot set {} outside of ct", .0.name())]
    OutsideCt(Field),
    /// An argument that the action cannot have (`OFPBAC_BAD_ARGUMENT`).
    #[error("{0}")]
    BadArgument(&'static str),
    /// A port that nothing can be sent to (`OFPBAC_BAD_OUT_PORT`).
    #[error("cannot output to port {0}")]
    BadPort(OfPort),
    /// More VLAN tags than a packet can have (`OFPBAC_BAD_TAG`).
    #[error("too many VLAN tags")]
    TooManyTags,
    /// `conjunction` beside something other than `conjunction` and `note` (`NXBAC_BAD_CONJUNCTION`).
    #[error("conjunction may stand beside conjunction and note, and nothing else")]
    BadConjunction,
    /// A table to go to that does not come later, or does not exist (`OFPBIC_BAD_TABLE_ID`).
    #[error("cannot go to table {0}")]
    BadTable(u8),
    /// A meter that cannot exist (`OFPMMFC_INVALID_METER`).
    #[error("there is no meter {0}")]
    BadMeter(u32),
    /// An action that action sets do not have (`OFPBAC_BAD_TYPE`).
    #[error("not allowed in an action set")]
    NotInActionSet,
}
