//! Which frame does a flow in the syntax of ovs-ofctl(8) describe? For cases that are data.
//!
//! `tcp,nw_src=10.0.0.1,dl_vlan=5,len=100`: what is not said has a default; `len=` is the payload's length in bytes,
//! and `mpls=16/17:9` gives a stack of labels, with a TTL if it is not 64; `carried=4:9` an IPv4 header of that TTL in
//! the IP header or beneath the labels (6: IPv6). `payload=` is the payload itself, in hexadecimal, `vtag=` the verification
//! tag of SCTP, `part=64` the offset of a fragment, the last one with `part=64.`. A network service header carries an Ethernet frame unless `nsh_np` says
//! otherwise. `data=` of a frame that is expected is what its bytes behind the EtherType begin with, in hexadecimal.

use weft_flow::text::{Syntax, parse_match};
use weft_flow::{FRAG_ANY, FRAG_LATER, Field, FlowKey, L3Kind, Layout, Match, extract_packet};
use weft_wire::arp::{ArpOp, ArpRepr};
use weft_wire::build::Frame;
use weft_wire::checksum::Sum;
use weft_wire::icmpv4::Icmpv4Message;
use weft_wire::icmpv6::Icmpv6Message;
use weft_wire::ipv4::{Ipv4Frag, Ipv4View};
use weft_wire::ipv6::Ipv6View;
use weft_wire::locate::{Ip, Located};
use weft_wire::ndp::NdpMessage;
use weft_wire::nsh::{self, Metadata, NshRepr};
use weft_wire::sctp::SctpView;
use weft_wire::vlan::VlanTci;
use weft_wire::{EtherType, IpProto, Mac};

/// Length of the payload unless said.
const PAYLOAD: usize = 40;

/// The frame that `text` describes, checksums right.
pub(crate) fn frame(text: &str) -> Result<Vec<u8>, String> {
    let mut rest = Vec::new();
    let mut more = More { payload: payload(PAYLOAD), labels: Vec::new(), carried: None, vtag: 1, part: None };
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word.split_once('=') {
            Some(("len", n)) => {
                more.payload = payload(n.parse().map_err(|_| format!("{word}: not a number"))?)
            }
            Some(("payload", hex)) => more.payload = crate::control::unhex(hex)?,
            Some(("vtag", n)) => more.vtag = n.parse().map_err(|_| format!("{word}: not a number"))?,
            Some(("part", at)) => {
                let offset = at.trim_end_matches('.').parse().map_err(|_| format!("{word}: not a number"))?;
                more.part = Some((offset, !at.ends_with('.')));
            }
            Some(("mpls", text)) => more.labels = labels(text)?,
            Some(("carried", text)) => more.carried = Some(numbers(text)?),
            _ => rest.push(word),
        }
    }
    let m = parse_match(&rest.join(","), &Syntax::default()).map_err(|e| format!("{text}: {e}"))?;
    build(&m, &more).map_err(|e| format!("{text}: {e}"))
}

/// What no field says.
struct More {
    payload: Vec<u8>,
    /// Labels with their TTLs, outermost first.
    labels: Vec<(u32, u8)>,
    /// Version and TTL of the IP header within.
    carried: Option<(u32, u8)>,
    vtag: u32,
    /// Offset of a fragment, and whether more come behind it.
    part: Option<(usize, bool)>,
}

/// `16:9`: two numbers.
fn numbers(text: &str) -> Result<(u32, u8), String> {
    let (a, b) = text.split_once(':').unwrap_or((text, "64"));
    let wrong = |_| format!("{text}: not a number and a TTL");
    Ok((a.parse().map_err(wrong)?, b.parse().map_err(wrong)?))
}

/// `16/17:9`: a stack of labels, and their TTLs where they are not 64.
fn labels(text: &str) -> Result<Vec<(u32, u8)>, String> {
    text.split('/').map(numbers).collect()
}

fn payload(n: usize) -> Vec<u8> {
    (0..n).map(|i| i as u8).collect()
}

fn build(m: &Match, more: &More) -> Result<Vec<u8>, String> {
    let (payload, labels) = (&more.payload, &more.labels);
    let p = &m.key.packet;
    let or = |mac: Mac, default: [u8; 6]| if mac == Mac::ZERO { Mac(default) } else { mac };
    let (src, dst) = (or(p.eth_src, [2, 0, 0, 0, 0, 1]), or(p.eth_dst, [2, 0, 0, 0, 0, 2]));
    let mut frame = Frame::eth(src, dst);
    for tag in p.vlan.iter().filter(|t| t.is_present()) {
        let tpid = if tag.tpid == 0 { EtherType::VLAN } else { EtherType(tag.tpid) };
        frame = frame.tag(tpid, VlanTci::new(tag.vid(), tag.pcp(), false));
    }
    for (label, ttl) in labels {
        frame = frame.mpls(*label).ttl(*ttl);
    }
    let frame = match EtherType(p.eth_type) {
        EtherType::ARP => {
            let repr = ArpRepr {
                op: ArpOp(if p.ip_proto == 0 { 1 } else { p.ip_proto.into() }),
                sha: or(p.arp_sha, src.0),
                spa: p.ipv4_src.into(),
                tha: p.arp_tha,
                tpa: p.ipv4_dst.into(),
            };
            frame.arp(repr)
        }
        EtherType::IPV4 => {
            let first = |ip: u32, default: u32| if ip == 0 { default } else { ip };
            // More fragments, and an offset of 64 bytes (RFC 791 §3.1).
            let flags = if p.ip_frag & FRAG_ANY != 0 { 0x2000 } else { 0 };
            let frag = Ipv4Frag(flags | if p.ip_frag & FRAG_LATER != 0 { 8 } else { 0 });
            let ip = frame.ipv4(first(p.ipv4_src, 0x0a00_0001), first(p.ipv4_dst, 0x0a00_0002));
            let ip = ip.frag(frag).tos(p.ip_tos).ttl(if p.ip_ttl == 0 { 64 } else { p.ip_ttl });
            transport(ip, m, false, more)
        }
        EtherType::IPV6 => {
            let first = |ip: [u8; 16], last: u8| match ip {
                [0, ..] if ip == [0; 16] => std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()),
                ip => ip.into(),
            };
            let ip = frame.ipv6(first(p.ipv6_src, 1), first(p.ipv6_dst, 2));
            let mut ip =
                ip.tos(p.ip_tos).ttl(if p.ip_ttl == 0 { 64 } else { p.ip_ttl }).flow_label(p.ipv6_label);
            if p.ip_frag & FRAG_ANY != 0 {
                let offset = if p.ip_frag & FRAG_LATER != 0 { 64 } else { 0 };
                let (offset, others) = more.part.unwrap_or((offset, true));
                ip = ip.fragment(offset, others, 7);
            }
            transport(ip, m, true, more)
        }
        EtherType::NSH => frame.ether_type(EtherType::NSH).payload(service(m, payload)?),
        EtherType(0) if labels.is_empty() => frame.ether_type(EtherType(0x88b6)).payload(payload.clone()),
        EtherType(0) => {
            carry(frame, more.carried.unwrap_or((4, 64))).udp(1000, 2000).payload(payload.clone())
        }
        other => frame.ether_type(other).payload(payload.clone()),
    };
    frame.try_build().map_err(|e| e.to_string())
}

/// A network service header and what it carries: a frame from ...:03 to ...:04, or the IP packet in one.
fn service(m: &Match, payload: &[u8]) -> Result<Vec<u8>, String> {
    let field = |field: Field| field.get(&m.key);
    let next = if m.get(Field::NshNp).is_some() { field(Field::NshNp) as u8 } else { nsh::next::ETHERNET };
    let ttl = if m.get(Field::NshTtl).is_some() { field(Field::NshTtl) as u8 } else { 63 };
    let metadata = match field(Field::NshMdtype) {
        2 => Metadata::Tlvs(vec![0x10, 0, 10, 4, 1, 2, 3, 4]),
        _ => Metadata::Fixed(m.key.packet.nd_target),
    };
    let path = m.key.packet.ipv4_src;
    let header = NshRepr { flags: field(Field::NshFlags) as u8, ttl, next, path, metadata };
    let mut bytes = vec![0; header.header_len()];
    header.emit(&mut bytes).map_err(|e| e.to_string())?;
    let frame = Frame::eth(Mac([2, 0, 0, 0, 0, 3]), Mac([2, 0, 0, 0, 0, 4]));
    let inner = match next {
        nsh::next::IPV6 => frame.ipv6([0xfd; 16], [0xfe; 16]).udp(1000, 2000),
        _ => frame.ipv4([10, 0, 0, 1], [10, 0, 0, 2]).udp(1000, 2000),
    };
    let inner = inner.payload(payload).build();
    bytes.extend_from_slice(if next == nsh::next::ETHERNET { &inner } else { &inner[14..] });
    Ok(bytes)
}

/// An IP header of a version and TTL.
fn carry(frame: Frame, (version, ttl): (u32, u8)) -> Frame {
    let ip = match version {
        6 => frame.ipv6([0xfd; 16], [0xfe; 16]),
        _ => frame.ipv4([10, 0, 0, 1], [10, 0, 0, 2]),
    };
    ip.ttl(ttl)
}

fn transport(ip: Frame, m: &Match, v6: bool, more: &More) -> Frame {
    let ip = if let Some(carried) = more.carried { carry(ip, carried) } else { ip };
    let payload = more.payload.clone();
    let p = &m.key.packet;
    let port = |n: u16, default: u16| if n == 0 { default } else { n };
    let (src, dst) = (port(p.tp_src, 1000), port(p.tp_dst, 2000));
    // Behind an IPv6 fragment header a transport header's bytes are payload like any other.
    if p.ip_frag & FRAG_LATER != 0 && !v6 {
        return ip.proto(IpProto(p.ip_proto)).payload(payload);
    }
    match IpProto(p.ip_proto) {
        IpProto::TCP => {
            let flags = if p.tcp_flags == 0 { 0x10 } else { p.tcp_flags };
            ip.tcp(src, dst).flags(flags).payload(payload)
        }
        IpProto::UDP => ip.udp(src, dst).payload(payload),
        IpProto::SCTP => ip.sctp_tagged(src, dst, more.vtag).payload(payload),
        IpProto::ICMP if !v6 => {
            let ty = if m.mask.0.packet.tp_src == 0 { 8 } else { p.tp_src as u8 };
            let message = Icmpv4Message::Other { ty, code: p.tp_dst as u8, rest: [0, 7, 0, 1] };
            ip.icmpv4(message).payload(payload)
        }
        IpProto::ICMPV6 if v6 && matches!(p.tp_src, 135 | 136) => {
            let target = p.nd_target.into();
            let (message, kind) = if p.tp_src == 135 {
                (NdpMessage::NeighborSolicit { target }, 1)
            } else {
                let solicited =
                    NdpMessage::NeighborAdvert { router: false, solicited: true, override_: true, target };
                (solicited, 2)
            };
            let mac = if kind == 1 { p.arp_sha } else { p.arp_tha };
            let mut option = vec![kind, 1];
            option.extend(mac.0);
            ip.ndp(message).payload(if mac == Mac::ZERO { Vec::new() } else { option })
        }
        IpProto::ICMPV6 if v6 => {
            let ty = if m.mask.0.packet.tp_src == 0 { 128 } else { p.tp_src as u8 };
            let message = Icmpv6Message::Other { ty, code: p.tp_dst as u8, rest: [0, 7, 0, 1] };
            ip.icmpv6(message).payload(payload)
        }
        // What a fragment header says follows by itself.
        IpProto(253) if v6 && p.ip_frag != 0 => ip.payload(payload),
        IpProto(0) => ip.proto(IpProto(253)).payload(payload),
        other => ip.proto(other).payload(payload),
    }
}

/// Whether a frame is one of those that `text` describes; `len=` is the length of the whole frame here.
pub(crate) fn fits(frame: &[u8], text: &str) -> Result<bool, String> {
    let mut rest = Vec::new();
    let (mut stack, mut carried) = (None, None);
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word.split_once('=') {
            Some(("mpls", text)) => stack = Some(labels(text)?),
            Some(("carried", text)) => carried = Some(numbers(text)?),
            Some(("len", n)) if n.parse() != Ok(frame.len()) => return Ok(false),
            Some(("len", _)) => {}
            Some(("data", hex)) => {
                let have: String = frame.iter().skip(14).map(|b| format!("{b:02x}")).collect();
                if !have.starts_with(hex) {
                    return Ok(false);
                }
            }
            _ => rest.push(word),
        }
    }
    let m = parse_match(&rest.join(","), &Syntax::default()).map_err(|e| format!("{text}: {e}"))?;
    let mut key = FlowKey::default();
    let layout: Layout =
        extract_packet(frame, 0, &mut key.packet).map_err(|e| format!("malformed frame: {e}"))?;
    if stack.is_some_and(|stack| stack != stack_of(&key))
        || carried.is_some() && carried != within(frame, &layout)
    {
        return Ok(false);
    }
    Ok(m.mask.matches(&key, &m.key) && sums_right(frame, &key))
}

/// Labels and TTLs of a frame.
fn stack_of(key: &FlowKey) -> Vec<(u32, u8)> {
    let mut out = Vec::new();
    for entry in key.packet.mpls {
        out.push((entry >> 12, entry as u8));
        if entry & 0x100 != 0 {
            return out;
        }
    }
    out
}

/// Version and TTL of the IP header beneath the labels or in the IP header; an IPv4 header's checksum has to be right.
fn within(frame: &[u8], layout: &Layout) -> Option<(u32, u8)> {
    let at = if layout.kind == L3Kind::Mpls { layout.l3 } else { layout.l4 };
    let bytes = frame.get(usize::from(at)..)?;
    match bytes.first()? >> 4 {
        4 => Ipv4View::parse(bytes).ok().filter(Ipv4View::checksum_ok).map(|ip| (4, ip.ttl())),
        6 => Ipv6View::parse(bytes).ok().map(|ip| (6, ip.hop_limit())),
        _ => None,
    }
}

/// Whether the transport checksum is right; of a fragment, and of what has none, there is nothing to say.
fn sums_right(frame: &[u8], key: &FlowKey) -> bool {
    let Ok(found) = Located::parse(frame) else { return true };
    if let Ip::V4(ip) = &found.ip
        && !ip.checksum_ok()
    {
        return false;
    }
    match found.proto {
        _ if key.packet.ip_frag != 0 || found.transport.is_empty() => true,
        IpProto::SCTP => SctpView::parse(found.transport).is_ok_and(|packet| packet.checksum_ok()),
        IpProto::TCP | IpProto::ICMPV6 => {
            (found.pseudo_sum(found.transport.len()) + Sum::of(found.transport)).is_valid()
        }
        IpProto::ICMP => Sum::of(found.transport).is_valid(),
        IpProto::UDP if found.transport.get(6..8) != Some(&[0, 0]) => {
            (found.pseudo_sum(found.transport.len()) + Sum::of(found.transport)).is_valid()
        }
        _ => true,
    }
}
