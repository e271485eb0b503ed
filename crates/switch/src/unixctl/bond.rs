//! Which commands are about bonds?
//!
//! Every bond forwards as active-backup, whatever its `bond_mode`: that is what is shown.

use std::fmt::Write as _;

use super::{Answer, Command, command};
use crate::bridge::Bridge;
use crate::control::Control;
use crate::wanted::{Bond, Port};

pub(super) const COMMANDS: &[Command] = &[
    command("bond/list", "", (0, 0), list),
    command("bond/set-active-member", "port member", (2, 2), set_active),
    command("bond/set-active-slave", "port slave", (2, 2), set_active),
    command("bond/show", "[port]", (0, 1), show),
];

/// A bond: its bridge, its port, how it is bonded.
type Found<'a> = (&'a Bridge, &'a Port, &'a Bond);

fn bonds(control: &Control) -> Vec<Found<'_>> {
    let mut found = Vec::new();
    for bridge in control.world.bridges.values() {
        found.extend(bridge.bonds().map(|(port, bond)| (bridge, port, bond)));
    }
    found
}

fn list(control: &mut Control, _: &[String]) -> Answer {
    let mut out = String::from("bond\ttype\trecircID\tmembers\n");
    for (_, port, _) in bonds(control) {
        let members: Vec<&str> = port.ifaces.iter().map(|i| i.name.as_str()).collect();
        let _ = writeln!(out, "{}\tactive-backup\t0\t{}", port.name, members.join(", "));
    }
    Ok(out)
}

fn show(control: &mut Control, args: &[String]) -> Answer {
    let mut out = String::new();
    for (bridge, port, bond) in bonds(control) {
        if args.first().is_none_or(|name| *name == port.name) {
            show_one(bridge, port, bond, &mut out);
        }
    }
    match args.first() {
        Some(_) if out.is_empty() => Err("no such bond".into()),
        _ => Ok(out),
    }
}

fn show_one(bridge: &Bridge, port: &Port, bond: &Bond, out: &mut String) {
    let active = bridge.active_member(&port.name);
    let _ = writeln!(out, "---- {} ----\nbond_mode: active-backup", port.name);
    if !bond.mode.is_empty() && bond.mode != "active-backup" {
        let _ = writeln!(out, "configured bond_mode: {} (forwards as active-backup)", bond.mode);
    }
    out.push_str("bond may use recirculation: no, Recirc-ID : -1\nbond-hash-basis: 0\n");
    out.push_str("lb_output action: disabled, bond-id: -1\nupdelay: 0 ms\ndowndelay: 0 ms\n");
    out.push_str("lacp_status: off\nlacp_fallback_ab: false\nactive-backup primary: <none>\n");
    let mac = active.and_then(|i| i.state.mac).map(|m| m.to_string());
    let name = active.map(|i| i.wanted.name.as_str());
    let _ = match (mac, name) {
        (Some(mac), Some(name)) => writeln!(out, "active member mac: {mac}({name})"),
        _ => writeln!(out, "active member mac: 00:00:00:00:00:00(none)"),
    };
    for member in port.ifaces.iter().filter_map(|i| bridge.ifaces.get(&i.name)) {
        let up = member.ofport.is_some() && member.state.link_up;
        let state = if up { "enabled" } else { "disabled" };
        let _ = writeln!(out, "\nmember {}: {state}", member.wanted.name);
        if Some(member.wanted.name.as_str()) == name {
            out.push_str("  active member\n");
        }
        let _ = writeln!(out, "  may_enable: {up}");
    }
    out.push('\n');
}

fn set_active(control: &mut Control, args: &[String]) -> Answer {
    let (port, member) = (&args[0], &args[1]);
    let bond = bonds(control).into_iter().find(|(_, p, _)| p.name == *port);
    let (bridge, wanted, _) = bond.ok_or("no such bond")?;
    let named = wanted.ifaces.iter().any(|i| i.name == *member);
    let found = bridge.ifaces.get(member).filter(|_| named).ok_or("no such member")?;
    if found.ofport.is_none() || !found.state.link_up {
        return Err("member is disabled".into());
    }
    if bridge.active_member(port).is_some_and(|active| active.wanted.name == *member) {
        return Ok("no change\n".into());
    }
    let bridge = bridge.name.clone();
    let names: Vec<String> = wanted.ifaces.iter().map(|i| i.name.clone()).collect();
    if let Some(bridge) = control.world.bridges.get_mut(&bridge) {
        for name in names {
            bridge.ifaces.edit(&name, |iface| iface.standby = iface.wanted.name != *member);
        }
    }
    control.changed_by_hand();
    Ok("done\n".into())
}
