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
    /// A node's control plane: networks and ports that are declared come true on the switch.
    Agent(commands::agent::Args),
    /// Plug namespaces, VMs and devices into networks, and unplug them.
    Port(commands::port::Args),
    /// Say what is wanted: create and change resources.
    Apply(commands::resource::ApplyArgs),
    /// What `weft apply` would change.
    Diff(commands::resource::ApplyArgs),
    /// Resources, in lines.
    Get(commands::resource::GetArgs),
    /// One resource and how it fares.
    Describe(commands::resource::DescribeArgs),
    /// Change a resource in an editor.
    Edit(commands::edit::Args),
    /// Delete resources.
    Delete(commands::resource::DeleteArgs),
    /// Resources as they change.
    Watch(commands::resource::WatchArgs),
    /// Addresses that DHCP gave.
    Leases(commands::resource::LeasesArgs),
    /// How the node fares.
    Status(commands::resource::StatusArgs),
    /// Networks from libvirt's XML and back.
    Net(commands::net::Args),
    /// The stages that packets pass on the integration bridge.
    Pipeline(commands::resource::PipelineArgs),
    /// Completions for a shell.
    Completions(commands::completions::Args),
}
