//! What did the other side of a virtual device leave to be done on a frame? (virtio 1.2 §5.1.6)
//!
//! The header travels before each frame on TAP and AF_PACKET sockets with virtio headers on, and
//! on virtio-net queues: a checksum still to be completed, a segmentation still to be done.

use crate::bytes::{be16, room};
use crate::checksum::Sum;
use crate::locate::{Ip, Located};
use crate::tcp::TcpView;
use crate::{Error, IpProto, Result, tcp, udp};

const LAYER: &str = "virtio_net_hdr";

/// Byte offsets inside the header.
pub mod field {
    /// Flags, 1 byte.
    pub const FLAGS: usize = 0;
    /// Type of segmentation, 1 byte.
    pub const GSO_TYPE: usize = 1;
    /// Bytes of all headers of the frame (a hint), 2 bytes.
    pub const HDR_LEN: usize = 2;
    /// Payload bytes of a segment, 2 bytes.
    pub const GSO_SIZE: usize = 4;
    /// Where checksumming starts, 2 bytes.
    pub const CSUM_START: usize = 6;
    /// Where the checksum is put, counted from there, 2 bytes.
    pub const CSUM_OFFSET: usize = 8;
    /// Number of merged receive buffers, 2 bytes; only in the 12 byte form.
    pub const NUM_BUFFERS: usize = 10;
}

/// Bits and values of the raw header.
pub mod raw {
    /// Flag: the checksum is to be completed.
    pub const F_NEEDS_CSUM: u8 = 1;
    /// Flag: the checksum was verified.
    pub const F_DATA_VALID: u8 = 2;
    /// No segmentation.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// IP fragmentation of a UDP datagram (UFO).
    pub const GSO_UDP: u8 = 3;
    /// TCP over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP segmentation (USO).
    pub const GSO_UDP_L4: u8 = 5;
    /// Added to a TCP type: the first segment alone keeps CWR.
    pub const GSO_ECN: u8 = 0x80;
}

/// The two lengths of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VnetForm {
    /// 10 bytes: legacy devices, and TAP unless told otherwise.
    Legacy,
    /// 12 bytes, with a number of buffers: virtio 1.0, and mergeable receive buffers.
    Mrg,
}

impl VnetForm {
    /// Bytes of the header.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Legacy => 10,
            Self::Mrg => 12,
        }
    }

    /// False: no form is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }
}

/// The order of the header's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// That of the machine: TAP and AF_PACKET.
    Native,
    /// Little-endian: virtio 1.0 devices.
    Little,
}

impl ByteOrder {
    #[inline]
    const fn get(self, b: [u8; 2]) -> u16 {
        match self {
            Self::Native => u16::from_ne_bytes(b),
            Self::Little => u16::from_le_bytes(b),
        }
    }

    #[inline]
    const fn put(self, n: u16) -> [u8; 2] {
        match self {
            Self::Native => n.to_ne_bytes(),
            Self::Little => n.to_le_bytes(),
        }
    }
}

/// The state of the transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Csum {
    /// It stands in the frame and was not looked at.
    #[default]
    None,
    /// It was verified, or is known to be right by its path.
    Valid,
    /// It is to be completed: the field holds the pseudo header's sum.
    Partial {
        /// Offset in the frame from which to sum to the end.
        start: u16,
        /// Offset of the field, counted from `start`.
        offset: u16,
    },
}

/// How a frame is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// One UDP datagram, to be fragmented by IP (UFO).
    Udp,
    /// UDP datagrams of equal size (USO).
    UdpL4,
}

/// A segmentation still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gso {
    /// How to cut.
    pub kind: GsoKind,
    /// Payload bytes of each segment but the last; never 0.
    pub size: u16,
    /// TCP: the first segment alone keeps CWR.
    pub ecn: bool,
    /// Bytes of all headers, as a hint that is never trusted; 0: not given.
    pub hdr_len: u16,
}

/// What is still to be done on a frame. The default is: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct VnetHdr {
    /// The transport checksum.
    pub csum: Csum,
    /// The segmentation.
    pub gso: Option<Gso>,
    /// Receive buffers that the frame takes; only in the 12 byte form, 0 elsewhere.
    pub num_buffers: u16,
}

impl VnetHdr {
    /// Reads the header at the start of `bytes`; the frame follows after `form.len()` bytes.
    ///
    /// # Errors
    /// `Truncated` when the header is not whole; `Malformed` for an unknown type of segmentation,
    /// a segment size of 0, or ECN without TCP. What it says about the frame is judged by
    /// [`Self::validate`].
    #[inline]
    pub fn parse(bytes: &[u8], form: VnetForm, order: ByteOrder) -> Result<Self> {
        let bytes = bytes.get(..form.len()).ok_or(Error::truncated(LAYER))?;
        let get = |at: usize| order.get([bytes[at], bytes[at + 1]]);
        let flags = bytes[field::FLAGS];
        let csum = if flags & raw::F_NEEDS_CSUM != 0 {
            Csum::Partial { start: get(field::CSUM_START), offset: get(field::CSUM_OFFSET) }
        } else if flags & raw::F_DATA_VALID != 0 {
            Csum::Valid
        } else {
            Csum::None
        };
        let gso_type = bytes[field::GSO_TYPE];
        let ecn = gso_type & raw::GSO_ECN != 0;
        let kind = match (gso_type & !raw::GSO_ECN, ecn) {
            (raw::GSO_NONE, false) => None,
            (raw::GSO_TCPV4, _) => Some(GsoKind::TcpV4),
            (raw::GSO_TCPV6, _) => Some(GsoKind::TcpV6),
            (raw::GSO_UDP, false) => Some(GsoKind::Udp),
            (raw::GSO_UDP_L4, false) => Some(GsoKind::UdpL4),
            _ => return Err(Error::malformed(LAYER, "gso_type")),
        };
        let gso = match kind {
            None => None,
            Some(kind) => {
                let (size, hdr_len) = (get(field::GSO_SIZE), get(field::HDR_LEN));
                if size == 0 {
                    return Err(Error::malformed(LAYER, "gso_size"));
                }
                Some(Gso { kind, size, ecn, hdr_len })
            }
        };
        let num_buffers = if form == VnetForm::Mrg { get(field::NUM_BUFFERS) } else { 0 };
        Ok(Self { csum, gso, num_buffers })
    }

    /// Writes the header at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than `form.len()`.
    #[inline]
    pub fn emit(&self, buf: &mut [u8], form: VnetForm, order: ByteOrder) -> Result<usize> {
        let buf = room(LAYER, buf, form.len())?;
        buf.fill(0);
        let mut put = |at: usize, n: u16| buf[at..at + 2].copy_from_slice(&order.put(n));
        let mut flags = 0;
        match self.csum {
            Csum::None => {}
            Csum::Valid => flags = raw::F_DATA_VALID,
            Csum::Partial { start, offset } => {
                flags = raw::F_NEEDS_CSUM;
                put(field::CSUM_START, start);
                put(field::CSUM_OFFSET, offset);
            }
        }
        let mut gso_type = raw::GSO_NONE;
        if let Some(gso) = self.gso {
            put(field::HDR_LEN, gso.hdr_len);
            put(field::GSO_SIZE, gso.size);
            gso_type = match gso.kind {
                GsoKind::TcpV4 => raw::GSO_TCPV4,
                GsoKind::TcpV6 => raw::GSO_TCPV6,
                GsoKind::Udp => raw::GSO_UDP,
                GsoKind::UdpL4 => raw::GSO_UDP_L4,
            } | if gso.ecn { raw::GSO_ECN } else { 0 };
        }
        if form == VnetForm::Mrg {
            put(field::NUM_BUFFERS, self.num_buffers);
        }
        buf[field::FLAGS] = flags;
        buf[field::GSO_TYPE] = gso_type;
        Ok(form.len())
    }

    /// True when the frame can be sent as it is by a port that can do nothing for it.
    #[inline]
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.gso.is_none() && !matches!(self.csum, Csum::Partial { .. })
    }

    /// Checks what the header says about a frame against the frame, cheaply: that the checksum
    /// field is inside it, and for segmentation that the stated header length is.
    ///
    /// [`crate::segment::Segmenter`] checks the protocol itself when it comes to segmenting.
    ///
    /// # Errors
    /// `Malformed`.
    #[inline]
    pub fn validate(&self, frame: &[u8]) -> Result<()> {
        if let Csum::Partial { start, offset } = self.csum
            && usize::from(start) + usize::from(offset) + 2 > frame.len()
        {
            return Err(Error::malformed(LAYER, "csum_start"));
        }
        if let Some(gso) = self.gso {
            if gso.size == 0 {
                return Err(Error::malformed(LAYER, "gso_size"));
            }
            if usize::from(gso.hdr_len) > frame.len() {
                return Err(Error::malformed(LAYER, "hdr_len"));
            }
        }
        Ok(())
    }

    /// Moves what the header says by `by` bytes, after headers of that length were put before
    /// the transport header (negative: taken away).
    ///
    /// # Errors
    /// `Malformed` when an offset would leave its range.
    #[inline]
    pub fn shift(&mut self, by: i32) -> Result<()> {
        let moved = |n: u16| {
            u16::try_from(i32::from(n).saturating_add(by)).map_err(|_| Error::malformed(LAYER, "shift"))
        };
        if let Csum::Partial { start, .. } = &mut self.csum {
            *start = moved(*start)?;
        }
        if let Some(gso) = &mut self.gso
            && gso.hdr_len != 0
        {
            gso.hdr_len = moved(gso.hdr_len)?;
        }
        Ok(())
    }
}

/// Completes a partial checksum in `frame` and says so in `hdr`; does nothing when there is none.
///
/// # Errors
/// `Malformed` when the field is not inside the frame; `Unsupported` when the frame is still to
/// be segmented, which completes the checksums on its way. The frame is unchanged then.
#[inline]
pub fn complete_checksum(frame: &mut [u8], hdr: &mut VnetHdr) -> Result<()> {
    let Csum::Partial { start, offset } = hdr.csum else {
        return Ok(());
    };
    // A datagram that IP is to fragment has one checksum, over the whole.
    if hdr.gso.is_some_and(|gso| gso.kind != GsoKind::Udp) {
        return Err(Error::unsupported(LAYER, "one checksum for many segments"));
    }
    let (start, offset) = (usize::from(start), usize::from(offset));
    let summed = frame.get_mut(start..).ok_or(Error::malformed(LAYER, "csum_start"))?;
    let sum = Sum::of(summed);
    let field = summed.get_mut(offset..offset + 2).ok_or(Error::malformed(LAYER, "csum_offset"))?;
    let checksum = if offset == udp::field::CHECKSUM { sum.finish_nonzero() } else { sum.finish() };
    field.copy_from_slice(&checksum.to_be_bytes());
    hdr.csum = Csum::None;
    Ok(())
}

/// Makes the checksum of a TCP or UDP frame partial, so that a port that can complete it does.
///
/// Returns the state to put into [`VnetHdr::csum`]; the frame's checksum field then holds the
/// pseudo header's sum.
///
/// # Errors
/// As the views; `Unsupported` for other protocols and for fragments.
pub fn make_partial(frame: &mut [u8]) -> Result<Csum> {
    let found = Located::parse(frame)?;
    let offset = match found.proto {
        IpProto::TCP => tcp::field::CHECKSUM,
        IpProto::UDP => udp::field::CHECKSUM,
        _ => return Err(Error::unsupported(LAYER, "partial checksum of this protocol")),
    };
    if found.is_fragment() || found.is_source_routed() {
        return Err(Error::unsupported(LAYER, "partial checksum of fragments"));
    }
    let start = found.l4;
    let sum = found.pseudo_sum(found.transport.len()).value();
    let at = start + offset;
    let field = frame.get_mut(at..at + 2).ok_or(Error::truncated("transport"))?;
    field.copy_from_slice(&sum.to_be_bytes());
    let start = u16::try_from(start).map_err(|_| Error::malformed(LAYER, "csum_start"))?;
    Ok(Csum::Partial { start, offset: offset as u16 })
}

/// What is still to be done on a frame that came without a header, judged by the frame itself.
///
/// A kernel that hands a tunnel's packet to a socket of the same machine leaves the inner packet
/// as it was sent: its checksum partial, its TCP not segmented. Such a checksum field equals the
/// pseudo header's sum; such a packet is longer than `max_packet`, the most bytes of IP packet
/// that the tunnel carries, and its segments are taken to have had that length.
///
/// A complete checksum that equals the pseudo header's sum by chance is computed anew, to the same
/// value. Frames that are no TCP or UDP over IP need nothing.
#[must_use]
pub fn infer(frame: &[u8], max_packet: usize) -> VnetHdr {
    let done = VnetHdr::default();
    let Ok(found) = Located::parse(frame) else { return done };
    let offset = match found.proto {
        IpProto::TCP => tcp::field::CHECKSUM,
        IpProto::UDP => udp::field::CHECKSUM,
        _ => return done,
    };
    let Ok(start) = u16::try_from(found.l4) else { return done };
    let field = found.transport.get(offset..).and_then(|rest| rest.first_chunk::<2>());
    let partial = found.pseudo_sum(found.transport.len()).value();
    if found.is_fragment() || field.is_none_or(|field| u16::from_be_bytes(*field) != partial) {
        return done;
    }
    let csum = Csum::Partial { start, offset: offset as u16 };
    VnetHdr { csum, gso: infer_gso(&found, max_packet), num_buffers: 0 }
}

/// The segmentation of a TCP packet that is longer than `max_packet`.
fn infer_gso(found: &Located<'_>, max_packet: usize) -> Option<Gso> {
    if found.proto != IpProto::TCP || found.end - found.l3 <= max_packet {
        return None;
    }
    let headers = found.l4 - found.l3 + TcpView::parse(found.transport).ok()?.header_len();
    let size = u16::try_from(max_packet.checked_sub(headers)?).ok().filter(|size| *size != 0)?;
    let kind = if matches!(found.ip, Ip::V4(_)) { GsoKind::TcpV4 } else { GsoKind::TcpV6 };
    Some(Gso { kind, size, ecn: false, hdr_len: u16::try_from(found.l3 + headers).ok()? })
}

/// The checksum field of a header, read where [`Csum::Partial`] says it is.
pub(crate) fn partial_sum(frame: &[u8], start: usize, offset: usize) -> Result<Sum> {
    let field = frame.get(start + offset..).and_then(|rest| rest.first_chunk::<2>());
    Ok(Sum::word(be16(field.ok_or(Error::malformed(LAYER, "csum_offset"))?, 0)))
}

#[cfg(test)]
mod tests;
