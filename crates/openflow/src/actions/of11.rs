//! Actions as OpenFlow 1.1 and later number them (1.3 §7.2.4).

use weft_flow::{Action, Field, OfPort};
use weft_wire::EtherType;

use super::{Item, Scope, Track, check_port, nicira_encode, of10, put, read_field, set, subfield, writable};
use crate::bytes::{Put, Reader};
use crate::{ErrorCode, Version};

const OFPAT_OUTPUT: u16 = 0;
const OFPAT11_SET_VLAN_VID: u16 = 1;
const OFPAT11_SET_VLAN_PCP: u16 = 2;
const OFPAT11_SET_DL_SRC: u16 = 3;
const OFPAT11_SET_DL_DST: u16 = 4;
const OFPAT11_SET_NW_SRC: u16 = 5;
const OFPAT11_SET_NW_DST: u16 = 6;
const OFPAT11_SET_NW_TOS: u16 = 7;
const OFPAT11_SET_NW_ECN: u16 = 8;
const OFPAT11_SET_TP_SRC: u16 = 9;
const OFPAT11_SET_TP_DST: u16 = 10;
const OFPAT11_SET_MPLS_LABEL: u16 = 13;
const OFPAT11_SET_MPLS_TC: u16 = 14;
const OFPAT_SET_MPLS_TTL: u16 = 15;
const OFPAT_PUSH_VLAN: u16 = 17;
const OFPAT_POP_VLAN: u16 = 18;
const OFPAT_SET_QUEUE: u16 = 21;
const OFPAT_GROUP: u16 = 22;
const OFPAT_SET_NW_TTL: u16 = 23;
const OFPAT_DEC_NW_TTL: u16 = 24;
const OFPAT15_COPY_FIELD: u16 = 28;
const OFPAT15_METER: u16 = 29;

/// Bytes of the body of an action of fixed length; `None`: any length, or not an action of the version.
fn body_len(kind: u16) -> Option<usize> {
    match kind {
        OFPAT_OUTPUT | OFPAT11_SET_DL_SRC | OFPAT11_SET_DL_DST => Some(12),
        OFPAT11_SET_VLAN_VID..=OFPAT_DEC_NW_TTL | OFPAT15_METER => Some(4),
        _ => None,
    }
}

/// Reads the body of one action.
pub(super) fn decode(scope: &Scope, kind: u16, r: &mut Reader<'_>) -> Result<Item, ErrorCode> {
    let version = scope.version;
    if body_len(kind).is_some_and(|n| n != r.len()) {
        return Err(ErrorCode::OFPBAC_BAD_LEN);
    }
    let action = match kind {
        OFPAT_OUTPUT => Action::Output { port: check_port(OfPort(r.u32()?))?, max_len: r.u16()? },
        OFPAT11_SET_VLAN_VID..=OFPAT11_SET_TP_DST | OFPAT11_SET_MPLS_LABEL | OFPAT11_SET_MPLS_TC
            if version == Version::V11 =>
        {
            decode_field11(scope, kind, r)?
        }
        OFPAT_SET_MPLS_TTL => set::whole(Field::MplsTtl, r.number(1)?),
        OFPAT_PUSH_VLAN => {
            let kind = EtherType(r.u16()?);
            if !kind.is_vlan() {
                return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
            }
            Action::PushVlan(kind)
        }
        OFPAT_POP_VLAN => Action::PopVlan,
        OFPAT_SET_NW_TTL => set::whole(Field::NwTtl, r.number(1)?),
        OFPAT_DEC_NW_TTL => Action::DecTtl(Vec::new()),
        set::OFPAT12_SET_FIELD if version >= Version::V12 => set::decode_tlv(r, version >= Version::V15)?,
        OFPAT15_COPY_FIELD if version >= Version::V15 => decode_copy_field(r)?,
        // There are no queues, groups or meters that an action could name.
        OFPAT_SET_QUEUE if r.u32()? == 0 => return Ok(Item::Nothing),
        OFPAT_SET_QUEUE => return Err(ErrorCode::OFPBAC_BAD_QUEUE),
        OFPAT_GROUP => return Err(ErrorCode::OFPBAC_BAD_OUT_GROUP),
        OFPAT15_METER if version >= Version::V15 => return Err(ErrorCode::OFPBAC_BAD_METER),
        _ => return Err(ErrorCode::OFPBAC_BAD_TYPE),
    };
    Ok(Item::Action(action))
}

/// The actions of OpenFlow 1.1 that set one field.
fn decode_field11(scope: &Scope, kind: u16, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let limited = |value: u128, max: u128| {
        if value <= max { Ok(value) } else { Err(ErrorCode::OFPBAC_BAD_ARGUMENT) }
    };
    Ok(match kind {
        OFPAT11_SET_VLAN_VID => set::whole(Field::VlanVid, u128::from(of10::vid(r.u16()?)?) | 0x1000),
        OFPAT11_SET_VLAN_PCP => set::whole(Field::VlanPcp, of10::pcp(r.u8()?)?.into()),
        OFPAT11_SET_DL_SRC => set::whole(Field::EthSrc, r.number(6)?),
        OFPAT11_SET_DL_DST => set::whole(Field::EthDst, r.number(6)?),
        OFPAT11_SET_NW_SRC => set::whole(Field::IpSrc, r.number(4)?),
        OFPAT11_SET_NW_DST => set::whole(Field::IpDst, r.number(4)?),
        OFPAT11_SET_NW_TOS => set::whole(Field::NwTos, of10::tos(r.u8()?)?),
        OFPAT11_SET_NW_ECN => set::whole(Field::NwEcn, limited(r.number(1)?, 3)?),
        OFPAT11_SET_TP_SRC => set::whole(scope.ports.0, r.number(2)?),
        OFPAT11_SET_TP_DST => set::whole(scope.ports.1, r.number(2)?),
        OFPAT11_SET_MPLS_LABEL => set::whole(Field::MplsLabel, limited(r.number(4)?, 0xf_ffff)?),
        OFPAT11_SET_MPLS_TC => set::whole(Field::MplsTc, limited(r.number(1)?, 7)?),
        _ => return Err(ErrorCode::OFPBAC_BAD_TYPE),
    })
}

/// Reads the body of copy-field: number of bits, two offsets, padding, two fields.
pub(super) fn decode_copy_field(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (bits, src_start, dst_start) = (r.u16()?, r.u16()?, r.u16()?);
    r.skip(2)?;
    let src = subfield(read_field(r)?, src_start, bits)?;
    let dst = subfield(writable(read_field(r)?)?, dst_start, bits)?;
    if r.rest().iter().any(|b| *b != 0) {
        return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
    }
    Ok(Action::Move { src, dst })
}

/// Appends one action.
pub(super) fn encode(track: &mut Track, action: &Action, out: &mut Vec<u8>) {
    match *action {
        Action::Output { port, max_len } => put(out, OFPAT_OUTPUT, |out| {
            out.u32(port.0);
            out.u16(max_len);
            out.zeros(6);
        }),
        Action::PushVlan(tpid) => {
            track.has_vlan = true;
            put(out, OFPAT_PUSH_VLAN, |out| out.u16(tpid.0));
        }
        Action::PopVlan => {
            track.has_vlan = false;
            put(out, OFPAT_POP_VLAN, |out| out.zeros(4));
        }
        // What OpenFlow 1.0 does in one action takes two: push a tag if there is none, then set.
        Action::SetVlanVid(vid) => {
            push_if_none(track, out);
            encode_set(track.version, Field::VlanVid, u128::from(vid) | 0x1000, 0x1fff, out);
        }
        Action::SetVlanPcp(pcp) => {
            push_if_none(track, out);
            encode_set(track.version, Field::VlanPcp, pcp.into(), 7, out);
        }
        Action::DecTtl(_) => put(out, OFPAT_DEC_NW_TTL, |out| out.zeros(4)),
        Action::SetField { field, value, mask, .. } => encode_set(track.version, field, value, mask, out),
        Action::Move { src, dst } if nicira_encode::has_copy_field(track.version) => {
            put(out, OFPAT15_COPY_FIELD, |out| {
                out.u16(src.bits);
                out.u16(src.start);
                out.u16(dst.start);
                out.zeros(2);
                nicira_encode::nxm_header(src.field, out);
                nicira_encode::nxm_header(dst.field, out);
            });
        }
        _ => nicira_encode::encode(track, action, out),
    }
}

fn push_if_none(track: &mut Track, out: &mut Vec<u8>) {
    if !track.has_vlan {
        put(out, OFPAT_PUSH_VLAN, |out| out.u16(EtherType::VLAN.0));
        track.has_vlan = true;
    }
}

fn encode_set(version: Version, field: Field, value: u128, mask: u128, out: &mut Vec<u8>) {
    let exact = mask & field.value_mask() == field.value_mask();
    let one_byte = |kind, out: &mut Vec<u8>| put(out, kind, |out| out.u8(value as u8));
    match field {
        Field::NwTtl if exact => one_byte(OFPAT_SET_NW_TTL, out),
        Field::MplsTtl if exact => one_byte(OFPAT_SET_MPLS_TTL, out),
        _ if version >= Version::V12 => set::encode(version, field, value, mask, out),
        _ if exact && encode_field11(field, value, out) => {}
        _ => set::load(version, field, value, mask, out),
    }
}

/// Appends the action of OpenFlow 1.1 that sets this field, if there is one.
fn encode_field11(field: Field, value: u128, out: &mut Vec<u8>) -> bool {
    let kind = match field {
        Field::VlanVid => OFPAT11_SET_VLAN_VID,
        Field::VlanPcp => OFPAT11_SET_VLAN_PCP,
        Field::EthSrc => OFPAT11_SET_DL_SRC,
        Field::EthDst => OFPAT11_SET_DL_DST,
        Field::IpSrc => OFPAT11_SET_NW_SRC,
        Field::IpDst => OFPAT11_SET_NW_DST,
        Field::NwTos | Field::IpDscp => OFPAT11_SET_NW_TOS,
        Field::NwEcn => OFPAT11_SET_NW_ECN,
        Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => OFPAT11_SET_TP_SRC,
        Field::TcpDst | Field::UdpDst | Field::SctpDst => OFPAT11_SET_TP_DST,
        Field::MplsLabel => OFPAT11_SET_MPLS_LABEL,
        Field::MplsTc => OFPAT11_SET_MPLS_TC,
        Field::TunId => {
            nicira_encode::set_tunnel(value as u64, out);
            return true;
        }
        _ => return false,
    };
    put(out, kind, |out| match field {
        Field::VlanVid => out.u16(value as u16 & 0xfff),
        Field::IpDscp => out.u8((value as u8) << 2),
        _ => out.number(value, usize::from(field.bytes())),
    });
    true
}
