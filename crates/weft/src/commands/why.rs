//! `weft why`: which rule sent or dropped the packets of a live flow?

use std::path::PathBuf;
use std::process::ExitCode;

use weft_api::FlowOwner;
use weft_switch::Paths;

use super::{Outcome, ask, intent};
use crate::output::Format;

const EXAMPLES: &str = "\
Examples:
  weft why tcp,tp_dst=23                every live flow of telnet, and the rule that decides about it
  weft why cookie=0x11                  what rules with this cookie sent or dropped; also 0x11/0xff
  weft why --bridge br0 in_port=vm0     what becomes of what vm0 sends
  weft why -o json icmp,nw_dst=10.0.0.2 the same for programs

Live flows are those that passed lately: the datapath's cache. For packets that never came, use
`weft trace`.";

/// Arguments of `weft why`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The packets, as fields of ovs-fields(7), the rules, as cookie=VALUE[/MASK], or both; everything that overlaps is
    /// explained.
    flow: String,
    /// Only flows that come in by this bridge.
    #[arg(short, long, value_name = "BRIDGE")]
    bridge: Option<String>,
    /// Run directory of the switch [default: $OVS_RUNDIR, or /var/run/openvswitch].
    #[arg(long, value_name = "DIR")]
    rundir: Option<PathBuf>,
}

/// Runs `weft why`.
pub(crate) fn exec(args: &Args, format: Format) -> Outcome {
    let paths = Paths::resolve(args.rundir.as_deref(), None);
    let mut params: Vec<&str> = args.bridge.as_deref().into_iter().collect();
    params.push(&args.flow);
    let mut answer = ask(&paths.rundir, "weft/why", &params)?;
    let owners = intent::owners(&answer, &paths.rundir);
    if matches!(format, Format::Table | Format::Name) {
        if !owners.is_empty() {
            answer = format!("{}\n\nWhose rules these are:\n{}", answer.trim_end(), intent::legend(&owners));
        }
        format.print(&answer, String::clone)?;
    } else {
        params.push("--json");
        let answer = ask(&paths.rundir, "weft/why", &params)?;
        let mut flows: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&answer)?;
        for flow in &mut flows {
            let text = serde_json::to_string(flow)?;
            let of_flow: Vec<&FlowOwner> = owners.iter().filter(|o| text.contains(&o.cookie)).collect();
            flow.insert("owners".into(), serde_json::to_value(of_flow)?);
        }
        format.print(&flows, |_| String::new())?;
    }
    Ok(ExitCode::SUCCESS)
}
