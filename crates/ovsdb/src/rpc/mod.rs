//! How do JSON-RPC messages travel in a stream of bytes (RFC 7047 §4)?

mod frame;
mod message;

pub use frame::{Decoder, FrameError, FrameLimits};
pub use message::Message;
