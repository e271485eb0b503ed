//! How is an IP packet cut so that each part fits a link? (RFC 791 §3.2, RFC 8200 §4.5)
//!
//! [`Fragmenter`] has the shape of [`crate::segment::Segmenter`]: headers are looked at once, then
//! any fragment can be written anywhere, without allocating. Checksums of the transport must be
//! complete before (see [`crate::vnet::complete_checksum`]): only the first fragment has one.

use crate::bytes::{put16, room};
use crate::ipv4::{self, Ipv4Frag};
use crate::ipv6::{self};
use crate::ipv6_ext::{self, ExtHeader, ExtHeaders, FRAGMENT_LEN, FragmentRepr};
use crate::locate::{Ip, Located, set_packet_len};
use crate::{Error, IpProto, Result};

const LAYER: &str = "fragment";

/// Most bytes of headers that are repeated in each fragment.
const MAX_HEADERS_LEN: usize = 512;

/// What becomes of the headers.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The packet fits: it is written as it is.
    Whole,
    /// `frag`: the field of the packet as it came, which may be a fragment itself. `later_len`:
    /// header bytes of the fragments behind the first, which repeat fewer options.
    V4 { frag: Ipv4Frag, later_len: usize },
    /// `patch`: where the next-header field stands that has to name the fragment header.
    V6 { patch: usize, next: IpProto, id: u32 },
}

/// A packet to be cut, its headers understood.
#[derive(Debug, Clone, Copy)]
pub struct Fragmenter<'a> {
    headers: &'a [u8],
    payload: &'a [u8],
    l3: usize,
    size: usize,
    count: usize,
    kind: Kind,
}

impl<'a> Fragmenter<'a> {
    /// Prepares to cut the IP packet in the Ethernet frame `frame` into packets of at most `mtu`
    /// bytes, each behind the same Ethernet header and tags. `id` names the fragments of an IPv6
    /// packet; IPv4 packets have a name of their own.
    ///
    /// A packet that fits is one "fragment", unchanged.
    ///
    /// # Errors
    /// `Unsupported` when the packet says "don't fragment", is an IPv6 fragment already, or has
    /// too long headers; `Malformed` when `mtu` leaves no room, or offsets would overflow; as the
    /// views when a header is broken.
    pub fn new(frame: &'a [u8], mtu: usize, id: u32) -> Result<Self> {
        let found = Located::parse(frame)?;
        let l3 = found.l3;
        let frame = &frame[..found.end];
        let (split, extra, kind) = match found.ip {
            _ if found.end - l3 <= mtu => (frame.len(), 0, Kind::Whole),
            Ip::V4(ip) => {
                if ip.frag().dont_fragment() {
                    return Err(Error::unsupported(LAYER, "packet that must not be fragmented"));
                }
                let later_len = ipv4::MIN_HEADER_LEN + copied_options(ip.options(), &mut [0; 40]);
                (found.l4, 0, Kind::V4 { frag: ip.frag(), later_len })
            }
            Ip::V6(ip, chain) => {
                if chain.fragment.is_some() {
                    return Err(Error::unsupported(LAYER, "fragment of a fragment"));
                }
                let (len, patch, next) = unfragmentable(ip.next_header(), ip.payload())?;
                let split = l3 + ipv6::HEADER_LEN + len;
                (split, FRAGMENT_LEN, Kind::V6 { patch: l3 + patch, next, id })
            }
        };
        let (headers, payload) = frame.split_at(split);
        if let Kind::Whole = kind {
            return Ok(Self { headers, payload, l3, size: 0, count: 1, kind });
        }
        let size = mtu.saturating_sub(split - l3 + extra) & !7;
        if size == 0 {
            return Err(Error::malformed(LAYER, "mtu"));
        }
        if headers.len() > MAX_HEADERS_LEN {
            return Err(Error::unsupported(LAYER, "headers of this length"));
        }
        if let Kind::V4 { frag, .. } = kind
            && frag.offset() + payload.len() > ipv4::MAX_PACKET_LEN
        {
            return Err(Error::malformed(LAYER, "fragment offset"));
        }
        Ok(Self { headers, payload, l3, size, count: payload.len().div_ceil(size), kind })
    }

    /// Number of fragments, at least 1.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Writes fragment `index` with its Ethernet header at the start of `dst`; returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `dst` is too short; `Malformed` when there is no such fragment.
    pub fn write(&self, index: usize, dst: &mut [u8]) -> Result<usize> {
        if index >= self.count {
            return Err(Error::malformed(LAYER, "index"));
        }
        let at = index * self.size;
        let last = index + 1 == self.count;
        match self.kind {
            Kind::Whole => {
                room(LAYER, dst, self.headers.len())?.copy_from_slice(self.headers);
                Ok(self.headers.len())
            }
            Kind::V4 { frag, later_len } => {
                let header_len = if index == 0 { self.headers.len() } else { self.l3 + later_len };
                let len = self.place(at, header_len, dst)?;
                let packet = &mut dst[self.l3..len];
                if index != 0 {
                    let mut options = [0; 40];
                    let n = copied_options(&self.headers[self.l3 + ipv4::MIN_HEADER_LEN..], &mut options);
                    packet[ipv4::MIN_HEADER_LEN..later_len].copy_from_slice(&options[..n]);
                    packet[ipv4::field::VERSION_IHL] = 0x40 | (later_len / 4) as u8;
                }
                let more = if last { 0 } else { Ipv4Frag::MF };
                // Only the offset changes; a fragment that came with "more" keeps it on its last.
                put16(packet, ipv4::field::FRAG, (frag.0 + (at / 8) as u16) | more);
                set_packet_len(packet, len - self.l3)?;
                Ok(len)
            }
            Kind::V6 { patch, next, id } => {
                let header_len = self.headers.len() + FRAGMENT_LEN;
                let len = self.place(at, header_len, dst)?;
                ExtHeader::set_next(&mut dst[patch..], IpProto::FRAGMENT);
                let repr = FragmentRepr { next_header: next, offset: at, more_fragments: !last, id };
                repr.emit(&mut dst[self.headers.len()..header_len])?;
                set_packet_len(&mut dst[self.l3..len], len - self.l3)?;
                Ok(len)
            }
        }
    }

    /// Copies as much of the headers as `header_len` has room for, and behind that the payload from
    /// `at` on. Returns the length of both.
    fn place(&self, at: usize, header_len: usize, dst: &mut [u8]) -> Result<usize> {
        let rest = &self.payload[at..];
        let part = &rest[..rest.len().min(self.size)];
        let dst = room(LAYER, dst, header_len + part.len())?;
        let (header, body) = dst.split_at_mut(header_len);
        let n = header.len().min(self.headers.len());
        header[..n].copy_from_slice(&self.headers[..n]);
        body.copy_from_slice(part);
        Ok(header_len + part.len())
    }
}

/// Copies the IPv4 options that every fragment repeats (RFC 791 §3.1: the "copied" flag) into
/// `out`, padded to whole words; returns their length. A broken option ends the list.
fn copied_options(options: &[u8], out: &mut [u8; 40]) -> usize {
    const COPIED: u8 = 0x80;
    let (mut rest, mut len) = (options, 0);
    while let [kind, after @ ..] = rest {
        let n = match (kind, after) {
            (0, _) => break,
            (1, _) => 1,
            (_, [n, ..]) => usize::from(*n).max(2),
            (_, []) => break,
        };
        let Some((option, next)) = rest.split_at_checked(n) else {
            break;
        };
        if kind & COPIED != 0
            && let Some(to) = out.get_mut(len..len + n)
        {
            to.copy_from_slice(option);
            len += n;
        }
        rest = next;
    }
    len.next_multiple_of(4)
}

/// The part of the extension headers that stays before the fragment header (RFC 8200 §4.5):
/// hop-by-hop options and everything up to a routing header.
///
/// Gives its length, where (counted from the IPv6 header) the next-header field behind it stands,
/// and what that names.
fn unfragmentable(first: IpProto, payload: &[u8]) -> Result<(usize, usize, IpProto)> {
    let mut kept = (0, ipv6::field::NEXT_HEADER, first);
    let mut at = 0;
    for header in ExtHeaders::new(first, payload) {
        let header = header?;
        let end = at + header.bytes.len();
        if matches!(header.kind, IpProto::HOPOPT | IpProto::ROUTING) {
            kept = (end, ipv6::HEADER_LEN + at + ipv6_ext::field::NEXT_HEADER, header.next);
        }
        at = end;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests;
