//! How does each version write what a rule matches?
//!
//! OpenFlow 1.0 has a fixed structure of twelve fields ([`of10`]), 1.1 one with masks ([`of11`]), later versions a
//! list of type-length-value fields, OXM, of which the Nicira extension NXM for 1.0 is the ancestor ([`oxm`]).

mod alike;
mod of10;
mod of11;
mod options;
mod oxm;
mod tlv;

pub(crate) use alike::Alike;
pub(crate) use of10::{decode_match10, encode_match10, fits_match10};
pub(crate) use options::encode_options;
pub use options::{match_with_options, options_of};
pub(crate) use oxm::{Dialect, decode_into, decode_with_options, encode_tlvs};
pub(crate) use tlv::{TlvHeader, read_header, write_header, write_tlv, write_tlv_bytes};

use weft_flow::{Match, OptionValue};

use crate::bytes::{Put, Reader, round8};
use crate::{ErrorCode, Version};

/// `OFPMT_STANDARD`, the fixed structure of OpenFlow 1.1.
const OFPMT_STANDARD: u16 = 0;
/// `OFPMT_OXM`.
const OFPMT_OXM: u16 = 1;

/// Reads an `ofp_match` of OpenFlow 1.1 or later with its padding, and the tunnel options that are matched besides.
pub(crate) fn decode_match_options(r: &mut Reader<'_>) -> Result<(Match, Vec<OptionValue>), ErrorCode> {
    let mut m = Match::any();
    let options = decode_match_into(r, &mut m)?;
    Ok((m, options))
}

/// As [`decode_match_options`], into `m`, which matches everything.
pub(crate) fn decode_match_into(r: &mut Reader<'_>, m: &mut Match) -> Result<Vec<OptionValue>, ErrorCode> {
    let (kind, length) = (r.u16()?, usize::from(r.u16()?));
    let body = length.checked_sub(4).ok_or(ErrorCode::OFPBMC_BAD_LEN)?;
    match kind {
        OFPMT_STANDARD => {
            if length != of11::LENGTH || r.len() < body {
                return Err(ErrorCode::OFPBMC_BAD_LEN);
            }
            *m = of11::decode_match11(&mut r.sub(body)?)?;
            Ok(Vec::new())
        }
        OFPMT_OXM => {
            if r.len() < round8(length) - 4 {
                return Err(ErrorCode::OFPBMC_BAD_LEN);
            }
            let tlvs = r.take(body)?;
            r.skip(round8(length) - length)?;
            decode_into(tlvs, None, true, m)
        }
        _ => Err(ErrorCode::OFPBMC_BAD_TYPE),
    }
}

/// Appends an `ofp_match` of OpenFlow 1.1 or later with its padding.
pub(crate) fn encode_match(version: Version, m: &Match, out: &mut Vec<u8>) {
    encode_match_options(version, m, &[], out);
}

/// As [`encode_match`], with tunnel options besides.
pub(crate) fn encode_match_options(version: Version, m: &Match, options: &[OptionValue], out: &mut Vec<u8>) {
    let start = out.len();
    if version == Version::V11 && options.is_empty() {
        of11::encode_match11(m, out);
        // What the structure cannot say is said as in later versions, which Open vSwitch does too.
        let said = out
            .get(start + 4..)
            .map(|body| of11::decode_match11(&mut Reader::new(body, ErrorCode::OFPBMC_BAD_LEN)));
        if said.is_some_and(|said| said.as_ref() == Ok(m)) {
            return;
        }
        out.truncate(start);
    }
    encode_oxm(version, options, |out| encode_tlvs(Dialect::Oxm(version), m, None, out), out);
}

/// As [`encode_match_options`], of many matches. With `same`, the mask is that of the match before.
pub(crate) fn encode_match_alike(
    version: Version,
    m: &Match,
    options: &[OptionValue],
    (alike, same): (&mut Alike, bool),
    out: &mut Vec<u8>,
) {
    if version == Version::V11 {
        return encode_match_options(version, m, options, out);
    }
    encode_oxm(version, options, |out| alike.encode_tlvs(Dialect::Oxm(version), m, same, out), out);
}

fn encode_oxm(version: Version, options: &[OptionValue], tlvs: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let start = out.len();
    out.u16(OFPMT_OXM);
    out.u16(0);
    tlvs(out);
    encode_options(Dialect::Oxm(version), options, out);
    out.patch_u16(start + 2, out.len() - start);
    out.align8(start);
}
