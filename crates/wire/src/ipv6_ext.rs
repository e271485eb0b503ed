//! What stands between an IPv6 header and its upper layer? (RFC 8200 §4)
//!
//! [`Chain::walk`] steps over extension headers to the upper layer, as a switch needs it on every
//! packet; [`ExtHeaders`] lists them one by one.

use crate::bytes::{be16, be32, head, head_mut, put16, put32, room};
use crate::{Error, IpProto, Result};

const LAYER: &str = "ipv6 extension";

/// Extension headers of one packet that are stepped over; a packet with more is malformed.
pub const MAX_HEADERS: usize = 16;

/// Bytes of a fragment header.
pub const FRAGMENT_LEN: usize = 8;

/// Byte offsets inside an extension header.
pub mod field {
    /// Type of the header that follows, 1 byte; every extension header has it.
    pub const NEXT_HEADER: usize = 0;
    /// Length: in units of 8 bytes, the first not counted (AH: of 4 bytes, the first two not counted).
    pub const LEN: usize = 1;
    /// Fragment header: offset (13 bits), reserved (2 bits), "more" (1 bit).
    pub const FRAGMENT_OFFSET: usize = 2;
    /// Fragment header: identification, 4 bytes.
    pub const FRAGMENT_ID: usize = 4;
}

/// True for the extension headers that [`Chain::walk`] can step over.
#[inline]
#[must_use]
pub const fn is_extension(proto: IpProto) -> bool {
    matches!(
        proto,
        IpProto::HOPOPT
            | IpProto::ROUTING
            | IpProto::FRAGMENT
            | IpProto::AH
            | IpProto::DSTOPTS
            | IpProto::MOBILITY
    )
}

/// A checked view of a fragment header.
#[derive(Debug, Clone, Copy)]
pub struct FragmentView<'a> {
    head: &'a [u8; FRAGMENT_LEN],
}

impl<'a> FragmentView<'a> {
    /// Checks that the header is there.
    ///
    /// # Errors
    /// `Truncated` when `bytes` are shorter than [`FRAGMENT_LEN`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, _) = head(LAYER, bytes)?;
        Ok(Self { head })
    }

    /// Type of the header that follows in the whole packet.
    #[inline]
    #[must_use]
    pub fn next_header(&self) -> IpProto {
        IpProto(self.head[field::NEXT_HEADER])
    }

    /// Where the payload of this fragment belongs, in bytes.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> usize {
        usize::from(be16(self.head, field::FRAGMENT_OFFSET) & 0xfff8)
    }

    /// True when more fragments follow.
    #[inline]
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        self.head[field::FRAGMENT_OFFSET + 1] & 1 != 0
    }

    /// Identification.
    #[inline]
    #[must_use]
    pub fn id(&self) -> u32 {
        be32(self.head, field::FRAGMENT_ID)
    }
}

/// A fragment header as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FragmentRepr {
    /// Type of the header that follows in the whole packet.
    pub next_header: IpProto,
    /// Where the payload belongs, in bytes: a multiple of 8 below 65,536.
    pub offset: usize,
    /// True when more fragments follow.
    pub more_fragments: bool,
    /// Identification.
    pub id: u32,
}

impl FragmentRepr {
    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &FragmentView<'_>) -> Self {
        Self {
            next_header: view.next_header(),
            offset: view.offset(),
            more_fragments: view.more_fragments(),
            id: view.id(),
        }
    }

    /// True for fragments that hold no upper-layer header.
    #[inline]
    #[must_use]
    pub const fn is_later_fragment(&self) -> bool {
        self.offset != 0
    }

    /// True for a packet that carries a fragment header but is whole (RFC 6946).
    #[inline]
    #[must_use]
    pub const fn is_atomic(&self) -> bool {
        self.offset == 0 && !self.more_fragments
    }

    /// Writes the header at the start of `buf` and returns its length. Reserved bits are zero.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short; `Malformed` when the offset is not as documented.
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let offset = match u16::try_from(self.offset) {
            Ok(offset) if offset & 7 == 0 => offset,
            _ => return Err(Error::malformed(LAYER, "fragment offset")),
        };
        let (head, _) = head_mut::<FRAGMENT_LEN>(LAYER, buf)?;
        head[field::NEXT_HEADER] = self.next_header.0;
        head[field::LEN] = 0;
        put16(head, field::FRAGMENT_OFFSET, offset | u16::from(self.more_fragments));
        put32(head, field::FRAGMENT_ID, self.id);
        Ok(FRAGMENT_LEN)
    }
}

/// One extension header: its type, and its bytes from its next-header field to its end.
///
/// Emitting is copying the bytes; [`Self::set_next`] is what changes in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtHeader<'a> {
    /// What this header is.
    pub kind: IpProto,
    /// What follows it.
    pub next: IpProto,
    /// The whole header.
    pub bytes: &'a [u8],
}

impl<'a> ExtHeader<'a> {
    /// Reads the header of type `kind` at the start of `bytes`.
    ///
    /// # Errors
    /// `Truncated` when it ends early, `Unsupported` when `kind` is no extension header.
    #[inline]
    pub fn parse(kind: IpProto, bytes: &'a [u8]) -> Result<Self> {
        let (start, _) = head::<8>(LAYER, bytes)?;
        let units = usize::from(start[field::LEN]);
        let len = match kind {
            IpProto::FRAGMENT => FRAGMENT_LEN,
            IpProto::AH => (units + 2) * 4,
            kind if is_extension(kind) => (units + 1) * 8,
            _ => return Err(Error::unsupported(LAYER, "header type")),
        };
        let bytes = bytes.get(..len).ok_or(Error::truncated(LAYER))?;
        Ok(Self { kind, next: IpProto(start[field::NEXT_HEADER]), bytes })
    }

    /// Writes the header to the start of `buf`, with `next` as what follows it.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let buf = room(LAYER, buf, self.bytes.len())?;
        buf.copy_from_slice(self.bytes);
        Self::set_next(buf, self.next);
        Ok(buf.len())
    }

    /// Sets what follows the header that starts at `header[0]`; nothing for an empty slice.
    #[inline]
    pub fn set_next(header: &mut [u8], next: IpProto) {
        if let Some(byte) = header.get_mut(field::NEXT_HEADER) {
            *byte = next.0;
        }
    }
}

/// The extension headers of a packet, in order, ending with the first that is none, at a later
/// fragment, or with an error.
#[derive(Debug, Clone)]
pub struct ExtHeaders<'a> {
    next: IpProto,
    rest: &'a [u8],
    left: usize,
    done: bool,
}

impl<'a> ExtHeaders<'a> {
    /// `next` and `payload` as the fixed header ([`crate::ipv6::Ipv6View`]) gives them.
    #[inline]
    #[must_use]
    pub const fn new(next: IpProto, payload: &'a [u8]) -> Self {
        Self { next, rest: payload, left: MAX_HEADERS, done: false }
    }
}

impl<'a> Iterator for ExtHeaders<'a> {
    type Item = Result<ExtHeader<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done || !is_extension(self.next) {
            return None;
        }
        let step = match self.left {
            0 => Err(Error::malformed(LAYER, "number of headers")),
            _ => ExtHeader::parse(self.next, self.rest),
        };
        match step {
            Ok(header) => {
                self.left -= 1;
                self.next = header.next;
                self.rest = &self.rest[header.bytes.len()..];
                let later = header.kind == IpProto::FRAGMENT
                    && FragmentView::parse(header.bytes).is_ok_and(|f| f.offset() != 0);
                self.done = later;
            }
            Err(_) => self.done = true,
        }
        Some(step)
    }
}

/// The result of stepping over all extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain<'a> {
    /// The upper layer's protocol. For a later fragment: what its fragment header names.
    pub proto: IpProto,
    /// Bytes from the end of the fixed header to the upper layer (or the fragment's data).
    pub len: usize,
    /// The fragment header, when there is one.
    pub fragment: Option<FragmentRepr>,
    /// What follows the last header.
    pub payload: &'a [u8],
}

impl<'a> Chain<'a> {
    /// Steps over the extension headers behind a fixed header whose next-header field is `next`.
    ///
    /// Stops at a later fragment: what follows there is not an upper-layer header.
    ///
    /// # Errors
    /// `Truncated` when a header ends early, `Malformed` beyond [`MAX_HEADERS`].
    #[inline]
    pub fn walk(next: IpProto, payload: &'a [u8]) -> Result<Self> {
        let mut chain = Self { proto: next, len: 0, fragment: None, payload };
        if !is_extension(next) {
            return Ok(chain);
        }
        for header in ExtHeaders::new(next, payload) {
            let header = header?;
            chain.proto = header.next;
            chain.len += header.bytes.len();
            if header.kind == IpProto::FRAGMENT {
                chain.fragment = Some(FragmentRepr::parse(&FragmentView::parse(header.bytes)?));
            }
        }
        chain.payload = &payload[chain.len..];
        Ok(chain)
    }

    /// True when `payload` does not start with the upper-layer header.
    #[inline]
    #[must_use]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.is_later_fragment())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A chain of (kind, length in 8-byte units) with the upper layer `last` behind it.
    fn chain(kinds: &[(IpProto, usize)], last: IpProto) -> (IpProto, Vec<u8>) {
        let mut out = Vec::new();
        for (i, (kind, units)) in kinds.iter().enumerate() {
            let next = kinds.get(i + 1).map_or(last, |k| k.0);
            let mut header = vec![0; units * 8];
            header[0] = next.0;
            header[1] = match *kind {
                IpProto::AH => (units * 2 - 2) as u8,
                IpProto::FRAGMENT => 0,
                _ => (units - 1) as u8,
            };
            out.extend(header);
        }
        (kinds.first().map_or(last, |k| k.0), out)
    }

    #[test]
    fn walks() {
        use IpProto as P;
        let kinds = [(P::HOPOPT, 2), (P::DSTOPTS, 1), (P::ROUTING, 3), (P::FRAGMENT, 1), (P::AH, 3)];
        let (first, mut bytes) = chain(&kinds, P::TCP);
        bytes.extend([1, 2, 3]);
        let walked = Chain::walk(first, &bytes).unwrap();
        assert_eq!((walked.proto, walked.len, walked.payload), (P::TCP, 80, &[1, 2, 3][..]));
        assert!(walked.fragment.unwrap().is_atomic());
        assert_eq!(ExtHeaders::new(first, &bytes).count(), 5);
        for cut in 1..80 {
            assert!(Chain::walk(first, &bytes[..cut]).is_err(), "cut at {cut}");
        }
        let (first, bytes) = chain(&[(P::HOPOPT, 1); MAX_HEADERS], P::UDP);
        assert!(Chain::walk(first, &bytes).is_ok());
        let (first, bytes) = chain(&[(P::HOPOPT, 1); MAX_HEADERS + 1], P::UDP);
        assert!(Chain::walk(first, &bytes).is_err());
    }

    #[test]
    fn stops_at_a_later_fragment() {
        let mut bytes = [0; 24];
        let repr = FragmentRepr { next_header: IpProto::DSTOPTS, offset: 1448, more_fragments: true, id: 7 };
        repr.emit(&mut bytes).unwrap();
        bytes[8] = 0xff; // would be garbage as an extension header
        bytes[9] = 0xff;
        let walked = Chain::walk(IpProto::FRAGMENT, &bytes).unwrap();
        assert_eq!((walked.proto, walked.len), (IpProto::DSTOPTS, 8));
        assert!(walked.is_later_fragment());
        assert_eq!(walked.fragment, Some(repr));
    }

    proptest! {
        #[test]
        fn fragment_round_trip(next: u8, units in 0usize..8192, more_fragments: bool, id: u32) {
            let repr = FragmentRepr { next_header: IpProto(next), offset: units * 8, more_fragments, id };
            let mut out = [0; FRAGMENT_LEN];
            repr.emit(&mut out).unwrap();
            prop_assert_eq!(FragmentRepr::parse(&FragmentView::parse(&out).unwrap()), repr);
        }

        #[test]
        fn header_round_trip(mut bytes in prop::collection::vec(any::<u8>(), 8..80), next: u8) {
            bytes[1] %= 10;
            if let Ok(mut header) = ExtHeader::parse(IpProto::ROUTING, &bytes) {
                let mut out = vec![0; header.bytes.len()];
                header.next = IpProto(next);
                header.emit(&mut out).unwrap();
                prop_assert_eq!(ExtHeader::parse(IpProto::ROUTING, &out).unwrap().next, header.next);
                prop_assert_eq!(&out[1..], &header.bytes[1..]);
            }
        }
    }

    #[test]
    fn refuses_bad_offsets() {
        let repr = FragmentRepr { next_header: IpProto::UDP, offset: 12, more_fragments: false, id: 0 };
        assert!(repr.emit(&mut [0; 8]).is_err());
        assert!(FragmentRepr { offset: 65_536, ..repr }.emit(&mut [0; 8]).is_err());
    }
}
