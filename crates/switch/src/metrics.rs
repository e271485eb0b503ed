//! What can be counted? Everything, as text that Prometheus reads (exposition format 0.0.4).

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use weft_flow::DropReason;
use weft_flow::text::{Syntax, format_match};
use weft_pipeline::{RuleCursor, RuleFilter};

use crate::control::Control;

/// Rules that are listed; more only in total.
const RULES: usize = 10_000;

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let escaped = |v: &str| v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
        let _ = match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{}}} {value}", labels.join(",")),
        };
    }
}

/// All counters of the switch.
pub(crate) fn text(control: &Control) -> String {
    let mut out = Text(String::new());
    datapath(control, &mut out);
    drops(control, &mut out);
    ports(control, &mut out);
    rules(control, &mut out);
    out.0
}

fn datapath(control: &Control, out: &mut Text) {
    let stats = control.datapath.stats();
    out.family("weft_datapath_lookups_total", "counter", "Packets looked up, by where their flow was found.");
    for (result, n) in [("hit", stats.hits), ("miss", stats.misses), ("lost", stats.lost)] {
        out.sample("weft_datapath_lookups_total", &[("result", result)], n);
    }
    out.family("weft_datapath_flows", "gauge", "Cached flows.");
    out.sample("weft_datapath_flows", &[], stats.flows);
    out.family("weft_datapath_masks", "gauge", "Distinct masks of cached flows.");
    out.sample("weft_datapath_masks", &[], stats.masks);
    out.family("weft_events_total", "counter", "Events inside the switch, as coverage/show lists them.");
    for (name, n) in control.datapath.coverage() {
        out.sample("weft_events_total", &[("event", name)], n);
    }
}

fn drops(control: &Control, out: &mut Text) {
    let counts = control.datapath.drops();
    out.family("weft_drops_total", "counter", "Packets dropped, by reason.");
    for reason in DropReason::ALL {
        out.sample("weft_drops_total", &[("reason", reason.name())], counts[*reason as usize]);
    }
}

fn ports(control: &Control, out: &mut Text) {
    let stats: Vec<_> = control
        .world
        .ifaces()
        .filter_map(|(bridge, iface)| {
            let stats = control.datapath.port_stats(iface.dp_port?).ok()?;
            Some((bridge.name.as_str(), iface.wanted.name.as_str(), stats))
        })
        .collect();
    for (name, help) in [
        ("weft_port_packets_total", "Packets of a port, by direction."),
        ("weft_port_bytes_total", "Bytes of a port, by direction."),
        ("weft_port_dropped_total", "Packets that a port dropped, by direction."),
    ] {
        out.family(name, "counter", help);
        for (bridge, port, s) in &stats {
            let (rx, tx) = match name {
                "weft_port_packets_total" => (s.rx_packets, s.tx_packets),
                "weft_port_bytes_total" => (s.rx_bytes, s.tx_bytes),
                _ => (s.rx_dropped + s.rx_missed, s.tx_dropped),
            };
            for (direction, n) in [("rx", rx), ("tx", tx)] {
                out.sample(name, &[("bridge", bridge), ("port", port), ("direction", direction)], n);
            }
        }
    }
}

fn rules(control: &Control, out: &mut Text) {
    let snapshot = control.pipeline.snapshot();
    control.datapath.refresh();
    out.family("weft_rules", "gauge", "Rules of a bridge.");
    for bridge in snapshot.bridges() {
        out.sample("weft_rules", &[("bridge", &bridge.config.name)], bridge.tables.len() as u64);
    }
    let mut listed = Vec::new();
    for bridge in snapshot.bridges() {
        let mut cursor = RuleCursor::new(bridge.tables.clone(), RuleFilter::default());
        while listed.len() < RULES && !cursor.is_done() {
            for rule in cursor.next_page(256) {
                listed.push((bridge.config.name.clone(), rule));
            }
        }
    }
    for (name, help) in [
        ("weft_rule_packets_total", "Packets that matched a rule."),
        ("weft_rule_bytes_total", "Bytes that matched a rule."),
    ] {
        out.family(name, "counter", help);
        for (bridge, rule) in &listed {
            let n = match name {
                "weft_rule_packets_total" => rule.stats.packets.load(Relaxed),
                _ => rule.stats.bytes.load(Relaxed),
            };
            let matching = format_match(&rule.matching.expand(), &Syntax::default());
            let (table, priority) = (rule.table.to_string(), rule.priority.to_string());
            let cookie = format!("{:#x}", rule.cookie);
            let labels = [
                ("bridge", bridge.as_str()),
                ("table", &table),
                ("priority", &priority),
                ("cookie", &cookie),
                ("match", &matching),
            ];
            out.sample(name, &labels, n);
        }
    }
}
