//! Where do measurements run? In namespaces made here and removed with everything in them, also on failure.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A set of namespaces, the processes in them and a scratch directory; all gone when dropped.
pub(crate) struct World {
    tag: String,
    /// Scratch directory.
    pub(crate) dir: PathBuf,
    names: Vec<String>,
    children: Vec<Child>,
    /// Processes that detached themselves, by the pidfile they wrote.
    pub(crate) pidfiles: Vec<PathBuf>,
}

impl World {
    /// An empty world. `label` goes into the names.
    pub(crate) fn new(label: &str) -> Result<World, String> {
        let tag = format!("weft-b{}-{label}", std::process::id());
        let dir = std::env::temp_dir().join(&tag);
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(World { tag, dir, names: vec![], children: vec![], pidfiles: vec![] })
    }

    /// Full name of a namespace of this world.
    pub(crate) fn full(&self, ns: &str) -> String {
        format!("{}-{ns}", self.tag)
    }

    /// Makes a namespace with its loopback up and IPv6 quiet.
    pub(crate) fn add(&mut self, ns: &str) -> Result<(), String> {
        let name = self.full(ns);
        run(Command::new("ip").args(["netns", "add", &name]))?;
        self.names.push(name);
        self.sh(ns, "ip link set lo up; sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")?;
        Ok(())
    }

    /// Runs a shell line in a namespace and returns what it printed.
    pub(crate) fn sh(&self, ns: &str, line: &str) -> Result<String, String> {
        let line = line.replace("@", &format!("{}-", self.tag));
        run(&mut self.command(ns, &["sh", "-ec", &line]))
    }

    /// A command in a namespace.
    fn command(&self, ns: &str, argv: &[&str]) -> Command {
        let mut c = Command::new("ip");
        c.args(["netns", "exec", &self.full(ns)]).args(argv).stdin(Stdio::null());
        c
    }

    /// A command in a namespace with extra environment, run to its end.
    pub(crate) fn exec(
        &self,
        ns: &str,
        env: &HashMap<String, String>,
        argv: &[&str],
    ) -> Result<String, String> {
        run(self.command(ns, argv).envs(env))
    }

    /// Starts a command in a namespace and returns its pid; its output goes to a file of the scratch directory.
    pub(crate) fn spawn(
        &mut self,
        ns: &str,
        env: &HashMap<String, String>,
        argv: &[&str],
        out: &str,
    ) -> Result<u32, String> {
        let path = self.dir.join(out);
        let file = std::fs::File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let err = file.try_clone().map_err(|e| e.to_string())?;
        let child = self
            .command(ns, argv)
            .envs(env)
            .stdout(file)
            .stderr(err)
            .spawn()
            .map_err(|e| format!("{argv:?}: {e}"))?;
        let pid = child.id();
        self.children.push(child);
        Ok(pid)
    }

    /// What a spawned command has printed so far.
    pub(crate) fn output(&self, out: &str) -> String {
        std::fs::read_to_string(self.dir.join(out)).unwrap_or_default()
    }

    /// Waits until the child with this pid has ended; false after `seconds`.
    pub(crate) fn wait(&mut self, pid: u32, seconds: f64) -> bool {
        let end = std::time::Instant::now() + std::time::Duration::from_secs_f64(seconds);
        while std::time::Instant::now() < end {
            match self.children.iter_mut().find(|c| c.id() == pid).map(Child::try_wait) {
                Some(Ok(None)) => std::thread::sleep(std::time::Duration::from_millis(20)),
                _ => return true,
            }
        }
        false
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for file in &self.pidfiles {
            if let Some(pid) = std::fs::read_to_string(file).ok().and_then(|t| t.trim().parse::<u32>().ok()) {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
                wait_gone(pid);
            }
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(format!(
            "{command:?}: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        ))
    }
}

/// Waits until `path` exists.
pub(crate) fn wait_for(path: &Path, seconds: f64) -> Result<(), String> {
    let end = std::time::Instant::now() + std::time::Duration::from_secs_f64(seconds);
    while !path.exists() {
        if std::time::Instant::now() > end {
            return Err(format!("{} did not appear in {seconds} s", path.display()));
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Ok(())
}

/// Waits up to two seconds until a process that is not a child has ended.
fn wait_gone(pid: u32) -> bool {
    (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        !Path::new(&format!("/proc/{pid}")).exists()
    })
}
