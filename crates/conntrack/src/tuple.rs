//! What names one direction of a connection, and how is it hashed?
//!
//! A hash is over the two ends of a connection in no order, so that both directions of a connection that is not
//! translated are found by one index entry. The seed keeps others from choosing tuples that collide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_wire::IpProto;

/// Bit of [`Tuple::kind`]: addresses are IPv6.
pub(crate) const KIND_V6: u8 = 0x40;
/// Bit of [`Tuple::kind`]: an ICMP reply rather than a request.
pub(crate) const KIND_REPLY: u8 = 1;

/// An address and a port, or an ICMP identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct End {
    /// IPv6: the address, high half first. IPv4: zero and the address.
    pub(crate) addr: [u64; 2],
    /// Port or identifier.
    pub(crate) port: u16,
}

/// One direction of a connection: from one end to another, by a protocol, in a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tuple {
    /// Source address, as [`End::addr`].
    pub(crate) src: [u64; 2],
    /// Destination address.
    pub(crate) dst: [u64; 2],
    /// Source port, or ICMP identifier.
    pub(crate) sport: u16,
    /// Destination port, or ICMP identifier again.
    pub(crate) dport: u16,
    /// Zone.
    pub(crate) zone: u16,
    /// IP protocol.
    pub(crate) proto: u8,
    /// `KIND_V6`; for ICMP also which question (three bits above the lowest) and `KIND_REPLY`.
    pub(crate) kind: u8,
}

/// ICMP questions that have an answer, as (version 6, request, reply).
const QUESTIONS: [(bool, u8, u8); 5] =
    [(false, 8, 0), (false, 13, 14), (false, 15, 16), (false, 17, 18), (true, 128, 129)];

/// The kind of an ICMP message that asks or answers, without `KIND_V6`.
pub(crate) fn icmp_kind(v6: bool, ty: u8) -> Option<u8> {
    let at = QUESTIONS.iter().position(|q| q.0 == v6 && (q.1 == ty || q.2 == ty))?;
    Some((at as u8) << 1 | u8::from(QUESTIONS[at].2 == ty))
}

/// The words of an IP address.
pub(crate) fn words(addr: IpAddr) -> [u64; 2] {
    match addr {
        IpAddr::V4(a) => [0, u64::from(a.to_bits())],
        IpAddr::V6(a) => v6_words(a.octets()),
    }
}

/// The words of an IPv6 address in wire order.
#[inline]
pub(crate) fn v6_words(octets: [u8; 16]) -> [u64; 2] {
    let bits = u128::from_be_bytes(octets);
    [(bits >> 64) as u64, bits as u64]
}

/// An IPv6 address in wire order.
#[inline]
pub(crate) fn v6_octets(words: [u64; 2]) -> [u8; 16] {
    (u128::from(words[0]) << 64 | u128::from(words[1])).to_be_bytes()
}

impl Tuple {
    /// Whether the addresses are IPv6.
    #[inline]
    pub(crate) fn is_v6(&self) -> bool {
        self.kind & KIND_V6 != 0
    }

    /// Whether it is ICMP or ICMPv6.
    #[inline]
    pub(crate) fn is_icmp(&self) -> bool {
        matches!(IpProto(self.proto), IpProto::ICMP | IpProto::ICMPV6)
    }

    /// Whether there are ports that may be changed.
    #[inline]
    pub(crate) fn has_ports(&self) -> bool {
        matches!(IpProto(self.proto), IpProto::TCP | IpProto::UDP | IpProto::SCTP | IpProto::UDPLITE)
    }

    /// The same connection seen the other way.
    #[inline]
    pub(crate) fn reversed(&self) -> Tuple {
        let flip = u8::from(self.is_icmp()) & KIND_REPLY;
        Tuple {
            src: self.dst,
            dst: self.src,
            sport: self.dport,
            dport: self.sport,
            kind: self.kind ^ flip,
            ..*self
        }
    }

    /// Whether `other` is this seen the other way.
    #[inline]
    pub(crate) fn is_reverse_of(&self, other: &Tuple) -> bool {
        self.src == other.dst && self.dst == other.src && *self == other.reversed()
    }

    /// Source.
    pub(crate) fn source(&self) -> End {
        End { addr: self.src, port: self.sport }
    }

    /// Destination.
    pub(crate) fn destination(&self) -> End {
        End { addr: self.dst, port: self.dport }
    }

    /// Sets the source; of ICMP both identifiers.
    pub(crate) fn set_source(&mut self, end: End) {
        (self.src, self.sport) = (end.addr, end.port);
        if self.is_icmp() {
            self.dport = end.port;
        }
    }

    /// Sets the destination; of ICMP both identifiers.
    pub(crate) fn set_destination(&mut self, end: End) {
        (self.dst, self.dport) = (end.addr, end.port);
        if self.is_icmp() {
            self.sport = end.port;
        }
    }

    /// An address of this tuple's family.
    pub(crate) fn ip(&self, words: [u64; 2]) -> IpAddr {
        if self.is_v6() {
            Ipv6Addr::from(v6_octets(words)).into()
        } else {
            Ipv4Addr::from_bits(words[1] as u32).into()
        }
    }

    /// Type of the ICMP message, 0 for other protocols.
    pub(crate) fn icmp_type(&self) -> u8 {
        match QUESTIONS.get(usize::from(self.kind >> 1 & 7)) {
            Some(q) if self.is_icmp() => {
                if self.kind & KIND_REPLY != 0 { q.2 } else { q.1 }
            }
            _ => 0,
        }
    }
}

/// Odd constants without pattern (digits of e).
const SALT: [u64; 4] =
    [0xb7e1_5162_8aed_2a6b, 0xbf71_5880_9cf4_f3c7, 0x62e7_160f_38b4_da57, 0xa784_d904_5190_cfef];

/// The secret that tuples are hashed with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hasher([u64; 4]);

/// The halves of a 128-bit product, XORed.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

impl Hasher {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        Hasher(SALT.map(|salt| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            fold(state ^ salt, salt) ^ fold(state.rotate_left(32) ^ SALT[0], salt | 1) ^ salt
        }))
    }

    #[inline(always)]
    fn end(&self, addr: [u64; 2], port: u16) -> u64 {
        let [k0, k1, k2, k3] = self.0;
        fold(fold(addr[0] ^ k0, addr[1] ^ k1) ^ u64::from(port) ^ k2, k3 | 1)
    }

    /// The same for both directions of a connection that is not translated.
    #[inline]
    pub(crate) fn symmetric(&self, t: &Tuple) -> u64 {
        let (a, b) = (self.end(t.src, t.sport), self.end(t.dst, t.dport));
        let kind = t.kind & !(u8::from(t.is_icmp()) & KIND_REPLY);
        let meta = u64::from(t.zone) << 16 | u64::from(t.proto) << 8 | u64::from(kind);
        fold(a.wrapping_add(b) ^ self.0[1], (a ^ b) ^ self.0[2] ^ meta.wrapping_mul(SALT[1]))
    }

    /// A number from numbers, for choosing where a search starts.
    pub(crate) fn mix(&self, a: u64, b: u64) -> u64 {
        fold(fold(a ^ self.0[0], b ^ self.0[3]) ^ self.0[1], self.0[2] | 1)
    }

    /// A number for one end.
    pub(crate) fn of_end(&self, end: End) -> u64 {
        self.end(end.addr, end.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn tuple(a: u32, b: u32, sport: u16) -> Tuple {
        Tuple { src: [0, a.into()], dst: [0, b.into()], sport, dport: 80, zone: 1, proto: 6, kind: 0 }
    }

    #[test]
    fn directions_hash_alike() {
        let hasher = Hasher::new(7);
        let t = tuple(1, 2, 1000);
        assert_eq!(hasher.symmetric(&t), hasher.symmetric(&t.reversed()));
        assert!(t.is_reverse_of(&t.reversed()) && !t.is_reverse_of(&t));
        assert_ne!(hasher.symmetric(&t), hasher.symmetric(&Tuple { zone: 2, ..t }));
        assert_ne!(hasher.symmetric(&t), hasher.symmetric(&Tuple { proto: 17, ..t }));
        assert_ne!(hasher.symmetric(&t), hasher.symmetric(&Tuple { sport: 80, dport: 1000, ..t }));
        assert_ne!(hasher.symmetric(&t), Hasher::new(8).symmetric(&t));
    }

    #[test]
    fn hashes_spread() {
        let hasher = Hasher::new(1);
        let all = (0..256).flat_map(|a| (0..256).map(move |p| tuple(0x0a00_0000 + a, 9, 1024 + p)));
        let used: HashSet<u64> = all.map(|t| hasher.symmetric(&t) >> 48).collect();
        assert!((40_000..43_000).contains(&used.len()), "{}", used.len());
    }

    #[test]
    fn icmp_requests_of_both_sides_differ() {
        let kind = icmp_kind(false, 8).unwrap();
        let t = Tuple { sport: 5, dport: 5, proto: 1, kind, ..tuple(1, 2, 5) };
        let other_way = Tuple { src: t.dst, dst: t.src, ..t };
        assert_ne!(t.reversed(), other_way);
        assert_eq!((t.icmp_type(), t.reversed().icmp_type()), (8, 0));
        assert_eq!(Hasher::new(3).symmetric(&t), Hasher::new(3).symmetric(&t.reversed()));
        assert_eq!(icmp_kind(true, 135), None);
    }
}
