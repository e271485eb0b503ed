//! Where do the IP header and the transport header of a frame stand?
//!
//! The one walk that checksum completion, segmentation, merging, fragmentation and error messages
//! share. The switch's flow key has a parser of its own, which looks at much more.

use crate::checksum::Sum;
use crate::ipv4::{self, Ipv4View};
use crate::ipv6::{self, Ipv6View};
use crate::ipv6_ext::{Chain, ExtHeaders};
use crate::vlan::network_layer;
use crate::{Error, EtherType, IpProto, Result};

/// The IP header of a frame.
#[derive(Debug, Clone, Copy)]
pub enum Ip<'a> {
    /// IPv4.
    V4(Ipv4View<'a>),
    /// IPv6, and what was found between it and the transport header.
    V6(Ipv6View<'a>, Chain<'a>),
}

/// The headers of an Ethernet frame that carries IP, behind any VLAN tags.
#[derive(Debug, Clone, Copy)]
pub struct Located<'a> {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the transport header, or of the data of a later fragment.
    pub l4: usize,
    /// Where the IP packet ends. Anything behind is padding.
    pub end: usize,
    /// The IP header.
    pub ip: Ip<'a>,
    /// Transport protocol.
    pub proto: IpProto,
    /// From the transport header to the end of the packet.
    pub transport: &'a [u8],
}

impl<'a> Located<'a> {
    /// Finds the headers of `frame`.
    ///
    /// # Errors
    /// As the views of the headers; `Unsupported` when the frame does not carry IP.
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<Self> {
        let (l3, ether_type) = network_layer(frame)?;
        Self::parse_network(frame, l3, ether_type)
    }

    /// Finds the headers of a packet of type `ether_type` that starts at `l3` in `frame`.
    ///
    /// # Errors
    /// As [`Self::parse`].
    #[inline]
    pub fn parse_network(frame: &'a [u8], l3: usize, ether_type: EtherType) -> Result<Self> {
        let packet = frame.get(l3..).ok_or(Error::truncated("frame"))?;
        match ether_type {
            EtherType::IPV4 => {
                let ip = Ipv4View::parse(packet)?;
                Ok(Self {
                    l3,
                    l4: l3 + ip.header_len(),
                    end: l3 + ip.total_len(),
                    ip: Ip::V4(ip),
                    proto: ip.proto(),
                    transport: ip.payload(),
                })
            }
            EtherType::IPV6 => {
                let ip = Ipv6View::parse(packet)?;
                let chain = Chain::walk(ip.next_header(), ip.payload())?;
                Ok(Self {
                    l3,
                    l4: l3 + ipv6::HEADER_LEN + chain.len,
                    end: l3 + ipv6::HEADER_LEN + ip.payload().len(),
                    ip: Ip::V6(ip, chain),
                    proto: chain.proto,
                    transport: chain.payload,
                })
            }
            _ => Err(Error::unsupported("frame", "network protocol")),
        }
    }

    /// Finds the headers of the Ethernet frame that starts at `at` in `frame`: one in a tunnel.
    ///
    /// # Errors
    /// As [`Self::parse`].
    #[inline]
    pub fn parse_at(frame: &'a [u8], at: usize) -> Result<Self> {
        let (l3, ether_type) = network_layer(frame.get(at..).ok_or(Error::truncated("frame"))?)?;
        Self::parse_network(frame, at + l3, ether_type)
    }

    /// True for a fragment of a larger packet.
    #[inline]
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        match &self.ip {
            Ip::V4(ip) => ip.frag().is_fragment(),
            Ip::V6(_, chain) => chain.fragment.is_some_and(|f| !f.is_atomic()),
        }
    }

    /// The pseudo header's sum for `len` bytes of transport header and payload.
    ///
    /// For IPv6 with a routing header this takes the address of the next stop, not of the last.
    #[inline]
    #[must_use]
    pub fn pseudo_sum(&self, len: usize) -> Sum {
        match &self.ip {
            Ip::V4(ip) => Sum::pseudo_v4(ip.src(), ip.dst(), self.proto, len as u16),
            Ip::V6(ip, _) => Sum::pseudo_v6(ip.src(), ip.dst(), self.proto, len as u32),
        }
    }

    /// True when an IPv6 routing header makes the last destination another than the header says.
    #[inline]
    #[must_use]
    pub fn is_source_routed(&self) -> bool {
        match &self.ip {
            Ip::V4(_) => false,
            Ip::V6(_, chain) if chain.len == 0 => false,
            Ip::V6(ip, _) => ExtHeaders::new(ip.next_header(), ip.payload())
                .any(|header| header.is_ok_and(|h| h.kind == IpProto::ROUTING)),
        }
    }
}

/// Writes the length of an IP packet that starts at `packet[0]` into its header, and for IPv4 the
/// checksum. Nothing is checked but bounds.
///
/// # Errors
/// `Truncated` without an IP header, `Malformed` when `len` does not fit.
pub(crate) fn set_packet_len(packet: &mut [u8], len: usize) -> Result<()> {
    let bad = Error::malformed("ip", "length");
    let version = packet.first().ok_or(Error::truncated("ip"))? >> 4;
    let (at, value) = match version {
        4 => (ipv4::field::TOTAL_LEN, len),
        _ => (ipv6::field::PAYLOAD_LEN, len.checked_sub(ipv6::HEADER_LEN).ok_or(bad)?),
    };
    let value = u16::try_from(value).map_err(|_| bad)?;
    packet.get_mut(at..at + 2).ok_or(Error::truncated("ip"))?.copy_from_slice(&value.to_be_bytes());
    if version == 4 {
        ipv4::fill_checksum(packet)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mac;
    use crate::build::Frame;
    use core::net::Ipv6Addr;

    #[test]
    fn finds_headers() {
        let eth = || Frame::eth(Mac([2; 6]), Mac([4; 6]));
        let mut frame = eth().vlan(1).ipv4([1, 1, 1, 1], [2, 2, 2, 2]).udp(1, 2).payload([0; 5]).build();
        frame.extend([0; 13]); // padding
        let found = Located::parse(&frame).unwrap();
        assert_eq!((found.l3, found.l4, found.end, found.transport.len()), (18, 38, 51, 13));
        assert!(!found.is_fragment() && !found.is_source_routed());

        let (a, b) = (Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED);
        let frame = eth().ipv6(a, b).ext(IpProto::ROUTING, &[0; 6]).fragment(8, false, 1).tcp(1, 2).build();
        let found = Located::parse(&frame).unwrap();
        assert_eq!((found.l3, found.l4, found.end, found.proto), (14, 70, 90, IpProto::TCP));
        assert!(found.is_fragment() && found.is_source_routed());
        assert!(Located::parse(&eth().payload([0; 60]).build()).is_err());
    }

    #[test]
    fn lengths() {
        let mut packet = Frame::bare().ipv4([1, 1, 1, 1], [2, 2, 2, 2]).udp(1, 2).payload([0; 20]).build();
        set_packet_len(&mut packet, 30).unwrap();
        let view = Ipv4View::parse(&packet).unwrap();
        assert!(view.total_len() == 30 && view.checksum_ok());
        assert!(set_packet_len(&mut packet, 70_000).is_err());
        assert!(set_packet_len(&mut [0x60; 40], 39).is_err());
        assert!(set_packet_len(&mut [], 0).is_err());
    }
}
