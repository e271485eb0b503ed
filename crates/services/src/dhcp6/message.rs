//! What does a DHCPv6 message say, and which relays did it cross? (RFC 8415 §8, §9, §21)

use core::net::Ipv6Addr;

use smallvec::SmallVec;
use weft_wire::Mac;

/// Most relays around a message (RFC 8415 §7.6, HOP_COUNT_LIMIT).
pub const MAX_RELAYS: usize = 8;
/// Most options read from one message or option.
pub const MAX_OPTIONS: usize = 64;

/// Option codes (RFC 8415 §21 unless said otherwise).
pub mod code {
    /// Client identifier.
    pub const CLIENT_ID: u16 = 1;
    /// Server identifier.
    pub const SERVER_ID: u16 = 2;
    /// Identity association for addresses.
    pub const IA_NA: u16 = 3;
    /// Identity association for temporary addresses.
    pub const IA_TA: u16 = 4;
    /// An address in an association.
    pub const IAADDR: u16 = 5;
    /// Option request.
    pub const ORO: u16 = 6;
    /// Preference.
    pub const PREFERENCE: u16 = 7;
    /// The relayed message.
    pub const RELAY_MESSAGE: u16 = 9;
    /// Status.
    pub const STATUS: u16 = 13;
    /// Rapid commit.
    pub const RAPID_COMMIT: u16 = 14;
    /// The relay's interface.
    pub const INTERFACE_ID: u16 = 18;
    /// Name servers (RFC 3646 §3).
    pub const DNS: u16 = 23;
    /// Search list (RFC 3646 §4).
    pub const SEARCH: u16 = 24;
    /// Identity association for prefixes.
    pub const IA_PD: u16 = 25;
    /// SNTP servers (RFC 4075).
    pub const SNTP: u16 = 31;
    /// Seconds until an informed client asks again.
    pub const REFRESH: u16 = 32;
    /// The client's full name (RFC 4704).
    pub const FQDN: u16 = 39;
    /// NTP servers (RFC 5908).
    pub const NTP: u16 = 56;
    /// Boot file URL (RFC 5970 §3.1).
    pub const BOOT_URL: u16 = 59;
    /// The client's link-layer address, by the relay (RFC 6939).
    pub const LINK_ADDRESS: u16 = 79;
}

/// Status codes (RFC 8415 §21.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Status {
    /// Done.
    Success = 0,
    /// No address is left.
    NoAddrsAvail = 2,
    /// The server knows of no such binding.
    NoBinding = 3,
    /// The address does not belong on this link.
    NotOnLink = 4,
    /// Send to the multicast address.
    UseMulticast = 5,
    /// No prefix is given out.
    NoPrefixAvail = 6,
}

/// What a message wants (RFC 8415 §7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Which servers are there?
    Solicit,
    /// One is here.
    Advertise,
    /// Give me what you offered.
    Request,
    /// Are my addresses right for this link?
    Confirm,
    /// Prolong, asked of the server that gave.
    Renew,
    /// Prolong, asked of any server.
    Rebind,
    /// The answer to all that.
    Reply,
    /// I need this no more.
    Release,
    /// Somebody else has this address.
    Decline,
    /// Come and ask again.
    Reconfigure,
    /// Options, please.
    InformationRequest,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Solicit,
        Self::Advertise,
        Self::Request,
        Self::Confirm,
        Self::Renew,
        Self::Rebind,
        Self::Reply,
        Self::Release,
        Self::Decline,
        Self::Reconfigure,
        Self::InformationRequest,
    ];

    /// Its number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8 + 1
    }
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Cut short.
    #[error("dhcp6: truncated")]
    Truncated,
    /// A type that is not known.
    #[error("dhcp6: unknown message type {0}")]
    Type(u8),
    /// More than [`MAX_RELAYS`] relays.
    #[error("dhcp6: too many relays")]
    TooManyRelays,
    /// More than [`MAX_OPTIONS`].
    #[error("dhcp6: too many options")]
    TooManyOptions,
    /// A relay's message with no message inside.
    #[error("dhcp6: relay without a message")]
    NoRelayed,
}

/// Options, read in place; all of them are whole.
#[derive(Debug, Clone, Default)]
pub struct Options<'a>(SmallVec<[(u16, &'a [u8]); 12]>);

impl<'a> Options<'a> {
    /// Reads options until the end of `bytes`.
    ///
    /// # Errors
    /// When one runs out, or there are too many.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut all = SmallVec::new();
        while !bytes.is_empty() {
            let [a, b, c, d, rest @ ..] = bytes else { return Err(ParseError::Truncated) };
            let len = usize::from(u16::from_be_bytes([*c, *d]));
            let (value, rest) = rest.split_at_checked(len).ok_or(ParseError::Truncated)?;
            if all.len() == MAX_OPTIONS {
                return Err(ParseError::TooManyOptions);
            }
            all.push((u16::from_be_bytes([*a, *b]), value));
            bytes = rest;
        }
        Ok(Self(all))
    }

    /// The first option of a code.
    #[must_use]
    pub fn get(&self, code: u16) -> Option<&'a [u8]> {
        self.all(code).next()
    }

    /// Every option of a code.
    pub fn all(&self, code: u16) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.0.iter().filter(move |(c, _)| *c == code).map(|(_, value)| *value)
    }

    /// True when there is one.
    #[must_use]
    pub fn has(&self, code: u16) -> bool {
        self.get(code).is_some()
    }
}

/// An identity association for addresses (RFC 8415 §21.4).
#[derive(Debug, Clone)]
pub struct Ia {
    /// Its number, chosen by the client.
    pub iaid: u32,
    /// The addresses it names.
    pub addresses: SmallVec<[Ipv6Addr; 2]>,
}

impl Ia {
    /// Reads the value of an IA_NA option.
    ///
    /// # Errors
    /// When it or an option in it is cut short.
    pub fn parse(value: &[u8]) -> Result<Self, ParseError> {
        let (head, rest) = value.split_first_chunk::<12>().ok_or(ParseError::Truncated)?;
        let options = Options::parse(rest)?;
        let mut addresses = SmallVec::new();
        for value in options.all(code::IAADDR) {
            let bytes = value.get(..24).and_then(|v| v.first_chunk::<16>()).ok_or(ParseError::Truncated)?;
            addresses.push(Ipv6Addr::from(*bytes));
        }
        let [a, b, c, d, ..] = *head;
        Ok(Self { iaid: u32::from_be_bytes([a, b, c, d]), addresses })
    }
}

/// A relay that a message crossed (RFC 8415 §9).
#[derive(Debug, Clone)]
pub struct Relay<'a> {
    /// Relays crossed before it.
    pub hops: u8,
    /// An address of the client's link.
    pub link: Ipv6Addr,
    /// Whom the relay got it from.
    pub peer: Ipv6Addr,
    /// Its interface, to be given back as it is.
    pub interface: Option<&'a [u8]>,
    /// The client's Ethernet address, if the relay says it.
    pub mac: Option<Mac>,
}

/// A client's message and the relays around it, outermost first.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// What it wants.
    pub kind: Kind,
    /// Transaction.
    pub xid: [u8; 3],
    /// Its options.
    pub options: Options<'a>,
    /// Relays it crossed.
    pub relays: SmallVec<[Relay<'a>; 1]>,
}

impl<'a> Message<'a> {
    /// Reads a message from a UDP payload.
    ///
    /// # Errors
    /// See [`ParseError`].
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, ParseError> {
        let mut relays = SmallVec::new();
        loop {
            let (&ty, rest) = bytes.split_first().ok_or(ParseError::Truncated)?;
            if ty != super::write::RELAY_FORW {
                let kind = usize::from(ty).checked_sub(1).and_then(|at| Kind::ALL.get(at));
                let kind = *kind.ok_or(ParseError::Type(ty))?;
                let (xid, options) = rest.split_first_chunk::<3>().ok_or(ParseError::Truncated)?;
                return Ok(Self { kind, xid: *xid, options: Options::parse(options)?, relays });
            }
            if relays.len() == MAX_RELAYS {
                return Err(ParseError::TooManyRelays);
            }
            let (&hops, rest) = rest.split_first().ok_or(ParseError::Truncated)?;
            let (link, rest) = rest.split_first_chunk::<16>().ok_or(ParseError::Truncated)?;
            let (peer, rest) = rest.split_first_chunk::<16>().ok_or(ParseError::Truncated)?;
            let options = Options::parse(rest)?;
            let mac = match options.get(code::LINK_ADDRESS) {
                Some([0, 1, mac @ ..]) => mac.try_into().ok().map(Mac),
                _ => None,
            };
            relays.push(Relay {
                hops,
                link: Ipv6Addr::from(*link),
                peer: Ipv6Addr::from(*peer),
                interface: options.get(code::INTERFACE_ID),
                mac,
            });
            bytes = options.get(code::RELAY_MESSAGE).ok_or(ParseError::NoRelayed)?;
        }
    }

    /// The client's DUID: 1–130 bytes (RFC 8415 §11.1).
    #[must_use]
    pub fn duid(&self) -> Option<&'a [u8]> {
        self.options.get(code::CLIENT_ID).filter(|duid| (3..=130).contains(&duid.len()))
    }

    /// The associations for addresses.
    ///
    /// # Errors
    /// When one is cut short.
    pub fn ias(&self) -> Result<SmallVec<[Ia; 2]>, ParseError> {
        self.options.all(code::IA_NA).map(Ia::parse).collect()
    }

    /// True when the client asks for an option.
    #[must_use]
    pub fn wants(&self, code: u16) -> bool {
        let code = code.to_be_bytes();
        self.options.get(code::ORO).is_some_and(|list| list.chunks_exact(2).any(|c| c == code))
    }
}
