//! How are datagrams of an IP protocol without ports (GRE, RFC 2784) sent and received, many per call?
//!
//! The kernel writes the IP header of what is sent. What is received over IPv4 begins with its IP header:
//! the payload starts at [`RxInfo::offset`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::Result;
use crate::error::Context;
use crate::inet::{MtuDiscovery, RxInfo, TxInfo};
use crate::sys::{set_buffer, socket};
use crate::udp::{DatagramRx, DatagramTx, bind, configure_ip, drop_all_input};

/// IP protocol number of GRE (RFC 2784 §2).
pub const GRE: u8 = 47;

/// How to open a [`RawSocket`].
#[derive(Debug, Clone)]
pub struct RawOptions {
    /// Receive datagrams; false throws away what arrives before it reaches the socket.
    pub receive: bool,
    /// Fragmentation and DF.
    pub mtu_discovery: MtuDiscovery,
    /// Receive buffer in bytes; 0 leaves the system's.
    pub recv_buffer: usize,
    /// Send buffer in bytes; 0 leaves the system's.
    pub send_buffer: usize,
}

impl Default for RawOptions {
    fn default() -> Self {
        Self { receive: true, mtu_discovery: MtuDiscovery::Probe, recv_buffer: 8 << 20, send_buffer: 4 << 20 }
    }
}

/// A nonblocking raw IP socket for one protocol. Several such sockets each receive every datagram.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
    v4: bool,
}

impl RawSocket {
    /// Opens a socket for `protocol` on `local` (the unspecified address for all).
    pub fn open(protocol: u8, local: IpAddr, options: &RawOptions) -> Result<Self> {
        let what = || format!("open raw socket for IP protocol {protocol} on {local}");
        let v4 = local.is_ipv4();
        let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
        let fd = socket(family, libc::SOCK_RAW | libc::SOCK_NONBLOCK, libc::c_int::from(protocol))
            .context(what)?;
        set_buffer(fd.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.recv_buffer).context(what)?;
        set_buffer(fd.as_fd(), libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.send_buffer).context(what)?;
        configure_ip(fd.as_fd(), v4, options.mtu_discovery).context(what)?;
        if !options.receive {
            drop_all_input(fd.as_fd()).context(what)?;
        }
        if !local.is_unspecified() {
            bind(fd.as_fd(), &SocketAddr::new(local, 0)).context(what)?;
        }
        Ok(Self { fd, v4 })
    }

    /// Receives waiting datagrams, one to each of `bufs`; returns how many. `WouldBlock` when none waits.
    pub fn recv<B: AsMut<[u8]>>(&self, rx: &mut DatagramRx, bufs: &mut [B]) -> io::Result<usize> {
        rx.0.recv(self.fd.as_fd(), bufs)
    }

    /// What is known of the `i`th datagram of the last [`RawSocket::recv`], `buf` being its buffer.
    pub fn info(&self, rx: &DatagramRx, i: usize, buf: &[u8]) -> RxInfo {
        let mut info = rx.info(i);
        if self.v4 {
            // The header length (RFC 791 §3.1) was checked by the kernel; the buffer may still be too short for it.
            let header = buf.first().map_or(0, |b| usize::from(b & 0x0f) * 4);
            info.offset = header.min(info.len);
        }
        info
    }

    /// Sends `bufs[i]` (from the protocol's header on) as `infos[i]` says; returns how many went.
    ///
    /// [`TxInfo::segment`] must be 0. Errors as for [`crate::udp::UdpSocket::send`].
    pub fn send<B: AsRef<[u8]>>(
        &self,
        tx: &mut DatagramTx,
        bufs: &[B],
        infos: &[TxInfo],
    ) -> io::Result<usize> {
        tx.send(self.fd.as_fd(), bufs, infos)
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for RawSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
