//! What can be counted? Everything, as text that Prometheus reads (exposition format 0.0.4), or as JSON.
//!
//! The number of series is bounded: of rules, ten thousand are listed, and a thousand that drop; `weft_rules` and
//! `weft_rules_listed` tell how many there are and how many of them are listed.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use weft_flow::DropReason;
use weft_flow::text::{Syntax, format_match};
use weft_pipeline::{RuleCursor, RuleFilter};

use crate::control::Control;
use crate::drops;

/// Rules that are listed; more only in total.
const RULES: usize = 10_000;

/// A name, what it means, and its values.
#[derive(Debug, Serialize)]
struct Family {
    name: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    help: &'static str,
    samples: Vec<Sample>,
}

/// A value, and what it belongs to.
#[derive(Debug, Serialize)]
struct Sample {
    labels: serde_json::Map<String, serde_json::Value>,
    value: u64,
}

#[derive(Default)]
struct Sheet(Vec<Family>);

impl Sheet {
    fn family(&mut self, name: &'static str, kind: &'static str, help: &'static str) {
        self.0.push(Family { name, kind, help, samples: Vec::new() });
    }

    /// A value of the family named last.
    fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
        if let Some(family) = self.0.last_mut() {
            family.samples.push(Sample { labels, value });
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for Family { name, kind, help, samples } in &self.0 {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for Sample { labels, value } in samples {
                let labels: Vec<String> = labels
                    .iter()
                    .map(|(k, v)| format!("{k}=\"{}\"", escaped(v.as_str().unwrap_or(""))))
                    .collect();
                let _ = match labels.is_empty() {
                    true => writeln!(out, "{name} {value}"),
                    false => writeln!(out, "{name}{{{}}} {value}", labels.join(",")),
                };
            }
        }
        out
    }
}

/// A label's value as it stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All counters of the switch, for Prometheus.
pub(crate) fn text(control: &Control) -> String {
    sheet(control).text()
}

/// The same as JSON: `[{"name", "type", "help", "samples": [{"labels": {..}, "value": n}]}]`.
pub(crate) fn json(control: &Control) -> serde_json::Value {
    serde_json::to_value(sheet(control).0).unwrap_or_default()
}

fn sheet(control: &Control) -> Sheet {
    let mut out = Sheet::default();
    out.family("weft_build_info", "gauge", "The version of the switch.");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    datapath(control, &mut out);
    dropped(control, &mut out);
    ports(control, &mut out);
    connections(control, &mut out);
    rules(control, &mut out);
    out
}

fn datapath(control: &Control, out: &mut Sheet) {
    let stats = control.datapath.stats();
    out.family("weft_datapath_lookups_total", "counter", "Packets looked up, by where their flow was found.");
    for (result, n) in [("hit", stats.hits), ("miss", stats.misses), ("lost", stats.lost)] {
        out.sample(&[("result", result)], n);
    }
    out.family("weft_datapath_flows", "gauge", "Cached flows.");
    out.sample(&[], stats.flows);
    out.family("weft_datapath_masks", "gauge", "Distinct masks of cached flows.");
    out.sample(&[], stats.masks);
    out.family("weft_events_total", "counter", "Events inside the switch, as coverage/show lists them.");
    for (name, n) in control.datapath.coverage() {
        out.sample(&[("event", name)], n);
    }
}

fn dropped(control: &Control, out: &mut Sheet) {
    let counts = drops::total(control);
    out.family("weft_drops_total", "counter", "Packets dropped, by reason.");
    for reason in DropReason::ALL {
        out.sample(&[("reason", reason.name())], counts[*reason as usize]);
    }
    let (rules, left_out) = drops::rules(control);
    let labels = |d: &drops::Dropping| {
        let rule = &d.rule;
        [rule.table.to_string(), rule.priority.to_string(), format!("{:#x}", rule.cookie), d.matching()]
    };
    let labelled: Vec<_> = rules.iter().map(|d| (d, labels(d))).collect();
    for (name, help) in [
        (
            "weft_rule_dropped_packets_total",
            "Packets that a rule dropped; the thousand rules that drop most.",
        ),
        ("weft_rule_dropped_bytes_total", "Bytes that a rule dropped; the thousand rules that drop most."),
    ] {
        out.family(name, "counter", help);
        for (d, [table, priority, cookie, matching]) in &labelled {
            let labels = [
                ("bridge", d.bridge.as_str()),
                ("table", table),
                ("priority", priority),
                ("cookie", cookie),
                ("match", matching),
                ("reason", d.reason.name()),
            ];
            out.sample(&labels, if name.contains("packets") { d.packets } else { d.bytes });
        }
    }
    out.family("weft_rules_dropping_left_out", "gauge", "Rules that drop and are not listed.");
    out.sample(&[], left_out as u64);
}

fn ports(control: &Control, out: &mut Sheet) {
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
                out.sample(&[("bridge", bridge), ("port", port), ("direction", direction)], n);
            }
        }
    }
}

fn connections(control: &Control, out: &mut Sheet) {
    let tracker = control.datapath.conntrack();
    out.family("weft_connections", "gauge", "Tracked connections.");
    out.sample(&[], tracker.count() as u64);
    out.family("weft_connections_total", "counter", "Connections that were entered since the beginning.");
    out.sample(&[], tracker.created());
    out.family("weft_connections_limit", "gauge", "Connections there may be.");
    out.sample(&[], tracker.limits().connections as u64);
}

fn rules(control: &Control, out: &mut Sheet) {
    let snapshot = control.pipeline.snapshot();
    control.datapath.refresh();
    out.family("weft_rules", "gauge", "Rules of a bridge.");
    for bridge in snapshot.bridges() {
        out.sample(&[("bridge", &bridge.config.name)], bridge.tables.len() as u64);
    }
    let mut listed = Vec::new();
    for bridge in snapshot.bridges() {
        let mut cursor = RuleCursor::new(bridge.tables.clone(), RuleFilter::default());
        while listed.len() < RULES && !cursor.is_done() {
            for rule in cursor.next_page(256.min(RULES - listed.len())) {
                listed.push((bridge.config.name.clone(), rule));
            }
        }
    }
    out.family(
        "weft_rules_listed",
        "gauge",
        "Rules that are listed with their traffic: ten thousand at most.",
    );
    out.sample(&[], listed.len() as u64);
    for (name, help) in [
        ("weft_rule_packets_total", "Packets that matched a rule; see weft_rules_listed."),
        ("weft_rule_bytes_total", "Bytes that matched a rule; see weft_rules_listed."),
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
            out.sample(&labels, n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut sheet = Sheet::default();
        sheet.family("x", "gauge", "Help.");
        sheet.sample(&[("a", "say \"hi\"\\\n")], 3);
        let want = "# HELP x Help.\n# TYPE x gauge\nx{a=\"say \\\"hi\\\"\\\\\\n\"} 3\n";
        assert_eq!(sheet.text(), want);
    }
}
