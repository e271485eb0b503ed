//! Which commands tell people why packets went where they went, and how many?

use super::{Answer, Command, SWITCH};
use crate::control::Control;
use crate::{metrics, why};

pub(super) const COMMANDS: &[Command] = &[
    Command { daemons: SWITCH, name: "metrics", usage: "[--json]", arguments: (0, 1), run: show_metrics },
    Command {
        daemons: SWITCH,
        name: "weft/metrics",
        usage: "[--json]",
        arguments: (0, 1),
        run: show_metrics,
    },
    Command {
        daemons: SWITCH,
        name: "weft/why",
        usage: "[bridge] flow [--json]",
        arguments: (1, 3),
        run: show_why,
    },
];

fn show_metrics(control: &mut Control, args: &[String]) -> Answer {
    match args.first().map(String::as_str) {
        None => Ok(metrics::text(control)),
        Some("--json") => Ok(metrics::json(control).to_string()),
        Some(other) => Err(format!("{other}: unknown option, use --json")),
    }
}

fn show_why(control: &mut Control, args: &[String]) -> Answer {
    let (options, words): (Vec<&String>, Vec<&String>) = args.iter().partition(|a| a.starts_with("--"));
    if let Some(other) = options.iter().find(|o| o.as_str() != "--json") {
        return Err(format!("{other}: unknown option, use --json"));
    }
    let (bridge, flow) = match words[..] {
        [flow] => (None, flow),
        [bridge, flow] => (Some(bridge.as_str()), flow),
        _ => return Err("a flow is needed: weft/why [BRIDGE] FLOW".into()),
    };
    control.datapath.refresh();
    let answer = why::ask(control, bridge, flow)?;
    match options.is_empty() {
        true => Ok(why::table(&answer)),
        false => serde_json::to_string(&answer).map_err(|e| e.to_string()),
    }
}
