//! What do rules drop on Open vSwitch? It counts packets by rule and knows no reasons; its own `ovs-ofctl` reads the counts.

use std::path::Path;
use std::process::Command;

use weft_flow::DropReason;

use super::{Report, RuleDrops};

/// The bridge whose rules name who they are of.
const BRIDGE: &str = "br-int";

/// What rules of the agent's bridge dropped.
pub(super) fn read(rundir: &Path) -> Result<Report, Box<dyn std::error::Error>> {
    let target = format!("unix:{}", rundir.join(format!("{BRIDGE}.mgmt")).display());
    let words = ["-O", "OpenFlow15", "--timeout=10", "dump-flows", &target];
    let said = Command::new("ovs-ofctl").args(words).output().map_err(|e| format!("ovs-ofctl: {e}"))?;
    if !said.status.success() {
        return Err(format!("ovs-ofctl: {}", String::from_utf8_lossy(&said.stderr).trim_end()).into());
    }
    let reason = DropReason::RuleDrop;
    let mut rules: Vec<RuleDrops> = String::from_utf8_lossy(&said.stdout).lines().filter_map(rule).collect();
    rules.sort_by_key(|rule| std::cmp::Reverse(rule.packets));
    let mut report = Report { note: Some(NOTE.to_owned()), ..Report::default() };
    if !rules.is_empty() {
        report.total.insert(reason.name().into(), rules.iter().map(|rule| rule.packets).sum());
        report.reasons.insert(reason.name().into(), reason.describe().into());
    }
    report.rules = rules;
    Ok(report)
}

/// For people.
const NOTE: &str = "This is Open vSwitch: only what rules of br-int drop is counted, and not for which port.";

/// A line of `ovs-ofctl dump-flows`, if it is of a rule that dropped something.
fn rule(line: &str) -> Option<RuleDrops> {
    let (head, actions) = line.trim().split_once(" actions=")?;
    let field =
        |name: &str| head.split(", ").find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let packets = field("n_packets")?.parse().ok().filter(|n| actions == "drop" && *n > 0)?;
    let last = head.rsplit(", ").next()?.trim();
    let (priority, matching) = last.split_once(',').unwrap_or((last, ""));
    Some(RuleDrops {
        bridge: BRIDGE.to_owned(),
        table: field("table").map_or(Some(0), |table| table.parse().ok())?,
        priority: priority.strip_prefix("priority=").map_or(Some(0x8000), |n| n.parse().ok())?,
        cookie: field("cookie")?.to_owned(),
        matching: matching.to_owned(),
        actions: actions.to_owned(),
        reason: DropReason::RuleDrop.name().to_owned(),
        packets,
        bytes: field("n_bytes")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_rules_that_dropped() {
        let line = " cookie=0x5703220000000002, duration=3.5s, table=10, n_packets=2, n_bytes=196, idle_age=1, \
                    priority=130,ip,in_port=tap2,dl_src=02:00:00:00:02:02 actions=drop";
        let read = rule(line).expect("a rule");
        assert_eq!((read.table, read.priority, read.packets, read.bytes), (10, 130, 2, 196));
        assert_eq!(read.cookie, "0x5703220000000002");
        assert_eq!(read.matching, "ip,in_port=tap2,dl_src=02:00:00:00:02:02");
        assert!(rule(&line.replace("n_packets=2", "n_packets=0")).is_none());
        assert!(rule(&line.replace("actions=drop", "actions=output:3")).is_none());
        assert!(rule("OFPST_FLOW reply (OF1.5) (xid=0x2):").is_none());
        let all = rule(" cookie=0x1, duration=1s, table=62, n_packets=7, n_bytes=1, priority=0 actions=drop");
        assert_eq!(all.map(|r| (r.priority, r.matching)), Some((0, String::new())));
    }
}
