//! `learn(...)`: an action that makes a rule.

use weft_flow::{Action, Learn, LearnDst, LearnSpec, LearnSrc, Subfield};

use super::regs::{pull_field, read_subfield};
use super::table::nxast;
use super::{nxm_header, put_nicira, writable, zeros};
use crate::ErrorCode;
use crate::bytes::{Put, Reader};

const NX_LEARN_F_SEND_FLOW_REM: u16 = 1;
const NX_LEARN_F_DELETE_LEARNED: u16 = 2;
const NX_LEARN_F_WRITE_RESULT: u16 = 4;

/// Header of one part: where from (bit 13), what for (bits 11 and 12), how many bits.
const SRC_IMMEDIATE: u16 = 1 << 13;
const DST_LOAD: u16 = 1 << 11;
const DST_OUTPUT: u16 = 2 << 11;
const DST_MASK: u16 = 3 << 11;
const BITS_MASK: u16 = 0x7ff;

/// Reads the body of `learn`; with `second`, of the form that has a limit.
pub(super) fn decode(second: bool, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (idle_timeout, hard_timeout, priority) = (r.u16()?, r.u16()?, r.u16()?);
    let (cookie, flags, table, pad) = (r.u64()?, r.u16()?, r.u8()?, r.u8()?);
    let fin_timeout = (r.u16()?, r.u16()?);
    let mut known = NX_LEARN_F_SEND_FLOW_REM | NX_LEARN_F_DELETE_LEARNED;
    let (mut limit, mut start) = (0, 0);
    if second {
        (limit, start) = (r.u32()?, r.u16()?);
        if r.u16()? != 0 {
            return Err(ErrorCode::NXBAC_MUST_BE_ZERO);
        }
        known |= NX_LEARN_F_WRITE_RESULT;
    }
    if pad != 0 || table == 0xff || flags & !known != 0 {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    let result = if flags & NX_LEARN_F_WRITE_RESULT != 0 {
        let field = writable(pull_field(r)?)?;
        Some(Subfield { field, start, bits: 1 }).filter(|s| s.start < field.bits())
    } else {
        None
    };
    // A bit that the field lacks, or one of no field.
    if result.is_none() && (start != 0 || flags & NX_LEARN_F_WRITE_RESULT != 0) {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    let specs = decode_specs(r)?;
    Ok(Action::Learn(Box::new(Learn {
        idle_timeout,
        hard_timeout,
        priority,
        table,
        cookie,
        fin_timeout,
        send_flow_rem: flags & NX_LEARN_F_SEND_FLOW_REM != 0,
        delete_learned: flags & NX_LEARN_F_DELETE_LEARNED != 0,
        limit,
        result,
        specs,
    })))
}

fn decode_specs(r: &mut Reader<'_>) -> Result<Vec<LearnSpec>, ErrorCode> {
    let mut out = Vec::new();
    while !r.is_empty() {
        let header = r.u16()?;
        if header == 0 {
            zeros(r, ErrorCode::OFPBAC_BAD_ARGUMENT)?;
            break;
        }
        let (bits, dst, immediate) = (header & BITS_MASK, header & DST_MASK, header & SRC_IMMEDIATE != 0);
        if dst == DST_MASK || dst == DST_OUTPUT && immediate {
            return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
        }
        let immediate_len = usize::from(bits).div_ceil(16) * 2;
        let src_len = if immediate { immediate_len } else { 6 };
        if r.len() < src_len + if dst == DST_OUTPUT { 0 } else { 6 } {
            return Err(ErrorCode::OFPBAC_BAD_LEN);
        }
        let src = if immediate {
            LearnSrc::Value(decode_value(r.take(immediate_len)?, bits))
        } else {
            LearnSrc::Field(decode_subfield(r, bits)?)
        };
        let dst = match dst {
            DST_OUTPUT => LearnDst::Output(bits),
            DST_LOAD => LearnDst::Load(decode_subfield(r, bits)?),
            _ => LearnDst::Match(decode_subfield(r, bits)?),
        };
        if let LearnDst::Load(dst) = dst {
            writable(dst.field)?;
        }
        out.push(LearnSpec { src, dst });
    }
    Ok(out)
}

/// A value in whole 16-bit words, of which the lowest `bits` count.
fn decode_value(bytes: &[u8], bits: u16) -> u128 {
    let low = &bytes[bytes.len().saturating_sub(16)..];
    let value = low.iter().fold(0u128, |v, b| v << 8 | u128::from(*b));
    if bits >= 128 { value } else { value & ((1 << bits) - 1) }
}

fn decode_subfield(r: &mut Reader<'_>, bits: u16) -> Result<Subfield, ErrorCode> {
    let mut field = r.sub(4)?;
    let start = r.u16()?;
    read_subfield(&mut field, start, bits)
}

/// Appends `learn`, in the older of its two forms if that can say it.
pub(super) fn encode(learn: &Learn, out: &mut Vec<u8>) {
    let second = learn.limit != 0 || learn.result.is_some();
    put_nicira(out, if second { nxast::LEARN2 } else { nxast::LEARN }, |out| {
        out.u16(learn.idle_timeout);
        out.u16(learn.hard_timeout);
        out.u16(learn.priority);
        out.u64(learn.cookie);
        let flag = |on: bool, bit: u16| if on { bit } else { 0 };
        out.u16(
            flag(learn.send_flow_rem, NX_LEARN_F_SEND_FLOW_REM)
                | flag(learn.delete_learned, NX_LEARN_F_DELETE_LEARNED)
                | flag(learn.result.is_some(), NX_LEARN_F_WRITE_RESULT),
        );
        out.u8(learn.table);
        out.u8(0);
        out.u16(learn.fin_timeout.0);
        out.u16(learn.fin_timeout.1);
        if second {
            out.u32(learn.limit);
            out.u16(learn.result.map_or(0, |result| result.start));
            out.u16(0);
            if let Some(result) = learn.result {
                nxm_header(result.field, out);
            }
        }
        for spec in &learn.specs {
            encode_spec(spec, out);
        }
    });
}

fn encode_spec(spec: &LearnSpec, out: &mut Vec<u8>) {
    let (kind, bits) = match spec.dst {
        LearnDst::Match(dst) => (0, dst.bits),
        LearnDst::Load(dst) => (DST_LOAD, dst.bits),
        LearnDst::Output(bits) => (DST_OUTPUT, bits),
    };
    let field = |what: Subfield, out: &mut Vec<u8>| {
        nxm_header(what.field, out);
        out.u16(what.start);
    };
    match spec.src {
        LearnSrc::Field(src) => {
            out.u16(kind | bits & BITS_MASK);
            field(src, out);
        }
        LearnSrc::Value(value) => {
            out.u16(SRC_IMMEDIATE | kind | bits & BITS_MASK);
            let len = usize::from(bits & BITS_MASK).div_ceil(16) * 2;
            out.zeros(len.saturating_sub(16));
            out.number(value, len);
        }
    }
    if let LearnDst::Match(dst) | LearnDst::Load(dst) = spec.dst {
        field(dst, out);
    }
}
