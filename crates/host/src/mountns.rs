//! How is a mount namespace made, kept in a file, and entered?
//!
//! A virtual host needs its own `/run` (sockets, pid files, named network namespaces) and its own `/sys`.
//! The namespace is kept by a bind mount of it on a file, so no process has to stay for it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::Result;
use crate::error::Context;
use crate::netns::{NetNs, NsId, bind};

/// A handle to a mount namespace.
#[derive(Debug)]
pub struct MountNs {
    file: File,
    path: PathBuf,
}

impl MountNs {
    /// Makes a copy of this thread's mount namespace, lets `prepare` change the copy (in the network namespace
    /// `net`, which a new sysfs will show), and keeps it in the file `path`.
    ///
    /// What is mounted inside stays inside; what is unmounted outside goes inside too, so the copy holds nothing fast.
    ///
    /// `path` must not exist and must lie on a private mount (see [`mount_private_tmpfs`]).
    pub fn create<F>(path: &Path, net: &NetNs, prepare: F) -> Result<Self>
    where
        F: FnOnce() -> io::Result<()> + Send,
    {
        let what = || format!("create mount namespace {}", path.display());
        let (ready_tx, ready_rx) = mpsc::channel::<io::Result<i32>>();
        let (done_tx, done_rx) = mpsc::channel::<()>();
        std::thread::scope(|scope| -> Result<()> {
            let done_tx = done_tx;
            std::thread::Builder::new()
                .spawn_scoped(scope, move || {
                    let made = prepare_here(net, prepare).map(|()| nix::unistd::gettid().as_raw());
                    let _ = ready_tx.send(made);
                    // Stay until the namespace is kept (or the caller gave up).
                    let _ = done_rx.recv();
                })
                .context(what)?;
            let gone = || io::Error::other("its thread ended early");
            let tid = ready_rx.recv().unwrap_or_else(|_| Err(gone())).context(what)?;
            File::create_new(path).context(what)?;
            let ns = PathBuf::from(format!("/proc/self/task/{tid}/ns/mnt"));
            let kept = bind(&ns, path).context(what);
            drop(done_tx);
            kept
        })?;
        Self::open(path)
    }

    /// Opens a namespace kept in a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).context(|| format!("open mount namespace {}", path.display()))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Its identity.
    pub fn id(&self) -> Result<NsId> {
        let meta =
            self.file.metadata().context(|| format!("identify mount namespace {}", self.path.display()))?;
        Ok(NsId { dev: meta.dev(), ino: meta.ino() })
    }

    /// Moves the calling thread into it for good; only for threads of their own, see [`crate::netns::inside`].
    pub(crate) fn enter(&self) -> Result<()> {
        let what = || format!("enter mount namespace {}", self.path.display());
        // The kernel wants the thread's root and working directory unshared from the other threads'.
        unshare(CloneFlags::CLONE_FS).context(what)?;
        setns(&self.file, CloneFlags::CLONE_NEWNS).context(what)
    }
}

fn prepare_here(net: &NetNs, prepare: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
    setns(net, CloneFlags::CLONE_NEWNET)?;
    prepare()
}

/// Mounts an empty tmpfs on `path` (made if missing) that no other mount namespace follows.
pub fn mount_private_tmpfs(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    mount(Some("weft"), path, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?;
    Ok(())
}

/// Shows `from` (a directory or file) also at `to`, which must exist.
pub fn mount_bind(from: &Path, to: &Path) -> io::Result<()> {
    bind(from, to)
}

/// Mounts a sysfs of the calling thread's network namespace, and a BPF file system in it if the kernel has one.
pub fn mount_sysfs() -> io::Result<()> {
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)?;
    let _ = mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>);
    Ok(())
}

/// Takes the uppermost mount, and all below it, off `path`; it ends when the last user leaves it.
/// False if nothing was mounted there.
pub fn unmount(path: &Path) -> io::Result<bool> {
    match umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) => Ok(true),
        Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Where something is mounted at or below `dir` in this thread's mount namespace, each place once, deepest last.
pub fn mount_points_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/thread-self/mountinfo")?;
    let lines = table.split(|b| *b == b'\n');
    // proc(5): the fifth field is the mount point, with blanks, tabs, newlines and backslashes in octal.
    let points = lines.filter_map(|line| line.split(|b| *b == b' ').nth(4)).map(unescape);
    let mut below: Vec<_> = points.filter(|p| p.starts_with(dir)).collect();
    below.sort();
    below.dedup();
    Ok(below)
}

fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| tail.get(..3)).flatten();
        let value = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Whether something is mounted on exactly this directory in this thread's mount namespace.
pub fn is_mount_point(path: &Path) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    let Some(parent) = path.parent().and_then(|p| fs::symlink_metadata(p).ok()) else { return false };
    meta.dev() != parent.dev()
}
