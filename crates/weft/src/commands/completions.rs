//! `weft completions`: what does a shell need to complete commands?

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Outcome;
use crate::cli::Cli;

/// Arguments of `weft completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

/// Runs `weft completions`.
pub(crate) fn exec(args: &Args) -> Outcome {
    clap_complete::generate(args.shell, &mut Cli::command(), "weft", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
