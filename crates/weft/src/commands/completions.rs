//! `weft completions`: what does a shell need to complete commands?

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Outcome;
use crate::cli::Cli;

const EXAMPLES: &str = "\
Examples:
  weft completions bash > /usr/share/bash-completion/completions/weft
  weft completions zsh > ~/.zfunc/_weft
  source <(weft completions bash)              for this shell only";

/// Arguments of `weft completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell.
    shell: Shell,
}

/// Runs `weft completions`.
pub(crate) fn exec(args: &Args) -> Outcome {
    clap_complete::generate(args.shell, &mut Cli::command(), "weft", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
