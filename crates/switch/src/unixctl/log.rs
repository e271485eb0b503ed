//! Which commands change what is logged?

use super::{Answer, BOTH, Command};
use crate::control::Control;

pub(super) const COMMANDS: &[Command] = &[
    Command { daemons: BOTH, name: "vlog/close", usage: "", arguments: (0, 0), run: close },
    Command {
        daemons: BOTH,
        name: "vlog/disable-rate-limit",
        usage: "[module]...",
        arguments: (0, usize::MAX),
        run: |c, modules| ration(c, modules, false),
    },
    Command {
        daemons: BOTH,
        name: "vlog/enable-rate-limit",
        usage: "[module]...",
        arguments: (0, usize::MAX),
        run: |c, modules| ration(c, modules, true),
    },
    Command { daemons: BOTH, name: "vlog/list", usage: "", arguments: (0, 0), run: list },
    Command { daemons: BOTH, name: "vlog/list-pattern", usage: "", arguments: (0, 0), run: patterns },
    Command { daemons: BOTH, name: "vlog/reopen", usage: "", arguments: (0, 0), run: reopen },
    Command {
        daemons: BOTH,
        name: "vlog/set",
        usage: "{spec | PATTERN:destination:pattern}",
        arguments: (1, usize::MAX),
        run: set,
    },
];

fn close(control: &mut Control, _: &[String]) -> Answer {
    control.vlog.close();
    Ok(String::new())
}

fn list(control: &mut Control, _: &[String]) -> Answer {
    Ok(control.vlog.list())
}

fn patterns(control: &mut Control, _: &[String]) -> Answer {
    Ok(control.vlog.patterns())
}

/// Turns the ration of warnings on or off, of some modules or all.
fn ration(control: &mut Control, modules: &[String], on: bool) -> Answer {
    control.vlog.ration(modules, on).map(|()| String::new())
}

fn reopen(control: &mut Control, _: &[String]) -> Answer {
    control.vlog.reopen().map(|()| String::new())
}

fn set(control: &mut Control, specs: &[String]) -> Answer {
    specs.iter().try_for_each(|spec| control.vlog.set(spec)).map(|()| String::new())
}
