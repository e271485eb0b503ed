//! How is a VXLAN header laid out? (RFC 7348 §5; group policy: draft-smith-vxlan-group-policy-05;
//! generic protocol extension: draft-ietf-nvo3-vxlan-gpe)

use crate::bytes::{array, be16, be32, head, head_mut, put, put16};
use crate::{Error, EtherType, Result, Vni};

const LAYER: &str = "vxlan";

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// Byte offsets inside the header.
pub mod field {
    /// Flags, 1 byte.
    pub const FLAGS: usize = 0;
    /// Flags of the group policy extension, 1 byte.
    pub const GBP_FLAGS: usize = 1;
    /// Group policy identifier, 2 bytes.
    pub const GBP_ID: usize = 2;
    /// Next protocol of the generic protocol extension, 1 byte; part of the place of the policy's identifier.
    pub const NEXT: usize = 3;
    /// Virtual network identifier, 3 bytes.
    pub const VNI: usize = 4;
    /// Reserved, 1 byte.
    pub const RESERVED: usize = 7;
}

/// Flag bits of the first byte.
pub mod flag {
    /// The VNI is valid; every VXLAN packet has it.
    pub const I: u8 = 0x08;
    /// The group policy extension is present.
    pub const G: u8 = 0x80;
    /// The generic protocol extension is present (draft-ietf-nvo3-vxlan-gpe).
    pub const P: u8 = 0x04;
}

/// Next protocols of the generic protocol extension (draft-ietf-nvo3-vxlan-gpe §3.2).
pub mod next {
    /// IPv4.
    pub const IPV4: u8 = 1;
    /// IPv6.
    pub const IPV6: u8 = 2;
    /// Ethernet.
    pub const ETHERNET: u8 = 3;
    /// Network service header (RFC 8300).
    pub const NSH: u8 = 4;
    /// MPLS.
    pub const MPLS: u8 = 5;
}

/// The EtherType that a packet of this next protocol has; [`EtherType::TEB`] is Ethernet. `None`: not one that is known.
#[must_use]
pub const fn ether_type(next_protocol: u8) -> Option<EtherType> {
    match next_protocol {
        next::IPV4 => Some(EtherType::IPV4),
        next::IPV6 => Some(EtherType::IPV6),
        next::ETHERNET => Some(EtherType::TEB),
        next::NSH => Some(EtherType::NSH),
        next::MPLS => Some(EtherType::MPLS),
        _ => None,
    }
}

/// The other way than [`ether_type`].
#[must_use]
pub const fn next_protocol(ether_type: EtherType) -> Option<u8> {
    match ether_type {
        EtherType::IPV4 => Some(next::IPV4),
        EtherType::IPV6 => Some(next::IPV6),
        EtherType::TEB => Some(next::ETHERNET),
        EtherType::NSH => Some(next::NSH),
        EtherType::MPLS => Some(next::MPLS),
        _ => None,
    }
}

/// Bits of the group policy byte.
pub mod gbp_flag {
    /// Do not learn from this packet.
    pub const DONT_LEARN: u8 = 0x40;
    /// The policy was already applied.
    pub const APPLIED: u8 = 0x08;
}

/// The group policy extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Gbp {
    /// The group of the sender.
    pub id: u16,
    /// [`gbp_flag`] bits.
    pub flags: u8,
}

/// A checked view of a VXLAN packet.
#[derive(Debug, Clone, Copy)]
pub struct VxlanView<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> VxlanView<'a> {
    /// Checks that the header is there and that it holds a VNI (flag I).
    ///
    /// Other bits are left to the endpoint's options: see [`Self::flags`], [`Self::is_plain`].
    ///
    /// # Errors
    /// `Truncated` when `bytes` are shorter than [`HEADER_LEN`]; `Malformed` without flag I.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, payload) = head::<HEADER_LEN>(LAYER, bytes)?;
        if head[field::FLAGS] & flag::I == 0 {
            return Err(Error::malformed(LAYER, "flags (no VNI)"));
        }
        Ok(Self { head, payload })
    }

    /// The first byte: [`flag`] bits.
    #[inline]
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.head[field::FLAGS]
    }

    /// True when no bit outside RFC 7348 is set: no extension, reserved fields zero.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        be32(self.head, field::FLAGS) == u32::from(flag::I) << 24 && self.head[field::RESERVED] == 0
    }

    /// Virtual network identifier.
    #[inline]
    #[must_use]
    pub fn vni(&self) -> Vni {
        Vni::from_be_bytes(array(self.head, field::VNI))
    }

    /// The group policy extension, when flag G says it is there.
    #[inline]
    #[must_use]
    pub fn gbp(&self) -> Option<Gbp> {
        (self.flags() & flag::G != 0)
            .then(|| Gbp { id: be16(self.head, field::GBP_ID), flags: self.head[field::GBP_FLAGS] })
    }

    /// The next protocol, when flag P says it is there; not beside a group policy, which has the same place.
    #[inline]
    #[must_use]
    pub fn next(&self) -> Option<u8> {
        (self.flags() & (flag::P | flag::G) == flag::P).then(|| self.head[field::NEXT])
    }

    /// The inner frame, or packet when there is a next protocol.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A VXLAN header as a value. Bits that are reserved are written as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VxlanRepr {
    /// Virtual network identifier.
    pub vni: Vni,
    /// Group policy extension, when used.
    pub gbp: Option<Gbp>,
    /// Next protocol of the generic protocol extension, when used; not beside a group policy.
    pub next: Option<u8>,
}

impl VxlanRepr {
    /// An identifier and nothing else, before an Ethernet frame.
    #[inline]
    #[must_use]
    pub const fn plain(vni: Vni) -> Self {
        Self { vni, gbp: None, next: None }
    }

    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &VxlanView<'_>) -> Self {
        Self { vni: view.vni(), gbp: view.gbp(), next: view.next() }
    }

    /// Writes the header at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than [`HEADER_LEN`].
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let (head, _) = head_mut::<HEADER_LEN>(LAYER, buf)?;
        *head = [0; HEADER_LEN];
        head[field::FLAGS] = flag::I;
        put(head, field::VNI, self.vni.to_be_bytes());
        if let Some(gbp) = self.gbp {
            head[field::FLAGS] |= flag::G;
            head[field::GBP_FLAGS] = gbp.flags;
            put16(head, field::GBP_ID, gbp.id);
        } else if let Some(next) = self.next {
            head[field::FLAGS] |= flag::P;
            head[field::NEXT] = next;
        }
        Ok(HEADER_LEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(
            vni in 0u32..1 << 24, gbp in prop::option::of(any::<(u16, u8)>()), next in prop::option::of(any::<u8>()),
        ) {
            let gbp = gbp.map(|(id, flags)| Gbp { id, flags });
            let next = next.filter(|_| gbp.is_none());
            let repr = VxlanRepr { vni: Vni::new(vni).unwrap(), gbp, next };
            let mut buf = [0xff; HEADER_LEN + 1];
            repr.emit(&mut buf).unwrap();
            let view = VxlanView::parse(&buf).unwrap();
            prop_assert_eq!(VxlanRepr::parse(&view), repr);
            prop_assert_eq!(view.is_plain(), repr.gbp.is_none() && repr.next.is_none());
            prop_assert_eq!(view.payload(), &[0xff]);
        }
    }

    #[test]
    fn the_header_of_rfc_7348() {
        let mut buf = [0; 8];
        VxlanRepr::plain(Vni::new(1000).unwrap()).emit(&mut buf).unwrap();
        assert_eq!(buf, [8, 0, 0, 0, 0, 3, 0xe8, 0]);
        assert!(VxlanView::parse(&[0; 8]).is_err());
        assert!(VxlanView::parse(&[8; 7]).is_err());
        assert!(!VxlanView::parse(&[8, 0, 0, 0, 0, 3, 0xe8, 1]).unwrap().is_plain());
        assert!(!VxlanView::parse(&[0x0c, 0, 0, 3, 0, 3, 0xe8, 0]).unwrap().is_plain());
    }
}
