//! `weft switch`: how is the switch started?

use std::path::PathBuf;
use std::process::ExitCode;

use weft_switch::{Options, Paths, detach, log_file, run};

use super::Outcome;

const EXAMPLES: &str = "\
Examples:
  weft switch --detach                       in place of ovsdb-server and ovs-vswitchd
  weft switch --rundir /tmp/sw --db /tmp/sw/conf.db
  OVS_RUNDIR=/tmp/sw ovs-vsctl show          talk to that one
  ovs-appctl exit                            end it

The run directory holds db.sock, BRIDGE.mgmt, pid files and control sockets, named as Open vSwitch
names them, so that ovs-vsctl, ovs-ofctl, ovs-appctl, ovsdb-client and libvirt find them. The
database is created when it is missing.";

/// Arguments of `weft switch`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Run directory [default: $OVS_RUNDIR, or /var/run/openvswitch].
    #[arg(long, value_name = "DIR")]
    rundir: Option<PathBuf>,
    /// Database file [default: conf.db in $OVS_DBDIR, or in /etc/openvswitch].
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Pid file of the switch, if not ovs-vswitchd.pid in the run directory. Pid files are always written.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pidfile: Option<Option<PathBuf>>,
    /// Go into the background; returns when the switch is ready.
    #[arg(long)]
    detach: bool,
    /// With --detach, stay in the working directory instead of /.
    #[arg(long)]
    no_chdir: bool,
    /// Log to a file [default: ovs-vswitchd.log in $OVS_LOGDIR, or in /var/log/openvswitch].
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    log_file: Option<Option<PathBuf>>,
    /// Log levels, as for `ovs-appctl vlog/set`; alone: everything.
    #[arg(short, long, value_name = "SPEC", num_args = 0..=1, default_missing_value = "dbg")]
    verbose: Vec<String>,
    /// Another remote for the database: punix:FILE, ptcp:PORT, pssl:PORT, tcp:HOST:PORT, ssl:HOST:PORT. db.sock and the
    /// Manager table are always served.
    #[arg(long, value_name = "REMOTE")]
    remote: Vec<String>,
    /// Threads that forward [default: one for every two processors, at most four].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: Option<u16>,
}

/// Runs `weft switch`.
pub(crate) fn exec(args: Args) -> Outcome {
    if args.detach && !detach::is_child() {
        let again: Vec<_> = std::env::args_os().skip(1).collect();
        return Ok(detach::spawn(&again)?);
    }
    let options = Options {
        paths: Paths::resolve(args.rundir.as_deref(), args.db.as_deref()),
        remotes: args.remote,
        pidfile: args.pidfile.flatten(),
        no_chdir: args.no_chdir,
        log_file: args.log_file.map(|file| file.unwrap_or_else(log_file)),
        verbose: args.verbose,
        lanes: args.lanes.map(usize::from),
    };
    run(&options)?;
    Ok(ExitCode::SUCCESS)
}
