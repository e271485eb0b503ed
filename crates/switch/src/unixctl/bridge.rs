//! Which commands are about bridges, their ports and MAC tables?

use std::fmt::Write as _;

use weft_flow::OfPort;

use super::{Answer, Command, SWITCH};
use crate::bridge::Bridge;
use crate::clock::now_ms;
use crate::control::Control;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        daemons: SWITCH,
        name: "bridge/dump-flows",
        usage: "bridge",
        arguments: (1, 2),
        run: dump_flows,
    },
    Command {
        daemons: SWITCH,
        name: "bridge/reconnect",
        usage: "[bridge]",
        arguments: (0, 1),
        run: reconnect,
    },
    Command {
        daemons: SWITCH,
        name: "fdb/add",
        usage: "bridge port vlan mac",
        arguments: (4, 4),
        run: fdb_add,
    },
    Command { daemons: SWITCH, name: "fdb/del", usage: "bridge vlan mac", arguments: (3, 3), run: fdb_del },
    Command { daemons: SWITCH, name: "fdb/flush", usage: "[bridge]", arguments: (0, 1), run: fdb_flush },
    Command { daemons: SWITCH, name: "fdb/show", usage: "bridge", arguments: (1, 1), run: fdb_show },
    Command {
        daemons: SWITCH,
        name: "fdb/stats-clear",
        usage: "[bridge]",
        arguments: (0, 1),
        run: fdb_stats_clear,
    },
    Command { daemons: SWITCH, name: "fdb/stats-show", usage: "bridge", arguments: (1, 1), run: fdb_stats },
    Command { daemons: SWITCH, name: "ofproto/list", usage: "", arguments: (0, 0), run: list },
];

/// Priority of rules that do not say.
pub(super) const DEFAULT_PRIORITY: u16 = 32_768;

/// The bridge of that name.
pub(super) fn find<'a>(control: &'a Control, name: &str) -> Result<&'a Bridge, String> {
    control.world.bridges.get(name).ok_or_else(|| "no such bridge".into())
}

fn fdb_show(control: &mut Control, args: &[String]) -> Answer {
    let bridge = find(control, &args[0])?;
    let mut out = String::from(" port  VLAN  MAC                Age\n");
    let mut entries = control.pipeline.fdb_entries(bridge.id, now_ms());
    entries.sort_by_key(|e| std::cmp::Reverse(e.age_ms));
    for entry in entries {
        let port = entry.port.to_string();
        let age = if entry.is_static { "static".to_owned() } else { (entry.age_ms / 1000).to_string() };
        let _ = writeln!(out, "{port:>5}  {:>4}  {}  {age:>3}", entry.vlan, entry.mac);
    }
    Ok(out)
}

fn fdb_flush(control: &mut Control, args: &[String]) -> Answer {
    match args.first() {
        Some(name) => control.pipeline.fdb_flush(find(control, name)?.id),
        None => control.world.bridges.values().for_each(|b| control.pipeline.fdb_flush(b.id)),
    }
    Ok("table successfully flushed\n".into())
}

fn fdb_stats_clear(control: &mut Control, args: &[String]) -> Answer {
    match args.first() {
        Some(name) => control.pipeline.fdb_stats_clear(find(control, name)?.id),
        None => control.world.bridges.values().for_each(|b| control.pipeline.fdb_stats_clear(b.id)),
    }
    Ok("statistics successfully cleared\n".into())
}

fn fdb_stats(control: &mut Control, args: &[String]) -> Answer {
    let bridge = find(control, &args[0])?;
    let s = control.pipeline.fdb_stats(bridge.id);
    Ok(format!(
        "Statistics for bridge \"{}\":\n\
         \x20 Current/maximum MAC entries in the table: {}/{}\n\
         \x20 Current static MAC entries in the table : {}\n\
         \x20 Total number of learned MAC entries     : {}\n\
         \x20 Total number of expired MAC entries     : {}\n\
         \x20 Total number of evicted MAC entries     : {}\n\
         \x20 Total number of port moved MAC entries  : {}\n",
        bridge.name, s.entries, s.max_entries, s.static_entries, s.learned, s.expired, s.evicted, s.moved
    ))
}

fn fdb_add(control: &mut Control, args: &[String]) -> Answer {
    let bridge = find(control, &args[0])?;
    let port = port(bridge, &args[1]).ok_or("invalid port")?;
    let vlan = args[2].parse().ok().filter(|v| *v < 4096).ok_or("invalid vlan")?;
    let mac = args[3].parse().map_err(|_| "bad MAC address")?;
    control.pipeline.fdb_add_static(bridge.id, vlan, mac, port);
    Ok(String::new())
}

fn fdb_del(control: &mut Control, args: &[String]) -> Answer {
    let bridge = find(control, &args[0])?;
    let vlan = args[1].parse().ok().filter(|v| *v < 4096).ok_or("invalid vlan")?;
    let mac = args[2].parse().map_err(|_| "bad MAC address")?;
    let entries = control.pipeline.fdb_entries(bridge.id, now_ms());
    if !entries.iter().any(|e| e.is_static && e.vlan == vlan && e.mac == mac) {
        return Err("could not find static mac entry".into());
    }
    control.pipeline.fdb_remove(bridge.id, vlan, mac);
    Ok(String::new())
}

/// A port by name or number.
fn port(bridge: &Bridge, text: &str) -> Option<OfPort> {
    let by_name = || bridge.ifaces.get(text).and_then(|i| i.ofport);
    let number = text.parse().ok().map(OfPort).filter(|n| bridge.by_ofport(*n).is_some());
    number.or_else(by_name).or_else(|| (text == "LOCAL").then_some(OfPort::LOCAL))
}

fn list(control: &mut Control, _: &[String]) -> Answer {
    Ok(control.world.bridges.keys().map(|name| format!("{name}\n")).collect())
}

fn reconnect(control: &mut Control, args: &[String]) -> Answer {
    let only = match args.first() {
        Some(name) => Some(find(control, name).map_err(|_| "Unknown bridge")?.id),
        None => None,
    };
    control.openflow.reconnect(only);
    Ok(String::new())
}

fn dump_flows(control: &mut Control, args: &[String]) -> Answer {
    let (options, names): (Vec<&String>, Vec<&String>) = args.iter().partition(|a| a.starts_with("--"));
    let [name] = names[..] else { return Err("a bridge is needed".into()) };
    if let Some(other) = options.iter().find(|o| o.as_str() != "--offload-stats") {
        return Err(format!("unrecognized option '{other}'"));
    }
    // Nothing is offloaded to hardware.
    let offload = if options.is_empty() { "" } else { "n_offload_packets=0, n_offload_bytes=0, " };
    let bridge = find(control, name).map_err(|_| "Unknown bridge")?;
    let snapshot = control.pipeline.snapshot();
    let Some(found) = snapshot.bridge(bridge.id) else { return Err("Unknown bridge".into()) };
    control.datapath.refresh();
    let now = now_ms();
    let lines = found.tables.rules(&weft_pipeline::RuleFilter::default()).into_iter().map(|rule| {
        use std::sync::atomic::Ordering::Relaxed;
        let table = if rule.table == 0 { String::new() } else { format!("table_id={}, ", rule.table) };
        let priority = if rule.priority == DEFAULT_PRIORITY {
            String::new()
        } else {
            format!("priority={}", rule.priority)
        };
        let syntax = weft_flow::text::Syntax::default();
        let matching = weft_flow::text::format_match(&rule.matching.expand(), &syntax);
        let words: Vec<String> = [priority, matching].into_iter().filter(|w| !w.is_empty()).collect();
        let comma = if words.is_empty() { "" } else { "," };
        format!(
            "{table}duration={}s, n_packets={}, n_bytes={}, {offload}{}{comma}actions={}\n",
            now.saturating_sub(rule.created_ms) / 1000,
            rule.stats.packets.load(Relaxed),
            rule.stats.bytes.load(Relaxed),
            words.join(","),
            weft_flow::text::format_instructions(&rule.instructions, &syntax)
        )
    });
    Ok(lines.collect())
}
