//! Why did packets die? The counters of every port, by reason.

use std::fmt::Write as _;

use serde_json::{Value, json};
use weft_datapath::DropCounts;
use weft_flow::DropReason;

use crate::control::Control;

/// Drops by reason, then by port; reasons and ports without drops are left out.
pub(crate) fn table(control: &Control) -> String {
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
    }
    if out.is_empty() {
        out.push_str("no drops\n");
    }
    out
}

/// The same for programs: `{"total": {reason: n}, "reasons": {reason: text}, "ports": [{bridge, port, drops}]}`.
pub(crate) fn json(control: &Control) -> Value {
    let map = |counts: &DropCounts| -> Value {
        nonzero(counts)
            .map(|(reason, n)| (reason.name().to_owned(), json!(n)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let total = total(control);
    let texts: serde_json::Map<String, Value> =
        nonzero(&total).map(|(reason, _)| (reason.name().to_owned(), json!(reason.describe()))).collect();
    let ports: Vec<Value> = by_port(control)
        .iter()
        .map(|(bridge, port, counts)| json!({"bridge": bridge, "port": port, "drops": map(counts)}))
        .collect();
    json!({"total": map(&total), "reasons": texts, "ports": ports})
}

/// Drops of the datapath, and of packets that controllers were too slow for.
fn total(control: &Control) -> DropCounts {
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
