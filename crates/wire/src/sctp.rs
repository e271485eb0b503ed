//! How is an SCTP common header laid out? (RFC 9260 §3.1)

use crate::bytes::{be16, be32, head, head_mut, put, put16, put32};
use crate::{Error, Result};

const LAYER: &str = "sctp";

/// Bytes of the common header.
pub const HEADER_LEN: usize = 12;

/// Byte offsets inside the header.
pub mod field {
    /// Source port, 2 bytes.
    pub const SRC_PORT: usize = 0;
    /// Destination port, 2 bytes.
    pub const DST_PORT: usize = 2;
    /// Verification tag, 4 bytes.
    pub const TAG: usize = 4;
    /// CRC32c, 4 bytes, least significant byte first (RFC 9260 appendix A).
    pub const CHECKSUM: usize = 8;
}

/// A checked view of an SCTP packet.
#[derive(Debug, Clone, Copy)]
pub struct SctpView<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> SctpView<'a> {
    /// Checks that the common header is there.
    ///
    /// # Errors
    /// `Truncated` when `bytes` are shorter than [`HEADER_LEN`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
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

    /// Verification tag.
    #[inline]
    #[must_use]
    pub fn tag(&self) -> u32 {
        be32(self.head, field::TAG)
    }

    /// Checksum, as a CRC32c value.
    #[inline]
    #[must_use]
    pub fn checksum(&self) -> u32 {
        be32(self.head, field::CHECKSUM).swap_bytes()
    }

    /// The chunks.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// True when the checksum is right.
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        self.checksum_error() == 0
    }

    /// What the checksum differs by, XORed, from the right one; 0: it is right.
    #[must_use]
    pub fn checksum_error(&self) -> u32 {
        checksum(self.head, self.payload) ^ self.checksum()
    }
}

/// An SCTP common header as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SctpRepr {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Verification tag.
    pub tag: u32,
}

impl SctpRepr {
    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &SctpView<'_>) -> Self {
        Self { src_port: view.src_port(), dst_port: view.dst_port(), tag: view.tag() }
    }

    /// Writes the header at the start of `buf` and returns its length. The checksum is left 0:
    /// see [`fill_checksum`].
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than [`HEADER_LEN`].
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let (head, _) = head_mut::<HEADER_LEN>(LAYER, buf)?;
        put16(head, field::SRC_PORT, self.src_port);
        put16(head, field::DST_PORT, self.dst_port);
        put32(head, field::TAG, self.tag);
        put32(head, field::CHECKSUM, 0);
        Ok(HEADER_LEN)
    }
}

/// Computes the checksum of `packet` (common header and chunks) and writes it.
///
/// # Errors
/// `Truncated` when the common header is not there.
pub fn fill_checksum(packet: &mut [u8]) -> Result<()> {
    let (head, payload) = packet.split_first_chunk_mut().ok_or(Error::truncated(LAYER))?;
    let sum = checksum(head, payload);
    put(head, field::CHECKSUM, sum.to_le_bytes());
    Ok(())
}

/// As [`fill_checksum`], but a packet whose checksum was wrong by `error` ([`SctpView::checksum_error`]) before it was
/// changed does not become right by the change.
///
/// # Errors
/// `Truncated` when the common header is not there.
pub fn refill_checksum(packet: &mut [u8], error: u32) -> Result<()> {
    fill_checksum(packet)?;
    let (head, _) = packet.split_first_chunk_mut::<HEADER_LEN>().ok_or(Error::truncated(LAYER))?;
    for (byte, wrong) in head[field::CHECKSUM..].iter_mut().zip(error.to_le_bytes()) {
        *byte ^= wrong;
    }
    Ok(())
}

fn checksum(head: &[u8; HEADER_LEN], payload: &[u8]) -> u32 {
    let crc = crc32c(!0, &head[..field::CHECKSUM]);
    !crc32c(crc32c(crc, &[0; 4]), payload)
}

/// Continues a CRC32c (Castagnoli, reflected) over `bytes`; neither start nor end is complemented.
#[must_use]
pub fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |crc, byte| (crc >> 8) ^ CRC32C[usize::from(crc as u8 ^ byte)])
}

/// The CRC of each single byte.
static CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1));
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(src_port: u16, dst_port: u16, tag: u32, payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let repr = SctpRepr { src_port, dst_port, tag };
            let mut buf = vec![0; HEADER_LEN];
            repr.emit(&mut buf).unwrap();
            buf.extend(payload);
            fill_checksum(&mut buf).unwrap();
            let view = SctpView::parse(&buf).unwrap();
            prop_assert!(view.checksum_ok());
            prop_assert_eq!(SctpRepr::parse(&view), repr);
            buf[2] ^= 4;
            let error = SctpView::parse(&buf).unwrap().checksum_error();
            prop_assert!(error != 0);
            // Changed once more, it is as wrong as before.
            buf[0] ^= 1;
            refill_checksum(&mut buf, error).unwrap();
            prop_assert_eq!(SctpView::parse(&buf).unwrap().checksum_error(), error);
        }
    }

    #[test]
    fn known_crcs() {
        // RFC 3720 §B.4.
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(!0, &[0xff; 32]), 0x62a8_ab43);
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
    }
}
