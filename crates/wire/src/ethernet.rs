//! How is an Ethernet II header laid out? (IEEE 802.3 §3)

use crate::bytes::{array, be16, head, head_mut, put, put16};
use crate::{EtherType, Mac, Result};

const LAYER: &str = "ethernet";

/// Bytes of the header: two addresses and a type.
pub const HEADER_LEN: usize = 14;

/// Byte offsets inside the header.
pub mod field {
    /// Destination address, 6 bytes.
    pub const DST: usize = 0;
    /// Source address, 6 bytes.
    pub const SRC: usize = 6;
    /// EtherType (or IEEE 802.3 length), 2 bytes.
    pub const ETHER_TYPE: usize = 12;
}

/// A checked view of a frame.
#[derive(Debug, Clone, Copy)]
pub struct EthernetView<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> EthernetView<'a> {
    /// Checks that the header is there.
    ///
    /// # Errors
    /// `Truncated` when `frame` is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Result<Self> {
        let (head, payload) = head(LAYER, frame)?;
        Ok(Self { head, payload })
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn dst(&self) -> Mac {
        Mac(array(self.head, field::DST))
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn src(&self) -> Mac {
        Mac(array(self.head, field::SRC))
    }

    /// The type (or length) field, as it stands.
    #[inline]
    #[must_use]
    pub fn ether_type(&self) -> EtherType {
        EtherType(be16(self.head, field::ETHER_TYPE))
    }

    /// What follows the header.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// An Ethernet header as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EthernetRepr {
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// Type of what follows.
    pub ether_type: EtherType,
}

impl EthernetRepr {
    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &EthernetView<'_>) -> Self {
        Self { dst: view.dst(), src: view.src(), ether_type: view.ether_type() }
    }

    /// Writes the header at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let (head, _) = head_mut::<HEADER_LEN>(LAYER, buf)?;
        put(head, field::DST, self.dst.0);
        put(head, field::SRC, self.src.0);
        put16(head, field::ETHER_TYPE, self.ether_type.0);
        Ok(HEADER_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(bytes in prop::collection::vec(any::<u8>(), HEADER_LEN..40)) {
            let view = EthernetView::parse(&bytes).unwrap();
            prop_assert_eq!(view.payload(), &bytes[HEADER_LEN..]);
            let mut out = [0; HEADER_LEN];
            EthernetRepr::parse(&view).emit(&mut out).unwrap();
            prop_assert_eq!(&out[..], &bytes[..HEADER_LEN]);
        }
    }

    #[test]
    fn short() {
        assert!(EthernetView::parse(&[0; 13]).is_err());
        let repr = EthernetRepr { dst: Mac::ZERO, src: Mac::ZERO, ether_type: EtherType::ARP };
        assert!(repr.emit(&mut [0; 13]).is_err());
    }
}
