//! What may be asked of all connections together: limits, timeouts, listing, flushing, the passing of time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Conntrack;
use crate::conn::Tick;
use crate::dump::{Entry, Filter, ProtocolStats};
use crate::key::{Key, fold};
use crate::reassembly::{FragmentRules, FragmentStatus};
use crate::timeout::TimeoutPolicy;

/// How many connections there may be, and how long they live.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections in all zones.
    pub connections: usize,
    /// Connections of each zone that has no limit of its own; `None`: no limit.
    pub default_zone: Option<u32>,
    /// Connections of single zones; 0: no limit.
    pub zones: HashMap<u16, u32>,
    /// Timeouts of zones without a policy.
    pub default_policy: TimeoutPolicy,
    /// Timeouts of single zones.
    pub policies: HashMap<u16, TimeoutPolicy>,
    /// Whether TCP sequence numbers are checked.
    pub check_seq: bool,
}

impl Default for Limits {
    /// Three million connections, as Open vSwitch has it, no limit of zones, sequence numbers checked.
    fn default() -> Self {
        Limits {
            connections: 3_000_000,
            default_zone: None,
            zones: HashMap::new(),
            default_policy: TimeoutPolicy::default(),
            policies: HashMap::new(),
            check_seq: true,
        }
    }
}

impl Limits {
    /// Most connections of a zone.
    pub fn zone(&self, zone: u16) -> Option<u32> {
        self.zones.get(&zone).copied().or(self.default_zone).filter(|most| *most > 0)
    }

    /// Timeouts of a zone.
    pub fn policy(&self, zone: u16) -> &TimeoutPolicy {
        if self.policies.is_empty() {
            &self.default_policy
        } else {
            self.policies.get(&zone).unwrap_or(&self.default_policy)
        }
    }
}

impl Conntrack {
    /// What is set.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Changes limits and timeouts; connections that are there stay.
    pub fn set_limits(&self, change: impl Fn(&mut Limits)) {
        self.limits.rcu(|old| {
            let mut new = Limits::clone(old);
            change(&mut new);
            new
        });
    }

    /// Connections, some of which may be over but not swept yet.
    pub fn count(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Connections of a zone, counted in the same way.
    pub fn zone_count(&self, zone: u16) -> u32 {
        self.zone_counts[usize::from(zone)].load(Relaxed)
    }

    /// Zones that have connections, and how many.
    pub fn zones(&self) -> BTreeMap<u16, u32> {
        let counts = self.zone_counts.iter().enumerate();
        counts.map(|(zone, n)| (zone as u16, n.load(Relaxed))).filter(|(_, n)| *n > 0).collect()
    }

    /// Connections entered since the beginning.
    pub fn created(&self) -> u64 {
        self.created.load(Relaxed)
    }

    /// Bytes of memory that connections take.
    pub fn memory(&self) -> usize {
        self.shards.iter().map(|s| s.lock().memory()).sum()
    }

    /// Number of connections in each shard, for `dpctl/ct-bkts`.
    pub fn buckets(&self) -> Vec<usize> {
        self.shards.iter().map(|s| s.lock().iter().count()).collect()
    }

    /// Shows each connection that the filter lets through, until `show` returns false. Nothing is locked meanwhile:
    /// what comes or goes while others are shown may be shown or not.
    pub fn each(&self, filter: &Filter, now_ms: u64, mut show: impl FnMut(Entry) -> bool) {
        let (mut some, now) = (Vec::new(), Tick::of(now_ms));
        for shard in &self.shards {
            for chunk in 0.. {
                {
                    let shard = shard.lock();
                    let Some(conns) = shard.chunk(chunk) else { break };
                    let shown = conns.iter().flatten().filter(|c| !c.is_over(now) && filter.takes(c));
                    some.extend(shown.map(|conn| Entry::of(conn, now_ms)));
                }
                if !some.drain(..).all(&mut show) {
                    return;
                }
            }
        }
    }

    /// Takes the connections out that the filter lets through; returns how many.
    pub fn flush(&self, filter: &Filter) -> usize {
        let mut flushed = 0;
        for shard in &self.shards {
            let mut locked = shard.lock();
            let slots: Vec<u32> =
                locked.iter().filter(|(_, c)| filter.takes(c)).map(|(slot, _)| slot).collect();
            let gone: Vec<_> = slots.iter().filter_map(|s| locked.remove(*s, |k| self.hash_of(k))).collect();
            drop(locked);
            flushed += gone.len();
            gone.iter().for_each(|conn| self.departed(conn));
        }
        flushed
    }

    /// How fragments fare.
    pub fn fragments(&self) -> FragmentStatus {
        self.reassembly.lock().status()
    }

    /// Changes what is demanded of fragments.
    pub fn set_fragment_rules(&self, change: impl FnOnce(&mut FragmentRules)) {
        change(&mut self.reassembly.lock().rules);
    }

    /// Connections by protocol and state; of one zone, or all.
    pub fn stats(&self, zone: Option<u16>, now_ms: u64) -> ProtocolStats {
        let mut stats = ProtocolStats::default();
        for shard in &self.shards {
            let shard = shard.lock();
            let live = shard.iter().filter(|(_, c)| !c.is_over(Tick::of(now_ms)));
            let meant = live.filter(|(_, c)| zone.is_none_or(|zone| zone == c.zone));
            meant.for_each(|(_, conn)| stats.add(conn));
        }
        stats
    }

    /// Lets time pass: looks at up to about `budget` connections that may be over, and takes out those that are. To be
    /// called again and again; returns how many went.
    pub fn sweep(&self, now_ms: u64, budget: usize) -> usize {
        let each = budget.div_ceil(self.shards.len());
        let (now, mut gone, mut swept) = (Tick::of(now_ms), Vec::new(), 0);
        for shard in &self.shards {
            shard.lock().sweep(now, each, |k| self.hash_of(k), &mut gone);
            swept += gone.len();
            gone.drain(..).for_each(|conn| self.departed(&conn));
        }
        self.reassembly.lock().expire(now_ms);
        if self.pooling.load(Relaxed) > 0 {
            let mut pools = self.pools.lock();
            self.take_back(&mut pools);
            pools.expire(now_ms);
            self.pooling.store(pools.len(), Relaxed);
        }
        swept
    }

    /// Takes out connections whose time is over, because there is no room or no port, until there is `enough` of it.
    /// When all were looked at, that takes time: it is not done again at once. Returns whether any went.
    pub(super) fn reap(&self, now_ms: u64, enough: impl Fn() -> bool) -> bool {
        const PAUSE_MS: u64 = 50;
        let next = self.next_reap_ms.load(Relaxed);
        if now_ms < next
            || self.next_reap_ms.compare_exchange(next, now_ms + PAUSE_MS, Relaxed, Relaxed).is_err()
        {
            return false;
        }
        let (now, mut gone, mut any) = (Tick::of(now_ms), Vec::new(), false);
        for shard in &self.shards {
            shard.lock().reap(now, |k| self.hash_of(k), &mut gone);
            any |= !gone.is_empty();
            gone.drain(..).for_each(|conn| self.departed(&conn));
            if any && enough() {
                self.next_reap_ms.store(now_ms, Relaxed);
                break;
            }
        }
        any
    }

    /// Has a connection that is not assured make room for another, as the kernel does. False: none was found.
    pub(super) fn give_way(&self, now_ms: u64) -> bool {
        const LOOKED_AT: usize = 64;
        let random = fold(self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed), self.seed | 1);
        let (now, mut left) = (Tick::of(now_ms), LOOKED_AT);
        for i in 0..self.shards.len() {
            let at = (random as usize).wrapping_add(i) % self.shards.len();
            let gone = self.shards[at].lock().give_way(random >> 8, &mut left, now, |k| self.hash_of(k));
            if let Some(conn) = gone {
                self.departed(&conn);
                return true;
            }
            if left == 0 {
                break;
            }
        }
        false
    }

    fn hash_of(&self, key: &Key) -> u64 {
        self.hash(key)
    }
}
