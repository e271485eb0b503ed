//! Actions that choose one of several links: `multipath`, `bundle`, `bundle_load`.

use weft_flow::{
    Action, Bundle, BundleAlgorithm, Field, HashFields, Multipath, MultipathAlgorithm, OfPort, Subfield,
};

use super::regs::{destination, read_field};
use super::set::{packed, start_and_bits};
use super::table::nxast;
use super::{nxm_header, port16, put_nicira};
use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// How many members a bundle may have (`BUNDLE_MAX_MEMBERS` of Open vSwitch).
const MAX_MEMBERS: usize = 2048;
/// What members of a bundle are: ports, by the header of `NXM_OF_IN_PORT`.
const MEMBER_TYPE: u32 = 2;

/// By `NX_HASH_FIELDS_*`.
const HASH_FIELDS: [HashFields; 7] = [
    HashFields::EthSrc,
    HashFields::SymmetricL4,
    HashFields::SymmetricL3L4,
    HashFields::SymmetricL3L4Udp,
    HashFields::NwSrc,
    HashFields::NwDst,
    HashFields::SymmetricL3,
];
/// By `NX_MP_ALG_*`.
const MULTIPATH: [MultipathAlgorithm; 4] = [
    MultipathAlgorithm::ModuloN,
    MultipathAlgorithm::HashThreshold,
    MultipathAlgorithm::Hrw,
    MultipathAlgorithm::IterHash,
];
/// By `NX_BD_ALG_*`.
const BUNDLE: [BundleAlgorithm; 2] = [BundleAlgorithm::ActiveBackup, BundleAlgorithm::Hrw];

fn named<T: Copy>(list: &[T], number: u16) -> Result<T, ErrorCode> {
    list.get(usize::from(number)).copied().ok_or(ErrorCode::OFPBAC_BAD_ARGUMENT)
}

fn number<T: PartialEq>(list: &[T], what: &T) -> u16 {
    list.iter().position(|x| x == what).unwrap_or(0) as u16
}

/// Reads the body of `multipath`.
pub(super) fn decode_multipath(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (fields, basis) = (r.u16()?, r.u16()?);
    r.skip(2)?;
    let (algorithm, max_link, arg) = (r.u16()?, r.u16()?, r.u32()?);
    r.skip(2)?;
    let (start, bits) = start_and_bits(r.u16()?);
    let field = read_field(r);
    let (fields, algorithm) = (named(&HASH_FIELDS, fields)?, named(&MULTIPATH, algorithm)?);
    // The number of every link must fit its place.
    if bits < 16 && u32::from(max_link) >> bits != 0 {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    let dst = destination(field?, start, bits)?;
    Ok(Action::Multipath(Box::new(Multipath { fields, basis, algorithm, max_link, arg, dst })))
}

/// Appends `multipath`.
pub(super) fn multipath(m: &Multipath, out: &mut Vec<u8>) {
    put_nicira(out, nxast::MULTIPATH, |out| {
        out.u16(number(&HASH_FIELDS, &m.fields));
        out.u16(m.basis);
        out.u16(0);
        out.u16(number(&MULTIPATH, &m.algorithm));
        out.u16(m.max_link);
        out.u32(m.arg);
        out.u16(0);
        out.u16(packed(m.dst.start, m.dst.bits));
        nxm_header(m.dst.field, out);
    });
}

/// Reads the body of `bundle`, or of `bundle_load` if `load`.
pub(super) fn decode_bundle(load: bool, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (algorithm, fields, basis) = (r.u16()?, r.u16()?, r.u16()?);
    let (kind, count, run, dst) = (r.u32()?, usize::from(r.u16()?), r.u16()?, r.sub(4)?);
    let reserved = r.u32()?;
    if r.len() < count * 2 {
        return Err(ErrorCode::OFPBAC_BAD_LEN);
    }
    let (algorithm, fields) = (named(&BUNDLE, algorithm)?, named(&HASH_FIELDS, fields)?);
    if count > MAX_MEMBERS || kind != MEMBER_TYPE || reserved != 0 {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    if !load && (run != 0 || dst.rest() != [0; 4]) {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    let dst = if load { Some(bundle_dst(run, dst)?) } else { None };
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push(member(OfPort::from_u16(r.u16()?))?);
    }
    Ok(Action::Bundle(Box::new(Bundle { fields, basis, algorithm, members, dst })))
}

fn bundle_dst(run: u16, mut r: Reader<'_>) -> Result<Subfield, ErrorCode> {
    let (start, bits) = start_and_bits(run);
    let field: Field = read_field(&mut r)?;
    if bits < 16 {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    destination(field, start, bits)
}

/// A port that a bundle may choose: not one that stands for several, but "none" (0xffff).
fn member(port: OfPort) -> Result<OfPort, ErrorCode> {
    let single = [OfPort::ANY, OfPort::LOCAL, OfPort::IN_PORT, OfPort::CONTROLLER];
    let refused = port.is_reserved() && !single.contains(&port);
    if refused { Err(ErrorCode::OFPBAC_BAD_OUT_PORT) } else { Ok(port) }
}

/// Appends `bundle` or `bundle_load`.
pub(super) fn bundle(b: &Bundle, out: &mut Vec<u8>) {
    let kind = if b.dst.is_some() { nxast::BUNDLE_LOAD } else { nxast::BUNDLE };
    put_nicira(out, kind, |out| {
        out.u16(number(&BUNDLE, &b.algorithm));
        out.u16(number(&HASH_FIELDS, &b.fields));
        out.u16(b.basis);
        out.u32(MEMBER_TYPE);
        out.u16(b.members.len().min(MAX_MEMBERS) as u16);
        match b.dst {
            Some(dst) => {
                out.u16(packed(dst.start, dst.bits));
                nxm_header(dst.field, out);
            }
            None => out.zeros(6),
        }
        out.zeros(4);
        for port in b.members.iter().take(MAX_MEMBERS) {
            out.u16(port16(*port));
        }
    });
}
