//! Which action begins here, and how long is it?

use std::fmt;

use super::table::{Owner, length};
use super::{OFPAT_VENDOR, owner_of};
use crate::bytes::Reader;
use crate::{ErrorCode, Version};

/// What an action or instruction is called on the wire: for logs that tell which one was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionKind {
    /// The standard's number.
    Standard(u16),
    /// Nicira's number (`NXAST_*`).
    Nicira(u16),
    /// ONF's number.
    Onf(u16),
    /// Whatever this vendor's action is.
    Vendor(u32),
    /// An instruction's number.
    Instruction(u16),
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActionKind::Standard(n) => write!(f, "action {n}"),
            ActionKind::Nicira(n) => write!(f, "Nicira action {n}"),
            ActionKind::Onf(n) => write!(f, "ONF action {n}"),
            ActionKind::Vendor(n) => write!(f, "action of vendor {n:#010x}"),
            ActionKind::Instruction(n) => write!(f, "instruction {n}"),
        }
    }
}

/// Why actions were refused, and because of which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the error message says.
    pub(crate) code: ErrorCode,
    /// The action or instruction at fault, the innermost one where they nest; `None`: something else.
    pub(crate) action: Option<ActionKind>,
}

impl Refusal {
    /// Names the action at fault, unless one inside it was.
    pub(crate) fn of(self, kind: ActionKind) -> Self {
        Refusal { action: self.action.or(Some(kind)), ..self }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Refusal { code, action: None }
    }
}

impl From<Refusal> for ErrorCode {
    fn from(refusal: Refusal) -> Self {
        refusal.code
    }
}

/// What stands at the start of every action.
pub(super) struct Header {
    pub(super) owner: Owner,
    pub(super) number: u16,
    pub(super) kind: ActionKind,
    /// Bytes of the whole action, checked against what the action may have and what is there.
    pub(super) length: usize,
    /// Bytes of the header.
    pub(super) size: usize,
}

impl Header {
    /// Reads the header of the action that `bytes` begins with.
    pub(super) fn read(version: Version, bytes: &[u8]) -> Result<Header, Refusal> {
        let mut r = Reader::new(bytes, ErrorCode::OFPBAC_BAD_LEN);
        let (number, claimed) = (r.u16()?, usize::from(r.u16()?));
        let mut header = Header {
            owner: Owner::Standard,
            number,
            kind: ActionKind::Standard(number),
            length: claimed,
            size: 4,
        };
        if number == OFPAT_VENDOR {
            let vendor = r.u32()?;
            let unknown = Refusal::from(ErrorCode::OFPBAC_BAD_VENDOR).of(ActionKind::Vendor(vendor));
            header.owner = owner_of(vendor).ok_or(unknown)?;
            header.number = r.u16()?;
            header.size = 10;
            header.kind = match header.owner {
                Owner::Onf => ActionKind::Onf(header.number),
                _ => ActionKind::Nicira(header.number),
            };
        }
        let fault = |code: ErrorCode| Refusal::from(code).of(header.kind);
        let allowed = length(version, header.owner, header.number).ok_or_else(|| {
            fault(match header.owner {
                Owner::Standard => ErrorCode::OFPBAC_BAD_TYPE,
                _ => ErrorCode::OFPBAC_BAD_VENDOR_TYPE,
            })
        })?;
        if claimed > bytes.len() || !allowed.allows(claimed) || !claimed.is_multiple_of(8) {
            return Err(fault(ErrorCode::OFPBAC_BAD_LEN));
        }
        Ok(header)
    }
}
