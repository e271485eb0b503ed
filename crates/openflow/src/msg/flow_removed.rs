//! A rule went: `OFPT_FLOW_REMOVED` and Nicira's `NXT_FLOW_REMOVED`.

use core::time::Duration;

use weft_flow::{Match, OptionValue};

use crate::bytes::{Put, Reader, round8};
use crate::matches::{
    Dialect, decode_match_options, decode_match10, decode_with_options, encode_match_options, encode_match10,
    encode_options, encode_tlvs,
};
use crate::stats::oxs::{Oxs, decode_oxs, encode_oxs};
use crate::{ErrorCode, Version};

/// Why a rule went: values of [`FlowRemoved::reason`].
pub mod removed_reason {
    /// No traffic for its idle timeout.
    pub const IDLE_TIMEOUT: u8 = 0;
    /// Its hard timeout passed.
    pub const HARD_TIMEOUT: u8 = 1;
    /// A controller deleted it.
    pub const DELETE: u8 = 2;
    /// Its group was deleted.
    pub const GROUP_DELETE: u8 = 3;
    /// Its meter was deleted (OpenFlow 1.4).
    pub const METER_DELETE: u8 = 4;
    /// It made room for others (OpenFlow 1.4).
    pub const EVICTION: u8 = 5;
}

/// A rule that went, with its last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowRemoved {
    /// What it matched.
    pub matching: Match,
    /// Tunnel options that it matched besides; see [`crate::options_of`].
    pub options: Vec<OptionValue>,
    /// Its cookie.
    pub cookie: u64,
    /// Its priority.
    pub priority: u16,
    /// One of [`removed_reason`].
    pub reason: u8,
    /// Its table.
    pub table_id: u8,
    /// How long it lived.
    pub duration: Duration,
    /// Its idle timeout, seconds.
    pub idle_timeout: u16,
    /// Its hard timeout, seconds (OpenFlow 1.2).
    pub hard_timeout: u16,
    /// Packets it matched.
    pub packets: u64,
    /// Bytes it matched.
    pub bytes: u64,
}

/// Seconds and nanoseconds of two 32-bit numbers; what a peer sends may not be normal.
pub(crate) fn duration(r: &mut Reader<'_>) -> Result<Duration, ErrorCode> {
    let (sec, nsec) = (r.u32()?, r.u32()?);
    Ok(Duration::from_secs(sec.into()).saturating_add(Duration::from_nanos(nsec.into())))
}
pub(crate) fn put_duration(d: Duration, out: &mut Vec<u8>) {
    out.u32(u32::try_from(d.as_secs()).unwrap_or(u32::MAX));
    out.u32(d.subsec_nanos());
}

impl FlowRemoved {
    pub(crate) fn decode(version: Version, mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let mut f = FlowRemoved::default();
        if version == Version::V15 {
            (f.table_id, f.reason, f.priority) = (r.u8()?, r.u8()?, r.u16()?);
            (f.idle_timeout, f.hard_timeout, f.cookie) = (r.u16()?, r.u16()?, r.u64()?);
            (f.matching, f.options) = decode_match_options(&mut r)?;
            let oxs = decode_oxs(&mut r)?;
            (f.duration, f.packets, f.bytes) = (oxs.duration, oxs.packets, oxs.bytes);
            return Ok(f);
        }
        if version == Version::V10 {
            f.matching = decode_match10(&mut r)?;
        }
        (f.cookie, f.priority, f.reason, f.table_id) = (r.u64()?, r.u16()?, r.u8()?, r.u8()?);
        f.duration = duration(&mut r)?;
        f.idle_timeout = r.u16()?;
        let hard_timeout = r.u16()?;
        (f.packets, f.bytes) = (r.u64()?, r.u64()?);
        match version {
            Version::V10 => f.table_id = 0,
            Version::V11 => (f.matching, f.options) = decode_match_options(&mut r)?,
            _ => {
                f.hard_timeout = hard_timeout;
                (f.matching, f.options) = decode_match_options(&mut r)?;
            }
        }
        Ok(f)
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V15 {
            out.u8(self.table_id);
            out.u8(self.reason);
            out.u16(self.priority);
            out.u16(self.idle_timeout);
            out.u16(self.hard_timeout);
            out.u64(self.cookie);
            encode_match_options(version, &self.matching, &self.options, out);
            let oxs =
                Oxs { duration: self.duration, packets: self.packets, bytes: self.bytes, ..Oxs::default() };
            return encode_oxs(&oxs, out);
        }
        if version == Version::V10 {
            encode_match10(&self.matching, out);
        }
        out.u64(self.cookie);
        out.u16(self.priority);
        out.u8(self.wire_reason(version));
        out.u8(if version == Version::V10 { 0 } else { self.table_id });
        put_duration(self.duration, out);
        out.u16(self.idle_timeout);
        out.u16(if version >= Version::V12 { self.hard_timeout } else { 0 });
        out.u64(self.packets);
        out.u64(self.bytes);
        if version != Version::V10 {
            encode_match_options(version, &self.matching, &self.options, out);
        }
    }

    fn wire_reason(&self, version: Version) -> u8 {
        let highest = match version {
            Version::V10 => removed_reason::DELETE,
            Version::V11 | Version::V12 | Version::V13 => removed_reason::GROUP_DELETE,
            _ => removed_reason::EVICTION,
        };
        if self.reason > highest { removed_reason::DELETE } else { self.reason }
    }

    pub(crate) fn decode_nxt(mut r: Reader<'_>) -> Result<Self, ErrorCode> {
        let mut f = FlowRemoved { cookie: r.u64()?, priority: r.u16()?, ..FlowRemoved::default() };
        (f.reason, f.table_id) = (r.u8()?, r.u8()?.saturating_sub(1));
        f.duration = duration(&mut r)?;
        f.idle_timeout = r.u16()?;
        let match_len = usize::from(r.u16()?);
        (f.packets, f.bytes) = (r.u64()?, r.u64()?);
        (f.matching, f.options) = decode_with_options(r.take(match_len)?, None, true)?;
        Ok(f)
    }

    /// Nicira's form counts tables from 1, so that 0 can mean "unknown".
    pub(crate) fn encode_nxt(&self, out: &mut Vec<u8>) {
        out.u64(self.cookie);
        out.u16(self.priority);
        out.u8(self.wire_reason(Version::V10));
        out.u8(self.table_id.saturating_add(1));
        put_duration(self.duration, out);
        out.u16(self.idle_timeout);
        let at = out.len();
        out.u16(0);
        out.u64(self.packets);
        out.u64(self.bytes);
        let start = out.len();
        encode_tlvs(Dialect::Nxm, &self.matching, None, out);
        encode_options(Dialect::Nxm, &self.options, out);
        let match_len = out.len() - start;
        out.patch_u16(at, match_len);
        out.zeros(round8(match_len) - match_len);
    }
}
