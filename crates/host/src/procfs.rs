//! Which processes are there, are they still the same, and who holds a pid file?

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Context;
use crate::netns::NsId;
use crate::sys::cvt;
use crate::{Error, Result};

/// A process, told from a later one of the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessId {
    /// Process number.
    pub pid: i32,
    /// Clock ticks since boot at its start (field 22 of /proc/PID/stat).
    pub start: u64,
}

impl ProcessId {
    /// The process that has this number now; `None` if there is none or it is a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name may hold anything; fields are counted from its closing parenthesis.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let start = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, start })
    }

    /// Still running, and not a zombie.
    pub fn alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal; false if the process is gone. Never hits another process that got the number since.
    pub fn signal(self, signal: i32) -> io::Result<bool> {
        let missing = |e: io::Error| if e.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(e) };
        // SAFETY: no pointers; a successful return is a descriptor nobody else owns.
        let fd = unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, self.pid, 0);
            if fd < 0 {
                return missing(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd as i32)
        };
        // The descriptor holds one process; if it is ours now, it stays ours.
        if !self.alive() {
            return Ok(false);
        }
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo is allowed.
        let ret = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, none, 0) };
        if ret < 0 { missing(io::Error::last_os_error()) } else { Ok(true) }
    }

    /// The parent's process number.
    pub fn parent(self) -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// Its network namespace.
    pub fn net_ns(self) -> Option<NsId> {
        self.ns("net")
    }

    /// Its mount namespace.
    pub fn mount_ns(self) -> Option<NsId> {
        self.ns("mnt")
    }

    fn ns(self, kind: &str) -> Option<NsId> {
        let meta = fs::metadata(format!("/proc/{}/ns/{kind}", self.pid)).ok()?;
        Some(NsId { dev: meta.dev(), ino: meta.ino() })
    }

    /// The value of a variable in the environment it was started with.
    pub fn environment(self, name: &str) -> Option<String> {
        let all = fs::read(format!("/proc/{}/environ", self.pid)).ok()?;
        let entry =
            all.split(|b| *b == 0).find_map(|e| e.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(String::from_utf8_lossy(entry).into_owned())
    }

    /// Its command line, words joined by spaces.
    pub fn command_line(self) -> String {
        let raw = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let words: Vec<_> =
            raw.split(|b| *b == 0).filter(|w| !w.is_empty()).map(String::from_utf8_lossy).collect();
        words.join(" ")
    }

    /// Resident memory in bytes.
    pub fn resident(self) -> Option<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(pages * nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()?? as u64)
    }

    /// User and system CPU time used so far, in clock ticks (100 per second).
    pub fn cpu_ticks(self) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let user: u64 = fields.next()?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(user + system)
    }
}

/// The number of a user, by name or by that number.
pub fn user_id(user: &str) -> Option<u32> {
    let named = || Some(nix::unistd::User::from_name(user).ok()??.uid.as_raw());
    user.parse().ok().or_else(named)
}

/// Every process this one can see, zombies left out.
pub fn processes() -> Vec<ProcessId> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(ProcessId::of).collect()
}

/// A pid file as Open vSwitch keeps it: the number and a newline, write-locked by fcntl(2) while the process lives.
///
/// Dropping it removes the file. The lock belongs to the process: a fork does not inherit it, and closing any other
/// descriptor of the file in the same process, as [`Pidfile::read`] does, releases it. Read only others' files.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    _file: File,
}

impl Pidfile {
    /// Creates and locks `path` for this process, taking over a file whose process is gone.
    pub fn create(path: &Path) -> Result<Self> {
        let what = || format!("create pid file {}", path.display());
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(path)
                .context(what)?;
            if let Err(e) = set_lock(&file) {
                if !matches!(e.raw_os_error(), Some(libc::EACCES | libc::EAGAIN)) {
                    return Err(Error::os(what(), e));
                }
                // Who holds it may end at this moment; then try again.
                if let Some(pid) = holder(&file).context(what)? {
                    return Err(Error::PidfileLocked { path: path.display().to_string(), pid });
                }
                continue;
            }
            // Another may have removed or replaced the file between our open and our lock.
            let same = fs::metadata(path).is_ok_and(|there| {
                file.metadata().is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
            });
            if same {
                file.set_len(0).context(what)?;
                file.write_all(format!("{}\n", std::process::id()).as_bytes()).context(what)?;
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
    }

    /// The live process that a pid file names, if the file is there and still locked.
    pub fn read(path: &Path) -> Option<i32> {
        let mut file = File::open(path).ok()?;
        let pid = holder(&file).ok()??;
        let mut text = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut text).ok()?;
        // In another pid namespace the lock's pid is 0; trust the text then.
        if pid > 0 { Some(pid) } else { text.trim().parse().ok() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn whole_file_lock(kind: libc::c_int) -> libc::flock {
    // SAFETY: plain data for which zero is valid; zero start and length mean the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

fn set_lock(file: &File) -> io::Result<()> {
    let lock = whole_file_lock(libc::F_WRLCK);
    // SAFETY: F_SETLK reads one live flock.
    cvt(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) }).map(drop)
}

/// The process whose lock would keep us from locking, if any.
fn holder(file: &File) -> io::Result<Option<i32>> {
    let mut lock = whole_file_lock(libc::F_WRLCK);
    // SAFETY: F_GETLK reads and writes one live flock.
    cvt(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) })?;
    Ok((i32::from(lock.l_type) != libc::F_UNLCK).then_some(lock.l_pid))
}
