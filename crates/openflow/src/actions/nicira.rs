//! Nicira's actions, read (`ovs-actions(7)`).

use weft_flow::{Action, Field, OfPort};

use super::{Item, MAX_DEPTH, Scope, check_port, decode_list, read_field, set, subfield, writable};
use crate::ErrorCode;
use crate::bytes::{Reader, round8};

pub(super) const NXAST_RESUBMIT: u16 = 1;
pub(super) const NXAST_SET_TUNNEL: u16 = 2;
pub(super) const NXAST_REG_MOVE: u16 = 6;
pub(super) const NXAST_REG_LOAD: u16 = 7;
pub(super) const NXAST_NOTE: u16 = 8;
pub(super) const NXAST_SET_TUNNEL64: u16 = 9;
pub(super) const NXAST_RESUBMIT_TABLE: u16 = 14;
pub(super) const NXAST_OUTPUT_REG: u16 = 15;
pub(super) const NXAST_EXIT: u16 = 17;
pub(super) const NXAST_DEC_TTL: u16 = 18;
pub(super) const NXAST_CONTROLLER: u16 = 20;
pub(super) const NXAST_DEC_TTL_CNT_IDS: u16 = 21;
pub(super) const NXAST_WRITE_METADATA: u16 = 22;
pub(super) const NXAST_STACK_PUSH: u16 = 27;
pub(super) const NXAST_STACK_POP: u16 = 28;
pub(super) const NXAST_OUTPUT_REG2: u16 = 32;
pub(super) const NXAST_REG_LOAD2: u16 = 33;
pub(super) const NXAST_CONTROLLER2: u16 = 37;
pub(super) const NXAST_OUTPUT_TRUNC: u16 = 39;
pub(super) const NXAST_CLONE: u16 = 42;

/// Fewest bytes that a truncated output leaves: an Ethernet header.
const MIN_TRUNC: u32 = 14;

/// Reads the body after vendor: subtype and what follows.
pub(super) fn decode(scope: &mut Scope, r: &mut Reader<'_>) -> Result<Item, ErrorCode> {
    let subtype = r.u16()?;
    let action = match subtype {
        NXAST_RESUBMIT => Action::Resubmit { port: resubmit_port(r.u16()?), table: None, ct: false },
        NXAST_RESUBMIT_TABLE => {
            let port = resubmit_port(r.u16()?);
            let table = r.u8()?;
            must_be_zero(r)?;
            Action::Resubmit { port, table: (table != 0xff).then_some(table), ct: false }
        }
        NXAST_SET_TUNNEL => {
            r.skip(2)?;
            set::whole(Field::TunId, r.number(4)?)
        }
        NXAST_SET_TUNNEL64 => {
            r.skip(6)?;
            set::whole(Field::TunId, r.number(8)?)
        }
        NXAST_REG_MOVE => reg_move(r)?,
        NXAST_REG_LOAD => reg_load(r)?,
        NXAST_REG_LOAD2 => set::decode_tlv(r, true)?,
        NXAST_NOTE => Action::Note(r.rest().to_vec()),
        NXAST_OUTPUT_REG | NXAST_OUTPUT_REG2 => output_reg(subtype, r)?,
        NXAST_OUTPUT_TRUNC => {
            let port = check_port(OfPort::from_u16(r.u16()?))?;
            let max_len = r.u32()?;
            let refused = [OfPort::TABLE, OfPort::NORMAL, OfPort::FLOOD, OfPort::ALL].contains(&port);
            if max_len < MIN_TRUNC || refused {
                return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
            }
            Action::OutputTrunc { port, max_len }
        }
        NXAST_EXIT => Action::Exit,
        NXAST_DEC_TTL => Action::DecTtl(Vec::new()),
        NXAST_DEC_TTL_CNT_IDS => dec_ttl_ids(r)?,
        NXAST_CONTROLLER => {
            let (max_len, id, reason) = (r.u16()?, r.u16()?, r.u8()?);
            must_be_zero(r)?;
            Action::controller(max_len, id, reason)
        }
        NXAST_CONTROLLER2 => controller2(r)?,
        NXAST_WRITE_METADATA => {
            r.skip(6)?;
            return Ok(Item::Metadata(r.u64()?, r.u64()?));
        }
        NXAST_STACK_PUSH | NXAST_STACK_POP => stack(subtype, r)?,
        NXAST_CLONE => {
            r.skip(6)?;
            Action::Clone(nested(scope, r.rest())?)
        }
        _ => return Err(ErrorCode::OFPBAC_BAD_VENDOR_TYPE),
    };
    Ok(Item::Action(action))
}

fn resubmit_port(port: u16) -> Option<OfPort> {
    Some(OfPort::from_u16(port)).filter(|p| *p != OfPort::IN_PORT)
}

fn must_be_zero(r: &Reader<'_>) -> Result<(), ErrorCode> {
    if r.rest().iter().all(|b| *b == 0) { Ok(()) } else { Err(ErrorCode::OFPBAC_BAD_ARGUMENT) }
}

fn nested(scope: &mut Scope, bytes: &[u8]) -> Result<Vec<Action>, ErrorCode> {
    if scope.depth >= MAX_DEPTH {
        return Err(ErrorCode::OFPBAC_TOO_MANY);
    }
    scope.depth += 1;
    let list = decode_list(scope, bytes)?;
    scope.depth -= 1;
    if list.metadata.is_some() { Err(ErrorCode::OFPBIC_UNSUP_INST) } else { Ok(list.actions) }
}

fn reg_move(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (bits, src_start, dst_start) = (r.u16()?, r.u16()?, r.u16()?);
    let src = subfield(read_field(r)?, src_start, bits)?;
    let dst = subfield(writable(read_field(r)?)?, dst_start, bits)?;
    must_be_zero(r)?;
    Ok(Action::Move { src, dst })
}

/// A run of bits in 16 bits: its start in the high 10, its length less one in the low 6.
fn start_and_bits(packed: u16) -> (u16, u16) {
    (packed >> 6, (packed & 0x3f) + 1)
}

fn reg_load(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (start, bits) = start_and_bits(r.u16()?);
    let dst = subfield(writable(read_field(r)?)?, start, bits)?;
    let value = u128::from(r.u64()?);
    let run = (1u128 << bits) - 1;
    // A field may be wider on the wire than what it may say.
    let mask = run << start & dst.field.value_mask();
    if value & !run != 0 || value << start & !mask != 0 {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    must_be_zero(r)?;
    Ok(Action::load(dst.field, value << start, mask))
}

fn output_reg(subtype: u16, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (start, bits) = start_and_bits(r.u16()?);
    let (src, max_len) = if subtype == NXAST_OUTPUT_REG {
        let src = subfield(read_field(r)?, start, bits)?;
        (src, r.u16()?)
    } else {
        let max_len = r.u16()?;
        (subfield(read_field(r)?, start, bits)?, max_len)
    };
    must_be_zero(r)?;
    Ok(Action::OutputReg { src, max_len })
}

fn stack(subtype: u16, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let start = r.u16()?;
    let field = read_field(r)?;
    let bits = r.u16()?;
    let what = subfield(field, start, bits)?;
    must_be_zero(r)?;
    if subtype == NXAST_STACK_PUSH {
        return Ok(Action::StackPush(what));
    }
    writable(field)?;
    Ok(Action::StackPop(what))
}

/// `dec_ttl(id,…)`: only the default controller, 0, can be told of expired packets.
fn dec_ttl_ids(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let count = r.u16()?;
    r.skip(4)?;
    if r.len() < usize::from(count) * 2 {
        return Err(ErrorCode::OFPBAC_BAD_LEN);
    }
    for _ in 0..count {
        if r.u16()? != 0 {
            return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
        }
    }
    Ok(Action::DecTtl(Vec::new()))
}

const NXAC2PT_MAX_LEN: u16 = 0;
const NXAC2PT_CONTROLLER_ID: u16 = 1;
const NXAC2PT_REASON: u16 = 2;

/// `controller(…)` as properties. Those that carry data to hand back or pause the walk are not known.
fn controller2(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    r.skip(6)?;
    let (mut max_len, mut id, mut reason) = (u16::MAX, 0, 1);
    while !r.is_empty() {
        let (kind, length) = (r.u16()?, usize::from(r.u16()?));
        let body = length.checked_sub(4).ok_or(ErrorCode::OFPBPC_BAD_LEN)?;
        if r.len() < round8(length) - 4 {
            return Err(ErrorCode::OFPBPC_BAD_LEN);
        }
        let mut property = r.sub(round8(length) - 4)?.sub(body)?;
        let bad = |_| ErrorCode::OFPBPC_BAD_LEN;
        match kind {
            NXAC2PT_MAX_LEN => max_len = property.u16().map_err(bad)?,
            NXAC2PT_CONTROLLER_ID => id = property.u16().map_err(bad)?,
            NXAC2PT_REASON => reason = property.u8().map_err(bad)?,
            _ => return Err(ErrorCode::OFPBPC_BAD_TYPE),
        }
    }
    Ok(Action::controller(max_len, id, reason))
}
