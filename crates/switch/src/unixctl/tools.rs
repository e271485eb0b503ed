//! What do commands keep between calls?

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::control::Control;

/// Seconds between looks at the event counters.
const LOOK_S: u64 = 5;
/// Looks of the last minute that are kept.
const SHORT: usize = 12;
/// As many of the last hour.
const LONG: usize = 60;

/// What event counters were, newest first.
#[derive(Debug, Default)]
pub(super) struct History {
    minute: VecDeque<Vec<u64>>,
    hour: VecDeque<Vec<u64>>,
    due_ms: u64,
    looks: usize,
}

impl History {
    fn look(&mut self, counters: impl FnOnce() -> Vec<u64>, now_ms: u64) {
        if now_ms < self.due_ms {
            return;
        }
        self.due_ms = now_ms + LOOK_S * 1000;
        let counters = counters();
        if self.looks.is_multiple_of(SHORT) {
            self.hour.push_front(counters.clone());
            self.hour.truncate(LONG);
        }
        self.looks += 1;
        self.minute.push_front(counters);
        self.minute.truncate(SHORT);
    }

    /// Events a second of a counter that is `now`: over the last five seconds, minute, and hour. What was before the
    /// start counts as none.
    pub(super) fn rates(&self, counter: usize, now: u64) -> [f64; 3] {
        let since = |then: Option<&Vec<u64>>, seconds: u64| {
            let before = then.and_then(|all| all.get(counter)).copied().unwrap_or(0);
            now.saturating_sub(before) as f64 / seconds as f64
        };
        let full = |all: &VecDeque<Vec<u64>>, most: usize| (all.len() == most).then_some(most - 1);
        let minute = full(&self.minute, SHORT).and_then(|last| self.minute.get(last));
        let hour = full(&self.hour, LONG).and_then(|last| self.hour.get(last));
        [since(self.minute.front(), LOOK_S), since(minute, 60), since(hour, 3600)]
    }
}

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
    /// What events were counted before.
    pub(super) events: History,
    /// How long neighbours live that were set by hand.
    pub(super) neighbour_seconds: u64,
}

impl Default for Tools {
    fn default() -> Self {
        Tools {
            ufids: true,
            flows_average: 0,
            flows_most: 0,
            neighbours: BTreeMap::new(),
            events: History::default(),
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
    let (flows, datapath) = (control.datapath.stats().flows, control.datapath.clone());
    let counters = || datapath.coverage().into_iter().map(|(_, n)| n).collect();
    control.unixctl.tools.events.look(counters, now_ms);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_over_five_seconds_a_minute_and_an_hour() {
        let mut history = History::default();
        for look in 0..=720u64 {
            history.look(|| vec![look * 10], look * LOOK_S * 1000);
            // Too early for another.
            history.look(|| vec![u64::MAX], look * LOOK_S * 1000 + 1);
        }
        let [now, minute, hour] = history.rates(0, 7210);
        assert_eq!(now, 2.0);
        assert!((minute - 2.0).abs() < 0.2 && (hour - 2.0).abs() < 0.1, "{minute} {hour}");
        assert_eq!(History::default().rates(3, 60), [12.0, 1.0, 60.0 / 3600.0]);
    }
}
