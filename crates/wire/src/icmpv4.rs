//! How is an ICMP message laid out? (RFC 792, RFC 1191)

use core::net::Ipv4Addr;

use crate::Result;
use crate::bytes::{array, be16, head, put, put16, room};
use crate::checksum::Sum;

const LAYER: &str = "icmp";

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// Byte offsets inside the message.
pub mod field {
    /// Type, 1 byte.
    pub const TYPE: usize = 0;
    /// Code, 1 byte.
    pub const CODE: usize = 1;
    /// Checksum over the whole message, 2 bytes.
    pub const CHECKSUM: usize = 2;
    /// Four bytes whose meaning depends on the type.
    pub const REST: usize = 4;
    /// Echo: identifier, 2 bytes.
    pub const ECHO_ID: usize = 4;
    /// Echo: sequence number, 2 bytes.
    pub const ECHO_SEQ: usize = 6;
    /// Destination unreachable, fragmentation needed: MTU of the next hop, 2 bytes.
    pub const NEXT_HOP_MTU: usize = 6;
}

/// Message types.
pub mod ty {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench (deprecated).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Codes of "destination unreachable".
pub mod unreachable {
    /// Network unreachable.
    pub const NET: u8 = 0;
    /// Host unreachable.
    pub const HOST: u8 = 1;
    /// Protocol unreachable.
    pub const PROTOCOL: u8 = 2;
    /// Port unreachable.
    pub const PORT: u8 = 3;
    /// Fragmentation needed and "don't fragment" set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Communication administratively prohibited.
    pub const PROHIBITED: u8 = 13;
}

/// True for messages that report an error and quote the packet that caused it. No error is sent
/// about these (RFC 1122 §3.2.2).
#[inline]
#[must_use]
pub const fn is_error(ty: u8) -> bool {
    matches!(
        ty,
        ty::UNREACHABLE | ty::SOURCE_QUENCH | ty::REDIRECT | ty::TIME_EXCEEDED | ty::PARAMETER_PROBLEM
    )
}

/// A checked view of an ICMP message.
#[derive(Debug, Clone, Copy)]
pub struct Icmpv4View<'a> {
    bytes: &'a [u8],
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Icmpv4View<'a> {
    /// Checks that the header is there.
    ///
    /// # Errors
    /// `Truncated` when `bytes` are shorter than [`HEADER_LEN`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, payload) = head(LAYER, bytes)?;
        Ok(Self { bytes, head, payload })
    }

    /// Type: one of [`ty`].
    #[inline]
    #[must_use]
    pub fn ty(&self) -> u8 {
        self.head[field::TYPE]
    }

    /// Code.
    #[inline]
    #[must_use]
    pub fn code(&self) -> u8 {
        self.head[field::CODE]
    }

    /// Checksum, as it stands.
    #[inline]
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16(self.head, field::CHECKSUM)
    }

    /// The four bytes that depend on the type.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> [u8; 4] {
        array(self.head, field::REST)
    }

    /// Echo: identifier.
    #[inline]
    #[must_use]
    pub fn echo_id(&self) -> u16 {
        be16(self.head, field::ECHO_ID)
    }

    /// What follows the header: echo data, or the packet that an error quotes.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// True when the checksum is right.
    #[inline]
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        Sum::of(self.bytes).is_valid()
    }
}

/// What a message says, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Icmpv4Message {
    /// Are you there?
    EchoRequest {
        /// Identifier of the asker.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// I am.
    EchoReply {
        /// Identifier of the asker.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// The packet is too big for the next hop and may not be fragmented.
    FragmentationNeeded {
        /// MTU of the next hop in bytes; 0 from routers older than RFC 1191.
        mtu: u16,
    },
    /// The packet could not be delivered.
    Unreachable {
        /// One of [`mod@unreachable`], not `FRAGMENTATION_NEEDED`.
        code: u8,
    },
    /// There is a better first hop.
    Redirect {
        /// Network (0), host (1), or either with type of service (2, 3).
        code: u8,
        /// The better hop.
        gateway: Ipv4Addr,
    },
    /// The packet lived too long.
    TimeExceeded {
        /// In transit (0) or in reassembly (1).
        code: u8,
    },
    /// Anything else, or one of the above with bits set in an unused field.
    Other {
        /// Type.
        ty: u8,
        /// Code.
        code: u8,
        /// The four bytes that depend on the type.
        rest: [u8; 4],
    },
}

/// An ICMP message as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Icmpv4Repr<'a> {
    /// What it says.
    pub message: Icmpv4Message,
    /// Echo data, or the packet that an error quotes.
    pub payload: &'a [u8],
}

impl<'a> Icmpv4Repr<'a> {
    /// Reads the fields of a view.
    #[must_use]
    pub fn parse(view: &Icmpv4View<'a>) -> Self {
        use Icmpv4Message as M;
        let (ty, code, rest) = (view.ty(), view.code(), view.rest());
        let [a, b, c, d] = rest;
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let message = match (ty, code) {
            (ty::ECHO_REQUEST, 0) => M::EchoRequest { id: high, seq: low },
            (ty::ECHO_REPLY, 0) => M::EchoReply { id: high, seq: low },
            (ty::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED) if high == 0 => {
                M::FragmentationNeeded { mtu: low }
            }
            (ty::UNREACHABLE, code) if rest == [0; 4] => M::Unreachable { code },
            (ty::REDIRECT, code) => M::Redirect { code, gateway: rest.into() },
            (ty::TIME_EXCEEDED, code) if rest == [0; 4] => M::TimeExceeded { code },
            (ty, code) => M::Other { ty, code, rest },
        };
        Self { message, payload: view.payload }
    }

    /// Bytes of header and payload.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// Writes header, payload and checksum at the start of `buf` and returns their length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        use Icmpv4Message as M;
        let words = |a: u16, b: u16| {
            let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
            [a, b, c, d]
        };
        let (ty, code, rest) = match self.message {
            M::EchoRequest { id, seq } => (ty::ECHO_REQUEST, 0, words(id, seq)),
            M::EchoReply { id, seq } => (ty::ECHO_REPLY, 0, words(id, seq)),
            M::FragmentationNeeded { mtu } => {
                (ty::UNREACHABLE, unreachable::FRAGMENTATION_NEEDED, words(0, mtu))
            }
            M::Unreachable { code } => (ty::UNREACHABLE, code, [0; 4]),
            M::Redirect { code, gateway } => (ty::REDIRECT, code, gateway.octets()),
            M::TimeExceeded { code } => (ty::TIME_EXCEEDED, code, [0; 4]),
            M::Other { ty, code, rest } => (ty, code, rest),
        };
        let buf = room(LAYER, buf, self.wire_len())?;
        buf[field::TYPE] = ty;
        buf[field::CODE] = code;
        put16(buf, field::CHECKSUM, 0);
        put(buf, field::REST, rest);
        buf[HEADER_LEN..].copy_from_slice(self.payload);
        let checksum = Sum::of(buf).finish();
        put16(buf, field::CHECKSUM, checksum);
        Ok(buf.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_round_trip(
            ty in prop_oneof![Just(0u8), Just(3), Just(5), Just(8), Just(11), any::<u8>()],
            code in 0u8..6, rest in prop_oneof![Just([0u8; 4]), any::<[u8; 4]>()],
            payload in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let other = Icmpv4Repr { message: Icmpv4Message::Other { ty, code, rest }, payload: &payload };
            let mut bytes = vec![0; other.wire_len()];
            other.emit(&mut bytes).unwrap();
            let view = Icmpv4View::parse(&bytes).unwrap();
            prop_assert!(view.checksum_ok());
            let repr = Icmpv4Repr::parse(&view);
            let mut again = vec![0xff; repr.wire_len()];
            repr.emit(&mut again).unwrap();
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn messages() {
        let view = |bytes: &'static [u8]| Icmpv4Repr::parse(&Icmpv4View::parse(bytes).unwrap()).message;
        assert_eq!(view(&[8, 0, 0, 0, 0, 1, 0, 2]), Icmpv4Message::EchoRequest { id: 1, seq: 2 });
        assert_eq!(view(&[3, 4, 0, 0, 0, 0, 5, 0x78]), Icmpv4Message::FragmentationNeeded { mtu: 1400 });
        assert_eq!(view(&[3, 1, 0, 0, 0, 0, 0, 0]), Icmpv4Message::Unreachable { code: 1 });
        assert!(Icmpv4View::parse(&[0; 7]).is_err());
        assert!(is_error(ty::UNREACHABLE) && !is_error(ty::ECHO_REPLY));
    }
}
