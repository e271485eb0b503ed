//! How are the actions of a cached flow printed?

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use weft_wire::nsh::{Metadata, NshRepr};
use weft_wire::{EtherType, IpProto};

use super::ct::format_dp_ct;
use super::odp::{Group, NSH_FIELDS, TUNNEL_FLAGS, nsh_part, tunnel_fields, tunnel_output_mask};
use super::value::{hex, wide_hex};
use crate::{
    DpAction, DpPort, EVERY_PACKET, EncapHeader, FlowKey, PacketKey, SampleDirection, SampleTo, Sampler,
    SetField, ToController, TunnelKind, TunnelOut,
};

/// Writes datapath actions separated by commas; `drop` if there are none. `key` is the packet's, which tells what
/// protocol the fields that are set belong to; `port_name` as in [`super::format_dp_flow`].
pub fn format_dp_actions(
    actions: &[DpAction],
    key: &PacketKey,
    port_name: &dyn Fn(DpPort) -> Option<String>,
) -> String {
    if actions.is_empty() {
        return "drop".to_owned();
    }
    let mut out: Vec<String> = Vec::new();
    let mut rest = actions;
    while let Some((action, after)) = rest.split_first() {
        rest = after;
        if let DpAction::Set(field) = action {
            let name = group_of(field, key);
            let mut parts = parts_of(field, key);
            while let Some((DpAction::Set(field), after)) = rest.split_first()
                && group_of(field, key) == name
            {
                parts.extend(parts_of(field, key));
                rest = after;
            }
            // As the kernel's structures order them; what is set twice counts as it was set last.
            parts.sort_by_key(|(order, _)| *order);
            parts.reverse();
            parts.dedup_by_key(|(order, _)| *order);
            parts.reverse();
            let mut group = Group::new(name);
            parts.into_iter().for_each(|(_, text)| group.push(text));
            out.push(format!("set({})", group.text()));
        } else {
            out.push(one(action, key, port_name));
        }
    }
    out.join(",")
}

fn one(action: &DpAction, key: &PacketKey, port_name: &dyn Fn(DpPort) -> Option<String>) -> String {
    let port = |p: &DpPort| port_name(*p).unwrap_or_else(|| p.to_string());
    match action {
        DpAction::Output(p) => port(p),
        DpAction::SetTunnel(tunnel) => format!("set({})", tunnel_text(tunnel)),
        DpAction::Trunc(max_len) => format!("trunc({max_len})"),
        DpAction::PushVlan { tpid, tci } => {
            let tpid = if *tpid == EtherType::VLAN.0 { String::new() } else { format!("tpid=0x{tpid:04x},") };
            format!("push_vlan({tpid}vid={},pcp={})", tci & 0xfff, tci >> 13)
        }
        DpAction::PopVlan => "pop_vlan".to_owned(),
        DpAction::Set(field) => {
            let parts: Vec<String> = parts_of(field, key).into_iter().map(|(_, text)| text).collect();
            format!("set({}({}))", group_of(field, key), parts.join(","))
        }
        DpAction::TunnelPush { header, actions } => {
            let inner = format_dp_actions(actions, key, port_name);
            format!("clone(tnl_push({}),{inner})", encap_text(header))
        }
        DpAction::TunnelPop(p) => format!("tnl_pop({})", port(p)),
        DpAction::Clone(actions) => format!("clone({})", format_dp_actions(actions, key, port_name)),
        DpAction::Controller(to) => controller_text(to),
        DpAction::Ct(spec) => format_dp_ct(spec),
        DpAction::CtClear => "ct_clear".to_owned(),
        DpAction::Hash { basis, symmetric: false } => format!("hash(l4({basis}))"),
        DpAction::Hash { basis, symmetric: true } => format!("hash(sym_l4({basis}))"),
        DpAction::Recirc(recirc) => format!("recirc({:#x})", recirc.id),
        DpAction::Meter(meter) => format!("meter({})", meter.id),
        DpAction::Sample { share, to } => sample_text(*share, to),
        DpAction::PushMpls { lse, ethertype } => {
            format!("push_mpls({},eth_type=0x{ethertype:x})", mpls_entry(*lse))
        }
        DpAction::AddMpls { lse, ethertype } => {
            format!("add_mpls({},eth_type=0x{ethertype:x})", mpls_entry(*lse))
        }
        DpAction::PushEth { src, dst } => format!("push_eth(src={src},dst={dst})"),
        DpAction::PopEth => "pop_eth".to_owned(),
        DpAction::PushNsh(header) => push_nsh(header),
        DpAction::PopNsh => "pop_nsh()".to_owned(),
        DpAction::CopyTtl { outwards: true } => "copy_ttl_out".to_owned(),
        DpAction::CopyTtl { outwards: false } => "copy_ttl_in".to_owned(),
        DpAction::PopMpls(ethertype) => format!("pop_mpls(eth_type=0x{ethertype:x})"),
        DpAction::CheckPktLen { len, greater, not_greater } => {
            let list = |actions: &[DpAction]| format_dp_actions(actions, key, port_name);
            format!("check_pkt_len(size={len},gt({}),le({}))", list(greater), list(not_greater))
        }
    }
}

fn push_nsh(header: &NshRepr) -> String {
    let mut out = format!(
        "push_nsh(flags={},ttl={},mdtype={},np={},spi={:#x},si={}",
        header.flags,
        header.ttl,
        header.md_type(),
        header.next,
        header.path >> 8,
        header.path & 0xff
    );
    match &header.metadata {
        Metadata::Fixed(words) => {
            for (i, word) in words.chunks(4).enumerate() {
                let word = word.iter().fold(0, |n: u32, b| n << 8 | u32::from(*b));
                let _ = write!(out, ",c{}={word:#x}", i + 1);
            }
        }
        Metadata::Tlvs(bytes) if bytes.is_empty() => {}
        Metadata::Tlvs(bytes) => {
            out.push_str(",md2=0x");
            bytes.iter().for_each(|b| {
                let _ = write!(out, "{b:02x}");
            });
        }
    }
    out.push(')');
    out
}

/// A label stack entry, field by field.
pub(super) fn mpls_entry(lse: u32) -> String {
    format!("label={},tc={},ttl={},bos={}", lse >> 12, lse >> 9 & 7, lse & 0xff, lse >> 8 & 1)
}

fn controller_text(to: &ToController) -> String {
    let mut cookie = String::new();
    hex(&mut cookie, to.cookie.into());
    let text = format!(
        "userspace(pid=0,controller(reason={},dont_send=0,continuation={},recirc_id=0,rule_cookie={cookie},\
         controller_id={},max_len={}))",
        to.reason,
        u8::from(to.paused.is_some()),
        to.controller_id,
        to.max_len
    );
    match &to.meter {
        Some(meter) => format!("sample(sample=100.0%,actions(meter({}),{text}))", meter.id),
        None => text,
    }
}

fn sample_text(share: u32, to: &SampleTo) -> String {
    let output = to.output.map_or(u32::MAX, |port| port.0);
    let sampler = match to.sampler {
        Sampler::Bridge => format!("ipfix(output_port={output})"),
        Sampler::Rule { probability, collector_set_id, obs_domain_id, obs_point_id, direction } => {
            let direction = match direction {
                SampleDirection::Default => "",
                SampleDirection::Ingress => ",ingress",
                SampleDirection::Egress => ",egress",
            };
            format!(
                "flow_sample(probability={probability},collector_set_id={collector_set_id},\
                 obs_domain_id={obs_domain_id},obs_point_id={obs_point_id},output_port={output}{direction})"
            )
        }
    };
    let tunnel = to.tunnel.as_ref().map_or_else(String::new, |_| format!(",tunnel_out_port={output}"));
    let text = format!("userspace(pid=0,{sampler}{tunnel})");
    if share == EVERY_PACKET {
        return text;
    }
    format!("sample(sample={:.1}%,actions({text}))", f64::from(share) * 100.0 / f64::from(u32::MAX))
}

fn tunnel_text(tunnel: &TunnelOut) -> String {
    let mut g = tunnel_fields(&tunnel.key, &tunnel_output_mask(&tunnel.key));
    let options = geneve_options(&tunnel.options);
    if !options.is_empty() {
        g.push(format!("geneve({options})"));
    }
    let flags: Vec<&str> =
        TUNNEL_FLAGS.iter().filter(|(bit, _)| tunnel.key.flags & bit != 0).map(|(_, name)| *name).collect();
    g.push(format!("flags({})", flags.join("|")));
    g.text()
}

/// Geneve options (RFC 8926 §3.5): class, type, length of the data, data.
fn geneve_options(mut bytes: &[u8]) -> String {
    let mut out = String::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
        let len = usize::from(head[3] & 0x1f) * 4;
        let Some((data, rest)) = rest.split_at_checked(len) else { break };
        out.push_str("{class=");
        hex(&mut out, u16::from_be_bytes([head[0], head[1]]).into());
        out.push_str(",type=");
        hex(&mut out, head[2].into());
        let _ = write!(out, ",len={len}");
        if len != 0 {
            out.push(',');
            wide_hex(&mut out, data);
        }
        out.push('}');
        bytes = rest;
    }
    out
}

/// Outer headers that were built already: their sizes and the addresses in them.
fn encap_text(header: &EncapHeader) -> String {
    let bytes = &header.bytes;
    let kind = match header.kind {
        TunnelKind::Gre => 3,
        TunnelKind::Vxlan => 4,
        TunnelKind::Geneve => 5,
    };
    let mut out = format!("header(size={},type={kind}", bytes.len());
    let mut eth = PacketKey::default();
    if crate::extract_packet(bytes, 0, &mut eth).is_ok() {
        let _ = write!(out, ",eth(dst={},src={},dl_type=0x{:04x})", eth.eth_dst, eth.eth_src, eth.eth_type);
    }
    let ip = bytes.get(header.ip_offset..).unwrap_or(&[]);
    let l4 = match ip.first().map(|b| b >> 4) {
        Some(4) if ip.len() >= 20 => {
            let addr = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
            let frag = u16::from_be_bytes([ip[6], ip[7]]);
            let mut tos = String::new();
            hex(&mut tos, ip[1].into());
            let _ = write!(
                out,
                ",ipv4(src={},dst={},proto={},tos={tos},ttl={},frag=0x{frag:x})",
                addr(12),
                addr(16),
                ip[9],
                ip[8]
            );
            Some(&ip[20..])
        }
        Some(6) if ip.len() >= 40 => {
            let addr = |at: usize| <[u8; 16]>::try_from(&ip[at..at + 16]).map(Ipv6Addr::from);
            if let (Ok(src), Ok(dst)) = (addr(8), addr(24)) {
                let _ = write!(out, ",ipv6(src={src},dst={dst},proto={},hlimit={})", ip[6], ip[7]);
            }
            Some(&ip[40..])
        }
        _ => None,
    };
    if let Some(l4) = l4 {
        let word =
            |at: usize| l4.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        let (ports, csum) = (word(0), word(4) & 0xffff);
        let udp = || format!(",udp(src={},dst={},csum={csum:#x})", ports >> 16, ports & 0xffff);
        let _ = match header.kind {
            TunnelKind::Vxlan => {
                write!(out, "{},vxlan(flags={:#x},vni={:#x})", udp(), word(8), word(12) >> 8)
            }
            TunnelKind::Geneve => write!(out, "{},geneve(vni={:#x})", udp(), word(12) >> 8),
            TunnelKind::Gre => {
                write!(out, ",gre(flags={:#x},proto=0x{:04x})", word(0) >> 16, word(0) & 0xffff)
            }
        };
    }
    out.push(')');
    out
}

/// The header that a field belongs to.
fn group_of(field: &SetField, key: &PacketKey) -> &'static str {
    let arp = matches!(EtherType(key.eth_type), EtherType::ARP | EtherType::RARP);
    let ipv6 = key.eth_type == EtherType::IPV6.0;
    match field {
        SetField::EthSrc(_) | SetField::EthDst(_) => "eth",
        SetField::VlanTci(_) => "vlan",
        SetField::Mpls(_) => "mpls",
        SetField::Ipv4Src(_) | SetField::Ipv4Dst(_) if arp => "arp",
        SetField::Ipv4Src(_) | SetField::Ipv4Dst(_) => "ipv4",
        SetField::Ipv6Src(_) | SetField::Ipv6Dst(_) | SetField::Ipv6Label(_) => "ipv6",
        SetField::IpTos(_) | SetField::IpTtl(_) => {
            if ipv6 {
                "ipv6"
            } else {
                "ipv4"
            }
        }
        SetField::TpSrc(_) | SetField::TpDst(_) => match IpProto(key.ip_proto) {
            IpProto::UDP => "udp",
            IpProto::SCTP => "sctp",
            IpProto::ICMP => "icmp",
            IpProto::ICMPV6 => "icmpv6",
            _ => "tcp",
        },
        SetField::ArpOp(_) | SetField::ArpSha(_) | SetField::ArpTha(_) => "arp",
        SetField::NdTarget(_) | SetField::NdSll(_) | SetField::NdTll(_) => "nd",
        SetField::NdReserved(_) | SetField::NdOptionsType(_) => "nd_ext",
        SetField::Priority(_) => "skb_priority",
        SetField::Mark(_) => "skb_mark",
        SetField::NshBase { .. } | SetField::NshPath { .. } | SetField::NshContext { .. } => "nsh",
    }
}

/// Places within the group and texts of what is set: of a network service header it may be several fields.
fn parts_of(field: &SetField, key: &PacketKey) -> Vec<(u8, String)> {
    let mut of =
        [PacketKey::default(), PacketKey::default()].map(|packet| FlowKey { packet, ..FlowKey::default() });
    match *field {
        SetField::NshBase { value, mask } => {
            (of[0].packet.nd_reserved, of[1].packet.nd_reserved) = (value, mask);
        }
        SetField::NshPath { value, mask } => (of[0].packet.ipv4_src, of[1].packet.ipv4_src) = (value, mask),
        SetField::NshContext { index, value, mask } => {
            let at = usize::from(index & 3) * 4;
            of[0].packet.nd_target[at..at + 4].copy_from_slice(&value.to_be_bytes());
            of[1].packet.nd_target[at..at + 4].copy_from_slice(&mask.to_be_bytes());
        }
        _ => return vec![part_of(field, key)],
    }
    let parts = NSH_FIELDS.iter().enumerate().map(|(i, (name, field))| {
        let (value, mask) = (field.get(&of[0]), field.get(&of[1]));
        (mask != 0).then(|| (i as u8, nsh_part(name, *field, value & mask, mask)))
    });
    parts.flatten().collect()
}

/// Place of a field within its group, and its text.
fn part_of(field: &SetField, key: &PacketKey) -> (u8, String) {
    let group = group_of(field, key);
    let (icmp, ipv6, arp) = (group.starts_with("icmp"), group == "ipv6", group == "arp");
    match field {
        SetField::EthSrc(mac) => (0, format!("src={mac}")),
        SetField::EthDst(mac) => (1, format!("dst={mac}")),
        SetField::VlanTci(tci) => (0, format!("vid={},pcp={}", tci & 0xfff, tci >> 13)),
        SetField::Mpls(lse) => (0, mpls_entry(*lse)),
        SetField::Ipv4Src(ip) => {
            (0, format!("{}={}", if arp { "sip" } else { "src" }, Ipv4Addr::from_bits(*ip)))
        }
        SetField::Ipv4Dst(ip) => {
            (1, format!("{}={}", if arp { "tip" } else { "dst" }, Ipv4Addr::from_bits(*ip)))
        }
        SetField::Ipv6Src(ip) => (0, format!("src={}", Ipv6Addr::from(*ip))),
        SetField::Ipv6Dst(ip) => (1, format!("dst={}", Ipv6Addr::from(*ip))),
        SetField::Ipv6Label(label) => (2, format!("label={label:#x}")),
        SetField::IpTos(tos) => (3, format!("{}={tos:#x}", if ipv6 { "tclass" } else { "tos" })),
        SetField::IpTtl(ttl) => (4, format!("{}={ttl}", if ipv6 { "hlimit" } else { "ttl" })),
        SetField::TpSrc(n) => (0, format!("{}={n}", if icmp { "type" } else { "src" })),
        SetField::TpDst(n) => (1, format!("{}={n}", if icmp { "code" } else { "dst" })),
        SetField::ArpOp(op) => (2, format!("op={op}")),
        SetField::ArpSha(mac) => (3, format!("sha={mac}")),
        SetField::ArpTha(mac) => (4, format!("tha={mac}")),
        SetField::NdTarget(ip) => (0, format!("target={}", Ipv6Addr::from(*ip))),
        SetField::NdSll(mac) => (1, format!("sll={mac}")),
        SetField::NdTll(mac) => (2, format!("tll={mac}")),
        SetField::NdReserved(bits) => (0, format!("nd_reserved={bits:#x}")),
        SetField::NdOptionsType(kind) => (1, format!("nd_options_type={kind}")),
        SetField::Priority(value) | SetField::Mark(value) => {
            let mut text = String::new();
            hex(&mut text, (*value).into());
            (0, text)
        }
        // See `parts_of`.
        SetField::NshBase { .. } | SetField::NshPath { .. } | SetField::NshContext { .. } => {
            (0, String::new())
        }
    }
}
