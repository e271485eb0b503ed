//! Does every command say what it does, with examples, and complain clearly?

use std::process::{Command, Output};

fn weft(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weft")).args(args).output().expect("run weft")
}

fn out(args: &[&str]) -> String {
    let said = weft(args);
    assert!(said.status.success(), "weft {args:?}: {said:?}");
    String::from_utf8(said.stdout).expect("UTF-8")
}

/// The commands, as `weft --help` lists them.
fn commands() -> Vec<String> {
    let names = listed(&out(&["--help"]));
    assert!(names.len() >= 7 && names.iter().any(|n| n == "drops"), "{names:?}");
    names
}

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let Some(list) = help.split("Commands:\n").nth(1) else { return Vec::new() };
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let names: Vec<String> = lines
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    names.into_iter().filter(|name| name != "help").collect()
}

/// An option that is there twice means what the last of them means.
#[test]
fn every_option_is_there_once() {
    let mut left: Vec<Vec<String>> = commands().into_iter().map(|name| vec![name]).collect();
    while let Some(words) = left.pop() {
        let all: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = out(&all);
        left.extend(listed(&help).into_iter().map(|name| [words.clone(), vec![name]].concat()));
        let options = help.lines().filter_map(|line| {
            line.trim_start().split("--").nth(1).filter(|_| {
                let line = line.trim_start();
                line.starts_with("--") || (line.starts_with('-') && line.contains(", --"))
            })
        });
        let mut names: Vec<&str> = options.filter_map(|rest| rest.split([' ', '=']).next()).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "weft {words:?} --help: {help}");
    }
}

#[test]
fn every_command_has_examples() {
    for command in commands() {
        let help = out(&[&command, "--help"]);
        assert!(help.contains("Examples:\n  weft"), "weft {command} --help: {help}");
        assert!(help.contains("--output"), "weft {command} --help: {help}");
        for line in help.lines() {
            assert!(line.chars().count() <= 120, "weft {command} --help: {line}");
        }
    }
}

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = out(&["completions", shell]);
        assert!(script.contains("COMPLETE") && script.contains("weft"), "{shell}: {script}");
    }
    // As bash asks for the word at this place.
    let said = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["--", "weft", ""])
        .envs([("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "1"), ("_CLAP_IFS", "\n")])
        .output()
        .expect("run weft");
    let words = String::from_utf8(said.stdout).expect("UTF-8");
    for command in commands() {
        assert!(words.lines().any(|word| word == command), "{command}: {words}");
    }
}

#[test]
fn complaints_are_clear() {
    let dir = tempfile::tempdir().expect("make a directory");
    let rundir = dir.path().to_str().expect("UTF-8");
    // Arguments, exit code, and a piece of the complaint.
    let cases: &[(&[&str], i32, &str)] = &[
        (&["nonsense"], 2, "unrecognized subcommand 'nonsense'"),
        (&["drops", "--rundir", rundir], 1, "no switch runs with run directory"),
        (&["why", "icmp", "--rundir", rundir], 1, "no switch runs with run directory"),
        (&["trace", "br0", "in_port=1", "--rundir", rundir], 1, "no switch runs with run directory"),
        (&["metrics", "--rundir", rundir], 1, "no switch runs with run directory"),
        (&["metrics", "-o", "json", "--listen", "127.0.0.1:0", "--rundir", rundir], 1, "leave -o json out"),
        (&["metrics", "--listen", "nowhere"], 2, "invalid value 'nowhere'"),
        (&["drops", "--interval", "1"], 2, "--watch"),
        (&["why"], 2, "<FLOW>"),
        (&["completions", "nosh"], 2, "possible values: bash"),
        (&["drops", "-o", "xml"], 2, "possible values: table, json"),
    ];
    for (args, code, piece) in cases {
        let said = weft(args);
        assert_eq!(said.status.code(), Some(*code), "weft {args:?}: {said:?}");
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(text.contains(piece), "weft {args:?}: {piece:?} is not in {text}");
    }
}
