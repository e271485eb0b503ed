//! How does an answer look: a table for people, JSON for programs?

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::commands::ask;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs; fields are kept from version to version.
    Json,
    /// The same, for people and files.
    Yaml,
    /// Kind and name of resources, a line each.
    Name,
}

impl Format {
    /// Prints what a command of the running switch answers, which takes `--json` for programs.
    pub(crate) fn relay(
        self,
        rundir: &Path,
        method: &str,
        mut params: Vec<&str>,
    ) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Json => {
                params.push("--json");
                let value: serde_json::Value = serde_json::from_str(&ask(rundir, method, &params)?)?;
                self.print(&value, |_| String::new())?;
            }
            _ => self.print(&ask(rundir, method, &params)?, String::clone)?,
        }
        Ok(())
    }

    /// Prints `value` as JSON, or as the text that `human` makes of it.
    pub(crate) fn print<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) -> io::Result<()> {
        let text = match self {
            Self::Json => serde_json::to_string_pretty(value)?,
            Self::Yaml => serde_yaml_ng::to_string(value).map_err(io::Error::other)?,
            Self::Table | Self::Name => human(value),
        };
        match writeln!(io::stdout(), "{}", text.trim_end()) {
            // Who reads us has read enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

impl Format {
    /// Prints one of many values on a line of its own.
    pub(crate) fn print_line<T: Serialize>(
        self,
        value: &T,
        human: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        match self {
            Self::Json => writeln!(io::stdout(), "{}", serde_json::to_string(value)?),
            Self::Yaml => writeln!(
                io::stdout(),
                "---\n{}",
                serde_yaml_ng::to_string(value).map_err(io::Error::other)?.trim_end()
            ),
            Self::Table | Self::Name => writeln!(io::stdout(), "{}", human(value)),
        }
    }
}

/// A table with these column heads, without lines, as wide as the terminal.
pub(crate) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(heads.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}
