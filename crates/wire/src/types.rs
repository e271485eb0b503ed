//! Which protocol comes next, and which virtual network is it in?

use core::fmt;

/// An EtherType (IEEE 802.3 §3.2.6), as a number in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EtherType(pub u16);

impl EtherType {
    /// Internet Protocol version 4.
    pub const IPV4: Self = Self(0x0800);
    /// Address Resolution Protocol.
    pub const ARP: Self = Self(0x0806);
    /// Transparent Ethernet Bridging: an Ethernet frame follows (GRE, Geneve).
    pub const TEB: Self = Self(0x6558);
    /// Reverse ARP.
    pub const RARP: Self = Self(0x8035);
    /// IEEE 802.1Q customer VLAN tag (C-tag).
    pub const VLAN: Self = Self(0x8100);
    /// Internet Protocol version 6.
    pub const IPV6: Self = Self(0x86dd);
    /// Slow protocols: LACP, marker.
    pub const SLOW: Self = Self(0x8809);
    /// MPLS unicast.
    pub const MPLS: Self = Self(0x8847);
    /// MPLS with upstream-assigned label (multicast).
    pub const MPLS_MC: Self = Self(0x8848);
    /// IEEE 802.1ad service VLAN tag (S-tag).
    pub const QINQ: Self = Self(0x88a8);
    /// Link Layer Discovery Protocol.
    pub const LLDP: Self = Self(0x88cc);
    /// IEEE 802.1ag connectivity fault management.
    pub const CFM: Self = Self(0x8902);
    /// Network Service Header.
    pub const NSH: Self = Self(0x894f);
    /// Encapsulated Remote Switch Port Analyzer, type II.
    pub const ERSPAN2: Self = Self(0x88be);
    /// Encapsulated Remote Switch Port Analyzer, type III.
    pub const ERSPAN3: Self = Self(0x22eb);

    /// Values below this are an IEEE 802.3 length, not a type.
    pub const MIN_TYPE: u16 = 0x0600;

    /// True for 802.1Q and 802.1ad tags.
    #[inline]
    #[must_use]
    pub const fn is_vlan(self) -> bool {
        matches!(self, Self::VLAN | Self::QINQ)
    }

    /// True for MPLS unicast and multicast.
    #[inline]
    #[must_use]
    pub const fn is_mpls(self) -> bool {
        matches!(self, Self::MPLS | Self::MPLS_MC)
    }

    /// True when the field is a type, false when it is a length.
    #[inline]
    #[must_use]
    pub const fn is_type(self) -> bool {
        self.0 >= Self::MIN_TYPE
    }
}

impl fmt::Display for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// An IP protocol number or IPv6 next-header value (IANA "protocol-numbers").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct IpProto(pub u8);

impl IpProto {
    /// IPv6 hop-by-hop options (0).
    pub const HOPOPT: Self = Self(0);
    /// ICMP for IPv4 (1).
    pub const ICMP: Self = Self(1);
    /// IGMP (2).
    pub const IGMP: Self = Self(2);
    /// IPv4 in IP (4).
    pub const IPIP: Self = Self(4);
    /// TCP (6).
    pub const TCP: Self = Self(6);
    /// UDP (17).
    pub const UDP: Self = Self(17);
    /// IPv6 in IP (41).
    pub const IPV6: Self = Self(41);
    /// IPv6 routing header (43).
    pub const ROUTING: Self = Self(43);
    /// IPv6 fragment header (44).
    pub const FRAGMENT: Self = Self(44);
    /// GRE (47).
    pub const GRE: Self = Self(47);
    /// IPsec encapsulating security payload (50).
    pub const ESP: Self = Self(50);
    /// IPsec authentication header (51).
    pub const AH: Self = Self(51);
    /// ICMPv6 (58).
    pub const ICMPV6: Self = Self(58);
    /// IPv6: nothing follows (59).
    pub const NO_NEXT: Self = Self(59);
    /// IPv6 destination options (60).
    pub const DSTOPTS: Self = Self(60);
    /// SCTP (132).
    pub const SCTP: Self = Self(132);
    /// Mobility header (135).
    pub const MOBILITY: Self = Self(135);
    /// UDP-Lite (136).
    pub const UDPLITE: Self = Self(136);
    /// MPLS in IP (137).
    pub const MPLS: Self = Self(137);
}

impl fmt::Display for IpProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A 24-bit virtual network identifier (RFC 7348 §5, RFC 8926 §3.4; NVGRE's VSID, RFC 7637 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Vni(u32);

impl Vni {
    /// The greatest identifier.
    pub const MAX: Self = Self(0x00ff_ffff);

    /// The identifier `n`, or `None` when it takes more than 24 bits.
    #[inline]
    #[must_use]
    pub const fn new(n: u32) -> Option<Self> {
        if n <= Self::MAX.0 { Some(Self(n)) } else { None }
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// From the three bytes of the wire.
    #[inline]
    #[must_use]
    pub const fn from_be_bytes(b: [u8; 3]) -> Self {
        Self(u32::from_be_bytes([0, b[0], b[1], b[2]]))
    }

    /// To the three bytes of the wire.
    #[inline]
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }
}

/// The number does not fit a 24-bit identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a VNI is at most 16777215, not {0}")]
pub struct VniRangeError(pub u32);

impl TryFrom<u32> for Vni {
    type Error = VniRangeError;

    fn try_from(n: u32) -> Result<Self, VniRangeError> {
        Self::new(n).ok_or(VniRangeError(n))
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vni_is_24_bits() {
        assert_eq!(Vni::new(0x0100_0000), None);
        assert_eq!(Vni::try_from(0x0100_0000), Err(VniRangeError(0x0100_0000)));
        let vni = Vni::new(0x0012_3456).unwrap();
        assert_eq!(vni.to_be_bytes(), [0x12, 0x34, 0x56]);
        assert_eq!(Vni::from_be_bytes([0x12, 0x34, 0x56]), vni);
    }
}
