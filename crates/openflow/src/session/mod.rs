//! The two ends of a connection as state machines: bytes in, events and bytes to send out.
//!
//! ```text
//!  socket ─▶ receive(bytes, now) ─▶ events ─▶ the switch ─▶ reply(…), packet_in(…) ─▶ output() ─▶ socket
//! ```
//! Hello, version negotiation, echoes and the settings of one connection (formats, asynchronous messages, bundles) are
//! handled inside. Time is milliseconds of any clock that only goes forward.

mod budget;
mod bundles;
mod channel;
mod controller;
mod monitors;
mod multipart;
mod switch;
mod switch_send;

pub use crate::spare::Spare;
pub use budget::BundleBudget;
pub use bundles::{BundleCommit, Messages};
pub use channel::CloseReason;
pub use controller::{ControllerEvent, ControllerSession};
pub use monitors::initial_update;
pub use switch::{Event, ReplyTo, Request, SwitchSession};

use std::sync::Arc;

use crate::VersionSet;

/// Whose connection it is: decides what is sent unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionKind {
    /// A controller the bridge was told of: asynchronous messages flow from the start.
    Controller,
    /// A tool at the management socket: none until it sets a miss-send length.
    Service,
}

/// Limits and habits of a session.
#[derive(Clone, Debug)]
pub struct Options {
    /// Versions offered.
    pub versions: VersionSet,
    /// Whose connection it is.
    pub kind: ConnectionKind,
    /// Milliseconds of silence after which the peer is probed, and after as much again given up; 0: never.
    pub probe_interval_ms: u64,
    /// Bytes waiting to be sent beyond which nothing is read and asynchronous messages are dropped.
    pub backlog: usize,
    /// Bytes waiting to be sent beyond which the connection is closed.
    pub max_backlog: usize,
    /// Bytes that the open bundles of this connection may hold together.
    pub max_bundle_bytes: usize,
    /// What the bundles of all connections may hold, and how long they may stand idle.
    pub bundles: Arc<BundleBudget>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            versions: VersionSet::ALL,
            kind: ConnectionKind::Service,
            probe_interval_ms: 0,
            backlog: 512 << 10,
            max_backlog: 64 << 20,
            max_bundle_bytes: 1 << 30,
            bundles: Arc::default(),
        }
    }
}

#[cfg(test)]
mod bundle_tests;
#[cfg(test)]
mod tests;
