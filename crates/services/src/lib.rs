//! What does a node answer to hosts that ask for an address, a router or a name?
//!
//! Responders as pure state machines: a packet, the state and the time go in; replies and the
//! changes of leases that must be durable *before* the replies are sent come out. No socket, no
//! clock, no random numbers: they are arguments.
//!
//! - [`lease`]: the book of leases, the same for both families
//! - [`dhcp4`]: RFC 2131 and its options
//! - [`dhcp6`]: RFC 8415, stateful and stateless
//! - [`dns`]: the network's names, and forwarders for the rest
//! - [`ra`]: router advertisements, RFC 4861 and RFC 8106
//! - [`frame`]: UDP datagrams out of frames, and frames around datagrams
#![forbid(unsafe_code)]

pub mod dhcp4;
pub mod dhcp6;
pub mod dns;
pub mod frame;
pub mod lease;
mod name;
pub mod ra;

pub use lease::{Client, Lease, LeaseBook, LeaseChange, LeaseState};
