//! `weft lab`: how are virtual hosts brought up, entered, looked at and taken down?

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Subcommand;
use weft_lab::{HostStatus, Lab, LabSpec, LabStatus, LabSummary, Outcome as UpOutcome, UpOptions};

use super::Outcome;
use crate::output::{Format, table};

/// How long commands are given to end by themselves.
const GRACE: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  weft lab up examples/two-hosts.yaml      two virtual hosts, VM-A and VM-B on one overlay
  weft lab status                          hosts, addresses, workloads, running commands
  weft lab exec a -- ovs-vsctl show        a command on host a
  weft lab exec a/vm0 -- ping 10.0.0.2     a command in workload vm0 of host a
  weft lab exec a                          a shell on host a
  weft lab down                            take it down

A host is a network namespace with a /run of its own; `ip netns`, `ovs-vsctl` and `weft` on it see only that host.
Nothing outside the lab's own namespaces and /run/weft/lab is touched.";

/// Arguments of `weft lab`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring a lab up, or mend it if it is up already.
    Up {
        /// The lab's file (YAML).
        file: PathBuf,
        /// Take down a lab of the same name from another definition first.
        #[arg(long)]
        replace: bool,
        /// If something fails, leave what was made, to look at it.
        #[arg(long)]
        keep: bool,
    },
    /// Take labs down, with everything that runs in them. Works after any crash.
    Down {
        /// Names or files; may be left out if one lab is up.
        labs: Vec<String>,
        /// All labs.
        #[arg(long, conflicts_with = "labs")]
        all: bool,
    },
    /// The labs there are.
    List,
    /// Run a command on a host, in a workload or on a network; without one, a shell.
    Exec {
        /// The lab; may be left out if one is up.
        #[arg(short, long)]
        lab: Option<String>,
        /// HOST, HOST/WORKLOAD or NETWORK.
        place: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Hosts, addresses, workloads and running commands of labs. Exit status 1 if something is missing or has ended.
    Status {
        /// Names; all labs if left out.
        labs: Vec<String>,
    },
}

/// Runs `weft lab`.
pub(crate) fn exec(args: Args, format: Format) -> Outcome {
    match args.verb {
        Verb::Up { file, replace, keep } => {
            up(&file, UpOptions { replace, keep, ..UpOptions::default() }, format)
        }
        Verb::Down { labs, all } => down(labs, all),
        Verb::List => list(format),
        Verb::Exec { lab, place, command } => enter(lab, &place, command),
        Verb::Status { labs } => status(labs, format),
    }
}

fn up(file: &std::path::Path, options: UpOptions, format: Format) -> Outcome {
    let spec = LabSpec::read(file)?;
    let begin = Instant::now();
    let (lab, outcome) = Lab::up_with(&spec, &options)?;
    let seconds = begin.elapsed().as_secs_f64();
    let status = lab.status();
    format.print(&status, |status| {
        let how = match &outcome {
            UpOutcome::Made => format!("is up, after {seconds:.2} s"),
            UpOutcome::Unchanged => "was up already, nothing to do".to_owned(),
            UpOutcome::Restarted(which) => format!("was up; restarted {}", which.join(", ")),
            UpOutcome::Remade => format!("was damaged and is made anew, after {seconds:.2} s"),
        };
        format!("lab {} {how}\n\n{}", status.name, hosts(status))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn down(labs: Vec<String>, all: bool) -> Outcome {
    let up: Vec<String> = Lab::list().into_iter().map(|l| l.name).collect();
    let names = match &labs[..] {
        [] if all || up.len() == 1 => up,
        [] if up.is_empty() => {
            println!("no lab is up");
            return Ok(ExitCode::SUCCESS);
        }
        [] => return Err(format!("several labs are up ({}); name one, or use --all", up.join(", ")).into()),
        given => given.iter().map(|l| name_of(l)).collect::<Result<_, _>>()?,
    };
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match Lab::down_by_name(&name, GRACE) {
            Ok(true) => println!("lab {name} is down"),
            Ok(false) => println!("lab {name} was not up"),
            // The others are to go all the same.
            Err(error) => {
                eprintln!("weft: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// A lab's name, or the name in a lab's file.
fn name_of(name_or_file: &str) -> Result<String, weft_lab::Error> {
    let path = std::path::Path::new(name_or_file);
    let file = name_or_file.contains('/') || path.extension().is_some_and(|e| e == "yaml" || e == "yml");
    if file { LabSpec::read(path).map(|spec| spec.name) } else { Ok(name_or_file.to_owned()) }
}

fn list(format: Format) -> Outcome {
    format.print(&Lab::list(), |labs: &Vec<LabSummary>| {
        if labs.is_empty() {
            return "no lab is up".to_owned();
        }
        let mut table = table(&["LAB", "STATE", "HOSTS", "WORKLOADS"]);
        for lab in labs {
            table.add_row([&lab.name, &lab.state, &lab.hosts.to_string(), &lab.workloads.to_string()]);
        }
        table.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The lab meant when none is named.
fn only_lab() -> Result<String, String> {
    let mut up: Vec<String> = Lab::list().into_iter().map(|l| l.name).collect();
    match up.len() {
        1 => Ok(up.remove(0)),
        0 => Err("no lab is up; bring one up with `weft lab up FILE`".to_owned()),
        _ => Err(format!("several labs are up ({}); name one with --lab", up.join(", "))),
    }
}

fn enter(lab: Option<String>, place: &str, mut command: Vec<OsString>) -> Outcome {
    let name = lab.map_or_else(only_lab, Ok)?;
    if command.is_empty() {
        command.push(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()));
    }
    let place = Lab::open(&name)?.place(place)?;
    let error = place.replace_process(command);
    // As shells tell it, so that a script can tell it from the command's own failure.
    let code = match &error {
        weft_lab::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => 127,
        _ => 126,
    };
    eprintln!("weft: {error}");
    Ok(ExitCode::from(code))
}

fn status(labs: Vec<String>, format: Format) -> Outcome {
    let names = if labs.is_empty() { Lab::list().into_iter().map(|l| l.name).collect() } else { labs };
    let all =
        names.iter().map(|n| Ok(Lab::open(n)?.status())).collect::<Result<Vec<_>, weft_lab::Error>>()?;
    format.print(&all, |all| {
        if all.is_empty() {
            return "no lab is up".to_owned();
        }
        let mut text = String::new();
        for lab in all {
            let _ = writeln!(text, "lab {}: {}\n\n{}\n", lab.name, lab.state, hosts(lab));
        }
        text
    })?;
    let sound = all.iter().all(|l| l.state == "up");
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The hosts of a lab as a table.
fn hosts(lab: &LabStatus) -> String {
    let mut table = table(&["HOST", "ADDRESSES", "WORKLOADS", "COMMANDS"]);
    for host in &lab.hosts {
        let present = if host.present { "" } else { " (gone)" };
        table.add_row([
            format!("{}{present}", host.name),
            host.addresses.join("\n"),
            workloads(host),
            commands(host),
        ]);
    }
    table.to_string()
}

fn workloads(host: &HostStatus) -> String {
    let line = |w: &weft_lab::WorkloadStatus| {
        let present = if w.present { "" } else { " (gone)" };
        format!("{}{present} {}", w.name, w.addresses.join(", "))
    };
    host.workloads.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn commands(host: &HostStatus) -> String {
    let line = |s: &weft_lab::ServiceStatus| match s.pid {
        Some(pid) => format!("{} (pid {pid})", s.name),
        None => format!("{} (ended; see {}/{}.log)", s.name, host.directory, s.name),
    };
    host.services.iter().map(line).collect::<Vec<_>>().join("\n")
}
