//! How are tunnel options matched, whose places in a key only a switch's TLV table knows?
//!
//! A message holds them beside its match, as they are on the wire; a switch puts them into the match with its table and
//! takes them out again to tell of a rule.

use weft_flow::{Field, FlowMask, Match, OptionValue, TlvTable, TunMetadata};

use super::oxm::Dialect;
use super::{TlvHeader, write_tlv_bytes};
use crate::ErrorCode;
use crate::bytes::Reader;

/// Bytes of the longest option.
const OPTION_LEN: usize = 124;

/// Reads value and mask of an option.
pub(super) fn decode_option(
    field: Field,
    header: &TlvHeader,
    body: &mut Reader<'_>,
) -> Result<OptionValue, ErrorCode> {
    let len = if header.has_mask { header.body / 2 } else { header.body };
    // Zeros in front are left out, of zero all of them.
    if len == 0 && header.has_mask || len > OPTION_LEN || header.has_mask && !header.body.is_multiple_of(2) {
        return Err(ErrorCode::OFPBMC_BAD_FIELD);
    }
    let mut value = body.take(len)?.to_vec();
    let mask = if header.has_mask {
        body.take(len)?.to_vec()
    } else {
        // All of the option is matched; what is missing in front is zero.
        value.splice(0..0, std::iter::repeat_n(0, OPTION_LEN - len));
        vec![0xff; OPTION_LEN]
    };
    Ok(OptionValue { field, value, mask })
}

/// Appends options.
pub(crate) fn encode_options(dialect: Dialect, options: &[OptionValue], out: &mut Vec<u8>) {
    for option in options {
        let whole = option.mask.len() == OPTION_LEN && option.mask.iter().all(|b| *b == 0xff);
        let silent = if whole { &option.value } else { &option.mask };
        let first = silent.iter().position(|b| *b != 0).unwrap_or(silent.len().saturating_sub(1));
        let (value, mask) = (option.value.get(first..), option.mask.get(first..));
        let point = match dialect {
            Dialect::Nxm => option.field.nxm(),
            Dialect::Oxm(version) => option.field.oxm(version.wire()),
        };
        if let (Some(point), Some(value), Some(mask)) = (point, value, mask) {
            write_tlv_bytes(point, value, (!whole).then_some(mask), out);
        }
    }
}

/// A match with tunnel options besides.
///
/// # Errors
/// `NXFMFC_INVALID_TLV_FIELD`: the table maps no option to the field.
pub fn match_with_options(m: &Match, options: &[OptionValue], table: &TlvTable) -> Result<Match, ErrorCode> {
    if options.is_empty() {
        return Ok(*m);
    }
    let (mut key, mut mask) = (m.key, m.mask.0);
    for option in options {
        let bits = OptionValue { value: option.mask.clone(), ..option.clone() };
        let known = table.set_option(&mut key.tun_metadata, option)
            && table.set_option(&mut mask.tun_metadata, &bits);
        if !known {
            return Err(ErrorCode::NXFMFC_INVALID_TLV_FIELD);
        }
    }
    Ok(Match::new(&key, FlowMask(mask)))
}

/// The tunnel options of a match, to be told to a controller.
pub fn options_of(m: &Match, table: &TlvTable) -> Vec<OptionValue> {
    let (key, mask): (&TunMetadata, &TunMetadata) = (&m.key.tun_metadata, &m.mask.0.tun_metadata);
    if *mask == TunMetadata::default() {
        return Vec::new();
    }
    let option = |index: usize| {
        let (field, bits) = (Field::tun_metadata(index)?, table.get(index, mask)?);
        let value = table.get(index, key)?;
        if bits.iter().all(|b| *b == 0) {
            return None;
        }
        if !bits.iter().all(|b| *b == 0xff) {
            return Some(OptionValue { field, value, mask: bits });
        }
        let mut whole = vec![0; OPTION_LEN.saturating_sub(value.len())];
        whole.extend(value);
        Some(OptionValue { field, mask: vec![0xff; whole.len()], value: whole })
    };
    table.mappings().filter_map(|mapping| option(usize::from(mapping.index))).collect()
}
