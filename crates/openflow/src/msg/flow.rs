//! A controller changes the flow tables: `OFPT_FLOW_MOD` and Nicira's `NXT_FLOW_MOD`.

use weft_flow::{Instructions, Match, OfPort, OptionValue};

use super::packet_in::{buffer_id, put_buffer_id};
use super::port::port;
use crate::actions::Refusal;
use crate::bytes::{Put, Reader, round8};
use crate::instructions::{decode_instructions, encode_instructions};
use crate::matches::{
    Dialect, decode_match_into, decode_match10, decode_with_options, encode_match_options, encode_match10,
    encode_options, encode_tlvs,
};
use crate::{ErrorCode, Version, actions};

/// What to do (`OFPFC_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlowCommand {
    /// Add a rule, replacing one with the same match and priority.
    #[default]
    Add,
    /// Change the actions of every rule at least as specific; in OpenFlow 1.0 and 1.1 add it if there is none.
    Modify,
    /// Change the actions of the rule with the same match and priority.
    ModifyStrict,
    /// Delete every rule at least as specific.
    Delete,
    /// Delete the rule with the same match and priority.
    DeleteStrict,
}

impl FlowCommand {
    fn from_wire(n: u8) -> Result<Self, ErrorCode> {
        use FlowCommand::*;
        [Add, Modify, ModifyStrict, Delete, DeleteStrict]
            .into_iter()
            .find(|c| *c as u8 == n)
            .ok_or(ErrorCode::OFPFMFC_BAD_COMMAND)
    }
}

/// Bits of [`FlowMod::flags`] and of a rule's flags, as OpenFlow 1.3 numbers them.
pub mod flow_flags {
    /// Tell the controller when the rule goes.
    pub const SEND_FLOW_REM: u16 = 1 << 0;
    /// Refuse a rule that overlaps one of the same priority.
    pub const CHECK_OVERLAP: u16 = 1 << 1;
    /// Start counting from zero (OpenFlow 1.2).
    pub const RESET_COUNTS: u16 = 1 << 2;
    /// Need not count packets (OpenFlow 1.3).
    pub const NO_PKT_COUNTS: u16 = 1 << 3;
    /// Need not count bytes (OpenFlow 1.3).
    pub const NO_BYT_COUNTS: u16 = 1 << 4;
    /// The bits a rule keeps.
    pub const KEPT: u16 = SEND_FLOW_REM | NO_PKT_COUNTS | NO_BYT_COUNTS;
}

/// A rule cached for emergencies in OpenFlow 1.0: not supported here.
const OFPFF10_EMERG: u16 = 1 << 2;
/// Every wildcard of OpenFlow 1.0.
const OFPFW_ALL: u32 = (1 << 22) - 1;
/// A group number that stands for "any".
pub const GROUP_ANY: u32 = u32::MAX;

/// A change of the flow tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowMod {
    /// What to do.
    pub command: FlowCommand,
    /// Table; `None`: the switch chooses when adding, and all tables otherwise.
    pub table: Option<u8>,
    /// Only rules whose cookie agrees in the bits of `cookie_mask` are changed or deleted.
    pub cookie: u64,
    /// Bits of `cookie` that count.
    pub cookie_mask: u64,
    /// Cookie that added or modified rules get; `None`: theirs stays.
    pub new_cookie: Option<u64>,
    /// Seconds without traffic after which the rule goes; 0: never.
    pub idle_timeout: u16,
    /// Seconds after which the rule goes; 0: never.
    pub hard_timeout: u16,
    /// Priority; higher wins.
    pub priority: u16,
    /// A packet to handle by the new rule.
    pub buffer_id: Option<u32>,
    /// When deleting: only rules that output to this port; [`OfPort::ANY`]: all.
    pub out_port: OfPort,
    /// When deleting: only rules that use this group; [`GROUP_ANY`]: all.
    pub out_group: u32,
    /// [`flow_flags`].
    pub flags: u16,
    /// Rules of higher importance are evicted later (OpenFlow 1.4).
    pub importance: u16,
    /// What the rule matches.
    pub matching: Match,
    /// Tunnel options that it matches besides (`tun_metadata`); see [`crate::match_with_options`].
    pub options: Vec<OptionValue>,
    /// What it does.
    pub instructions: Instructions,
}

impl Default for FlowMod {
    fn default() -> Self {
        FlowMod {
            command: FlowCommand::Add,
            table: None,
            cookie: 0,
            cookie_mask: 0,
            new_cookie: Some(0),
            idle_timeout: 0,
            hard_timeout: 0,
            priority: 0x8000,
            buffer_id: None,
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
            flags: 0,
            importance: 0,
            matching: Match::any(),
            options: Vec::new(),
            instructions: Instructions::default(),
        }
    }
}

/// A table number on the wire: 0xff stands for none.
pub(crate) fn table(wire: u8) -> Option<u8> {
    Some(wire).filter(|t| *t != 0xff)
}

impl FlowMod {
    /// Takes the cookie of a message that has no mask for it beside.
    fn set_cookie(&mut self, wire: u64) {
        let modifies = matches!(self.command, FlowCommand::Modify | FlowCommand::ModifyStrict);
        self.new_cookie = match self.command {
            FlowCommand::Add => Some(wire),
            _ if modifies => Some(wire).filter(|c| *c != u64::MAX),
            _ => None,
        };
    }

    fn set_flags10(&mut self, wire: u16) -> Result<(), ErrorCode> {
        if wire & OFPFF10_EMERG != 0 {
            let timed = self.idle_timeout != 0 || self.hard_timeout != 0;
            return Err(if timed {
                ErrorCode::OFPFMFC_BAD_EMERG_TIMEOUT
            } else {
                ErrorCode::OFPFMFC_TABLE_FULL
            });
        }
        if wire & !(flow_flags::SEND_FLOW_REM | flow_flags::CHECK_OVERLAP) != 0 {
            return Err(ErrorCode::OFPFMFC_BAD_FLAGS);
        }
        self.flags = wire;
        Ok(())
    }

    fn set_command10(&mut self, wire: u16, table_ids: bool) -> Result<(), ErrorCode> {
        let [high, low] = wire.to_be_bytes();
        if table_ids {
            self.table = table(high);
        } else if high != 0 {
            return Err(ErrorCode::OFPFMFC_BAD_COMMAND);
        }
        self.command = FlowCommand::from_wire(low)?;
        Ok(())
    }

    /// The checks that need the whole message.
    fn check(&self, version: Version) -> Result<(), ErrorCode> {
        if matches!(self.command, FlowCommand::Add | FlowCommand::Modify | FlowCommand::ModifyStrict) {
            actions::check(version, &self.matching, &self.instructions)?;
            let backwards =
                self.instructions.goto.is_some_and(|t| t == 0xff || self.table.is_some_and(|own| t <= own));
            if backwards {
                return Err(ErrorCode::OFPBIC_BAD_TABLE_ID);
            }
        }
        Ok(())
    }

    /// Reads OpenFlow 1.0's form. `table_ids`: the high byte of the command is a table (`NXT_FLOW_MOD_TABLE_ID`).
    pub(crate) fn decode10(table_ids: bool, mut r: Reader<'_>) -> Result<Self, Refusal> {
        let wildcards = r.clone().u32()?;
        let mut f = FlowMod { matching: decode_match10(&mut r)?, ..FlowMod::default() };
        let cookie = r.u64()?;
        f.set_command10(r.u16()?, table_ids)?;
        f.set_cookie(cookie);
        (f.idle_timeout, f.hard_timeout, f.priority) = (r.u16()?, r.u16()?, r.u16()?);
        // A rule without wildcards goes before all others (OpenFlow 1.0 §3.4).
        if wildcards & OFPFW_ALL == 0 {
            f.priority = u16::MAX;
        }
        f.buffer_id = buffer_id(r.u32()?);
        f.out_port = OfPort::from_u16(r.u16()?);
        f.set_flags10(r.u16()?)?;
        f.instructions = decode_instructions(Version::V10, r.rest())?;
        f.check(Version::V10)?;
        Ok(f)
    }

    /// Reads Nicira's form for OpenFlow 1.0 and 1.1.
    pub(crate) fn decode_nxt(table_ids: bool, mut r: Reader<'_>) -> Result<Self, Refusal> {
        let mut f = FlowMod::default();
        let cookie = r.u64()?;
        f.set_command10(r.u16()?, table_ids)?;
        f.set_cookie(cookie);
        (f.idle_timeout, f.hard_timeout, f.priority) = (r.u16()?, r.u16()?, r.u16()?);
        f.buffer_id = buffer_id(r.u32()?);
        f.out_port = OfPort::from_u16(r.u16()?);
        f.set_flags10(r.u16()?)?;
        let match_len = usize::from(r.u16()?);
        r.skip(6)?;
        let mut filter = (0, 0);
        (f.matching, f.options) = decode_with_options(r.take(match_len)?, Some(&mut filter), true)?;
        (f.cookie, f.cookie_mask) = filter;
        if f.cookie_mask != 0 && f.command == FlowCommand::Add {
            return Err(ErrorCode::NXBRC_NXM_INVALID.into());
        }
        r.skip(round8(match_len) - match_len)?;
        f.instructions = decode_instructions(Version::V10, r.rest())?;
        f.check(Version::V10)?;
        Ok(f)
    }

    /// Reads the form of OpenFlow 1.1 and later, in place of whatever this was: a flow-mod is too large to be handed
    /// around.
    pub(crate) fn read11(&mut self, version: Version, mut r: Reader<'_>) -> Result<(), Refusal> {
        self.clear();
        let f = self;
        let (cookie, cookie_mask) = (r.u64()?, r.u64()?);
        f.table = table(r.u8()?);
        f.command = FlowCommand::from_wire(r.u8()?)?;
        f.new_cookie = match f.command {
            FlowCommand::Add => Some(cookie),
            // OpenFlow 1.1 says both: what to look for, and, without a mask, what to set.
            FlowCommand::Modify | FlowCommand::ModifyStrict
                if version == Version::V11 && cookie_mask == 0 =>
            {
                Some(cookie)
            }
            _ => None,
        };
        if f.command != FlowCommand::Add {
            (f.cookie, f.cookie_mask) = (cookie & cookie_mask, cookie_mask);
        }
        (f.idle_timeout, f.hard_timeout, f.priority) = (r.u16()?, r.u16()?, r.u16()?);
        f.buffer_id = buffer_id(r.u32()?);
        (f.out_port, f.out_group) = (port(r.u32()?)?, r.u32()?);
        f.flags = r.u16()?;
        if f.flags & !Self::flag_mask(version) != 0 {
            return Err(ErrorCode::OFPFMFC_BAD_FLAGS.into());
        }
        let importance = r.u16()?;
        if version >= Version::V14 {
            f.importance = importance;
        }
        f.options = decode_match_into(&mut r, &mut f.matching)?;
        f.instructions = decode_instructions(version, r.rest())?;
        if f.table.is_none() && !f.deletes() {
            return Err(ErrorCode::OFPFMFC_BAD_TABLE_ID.into());
        }
        f.check(version)?;
        Ok(())
    }

    /// Makes it the default again, but for what the form of OpenFlow 1.1 and later always says.
    fn clear(&mut self) {
        (self.cookie, self.cookie_mask, self.new_cookie, self.importance) = (0, 0, Some(0), 0);
        self.matching.key.words_mut().fill(0);
        self.matching.mask.0.words_mut().fill(0);
    }

    /// Flags that a version has.
    pub(crate) fn flag_mask(version: Version) -> u16 {
        match version {
            Version::V10 | Version::V11 => flow_flags::SEND_FLOW_REM | flow_flags::CHECK_OVERLAP,
            Version::V12 => flow_flags::SEND_FLOW_REM | flow_flags::CHECK_OVERLAP | flow_flags::RESET_COUNTS,
            _ => 0x1f,
        }
    }

    /// Whether it deletes rules.
    pub fn deletes(&self) -> bool {
        matches!(self.command, FlowCommand::Delete | FlowCommand::DeleteStrict)
    }

    fn cookie10(&self) -> u64 {
        let unchanged = if self.command == FlowCommand::Add { 0 } else { u64::MAX };
        self.new_cookie.unwrap_or(unchanged)
    }

    fn tail10(&self, table_ids: bool, out: &mut Vec<u8>) {
        let high = if table_ids { self.table.unwrap_or(0xff) } else { 0 };
        out.u8(high);
        out.u8(self.command as u8);
        out.u16(self.idle_timeout);
        out.u16(self.hard_timeout);
        out.u16(self.priority);
        put_buffer_id(self.buffer_id, out);
        out.u16(self.out_port.to_u16().unwrap_or(0xffff));
        out.u16(self.flags & Self::flag_mask(Version::V10));
    }

    pub(crate) fn encode10(&self, table_ids: bool, out: &mut Vec<u8>) {
        encode_match10(&self.matching, out);
        out.u64(self.cookie10());
        self.tail10(table_ids, out);
        encode_instructions(Version::V10, &self.matching, &self.instructions, out);
    }

    pub(crate) fn encode_nxt(&self, table_ids: bool, out: &mut Vec<u8>) {
        out.u64(self.cookie10());
        self.tail10(table_ids, out);
        let at = out.len();
        out.zeros(8);
        let start = out.len();
        encode_tlvs(Dialect::Nxm, &self.matching, Some((self.cookie, self.cookie_mask)), out);
        encode_options(Dialect::Nxm, &self.options, out);
        out.patch_u16(at, out.len() - start);
        out.align8(start);
        encode_instructions(Version::V10, &self.matching, &self.instructions, out);
    }

    pub(crate) fn encode11(&self, version: Version, out: &mut Vec<u8>) {
        let adds = self.command == FlowCommand::Add;
        let sets = version == Version::V11 && self.cookie_mask == 0;
        out.u64(if adds || sets { self.new_cookie.unwrap_or(0) } else { self.cookie });
        out.u64(if adds { 0 } else { self.cookie_mask });
        out.u8(self.table.unwrap_or(if self.deletes() { 0xff } else { 0 }));
        out.u8(self.command as u8);
        out.u16(self.idle_timeout);
        out.u16(self.hard_timeout);
        out.u16(self.priority);
        put_buffer_id(self.buffer_id, out);
        out.u32(self.out_port.0);
        out.u32(self.out_group);
        out.u16(self.flags & Self::flag_mask(version));
        out.u16(if version >= Version::V14 { self.importance } else { 0 });
        encode_match_options(version, &self.matching, &self.options, out);
        encode_instructions(version, &self.matching, &self.instructions, out);
    }
}
