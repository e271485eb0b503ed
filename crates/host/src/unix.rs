//! How is a socket file reached, or made, without waiting?

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect as nix_connect, recv, socket,
};

/// Connects to the socket of that path. The connection's calls block.
///
/// # Errors
/// EAGAIN when the listener's queue is full; else the kernel's reason.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix_connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let stream = UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Waits for bytes and copies the first of them, as many as fit, which stay to be read.
///
/// # Errors
/// The kernel's reason. At the end of the stream nothing is copied.
pub fn peek(stream: &UnixStream, into: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream.as_raw_fd(), into, MsgFlags::MSG_PEEK | MsgFlags::MSG_WAITALL)?)
}

/// Listens at that path, nonblocking. A socket that nobody listens on any more is replaced.
///
/// # Errors
/// EADDRINUSE when somebody listens there, or it is no socket; else the kernel's reason.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        done => done,
    }?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn is_stale(path: &Path) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    is_socket && connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_another_is_replaced_and_what_lives_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(connect(&path).is_err());
        drop(listen(&path).unwrap());
        assert!(connect(&path).is_err());
        let second = listen(&path).unwrap();
        let _stream = connect(&path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(second);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "no socket").unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }
}
