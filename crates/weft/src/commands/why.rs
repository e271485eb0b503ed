//! `weft why`: which rule sent or dropped the packets of a live flow?

use std::path::PathBuf;
use std::process::ExitCode;

use weft_switch::Paths;

use super::Outcome;
use crate::output::Format;

const EXAMPLES: &str = "\
Examples:
  weft why tcp,tp_dst=23                       every live flow of telnet, and the rule that decides about it
  weft why --bridge br0 in_port=vm0            what becomes of what vm0 sends
  weft why -o json icmp,nw_dst=10.0.0.2        the same for programs

Live flows are those that passed lately: the datapath's cache. For packets that never came, use `weft trace`.";

/// Arguments of `weft why`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The packets, as fields of ovs-fields(7); everything that overlaps is explained.
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
    format.relay(&paths.rundir, "weft/why", params)?;
    Ok(ExitCode::SUCCESS)
}
