//! How does a thread sleep until there is work?

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::sys::cvt;

/// What to wake for. Combine with `|`.
pub mod interest {
    /// There is something to read, or the peer hung up.
    pub const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
    /// There is room to write.
    pub const WRITE: u32 = libc::EPOLLOUT as u32;
    /// Report each change once (EPOLLET).
    pub const EDGE: u32 = libc::EPOLLET as u32;
    /// Wake one of the threads waiting on the descriptor, not all (EPOLLEXCLUSIVE).
    pub const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
}

/// One report of [`Epoll::wait`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Event(libc::epoll_event);

impl Event {
    /// A placeholder to fill an array with.
    pub const EMPTY: Self = Self(libc::epoll_event { events: 0, u64: 0 });

    /// The token given at [`Epoll::add`].
    pub fn token(&self) -> u64 {
        self.0.u64
    }

    /// There is something to read (or an end, or an error to fetch by reading).
    pub fn readable(&self) -> bool {
        self.0.events & (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLRDHUP | libc::EPOLLERR) as u32 != 0
    }

    /// There is room to write (or an error to fetch by writing).
    pub fn writable(&self) -> bool {
        self.0.events & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32 != 0
    }

    /// The descriptor reports an error or its peer is gone.
    pub fn failed(&self) -> bool {
        self.0.events & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (events, token) = (self.0.events, self.0.u64);
        f.debug_struct("Event").field("events", &events).field("token", &token).finish()
    }
}

/// A set of descriptors to sleep on (epoll(7)).
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a successful return is a descriptor nobody else owns.
        unsafe { Ok(Self(OwnedFd::from_raw_fd(cvt(libc::epoll_create1(libc::EPOLL_CLOEXEC))?))) }
    }

    fn ctl(&self, op: i32, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: `event` is live across the call, which only reads it.
        cvt(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd, &raw mut event) }).map(drop)
    }

    /// Adds a descriptor, to be reported under `token`.
    pub fn add(&self, fd: impl AsFd, interest: u32, token: u64) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_ADD, fd.as_fd().as_raw_fd(), interest, token)
    }

    /// Changes what a descriptor is watched for.
    pub fn modify(&self, fd: impl AsFd, interest: u32, token: u64) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_MOD, fd.as_fd().as_raw_fd(), interest, token)
    }

    /// Removes a descriptor. Closing its last copy does so too.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        self.ctl(libc::EPOLL_CTL_DEL, fd.as_fd().as_raw_fd(), 0, 0)
    }

    /// Sleeps until a descriptor reports or `timeout_ms` passes (`None`: for ever; 0: only looks).
    /// Returns the reports, none on time-out or on a signal.
    pub fn wait<'e>(&self, events: &'e mut [Event], timeout_ms: Option<u32>) -> io::Result<&'e [Event]> {
        let timeout = timeout_ms.map_or(-1, |ms| i32::try_from(ms).unwrap_or(i32::MAX));
        let room = i32::try_from(events.len()).unwrap_or(i32::MAX);
        // SAFETY: `Event` is a transparent epoll_event; pointer and room describe `events`.
        let ret = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr().cast(), room, timeout) };
        match cvt(ret) {
            Ok(n) => Ok(&events[..n as usize]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(&[]),
            Err(e) => Err(e),
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A doorbell between threads (eventfd(2)): readable from [`EventFd::ring`] until [`EventFd::clear`].
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A silent doorbell.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a successful return is a descriptor nobody else owns.
        unsafe {
            let fd = cvt(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// A doorbell that another process gave. It is made nonblocking, for both.
    ///
    /// # Errors
    /// EINVAL when it is no eventfd.
    pub fn from_peer(fd: OwnedFd) -> io::Result<Self> {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
        if link.as_os_str() != "anon_inode:[eventfd]" {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: no pointers.
        cvt(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK) })?;
        Ok(Self(fd))
    }

    /// Makes it readable. Never blocks; ringing a ringing bell changes nothing.
    pub fn ring(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes from a live local. EAGAIN means it is already ringing.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Silences it; true if it was ringing.
    pub fn clear(&self) -> bool {
        let mut count = 0u64;
        // SAFETY: reads eight bytes into a live local.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) == 8 }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until `fd` is readable; false on time-out. For set-up code and tests, not for lanes.
pub fn wait_readable(fd: impl AsFd, timeout_ms: u32) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = i32::try_from(timeout_ms).unwrap_or(i32::MAX);
    // SAFETY: one live pollfd.
    match cvt(unsafe { libc::poll(&raw mut poll, 1, timeout) }) {
        Ok(n) => Ok(n > 0),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(e) => Err(e),
    }
}
