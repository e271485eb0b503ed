//! What a rule is known by outside its table, and where its statistics are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Statistics of one rule. Counters are added to by datapaths in batches, from several threads.
#[derive(Debug, Default)]
pub struct RuleStats {
    /// Packets that matched.
    pub packets: AtomicU64,
    /// Bytes that matched.
    pub bytes: AtomicU64,
    /// Last use, in milliseconds of the switch's clock.
    pub used_ms: AtomicU64,
    /// When the rule was last learned again as it is; 0: never. Its hard timeout counts from here.
    pub refreshed_ms: AtomicU64,
}

impl RuleStats {
    /// Adds traffic seen up to `now_ms`.
    pub fn credit(&self, packets: u64, bytes: u64, now_ms: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.used_ms.fetch_max(now_ms, Ordering::Relaxed);
    }
}

/// A matched rule, as cached flows and traces remember it.
#[derive(Clone, Debug)]
pub struct RuleRef {
    /// Bridge, as the switch numbers them.
    pub bridge: u32,
    /// Table.
    pub table: u8,
    /// Cookie: leads back to who asked for the rule.
    pub cookie: u64,
    /// Where its traffic is counted.
    pub stats: Arc<RuleStats>,
}
