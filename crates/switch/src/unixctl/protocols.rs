//! Which commands are about protocols between switches: LACP, STP, RSTP, CFM, BFD, multicast snooping, and about QoS?
//!
//! The switch speaks none of these protocols. So there are no objects to show, as in Open vSwitch when nothing of the kind
//! is configured. Devices are shaped by the kernel ([`crate::bridge`]); QoS that has no effect is said to have none.

use std::fmt::Write;

use super::bridge::find;
use super::{Answer, Command, command};
use crate::bridge::Iface;
use crate::control::Control;
use crate::wanted::{IfaceKind, SHAPED};

pub(super) const COMMANDS: &[Command] = &[
    command("bfd/set-forwarding", "[interface] normal|false|true", (1, 2), |_, a| {
        force(a, "no such BFD object")
    }),
    command("bfd/show", "[interface]", (0, 1), |_, a| show(a, "no such bfd object")),
    command("cfm/set-fault", "[interface] normal|false|true", (1, 2), |_, a| force(a, "no such CFM object")),
    command("cfm/show", "[interface]", (0, 1), |_, a| show(a, "no such CFM object")),
    command("lacp/show", "[port]", (0, 1), |_, a| show(a, "no such lacp object")),
    command("lacp/show-stats", "[port]", (0, 1), |_, a| show(a, "no such lacp object")),
    command("mdb/flush", "[bridge]", (0, 1), mdb_flush),
    command("mdb/show", "bridge", (1, 1), mdb_show),
    command("qos/show", "interface", (1, 1), qos_show),
    command("qos/show-types", "interface", (1, 1), qos_types),
    command("rstp/show", "[bridge]", (0, 1), |_, a| show(a, "No such RSTP object")),
    command("rstp/tcn", "[bridge]", (0, 1), |_, a| change(a, "No such RSTP object")),
    command("stp/show", "[bridge]", (0, 1), |_, a| show(a, "no such stp object")),
    command("stp/tcn", "[bridge]", (0, 1), |_, a| change(a, "no such stp object")),
];

/// All objects: none. Or the one of that name: there is none.
fn show(args: &[String], none: &str) -> Answer {
    if args.is_empty() { Ok(String::new()) } else { Err(none.to_owned()) }
}

/// What happens to all of no objects is done.
fn change(args: &[String], none: &str) -> Answer {
    if args.is_empty() { Ok("OK\n".to_owned()) } else { Err(none.to_owned()) }
}

fn force(args: &[String], none: &str) -> Answer {
    let state = args.last().map(String::as_str);
    if !matches!(state, Some("normal" | "false" | "true")) {
        return Err("unknown fault string".into());
    }
    change(&args[..args.len() - 1], none)
}

fn mdb_show(control: &mut Control, args: &[String]) -> Answer {
    find(control, &args[0])?;
    Err("multicast snooping is disabled".into())
}

fn mdb_flush(control: &mut Control, args: &[String]) -> Answer {
    match args.first() {
        Some(_) => mdb_show(control, args),
        None => Ok("table successfully flushed\n".into()),
    }
}

fn interface<'c>(control: &'c Control, name: &str) -> Result<&'c Iface, String> {
    let mut ifaces = control.world.ifaces().map(|(_, iface)| iface);
    ifaces.find(|iface| iface.wanted.name == name).ok_or_else(|| "no such interface".into())
}

fn qos_show(control: &mut Control, args: &[String]) -> Answer {
    let name = &args[0];
    let iface = interface(control, name)?;
    let qos = &iface.home.qos;
    let Some(shaping) = &iface.shaped else {
        return Err(match qos.kind.as_str() {
            "" => format!("QoS not configured on {name}"),
            kind => format!("QoS not configured on {name}: {kind} is asked for, which has no effect on it"),
        });
    };
    let mut out = format!("QoS: {name} {}\nmax-rate: {}\n", qos.kind, shaping.max_rate);
    let counts = crate::openflow::queue_counts(iface);
    for queue in &shaping.queues {
        out.push_str(&if queue.id == 0 {
            "\nDefault:\n".to_owned()
        } else {
            format!("\nQueue {}:\n", queue.id)
        });
        let asked = [
            ("burst", queue.burst),
            ("max-rate", queue.max_rate),
            ("min-rate", queue.min_rate),
            ("priority", queue.priority.into()),
        ];
        for (key, value) in asked.into_iter().filter(|(_, value)| *value != 0) {
            let _ = writeln!(out, "  {key}: {value}");
        }
        if let Some((_, of)) = counts.iter().find(|(id, _)| *id == queue.id) {
            let (packets, bytes, errors) = (of.packets, of.bytes, of.drops);
            let _ = write!(out, "  tx_packets: {packets}\n  tx_bytes: {bytes}\n  tx_errors: {errors}\n");
        }
    }
    Ok(out)
}

fn qos_types(control: &mut Control, args: &[String]) -> Answer {
    let iface = interface(control, &args[0])?;
    Ok(if matches!(iface.wanted.kind, Ok(IfaceKind::Device)) {
        format!("QoS type: {SHAPED}\n")
    } else {
        format!("No QoS types supported for interface: {}\n", args[0])
    })
}
