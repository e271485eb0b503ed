//! Why did packets die? The counters of every port, by reason, and of every rule that drops.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use weft_datapath::{DropCounts, RuleDrop};
use weft_flow::DropReason;
use weft_flow::text::{Syntax, format_instructions, format_match};
use weft_pipeline::{Rule, RuleCursor, RuleFilter};

use crate::control::Control;

/// Rules that are told, those that drop most.
const RULES: usize = 1_000;

/// A rule that drops.
pub(crate) struct Dropping {
    /// Its bridge.
    pub(crate) bridge: String,
    /// The rule.
    pub(crate) rule: Arc<Rule>,
    /// Why.
    pub(crate) reason: DropReason,
    /// Packets.
    pub(crate) packets: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

impl Dropping {
    /// Its match, as `ovs-ofctl` writes it.
    pub(crate) fn matching(&self) -> String {
        format_match(&self.rule.matching.expand(), &Syntax::default())
    }

    fn actions(&self) -> String {
        format_instructions(&self.rule.instructions, &Syntax::default())
    }
}

/// The rules that drop most, and how many more there are.
pub(crate) fn rules(control: &Control) -> (Vec<Dropping>, usize) {
    control.datapath.refresh();
    let mut charged = control.datapath.rule_drops();
    charged.sort_by_key(|d| std::cmp::Reverse(d.packets));
    let left_out = charged.len().saturating_sub(RULES);
    charged.truncate(RULES);
    let address = |d: &RuleDrop| Arc::as_ptr(&d.rule.stats).addr();
    let wanted: BTreeSet<(u32, u8)> = charged.iter().map(|d| (d.rule.bridge, d.rule.table)).collect();
    let asked: BTreeSet<usize> = charged.iter().map(address).collect();
    // Tables are looked through once, however many rules are asked for.
    let snapshot = control.pipeline.snapshot();
    let mut found: HashMap<usize, (String, Arc<Rule>)> = HashMap::new();
    for (bridge, table) in wanted {
        let Some(bridge) = snapshot.bridge(bridge) else { continue };
        let filter = RuleFilter { table: Some(table), ..RuleFilter::default() };
        let mut cursor = RuleCursor::new(bridge.tables.clone(), filter);
        while !cursor.is_done() && found.len() < asked.len() {
            for rule in cursor.next_page(1024) {
                let at = Arc::as_ptr(&rule.stats).addr();
                if asked.contains(&at) {
                    found.insert(at, (bridge.config.name.clone(), rule));
                }
            }
        }
    }
    let told = charged.iter().filter_map(|d| {
        let (bridge, rule) = found.get(&address(d))?.clone();
        Some(Dropping { bridge, rule, reason: d.reason, packets: d.packets, bytes: d.bytes })
    });
    (told.collect(), left_out)
}

/// Drops by reason, then by port and by rule; reasons, ports and rules without drops are left out.
pub(crate) fn table(control: &Control) -> String {
    let (rules, left_out) = rules(control);
    let total = total(control);
    let ports = by_port(control);
    let mut out = String::new();
    for (reason, n) in nonzero(&total) {
        let _ = writeln!(out, "{:<26} {n:>12}  {}", reason.name(), reason.describe());
        for (bridge, port, counts) in &ports {
            let n = counts[reason as usize];
            if n > 0 {
                let _ = writeln!(out, "    {:<22} {n:>12}", format!("{bridge}/{port}"));
            }
        }
        for d in rules.iter().filter(|d| d.reason == reason) {
            let matching = d.matching();
            let comma = if matching.is_empty() { "" } else { "," };
            let _ = writeln!(
                out,
                "    {:<22} {:>12}  cookie={:#x},priority={}{comma}{matching}",
                format!("{} table {}", d.bridge, d.rule.table),
                d.packets,
                d.rule.cookie,
                d.rule.priority
            );
        }
    }
    if left_out > 0 {
        let _ = writeln!(out, "{left_out} more rules drop fewer packets each");
    }
    if out.is_empty() {
        out.push_str("no drops\n");
    }
    out
}

/// The same for programs: `{"total": {reason: n}, "reasons": {reason: text}, "ports": [{bridge, port, drops}],
/// "rules": [{bridge, table, priority, cookie, match, actions, reason, packets, bytes}], "rules_left_out": n}`.
pub(crate) fn json(control: &Control) -> Value {
    let map = |counts: &DropCounts| -> Value {
        nonzero(counts)
            .map(|(reason, n)| (reason.name().to_owned(), json!(n)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let (rules, left_out) = rules(control);
    let total = total(control);
    let texts: serde_json::Map<String, Value> =
        nonzero(&total).map(|(reason, _)| (reason.name().to_owned(), json!(reason.describe()))).collect();
    let ports: Vec<Value> = by_port(control)
        .iter()
        .map(|(bridge, port, counts)| json!({"bridge": bridge, "port": port, "drops": map(counts)}))
        .collect();
    let rules: Vec<Value> = rules
        .iter()
        .map(|d| {
            json!({
                "bridge": d.bridge, "table": d.rule.table, "priority": d.rule.priority,
                "cookie": format!("{:#x}", d.rule.cookie), "match": d.matching(), "actions": d.actions(),
                "reason": d.reason.name(), "packets": d.packets, "bytes": d.bytes,
            })
        })
        .collect();
    json!({
        "total": map(&total), "reasons": texts, "ports": ports, "rules": rules, "rules_left_out": left_out,
    })
}

/// Drops of the datapath, and of packets that controllers were too slow for.
pub(crate) fn total(control: &Control) -> DropCounts {
    let mut total = control.datapath.drops();
    total[DropReason::ControllerRateLimited as usize] += control.openflow.dropped_packet_ins();
    total
}

fn nonzero(counts: &DropCounts) -> impl Iterator<Item = (DropReason, u64)> {
    DropReason::ALL.iter().map(|r| (*r, counts[*r as usize])).filter(|(_, n)| *n > 0)
}

fn by_port(control: &Control) -> Vec<(String, String, DropCounts)> {
    let counts = control.world.ifaces().filter_map(|(bridge, iface)| {
        let counts = control.datapath.port_drops(iface.dp_port?).ok()?;
        Some((bridge.name.clone(), iface.wanted.name.clone(), counts))
    });
    counts.filter(|(_, _, counts)| counts.iter().any(|n| *n > 0)).collect()
}
