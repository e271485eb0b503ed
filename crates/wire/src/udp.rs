//! How is a UDP header laid out? (RFC 768)

use crate::bytes::{be16, head, head_mut, put16};
use crate::checksum::Sum;
use crate::{Error, Result};

const LAYER: &str = "udp";

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;
/// Most bytes of payload over IPv4 without options.
pub const MAX_PAYLOAD_LEN: usize = 65_507;

/// The port VXLAN is sent to (RFC 7348 §5).
pub const PORT_VXLAN: u16 = 4789;
/// The port Geneve is sent to (RFC 8926 §3.3).
pub const PORT_GENEVE: u16 = 6081;

/// Byte offsets inside the header.
pub mod field {
    /// Source port, 2 bytes.
    pub const SRC_PORT: usize = 0;
    /// Destination port, 2 bytes.
    pub const DST_PORT: usize = 2;
    /// Length of header and payload, 2 bytes.
    pub const LEN: usize = 4;
    /// Checksum over pseudo header, header and payload, 2 bytes; 0 means none.
    pub const CHECKSUM: usize = 6;
}

/// A checked view of a UDP datagram.
#[derive(Debug, Clone, Copy)]
pub struct UdpView<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> UdpView<'a> {
    /// Checks lengths. Bytes behind the stated length are left out.
    ///
    /// # Errors
    /// `Truncated` when the datagram ends early, `Malformed` when its length is below the
    /// header's.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut view = Self::parse_header(bytes)?;
        let want =
            usize::from(view.len()).checked_sub(HEADER_LEN).ok_or(Error::malformed(LAYER, "length"))?;
        view.payload = view.payload.get(..want).ok_or(Error::truncated(LAYER))?;
        Ok(view)
    }

    /// Checks the header only: for first fragments, quotes in ICMP errors, and frames that are
    /// still to be segmented. The payload is what is there.
    ///
    /// # Errors
    /// `Truncated` when `bytes` are shorter than [`HEADER_LEN`].
    #[inline]
    pub fn parse_header(bytes: &'a [u8]) -> Result<Self> {
        let (head, payload) = head(LAYER, bytes)?;
        Ok(Self { head, payload })
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub fn src_port(&self) -> u16 {
        be16(self.head, field::SRC_PORT)
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        be16(self.head, field::DST_PORT)
    }

    /// Length of header and payload, as stated.
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // A length field, not a container.
    pub fn len(&self) -> u16 {
        be16(self.head, field::LEN)
    }

    /// Checksum, as it stands; 0 means none.
    #[inline]
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16(self.head, field::CHECKSUM)
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// True when the checksum is right, or absent. `pseudo` is the pseudo header's sum.
    ///
    /// Over IPv6 an absent checksum is an error (RFC 8200 §8.1) that the caller judges.
    #[inline]
    #[must_use]
    pub fn checksum_ok(&self, pseudo: Sum) -> bool {
        self.checksum() == 0 || (pseudo + Sum::of(self.head) + Sum::of(self.payload)).is_valid()
    }
}

/// A UDP header as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UdpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Bytes of the payload.
    pub payload_len: usize,
}

impl UdpRepr {
    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &UdpView<'_>) -> Self {
        Self { src_port: view.src_port(), dst_port: view.dst_port(), payload_len: view.payload.len() }
    }

    /// Writes the header at the start of `buf` and returns its length. The checksum is left 0
    /// ("none"): see [`fill_checksum`].
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short; `Malformed` when the datagram would exceed 65,535 bytes.
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let len = u16::try_from(self.payload_len.saturating_add(HEADER_LEN))
            .map_err(|_| Error::malformed(LAYER, "length"))?;
        let (head, _) = head_mut::<HEADER_LEN>(LAYER, buf)?;
        put16(head, field::SRC_PORT, self.src_port);
        put16(head, field::DST_PORT, self.dst_port);
        put16(head, field::LEN, len);
        put16(head, field::CHECKSUM, 0);
        Ok(HEADER_LEN)
    }
}

/// Computes the checksum of `datagram` (header and payload, nothing behind) and writes it.
///
/// # Errors
/// `NoSpace` when the header is not there.
#[inline]
pub fn fill_checksum(datagram: &mut [u8], pseudo: Sum) -> Result<()> {
    let (head, payload) = head_mut::<HEADER_LEN>(LAYER, datagram)?;
    put16(head, field::CHECKSUM, 0);
    let checksum = (pseudo + Sum::of(head) + Sum::of(payload)).finish_nonzero();
    put16(head, field::CHECKSUM, checksum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpProto;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(src_port: u16, dst_port: u16, payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let repr = UdpRepr { src_port, dst_port, payload_len: payload.len() };
            let mut buf = vec![0; HEADER_LEN];
            repr.emit(&mut buf).unwrap();
            buf.extend(&payload);
            let pseudo =
                Sum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), IpProto::UDP, buf.len() as u16);
            prop_assert!(UdpView::parse(&buf).unwrap().checksum_ok(pseudo));
            fill_checksum(&mut buf, pseudo).unwrap();
            let view = UdpView::parse(&buf).unwrap();
            prop_assert!(view.checksum() != 0 && view.checksum_ok(pseudo));
            prop_assert_eq!(UdpRepr::parse(&view), repr);
            prop_assert_eq!(view.payload(), &payload[..]);
            buf[0] ^= 0x80;
            prop_assert!(!UdpView::parse(&buf).unwrap().checksum_ok(pseudo));
        }
    }

    #[test]
    fn lengths() {
        let with = |len: u8| [0, 1, 0, 2, 0, len, 0, 0, 9, 9];
        assert!(UdpView::parse(&with(7)).is_err());
        assert!(UdpView::parse(&with(11)).is_err());
        assert_eq!(UdpView::parse(&with(9)).unwrap().payload(), &[9]);
        assert_eq!(UdpView::parse_header(&with(99)).unwrap().payload(), &[9, 9]);
        assert!(UdpRepr { src_port: 0, dst_port: 0, payload_len: 65_528 }.emit(&mut [0; 8]).is_err());
    }
}
