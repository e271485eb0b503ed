//! Actions between fields: move, the walk's stack, the length of the packet, tunnel options removed.

use weft_flow::{Action, Field, Subfield};

use super::table::{nxast, ofpat};
use super::{nxm_header, put, put_nicira, subfield, writable, zeros};
use crate::bytes::{Put, Reader};
use crate::matches::{read_header, write_header};
use crate::{ErrorCode, Version};

/// Reads a header of 4 or 8 bytes that names a field.
pub(super) fn pull_field(r: &mut Reader<'_>) -> Result<Field, ErrorCode> {
    let header = read_header(r).map_err(|_| ErrorCode::OFPBMC_BAD_LEN)?;
    let field = header.field().ok_or(ErrorCode::OFPBMC_BAD_FIELD)?;
    let bytes = usize::from(field.bytes());
    // How long a tunnel option is depends on the switch.
    let fits = field.tun_metadata_index().is_some()
        || header.body == if header.has_mask { 2 * bytes } else { bytes };
    if !fits {
        return Err(ErrorCode::OFPBMC_BAD_FIELD);
    }
    if header.has_mask {
        return Err(ErrorCode::OFPBMC_BAD_MASK);
    }
    Ok(field)
}

/// Reads the 4 bytes that name a field in the older actions.
pub(super) fn read_field(r: &mut Reader<'_>) -> Result<Field, ErrorCode> {
    let mut four = r.sub(4)?;
    pull_field(&mut four).map_err(|_| ErrorCode::OFPBAC_BAD_SET_TYPE)
}

/// Reads the 4 bytes that name a field of which these bits are meant.
pub(super) fn read_subfield(r: &mut Reader<'_>, start: u16, bits: u16) -> Result<Subfield, ErrorCode> {
    subfield(read_field(r)?, start, bits)
}

/// The bits of `field`, if actions may change it.
pub(super) fn destination(field: Field, start: u16, bits: u16) -> Result<Subfield, ErrorCode> {
    let dst = subfield(field, start, bits)?;
    writable(field)?;
    Ok(dst)
}

fn read_move(r: &mut Reader<'_>, pad: usize) -> Result<Action, ErrorCode> {
    let (bits, src_start, dst_start) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(pad)?;
    let (src, dst) = (pull_field(r)?, pull_field(r)?);
    zeros(r, ErrorCode::NXBRC_MUST_BE_ZERO)?;
    Ok(Action::Move { src: subfield(src, src_start, bits)?, dst: destination(dst, dst_start, bits)? })
}

/// Reads the body of copy-field: number of bits, two offsets, padding, two fields.
pub(super) fn decode_copy_field(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    read_move(r, 2)
}

/// Reads the body of Nicira's move.
pub(super) fn decode_move(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    read_move(r, 0)
}

/// Appends Nicira's move.
pub(super) fn reg_move(src: Subfield, dst: Subfield, out: &mut Vec<u8>) {
    put_nicira(out, nxast::REG_MOVE, |out| {
        out.u16(src.bits);
        out.u16(src.start);
        out.u16(dst.start);
        nxm_header(src.field, out);
        nxm_header(dst.field, out);
    });
}

/// Appends OpenFlow 1.5's copy-field.
pub(super) fn copy_field(version: Version, src: Subfield, dst: Subfield, out: &mut Vec<u8>) {
    put(out, ofpat::COPY_FIELD, |out| {
        out.u16(src.bits);
        out.u16(src.start);
        out.u16(dst.start);
        out.zeros(2);
        for field in [src.field, dst.field] {
            if let Some(point) = field.oxm(version.wire()) {
                write_header(point, field.bytes(), false, out);
            }
        }
    });
}

/// Reads the body of a push or pop of the walk's stack.
pub(super) fn decode_stack(number: u16, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let start = r.u16()?;
    let field = pull_field(r)?;
    let bits = r.u16()?;
    zeros(r, ErrorCode::NXBRC_MUST_BE_ZERO)?;
    match number {
        nxast::STACK_PUSH => Ok(Action::StackPush(subfield(field, start, bits)?)),
        _ => Ok(Action::StackPop(destination(field, start, bits)?)),
    }
}

/// Appends a push or pop of the walk's stack, 24 bytes.
pub(super) fn stack(number: u16, what: Subfield, out: &mut Vec<u8>) {
    put_nicira(out, number, |out| {
        out.u16(what.start);
        let start = out.len();
        nxm_header(what.field, out);
        out.u16(what.bits);
        out.zeros((start + 12).saturating_sub(out.len()));
    });
}

/// Reads the body of `check_pkt_larger`.
pub(super) fn decode_check_len(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (len, start) = (r.u16()?, r.u16()?);
    let field = pull_field(r)?;
    zeros(r, ErrorCode::NXBRC_MUST_BE_ZERO)?;
    Ok(Action::CheckPktLarger { len, dst: destination(field, start, 1)? })
}

/// Appends `check_pkt_larger`, 24 bytes.
pub(super) fn check_len(len: u16, dst: Subfield, out: &mut Vec<u8>) {
    put_nicira(out, nxast::CHECK_PKT_LARGER, |out| {
        out.u16(len);
        out.u16(dst.start);
        let start = out.len();
        nxm_header(dst.field, out);
        out.zeros((start + 10).saturating_sub(out.len()));
    });
}

/// Reads the body of `delete_field`.
pub(super) fn decode_delete(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    Ok(Action::DeleteField(pull_field(r)?))
}

/// Appends `delete_field`, 24 bytes.
pub(super) fn delete(field: Field, out: &mut Vec<u8>) {
    put_nicira(out, nxast::DELETE_FIELD, |out| {
        let start = out.len();
        nxm_header(field, out);
        out.zeros((start + 14).saturating_sub(out.len()));
    });
}
