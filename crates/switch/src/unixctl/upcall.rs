//! Which commands are about misses, and about what looks after cached flows?

use std::time::Instant;

use weft_datapath::Tuning;

use super::{Answer, Command, command};
use crate::control::Control;

pub(super) const COMMANDS: &[Command] = &[
    command("revalidator/pause", "", (0, 0), |c, _| tune(c, "", |t| t.sweep = false)),
    command("revalidator/purge", "", (0, 0), purge),
    command("revalidator/resume", "", (0, 0), |c, _| tune(c, "", |t| t.sweep = true)),
    command("revalidator/wait", "", (0, 0), wait),
    command("upcall/disable-megaflows", "", (0, 0), |c, _| megaflows(c, false)),
    command("upcall/disable-ufid", "", (0, 0), |c, _| ufids(c, false)),
    command("upcall/enable-megaflows", "", (0, 0), |c, _| megaflows(c, true)),
    command("upcall/enable-ufid", "", (0, 0), |c, _| ufids(c, true)),
    command("upcall/set-flow-limit", "flow-limit-number", (1, 1), limit),
    command("upcall/show", "", (0, 0), show),
];

fn tune(control: &mut Control, said: &str, change: impl FnOnce(&mut Tuning)) -> Answer {
    let mut tuning = control.datapath.tuning();
    change(&mut tuning);
    control.datapath.tune(tuning);
    Ok(said.to_owned())
}

fn purge(control: &mut Control, _: &[String]) -> Answer {
    control.datapath.flush_flows();
    Ok(String::new())
}

/// Every change is in force when this returns, and all traffic so far is credited.
fn wait(control: &mut Control, _: &[String]) -> Answer {
    control.datapath.sync();
    control.datapath.refresh();
    Ok(String::new())
}

fn megaflows(control: &mut Control, on: bool) -> Answer {
    let said = if on { "megaflows enabled\n" } else { "megaflows disabled\n" };
    let answer = tune(control, said, |t| t.megaflows = on);
    control.datapath.flush_flows();
    answer
}

/// Whether dumps tell identifiers of flows.
fn ufids(control: &mut Control, on: bool) -> Answer {
    control.unixctl.tools.ufids = on;
    Ok(match on {
        true => "Datapath dumping tersely using UFID enabled for supported datapaths\n",
        false => "Datapath dumping tersely using UFID disabled\n",
    }
    .into())
}

fn limit(control: &mut Control, args: &[String]) -> Answer {
    let limit: usize = args[0].parse().map_err(|_| format!("{}: a number of flows is needed", args[0]))?;
    tune(control, &format!("set flow_limit to {limit}\n"), |t| t.flow_limit = limit)
}

fn show(control: &mut Control, _: &[String]) -> Answer {
    let start = Instant::now();
    control.datapath.refresh();
    let took = start.elapsed().as_millis();
    let (stats, tuning) = (control.datapath.stats(), control.datapath.tuning());
    let name = super::datapath::name(control);
    let tools = &control.unixctl.tools;
    Ok(format!(
        "{name}:\n  flows         : (current {}) (avg {}) (max {}) (limit {})\n  dump duration : {took}ms\n  \
         ufid enabled : {}\n  masks         : {}\n  megaflows     : {}\n  revalidation  : {}\n",
        stats.flows,
        tools.flows_average(),
        tools.flows_most.max(stats.flows),
        tuning.flow_limit,
        tools.ufids,
        stats.masks,
        if tuning.megaflows { "enabled" } else { "disabled" },
        if tuning.sweep { "running" } else { "paused" }
    ))
}
