//! What does a DHCPv4 server answer? (RFC 2131)
//!
//! - [`message`]: reading requests; [`write`](self::write): making replies that fit
//! - [`option`]: codes and the encodings of option values
//! - [`config`]: subnets, ranges, fixed hosts, boot files
//!
//! The codec is our own. `dhcproto` was looked at: it takes messages without the magic cookie,
//! keeps the last of a split option instead of joining the parts (RFC 3396), stops silently at
//! the first option it cannot read, does not read overloaded fields, and writes options in the
//! order of their codes, not in the order the client asked for. Tests use it as a second opinion.

pub mod message;
pub mod option;
