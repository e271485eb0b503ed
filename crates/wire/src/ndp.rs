//! What do the messages of neighbour discovery say? (RFC 4861 §4)

use core::net::Ipv6Addr;

use crate::bytes::{array, be16, be32, put, put16, put32, room};
use crate::checksum::Sum;
use crate::icmpv6::{self, Icmpv6View, ty};
use crate::ndp_option::NdpOptions;
use crate::{Error, Result};

const LAYER: &str = "ndp";

/// Byte offsets inside the whole ICMPv6 message.
pub mod field {
    /// Router advertisement: current hop limit, 1 byte.
    pub const RA_HOP_LIMIT: usize = 4;
    /// Router advertisement: flags, 1 byte.
    pub const RA_FLAGS: usize = 5;
    /// Router advertisement: lifetime in seconds, 2 bytes.
    pub const RA_LIFETIME: usize = 6;
    /// Router advertisement: reachable time in milliseconds, 4 bytes.
    pub const RA_REACHABLE: usize = 8;
    /// Router advertisement: retransmission timer in milliseconds, 4 bytes.
    pub const RA_RETRANS: usize = 12;
    /// Neighbour advertisement: flags, 4 bytes of which the top 3 bits are used.
    pub const NA_FLAGS: usize = 4;
    /// Neighbour solicitation, advertisement and redirect: target, 16 bytes.
    pub const TARGET: usize = 8;
    /// Redirect: destination, 16 bytes.
    pub const REDIRECT_DST: usize = 24;
}

/// Flag bits.
pub mod flag {
    /// Router advertisement: addresses by DHCPv6.
    pub const RA_MANAGED: u8 = 0x80;
    /// Router advertisement: other configuration by DHCPv6.
    pub const RA_OTHER: u8 = 0x40;
    /// Neighbour advertisement: the sender is a router.
    pub const NA_ROUTER: u32 = 0x8000_0000;
    /// Neighbour advertisement: an answer to a solicitation.
    pub const NA_SOLICITED: u32 = 0x4000_0000;
    /// Neighbour advertisement: replaces a cached address.
    pub const NA_OVERRIDE: u32 = 0x2000_0000;
}

/// What a message says, without its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NdpMessage {
    /// Is there a router?
    RouterSolicit,
    /// Here is one.
    RouterAdvert {
        /// Hop limit to use; 0: unspecified.
        hop_limit: u8,
        /// [`flag::RA_MANAGED`], [`flag::RA_OTHER`] and whatever else was set.
        flags: u8,
        /// Seconds the router stays a default router.
        lifetime: u16,
        /// Milliseconds a neighbour stays reachable; 0: unspecified.
        reachable: u32,
        /// Milliseconds between solicitations; 0: unspecified.
        retrans: u32,
    },
    /// Who has `target`?
    NeighborSolicit {
        /// The address asked for.
        target: Ipv6Addr,
    },
    /// I have `target`.
    NeighborAdvert {
        /// The sender is a router.
        router: bool,
        /// An answer to a solicitation.
        solicited: bool,
        /// Replaces a cached address.
        override_: bool,
        /// The address answered for.
        target: Ipv6Addr,
    },
    /// There is a better first hop.
    Redirect {
        /// The better hop.
        target: Ipv6Addr,
        /// For packets to this address.
        dst: Ipv6Addr,
    },
}

impl NdpMessage {
    const fn ty(&self) -> u8 {
        match self {
            Self::RouterSolicit => ty::ROUTER_SOLICIT,
            Self::RouterAdvert { .. } => ty::ROUTER_ADVERT,
            Self::NeighborSolicit { .. } => ty::NEIGHBOR_SOLICIT,
            Self::NeighborAdvert { .. } => ty::NEIGHBOR_ADVERT,
            Self::Redirect { .. } => ty::REDIRECT,
        }
    }

    /// Bytes of the message without options.
    #[must_use]
    pub const fn len(&self) -> usize {
        fixed_len(self.ty())
    }

    /// False: a message has at least a header.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// Bytes before the options of a message.
const fn fixed_len(ty: u8) -> usize {
    match ty {
        ty::ROUTER_SOLICIT => 8,
        ty::ROUTER_ADVERT => 16,
        ty::REDIRECT => 40,
        _ => 24,
    }
}

/// A neighbour discovery message as a value. Reserved bits are written as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NdpRepr<'a> {
    /// What it says.
    pub message: NdpMessage,
    /// Options as bytes; [`NdpOptions`] reads them.
    pub options: &'a [u8],
}

impl<'a> NdpRepr<'a> {
    /// Reads a message; every option must be whole.
    ///
    /// The hop limit of 255 and the source address are the caller's to check, who has the IPv6
    /// header (RFC 4861 §6.1, §7.1).
    ///
    /// # Errors
    /// `Unsupported` for other types; `Malformed` for a code other than 0, or an option of length
    /// zero; `Truncated` when the message or an option ends early.
    pub fn parse(view: &Icmpv6View<'a>) -> Result<Self> {
        let ty = view.ty();
        if !(ty::ROUTER_SOLICIT..=ty::REDIRECT).contains(&ty) {
            return Err(Error::unsupported(LAYER, "message type"));
        }
        if view.code() != 0 {
            return Err(Error::malformed(LAYER, "code"));
        }
        let rest = view.rest();
        let (body, options) = view
            .payload()
            .split_at_checked(fixed_len(ty) - icmpv6::HEADER_LEN)
            .ok_or(Error::truncated(LAYER))?;
        for option in NdpOptions::new(options) {
            option?;
        }
        let address = |at: usize| Ipv6Addr::from(array::<16>(body, at - icmpv6::HEADER_LEN));
        let message = match ty {
            ty::ROUTER_SOLICIT => NdpMessage::RouterSolicit,
            ty::ROUTER_ADVERT => {
                let times: [u8; 8] = array(body, 0);
                NdpMessage::RouterAdvert {
                    hop_limit: rest[0],
                    flags: rest[1],
                    lifetime: be16(&rest, 2),
                    reachable: be32(&times, 0),
                    retrans: be32(&times, 4),
                }
            }
            ty::NEIGHBOR_SOLICIT => NdpMessage::NeighborSolicit { target: address(field::TARGET) },
            ty::NEIGHBOR_ADVERT => {
                let flags = be32(&rest, 0);
                NdpMessage::NeighborAdvert {
                    router: flags & flag::NA_ROUTER != 0,
                    solicited: flags & flag::NA_SOLICITED != 0,
                    override_: flags & flag::NA_OVERRIDE != 0,
                    target: address(field::TARGET),
                }
            }
            _ => NdpMessage::Redirect { target: address(field::TARGET), dst: address(field::REDIRECT_DST) },
        };
        Ok(Self { message, options })
    }

    /// Bytes of message and options.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        self.message.len() + self.options.len()
    }

    /// Writes message, options and checksum at the start of `buf` and returns their length.
    /// `pseudo` is the pseudo header's sum for [`Self::wire_len`] bytes.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short; `Malformed` when the options are no multiple of 8.
    pub fn emit(&self, buf: &mut [u8], pseudo: Sum) -> Result<usize> {
        if !self.options.len().is_multiple_of(8) {
            return Err(Error::malformed(LAYER, "options"));
        }
        let buf = room(LAYER, buf, self.wire_len())?;
        let (message, options) = buf.split_at_mut(self.message.len());
        message.fill(0);
        options.copy_from_slice(self.options);
        message[icmpv6::field::TYPE] = self.message.ty();
        match self.message {
            NdpMessage::RouterSolicit => {}
            NdpMessage::RouterAdvert { hop_limit, flags, lifetime, reachable, retrans } => {
                message[field::RA_HOP_LIMIT] = hop_limit;
                message[field::RA_FLAGS] = flags;
                put16(message, field::RA_LIFETIME, lifetime);
                put32(message, field::RA_REACHABLE, reachable);
                put32(message, field::RA_RETRANS, retrans);
            }
            NdpMessage::NeighborSolicit { target } => put(message, field::TARGET, target.octets()),
            NdpMessage::NeighborAdvert { router, solicited, override_, target } => {
                let bit = |on: bool, bit: u32| if on { bit } else { 0 };
                let flags = bit(router, flag::NA_ROUTER)
                    | bit(solicited, flag::NA_SOLICITED)
                    | bit(override_, flag::NA_OVERRIDE);
                put32(message, field::NA_FLAGS, flags);
                put(message, field::TARGET, target.octets());
            }
            NdpMessage::Redirect { target, dst } => {
                put(message, field::TARGET, target.octets());
                put(message, field::REDIRECT_DST, dst.octets());
            }
        }
        icmpv6::fill_checksum(buf, pseudo)?;
        Ok(buf.len())
    }
}

/// The multicast address that a solicitation for `target` is sent to (RFC 4291 §2.7.1).
#[must_use]
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The MAC address that an IPv6 multicast address maps to (RFC 2464 §7).
#[must_use]
pub fn multicast_mac(group: Ipv6Addr) -> crate::Mac {
    let [.., a, b, c, d] = group.octets();
    crate::Mac([0x33, 0x33, a, b, c, d])
}
