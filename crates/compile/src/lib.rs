//! How does what is wanted become flow tables? A [`Plan`] of networks and ports as one node sees them goes in; flows
//! and groups of the integration bridge come out, and after a change only those that changed.
//!
//! ```text
//! resources ─▶ Plan ─▶ objects/{network,port}.rs ─▶ flows, each with a cookie that names object and purpose ─▶ br-int
//! ```
//!
//! The stages a packet passes are listed in [`Stage`] and nowhere else. Pure: no I/O, no clock.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod compiler;
mod cookie;
mod flow;
mod objects;
mod plan;
mod stage;

pub use compiler::{Change, Compiler, Delta, Owner};
pub use cookie::{Cookie, Kind, Purpose};
pub use flow::{Bucket, Flow, FlowId, Group, Term};
pub use plan::{
    GROUP_BASE, Guard, Hop, HostLink, Limit, METER_BASE, Net, NetKey, Overlay, Plan, Port, PortKey, Subnet,
    Uplink, Vlans,
};
pub use stage::{Register, Stage};
