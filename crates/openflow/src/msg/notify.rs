//! What do controllers hear of each other? Roles taken away, requests of others, who is connected.

use super::control::Role;
use super::prop::{PropertyKind, next_property, property};
use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// Why a role changed: values of [`RoleStatus::reason`].
pub mod role_reason {
    /// Another controller became the primary.
    pub const PRIMARY_REQUEST: u8 = 0;
    /// The configuration of the switch.
    pub const CONFIG: u8 = 1;
    /// An experimenter's.
    pub const EXPERIMENTER: u8 = 2;
}

/// `OFPT_ROLE_STATUS` (OpenFlow 1.4; ONF extension in 1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleStatus {
    /// Role from now on.
    pub role: Role,
    /// One of [`role_reason`].
    pub reason: u8,
    /// Number of the election.
    pub generation_id: u64,
}

impl RoleStatus {
    /// Properties, of which none but experimenters' exist, are not looked at.
    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let role = Role::from_wire(r.u32()?)?;
        let reason = r.u8()?;
        r.skip(3)?;
        Ok(RoleStatus { role, reason, generation_id: r.u64()? })
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u32(self.role as u32);
        out.u8(self.reason);
        out.zeros(3);
        out.u64(self.generation_id);
    }
}

/// How a controller is connected (OpenFlow 1.5 §7.3.5.18).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerStatus {
    /// Short number that the controller gave itself; 0xffff: none.
    pub short_id: u16,
    /// Its role.
    pub role: Role,
    /// Why this is sent: 0 on request, 1 the channel changed, 2 the role, 3 added, 4 removed, 5 short number.
    pub reason: u8,
    /// Whether the channel is up.
    pub connected: bool,
    /// Where it is.
    pub uri: String,
}

const OFPCSPT_URI: u16 = 0;

impl ControllerStatus {
    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let length = usize::from(r.u16()?);
        let mut r = r.sub(length.checked_sub(2).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
        let mut c = ControllerStatus { short_id: r.u16()?, ..ControllerStatus::default() };
        c.role = Role::from_wire(r.u32()?)?;
        (c.reason, c.connected) = (r.u8()?, r.u8()? == 0);
        r.skip(6)?;
        while !r.is_empty() {
            let p = next_property(&mut r)?;
            if p.kind == PropertyKind::Standard(OFPCSPT_URI) {
                c.uri = String::from_utf8_lossy(p.body.rest()).into_owned();
            }
        }
        Ok(c)
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.u16(0);
        out.u16(self.short_id);
        out.u32(self.role as u32);
        out.u8(self.reason);
        out.u8(u8::from(!self.connected));
        out.zeros(6);
        property(out, OFPCSPT_URI, |out| out.bytes(self.uri.as_bytes()));
        out.patch_u16(start, out.len() - start);
    }
}
