//! How does each version write what a rule matches?
//!
//! OpenFlow 1.0 has a fixed structure of twelve fields ([`of10`]), 1.1 one with masks ([`of11`]), later versions a
//! list of type-length-value fields, OXM, of which the Nicira extension NXM for 1.0 is the ancestor ([`oxm`]).

mod of10;
mod of11;
mod options;
mod oxm;
mod tlv;

pub(crate) use of10::{decode_match10, encode_match10, fits_match10};
pub(crate) use options::encode_options;
pub use options::{match_with_options, options_of};
use oxm::decode_into;
pub(crate) use oxm::{Dialect, decode_tlvs, decode_with_options, encode_tlvs};
pub(crate) use tlv::{TlvHeader, read_header, write_header, write_tlv, write_tlv_bytes};

use weft_flow::{Match, OptionValue};

use crate::bytes::{Put, Reader, round8};
use crate::{ErrorCode, Version};

/// `OFPMT_STANDARD`, the fixed structure of OpenFlow 1.1.
const OFPMT_STANDARD: u16 = 0;
/// `OFPMT_OXM`.
const OFPMT_OXM: u16 = 1;

/// Reads an `ofp_match` of OpenFlow 1.1 or later and the padding after it.
pub(crate) fn decode_match(version: Version, r: &mut Reader<'_>) -> Result<Match, ErrorCode> {
    let (m, options) = decode_match_options(version, r)?;
    if options.is_empty() { Ok(m) } else { Err(ErrorCode::NXFMFC_INVALID_TLV_FIELD) }
}

/// As [`decode_match`], with the tunnel options that are matched besides.
pub(crate) fn decode_match_options(
    version: Version,
    r: &mut Reader<'_>,
) -> Result<(Match, Vec<OptionValue>), ErrorCode> {
    let mut m = Match::any();
    let options = decode_match_into(version, r, &mut m)?;
    Ok((m, options))
}

/// As [`decode_match_options`], into `m`, which matches everything.
pub(crate) fn decode_match_into(
    version: Version,
    r: &mut Reader<'_>,
    m: &mut Match,
) -> Result<Vec<OptionValue>, ErrorCode> {
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
        OFPMT_OXM if version >= Version::V12 => {
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

/// Appends an `ofp_match` of OpenFlow 1.1 or later with its padding. What 1.1 cannot say is left out.
pub(crate) fn encode_match(version: Version, m: &Match, out: &mut Vec<u8>) {
    encode_match_options(version, m, &[], out);
}

/// As [`encode_match`], with tunnel options besides.
pub(crate) fn encode_match_options(version: Version, m: &Match, options: &[OptionValue], out: &mut Vec<u8>) {
    if version == Version::V11 {
        return of11::encode_match11(m, out);
    }
    let start = out.len();
    out.u16(OFPMT_OXM);
    out.u16(0);
    encode_tlvs(Dialect::Oxm(version), m, None, out);
    encode_options(Dialect::Oxm(version), options, out);
    out.patch_u16(start + 2, out.len() - start);
    out.align8(start);
}
