//! The fixed structure of OpenFlow 1.1 (`ofp_match` of type `OFPMT_STANDARD`, OpenFlow 1.1 §A.2.3).
//!
//! Its masks are inverted: a set bit does not matter.

use weft_flow::{Field, Match, OfPort, Prereq, VLAN_PRESENT};

use super::of10::{OFP_VLAN_NONE, set, set_addresses, set_proto, set_transport, transport_field};
use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// Bytes, type and length included.
pub(super) const LENGTH: usize = 88;

const OFPFW_IN_PORT: u32 = 1 << 0;
const OFPFW_DL_VLAN: u32 = 1 << 1;
const OFPFW_DL_VLAN_PCP: u32 = 1 << 2;
const OFPFW_DL_TYPE: u32 = 1 << 3;
const OFPFW_NW_TOS: u32 = 1 << 4;
const OFPFW_NW_PROTO: u32 = 1 << 5;
const OFPFW_TP_SRC: u32 = 1 << 6;
const OFPFW_TP_DST: u32 = 1 << 7;
const OFPFW_MPLS_LABEL: u32 = 1 << 8;
const OFPFW_MPLS_TC: u32 = 1 << 9;

/// VLAN number that stands for "any tag".
const OFPVID_ANY: u16 = 0xfffe;

/// Reads the structure after its type and length.
pub(super) fn decode_match11(r: &mut Reader<'_>) -> Result<Match, ErrorCode> {
    let in_port = r.u32()?;
    let wild = r.u32()?;
    let exact = |bit: u32| if wild & bit == 0 { u128::MAX } else { 0 };
    let exact16 = |bit: u32| if wild & bit == 0 { u16::MAX } else { 0 };
    let mut m = Match::any();
    set(&mut m, Field::InPort, in_port.into(), exact(OFPFW_IN_PORT));
    for field in [Field::EthSrc, Field::EthDst] {
        let (value, wild) = (r.number(6)?, r.number(6)?);
        set(&mut m, field, value, !wild & field.value_mask());
    }
    let (vid, pcp) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    if wild & OFPFW_DL_VLAN == 0 {
        set_vlan(&mut m, vid)?;
        if wild & OFPFW_DL_VLAN_PCP == 0 && vid != OFP_VLAN_NONE {
            set(&mut m, Field::VlanPcp, u128::from(pcp & 7), 7);
        }
    }
    set(&mut m, Field::EthType, r.u16()?.into(), exact(OFPFW_DL_TYPE));
    let (tos, proto) = (r.u8()?, r.u8()?);
    if wild & OFPFW_NW_TOS == 0 && m.meets(Prereq::Ip) {
        if tos & 3 != 0 {
            return Err(ErrorCode::OFPBMC_BAD_VALUE);
        }
        set(&mut m, Field::NwTos, tos.into(), 0xfc);
    }
    set_proto(&mut m, proto, wild & OFPFW_NW_PROTO == 0);
    let (src, dst) = ((r.u32()?, !r.u32()?), (r.u32()?, !r.u32()?));
    set_addresses(&mut m, src, dst);
    let (src, dst) = (r.u16()?, r.u16()?);
    set_transport(&mut m, (src, exact16(OFPFW_TP_SRC)), (dst, exact16(OFPFW_TP_DST)));
    let (label, tc) = (r.u32()?, r.u8()?);
    r.skip(3)?;
    if wild & OFPFW_MPLS_LABEL == 0 {
        set(&mut m, Field::MplsLabel, label.into(), 0xf_ffff);
    }
    if wild & OFPFW_MPLS_TC == 0 {
        set(&mut m, Field::MplsTc, tc.into(), 7);
    }
    let (value, wild) = (r.u64()?, r.u64()?);
    set(&mut m, Field::Metadata, value.into(), (!wild).into());
    Ok(m)
}

fn set_vlan(m: &mut Match, vid: u16) -> Result<(), ErrorCode> {
    let (value, mask) = match vid {
        OFP_VLAN_NONE => (0, 0xffff),
        OFPVID_ANY => (VLAN_PRESENT, VLAN_PRESENT),
        0..=0xfff => (VLAN_PRESENT | vid, VLAN_PRESENT | 0xfff),
        _ => return Err(ErrorCode::OFPBMC_BAD_VALUE),
    };
    (m.key.packet.vlan[0].tci, m.mask.0.packet.vlan[0].tci) = (value, mask);
    Ok(())
}

/// Appends the structure, type and length included. What it cannot say is left out.
pub(super) fn encode_match11(m: &Match, out: &mut Vec<u8>) {
    let (key, mask) = (&m.key.packet, &m.mask.0.packet);
    let mut wild = 0;
    let mut keep = |exact: bool, bit: u32| {
        wild |= if exact { 0 } else { bit };
        exact
    };
    let in_port = keep(m.mask.0.pipeline.in_port == u32::MAX, OFPFW_IN_PORT);
    let (tci, tci_mask) = (key.vlan[0].tci, mask.vlan[0].tci);
    let vlan = match tci_mask & 0x1fff {
        0x1fff if tci & VLAN_PRESENT != 0 => Some(tci & 0xfff),
        VLAN_PRESENT if tci & VLAN_PRESENT != 0 => Some(OFPVID_ANY),
        bits if bits & VLAN_PRESENT != 0 && tci & VLAN_PRESENT == 0 => Some(OFP_VLAN_NONE),
        _ => None,
    };
    keep(vlan.is_some(), OFPFW_DL_VLAN);
    let tagged = vlan.is_some_and(|v| v != OFP_VLAN_NONE);
    let pcp = keep(tagged && tci_mask & 0xe000 == 0xe000, OFPFW_DL_VLAN_PCP);
    let eth_type = keep(mask.eth_type == u16::MAX, OFPFW_DL_TYPE);
    let (ip, arp) = (m.meets(Prereq::Ip), m.meets(Prereq::Arp));
    let tos = keep(ip && mask.ip_tos & 0xfc == 0xfc, OFPFW_NW_TOS);
    let proto = keep((ip || arp) && mask.ip_proto == 0xff, OFPFW_NW_PROTO);
    let whole = transport_field(m, true).map_or(0, |f| f.value_mask() as u16);
    let tp_src = keep(whole != 0 && mask.tp_src & whole == whole, OFPFW_TP_SRC);
    let tp_dst = keep(whole != 0 && mask.tp_dst & whole == whole, OFPFW_TP_DST);
    let v4 = arp || m.meets(Prereq::Ipv4);
    let (src_mask, dst_mask) = if v4 { (mask.ipv4_src, mask.ipv4_dst) } else { (0, 0) };
    let mpls = m.meets(Prereq::Mpls);
    let label = keep(mpls && Field::MplsLabel.mask_of(&m.mask) == 0xf_ffff, OFPFW_MPLS_LABEL);
    let tc = keep(mpls && Field::MplsTc.mask_of(&m.mask) == 7, OFPFW_MPLS_TC);

    out.u16(super::OFPMT_STANDARD);
    out.u16(LENGTH as u16);
    out.u32(if in_port { OfPort(m.key.pipeline.in_port).0 } else { 0 });
    out.u32(wild);
    for (value, mask) in [(key.eth_src, mask.eth_src), (key.eth_dst, mask.eth_dst)] {
        out.bytes(&value.0);
        out.bytes(&mask.0.map(|b| !b));
    }
    out.u16(vlan.unwrap_or(0));
    out.u8(u8::from(pcp) * (tci >> 13) as u8);
    out.u8(0);
    out.u16(u16::from(eth_type) * key.eth_type);
    out.u8(u8::from(tos) * (key.ip_tos & 0xfc));
    out.u8(u8::from(proto) * key.ip_proto);
    for (value, mask) in [(key.ipv4_src, src_mask), (key.ipv4_dst, dst_mask)] {
        out.u32(value & mask);
        out.u32(!mask);
    }
    out.u16(u16::from(tp_src) * key.tp_src);
    out.u16(u16::from(tp_dst) * key.tp_dst);
    out.u32(if label { Field::MplsLabel.get(&m.key) as u32 } else { 0 });
    out.u8(if tc { Field::MplsTc.get(&m.key) as u8 } else { 0 });
    out.zeros(3);
    out.u64(m.key.pipeline.metadata);
    out.u64(!m.mask.0.pipeline.metadata);
}
