//! What do the bytes of a frame mean, and how are they made?
//!
//! One file per protocol. Each has two faces: a *view*, which checks lengths once and then reads
//! fields in place, and a *Repr*, a small plain value that is parsed from a view and emitted to
//! bytes (`emit(parse(bytes)) == bytes` for every canonical header). Offsets are named once, in
//! the `field` module of the protocol, and used by everyone else under that name.
//!
//! - link and tunnels: [`ethernet`], [`vlan`], [`mpls`], [`vxlan`], [`geneve`], [`gre`], [`nsh`]
//! - network: [`arp`], [`ipv4`], [`ipv6`], [`ipv6_ext`], [`icmpv4`], [`icmpv6`], [`ndp`], [`igmp`]
//! - transport: [`tcp`], [`tcp_option`], [`udp`], [`sctp`]
//! - of flows: [`ipfix`]
//! - work on frames: [`checksum`], [`vnet`], [`segment`], [`merge`], [`fragment`], [`icmp_error`],
//!   [`locate`]; frames from nothing: [`build`]
//!
//! Nothing here does I/O, reads a clock, or panics on input. A length read from a packet is never
//! trusted before it was compared with the bytes that are there.
#![forbid(unsafe_code)]

mod bytes;
mod error;
mod mac;
mod types;

pub mod arp;
pub mod build;
pub mod checksum;
pub mod ethernet;
pub mod fragment;
pub mod geneve;
pub mod gre;
pub mod icmp_error;
pub mod icmpv4;
pub mod icmpv6;
pub mod igmp;
pub mod ipfix;
pub mod ipv4;
pub mod ipv6;
pub mod ipv6_ext;
pub mod locate;
pub mod merge;
pub mod mpls;
pub mod ndp;
pub mod ndp_option;
pub mod nsh;
pub mod sctp;
pub mod segment;
pub mod tcp;
pub mod tcp_option;
pub mod udp;
pub mod vlan;
pub mod vnet;
pub mod vxlan;

pub use error::{Error, Result};
pub use mac::{Mac, MacParseError};
pub use types::{EtherType, IpProto, Vni, VniRangeError};
