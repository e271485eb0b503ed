//! Which consecutive frames are one stream, and what single frame says the same? (software GRO)
//!
//! [`Merger`] joins TCP segments that follow each other into one frame with a virtio header, so
//! that what is behind it is walked, copied and delivered once. Only what [`crate::segment`] turns
//! back into the very same frames is joined.
//!
//! It keeps state for one frame under construction and writes into a buffer that the caller
//! brings, so it fits a receive buffer of many datagrams (UDP_GRO): take the headers of the tunnel
//! off each, push what is inside, and when [`Push::Full`] or [`Push::Pass`] says so, send what
//! there is and go on with the next buffer. Nothing is allocated.

use crate::bytes::{array, put16, room};
use crate::checksum::{Sum, copy_and_sum};
use crate::ipv4::{Ipv4Frag, MIN_HEADER_LEN as V4_LEN};
use crate::ipv6::HEADER_LEN as V6_LEN;
use crate::locate::{Ip, Located, set_packet_len};
use crate::tcp::{self, TcpFlags, TcpView};
use crate::vnet::{Csum, Gso, GsoKind, VnetHdr};
use crate::{IpProto, Result, ipv4, ipv6};

/// Are the checksums of the frames known to be right?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// No: each is verified, and a frame with a wrong one is not joined.
    #[default]
    Verify,
    /// Yes: the path (kernel, device) verified them.
    Verified,
}

/// What became of a frame that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Push {
    /// It is part of the frame under construction now.
    Taken,
    /// It could be joined, but not to the frame under construction: finish that one, then push
    /// this one again.
    Full,
    /// It is never joined: finish the frame under construction, then send this one as it is.
    Pass,
}

/// A finished frame; its bytes are the first `len` of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// Bytes of the frame.
    pub len: usize,
    /// How to cut it again; for a single frame just that its checksum is right.
    pub hdr: VnetHdr,
    /// Frames joined in it, at least 1.
    pub segments: usize,
}

/// Flags that end a stream of data or need the receiver's eye: not joined.
const STOP: u16 = TcpFlags::FIN | TcpFlags::SYN | TcpFlags::RST | TcpFlags::URG | TcpFlags::CWR;

/// The frame under construction. Its headers, at the start of the buffer, stay those of the first
/// frame until the end.
#[derive(Debug, Clone, Copy)]
struct Open {
    l3: usize,
    l4: usize,
    /// Where the payload starts.
    body: usize,
    v6: bool,
    /// Payload of each segment but the last.
    size: usize,
    /// Bytes so far.
    len: usize,
    segments: usize,
    next_seq: u32,
    next_id: u16,
    /// A short or pushed segment was the last.
    closed: bool,
    pushed: bool,
}

/// Joins consecutive TCP segments of one flow.
#[derive(Debug, Clone, Default)]
pub struct Merger {
    trust: Trust,
    open: Option<Open>,
}

impl Merger {
    /// A merger with nothing under construction.
    #[must_use]
    pub const fn new(trust: Trust) -> Self {
        Self { trust, open: None }
    }

    /// True when nothing is under construction.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    /// Offers a frame. `out` is where the frame under construction is; it must be the same buffer
    /// until [`Self::finish`], and untouched between.
    ///
    /// Joined are segments with data over IPv4 without options or IPv6 without extension headers,
    /// without FIN, SYN, RST, URG and CWR, whose headers agree in all but lengths, identification
    /// (rising by one), sequence number (without gap), PSH (which ends the frame) and checksums,
    /// and whose payloads have the same length, but for a shorter last. Together they stay below
    /// 65,536 bytes of IP packet, and inside `out`.
    #[inline]
    pub fn push(&mut self, frame: &[u8], out: &mut [u8]) -> Push {
        match &mut self.open {
            None => match start(frame, out, self.trust) {
                Some(open) => {
                    self.open = Some(open);
                    Push::Taken
                }
                None => Push::Pass,
            },
            Some(open) => {
                if open.join(frame, out, self.trust) {
                    Push::Taken
                } else if is_candidate(frame) {
                    Push::Full
                } else {
                    Push::Pass
                }
            }
        }
    }

    /// Finishes the frame under construction, in place; `None` when there is none.
    ///
    /// A frame of several segments has a partial checksum then, one of a single segment is as it
    /// was.
    ///
    /// # Errors
    /// None as long as `out` is the buffer that frames were pushed to.
    #[inline]
    pub fn finish(&mut self, out: &mut [u8]) -> Result<Option<Merged>> {
        self.open.take().map(|open| open.finish(out)).transpose()
    }
}

/// The headers of a frame that may start a merged one.
#[inline]
fn candidate(frame: &[u8]) -> Option<(Located<'_>, TcpView<'_>)> {
    let found = Located::parse(frame).ok()?;
    if found.proto != IpProto::TCP || found.end != frame.len() {
        return None;
    }
    let plain = match found.ip {
        Ip::V4(ip) => {
            let odd = Ipv4Frag(ip.frag().0 & !Ipv4Frag::DF);
            ip.header_len() == V4_LEN && odd == Ipv4Frag(0)
        }
        Ip::V6(_, chain) => chain.len == 0,
    };
    let segment = TcpView::parse(found.transport).ok()?;
    let flags = segment.flags();
    let data = flags.any(TcpFlags::ACK) && !flags.any(STOP) && !segment.payload().is_empty();
    (plain && data).then_some((found, segment))
}

/// True when the frame could start a merged one, as far as its headers say.
fn is_candidate(frame: &[u8]) -> bool {
    candidate(frame).is_some_and(|(_, segment)| !segment.flags().any(TcpFlags::PSH))
}

/// Takes the first frame.
fn start(frame: &[u8], out: &mut [u8], trust: Trust) -> Option<Open> {
    let (found, segment) = candidate(frame)?;
    if segment.flags().any(TcpFlags::PSH) || segment.urgent() != 0 {
        return None;
    }
    let next_id = match found.ip {
        Ip::V4(ip) if !ip.checksum_ok() => return None,
        Ip::V4(ip) => ip.id().wrapping_add(1),
        Ip::V6(..) => 0,
    };
    let dst = out.get_mut(..frame.len())?;
    dst[..found.l4].copy_from_slice(&frame[..found.l4]);
    let dst = &mut dst[found.l4..];
    match trust {
        Trust::Verified => dst.copy_from_slice(found.transport),
        Trust::Verify => {
            let sum = found.pseudo_sum(found.transport.len()) + copy_and_sum(dst, found.transport);
            if !sum.is_valid() {
                return None;
            }
        }
    }
    let size = segment.payload().len();
    Some(Open {
        l3: found.l3,
        l4: found.l4,
        body: frame.len() - size,
        v6: matches!(found.ip, Ip::V6(..)),
        size,
        len: frame.len(),
        segments: 1,
        next_seq: segment.seq().wrapping_add(size as u32),
        next_id,
        closed: false,
        pushed: false,
    })
}

impl Open {
    /// Appends the payload of `frame` when it is the next segment.
    #[inline]
    fn join(&mut self, frame: &[u8], out: &mut [u8], trust: Trust) -> bool {
        let Some(size) = frame.len().checked_sub(self.body) else {
            return false;
        };
        let len = self.len + size;
        let too_long = len - self.l3 > ipv4::MAX_PACKET_LEN || len > out.len();
        if self.closed || size == 0 || size > self.size || too_long {
            return false;
        }
        let (header, payload) = frame.split_at(self.body);
        if !self.same_flow(&out[..self.body], header, frame.len()) {
            return false;
        }
        // Written behind the end: it counts only once `len` says so.
        let dst = &mut out[self.len..len];
        match trust {
            Trust::Verified => dst.copy_from_slice(payload),
            Trust::Verify => {
                let fixed = self.pseudo_sum(header, frame.len() - self.l4) + Sum::of(&header[self.l4..]);
                if !(fixed + copy_and_sum(dst, payload)).is_valid() {
                    return false;
                }
            }
        }
        self.pushed = header[self.l4 + tcp::field::LEN_FLAGS + 1] & TcpFlags::PSH as u8 != 0;
        self.closed = self.pushed || size < self.size;
        self.len = len;
        self.segments += 1;
        self.next_seq = self.next_seq.wrapping_add(size as u32);
        self.next_id = self.next_id.wrapping_add(1);
        true
    }

    /// Compares the headers of the first frame with those of another that is `len` bytes long.
    #[inline]
    fn same_flow(&self, first: &[u8], other: &[u8], len: usize) -> bool {
        let same = |from: usize, to: usize| first[from..to] == other[from..to];
        let number = |at: usize| u16::from_be_bytes(array(other, at));
        let (l3, l4) = (self.l3, self.l4);
        let network = if self.v6 {
            same(0, l3 + ipv6::field::PAYLOAD_LEN)
                && same(l3 + ipv6::field::NEXT_HEADER, l4)
                && usize::from(number(l3 + ipv6::field::PAYLOAD_LEN)) == len - l4
        } else {
            same(0, l3 + ipv4::field::TOTAL_LEN)
                && same(l3 + ipv4::field::FRAG, l3 + ipv4::field::CHECKSUM)
                && same(l3 + ipv4::field::SRC, l4)
                && usize::from(number(l3 + ipv4::field::TOTAL_LEN)) == len - l3
                && number(l3 + ipv4::field::ID) == self.next_id
                && Sum::of(&other[l3..l4]).is_valid()
        };
        let flags = l4 + tcp::field::LEN_FLAGS;
        network
            && u32::from_be_bytes(array(other, l4 + tcp::field::SEQ)) == self.next_seq
            && same(l4, l4 + tcp::field::SEQ)
            && same(l4 + tcp::field::ACK, flags + 1)
            && (first[flags + 1] ^ other[flags + 1]) & !(TcpFlags::PSH as u8) == 0
            && same(l4 + tcp::field::WINDOW, l4 + tcp::field::CHECKSUM)
            && same(l4 + tcp::field::URGENT, self.body)
    }

    /// The pseudo header's sum for `len` bytes of transport, of the addresses in `header`.
    #[inline]
    fn pseudo_sum(&self, header: &[u8], len: usize) -> Sum {
        let (addresses, end) = if self.v6 { (ipv6::field::SRC, V6_LEN) } else { (ipv4::field::SRC, V4_LEN) };
        Sum::of(&header[self.l3 + addresses..self.l3 + end])
            + Sum::word(u16::from(IpProto::TCP.0))
            + Sum::long(len as u32)
    }

    /// Fixes the headers for all segments together.
    fn finish(self, out: &mut [u8]) -> Result<Merged> {
        let Self { len, segments, l3, l4, .. } = self;
        if segments == 1 {
            return Ok(Merged { len, segments, hdr: VnetHdr { csum: Csum::Valid, ..VnetHdr::default() } });
        }
        let frame = room("merge", out, len)?;
        set_packet_len(&mut frame[l3..], len - l3)?;
        if self.pushed {
            frame[l4 + tcp::field::LEN_FLAGS + 1] |= TcpFlags::PSH as u8;
        }
        let sum = self.pseudo_sum(frame, len - l4).value();
        put16(frame, l4 + tcp::field::CHECKSUM, sum);
        let kind = if self.v6 { GsoKind::TcpV6 } else { GsoKind::TcpV4 };
        let gso = Gso { kind, size: self.size as u16, ecn: false, hdr_len: self.body as u16 };
        let csum = Csum::Partial { start: l4 as u16, offset: tcp::field::CHECKSUM as u16 };
        Ok(Merged { len, segments, hdr: VnetHdr { csum, gso: Some(gso), num_buffers: 0 } })
    }
}

#[cfg(test)]
mod tests;
