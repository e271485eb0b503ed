//! Actions as OpenFlow 1.1 and later number them (1.3 §7.2.4).

use weft_flow::{Action, Field, OfPort};
use weft_wire::EtherType;

use super::table::{nxast, ofpat};
use super::{Track, check_port, nicira, of10, put, put_nicira, regs, set};
use crate::bytes::{Put, Reader};
use crate::{ErrorCode, Version};

/// Reads the body of one action.
pub(super) fn decode(version: Version, number: u16, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    Ok(match number {
        ofpat::OUTPUT => Action::Output { port: check_port(port11(r.u32()?)?)?, max_len: r.u16()? },
        ofpat::SET_VLAN_VID..=ofpat::SET_TP_DST => decode_field11(number, r)?,
        ofpat::COPY_TTL_OUT => Action::CopyTtlOut,
        ofpat::COPY_TTL_IN => Action::CopyTtlIn,
        // Bits that the header has no room for are cut off, as Open vSwitch does.
        ofpat::SET_MPLS_LABEL => set::whole(Field::MplsLabel, r.number(4)? & 0xf_ffff),
        ofpat::SET_MPLS_TC => set::whole(Field::MplsTc, r.number(1)? & 7),
        ofpat::SET_MPLS_TTL => set::whole(Field::MplsTtl, r.number(1)?),
        ofpat::DEC_MPLS_TTL => Action::DecMplsTtl,
        ofpat::PUSH_VLAN => {
            let kind = EtherType(r.u16()?);
            if !kind.is_vlan() {
                return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
            }
            Action::PushVlan(kind)
        }
        ofpat::POP_VLAN => Action::PopVlan,
        ofpat::PUSH_MPLS => Action::PushMpls(mpls_type(r.u16()?)?),
        ofpat::POP_MPLS => Action::PopMpls(EtherType(r.u16()?)),
        ofpat::SET_QUEUE => Action::SetQueue(r.u32()?),
        ofpat::GROUP => Action::Group(r.u32()?),
        ofpat::SET_NW_TTL => set::whole(Field::NwTtl, r.number(1)?),
        ofpat::DEC_NW_TTL => Action::DecTtl(Vec::new()),
        ofpat::SET_FIELD => set::decode_set_field(r, version >= Version::V15)?,
        ofpat::COPY_FIELD => regs::decode_copy_field(r)?,
        ofpat::METER => Action::Meter(r.u32()?),
        _ => return Err(ErrorCode::OFPBAC_BAD_TYPE),
    })
}

/// A port in 32 bits, of which OpenFlow 1.0's 16 are used.
fn port11(port: u32) -> Result<OfPort, ErrorCode> {
    let port = OfPort(port);
    if port.to_u16().is_some() { Ok(port) } else { Err(ErrorCode::OFPBAC_BAD_OUT_PORT) }
}

/// An EtherType of MPLS.
pub(super) fn mpls_type(kind: u16) -> Result<EtherType, ErrorCode> {
    if matches!(kind, 0x8847 | 0x8848) { Ok(EtherType(kind)) } else { Err(ErrorCode::OFPBAC_BAD_ARGUMENT) }
}

/// The actions of OpenFlow 1.1 that set one field.
fn decode_field11(number: u16, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    Ok(match number {
        ofpat::SET_VLAN_VID => set::whole(Field::VlanVid, u128::from(of10::vid(r.u16()?)?) | 0x1000),
        ofpat::SET_VLAN_PCP => set::whole(Field::VlanPcp, of10::pcp(r.u8()?)?.into()),
        ofpat::SET_DL_SRC => set::whole(Field::EthSrc, r.number(6)?),
        ofpat::SET_DL_DST => set::whole(Field::EthDst, r.number(6)?),
        ofpat::SET_NW_SRC => set::whole(Field::IpSrc, r.number(4)?),
        ofpat::SET_NW_DST => set::whole(Field::IpDst, r.number(4)?),
        ofpat::SET_NW_TOS => set::whole(Field::NwTos, of10::tos(r.u8()?)?),
        ofpat::SET_NW_ECN => {
            let ecn = r.number(1)?;
            if ecn > 3 {
                return Err(ErrorCode::OFPBAC_BAD_ARGUMENT);
            }
            set::whole(Field::NwEcn, ecn)
        }
        ofpat::SET_TP_SRC => Action::SetTpPort { dst: false, port: r.u16()? },
        ofpat::SET_TP_DST => Action::SetTpPort { dst: true, port: r.u16()? },
        _ => return Err(ErrorCode::OFPBAC_BAD_TYPE),
    })
}

/// Appends one action.
pub(super) fn encode(track: &mut Track, action: &Action, out: &mut Vec<u8>) {
    let version = track.version;
    match *action {
        Action::Output { port, max_len } => output(port, max_len, out),
        Action::PushVlan(tpid) => {
            track.has_vlan = true;
            put(out, ofpat::PUSH_VLAN, |out| out.u16(tpid.0));
        }
        Action::PopVlan => {
            track.has_vlan = false;
            put(out, ofpat::POP_VLAN, |out| out.zeros(4));
        }
        // What OpenFlow 1.0 does in one action takes two: push a tag if there is none, then set.
        Action::SetVlanVid(vid) => {
            push_if_none(track, out);
            encode_set(track, Field::VlanVid, u128::from(vid) | 0x1000, 0x1fff, out);
        }
        Action::SetVlanPcp(pcp) => {
            push_if_none(track, out);
            encode_set(track, Field::VlanPcp, pcp.into(), 7, out);
        }
        Action::SetTpPort { dst, port } => match track.ports {
            Some(ports) if version >= Version::V12 => {
                let field = if dst { ports.1 } else { ports.0 };
                set::encode(version, field, port.into(), 0xffff, out);
            }
            _ => put(out, if dst { ofpat::SET_TP_DST } else { ofpat::SET_TP_SRC }, |out| out.u16(port)),
        },
        // What was asked for as `load` stays so up to OpenFlow 1.4; 1.5 has but one way.
        Action::SetField { field, value, mask, load: true } if version < Version::V15 => {
            set::load(field, value, mask, out);
        }
        Action::SetField { field, value, mask, .. } => encode_set(track, field, value, mask, out),
        Action::Move { src, dst } if version >= Version::V15 => regs::copy_field(version, src, dst, out),
        Action::DecTtl(ref ids) if ids.is_empty() => put(out, ofpat::DEC_NW_TTL, |out| out.zeros(4)),
        Action::DecMplsTtl => put(out, ofpat::DEC_MPLS_TTL, |out| out.zeros(4)),
        Action::PushMpls(kind) => put(out, ofpat::PUSH_MPLS, |out| out.u16(kind.0)),
        Action::PopMpls(kind) => put(out, ofpat::POP_MPLS, |out| out.u16(kind.0)),
        Action::CopyTtlOut => put(out, ofpat::COPY_TTL_OUT, |out| out.zeros(4)),
        Action::CopyTtlIn => put(out, ofpat::COPY_TTL_IN, |out| out.zeros(4)),
        Action::SetQueue(queue) => put(out, ofpat::SET_QUEUE, |out| out.u32(queue)),
        Action::Group(group) => put(out, ofpat::GROUP, |out| out.u32(group)),
        Action::Enqueue { port, queue } => {
            put(out, ofpat::SET_QUEUE, |out| out.u32(queue));
            output(port, u16::MAX, out);
            put_nicira(out, nxast::POP_QUEUE, |out| out.zeros(6));
        }
        Action::Meter(meter) if version >= Version::V15 => put(out, ofpat::METER, |out| out.u32(meter)),
        _ => nicira::encode(track, action, out),
    }
}

fn output(port: OfPort, max_len: u16, out: &mut Vec<u8>) {
    put(out, ofpat::OUTPUT, |out| {
        out.u32(port.0);
        out.u16(max_len);
        out.zeros(6);
    });
}

fn push_if_none(track: &mut Track, out: &mut Vec<u8>) {
    if !track.has_vlan {
        put(out, ofpat::PUSH_VLAN, |out| out.u16(EtherType::VLAN.0));
        track.has_vlan = true;
    }
}

fn encode_set(track: &mut Track, field: Field, value: u128, mask: u128, out: &mut Vec<u8>) {
    let version = track.version;
    let exact = mask & field.value_mask() == field.value_mask();
    let one_byte = |kind, out: &mut Vec<u8>| put(out, kind, |out| out.u8(value as u8));
    match field {
        Field::NwTtl if exact => one_byte(ofpat::SET_NW_TTL, out),
        Field::MplsTtl if exact => one_byte(ofpat::SET_MPLS_TTL, out),
        _ if version >= Version::V12 => set::encode(version, field, value, mask, out),
        Field::VlanTci if exact => encode_tci11(track, value as u16, out),
        _ if exact && encode_field11(field, value, out) => {}
        _ => set::load(field, value, mask, out),
    }
}

/// Sets or removes a whole tag in OpenFlow 1.1.
fn encode_tci11(track: &mut Track, tci: u16, out: &mut Vec<u8>) {
    if tci & 0x1000 == 0 {
        track.has_vlan = false;
        return put(out, ofpat::POP_VLAN, |out| out.zeros(4));
    }
    push_if_none(track, out);
    put(out, ofpat::SET_VLAN_VID, |out| out.u16(tci & 0xfff));
    put(out, ofpat::SET_VLAN_PCP, |out| out.u8((tci >> 13) as u8));
}

/// Appends the action of OpenFlow 1.1 that sets this field, if there is one.
fn encode_field11(field: Field, value: u128, out: &mut Vec<u8>) -> bool {
    let kind = match field {
        Field::VlanVid => ofpat::SET_VLAN_VID,
        Field::VlanPcp => ofpat::SET_VLAN_PCP,
        Field::EthSrc => ofpat::SET_DL_SRC,
        Field::EthDst => ofpat::SET_DL_DST,
        Field::IpSrc => ofpat::SET_NW_SRC,
        Field::IpDst => ofpat::SET_NW_DST,
        Field::NwTos | Field::IpDscp => ofpat::SET_NW_TOS,
        Field::NwEcn => ofpat::SET_NW_ECN,
        Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => ofpat::SET_TP_SRC,
        Field::TcpDst | Field::UdpDst | Field::SctpDst => ofpat::SET_TP_DST,
        Field::MplsLabel => ofpat::SET_MPLS_LABEL,
        Field::MplsTc => ofpat::SET_MPLS_TC,
        Field::TunId => {
            nicira::set_tunnel(value as u64, out);
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
