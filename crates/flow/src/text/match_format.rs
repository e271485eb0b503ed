//! How is a match printed, and how a key in a trace?

use std::fmt::Write;

use super::Syntax;
use super::match_parse::SHORTHANDS;
use super::value::{
    CT_FLAGS, TCP_FLAGS, format_flags, frag_word, hex, ipv4, ipv6, mac, packet_type, wide_hex,
};
use crate::{
    FRAG_LATER, Field, FlowKey, FlowMask, Match, OfPort, Prereq, TUN_CSUM, TUN_DF, TUN_KEY, TUN_OAM,
    VLAN_PRESENT,
};

/// Priority that is not written.
pub(super) const DEFAULT_PRIORITY: u16 = 0x8000;

/// Writes a match as `ovs-ofctl dump-flows` does, in its order. Nothing for a match of every packet.
pub fn format_match(m: &Match, syntax: &Syntax<'_>) -> String {
    format_with_priority(m, DEFAULT_PRIORITY, syntax)
}

/// Writes `priority=` unless it is the default one, and the match.
pub(super) fn format_with_priority(m: &Match, priority: u16, syntax: &Syntax<'_>) -> String {
    let mut w = Writer { out: String::new(), m, syntax, eth: false };
    if priority != DEFAULT_PRIORITY {
        let _ = write!(w.out, "priority={priority},");
    }
    w.whole();
    w.finish()
}

/// Writes a key as the "Flow:" line of `ofproto/trace` does: every field that such a packet has, and of the others
/// those that are not zero.
pub fn format_key(key: &FlowKey, syntax: &Syntax<'_>) -> String {
    format_match(&Match::new(key, mask_of_packet(key)), syntax)
}

/// Writes what a walk looked at, as the "Megaflow:" line of `ofproto/trace` does.
pub fn format_megaflow(key: &FlowKey, mask: &FlowMask, syntax: &Syntax<'_>) -> String {
    let mut mask = *mask;
    mask.0.packet.recirc_id = u32::MAX;
    mask.0.packet.extras = 0;
    mask.0.packet.in_port = 0;
    if mask.0.pipeline.in_port == 0 {
        mask.0.pipeline.in_port = u32::MAX;
    }
    let m = Match::new(key, mask);
    let mut w = Writer { out: String::new(), m: &m, syntax, eth: true };
    w.whole();
    w.finish()
}

/// Every field that a packet like this has.
fn mask_of_packet(key: &FlowKey) -> FlowMask {
    let mut mask = FlowMask::empty();
    for &field in Field::ALL {
        // A wider view of a register, or of the port, would show parts that are zero.
        let other_view = field == Field::InPort16 || (Field::Xreg0..=Field::Xxreg3).contains(&field);
        if field.get(key) != 0 && !other_view {
            field.mask_add(&mut mask, field.value_mask());
        }
    }
    let described = Match::new(key, FlowMask(everything()));
    let p = &mut mask.0.packet;
    mask.0.pipeline.in_port = u32::MAX;
    (p.eth_src.0, p.eth_dst.0, p.eth_type) = ([0xff; 6], [0xff; 6], 0xffff);
    p.vlan[0].tci = 0xffff;
    if key.packet.vlan[0].is_present() {
        p.vlan[1].tci = 0xffff;
    }
    for &field in Field::ALL {
        let of_packet = Field::IpSrc as u16 <= field as u16 || field.prereq() == Prereq::Mpls;
        let later = key.packet.ip_frag & FRAG_LATER != 0;
        let icmp = matches!(field.prereq(), Prereq::Icmp4 | Prereq::Icmp6);
        let of_packet = of_packet && !(later && icmp) && field.prereq() != Prereq::Ct;
        if of_packet && described.meets(field.prereq()) {
            field.mask_add(&mut mask, field.value_mask());
        }
    }
    let p = &mut mask.0.packet;
    if key.pipeline.packet_type != 0 {
        p.eth_type = 0;
    }
    if described.meets(Prereq::Nsh) {
        // What other packets have of IP is shown too; it is zero.
        (p.ip_proto, p.ip_tos, p.ip_ttl, p.ip_frag) = (0xff, 0xff, 0xff, 0x3);
    }
    if described.meets(Prereq::Nd) {
        // Both link-layer addresses are shown, the rest only where it is asked for.
        (p.arp_sha.0, p.arp_tha.0) = ([0xff; 6], [0xff; 6]);
        (p.nd_reserved, p.nd_options_type) = (0, 0);
    }
    if described.meets(Prereq::Ipv4) && key.packet.ip_proto == 2 && key.packet.ip_frag & FRAG_LATER == 0 {
        (p.tp_src, p.tp_dst) = (0xffff, 0xffff);
    }
    if described.meets(Prereq::Mpls) {
        let bottom = key.packet.mpls.iter().position(|entry| entry & 0x100 != 0).unwrap_or(2);
        p.mpls[..=bottom].fill(u32::MAX);
    }
    mask
}

fn everything() -> FlowKey {
    let mut all = FlowKey::default();
    all.words_mut().fill(u64::MAX);
    all
}

struct Writer<'a> {
    out: String,
    m: &'a Match,
    syntax: &'a Syntax<'a>,
    /// Whether to say that it is an Ethernet frame.
    eth: bool,
}

impl Writer<'_> {
    fn finish(mut self) -> String {
        if self.out.ends_with(',') {
            self.out.pop();
        }
        self.out
    }

    /// `name=value,` with a value in decimal when the mask is whole, `value/mask` in hexadecimal otherwise.
    fn dec(&mut self, name: &str, field: Field) {
        let Some((value, mask)) = self.m.get(field) else { return };
        self.number(name, value, mask, field.value_mask(), false);
    }

    /// `name=value/mask,` in hexadecimal.
    fn hex(&mut self, name: &str, field: Field) {
        let Some((value, mask)) = self.m.get(field) else { return };
        self.number(name, value, mask, field.value_mask(), true);
    }

    fn number(&mut self, name: &str, value: u128, mask: u128, all: u128, hexadecimal: bool) {
        let _ = write!(self.out, "{name}=");
        if mask == all && !hexadecimal {
            let _ = write!(self.out, "{value}");
        } else if mask == all {
            hex(&mut self.out, value);
        } else if !hexadecimal {
            let _ = write!(self.out, "{value:#x}/{mask:#x}");
        } else {
            hex(&mut self.out, value);
            self.out.push('/');
            hex(&mut self.out, mask);
        }
        self.out.push(',');
    }

    fn ipv4(&mut self, name: &str, field: Field) {
        let Some((value, mask)) = self.m.get(field) else { return };
        let _ = write!(self.out, "{name}=");
        ipv4(&mut self.out, value as u32, mask as u32);
        self.out.push(',');
    }

    fn ipv6(&mut self, name: &str, field: Field) {
        let Some((value, mask)) = self.m.get(field) else { return };
        let _ = write!(self.out, "{name}=");
        ipv6(&mut self.out, value, mask);
        self.out.push(',');
    }

    fn mac(&mut self, name: &str, field: Field) {
        let Some((value, mask)) = self.m.get(field) else { return };
        let _ = write!(self.out, "{name}=");
        mac(&mut self.out, value as u64, mask as u64);
        self.out.push(',');
    }

    fn port(&mut self, name: &str, field: Field) {
        let Some((value, _)) = self.m.get(field) else { return };
        let _ = write!(self.out, "{name}={},", self.syntax.port(OfPort(value as u32)));
    }

    fn flags(&mut self, name: &str, field: Field, names: &[&str]) {
        let Some((value, mask)) = self.m.get(field) else { return };
        let _ = write!(self.out, "{name}=");
        format_flags(&mut self.out, value, mask, field.value_mask(), names);
        self.out.push(',');
    }

    fn whole(&mut self) {
        self.context();
        let (word, proto_told) = self.protocol();
        if let Some(word) = word {
            let _ = write!(self.out, "{word},");
        }
        for n in 0..16 {
            if let Some(reg) = Field::reg(n) {
                self.hex(reg.name(), reg);
            }
        }
        self.tunnel();
        self.hex("metadata", Field::Metadata);
        self.port("in_port", Field::InPort);
        self.vlans();
        self.mac("dl_src", Field::EthSrc);
        self.mac("dl_dst", Field::EthDst);
        if let (None, Some((value, _))) = (word, self.m.get(Field::EthType)) {
            let _ = write!(self.out, "dl_type=0x{value:04x},");
        }
        self.network(proto_told);
        self.mpls();
        if let Some((value, mask)) = self.m.get(Field::IpFrag) {
            let _ = write!(self.out, "nw_frag={},", frag_word(value as u8, mask as u8));
        }
        self.transport();
    }

    /// What is not in the packet and stands before the protocol.
    fn context(&mut self) {
        self.hex("pkt_mark", Field::PktMark);
        self.hex("recirc_id", Field::RecircId);
        self.hex("dp_hash", Field::DpHash);
        self.dec("conj_id", Field::ConjId);
        self.hex("skb_priority", Field::SkbPriority);
        self.port("actset_output", Field::ActsetOutput);
        self.flags("ct_state", Field::CtState, CT_FLAGS);
        self.dec("ct_zone", Field::CtZone);
        self.hex("ct_mark", Field::CtMark);
        self.hex("ct_label", Field::CtLabel);
        self.ipv4("ct_nw_src", Field::CtNwSrc);
        self.ipv6("ct_ipv6_src", Field::CtIpv6Src);
        self.ipv4("ct_nw_dst", Field::CtNwDst);
        self.ipv6("ct_ipv6_dst", Field::CtIpv6Dst);
        self.dec("ct_nw_proto", Field::CtNwProto);
        self.dec("ct_tp_src", Field::CtTpSrc);
        self.dec("ct_tp_dst", Field::CtTpDst);
        match self.m.get(Field::PacketType) {
            Some((value, _)) if value != 0 => {
                self.out.push_str("packet_type=");
                packet_type(&mut self.out, value as u32);
                self.out.push(',');
            }
            _ if self.eth => self.out.push_str("eth,"),
            _ => {}
        }
    }

    /// The word for EtherType and IP protocol, and whether it tells the latter.
    fn protocol(&self) -> (Option<&'static str>, bool) {
        let Some(eth_type) = self.m.exact(Field::EthType) else { return (None, false) };
        let ip = matches!(eth_type, 0x0800 | 0x86dd);
        let proto = self.m.exact(Field::NwProto).filter(|_| ip);
        let find = |proto: Option<u128>| {
            let same = |p: &Option<u8>| p.map(u128::from) == proto;
            SHORTHANDS.iter().find(|(_, t, p)| u128::from(*t) == eth_type && same(p)).map(|(word, ..)| *word)
        };
        match proto.and_then(|p| find(Some(p))) {
            Some(word) => (Some(word), true),
            None if eth_type == 0x0800 && proto == Some(2) && self.eth => (Some("igmp"), true),
            None => (find(None), false),
        }
    }

    fn tunnel(&mut self) {
        self.hex("tun_id", Field::TunId);
        self.ipv4("tun_src", Field::TunSrc);
        self.ipv4("tun_dst", Field::TunDst);
        self.ipv6("tun_ipv6_src", Field::TunIpv6Src);
        self.ipv6("tun_ipv6_dst", Field::TunIpv6Dst);
        self.dec("tun_gbp_id", Field::TunGbpId);
        self.hex("tun_gbp_flags", Field::TunGbpFlags);
        let (tun, mask) = (&self.m.key.tunnel, &self.m.mask.0.tunnel);
        if mask.tos != 0 {
            let _ = write!(self.out, "tun_tos={},", tun.tos);
        }
        if mask.ttl != 0 {
            let _ = write!(self.out, "tun_ttl={},", tun.ttl);
        }
        self.dec("tun_erspan_ver", Field::TunErspanVer);
        self.hex("tun_erspan_idx", Field::TunErspanIdx);
        self.dec("tun_erspan_dir", Field::TunErspanDir);
        self.hex("tun_erspan_hwid", Field::TunErspanHwid);
        self.hex("gtpu_flags", Field::TunGtpuFlags);
        self.dec("gtpu_msgtype", Field::TunGtpuMsgtype);
        let mut flags = String::new();
        for (bit, name) in [(TUN_DF, "df"), (TUN_CSUM, "csum"), (TUN_KEY, "key"), (TUN_OAM, "oam")] {
            if mask.flags & bit != 0 {
                flags.push(if tun.flags & bit != 0 { '+' } else { '-' });
                flags.push_str(name);
            }
        }
        if !flags.is_empty() {
            let _ = write!(self.out, "tun_flags={flags},");
        }
        self.options();
    }

    fn options(&mut self) {
        for mapping in self.syntax.tlv.mappings() {
            let index = usize::from(mapping.index);
            let Some((value, mask)) = self.m.option(index, self.syntax.tlv) else { continue };
            let _ = write!(self.out, "tun_metadata{index}");
            if mask.iter().any(|b| *b != 0) {
                self.out.push('=');
                wide_hex(&mut self.out, &value);
                if mask.iter().any(|b| *b != 0xff) {
                    self.out.push('/');
                    wide_hex(&mut self.out, &mask);
                }
            }
            self.out.push(',');
        }
    }

    fn vlans(&mut self) {
        for (i, suffix) in ["", "1"].into_iter().enumerate() {
            let (tci, mask) = (self.m.key.packet.vlan[i].tci, self.m.mask.0.packet.vlan[i].tci);
            if mask == 0 {
                return;
            }
            let (vid, pcp) = (mask & 0x0fff, mask & 0xe000);
            let tagged = mask & tci & VLAN_PRESENT != 0;
            let whole = matches!(vid, 0 | 0x0fff) && matches!(pcp, 0 | 0xe000) && (vid | pcp) != 0;
            if tagged && whole {
                if vid != 0 {
                    let _ = write!(self.out, "dl_vlan{suffix}={},", tci & 0xfff);
                }
                if pcp != 0 {
                    let _ = write!(self.out, "dl_vlan_pcp{suffix}={},", tci >> 13);
                }
            } else if mask == 0xffff {
                let _ = write!(self.out, "vlan_tci{suffix}=0x{tci:04x},");
            } else {
                let _ = write!(self.out, "vlan_tci{suffix}=0x{tci:04x}/0x{mask:04x},");
            }
        }
    }

    /// Addresses and header of IPv6, ARP or IPv4.
    fn network(&mut self, proto_told: bool) {
        if self.m.meets(Prereq::Nsh) {
            self.nsh();
        }
        let arp = self.m.meets(Prereq::Arp);
        if self.m.meets(Prereq::Ipv6) {
            self.ipv6("ipv6_src", Field::Ipv6Src);
            self.ipv6("ipv6_dst", Field::Ipv6Dst);
            if let Some((value, mask)) = self.m.get(Field::Ipv6Label) {
                let _ = write!(self.out, "ipv6_label=0x{value:05x}");
                if mask != Field::Ipv6Label.value_mask() {
                    let _ = write!(self.out, "/0x{mask:05x}");
                }
                self.out.push(',');
            }
        } else if arp {
            self.ipv4("arp_spa", Field::ArpSpa);
            self.ipv4("arp_tpa", Field::ArpTpa);
        } else if !self.m.meets(Prereq::Nsh) {
            self.ipv4("nw_src", Field::IpSrc);
            self.ipv4("nw_dst", Field::IpDst);
        }
        if arp {
            self.dec("arp_op", Field::ArpOp);
            self.mac("arp_sha", Field::ArpSha);
            self.mac("arp_tha", Field::ArpTha);
        } else if !proto_told {
            self.dec("nw_proto", Field::NwProto);
        }
        if let Some((value, _)) = self.m.get(Field::NwTos) {
            let _ = write!(self.out, "nw_tos={value},");
        }
        if let Some((value, _)) = self.m.get(Field::NwEcn) {
            let _ = write!(self.out, "nw_ecn={value},");
        }
        if let Some((value, _)) = self.m.get(Field::NwTtl) {
            let _ = write!(self.out, "nw_ttl={value},");
        }
    }

    fn nsh(&mut self) {
        let byte = |w: &mut Self, name: &str, field: Field| match w.m.get(field) {
            Some((value, mask)) if mask != field.value_mask() => {
                let _ = write!(w.out, "{name}=0x{value:02x}/0x{mask:02x},");
            }
            Some((value, _)) => {
                let _ = write!(w.out, "{name}={value},");
            }
            None => {}
        };
        let word = |w: &mut Self, name: &str, field: Field| {
            let Some((value, mask)) = w.m.get(field) else { return };
            let _ = write!(w.out, "{name}={value:#x}");
            if mask != field.value_mask() {
                let _ = write!(w.out, "/{mask:#x}");
            }
            w.out.push(',');
        };
        byte(self, "nsh_flags", Field::NshFlags);
        byte(self, "nsh_ttl", Field::NshTtl);
        byte(self, "nsh_mdtype", Field::NshMdtype);
        byte(self, "nsh_np", Field::NshNp);
        word(self, "nsh_spi", Field::NshSpi);
        byte(self, "nsh_si", Field::NshSi);
        // Only metadata of type 1 is words.
        if self.m.exact(Field::NshMdtype) == Some(1) {
            for field in [Field::NshC1, Field::NshC2, Field::NshC3, Field::NshC4] {
                word(self, field.name(), field);
            }
        }
    }

    fn mpls(&mut self) {
        self.dec("mpls_label", Field::MplsLabel);
        self.dec("mpls_tc", Field::MplsTc);
        self.dec("mpls_ttl", Field::MplsTtl);
        self.dec("mpls_bos", Field::MplsBos);
        for (n, name) in [(1, "mpls_lse1"), (2, "mpls_lse2")] {
            let (value, mask) = (self.m.key.packet.mpls[n], self.m.mask.0.packet.mpls[n]);
            if mask == u32::MAX {
                let _ = write!(self.out, "{name}={value},");
            } else if mask != 0 {
                let _ = write!(self.out, "{name}=0x{value:08x}/0x{mask:08x},");
            }
        }
    }

    fn transport(&mut self) {
        let proto = self.m.exact(Field::NwProto);
        let (v4, v6) = (self.m.meets(Prereq::Ipv4), self.m.meets(Prereq::Ipv6));
        if v4 && proto == Some(1) || v6 && proto == Some(58) {
            self.dec("icmp_type", Field::IcmpType);
            self.dec("icmp_code", Field::IcmpCode);
            if v6 {
                self.ipv6("nd_target", Field::NdTarget);
                self.mac("nd_sll", Field::NdSll);
                self.mac("nd_tll", Field::NdTll);
                self.dec("nd_reserved", Field::NdReserved);
                self.dec("nd_options_type", Field::NdOptionsType);
            }
            return;
        }
        self.dec("tp_src", Field::TcpSrc);
        self.dec("tp_dst", Field::TcpDst);
        if (v4 || v6) && proto == Some(6) {
            self.flags("tcp_flags", Field::TcpFlags, TCP_FLAGS);
        }
    }
}
