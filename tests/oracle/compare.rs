//! When do two traces say the same? When their actions, executed on the traced packet, have the same outcome.
//!
//! The outcome is what can be seen from outside: what each port, controller and connection tracker is given, in order,
//! with which headers, cut to which length, and after which meters. Lists of actions that come to the same are the
//! same: a field set in part or whole, a change undone or made on a copy, a tag taken off and put back. Where the
//! length of the packet decides, the packet is executed with lengths on either side of the limit.

use std::collections::{BTreeMap, BTreeSet};

use crate::actions::{self, DpAction};
use crate::run::{Event, Headers, Machine, Passes};

/// The datapath actions of each pass, as printed.
pub(crate) fn decisions(trace: &str) -> Vec<&str> {
    trace.lines().filter_map(|l| l.strip_prefix("Datapath actions: ")).map(str::trim).collect()
}

/// The masks of each pass.
pub(crate) fn megaflows(trace: &str) -> Vec<&str> {
    trace.lines().filter_map(|l| l.strip_prefix("Megaflow: ")).collect()
}

/// Reads a trace's passes, with the recirculations numbered by the pass that they lead to.
pub(crate) fn passes(trace: &str) -> Result<Passes, String> {
    // Which pass a recirculation leads to: those of one number are in the order of the recirculations.
    let mut waiting: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut passes = Passes::default();
    let mut ids = vec![None];
    for line in trace.lines() {
        if let Some(id) = line.strip_prefix("recirc(").and_then(|l| l.split(')').next()) {
            ids.push(Some(id));
        } else if let Some(list) = line.strip_prefix("Datapath actions: ") {
            passes.lists.push(actions::parse(list.trim())?);
        }
    }
    if ids.len() != passes.lists.len() {
        return Err(format!("{} passes, {} lists of actions", ids.len(), passes.lists.len()));
    }
    for (n, id) in ids.into_iter().enumerate().rev() {
        id.into_iter().for_each(|id| waiting.entry(id).or_default().push(n));
    }
    passes.lists.iter_mut().try_for_each(|list| link(list, &mut waiting))?;
    Ok(passes)
}

fn link(list: &mut [DpAction], waiting: &mut BTreeMap<&str, Vec<usize>>) -> Result<(), String> {
    list.iter_mut().try_for_each(|action| match action {
        DpAction::Recirc(id) => {
            let passes = waiting.get_mut(id.as_str()).filter(|p| !p.is_empty());
            let passes = passes.ok_or_else(|| format!("recirc({id}) was not traced"))?;
            // The last one may be led to more than once.
            let pass = if passes.len() > 1 { passes.pop() } else { passes.last().copied() };
            *id = pass.unwrap_or_default().to_string();
            Ok(())
        }
        DpAction::Clone(list) | DpAction::Sample(_, list) => link(list, waiting),
        DpAction::CheckPktLen { greater, not_greater, .. } => {
            link(greater, waiting)?;
            link(not_greater, waiting)
        }
        _ => Ok(()),
    })
}

/// What each receiver is given, in order. Which of two receivers is served first cannot be seen.
fn by_receiver(events: &[Event]) -> BTreeMap<&str, Vec<&Event>> {
    let mut out: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        // Trackings change one table, controllers have one connection.
        let to =
            event.to.split_once(' ').map_or("", |(kind, _)| if kind == "port" { &event.to } else { kind });
        out.entry(to).or_default().push(event);
    }
    out
}

/// Compares two traces of a packet of this many bytes. `Err` says what is different.
pub(crate) fn same(theirs: &str, ours: &str, headers: &Headers, length: usize) -> Result<(), String> {
    let (theirs, ours) = (passes(theirs)?, passes(ours)?);
    let mut lengths = BTreeSet::from([length as i64]);
    let mut done = BTreeSet::new();
    while let Some(length) = lengths.pop_first() {
        if !done.insert(length) {
            continue;
        }
        let runs = [&theirs, &ours].map(|passes| Machine::run(passes, headers.clone(), length));
        for run in &runs {
            if let Some(e) = run.errors.first() {
                return Err(e.clone());
            }
            lengths.extend(run.thresholds.iter().flat_map(|t| [*t, t + 1]));
        }
        let [a, b] = runs.each_ref().map(|run| by_receiver(&run.events));
        if a != b {
            let receivers: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            let differ = receivers.into_iter().find(|to| a.get(*to) != b.get(*to)).expect("one differs");
            let text = |of: &BTreeMap<_, Vec<&Event>>| format!("{:?}", of.get(differ).unwrap_or(&Vec::new()));
            return Err(format!("length {length}, {differ}:\n  OVS  {}\n  Weft {}", text(&a), text(&b)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ovs: &str, weft: &str) -> bool {
        let mut key = weft_flow::PacketKey { eth_type: 0x800, ipv4_src: 0x0a00_0001, ..Default::default() };
        key.vlan[0] = weft_flow::Vlan { tpid: 0x8100, tci: weft_flow::VLAN_PRESENT | 5 };
        let [ovs, weft] = [ovs, weft].map(|line| {
            format!("Datapath actions: {}\n", line.replace('|', "\nrecirc(0x8) -\nDatapath actions: "))
        });
        same(&ovs, &weft, &Headers::of(&key), 100).is_ok()
    }

    #[test]
    fn lists_that_come_to_the_same_are_the_same() {
        for (ovs, weft) in [
            ("p3,p1", "p1,p3"),
            ("drop", ""),
            ("set(ipv4(src=10.0.0.9)),p1,set(ipv4(src=10.0.0.1)),p2", "clone(set(ipv4(src=10.0.0.9)),p1),p2"),
            ("set(eth(dst=00:00:00:00:00:07/00:00:00:00:00:ff)),p1", "set(eth(dst=00:00:00:00:00:07)),p1"),
            ("pop_vlan,push_vlan(vid=5,pcp=0),push_vlan(vid=6,pcp=1),p1", "push_vlan(vid=6,pcp=1),p1"),
            ("trunc(64),set(ipv4(ttl=3)),p1,p2", "set(ipv4(ttl=3)),trunc(64),p1,p2"),
            ("check_pkt_len(size=100,gt(p1),le(p1)),p2", "p1,p2"),
            ("ct(zone=1),recirc(0x8),p2|p1", "p2,ct(zone=1),recirc(0x8)|p1"),
        ] {
            assert!(check(ovs, weft), "{ovs} and {weft}");
        }
    }

    #[test]
    fn lists_that_come_to_something_else_are_not() {
        for (ovs, weft) in [
            ("p1", "p1,p1"),
            ("p1,set(ipv4(ttl=3)),p1", "set(ipv4(ttl=3)),p1,p1"),
            ("trunc(64),p1,p2", "trunc(64),p2,p1"),
            ("check_pkt_len(size=100,gt(p1),le(drop))", "check_pkt_len(size=100,gt(drop),le(p1))"),
            ("check_pkt_len(size=100,gt(p1),le(drop))", "drop"),
            (
                "push_vlan(vid=6,pcp=1),check_pkt_len(size=104,gt(p1),le(p2))",
                "check_pkt_len(size=100,gt(p1),le(p2))",
            ),
            ("meter(0),p1", "p1,meter(0)"),
            ("ct(commit,nat(src=1.1.1.1)),set(ipv4(src=10.0.0.1)),p1", "ct(commit,nat(src=1.1.1.1)),p1"),
            ("ct(zone=1),recirc(0x8)|p1", "ct(zone=1),recirc(0x8)|p2"),
            ("p1", "set(skb_priority(0x1)),p1"),
        ] {
            assert!(!check(ovs, weft), "{ovs} and {weft}");
        }
    }
}
