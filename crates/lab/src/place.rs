//! How is something run on a host, in a workload, or on a network?

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use weft_host::mountns::MountNs;
use weft_host::netlink::Netlink;
use weft_host::netns::{NetNs, inside};
use weft_host::procfs::ProcessId;

use crate::error::At;
use crate::{Error, Result};

/// Somewhere in a lab: a host, a workload or a network, with all that processes there need.
#[derive(Debug, Clone)]
pub struct Place {
    pub(crate) label: String,
    pub(crate) net: Arc<NetNs>,
    pub(crate) mounts: Option<Arc<MountNs>>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) dir: PathBuf,
}

/// What a finished command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status, or 128 + signal number.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// The command, for messages.
    pub command: String,
}

impl Output {
    /// Whether it succeeded.
    pub fn success(&self) -> bool {
        self.code == 0
    }

    /// Its standard output, without the blanks around it.
    ///
    /// # Panics
    /// If it failed, with all it said. For tests.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.code == 0,
            "`{}` ended with {}\n{}{}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        self.stdout.trim().to_owned()
    }
}

pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

impl Place {
    /// `HOST`, `HOST/WORKLOAD` or the network's name.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its network namespace.
    pub fn net_ns(&self) -> &NetNs {
        &self.net
    }

    /// The run directory of its host: sockets, pid files, logs, database. The lab's directory for a network.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// A netlink handle to it.
    pub fn netlink(&self) -> Result<Netlink> {
        Netlink::open_in(&self.net).at(self.label.clone())
    }

    /// Runs `f` there on a thread of its own, in its network and mount namespaces; sockets opened in `f` stay there.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        inside(Some(&self.net), self.mounts.as_deref(), f).at(self.label.clone())
    }

    /// A command with the place's environment, to be spawned within [`Place::inside`].
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut args = args.into_iter();
        let program = args.next().map_or_else(|| OsString::from("true"), |p| p.as_ref().to_owned());
        let mut command = Command::new(program);
        command.args(args).envs(self.env.iter().map(|(k, v)| (k, v))).current_dir(&self.dir);
        command
    }

    /// Runs a command to its end.
    pub fn try_exec(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Output> {
        self.finish(self.command(args).stdin(Stdio::null()))
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it cannot be started. For tests.
    #[track_caller]
    pub fn exec(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        self.try_exec(args).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Runs a shell script to its end; it stops at the first command that fails.
    ///
    /// # Panics
    /// If the shell cannot be started. For tests.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        self.exec(["sh", "-ec", script])
    }

    /// Runs a shell line to its end.
    pub(crate) fn try_sh(&self, line: &str) -> Result<Output> {
        self.try_exec(["sh", "-ec", line])
    }

    fn finish(&self, command: &mut Command) -> Result<Output> {
        let text = describe(command);
        let output = self.inside(|| command.output())?.at(format!("{}: run `{text}`", self.label))?;
        Ok(Output {
            code: exit_code(output.status),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command: text,
        })
    }

    /// Starts a command that keeps running. It is killed when the handle is dropped.
    ///
    /// # Panics
    /// If it cannot be started. For tests.
    #[track_caller]
    pub fn spawn(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Running {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = self.dir.join(format!(".spawn-{}-{number}", std::process::id()));
        let mut command = self.command(args);
        let (stdout, stderr) = (base.with_extension("out"), base.with_extension("err"));
        let text = describe(&command);
        let mut start = || -> io::Result<Child> {
            command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
            command.process_group(0).spawn()
        };
        let child = self.inside(&mut start).unwrap_or_else(|e| panic!("{e}"));
        let child = child.unwrap_or_else(|e| panic!("{}: start `{text}`: {e}", self.label));
        Running { child, stdout, stderr, ended: None }
    }

    /// Replaces this process by a command there. Returns only if that fails.
    pub fn replace_process(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Error {
        let mut command = self.command(args);
        let text = describe(&command);
        let here = std::env::current_dir();
        let failed = self.inside(|| {
            let there = here.ok().filter(|d| d.is_dir()).unwrap_or_else(|| self.dir.clone());
            command.current_dir(there).exec()
        });
        match failed {
            Ok(source) => Error::Io { what: format!("{}: run `{text}`", self.label), source },
            Err(e) => e,
        }
    }

    /// Sends ICMP echo requests until one is answered; the round-trip time, or `None` after `patience`.
    pub fn ping(&self, to: IpAddr, patience: Duration) -> Result<Option<Duration>> {
        let socket = self.inside(|| crate::ping::Pinger::open(to))?.at(self.label.clone())?;
        Ok(socket.until(patience))
    }

    /// The network namespace of that name on this host, as `ip netns` there sees it.
    pub fn netns(&self, name: &str) -> Result<Self> {
        let net = inside(None, self.mounts.as_deref(), || NetNs::open(name))
            .and_then(|opened| opened)
            .at(format!("{}/{name}", self.label))?;
        Ok(Self { label: format!("{}/{name}", self.label), net: Arc::new(net), ..self.clone() })
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A command started by [`Place::spawn`]; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<i32>,
}

impl Running {
    /// Its process number.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Its process, to ask for memory and CPU time; `None` when it has ended.
    pub fn process(&self) -> Option<ProcessId> {
        ProcessId::of(self.pid())
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Its exit status (128 + signal number) if it has ended.
    pub fn try_wait(&mut self) -> Option<i32> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten().map(exit_code);
        }
        self.ended
    }

    /// Waits for its end; its exit status, or `None` if it runs on after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Option<i32> {
        let end = std::time::Instant::now() + patience;
        while self.try_wait().is_none() && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.ended
    }

    /// Sends it a signal, if it still runs.
    pub fn signal(&self, signal: i32) {
        if let Some(process) = self.process() {
            // It may end at this moment.
            let _ = process.signal(signal);
        }
    }

    /// Kills it and its process group, and waits for its end.
    pub fn kill(&mut self) {
        if self.try_wait().is_none() {
            kill_group(self.pid());
            let _ = self.child.kill();
            self.ended = self.child.wait().ok().map(exit_code);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills the process group that a process of ours, not yet waited for, leads.
pub(crate) fn kill_group(leader: i32) {
    // The group may be gone already.
    let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(leader), nix::sys::signal::Signal::SIGKILL);
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
