//! What is to be done about a message, and what happened?

use core::net::Ipv6Addr;

use super::message::{Kind, ParseError};
use crate::lease::Changes;

/// What is to be done about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// The frame to send, once `changes` are durable.
    pub reply: Option<Vec<u8>>,
    /// What must be durable before.
    pub changes: Changes<Ipv6Addr>,
    /// What happened.
    pub event: Event,
}

/// What happened, for logs and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A message was answered; the address is the first that was offered, given or taken back.
    Answered(Kind, Option<Ipv6Addr>),
    /// A message was passed over in silence.
    Ignored(Ignored),
}

/// Why a message got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// The frame holds no datagram to a server.
    #[error("not a datagram to a DHCPv6 server")]
    NotForServer,
    /// The datagram holds no message.
    #[error(transparent)]
    Parse(ParseError),
    /// A message that RFC 8415 §16 says to discard: without what it needs, or with what it must
    /// not have.
    #[error("a message that clients do not send")]
    Nonsense,
    /// No subnet for this relay or link.
    #[error("no subnet for this client")]
    NoSubnet,
    /// Meant for another server.
    #[error("meant for another server")]
    OtherServer,
    /// Nothing can be said about these addresses (CONFIRM without any).
    #[error("nothing to confirm")]
    NothingToConfirm,
}

impl From<Ignored> for Outcome {
    fn from(why: Ignored) -> Self {
        Self { reply: None, changes: Changes::new(), event: Event::Ignored(why) }
    }
}
