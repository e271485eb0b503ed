//! How is a TCP header laid out? (RFC 9293 §3.1)

use core::fmt;

use crate::bytes::{be16, be32, head, head_mut, put16, put32, room};
use crate::checksum::Sum;
use crate::{Error, Result};

const LAYER: &str = "tcp";

/// Bytes of the header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;

/// Byte offsets inside the header.
pub mod field {
    /// Source port, 2 bytes.
    pub const SRC_PORT: usize = 0;
    /// Destination port, 2 bytes.
    pub const DST_PORT: usize = 2;
    /// Sequence number, 4 bytes.
    pub const SEQ: usize = 4;
    /// Acknowledgment number, 4 bytes.
    pub const ACK: usize = 8;
    /// Header length in words of 4 bytes (4 bits) and flags (12 bits).
    pub const LEN_FLAGS: usize = 12;
    /// Window, 2 bytes.
    pub const WINDOW: usize = 14;
    /// Checksum over pseudo header, header and payload, 2 bytes.
    pub const CHECKSUM: usize = 16;
    /// Urgent pointer, 2 bytes.
    pub const URGENT: usize = 18;
    /// Options, up to 40 bytes.
    pub const OPTIONS: usize = 20;
}

/// The twelve flag bits, the reserved ones among them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TcpFlags(pub u16);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u16 = 0x001;
    /// Synchronise sequence numbers.
    pub const SYN: u16 = 0x002;
    /// Reset the connection.
    pub const RST: u16 = 0x004;
    /// Push.
    pub const PSH: u16 = 0x008;
    /// The acknowledgment number counts.
    pub const ACK: u16 = 0x010;
    /// The urgent pointer counts.
    pub const URG: u16 = 0x020;
    /// ECN echo (RFC 3168).
    pub const ECE: u16 = 0x040;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u16 = 0x080;
    /// Accurate ECN (RFC 9768), once the nonce sum.
    pub const AE: u16 = 0x100;
    /// All twelve bits.
    pub const MASK: u16 = 0xfff;

    /// True when any of the bits is set.
    #[inline]
    #[must_use]
    pub const fn any(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#05x}", self.0)
    }
}

/// A checked view of a TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct TcpView<'a> {
    head: &'a [u8; MIN_HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> TcpView<'a> {
    /// Checks the header's length.
    ///
    /// # Errors
    /// `Truncated` when the header ends early, `Malformed` when its length is below 20 bytes.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, rest) = head::<MIN_HEADER_LEN>(LAYER, bytes)?;
        let header_len = usize::from(head[field::LEN_FLAGS] >> 4) * 4;
        let options_len =
            header_len.checked_sub(MIN_HEADER_LEN).ok_or(Error::malformed(LAYER, "header length"))?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Error::truncated(LAYER))?;
        Ok(Self { head, options, payload })
    }

    /// Bytes of the header, options included.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Source port.
    #[inline]
    #[must_use]
    pub fn src_port(&self) -> u16 {
        be16(self.head, field::SRC_PORT)
    }

    /// Destination port.
    #[inline]
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        be16(self.head, field::DST_PORT)
    }

    /// Sequence number.
    #[inline]
    #[must_use]
    pub fn seq(&self) -> u32 {
        be32(self.head, field::SEQ)
    }

    /// Acknowledgment number.
    #[inline]
    #[must_use]
    pub fn ack(&self) -> u32 {
        be32(self.head, field::ACK)
    }

    /// The flags.
    #[inline]
    #[must_use]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(be16(self.head, field::LEN_FLAGS) & TcpFlags::MASK)
    }

    /// Window.
    #[inline]
    #[must_use]
    pub fn window(&self) -> u16 {
        be16(self.head, field::WINDOW)
    }

    /// Checksum, as it stands.
    #[inline]
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16(self.head, field::CHECKSUM)
    }

    /// Urgent pointer.
    #[inline]
    #[must_use]
    pub fn urgent(&self) -> u16 {
        be16(self.head, field::URGENT)
    }

    /// The options, padding included: 0–40 bytes.
    #[inline]
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        self.options
    }

    /// The payload.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// True when the checksum is right. `pseudo` is the pseudo header's sum.
    #[inline]
    #[must_use]
    pub fn checksum_ok(&self, pseudo: Sum) -> bool {
        (pseudo + Sum::of(self.head) + Sum::of(self.options) + Sum::of(self.payload)).is_valid()
    }
}

/// A TCP header as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpRepr<'a> {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// The flags; twelve bits are written.
    pub flags: TcpFlags,
    /// Window.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options: at most 40 bytes, a multiple of 4.
    pub options: &'a [u8],
}

impl<'a> TcpRepr<'a> {
    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &TcpView<'a>) -> Self {
        Self {
            src_port: view.src_port(),
            dst_port: view.dst_port(),
            seq: view.seq(),
            ack: view.ack(),
            flags: view.flags(),
            window: view.window(),
            urgent: view.urgent(),
            options: view.options,
        }
    }

    /// Bytes of the header, options included.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Writes the header at the start of `buf` and returns its length. The checksum is left 0:
    /// see [`fill_checksum`].
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short; `Malformed` when the options are not as documented.
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let options_len = self.options.len();
        if options_len > MAX_HEADER_LEN - MIN_HEADER_LEN || !options_len.is_multiple_of(4) {
            return Err(Error::malformed(LAYER, "options"));
        }
        let header_len = self.header_len();
        let buf = room(LAYER, buf, header_len)?;
        put16(buf, field::SRC_PORT, self.src_port);
        put16(buf, field::DST_PORT, self.dst_port);
        put32(buf, field::SEQ, self.seq);
        put32(buf, field::ACK, self.ack);
        put16(buf, field::LEN_FLAGS, ((header_len as u16 / 4) << 12) | self.flags.0 & TcpFlags::MASK);
        put16(buf, field::WINDOW, self.window);
        put16(buf, field::CHECKSUM, 0);
        put16(buf, field::URGENT, self.urgent);
        buf[field::OPTIONS..].copy_from_slice(self.options);
        Ok(header_len)
    }
}

/// Computes the checksum of `segment` (header and payload, nothing behind) and writes it.
///
/// # Errors
/// `NoSpace` when the fixed header is not there.
#[inline]
pub fn fill_checksum(segment: &mut [u8], pseudo: Sum) -> Result<()> {
    let (head, rest) = head_mut::<MIN_HEADER_LEN>(LAYER, segment)?;
    put16(head, field::CHECKSUM, 0);
    let checksum = (pseudo + Sum::of(head) + Sum::of(rest)).finish();
    put16(head, field::CHECKSUM, checksum);
    Ok(())
}
