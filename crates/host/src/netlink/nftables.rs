//! When does somebody change the kernel's nftables?

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{bind, recv};
use crate::Result;
use crate::error::Context;
use crate::sys::{set_buffer, setsockopt, socket};

/// `NFNLGRP_NFTABLES`.
const GROUP: libc::c_int = 7;

/// A subscription to changes of nftables in one network namespace: that there was one, not which.
#[derive(Debug)]
pub struct NftMonitor {
    fd: OwnedFd,
    buf: Vec<u8>,
}

impl NftMonitor {
    /// Subscribes in this thread's network namespace; what changed before is not told.
    pub fn open() -> Result<Self> {
        let what = || "subscribe to changes of nftables".to_owned();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
        let fd = socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER).context(what)?;
        bind(&fd).context(what)?;
        setsockopt(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, GROUP).context(what)?;
        set_buffer(fd.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, 1 << 20).context(what)?;
        Ok(Self { fd, buf: vec![0; 64 << 10] })
    }

    /// Reads everything that waits. True: something changed since it was read last.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            match recv(&self.fd, &mut self.buf, 0) {
                Ok(_) => changed = true,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(changed),
                // Some were lost: that is a change too.
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for NftMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for NftMonitor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}
