//! How are a host's `run:` commands started, watched and stopped?

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use weft_host::procfs::ProcessId;

use crate::error::At;
use crate::place::{Place, exit_code};
use crate::spec::RunSpec;
use crate::{Error, Result};

/// Lines of a log that an error repeats.
const TAIL: usize = 15;

/// A command just started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) process: ProcessId,
}

/// Starts the command in a process group of its own, its output appended to its log.
pub(crate) fn start(place: &Place, run: &RunSpec, field: &str) -> Result<Started> {
    let log = log_file(place, &run.name);
    let what = format!("{field}: open {}", log.display());
    let output = OpenOptions::new().create(true).append(true).open(&log).at(&*what)?;
    let errors = output.try_clone().at(&*what)?;
    let mut child = spawn(place, &run.command, &run.env, output, errors).at(format!("{field}: start"))?;
    match ProcessId::of(child.id() as i32) {
        Some(process) => Ok(Started { child, process }),
        None => {
            let status = child.wait().at(format!("{field}: wait"))?;
            Err(ended(field, run, &format!("status {}", exit_code(status)), &log))
        }
    }
}

/// The command ended when it should have stayed.
pub(crate) fn ended(field: &str, run: &RunSpec, status: &str, log: &Path) -> Error {
    Error::Command {
        field: field.to_owned(),
        command: run.command.clone(),
        status: format!("ended at once, {status}"),
        output: tail(log),
    }
}

fn spawn(
    place: &Place,
    command: &str,
    env: &BTreeMap<String, String>,
    output: File,
    errors: File,
) -> std::io::Result<Child> {
    // The shell makes way for a plain command, so that the process we know is the command itself.
    let plain = !command.contains(|c: char| "|&;<>()$`\\\"'\n=".contains(c));
    let script = if plain { format!("exec {command}") } else { command.to_owned() };
    let mut command = place.command(["sh", "-c", &script]);
    command.envs(env).stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    place.inside(|| command.spawn()).map_err(std::io::Error::other)?
}

/// Where a command's output goes.
pub(crate) fn log_file(place: &Place, name: &str) -> PathBuf {
    place.dir.join(format!("{name}.log"))
}

/// The end of a log, each line indented below an error's.
pub(crate) fn tail(log: &Path) -> String {
    indent(&String::from_utf8_lossy(&fs::read(log).unwrap_or_default()))
}

/// The last lines of a text, each on a line of its own below an error's.
pub(crate) fn indent(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(TAIL);
    lines[from..].iter().map(|l| format!("\n    {l}")).collect()
}
