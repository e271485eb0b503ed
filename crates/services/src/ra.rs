//! What does a router tell the hosts of a link? (RFC 4861 §6.2, RFC 8106, RFC 4191)
//!
//! Solicitations are answered at once to who asked: the caller sends the frame to the one port
//! the solicitation came from, so that the delays of RFC 4861 §6.2.6, which keep many routers and
//! hosts from answering together, have nothing to protect. Unsolicited advertisements follow
//! §6.2.4: three at short intervals, then at random ones.

use core::net::Ipv6Addr;

use weft_wire::checksum::Sum;
use weft_wire::ethernet::{EthernetRepr, EthernetView};
use weft_wire::icmpv6::Icmpv6View;
use weft_wire::ipv6::{Ipv6Repr, Ipv6View};
use weft_wire::ndp::{self, NdpMessage, NdpRepr, flag};
use weft_wire::ndp_option::{NdpOption, NdpOptions, PrefixInfo, prefix_flag};
use weft_wire::{EtherType, IpProto, Mac};

use crate::frame::{Tags, link_local, push_tags, read_tags};

/// All hosts of the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// All routers of the link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Most advertisements at short intervals after the start (RFC 4861 §10).
const INITIAL: u8 = 3;
/// Longest interval between those, in milliseconds.
const INITIAL_INTERVAL: u64 = 16_000;
/// Most prefixes, routes and name servers of each kind that are sent.
const MOST: usize = 16;

/// How much a router or route is liked (RFC 4191 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// As others.
    #[default]
    Medium,
    /// More than others.
    High,
    /// Less than others.
    Low,
}

impl Preference {
    const fn bits(self) -> u8 {
        match self {
            Self::Medium => 0,
            Self::High => 0b01 << 3,
            Self::Low => 0b11 << 3,
        }
    }
}

/// A prefix of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The prefix.
    pub prefix: Ipv6Addr,
    /// Its bits.
    pub len: u8,
    /// Its addresses are on the link.
    pub on_link: bool,
    /// Hosts make addresses of their own from it (SLAAC); only for 64 bits.
    pub autonomous: bool,
    /// Seconds it is valid; `u32::MAX` for ever.
    pub valid: u32,
    /// Seconds its addresses are preferred; not more than valid.
    pub preferred: u32,
}

/// A route more specific than the default (RFC 4191 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub prefix: Ipv6Addr,
    /// Bits.
    pub len: u8,
    /// How much it is liked.
    pub preference: Preference,
    /// Seconds it holds.
    pub lifetime: u32,
}

/// What one router says on one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The router's Ethernet address; its link-local address follows from it.
    pub mac: Mac,
    /// The router's link-local address, when it is another one.
    pub source: Option<Ipv6Addr>,
    /// Addresses come by DHCPv6 (the M flag).
    pub managed: bool,
    /// Other settings come by DHCPv6 (the O flag).
    pub other: bool,
    /// Seconds it stays a default router; 0 on isolated networks: not one.
    pub lifetime: u16,
    /// How much it is liked.
    pub preference: Preference,
    /// Hop limit for hosts; 0 says nothing.
    pub hop_limit: u8,
    /// MTU of the link, at least 1280.
    pub mtu: Option<u32>,
    /// Prefixes of the link.
    pub prefixes: Vec<Prefix>,
    /// Routes beside the default.
    pub routes: Vec<Route>,
    /// Recursive name servers (RFC 8106 §5.1).
    pub rdnss: Vec<Ipv6Addr>,
    /// Search list (RFC 8106 §5.2).
    pub dnssl: Vec<String>,
    /// Shortest and longest seconds between unsolicited advertisements: 3 ≤ min ≤ 0.75 max,
    /// max 4–1800 (RFC 4861 §6.2.1).
    pub interval: (u32, u32),
}

impl Config {
    /// A default router for half an hour that advertises every 200 to 600 seconds.
    #[must_use]
    pub fn new(mac: Mac) -> Self {
        Self {
            mac,
            source: None,
            managed: false,
            other: false,
            lifetime: 1800,
            preference: Preference::Medium,
            hop_limit: 64,
            mtu: None,
            prefixes: Vec::new(),
            routes: Vec::new(),
            rdnss: Vec::new(),
            dnssl: Vec::new(),
            interval: (200, 600),
        }
    }

    /// The advertisement as a frame. `last` is the one said when routing ends: lifetime 0
    /// (RFC 4861 §6.2.5).
    #[must_use]
    pub fn advertisement(&self, dst: Ipv6Addr, dst_mac: Mac, tags: &Tags, last: bool) -> Option<Vec<u8>> {
        let options = self.options()?;
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let message = NdpMessage::RouterAdvert {
            hop_limit: self.hop_limit,
            flags: bit(self.managed, flag::RA_MANAGED)
                | bit(self.other, flag::RA_OTHER)
                | if self.lifetime == 0 || last { 0 } else { self.preference.bits() },
            lifetime: if last { 0 } else { self.lifetime },
            reachable: 0,
            retrans: 0,
        };
        let src = self.source.unwrap_or_else(|| link_local(self.mac));
        let ndp = NdpRepr { message, options: &options };
        let ip_at = 14 + 4 * tags.len();
        let mut frame = vec![0; ip_at + 40 + ndp.wire_len()];
        let first = push_tags(&mut frame, tags, EtherType::IPV6).ok()?;
        EthernetRepr { dst: dst_mac, src: self.mac, ether_type: first }.emit(&mut frame).ok()?;
        let ip = Ipv6Repr { hop_limit: 255, ..Ipv6Repr::new(src, dst, IpProto::ICMPV6, ndp.wire_len()) };
        ip.emit(frame.get_mut(ip_at..)?).ok()?;
        let pseudo = Sum::pseudo_v6(src, dst, IpProto::ICMPV6, ndp.wire_len() as u32);
        ndp.emit(frame.get_mut(ip_at + 40..)?, pseudo).ok()?;
        Some(frame)
    }

    fn options(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(128);
        put(&mut out, NdpOption::SourceLink(self.mac))?;
        if let Some(mtu) = self.mtu.filter(|mtu| *mtu >= 1280) {
            put(&mut out, NdpOption::Mtu(mtu))?;
        }
        for prefix in self.prefixes.iter().take(MOST) {
            let bit = |on: bool, bit: u8| if on { bit } else { 0 };
            let info = PrefixInfo {
                prefix: masked(prefix.prefix, prefix.len),
                len: prefix.len.min(128),
                flags: bit(prefix.on_link, prefix_flag::ON_LINK)
                    | bit(prefix.autonomous && prefix.len == 64, prefix_flag::AUTONOMOUS),
                valid: prefix.valid,
                preferred: prefix.preferred.min(prefix.valid),
            };
            put(&mut out, NdpOption::Prefix(info))?;
        }
        for route in self.routes.iter().take(MOST) {
            let mut data = vec![route.len.min(128), route.preference.bits()];
            data.extend(route.lifetime.to_be_bytes());
            data.extend(masked(route.prefix, route.len).octets());
            put(&mut out, NdpOption::Other { kind: 24, data: &data })?;
        }
        // RFC 8106 §5.1: three times the longest interval.
        let lifetime = self.interval.1.saturating_mul(3);
        let servers: Vec<u8> = self.rdnss.iter().take(MOST).flat_map(|server| server.octets()).collect();
        if !servers.is_empty() {
            put(&mut out, NdpOption::Rdnss { lifetime, servers: &servers })?;
        }
        let names = search(&self.dnssl);
        if !names.is_empty() {
            let mut data = vec![0, 0];
            data.extend(lifetime.to_be_bytes());
            data.extend(names);
            data.resize((data.len() + 2).next_multiple_of(8) - 2, 0);
            put(&mut out, NdpOption::Other { kind: 31, data: &data })?;
        }
        Some(out)
    }
}

fn put(out: &mut Vec<u8>, option: NdpOption<'_>) -> Option<()> {
    let at = out.len();
    out.resize(at + option.wire_len(), 0);
    option.emit(out.get_mut(at..)?).ok().map(drop)
}

/// The names of a search list without pointers (RFC 8106 §5.2).
fn search(domains: &[String]) -> Vec<u8> {
    domains.iter().take(MOST).flat_map(|domain| crate::name::wire(domain).unwrap_or_default()).collect()
}

fn masked(address: Ipv6Addr, len: u8) -> Ipv6Addr {
    let mask = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
    Ipv6Addr::from(u128::from(address) & mask)
}

/// A router on one link, with its timer.
#[derive(Debug)]
pub struct Router {
    config: Config,
    next: u64,
    sent: u8,
}

impl Router {
    /// A router that advertises first at `now` (milliseconds of any steady clock).
    #[must_use]
    pub fn new(config: Config, now: u64) -> Self {
        Self { config, next: now, sent: 0 }
    }

    /// What it says.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Says something else from now on: soon, and at short intervals, as after the start
    /// (RFC 4861 §6.2.4).
    pub fn configure(&mut self, config: Config, now: u64) {
        (self.config, self.next, self.sent) = (config, now, 0);
    }

    /// When [`Self::poll`] has something to say next, in milliseconds.
    #[must_use]
    pub fn next_at(&self) -> u64 {
        self.next
    }

    /// The unsolicited advertisement that is due, for every port. `random` is any random number.
    pub fn poll(&mut self, now: u64, random: u64) -> Option<Vec<u8>> {
        if now < self.next {
            return None;
        }
        let (min, max) = self.config.interval;
        let max = u64::from(max.clamp(4, 1800)) * 1000;
        let min = (u64::from(min) * 1000).clamp(3000, (max / 4 * 3).max(3000));
        let mut wait = min + random % (max - min + 1);
        if self.sent < INITIAL {
            self.sent += 1;
            wait = wait.min(INITIAL_INTERVAL);
        }
        self.next = now.saturating_add(wait);
        self.config.advertisement(ALL_NODES, ndp::multicast_mac(ALL_NODES), &Tags::new(), false)
    }

    /// The answer to a frame, if it is a router solicitation that is to be answered (RFC 4861
    /// §6.1.1): for the port it came from.
    #[must_use]
    pub fn handle_frame(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let eth = EthernetView::parse(frame).ok()?;
        let (tags, ether_type, bytes) = read_tags(&eth).ok()?;
        if ether_type != EtherType::IPV6 {
            return None;
        }
        let ip = Ipv6View::parse(bytes).ok()?;
        let icmp = Icmpv6View::parse(ip.payload()).ok()?;
        let pseudo = Sum::pseudo_v6(ip.src(), ip.dst(), IpProto::ICMPV6, ip.payload().len() as u32);
        // The hop limit proves that the sender is on the link.
        if ip.next_header() != IpProto::ICMPV6 || ip.hop_limit() != 255 || !icmp.checksum_ok(pseudo) {
            return None;
        }
        let solicit = NdpRepr::parse(&icmp).ok().filter(|ndp| ndp.message == NdpMessage::RouterSolicit)?;
        let link = NdpOptions::new(solicit.options).flatten().find_map(|option| match option {
            NdpOption::SourceLink(mac) => Some(mac),
            _ => None,
        });
        if ip.src().is_unspecified() {
            // Without an address there is no link address to name (RFC 4861 §6.1.1).
            let mac = ndp::multicast_mac(ALL_NODES);
            return link.is_none().then(|| self.config.advertisement(ALL_NODES, mac, &tags, false))?;
        }
        if ip.src().is_multicast() {
            return None;
        }
        self.config.advertisement(
            ip.src(),
            link.filter(|m| m.is_unicast()).unwrap_or(eth.src()),
            &tags,
            false,
        )
    }
}

#[cfg(test)]
mod tests;
