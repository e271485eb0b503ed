//! `ct(...)` and, inside it, `nat(...)`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_flow::{Action, Ct, CtZone, Nat, NatSide};

use super::regs::read_subfield;
use super::set::{packed, start_and_bits};
use super::table::nxast;
use super::{Place, Refusal, Scope, Track, encode_actions, nested, nxm_header, put_nicira};
use crate::ErrorCode;
use crate::bytes::{Put, Reader};

const NX_CT_F_COMMIT: u16 = 1;
const NX_CT_F_FORCE: u16 = 2;
/// Table that stands for none.
const NX_CT_RECIRC_NONE: u8 = 0xff;

const NX_NAT_F_SRC: u16 = 1;
const NX_NAT_F_DST: u16 = 2;
const NX_NAT_F_PERSISTENT: u16 = 4;
const NX_NAT_F_PROTO_HASH: u16 = 8;
const NX_NAT_F_PROTO_RANDOM: u16 = 16;

const NX_NAT_RANGE_IPV4_MIN: u16 = 1;
const NX_NAT_RANGE_IPV4_MAX: u16 = 2;
const NX_NAT_RANGE_IPV6_MIN: u16 = 4;
const NX_NAT_RANGE_IPV6_MAX: u16 = 8;
const NX_NAT_RANGE_PROTO_MIN: u16 = 16;
const NX_NAT_RANGE_PROTO_MAX: u16 = 32;

/// Reads the body of `ct` and the actions inside it.
pub(super) fn decode_ct(scope: &mut Scope, r: &mut Reader<'_>) -> Result<Action, Refusal> {
    let flags = r.u16()?;
    let (commit, force) = (flags & NX_CT_F_COMMIT != 0, flags & NX_CT_F_FORCE != 0);
    if force && !commit {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT.into());
    }
    let mut source = r.sub(4)?;
    let zone = r.u16()?;
    let zone = if source.rest() == [0; 4] {
        CtZone::Number(zone)
    } else {
        let (start, bits) = start_and_bits(zone);
        let field = read_subfield(&mut source, start, bits)?;
        if bits != 16 {
            return Err(ErrorCode::OFPBAC_BAD_SET_LEN.into());
        }
        CtZone::Field(field)
    };
    let table = Some(r.u8()?).filter(|t| *t != NX_CT_RECIRC_NONE);
    r.skip(3)?;
    let alg = r.u16()?;
    let inner = nested(scope, Place::Ct, r.rest())?;
    // Only what a committed connection already has can be applied without committing.
    let plain = inner.nat.is_none_or(|nat| nat == Nat::default()) && inner.actions.is_empty();
    if !commit && !plain {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT.into());
    }
    Ok(Action::Ct(Box::new(Ct { commit, force, zone, table, alg, nat: inner.nat, exec: inner.actions })))
}

/// Appends `ct`, `nat` being the first action in it.
pub(super) fn ct(track: &Track, ct: &Ct, out: &mut Vec<u8>) {
    put_nicira(out, nxast::CT, |out| {
        let force = if ct.force { NX_CT_F_FORCE } else { 0 };
        out.u16(if ct.commit { NX_CT_F_COMMIT | force } else { 0 });
        match ct.zone {
            CtZone::Number(zone) => {
                out.u32(0);
                out.u16(zone);
            }
            CtZone::Field(field) => {
                nxm_header(field.field, out);
                out.u16(packed(field.start, field.bits));
            }
        }
        out.u8(ct.table.unwrap_or(NX_CT_RECIRC_NONE));
        out.zeros(3);
        out.u16(ct.alg);
        if let Some(n) = &ct.nat {
            nat(n, out);
        }
        encode_actions(&mut track.clone(), &ct.exec, out);
    });
}

/// Reads the body of `nat`.
pub(super) fn decode_nat(r: &mut Reader<'_>) -> Result<Nat, ErrorCode> {
    r.skip(2)?;
    let (flags, present) = (r.u16()?, r.u16()?);
    let bad = ErrorCode::OFPBAC_BAD_ARGUMENT;
    let both = |a: u16, b: u16| flags & a != 0 && flags & b != 0;
    if flags > 0x1f || both(NX_NAT_F_SRC, NX_NAT_F_DST) || both(NX_NAT_F_PROTO_HASH, NX_NAT_F_PROTO_RANDOM) {
        return Err(bad);
    }
    let side = match flags & (NX_NAT_F_SRC | NX_NAT_F_DST) {
        NX_NAT_F_SRC => Some(NatSide::Src),
        NX_NAT_F_DST => Some(NatSide::Dst),
        _ => None,
    };
    let addrs = decode_addrs(present, r)?;
    let has = |bit: u16| present & bit != 0;
    let ports = match (has(NX_NAT_RANGE_PROTO_MIN), has(NX_NAT_RANGE_PROTO_MAX)) {
        (false, false) => None,
        (false, true) => return Err(bad),
        (true, max) => {
            let first = r.u16().map_err(|_| bad)?;
            let last = if max { r.u16().map_err(|_| bad)? } else { first };
            if first == 0 || last < first || addrs.is_none() {
                return Err(bad);
            }
            Some((first, last))
        }
    };
    Ok(Nat {
        side,
        addrs,
        ports,
        persistent: flags & NX_NAT_F_PERSISTENT != 0,
        hash: flags & NX_NAT_F_PROTO_HASH != 0,
        random: flags & NX_NAT_F_PROTO_RANDOM != 0,
    })
}

fn decode_addrs(present: u16, r: &mut Reader<'_>) -> Result<Option<(IpAddr, IpAddr)>, ErrorCode> {
    let bad = ErrorCode::OFPBAC_BAD_ARGUMENT;
    let has = |bits: u16| present & bits != 0;
    let v4 = has(NX_NAT_RANGE_IPV4_MIN | NX_NAT_RANGE_IPV4_MAX);
    let v6 = has(NX_NAT_RANGE_IPV6_MIN | NX_NAT_RANGE_IPV6_MAX);
    if !v4 && !v6 {
        return Ok(None);
    }
    let (min, max) = if v4 {
        (NX_NAT_RANGE_IPV4_MIN, NX_NAT_RANGE_IPV4_MAX)
    } else {
        (NX_NAT_RANGE_IPV6_MIN, NX_NAT_RANGE_IPV6_MAX)
    };
    if v4 && v6 || !has(min) {
        return Err(bad);
    }
    let address = |r: &mut Reader<'_>| -> Result<IpAddr, ErrorCode> {
        if v4 {
            r.u32().map(|a| Ipv4Addr::from(a).into()).map_err(|_| bad)
        } else {
            r.array::<16>().map(|a| Ipv6Addr::from(a).into()).map_err(|_| bad)
        }
    };
    let first = address(r)?;
    let last = if has(max) { address(r)? } else { first };
    if first.is_unspecified() || last < first { Err(bad) } else { Ok(Some((first, last))) }
}

/// Appends `nat`. The end of a range is left out where it is its start.
fn nat(nat: &Nat, out: &mut Vec<u8>) {
    put_nicira(out, nxast::NAT, |out| {
        out.zeros(2);
        let mut flags = match nat.side {
            Some(NatSide::Src) => NX_NAT_F_SRC,
            Some(NatSide::Dst) => NX_NAT_F_DST,
            None => 0,
        };
        for (on, flag) in [
            (nat.persistent, NX_NAT_F_PERSISTENT),
            (nat.hash, NX_NAT_F_PROTO_HASH),
            (nat.random, NX_NAT_F_PROTO_RANDOM),
        ] {
            flags |= if on { flag } else { 0 };
        }
        out.u16(flags);
        let at = out.len();
        out.u16(0);
        let present = encode_ranges(nat, out);
        out.patch_u16(at, present.into());
    });
}

/// Appends the ranges and says which are there.
fn encode_ranges(nat: &Nat, out: &mut Vec<u8>) -> u16 {
    let mut present = 0;
    if let Some((first, last)) = nat.addrs {
        let both = first != last;
        for address in [first].into_iter().chain(both.then_some(last)) {
            match address {
                IpAddr::V4(a) => out.bytes(&a.octets()),
                IpAddr::V6(a) => out.bytes(&a.octets()),
            }
        }
        present |= match (first.is_ipv4(), both) {
            (true, false) => NX_NAT_RANGE_IPV4_MIN,
            (true, true) => NX_NAT_RANGE_IPV4_MIN | NX_NAT_RANGE_IPV4_MAX,
            (false, false) => NX_NAT_RANGE_IPV6_MIN,
            (false, true) => NX_NAT_RANGE_IPV6_MIN | NX_NAT_RANGE_IPV6_MAX,
        };
    }
    // Ports go with addresses only.
    if let Some((first, last)) = nat.ports.filter(|_| nat.addrs.is_some()) {
        out.u16(first);
        present |= NX_NAT_RANGE_PROTO_MIN;
        if first != last {
            out.u16(last);
            present |= NX_NAT_RANGE_PROTO_MAX;
        }
    }
    present
}
