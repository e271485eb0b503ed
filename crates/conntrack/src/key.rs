//! How is a connection named? Addresses, ports, protocol, zone, from one end's point of view.

use std::net::{IpAddr, Ipv6Addr};

use weft_flow::{FRAG_LATER, PacketKey};
use weft_wire::{EtherType, IpProto};

/// Bits of `ct_state`, as `ovs-fields(7)` numbers them.
pub mod state {
    /// A connection that is not committed, or has not been answered.
    pub const NEW: u16 = 0x01;
    /// Part of a connection.
    pub const EST: u16 = 0x02;
    /// Related to a connection: an ICMP error, or a connection that a helper expected.
    pub const REL: u16 = 0x04;
    /// In the direction of the answers.
    pub const RPL: u16 = 0x08;
    /// Belongs to no connection and cannot begin one.
    pub const INV: u16 = 0x10;
    /// Connection tracking has seen the packet.
    pub const TRK: u16 = 0x20;
    /// The connection's source is translated.
    pub const SNAT: u16 = 0x40;
    /// The connection's destination is translated.
    pub const DNAT: u16 = 0x80;
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct End {
    /// Address; IPv4 ones are mapped into IPv6 (RFC 4291 §2.5.5.2), so that all have one length.
    pub(crate) addr: [u8; 16],
    /// Port, or the identifier of an ICMP echo, the same at both ends.
    pub(crate) port: u16,
}

impl End {
    /// The address, if it is one of IPv4.
    pub(crate) fn v4(&self) -> u32 {
        u32::from_be_bytes([self.addr[12], self.addr[13], self.addr[14], self.addr[15]])
    }
}

/// A connection as the packets of one direction name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub(crate) src: End,
    pub(crate) dst: End,
    /// Zone.
    pub(crate) zone: u16,
    /// IP protocol.
    pub(crate) proto: u8,
    /// Whether addresses are IPv6.
    pub(crate) v6: bool,
    /// Of ICMP: whether packets are answers. Two hosts may ask each other under one identifier.
    pub(crate) answer: bool,
}

/// Why a packet has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// Not IP, or headers that are broken: nothing can be said.
    Invalid,
    /// An ICMP error: what it is about is named by the packet it quotes.
    IcmpError,
}

/// An IPv4 address as one of IPv6 (RFC 4291 §2.5.5.2). Made of whole words: it is hashed by words at once, and those that
/// were just written in pieces are slow to read back.
pub(crate) fn mapped(addr: u32) -> [u8; 16] {
    (0xffff_u128 << 32 | u128::from(addr)).to_be_bytes()
}

/// The address that an [`End`] has.
pub(crate) fn address(addr: &[u8; 16], v6: bool) -> IpAddr {
    let addr6 = Ipv6Addr::from(*addr);
    if v6 { addr6.into() } else { addr6.to_ipv4_mapped().map_or(addr6.into(), IpAddr::V4) }
}

/// The form in which an [`End`] keeps an address.
pub(crate) fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
        IpAddr::V6(a) => a.octets(),
    }
}

/// What an ICMP message is, by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IcmpKind {
    /// A question that may begin a connection.
    Query,
    /// An answer.
    Answer,
    /// About another packet.
    Error,
    /// Anything else.
    Other,
}

/// ICMP types of RFC 792, RFC 950, RFC 4443.
pub(crate) fn icmp_kind(v6: bool, ty: u16) -> IcmpKind {
    match (v6, ty) {
        (false, 8 | 13 | 15 | 17) | (true, 128) => IcmpKind::Query,
        (false, 0 | 14 | 16 | 18) | (true, 129) => IcmpKind::Answer,
        (false, 3 | 4 | 5 | 11 | 12) | (true, 1..=4) => IcmpKind::Error,
        _ => IcmpKind::Other,
    }
}

impl Key {
    /// The key of a packet, whose ICMP identifier, if it has one, is `icmp_id`.
    pub(crate) fn of(p: &PacketKey, icmp_id: Option<u16>, zone: u16) -> Result<Key, NoKey> {
        let v6 = match EtherType(p.eth_type) {
            EtherType::IPV4 => false,
            EtherType::IPV6 => true,
            _ => return Err(NoKey::Invalid),
        };
        if p.ip_frag & FRAG_LATER != 0 {
            return Err(NoKey::Invalid);
        }
        let (src, dst) = if v6 { (p.ipv6_src, p.ipv6_dst) } else { (mapped(p.ipv4_src), mapped(p.ipv4_dst)) };
        let (sport, dport) = match (IpProto(p.ip_proto), v6) {
            (IpProto::TCP | IpProto::UDP | IpProto::SCTP | IpProto::UDPLITE, _) => (p.tp_src, p.tp_dst),
            (IpProto::ICMP, false) | (IpProto::ICMPV6, true) => match icmp_kind(v6, p.tp_src) {
                IcmpKind::Query | IcmpKind::Answer => {
                    let id = icmp_id.ok_or(NoKey::Invalid)?;
                    (id, id)
                }
                IcmpKind::Error => return Err(NoKey::IcmpError),
                IcmpKind::Other => return Err(NoKey::Invalid),
            },
            _ => (0, 0),
        };
        let (src, dst) = (End { addr: src, port: sport }, End { addr: dst, port: dport });
        let key = Key { src, dst, zone, proto: p.ip_proto, v6, answer: false };
        Ok(Key { answer: key.is_icmp() && icmp_kind(v6, p.tp_src) == IcmpKind::Answer, ..key })
    }

    /// The same connection as packets of the other direction name it.
    pub(crate) fn reversed(&self) -> Key {
        Key { src: self.dst, dst: self.src, answer: self.answer != self.is_icmp(), ..*self }
    }

    pub(crate) fn is_icmp(&self) -> bool {
        matches!((IpProto(self.proto), self.v6), (IpProto::ICMP, false) | (IpProto::ICMPV6, true))
    }

    /// Whether the protocol has ports that can be translated.
    pub(crate) fn has_ports(&self) -> bool {
        matches!(IpProto(self.proto), IpProto::TCP | IpProto::UDP | IpProto::SCTP | IpProto::UDPLITE)
    }

    /// A hash that both directions share.
    pub(crate) fn hash(&self, seed: u64) -> u64 {
        let end = |e: &End| {
            let [a, b] = [0, 8].map(|i| u64::from_le_bytes(e.addr[i..i + 8].try_into().unwrap_or_default()));
            fold(fold(a ^ seed, b ^ 0x9e37_79b9_7f4a_7c15) ^ seed, u64::from(e.port) ^ 0xc2b2_ae3d_27d4_eb4f)
        };
        let both = end(&self.src).wrapping_add(end(&self.dst));
        let rest = u64::from(self.zone) << 16 | u64::from(self.proto) << 1 | u64::from(self.v6);
        fold(both ^ 0x1656_67b1_9e37_79f9, rest ^ seed)
    }
}

/// The halves of a 128-bit product, XORed.
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b | 1);
    product as u64 ^ (product >> 64) as u64
}
