//! How is a reply made that fits what the client takes? (RFC 2131 §3.5, RFC 2132 §9.3, RFC 3396)

use core::net::Ipv4Addr;
use std::borrow::Cow;

use smallvec::SmallVec;

use super::message::{BOOTREPLY, BROADCAST, FIXED_LEN, Kind, MAGIC, Message};
use super::option::code;

/// Shortest reply: what BOOTP relays and clients were built for (RFC 1542 §2.1).
const MIN_LEN: usize = 300;
/// Bytes of IP and UDP headers, which the client's limit includes (RFC 2132 §9.10).
const HEADERS: usize = 28;
/// What every client takes (RFC 2131 §2).
const MIN_LIMIT: usize = 576 - HEADERS;
/// Never more than an Ethernet frame carries.
const MAX_LIMIT: usize = 1500 - HEADERS;

/// The value of an option: most are configured bytes or one number.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Slice(&'a [u8]),
    Four([u8; 4]),
    Owned(Vec<u8>),
}

impl core::ops::Deref for Value<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Slice(bytes) => bytes,
            Self::Four(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Slice(bytes)
    }
}

impl From<[u8; 4]> for Value<'_> {
    fn from(bytes: [u8; 4]) -> Self {
        Self::Four(bytes)
    }
}

impl From<Vec<u8>> for Value<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl<'a> From<Cow<'a, [u8]>> for Value<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        match bytes {
            Cow::Borrowed(bytes) => Self::Slice(bytes),
            Cow::Owned(bytes) => Self::Owned(bytes),
        }
    }
}

/// A reply under construction.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    /// OFFER, ACK or NAK.
    pub(super) kind: Kind,
    /// "Your" address.
    pub(super) yiaddr: Ipv4Addr,
    /// The next server.
    pub(super) siaddr: Ipv4Addr,
    /// Server's name, at most 63 bytes are sent.
    pub(super) sname: &'a [u8],
    /// Boot file; over 127 bytes it is sent as option 67.
    pub(super) file: &'a [u8],
    /// Options in the order they are to stand, message type excluded.
    pub(super) options: SmallVec<[(u8, Value<'a>); 24]>,
}

impl<'a> Reply<'a> {
    pub(super) fn new(kind: Kind) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self { kind, yiaddr: none, siaddr: none, sname: &[], file: &[], options: SmallVec::new() }
    }

    pub(super) fn has(&self, code: u8) -> bool {
        self.options.iter().any(|(c, _)| *c == code)
    }

    /// Adds an option unless it is there already.
    pub(super) fn push(&mut self, code: u8, value: impl Into<Value<'a>>) {
        if !self.has(code) {
            self.options.push((code, value.into()));
        }
    }

    /// The bytes of the reply; None when not even what must be in it fits.
    ///
    /// Options that fit nowhere are left out from the end of the list, as RFC 2131 §4.3.1 allows
    /// for what the client asked for least.
    pub(super) fn write(&mut self, request: &Message<'_>) -> Option<Vec<u8>> {
        let relay = request
            .option(code::RELAY_AGENT)
            .filter(|_| self.kind != Kind::Nak || request.giaddr != Ipv4Addr::UNSPECIFIED);
        let limit = request
            .number16(code::MAX_SIZE)
            .map_or(MIN_LIMIT, |size| usize::from(size).saturating_sub(HEADERS).clamp(MIN_LIMIT, MAX_LIMIT));
        if self.file.len() > 127 {
            let file = core::mem::take(&mut self.file);
            self.push(code::BOOT_FILE, file);
        }
        let mut out = Vec::with_capacity(MIN_LEN + 256);
        self.fixed(request, &mut out);
        let tail = relay.as_ref().map_or(0, |value| cost(value)) + 1;
        let room = limit.checked_sub(FIXED_LEN + tail + 3)?;
        let all: usize = self.options.iter().map(|(_, value)| cost(value)).sum();
        option(&mut out, code::MESSAGE_TYPE, &[self.kind.number()]);
        if all <= room {
            self.options.iter().for_each(|(code, value)| option(&mut out, *code, value));
        } else {
            self.overload(&mut out, room.checked_sub(3)?)?;
        }
        if let Some(value) = relay {
            // Last, as RFC 3046 §2.1 wants it.
            option(&mut out, code::RELAY_AGENT, &value);
        }
        out.push(code::END);
        if out.len() < MIN_LEN {
            out.resize(MIN_LEN, code::PAD);
        }
        Some(out)
    }

    fn fixed(&self, request: &Message<'_>, out: &mut Vec<u8>) {
        out.extend([BOOTREPLY, request.htype, request.chaddr.len() as u8, 0]);
        out.extend(request.xid.to_be_bytes());
        out.extend([0, 0]);
        // A NAK through a relay must be broadcast by it (RFC 2131 §4.3.2).
        let nak = self.kind == Kind::Nak && request.giaddr != Ipv4Addr::UNSPECIFIED;
        out.extend((request.flags | if nak { BROADCAST } else { 0 }).to_be_bytes());
        let ciaddr = if self.kind == Kind::Ack { request.ciaddr } else { Ipv4Addr::UNSPECIFIED };
        for address in [ciaddr, self.yiaddr, self.siaddr, request.giaddr] {
            out.extend(address.octets());
        }
        out.extend(request.chaddr_field());
        for (text, len) in [(self.sname, 64), (self.file, 128)] {
            let end = out.len() + len;
            out.extend(text.iter().take(len - 1));
            out.resize(end, 0);
        }
        out.extend(MAGIC);
    }

    /// Fills the options field up to `room` bytes, then `file` and `sname` where they are unused.
    fn overload(&self, out: &mut Vec<u8>, mut room: usize) -> Option<()> {
        let mut spare: [(u8, usize, usize, bool); 2] =
            [(1, 108, 127, self.file.is_empty()), (2, 44, 63, self.sname.is_empty())];
        let mut how = 0;
        let mut left: SmallVec<[(u8, &[u8]); 24]> = SmallVec::new();
        for (code, value) in &self.options {
            match room.checked_sub(cost(value)) {
                Some(rest) => {
                    room = rest;
                    option(out, *code, value);
                }
                None => left.push((*code, value)),
            }
        }
        for (code, value) in left {
            let fits = |(_, _, room, open): &&mut (u8, usize, usize, bool)| {
                *open && value.len() <= 255 && cost(value) <= *room
            };
            let Some((bit, at, room, _)) = spare.iter_mut().find(fits) else { continue };
            let bytes = out.get_mut(*at..*at + cost(value))?;
            bytes.first_chunk_mut::<2>()?.copy_from_slice(&[code, value.len() as u8]);
            bytes.get_mut(2..)?.copy_from_slice(value);
            how |= *bit;
            *at += cost(value);
            *room -= cost(value);
        }
        for (bit, at, _, _) in spare {
            if how & bit != 0 {
                *out.get_mut(at)? = code::END;
            }
        }
        if how != 0 {
            option(out, code::OVERLOAD, &[how]);
        }
        Some(())
    }
}

/// Bytes that an option takes: one header for every 255 bytes of value.
fn cost(value: &[u8]) -> usize {
    value.len() + 2 * value.len().div_ceil(255).max(1)
}

/// Writes an option, split when it is longer than 255 bytes (RFC 3396 §7).
fn option(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    if value.is_empty() {
        out.extend([code, 0]);
    }
    for part in value.chunks(255) {
        out.extend([code, part.len() as u8]);
        out.extend_from_slice(part);
    }
}
