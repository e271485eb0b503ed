//! What does a DHCPv4 server answer? (RFC 2131)
//!
//! - [`message`]: reading requests
//! - [`option`]: codes and the encodings of option values
//! - [`config`]: subnets, ranges, fixed hosts, boot files
//! - [`Server`]: a request comes in, a reply and changes of leases go out
//!
//! The codec is our own. `dhcproto` was looked at: it takes messages without the magic cookie,
//! keeps the last of a split option instead of joining the parts (RFC 3396), stops silently at
//! the first option it cannot read, does not read overloaded fields, and writes options in the
//! order of their codes, not in the order the client asked for. Tests use it as a second opinion.

pub mod config;
pub mod message;
pub mod option;

mod answer;
mod hosts;
mod outcome;
mod server;
mod write;

pub use config::{Boot, Config, Host, HostId, Options, Subnet};
pub use outcome::{Event, Ignored, NakReason, Outcome};
pub use server::Server;

/// The port servers and relays listen on (RFC 2131 §4.1).
pub const SERVER_PORT: u16 = 67;
/// The port clients listen on.
pub const CLIENT_PORT: u16 = 68;
