//! What a controller may do and wants to hear: roles, asynchronous messages, table and format settings.

use crate::bytes::{Put, Reader};
use crate::msg::prop::property;
use crate::{ErrorCode, Version};

/// What a controller is to the switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// In a request: tell me, change nothing.
    NoChange,
    /// May do everything, beside others.
    #[default]
    Equal,
    /// The one that may change things; others become [`Role::Secondary`].
    Primary,
    /// May only look.
    Secondary,
}

/// `OFPT_ROLE_REQUEST` and its reply, and Nicira's forms for OpenFlow 1.0 and 1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleMessage {
    /// Role asked for, or held.
    pub role: Role,
    /// Number that orders elections; `None` in Nicira's form.
    pub generation_id: Option<u64>,
}

impl RoleMessage {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        use Role::*;
        let n = r.u32()?;
        let role = [NoChange, Equal, Primary, Secondary].into_iter().find(|role| *role as u32 == n);
        // OpenFlow 1.5 uses half of the padding for a controller's short identifier.
        let _ = (version, r.skip(4)?);
        Ok(RoleMessage { role: role.ok_or(ErrorCode::OFPRRFC_BAD_ROLE)?, generation_id: Some(r.u64()?) })
    }
    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.u32(self.role as u32);
        out.u16(if version >= Version::V15 { 0xffff } else { 0 });
        out.u16(0);
        out.u64(self.generation_id.unwrap_or(u64::MAX));
    }

    /// Nicira numbers the roles from "other", which is equal, on.
    pub(crate) fn decode_nxt(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let role = match r.u32()? {
            0 => Role::Equal,
            1 => Role::Primary,
            2 => Role::Secondary,
            _ => return Err(ErrorCode::OFPRRFC_BAD_ROLE),
        };
        Ok(RoleMessage { role, generation_id: None })
    }
    pub(crate) fn encode_nxt(&self, out: &mut Vec<u8>) {
        out.u32(match self.role {
            Role::NoChange | Role::Equal => 0,
            Role::Primary => 1,
            Role::Secondary => 2,
        });
    }
}

/// Which asynchronous messages a controller gets: a bit per reason, one mask as primary or equal, one as secondary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsyncConfig {
    /// Reasons of packet-ins: (primary, secondary).
    pub packet_in: (u32, u32),
    /// Reasons of port status messages.
    pub port_status: (u32, u32),
    /// Reasons of flow-removed messages.
    pub flow_removed: (u32, u32),
}

impl Default for AsyncConfig {
    /// What OpenFlow 1.3 §6.3.5 begins with: as primary everything but packets with an expired TTL, as secondary
    /// changes of ports only.
    fn default() -> Self {
        AsyncConfig { packet_in: (0b111011, 0), port_status: (0b111, 0b111), flow_removed: (0b111111, 0) }
    }
}

impl AsyncConfig {
    fn masks(&mut self) -> [&mut u32; 6] {
        let AsyncConfig { packet_in, port_status, flow_removed } = self;
        [
            &mut packet_in.0,
            &mut packet_in.1,
            &mut port_status.0,
            &mut port_status.1,
            &mut flow_removed.0,
            &mut flow_removed.1,
        ]
    }
    /// Property number of OpenFlow 1.4 for each of the masks.
    const PROPERTIES: [u16; 6] = [1, 0, 3, 2, 5, 4];

    /// Reads OpenFlow 1.3's and Nicira's form: six masks.
    pub(crate) fn decode13(mut self, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        for mask in self.masks().into_iter().take(6) {
            *mask = r.u32()?;
        }
        Ok(self)
    }
    /// Reads OpenFlow 1.4's form: properties that change `self`.
    pub(crate) fn decode14(mut self, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        while !r.is_empty() {
            let (kind, length) = (r.u16()?, usize::from(r.u16()?));
            let padded = length.next_multiple_of(8).checked_sub(4).ok_or(ErrorCode::OFPBPC_BAD_LEN)?;
            let mut body = r.sub(padded)?;
            match Self::PROPERTIES.iter().position(|p| *p == kind) {
                Some(i) => *self.masks()[i] = body.u32()?,
                None if kind < 14 => {}
                None => return Err(ErrorCode::OFPBPC_BAD_TYPE),
            }
        }
        Ok(self)
    }
    pub(crate) fn encode(mut self, version: Version, out: &mut Vec<u8>) {
        for (mask, kind) in self.masks().into_iter().zip(Self::PROPERTIES) {
            if version >= Version::V14 {
                property(out, kind, |out| out.u32(*mask));
            } else {
                out.u32(*mask);
            }
        }
    }
}

/// `OFPT_TABLE_MOD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableMod {
    /// Table; `None`: all.
    pub table: Option<u8>,
    /// Configuration bits: what a table miss does (OpenFlow 1.1, 1.2), eviction and vacancy (1.4).
    pub config: u32,
}

impl TableMod {
    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let table = super::flow::table(r.u8()?);
        r.skip(3)?;
        Ok(TableMod { table, config: r.u32()? })
    }
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.u8(self.table.unwrap_or(0xff));
        out.zeros(3);
        out.u32(self.config);
    }
}

/// How matches are written in OpenFlow 1.0 (`NXT_SET_FLOW_FORMAT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowFormat {
    /// The standard's twelve fields; Nicira's form where they do not suffice.
    #[default]
    OpenFlow10,
    /// Always Nicira's form.
    Nxm,
}

impl FlowFormat {
    pub(crate) fn decode(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        match r.u32()? {
            0 => Ok(FlowFormat::OpenFlow10),
            2 => Ok(FlowFormat::Nxm),
            _ => Err(ErrorCode::OFPBRC_EPERM),
        }
    }
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        out.u32(if self == FlowFormat::Nxm { 2 } else { 0 });
    }
}
