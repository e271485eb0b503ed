//! Which flow does a frame belong to, and where are its headers?
//!
//! This is the hot path: every frame of the user datapath comes through [`extract_packet`]. It never fails on what
//! a frame carries: a header that does not fit, or that contradicts its lengths, leaves its fields zero and the
//! frame can still be switched on what was understood, as Open vSwitch does. Checksums are not looked at.
//!
//! Order: Ethernet, VLAN tags, LLC/SNAP, then one of MPLS, ARP, IPv4, IPv6, NSH, then (`extract_l4.rs`) the transport.

use weft_wire::{EtherType, Mac, arp, ethernet, ipv4, ipv6, mpls, nsh, vlan};

use crate::extract_l4::{V4, ext_headers, transport};
use crate::{DropReason, EXTRA_BARE, FRAG_ANY, FRAG_LATER, PacketKey, VLAN_PRESENT, Vlan};

/// EtherType stored for 802.2 frames without SNAP, as `ovs-fields(7)` gives it.
pub const ETH_TYPE_NONE: u16 = 0x05ff;
/// Most VLAN tags a key holds; further tags are payload.
pub const MAX_VLANS: usize = 2;
/// Most MPLS entries that are walked to find the bottom of the stack.
const MAX_LABELS: usize = 32;

/// What the header behind the EtherType is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum L3Kind {
    /// Not understood, or malformed: the fields of L3 and L4 are zero.
    #[default]
    Other,
    /// ARP or RARP for Ethernet and IPv4.
    Arp,
    /// IPv4 with a sound header.
    Ipv4,
    /// IPv6 with sound headers.
    Ipv6,
    /// An MPLS label stack; what it carries is not looked at.
    Mpls,
    /// A sound network service header; what it carries is not looked at.
    Nsh,
}

/// Where the headers of a frame are: byte offsets from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// First byte behind the Ethernet header, the VLAN tags that were understood, and LLC/SNAP.
    pub l2_5: u16,
    /// L3 header: [`Layout::l2_5`], or behind the label stack. 0: unknown.
    pub l3: u16,
    /// Transport header: behind IPv4 options and IPv6 extension headers. 0: none, or a later fragment.
    pub l4: u16,
    /// What the transport header carries. 0: none, or the transport header is malformed.
    pub payload: u16,
    /// End of the frame's meaningful bytes: trailing Ethernet padding behind an IP packet is not counted.
    pub end: u32,
    /// What is at `l3`.
    pub kind: L3Kind,
    /// Number of VLAN tags understood, 0 to 2.
    pub vlans: u8,
}

/// Fills in `key` from a frame as it came in by `in_port`, looking behind at most two VLAN tags.
///
/// `frame` begins with the destination address and has no checksum trailer.
///
/// # Errors
/// [`DropReason::MalformedFrame`] when it is shorter than an Ethernet header.
#[inline]
pub fn extract_packet(frame: &[u8], in_port: u32, key: &mut PacketKey) -> Result<Layout, DropReason> {
    extract_packet_vlans(frame, in_port, MAX_VLANS, key)
}

/// [`extract_packet`] with a limit on the VLAN tags to look behind (`other_config:vlan-limit`). Tags above
/// `vlan_limit`, or above [`MAX_VLANS`], are payload: `eth_type` is the TPID of the first one.
///
/// # Errors
/// As [`extract_packet`].
#[inline]
pub fn extract_packet_vlans(
    frame: &[u8],
    in_port: u32,
    vlan_limit: usize,
    key: &mut PacketKey,
) -> Result<Layout, DropReason> {
    let mut layout = Layout::default();
    extract_into(frame, in_port, vlan_limit, key, &mut layout)?;
    Ok(layout)
}

/// [`extract_packet_vlans`] with the layout written in place: what lanes use, for a layout that is returned is copied
/// right after it was written, which stalls the processor.
///
/// # Errors
/// As [`extract_packet`].
#[inline]
pub fn extract_into(
    frame: &[u8],
    in_port: u32,
    vlan_limit: usize,
    key: &mut PacketKey,
    out: &mut Layout,
) -> Result<(), DropReason> {
    let Some(eth) = frame.first_chunk::<{ ethernet::HEADER_LEN }>() else {
        return Err(DropReason::MalformedFrame);
    };
    *key = PacketKey { in_port, ..PacketKey::default() };
    key.eth_dst = Mac(array(eth, ethernet::field::DST));
    key.eth_src = Mac(array(eth, ethernet::field::SRC));
    let mut eth_type = be16(eth, ethernet::field::ETHER_TYPE);
    let mut at = ethernet::HEADER_LEN;
    let mut vlans = 0;
    while EtherType(eth_type).is_vlan() && vlans < vlan_limit.min(MAX_VLANS) {
        let Some(tag) = chunk::<{ vlan::TAG_LEN }>(frame, at) else { break };
        key.vlan[vlans] = Vlan { tpid: eth_type, tci: be16(tag, 0) | VLAN_PRESENT };
        eth_type = be16(tag, 2);
        at += vlan::TAG_LEN;
        vlans += 1;
    }
    if eth_type < EtherType::MIN_TYPE {
        (eth_type, at) = llc_snap(frame, at);
    }
    key.eth_type = eth_type;
    *out = Layout {
        l2_5: at as u16,
        l3: at as u16,
        end: frame.len() as u32,
        vlans: vlans as u8,
        ..Layout::default()
    };
    network(frame, at, key, out);
    Ok(())
}

/// Fills in `key` and `out` from a packet without an Ethernet header, which begins with what `eth_type` says.
pub fn extract_bare(packet: &[u8], eth_type: u16, in_port: u32, key: &mut PacketKey, out: &mut Layout) {
    *key = PacketKey { in_port, eth_type, extras: EXTRA_BARE, ..PacketKey::default() };
    *out = Layout { end: packet.len() as u32, ..Layout::default() };
    network(packet, 0, key, out);
}

/// What follows the EtherType.
#[inline(always)]
fn network(frame: &[u8], at: usize, key: &mut PacketKey, out: &mut Layout) {
    match EtherType(key.eth_type) {
        EtherType::IPV4 => extract_ipv4(frame, at, key, out),
        EtherType::IPV6 => extract_ipv6(frame, at, key, out),
        EtherType::ARP | EtherType::RARP => extract_arp(frame, at, key, out),
        EtherType::MPLS | EtherType::MPLS_MC => extract_mpls(frame, at, key, out),
        EtherType::NSH => extract_nsh(frame, at, key, out),
        _ => {}
    }
}

/// The type behind an IEEE 802.2 LLC header with SNAP, or [`ETH_TYPE_NONE`]; and where what it tells of begins.
#[cold]
fn llc_snap(frame: &[u8], at: usize) -> (u16, usize) {
    const SNAP: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];
    match chunk::<8>(frame, at) {
        Some(h) if h[..6] == SNAP && be16(h, 6) >= EtherType::MIN_TYPE => (be16(h, 6), at + 8),
        Some(h) if h[..6] == SNAP => (ETH_TYPE_NONE, at + 8),
        _ => (ETH_TYPE_NONE, at),
    }
}

#[inline(always)]
fn extract_ipv4(frame: &[u8], at: usize, key: &mut PacketKey, out: &mut Layout) {
    use ipv4::field;
    let Some(ip) = chunk::<{ ipv4::MIN_HEADER_LEN }>(frame, at) else { return };
    let header = usize::from(ip[field::VERSION_IHL] & 0xf) * 4;
    let total = usize::from(be16(ip, field::TOTAL_LEN));
    if header < ipv4::MIN_HEADER_LEN || total < header || total > frame.len() - at {
        return;
    }
    key.ipv4_src = be32(ip, field::SRC);
    key.ipv4_dst = be32(ip, field::DST);
    key.ip_proto = ip[field::PROTO];
    key.ip_tos = ip[field::TOS];
    key.ip_ttl = ip[field::TTL];
    out.kind = L3Kind::Ipv4;
    let end = at + total;
    out.end = end as u32;
    let frag = be16(ip, field::FRAG);
    if frag & (ipv4::Ipv4Frag::MF | ipv4::Ipv4Frag::OFFSET_MASK) != 0 {
        key.ip_frag = FRAG_ANY;
        if frag & ipv4::Ipv4Frag::OFFSET_MASK != 0 {
            key.ip_frag |= FRAG_LATER;
            return;
        }
    }
    transport::<V4>(frame, at + header, end, key, out);
}

#[inline(always)]
fn extract_ipv6(frame: &[u8], at: usize, key: &mut PacketKey, out: &mut Layout) {
    use ipv6::field;
    let Some(ip) = chunk::<{ ipv6::HEADER_LEN }>(frame, at) else { return };
    let rest = frame.len() - at - ipv6::HEADER_LEN;
    let mut payload = usize::from(be16(ip, field::PAYLOAD_LEN));
    let next = ip[field::NEXT_HEADER];
    if payload == 0 && next == 0 {
        // RFC 2675: a jumbogram states its length in a hop-by-hop option.
        payload = rest;
    }
    if payload > rest {
        return;
    }
    key.ipv6_src = array(ip, field::SRC);
    key.ipv6_dst = array(ip, field::DST);
    let l4 = at + ipv6::HEADER_LEN;
    let end = l4 + payload;
    let Some(chain) = ext_headers(&frame[..end], l4, next) else { return };
    let first = be32(ip, field::VERSION_TC_FLOW);
    key.ip_tos = (first >> 20) as u8;
    key.ipv6_label = first & 0xf_ffff;
    key.ip_ttl = ip[field::HOP_LIMIT];
    key.ip_proto = chain.proto;
    key.ip_frag = chain.frag;
    out.kind = L3Kind::Ipv6;
    out.end = end as u32;
    if chain.frag & FRAG_LATER == 0 {
        transport::<crate::extract_l4::V6>(frame, chain.l4, end, key, out);
    }
}

fn extract_arp(frame: &[u8], at: usize, key: &mut PacketKey, out: &mut Layout) {
    use arp::field;
    let Some(p) = chunk::<{ arp::PACKET_LEN }>(frame, at) else { return };
    // Hardware type Ethernet, protocol IPv4, address lengths 6 and 4.
    if p[field::HTYPE..field::OP] != [0, 1, 8, 0, 6, 4] {
        return;
    }
    key.ip_proto = u8::try_from(be16(p, field::OP)).unwrap_or(0);
    key.ipv4_src = be32(p, field::SPA);
    key.ipv4_dst = be32(p, field::TPA);
    key.arp_sha = Mac(array(p, field::SHA));
    key.arp_tha = Mac(array(p, field::THA));
    out.kind = L3Kind::Arp;
}

/// A network service header, in the places that [`PacketKey`] tells of.
fn extract_nsh(frame: &[u8], at: usize, key: &mut PacketKey, out: &mut Layout) {
    let Ok(header) = nsh::NshView::parse(frame.get(at..).unwrap_or(&[])) else { return };
    let bytes = [header.flags(), header.ttl(), header.md_type(), header.next_protocol()];
    key.nd_reserved = u32::from_be_bytes(bytes);
    key.ipv4_src = header.path();
    key.nd_target = header.context().unwrap_or_default();
    out.kind = L3Kind::Nsh;
}

/// Keeps the outermost three entries and looks for the bottom of the stack.
fn extract_mpls(frame: &[u8], at: usize, key: &mut PacketKey, out: &mut Layout) {
    out.l3 = 0;
    for n in 0..MAX_LABELS {
        let entry_at = at + n * mpls::ENTRY_LEN;
        let Some(entry) = chunk::<{ mpls::ENTRY_LEN }>(frame, entry_at) else { return };
        let entry = be32(entry, 0);
        if let Some(slot) = key.mpls.get_mut(n) {
            *slot = entry;
            out.kind = L3Kind::Mpls;
        }
        if entry & 0x100 != 0 {
            out.l3 = (entry_at + mpls::ENTRY_LEN) as u16;
            return;
        }
    }
}

/// The `N` bytes at `at`, if the frame has them.
#[inline(always)]
pub(crate) fn chunk<const N: usize>(frame: &[u8], at: usize) -> Option<&[u8; N]> {
    frame.get(at..)?.first_chunk()
}

#[inline(always)]
pub(crate) fn be16<const N: usize>(b: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

#[inline(always)]
pub(crate) fn be32<const N: usize>(b: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

#[inline(always)]
pub(crate) fn array<const M: usize, const N: usize>(b: &[u8; N], at: usize) -> [u8; M] {
    let mut out = [0; M];
    out.copy_from_slice(&b[at..at + M]);
    out
}
