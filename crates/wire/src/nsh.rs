//! What is in a network service header, and how is one made? (RFC 8300)
//!
//! A base header, the service path, and metadata: four words (MD type 1) or a list of TLVs (MD type 2).

use crate::bytes::{array, be16, be32, head, put, put16, put32, room};
use crate::{Error, EtherType, Result};

const LAYER: &str = "nsh";

/// Bytes of base header and service path header, which every NSH has.
pub const BASE_LEN: usize = 8;
/// Bytes of a header with metadata of type 1 (RFC 8300 §2.4).
pub const MD1_LEN: usize = 24;
/// Most bytes of a header: its length is a number of 4-byte words in 6 bits (RFC 8300 §2.2).
pub const MAX_LEN: usize = 63 * 4;
/// Most bytes of TLVs of metadata type 2.
pub const MAX_METADATA: usize = MAX_LEN - BASE_LEN;
/// Bytes of a TLV before its data.
pub const TLV_HEAD: usize = 4;
/// Most bytes of data of a TLV: its length has 7 bits (RFC 8300 §2.5.1).
pub const MAX_TLV: usize = 127;
/// Largest time to live: 6 bits.
pub const MAX_TTL: u8 = 63;
/// Largest service path identifier: 24 bits.
pub const MAX_SPI: u32 = 0x00ff_ffff;

/// Byte offsets.
pub mod field {
    /// Version (2 bits), O, unassigned, TTL (6 bits), length in words (6 bits).
    pub const FIRST: usize = 0;
    /// Unassigned (4 bits), metadata type (4 bits).
    pub const MD_TYPE: usize = 2;
    /// Next protocol.
    pub const NEXT: usize = 3;
    /// Service path identifier (24 bits) and service index (8 bits).
    pub const PATH: usize = 4;
    /// Context headers.
    pub const CONTEXT: usize = 8;
}

/// Next protocols (RFC 8300 §2.2).
pub mod next {
    /// IPv4.
    pub const IPV4: u8 = 1;
    /// IPv6.
    pub const IPV6: u8 = 2;
    /// Ethernet.
    pub const ETHERNET: u8 = 3;
    /// Another network service header.
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

/// A checked view of a header of version 0 and metadata type 1 or 2, with what it encapsulates behind it.
#[derive(Debug, Clone, Copy)]
pub struct NshView<'a> {
    head: &'a [u8; BASE_LEN],
    /// The whole header.
    bytes: &'a [u8],
    payload: &'a [u8],
}

impl<'a> NshView<'a> {
    /// Checks version, metadata type and that the stated length is there and fits the type. TLVs are not looked at;
    /// see [`NshView::tlvs`].
    ///
    /// # Errors
    /// `Truncated` when the header ends before its length; `Malformed` for what RFC 8300 §2.2 does not allow.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, _) = head::<BASE_LEN>(LAYER, bytes)?;
        let first = be16(head, field::FIRST);
        if first >> 14 != 0 {
            return Err(Error::malformed(LAYER, "version"));
        }
        let len = usize::from(first & 0x3f) * 4;
        let fits = match head[field::MD_TYPE] & 0xf {
            1 => len == MD1_LEN,
            2 => len >= BASE_LEN,
            _ => return Err(Error::malformed(LAYER, "metadata type")),
        };
        if !fits {
            return Err(Error::malformed(LAYER, "length"));
        }
        let (bytes, payload) = bytes.split_at_checked(len).ok_or(Error::truncated(LAYER))?;
        Ok(Self { head, bytes, payload })
    }

    /// The O bit and the unassigned one beside it: 2 bits.
    #[inline]
    #[must_use]
    pub fn flags(&self) -> u8 {
        (be16(self.head, field::FIRST) >> 12 & 3) as u8
    }

    /// Time to live, 0–63.
    #[inline]
    #[must_use]
    pub fn ttl(&self) -> u8 {
        (be16(self.head, field::FIRST) >> 6 & 0x3f) as u8
    }

    /// Metadata type, 1 or 2.
    #[inline]
    #[must_use]
    pub fn md_type(&self) -> u8 {
        self.head[field::MD_TYPE] & 0xf
    }

    /// Next protocol: [`next`].
    #[inline]
    #[must_use]
    pub fn next_protocol(&self) -> u8 {
        self.head[field::NEXT]
    }

    /// Service path identifier (24 bits) and service index (8 bits).
    #[inline]
    #[must_use]
    pub fn path(&self) -> u32 {
        be32(self.head, field::PATH)
    }

    /// The four context words of metadata type 1.
    #[inline]
    #[must_use]
    pub fn context(&self) -> Option<[u8; 16]> {
        (self.md_type() == 1 && self.bytes.len() == MD1_LEN).then(|| array(self.bytes, field::CONTEXT))
    }

    /// The bytes behind the service path header.
    #[inline]
    #[must_use]
    pub fn metadata(&self) -> &'a [u8] {
        &self.bytes[BASE_LEN..]
    }

    /// The TLVs of metadata type 2; nothing for type 1.
    #[must_use]
    pub fn tlvs(&self) -> Tlvs<'a> {
        Tlvs(if self.md_type() == 2 { self.metadata() } else { &[] })
    }

    /// Bytes of the header, 8 to 252.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.bytes.len()
    }

    /// What the header encapsulates.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A TLV of metadata type 2 (RFC 8300 §2.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Who defines the type.
    pub class: u16,
    /// Type.
    pub kind: u8,
    /// At most 127 bytes, without padding.
    pub data: &'a [u8],
}

impl Tlv<'_> {
    /// Appends the TLV, padded to whole words. Data beyond 127 bytes is left out.
    pub fn append(&self, out: &mut Vec<u8>) {
        let data = &self.data[..self.data.len().min(MAX_TLV)];
        out.extend(self.class.to_be_bytes());
        out.extend([self.kind, data.len() as u8]);
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// The TLVs of a header, in order; after an error there are no more.
#[derive(Debug, Clone)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let Some((head, rest)) = bytes.split_first_chunk::<TLV_HEAD>() else {
            return Some(Err(Error::truncated("nsh tlv")));
        };
        let len = usize::from(head[3] & 0x7f);
        let Some(data) = rest.get(..len) else { return Some(Err(Error::truncated("nsh tlv"))) };
        // The header ends with whole words, so padding is missing only where data is.
        self.0 = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Ok(Tlv { class: be16(head, 0), kind: head[2], data }))
    }
}

/// Metadata of a header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Metadata {
    /// Type 1: four words.
    Fixed([u8; 16]),
    /// Type 2: TLVs as they go on the wire, whole words, at most [`MAX_METADATA`] bytes.
    Tlvs(Vec<u8>),
}

/// A header as a value. Unassigned bits but the one beside O are written as zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NshRepr {
    /// The O bit and the unassigned one beside it: 2 bits.
    pub flags: u8,
    /// Time to live, 0–63.
    pub ttl: u8,
    /// Next protocol.
    pub next: u8,
    /// Service path identifier (24 bits) and service index (8 bits).
    pub path: u32,
    /// Metadata, which says what its type is.
    pub metadata: Metadata,
}

impl NshRepr {
    /// Reads the fields of a view.
    #[must_use]
    pub fn parse(view: &NshView<'_>) -> Self {
        let metadata = match view.context() {
            Some(words) => Metadata::Fixed(words),
            None => Metadata::Tlvs(view.metadata().to_vec()),
        };
        Self { flags: view.flags(), ttl: view.ttl(), next: view.next_protocol(), path: view.path(), metadata }
    }

    /// Metadata type.
    #[must_use]
    pub fn md_type(&self) -> u8 {
        match self.metadata {
            Metadata::Fixed(_) => 1,
            Metadata::Tlvs(_) => 2,
        }
    }

    /// Bytes of the header.
    #[must_use]
    pub fn header_len(&self) -> usize {
        match &self.metadata {
            Metadata::Fixed(_) => MD1_LEN,
            Metadata::Tlvs(bytes) => BASE_LEN + bytes.len(),
        }
    }

    /// Writes the header at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than that; `Malformed` when metadata is too long or no whole words, or a field
    /// too large.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let len = self.header_len();
        if len > MAX_LEN || !len.is_multiple_of(4) {
            return Err(Error::malformed(LAYER, "length"));
        }
        if self.flags > 3 || self.ttl > MAX_TTL {
            return Err(Error::malformed(LAYER, "flags or ttl"));
        }
        let buf = room(LAYER, buf, len)?;
        let first = u16::from(self.flags) << 12 | u16::from(self.ttl) << 6 | (len / 4) as u16;
        put16(buf, field::FIRST, first);
        put(buf, field::MD_TYPE, [self.md_type(), self.next]);
        put32(buf, field::PATH, self.path);
        match &self.metadata {
            Metadata::Fixed(words) => buf[BASE_LEN..].copy_from_slice(words),
            Metadata::Tlvs(bytes) => buf[BASE_LEN..].copy_from_slice(bytes),
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn metadata() -> impl Strategy<Value = Metadata> {
        let words = prop::collection::vec(any::<[u8; 4]>(), 0..=MAX_METADATA / 4);
        prop_oneof![
            any::<[u8; 16]>().prop_map(Metadata::Fixed),
            words.prop_map(|words| Metadata::Tlvs(words.concat())),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(flags in 0u8..4, ttl in 0u8..64, next: u8, path: u32, metadata in metadata()) {
            let repr = NshRepr { flags, ttl, next, path, metadata };
            let mut buf = [0xff; MAX_LEN + 1];
            let len = repr.emit(&mut buf).unwrap();
            let view = NshView::parse(&buf[..len + 1]).unwrap();
            prop_assert_eq!(NshRepr::parse(&view), repr);
            prop_assert_eq!((view.header_len(), view.payload()), (len, &[0xff][..]));
            for cut in 0..len {
                prop_assert!(NshView::parse(&buf[..cut]).is_err());
            }
            prop_assert!(view.tlvs().count() <= MAX_METADATA / 4 + 1);
        }

        #[test]
        fn tlvs(list in prop::collection::vec((any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..5)) {
            let mut bytes = Vec::new();
            for (class, kind, data) in &list {
                Tlv { class: *class, kind: *kind, data }.append(&mut bytes);
            }
            let read: Vec<_> = Tlvs(&bytes).map(|tlv| tlv.map(|t| (t.class, t.kind, t.data.to_vec()))).collect();
            prop_assert_eq!(read, list.into_iter().map(Ok).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_rfc_8300_does_not_allow() {
        let good = |len: u8, kind: u8| [&[0x0f, 0xc0 | len, kind, 3, 0, 0, 1, 255][..], &[0; 252]].concat();
        for (bytes, fine) in [
            (good(6, 1), true),
            (good(6, 2), true),
            (good(2, 2), true),
            (good(63, 2), true),
            (good(5, 1), false),
            (good(7, 1), false),
            (good(1, 2), false),
            (good(0, 2), false),
            (good(6, 0), false),
            (good(6, 15), false),
            ([&[0x4f, 0xc6][..], &good(6, 1)[2..]].concat(), false),
        ] {
            assert_eq!(NshView::parse(&bytes).is_ok(), fine, "{:02x?}", &bytes[..8]);
        }
        assert_eq!(NshView::parse(&good(6, 1)).map(|v| v.ttl()), Ok(63));
        let too_long = NshRepr { flags: 0, ttl: 1, next: 3, path: 0, metadata: Metadata::Tlvs(vec![0; 248]) };
        assert!(too_long.emit(&mut [0; 512]).is_err());
        assert!(matches!(Tlvs(&[0, 1, 2]).next(), Some(Err(_))));
        assert!(matches!(Tlvs(&[0, 1, 2, 5, 0, 0, 0, 0]).next(), Some(Err(_))));
    }
}
