//! What does an operator say about names?

use core::net::{IpAddr, SocketAddr};

/// The name server of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The network's domain: the server is authoritative for it.
    pub domain: Option<String>,
    /// Names of the domain that are not known here do not exist; otherwise forwarders are asked.
    pub local_only: bool,
    /// Subnets (address, prefix bits) whose reverse names the server is authoritative for.
    pub subnets: Vec<(IpAddr, u8)>,
    /// The server's own addresses: what `ns.<domain>` is.
    pub addresses: Vec<IpAddr>,
    /// Records, of the domain or of any other name.
    pub records: Vec<Entry>,
    /// Seconds that answers about the network's own names may be remembered; also the time that
    /// their absence may be.
    pub ttl: u32,
    /// Who is asked for everything else, in this order.
    pub forwarders: Vec<SocketAddr>,
    /// Who is asked about certain domains; the longest counts. Without servers, their unknown
    /// names do not exist.
    pub domains: Vec<Forward>,
    /// Ask forwarders about names of one label, too.
    pub forward_plain_names: bool,
    /// Clients (address, prefix bits) that are answered; all when empty.
    pub allow: Vec<(IpAddr, u8)>,
    /// Most answers of forwarders that are remembered.
    pub cache_entries: usize,
    /// Most questions on their way to forwarders, in all and for one client.
    pub pending: (usize, usize),
    /// Longest answer over UDP (RFC 6891 §6.2.5; 1232 fits every path).
    pub max_udp: u16,
    /// Milliseconds until the next forwarder is asked.
    pub timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domain: None,
            local_only: false,
            subnets: Vec::new(),
            addresses: Vec::new(),
            records: Vec::new(),
            ttl: 60,
            forwarders: Vec::new(),
            domains: Vec::new(),
            forward_plain_names: false,
            allow: Vec::new(),
            cache_entries: 10_000,
            pending: (4096, 256),
            max_udp: 1232,
            timeout_ms: 1500,
        }
    }
}

/// A domain and who is asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The domain.
    pub domain: String,
    /// Its servers.
    pub servers: Vec<SocketAddr>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name: a name of one label is one of the network's domain, if there is a domain.
    pub name: String,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An address (A, AAAA); the reverse name follows from it.
    Address(IpAddr),
    /// Text (TXT): strings of at most 255 bytes.
    Txt(Vec<String>),
    /// A service (SRV, RFC 2782).
    Srv {
        /// Lower is asked first.
        priority: u16,
        /// Share among equals.
        weight: u16,
        /// Port.
        port: u16,
        /// Host; "." for "not here".
        target: String,
    },
    /// An alias (CNAME).
    Alias(String),
}

/// True when `net` (address, prefix bits) holds `address`; families must agree.
#[must_use]
pub fn holds(net: (IpAddr, u8), address: IpAddr) -> bool {
    use crate::lease::Address;
    let same = |a: u128, b: u128, bits: u8| {
        (a ^ b).checked_shr(u32::from(bits.saturating_sub(net.1))).unwrap_or(0) == 0
    };
    match (net.0, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.number(), b.number(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.number(), b.number(), 128),
        _ => false,
    }
}
