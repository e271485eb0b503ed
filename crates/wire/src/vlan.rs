//! How are frames tagged with a VLAN? (IEEE 802.1Q §9.6, IEEE 802.1ad)

use crate::bytes::{be16, head, head_mut, put16};
use crate::ethernet::{self, EthernetView};
use crate::{Error, EtherType, Result};

const LAYER: &str = "vlan";

/// Bytes of a tag as a header: the TCI and the type of what follows it.
///
/// The tag's own type (TPID) stands in the type field of the header before.
pub const TAG_LEN: usize = 4;

/// Byte offsets inside a tag, counted from behind the TPID.
pub mod field {
    /// Tag control information, 2 bytes.
    pub const TCI: usize = 0;
    /// EtherType of what follows, 2 bytes.
    pub const ETHER_TYPE: usize = 2;
}

/// Tag control information: priority (3 bits), drop eligible (1 bit), VLAN identifier (12 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VlanTci(pub u16);

impl VlanTci {
    /// Mask of the VLAN identifier.
    pub const VID_MASK: u16 = 0x0fff;
    /// The drop eligible indicator.
    pub const DEI: u16 = 0x1000;
    /// Mask of the priority code point.
    pub const PCP_MASK: u16 = 0xe000;

    /// Makes a TCI; bits that do not fit are cut off.
    #[inline]
    #[must_use]
    pub const fn new(vid: u16, pcp: u8, dei: bool) -> Self {
        let dei = if dei { Self::DEI } else { 0 };
        Self(((pcp as u16) << 13) | dei | (vid & Self::VID_MASK))
    }

    /// VLAN identifier; 0 means "priority tag, no VLAN".
    #[inline]
    #[must_use]
    pub const fn vid(self) -> u16 {
        self.0 & Self::VID_MASK
    }

    /// Priority code point, 0–7.
    #[inline]
    #[must_use]
    pub const fn pcp(self) -> u8 {
        (self.0 >> 13) as u8
    }

    /// Drop eligible indicator.
    #[inline]
    #[must_use]
    pub const fn dei(self) -> bool {
        self.0 & Self::DEI != 0
    }
}

/// A checked view of a tag and what follows it.
#[derive(Debug, Clone, Copy)]
pub struct VlanView<'a> {
    head: &'a [u8; TAG_LEN],
    payload: &'a [u8],
}

impl<'a> VlanView<'a> {
    /// Checks that the tag is there; `bytes` start behind the TPID.
    ///
    /// # Errors
    /// `Truncated` when `bytes` are shorter than [`TAG_LEN`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, payload) = head(LAYER, bytes)?;
        Ok(Self { head, payload })
    }

    /// Tag control information.
    #[inline]
    #[must_use]
    pub fn tci(&self) -> VlanTci {
        VlanTci(be16(self.head, field::TCI))
    }

    /// Type of what follows the tag.
    #[inline]
    #[must_use]
    pub fn ether_type(&self) -> EtherType {
        EtherType(be16(self.head, field::ETHER_TYPE))
    }

    /// What follows the tag.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A tag as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VlanRepr {
    /// Tag control information.
    pub tci: VlanTci,
    /// Type of what follows.
    pub ether_type: EtherType,
}

impl VlanRepr {
    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &VlanView<'_>) -> Self {
        Self { tci: view.tci(), ether_type: view.ether_type() }
    }

    /// Writes the tag (behind the TPID) at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than [`TAG_LEN`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let (head, _) = head_mut::<TAG_LEN>(LAYER, buf)?;
        put16(head, field::TCI, self.tci.0);
        put16(head, field::ETHER_TYPE, self.ether_type.0);
        Ok(TAG_LEN)
    }
}

/// Tags that [`network_layer`] steps over. More are left in place as an unknown protocol.
pub const MAX_TAGS: usize = 4;

/// Where the network layer of a frame starts, and its type, behind all VLAN tags.
///
/// # Errors
/// `Truncated` when the frame ends inside the Ethernet header or a tag, `Malformed` when there
/// are more than [`MAX_TAGS`] tags.
#[inline]
pub fn network_layer(frame: &[u8]) -> Result<(usize, EtherType)> {
    let eth = EthernetView::parse(frame)?;
    let (mut at, mut ether_type, mut rest) = (ethernet::HEADER_LEN, eth.ether_type(), eth.payload());
    for _ in 0..MAX_TAGS {
        if !ether_type.is_vlan() {
            return Ok((at, ether_type));
        }
        let tag = VlanView::parse(rest)?;
        (at, ether_type, rest) = (at + TAG_LEN, tag.ether_type(), tag.payload());
    }
    if ether_type.is_vlan() {
        return Err(Error::malformed(LAYER, "number of tags"));
    }
    Ok((at, ether_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(bytes in prop::collection::vec(any::<u8>(), TAG_LEN..40)) {
            let view = VlanView::parse(&bytes).unwrap();
            let mut out = [0; TAG_LEN];
            VlanRepr::parse(&view).emit(&mut out).unwrap();
            prop_assert_eq!(&out[..], &bytes[..TAG_LEN]);
        }

        #[test]
        fn tci_fields(raw: u16) {
            let tci = VlanTci(raw);
            prop_assert_eq!(VlanTci::new(tci.vid(), tci.pcp(), tci.dei()), tci);
        }
    }

    #[test]
    fn steps_over_tags() {
        let mut frame = vec![0; 12];
        frame.extend_from_slice(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x08, 0, 0x45]);
        assert_eq!(network_layer(&frame), Ok((22, EtherType::IPV4)));
        assert!(network_layer(&frame[..20]).is_err());
        let mut many = vec![0; 12];
        many.extend([0x81, 0, 0, 1].repeat(MAX_TAGS + 1));
        many.extend([8, 0]);
        assert!(network_layer(&many).is_err());
    }
}
