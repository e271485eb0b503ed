//! What does a name server answer to the hosts of a network? (RFC 1034, 1035, 2308, 6891, 7766)
//!
//! - [`config`]: the network's domain, its records, who is asked for the rest
//! - [`zone`]: the network's names, forward and reverse, from records and leases
//! - [`Server`]: a query comes in; an answer, or the wish to ask a forwarder, goes out
//! - [`tcp`]: messages in a byte stream
//!
//! The codec is `hickory-proto` without DNSSEC; its random numbers are not used. It bounds
//! names and pointers, and a compressed name can point backwards only. What it does not bound is
//! checked before: a query has one question and no answers, so that a 12-byte header cannot make
//! it set memory aside for 65,535 records.
//!
//! **Against loops**: responses that come as queries are dropped; a query that is on its way
//! upstream is not sent a second time, however often it comes back; queries without RD are
//! answered from what is known; names that mean something only here (RFC 6303, 6761, 6762) are
//! never asked upstream. **Against amplification**: ANY gets one small record (RFC 8482), UDP
//! answers are short, clients that are not of the network are refused. **Against forgery**: id,
//! port, letter case (0x20) and a question asked once (no birthday attack); only whole answers to
//! the question asked are remembered.

pub mod config;
pub mod tcp;
pub mod zone;

mod answer;
mod cache;
mod pending;
mod server;

pub use config::{Config, Data, Entry, Forward};
pub use server::{Ask, Ignored, Server, Step, Transport};
pub use zone::Zone;

use hickory_proto::rr::Name;

/// A name as a key: labels behind their lengths, in lower case, without the root.
pub(crate) type Key = Box<[u8]>;

pub(crate) fn key(name: &Name) -> Key {
    let mut out = Vec::with_capacity(64);
    for label in name.iter() {
        out.push(label.len() as u8);
        out.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    out.into()
}

/// The key of a name in text; None for what is no name.
pub(crate) fn key_of(name: &str) -> Option<Key> {
    let mut wire = crate::name::wire(name)?;
    wire.pop();
    Some(wire.into())
}

/// A key and its parents, up to the root, which is empty.
pub(crate) fn suffixes(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(key);
    core::iter::from_fn(move || {
        let here = rest?;
        rest = here.split_first().and_then(|(len, tail)| tail.get(usize::from(*len)..));
        Some(here)
    })
}

/// Number of labels of a key.
pub(crate) fn labels(key: &[u8]) -> usize {
    suffixes(key).count() - 1
}
