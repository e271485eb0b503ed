//! What failed, on what, and what may be done about it?

use std::io;

/// The result of a set-up call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the host refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed; `what` says which deed on which object.
    #[error("{what}: {source}")]
    Os {
        /// The deed and its object, for example `set mtu of vnet0 to 9000`.
        what: String,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// A device name the kernel would not take.
    #[error("{0:?} is no device name: use 1 to 15 bytes, no '/', ':' or white space, not '.' or '..'")]
    BadName(String),
    /// No device of that name in this network namespace.
    #[error("no network device {0:?} in this network namespace")]
    NoDevice(String),
    /// The kernel's netlink answer did not parse.
    #[error("netlink answer to {what} not understood: {why}")]
    BadAnswer {
        /// The request.
        what: String,
        /// Where it broke.
        why: String,
    },
    /// A pid file is locked by a live process.
    #[error("{path}: already locked by process {pid}; stop it first")]
    PidfileLocked {
        /// The pid file.
        path: String,
        /// The process holding the lock.
        pid: i32,
    },
    /// A thread made for a namespace ended by panic.
    #[error("a thread working in {0} panicked")]
    Panicked(String),
}

impl Error {
    /// Wraps the kernel's `source` with the deed it refused.
    pub fn os(what: impl Into<String>, source: io::Error) -> Self {
        Self::Os { what: what.into(), source }
    }

    /// The errno of the kernel's refusal, if it was one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Os { source, .. } => source.raw_os_error(),
            Self::NoDevice(_) => Some(libc::ENODEV),
            _ => None,
        }
    }

    /// True when the object already exists (EEXIST).
    pub fn exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// True when the object does not exist (ENODEV, ENOENT, ENXIO or ESRCH).
    pub fn missing(&self) -> bool {
        matches!(self.errno(), Some(libc::ENODEV | libc::ENOENT | libc::ENXIO | libc::ESRCH))
    }
}

/// Adds the deed to an [`io::Result`].
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::os(what(), source))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::os(what(), errno.into()))
    }
}
