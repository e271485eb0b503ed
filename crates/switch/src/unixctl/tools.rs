//! What do commands keep between calls?

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::control::Control;

/// What was set by commands, and what they average.
pub(crate) struct Tools {
    /// Whether dumps tell identifiers of flows.
    pub(super) ufids: bool,
    /// Cached flows, averaged over about a minute, in hundredths.
    flows_average: u64,
    /// Most cached flows that were seen.
    pub(super) flows_most: u64,
    /// Neighbours that were set by hand: bridge, address, and when.
    pub(super) neighbours: BTreeMap<(u32, IpAddr), u64>,
    /// How long they live.
    pub(super) neighbour_seconds: u64,
}

impl Default for Tools {
    fn default() -> Self {
        Tools {
            ufids: true,
            flows_average: 0,
            flows_most: 0,
            neighbours: BTreeMap::new(),
            neighbour_seconds: 900,
        }
    }
}

impl Tools {
    /// Average number of cached flows.
    pub(super) fn flows_average(&self) -> u64 {
        self.flows_average.div_ceil(100)
    }
}

/// A second passed.
pub(crate) fn tick(control: &mut Control, now_ms: u64) {
    let flows = control.datapath.stats().flows;
    let tools = &mut control.unixctl.tools;
    tools.flows_average = (tools.flows_average * 59 + flows * 100) / 60;
    tools.flows_most = tools.flows_most.max(flows);
    let life = tools.neighbour_seconds * 1000;
    let old = |set_ms: u64| set_ms.saturating_add(life) <= now_ms;
    let gone: Vec<_> = tools.neighbours.iter().filter(|(_, at)| old(**at)).map(|(who, _)| *who).collect();
    for (bridge, addr) in gone {
        control.unixctl.tools.neighbours.remove(&(bridge, addr));
        control.pipeline.set_neighbour(bridge, addr, None);
    }
}
