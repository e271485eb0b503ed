//! How does a program of ours use somebody's OVSDB server?
//!
//! [`ClientSession`] turns calls into bytes to send and bytes received into
//! [`ClientEvent`]s; [`Replica`] keeps the rows a monitor reports; [`op`] writes operations.

pub mod op;
mod replica;
mod session;

pub use replica::{Replica, ReplicaError};
pub use session::{ClientEvent, ClientSession, RequestId};
