//! What do the options of a TCP segment say? (RFC 9293 §3.2, RFC 7323, RFC 2018)

use crate::bytes::{put16, put32, room};
use crate::{Error, Result};

const LAYER: &str = "tcp option";

/// Option kinds.
pub mod kind {
    /// End of the list.
    pub const END: u8 = 0;
    /// Padding.
    pub const NOP: u8 = 1;
    /// Maximum segment size.
    pub const MSS: u8 = 2;
    /// Window scale.
    pub const WINDOW_SCALE: u8 = 3;
    /// Selective acknowledgments permitted.
    pub const SACK_PERMITTED: u8 = 4;
    /// Selective acknowledgments.
    pub const SACK: u8 = 5;
    /// Timestamps.
    pub const TIMESTAMPS: u8 = 8;
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TcpOption<'a> {
    /// Padding of one byte.
    Nop,
    /// Maximum segment size that the sender takes.
    Mss(u16),
    /// Shift count of the sender's windows.
    WindowScale(u8),
    /// Selective acknowledgments may be sent.
    SackPermitted,
    /// Selective acknowledgments: pairs of sequence numbers, 8 bytes each.
    Sack(&'a [u8]),
    /// Timestamp of the sender, and the one it echoes.
    Timestamps {
        /// The sender's clock.
        value: u32,
        /// The peer's clock, echoed.
        echo: u32,
    },
    /// Any other kind, or a known kind with a length that is not its own.
    Other {
        /// Option kind.
        kind: u8,
        /// What follows kind and length.
        data: &'a [u8],
    },
}

impl<'a> TcpOption<'a> {
    fn decode(kind: u8, data: &'a [u8]) -> Self {
        match (kind, data) {
            (kind::MSS, &[a, b]) => Self::Mss(u16::from_be_bytes([a, b])),
            (kind::WINDOW_SCALE, &[shift]) => Self::WindowScale(shift),
            (kind::SACK_PERMITTED, []) => Self::SackPermitted,
            (kind::SACK, blocks) if blocks.len().is_multiple_of(8) => Self::Sack(blocks),
            (kind::TIMESTAMPS, &[a, b, c, d, e, f, g, h]) => Self::Timestamps {
                value: u32::from_be_bytes([a, b, c, d]),
                echo: u32::from_be_bytes([e, f, g, h]),
            },
            _ => Self::Other { kind, data },
        }
    }

    /// Bytes of the option on the wire.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Nop => 1,
            Self::SackPermitted => 2,
            Self::WindowScale(_) => 3,
            Self::Mss(_) => 4,
            Self::Timestamps { .. } => 10,
            Self::Sack(data) | Self::Other { data, .. } => 2 + data.len(),
        }
    }

    /// False: an option has at least its kind.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Writes the option at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short; `Malformed` when the data is longer than an option can
    /// hold.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let len = self.len();
        let len_byte = u8::try_from(len).map_err(|_| Error::malformed(LAYER, "length"))?;
        let buf = room(LAYER, buf, len)?;
        buf[0] = match self {
            Self::Nop => {
                buf[0] = kind::NOP;
                return Ok(len);
            }
            Self::Mss(_) => kind::MSS,
            Self::WindowScale(_) => kind::WINDOW_SCALE,
            Self::SackPermitted => kind::SACK_PERMITTED,
            Self::Sack(_) => kind::SACK,
            Self::Timestamps { .. } => kind::TIMESTAMPS,
            Self::Other { kind, .. } => *kind,
        };
        buf[1] = len_byte;
        match *self {
            Self::Nop | Self::SackPermitted => {}
            Self::Mss(mss) => put16(buf, 2, mss),
            Self::WindowScale(shift) => buf[2] = shift,
            Self::Timestamps { value, echo } => {
                put32(buf, 2, value);
                put32(buf, 6, echo);
            }
            Self::Sack(data) | Self::Other { data, .. } => buf[2..].copy_from_slice(data),
        }
        Ok(len)
    }
}

/// The options of a header, in order; ends at the end-of-list option or with an error.
#[derive(Debug, Clone)]
pub struct TcpOptions<'a> {
    rest: &'a [u8],
}

impl<'a> TcpOptions<'a> {
    /// Reads what [`crate::tcp::TcpView::options`] gives.
    #[must_use]
    pub const fn new(options: &'a [u8]) -> Self {
        Self { rest: options }
    }
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = Result<TcpOption<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&kind, rest) = self.rest.split_first()?;
        match kind {
            kind::END => None,
            kind::NOP => {
                self.rest = rest;
                Some(Ok(TcpOption::Nop))
            }
            _ => {
                let all = core::mem::take(&mut self.rest);
                let Some(&len) = rest.first() else {
                    return Some(Err(Error::truncated(LAYER)));
                };
                if len < 2 {
                    return Some(Err(Error::malformed(LAYER, "length")));
                }
                let Some((option, after)) = all.split_at_checked(usize::from(len)) else {
                    return Some(Err(Error::truncated(LAYER)));
                };
                self.rest = after;
                Some(Ok(TcpOption::decode(kind, &option[2..])))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpProto;
    use crate::checksum::Sum;
    use crate::tcp::{MIN_HEADER_LEN, TcpFlags, TcpRepr, TcpView, fill_checksum};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn header_round_trip(
            ports in any::<(u16, u16)>(), numbers in any::<(u32, u32)>(), flags in 0u16..0x1000,
            window: u16, urgent: u16, words in 0usize..=10, fill: u8,
            payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let options = vec![fill; words * 4];
            let repr = TcpRepr {
                src_port: ports.0, dst_port: ports.1, seq: numbers.0, ack: numbers.1,
                flags: TcpFlags(flags), window, urgent, options: &options,
            };
            let mut buf = vec![0; repr.header_len()];
            repr.emit(&mut buf).unwrap();
            buf.extend(&payload);
            let pseudo =
                Sum::pseudo_v4([1, 1, 1, 1].into(), [2, 2, 2, 2].into(), IpProto::TCP, buf.len() as u16);
            fill_checksum(&mut buf, pseudo).unwrap();
            let view = TcpView::parse(&buf).unwrap();
            prop_assert!(view.checksum_ok(pseudo));
            prop_assert_eq!(view.payload(), &payload[..]);
            prop_assert_eq!(TcpRepr::parse(&view), repr);
            buf[4] ^= 1;
            prop_assert!(!TcpView::parse(&buf).unwrap().checksum_ok(pseudo));
        }

        #[test]
        fn options_round_trip(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut out = [0; 40];
            let mut at = 0;
            for option in TcpOptions::new(&bytes) {
                match option {
                    Ok(option) => at += option.emit(&mut out[at..]).unwrap(),
                    Err(_) => break,
                }
            }
            prop_assert_eq!(&out[..at], &bytes[..at]);
        }
    }

    #[test]
    fn a_usual_syn() {
        let bytes = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7, 0, 0, 0, 0];
        let options: Vec<_> = TcpOptions::new(&bytes).map(|o| o.unwrap()).collect();
        let want = [
            TcpOption::Mss(1460),
            TcpOption::SackPermitted,
            TcpOption::Timestamps { value: 1, echo: 2 },
            TcpOption::Nop,
            TcpOption::WindowScale(7),
        ];
        assert_eq!(options, want);
    }

    #[test]
    fn bad_lengths_end_the_list() {
        for bytes in [&[2u8][..], &[2, 0, 0, 0], &[2, 1], &[8, 10, 0]] {
            let mut options = TcpOptions::new(bytes);
            assert!(options.next().unwrap().is_err(), "{bytes:?}");
            assert!(options.next().is_none(), "{bytes:?}");
        }
        let mut head = [0; MIN_HEADER_LEN];
        head[12] = 0x40;
        assert!(TcpView::parse(&head).is_err());
        head[12] = 0x60;
        assert!(TcpView::parse(&head).is_err());
    }
}
