//! What does the kernel know of links, addresses, routes and neighbours, and how is it changed (rtnetlink(7))?
//!
//! A [`Netlink`] handle stays with the network namespace it was opened in, whichever thread uses it.
//! Requests block until the kernel has answered, which it does at once.

mod address;
mod attr;
mod create;
mod filter;
mod link;
mod monitor;
mod neighbour;
mod nftables;
mod route;
mod shape;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

pub use address::Address;
pub use create::{VethEnd, Vxlan};
pub use link::{Link, LinkStats, OperState};
pub use monitor::{Event, Monitor};
pub use neighbour::Neighbour;
pub use nftables::NftMonitor;
pub use route::{NextHop, Route};
pub use shape::{QUEUES, QueueCounts, QueueShape, Shaping, UNLIMITED, class_of};

pub(crate) use attr::{Message, attrs, get_str, get_u16, get_u32, get_u64};
pub(crate) use filter::{add_clsact, add_ingress_bpf};

use crate::error::Context;
use crate::netns::NetNs;
use crate::sys::{cvt, setsockopt, socket};
use crate::{Error, Result};

const ACK: u16 = libc::NLM_F_ACK as u16;
const CREATE: u16 = (libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const REPLACE: u16 = (libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;
/// `NLM_F_ACK_TLVS`: the error message carries attributes that explain it.
const ACK_TLVS: u16 = 0x200;
/// `NLM_F_CAPPED`: the error message does not repeat the request.
const CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// How often a dump that changed under our hands is repeated.
const DUMP_TRIES: usize = 10;

/// A handle to ask and tell the kernel about one network namespace.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    seq: u32,
    buf: Vec<u8>,
}

/// One answer: what follows the netlink header.
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
}

enum Outcome {
    Done,
    Interrupted,
}

impl Netlink {
    /// Opens a handle to this thread's network namespace.
    pub fn open() -> Result<Self> {
        let fd = route_socket(0).context(|| "open netlink socket".into())?;
        Ok(Self { fd, seq: 0, buf: vec![0; 64 << 10] })
    }

    /// Opens a handle to another network namespace.
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        ns.run(Self::open)?
    }

    /// Asks and waits for all answers. `what` names the deed in errors.
    pub(crate) fn request(&mut self, mut message: Message, what: impl Fn() -> String) -> Result<Vec<Answer>> {
        for _ in 0..DUMP_TRIES {
            self.seq = self.seq.wrapping_add(1);
            let mut answers = Vec::new();
            self.send(message.finish(self.seq)).context(&what)?;
            if let Outcome::Done = self.collect(&mut answers, &what)? {
                return Ok(answers);
            }
        }
        Err(Error::os(what(), io::Error::from_raw_os_error(libc::EINTR)))
    }

    /// Tells, and waits for the acknowledgement.
    pub(crate) fn tell(&mut self, message: Message, what: impl Fn() -> String) -> Result<()> {
        self.request(message, what).map(drop)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length describe `bytes`; the kernel only reads.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Receives one datagram into `buf`, grown to its size.
    fn receive(&mut self) -> io::Result<usize> {
        loop {
            let flags = libc::MSG_PEEK | libc::MSG_TRUNC;
            let waiting = recv(&self.fd, &mut self.buf, flags)?;
            if waiting > self.buf.len() {
                self.buf.resize(waiting.next_multiple_of(4096), 0);
                continue;
            }
            return recv(&self.fd, &mut self.buf, 0);
        }
    }

    fn collect(&mut self, answers: &mut Vec<Answer>, what: impl Fn() -> String) -> Result<Outcome> {
        let mut interrupted = false;
        loop {
            let len = self.receive().context(&what)?;
            let mut multipart = false;
            for message in attr::messages(&self.buf[..len]) {
                if message.seq != self.seq {
                    continue;
                }
                interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        outcome(&message, &what)?;
                        return Ok(if interrupted { Outcome::Interrupted } else { Outcome::Done });
                    }
                    libc::NLMSG_NOOP => {}
                    _ => {
                        multipart |= message.flags & libc::NLM_F_MULTI as u16 != 0;
                        answers.push(Answer { body: message.body.to_vec() });
                    }
                }
            }
            // A GET without ACK ends with its one answer.
            if !multipart && !answers.is_empty() {
                return Ok(Outcome::Done);
            }
        }
    }
}

/// Reads the error code of NLMSG_ERROR or NLMSG_DONE, with the kernel's explanation if it gave one.
fn outcome(message: &attr::Received<'_>, what: impl Fn() -> String) -> Result<()> {
    let errno = -(get_u32(message.body, 0).unwrap_or(0) as i32);
    if errno <= 0 {
        return Ok(());
    }
    let error = io::Error::from_raw_os_error(errno);
    let explanation = (message.flags & ACK_TLVS != 0).then(|| {
        let header = 4 + attr::HEADER;
        let repeated =
            if message.flags & CAPPED != 0 { 0 } else { get_u32(message.body, 4).unwrap_or(0) as usize };
        let start = if repeated > attr::HEADER { 4 + repeated.next_multiple_of(4) } else { header };
        attrs(message.body.get(start..).unwrap_or(&[]))
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map(|(_, text)| get_str(text))
    });
    match explanation.flatten() {
        Some(text) if !text.is_empty() => Err(Error::os(format!("{} ({text})", what()), error)),
        _ => Err(Error::os(what(), error)),
    }
}

fn recv(fd: &OwnedFd, buf: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    loop {
        // SAFETY: pointer and length describe `buf`, exclusively borrowed.
        let n = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), flags) };
        if n >= 0 {
            return Ok(n as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A bound rtnetlink socket; `flags` are extra socket type flags.
fn route_socket(flags: libc::c_int) -> io::Result<OwnedFd> {
    use std::os::fd::AsFd;
    let fd = socket(libc::AF_NETLINK, libc::SOCK_RAW | flags, libc::NETLINK_ROUTE)?;
    bind(&fd)?;
    let on: libc::c_int = 1;
    // Better error texts; old kernels lack them.
    let _ = setsockopt(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, on);
    let _ = setsockopt(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, on);
    Ok(fd)
}

/// Gives a netlink socket the address that the kernel chooses.
fn bind(fd: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain data for which zero is valid.
    let mut addr: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    addr.nl_family = libc::AF_NETLINK as u16;
    // SAFETY: pointer and length describe the live local.
    let ret = unsafe {
        let len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), len)
    };
    cvt(ret).map(drop)
}

/// An IP address as attribute bytes.
fn ip_bytes(ip: std::net::IpAddr) -> Vec<u8> {
    match ip {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// An IP address from attribute bytes of either length.
fn ip_from(bytes: &[u8]) -> Option<std::net::IpAddr> {
    <[u8; 4]>::try_from(bytes).map(Into::into).or_else(|_| <[u8; 16]>::try_from(bytes).map(Into::into)).ok()
}

fn family(ip: std::net::IpAddr) -> u8 {
    if ip.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}
