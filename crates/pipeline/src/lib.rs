//! What happens to a packet? `(key, published tables, state, now)` enter, a [`weft_flow::Verdict`] leaves.
//!
//! [`Pipeline`] is shared by every lane of every datapath and by the switch that configures it. Configuration and flow
//! tables are an immutable [`Snapshot`], replaced as a whole; MAC tables are the only state that packets change.
//! Cached flows learn of changes through [`Changes`].
//!
//! Pure: no I/O, no clock; time comes in as milliseconds of any clock that does not run backwards.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod changes;
pub mod classifier;
mod config;
mod cursor;
mod effect;
mod fdb;
mod frozen;
pub mod group;
pub mod meter;
mod pipeline;
mod ports;
mod retrace;
mod snapshot;
mod table;
mod trace;
mod tunnel;
mod walk;

pub use changes::{Changed, Changes};
pub use config::*;
pub use cursor::RuleCursor;
pub use fdb::{FdbEntry, FdbStats};
pub use frozen::{Frozen, FrozenFrame};
pub use pipeline::{PacketOut, Pipeline, Resolve, TraceFrom};
pub use ports::Ports;
pub use snapshot::{Bridge, Snapshot};
pub use table::*;
pub use trace::{ResumedTrace, Step, StepKind, Trace};
pub use tunnel::{Neighbour, Route, TunnelListener, Underlay};
