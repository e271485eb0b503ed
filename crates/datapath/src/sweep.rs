//! What happens to cached flows while no packet hits them? Crediting, ageing, revalidation.

use std::sync::Arc;

use weft_flow::Match;

use crate::contract::FlowEntry;
use crate::lane::{Lane, SWEEP_MS};

/// Flows looked at between two rounds over the ports.
const SLICE: usize = 1024;
/// Flows walked again between two rounds over the ports.
const WALKS: usize = 64;

impl Lane {
    /// Does a slice of the sweep, if one is due or under way.
    pub(crate) fn sweep_some(&mut self) {
        if !self.sweeps {
            self.sweep_at = None;
            self.next_sweep_ms = self.now_ms + SWEEP_MS;
            return;
        }
        let at = match self.sweep_at {
            Some(at) => at,
            None if self.now_ms >= self.next_sweep_ms && self.flows.len() > 0 => 0,
            None => return,
        };
        self.follow_changes();
        let (mut flow, mut walks) = (at, 0);
        while flow < self.flows.slots().min(at + SLICE) && walks < WALKS {
            walks += usize::from(self.tend(flow as u32));
            flow += 1;
        }
        self.sweep_at = Some(flow).filter(|flow| *flow < self.flows.slots());
        if self.sweep_at.is_none() {
            self.flows.sort_masks();
            self.next_sweep_ms = self.now_ms + SWEEP_MS;
            let counters = &self.shared.lanes[self.number].counters;
            counters.flows.set(self.flows.len() as u64);
            counters.masks.set(self.flows.masks() as u64);
        }
    }

    /// Looks after one flow. Returns whether the tables had to be walked.
    fn tend(&mut self, flow: u32) -> bool {
        if !self.flows.is_live(flow) {
            return false;
        }
        let hot = self.flows.hot(flow);
        let (used_ms, epoch) = (hot.used_ms, hot.epoch);
        if self.is_stale(flow, epoch) {
            // Not credited to the MAC table: what it rested on may have moved since.
            self.revalidate(flow);
            return true;
        }
        self.flows.hot(flow).epoch = self.epochs.now();
        self.credit(flow);
        let idle = self.now_ms.saturating_sub(used_ms) > self.max_idle_ms;
        if idle && self.sweeps && !self.flows.is_pinned(flow) {
            self.flows.remove(flow, self.now_ms);
            self.handle().counters.flow_expire.add(1);
        }
        false
    }

    /// Credits a flow's traffic to its rules, and keeps the MAC table entries it uses alive.
    fn credit(&mut self, flow: u32) {
        if self.flows.credit(flow, self.now_ms) {
            let used_ms = self.flows.hot(flow).used_ms;
            let cold = &self.flows.cold(flow).decided;
            for entry in &cold.refresh {
                self.shared.pipeline.refresh(entry, used_ms);
            }
            for effect in &cold.effects {
                self.shared.pipeline.effect(effect, used_ms);
            }
        }
    }

    /// Walks the tables for a flow without a packet. The flow stays only if the new verdict looks at no bit that its
    /// match leaves open: then its match stands for every packet that hits it.
    fn revalidate(&mut self, flow: u32) {
        let (key, _) = self.flows.matching(flow);
        let verdict = self.shared.pipeline.revalidate(&key, self.now_ms);
        let counters = &self.shared.lanes[self.number].counters;
        counters.flow_revalidate.add(1);
        if verdict.cacheable && self.flows.mask_covers(flow, &verdict.mask) {
            self.flows.replace(flow, verdict, self.epochs.now());
        } else {
            self.flows.remove(flow, self.now_ms);
            counters.flow_invalidate.add(1);
        }
    }

    /// Credits all flows now.
    pub(crate) fn credit_all(&mut self) {
        for flow in 0..self.flows.slots() as u32 {
            if self.flows.is_live(flow) {
                self.credit(flow);
            }
        }
    }

    /// All flows, credited and none of them stale.
    pub(crate) fn dump(&mut self) -> Vec<FlowEntry> {
        self.follow_changes();
        let mut entries = Vec::with_capacity(self.flows.len());
        for flow in 0..self.flows.slots() as u32 {
            self.tend(flow);
            if !self.flows.is_live(flow) {
                continue;
            }
            let (key, mask) = self.flows.matching(flow);
            let pinned = self.flows.is_pinned(flow);
            let hot = self.flows.hot(flow);
            let (packets, bytes, used_ms, tcp_flags) = (hot.packets, hot.bytes, hot.used_ms, hot.tcp_flags);
            let cold = &self.flows.cold(flow).decided;
            entries.push(FlowEntry {
                matching: Box::new(Match { key, mask }),
                actions: cold.actions.clone(),
                drop: cold.drop,
                packets,
                bytes,
                idle_ms: (packets > 0).then(|| self.now_ms.saturating_sub(used_ms)),
                tcp_flags,
                cookies: cold.rules.iter().map(|rule| rule.cookie).collect(),
                pinned,
            });
        }
        entries
    }
}

/// Two lanes may cache the same match; for the reader they are one flow.
pub(crate) fn merge_entries(lanes: Vec<Vec<FlowEntry>>) -> Vec<FlowEntry> {
    let mut merged: Vec<FlowEntry> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for entry in lanes.into_iter().flatten() {
        match places.entry(Arc::<Match>::from(entry.matching.clone())) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(merged.len());
                merged.push(entry);
            }
            std::collections::hash_map::Entry::Occupied(place) => {
                let first = &mut merged[*place.get()];
                first.packets += entry.packets;
                first.bytes += entry.bytes;
                first.tcp_flags |= entry.tcp_flags;
                first.idle_ms = match (first.idle_ms, entry.idle_ms) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }
    merged
}
