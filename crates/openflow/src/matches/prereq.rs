//! May a match look at this field, given what else it looks at?

use weft_flow::{FRAG_LATER, Match, Prereq};
use weft_wire::{EtherType, IpProto};

/// Whether `m` holds what `prereq` demands (OpenFlow 1.3 §7.2.3.6, `ovs-fields(7)`).
pub fn holds(prereq: Prereq, m: &Match) -> bool {
    let p = &m.key.packet;
    match prereq {
        Prereq::None => true,
        Prereq::Ethernet => m.mask.0.pipeline.packet_type == 0 || m.key.pipeline.packet_type == 0,
        Prereq::Vlan => m.mask.0.packet.vlan[0].is_present() && p.vlan[0].is_present(),
        Prereq::Arp => eth_type(m, &[EtherType::ARP, EtherType::RARP]),
        Prereq::Ipv4 => eth_type(m, &[EtherType::IPV4]),
        Prereq::Ipv6 => eth_type(m, &[EtherType::IPV6]),
        Prereq::Ip => eth_type(m, &[EtherType::IPV4, EtherType::IPV6]),
        Prereq::Mpls => eth_type(m, &[EtherType::MPLS, EtherType::MPLS_MC]),
        Prereq::Nsh => eth_type(m, &[EtherType::NSH]),
        Prereq::Tcp => transport(m, IpProto::TCP),
        Prereq::Udp => transport(m, IpProto::UDP),
        Prereq::Sctp => transport(m, IpProto::SCTP),
        Prereq::Icmp4 => holds(Prereq::Ipv4, m) && transport(m, IpProto::ICMP),
        Prereq::Icmp6 => holds(Prereq::Ipv6, m) && transport(m, IpProto::ICMPV6),
        Prereq::NdSolicit => icmp6_type(m, &[135]),
        Prereq::NdAdvert => icmp6_type(m, &[136]),
        Prereq::Nd => icmp6_type(m, &[135, 136]),
        Prereq::Ct => tracked(m),
    }
}

/// Bits of `ct_state` that only a packet of a known connection has: new, est, rel, rpl, snat, dnat.
const CT_KNOWN: u16 = 0xcf;
const CT_INVALID: u16 = 0x10;
const CT_TRACKED: u16 = 0x20;

/// Whether the original tuple is known: by a bit that says so, or by `+trk-inv`.
fn tracked(m: &Match) -> bool {
    let (state, mask) = (m.key.ct.state, m.mask.0.ct.state);
    state & CT_KNOWN != 0 || state & CT_TRACKED != 0 && mask & CT_INVALID != 0 && state & CT_INVALID == 0
}

fn eth_type(m: &Match, any: &[EtherType]) -> bool {
    m.mask.0.packet.eth_type == u16::MAX && any.iter().any(|t| t.0 == m.key.packet.eth_type)
}

fn transport(m: &Match, proto: IpProto) -> bool {
    let later = m.mask.0.packet.ip_frag & m.key.packet.ip_frag & FRAG_LATER != 0;
    let exact = m.mask.0.packet.ip_proto == u8::MAX && m.key.packet.ip_proto == proto.0;
    holds(Prereq::Ip, m) && exact && !later
}

fn icmp6_type(m: &Match, any: &[u16]) -> bool {
    let exact = m.mask.0.packet.tp_src & 0xff == 0xff;
    holds(Prereq::Icmp6, m) && exact && any.contains(&m.key.packet.tp_src)
}
