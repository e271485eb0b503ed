//! One file for each verb, each with one `exec`.

pub(crate) mod lab;

use std::error::Error;
use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// What a command comes to: an exit code, or a failure to print.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error>>;

/// Runs the command the user gave.
pub(crate) fn exec(cli: Cli) -> Outcome {
    match cli.command {
        Command::Lab(args) => lab::exec(args, cli.output),
    }
}
