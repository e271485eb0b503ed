//! Which commands are there, and what do they take? Each command's arguments live with the command.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::output::Format;

/// One programmable network for VMs, containers and pods.
#[derive(Debug, Parser)]
#[command(name = "weft", version, about, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    /// How answers are printed.
    #[arg(short, long, value_enum, global = true, default_value_t = Format::Table)]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Virtual hosts, networks and workloads on this machine, from a file.
    Lab(commands::lab::Args),
    /// The switch: in place of ovsdb-server and ovs-vswitchd.
    Switch(commands::switch::Args),
    /// What would happen to a packet, and why.
    Trace(commands::trace::Args),
    /// Why packets were dropped, and where.
    Drops(commands::drops::Args),
    /// Which rule sent or dropped the packets of a live flow.
    Why(commands::why::Args),
    /// Counters for Prometheus, printed or served.
    Metrics(commands::metrics::Args),
    /// Completions for a shell.
    Completions(commands::completions::Args),
}
