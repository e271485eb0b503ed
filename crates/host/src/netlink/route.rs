//! Where does the kernel send a packet, and how is it told?

use std::net::IpAddr;

use super::{ACK, CREATE, DUMP, Message, Netlink, REPLACE, attrs, family, get_u32, ip_bytes, ip_from};
use crate::{Error, Result};

const RTMSG: usize = 12;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;

/// One way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// The router; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The link.
    pub ifindex: u32,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination network; the unspecified address for a default route.
    pub dst: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
    /// Ways out; empty for unreachable and blackhole routes.
    pub hops: Vec<NextHop>,
    /// Source address the kernel would choose.
    pub source: Option<IpAddr>,
    /// Routing table number.
    pub table: u32,
    /// Metric; smaller wins.
    pub priority: u32,
    /// Who made it, as `rtnetlink(7)` numbers them: 2 the kernel, 4 an administrator.
    pub protocol: u8,
    /// The destination is one of this host's own addresses.
    pub local: bool,
    /// Path MTU set on the route or learned for it.
    pub mtu: Option<u32>,
}

impl Route {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let v4 = i32::from(*body.first()?) == libc::AF_INET;
        let unspecified: IpAddr = if v4 { [0u8; 4].into() } else { [0u8; 16].into() };
        let mut route = Self {
            dst: unspecified,
            prefix: *body.get(1)?,
            hops: Vec::new(),
            source: None,
            table: u32::from(*body.get(4)?),
            priority: 0,
            protocol: *body.get(5)?,
            local: *body.get(7)? == RTN_LOCAL,
            mtu: None,
        };
        let (mut gateway, mut oif) = (None, None);
        for (kind, value) in attrs(body.get(RTMSG..)?) {
            match kind {
                libc::RTA_DST => route.dst = ip_from(value)?,
                libc::RTA_GATEWAY => gateway = ip_from(value),
                libc::RTA_VIA => gateway = ip_from(value.get(2..)?),
                libc::RTA_OIF => oif = get_u32(value, 0),
                libc::RTA_PREFSRC => route.source = ip_from(value),
                libc::RTA_TABLE => route.table = get_u32(value, 0)?,
                libc::RTA_PRIORITY => route.priority = get_u32(value, 0)?,
                libc::RTA_METRICS => {
                    const RTAX_MTU: u16 = 2;
                    route.mtu = attrs(value).find(|(k, _)| *k == RTAX_MTU).and_then(|(_, v)| get_u32(v, 0));
                }
                libc::RTA_MULTIPATH => route.hops = multipath(value),
                _ => {}
            }
        }
        if let Some(ifindex) = oif {
            route.hops.push(NextHop { gateway, ifindex });
        }
        Some(route)
    }
}

/// `struct rtnexthop`: length u16, flags u8, hops u8, ifindex i32; then attributes.
fn multipath(mut list: &[u8]) -> Vec<NextHop> {
    let mut hops = Vec::new();
    while let (Some(len), Some(ifindex)) = (super::get_u16(list, 0), get_u32(list, 4)) {
        let len = usize::from(len);
        let Some(inner) = list.get(8..len) else { break };
        let gateway = attrs(inner).find(|(k, _)| *k == libc::RTA_GATEWAY).and_then(|(_, v)| ip_from(v));
        hops.push(NextHop { gateway, ifindex });
        list = list.get(len.next_multiple_of(4)..).unwrap_or(&[]);
    }
    hops
}

fn fixed(dst: IpAddr, prefix: u8, scope: u8, kind: u8) -> [u8; RTMSG] {
    [family(dst), prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, kind, 0, 0, 0, 0]
}

/// A message about one route of the main table with one next hop.
fn one(kind: u16, flags: u16, route: &Route, unicast: u8) -> Message {
    let mut head = fixed(route.dst, route.prefix, 0, unicast);
    head[5] = route.protocol;
    let mut message = Message::new(kind, flags, &head);
    message.attr(libc::RTA_DST, &ip_bytes(route.dst));
    if let Some(hop) = route.hops.first() {
        if let Some(gateway) = hop.gateway {
            message.attr(libc::RTA_GATEWAY, &ip_bytes(gateway));
        }
        message.u32(libc::RTA_OIF, hop.ifindex);
    }
    if route.priority != 0 {
        message.u32(libc::RTA_PRIORITY, route.priority);
    }
    message
}

impl Netlink {
    /// Every route of the namespace, all tables, cached IPv6 exceptions left out.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let message = Message::new(libc::RTM_GETROUTE, DUMP, &[0; RTMSG]);
        let answers = self.request(message, || "list routes".into())?;
        Ok(answers.iter().filter_map(|a| Route::parse(&a.body)).collect())
    }

    /// How the kernel would send a packet to `dst` (from `src`, if given): hop, link and source address.
    ///
    /// [`Error::missing`] or ENETUNREACH when there is no way.
    pub fn route_to(&mut self, dst: IpAddr, src: Option<IpAddr>) -> Result<Route> {
        let bits = if dst.is_ipv4() { 32 } else { 128 };
        let mut head = [0; RTMSG];
        (head[0], head[1]) = (family(dst), bits);
        head[2] = if src.is_some() { bits } else { 0 };
        let mut message = Message::new(libc::RTM_GETROUTE, 0, &head);
        message.attr(libc::RTA_DST, &ip_bytes(dst));
        if let Some(src) = src {
            message.attr(libc::RTA_SRC, &ip_bytes(src));
        }
        let what = || format!("look up the route to {dst}");
        let answers = self.request(message, what)?;
        let bad = || Error::BadAnswer { what: what(), why: "no whole route message".into() };
        answers.first().and_then(|a| Route::parse(&a.body)).ok_or_else(bad)
    }

    /// Adds or replaces a route in the main table, through `gateway` or straight onto the link.
    pub fn add_route(
        &mut self,
        dst: IpAddr,
        prefix: u8,
        gateway: Option<IpAddr>,
        ifindex: Option<u32>,
    ) -> Result<()> {
        let scope = if gateway.is_none() && dst.is_ipv4() { RT_SCOPE_LINK } else { 0 };
        let mut message = Message::new(libc::RTM_NEWROUTE, REPLACE, &fixed(dst, prefix, scope, RTN_UNICAST));
        message.attr(libc::RTA_DST, &ip_bytes(dst));
        if let Some(gateway) = gateway {
            message.attr(libc::RTA_GATEWAY, &ip_bytes(gateway));
        }
        if let Some(ifindex) = ifindex {
            message.u32(libc::RTA_OIF, ifindex);
        }
        self.tell(message, || format!("add route to {dst}/{prefix}"))
    }

    /// Adds a route to the main table by one next hop, marked with its protocol; [`Error::exists`] if there is one to this
    /// prefix with this metric. A metric of 0 is the family's default.
    pub fn new_route(&mut self, route: &Route) -> Result<()> {
        let message = one(libc::RTM_NEWROUTE, CREATE, route, RTN_UNICAST);
        self.tell(message, || format!("add route to {}/{}", route.dst, route.prefix))
    }

    /// Deletes a route of the main table by its next hop, metric and protocol; others to the prefix stay.
    pub fn delete_this_route(&mut self, route: &Route) -> Result<()> {
        let message = one(libc::RTM_DELROUTE, ACK, route, 0);
        self.tell(message, || format!("delete route to {}/{}", route.dst, route.prefix))
    }

    /// Deletes a route of the main table.
    pub fn delete_route(&mut self, dst: IpAddr, prefix: u8) -> Result<()> {
        const RT_SCOPE_NOWHERE: u8 = 255;
        let scope = if dst.is_ipv4() { RT_SCOPE_NOWHERE } else { 0 };
        let mut message = Message::new(libc::RTM_DELROUTE, ACK, &fixed(dst, prefix, scope, 0));
        message.attr(libc::RTA_DST, &ip_bytes(dst));
        self.tell(message, || format!("delete route to {dst}/{prefix}"))
    }
}
