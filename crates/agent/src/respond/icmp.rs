//! What does the sender of a packet hear from the gateway when it cannot go on?

use std::net::IpAddr;
use std::time::Instant;

use weft_wire::Mac;
use weft_wire::icmp_error::{Problem, Reporter, report};

/// Errors a second, over all networks (RFC 1812 §4.3.2.8 asks for a limit).
const A_SECOND: u32 = 1_000;
/// Room for an error with what it quotes.
const LEN: usize = 1_400;

/// The gateway's addresses in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routers {
    /// Its MAC address.
    pub mac: Mac,
    /// Its IP addresses.
    pub addresses: Vec<IpAddr>,
}

/// How many errors were sent.
#[derive(Debug, Default)]
pub(super) struct Limit {
    second: u64,
    sent: u32,
}

impl Limit {
    /// The error about a frame, if its sender is to be told, and not too many were.
    pub(super) fn answer(
        &mut self,
        routers: &Routers,
        frame: &[u8],
        problem: Problem,
        started: Instant,
    ) -> Option<Vec<u8>> {
        let second = started.elapsed().as_secs();
        if second != self.second {
            (self.second, self.sent) = (second, 0);
        }
        if self.sent >= A_SECOND {
            return None;
        }
        // Of the packet's family: the other is refused by `report`.
        let mut out = vec![0; LEN];
        let len = routers.addresses.iter().find_map(|ip| {
            let from = Reporter { mac: routers.mac, ip: *ip };
            report(frame, problem, Some(from), &mut out).ok()
        })?;
        self.sent += 1;
        out.truncate(len);
        Some(out)
    }
}
