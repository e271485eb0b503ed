//! What does an operator say about DHCPv6: subnets, ranges, fixed hosts, options?

use core::net::Ipv6Addr;

use weft_wire::Mac;

use super::message::code;

/// The DHCPv6 server of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Ethernet address that replies come from.
    pub mac: Mac,
    /// Link-local address that replies come from; the one of `mac` when absent.
    pub source: Option<Ipv6Addr>,
    /// The server's DUID; it must not change between restarts.
    pub duid: Vec<u8>,
    /// How much clients shall prefer this server; 255: do not wait for others.
    pub preference: u8,
    /// Subnets: those on the network itself, and those behind relays. None for a server that only
    /// informs.
    pub subnets: Vec<Subnet>,
    /// Most dynamic addresses for one Ethernet address, whatever identifiers it invents; 0 for no
    /// limit.
    pub per_mac: usize,
    /// Seconds an advertised address is kept for its client.
    pub offer_seconds: u32,
    /// Seconds a declined address is given to nobody.
    pub decline_seconds: u32,
    /// Seconds until an informed client asks again (RFC 8415 §21.23), at least 600.
    pub refresh_seconds: u32,
    /// Options for clients of no subnet, too: what INFORMATION-REQUEST gets.
    pub options: Options,
}

impl Config {
    /// A server without subnets, known by its Ethernet address (DUID-LL, RFC 8415 §11.4).
    #[must_use]
    pub fn new(mac: Mac) -> Self {
        let mut duid = vec![0, 3, 0, 1];
        duid.extend(mac.0);
        Self {
            mac,
            source: None,
            duid,
            preference: 0,
            subnets: Vec::new(),
            per_mac: 16,
            offer_seconds: 60,
            decline_seconds: 3600,
            refresh_seconds: 86_400,
            options: Options::default(),
        }
    }
}

/// A subnet that addresses are given in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The subnet's address.
    pub network: Ipv6Addr,
    /// Bits of its prefix.
    pub prefix_len: u8,
    /// Only behind relays.
    pub relayed: bool,
    /// First and last address of each range.
    pub ranges: Vec<(Ipv6Addr, Ipv6Addr)>,
    /// Addresses that are valid, and preferred, for another time: first, last, seconds.
    pub range_seconds: Vec<(Ipv6Addr, Ipv6Addr, u32)>,
    /// Addresses in ranges that are not given out; those of fixed hosts need not be named.
    pub reserved: Vec<Ipv6Addr>,
    /// Seconds an address is valid; `u32::MAX` for ever.
    pub valid_seconds: u32,
    /// Seconds it is preferred: not more than valid.
    pub preferred_seconds: u32,
    /// T1; half of preferred when absent (RFC 8415 §21.4).
    pub renew_seconds: Option<u32>,
    /// T2; 4/5 of preferred when absent.
    pub rebind_seconds: Option<u32>,
    /// Serve fixed hosts only.
    pub known_only: bool,
    /// Answer SOLICIT with REPLY when the client wants that (RFC 8415 §18.3.1).
    pub rapid_commit: bool,
    /// Fixed hosts.
    pub hosts: Vec<Host>,
    /// Options that go before the server's.
    pub options: Options,
}

impl Subnet {
    /// A subnet without ranges and hosts; addresses are valid for an hour.
    #[must_use]
    pub fn new(network: Ipv6Addr, prefix_len: u8) -> Self {
        Self {
            network,
            prefix_len: prefix_len.min(128),
            relayed: false,
            ranges: Vec::new(),
            range_seconds: Vec::new(),
            reserved: Vec::new(),
            valid_seconds: 3600,
            preferred_seconds: 3600,
            renew_seconds: None,
            rebind_seconds: None,
            known_only: false,
            rapid_commit: false,
            hosts: Vec::new(),
            options: Options::default(),
        }
    }
}

/// How a fixed host is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostId {
    /// By its Ethernet address: the frame's source, or what the relay says (RFC 6939).
    Mac(Mac),
    /// By its DUID.
    Duid(Vec<u8>),
    /// By the name it gives itself (option 39), a DNS label in lower case. Whoever says a name may be
    /// anybody: hosts known otherwise go before.
    Name(String),
}

/// A host with settings of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// How it is known.
    pub id: HostId,
    /// The address it always gets; a dynamic one when absent.
    pub address: Option<Ipv6Addr>,
    /// Its name.
    pub name: Option<String>,
    /// Seconds its address is valid, and preferred.
    pub lease_seconds: Option<u32>,
    /// Options that go before the subnet's.
    pub options: Options,
}

/// Options that are sent to clients that ask for them. Empty and absent ones are not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Name servers (23).
    pub dns: Vec<Ipv6Addr>,
    /// Search list (24).
    pub search: Vec<String>,
    /// NTP servers (56, and 31 for older clients).
    pub ntp: Vec<Ipv6Addr>,
    /// Boot file URL (59, RFC 5970).
    pub boot_url: Option<String>,
    /// The client's domain, appended to its name in answers to option 39.
    pub domain: Option<String>,
    /// Any other option.
    pub raw: Vec<(u16, Vec<u8>)>,
}

impl Options {
    /// The options as bytes.
    pub(super) fn encode(&self) -> Vec<(u16, Vec<u8>)> {
        if *self == Options::default() {
            return Vec::new();
        }
        let addresses = |list: &[Ipv6Addr]| list.iter().flat_map(|a| a.octets()).collect::<Vec<u8>>();
        // RFC 5908 §4.1: each server is a sub-option of its own.
        let ntp = self.ntp.iter().flat_map(|a| [&[0, 1, 0, 16][..], &a.octets()].concat()).collect();
        let search =
            self.search.iter().flat_map(|name| crate::name::wire(name).unwrap_or_default()).collect();
        let mut all = vec![
            (code::DNS, addresses(&self.dns)),
            (code::SEARCH, search),
            (code::NTP, ntp),
            (code::SNTP, addresses(&self.ntp)),
            (code::BOOT_URL, self.boot_url.clone().unwrap_or_default().into_bytes()),
        ];
        all.retain(|(code, value)| !value.is_empty() && self.raw.iter().all(|(raw, _)| raw != code));
        all.extend(self.raw.iter().cloned());
        all
    }
}
