//! The datapath: what carries frames between ports as the pipeline decides?
//!
//! [`Datapath`] is the contract, as the switch uses it. [`UserDatapath`] is the one in user space:
//!
//! | Module                          | Question                                                       |
//! |---------------------------------|----------------------------------------------------------------|
//! | `lane`                          | What does a lane do all day? The packet's life on one screen.  |
//! | `lookup`, `batch`               | How does a packet find its actions?                            |
//! | `smc`, `megaflow`, `flows`      | Which caches are asked, and where do flows live?               |
//! | `fair`                          | Who gets how much of a lane's time?                            |
//! | `police`                        | How much may a port take in?                                   |
//! | `epoch`, `sweep`                | When is a cached flow still right, and when does it go?        |
//! | `actions`, `hand`, `rewrite`, `executor` | What is done with a frame, and how does it leave?     |
//! | `meta`, `recirc`                | How is a frame looked up again, with what it carries along?    |
//! | `ct`                            | How does a frame pass connection tracking?                     |
//! | `rule_drops`                    | Which rules drop packets?                                      |
//! | `ports`                         | How does each kind of port read and write?                     |
//! | `tunnel`                        | How do frames cross an underlay?                               |
//! | `user`, `commands`, `shared`    | How are lanes controlled?                                      |
#![allow(unsafe_code)]

mod actions;
mod arch;
mod batch;
mod clock;
mod commands;
mod contract;
mod ct;
mod decided;
mod epoch;
mod executor;
mod fair;
mod flows;
mod hand;
mod lane;
mod lookup;
mod megaflow;
mod meta;
mod packet;
mod police;
mod ports;
#[doc(hidden)]
pub mod probe;
mod recirc;
mod rewrite;
mod rule_drops;
mod sample;
mod shared;
mod smc;
mod stats;
mod sweep;
mod tunnel;
mod user;

pub use clock::now_ms;
pub use contract::*;
pub use police::Policing;
pub use ports::{PcapError, parse_pcap};
pub use user::{UserDatapath, UserOptions};
