//! Which connection is an ICMP error about? (RFC 792, RFC 4443 §2.4, RFC 5508 §4)
//!
//! The error quotes the beginning of a packet. When that packet's connection is translated, the quotation is too,
//! so that the host that sent the packet knows it again.

use smallvec::SmallVec;
use weft_flow::PacketKey;
use weft_wire::checksum::Sum;
use weft_wire::ipv4::Ipv4View;
use weft_wire::ipv6::Ipv6View;
use weft_wire::ipv6_ext::Chain;
use weft_wire::{IpProto, ipv4, ipv6};

use crate::key::{End, IcmpKind, Key, icmp_kind, mapped};
use crate::tracker::Patch;

/// Bytes of an ICMP header before the quotation.
const ICMP_HEADER: usize = 8;

/// A quoted packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted {
    /// How it is named.
    pub(crate) key: Key,
    /// Offset of its IP header in the frame.
    ip: usize,
    /// Offset of its transport header in the frame.
    l4: usize,
}

/// The packet that an ICMP error quotes, whose ICMP header is at `l4` of the frame.
pub(crate) fn quoted(frame: &[u8], l4: usize, v6: bool, zone: u16) -> Option<Quoted> {
    let ip = l4 + ICMP_HEADER;
    let bytes = frame.get(ip..)?;
    let (src, dst, proto, l4) = if v6 {
        let view = Ipv6View::parse_quoted(bytes).ok()?;
        let chain = Chain::walk(view.next_header(), view.payload()).ok()?;
        if chain.is_later_fragment() {
            return None;
        }
        let l4 = ip + ipv6::HEADER_LEN + chain.len;
        (view.src().octets(), view.dst().octets(), chain.proto, l4)
    } else {
        let view = Ipv4View::parse_quoted(bytes).ok()?;
        if view.frag().offset() != 0 {
            return None;
        }
        (mapped(view.src().to_bits()), mapped(view.dst().to_bits()), view.proto(), ip + view.header_len())
    };
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let mut answer = false;
    let (sport, dport) = match (proto, v6) {
        (IpProto::TCP | IpProto::UDP | IpProto::SCTP | IpProto::UDPLITE, _) => (word(l4)?, word(l4 + 2)?),
        (IpProto::ICMP, false) | (IpProto::ICMPV6, true) => {
            // An error about an error is about nothing.
            match icmp_kind(v6, (*frame.get(l4)?).into()) {
                kind @ (IcmpKind::Query | IcmpKind::Answer) => {
                    answer = kind == IcmpKind::Answer;
                    (word(l4 + 4)?, word(l4 + 4)?)
                }
                _ => return None,
            }
        }
        _ => (0, 0),
    };
    let (src, dst) = (End { addr: src, port: sport }, End { addr: dst, port: dport });
    Some(Quoted { key: Key { src, dst, zone, proto: proto.0, v6, answer }, ip, l4 })
}

impl Quoted {
    /// Whether an error with these headers went to whoever sent the quoted packet; others have no say about it.
    pub(crate) fn is_for(&self, error: &PacketKey) -> bool {
        let dst = if self.key.v6 { error.ipv6_dst } else { mapped(error.ipv4_dst) };
        dst == self.key.src.addr
    }

    /// What to write into the quotation so that it names `to`. Checksums inside it are kept right where they are
    /// quoted at all.
    pub(crate) fn patches(&self, frame: &[u8], to: &Key, out: &mut Vec<Patch>) {
        let from = &self.key;
        let mut put = |at: usize, bytes: &[u8]| out.push(Patch { at, bytes: SmallVec::from_slice(bytes) });
        let (mut old, mut new) = (Sum::default(), Sum::default());
        for (a, b, v4, v6) in [(&from.src, &to.src, 12, 8), (&from.dst, &to.dst, 16, 24)] {
            if a.addr == b.addr {
                continue;
            }
            let at = self.ip + if from.v6 { v6 } else { v4 };
            let tail = if from.v6 { 0 } else { 12 };
            (old, new) = (old + Sum::of(&a.addr[tail..]), new + Sum::of(&b.addr[tail..]));
            put(at, &b.addr[tail..]);
        }
        let changed = |at: usize, old: Sum, new: Sum| {
            let field: [u8; 2] = frame.get(at..at + 2)?.try_into().ok()?;
            // RFC 1624 §3, eqn. 3: HC' = ~(~HC + ~m + m').
            let sum = Sum::word(!u16::from_be_bytes(field)) + Sum::word(!old.value()) + new;
            Some(sum.finish().to_be_bytes())
        };
        if !from.v6
            && let Some(sum) = changed(self.ip + ipv4::field::CHECKSUM, old, new)
        {
            put(self.ip + ipv4::field::CHECKSUM, &sum);
        }
        let sum_at = match (IpProto(from.proto), from.v6) {
            (IpProto::TCP, _) => Some(self.l4 + 16),
            (IpProto::UDP | IpProto::UDPLITE, _) => Some(self.l4 + 6),
            (IpProto::ICMPV6, true) => Some(self.l4 + 2),
            (IpProto::ICMP, false) => {
                // No pseudo header.
                (old, new) = (Sum::default(), Sum::default());
                Some(self.l4 + 2)
            }
            _ => None,
        };
        let ports: &[(End, End, usize)] = if from.is_icmp() {
            &[(from.src, to.src, 4)]
        } else if from.has_ports() {
            &[(from.src, to.src, 0), (from.dst, to.dst, 2)]
        } else {
            &[]
        };
        for (a, b, offset) in ports {
            if a.port != b.port {
                (old, new) = (old + Sum::of(&a.port.to_be_bytes()), new + Sum::of(&b.port.to_be_bytes()));
                put(self.l4 + offset, &b.port.to_be_bytes());
            }
        }
        let absent =
            |at: usize| IpProto(from.proto) == IpProto::UDP && frame.get(at..at + 2) == Some(&[0, 0]);
        if let Some(at) = sum_at.filter(|at| !absent(*at))
            && let Some(sum) = changed(at, old, new)
        {
            put(at, &sum);
        }
    }
}
