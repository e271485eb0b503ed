//! Which sockets does a tunnel need, and who shares them?
//!
//! Receiving: one socket per address family, UDP port and encapsulation, shared by all tunnel ports on it; which port
//! a datagram belongs to is for the pipeline to say. Sending: a pool per set of socket options, shared by all tunnels,
//! so that the outer source port can carry the inner flow's hash (RFC 7348 §5) without a socket per flow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use weft_flow::TunnelKind;
use weft_host::inet::{MtuDiscovery, RxInfo, TxInfo};
use weft_host::raw::{GRE, RawOptions, RawSocket};
use weft_host::udp::{DatagramRx, DatagramTx, UdpOptions, UdpSocket};

use crate::shared::{Shared, lock};

/// Ports that are tried for a socket of a range.
const PORTS_TRIED: usize = 64;
/// Outer source ports of a pool.
const POOL: usize = 16;

/// A datagram socket of either kind.
pub(crate) enum Socket {
    Udp(UdpSocket),
    Raw(RawSocket),
}

impl Socket {
    pub(crate) fn recv(&self, rx: &mut DatagramRx, bufs: &mut [Box<[u8]>]) -> std::io::Result<usize> {
        match self {
            Socket::Udp(socket) => socket.recv(rx, bufs),
            Socket::Raw(socket) => socket.recv(rx, bufs),
        }
    }

    pub(crate) fn info(&self, rx: &DatagramRx, i: usize, buf: &[u8]) -> RxInfo {
        match self {
            Socket::Udp(_) => rx.info(i),
            Socket::Raw(socket) => socket.info(rx, i, buf),
        }
    }

    pub(crate) fn send(
        &self,
        tx: &mut DatagramTx,
        bufs: &[&[u8]],
        infos: &[TxInfo],
    ) -> std::io::Result<usize> {
        match self {
            Socket::Udp(socket) => socket.send(tx, bufs, infos),
            Socket::Raw(socket) => socket.send(tx, bufs, infos),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Udp(socket) => socket.as_fd(),
            Socket::Raw(socket) => socket.as_fd(),
        }
    }
}

/// What the sockets of a pool have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    /// GRE by raw sockets, else UDP.
    pub(crate) gre: bool,
    pub(crate) ipv6: bool,
    /// Set the Don't Fragment bit.
    pub(crate) df: bool,
    /// UDP checksum.
    pub(crate) csum: bool,
    pub(crate) mark: Option<u32>,
    /// First and last source port; `None`: the host's choice.
    pub(crate) ports: Option<(u16, u16)>,
}

/// Sockets to send by.
pub(crate) struct Pool {
    pub(crate) key: PoolKey,
    sockets: Vec<Socket>,
}

impl Pool {
    fn open(key: PoolKey) -> weft_host::Result<Self> {
        let any: IpAddr = if key.ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let mtu_discovery = if key.df { MtuDiscovery::Probe } else { MtuDiscovery::Omit };
        let socket = |number: usize| {
            if key.gre {
                let options = RawOptions { receive: false, mtu_discovery, ..RawOptions::default() };
                return RawSocket::open(GRE, any, &options).map(Socket::Raw);
            }
            let options = UdpOptions {
                receive: false,
                gro: false,
                reuse_addr: false,
                checksum: key.csum,
                mtu_discovery,
                mark: key.mark,
                recv_buffer: 0,
                ..UdpOptions::default()
            };
            let bind = |port| UdpSocket::bind(SocketAddr::new(any, port), &options).map(Socket::Udp);
            let Some((first, last)) = key.ports else { return bind(0) };
            // Spread over the range; a port that is taken is passed over.
            let count = usize::from(last - first) + 1;
            let port = |n: usize| first + ((number * count / POOL + n) % count) as u16;
            (1..count.min(PORTS_TRIED)).fold(bind(port(0)), |bound, n| bound.or_else(|_| bind(port(n))))
        };
        let count = if key.gre { 1 } else { POOL };
        Ok(Pool { key, sockets: (0..count).map(socket).collect::<weft_host::Result<_>>()? })
    }

    /// The pool for a key, opened if it is not yet. `None`: the host refused.
    pub(crate) fn of(shared: &Shared, key: PoolKey) -> Option<Arc<Pool>> {
        let mut pools = lock(&shared.tunnel_pools);
        if let Some(pool) = pools.get(&key) {
            return Some(pool.clone());
        }
        let pool = Arc::new(Pool::open(key).ok()?);
        pools.insert(key, pool.clone());
        Some(pool)
    }

    /// Which socket sends packets of flows with this hash.
    #[inline]
    pub(crate) fn choose(&self, hash: u32) -> usize {
        hash as usize % self.sockets.len()
    }

    pub(crate) fn socket(&self, index: usize) -> &Socket {
        &self.sockets[index]
    }
}

/// What names a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListenKey {
    pub(crate) kind: TunnelKind,
    /// UDP port; 0 for GRE.
    pub(crate) dst_port: u16,
    /// Address listened on; unspecified for all of the family.
    pub(crate) local: IpAddr,
}

impl ListenKey {
    /// Opens the socket.
    pub(crate) fn open(&self) -> weft_host::Result<Socket> {
        match self.kind {
            TunnelKind::Gre => RawSocket::open(GRE, self.local, &RawOptions::default()).map(Socket::Raw),
            TunnelKind::Vxlan | TunnelKind::Geneve => {
                let options = UdpOptions { reuse_addr: false, ..UdpOptions::default() };
                UdpSocket::bind(SocketAddr::new(self.local, self.dst_port), &options).map(Socket::Udp)
            }
        }
    }

    /// The sockets that a tunnel port listens on.
    pub(crate) fn of(spec: &crate::contract::TunnelSpec) -> Vec<ListenKey> {
        let (kind, dst_port) = (spec.kind, spec.dst_port);
        // All ports share the sockets of all addresses; `local` is then a matter of demultiplexing.
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
            .map(|local| ListenKey { kind, dst_port, local })
            .into()
    }
}
