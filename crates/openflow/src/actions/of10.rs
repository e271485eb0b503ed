//! Actions as OpenFlow 1.0 numbers them (§5.2.4).

use weft_flow::{Action, Field, OfPort};

use super::table::{nxast, ofpat10 as ofpat};
use super::{Track, check_port, nicira, port16, put, put_nicira, set};
use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// Reads the body of one action.
pub(super) fn decode(number: u16, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    Ok(match number {
        ofpat::OUTPUT => Action::Output { port: check_port(OfPort::from_u16(r.u16()?))?, max_len: r.u16()? },
        ofpat::SET_VLAN_VID => Action::SetVlanVid(vid(r.u16()?)?),
        ofpat::SET_VLAN_PCP => Action::SetVlanPcp(pcp(r.u8()?)?),
        ofpat::STRIP_VLAN => Action::PopVlan,
        ofpat::SET_DL_SRC => set::whole(Field::EthSrc, r.number(6)?),
        ofpat::SET_DL_DST => set::whole(Field::EthDst, r.number(6)?),
        ofpat::SET_NW_SRC => set::whole(Field::IpSrc, r.number(4)?),
        ofpat::SET_NW_DST => set::whole(Field::IpDst, r.number(4)?),
        ofpat::SET_NW_TOS => set::whole(Field::NwTos, tos(r.u8()?)?),
        ofpat::SET_TP_SRC => Action::SetTpPort { dst: false, port: r.u16()? },
        ofpat::SET_TP_DST => Action::SetTpPort { dst: true, port: r.u16()? },
        ofpat::ENQUEUE => {
            let port = OfPort::from_u16(r.u16()?);
            r.skip(6)?;
            if port.is_reserved() && ![OfPort::IN_PORT, OfPort::LOCAL].contains(&port) {
                return Err(ErrorCode::OFPBAC_BAD_OUT_PORT);
            }
            Action::Enqueue { port, queue: r.u32()? }
        }
        _ => return Err(ErrorCode::OFPBAC_BAD_TYPE),
    })
}

/// A VLAN identifier of a set-VLAN action.
pub(super) fn vid(vid: u16) -> Result<u16, ErrorCode> {
    if vid <= 0xfff { Ok(vid) } else { Err(ErrorCode::OFPBAC_BAD_ARGUMENT) }
}
/// A priority of a set-VLAN action.
pub(super) fn pcp(pcp: u8) -> Result<u8, ErrorCode> {
    if pcp <= 7 { Ok(pcp) } else { Err(ErrorCode::OFPBAC_BAD_ARGUMENT) }
}
/// A TOS byte without ECN bits.
pub(super) fn tos(tos: u8) -> Result<u128, ErrorCode> {
    if tos & 3 == 0 { Ok(tos.into()) } else { Err(ErrorCode::OFPBAC_BAD_ARGUMENT) }
}

/// Appends one action.
pub(super) fn encode(track: &mut Track, action: &Action, out: &mut Vec<u8>) {
    match *action {
        Action::Output { port, max_len } => put(out, ofpat::OUTPUT, |out| {
            out.u16(port16(port));
            out.u16(max_len);
        }),
        // A tag is pushed by setting its parts, which follows.
        Action::PushVlan(_) => track.has_vlan = true,
        Action::PopVlan => {
            track.has_vlan = false;
            put(out, ofpat::STRIP_VLAN, |out| out.zeros(4));
        }
        Action::SetVlanVid(vid) => {
            track.has_vlan = true;
            put(out, ofpat::SET_VLAN_VID, |out| out.u16(vid));
        }
        Action::SetVlanPcp(pcp) => {
            track.has_vlan = true;
            put(out, ofpat::SET_VLAN_PCP, |out| out.u8(pcp));
        }
        Action::SetTpPort { dst, port } => {
            put(out, if dst { ofpat::SET_TP_DST } else { ofpat::SET_TP_SRC }, |out| out.u16(port));
        }
        Action::SetField { field, value, mask, load } => {
            let whole = !load && mask & field.value_mask() == field.value_mask();
            if !whole || !encode_whole(field, value, out) {
                set::load(field, value, mask, out);
            }
        }
        Action::Enqueue { port, queue } => put(out, ofpat::ENQUEUE, |out| {
            out.u16(port16(port));
            out.zeros(6);
            out.u32(queue);
        }),
        Action::DecTtl(ref ids) if ids.is_empty() => put_nicira(out, nxast::DEC_TTL, |out| out.zeros(6)),
        Action::DecMplsTtl => put_nicira(out, nxast::DEC_MPLS_TTL, |out| out.zeros(6)),
        Action::PushMpls(kind) => put_nicira(out, nxast::PUSH_MPLS, |out| out.u16(kind.0)),
        Action::PopMpls(kind) => put_nicira(out, nxast::POP_MPLS, |out| out.u16(kind.0)),
        Action::SetQueue(queue) => nicira::put_number(nxast::SET_QUEUE, queue, out),
        Action::Group(group) => nicira::put_number(nxast::GROUP, group, out),
        _ => nicira::encode(track, action, out),
    }
}

/// Appends an action that sets all of a field, if OpenFlow 1.0 or Nicira's early extensions have one for it.
fn encode_whole(field: Field, value: u128, out: &mut Vec<u8>) -> bool {
    let kind = match field {
        Field::VlanVid => ofpat::SET_VLAN_VID,
        Field::VlanPcp => ofpat::SET_VLAN_PCP,
        Field::EthSrc => ofpat::SET_DL_SRC,
        Field::EthDst => ofpat::SET_DL_DST,
        Field::IpSrc => ofpat::SET_NW_SRC,
        Field::IpDst => ofpat::SET_NW_DST,
        Field::NwTos | Field::IpDscp => ofpat::SET_NW_TOS,
        Field::TcpSrc | Field::UdpSrc => ofpat::SET_TP_SRC,
        Field::TcpDst | Field::UdpDst => ofpat::SET_TP_DST,
        _ => return encode_whole_nicira(field, value, out),
    };
    put(out, kind, |out| match field {
        Field::VlanVid => out.u16(value as u16 & 0xfff),
        Field::IpDscp => out.u8((value as u8) << 2),
        _ => out.number(value, usize::from(field.bytes())),
    });
    true
}

fn encode_whole_nicira(field: Field, value: u128, out: &mut Vec<u8>) -> bool {
    match field {
        Field::VlanTci if value & 0x1000 == 0 => put(out, ofpat::STRIP_VLAN, |out| out.zeros(4)),
        Field::VlanTci => {
            put(out, ofpat::SET_VLAN_VID, |out| out.u16(value as u16 & 0xfff));
            put(out, ofpat::SET_VLAN_PCP, |out| out.u8((value >> 13) as u8 & 7));
        }
        Field::TunId => nicira::set_tunnel(value as u64, out),
        Field::MplsLabel => nicira::put_number(nxast::SET_MPLS_LABEL, value as u32, out),
        Field::MplsTc => put_nicira(out, nxast::SET_MPLS_TC, |out| out.u8(value as u8)),
        Field::MplsTtl => put_nicira(out, nxast::SET_MPLS_TTL, |out| out.u8(value as u8)),
        _ => return false,
    }
    true
}
