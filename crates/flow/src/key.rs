//! What is known of a packet when a decision is made about it: the flow key.
//!
//! A [`FlowKey`] is a plain run of 64-bit words in five sections. The first four (`packet`, `tunnel`,
//! `tun_metadata`, `ct`) are known when the datapath looks a packet up, so caches match on them; the last one
//! (`pipeline`) starts at zero, exists only during a walk of the flow tables, and is never cached.
//! Masks and matches have the same shape, so that every set operation is a loop over words.
//!
//! Numbers are in host order; addresses are in wire order, as bytes. Fields that a packet does not have are zero.

use weft_wire::Mac;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of 64-bit words in the packet section: what a plain frame gives.
pub const PACKET_WORDS: usize = 17;
/// Number of 64-bit words in the tunnel section: the outer header a packet came in with.
pub const TUNNEL_WORDS: usize = 9;
/// Number of 64-bit words in the tunnel-option section (Geneve TLVs mapped to `tun_metadata0..63`).
pub const TUN_METADATA_WORDS: usize = 33;
/// Number of 64-bit words in the section of what an earlier pass through the datapath found out.
pub const CT_WORDS: usize = 10;
/// Number of 64-bit words in the section that only a walk sees.
pub const PIPELINE_WORDS: usize = 12;
/// Words that caches match on: everything but the pipeline section.
pub const CACHED_WORDS: usize = PACKET_WORDS + TUNNEL_WORDS + TUN_METADATA_WORDS + CT_WORDS;
/// All words of a key.
pub const KEY_WORDS: usize = CACHED_WORDS + PIPELINE_WORDS;

/// Set in [`Vlan::tci`] when a tag is present (the bit the standards call CFI or DEI, as OpenFlow's `OFPVID_PRESENT`).
pub const VLAN_PRESENT: u16 = 0x1000;

/// Bit of [`PacketKey::extras`]: the tunnel section is filled in.
pub const EXTRA_TUNNEL: u16 = 1;
/// Bit of [`PacketKey::extras`]: the tunnel-option section is filled in.
pub const EXTRA_TUN_METADATA: u16 = 2;
/// Bit of [`PacketKey::extras`]: the section of connection tracking and the hash is filled in.
pub const EXTRA_CT: u16 = 4;
/// Bit of [`PacketKey::extras`]: the packet has no Ethernet header; it begins with what `eth_type` says.
pub const EXTRA_BARE: u16 = 8;

/// Packet type of a packet without Ethernet header: namespace 1, to which its EtherType is added.
pub const PT_ETHERTYPE: u32 = 0x0001_0000;
/// Packet type of a packet that begins with a network service header.
pub const PT_NSH: u32 = PT_ETHERTYPE | 0x894f;

/// `ip_frag` bit: the packet is a fragment (`NX_IP_FRAG_ANY`).
pub const FRAG_ANY: u8 = 1;
/// `ip_frag` bit: the fragment's offset is not zero (`NX_IP_FRAG_LATER`), so it carries no transport header.
pub const FRAG_LATER: u8 = 2;

/// One VLAN tag: TPID and TCI with [`VLAN_PRESENT`] in place of DEI. All zero: no tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Vlan {
    /// Tag protocol identifier, 0x8100 or 0x88a8.
    pub tpid: u16,
    /// PCP (3 bits), present (1 bit), VID (12 bits).
    pub tci: u16,
}

impl Vlan {
    /// Whether there is a tag.
    #[inline]
    pub fn is_present(self) -> bool {
        self.tci & VLAN_PRESENT != 0
    }
    /// VLAN identifier, 0–4095.
    #[inline]
    pub fn vid(self) -> u16 {
        self.tci & 0xfff
    }
    /// Priority code point, 0–7.
    #[inline]
    pub fn pcp(self) -> u8 {
        (self.tci >> 13) as u8
    }
}

/// The packet section: the headers of the frame and the datapath port it came in by.
///
/// Packets that are not IP use the places of IP fields for their own, as ARP does: a network service header (RFC 8300)
/// has its path (24 bits) and index (8 bits) in `ipv4_src`, flags, TTL, metadata type and next protocol (8 bits each) in
/// `nd_reserved`, and the four context words in `nd_target`.
#[derive(Clone, Copy, Debug, Default, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct PacketKey {
    /// Datapath port, [`crate::DpPort`] as a number. Cached flows always match it exactly.
    pub in_port: u32,
    /// Zero, or the identifier of a frozen walk that this packet resumes.
    pub recirc_id: u32,
    /// Ethernet destination.
    pub eth_dst: Mac,
    /// Innermost known EtherType (after VLAN tags); below 0x600 is stored as 0x05ff (802.2 without SNAP).
    pub eth_type: u16,
    /// Ethernet source.
    pub eth_src: Mac,
    /// Which further sections are filled in (`EXTRA_*`). Cached flows always match it exactly.
    pub extras: u16,
    /// Outermost two VLAN tags, outermost first.
    pub vlan: [Vlan; 2],
    /// MPLS label stack entries, outermost first: label (20), TC (3), bottom of stack (1), TTL (8).
    pub mpls: [u32; 3],
    /// IPv6 flow label, 20 bits.
    pub ipv6_label: u32,
    /// IPv4 source, or ARP sender protocol address.
    pub ipv4_src: u32,
    /// IPv4 destination, or ARP target protocol address.
    pub ipv4_dst: u32,
    /// IPv6 source.
    pub ipv6_src: [u8; 16],
    /// IPv6 destination.
    pub ipv6_dst: [u8; 16],
    /// IP protocol, or the low byte of the ARP opcode.
    pub ip_proto: u8,
    /// DSCP (6 bits) and ECN (2 bits).
    pub ip_tos: u8,
    /// TTL or hop limit.
    pub ip_ttl: u8,
    /// `FRAG_ANY` and `FRAG_LATER`.
    pub ip_frag: u8,
    /// TCP flags, 12 bits.
    pub tcp_flags: u16,
    /// ICMPv6 ND option type.
    pub nd_options_type: u8,
    /// Always zero.
    pub pad0: u8,
    /// TCP, UDP or SCTP source port, or ICMP type.
    pub tp_src: u16,
    /// TCP, UDP or SCTP destination port, or ICMP code.
    pub tp_dst: u16,
    /// ND reserved field (flags of a neighbour advertisement).
    pub nd_reserved: u32,
    /// ND target address.
    pub nd_target: [u8; 16],
    /// ARP sender hardware address, or ND source link-layer address.
    pub arp_sha: Mac,
    /// Always zero.
    pub pad1: u16,
    /// ARP target hardware address, or ND target link-layer address.
    pub arp_tha: Mac,
    /// Always zero.
    pub pad2: u16,
}

/// The tunnel section: the outer header that was removed on receipt, or that is to be added on output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TunnelKey {
    /// VNI, GRE key or other identifier.
    pub id: u64,
    /// Outer IPv4 source; zero for an IPv6 underlay.
    pub ipv4_src: u32,
    /// Outer IPv4 destination.
    pub ipv4_dst: u32,
    /// Outer IPv6 source; zero for an IPv4 underlay.
    pub ipv6_src: [u8; 16],
    /// Outer IPv6 destination.
    pub ipv6_dst: [u8; 16],
    /// `TUN_*` flags.
    pub flags: u16,
    /// Outer DSCP and ECN.
    pub tos: u8,
    /// Outer TTL or hop limit.
    pub ttl: u8,
    /// Outer transport source port.
    pub tp_src: u16,
    /// Outer transport destination port.
    pub tp_dst: u16,
    /// VXLAN group policy identifier (draft-smith-vxlan-group-policy).
    pub gbp_id: u16,
    /// VXLAN group policy flags.
    pub gbp_flags: u8,
    /// ERSPAN version.
    pub erspan_ver: u8,
    /// ERSPAN index (version 1).
    pub erspan_idx: u32,
    /// ERSPAN direction (version 2).
    pub erspan_dir: u8,
    /// ERSPAN hardware identifier (version 2).
    pub erspan_hwid: u8,
    /// GTP-U flags.
    pub gtpu_flags: u8,
    /// GTP-U message type.
    pub gtpu_msgtype: u8,
    /// Always zero.
    pub pad: u32,
}

/// `TunnelKey::flags`: the tunnel carries an identifier.
pub const TUN_KEY: u16 = 1;
/// `TunnelKey::flags`: the outer header carries (or shall carry) a checksum.
pub const TUN_CSUM: u16 = 2;
/// `TunnelKey::flags`: do not fragment the outer packet.
pub const TUN_DF: u16 = 4;
/// `TunnelKey::flags`: an OAM frame (Geneve O bit, RFC 8926 §3.4).
pub const TUN_OAM: u16 = 8;
/// `TunnelKey::flags`: VXLAN group policy bits are meant.
pub const TUN_GBP: u16 = 16;
/// `TunnelKey::flags`: the header says what it carries (draft-ietf-nvo3-vxlan-gpe). Of packets received only.
pub const TUN_GPE: u16 = 32;

/// The tunnel-option section: up to 256 bytes that a TLV table maps to `tun_metadata0..63`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TunMetadata {
    /// Bit *i* set: `tun_metadata`*i* is present.
    pub present: u64,
    /// Option bodies, at the places the TLV table gives them.
    pub data: [[u8; 8]; 32],
}

/// What an earlier pass through the datapath found out: connection tracking, and the hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CtKey {
    /// `ct_state` bits, as `ovs-fields(7)` numbers them.
    pub state: u16,
    /// Zone.
    pub zone: u16,
    /// Mark.
    pub mark: u32,
    /// Label, 128 bits, in wire order.
    pub label: [u8; 16],
    /// Original-direction IPv4 source.
    pub ipv4_src: u32,
    /// Original-direction IPv4 destination.
    pub ipv4_dst: u32,
    /// Original-direction IPv6 source.
    pub ipv6_src: [u8; 16],
    /// Original-direction IPv6 destination.
    pub ipv6_dst: [u8; 16],
    /// Original-direction source port.
    pub tp_src: u16,
    /// Original-direction destination port.
    pub tp_dst: u16,
    /// Original-direction IP protocol.
    pub ip_proto: u8,
    /// Always zero.
    pub pad: [u8; 3],
    /// Hash that [`crate::DpAction::Hash`] computed.
    pub dp_hash: u32,
    /// Always zero.
    pub pad1: u32,
}

/// The section that only a walk of the flow tables sees; zero when a walk begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PipelineKey {
    /// OpenFlow port number on the bridge being walked.
    pub in_port: u32,
    /// OpenFlow port that the action set outputs to.
    pub actset_output: u32,
    /// OpenFlow metadata.
    pub metadata: u64,
    /// `reg0`–`reg15`; `xreg`*n* is the pair `reg`*2n* (high half), `reg`*2n+1*.
    pub regs: [u32; 16],
    /// Packet mark.
    pub pkt_mark: u32,
    /// Priority that chooses a queue.
    pub skb_priority: u32,
    /// Conjunction that matched.
    pub conj_id: u32,
    /// Namespace (high 16 bits) and type; zero is Ethernet. Set when a walk begins; see [`PacketKey::packet_type`].
    pub packet_type: u32,
}

/// Everything known of a packet. See the module's text for the sections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowKey {
    /// Headers of the frame.
    pub packet: PacketKey,
    /// Outer header.
    pub tunnel: TunnelKey,
    /// Tunnel options.
    pub tun_metadata: TunMetadata,
    /// Connection tracking.
    pub ct: CtKey,
    /// Registers and whatever else only a walk sees.
    pub pipeline: PipelineKey,
}

impl FlowKey {
    /// Of a packet that has nothing.
    pub const ZERO: FlowKey = zerocopy::transmute!([0u64; KEY_WORDS]);
}

impl PartialEq for PacketKey {
    /// Compares all words without a branch between them: nearly always they are equal.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.words().iter().zip(other.words()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
    }
}

impl std::hash::Hash for PacketKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.words().hash(state);
    }
}

impl PacketKey {
    /// The packet's type, as `packet_type` has it: 0 for Ethernet, otherwise namespace 1 and the EtherType.
    #[inline]
    pub fn packet_type(&self) -> u32 {
        if self.extras & EXTRA_BARE == 0 { 0 } else { PT_ETHERTYPE | u32::from(self.eth_type) }
    }
    /// The section as words.
    #[inline]
    pub fn words(&self) -> &[u64; PACKET_WORDS] {
        zerocopy::transmute_ref!(self)
    }
    /// The section as words, to change.
    #[inline]
    pub fn words_mut(&mut self) -> &mut [u64; PACKET_WORDS] {
        zerocopy::transmute_mut!(self)
    }
}

impl TunnelKey {
    /// The section as words.
    #[inline]
    pub fn words(&self) -> &[u64; TUNNEL_WORDS] {
        zerocopy::transmute_ref!(self)
    }
    /// Whether the underlay is IPv6.
    #[inline]
    pub fn is_ipv6(&self) -> bool {
        self.ipv6_dst != [0; 16]
    }
    /// Whether there is an outer header at all.
    #[inline]
    pub fn is_present(&self) -> bool {
        self.ipv4_dst != 0 || self.is_ipv6()
    }
    /// Outer source address.
    pub fn src(&self) -> std::net::IpAddr {
        if self.is_ipv6() { self.ipv6_src.into() } else { self.ipv4_src.to_be_bytes().into() }
    }
    /// Outer destination address.
    pub fn dst(&self) -> std::net::IpAddr {
        if self.is_ipv6() { self.ipv6_dst.into() } else { self.ipv4_dst.to_be_bytes().into() }
    }
    /// Sets the outer source address.
    pub fn set_src(&mut self, addr: std::net::IpAddr) {
        match addr {
            std::net::IpAddr::V4(a) => (self.ipv4_src, self.ipv6_src) = (a.to_bits(), [0; 16]),
            std::net::IpAddr::V6(a) => (self.ipv4_src, self.ipv6_src) = (0, a.octets()),
        }
    }
    /// Sets the outer destination address.
    pub fn set_dst(&mut self, addr: std::net::IpAddr) {
        match addr {
            std::net::IpAddr::V4(a) => (self.ipv4_dst, self.ipv6_dst) = (a.to_bits(), [0; 16]),
            std::net::IpAddr::V6(a) => (self.ipv4_dst, self.ipv6_dst) = (0, a.octets()),
        }
    }
}

impl FlowKey {
    /// The key as words, in the order of the sections.
    #[inline]
    pub fn words(&self) -> &[u64; KEY_WORDS] {
        zerocopy::transmute_ref!(self)
    }
    /// The key as words, to change.
    #[inline]
    pub fn words_mut(&mut self) -> &mut [u64; KEY_WORDS] {
        zerocopy::transmute_mut!(self)
    }
    /// Says in [`PacketKey::extras`] which further sections are filled in, going by what is in them.
    pub fn note_extras(&mut self) {
        let on = |set: bool, bit: u16| if set { bit } else { 0 };
        self.packet.extras = on(self.pipeline.packet_type >> 16 == 1, EXTRA_BARE)
            | on(self.tunnel != TunnelKey::default(), EXTRA_TUNNEL)
            | on(self.tun_metadata != TunMetadata::default(), EXTRA_TUN_METADATA)
            | on(self.ct != CtKey::default(), EXTRA_CT);
    }
}

/// A mask of the same shape as [`FlowKey`]: a set bit is a bit that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowMask(pub FlowKey);

impl FlowMask {
    /// The mask that looks at nothing.
    #[inline]
    pub const fn empty() -> Self {
        FlowMask(FlowKey::ZERO)
    }
    /// The mask as words.
    #[inline]
    pub fn words(&self) -> &[u64; KEY_WORDS] {
        self.0.words()
    }
    /// Adds every bit of `other`.
    #[inline]
    pub fn add(&mut self, other: &FlowMask) {
        for (a, b) in self.0.words_mut().iter_mut().zip(other.0.words()) {
            *a |= b;
        }
    }
    /// `key` with every bit that does not matter cleared.
    #[inline]
    pub fn apply(&self, key: &FlowKey) -> FlowKey {
        let mut out = *key;
        for (a, m) in out.words_mut().iter_mut().zip(self.words()) {
            *a &= m;
        }
        out
    }
    /// Whether `key` and `value` agree in every bit that matters.
    #[inline]
    pub fn matches(&self, key: &FlowKey, value: &FlowKey) -> bool {
        self.words().iter().zip(key.words()).zip(value.words()).all(|((m, k), v)| (k ^ v) & m == 0)
    }
}
