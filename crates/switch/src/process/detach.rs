//! How does the switch go into the background, and how does its parent learn that it is ready?
//!
//! The parent starts the same program again without `--detach` and waits on a pipe that is the child's standard
//! output. The child writes a line when it is ready and lets go of its standard files; if it ends before, the parent
//! ends with its status. Nothing is forked with threads running.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

/// Set in the environment of the child that reports on its standard output.
const CHILD: &str = "WEFT_SWITCH_READY";
const READY: &str = "ready";

/// Whether this process was started by [`spawn`].
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Starts this program again in the background with `args`; returns when it is ready or has failed.
pub fn spawn(args: &[std::ffi::OsString]) -> io::Result<ExitCode> {
    // The link itself works also when the file was replaced in the meantime, but names the process "exe".
    let program = std::env::current_exe().ok().filter(|path| path.exists());
    let mut child = Command::new(program.unwrap_or_else(|| "/proc/self/exe".into()))
        .arg0(std::env::args_os().next().unwrap_or_else(|| "weft".into()))
        .args(args)
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    if let Some(pipe) = child.stdout.take() {
        BufReader::new(pipe).read_line(&mut line)?;
    }
    if line.trim_end() == READY {
        return Ok(ExitCode::SUCCESS);
    }
    let status = child.wait()?;
    Ok(ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).filter(|c| *c != 0).unwrap_or(1)))
}

/// In the child, before anything else: a session of its own, so that the terminal's end is not its end.
pub fn begin() {
    if is_child() {
        let _ = nix::unistd::setsid();
    }
}

/// In the child, when everything is set up: tells the parent and lets go of the terminal.
pub fn ready(chdir: bool) -> io::Result<()> {
    if !is_child() {
        return Ok(());
    }
    if chdir {
        std::env::set_current_dir("/")?;
    }
    let mut out = io::stdout();
    // The parent may be gone, which is no reason to end.
    let _ = writeln!(out, "{READY}").and_then(|()| out.flush());
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    Ok(())
}
