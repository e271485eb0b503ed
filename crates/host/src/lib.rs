//! Effects on the host: what does Weft ask of the kernel, and how?
//!
//! Safe, blocking wrappers usable from plain threads. Sockets are nonblocking file descriptors with batch
//! calls for the datapath; netlink, namespaces and BPF are request/answer functions for the switch and the lab.
//! Set-up calls return [`Error`], which says what was being done; hot-path calls return [`std::io::Result`].
//!
//! | Module      | Question                                                              |
//! |-------------|-----------------------------------------------------------------------|
//! | [`tun`]     | How is a TUN/TAP device opened, with offloads?                        |
//! | [`packet`]  | How are frames of an existing device read and written (AF_PACKET)?    |
//! | [`udp`]     | How are tunnel datagrams sent and received, with GSO and GRO?         |
//! | [`raw`]     | The same for IP protocols without ports (GRE).                        |
//! | [`poll`]    | How does a thread sleep until there is work?                          |
//! | [`thread`]  | Which CPU and which name has a thread?                                |
//! | [`ingress`] | How is the host's stack kept from seeing a port's frames?             |
//! | [`netlink`] | What does the kernel know of links, addresses, routes, neighbours?    |
//! | [`ethtool`] | Which offloads and what speed has a device?                           |
//! | [`netns`]   | How are network namespaces made, entered and removed?                 |
//! | [`mountns`] | How is a mount namespace made, kept and entered?                      |
//! | [`sharedmap`] | How is memory of another process used?                              |
//! | [`busguard`]  | What if a file shrinks while it is mapped?                          |
//! | [`unix`]        | How is a socket file reached, or made, without waiting?             |
//! | [`procfs`]  | Which processes are there, and who holds a pid file?                  |
#![allow(unsafe_code)]

pub mod busguard;
pub mod error;
pub mod ethtool;
pub mod inet;
pub mod ingress;
pub mod mountns;
pub mod netlink;
pub mod netns;
pub mod packet;
pub mod poll;
pub mod procfs;
pub mod raw;
pub mod sharedmap;
pub mod thread;
pub mod tun;
pub mod udp;
pub mod unix;

mod cmsg;
mod mmsg;
mod sys;

pub use error::{Error, Result};
pub use procfs::user_id;
pub use weft_wire::Mac;
