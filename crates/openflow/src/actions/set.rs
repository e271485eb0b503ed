//! Which of the four ways to change a field does a version use?
//!
//! OpenFlow 1.0 and 1.1 have an action per field for some fields; 1.2 to 1.4 set whole fields (`set_field`); 1.5
//! sets any bits. Nicira's `reg_load` (a run of up to 64 bits) and `reg_load2` (any bits, and fields that an experimenter
//! numbers) serve where these do not.

use weft_flow::{Action, Field};

use super::{nicira_encode, put, writable};
use crate::bytes::Reader;
use crate::matches::{Dialect, read_header, write_tlv};
use crate::{ErrorCode, Version};

/// `OFPAT_SET_FIELD` from OpenFlow 1.2 on.
pub(super) const OFPAT12_SET_FIELD: u16 = 25;

/// Sets every bit of a field.
pub(super) fn whole(field: Field, value: u128) -> Action {
    Action::set(field, value, field.value_mask())
}

/// Reads a field with value and, if `may_mask`, mask; only zeros may follow.
pub(super) fn decode_tlv(r: &mut Reader<'_>, may_mask: bool) -> Result<Action, ErrorCode> {
    let header = read_header(r).map_err(|_| ErrorCode::OFPBAC_BAD_SET_LEN)?;
    let field = header.field().filter(|f| f.bytes() <= 16).ok_or(ErrorCode::OFPBAC_BAD_SET_TYPE)?;
    let bytes = usize::from(field.bytes());
    if header.has_mask && !may_mask {
        return Err(ErrorCode::OFPBAC_BAD_SET_MASK);
    }
    if header.body != if header.has_mask { 2 * bytes } else { bytes } || r.len() < header.body {
        return Err(ErrorCode::OFPBAC_BAD_SET_LEN);
    }
    let value = r.number(bytes)?;
    let full = field.value_mask();
    let mask = if header.has_mask { r.number(bytes)? } else { full };
    if mask & full != full && !field.maskable() {
        return Err(ErrorCode::OFPBAC_BAD_SET_MASK);
    }
    let no_tag = field == Field::VlanVid && mask & full == full && value & 0x1000 == 0;
    let refused = value & !(mask & full) != 0
        || no_tag
        || field == Field::InPort
        || field == Field::ArpOp && value > 0xff;
    if refused || r.rest().iter().any(|b| *b != 0) {
        return Err(ErrorCode::OFPBAC_BAD_SET_ARGUMENT);
    }
    Ok(Action::set(writable(field)?, value, mask & full))
}

/// Appends the way that OpenFlow 1.2 and later have.
pub(super) fn encode(version: Version, field: Field, value: u128, mask: u128, out: &mut Vec<u8>) {
    let exact = mask & field.value_mask() == field.value_mask();
    match field.oxm(version.wire()) {
        Some(point) if exact || version >= Version::V15 => put(out, OFPAT12_SET_FIELD, |out| {
            write_tlv(point, field.bytes(), value, (!exact).then_some(mask), out);
        }),
        _ => load(version, field, value, mask, out),
    }
}

/// Appends Nicira's `reg_load`, or `reg_load2` if one run of bits does not say it.
pub(super) fn load(version: Version, field: Field, value: u128, mask: u128, out: &mut Vec<u8>) {
    let start = mask.trailing_zeros();
    let run = mask.checked_shr(start).unwrap_or(0);
    let bits = run.trailing_ones();
    let exact = mask & field.value_mask() == field.value_mask();
    let dialect = if version >= Version::V12 { Dialect::Oxm(version) } else { Dialect::Nxm };
    if bits > 0 && bits <= 64 && run.count_ones() == bits && !nicira_encode::long_header(field) {
        // Setting all that the field may say sets all of it, also where it is wider on the wire.
        let bits = if exact && start == 0 { bits.max(u32::from(field.bits()).min(64)) } else { bits };
        nicira_encode::reg_load(field, start, bits, (value >> start) as u64, out);
    } else {
        nicira_encode::reg_load2(dialect, field, value, (!exact).then_some(mask), out);
    }
}
