//! What does a DHCPv4 request say? (RFC 2131 §2, RFC 2132, RFC 3396)
//!
//! A view that borrows from the packet. Options are collected from the options field and, when
//! option 52 says so, from `file` and `sname`; an option that appears several times is one option
//! whose parts are joined.

use core::cell::OnceCell;
use core::net::Ipv4Addr;
use std::borrow::Cow;

use smallvec::SmallVec;
use weft_wire::Mac;

use super::option::code;
use crate::lease::Client;

/// Bytes of the fixed part, magic cookie included.
pub const FIXED_LEN: usize = 240;
/// The magic cookie before the options (RFC 2131 §3).
pub const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// `op` of requests.
pub const BOOTREQUEST: u8 = 1;
/// `op` of replies.
pub const BOOTREPLY: u8 = 2;
/// The broadcast flag (RFC 2131 §2, figure 2).
pub const BROADCAST: u16 = 0x8000;
/// Most options that are read from one message.
pub const MAX_OPTIONS: usize = 128;

/// Why a packet is no request that could be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Shorter than the fixed part.
    #[error("dhcp4: {0} bytes are too few for a message")]
    Short(usize),
    /// Not a BOOTREQUEST.
    #[error("dhcp4: op {0} is not a request")]
    Op(u8),
    /// Without the magic cookie: BOOTP as of RFC 951.
    #[error("dhcp4: no magic cookie")]
    Magic,
    /// `hlen` is longer than the field, or not what the hardware type has.
    #[error("dhcp4: hardware address of {1} bytes for type {0}")]
    Hardware(u8, u8),
    /// An option runs out of its field.
    #[error("dhcp4: option {0} is cut short")]
    Truncated(u8),
    /// More than [`MAX_OPTIONS`].
    #[error("dhcp4: more than {MAX_OPTIONS} options")]
    TooMany,
    /// An option whose value cannot be.
    #[error("dhcp4: option {0} has a value that is not allowed")]
    Value(u8),
}

/// The type of a message (RFC 2132 §9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPOFFER.
    Offer,
    /// DHCPREQUEST.
    Request,
    /// DHCPDECLINE.
    Decline,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
    /// DHCPRELEASE.
    Release,
    /// DHCPINFORM.
    Inform,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Discover,
        Self::Offer,
        Self::Request,
        Self::Decline,
        Self::Ack,
        Self::Nak,
        Self::Release,
        Self::Inform,
    ];

    /// The kind of a number, if it has one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Its number on the wire: 1–8.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8 + 1
    }
}

/// A request, read in place.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// Hardware type; 1 is Ethernet.
    pub htype: u8,
    /// Relays crossed.
    pub hops: u8,
    /// Transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Flags; see [`BROADCAST`].
    pub flags: u16,
    /// The client's own address, when it can answer ARP for it.
    pub ciaddr: Ipv4Addr,
    /// The relay, or 0.
    pub giaddr: Ipv4Addr,
    /// Hardware address: `hlen` bytes.
    pub chaddr: &'a [u8],
    /// Message type (option 53).
    pub kind: Kind,
    fixed: &'a [u8],
    options: SmallVec<[(u8, &'a [u8]); 32]>,
    hardware: OnceCell<Client>,
}

impl<'a> Message<'a> {
    /// Reads a request from a UDP payload.
    ///
    /// # Errors
    /// See [`ParseError`]. A missing end option is forgiven, as dhcpcd and RFC 1542 §2.1 do;
    /// bytes behind it are not looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (fixed, field) = bytes.split_at_checked(FIXED_LEN).ok_or(ParseError::Short(bytes.len()))?;
        let be32 = |at: usize| {
            fixed.get(at..).and_then(|b| b.first_chunk::<4>()).map_or(0, |b| u32::from_be_bytes(*b))
        };
        let (op, htype, hlen, hops) = match fixed {
            [op, htype, hlen, hops, ..] => (*op, *htype, *hlen, *hops),
            _ => return Err(ParseError::Short(bytes.len())),
        };
        if op != BOOTREQUEST {
            return Err(ParseError::Op(op));
        }
        if fixed.get(236..240) != Some(&MAGIC[..]) {
            return Err(ParseError::Magic);
        }
        if hlen > 16 || (htype == 1 && hlen != 6) {
            return Err(ParseError::Hardware(htype, hlen));
        }
        let mut options = SmallVec::new();
        collect(field, &mut options)?;
        let overload = options.iter().find(|(c, _)| *c == code::OVERLOAD).map(|(_, value)| *value);
        match overload {
            None => {}
            Some([how @ 1..=3]) => {
                // RFC 2132 §9.3, RFC 3396 §5: `file` is read before `sname`.
                if how & 1 != 0 {
                    collect(fixed.get(108..236).unwrap_or_default(), &mut options)?;
                }
                if how & 2 != 0 {
                    collect(fixed.get(44..108).unwrap_or_default(), &mut options)?;
                }
            }
            Some(_) => return Err(ParseError::Value(code::OVERLOAD)),
        }
        let kind = match options.iter().find(|(c, _)| *c == code::MESSAGE_TYPE) {
            Some((_, [number])) => Kind::from_number(*number).ok_or(ParseError::Value(code::MESSAGE_TYPE))?,
            _ => return Err(ParseError::Value(code::MESSAGE_TYPE)),
        };
        let (hi, lo) = (be32(8), be32(4));
        Ok(Self {
            htype,
            hops,
            xid: lo,
            secs: (hi >> 16) as u16,
            flags: hi as u16,
            ciaddr: be32(12).into(),
            giaddr: be32(24).into(),
            chaddr: fixed.get(28..28 + usize::from(hlen)).unwrap_or_default(),
            kind,
            fixed,
            options,
            hardware: OnceCell::new(),
        })
    }

    /// The client as its hardware address tells it.
    #[must_use]
    pub fn hardware(&self) -> Client {
        self.hardware.get_or_init(|| Client::hardware(self.htype, self.chaddr)).clone()
    }

    /// The client's Ethernet address, if it has one.
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        if self.htype != 1 {
            return None;
        }
        self.chaddr.first_chunk().map(|bytes| Mac(*bytes))
    }

    /// The 16 bytes of `chaddr` as they stand, for the reply.
    #[must_use]
    pub fn chaddr_field(&self) -> [u8; 16] {
        self.fixed.get(28..).and_then(|b| b.first_chunk()).copied().unwrap_or_default()
    }

    /// The value of an option; the parts of a split one are joined (RFC 3396 §5).
    #[must_use]
    pub fn option(&self, code: u8) -> Option<Cow<'a, [u8]>> {
        let mut parts = self.options.iter().filter(|(c, _)| *c == code).map(|(_, value)| *value);
        let first = parts.next()?;
        let Some(second) = parts.next() else { return Some(Cow::Borrowed(first)) };
        let mut joined = [first, second].concat();
        parts.for_each(|part| joined.extend_from_slice(part));
        Some(Cow::Owned(joined))
    }

    /// True when the option is there.
    #[must_use]
    pub fn has(&self, code: u8) -> bool {
        self.options.iter().any(|(c, _)| *c == code)
    }

    /// The value of an option that is one address; another length counts as absent.
    #[must_use]
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let value = self.option(code)?;
        let bytes: [u8; 4] = value.as_ref().try_into().ok()?;
        Some(bytes.into())
    }

    /// The value of an option that is a 16-bit number.
    #[must_use]
    pub fn number16(&self, code: u8) -> Option<u16> {
        let value = self.option(code)?;
        Some(u16::from_be_bytes(value.as_ref().try_into().ok()?))
    }

    /// The value of an option that is a 32-bit number.
    #[must_use]
    pub fn number32(&self, code: u8) -> Option<u32> {
        let value = self.option(code)?;
        Some(u32::from_be_bytes(value.as_ref().try_into().ok()?))
    }

    /// A sub-option of the relay agent information (RFC 3046 §2.0).
    #[must_use]
    pub fn relay(&self, sub: u8) -> Option<Vec<u8>> {
        let value = self.option(code::RELAY_AGENT)?;
        let mut rest = value.as_ref();
        while let [code, len, tail @ ..] = rest {
            let (body, next) = tail.split_at_checked(usize::from(*len))?;
            if *code == sub {
                return Some(body.to_vec());
            }
            rest = next;
        }
        None
    }

    /// An address in the relay agent information.
    #[must_use]
    pub fn relay_address(&self, sub: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.relay(sub)?.try_into().ok()?;
        Some(bytes.into())
    }
}

/// Adds the options of one field.
fn collect<'a>(mut rest: &'a [u8], into: &mut SmallVec<[(u8, &'a [u8]); 32]>) -> Result<(), ParseError> {
    loop {
        match rest {
            [] | [code::END, ..] => return Ok(()),
            [code::PAD, tail @ ..] => rest = tail,
            [code] => return Err(ParseError::Truncated(*code)),
            [code, len, tail @ ..] => {
                let (value, next) =
                    tail.split_at_checked(usize::from(*len)).ok_or(ParseError::Truncated(*code))?;
                if into.len() == MAX_OPTIONS {
                    return Err(ParseError::TooMany);
                }
                into.push((*code, value));
                rest = next;
            }
        }
    }
}
