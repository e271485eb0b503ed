//! Where are the files of the switch? The directories of Open vSwitch, so that its clients find them.

use std::path::{Path, PathBuf};

/// Run directory of Debian's Open vSwitch.
const RUNDIR: &str = "/var/run/openvswitch";
/// Database directory of Debian's Open vSwitch.
const DBDIR: &str = "/etc/openvswitch";
/// Log directory of Debian's Open vSwitch.
const LOGDIR: &str = "/var/log/openvswitch";

/// The two daemons whose place the switch takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Daemon {
    /// The database server.
    OvsdbServer,
    /// The switch.
    Vswitchd,
}

impl Daemon {
    /// Both.
    pub const ALL: [Daemon; 2] = [Daemon::OvsdbServer, Daemon::Vswitchd];

    /// The name its clients know it by.
    pub fn name(self) -> &'static str {
        match self {
            Daemon::OvsdbServer => "ovsdb-server",
            Daemon::Vswitchd => "ovs-vswitchd",
        }
    }
}

/// The files of one switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Sockets and pid files.
    pub rundir: PathBuf,
    /// The database.
    pub db: PathBuf,
}

impl Paths {
    /// What was asked for on the command line, else `OVS_RUNDIR` and `OVS_DBDIR`, else Debian's directories.
    pub fn resolve(rundir: Option<&Path>, db: Option<&Path>) -> Paths {
        let rundir = rundir.map(absolute).unwrap_or_else(|| from_env("OVS_RUNDIR", RUNDIR));
        let db = db.map(absolute).unwrap_or_else(|| from_env("OVS_DBDIR", DBDIR).join("conf.db"));
        Paths { rundir, db }
    }

    /// The pid file of a daemon.
    pub fn pidfile(&self, daemon: Daemon) -> PathBuf {
        self.rundir.join(format!("{}.pid", daemon.name()))
    }

    /// The control socket of a daemon in this process.
    pub fn unixctl(&self, daemon: Daemon) -> PathBuf {
        self.rundir.join(format!("{}.{}.ctl", daemon.name(), std::process::id()))
    }

    /// The database socket.
    pub fn db_sock(&self) -> PathBuf {
        self.rundir.join("db.sock")
    }

    /// Removes control sockets left by processes that are gone.
    pub fn remove_stale(&self) {
        let Ok(entries) = std::fs::read_dir(&self.rundir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(control_socket_pid) else { continue };
            if weft_host::procfs::ProcessId::of(pid).is_none() {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// The default log file.
pub fn log_file() -> PathBuf {
    from_env("OVS_LOGDIR", LOGDIR).join("ovs-vswitchd.log")
}

/// The process that `<daemon>.<pid>.ctl` belongs to.
fn control_socket_pid(name: &str) -> Option<i32> {
    let rest = Daemon::ALL.iter().find_map(|d| name.strip_prefix(d.name())?.strip_prefix('.'))?;
    rest.strip_suffix(".ctl")?.parse().ok()
}

fn from_env(variable: &str, default: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(dir) if !dir.is_empty() => absolute(Path::new(&dir)),
        _ => PathBuf::from(default),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sockets_are_recognised() {
        let cases = [
            ("ovs-vswitchd.12.ctl", Some(12)),
            ("ovsdb-server.7.ctl", Some(7)),
            ("ovs-vswitchd.ctl", None),
            ("ovs-vswitchd.x.ctl", None),
            ("ovn-controller.12.ctl", None),
            ("db.sock", None),
        ];
        for (name, pid) in cases {
            assert_eq!(control_socket_pid(name), pid, "{name}");
        }
    }
}
