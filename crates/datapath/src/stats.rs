//! Who counts what, without sharing a cache line with another lane?
//!
//! Each counter has one writer, its lane; readers sum over lanes. So a count is a plain load and store.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use weft_flow::DropReason;

use crate::contract::DropCounts;

/// A counter with one writer and any number of readers.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owner may.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }
    /// Replaces the value; only the owner may.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Drops by reason, of one lane.
#[derive(Debug)]
pub(crate) struct Drops([Counter; DropReason::COUNT]);

impl Default for Drops {
    fn default() -> Self {
        Drops(std::array::from_fn(|_| Counter::default()))
    }
}

impl Drops {
    #[inline]
    pub(crate) fn add(&self, reason: DropReason, n: u64) {
        self.0[reason as usize].add(n);
    }
    pub(crate) fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].get()
    }
    pub(crate) fn sum_into(&self, total: &mut DropCounts) {
        for (to, from) in total.iter_mut().zip(&self.0) {
            *to += from.get();
        }
    }
}

/// What one lane counts for one port.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct PortCounters {
    pub(crate) rx_packets: Counter,
    pub(crate) rx_bytes: Counter,
    pub(crate) tx_packets: Counter,
    pub(crate) tx_bytes: Counter,
    /// Drops of frames received by the port.
    pub(crate) rx_drops: Drops,
    /// Drops of frames that were to be sent by the port.
    pub(crate) tx_drops: Drops,
}

macro_rules! lane_counters {
    ($($name:ident $text:literal,)*) => {
        /// What a lane counts for itself.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct LaneCounters {
            $(#[doc = $text] pub(crate) $name: Counter,)*
            pub(crate) drops: Drops,
        }
        impl LaneCounters {
            /// Names and values, for `coverage/show`.
            pub(crate) fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

lane_counters! {
    lane_batches "Batches processed.",
    lane_packets "Packets processed, recirculated ones again.",
    lane_sleeps "Times the lane slept.",
    cache_hit "Packets found in the signature cache.",
    megaflow_hit "Packets found in the megaflow classifier.",
    megaflow_masks_looked_at "Masks looked at in the megaflow classifier.",
    upcall "Packets that walked the tables.",
    upcall_refused "Packets dropped because the slow path had its share of the lane.",
    flow_narrow "Flows cached for one kind of packet because there were too many masks.",
    flow_install "Flows put into the cache.",
    flow_evict "Flows thrown out to make room.",
    flow_expire "Flows that idled out.",
    flow_revalidate "Flows walked again after a change.",
    flow_invalidate "Flows deleted or replaced after a change.",
    packet_copy "Frames copied because a later action needed the original.",
    gso_segment "GSO frames cut in software.",
    sample_lost "Sampled packets that the exporter had no room for.",
    gso_merge "Frames merged into GSO frames on tunnels.",
    csum_complete "Checksums completed in software.",
    tunnel_push "Frames encapsulated.",
    tunnel_pop "Frames decapsulated.",
    tunnel_tx_calls "Datagrams (or runs of them) handed to the kernel.",
    recirculate "Frames looked up again.",
    flows "Flows in the cache now.",
    masks "Masks in the cache now.",
}
