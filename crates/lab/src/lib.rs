//! Virtual hosts in namespaces, from a file: how are switches tried out, shown and tested on one machine?
//!
//! A lab is underlay networks (each a Linux bridge in a namespace), hosts on them, and workloads (namespaces joined
//! to their host by veth). A host is a network namespace plus a mount namespace with its own `/run`: pid files,
//! sockets and `ip netns` names inside neither collide with another host's nor touch the machine's.
//!
//! ```no_run
//! let spec = weft_lab::LabSpec::parse("name: demo\nhosts: [{name: a}]", "inline")?;
//! let lab = weft_lab::Lab::up(&spec)?; // removed when dropped
//! assert_eq!(lab.host("a").exec(["true"]).code, 0);
//! # Ok::<(), weft_lab::Error>(())
//! ```
//!
//! What a lab made is written down in `/run/weft/lab/NAME/lab.json` before it is made; nothing else is ever removed.

mod build;
mod check;
mod error;
mod lab;
mod layout;
mod ping;
mod place;
mod record;
mod service;
mod spec;
mod status;
mod teardown;
mod wait;

pub use error::{Error, Result};
pub use lab::{Lab, Outcome, UpOptions};
pub use place::{Output, Place, Running};
pub use spec::{
    CheckSpec, Cidr, Condition, HostSpec, LabSpec, LinkSpec, MacText, NetworkSpec, RunSpec, WorkloadSpec,
};
pub use status::{HostStatus, LabStatus, LabSummary, ServiceStatus, WorkloadStatus};
