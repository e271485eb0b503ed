//! Which of the four ways to change a field does a version use?
//!
//! OpenFlow 1.0 and 1.1 have an action per field for some fields; 1.2 to 1.4 set whole fields (`set_field`); 1.5
//! sets any bits. Nicira's `reg_load` (a run of up to 64 bits) and `reg_load2` (any bits, and fields that an experimenter
//! numbers or that differ in length) serve where these do not.

use weft_flow::{Action, Field, OptionValue};

use super::table::{nxast, ofpat};
use super::{dialect, long_header, nxm_header, put, put_nicira, writable, zeros};
use crate::bytes::{Put, Reader};
use crate::matches::{Dialect, read_header, write_tlv, write_tlv_bytes};
use crate::{ErrorCode, Version};

/// Bytes of the longest tunnel option.
const OPTION_LEN: usize = 124;

/// Sets every bit of a field.
pub(super) fn whole(field: Field, value: u128) -> Action {
    Action::set(field, value, field.value_mask())
}

/// Reads a field with value and, where that is allowed, perhaps a mask.
fn read_entry(r: &mut Reader<'_>, may_mask: bool) -> Result<(Action, Option<u128>), ErrorCode> {
    let header = read_header(r).map_err(|_| ErrorCode::OFPBMC_BAD_LEN)?;
    let field = header.field().ok_or(ErrorCode::OFPBAC_BAD_SET_TYPE)?;
    let option = field.tun_metadata_index().is_some();
    let bytes = usize::from(field.bytes());
    let wanted = if header.has_mask { 2 * bytes } else { bytes };
    if !option && header.body != wanted {
        return Err(ErrorCode::OFPBAC_BAD_SET_LEN);
    }
    if header.has_mask && !may_mask {
        return Err(ErrorCode::OFPBAC_BAD_SET_MASK);
    }
    if option {
        return read_option(field, header.has_mask, header.body, r).map(|action| (action, None));
    }
    if r.len() < wanted {
        return Err(ErrorCode::OFPBMC_BAD_LEN);
    }
    let value = r.number(bytes)?;
    let full = field.value_mask();
    let mask = if header.has_mask { r.number(bytes)? } else { field_width(field) };
    if value & !mask != 0 {
        return Err(ErrorCode::OFPBMC_BAD_WILDCARDS);
    }
    if header.has_mask && (mask == 0 || mask & full != full) && !field.maskable() {
        return Err(ErrorCode::OFPBMC_BAD_MASK);
    }
    Ok((Action::set(field, value & mask & full, mask & full), Some(value)))
}

/// All bits that a field takes on the wire.
fn field_width(field: Field) -> u128 {
    if field.bytes() >= 16 { u128::MAX } else { (1 << (8 * u32::from(field.bytes()))) - 1 }
}

/// Reads value and mask of a tunnel option. Without a mask all of the option is set, what is missing in front being 0.
fn read_option(field: Field, has_mask: bool, body: usize, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let len = if has_mask { body / 2 } else { body };
    // Zeros in front are left out, of zero all of them.
    if len == 0 && has_mask || len > OPTION_LEN || has_mask && !body.is_multiple_of(2) || r.len() < body {
        return Err(ErrorCode::OFPBMC_BAD_LEN);
    }
    let mut value = r.take(len)?.to_vec();
    let mask = if has_mask {
        r.take(len)?.to_vec()
    } else {
        value.splice(0..0, std::iter::repeat_n(0, OPTION_LEN - len));
        vec![0xff; OPTION_LEN]
    };
    if value.iter().zip(&mask).any(|(value, mask)| value & !mask != 0) {
        return Err(ErrorCode::OFPBMC_BAD_WILDCARDS);
    }
    Ok(Action::SetOption(Box::new(OptionValue { field, value, mask })))
}

/// Reads `set_field`; a mask is allowed from OpenFlow 1.5 on.
pub(super) fn decode_set_field(r: &mut Reader<'_>, may_mask: bool) -> Result<Action, ErrorCode> {
    let (action, wire) = read_entry(r, may_mask).map_err(|error| match error {
        ErrorCode::OFPBMC_BAD_MASK => ErrorCode::OFPBAC_BAD_SET_MASK,
        other => other,
    })?;
    zeros(r, ErrorCode::OFPBAC_BAD_SET_ARGUMENT)?;
    let Action::SetField { field, value, mask, .. } = action else { return Ok(action) };
    let present = 0x1000;
    let no_tag = field == Field::VlanVid && (mask & present == 0 || value & present == 0);
    let invalid = wire.is_some_and(|wire| !valid(field, wire));
    if field == Field::InPort || no_tag || invalid || !field.writable() {
        return Err(ErrorCode::OFPBAC_BAD_SET_ARGUMENT);
    }
    Ok(action)
}

/// Whether a field can have the value that is on the wire.
fn valid(field: Field, wire: u128) -> bool {
    match field {
        Field::ArpOp => wire <= 0xff,
        Field::InPort16 => true,
        _ => wire & !field.value_mask() == 0,
    }
}

/// Reads Nicira's `reg_load2`.
pub(super) fn decode_load2(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (action, _) = read_entry(r, true)?;
    zeros(r, ErrorCode::OFPBAC_BAD_SET_ARGUMENT)?;
    if let Action::SetField { field, .. } = action {
        writable(field)?;
    }
    Ok(action)
}

/// A run of bits in 16 bits: its start in the high 10, its length less one in the low 6.
pub(super) fn start_and_bits(packed: u16) -> (u16, u16) {
    (packed >> 6, (packed & 0x3f) + 1)
}

/// The same, to write.
pub(super) fn packed(start: u16, bits: u16) -> u16 {
    start << 6 | (bits.wrapping_sub(1) & 0x3f)
}

/// Reads Nicira's `reg_load`.
pub(super) fn decode_load(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (start, bits) = start_and_bits(r.u16()?);
    let dst = super::regs::read_subfield(r, start, bits)?;
    writable(dst.field)?;
    let value = u128::from(r.u64()?);
    let run = (1u128 << bits) - 1;
    if value & !run != 0 {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    if dst.field.tun_metadata_index().is_some() {
        return Ok(load_option(dst.field, usize::from(start), bits, value));
    }
    // A field may be wider on the wire than what it may say.
    let mask = run << start & dst.field.value_mask();
    Ok(Action::load(dst.field, value << start & mask, mask))
}

/// Bits of a tunnel option, in as many bytes as they need.
fn load_option(field: Field, start: usize, bits: u16, value: u128) -> Action {
    let len = (start + usize::from(bits)).div_ceil(8);
    let mut option = OptionValue { field, value: vec![0; len], mask: vec![0; len] };
    for bit in 0..usize::from(bits) {
        let at = start + bit;
        let (byte, shift) = (len - 1 - at / 8, at % 8);
        option.mask[byte] |= 1 << shift;
        option.value[byte] |= ((value >> bit & 1) as u8) << shift;
    }
    Action::SetOption(Box::new(option))
}

/// Appends the way that OpenFlow 1.2 and later have.
pub(super) fn encode(version: Version, field: Field, value: u128, mask: u128, out: &mut Vec<u8>) {
    let exact = mask & field.value_mask() == field.value_mask();
    match field.oxm(version.wire()) {
        Some(point) if exact || version >= Version::V15 => put(out, ofpat::SET_FIELD, |out| {
            write_tlv(point, field.bytes(), value, (!exact).then_some(mask), out);
        }),
        _ => load(field, value, mask, out),
    }
}

/// Appends Nicira's `reg_load`, one for each run of up to 64 bits, or `reg_load2` if that cannot name the field.
pub(super) fn load(field: Field, value: u128, mask: u128, out: &mut Vec<u8>) {
    let exact = mask & field.value_mask() == field.value_mask();
    if long_header(field) || mask == 0 {
        if let Some(point) = field.nxm() {
            put_nicira(out, nxast::REG_LOAD2, |out| {
                write_tlv(point, field.bytes(), value, (!exact).then_some(mask), out);
            });
        }
        return;
    }
    // Setting all that the field may say sets all of it, also where it is wider on the wire.
    let width = u32::from(field.bits());
    let whole = if width >= 128 { u128::MAX } else { (1 << width) - 1 };
    let mut rest = if exact && mask & 1 != 0 { mask | whole } else { mask };
    while rest != 0 {
        let start = rest.trailing_zeros();
        let bits = (rest >> start).trailing_ones().min(64);
        let run = (1u128 << bits) - 1;
        put_nicira(out, nxast::REG_LOAD, |out| {
            out.u16(packed(start as u16, bits as u16));
            nxm_header(field, out);
            out.u64((value >> start & run) as u64);
        });
        rest &= !(run << start);
    }
}

/// Appends what sets a tunnel option: `set_field` where it can, otherwise `reg_load2`.
pub(super) fn option(version: Version, option: &OptionValue, out: &mut Vec<u8>) {
    let whole = option.mask.len() == OPTION_LEN && option.mask.iter().all(|b| *b == 0xff);
    // Leading bytes that say nothing are left out.
    let silent = if whole { &option.value } else { &option.mask };
    let first = silent.iter().position(|b| *b != 0).unwrap_or(silent.len().saturating_sub(1));
    let (value, mask) = (option.value.get(first..), option.mask.get(first..));
    let own = version >= Version::V15 || version >= Version::V12 && whole;
    let point = match dialect(version) {
        Dialect::Oxm(version) if own => option.field.oxm(version.wire()),
        _ => option.field.nxm(),
    };
    let (Some(point), Some(value), Some(mask)) = (point, value, mask) else { return };
    let mask = if whole { None } else { Some(mask) };
    if own {
        put(out, ofpat::SET_FIELD, |out| write_tlv_bytes(point, value, mask, out));
    } else {
        put_nicira(out, nxast::REG_LOAD2, |out| write_tlv_bytes(point, value, mask, out));
    }
}
