//! What is to be done about a request, and what happened?

use core::net::Ipv4Addr;

use super::message::ParseError;
use crate::lease::Changes;

/// What is to be done about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// The frame to send, once `changes` are durable.
    pub reply: Option<Vec<u8>>,
    /// What must be durable before.
    pub changes: Changes<Ipv4Addr>,
    /// Probe this address (ARP, ICMP echo) first. When somebody answers, drop the reply, call
    /// [`super::Server::conflict`], and handle the request once more.
    pub probe: Option<Ipv4Addr>,
    /// What happened.
    pub event: Event,
}

/// What happened, for logs and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An address was offered.
    Offered(Ipv4Addr),
    /// An address was given or prolonged.
    Acked(Ipv4Addr),
    /// A client with an address of its own got options.
    Informed(Ipv4Addr),
    /// A request was refused aloud.
    Nak(NakReason),
    /// A client found an address in use.
    Declined(Ipv4Addr),
    /// A client gave its address back.
    Released(Ipv4Addr),
    /// A request was passed over in silence.
    Ignored(Ignored),
}

/// Why a client was told that it may not have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NakReason {
    /// The address is of another network.
    #[error("address is not of this network")]
    WrongNetwork,
    /// Another client holds it, or it is in quarantine.
    #[error("address is in use")]
    InUse,
    /// The client has a fixed address, and this is not it.
    #[error("another address is kept for this client")]
    OtherAddress,
    /// The address is given to nobody.
    #[error("address is not given out")]
    NotGiven,
}

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// The frame holds no datagram to a server.
    #[error("not a datagram to a DHCP server")]
    NotForServer,
    /// The datagram holds no request.
    #[error(transparent)]
    Parse(ParseError),
    /// A reply, or a request without what it needs.
    #[error("a message that clients do not send")]
    Nonsense,
    /// The client speaks for another's hardware address.
    #[error("hardware address is not the sender's")]
    ForeignHardware,
    /// No subnet for this relay or link.
    #[error("no subnet for this client")]
    NoSubnet,
    /// Only fixed hosts are served, or no address is left.
    #[error("no address for this client")]
    NoAddress,
    /// The client chose another server.
    #[error("meant for another server")]
    OtherServer,
    /// Nothing is known of the client, and another server may know (not authoritative).
    #[error("unknown client")]
    Unknown,
    /// Too many addresses are in quarantine already.
    #[error("too many declined addresses")]
    TooManyDeclined,
    /// The reply does not fit what the client takes.
    #[error("reply does not fit")]
    TooLarge,
}

impl Outcome {
    pub(super) fn silent(event: Event) -> Self {
        Self { reply: None, changes: Changes::new(), probe: None, event }
    }
}

impl From<Ignored> for Outcome {
    fn from(why: Ignored) -> Self {
        Self::silent(Event::Ignored(why))
    }
}
