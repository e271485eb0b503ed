//! How are the header arrays of recvmmsg(2) and sendmmsg(2) kept ready between calls?
//!
//! The arrays live on the heap for as long as the batch, so pointers between them stay good when the batch is
//! moved; only the caller's buffers are pointed at anew for each call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::cmsg::Control;
use crate::inet::Name;

/// Header arrays for up to `len()` messages with `N` bytes of ancillary data each.
pub(crate) struct Headers<const N: usize> {
    hdrs: Box<[libc::mmsghdr]>,
    iovs: Box<[libc::iovec]>,
    names: Box<[Name]>,
    controls: Box<[Control<N>]>,
}

// SAFETY: the raw pointers lead only into the boxes owned here (or, during a call, into the caller's buffers).
unsafe impl<const N: usize> Send for Headers<N> {}

impl<const N: usize> Headers<N> {
    /// Arrays for `size` messages; `named` if they carry addresses.
    pub(crate) fn new(size: usize, named: bool) -> Self {
        let zero_iov = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut iovs = vec![zero_iov; size].into_boxed_slice();
        let mut names = vec![Name::empty(); if named { size } else { 0 }].into_boxed_slice();
        let mut controls = vec![Control([0u8; N]); size].into_boxed_slice();
        let hdrs = (0..size)
            .map(|i| {
                // SAFETY: plain data for which zero is valid.
                let mut hdr: libc::mmsghdr = unsafe { std::mem::zeroed() };
                hdr.msg_hdr.msg_iov = &raw mut iovs[i];
                hdr.msg_hdr.msg_iovlen = 1;
                if let Some(name) = names.get_mut(i) {
                    hdr.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
                }
                hdr.msg_hdr.msg_control = controls[i].0.as_mut_ptr().cast();
                hdr
            })
            .collect();
        Self { hdrs, iovs, names, controls }
    }

    pub(crate) fn len(&self) -> usize {
        self.hdrs.len()
    }

    /// Receives up to `bufs.len()` messages, one to a buffer, without waiting. Returns how many came.
    pub(crate) fn recv<B: AsMut<[u8]>>(&mut self, fd: BorrowedFd<'_>, bufs: &mut [B]) -> io::Result<usize> {
        let n = bufs.len().min(self.len());
        let name_len = if self.names.is_empty() { 0 } else { Name::LEN };
        for ((buf, iov), hdr) in bufs.iter_mut().zip(&mut self.iovs).zip(&mut self.hdrs) {
            let buf = buf.as_mut();
            iov.iov_base = buf.as_mut_ptr().cast();
            iov.iov_len = buf.len();
            hdr.msg_hdr.msg_namelen = name_len;
            hdr.msg_hdr.msg_controllen = N as _;
        }
        // SAFETY: the first `n` headers point to this batch's arrays and to the caller's exclusively borrowed,
        // live buffers with their true lengths.
        let ret = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.hdrs.as_mut_ptr(),
                n as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret as usize) }
    }

    /// Length received into message `i`.
    pub(crate) fn received(&self, i: usize) -> usize {
        self.hdrs[i].msg_len as usize
    }

    /// Whether message `i` was longer than its buffer.
    pub(crate) fn truncated(&self, i: usize) -> bool {
        self.hdrs[i].msg_hdr.msg_flags & libc::MSG_TRUNC != 0
    }

    /// The ancillary data the kernel wrote for message `i`.
    pub(crate) fn control(&self, i: usize) -> (&[u8], usize) {
        #[allow(clippy::unnecessary_cast)] // u32 with other libcs
        let len = self.hdrs[i].msg_hdr.msg_controllen as usize;
        (&self.controls[i].0, len)
    }

    /// The sender of message `i`.
    pub(crate) fn name(&self, i: usize) -> Name {
        self.names[i]
    }

    /// Prepares what goes with outgoing message `i`: `build` fills the ancillary data and returns its length.
    pub(crate) fn address(&mut self, i: usize, name: (Name, u32), build: impl FnOnce(&mut [u8]) -> usize) {
        self.names[i] = name.0;
        let len = build(&mut self.controls[i].0);
        let hdr = &mut self.hdrs[i].msg_hdr;
        hdr.msg_namelen = name.1;
        hdr.msg_controllen = len as _;
    }

    /// Prepares ancillary data of outgoing message `i`, which `build` fills in and returns the length of. It stays for
    /// messages after.
    pub(crate) fn attach(&mut self, i: usize, build: impl FnOnce(&mut [u8]) -> usize) {
        let len = build(&mut self.controls[i].0);
        self.hdrs[i].msg_hdr.msg_controllen = len as _;
    }

    /// Sends up to `bufs.len()` messages without waiting. Returns how many went; an error only if the first failed.
    pub(crate) fn send<B: AsRef<[u8]>>(&mut self, fd: BorrowedFd<'_>, bufs: &[B]) -> io::Result<usize> {
        let n = bufs.len().min(self.len());
        for (buf, iov) in bufs.iter().zip(&mut self.iovs) {
            let buf = buf.as_ref();
            iov.iov_base = buf.as_ptr().cast_mut().cast();
            iov.iov_len = buf.len();
        }
        // SAFETY: as in `recv`; the kernel only reads the caller's buffers.
        let ret = unsafe {
            libc::sendmmsg(
                fd.as_raw_fd(),
                self.hdrs.as_mut_ptr(),
                n as libc::c_uint,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret as usize) }
    }
}
