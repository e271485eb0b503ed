//! How is an ICMPv6 message laid out? (RFC 4443)
//!
//! What neighbour discovery puts into these messages is in [`crate::ndp`].

use crate::Result;
use crate::bytes::{array, be16, be32, head, put, put16, room};
use crate::checksum::Sum;

const LAYER: &str = "icmpv6";

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// Byte offsets inside the message.
pub mod field {
    /// Type, 1 byte.
    pub const TYPE: usize = 0;
    /// Code, 1 byte.
    pub const CODE: usize = 1;
    /// Checksum over pseudo header and message, 2 bytes.
    pub const CHECKSUM: usize = 2;
    /// Four bytes whose meaning depends on the type.
    pub const REST: usize = 4;
    /// Echo: identifier, 2 bytes.
    pub const ECHO_ID: usize = 4;
    /// Echo: sequence number, 2 bytes.
    pub const ECHO_SEQ: usize = 6;
}

/// Message types.
pub mod ty {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query (RFC 2710).
    pub const MLD_QUERY: u8 = 130;
    /// Multicast listener report, version 1.
    pub const MLD_REPORT: u8 = 131;
    /// Multicast listener done.
    pub const MLD_DONE: u8 = 132;
    /// Router solicitation.
    pub const ROUTER_SOLICIT: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOR_SOLICIT: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOR_ADVERT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Multicast listener report, version 2 (RFC 3810).
    pub const MLD2_REPORT: u8 = 143;
}

/// Codes of "destination unreachable".
pub mod unreachable {
    /// No route.
    pub const NO_ROUTE: u8 = 0;
    /// Administratively prohibited.
    pub const PROHIBITED: u8 = 1;
    /// Address unreachable.
    pub const ADDRESS: u8 = 3;
    /// Port unreachable.
    pub const PORT: u8 = 4;
}

/// True for messages that report an error. No error is sent about these (RFC 4443 §2.4(e)).
#[inline]
#[must_use]
pub const fn is_error(ty: u8) -> bool {
    ty < 128
}

/// A checked view of an ICMPv6 message.
#[derive(Debug, Clone, Copy)]
pub struct Icmpv6View<'a> {
    bytes: &'a [u8],
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Icmpv6View<'a> {
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

    /// What follows the header.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// True when the checksum is right. `pseudo` is the pseudo header's sum.
    #[inline]
    #[must_use]
    pub fn checksum_ok(&self, pseudo: Sum) -> bool {
        (pseudo + Sum::of(self.bytes)).is_valid()
    }
}

/// What a message says, without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Icmpv6Message {
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
    /// The packet could not be delivered.
    Unreachable {
        /// One of [`mod@unreachable`].
        code: u8,
    },
    /// The packet is too big for the next hop.
    PacketTooBig {
        /// MTU of the next hop in bytes.
        mtu: u32,
    },
    /// The packet lived too long.
    TimeExceeded {
        /// In transit (0) or in reassembly (1).
        code: u8,
    },
    /// A field of the packet is wrong.
    ParameterProblem {
        /// Header field (0), next header (1) or option (2).
        code: u8,
        /// Offset of the field in the quoted packet.
        pointer: u32,
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

/// An ICMPv6 message as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Icmpv6Repr<'a> {
    /// What it says.
    pub message: Icmpv6Message,
    /// Echo data, the packet that an error quotes, or what else follows the header.
    pub payload: &'a [u8],
}

impl<'a> Icmpv6Repr<'a> {
    /// Reads the fields of a view.
    #[must_use]
    pub fn parse(view: &Icmpv6View<'a>) -> Self {
        use Icmpv6Message as M;
        let (ty, code, rest) = (view.ty(), view.code(), view.rest());
        let (high, low) = (be16(&rest, 0), be16(&rest, 2));
        let message = match (ty, code) {
            (ty::ECHO_REQUEST, 0) => M::EchoRequest { id: high, seq: low },
            (ty::ECHO_REPLY, 0) => M::EchoReply { id: high, seq: low },
            (ty::UNREACHABLE, code) if rest == [0; 4] => M::Unreachable { code },
            (ty::PACKET_TOO_BIG, 0) => M::PacketTooBig { mtu: be32(&rest, 0) },
            (ty::TIME_EXCEEDED, code) if rest == [0; 4] => M::TimeExceeded { code },
            (ty::PARAMETER_PROBLEM, code) => M::ParameterProblem { code, pointer: be32(&rest, 0) },
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
    /// `pseudo` is the pseudo header's sum for [`Self::wire_len`] bytes.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short.
    pub fn emit(&self, buf: &mut [u8], pseudo: Sum) -> Result<usize> {
        use Icmpv6Message as M;
        let words = |a: u16, b: u16| {
            let ([a, b], [c, d]) = (a.to_be_bytes(), b.to_be_bytes());
            [a, b, c, d]
        };
        let (ty, code, rest) = match self.message {
            M::EchoRequest { id, seq } => (ty::ECHO_REQUEST, 0, words(id, seq)),
            M::EchoReply { id, seq } => (ty::ECHO_REPLY, 0, words(id, seq)),
            M::Unreachable { code } => (ty::UNREACHABLE, code, [0; 4]),
            M::PacketTooBig { mtu } => (ty::PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            M::TimeExceeded { code } => (ty::TIME_EXCEEDED, code, [0; 4]),
            M::ParameterProblem { code, pointer } => (ty::PARAMETER_PROBLEM, code, pointer.to_be_bytes()),
            M::Other { ty, code, rest } => (ty, code, rest),
        };
        let buf = room(LAYER, buf, self.wire_len())?;
        buf[field::TYPE] = ty;
        buf[field::CODE] = code;
        put(buf, field::REST, rest);
        buf[HEADER_LEN..].copy_from_slice(self.payload);
        fill_checksum(buf, pseudo)?;
        Ok(buf.len())
    }
}

/// Computes the checksum of `message` (header and payload, nothing behind) and writes it.
///
/// # Errors
/// `NoSpace` when the header is not there.
pub fn fill_checksum(message: &mut [u8], pseudo: Sum) -> Result<()> {
    room(LAYER, message, HEADER_LEN)?;
    put16(message, field::CHECKSUM, 0);
    let checksum = (pseudo + Sum::of(message)).finish();
    put16(message, field::CHECKSUM, checksum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IpProto;
    use core::net::Ipv6Addr;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_round_trip(
            ty in prop_oneof![0u8..5, 127u8..138, any::<u8>()],
            code in 0u8..6, rest in prop_oneof![Just([0u8; 4]), any::<[u8; 4]>()],
            payload in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let other = Icmpv6Repr { message: Icmpv6Message::Other { ty, code, rest }, payload: &payload };
            let any = Ipv6Addr::LOCALHOST;
            let pseudo = Sum::pseudo_v6(any, any, IpProto::ICMPV6, other.wire_len() as u32);
            let mut bytes = vec![0; other.wire_len()];
            other.emit(&mut bytes, pseudo).unwrap();
            let view = Icmpv6View::parse(&bytes).unwrap();
            prop_assert!(view.checksum_ok(pseudo));
            let repr = Icmpv6Repr::parse(&view);
            let mut again = vec![0xff; repr.wire_len()];
            repr.emit(&mut again, pseudo).unwrap();
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn messages() {
        let view = |bytes: &'static [u8]| Icmpv6Repr::parse(&Icmpv6View::parse(bytes).unwrap()).message;
        assert_eq!(view(&[128, 0, 0, 0, 0, 1, 0, 2]), Icmpv6Message::EchoRequest { id: 1, seq: 2 });
        assert_eq!(view(&[2, 0, 0, 0, 0, 0, 5, 0]), Icmpv6Message::PacketTooBig { mtu: 1280 });
        assert!(Icmpv6View::parse(&[0; 7]).is_err());
        assert!(is_error(ty::PACKET_TOO_BIG) && !is_error(ty::ECHO_REQUEST));
    }
}
