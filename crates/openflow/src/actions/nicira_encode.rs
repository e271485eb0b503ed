//! Nicira's actions, written (`ovs-actions(7)`).

use weft_flow::{Action, Field, OfPort, Subfield};

use super::nicira::*;
use super::{OFPAT_VENDOR, Track, encode_actions, put};
use crate::Version;
use crate::bytes::Put;
use crate::error::NICIRA;
use crate::matches::{Dialect, write_header, write_tlv};

/// Appends a Nicira action, padded and with its length filled in.
fn nicira(out: &mut Vec<u8>, subtype: u16, body: impl FnOnce(&mut Vec<u8>)) {
    put(out, OFPAT_VENDOR, |out| {
        out.u32(NICIRA);
        out.u16(subtype);
        body(out);
    });
}

/// Appends those actions that are Nicira's in every version; the others belong to the version's own module.
pub(super) fn encode(track: &mut Track, action: &Action, out: &mut Vec<u8>) {
    match action {
        Action::Resubmit { port, table, ct: _ } => resubmit(*port, *table, out),
        Action::OutputReg { src, max_len } => output_reg(*src, *max_len, out),
        Action::OutputTrunc { port, max_len } => nicira(out, NXAST_OUTPUT_TRUNC, |out| {
            out.u16(port.to_u16().unwrap_or(0xffff));
            out.u32(*max_len);
        }),
        Action::Controller(to) => nicira(out, NXAST_CONTROLLER, |out| {
            out.u16(to.max_len);
            out.u16(to.id);
            out.u8(to.reason);
            out.u8(0);
        }),
        Action::Move { src, dst } => nicira(out, NXAST_REG_MOVE, |out| {
            out.u16(src.bits);
            out.u16(src.start);
            out.u16(dst.start);
            nxm_header(src.field, out);
            nxm_header(dst.field, out);
        }),
        Action::StackPush(what) => stack(NXAST_STACK_PUSH, *what, out),
        Action::StackPop(what) => stack(NXAST_STACK_POP, *what, out),
        Action::Clone(actions) => nicira(out, NXAST_CLONE, |out| {
            out.zeros(6);
            encode_actions(&mut track.clone(), actions, out);
        }),
        Action::Note(bytes) => nicira(out, NXAST_NOTE, |out| out.bytes(bytes)),
        Action::Exit => nicira(out, NXAST_EXIT, |out| out.zeros(6)),
        Action::DecTtl(_) => nicira(out, NXAST_DEC_TTL, |out| out.zeros(6)),
        Action::SetField { field, value, mask, .. } => {
            super::set::load(track.version, *field, *value, *mask, out)
        }
        _ => {}
    }
}

/// Appends the header that names a field, as actions do.
pub(super) fn nxm_header(field: Field, out: &mut Vec<u8>) {
    if let Some(point) = field.nxm() {
        write_header(point, field.bytes(), false, out);
    }
}

fn resubmit(port: Option<OfPort>, table: Option<u8>, out: &mut Vec<u8>) {
    let port = port.unwrap_or(OfPort::IN_PORT).to_u16().unwrap_or(0xffff);
    match table {
        None => nicira(out, NXAST_RESUBMIT, |out| {
            out.u16(port);
            out.zeros(4);
        }),
        Some(table) => nicira(out, NXAST_RESUBMIT_TABLE, |out| {
            out.u16(port);
            out.u8(table);
            out.zeros(3);
        }),
    }
}

fn start_and_bits(start: u32, bits: u32) -> u16 {
    (start << 6 | (bits - 1)) as u16
}

/// Whether the header that names a field takes 8 bytes.
pub(super) fn long_header(field: Field) -> bool {
    field.nxm().is_some_and(|point| point.class == 0xffff)
}

fn output_reg(src: Subfield, max_len: u16, out: &mut Vec<u8>) {
    let packed = start_and_bits(src.start.into(), src.bits.into());
    if long_header(src.field) {
        nicira(out, NXAST_OUTPUT_REG2, |out| {
            out.u16(packed);
            out.u16(max_len);
            nxm_header(src.field, out);
            out.zeros(2);
        });
    } else {
        nicira(out, NXAST_OUTPUT_REG, |out| {
            out.u16(packed);
            nxm_header(src.field, out);
            out.u16(max_len);
            out.zeros(6);
        });
    }
}

fn stack(subtype: u16, what: Subfield, out: &mut Vec<u8>) {
    nicira(out, subtype, |out| {
        out.u16(what.start);
        nxm_header(what.field, out);
        out.u16(what.bits);
        out.zeros(if long_header(what.field) { 2 } else { 6 });
    });
}

/// Appends the older of two actions if the identifier fits it.
pub(super) fn set_tunnel(id: u64, out: &mut Vec<u8>) {
    match u32::try_from(id) {
        Ok(id) => nicira(out, NXAST_SET_TUNNEL, |out| {
            out.u16(0);
            out.u32(id);
        }),
        Err(_) => nicira(out, NXAST_SET_TUNNEL64, |out| {
            out.zeros(6);
            out.u64(id);
        }),
    }
}

/// Appends `reg_load`: `bits` ≤ 64 bits from `start` on.
pub(super) fn reg_load(field: Field, start: u32, bits: u32, value: u64, out: &mut Vec<u8>) {
    nicira(out, NXAST_REG_LOAD, |out| {
        out.u16(start_and_bits(start, bits));
        nxm_header(field, out);
        out.u64(value);
    });
}

/// Appends `reg_load2`: any bits.
pub(super) fn reg_load2(dialect: Dialect, field: Field, value: u128, mask: Option<u128>, out: &mut Vec<u8>) {
    let point = match dialect {
        Dialect::Nxm => field.nxm(),
        Dialect::Oxm(version) => field.oxm(version.wire()),
    };
    if let Some(point) = point {
        nicira(out, NXAST_REG_LOAD2, |out| write_tlv(point, field.bytes(), value, mask, out));
    }
}

/// Appends the metadata instruction as OpenFlow 1.0 knows it.
pub(crate) fn write_metadata(value: u64, mask: u64, out: &mut Vec<u8>) {
    nicira(out, NXAST_WRITE_METADATA, |out| {
        out.zeros(6);
        out.u64(value);
        out.u64(mask);
    });
}

/// Appends the goto instruction as OpenFlow 1.0 knows it: a resubmission.
pub(crate) fn goto_table(table: u8, out: &mut Vec<u8>) {
    resubmit(None, Some(table), out);
}

/// The version's own copy-field exists from OpenFlow 1.5 on.
pub(super) fn has_copy_field(version: Version) -> bool {
    version >= Version::V15
}
