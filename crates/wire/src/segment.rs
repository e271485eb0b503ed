//! How is a frame of many segments cut into frames of one? (software TSO and USO)
//!
//! [`Segmenter::new`] looks at the headers once and sums what every segment has in common. Then
//! [`Segmenter::write`] makes any segment in any buffer, in one pass over its payload, without
//! allocating. [`Segmenter::write_train`] lays segments back to back, each behind the same prefix
//! (a VXLAN header, say), which is what one UDP_SEGMENT send takes.
//!
//! A frame may be a tunnel's already: when the checksum to be completed is that of an inner packet,
//! the inner packet is cut and the outer headers are repeated and fixed.

mod outer;

use crate::bytes::{be16, be32, put16, put32, room};
use crate::checksum::{Sum, copy_and_sum};
use crate::locate::{Ip, Located};
use crate::tcp::{self, TcpFlags, TcpView};
use crate::udp::{self, UdpView};
use crate::vnet::{self, Csum, Gso, GsoKind, VnetHdr};
use crate::{Error, IpProto, Result, ipv4, ipv6};
use outer::Outer;

const LAYER: &str = "segment";

/// Bytes of the headers of a frame that is segmented: all of the tunnel's, Ethernet, tags, IP,
/// transport, and what IPv6 puts between. More is refused.
pub const MAX_HEADERS_LEN: usize = 512;

/// What differs from segment to segment in the IP header.
#[derive(Debug, Clone, Copy)]
enum Network {
    /// `sum`: of the header without length, identification and checksum.
    V4 { sum: Sum, id: u16 },
    /// Nothing but the length.
    V6,
}

impl Network {
    fn new(found: &Located<'_>, headers: &[u8]) -> Self {
        match found.ip {
            Ip::V4(ip) => Self::V4 { sum: network_sum(&headers[found.l3..found.l4]), id: ip.id() },
            Ip::V6(..) => Self::V6,
        }
    }

    /// Sets length, identification and checksum in the header of the packet `packet`.
    #[inline]
    fn patch(&self, index: usize, packet: &mut [u8], packet_len: usize) {
        match *self {
            Self::V4 { sum, id } => {
                let (len, id) = (packet_len as u16, id.wrapping_add(index as u16));
                put16(packet, ipv4::field::TOTAL_LEN, len);
                put16(packet, ipv4::field::ID, id);
                let checksum = (sum + Sum::word(len) + Sum::word(id)).finish();
                put16(packet, ipv4::field::CHECKSUM, checksum);
            }
            Self::V6 => {
                put16(packet, ipv6::field::PAYLOAD_LEN, (packet_len - ipv6::HEADER_LEN) as u16);
            }
        }
    }
}

/// What differs from segment to segment in the transport header.
#[derive(Debug, Clone, Copy)]
enum Transport {
    /// `len_flags`: the header length and flags of the whole.
    Tcp {
        seq: u32,
        len_flags: u16,
    },
    Udp,
}

/// A frame to be cut, its headers understood.
#[derive(Debug, Clone, Copy)]
pub struct Segmenter<'a> {
    headers: &'a [u8],
    payload: &'a [u8],
    size: usize,
    count: usize,
    l3: usize,
    l4: usize,
    network: Network,
    transport: Transport,
    /// Pseudo header without length and transport header without the fields that differ.
    sum: Sum,
    outer: Option<Outer>,
}

/// What [`Segmenter::write_train`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Train {
    /// Segments written.
    pub segments: usize,
    /// Bytes written, prefixes included.
    pub len: usize,
    /// Bytes from the start of one segment's prefix to the next: what UDP_SEGMENT is told.
    pub stride: usize,
}

impl<'a> Segmenter<'a> {
    /// Checks that `frame` is what `hdr` says, and prepares to cut it.
    ///
    /// VLAN tags and IPv6 extension headers are kept in every segment. Padding behind the IP
    /// packet is left out.
    ///
    /// # Errors
    /// `Unsupported` when `hdr` asks for no segmentation or for UFO (which is IP fragmentation:
    /// see [`crate::fragment`]); `Malformed` when `hdr` and `frame` contradict each other, or the
    /// packet is a fragment; as the views when a header is broken.
    pub fn new(frame: &'a [u8], hdr: &VnetHdr) -> Result<Self> {
        let gso = hdr.gso.ok_or(Error::unsupported(LAYER, "a frame without segmentation"))?;
        if gso.size == 0 {
            return Err(Error::malformed(LAYER, "gso_size"));
        }
        let mut found = Located::parse(frame)?;
        let mut outer = None;
        if let Csum::Partial { start, .. } = hdr.csum
            && usize::from(start) > found.l4
        {
            let (tunnel, inner) = Outer::find(frame, &found, usize::from(start))?;
            (outer, found) = (Some(tunnel), inner);
        }
        let (offset, header_len) = check_kind(&gso, &found)?;
        let (l3, l4) = (found.l3, found.l4);
        let (headers, payload) = frame[..found.end].split_at(l4 + header_len);
        if headers.len() > MAX_HEADERS_LEN {
            return Err(Error::malformed(LAYER, "header length"));
        }
        if let Csum::Partial { start, offset: at } = hdr.csum
            && (usize::from(start), usize::from(at)) != (l4, offset)
        {
            return Err(Error::malformed(LAYER, "csum_start"));
        }
        let pseudo = pseudo_without_len(frame, hdr, &found, offset)?;
        let (transport, fixed) = transport_parts(gso.kind, &headers[l4..])?;
        let network = Network::new(&found, headers);
        let size = usize::from(gso.size);
        let count = payload.len().div_ceil(size).max(1);
        Ok(Self { headers, payload, size, count, l3, l4, network, transport, sum: pseudo + fixed, outer })
    }

    /// Number of segments, at least 1.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the headers that every segment repeats.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.headers.len()
    }

    /// Bytes of segment `index`; 0 beyond the last.
    #[inline]
    #[must_use]
    pub fn segment_len(&self, index: usize) -> usize {
        match self.part(index) {
            Ok(payload) => self.headers.len() + payload.len(),
            Err(_) => 0,
        }
    }

    /// Bytes of the longest segment.
    #[inline]
    #[must_use]
    pub fn max_segment_len(&self) -> usize {
        self.headers.len() + self.size.min(self.payload.len())
    }

    /// The payload of segment `index`.
    #[inline]
    fn part(&self, index: usize) -> Result<&'a [u8]> {
        if index >= self.count {
            return Err(Error::malformed(LAYER, "segment index"));
        }
        let rest = &self.payload[index * self.size..];
        Ok(&rest[..rest.len().min(self.size)])
    }

    /// Writes segment `index`, its checksums complete, at the start of `dst`; returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `dst` is shorter than [`Self::segment_len`]; `Malformed` when there is no
    /// such segment.
    #[inline]
    pub fn write(&self, index: usize, dst: &mut [u8]) -> Result<usize> {
        let part = self.part(index)?;
        let len = self.headers.len() + part.len();
        let dst = room(LAYER, dst, len)?;
        let (headers, payload) = dst.split_at_mut(self.headers.len());
        headers.copy_from_slice(self.headers);
        let sum = copy_and_sum(payload, part);
        self.network.patch(index, &mut headers[self.l3..], len - self.l3);
        self.patch_transport(index, &mut headers[self.l4..], len - self.l4, sum);
        if let Some(outer) = &self.outer {
            outer.patch(index, headers, len, sum);
        }
        Ok(len)
    }

    /// Writes segments from `first` on, back to back, each behind a copy of `prefix`, as many as
    /// fit into `dst` but at most `max`.
    ///
    /// All have the same length but the last of the frame, which may be shorter.
    ///
    /// # Errors
    /// `NoSpace` when not even one fits; `Malformed` when there is no segment `first`.
    pub fn write_train(&self, first: usize, max: usize, prefix: &[u8], dst: &mut [u8]) -> Result<Train> {
        let stride = prefix.len() + self.max_segment_len();
        let mut train = Train { segments: 0, len: 0, stride };
        let until = self.count.min(first.saturating_add(max.max(1)));
        for index in first..until.max(first.saturating_add(1)) {
            let Some((head, body)) =
                dst.get_mut(train.len..).and_then(|rest| rest.split_at_mut_checked(prefix.len()))
            else {
                break;
            };
            match self.write(index, body) {
                Ok(len) => {
                    head.copy_from_slice(prefix);
                    train.len += prefix.len() + len;
                    train.segments += 1;
                }
                Err(Error::NoSpace { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        match train.segments {
            0 => Err(Error::NoSpace { layer: LAYER, need: stride, have: dst.len() }),
            _ => Ok(train),
        }
    }

    /// Sets what differs in the transport header, and its checksum; `payload` is the payload's sum.
    #[inline]
    fn patch_transport(&self, index: usize, header: &mut [u8], len: usize, payload: Sum) {
        let len = len as u16;
        let sum = self.sum + payload + Sum::word(len);
        match self.transport {
            Transport::Tcp { seq, len_flags } => {
                let seq = seq.wrapping_add((index * self.size) as u32);
                let mut drop = 0;
                if index + 1 != self.count {
                    drop |= TcpFlags::FIN | TcpFlags::PSH;
                }
                if index != 0 {
                    drop |= TcpFlags::CWR;
                }
                let len_flags = len_flags & !drop;
                put32(header, tcp::field::SEQ, seq);
                put16(header, tcp::field::LEN_FLAGS, len_flags);
                let checksum = (sum + Sum::long(seq) + Sum::word(len_flags)).finish();
                put16(header, tcp::field::CHECKSUM, checksum);
            }
            Transport::Udp => {
                put16(header, udp::field::LEN, len);
                let checksum = (sum + Sum::word(len)).finish_nonzero();
                put16(header, udp::field::CHECKSUM, checksum);
            }
        }
    }
}

/// Checks the kind of segmentation against the frame. Gives the offset of the checksum field in
/// the transport header, and that header's length.
fn check_kind(gso: &Gso, found: &Located<'_>) -> Result<(usize, usize)> {
    if found.is_fragment() {
        return Err(Error::malformed(LAYER, "fragment"));
    }
    let v4 = matches!(found.ip, Ip::V4(_));
    match (gso.kind, found.proto) {
        (GsoKind::TcpV4, IpProto::TCP) if v4 => {}
        (GsoKind::TcpV6, IpProto::TCP) if !v4 => {}
        (GsoKind::UdpL4, IpProto::UDP) => {}
        (GsoKind::Udp, _) => return Err(Error::unsupported(LAYER, "UFO")),
        _ => return Err(Error::malformed(LAYER, "gso_type")),
    }
    if found.proto == IpProto::TCP {
        Ok((tcp::field::CHECKSUM, TcpView::parse(found.transport)?.header_len()))
    } else {
        UdpView::parse_header(found.transport)?;
        Ok((udp::field::CHECKSUM, udp::HEADER_LEN))
    }
}

/// The pseudo header's sum without the length.
///
/// Behind an IPv6 routing header only the sender knows the last destination: there the sum that
/// it left in the checksum field is taken, and its length taken out.
fn pseudo_without_len(frame: &[u8], hdr: &VnetHdr, found: &Located<'_>, offset: usize) -> Result<Sum> {
    if !found.is_source_routed() {
        return Ok(found.pseudo_sum(0));
    }
    if !matches!(hdr.csum, Csum::Partial { .. }) {
        return Err(Error::unsupported(LAYER, "a source-routed packet without a partial checksum"));
    }
    let len = found.transport.len() as u16;
    Ok(vnet::partial_sum(frame, found.l4, offset)? + Sum::word(!len))
}

/// What differs in the transport header, and the sum of what does not.
fn transport_parts(kind: GsoKind, header: &[u8]) -> Result<(Transport, Sum)> {
    match kind {
        GsoKind::UdpL4 => Ok((Transport::Udp, Sum::of(&header[..udp::field::LEN]))),
        _ => {
            let fixed = header.first_chunk::<{ tcp::MIN_HEADER_LEN }>().ok_or(Error::truncated("tcp"))?;
            let sum = Sum::of(&header[..tcp::field::SEQ])
                + Sum::of(&header[tcp::field::ACK..tcp::field::LEN_FLAGS])
                + Sum::of(&header[tcp::field::WINDOW..tcp::field::CHECKSUM])
                + Sum::of(&header[tcp::field::URGENT..]);
            let seq = be32(fixed, tcp::field::SEQ);
            Ok((Transport::Tcp { seq, len_flags: be16(fixed, tcp::field::LEN_FLAGS) }, sum))
        }
    }
}

/// The sum of an IPv4 header without length, identification and checksum.
fn network_sum(header: &[u8]) -> Sum {
    Sum::of(&header[..ipv4::field::TOTAL_LEN])
        + Sum::of(&header[ipv4::field::FRAG..ipv4::field::CHECKSUM])
        + Sum::of(&header[ipv4::field::SRC..])
}

#[cfg(test)]
mod tests;
