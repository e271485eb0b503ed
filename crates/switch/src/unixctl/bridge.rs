//! Which commands are about bridges, their ports and MAC tables?

use std::fmt::Write as _;

use weft_flow::OfPort;

use super::{Answer, Command, SWITCH};
use crate::bridge::Bridge;
use crate::clock::now_ms;
use crate::control::Control;

pub(super) const COMMANDS: &[Command] = &[
    Command { daemons: SWITCH, name: "bond/list", usage: "", arguments: (0, 0), run: bond_list },
    Command { daemons: SWITCH, name: "bond/show", usage: "[port]", arguments: (0, 1), run: bond_show },
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
    Command { daemons: SWITCH, name: "fdb/stats-show", usage: "bridge", arguments: (1, 1), run: fdb_stats },
    Command { daemons: SWITCH, name: "ofproto/list", usage: "", arguments: (0, 0), run: list },
    Command {
        daemons: SWITCH,
        name: "ofproto/list-tunnels",
        usage: "",
        arguments: (0, 0),
        run: list_tunnels,
    },
];

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
    let mac = args[3].parse().map_err(|_| "invalid mac")?;
    control.pipeline.fdb_add_static(bridge.id, vlan, mac, port);
    Ok(String::new())
}

fn fdb_del(control: &mut Control, args: &[String]) -> Answer {
    let bridge = find(control, &args[0])?;
    let vlan = args[1].parse().ok().filter(|v| *v < 4096).ok_or("invalid vlan")?;
    let mac = args[2].parse().map_err(|_| "invalid mac")?;
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

fn list_tunnels(control: &mut Control, _: &[String]) -> Answer {
    let mut out = String::new();
    for (_, iface) in control.world.ifaces() {
        if let (Some(port), Ok(crate::wanted::IfaceKind::Tunnel { config, .. })) =
            (iface.dp_port, &iface.wanted.kind)
        {
            let kind = &iface.wanted.type_name;
            let name = &iface.wanted.name;
            let _ = writeln!(
                out,
                "port {port}: {name} ({kind}: {:?}->{:?}, in_key={:?}, out_key={:?}, dp port={port}, ttl={:?})",
                config.local, config.remote, config.in_key, config.out_key, config.ttl
            );
        }
    }
    Ok(out)
}

fn reconnect(control: &mut Control, args: &[String]) -> Answer {
    let only = match args.first() {
        Some(name) => Some(find(control, name)?.id),
        None => None,
    };
    control.openflow.reconnect(only);
    Ok(String::new())
}

fn dump_flows(control: &mut Control, args: &[String]) -> Answer {
    let name = args.iter().find(|a| !a.starts_with("--")).ok_or("a bridge is needed")?;
    let bridge = find(control, name)?;
    let snapshot = control.pipeline.snapshot();
    let Some(found) = snapshot.bridge(bridge.id) else { return Err("no such bridge".into()) };
    control.datapath.refresh();
    let now = now_ms();
    let lines = found.tables.rules(&weft_pipeline::RuleFilter::default()).into_iter().map(|rule| {
        use std::sync::atomic::Ordering::Relaxed;
        let table = if rule.table == 0 { String::new() } else { format!("table_id={}, ", rule.table) };
        let syntax = weft_flow::text::Syntax::default();
        let matching = weft_flow::text::format_match(&rule.matching.expand(), &syntax);
        let separator = if matching.is_empty() { "" } else { "," };
        format!(
            "{table}duration={}s, n_packets={}, n_bytes={}, priority={}{separator}{matching},actions={}\n",
            now.saturating_sub(rule.created_ms) / 1000,
            rule.stats.packets.load(Relaxed),
            rule.stats.bytes.load(Relaxed),
            rule.priority,
            weft_flow::text::format_instructions(&rule.instructions, &syntax)
        )
    });
    Ok(lines.collect())
}

fn bond_list(control: &mut Control, _: &[String]) -> Answer {
    let mut out = String::from("bond\ttype\trecircID\tmembers\n");
    for bridge in control.world.bridges.values() {
        for port in bridge.wanted.ports.iter().filter(|p| p.bond.is_some()) {
            let members: Vec<&str> = port.ifaces.iter().map(|i| i.name.as_str()).collect();
            let _ = writeln!(out, "{}\tactive-backup\t0\t{}", port.name, members.join(", "));
        }
    }
    Ok(out)
}

fn bond_show(control: &mut Control, args: &[String]) -> Answer {
    let mut out = String::new();
    for bridge in control.world.bridges.values() {
        let bonds = bridge.wanted.ports.iter().filter(|p| args.first().is_none_or(|a| *a == p.name));
        for port in bonds {
            let Some(bond) = &port.bond else { continue };
            let active = bridge.active_member(&port.name);
            let _ = writeln!(out, "---- {} ----", port.name);
            let _ = writeln!(out, "bond_mode: active-backup");
            if !bond.mode.is_empty() && bond.mode != "active-backup" {
                let _ = writeln!(out, "configured bond_mode: {} (forwards as active-backup)", bond.mode);
            }
            let mac = active.and_then(|i| i.state.mac).map(|m| m.to_string());
            let name = active.map(|i| i.wanted.name.as_str());
            let _ = writeln!(out, "active-backup primary: <none>");
            let _ = writeln!(
                out,
                "active member mac: {}({})",
                mac.as_deref().unwrap_or("00:00:00:00:00:00"),
                name.unwrap_or("none")
            );
            for member in port.ifaces.iter().filter_map(|i| bridge.ifaces.get(&i.name)) {
                let up = member.ofport.is_some() && member.state.link_up;
                let state = if up { "enabled" } else { "disabled" };
                let _ = writeln!(out, "\nmember {}: {state}", member.wanted.name);
                if Some(member.wanted.name.as_str()) == name {
                    let _ = writeln!(out, "  active member");
                }
                let _ = writeln!(out, "  may_enable: {up}");
            }
            out.push('\n');
        }
    }
    match args.first() {
        Some(_) if out.is_empty() => Err("no such bond".into()),
        _ => Ok(out),
    }
}
