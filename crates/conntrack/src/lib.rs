//! Which connection does a packet belong to, and what may it therefore do?
//!
//! [`Conntrack`] is shared by all threads that forward. A packet is shown to it with [`Conntrack::execute`], which says
//! what is known of its connection (the `ct` section of the flow key) and how its headers are to be changed
//! ([`Edits`]); the caller changes them, because only it knows which checksums are left to a device.
//!
//! `key` names connections; `shard` keeps them, `wheel` tells when they end; `tcp`, `sctp` and `timeout` let them live and die; `nat` gives them addresses;
//! `related` and `helper` find packets and connections that belong to others; `reassembly` makes datagrams of
//! fragments.
//!
//! Pure: no I/O, no clock, no unsafe. Time is an argument, in milliseconds of a clock that does not go back.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod conn;
mod dump;
mod expect;
mod helper;
mod key;
mod nat;
mod ports;
mod reassembly;
mod related;
mod sctp;
mod sequence;
mod shard;
mod tcp;
mod timeout;
mod tracker;
mod wheel;

pub use dump::{Detailed, Entry, EntryTuple, Filter, ProtocolStats};
pub use key::{Key, state};
pub use reassembly::{FragmentCounts, FragmentList, FragmentRules, FragmentStatus, Reassembled, Reassembly};
pub use sctp::SctpState;
pub use tcp::TcpState;
pub use timeout::{TimeoutPolicy, UnknownTimeout};
pub use tracker::{Conntrack, CtOutcome, CtPacket, Edits, Limits, Patch, Splice};
