//! The switch: OVSDB and OpenFlow in, packets through.
//!
//! One thread owns all control state; see [`run`](fn@run) for its tasks. The way of a wish:
//!
//! | Module      | Question                                                                      |
//! |-------------|-------------------------------------------------------------------------------|
//! | `stream`    | How do bytes come from and go to peers?                                       |
//! | `db`        | How do the database's clients and its file meet?                              |
//! | `wanted`    | What does the database ask for?                                               |
//! | `bridge`    | What is there, how is it made to match, what does the database learn of it?   |
//! | `net`       | What is the host's network like?                                              |
//! | `openflow`  | What do controllers ask of bridges?                                           |
//! | `remotes`   | Where do the database's clients come from?                                    |
//! | `unixctl`   | How do `ovs-appctl` and `weft` ask the running switch for things?             |
//! | `export`    | How do samples become IPFIX messages at their collectors?                     |
//! | `control`   | What is done about each thing that happens?                                   |
//! | `process`   | How does the switch behave as a daemon?                                       |
#![forbid(unsafe_code)]

mod bridge;
mod clock;
mod control;
mod db;
mod drops;
mod export;
mod linger;
mod metrics;
mod net;
mod openflow;
mod process;
mod remotes;
mod run;
mod stream;
#[cfg(test)]
mod testing;
mod unixctl;
mod wanted;
mod watched;
mod why;

pub use process::detach;
pub use process::paths::{Daemon, Paths, log_file};
pub use run::{Options, StartError, run};
pub use unixctl::{ClientError, call};
