//! The twelve fields of OpenFlow 1.0 (`ofp_match`, OpenFlow 1.0 §5.2.3).

use weft_flow::{Field, Match, OfPort, Prereq, VLAN_PRESENT};
use weft_wire::Mac;

use crate::ErrorCode;
use crate::bytes::{Put, Reader};

const OFPFW_IN_PORT: u32 = 1 << 0;
const OFPFW_DL_VLAN: u32 = 1 << 1;
const OFPFW_DL_SRC: u32 = 1 << 2;
const OFPFW_DL_DST: u32 = 1 << 3;
const OFPFW_DL_TYPE: u32 = 1 << 4;
const OFPFW_NW_PROTO: u32 = 1 << 5;
const OFPFW_TP_SRC: u32 = 1 << 6;
const OFPFW_TP_DST: u32 = 1 << 7;
const OFPFW_NW_SRC_SHIFT: u32 = 8;
const OFPFW_NW_DST_SHIFT: u32 = 14;
const OFPFW_DL_VLAN_PCP: u32 = 1 << 20;
const OFPFW_NW_TOS: u32 = 1 << 21;

/// VLAN number that stands for "no tag".
pub(super) const OFP_VLAN_NONE: u16 = 0xffff;

/// Sets a field of the match exactly if the match allows it; OpenFlow 1.0 ignores fields that cannot be there.
pub(super) fn set(m: &mut Match, field: Field, value: u128, mask: u128) {
    if mask != 0 && m.meets(field.prereq()) {
        field.set(&mut m.key, value & mask);
        field.mask_add(&mut m.mask, mask);
    }
}

/// The field that OpenFlow 1.0's and 1.1's transport source (`first`) or destination port is in this match.
pub(super) fn transport_field(m: &Match, first: bool) -> Option<Field> {
    let (src, dst) = [
        (Field::TcpSrc, Field::TcpDst),
        (Field::UdpSrc, Field::UdpDst),
        (Field::SctpSrc, Field::SctpDst),
        (Field::IcmpType, Field::IcmpCode),
        (Field::Icmpv6Type, Field::Icmpv6Code),
    ]
    .into_iter()
    .find(|(src, _)| m.meets(src.prereq()))?;
    Some(if first { src } else { dst })
}

/// Sets the transport ports, or ICMP type and code.
pub(super) fn set_transport(m: &mut Match, src: (u16, u16), dst: (u16, u16)) {
    for (first, (value, mask)) in [(true, src), (false, dst)] {
        if let Some(field) = transport_field(m, first) {
            set(m, field, value.into(), u128::from(mask) & field.value_mask());
        }
    }
}

/// Reads the 40 bytes.
pub(crate) fn decode_match10(r: &mut Reader<'_>) -> Result<Match, ErrorCode> {
    let wild = r.u32()?;
    let exact = |bit: u32| if wild & bit == 0 { u128::MAX } else { 0 };
    let exact16 = |bit: u32| if wild & bit == 0 { u16::MAX } else { 0 };
    let mut m = Match::any();
    set(&mut m, Field::InPort16, r.u16()?.into(), exact(OFPFW_IN_PORT));
    set(&mut m, Field::EthSrc, r.number(6)?, exact(OFPFW_DL_SRC));
    set(&mut m, Field::EthDst, r.number(6)?, exact(OFPFW_DL_DST));
    let (vid, pcp) = (r.u16()?, r.u8()?);
    r.skip(1)?;
    set_vlan(&mut m, vid, wild & OFPFW_DL_VLAN == 0, pcp, wild & OFPFW_DL_VLAN_PCP == 0);
    set(&mut m, Field::EthType, r.u16()?.into(), exact(OFPFW_DL_TYPE));
    let (tos, proto) = (r.u8()?, r.u8()?);
    r.skip(2)?;
    set(&mut m, Field::NwTos, u128::from(tos) & 0xfc, if wild & OFPFW_NW_TOS == 0 { 0xfc } else { 0 });
    set_proto(&mut m, proto, wild & OFPFW_NW_PROTO == 0);
    let prefix = |shift: u32| u32::MAX.checked_shl(wild >> shift & 0x3f).unwrap_or(0);
    let (src, dst) = (r.u32()?, r.u32()?);
    set_addresses(&mut m, (src, prefix(OFPFW_NW_SRC_SHIFT)), (dst, prefix(OFPFW_NW_DST_SHIFT)));
    let (src, dst) = (r.u16()?, r.u16()?);
    set_transport(&mut m, (src, exact16(OFPFW_TP_SRC)), (dst, exact16(OFPFW_TP_DST)));
    Ok(m)
}

fn set_vlan(m: &mut Match, vid: u16, match_vid: bool, pcp: u8, match_pcp: bool) {
    let (value, mask) = (&mut m.key.packet.vlan[0].tci, &mut m.mask.0.packet.vlan[0].tci);
    if match_vid && vid == OFP_VLAN_NONE {
        (*value, *mask) = (0, 0xffff);
        return;
    }
    if match_vid {
        *value |= VLAN_PRESENT | vid & 0xfff;
        *mask |= VLAN_PRESENT | 0xfff;
    }
    if match_pcp {
        *value |= VLAN_PRESENT | u16::from(pcp & 7) << 13;
        *mask |= VLAN_PRESENT | 7 << 13;
    }
}

/// Sets the IP protocol, or in ARP the opcode.
pub(super) fn set_proto(m: &mut Match, proto: u8, exact: bool) {
    if exact {
        let field = if m.meets(Prereq::Arp) { Field::ArpOp } else { Field::NwProto };
        set(m, field, proto.into(), 0xff);
    }
}

/// Sets the IPv4 addresses, or in ARP the protocol addresses: value and mask of source and destination.
pub(super) fn set_addresses(m: &mut Match, src: (u32, u32), dst: (u32, u32)) {
    let arp = m.meets(Prereq::Arp);
    let (s, d) = if arp { (Field::ArpSpa, Field::ArpTpa) } else { (Field::IpSrc, Field::IpDst) };
    set(m, s, src.0.into(), src.1.into());
    set(m, d, dst.0.into(), dst.1.into());
}

/// Appends the 40 bytes. What they cannot say is left out.
pub(crate) fn encode_match10(m: &Match, out: &mut Vec<u8>) {
    let (key, mask) = (&m.key.packet, &m.mask.0.packet);
    let mut wild = 0;
    let mut keep = |exact: bool, bit: u32| {
        wild |= if exact { 0 } else { bit };
        exact
    };
    let in_port = keep(m.mask.0.pipeline.in_port == u32::MAX, OFPFW_IN_PORT);
    let src = keep(mask.eth_src == Mac::BROADCAST, OFPFW_DL_SRC);
    let dst = keep(mask.eth_dst == Mac::BROADCAST, OFPFW_DL_DST);
    let (tci, tci_mask) = (key.vlan[0].tci, mask.vlan[0].tci);
    let untagged = tci_mask & VLAN_PRESENT != 0 && tci & VLAN_PRESENT == 0;
    let vid = keep(untagged || tci_mask & 0x1fff == 0x1fff, OFPFW_DL_VLAN);
    let pcp = keep(!untagged && tci_mask & 0xf000 == 0xf000, OFPFW_DL_VLAN_PCP);
    let eth_type = keep(mask.eth_type == u16::MAX, OFPFW_DL_TYPE);
    let ip = eth_type && (m.meets(Prereq::Ip) || m.meets(Prereq::Arp));
    let v4 = m.meets(Prereq::Ipv4) || m.meets(Prereq::Arp);
    let tos = keep(m.meets(Prereq::Ip) && mask.ip_tos & 0xfc == 0xfc, OFPFW_NW_TOS);
    let proto = keep(ip && mask.ip_proto == 0xff, OFPFW_NW_PROTO);
    let tp = |value: u16| if transport_field(m, true).is_some() { value } else { 0 };
    let (tp_src_mask, tp_dst_mask) = (tp(mask.tp_src), tp(mask.tp_dst));
    let whole = transport_field(m, true).map_or(u16::MAX, |f| f.value_mask() as u16);
    let tp_src = keep(tp_src_mask & whole == whole && tp_src_mask != 0, OFPFW_TP_SRC);
    let tp_dst = keep(tp_dst_mask & whole == whole && tp_dst_mask != 0, OFPFW_TP_DST);
    let (src_mask, dst_mask) = if v4 { (prefix(mask.ipv4_src), prefix(mask.ipv4_dst)) } else { (0, 0) };
    wild |= src_mask.count_zeros() << OFPFW_NW_SRC_SHIFT | dst_mask.count_zeros() << OFPFW_NW_DST_SHIFT;

    out.u32(wild);
    out.u16(if in_port { OfPort(m.key.pipeline.in_port).to_u16().unwrap_or(OFP_VLAN_NONE) } else { 0 });
    out.bytes(if src { &key.eth_src.0 } else { &[0; 6] });
    out.bytes(if dst { &key.eth_dst.0 } else { &[0; 6] });
    out.u16(if untagged { OFP_VLAN_NONE } else { u16::from(vid) * (tci & 0xfff) });
    out.u8(u8::from(pcp) * (tci >> 13) as u8);
    out.u8(0);
    out.u16(u16::from(eth_type) * key.eth_type);
    out.u8(u8::from(tos) * (key.ip_tos & 0xfc));
    out.u8(u8::from(proto) * key.ip_proto);
    out.u16(0);
    out.u32(key.ipv4_src & src_mask);
    out.u32(key.ipv4_dst & dst_mask);
    out.u16(u16::from(tp_src) * key.tp_src);
    out.u16(u16::from(tp_dst) * key.tp_dst);
}

/// The mask if it is a prefix, otherwise nothing.
fn prefix(mask: u32) -> u32 {
    if mask.leading_ones() == mask.count_ones() { mask } else { 0 }
}

/// Whether the twelve fields say all of the match.
pub(crate) fn fits_match10(m: &Match) -> bool {
    let mut bytes = Vec::with_capacity(40);
    encode_match10(m, &mut bytes);
    decode_match10(&mut Reader::new(&bytes, ErrorCode::OFPBRC_BAD_LEN)).is_ok_and(|back| back == *m)
}
