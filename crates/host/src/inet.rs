//! How does an IP address and port look to the kernel?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for an IPv4 or IPv6 socket address; smaller than `sockaddr_storage`, so that a batch of them stays in cache.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) union Name {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    pub(crate) const LEN: libc::socklen_t = size_of::<Self>() as libc::socklen_t;

    pub(crate) fn empty() -> Self {
        // SAFETY: plain data, for which zero (AF_UNSPEC) is valid.
        unsafe { std::mem::zeroed() }
    }

    /// The kernel's form and its length.
    pub(crate) fn from_std(addr: &SocketAddr) -> (Self, libc::socklen_t) {
        let mut name = Self::empty();
        match addr {
            SocketAddr::V4(a) => {
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: a.port().to_be(),
                    sin_addr: in_addr(*a.ip()),
                    sin_zero: [0; 8],
                };
                (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(a) => {
                name.v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: a.port().to_be(),
                    sin6_flowinfo: a.flowinfo(),
                    sin6_addr: in6_addr(*a.ip()),
                    sin6_scope_id: a.scope_id(),
                };
                (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// The address the kernel wrote, or `0.0.0.0:0` if it wrote none.
    pub(crate) fn to_std(self) -> SocketAddr {
        // SAFETY: every value of the union was zeroed first and then written by the kernel or by us, so all of
        // its bytes are initialised, and all fields are plain integers.
        unsafe {
            match i32::from(self.family) {
                libc::AF_INET => {
                    SocketAddrV4::new(ipv4(self.v4.sin_addr), u16::from_be(self.v4.sin_port)).into()
                }
                libc::AF_INET6 => SocketAddrV6::new(
                    ipv6(self.v6.sin6_addr),
                    u16::from_be(self.v6.sin6_port),
                    self.v6.sin6_flowinfo,
                    self.v6.sin6_scope_id,
                )
                .into(),
                _ => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into(),
            }
        }
    }
}

pub(crate) fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) }
}

pub(crate) fn in6_addr(ip: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr { s6_addr: ip.octets() }
}

pub(crate) fn ipv4(raw: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(raw.s_addr.to_ne_bytes())
}

pub(crate) fn ipv6(raw: libc::in6_addr) -> Ipv6Addr {
    Ipv6Addr::from(raw.s6_addr)
}

/// What the kernel tells about a received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RxInfo {
    /// Bytes in the buffer.
    pub len: usize,
    /// Where the payload begins in the buffer: after the IPv4 header on a raw IPv4 socket, else 0.
    pub offset: usize,
    /// Who sent it. The port is 0 on raw sockets.
    pub src: SocketAddr,
    /// The destination address of its IP header, if the kernel told.
    pub dst: Option<IpAddr>,
    /// The device it came in by; 0 if the kernel did not tell.
    pub ifindex: u32,
    /// Bytes of payload per datagram when the kernel merged several (UDP_GRO; the last may be shorter); 0 if one.
    pub segment: u16,
    /// The IP header's DSCP and ECN byte.
    pub tos: u8,
    /// The IP header's TTL or hop limit.
    pub ttl: u8,
    /// The datagram was longer than the buffer.
    pub truncated: bool,
}

impl RxInfo {
    pub(crate) const EMPTY: Self = Self {
        len: 0,
        offset: 0,
        src: SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
        dst: None,
        ifindex: 0,
        segment: 0,
        tos: 0,
        ttl: 0,
        truncated: false,
    };
}

/// Where and how to send a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxInfo {
    /// Destination; its family must be the socket's. The port is ignored on raw sockets.
    pub dst: SocketAddr,
    /// Source address; `None` lets the kernel choose by route.
    pub src: Option<IpAddr>,
    /// Device to leave by; 0 lets the kernel choose by route.
    pub ifindex: u32,
    /// The IP header's DSCP and ECN byte; `None` leaves the socket's.
    pub tos: Option<u8>,
    /// The IP header's TTL or hop limit (1–255); `None` leaves the socket's.
    pub ttl: Option<u8>,
    /// Cut the payload into datagrams of this many bytes (UDP_SEGMENT), at most 128 of them; 0 sends it as one.
    pub segment: u16,
}

impl TxInfo {
    /// To `dst`, all else left to the kernel.
    pub fn to(dst: SocketAddr) -> Self {
        Self { dst, src: None, ifindex: 0, tos: None, ttl: None, segment: 0 }
    }
}

/// How IP fragmentation and the Don't Fragment bit are handled (IP_MTU_DISCOVER).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MtuDiscovery {
    /// DF set; a datagram over the device's MTU fails with EMSGSIZE; learned path MTUs are not obeyed.
    #[default]
    Probe,
    /// DF set; a datagram over the learned path MTU fails with EMSGSIZE.
    Do,
    /// DF clear; fragmented here to the device's MTU; learned path MTUs, which anyone may forge, are not obeyed.
    Omit,
    /// DF clear; fragmented here to the learned path MTU.
    Dont,
}

impl MtuDiscovery {
    pub(crate) fn raw(self) -> libc::c_int {
        // The IPV6_PMTUDISC_* values are the same.
        match self {
            Self::Probe => libc::IP_PMTUDISC_PROBE,
            Self::Do => libc::IP_PMTUDISC_DO,
            Self::Omit => libc::IP_PMTUDISC_OMIT,
            Self::Dont => libc::IP_PMTUDISC_DONT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for text in ["192.0.2.1:4789", "[2001:db8::1]:6081", "[fe80::1%7]:1", "0.0.0.0:0"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::from_std(&addr).0.to_std(), addr);
        }
        assert_eq!(Name::empty().to_std().port(), 0);
    }
}
