//! How does `dpctl/dump-flows` print a cached flow?
//!
//! Each header is a group, `eth(src=...,dst=...)`; what the flow does not look at is left out.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use weft_wire::{EtherType, IpProto, Mac};

use super::odp_action::mpls_entry;
use super::value::{CT_FLAGS, TCP_FLAGS, frag_word, hex, wide_hex};
use crate::{
    DpPort, EXTRA_BARE, Field, FlowKey, FlowMask, Match, PacketKey, TUN_CSUM, TUN_DF, TUN_GBP, TUN_KEY,
    TUN_OAM, TlvTable, TunnelKey, Vlan,
};

/// Names of `TunnelKey::flags`, in the order in which they are printed.
pub(super) const TUNNEL_FLAGS: &[(u16, &str)] =
    &[(TUN_DF, "df"), (TUN_CSUM, "csum"), (TUN_KEY, "key"), (TUN_OAM, "oam")];

/// Writes a number in decimal or hexadecimal.
type Number = fn(&mut String, u128);

fn decimal(out: &mut String, n: u128) {
    let _ = write!(out, "{n}");
}

/// A group of fields in parentheses, as it is being written.
pub(super) struct Group {
    name: &'static str,
    parts: Vec<String>,
}

impl Group {
    pub(super) fn new(name: &'static str) -> Self {
        Group { name, parts: Vec::new() }
    }
    pub(super) fn push(&mut self, part: String) {
        self.parts.push(part);
    }
    /// `name=value[/mask]`, if any bit of the mask is set.
    fn number(&mut self, name: &str, value: u128, mask: u128, all: u128, write: Number) {
        if mask == 0 {
            return;
        }
        let mut part = format!("{name}=");
        write(&mut part, value);
        if mask != all {
            let _ = write!(part, "/{mask:#x}");
        }
        self.parts.push(part);
    }
    fn byte(&mut self, name: &str, value: u8, mask: u8) {
        self.number(name, value.into(), mask.into(), 0xff, decimal);
    }
    fn port(&mut self, name: &str, value: u16, mask: u16) {
        self.number(name, value.into(), mask.into(), 0xffff, decimal);
    }
    fn ipv4(&mut self, name: &str, value: u32, mask: u32) {
        if mask != 0 {
            let mask_text =
                if mask == u32::MAX { String::new() } else { format!("/{}", Ipv4Addr::from_bits(mask)) };
            self.parts.push(format!("{name}={}{mask_text}", Ipv4Addr::from_bits(value)));
        }
    }
    fn ipv6(&mut self, name: &str, value: [u8; 16], mask: [u8; 16]) {
        if mask != [0; 16] {
            let mask_text =
                if mask == [0xff; 16] { String::new() } else { format!("/{}", Ipv6Addr::from(mask)) };
            self.parts.push(format!("{name}={}{mask_text}", Ipv6Addr::from(value)));
        }
    }
    fn mac(&mut self, name: &str, value: Mac, mask: Mac) {
        if !mask.is_zero() {
            let mask_text = if mask.is_broadcast() { String::new() } else { format!("/{mask}") };
            self.parts.push(format!("{name}={value}{mask_text}"));
        }
    }
    fn frag(&mut self, value: u8, mask: u8) {
        if mask != 0 {
            self.parts.push(format!("frag={}", frag_word(value, mask)));
        }
    }
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
    pub(super) fn text(&self) -> String {
        format!("{}({})", self.name, self.parts.join(","))
    }
    /// Adds the group to a list unless it is empty.
    fn finish(self, out: &mut Vec<String>) {
        if !self.is_empty() {
            out.push(self.text());
        }
    }
}

/// Writes the match of a cached flow: tunnel and connection, `recirc_id`, `in_port`, and the headers it looks at.
/// `port_name` gives names to datapath ports; without one the number is written.
pub fn format_dp_flow(
    key: &FlowKey,
    mask: &FlowMask,
    port_name: &dyn Fn(DpPort) -> Option<String>,
) -> String {
    format_dp_flow_options(key, mask, &TlvTable::new(), port_name)
}

/// [`format_dp_flow`] with tunnel options, which are known by this table.
pub fn format_dp_flow_options(
    key: &FlowKey,
    mask: &FlowMask,
    options: &TlvTable,
    port_name: &dyn Fn(DpPort) -> Option<String>,
) -> String {
    let entries = mpls_entries(key.packet.mpls);
    let key = mask.apply(key);
    let m = &mask.0;
    let mut out = Vec::new();
    let options = geneve_match(&Match { key, mask: *mask }, options);
    tunnel_match(&key.tunnel, &m.tunnel, options).finish(&mut out);
    connection(&key, m, &mut out);
    let mut recirc = String::new();
    hex(&mut recirc, key.packet.recirc_id.into());
    out.push(format!("recirc_id({recirc})"));
    if m.ct.dp_hash != 0 {
        out.push(numbers("dp_hash", key.ct.dp_hash.into(), m.ct.dp_hash.into(), u32::MAX.into()));
    }
    let port = DpPort(key.packet.in_port);
    out.push(format!("in_port({})", port_name(port).unwrap_or_else(|| port.to_string())));
    out.push(match key.packet.extras & EXTRA_BARE {
        0 => "packet_type(ns=0,id=0)".to_owned(),
        _ => format!("packet_type(ns=1,id={:#x})", key.packet.eth_type),
    });
    headers(&key.packet, &m.packet, entries, &mut out);
    out.join(",")
}

/// Writes the statistics of a cached flow as they stand between match and actions: `used_ms` is the time since the
/// last packet, `tcp_flags` are all flags seen.
pub fn format_dp_flow_stats(packets: u64, bytes: u64, used_ms: Option<u64>, tcp_flags: u16) -> String {
    const LETTERS: &[(u16, char)] =
        &[(2, 'S'), (1, 'F'), (8, 'P'), (4, 'R'), (32, 'U'), (16, '.'), (64, 'E'), (128, 'C'), (256, 'N')];
    let used = match used_ms {
        Some(ms) => format!("{}.{:03}s", ms / 1000, ms % 1000),
        None => "never".to_owned(),
    };
    let letters: String = LETTERS.iter().filter(|(bit, _)| tcp_flags & bit != 0).map(|(_, c)| *c).collect();
    let flags = if letters.is_empty() { String::new() } else { format!(", flags:{letters}") };
    format!("packets:{packets}, bytes:{bytes}, used:{used}{flags}")
}

/// The options that a flow looks at: class, type, length, value and mask of each.
fn geneve_match(m: &Match, table: &TlvTable) -> String {
    let mut out = String::new();
    for mapping in table.mappings() {
        let Some((value, mask)) = m.option(mapping.index.into(), table) else { continue };
        out.push_str("{class=");
        hex(&mut out, mapping.class.into());
        out.push_str(",type=");
        hex(&mut out, mapping.kind.into());
        let _ = write!(out, ",len={},", mapping.len);
        wide_hex(&mut out, &value);
        if mask.iter().any(|b| *b != 0xff) {
            out.push('/');
            wide_hex(&mut out, &mask);
        }
        out.push('}');
    }
    out
}

fn tunnel_match(key: &TunnelKey, mask: &TunnelKey, options: String) -> Group {
    let mut g = tunnel_fields(key, mask);
    if !options.is_empty() {
        g.push(format!("geneve({options})"));
    }
    let flags: String = TUNNEL_FLAGS
        .iter()
        .filter(|(bit, _)| mask.flags & bit != 0)
        .map(|(bit, name)| format!("{}{name}", if key.flags & bit != 0 { '+' } else { '-' }))
        .collect();
    if !flags.is_empty() {
        g.push(format!("flags({flags})"));
    }
    g
}

/// Everything of a tunnel but its flags, in OVS's order.
pub(super) fn tunnel_fields(key: &TunnelKey, mask: &TunnelKey) -> Group {
    let mut g = Group::new("tunnel");
    // Unlike elsewhere, an identifier of zero is written with its prefix.
    g.number("tun_id", key.id.into(), mask.id.into(), u64::MAX.into(), |out, n| {
        let _ = write!(out, "{n:#x}");
    });
    g.ipv4("src", key.ipv4_src, mask.ipv4_src);
    g.ipv4("dst", key.ipv4_dst, mask.ipv4_dst);
    g.ipv6("ipv6_src", key.ipv6_src, mask.ipv6_src);
    g.ipv6("ipv6_dst", key.ipv6_dst, mask.ipv6_dst);
    g.number("tos", key.tos.into(), mask.tos.into(), 0xff, hex);
    g.byte("ttl", key.ttl, mask.ttl);
    g.port("tp_src", key.tp_src, mask.tp_src);
    g.port("tp_dst", key.tp_dst, mask.tp_dst);
    if mask.gbp_id != 0 || mask.gbp_flags != 0 {
        let mut gbp = Group::new("gbp");
        gbp.port("id", key.gbp_id, mask.gbp_id);
        gbp.number("flags", key.gbp_flags.into(), mask.gbp_flags.into(), 0xff, hex);
        g.push(format!("vxlan({})", gbp.text()));
    }
    g
}

/// A mask of the parts of a tunnel key that are printed for an action.
pub(super) fn tunnel_output_mask(key: &TunnelKey) -> TunnelKey {
    let set = |on: bool| if on { u32::MAX } else { 0 };
    let set16 = |on: bool| if on { [0xff; 16] } else { [0; 16] };
    let gbp = key.flags & TUN_GBP != 0;
    TunnelKey {
        id: if key.flags & TUN_KEY != 0 { u64::MAX } else { 0 },
        ipv4_src: set(key.ipv4_src != 0),
        ipv4_dst: set(key.ipv4_dst != 0),
        ipv6_src: set16(key.ipv6_src != [0; 16]),
        ipv6_dst: set16(key.ipv6_dst != [0; 16]),
        tos: set(key.tos != 0) as u8,
        ttl: 0xff,
        tp_src: set(key.tp_src != 0) as u16,
        tp_dst: set(key.tp_dst != 0) as u16,
        gbp_id: set(gbp) as u16,
        gbp_flags: set(gbp) as u8,
        ..TunnelKey::default()
    }
}

fn connection(key: &FlowKey, mask: &FlowKey, out: &mut Vec<String>) {
    let (ct, m) = (&key.ct, &mask.ct);
    if m.state != 0 {
        let flags: String = CT_FLAGS
            .iter()
            .enumerate()
            .filter(|(i, _)| m.state >> i & 1 != 0)
            .map(|(i, name)| format!("{}{name}", if ct.state >> i & 1 != 0 { '+' } else { '-' }))
            .collect();
        out.push(format!("ct_state({flags})"));
    }
    let mut whole = |name: &'static str, value: u128, mask: u128, all: u128| {
        if mask != 0 {
            out.push(numbers(name, value, mask, all));
        }
    };
    whole("ct_zone", ct.zone.into(), m.zone.into(), 0xffff);
    whole("ct_mark", ct.mark.into(), m.mark.into(), u32::MAX.into());
    whole("ct_label", u128::from_be_bytes(ct.label), u128::from_be_bytes(m.label), u128::MAX);
    let ipv6 = key.packet.eth_type == EtherType::IPV6.0;
    let mut tuple = Group::new(if ipv6 { "ct_tuple6" } else { "ct_tuple4" });
    tuple.ipv4("src", ct.ipv4_src, m.ipv4_src);
    tuple.ipv4("dst", ct.ipv4_dst, m.ipv4_dst);
    tuple.ipv6("src", ct.ipv6_src, m.ipv6_src);
    tuple.ipv6("dst", ct.ipv6_dst, m.ipv6_dst);
    tuple.byte("proto", ct.ip_proto, m.ip_proto);
    tuple.port(if ipv6 { "src_port" } else { "tp_src" }, ct.tp_src, m.tp_src);
    tuple.port(if ipv6 { "dst_port" } else { "tp_dst" }, ct.tp_dst, m.tp_dst);
    tuple.finish(out);
}

/// `name(value[/mask])` in hexadecimal.
fn numbers(name: &str, value: u128, mask: u128, all: u128) -> String {
    let mut part = format!("{name}(");
    hex(&mut part, value);
    if mask != all {
        let _ = write!(part, "/{mask:#x}");
    }
    part.push(')');
    part
}

/// How many label stack entries a key holds: up to the bottom of the stack, or else all that are not zero.
fn mpls_entries(mpls: [u32; 3]) -> usize {
    match mpls.iter().position(|lse| lse & 0x100 != 0) {
        Some(bottom) => bottom + 1,
        None => mpls.iter().filter(|lse| **lse != 0).count(),
    }
}

fn headers(key: &PacketKey, mask: &PacketKey, entries: usize, out: &mut Vec<String>) {
    let mut eth = Group::new("eth");
    eth.mac("src", key.eth_src, mask.eth_src);
    eth.mac("dst", key.eth_dst, mask.eth_dst);
    eth.finish(out);
    let mut open = 0;
    for (tag, m) in key.vlan.iter().zip(&mask.vlan) {
        if !tag.is_present() {
            break;
        }
        let tpid = if tag.tpid == 0 { EtherType::VLAN.0 } else { tag.tpid };
        out.push(format!("eth_type(0x{tpid:04x}),{},encap(", vlan(*tag, *m)));
        open += 1;
    }
    let mut inner = Vec::new();
    if mask.eth_type != 0 {
        inner.push(format!("eth_type(0x{:04x})", key.eth_type));
    }
    if matches!(EtherType(key.eth_type), EtherType::MPLS | EtherType::MPLS_MC) {
        labels(key.mpls, mask.mpls, entries, &mut inner);
    }
    network(key, mask, &mut inner);
    if open == 0 {
        out.append(&mut inner);
        return;
    }
    let tags = out.split_off(out.len() - open).concat();
    out.push(format!("{tags}{}{}", inner.join(","), ")".repeat(open)));
}

fn vlan(tag: Vlan, mask: Vlan) -> String {
    let masked = |mask: u16, all: u16| if mask == all { String::new() } else { format!("/{mask:#x}") };
    let (vid, pcp) = (masked(mask.vid(), 0xfff), masked(mask.pcp().into(), 7));
    format!("vlan(vid={}{vid},pcp={}{pcp})", tag.vid(), tag.pcp())
}

fn labels(key: [u32; 3], mask: [u32; 3], entries: usize, out: &mut Vec<String>) {
    if mask == [0; 3] {
        return;
    }
    let (v, m) = (key[0], mask[0]);
    if entries > 1 {
        let entry = |(i, (v, m)): (usize, (u32, u32))| {
            let mut part = format!("lse{i}=");
            hex(&mut part, v.into());
            if m != u32::MAX {
                part.push('/');
                hex(&mut part, m.into());
            }
            part
        };
        let all = key.into_iter().zip(mask).enumerate().take(entries);
        out.push(format!("mpls({})", all.map(entry).collect::<Vec<_>>().join(",")));
    } else if m == u32::MAX {
        out.push(format!("mpls({})", mpls_entry(v)));
    } else {
        out.push(format!(
            "mpls(label={}/{:#x},tc={}/{:x},ttl={}/{:#x},bos={}/{:x})",
            v >> 12,
            m >> 12,
            v >> 9 & 7,
            m >> 9 & 7,
            v & 0xff,
            m & 0xff,
            v >> 8 & 1,
            m >> 8 & 1
        ));
    }
}

fn network(key: &PacketKey, mask: &PacketKey, out: &mut Vec<String>) {
    match EtherType(key.eth_type) {
        EtherType::IPV4 => {
            let mut g = Group::new("ipv4");
            g.ipv4("src", key.ipv4_src, mask.ipv4_src);
            g.ipv4("dst", key.ipv4_dst, mask.ipv4_dst);
            g.byte("proto", key.ip_proto, mask.ip_proto);
            g.number("tos", key.ip_tos.into(), mask.ip_tos.into(), 0xff, hex);
            g.byte("ttl", key.ip_ttl, mask.ip_ttl);
            g.frag(key.ip_frag, mask.ip_frag);
            g.finish(out);
            transport(key, mask, out);
        }
        EtherType::IPV6 => {
            let mut g = Group::new("ipv6");
            g.ipv6("src", key.ipv6_src, mask.ipv6_src);
            g.ipv6("dst", key.ipv6_dst, mask.ipv6_dst);
            g.number("label", key.ipv6_label.into(), (mask.ipv6_label & 0xf_ffff).into(), 0xf_ffff, hex);
            g.byte("proto", key.ip_proto, mask.ip_proto);
            g.number("tclass", key.ip_tos.into(), mask.ip_tos.into(), 0xff, hex);
            g.byte("hlimit", key.ip_ttl, mask.ip_ttl);
            g.frag(key.ip_frag, mask.ip_frag);
            g.finish(out);
            transport(key, mask, out);
        }
        EtherType::ARP | EtherType::RARP => {
            let mut g = Group::new("arp");
            g.ipv4("sip", key.ipv4_src, mask.ipv4_src);
            g.ipv4("tip", key.ipv4_dst, mask.ipv4_dst);
            g.byte("op", key.ip_proto, mask.ip_proto);
            g.mac("sha", key.arp_sha, mask.arp_sha);
            g.mac("tha", key.arp_tha, mask.arp_tha);
            g.finish(out);
        }
        EtherType::NSH => nsh(key, mask, out),
        _ => {}
    }
}

fn nsh(key: &PacketKey, mask: &PacketKey, out: &mut Vec<String>) {
    let key = FlowKey { packet: *key, ..FlowKey::default() };
    let mask = FlowMask(FlowKey { packet: *mask, ..FlowKey::default() });
    let mut g = Group::new("nsh");
    for (name, field) in NSH_FIELDS {
        let (value, bits) = (field.get(&key), field.mask_of(&mask));
        if bits != 0 {
            g.push(nsh_part(name, *field, value, bits));
        }
    }
    g.finish(out);
}

/// Fields of a network service header, by their names in datapath flows.
pub(super) const NSH_FIELDS: &[(&str, Field)] = &[
    ("flags", Field::NshFlags),
    ("ttl", Field::NshTtl),
    ("mdtype", Field::NshMdtype),
    ("np", Field::NshNp),
    ("spi", Field::NshSpi),
    ("si", Field::NshSi),
    ("c1", Field::NshC1),
    ("c2", Field::NshC2),
    ("c3", Field::NshC3),
    ("c4", Field::NshC4),
];

/// A field of a network service header in a datapath flow or action: bytes in decimal, words in hexadecimal; masks with
/// all their digits, and both parts so where a byte is masked.
pub(super) fn nsh_part(name: &str, field: Field, value: u128, mask: u128) -> String {
    match (field.bits() > 8, mask == field.value_mask()) {
        (true, true) => format!("{name}={value:#x}"),
        (true, false) => format!("{name}={value:#x}/0x{mask:08x}"),
        (false, true) => format!("{name}={value}"),
        (false, false) => format!("{name}=0x{value:02x}/0x{mask:02x}"),
    }
}

fn transport(key: &PacketKey, mask: &PacketKey, out: &mut Vec<String>) {
    let ports = |name: &'static str, src: &str, dst: &str, out: &mut Vec<String>| {
        let mut g = Group::new(name);
        g.port(src, key.tp_src, mask.tp_src);
        g.port(dst, key.tp_dst, mask.tp_dst);
        g.finish(out);
    };
    match (IpProto(key.ip_proto), key.eth_type == EtherType::IPV6.0) {
        (IpProto::TCP, _) => {
            ports("tcp", "src", "dst", out);
            let mut flags = String::new();
            let names = TCP_FLAGS;
            super::value::format_flags(&mut flags, key.tcp_flags.into(), mask.tcp_flags.into(), 0xfff, names);
            if mask.tcp_flags != 0 {
                out.push(format!("tcp_flags({flags})"));
            }
        }
        (IpProto::UDP, _) => ports("udp", "src", "dst", out),
        (IpProto::SCTP, _) => ports("sctp", "src", "dst", out),
        (IpProto::ICMP, false) | (IpProto::ICMPV6, true) => {
            let v6 = key.eth_type == EtherType::IPV6.0;
            let mut g = Group::new(if v6 { "icmpv6" } else { "icmp" });
            // Types and codes are bytes, in fields of 16 bits.
            g.byte("type", key.tp_src as u8, mask.tp_src as u8);
            g.byte("code", key.tp_dst as u8, mask.tp_dst as u8);
            g.finish(out);
            if v6 {
                let mut g = Group::new("nd");
                g.ipv6("target", key.nd_target, mask.nd_target);
                g.mac("sll", key.arp_sha, mask.arp_sha);
                g.mac("tll", key.arp_tha, mask.arp_tha);
                g.finish(out);
                let mut g = Group::new("nd_ext");
                let reserved = (key.nd_reserved.into(), mask.nd_reserved.into());
                g.number("nd_reserved", reserved.0, reserved.1, u32::MAX.into(), |out, n| {
                    let _ = write!(out, "{n:#x}");
                });
                g.byte("nd_options_type", key.nd_options_type, mask.nd_options_type);
                g.finish(out);
            }
        }
        _ => {}
    }
}
