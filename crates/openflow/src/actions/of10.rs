//! Actions as OpenFlow 1.0 numbers them (§5.2.4).

use weft_flow::{Action, Field, OfPort};

use super::{Scope, Track, check_port, nicira_encode, put, set};
use crate::ErrorCode;
use crate::bytes::{Put, Reader};

const OFPAT10_OUTPUT: u16 = 0;
const OFPAT10_SET_VLAN_VID: u16 = 1;
const OFPAT10_SET_VLAN_PCP: u16 = 2;
const OFPAT10_STRIP_VLAN: u16 = 3;
const OFPAT10_SET_DL_SRC: u16 = 4;
const OFPAT10_SET_DL_DST: u16 = 5;
const OFPAT10_SET_NW_SRC: u16 = 6;
const OFPAT10_SET_NW_DST: u16 = 7;
const OFPAT10_SET_NW_TOS: u16 = 8;
const OFPAT10_SET_TP_SRC: u16 = 9;
const OFPAT10_SET_TP_DST: u16 = 10;
const OFPAT10_ENQUEUE: u16 = 11;

/// Reads the body of one action.
pub(super) fn decode(scope: &Scope, kind: u16, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    // Every standard action has one length: 8 bytes, or 16 with an address or a queue.
    let long = matches!(kind, OFPAT10_SET_DL_SRC | OFPAT10_SET_DL_DST | OFPAT10_ENQUEUE);
    if kind <= OFPAT10_ENQUEUE && r.len() != if long { 12 } else { 4 } {
        return Err(ErrorCode::OFPBAC_BAD_LEN);
    }
    Ok(match kind {
        OFPAT10_OUTPUT => Action::Output { port: check_port(OfPort::from_u16(r.u16()?))?, max_len: r.u16()? },
        OFPAT10_SET_VLAN_VID => Action::SetVlanVid(vid(r.u16()?)?),
        OFPAT10_SET_VLAN_PCP => Action::SetVlanPcp(pcp(r.u8()?)?),
        OFPAT10_STRIP_VLAN => Action::PopVlan,
        OFPAT10_SET_DL_SRC => set::whole(Field::EthSrc, r.number(6)?),
        OFPAT10_SET_DL_DST => set::whole(Field::EthDst, r.number(6)?),
        OFPAT10_SET_NW_SRC => set::whole(Field::IpSrc, r.number(4)?),
        OFPAT10_SET_NW_DST => set::whole(Field::IpDst, r.number(4)?),
        OFPAT10_SET_NW_TOS => set::whole(Field::NwTos, tos(r.u8()?)?),
        OFPAT10_SET_TP_SRC => set::whole(scope.ports.0, r.number(2)?),
        OFPAT10_SET_TP_DST => set::whole(scope.ports.1, r.number(2)?),
        // No queue exists but the default one, which every output uses.
        OFPAT10_ENQUEUE => return Err(ErrorCode::OFPBAC_BAD_QUEUE),
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
        Action::Output { port, max_len } => put(out, OFPAT10_OUTPUT, |out| {
            out.u16(port.to_u16().unwrap_or(0xffff));
            out.u16(max_len);
        }),
        // A tag is pushed by setting its parts, which follows.
        Action::PushVlan(_) => track.has_vlan = true,
        Action::PopVlan => {
            track.has_vlan = false;
            put(out, OFPAT10_STRIP_VLAN, |out| out.zeros(4));
        }
        Action::SetVlanVid(vid) => {
            track.has_vlan = true;
            put(out, OFPAT10_SET_VLAN_VID, |out| out.u16(vid));
        }
        Action::SetVlanPcp(pcp) => {
            track.has_vlan = true;
            put(out, OFPAT10_SET_VLAN_PCP, |out| out.u8(pcp));
        }
        Action::SetField { field, value, mask, .. } => {
            if mask & field.value_mask() != field.value_mask() || !encode_whole(field, value, out) {
                set::load(track.version, field, value, mask, out);
            }
        }
        _ => nicira_encode::encode(track, action, out),
    }
}

/// Appends an action that sets all of a field, if OpenFlow 1.0 or Nicira's early extensions have one for it.
fn encode_whole(field: Field, value: u128, out: &mut Vec<u8>) -> bool {
    let kind = match field {
        Field::VlanVid => OFPAT10_SET_VLAN_VID,
        Field::VlanPcp => OFPAT10_SET_VLAN_PCP,
        Field::EthSrc => OFPAT10_SET_DL_SRC,
        Field::EthDst => OFPAT10_SET_DL_DST,
        Field::IpSrc => OFPAT10_SET_NW_SRC,
        Field::IpDst => OFPAT10_SET_NW_DST,
        Field::NwTos | Field::IpDscp => OFPAT10_SET_NW_TOS,
        Field::TcpSrc | Field::UdpSrc => OFPAT10_SET_TP_SRC,
        Field::TcpDst | Field::UdpDst => OFPAT10_SET_TP_DST,
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
