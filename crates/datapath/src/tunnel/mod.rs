//! How do frames cross an underlay?
//!
//! ```text
//!  output to a tunnel port ─▶ header ─▶ encap: runs of datagrams ─▶ UDP_SEGMENT, one call per run
//!  UDP_GRO buffer ─▶ header ─▶ demux ─▶ decap: TCP segments merged into one GSO frame ─▶ a batch of the lane
//! ```
//!
//! Two ways: over the host's IP stack, by sockets (this module's files but [`native`]), and natively, when the
//! underlay address is on a bridge of the switch itself: then the outer headers are built in the frame ([`native`]).

mod decap;
mod demux;
mod encap;
mod header;
pub(crate) mod native;
mod pmtu;
mod sockets;

pub(crate) use decap::Listener;
pub(crate) use demux::Demux;
pub(crate) use encap::TunnelTx;
pub(crate) use native::Popped;
pub(crate) use sockets::{ListenKey, Pool, PoolKey};

use std::sync::atomic::AtomicU32;

use crate::contract::TunnelSpec;

/// A tunnel port: what it adds to the outer headers that come with each output.
pub(crate) struct TunnelPort {
    pub(crate) spec: TunnelSpec,
    /// Next GRE sequence number (RFC 2890 §2.2).
    pub(crate) sequence: AtomicU32,
}
