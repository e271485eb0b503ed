//! Which queues do ports have? Those of the QoS and Queue tables.
//!
//! Packets carry the queue that rules choose for them; nothing here shapes traffic by it, so counts are not kept.

use weft_flow::OfPort;
use weft_openflow::ErrorCode;
use weft_openflow::msg::queue::QueueDesc;
use weft_openflow::stats::QUEUE_ALL;
use weft_openflow::stats::port::QueueStats;

use crate::bridge::Bridge;

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
            iface.home.queues.iter().filter(|q| queue == QUEUE_ALL || **q == queue).map(|q| (number, *q)),
        );
    }
    if found.is_empty() && queue != QUEUE_ALL { Err(ErrorCode::OFPQOFC_BAD_QUEUE) } else { Ok(found) }
}

/// Answers the question for counts.
pub(super) fn stats(bridge: &Bridge, port: OfPort, queue: u32) -> Result<Vec<QueueStats>, ErrorCode> {
    let of = |(port_no, queue_id)| QueueStats {
        port_no,
        queue_id,
        tx_bytes: UNKNOWN,
        tx_packets: UNKNOWN,
        tx_errors: UNKNOWN,
        duration: None,
    };
    Ok(find(bridge, port, queue)?.into_iter().map(of).collect())
}

/// Answers the question for queues.
pub(super) fn describe(bridge: &Bridge, port: OfPort, queue: u32) -> Result<Vec<QueueDesc>, ErrorCode> {
    let of = |(port_no, queue_id)| QueueDesc { port_no, queue_id, ..QueueDesc::default() };
    Ok(find(bridge, port, queue)?.into_iter().map(of).collect())
}
