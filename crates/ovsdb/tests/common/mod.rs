//! What the tests share: a server of ours on a socket, and Debian's tools to compare with.
#![allow(dead_code)]

pub(crate) mod serve;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A directory that goes away with the test.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }
}

/// The program, which the setup installs; a machine without it cannot run these tests.
pub(crate) fn tool(name: &str) -> PathBuf {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
    let found = places.iter().map(|dir| Path::new(dir).join(name)).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed; run `make setup`"))
}

/// Runs a program that must succeed and gives what it printed.
pub(crate) fn run(name: &str, args: &[&str]) -> String {
    let output = Command::new(tool(name)).args(args).output().expect("runs");
    assert!(
        output.status.success(),
        "{name} {args:?} failed\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Runs a program that must fail and gives what it complained of.
pub(crate) fn run_failing(name: &str, args: &[&str]) -> String {
    let output = Command::new(tool(name)).args(args).output().expect("runs");
    assert!(!output.status.success(), "{name} {args:?} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts our server on `SCRATCH/ours.sock` over the file at `db`; gives the socket.
pub(crate) fn start_ours(scratch: &Scratch, db: &str) -> String {
    let socket = scratch.path("ours.sock");
    let (path, db) = (socket.clone(), db.to_owned());
    std::thread::spawn(move || {
        serve::serve(&path, &db, [42; 32]).expect("our server runs");
    });
    wait_for(&socket);
    socket
}

/// Debian's ovsdb-server, stopped with the test.
pub(crate) struct Debian(Child);

impl Debian {
    /// Starts it on `SCRATCH/debian.sock` over the file at `db`; gives the socket too.
    pub(crate) fn start(scratch: &Scratch, db: &str) -> (Self, String) {
        let socket = scratch.path("debian.sock");
        let child = Command::new(tool("ovsdb-server"))
            .arg(db)
            .arg(format!("--remote=punix:{socket}"))
            .args(["--unixctl=none", "-vfile:off", "-vsyslog:off", "-vconsole:off"])
            .stdin(Stdio::null())
            .spawn()
            .expect("ovsdb-server starts");
        wait_for(&socket);
        (Self(child), socket)
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for(socket: &str) {
    let start = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "{socket} does not open");
        std::thread::sleep(Duration::from_millis(10));
    }
}
