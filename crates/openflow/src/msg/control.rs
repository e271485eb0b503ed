//! What a controller may do and wants to hear: roles, asynchronous messages, formats.

use crate::bytes::{Put, Reader};
use crate::msg::handshake::INVALID_TTL_TO_CONTROLLER;
use crate::msg::prop::{PropertyKind, next_property, property};
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

impl Role {
    pub(crate) fn from_wire(n: u32) -> Result<Role, ErrorCode> {
        use Role::*;
        let found = [NoChange, Equal, Primary, Secondary].into_iter().find(|role| *role as u32 == n);
        found.ok_or(ErrorCode::OFPRRFC_BAD_ROLE)
    }
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
        let role = Role::from_wire(r.u32()?)?;
        // OpenFlow 1.5 uses half of the padding for a controller's short identifier.
        let _ = (version, r.skip(4)?);
        Ok(RoleMessage { role, generation_id: Some(r.u64()?) })
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
    /// Reasons of role status messages (OpenFlow 1.4; ONF extension in 1.3).
    pub role_status: (u32, u32),
    /// Reasons of table status messages (OpenFlow 1.4).
    pub table_status: (u32, u32),
    /// Reasons of forwarded requests: bit 0 groups, bit 1 meters (OpenFlow 1.4; extensions before).
    pub request_forward: (u32, u32),
    /// Reasons of flow statistics that nobody asked for (OpenFlow 1.5); the switch never sends any.
    pub flow_stats: (u32, u32),
    /// Reasons of controller status messages (OpenFlow 1.5).
    pub controller_status: (u32, u32),
}

impl Default for AsyncConfig {
    /// What OpenFlow 1.3 §6.3.5 begins with: as primary everything but packets with an expired TTL, as secondary
    /// changes of ports only. What 1.4 added must be asked for.
    fn default() -> Self {
        AsyncConfig {
            packet_in: (0b111011, 0),
            port_status: (0b111, 0b111),
            flow_removed: (0b111111, 0),
            role_status: (0, 0),
            table_status: (0, 0),
            request_forward: (0, 0),
            flow_stats: (0, 0),
            controller_status: (0, 0),
        }
    }
}

/// Reasons that there are, in the order of [`AsyncConfig::masks`] (OpenFlow 1.4 and 1.5).
const REASONS: [u32; 8] = [0x3f, 0x7, 0x3f, 0x7, 0x18, 0x3, 0x3, 0x3f];
/// Masks of OpenFlow 1.3 and Nicira's form, of OpenFlow 1.4, and of 1.5.
const MASKS: [usize; 3] = [6, 12, 16];

impl AsyncConfig {
    /// Packets whose TTL ran out, among the reasons of packet-ins.
    const EXPIRED: u32 = 1 << super::packet_in::reason::INVALID_TTL;

    /// What `OFPT_SET_CONFIG` says of packets whose TTL ran out. From OpenFlow 1.3 on it says nothing of them.
    pub(crate) fn ask_for_expired(&mut self, version: Version, flags: u16) {
        if version < Version::V13 {
            self.packet_in.0 &= !Self::EXPIRED;
            if flags & INVALID_TTL_TO_CONTROLLER != 0 {
                self.packet_in.0 |= Self::EXPIRED;
            }
        }
    }

    /// The flag that [`AsyncConfig::ask_for_expired`] takes, as it stands.
    pub(crate) fn expired_flag(&self, version: Version) -> u16 {
        let asked = version < Version::V13 && self.packet_in.0 & Self::EXPIRED != 0;
        if asked { INVALID_TTL_TO_CONTROLLER } else { 0 }
    }

    /// Pairs of masks, for primary and secondary, in the order of the property numbers.
    fn masks(&mut self) -> [&mut u32; 16] {
        let a = self;
        [
            &mut a.packet_in.0,
            &mut a.packet_in.1,
            &mut a.port_status.0,
            &mut a.port_status.1,
            &mut a.flow_removed.0,
            &mut a.flow_removed.1,
            &mut a.role_status.0,
            &mut a.role_status.1,
            &mut a.table_status.0,
            &mut a.table_status.1,
            &mut a.request_forward.0,
            &mut a.request_forward.1,
            &mut a.flow_stats.0,
            &mut a.flow_stats.1,
            &mut a.controller_status.0,
            &mut a.controller_status.1,
        ]
    }

    /// Reads OpenFlow 1.3's and Nicira's form: six masks.
    pub(crate) fn decode13(mut self, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        for mask in self.masks().into_iter().take(MASKS[0]) {
            *mask = r.u32()?;
        }
        Ok(self)
    }

    /// Reads OpenFlow 1.4's form: properties that change `self`. Those for secondaries have even numbers, those for
    /// primaries odd ones.
    ///
    /// # Errors
    /// `OFPACFC_UNSUPPORTED` for messages, `OFPACFC_INVALID` for reasons that there are not.
    pub(crate) fn decode14(mut self, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        while !r.is_empty() {
            let mut p = next_property(&mut r)?;
            let number = match p.kind {
                PropertyKind::Standard(n) if usize::from(n) < MASKS[2] => usize::from(n),
                PropertyKind::Standard(_) => return Err(ErrorCode::OFPACFC_UNSUPPORTED),
                other => return Err(other.unknown()),
            };
            let mask = p.body.u32()?;
            if mask & !REASONS[number / 2] != 0 {
                return Err(ErrorCode::OFPACFC_INVALID);
            }
            *self.masks()[number ^ 1] = mask;
        }
        Ok(self)
    }

    pub(crate) fn encode(mut self, version: Version, out: &mut Vec<u8>) {
        let count = match version {
            Version::V15 => MASKS[2],
            Version::V14 => MASKS[1],
            _ => MASKS[0],
        };
        for (i, mask) in self.masks().into_iter().enumerate().take(count) {
            // What only 1.5 has is said when it is wanted: Open vSwitch does not know it.
            if i >= MASKS[1] && *mask == 0 {
                continue;
            }
            match version >= Version::V14 {
                true => property(out, (i ^ 1) as u16, |out| out.u32(*mask & REASONS[i / 2])),
                false => out.u32(*mask),
            }
        }
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
