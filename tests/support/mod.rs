//! How is a switch, Weft's or Debian's Open vSwitch, started and asked in a test?
//!
//! Either runs in a network namespace and a run directory of its own, which go when it is dropped.
#![allow(dead_code, reason = "each test target uses a part")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test target uses a part")]
pub(crate) use dice::Dice;
use serde_json::{Value, json};
use weft_host::netns::NetNs;

#[path = "dice.rs"]
mod dice;

/// How long something that will happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a call of a command says when the switch is gone.
pub(crate) const DIED: &str = "the control socket was closed";

/// What switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `weft switch`.
    Weft,
    /// Debian's ovs-vswitchd whose ports are dummies: it decides, and nothing leaves.
    OvsDummy,
    /// Debian's ovs-vswitchd with its datapath in user space.
    Ovs,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A switch with its database, in a namespace of its own.
pub(crate) struct Switch {
    pub(crate) kind: Kind,
    pub(crate) ns: String,
    pub(crate) dir: tempfile::TempDir,
    children: Vec<Child>,
    control: Option<UnixStream>,
}

impl Switch {
    /// Starts a switch with an empty database and waits until it answers.
    pub(crate) fn start(kind: Kind) -> Switch {
        let mut switch = Switch::prepare(kind);
        switch.spawn();
        switch
    }

    /// Namespace and directory, and nothing running.
    pub(crate) fn prepare(kind: Kind) -> Switch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let ns = format!("weft-s{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        NetNs::create(&ns).expect("make a network namespace (root is needed)");
        let dir = tempfile::Builder::new().prefix("wsw").tempdir_in("/tmp").expect("make a directory");
        let switch = Switch { kind, ns, dir, children: Vec::new(), control: None };
        switch.ok("ip link set lo up");
        switch
    }

    /// Starts the processes.
    pub(crate) fn spawn(&mut self) {
        match self.kind {
            Kind::Weft => {
                let (dir, db) = (self.path(""), self.path("conf.db"));
                let weft = env!("CARGO_BIN_EXE_weft");
                self.daemon(&[
                    weft,
                    "switch",
                    "--lanes=1",
                    &format!("--rundir={}", dir.display()),
                    &format!("--db={}", db.display()),
                ]);
            }
            Kind::OvsDummy | Kind::Ovs => {
                if !self.path("conf.db").exists() {
                    self.ok(&format!(
                        "ovsdb-tool create {} /usr/share/openvswitch/vswitch.ovsschema",
                        self.path("conf.db").display()
                    ));
                }
                let (sock, db) = (self.path("db.sock"), self.path("conf.db"));
                self.daemon(&[
                    "ovsdb-server",
                    &format!("--remote=punix:{}", sock.display()),
                    &format!("--pidfile={}", self.path("ovsdb-server.pid").display()),
                    &db.display().to_string(),
                ]);
                self.wait_for("the database serves", |s| s.path("db.sock").exists());
                self.ok("ovs-vsctl --no-wait init");
                let (remote, pidfile) = (
                    format!("unix:{}", sock.display()),
                    format!("--pidfile={}", self.path("ovs-vswitchd.pid").display()),
                );
                let mut words = vec!["ovs-vswitchd", &remote, "--disable-system", &pidfile];
                if self.kind == Kind::OvsDummy {
                    words.push("--enable-dummy=override");
                }
                self.daemon(&words);
            }
        }
        self.wait_for("the switch answers", |s| s.run("ovs-appctl version").code == 0);
    }

    /// Starts another process in the namespace, which ends with the switch.
    pub(crate) fn daemon(&mut self, words: &[&str]) {
        let log = std::fs::File::create(self.path(&format!("log.{}", self.children.len()))).expect("a log");
        let child = self
            .command(&[&["ip", "netns", "exec", &self.ns.clone()], words].concat())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{words:?}: {e}"));
        self.children.push(child);
    }

    /// Kills the processes without warning.
    pub(crate) fn kill(&mut self) {
        self.control = None;
        for mut child in self.children.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills the process that was started last.
    pub(crate) fn kill_last(&mut self) {
        if let Some(mut child) = self.children.pop() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Process numbers, the switch's own last.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// A file in the run directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVN_RUNDIR", "OVN_DBDIR", "OVN_LOGDIR"] {
            command.env(variable, self.dir.path());
        }
        command
    }

    /// A command in the switch's namespace and with its run directory, to be started by the caller.
    pub(crate) fn inside(&self, words: &[&str]) -> Command {
        self.command(&[&["ip", "netns", "exec", &self.ns], words].concat())
    }

    /// Runs a command in the switch's namespace. Words are separated by spaces, or quoted by `'`.
    pub(crate) fn run(&self, line: &str) -> Said {
        let words = split(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.run_words(&words)
    }

    /// Runs a command of these words.
    pub(crate) fn run_words(&self, words: &[&str]) -> Said {
        let output = self
            .inside(&[&["timeout", "60"], words].concat())
            .output()
            .unwrap_or_else(|e| panic!("{words:?}: {e}"));
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed, and returns what it says without the last line feed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{:?}: {line}\n{}{}", self.kind, said.out, said.err);
        said.out.trim_end().to_owned()
    }

    /// Gives `ovs-ofctl COMMAND BRIDGE FILE` a file with these lines.
    pub(crate) fn ofctl_file(&self, command: &str, bridge: &str, lines: &str) -> Said {
        let file = self.path("lines.txt");
        std::fs::write(&file, lines).expect("write the lines");
        let command = split(command);
        let mut words = vec!["ovs-ofctl"];
        words.extend(command.iter().map(String::as_str));
        let file = file.display().to_string();
        words.extend([bridge, &file]);
        self.run_words(&words)
    }

    /// Calls a command of the switch's control socket over one connection that is kept.
    pub(crate) fn unixctl(&mut self, method: &str, params: &[&str]) -> Result<String, String> {
        if self.control.is_none() {
            let pid = std::fs::read_to_string(self.path("ovs-vswitchd.pid")).expect("a pid file");
            let socket = self.path(&format!("ovs-vswitchd.{}.ctl", pid.trim()));
            self.control = Some(UnixStream::connect(&socket).expect("connect to the control socket"));
        }
        let stream = self.control.as_mut().expect("just made");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        let request = json!({"id": 0, "method": method, "params": params});
        stream.write_all(request.to_string().as_bytes()).expect("ask");
        let mut answer = Vec::new();
        let mut buf = [0u8; 65536];
        loop {
            let n = stream.read(&mut buf).expect("an answer");
            if n == 0 {
                return Err(DIED.to_owned());
            }
            answer.extend_from_slice(&buf[..n]);
            // Only a `}` can end it: most pieces need no look.
            if answer.trim_ascii_end().ends_with(b"}")
                && let Ok(value) = serde_json::from_slice::<Value>(&answer)
            {
                let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                return if value["error"].is_null() {
                    Ok(text(&value["result"]))
                } else {
                    Err(text(&value["error"]))
                };
            }
        }
    }

    /// Waits until `done`, or fails.
    pub(crate) fn wait_for(&self, what: &str, done: impl FnMut(&Switch) -> bool) {
        assert!(self.eventually(done), "{:?}: {what}: not in {PATIENCE:?}\n{}", self.kind, self.logs());
    }

    /// Waits until `done`; false: it took too long.
    pub(crate) fn eventually(&self, mut done: impl FnMut(&Switch) -> bool) -> bool {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// What the processes wrote.
    pub(crate) fn logs(&self) -> String {
        let read = |i| std::fs::read_to_string(self.path(&format!("log.{i}"))).unwrap_or_default();
        (0..self.children.len()).map(read).collect()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.kill();
        let _ = NetNs::delete(&self.ns);
    }
}

/// Words of a line; `'…'` is one word.
pub(crate) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
