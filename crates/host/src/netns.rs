//! How are network namespaces made, kept under a name, entered and removed, the way iproute2 does it?
//!
//! A name is a bind mount `/run/netns/NAME` of the namespace, so `ip netns exec NAME` finds it. Work inside runs
//! on a thread of its own, which ends with it: the caller's thread never changes its namespace.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::error::Context;
use crate::mountns::MountNs;
use crate::{Error, Result};

/// Where the names are.
pub const NETNS_DIR: &str = "/run/netns";

/// The identity of a namespace: two handles with the same one are the same namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NsId {
    /// Device number of the namespace file system.
    pub dev: u64,
    /// Inode number, as `readlink /proc/PID/ns/net` shows it.
    pub ino: u64,
}

/// A handle to a network namespace; it exists at least as long as the handle.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    label: String,
}

impl NetNs {
    /// Makes a namespace under a new name. Only its loopback device is in it, down.
    pub fn create(name: &str) -> Result<Self> {
        let path = path_of(name)?;
        let what = || format!("create network namespace {name}");
        share_directory().context(what)?;
        // The name first: only one caller can make it.
        OpenOptions::new().write(true).create_new(true).open(&path).context(what)?;
        let made = on_thread(name, || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            bind(Path::new("/proc/thread-self/ns/net"), &path)
        });
        match made {
            Ok(Ok(())) => Self::open(name),
            failed => {
                let _ = fs::remove_file(&path);
                failed?.context(what)?;
                Self::open(name)
            }
        }
    }

    /// Makes a namespace without a name; it lasts as long as handles, devices' peers or processes hold it.
    pub fn unnamed(label: &str) -> Result<Self> {
        let file = on_thread(label, || -> std::io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })?;
        let file = file.context(|| format!("create network namespace {label}"))?;
        Ok(Self { file, label: label.to_owned() })
    }

    /// Opens a named namespace.
    pub fn open(name: &str) -> Result<Self> {
        Self::open_path(&path_of(name)?, name)
    }

    /// Opens a namespace by a file; `label` names it in errors.
    pub fn open_path(path: &Path, label: &str) -> Result<Self> {
        let file = File::open(path).context(|| format!("open network namespace {label}"))?;
        Ok(Self { file, label: label.to_owned() })
    }

    /// This thread's namespace.
    pub fn current() -> Result<Self> {
        Self::open_path(Path::new("/proc/thread-self/ns/net"), "current")
    }

    /// The namespace of a process.
    pub fn of_process(pid: i32) -> Result<Self> {
        Self::open_path(&PathBuf::from(format!("/proc/{pid}/ns/net")), &format!("of process {pid}"))
    }

    /// Removes a name. The namespace goes when nothing else holds it. No fault if there is no such name.
    pub fn delete(name: &str) -> Result<()> {
        let path = path_of(name)?;
        let what = || format!("delete network namespace {name}");
        match umount2(&path, MntFlags::MNT_DETACH) {
            // EINVAL: the file is there but nothing is mounted on it.
            Ok(()) | Err(nix::Error::ENOENT | nix::Error::EINVAL) => {}
            Err(e) => return Err(Error::os(what(), e.into())),
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::os(what(), e)),
            _ => Ok(()),
        }
    }

    /// The names there are.
    pub fn names() -> Result<Vec<String>> {
        match fs::read_dir(NETNS_DIR) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            other => {
                let entries = other.context(|| format!("list {NETNS_DIR}"))?;
                Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
            }
        }
    }

    /// Its identity.
    pub fn id(&self) -> Result<NsId> {
        let meta = self.file.metadata().context(|| format!("identify network namespace {self}"))?;
        Ok(NsId { dev: meta.dev(), ino: meta.ino() })
    }

    /// The identity of a named namespace, without holding it; `None` if there is none of that name.
    pub fn id_of(name: &str) -> Option<NsId> {
        let meta = fs::metadata(path_of(name).ok()?).ok()?;
        Some(NsId { dev: meta.dev(), ino: meta.ino() })
    }

    /// Another handle to the same namespace.
    pub fn try_clone(&self) -> Result<Self> {
        let file = self.file.try_clone().context(|| format!("clone handle of {self}"))?;
        Ok(Self { file, label: self.label.clone() })
    }

    /// Shows the namespace also at `path`, an existing file of this thread's mount namespace.
    pub fn bind_to(&self, path: &Path) -> Result<()> {
        let file = PathBuf::from(format!("/proc/thread-self/fd/{}", self.raw_fd()));
        bind(&file, path).context(|| format!("bind network namespace {self} to {}", path.display()))
    }

    /// Runs `f` inside, on a thread of its own, and returns what it returns.
    ///
    /// Sockets and netlink handles opened in `f` stay with this namespace afterwards; so do processes spawned.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        inside(Some(self), None, f)
    }

    /// Sets a sysctl inside; `key` with dots or slashes, for example `net.ipv6.conf.all.forwarding`.
    ///
    /// A dot within a device name is written by giving the key with slashes.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
        let path = Path::new("/proc/sys").join(path);
        self.run(|| fs::write(&path, value))?.context(|| format!("set sysctl {key}={value} in {self}"))
    }

    /// The raw descriptor, valid while the handle lives.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Display for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Runs `f` on a thread of its own in the given namespaces (`None`: the caller's), and returns what it returns.
pub fn inside<T: Send>(
    net: Option<&NetNs>,
    mounts: Option<&MountNs>,
    f: impl FnOnce() -> T + Send,
) -> Result<T> {
    let label = net.map_or("a mount namespace", |n| n.label.as_str());
    on_thread(label, || {
        if let Some(mounts) = mounts {
            mounts.enter()?;
        }
        if let Some(net) = net {
            setns(&net.file, CloneFlags::CLONE_NEWNET)
                .context(|| format!("enter network namespace {net}"))?;
        }
        Ok(f())
    })?
}

/// Runs `f` on a fresh thread and waits for it.
pub(crate) fn on_thread<T: Send>(label: &str, f: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, f)
            .context(|| format!("start a thread for {label}"))?;
        thread.join().map_err(|_| Error::Panicked(label.to_owned()))
    })
}

fn path_of(name: &str) -> Result<PathBuf> {
    if name.is_empty() || name.len() > 255 || name == "." || name == ".." || name.contains(['/', '\0']) {
        let source = std::io::Error::from_raw_os_error(libc::EINVAL);
        return Err(Error::os(format!("use {name:?} as the name of a network namespace"), source));
    }
    Ok(Path::new(NETNS_DIR).join(name))
}

pub(crate) fn bind(from: &Path, to: &Path) -> std::io::Result<()> {
    Ok(mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Makes the directory of names a shared mount, as iproute2 does under the same lock, so that removing a name
/// removes it from every mount namespace that has a copy.
fn share_directory() -> std::io::Result<()> {
    fs::create_dir_all(NETNS_DIR)?;
    let _lock = Flock::lock(File::open(NETNS_DIR)?, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
    let share =
        || mount(None::<&str>, NETNS_DIR, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        // It is no mount point yet.
        Err(nix::Error::EINVAL) => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(NETNS_DIR), NETNS_DIR, None::<&str>, flags, None::<&str>)?;
            share()?;
            Ok(())
        }
        other => Ok(other?),
    }
}
