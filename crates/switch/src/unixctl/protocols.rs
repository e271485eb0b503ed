//! Which commands are about protocols between switches: LACP, STP, RSTP, CFM, BFD, multicast snooping, and about QoS?
//!
//! The switch speaks none of these protocols and shapes nothing. So there are no objects to show, as in Open vSwitch
//! when nothing of the kind is configured; where the database asks for something, it is said that it is not done.

use super::bridge::find;
use super::{Answer, Command, command};
use crate::control::Control;

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

fn is_interface(control: &Control, name: &str) -> Result<(), String> {
    let known = control.world.ifaces().any(|(_, i)| i.wanted.name == name);
    if known { Ok(()) } else { Err("no such interface".into()) }
}

/// The type that the Port row of an interface asks for.
fn asked(control: &Control, interface: &str) -> Option<String> {
    let port = control.world.ifaces().find(|(_, i)| i.wanted.name == interface)?.1.port.clone();
    let db = control.db.database();
    let row = db.table("Port")?.rows().find(|row| row.str("name") == port)?;
    let qos = db.row("QoS", row.reference("qos")?)?;
    Some(qos.str("type").to_owned())
}

fn qos_show(control: &mut Control, args: &[String]) -> Answer {
    let name = &args[0];
    is_interface(control, name)?;
    Err(match asked(control, name) {
        Some(kind) => {
            format!("QoS not configured on {name}: the database asks for {kind}, which is not offered")
        }
        None => format!("QoS not configured on {name}"),
    })
}

fn qos_types(control: &mut Control, args: &[String]) -> Answer {
    is_interface(control, &args[0])?;
    Ok(String::new())
}
