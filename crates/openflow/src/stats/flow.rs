//! Which rules are there, and how much did they match?

use core::time::Duration;

use weft_flow::{Instructions, Match, OfPort, OptionValue};

use super::entry;
use super::oxs::{Oxs, decode_oxs, encode_oxs};
use crate::bytes::{Put, Reader, round8};
use crate::instructions::{decode_instructions, encode_instructions};
use crate::matches::{
    Alike, Dialect, decode_match_options, decode_match10, decode_with_options, encode_match_alike,
    encode_match_options, encode_match10, encode_options, encode_tlvs,
};
use crate::msg::flow::{GROUP_ANY, table};
use crate::msg::flow_removed::{duration, put_duration};
use crate::{ErrorCode, Version};

/// Which rules are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowStatsRequest {
    /// Table; `None`: all.
    pub table: Option<u8>,
    /// Only rules that output to this port; [`OfPort::ANY`]: all.
    pub out_port: OfPort,
    /// Only rules that use this group; [`GROUP_ANY`]: all.
    pub out_group: u32,
    /// Only rules whose cookie agrees in the bits of the mask.
    pub cookie: u64,
    /// Bits of the cookie that count.
    pub cookie_mask: u64,
    /// Only rules at least as specific.
    pub matching: Match,
    /// Tunnel options besides; see [`crate::match_with_options`].
    pub options: Vec<OptionValue>,
}

impl Default for FlowStatsRequest {
    fn default() -> Self {
        FlowStatsRequest {
            table: None,
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
            cookie: 0,
            cookie_mask: 0,
            matching: Match::any(),
            options: Vec::new(),
        }
    }
}

impl FlowStatsRequest {
    pub(super) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut f = FlowStatsRequest::default();
        if version == Version::V10 {
            f.matching = decode_match10(r)?;
            f.table = table(r.u8()?);
            r.skip(1)?;
            f.out_port = OfPort::from_u16(r.u16()?);
            return Ok(f);
        }
        f.table = table(r.u8()?);
        r.skip(3)?;
        (f.out_port, f.out_group) = (crate::msg::port::port(r.u32()?)?, r.u32()?);
        r.skip(4)?;
        (f.cookie, f.cookie_mask) = (r.u64()?, r.u64()?);
        f.cookie &= f.cookie_mask;
        (f.matching, f.options) = decode_match_options(r)?;
        Ok(f)
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let table = self.table.unwrap_or(0xff);
        if version == Version::V10 {
            encode_match10(&self.matching, out);
            out.u8(table);
            out.u8(0);
            out.u16(self.out_port.to_u16().unwrap_or(0xffff));
            return;
        }
        out.u8(table);
        out.zeros(3);
        out.u32(self.out_port.0);
        out.u32(self.out_group);
        out.zeros(4);
        out.u64(self.cookie);
        out.u64(self.cookie_mask);
        encode_match_options(version, &self.matching, &self.options, out);
    }

    /// Reads Nicira's form.
    pub(super) fn decode_nxst(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut f = FlowStatsRequest { out_port: OfPort::from_u16(r.u16()?), ..FlowStatsRequest::default() };
        let match_len = usize::from(r.u16()?);
        f.table = table(r.u8()?);
        r.skip(3)?;
        let mut cookie = (0, 0);
        (f.matching, f.options) = decode_with_options(r.take(match_len)?, Some(&mut cookie), true)?;
        (f.cookie, f.cookie_mask) = cookie;
        Ok(f)
    }

    pub(super) fn encode_nxst(&self, out: &mut Vec<u8>) {
        out.u16(self.out_port.to_u16().unwrap_or(0xffff));
        let at = out.len();
        out.u16(0);
        out.u8(self.table.unwrap_or(0xff));
        out.zeros(3);
        let start = out.len();
        encode_tlvs(Dialect::Nxm, &self.matching, Some((self.cookie, self.cookie_mask)), out);
        encode_options(Dialect::Nxm, &self.options, out);
        out.patch_u16(at, out.len() - start);
        out.align8(start);
    }
}

/// A rule with its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowStats {
    /// Table.
    pub table_id: u8,
    /// Priority.
    pub priority: u16,
    /// How long it is there.
    pub duration: Duration,
    /// Idle timeout, seconds.
    pub idle_timeout: u16,
    /// Hard timeout, seconds.
    pub hard_timeout: u16,
    /// Flags (OpenFlow 1.3).
    pub flags: u16,
    /// Importance (OpenFlow 1.4).
    pub importance: u16,
    /// Cookie.
    pub cookie: u64,
    /// Packets it matched.
    pub packets: u64,
    /// Bytes it matched.
    pub bytes: u64,
    /// Whole seconds since it last matched (Nicira's form).
    pub idle_age: Option<u16>,
    /// Whole seconds since it was last changed (Nicira's form).
    pub hard_age: Option<u16>,
    /// What it matches.
    pub matching: Match,
    /// Tunnel options that it matches besides; see [`crate::options_of`].
    pub options: Vec<OptionValue>,
    /// What it does.
    pub instructions: Instructions,
}

/// How rules are written.
pub(super) struct Form<'a> {
    pub(super) version: Version,
    /// Nicira's form.
    pub(super) nicira: bool,
    /// The match that was written before.
    pub(super) alike: &'a mut Alike,
    /// Whether that has the same mask.
    pub(super) same: bool,
}

/// Nicira writes an age one higher, so that 0 can mean "unknown".
fn put_age(age: Option<u16>, out: &mut Vec<u8>) {
    out.u16(age.map_or(0, |a| a.saturating_add(1)));
}

impl FlowStats {
    pub(super) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut r = entry(r)?;
        let mut f = FlowStats::default();
        match version {
            Version::V10 => {
                f.table_id = r.u8()?;
                r.skip(1)?;
                f.matching = decode_match10(&mut r)?;
                f.duration = duration(&mut r)?;
                (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
                r.skip(6)?;
                (f.cookie, f.packets, f.bytes) = (r.u64()?, r.u64()?, r.u64()?);
            }
            Version::V15 => {
                r.skip(2)?;
                f.table_id = r.u8()?;
                r.skip(1)?;
                (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
                (f.flags, f.importance, f.cookie) = (r.u16()?, r.u16()?, r.u64()?);
                (f.matching, f.options) = decode_match_options(&mut r)?;
                let oxs = decode_oxs(&mut r)?;
                (f.duration, f.packets, f.bytes) = (oxs.duration, oxs.packets, oxs.bytes);
                f.idle_age = oxs.idle.map(|d| u16::try_from(d.as_secs()).unwrap_or(u16::MAX));
            }
            _ => {
                f.table_id = r.u8()?;
                r.skip(1)?;
                f.duration = duration(&mut r)?;
                (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
                let (flags, importance) = (r.u16()?, r.u16()?);
                r.skip(2)?;
                f.flags = if version >= Version::V13 { flags } else { 0 };
                f.importance = if version >= Version::V14 { importance } else { 0 };
                (f.cookie, f.packets, f.bytes) = (r.u64()?, r.u64()?, r.u64()?);
                (f.matching, f.options) = decode_match_options(&mut r)?;
            }
        }
        f.instructions = decode_instructions(version, r.rest())?;
        Ok(f)
    }

    pub(super) fn decode_nxst(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut r = entry(r)?;
        let mut f = FlowStats { table_id: r.u8()?, ..FlowStats::default() };
        r.skip(1)?;
        f.duration = duration(&mut r)?;
        (f.priority, f.idle_timeout, f.hard_timeout) = (r.u16()?, r.u16()?, r.u16()?);
        let match_len = usize::from(r.u16()?);
        (f.idle_age, f.hard_age) = (r.u16()?.checked_sub(1), r.u16()?.checked_sub(1));
        (f.cookie, f.packets, f.bytes) = (r.u64()?, r.u64()?, r.u64()?);
        (f.matching, f.options) = decode_with_options(r.take(match_len)?, None, true)?;
        r.skip(round8(match_len) - match_len)?;
        f.instructions = decode_instructions(Version::V10, r.rest())?;
        Ok(f)
    }

    /// Appends an entry with its length.
    pub(super) fn encode_form(&self, version: Version, nicira: bool, out: &mut Vec<u8>) {
        let alike = &mut Alike::default();
        self.encode_with(&self.instructions, &mut Form { version, nicira, alike, same: false }, out);
    }

    /// As [`FlowStats::encode_form`], with these instructions in place of its own.
    pub(super) fn encode_with(&self, instructions: &Instructions, form: &mut Form<'_>, out: &mut Vec<u8>) {
        let start = out.len();
        out.u16(0);
        match form.version {
            _ if form.nicira => self.encode_nxst(form, out),
            Version::V10 => self.encode10(out),
            Version::V15 => self.encode15(form, out),
            _ => self.encode11(form, out),
        }
        let version = if form.nicira { Version::V10 } else { form.version };
        encode_instructions(version, &self.matching, instructions, out);
        out.patch_u16(start, out.len() - start);
    }

    /// Reads an entry of `OFPMP_FLOW_STATS` (OpenFlow 1.5 §7.3.5.3).
    pub(super) fn decode_counts(r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        let mut r = entry(r)?;
        r.skip(2)?;
        let mut f = FlowStats { table_id: r.u8()?, ..FlowStats::default() };
        r.skip(1)?;
        f.priority = r.u16()?;
        (f.matching, f.options) = decode_match_options(&mut r)?;
        let oxs = decode_oxs(&mut r)?;
        (f.duration, f.packets, f.bytes) = (oxs.duration, oxs.packets, oxs.bytes);
        f.idle_age = oxs.idle.map(|d| u16::try_from(d.as_secs()).unwrap_or(u16::MAX));
        Ok(f)
    }

    /// Appends such an entry; the reason is 0, a question.
    pub(super) fn encode_counts(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.u32(0);
        out.u8(self.table_id);
        out.u8(0);
        out.u16(self.priority);
        encode_match_options(Version::V15, &self.matching, &self.options, out);
        encode_oxs(&self.oxs(), out);
        out.patch_u16(start, out.len() - start);
    }

    fn oxs(&self) -> Oxs {
        let idle = self.idle_age.map(|s| Duration::from_secs(s.into()));
        Oxs { duration: self.duration, packets: self.packets, bytes: self.bytes, flows: None, idle }
    }

    fn timeouts(&self, out: &mut Vec<u8>) {
        out.u16(self.priority);
        out.u16(self.idle_timeout);
        out.u16(self.hard_timeout);
    }
    fn counts(&self, out: &mut Vec<u8>) {
        out.u64(self.cookie);
        out.u64(self.packets);
        out.u64(self.bytes);
    }

    fn encode10(&self, out: &mut Vec<u8>) {
        out.u8(self.table_id);
        out.u8(0);
        encode_match10(&self.matching, out);
        put_duration(self.duration, out);
        self.timeouts(out);
        out.zeros(6);
        self.counts(out);
    }

    fn encode_match(&self, form: &mut Form<'_>, out: &mut Vec<u8>) {
        let alike = (&mut *form.alike, form.same);
        encode_match_alike(form.version, &self.matching, &self.options, alike, out);
    }

    fn encode_nxst(&self, form: &mut Form<'_>, out: &mut Vec<u8>) {
        out.u8(self.table_id);
        out.u8(0);
        put_duration(self.duration, out);
        self.timeouts(out);
        let at = out.len();
        out.u16(0);
        put_age(self.idle_age, out);
        put_age(self.hard_age, out);
        self.counts(out);
        let start = out.len();
        form.alike.encode_tlvs(Dialect::Nxm, &self.matching, form.same, out);
        encode_options(Dialect::Nxm, &self.options, out);
        out.patch_u16(at, out.len() - start);
        out.align8(start);
    }

    fn encode11(&self, form: &mut Form<'_>, out: &mut Vec<u8>) {
        let version = form.version;
        out.u8(self.table_id);
        out.u8(0);
        put_duration(self.duration, out);
        self.timeouts(out);
        out.u16(if version >= Version::V13 { self.flags } else { 0 });
        out.u16(if version >= Version::V14 { self.importance } else { 0 });
        out.u16(0);
        self.counts(out);
        self.encode_match(form, out);
    }

    fn encode15(&self, form: &mut Form<'_>, out: &mut Vec<u8>) {
        out.u16(0);
        out.u8(self.table_id);
        out.u8(0);
        self.timeouts(out);
        out.u16(self.flags);
        out.u16(self.importance);
        out.u64(self.cookie);
        self.encode_match(form, out);
        encode_oxs(&self.oxs(), out);
    }
}

/// A sum over rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AggregateStats {
    /// Packets they matched.
    pub packets: u64,
    /// Bytes they matched.
    pub bytes: u64,
    /// How many they are.
    pub flows: u32,
}

impl AggregateStats {
    pub(super) fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        if version == Version::V15 {
            let oxs = decode_oxs(r)?;
            return Ok(AggregateStats {
                packets: oxs.packets,
                bytes: oxs.bytes,
                flows: oxs.flows.unwrap_or(0),
            });
        }
        let out = AggregateStats { packets: r.u64()?, bytes: r.u64()?, flows: r.u32()? };
        r.skip(4)?;
        Ok(out)
    }
    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V15 {
            let (packets, bytes) = (self.packets, self.bytes);
            return encode_oxs(&Oxs { packets, bytes, flows: Some(self.flows), ..Oxs::default() }, out);
        }
        out.u64(self.packets);
        out.u64(self.bytes);
        out.u32(self.flows);
        out.u32(0);
    }
}
