//! What does an operator say about DHCPv4: subnets, ranges, fixed hosts, options, boot files?

use core::net::Ipv4Addr;

use weft_wire::Mac;

use super::message::Message;
use super::option::{self, Route, code};

/// The DHCPv4 server of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Ethernet address that replies come from.
    pub mac: Mac,
    /// Subnets: those on the network itself, and those behind relays.
    pub subnets: Vec<Subnet>,
    /// There is no other server: a client that asks for an address this server knows nothing
    /// about gets it, or a NAK, instead of silence (RFC 2131 §4.3.2 leaves such requests to the
    /// server that knows).
    pub authoritative: bool,
    /// A client on the link must speak from the hardware address it names (`chaddr`): what guards
    /// frames against forged sources then guards leases, too. Relayed requests are the relay's to
    /// check.
    pub strict_mac: bool,
    /// Most dynamic addresses for one Ethernet address, whatever identifiers it invents; 0 for no
    /// limit.
    pub per_mac: usize,
    /// Seconds an offer is kept for its client.
    pub offer_seconds: u32,
    /// Seconds a declined address is given to nobody.
    pub decline_seconds: u32,
}

impl Config {
    /// An authoritative server without subnets, that gives one client 16 addresses at most.
    #[must_use]
    pub fn new(mac: Mac) -> Self {
        Self {
            mac,
            subnets: Vec::new(),
            authoritative: true,
            strict_mac: true,
            per_mac: 16,
            offer_seconds: 60,
            decline_seconds: 3600,
        }
    }
}

/// A subnet that addresses are given in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The subnet's address.
    pub network: Ipv4Addr,
    /// Bits of its prefix.
    pub prefix_len: u8,
    /// Server identifier (option 54): an address of this server that clients of the subnet reach.
    pub server: Ipv4Addr,
    /// Only behind relays: never offered to clients on the network itself.
    pub relayed: bool,
    /// Ask the caller to probe an address before it is offered to a client that did not hold it
    /// (RFC 2131 §2.2, §4.3.1).
    pub probe: bool,
    /// First and last address of each range.
    pub ranges: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Addresses whose leases last otherwise than `lease_seconds`: first, last, seconds.
    pub range_seconds: Vec<(Ipv4Addr, Ipv4Addr, u32)>,
    /// Addresses in ranges that are not given out. The server's, the routers' and those of fixed
    /// hosts need not be named.
    pub reserved: Vec<Ipv4Addr>,
    /// Seconds of a lease; `u32::MAX` for ever. Clients may ask for less, not for more.
    pub lease_seconds: u32,
    /// Seconds until a client renews (T1); half of the lease when absent (RFC 2131 §4.4.5).
    pub renew_seconds: Option<u32>,
    /// Seconds until a client asks any server (T2); 7/8 of the lease when absent.
    pub rebind_seconds: Option<u32>,
    /// Serve fixed hosts only.
    pub known_only: bool,
    /// Know clients by their hardware address even when they send an identifier: one machine
    /// keeps its address from firmware to operating system.
    pub ignore_client_id: bool,
    /// Answer DISCOVER with ACK when the client offers to take it (RFC 4039).
    pub rapid_commit: bool,
    /// Fixed hosts.
    pub hosts: Vec<Host>,
    /// Options for every client.
    pub options: Options,
    /// Boot files; the first that fits counts.
    pub boot: Vec<Boot>,
}

impl Subnet {
    /// A subnet without ranges and hosts, leases of an hour.
    #[must_use]
    pub fn new(network: Ipv4Addr, prefix_len: u8, server: Ipv4Addr) -> Self {
        Self {
            network,
            prefix_len: prefix_len.min(32),
            server,
            relayed: false,
            probe: false,
            ranges: Vec::new(),
            range_seconds: Vec::new(),
            reserved: Vec::new(),
            lease_seconds: 3600,
            renew_seconds: None,
            rebind_seconds: None,
            known_only: false,
            ignore_client_id: false,
            rapid_commit: false,
            hosts: Vec::new(),
            options: Options::default(),
            boot: Vec::new(),
        }
    }

    /// The subnet mask.
    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        u32::MAX.checked_shl(u32::from(32 - self.prefix_len.min(32))).unwrap_or(0).into()
    }

    /// The broadcast address.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        (u32::from(self.network) | !u32::from(self.mask())).into()
    }
}

/// How a fixed host is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostId {
    /// By its Ethernet address.
    Mac(Mac),
    /// By its client identifier, type byte included (RFC 2132 §9.14).
    ClientId(Vec<u8>),
    /// By the name it gives itself (options 12 and 81), as [`option::label`] writes it. Whoever says a
    /// name may be anybody: hosts known otherwise go before.
    Name(String),
}

/// A host with settings of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// How it is known.
    pub id: HostId,
    /// The address it always gets; a dynamic one when absent.
    pub address: Option<Ipv4Addr>,
    /// Its name; what the client says of itself does not count then.
    pub name: Option<String>,
    /// Seconds of its lease.
    pub lease_seconds: Option<u32>,
    /// Options that differ from the subnet's.
    pub options: Options,
    /// Boot files that go before the subnet's.
    pub boot: Vec<Boot>,
}

impl Host {
    /// A host that always gets `address`.
    #[must_use]
    pub fn fixed(mac: Mac, address: Ipv4Addr) -> Self {
        Self {
            id: HostId::Mac(mac),
            address: Some(address),
            name: None,
            lease_seconds: None,
            options: Options::default(),
            boot: Vec::new(),
        }
    }
}

/// Options that are sent to clients that ask for them (option 55), or to all when a client names
/// none. Empty and absent ones are not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Routers (3). Isolated networks have none.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers (6).
    pub dns: Vec<Ipv4Addr>,
    /// Domain (15).
    pub domain: Option<String>,
    /// Search list (119).
    pub search: Vec<String>,
    /// MTU (26).
    pub mtu: Option<u16>,
    /// NTP servers (42).
    pub ntp: Vec<Ipv4Addr>,
    /// Classless routes (121). A default route by the first router is added when none is here:
    /// clients that take this option do not look at routers (RFC 3442).
    pub routes: Vec<Route>,
    /// TFTP server name (66).
    pub tftp_server: Option<String>,
    /// Captive portal's API (114).
    pub captive_portal: Option<String>,
    /// Any other option, or one of the above in other bytes.
    pub raw: Vec<(u8, Vec<u8>)>,
    /// Codes that are sent to clients that did not ask for them, too.
    pub force: Vec<u8>,
}

/// Options as bytes, by code.
pub(super) type OptionSet = Vec<(u8, Box<[u8]>)>;

impl Options {
    /// The options as bytes, sorted by code.
    pub(super) fn encode(&self) -> OptionSet {
        let mut set: OptionSet = Vec::new();
        let mut put = |code: u8, value: Vec<u8>| {
            set.retain(|(c, _)| *c != code);
            set.push((code, value.into()));
        };
        let text = |s: &Option<String>| s.clone().unwrap_or_default().into_bytes();
        let mut routes = self.routes.clone();
        if let Some(via) = self.routers.first()
            && !routes.is_empty()
            && routes.iter().all(|route| route.prefix_len != 0)
        {
            routes.push(Route { network: Ipv4Addr::UNSPECIFIED, prefix_len: 0, via: *via });
        }
        for (code, value) in [
            (code::ROUTER, option::addresses(&self.routers)),
            (code::DNS, option::addresses(&self.dns)),
            (code::DOMAIN_NAME, text(&self.domain)),
            (code::SEARCH, option::search(&self.search)),
            (code::MTU, self.mtu.map(|mtu| mtu.to_be_bytes().to_vec()).unwrap_or_default()),
            (code::NTP, option::addresses(&self.ntp)),
            (code::ROUTES, option::routes(&routes)),
            (code::TFTP_SERVER, text(&self.tftp_server)),
            (code::CAPTIVE_PORTAL, text(&self.captive_portal)),
        ] {
            if !value.is_empty() {
                put(code, value);
            }
        }
        for (code, value) in &self.raw {
            if !matches!(*code, code::PAD | code::END | code::OVERLOAD | code::MESSAGE_TYPE) {
                put(*code, value.clone());
            }
        }
        set.sort_by_key(|(code, _)| *code);
        set
    }
}

/// A boot file and who gets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// Client architectures (option 93, RFC 4578 §2.1: 0 BIOS, 7 and 9 x86-64 UEFI, 11 ARM64 UEFI,
    /// 16 x86-64 HTTP); empty for all, those without the option included.
    pub architectures: Vec<u16>,
    /// Only for iPXE, or only for others.
    pub ipxe: Option<bool>,
    /// Only for vendor classes (option 60) that begin so.
    pub vendor_class: Option<String>,
    /// File name or URL; empty: that of the next one that fits, if any, and only `next_server` is of this one.
    pub file: String,
    /// Where it is (`siaddr`); the server itself when absent.
    pub next_server: Option<Ipv4Addr>,
    /// Name of where it is (`sname`).
    pub server_name: Option<String>,
}

impl Boot {
    /// True when the client that sent `message` gets this file.
    #[must_use]
    pub fn fits(&self, message: &Message<'_>) -> bool {
        let architecture = || {
            let value = message.option(code::ARCHITECTURE)?;
            let fits =
                |c: &[u8]| c.try_into().is_ok_and(|c| self.architectures.contains(&u16::from_be_bytes(c)));
            Some(value.chunks_exact(2).any(fits))
        };
        let class = |want: &String| {
            message.option(code::VENDOR_CLASS).is_some_and(|value| value.starts_with(want.as_bytes()))
        };
        (self.architectures.is_empty() || architecture().unwrap_or(false))
            && self.ipxe.is_none_or(|want| want == is_ipxe(message))
            && self.vendor_class.as_ref().is_none_or(class)
    }
}

/// True for iPXE: it sends its own options (175), or its name as user class (77), with or without
/// the length bytes that RFC 3004 §4 wants.
#[must_use]
pub fn is_ipxe(message: &Message<'_>) -> bool {
    message.has(code::IPXE)
        || message
            .option(code::USER_CLASS)
            .is_some_and(|value| matches!(&*value, b"iPXE" | b"gPXE" | b"\x04iPXE" | b"\x04gPXE"))
}
