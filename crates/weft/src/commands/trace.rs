//! `weft trace`: what would happen to a packet, and why?

use std::path::PathBuf;
use std::process::ExitCode;

use weft_switch::Paths;

use super::Outcome;
use crate::output::Format;

const EXAMPLES: &str = "\
Examples:
  weft trace br0 in_port=1,dl_src=02:00:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff
  weft trace br0 in_port=vm0,icmp,nw_src=10.0.0.1,nw_dst=10.0.0.2
  weft trace --names br0 in_port=vm0,arp
  weft trace -o json br0 in_port=1,tcp,tcp_dst=80

The flow is written as for `ovs-appctl ofproto/trace`; fields that are not named are zero. Nothing
is sent or learned.";

/// Arguments of `weft trace`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The bridge the packet enters.
    bridge: String,
    /// The packet, as fields of ovs-fields(7).
    flow: String,
    /// Show ports by name instead of by number.
    #[arg(long)]
    names: bool,
    /// Run directory of the switch [default: $OVS_RUNDIR, or /var/run/openvswitch].
    #[arg(long, value_name = "DIR")]
    rundir: Option<PathBuf>,
}

/// Runs `weft trace`.
pub(crate) fn exec(args: &Args, format: Format) -> Outcome {
    let paths = Paths::resolve(args.rundir.as_deref(), None);
    let mut params = vec![args.bridge.as_str(), args.flow.as_str()];
    params.extend(args.names.then_some("--names"));
    format.relay(&paths.rundir, "weft/trace", params)?;
    Ok(ExitCode::SUCCESS)
}
