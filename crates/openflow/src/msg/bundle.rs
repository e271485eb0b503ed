//! Several messages that take effect together: bundles (OpenFlow 1.4 §7.3.9, ONF extension 230 for 1.3).

use crate::bytes::{Put, Reader};
use crate::{ErrorCode, Version};

/// What is done to a bundle, or was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum BundleStep {
    /// Open.
    OpenRequest,
    /// Opened.
    OpenReply,
    /// Close: nothing may be added any more.
    CloseRequest,
    /// Closed.
    CloseReply,
    /// Apply everything in it.
    CommitRequest,
    /// Applied.
    CommitReply,
    /// Forget it.
    DiscardRequest,
    /// Forgotten.
    DiscardReply,
}

impl BundleStep {
    const ALL: [BundleStep; 8] = [
        BundleStep::OpenRequest,
        BundleStep::OpenReply,
        BundleStep::CloseRequest,
        BundleStep::CloseReply,
        BundleStep::CommitRequest,
        BundleStep::CommitReply,
        BundleStep::DiscardRequest,
        BundleStep::DiscardReply,
    ];
    /// The reply to a request.
    pub fn reply(self) -> BundleStep {
        Self::ALL[(self as usize) | 1]
    }
}

/// Flag of bundles: all or nothing.
pub const OFPBF_ATOMIC: u16 = 1 << 0;
/// Flag of bundles: in the order of the messages.
pub const OFPBF_ORDERED: u16 = 1 << 1;
/// Flag of bundles: at a given time (OpenFlow 1.5).
const OFPBF_TIME: u16 = 1 << 2;

/// `OFPT_BUNDLE_CONTROL`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleControl {
    /// Bundle, as the controller numbers them.
    pub id: u32,
    /// What is done.
    pub step: BundleStep,
    /// `OFPBF_*` flags.
    pub flags: u16,
}

impl BundleControl {
    /// Bundles that take effect at a given time (OpenFlow 1.5 §6.9.9) are refused; Open vSwitch takes them for ordinary
    /// ones.
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let id = r.u32()?;
        let step = usize::from(r.u16()?);
        let step = BundleStep::ALL.get(step).copied().ok_or(ErrorCode::OFPBFC_BAD_TYPE)?;
        let flags = r.u16()?;
        if version == Version::V15 && flags & OFPBF_TIME != 0 {
            return Err(ErrorCode::OFPBFC_SCHED_NOT_SUPPORTED);
        }
        if flags & !(OFPBF_ATOMIC | OFPBF_ORDERED) != 0 {
            return Err(ErrorCode::OFPBFC_BAD_FLAGS);
        }
        Ok(BundleControl { id, step, flags })
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.id);
        out.u16(self.step as u16);
        out.u16(self.flags);
    }
}

/// `OFPT_BUNDLE_ADD_MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleAdd {
    /// Bundle.
    pub id: u32,
    /// `OFPBF_*` flags, those of the bundle.
    pub flags: u16,
    /// The message, header included.
    pub message: Vec<u8>,
}

impl BundleAdd {
    /// Properties after the message are not looked at: none are known.
    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let id = r.u32()?;
        r.skip(2)?;
        let flags = r.u16()?;
        let length = crate::Header::parse(r.rest()).map_err(|_| ErrorCode::OFPBFC_MSG_BAD_LEN)?.length;
        let message = r.take(usize::from(length)).map_err(|_| ErrorCode::OFPBFC_MSG_BAD_LEN)?;
        Ok(BundleAdd { id, flags, message: message.to_vec() })
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.id);
        out.u16(0);
        out.u16(self.flags);
        out.bytes(&self.message);
    }
}
