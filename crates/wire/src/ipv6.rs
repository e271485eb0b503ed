//! How is an IPv6 header laid out? (RFC 8200 §3)
//!
//! Extension headers are in [`crate::ipv6_ext`].

use core::net::Ipv6Addr;

use crate::bytes::{array, be16, be32, head, head_mut, put, put16, put32};
use crate::{Error, IpProto, Result};

const LAYER: &str = "ipv6";

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Every link carries packets of this many bytes (RFC 8200 §5).
pub const MIN_MTU: usize = 1280;
/// Most bytes that may follow the fixed header.
pub const MAX_PAYLOAD_LEN: usize = 65_535;

/// Byte offsets inside the header.
pub mod field {
    /// Version (4 bits), traffic class (8 bits), flow label (20 bits).
    pub const VERSION_TC_FLOW: usize = 0;
    /// Bytes behind the fixed header, 2 bytes.
    pub const PAYLOAD_LEN: usize = 4;
    /// Type of the header that follows, 1 byte.
    pub const NEXT_HEADER: usize = 6;
    /// Hop limit, 1 byte.
    pub const HOP_LIMIT: usize = 7;
    /// Source address, 16 bytes.
    pub const SRC: usize = 8;
    /// Destination address, 16 bytes.
    pub const DST: usize = 24;
}

/// A checked view of an IPv6 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6View<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Ipv6View<'a> {
    /// Checks version and length. Bytes behind the stated payload length (padding) are left out.
    ///
    /// # Errors
    /// `Truncated` when header or payload end early, `Malformed` for another version. Jumbograms
    /// (payload length 0 with a jumbo option, RFC 2675) are seen as empty packets.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut view = Self::parse_quoted(bytes)?;
        view.payload = view.payload.get(..view.payload_len()).ok_or(Error::truncated(LAYER))?;
        Ok(view)
    }

    /// Checks the header only. For packets cut short on purpose, as ICMPv6 errors quote them: the
    /// payload is what is there.
    ///
    /// # Errors
    /// As [`Self::parse`], but the payload length is not looked at.
    #[inline]
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self> {
        let (head, payload) = head::<HEADER_LEN>(LAYER, bytes)?;
        if head[field::VERSION_TC_FLOW] >> 4 != 6 {
            return Err(Error::malformed(LAYER, "version"));
        }
        Ok(Self { head, payload })
    }

    /// DSCP and ECN.
    #[inline]
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        (be16(self.head, field::VERSION_TC_FLOW) >> 4) as u8
    }

    /// Flow label, 20 bits.
    #[inline]
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        be32(self.head, field::VERSION_TC_FLOW) & 0x000f_ffff
    }

    /// Bytes behind the fixed header, as stated.
    #[inline]
    #[must_use]
    pub fn payload_len(&self) -> usize {
        usize::from(be16(self.head, field::PAYLOAD_LEN))
    }

    /// Type of the header that follows, which may be an extension header.
    #[inline]
    #[must_use]
    pub fn next_header(&self) -> IpProto {
        IpProto(self.head[field::NEXT_HEADER])
    }

    /// Hop limit.
    #[inline]
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.head[field::HOP_LIMIT]
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn src(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.head, field::SRC))
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn dst(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.head, field::DST))
    }

    /// What follows the fixed header, without padding behind the packet.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// An IPv6 header as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv6Repr {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label; only the low 20 bits are written.
    pub flow_label: u32,
    /// Bytes behind the fixed header, extension headers included.
    pub payload_len: usize,
    /// Type of the header that follows.
    pub next_header: IpProto,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

impl Ipv6Repr {
    /// A header with the usual default hop limit, 64.
    #[must_use]
    pub const fn new(src: Ipv6Addr, dst: Ipv6Addr, next_header: IpProto, payload_len: usize) -> Self {
        Self { traffic_class: 0, flow_label: 0, payload_len, next_header, hop_limit: 64, src, dst }
    }

    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &Ipv6View<'_>) -> Self {
        Self {
            traffic_class: view.traffic_class(),
            flow_label: view.flow_label(),
            payload_len: view.payload.len(),
            next_header: view.next_header(),
            hop_limit: view.hop_limit(),
            src: view.src(),
            dst: view.dst(),
        }
    }

    /// Writes the header at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than [`HEADER_LEN`]; `Malformed` when the payload exceeds
    /// [`MAX_PAYLOAD_LEN`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let payload_len =
            u16::try_from(self.payload_len).map_err(|_| Error::malformed(LAYER, "payload length"))?;
        let (head, _) = head_mut::<HEADER_LEN>(LAYER, buf)?;
        let first = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        put32(head, field::VERSION_TC_FLOW, first);
        put16(head, field::PAYLOAD_LEN, payload_len);
        head[field::NEXT_HEADER] = self.next_header.0;
        head[field::HOP_LIMIT] = self.hop_limit;
        put(head, field::SRC, self.src.octets());
        put(head, field::DST, self.dst.octets());
        Ok(HEADER_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(mut bytes in prop::collection::vec(any::<u8>(), HEADER_LEN..100)) {
            bytes[0] = 0x60 | bytes[0] & 0xf;
            let len = (bytes.len() - HEADER_LEN) as u16;
            bytes[4..6].copy_from_slice(&len.to_be_bytes());
            let repr = Ipv6Repr::parse(&Ipv6View::parse(&bytes).unwrap());
            let mut out = [0; HEADER_LEN];
            repr.emit(&mut out).unwrap();
            prop_assert_eq!(&out[..], &bytes[..HEADER_LEN]);
            prop_assert!(Ipv6View::parse(&bytes[..bytes.len() - 1]).is_err());
            bytes.push(0);
            prop_assert_eq!(Ipv6View::parse(&bytes).unwrap().payload().len(), usize::from(len));
        }
    }

    #[test]
    fn refuses() {
        assert!(Ipv6View::parse(&[0x40; 60]).is_err());
        let any = Ipv6Addr::UNSPECIFIED;
        assert!(Ipv6Repr::new(any, any, IpProto::TCP, 65_536).emit(&mut [0; 40]).is_err());
        assert!(Ipv6Repr::new(any, any, IpProto::TCP, 0).emit(&mut [0; 39]).is_err());
    }
}
