//! What changes in the namespace, as it changes?

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::{Address, Link, Neighbour, Route, attr, recv, route_socket};
use crate::Result;
use crate::error::Context;
use crate::sys::setsockopt;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or changed. Its counters are zero: ask [`super::Netlink::link`].
    Link(Link),
    /// A link is gone from the namespace.
    LinkGone(Link),
    /// An address was added or changed.
    Address(Address),
    /// An address was removed.
    AddressGone(Address),
    /// A route was added or replaced.
    Route(Route),
    /// A route was removed.
    RouteGone(Route),
    /// A neighbour was learned or changed.
    Neighbour(Neighbour),
    /// A neighbour was removed.
    NeighbourGone(Neighbour),
    /// Changes came faster than they were read and some are lost: list everything anew.
    Lost,
}

/// A subscription to changes of links, addresses, routes and neighbours.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    buf: Vec<u8>,
    queue: std::collections::VecDeque<Event>,
}

impl Monitor {
    /// Subscribes in this thread's network namespace; what changed before is not told.
    pub fn open() -> Result<Self> {
        Self::of(&[
            libc::RTNLGRP_LINK,
            libc::RTNLGRP_NEIGH,
            libc::RTNLGRP_IPV4_IFADDR,
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_IFADDR,
            libc::RTNLGRP_IPV6_ROUTE,
        ])
    }

    /// The same, of links and addresses only.
    pub fn of_links() -> Result<Self> {
        Self::of(&[libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR])
    }

    fn of(groups: &[libc::c_uint]) -> Result<Self> {
        let what = || "subscribe to network changes".to_owned();
        let fd = route_socket(libc::SOCK_NONBLOCK).context(what)?;
        for group in groups {
            setsockopt(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, *group).context(what)?;
        }
        crate::sys::set_buffer(fd.as_fd(), libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, 4 << 20).context(what)?;
        Ok(Self { fd, buf: vec![0; 64 << 10], queue: std::collections::VecDeque::new() })
    }

    /// The next change, or `None` when there is none yet: wait for the descriptor to be readable.
    pub fn next_event(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            match recv(&self.fd, &mut self.buf, 0) {
                Ok(len) => {
                    let events = attr::messages(&self.buf[..len]).filter_map(|m| event(m.kind, m.body));
                    self.queue.extend(events);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Some(Event::Lost)),
                Err(e) => return Err(e),
            }
        }
    }
}

/// Reads one notification; `None` for those we do not know or cannot read.
fn event(kind: u16, body: &[u8]) -> Option<Event> {
    // Bridges tell of their ports in the same group under their own family.
    let bridge = i32::from(*body.first()?) == libc::AF_BRIDGE;
    match kind {
        libc::RTM_NEWLINK if !bridge => Link::parse(body).map(Event::Link),
        libc::RTM_DELLINK if !bridge => Link::parse(body).map(Event::LinkGone),
        libc::RTM_NEWADDR => Address::parse(body).map(Event::Address),
        libc::RTM_DELADDR => Address::parse(body).map(Event::AddressGone),
        libc::RTM_NEWROUTE => Route::parse(body).map(Event::Route),
        libc::RTM_DELROUTE => Route::parse(body).map(Event::RouteGone),
        libc::RTM_NEWNEIGH if !bridge => Neighbour::parse(body).map(Event::Neighbour),
        libc::RTM_DELNEIGH if !bridge => Neighbour::parse(body).map(Event::NeighbourGone),
        _ => None,
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}
