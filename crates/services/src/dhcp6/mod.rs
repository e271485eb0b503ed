//! What does a DHCPv6 server answer? (RFC 8415)
//!
//! - [`message`]: reading messages and the relays around them
//! - [`config`]: subnets, ranges, fixed hosts, options
//! - [`Server`]: a message comes in, a reply and changes of leases go out
//!
//! Addresses (IA_NA) are stateful; INFORMATION-REQUEST is answered without state. Delegated
//! prefixes (IA_PD) and temporary addresses (IA_TA) are refused by their status codes.

pub mod config;
pub mod message;

mod hosts;
mod outcome;
mod server;
mod write;

pub use config::{Config, Host, HostId, Options, Subnet};
pub use outcome::{Event, Ignored, Outcome};
pub use server::Server;

/// The port clients listen on (RFC 8415 §7.2).
pub const CLIENT_PORT: u16 = 546;
/// The port servers and relays listen on.
pub const SERVER_PORT: u16 = 547;
