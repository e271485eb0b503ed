//! How is a GRE header laid out? (RFC 2784, RFC 2890; NVGRE: RFC 7637)

use crate::bytes::{be16, head, put16, put32, room};
use crate::checksum::Sum;
use crate::{Error, EtherType, Result, Vni};

const LAYER: &str = "gre";

/// Bytes of the header without optional fields.
pub const MIN_HEADER_LEN: usize = 4;
/// Bytes of the header with checksum, key and sequence number.
pub const MAX_HEADER_LEN: usize = 16;

/// Byte offsets inside the header. Optional fields follow in the order checksum, key, sequence.
pub mod field {
    /// Flags and version, 2 bytes.
    pub const FLAGS: usize = 0;
    /// EtherType of the payload, 2 bytes.
    pub const PROTOCOL: usize = 2;
    /// Checksum, when present: 2 bytes, then 2 reserved.
    pub const CHECKSUM: usize = 4;
}

/// Bits of the flags field.
pub mod flag {
    /// A checksum is present.
    pub const CHECKSUM: u16 = 0x8000;
    /// A route is present (RFC 1701; refused).
    pub const ROUTING: u16 = 0x4000;
    /// A key is present.
    pub const KEY: u16 = 0x2000;
    /// A sequence number is present.
    pub const SEQUENCE: u16 = 0x1000;
    /// Mask of the version.
    pub const VERSION: u16 = 0x0007;
}

/// A checked view of a GRE packet.
#[derive(Debug, Clone, Copy)]
pub struct GreView<'a> {
    bytes: &'a [u8],
    head: &'a [u8; MIN_HEADER_LEN],
    checksum: Option<u16>,
    key: Option<u32>,
    sequence: Option<u32>,
    payload: &'a [u8],
}

impl<'a> GreView<'a> {
    /// Checks version, flags and that all announced fields are there.
    ///
    /// # Errors
    /// `Truncated` when a field is missing; `Unsupported` for version 1 (PPTP) and other versions;
    /// `Malformed` when bits are set that must make a receiver discard (RFC 2784 §2.3).
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, mut rest) = head::<MIN_HEADER_LEN>(LAYER, bytes)?;
        let flags = be16(head, field::FLAGS);
        if flags & flag::VERSION != 0 {
            return Err(Error::unsupported(LAYER, "version"));
        }
        if flags & (flag::ROUTING | 0x0c00) != 0 {
            return Err(Error::malformed(LAYER, "flags"));
        }
        let mut word = |present: u16| -> Result<Option<u32>> {
            if flags & present == 0 {
                return Ok(None);
            }
            let (word, after) = rest.split_first_chunk::<4>().ok_or(Error::truncated(LAYER))?;
            rest = after;
            Ok(Some(u32::from_be_bytes(*word)))
        };
        let checksum = word(flag::CHECKSUM)?.map(|w| (w >> 16) as u16);
        let key = word(flag::KEY)?;
        let sequence = word(flag::SEQUENCE)?;
        Ok(Self { bytes, head, checksum, key, sequence, payload: rest })
    }

    /// Bytes of the header, optional fields included.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.bytes.len() - self.payload.len()
    }

    /// Type of the payload: [`EtherType::TEB`] for an Ethernet frame.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> EtherType {
        EtherType(be16(self.head, field::PROTOCOL))
    }

    /// Checksum, as it stands.
    #[inline]
    #[must_use]
    pub fn checksum(&self) -> Option<u16> {
        self.checksum
    }

    /// Key.
    #[inline]
    #[must_use]
    pub fn key(&self) -> Option<u32> {
        self.key
    }

    /// Sequence number.
    #[inline]
    #[must_use]
    pub fn sequence(&self) -> Option<u32> {
        self.sequence
    }

    /// What follows the header.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// True when the checksum is right, or absent. It covers header and payload.
    #[inline]
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        self.checksum.is_none() || Sum::of(self.bytes).is_valid()
    }
}

/// A GRE header as a value. Reserved bits are written as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GreRepr {
    /// Type of the payload.
    pub protocol: EtherType,
    /// A checksum field is present; [`fill_checksum`] completes it.
    pub checksum: bool,
    /// Key.
    pub key: Option<u32>,
    /// Sequence number.
    pub sequence: Option<u32>,
}

impl GreRepr {
    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &GreView<'_>) -> Self {
        Self {
            protocol: view.protocol(),
            checksum: view.checksum.is_some(),
            key: view.key,
            sequence: view.sequence,
        }
    }

    /// Bytes of the header, optional fields included.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        MIN_HEADER_LEN
            + 4 * (self.checksum as usize + self.key.is_some() as usize + self.sequence.is_some() as usize)
    }

    /// Writes the header at the start of `buf` and returns its length. A checksum field is left 0.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short.
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let buf = room(LAYER, buf, self.header_len())?;
        let mut flags = 0;
        let mut at = field::CHECKSUM;
        let words = [
            (flag::CHECKSUM, self.checksum.then_some(0)),
            (flag::KEY, self.key),
            (flag::SEQUENCE, self.sequence),
        ];
        for (bit, word) in words {
            if let Some(word) = word {
                flags |= bit;
                put32(buf, at, word);
                at += 4;
            }
        }
        put16(buf, field::FLAGS, flags);
        put16(buf, field::PROTOCOL, self.protocol.0);
        Ok(at)
    }
}

/// Computes the checksum of `packet` (header and payload) and writes it, when its header has the
/// field; otherwise does nothing.
///
/// # Errors
/// As [`GreView::parse`].
pub fn fill_checksum(packet: &mut [u8]) -> Result<()> {
    if GreView::parse(packet)?.checksum().is_some() {
        put32(packet, field::CHECKSUM, 0);
        let checksum = Sum::of(packet).finish();
        put16(packet, field::CHECKSUM, checksum);
    }
    Ok(())
}

/// NVGRE's use of GRE: an Ethernet frame whose key is a subnet and a flow (RFC 7637 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NvgreRepr {
    /// Virtual subnet identifier.
    pub vsid: Vni,
    /// Entropy for load balancing.
    pub flow_id: u8,
}

impl NvgreRepr {
    /// Reads NVGRE's fields of a GRE header.
    ///
    /// # Errors
    /// `Malformed` when the header is not of the form RFC 7637 §3.2 asks for: Ethernet inside, a
    /// key, neither checksum nor sequence number.
    pub fn parse(gre: &GreRepr) -> Result<Self> {
        match gre {
            GreRepr { protocol: EtherType::TEB, checksum: false, key: Some(key), sequence: None } => {
                let [a, b, c, flow_id] = key.to_be_bytes();
                Ok(Self { vsid: Vni::from_be_bytes([a, b, c]), flow_id })
            }
            _ => Err(Error::malformed("nvgre", "flags")),
        }
    }

    /// The GRE header that says this.
    #[must_use]
    pub const fn to_gre(self) -> GreRepr {
        let key = self.vsid.get() << 8 | self.flow_id as u32;
        GreRepr { protocol: EtherType::TEB, checksum: false, key: Some(key), sequence: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(
            protocol: u16, checksum: bool, key: Option<u32>, sequence: Option<u32>,
            payload in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let repr = GreRepr { protocol: EtherType(protocol), checksum, key, sequence };
            let mut buf = vec![0xff; repr.header_len()];
            repr.emit(&mut buf).unwrap();
            buf.extend(&payload);
            fill_checksum(&mut buf).unwrap();
            let view = GreView::parse(&buf).unwrap();
            prop_assert!(view.checksum_ok());
            prop_assert_eq!(GreRepr::parse(&view), repr);
            prop_assert_eq!(view.header_len(), repr.header_len());
            prop_assert_eq!(view.payload(), &payload[..]);
            for cut in MIN_HEADER_LEN..repr.header_len() {
                prop_assert!(GreView::parse(&buf[..cut]).is_err());
            }
            if checksum {
                buf[2] ^= 1;
                prop_assert!(!GreView::parse(&buf).unwrap().checksum_ok());
            }
        }

        #[test]
        fn nvgre_round_trip(vsid in 0u32..1 << 24, flow_id: u8) {
            let repr = NvgreRepr { vsid: Vni::new(vsid).unwrap(), flow_id };
            prop_assert_eq!(NvgreRepr::parse(&repr.to_gre()), Ok(repr));
        }
    }

    #[test]
    fn refuses() {
        assert!(GreView::parse(&[0, 1, 0x88, 0x0b]).is_err(), "version 1");
        assert!(GreView::parse(&[0x40, 0, 8, 0]).is_err(), "routing");
        let plain = GreRepr { protocol: EtherType::TEB, checksum: false, key: None, sequence: None };
        assert!(NvgreRepr::parse(&plain).is_err());
        assert!(NvgreRepr::parse(&GreRepr { key: Some(1), sequence: Some(1), ..plain }).is_err());
    }
}
