//! OpenFlow 1.0 to 1.5 with the Nicira extensions: what do the bytes between a switch and a controller mean?
//!
//! * [`Framer`] cuts a stream into messages; [`Codec`] turns one into a [`Message`] and back, whatever the version.
//! * [`session`] holds the two ends of a connection as state machines: bytes in, events and bytes out.
//! * Matches and actions are those of `weft_flow`; each version's way to write them is hidden in here.
//!
//! Pure: no sockets, no clock. Everything read is hostile: lengths are checked, lists and nesting limited, and what is
//! refused has the error code that the standard gives for it.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod actions;
mod bytes;
mod codec;
mod error;
mod error_table;
mod experimenter;
mod frame;
mod instructions;
pub mod kept;
mod lengths;
mod matches;
mod message;
pub mod msg;
mod refused;
pub mod session;
mod spare;
pub mod stats;
mod version;

pub use actions::ActionKind;
pub use codec::{Codec, EncodeError};
pub use error::{ERROR_DATA, ErrorCode, ErrorKind, ErrorMessage, NICIRA, ONF, WireError};
pub use frame::{FrameError, Framer, HEADER_LEN, Header, MAX_MESSAGE};
pub use matches::{match_with_options, options_of};
pub use message::Message;
pub use version::{Version, VersionSet};
