//! What do the options of neighbour discovery say? (RFC 4861 §4.6, RFC 8106, RFC 4191)

use core::net::Ipv6Addr;

use crate::bytes::{array, put, put16, put32, room};
use crate::{Error, Mac, Result};

const LAYER: &str = "ndp option";

/// Option types.
pub mod kind {
    /// Link-layer address of the sender.
    pub const SOURCE_LINK: u8 = 1;
    /// Link-layer address of the target.
    pub const TARGET_LINK: u8 = 2;
    /// A prefix.
    pub const PREFIX: u8 = 3;
    /// The packet that was redirected.
    pub const REDIRECTED: u8 = 4;
    /// MTU of the link.
    pub const MTU: u8 = 5;
    /// A more specific route (RFC 4191).
    pub const ROUTE: u8 = 24;
    /// Recursive DNS servers (RFC 8106).
    pub const RDNSS: u8 = 25;
    /// DNS search list (RFC 8106).
    pub const DNSSL: u8 = 31;
}

/// Flag bits of a prefix.
pub mod prefix_flag {
    /// Addresses under the prefix are on the link.
    pub const ON_LINK: u8 = 0x80;
    /// Hosts may make addresses under the prefix.
    pub const AUTONOMOUS: u8 = 0x40;
}

/// A prefix that a router advertises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrefixInfo {
    /// The prefix.
    pub prefix: Ipv6Addr,
    /// Bits of the prefix that count.
    pub len: u8,
    /// [`prefix_flag`] bits.
    pub flags: u8,
    /// Seconds the prefix is on the link; `u32::MAX`: for ever.
    pub valid: u32,
    /// Seconds that addresses made from it stay preferred.
    pub preferred: u32,
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NdpOption<'a> {
    /// Ethernet address of the sender.
    SourceLink(Mac),
    /// Ethernet address of the target.
    TargetLink(Mac),
    /// A prefix.
    Prefix(PrefixInfo),
    /// MTU of the link in bytes.
    Mtu(u32),
    /// Recursive DNS servers.
    Rdnss {
        /// Seconds they may be used.
        lifetime: u32,
        /// Their addresses, 16 bytes each.
        servers: &'a [u8],
    },
    /// Any other type, or one of the above with bits set in a reserved field.
    Other {
        /// Option type.
        kind: u8,
        /// What follows type and length.
        data: &'a [u8],
    },
}

const PREFIX_LEN: usize = 32;

impl<'a> NdpOption<'a> {
    /// Reads an option whose type and length (in `bytes[..2]`) were checked.
    fn decode(bytes: &'a [u8]) -> Self {
        let long = |at: usize| u32::from_be_bytes(array(bytes, at));
        let zero = |from: usize, to: usize| bytes[from..to].iter().all(|b| *b == 0);
        match (bytes[0], bytes.len()) {
            (kind::SOURCE_LINK, 8) => Self::SourceLink(Mac(array(bytes, 2))),
            (kind::TARGET_LINK, 8) => Self::TargetLink(Mac(array(bytes, 2))),
            (kind::PREFIX, PREFIX_LEN) if zero(12, 16) => Self::Prefix(PrefixInfo {
                len: bytes[2],
                flags: bytes[3],
                valid: long(4),
                preferred: long(8),
                prefix: Ipv6Addr::from(array::<16>(bytes, 16)),
            }),
            (kind::MTU, 8) if zero(2, 4) => Self::Mtu(long(4)),
            (kind::RDNSS, len) if len % 16 == 8 && zero(2, 4) => {
                Self::Rdnss { lifetime: long(4), servers: &bytes[8..] }
            }
            (kind, _) => Self::Other { kind, data: &bytes[2..] },
        }
    }

    /// Bytes of the option on the wire.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        match self {
            Self::SourceLink(_) | Self::TargetLink(_) | Self::Mtu(_) => 8,
            Self::Prefix(_) => PREFIX_LEN,
            Self::Rdnss { servers, .. } => 8 + servers.len(),
            Self::Other { data, .. } => 2 + data.len(),
        }
    }

    /// Writes the option at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short; `Malformed` when the data does not fill whole units of 8
    /// bytes, or more than 255 of them.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let len = self.wire_len();
        let units = match u8::try_from(len / 8) {
            Ok(units) if units > 0 && len.is_multiple_of(8) => units,
            _ => return Err(Error::malformed(LAYER, "length")),
        };
        let buf = room(LAYER, buf, len)?;
        buf.fill(0);
        buf[1] = units;
        buf[0] = match *self {
            Self::SourceLink(mac) => {
                put(buf, 2, mac.0);
                kind::SOURCE_LINK
            }
            Self::TargetLink(mac) => {
                put(buf, 2, mac.0);
                kind::TARGET_LINK
            }
            Self::Prefix(info) => {
                put16(buf, 2, u16::from_be_bytes([info.len, info.flags]));
                put32(buf, 4, info.valid);
                put32(buf, 8, info.preferred);
                put(buf, 16, info.prefix.octets());
                kind::PREFIX
            }
            Self::Mtu(mtu) => {
                put32(buf, 4, mtu);
                kind::MTU
            }
            Self::Rdnss { lifetime, servers } => {
                put32(buf, 4, lifetime);
                buf[8..].copy_from_slice(servers);
                kind::RDNSS
            }
            Self::Other { kind, data } => {
                buf[2..].copy_from_slice(data);
                kind
            }
        };
        Ok(len)
    }
}

/// The options of a message, in order; ends with an error when one has no length or overruns.
#[derive(Debug, Clone)]
pub struct NdpOptions<'a> {
    rest: &'a [u8],
}

impl<'a> NdpOptions<'a> {
    /// Reads what follows the fixed part of a message.
    #[must_use]
    pub const fn new(options: &'a [u8]) -> Self {
        Self { rest: options }
    }
}

impl<'a> Iterator for NdpOptions<'a> {
    type Item = Result<NdpOption<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let all = core::mem::take(&mut self.rest);
        let len = match all {
            [] => return None,
            [_, 0, ..] => return Some(Err(Error::malformed(LAYER, "length"))),
            [_, units, ..] => usize::from(*units) * 8,
            [_] => return Some(Err(Error::truncated(LAYER))),
        };
        let Some((option, rest)) = all.split_at_checked(len) else {
            return Some(Err(Error::truncated(LAYER)));
        };
        self.rest = rest;
        Some(Ok(NdpOption::decode(option)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Sum;
    use crate::icmpv6::Icmpv6View;
    use crate::ndp::{NdpMessage, NdpRepr, multicast_mac, solicited_node};
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = NdpMessage> {
        let addr = || any::<[u8; 16]>().prop_map(Ipv6Addr::from);
        prop_oneof![
            Just(NdpMessage::RouterSolicit),
            any::<(u8, u8, u16, u32, u32)>().prop_map(|(hop_limit, flags, lifetime, reachable, retrans)| {
                NdpMessage::RouterAdvert { hop_limit, flags, lifetime, reachable, retrans }
            }),
            addr().prop_map(|target| NdpMessage::NeighborSolicit { target }),
            (any::<(bool, bool, bool)>(), addr()).prop_map(|((router, solicited, override_), target)| {
                NdpMessage::NeighborAdvert { router, solicited, override_, target }
            }),
            (addr(), addr()).prop_map(|(target, dst)| NdpMessage::Redirect { target, dst }),
        ]
    }

    proptest! {
        #[test]
        fn messages_round_trip(message in message(), mac: [u8; 6], mtu: u32) {
            let mut options = [0; 16];
            NdpOption::SourceLink(Mac(mac)).emit(&mut options).unwrap();
            NdpOption::Mtu(mtu).emit(&mut options[8..]).unwrap();
            let repr = NdpRepr { message, options: &options };
            let mut buf = vec![0; repr.wire_len()];
            repr.emit(&mut buf, Sum::ZERO).unwrap();
            let view = Icmpv6View::parse(&buf).unwrap();
            prop_assert!(view.checksum_ok(Sum::ZERO));
            prop_assert_eq!(NdpRepr::parse(&view).unwrap(), repr);
            let read: Vec<_> = NdpOptions::new(repr.options).map(|o| o.unwrap()).collect();
            prop_assert_eq!(read, [NdpOption::SourceLink(Mac(mac)), NdpOption::Mtu(mtu)]);
            for cut in 8..buf.len() {
                let cut_view = Icmpv6View::parse(&buf[..cut]).unwrap();
                let whole_options = cut >= message.len() && (cut - message.len()).is_multiple_of(8);
                prop_assert_eq!(NdpRepr::parse(&cut_view).is_ok(), whole_options);
            }
        }

        #[test]
        fn options_round_trip(
            kind in prop_oneof![1u8..6, Just(24u8), Just(25), Just(31), any::<u8>()],
            units in 1u8..6, zeros: bool, mut bytes in prop::collection::vec(any::<u8>(), 48),
        ) {
            if zeros {
                bytes[2..4].fill(0);
                bytes[12..16].fill(0);
            }
            (bytes[0], bytes[1]) = (kind, units);
            let option = &bytes[..usize::from(units) * 8];
            let read = NdpOptions::new(option).next().unwrap().unwrap();
            let mut out = vec![0; read.wire_len()];
            read.emit(&mut out).unwrap();
            prop_assert_eq!(&out[..], option);
        }
    }

    #[test]
    fn refuses() {
        for bytes in [&[1u8][..], &[1, 0, 0, 0, 0, 0, 0, 0], &[1, 2, 0, 0, 0, 0, 0, 0]] {
            assert!(NdpOptions::new(bytes).next().unwrap().is_err(), "{bytes:?}");
        }
        assert!(NdpOption::Other { kind: 9, data: &[0; 5] }.emit(&mut [0; 99]).is_err());
        assert!(NdpRepr::parse(&Icmpv6View::parse(&[128; 24]).unwrap()).is_err());
    }

    #[test]
    fn multicast() {
        let group = solicited_node("2001:db8::1:2:3".parse().unwrap());
        assert_eq!(group, "ff02::1:ff02:3".parse::<Ipv6Addr>().unwrap());
        assert_eq!(multicast_mac(group).to_string(), "33:33:ff:02:00:03");
    }
}
