//! Which commands are about the process itself?

use weft_host::procfs::ProcessId;

use super::{Answer, BOTH, Command, SWITCH};
use crate::bridge::COMPATIBLE_WITH;
use crate::control::{Control, Exit};

pub(super) const COMMANDS: &[Command] = &[
    Command { daemons: BOTH, name: "exit", usage: "[--cleanup]", arguments: (0, 1), run: exit },
    Command { daemons: BOTH, name: "list-commands", usage: "", arguments: (0, 0), run: list_commands },
    Command { daemons: BOTH, name: "memory/show", usage: "", arguments: (0, 0), run: memory },
    Command { daemons: BOTH, name: "version", usage: "", arguments: (0, 0), run: version },
    Command { daemons: BOTH, name: "coverage/show", usage: "", arguments: (0, 0), run: coverage },
    Command {
        daemons: BOTH,
        name: "coverage/read-counter",
        usage: "COUNTER",
        arguments: (1, 1),
        run: coverage_one,
    },
    Command { daemons: SWITCH, name: "weft/drops", usage: "[--json]", arguments: (0, 1), run: drops },
];

fn exit(control: &mut Control, args: &[String]) -> Answer {
    let cleanup = args.iter().any(|a| a == "--cleanup");
    control.exit = Some(if cleanup { Exit::Cleanup } else { Exit::Keep });
    Ok(String::new())
}

fn list_commands(control: &mut Control, _: &[String]) -> Answer {
    let mut commands: Vec<_> = super::commands(control.unixctl_daemon).collect();
    commands.sort_by_key(|c| c.name);
    let lines = commands.iter().map(|c| format!("  {:<23} {}\n", c.name, c.usage));
    Ok(format!("The available commands are:\n{}", lines.collect::<String>()))
}

/// Clients look for "Open vSwitch" and a version they know here.
fn version(control: &mut Control, _: &[String]) -> Answer {
    let name = control.unixctl_daemon.name();
    Ok(format!("{name} (Open vSwitch) {COMPATIBLE_WITH}, by Weft {}\n", env!("CARGO_PKG_VERSION")))
}

fn memory(control: &mut Control, _: &[String]) -> Answer {
    let own = i32::try_from(std::process::id()).ok().and_then(ProcessId::of);
    let resident = own.and_then(ProcessId::resident).unwrap_or(0) / 1024;
    let snapshot = control.pipeline.snapshot();
    let rules: usize = snapshot.bridges().map(|b| b.tables.len()).sum();
    let ports = control.world.ifaces().filter(|(_, i)| i.ofport.is_some()).count();
    let rows = control.db.database().row_count();
    let flows = control.datapath.stats().flows;
    let sessions = control.db.clients();
    Ok(format!(
        "flows:{flows} ports:{ports} resident-kB:{resident} rows:{rows} rules:{rules} sessions:{sessions}\n"
    ))
}

fn coverage(control: &mut Control, _: &[String]) -> Answer {
    let counters = control.datapath.coverage();
    let events = &control.unixctl.tools.events;
    let hit = counters.iter().enumerate().filter(|(_, (_, n))| *n > 0);
    let lines = hit.map(|(i, (name, n))| {
        let [now, minute, hour] = events.rates(i, *n);
        format!("{name:<24} {now:5.1}/sec {minute:9.3}/sec {hour:13.4}/sec   total: {n}\n")
    });
    let never = counters.iter().filter(|(_, n)| *n == 0).count();
    Ok(format!(
        "Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash={:08x}:\n{}{never} events never \
         hit\n",
        digest(&counters),
        lines.collect::<String>()
    ))
}

/// The same as long as the same events were hit.
fn digest(counters: &[(&str, u64)]) -> u32 {
    let hit = counters.iter().filter(|(_, n)| *n > 0).flat_map(|(name, _)| name.bytes());
    hit.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn coverage_one(control: &mut Control, args: &[String]) -> Answer {
    let found = control.datapath.coverage().into_iter().find(|(name, _)| *name == args[0]);
    found.map(|(_, n)| format!("{n}\n")).ok_or_else(|| "No such counter".into())
}

fn drops(control: &mut Control, args: &[String]) -> Answer {
    match args.first().map(String::as_str) {
        None => Ok(crate::drops::table(control)),
        Some("--json") => Ok(crate::drops::json(control).to_string()),
        Some(other) => Err(format!("{other}: unknown option, use --json")),
    }
}
