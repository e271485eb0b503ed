//! How are tunnel datagrams sent and received, many per call?
//!
//! A receiving socket with `gro` may return up to 64 KiB in one buffer: several datagrams of one flow, each
//! [`RxInfo::segment`] bytes of payload. A sender hands over the same with [`TxInfo::segment`]. Sockets of a source
//! port pool (RFC 7348 §5: the outer source port carries the inner flow's hash) are opened with `receive: false`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::Result;
use crate::cmsg;
use crate::error::Context;
use crate::inet::{MtuDiscovery, Name, RxInfo, TxInfo, in_addr, in6_addr, ipv4, ipv6};
use crate::mmsg::Headers;
use crate::sys::{cvt, getsockopt_int, set_buffer, setsockopt, socket};

const SOL_UDP: libc::c_int = 17;
const UDP_NO_CHECK6_RX: libc::c_int = 102;
const SO_NO_CHECK: libc::c_int = 11;

const RX_CONTROL: usize =
    cmsg::space(size_of::<libc::in6_pktinfo>()) + cmsg::space(4) + cmsg::space(4) + cmsg::space(4);
const TX_CONTROL: usize =
    cmsg::space(size_of::<libc::in6_pktinfo>()) + cmsg::space(4) + cmsg::space(4) + cmsg::space(2);

/// How to open a [`UdpSocket`].
#[derive(Debug, Clone)]
pub struct UdpOptions {
    /// Receive datagrams; false throws away what arrives before it reaches the socket.
    pub receive: bool,
    /// Take merged datagrams (UDP_GRO).
    pub gro: bool,
    /// Let another socket bind the same address (SO_REUSEADDR); the last one to bind receives.
    pub reuse_addr: bool,
    /// Share the address with other sockets of this user, datagrams spread by flow (SO_REUSEPORT).
    pub reuse_port: bool,
    /// Send with UDP checksums. Without, IPv4 sends zero (RFC 768), IPv6 zero too (RFC 6935), and the kernel refuses
    /// what it would have to cut by [`TxInfo::segment`] (EINVAL).
    pub checksum: bool,
    /// IPv6: accept datagrams with a zero checksum (RFC 6935). IPv4 always does.
    pub accept_zero_checksum6: bool,
    /// Fragmentation and DF.
    pub mtu_discovery: MtuDiscovery,
    /// Mark for routing rules (SO_MARK).
    pub mark: Option<u32>,
    /// Receive buffer in bytes; 0 leaves the system's.
    pub recv_buffer: usize,
    /// Send buffer in bytes; 0 leaves the system's.
    pub send_buffer: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            receive: true,
            gro: true,
            reuse_addr: true,
            reuse_port: false,
            checksum: true,
            accept_zero_checksum6: true,
            mtu_discovery: MtuDiscovery::Probe,
            mark: None,
            recv_buffer: 8 << 20,
            send_buffer: 4 << 20,
        }
    }
}

/// A nonblocking UDP socket; an IPv6 one carries IPv6 only.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddr,
}

impl UdpSocket {
    /// Binds `local` (port 0: the kernel chooses; see [`UdpSocket::local_addr`]).
    pub fn bind(local: SocketAddr, options: &UdpOptions) -> Result<Self> {
        let what = || format!("bind UDP {local}");
        let family = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let fd = socket(family, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0).context(what)?;
        configure(fd.as_fd(), local.is_ipv4(), options).context(what)?;
        if !options.receive {
            drop_all_input(fd.as_fd()).context(what)?;
        }
        bind(fd.as_fd(), &local).context(what)?;
        let local = local_addr(fd.as_fd()).context(what)?;
        Ok(Self { fd, local })
    }

    /// The address and port bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Joins a multicast group on a device (VXLAN with a multicast remote, RFC 7348 §4.2).
    pub fn join(&self, group: IpAddr, ifindex: u32) -> Result<()> {
        let fd = self.fd.as_fd();
        match group {
            IpAddr::V4(ip) => {
                let request = libc::ip_mreqn {
                    imr_multiaddr: in_addr(ip),
                    imr_address: libc::in_addr { s_addr: 0 },
                    imr_ifindex: ifindex as libc::c_int,
                };
                setsockopt(fd, libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, request)
            }
            IpAddr::V6(ip) => {
                let request = libc::ipv6_mreq { ipv6mr_multiaddr: in6_addr(ip), ipv6mr_interface: ifindex };
                setsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, request)
            }
        }
        .context(|| format!("join multicast group {group} on device {ifindex}"))
    }

    /// Receives waiting datagrams, one (or one merged run) to each of `bufs`; returns how many buffers were filled.
    ///
    /// Offer 65,535-byte buffers with `gro`. `WouldBlock` when none waits.
    pub fn recv<B: AsMut<[u8]>>(&self, rx: &mut DatagramRx, bufs: &mut [B]) -> io::Result<usize> {
        rx.0.recv(self.fd.as_fd(), bufs)
    }

    /// Sends `bufs[i]` as `infos[i]` says; returns how many went.
    ///
    /// An error is of the first datagram, and none went: EMSGSIZE (over the MTU with DF, or over 65,507 bytes),
    /// ENETUNREACH, EHOSTUNREACH, EINVAL (wrong family, bad source or too many segments), `WouldBlock`.
    pub fn send<B: AsRef<[u8]>>(
        &self,
        tx: &mut DatagramTx,
        bufs: &[B],
        infos: &[TxInfo],
    ) -> io::Result<usize> {
        tx.send(self.fd.as_fd(), bufs, infos)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn configure(fd: BorrowedFd<'_>, v4: bool, options: &UdpOptions) -> io::Result<()> {
    let on: libc::c_int = 1;
    if options.reuse_addr {
        setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, on)?;
    }
    if options.reuse_port {
        setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, on)?;
    }
    if let Some(mark) = options.mark {
        setsockopt(fd, libc::SOL_SOCKET, libc::SO_MARK, mark)?;
    }
    set_buffer(fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.recv_buffer)?;
    set_buffer(fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.send_buffer)?;
    configure_ip(fd, v4, options.mtu_discovery)?;
    if !options.checksum {
        setsockopt(fd, libc::SOL_SOCKET, SO_NO_CHECK, on)?;
    }
    if !v4 {
        setsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, on)?;
        setsockopt(fd, SOL_UDP, libc::UDP_NO_CHECK6_TX, libc::c_int::from(!options.checksum))?;
        setsockopt(fd, SOL_UDP, UDP_NO_CHECK6_RX, libc::c_int::from(options.accept_zero_checksum6))?;
    }
    if options.gro && options.receive {
        setsockopt(fd, SOL_UDP, libc::UDP_GRO, on)?;
    }
    Ok(())
}

/// What UDP and raw sockets share: ask for addresses, TOS and TTL of what arrives; set DF.
pub(crate) fn configure_ip(fd: BorrowedFd<'_>, v4: bool, mtu: MtuDiscovery) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (level, options, discover) = if v4 {
        let options = [libc::IP_PKTINFO, libc::IP_RECVTOS, libc::IP_RECVTTL];
        (libc::IPPROTO_IP, options, libc::IP_MTU_DISCOVER)
    } else {
        let options = [libc::IPV6_RECVPKTINFO, libc::IPV6_RECVTCLASS, libc::IPV6_RECVHOPLIMIT];
        (libc::IPPROTO_IPV6, options, libc::IPV6_MTU_DISCOVER)
    };
    for option in options {
        setsockopt(fd, level, option, on)?;
    }
    setsockopt(fd, level, discover, mtu.raw())
}

/// Attaches a one-instruction classic BPF filter that accepts nothing.
pub(crate) fn drop_all_input(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut accept_nothing =
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut accept_nothing };
    setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
}

/// Largest IP packet that the kernel would send to `dst` whole, in bytes: the route's MTU, or what a router on the
/// way has said (RFC 1191, RFC 8201). `src`: the source address packets will have, if it is not the kernel's choice.
///
/// # Errors
/// ENETUNREACH or EHOSTUNREACH without a route; EADDRNOTAVAIL if `src` is not the host's.
pub fn path_mtu(dst: IpAddr, src: Option<IpAddr>) -> io::Result<u32> {
    let any: IpAddr = if dst.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let probe = std::net::UdpSocket::bind((src.unwrap_or(any), 0))?;
    // Nothing is sent: connecting a datagram socket looks up the route.
    probe.connect((dst, 9))?;
    let (level, name) =
        if dst.is_ipv4() { (libc::IPPROTO_IP, libc::IP_MTU) } else { (libc::IPPROTO_IPV6, libc::IPV6_MTU) };
    let mtu = getsockopt_int(probe.as_fd(), level, name)?;
    u32::try_from(mtu).map_err(io::Error::other)
}

pub(crate) fn bind(fd: BorrowedFd<'_>, local: &SocketAddr) -> io::Result<()> {
    let (name, len) = Name::from_std(local);
    // SAFETY: pointer and length describe the live local.
    cvt(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), len) }).map(drop)
}

fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut name = Name::empty();
    let mut len = Name::LEN;
    // SAFETY: both pointers are to live locals and `len` tells the kernel the room.
    cvt(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut name).cast(), &raw mut len) })?;
    Ok(name.to_std())
}

/// A thread's header arrays for receiving datagrams; serves any number of UDP and raw sockets in turn.
pub struct DatagramRx(pub(crate) Headers<RX_CONTROL>);

impl DatagramRx {
    /// Arrays for batches of up to `size` buffers.
    pub fn new(size: usize) -> Self {
        Self(Headers::new(size, true))
    }

    /// What is known of the `i`th buffer of the last receive on a UDP or raw IPv6 socket.
    pub fn info(&self, i: usize) -> RxInfo {
        let mut info = RxInfo {
            len: self.0.received(i),
            src: self.0.name(i).to_std(),
            truncated: self.0.truncated(i),
            ..RxInfo::EMPTY
        };
        let (control, len) = self.0.control(i);
        for (level, kind, data) in cmsg::items(control, len) {
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    if let Some(p) = cmsg::value::<libc::in_pktinfo>(data) {
                        info.dst = Some(ipv4(p.ipi_addr).into());
                        info.ifindex = p.ipi_ifindex as u32;
                    }
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    if let Some(p) = cmsg::value::<libc::in6_pktinfo>(data) {
                        info.dst = Some(ipv6(p.ipi6_addr).into());
                        info.ifindex = p.ipi6_ifindex;
                    }
                }
                (SOL_UDP, libc::UDP_GRO) => {
                    info.segment = cmsg::value::<libc::c_int>(data).unwrap_or(0) as u16;
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => info.tos = data.first().copied().unwrap_or(0),
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    info.ttl = cmsg::value::<libc::c_int>(data).unwrap_or(0) as u8;
                }
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    info.tos = cmsg::value::<libc::c_int>(data).unwrap_or(0) as u8;
                }
                _ => {}
            }
        }
        info
    }
}

/// A thread's header arrays for sending datagrams; serves any number of UDP and raw sockets in turn.
///
/// A slot remembers what it last said, so a batch to the same place costs no rebuilding.
pub struct DatagramTx {
    headers: Headers<TX_CONTROL>,
    last: Box<[Option<TxInfo>]>,
}

impl DatagramTx {
    /// Arrays for batches of up to `size` datagrams.
    pub fn new(size: usize) -> Self {
        Self { headers: Headers::new(size, true), last: vec![None; size].into_boxed_slice() }
    }

    pub(crate) fn send<B: AsRef<[u8]>>(
        &mut self,
        fd: BorrowedFd<'_>,
        bufs: &[B],
        infos: &[TxInfo],
    ) -> io::Result<usize> {
        let n = bufs.len().min(infos.len()).min(self.headers.len());
        for (i, info) in infos[..n].iter().enumerate() {
            if self.last[i] != Some(*info) {
                self.headers.address(i, Name::from_std(&info.dst), |control| ancillary(control, info));
                self.last[i] = Some(*info);
            }
        }
        self.headers.send(fd, &bufs[..n])
    }
}

/// Writes what `info` asks of the kernel into `control`; returns its length.
fn ancillary(control: &mut [u8], info: &TxInfo) -> usize {
    let mut at = 0;
    let v4 = info.dst.is_ipv4();
    if info.src.is_some() || info.ifindex != 0 {
        at = if v4 {
            let src =
                if let Some(IpAddr::V4(ip)) = info.src { in_addr(ip) } else { libc::in_addr { s_addr: 0 } };
            let pktinfo = libc::in_pktinfo {
                ipi_ifindex: info.ifindex as libc::c_int,
                ipi_spec_dst: src,
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            cmsg::push(control, at, libc::IPPROTO_IP, libc::IP_PKTINFO, pktinfo)
        } else {
            let src = if let Some(IpAddr::V6(ip)) = info.src { ip } else { std::net::Ipv6Addr::UNSPECIFIED };
            let pktinfo = libc::in6_pktinfo { ipi6_addr: in6_addr(src), ipi6_ifindex: info.ifindex as _ };
            cmsg::push(control, at, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, pktinfo)
        };
    }
    let (level, tos, ttl) = if v4 {
        (libc::IPPROTO_IP, libc::IP_TOS, libc::IP_TTL)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS, libc::IPV6_HOPLIMIT)
    };
    if let Some(value) = info.tos {
        at = cmsg::push(control, at, level, tos, libc::c_int::from(value));
    }
    if let Some(value) = info.ttl {
        at = cmsg::push(control, at, level, ttl, libc::c_int::from(value));
    }
    if info.segment != 0 {
        at = cmsg::push(control, at, SOL_UDP, libc::UDP_SEGMENT, info.segment);
    }
    at
}
