//! How are raw system calls made to speak `io::Result`?

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Error, Result};

/// `-1` becomes the current errno.
pub(crate) fn cvt(ret: c_int) -> io::Result<c_int> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

/// Opens a close-on-exec socket.
pub(crate) fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; a successful return is a descriptor nobody else owns.
    unsafe {
        let fd = cvt(libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Sets a socket option from a plain value. `T` must be what the option expects (an int, a C struct).
pub(crate) fn setsockopt<T: Copy>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which lives across the call; the kernel only reads it.
    let ret = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast::<c_void>(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    cvt(ret).map(drop)
}

/// Reads an int socket option.
pub(crate) fn getsockopt_int(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut len = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to live locals and `len` tells the kernel the room.
    let ret = unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast::<c_void>(), &raw mut len)
    };
    cvt(ret).map(|_| value)
}

/// Grows a socket buffer: beyond the system's limit if we may, else up to it. `bytes` 0 leaves it alone.
pub(crate) fn set_buffer(fd: BorrowedFd<'_>, force: c_int, plain: c_int, bytes: usize) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let bytes = c_int::try_from(bytes).unwrap_or(c_int::MAX / 2);
    setsockopt(fd, libc::SOL_SOCKET, force, bytes).or_else(|_| setsockopt(fd, libc::SOL_SOCKET, plain, bytes))
}

/// A device name as the kernel's fixed array.
pub(crate) fn ifname(name: &str) -> Result<[libc::c_char; libc::IFNAMSIZ]> {
    let bytes = name.as_bytes();
    let bad = bytes.is_empty()
        || bytes.len() >= libc::IFNAMSIZ
        || name == "."
        || name == ".."
        || bytes.iter().any(|b| matches!(b, 0 | b'/' | b':') || b.is_ascii_whitespace());
    if bad {
        return Err(Error::BadName(name.to_owned()));
    }
    let mut out = [0; libc::IFNAMSIZ];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(out)
}

/// The name in a kernel's fixed array, up to its NUL.
pub(crate) fn from_ifname(raw: &[libc::c_char; libc::IFNAMSIZ]) -> String {
    let bytes: Vec<u8> = raw.iter().map(|c| *c as u8).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An `ifreq` naming a device, its union zeroed.
pub(crate) fn ifreq(name: &str) -> Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain data; all zero is a valid value of it.
    let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
    req.ifr_name = ifname(name)?;
    Ok(req)
}

/// An ioctl whose argument is a pointer to `T`.
///
/// # Safety
/// `request` must read and write no more than a `T` at its argument.
pub(crate) unsafe fn ioctl<T>(fd: BorrowedFd<'_>, request: libc::Ioctl, arg: &mut T) -> io::Result<()> {
    // SAFETY: `arg` is live and exclusive; the caller vouches for the request's argument type.
    cvt(unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(arg)) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names() {
        for good in ["eth0", "a", "exactly15bytes_"] {
            assert_eq!(from_ifname(&ifname(good).unwrap()), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:1", "sixteen_bytes_xx", "tab\t"] {
            assert!(ifname(bad).is_err(), "{bad:?}");
        }
    }
}
