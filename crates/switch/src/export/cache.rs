//! Which flows wait to be exported, and when is it their turn?

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::counts::{Counts, End};
use super::record::Flow;

/// Flows in the order in which they began. All wait equally long.
#[derive(Debug, Default)]
pub(super) struct Cache {
    flows: HashMap<Arc<Flow>, Counts>,
    order: VecDeque<Arc<Flow>>,
}

impl Cache {
    /// Flows that wait.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Adds packets of a flow. True: the flow is new.
    pub(super) fn add(&mut self, flow: Flow, counts: &Counts) -> bool {
        if let Some(known) = self.flows.get_mut(&flow) {
            known.add(counts);
            return false;
        }
        let flow = Arc::new(flow);
        self.order.push_back(flow.clone());
        self.flows.insert(flow, *counts);
        true
    }

    /// When the first flow has waited long enough, in microseconds of the clock.
    pub(super) fn due(&self, timeout_us: u64) -> Option<u64> {
        let first = self.flows.get(self.order.front()?)?;
        Some(first.first_us.saturating_add(timeout_us))
    }

    /// Takes out the next flow that has waited long enough, or is one too many.
    pub(super) fn take(
        &mut self,
        now_us: u64,
        timeout_us: u64,
        most: usize,
    ) -> Option<(Arc<Flow>, Counts, End)> {
        let end = if self.due(timeout_us)? <= now_us {
            End::ActiveTimeout
        } else if self.len() > most {
            End::LackOfResources
        } else {
            return None;
        };
        self.take_first().map(|(flow, counts)| (flow, counts, end))
    }

    /// Takes out the flow that began first.
    pub(super) fn take_first(&mut self) -> Option<(Arc<Flow>, Counts)> {
        let flow = self.order.pop_front()?;
        let counts = self.flows.remove(&flow)?;
        Some((flow, counts))
    }
}
