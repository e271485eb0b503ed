//! The `weft` binary: parse, dispatch, exit code.

mod cli;
mod commands;
mod output;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::exec(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weft: {error}");
            ExitCode::FAILURE
        }
    }
}
