//! One file for each verb, each with one `exec`.

pub(crate) mod agent;
pub(crate) mod completions;
pub(crate) mod drops;
pub(crate) mod edit;
mod intent;
pub(crate) mod lab;
pub(crate) mod metrics;
pub(crate) mod net;
pub(crate) mod place;
pub(crate) mod port;
pub(crate) mod resource;
pub(crate) mod switch;
pub(crate) mod trace;
pub(crate) mod why;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use weft_switch::{ClientError, Daemon, call};

use crate::cli::{Cli, Command};

/// What a command comes to: an exit code, or a failure to print.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Asks the switch in Weft's own words, which Open vSwitch does not know.
pub(crate) fn ask(rundir: &Path, method: &str, params: &[&str]) -> Result<String, ClientError> {
    call(rundir, Daemon::Vswitchd, method, params).map_err(|why| {
        if !is_foreign(&why) {
            return why;
        }
        let rundir = rundir.display();
        ClientError::Refused(format!("the switch that runs in {rundir} is not Weft's, and cannot tell this"))
    })
}

/// Whether it is an answer of a switch that does not know the command.
fn is_foreign(why: &ClientError) -> bool {
    matches!(why, ClientError::Refused(why) if why.contains("is not a valid command"))
}

/// Runs the command the user gave.
pub(crate) fn exec(cli: Cli) -> Outcome {
    match cli.command {
        Command::Lab(args) => lab::exec(args, cli.output),
        Command::Switch(args) => switch::exec(args),
        Command::Trace(args) => trace::exec(&args, cli.output),
        Command::Drops(args) => drops::exec(&args, cli.output),
        Command::Why(args) => why::exec(&args, cli.output),
        Command::Metrics(args) => metrics::exec(&args, cli.output),
        Command::Agent(args) => agent::exec(args),
        Command::Port(args) => port::exec(&args, cli.output),
        Command::Apply(args) => resource::apply(&args, cli.output),
        Command::Diff(args) => resource::diff(&args, cli.output),
        Command::Get(args) => resource::get(&args, cli.output),
        Command::Describe(args) => resource::describe_one(&args, cli.output),
        Command::Delete(args) => resource::delete(&args, cli.output),
        Command::Edit(args) => edit::exec(&args, cli.output),
        Command::Watch(args) => resource::watch(&args, cli.output),
        Command::Leases(args) => resource::leases(&args, cli.output),
        Command::Status(args) => resource::status(&args, cli.output),
        Command::Net(args) => net::exec(&args, cli.output),
        Command::Pipeline(_) => resource::pipeline(cli.output),
        Command::Completions(args) => completions::exec(&args),
    }
}
