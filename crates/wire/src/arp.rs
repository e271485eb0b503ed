//! How does a station ask for the MAC address of an IPv4 address? (RFC 826)

use crate::bytes::{array, be16, head, head_mut, put, put16};
use crate::{Error, EtherType, Mac, Result};
use core::net::Ipv4Addr;

const LAYER: &str = "arp";

/// Bytes of an ARP packet for Ethernet and IPv4.
pub const PACKET_LEN: usize = 28;

/// Byte offsets inside the packet.
pub mod field {
    /// Hardware type, 2 bytes.
    pub const HTYPE: usize = 0;
    /// Protocol type, 2 bytes.
    pub const PTYPE: usize = 2;
    /// Hardware address length, 1 byte.
    pub const HLEN: usize = 4;
    /// Protocol address length, 1 byte.
    pub const PLEN: usize = 5;
    /// Operation, 2 bytes.
    pub const OP: usize = 6;
    /// Sender's MAC address, 6 bytes.
    pub const SHA: usize = 8;
    /// Sender's IPv4 address, 4 bytes.
    pub const SPA: usize = 14;
    /// Target's MAC address, 6 bytes.
    pub const THA: usize = 18;
    /// Target's IPv4 address, 4 bytes.
    pub const TPA: usize = 24;
}

/// An ARP operation code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArpOp(pub u16);

impl ArpOp {
    /// Who has the target address?
    pub const REQUEST: Self = Self(1);
    /// The sender has it.
    pub const REPLY: Self = Self(2);
    /// Reverse request (RFC 903).
    pub const RARP_REQUEST: Self = Self(3);
    /// Reverse reply (RFC 903).
    pub const RARP_REPLY: Self = Self(4);
}

/// A checked view of an ARP packet for Ethernet and IPv4.
#[derive(Debug, Clone, Copy)]
pub struct ArpView<'a> {
    head: &'a [u8; PACKET_LEN],
}

impl<'a> ArpView<'a> {
    /// Checks length, and that the packet is about Ethernet and IPv4. Padding behind is ignored.
    ///
    /// # Errors
    /// `Truncated` below [`PACKET_LEN`]; `Malformed` for other hardware, protocols or lengths.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, _) = head::<PACKET_LEN>(LAYER, bytes)?;
        if be16(head, field::HTYPE) != 1 {
            return Err(Error::malformed(LAYER, "hardware type"));
        }
        if be16(head, field::PTYPE) != EtherType::IPV4.0 {
            return Err(Error::malformed(LAYER, "protocol type"));
        }
        if head[field::HLEN] != 6 || head[field::PLEN] != 4 {
            return Err(Error::malformed(LAYER, "address length"));
        }
        Ok(Self { head })
    }

    /// Operation.
    #[inline]
    #[must_use]
    pub fn op(&self) -> ArpOp {
        ArpOp(be16(self.head, field::OP))
    }

    /// Sender's MAC address.
    #[inline]
    #[must_use]
    pub fn sha(&self) -> Mac {
        Mac(array(self.head, field::SHA))
    }

    /// Sender's IPv4 address.
    #[inline]
    #[must_use]
    pub fn spa(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.head, field::SPA))
    }

    /// Target's MAC address.
    #[inline]
    #[must_use]
    pub fn tha(&self) -> Mac {
        Mac(array(self.head, field::THA))
    }

    /// Target's IPv4 address.
    #[inline]
    #[must_use]
    pub fn tpa(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.head, field::TPA))
    }
}

/// An ARP packet as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArpRepr {
    /// Operation.
    pub op: ArpOp,
    /// Sender's MAC address.
    pub sha: Mac,
    /// Sender's IPv4 address.
    pub spa: Ipv4Addr,
    /// Target's MAC address (zero in a request).
    pub tha: Mac,
    /// Target's IPv4 address.
    pub tpa: Ipv4Addr,
}

impl ArpRepr {
    /// A request: who has `tpa`? Tell `spa` at `sha`.
    #[must_use]
    pub fn request(sha: Mac, spa: Ipv4Addr, tpa: Ipv4Addr) -> Self {
        Self { op: ArpOp::REQUEST, sha, spa, tha: Mac::ZERO, tpa }
    }

    /// The answer to `self` (a request) by a station with address `mac`.
    #[must_use]
    pub fn reply(&self, mac: Mac) -> Self {
        Self { op: ArpOp::REPLY, sha: mac, spa: self.tpa, tha: self.sha, tpa: self.spa }
    }

    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &ArpView<'_>) -> Self {
        Self { op: view.op(), sha: view.sha(), spa: view.spa(), tha: view.tha(), tpa: view.tpa() }
    }

    /// Writes the packet at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than [`PACKET_LEN`].
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let (head, _) = head_mut::<PACKET_LEN>(LAYER, buf)?;
        put16(head, field::HTYPE, 1);
        put16(head, field::PTYPE, EtherType::IPV4.0);
        head[field::HLEN] = 6;
        head[field::PLEN] = 4;
        put16(head, field::OP, self.op.0);
        put(head, field::SHA, self.sha.0);
        put(head, field::SPA, self.spa.octets());
        put(head, field::THA, self.tha.0);
        put(head, field::TPA, self.tpa.octets());
        Ok(PACKET_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(op: u16, sha: [u8; 6], spa: [u8; 4], tha: [u8; 6], tpa: [u8; 4]) {
            let repr = ArpRepr {
                op: ArpOp(op), sha: Mac(sha), spa: spa.into(), tha: Mac(tha), tpa: tpa.into(),
            };
            let mut out = [0; PACKET_LEN];
            repr.emit(&mut out).unwrap();
            prop_assert_eq!(ArpRepr::parse(&ArpView::parse(&out).unwrap()), repr);
        }
    }

    #[test]
    fn refuses_other_kinds() {
        let mut good = [0; PACKET_LEN];
        ArpRepr::request(Mac([2; 6]), [10, 0, 0, 1].into(), [10, 0, 0, 2].into()).emit(&mut good).unwrap();
        assert!(ArpView::parse(&good).is_ok());
        assert!(ArpView::parse(&good[..27]).is_err());
        for at in [field::HTYPE, field::PTYPE, field::HLEN, field::PLEN] {
            let mut bad = good;
            bad[at] ^= 0x10;
            assert!(ArpView::parse(&bad).is_err(), "byte {at}");
        }
    }
}
