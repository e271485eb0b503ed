//! Which transport does an IP packet carry, and between which ports?
//!
//! The second half of [`crate::extract_packet`]: IPv6 extension headers, TCP, UDP, SCTP, ICMP, IGMP and ICMPv6 with
//! neighbour discovery (RFC 4861).

use weft_wire::{IpProto, Mac, ipv6_ext, sctp, tcp, udp};

use crate::extract::{array, be16, be32, chunk};
use crate::{FRAG_ANY, FRAG_LATER, Layout, PacketKey};

/// Protocol number of an IPv6 fragment header, which later fragments keep as their protocol.
const PROTO_FRAGMENT: u8 = 44;
/// Bytes of ICMP, IGMP and ICMPv6 headers, the four that depend on the type included.
const ICMP_LEN: usize = 8;

/// IP version, as a constant of the code that is generated.
pub(crate) trait IpVersion {
    const IPV6: bool;
}
/// IPv4.
pub(crate) struct V4;
/// IPv6.
pub(crate) struct V6;
impl IpVersion for V4 {
    const IPV6: bool = false;
}
impl IpVersion for V6 {
    const IPV6: bool = true;
}

/// What follows a chain of IPv6 extension headers.
pub(crate) struct Chain {
    /// Protocol behind the chain.
    pub(crate) proto: u8,
    /// `FRAG_*` bits.
    pub(crate) frag: u8,
    /// Offset of that protocol's header in the frame.
    pub(crate) l4: usize,
}

/// Walks the extension headers of a packet (RFC 8200 §4); `packet` ends where the IPv6 payload ends. `None` if a
/// header does not fit or there are too many.
#[inline(always)]
pub(crate) fn ext_headers(packet: &[u8], at: usize, next: u8) -> Option<Chain> {
    if !ipv6_ext::is_extension(IpProto(next)) {
        return Some(Chain { proto: next, frag: 0, l4: at });
    }
    walk_ext_headers(packet, at, next)
}

#[cold]
fn walk_ext_headers(packet: &[u8], mut at: usize, mut next: u8) -> Option<Chain> {
    let mut frag = 0;
    for _ in 0..ipv6_ext::MAX_HEADERS {
        let len = match next {
            // Hop-by-hop, routing, destination options.
            0 | 43 | 60 => (usize::from(chunk::<8>(packet, at)?[1]) + 1) * 8,
            // Authentication (RFC 4302 §2.2).
            51 => (usize::from(chunk::<8>(packet, at)?[1]) + 2) * 4,
            PROTO_FRAGMENT => ipv6_ext::FRAGMENT_LEN,
            proto => return Some(Chain { proto, frag, l4: at }),
        };
        let header = chunk::<8>(packet, at)?;
        if len > packet.len() - at {
            return None;
        }
        if next == PROTO_FRAGMENT {
            let offset_flags = be16(header, 2);
            // An atomic fragment, all zero, is a whole packet (RFC 6946).
            if offset_flags != 0 {
                frag = FRAG_ANY;
            }
            if offset_flags & 0xfff8 != 0 {
                return Some(Chain { proto: PROTO_FRAGMENT, frag: FRAG_ANY | FRAG_LATER, l4: at });
            }
        }
        next = header[0];
        at += len;
    }
    None
}

/// Reads the transport header at `at` of a packet that ends at `end`.
#[inline(always)]
pub(crate) fn transport<V: IpVersion>(
    frame: &[u8],
    at: usize,
    end: usize,
    key: &mut PacketKey,
    out: &mut Layout,
) {
    let Some(l4) = frame.get(at..end) else { return };
    out.l4 = at as u16;
    match IpProto(key.ip_proto) {
        IpProto::TCP => {
            let Some(h) = l4.first_chunk::<{ tcp::MIN_HEADER_LEN }>() else { return };
            let offset_flags = be16(h, tcp::field::LEN_FLAGS);
            let header = usize::from(offset_flags >> 12) * 4;
            if header < tcp::MIN_HEADER_LEN || header > l4.len() {
                return;
            }
            ports(key, h);
            key.tcp_flags = offset_flags & 0xfff;
            out.payload = (at + header) as u16;
        }
        IpProto::UDP => {
            let Some(h) = l4.first_chunk::<{ udp::HEADER_LEN }>() else { return };
            ports(key, h);
            out.payload = (at + udp::HEADER_LEN) as u16;
        }
        IpProto::SCTP => {
            let Some(h) = l4.first_chunk::<{ sctp::HEADER_LEN }>() else { return };
            ports(key, h);
            out.payload = (at + sctp::HEADER_LEN) as u16;
        }
        IpProto::ICMP | IpProto::IGMP if !V::IPV6 => {
            let Some(h) = l4.first_chunk::<ICMP_LEN>() else { return };
            (key.tp_src, key.tp_dst) = (h[0].into(), h[1].into());
            out.payload = (at + ICMP_LEN) as u16;
        }
        IpProto::ICMPV6 if V::IPV6 => {
            let Some(h) = l4.first_chunk::<ICMP_LEN>() else { return };
            (key.tp_src, key.tp_dst) = (h[0].into(), h[1].into());
            out.payload = (at + ICMP_LEN) as u16;
            if matches!(h[..2], [135 | 136, 0]) {
                key.nd_reserved = be32(h, 4);
                neighbour_discovery(&l4[ICMP_LEN..], key);
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn ports<const N: usize>(key: &mut PacketKey, header: &[u8; N]) {
    (key.tp_src, key.tp_dst) = (be16(header, 0), be16(header, 2));
}

/// Reads what follows the header of a neighbour solicitation or advertisement (RFC 4861 §4.3). The same option twice
/// makes the whole message void, a malformed option only what follows it.
fn neighbour_discovery(body: &[u8], key: &mut PacketKey) {
    let Some((target, mut options)) = body.split_first_chunk::<16>() else { return };
    key.nd_target = *target;
    while let Some(option) = options.first_chunk::<8>() {
        let len = usize::from(option[1]) * 8;
        if len == 0 || len > options.len() {
            return;
        }
        let link = match option[0] {
            1 if len == 8 => Some(&mut key.arp_sha),
            2 if len == 8 => Some(&mut key.arp_tha),
            _ => None,
        };
        if let Some(link) = link {
            if !link.is_zero() {
                (key.nd_target, key.arp_sha, key.arp_tha) = ([0; 16], Mac::ZERO, Mac::ZERO);
                key.nd_options_type = 0;
                return;
            }
            *link = Mac(array(option, 2));
            if key.nd_options_type == 0 {
                key.nd_options_type = option[0];
            }
        }
        options = &options[len..];
    }
}
