//! Which queues do ports have? Those of the QoS and Queue tables.
//!
//! Packets carry the queue that rules choose for them. Where the device shapes by it ([`crate::bridge`]), the kernel keeps the
//! counts; elsewhere nobody does.

use std::collections::BTreeMap;

use weft_flow::OfPort;
use weft_host::netlink::{Netlink, QueueCounts};
use weft_openflow::ErrorCode;
use weft_openflow::msg::queue::QueueDesc;
use weft_openflow::stats::QUEUE_ALL;
use weft_openflow::stats::port::QueueStats;

use crate::bridge::{Bridge, Iface};

/// A count that is not kept.
const UNKNOWN: u64 = u64::MAX;

/// Pairs of a port and a queue that a question is about.
///
/// # Errors
/// There is no such port, or no such queue.
fn find(bridge: &Bridge, port: OfPort, queue: u32) -> Result<Vec<(OfPort, u32)>, ErrorCode> {
    if port != OfPort::ANY && bridge.by_ofport(port).is_none() {
        return Err(ErrorCode::OFPQOFC_BAD_PORT);
    }
    let mut found = Vec::new();
    for iface in bridge.open() {
        let Some(number) = iface.ofport.filter(|n| port == OfPort::ANY || *n == port) else { continue };
        found.extend(
            iface.home.qos.queues.iter().filter(|q| queue == QUEUE_ALL || **q == queue).map(|q| (number, *q)),
        );
    }
    if found.is_empty() && queue != QUEUE_ALL { Err(ErrorCode::OFPQOFC_BAD_QUEUE) } else { Ok(found) }
}

/// Answers the question for counts.
pub(super) fn stats(bridge: &Bridge, port: OfPort, queue: u32) -> Result<Vec<QueueStats>, ErrorCode> {
    let found = find(bridge, port, queue)?;
    let mut counts: BTreeMap<OfPort, Vec<(u32, QueueCounts)>> = BTreeMap::new();
    for (port, _) in &found {
        counts.entry(*port).or_insert_with(|| bridge.by_ofport(*port).map(counted).unwrap_or_default());
    }
    let of = |(port_no, queue_id): (OfPort, u32)| {
        let known = counts.get(&port_no).and_then(|all| all.iter().find(|(id, _)| *id == queue_id));
        let count = |of: fn(&QueueCounts) -> u64| known.map_or(UNKNOWN, |(_, counts)| of(counts));
        QueueStats {
            port_no,
            queue_id,
            tx_bytes: count(|c| c.bytes),
            tx_packets: count(|c| c.packets),
            tx_errors: count(|c| c.drops),
            duration: None,
        }
    };
    Ok(found.into_iter().map(of).collect())
}

/// What left by each queue of an interface, as the kernel knows.
pub(crate) fn counted(iface: &Iface) -> Vec<(u32, QueueCounts)> {
    if iface.shaped.is_none() {
        return Vec::new();
    }
    Netlink::open().and_then(|mut netlink| netlink.queue_counts(iface.state.ifindex)).unwrap_or_default()
}

/// Answers the question for queues.
pub(super) fn describe(bridge: &Bridge, port: OfPort, queue: u32) -> Result<Vec<QueueDesc>, ErrorCode> {
    let of = |(port_no, queue_id)| QueueDesc { port_no, queue_id, ..QueueDesc::default() };
    Ok(find(bridge, port, queue)?.into_iter().map(of).collect())
}
