//! Which changes of the flow tables does a controller want to hear of, and how are they told?
//!
//! Three forms: Nicira's in OpenFlow 1.0, the ONF's extension in 1.3, which is Nicira's with standard matches, and the
//! standard's from 1.4 on. Flags and events are numbered here as OpenFlow 1.4 does.

use weft_flow::{Instructions, Match, OfPort, OptionValue};

use super::flow::{GROUP_ANY, table};
use crate::bytes::{Put, Reader, round8};
use crate::instructions::{decode_instructions, encode_instructions};
use crate::matches::{
    Dialect, decode_match_options, decode_with_options, encode_match_options, encode_options, encode_tlvs,
};
use crate::{ErrorCode, Version};

/// Bits of [`MonitorRequest::flags`].
pub mod monitor_flags {
    /// Tell the rules that are there.
    pub const INITIAL: u16 = 1 << 0;
    /// Tell rules that are added.
    pub const ADD: u16 = 1 << 1;
    /// Tell rules that go.
    pub const REMOVED: u16 = 1 << 2;
    /// Tell rules that change.
    pub const MODIFY: u16 = 1 << 3;
    /// Tell what rules do.
    pub const INSTRUCTIONS: u16 = 1 << 4;
    /// Tell one's own changes in full. Without it only their transactions are named.
    pub const NO_ABBREV: u16 = 1 << 5;
    /// In the standard: tell one's own changes only. Open vSwitch, whose tools set it, takes it as
    /// [`NO_ABBREV`], and so is it taken here.
    pub const ONLY_OWN: u16 = 1 << 6;
    /// The bits that say which changes are told.
    pub const EVENTS: u16 = ADD | REMOVED | MODIFY;
}

/// What to do with a monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MonitorCommand {
    /// Add it; there must be none of its number.
    #[default]
    Add,
    /// Change it.
    Modify,
    /// Delete it.
    Delete,
}

/// A monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorRequest {
    /// Number.
    pub id: u32,
    /// What to do; always [`MonitorCommand::Add`] before OpenFlow 1.4.
    pub command: MonitorCommand,
    /// [`monitor_flags`].
    pub flags: u16,
    /// Only rules of this table; `None`: all.
    pub table: Option<u8>,
    /// Only rules that output to this port; [`OfPort::ANY`]: all.
    pub out_port: OfPort,
    /// Only rules that use this group; [`GROUP_ANY`]: all (OpenFlow 1.4).
    pub out_group: u32,
    /// Only rules at least as specific.
    pub matching: Match,
    /// Tunnel options besides, which these rules have to match too; see [`crate::options_of`].
    pub options: Vec<OptionValue>,
}

/// What happened to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEvent {
    /// Nothing: it was there when the monitor began. Before OpenFlow 1.4 it reads as added.
    Initial,
    /// It was added.
    Added,
    /// It went.
    Removed,
    /// Its actions or its cookie changed.
    Modified,
}

/// A change of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowUpdate {
    /// What happened.
    pub event: FlowEvent,
    /// Why it went, [`super::flow_removed::removed_reason`]; 0 for other events.
    pub reason: u8,
    /// Its table.
    pub table_id: u8,
    /// Its priority.
    pub priority: u16,
    /// Its idle timeout, seconds.
    pub idle_timeout: u16,
    /// Its hard timeout, seconds.
    pub hard_timeout: u16,
    /// Its cookie.
    pub cookie: u64,
    /// What it matches.
    pub matching: Match,
    /// Tunnel options that it matches besides; see [`crate::options_of`].
    pub options: Vec<OptionValue>,
    /// What it does, for those who want to hear it.
    pub instructions: Instructions,
}

/// Part of what a monitor tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorUpdate {
    /// A rule.
    Full(Box<FlowUpdate>),
    /// The controller's own transaction was carried out.
    Abbrev(u32),
    /// Too much waits: changes are not told until [`MonitorUpdate::Resumed`] (OpenFlow 1.4; messages before).
    Paused,
    /// All that changed meanwhile was told.
    Resumed,
}

/// Flags of Nicira's form and theirs here.
const NXFMF: [(u16, u16); 6] = [
    (1 << 0, monitor_flags::INITIAL),
    (1 << 1, monitor_flags::ADD),
    (1 << 2, monitor_flags::REMOVED),
    (1 << 3, monitor_flags::MODIFY),
    (1 << 4, monitor_flags::INSTRUCTIONS),
    (1 << 5, monitor_flags::NO_ABBREV),
];

impl MonitorRequest {
    fn decode14(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let (id, out_port, out_group) = (r.u32()?, OfPort(r.u32()?), r.u32()?);
        let (flags, table_id, command) = (r.u16()?, r.u8()?, r.u8()?);
        let command = match command {
            0 => MonitorCommand::Add,
            1 => MonitorCommand::Modify,
            2 => MonitorCommand::Delete,
            _ => return Err(ErrorCode::OFPMOFC_BAD_COMMAND),
        };
        if flags & !0x7f != 0 || command != MonitorCommand::Delete && flags & monitor_flags::EVENTS == 0 {
            return Err(ErrorCode::OFPMOFC_BAD_FLAGS);
        }
        let (matching, options) = decode_match_options(r)?;
        Ok(MonitorRequest {
            id,
            command,
            flags,
            table: table(table_id),
            out_port,
            out_group,
            matching,
            options,
        })
    }

    pub(crate) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        if version >= Version::V14 {
            return Self::decode14(r);
        }
        let (id, wire) = (r.u32()?, r.u16()?);
        let (out_port, match_len) = if version == Version::V10 {
            (OfPort::from_u16(r.u16()?), usize::from(r.u16()?))
        } else {
            let match_len = usize::from(r.u16()?);
            (OfPort(r.u32()?), match_len)
        };
        let table_id = r.u8()?;
        if r.take(if version == Version::V10 { 5 } else { 3 })?.iter().any(|b| *b != 0) {
            return Err(ErrorCode::NXBRC_MUST_BE_ZERO);
        }
        let flags = NXFMF.iter().filter(|f| wire & f.0 != 0).fold(0, |all, f| all | f.1);
        if wire & !0x3f != 0 || flags & monitor_flags::EVENTS == 0 {
            return Err(ErrorCode::OFPMOFC_BAD_FLAGS);
        }
        let (matching, options) = if version == Version::V10 {
            let m = decode_with_options(r.take(match_len)?, None, true)?;
            r.skip(round8(match_len) - match_len)?;
            m
        } else {
            decode_match_options(r)?
        };
        let (command, out_group) = (MonitorCommand::Add, GROUP_ANY);
        Ok(MonitorRequest {
            id,
            command,
            flags,
            table: table(table_id),
            out_port,
            out_group,
            matching,
            options,
        })
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let table_id = self.table.unwrap_or(0xff);
        out.u32(self.id);
        if version >= Version::V14 {
            out.u32(self.out_port.0);
            out.u32(self.out_group);
            out.u16(self.flags);
            out.u8(table_id);
            out.u8(self.command as u8);
            return encode_match_options(version, &self.matching, &self.options, out);
        }
        out.u16(NXFMF.iter().filter(|f| self.flags & f.1 != 0).fold(0, |all, f| all | f.0));
        if version != Version::V10 {
            let at = out.len();
            out.u16(0);
            out.u32(self.out_port.0);
            out.u8(table_id);
            out.zeros(3);
            let start = out.len();
            encode_match_options(version, &self.matching, &self.options, out);
            // The length of an OXM match without its padding stands in it.
            let length = u16::from_be_bytes([out[start + 2], out[start + 3]]);
            return out.patch_u16(at, length.into());
        }
        out.u16(self.out_port.to_u16().unwrap_or(0xffff));
        let at = out.len();
        out.u16(0);
        out.u8(table_id);
        out.zeros(5);
        let start = out.len();
        encode_tlvs(Dialect::Nxm, &self.matching, None, out);
        encode_options(Dialect::Nxm, &self.options, out);
        out.patch_u16(at, out.len() - start);
        out.align8(start);
    }
}

/// Numbers of what is not a rule, in the standard and before.
const ABBREV14: u16 = 4;
const PAUSED14: u16 = 5;
const RESUMED14: u16 = 6;
const ABBREV: u16 = 3;

impl FlowEvent {
    fn wire(self, version: Version) -> u16 {
        let old = version < Version::V14;
        match self {
            FlowEvent::Initial => 0,
            FlowEvent::Added => u16::from(!old),
            FlowEvent::Removed => 1 + u16::from(!old),
            FlowEvent::Modified => 2 + u16::from(!old),
        }
    }
    fn from_wire(version: Version, n: u16) -> Option<Self> {
        // Before 1.4 0 means that a rule is new to who hears it.
        let all = [FlowEvent::Added, FlowEvent::Removed, FlowEvent::Modified, FlowEvent::Initial];
        all.into_iter().find(|e| e.wire(version) == n)
    }
}

impl MonitorUpdate {
    pub(crate) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let length = usize::from(r.u16()?);
        let mut r = r.sub(length.checked_sub(2).ok_or(ErrorCode::OFPBRC_BAD_LEN)?)?;
        let event = r.u16()?;
        let new = version >= Version::V14;
        match event {
            ABBREV14 if new => return Ok(MonitorUpdate::Abbrev(r.u32()?)),
            PAUSED14 if new => return Ok(MonitorUpdate::Paused),
            RESUMED14 if new => return Ok(MonitorUpdate::Resumed),
            ABBREV if !new => return Ok(MonitorUpdate::Abbrev(r.u32()?)),
            _ => {}
        }
        let event = FlowEvent::from_wire(version, event).ok_or(ErrorCode::NXBRC_FM_BAD_EVENT)?;
        FlowUpdate::decode(version, event, &mut r).map(|u| MonitorUpdate::Full(Box::new(u)))
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let new = version >= Version::V14;
        let (event, word) = match self {
            MonitorUpdate::Full(update) => return update.encode(version, out),
            MonitorUpdate::Abbrev(xid) => (if new { ABBREV14 } else { ABBREV }, *xid),
            MonitorUpdate::Paused => (PAUSED14, 0),
            MonitorUpdate::Resumed => (RESUMED14, 0),
        };
        out.u16(8);
        out.u16(event);
        out.u32(word);
    }
}

impl FlowUpdate {
    fn decode(version: Version, event: FlowEvent, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut u = FlowUpdate {
            event,
            reason: 0,
            table_id: 0,
            priority: 0,
            idle_timeout: 0,
            hard_timeout: 0,
            cookie: 0,
            matching: Match::any(),
            options: Vec::new(),
            instructions: Instructions::default(),
        };
        let mut match_len = 0;
        if version >= Version::V14 {
            (u.table_id, u.reason) = (r.u8()?, r.u8()?);
            (u.idle_timeout, u.hard_timeout, u.priority) = (r.u16()?, r.u16()?, r.u16()?);
            r.skip(4)?;
        } else {
            u.reason = r.u16()? as u8;
            (u.priority, u.idle_timeout, u.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
            match_len = usize::from(r.u16()?);
            u.table_id = r.u8()?;
            r.skip(1)?;
        }
        u.cookie = r.u64()?;
        if version == Version::V10 {
            (u.matching, u.options) = decode_with_options(r.take(match_len)?, None, true)?;
            r.skip(round8(match_len) - match_len)?;
        } else {
            (u.matching, u.options) = decode_match_options(r)?;
        }
        u.instructions = decode_instructions(version, r.rest())?;
        Ok(u)
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let start = out.len();
        out.u16(0);
        out.u16(self.event.wire(version));
        if version >= Version::V14 {
            out.u8(self.table_id);
            out.u8(self.reason);
            out.u16(self.idle_timeout);
            out.u16(self.hard_timeout);
            out.u16(self.priority);
            out.zeros(4);
            out.u64(self.cookie);
            encode_match_options(version, &self.matching, &self.options, out);
        } else {
            out.u16(self.reason.into());
            out.u16(self.priority);
            out.u16(self.idle_timeout);
            out.u16(self.hard_timeout);
            let at = out.len();
            out.u16(0);
            out.u8(self.table_id);
            out.u8(0);
            out.u64(self.cookie);
            let match_start = out.len();
            if version == Version::V10 {
                encode_tlvs(Dialect::Nxm, &self.matching, None, out);
                encode_options(Dialect::Nxm, &self.options, out);
                out.patch_u16(at, out.len() - match_start);
                out.align8(match_start);
            } else {
                encode_match_options(version, &self.matching, &self.options, out);
                let length = u16::from_be_bytes([out[match_start + 2], out[match_start + 3]]);
                out.patch_u16(at, length.into());
            }
        }
        encode_instructions(version, &self.matching, &self.instructions, out);
        out.patch_u16(start, out.len() - start);
    }
}
