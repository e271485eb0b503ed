//! The `weft` binary: parse, dispatch, exit code.

mod cli;
mod commands;
mod input;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

fn main() -> ExitCode {
    // A shell that asks what fits is answered here.
    clap_complete::CompleteEnv::with_factory(cli::Cli::command).complete();
    match commands::exec(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weft: {error}");
            ExitCode::FAILURE
        }
    }
}
