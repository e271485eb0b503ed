//! How is a DHCPv6 reply written, and wrapped for the relays it goes back through?

use core::net::Ipv6Addr;

use super::message::{Kind, Message, Status, code};

/// A relay's message towards the server (RFC 8415 §9.1).
pub(super) const RELAY_FORW: u8 = 12;
/// The server's answer to it (RFC 8415 §9.2).
const RELAY_REPL: u8 = 13;
/// Most bytes of a reply: an Ethernet frame without IPv6 and UDP headers.
const LIMIT: usize = 1500 - 48;

/// Bytes of options being written.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A reply of this kind to `message`.
    pub(super) fn reply(kind: Kind, message: &Message<'_>) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.push(kind.number());
        bytes.extend(message.xid);
        Self(bytes)
    }

    /// An option; values longer than the length field are left out.
    pub(super) fn option(&mut self, code: u16, value: &[u8]) {
        if let Ok(len) = u16::try_from(value.len()) {
            self.0.extend(code.to_be_bytes());
            self.0.extend(len.to_be_bytes());
            self.0.extend(value);
        }
    }

    /// An option that may be left out when the reply would grow too long.
    pub(super) fn optional(&mut self, code: u16, value: &[u8]) {
        if self.0.len() + 4 + value.len() <= LIMIT {
            self.option(code, value);
        }
    }

    /// A status (RFC 8415 §21.13).
    pub(super) fn status(&mut self, status: Status, text: &str) {
        let mut value = (status as u16).to_be_bytes().to_vec();
        value.extend(text.as_bytes());
        self.option(code::STATUS, &value);
    }

    /// An association with what `inside` writes in it.
    pub(super) fn ia(&mut self, iaid: u32, t1: u32, t2: u32, inside: impl FnOnce(&mut Self)) {
        let mut body = Self::default();
        for number in [iaid, t1, t2] {
            body.0.extend(number.to_be_bytes());
        }
        inside(&mut body);
        self.option(code::IA_NA, &body.0);
    }

    /// An address in an association (RFC 8415 §21.6).
    pub(super) fn address(&mut self, address: Ipv6Addr, preferred: u32, valid: u32) {
        let mut value = address.octets().to_vec();
        value.extend(preferred.to_be_bytes());
        value.extend(valid.to_be_bytes());
        self.option(code::IAADDR, &value);
    }

    /// The bytes, wrapped for the relays around `message` (RFC 8415 §19.3).
    pub(super) fn finish(self, message: &Message<'_>) -> Vec<u8> {
        message.relays.iter().rev().fold(self.0, |inner, relay| {
            let mut outer = Self(Vec::with_capacity(inner.len() + 64));
            outer.0.extend([RELAY_REPL, relay.hops]);
            outer.0.extend(relay.link.octets());
            outer.0.extend(relay.peer.octets());
            if let Some(interface) = relay.interface {
                outer.option(code::INTERFACE_ID, interface);
            }
            outer.option(code::RELAY_MESSAGE, &inner);
            outer.0
        })
    }
}
