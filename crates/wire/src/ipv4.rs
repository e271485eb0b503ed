//! How is an IPv4 header laid out? (RFC 791 §3.1)

use core::net::Ipv4Addr;

use crate::bytes::{array, be16, head, put, put16, room};
use crate::checksum::Sum;
use crate::{Error, IpProto, Result};

const LAYER: &str = "ipv4";

/// Bytes of the header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;
/// Bytes of the longest packet.
pub const MAX_PACKET_LEN: usize = 65_535;

/// Byte offsets inside the header.
pub mod field {
    /// Version (high 4 bits) and header length in words of 4 bytes (low 4 bits).
    pub const VERSION_IHL: usize = 0;
    /// DSCP (6 bits) and ECN (2 bits), 1 byte.
    pub const TOS: usize = 1;
    /// Length of header and payload, 2 bytes.
    pub const TOTAL_LEN: usize = 2;
    /// Identification, 2 bytes.
    pub const ID: usize = 4;
    /// Flags (3 bits) and fragment offset (13 bits), 2 bytes.
    pub const FRAG: usize = 6;
    /// Time to live, 1 byte.
    pub const TTL: usize = 8;
    /// Protocol, 1 byte.
    pub const PROTO: usize = 9;
    /// Header checksum, 2 bytes.
    pub const CHECKSUM: usize = 10;
    /// Source address, 4 bytes.
    pub const SRC: usize = 12;
    /// Destination address, 4 bytes.
    pub const DST: usize = 16;
    /// Options, up to 40 bytes.
    pub const OPTIONS: usize = 20;
}

/// The flags and fragment offset field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ipv4Frag(pub u16);

impl Ipv4Frag {
    /// The "don't fragment" flag.
    pub const DF: u16 = 0x4000;
    /// The "more fragments" flag.
    pub const MF: u16 = 0x2000;
    /// Mask of the offset, which counts 8 bytes.
    pub const OFFSET_MASK: u16 = 0x1fff;

    /// A whole packet that must not be fragmented.
    pub const DONT: Self = Self(Self::DF);

    /// True when the packet must not be fragmented.
    #[inline]
    #[must_use]
    pub const fn dont_fragment(self) -> bool {
        self.0 & Self::DF != 0
    }

    /// True when more fragments follow.
    #[inline]
    #[must_use]
    pub const fn more_fragments(self) -> bool {
        self.0 & Self::MF != 0
    }

    /// Where the payload of this fragment belongs, in bytes.
    #[inline]
    #[must_use]
    pub const fn offset(self) -> usize {
        (self.0 & Self::OFFSET_MASK) as usize * 8
    }

    /// True for any fragment, first and last included.
    #[inline]
    #[must_use]
    pub const fn is_fragment(self) -> bool {
        self.0 & (Self::MF | Self::OFFSET_MASK) != 0
    }

    /// True for fragments that hold no transport header.
    #[inline]
    #[must_use]
    pub const fn is_later_fragment(self) -> bool {
        self.0 & Self::OFFSET_MASK != 0
    }
}

/// A checked view of an IPv4 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4View<'a> {
    head: &'a [u8; MIN_HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4View<'a> {
    /// Checks version and lengths. Bytes behind the stated total length (padding) are left out.
    ///
    /// # Errors
    /// `Truncated` when header or payload end early, `Malformed` for another version or lengths
    /// that contradict each other. The checksum is not looked at: see [`Self::checksum_ok`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut view = Self::parse_quoted(bytes)?;
        let header_len = view.header_len();
        let want = view.total_len().checked_sub(header_len).ok_or(Error::malformed(LAYER, "total length"))?;
        view.payload = view.payload.get(..want).ok_or(Error::truncated(LAYER))?;
        Ok(view)
    }

    /// Checks the header only. For packets cut short on purpose, as ICMP errors quote them: the
    /// payload is what is there.
    ///
    /// # Errors
    /// As [`Self::parse`], but the total length is not looked at.
    #[inline]
    pub fn parse_quoted(bytes: &'a [u8]) -> Result<Self> {
        let (head, rest) = head::<MIN_HEADER_LEN>(LAYER, bytes)?;
        let first = head[field::VERSION_IHL];
        if first >> 4 != 4 {
            return Err(Error::malformed(LAYER, "version"));
        }
        let options_len = (usize::from(first & 0xf) * 4)
            .checked_sub(MIN_HEADER_LEN)
            .ok_or(Error::malformed(LAYER, "header length"))?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Error::truncated(LAYER))?;
        Ok(Self { head, options, payload })
    }

    /// Bytes of the header, options included.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// DSCP and ECN.
    #[inline]
    #[must_use]
    pub fn tos(&self) -> u8 {
        self.head[field::TOS]
    }

    /// Length of header and payload, as stated.
    #[inline]
    #[must_use]
    pub fn total_len(&self) -> usize {
        usize::from(be16(self.head, field::TOTAL_LEN))
    }

    /// Identification.
    #[inline]
    #[must_use]
    pub fn id(&self) -> u16 {
        be16(self.head, field::ID)
    }

    /// Flags and fragment offset.
    #[inline]
    #[must_use]
    pub fn frag(&self) -> Ipv4Frag {
        Ipv4Frag(be16(self.head, field::FRAG))
    }

    /// Time to live.
    #[inline]
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.head[field::TTL]
    }

    /// Protocol of the payload.
    #[inline]
    #[must_use]
    pub fn proto(&self) -> IpProto {
        IpProto(self.head[field::PROTO])
    }

    /// Header checksum, as it stands.
    #[inline]
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16(self.head, field::CHECKSUM)
    }

    /// True when the header checksum is right.
    #[inline]
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        (Sum::of(self.head) + Sum::of(self.options)).is_valid()
    }

    /// Source address.
    #[inline]
    #[must_use]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.head, field::SRC))
    }

    /// Destination address.
    #[inline]
    #[must_use]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.head, field::DST))
    }

    /// The options, padding included: 0–40 bytes.
    #[inline]
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        self.options
    }

    /// The payload, without padding behind the packet.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The sum of the pseudo header for the whole payload.
    #[inline]
    #[must_use]
    pub fn pseudo_sum(&self) -> Sum {
        Sum::pseudo_v4(self.src(), self.dst(), self.proto(), self.payload.len() as u16)
    }
}

/// An IPv4 header as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ipv4Repr<'a> {
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset.
    pub frag: Ipv4Frag,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub proto: IpProto,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Options: at most 40 bytes, a multiple of 4.
    pub options: &'a [u8],
    /// Bytes of the payload.
    pub payload_len: usize,
}

impl<'a> Ipv4Repr<'a> {
    /// A header with the usual defaults: TTL 64, "don't fragment", no options.
    #[must_use]
    pub const fn new(src: Ipv4Addr, dst: Ipv4Addr, proto: IpProto, payload_len: usize) -> Self {
        Self { tos: 0, id: 0, frag: Ipv4Frag::DONT, ttl: 64, proto, src, dst, options: &[], payload_len }
    }

    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &Ipv4View<'a>) -> Self {
        Self {
            tos: view.tos(),
            id: view.id(),
            frag: view.frag(),
            ttl: view.ttl(),
            proto: view.proto(),
            src: view.src(),
            dst: view.dst(),
            options: view.options,
            payload_len: view.payload.len(),
        }
    }

    /// Bytes of the header, options included.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Writes the header with its checksum at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short; `Malformed` when the options are no multiple of 4, or
    /// longer than 40 bytes, or the packet would exceed 65,535 bytes.
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let options_len = self.options.len();
        if options_len > MAX_HEADER_LEN - MIN_HEADER_LEN || !options_len.is_multiple_of(4) {
            return Err(Error::malformed(LAYER, "options"));
        }
        let header_len = self.header_len();
        let total_len = u16::try_from(self.payload_len.saturating_add(header_len))
            .map_err(|_| Error::malformed(LAYER, "total length"))?;
        let buf = room(LAYER, buf, header_len)?;
        buf[field::VERSION_IHL] = 0x40 | (header_len / 4) as u8;
        buf[field::TOS] = self.tos;
        put16(buf, field::TOTAL_LEN, total_len);
        put16(buf, field::ID, self.id);
        put16(buf, field::FRAG, self.frag.0);
        buf[field::TTL] = self.ttl;
        buf[field::PROTO] = self.proto.0;
        put16(buf, field::CHECKSUM, 0);
        put(buf, field::SRC, self.src.octets());
        put(buf, field::DST, self.dst.octets());
        buf[field::OPTIONS..].copy_from_slice(self.options);
        let checksum = Sum::of(buf).finish();
        put16(buf, field::CHECKSUM, checksum);
        Ok(header_len)
    }
}

/// Recomputes the header checksum of the packet at the start of `packet`, in place.
///
/// # Errors
/// As [`Ipv4View::parse_quoted`].
#[inline]
pub fn fill_checksum(packet: &mut [u8]) -> Result<()> {
    let header_len = Ipv4View::parse_quoted(packet)?.header_len();
    let header = room(LAYER, packet, header_len)?;
    put16(header, field::CHECKSUM, 0);
    let checksum = Sum::of(header).finish();
    put16(header, field::CHECKSUM, checksum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(
            fields in any::<(u8, u16, u16, u8, u8)>(), src: [u8; 4], dst: [u8; 4],
            words in 0usize..=10, fill: u8, payload_len in 0usize..100,
        ) {
            let options = vec![fill; words * 4];
            let repr = Ipv4Repr {
                tos: fields.0, id: fields.1, frag: Ipv4Frag(fields.2), ttl: fields.3,
                proto: IpProto(fields.4), src: src.into(), dst: dst.into(),
                options: &options, payload_len,
            };
            let mut buf = vec![0xee; repr.header_len() + payload_len + 3];
            prop_assert_eq!(repr.emit(&mut buf).unwrap(), repr.header_len());
            let view = Ipv4View::parse(&buf).unwrap();
            prop_assert!(view.checksum_ok());
            prop_assert_eq!(view.payload().len(), payload_len);
            prop_assert_eq!(Ipv4Repr::parse(&view), repr);
            let mut broken = buf.clone();
            broken[10] ^= 1;
            prop_assert!(!Ipv4View::parse(&broken).unwrap().checksum_ok());
            fill_checksum(&mut broken).unwrap();
            prop_assert_eq!(broken, buf);
        }
    }

    #[test]
    fn refuses_contradictions() {
        let repr = Ipv4Repr::new([1, 2, 3, 4].into(), [5, 6, 7, 8].into(), IpProto::UDP, 8);
        let mut good = [0; 28];
        repr.emit(&mut good).unwrap();
        let cases: [(&str, usize, u8); 4] = [
            ("version", 0, 0x55),
            ("ihl 4", 0, 0x44),
            ("ihl beyond", 0, 0x4f),
            ("total below header", 3, 19),
        ];
        for (what, at, value) in cases {
            let mut bad = good;
            bad[at] = value;
            assert!(Ipv4View::parse(&bad).is_err(), "{what}");
        }
        assert_eq!(Ipv4View::parse(&good[..27]).err(), Some(Error::truncated(LAYER)));
        assert_eq!(Ipv4View::parse_quoted(&good[..27]).unwrap().payload().len(), 7);
    }

    #[test]
    fn refuses_to_emit_nonsense() {
        let base = Ipv4Repr::new([1, 2, 3, 4].into(), [5, 6, 7, 8].into(), IpProto::UDP, 0);
        let mut buf = [0; 80];
        assert!(Ipv4Repr { options: &[0; 3], ..base }.emit(&mut buf).is_err());
        assert!(Ipv4Repr { options: &[0; 44], ..base }.emit(&mut buf).is_err());
        assert!(Ipv4Repr { payload_len: 65_516, ..base }.emit(&mut buf).is_err());
        assert!(base.emit(&mut buf[..19]).is_err());
    }
}
