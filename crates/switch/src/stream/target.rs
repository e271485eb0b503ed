//! What does a connection string of ovsdb(7) mean: `punix:`, `ptcp:`, `pssl:`, `unix:`, `tcp:`, `ssl:`?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Port that IANA gave to OVSDB.
pub(crate) const OVSDB_PORT: u16 = 6640;
/// Port that IANA gave to OpenFlow.
pub(crate) const OPENFLOW_PORT: u16 = 6653;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Listen {
    /// A socket file.
    Unix(PathBuf),
    /// A TCP address, with TLS or without.
    Tcp {
        /// Address; the unspecified IPv6 address takes IPv4 too.
        addr: SocketAddr,
        /// Whether connections speak TLS.
        tls: bool,
    },
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dial {
    /// A socket file.
    Unix(PathBuf),
    /// A host, with TLS or without.
    Tcp {
        /// Address or name.
        host: String,
        /// Port.
        port: u16,
        /// Whether the connection speaks TLS.
        tls: bool,
    },
}

/// A parsed connection string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// Wait for peers.
    Passive(Listen),
    /// Reach for a peer.
    Active(Dial),
}

/// Why a connection string was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// The part before the colon is no method we have.
    #[error("{0}: not a connection method (use punix:, ptcp:, pssl:, unix:, tcp: or ssl:)")]
    Method(String),
    /// The address or port cannot be read.
    #[error("{0}: bad address or port")]
    Address(String),
}

impl Target {
    /// Reads a connection string. `port` stands in for one not given; a relative socket file is in `rundir`.
    pub(crate) fn parse(text: &str, port: u16, rundir: &Path) -> Result<Target, TargetError> {
        let bad = || TargetError::Address(text.to_owned());
        let (method, rest) = text.split_once(':').ok_or_else(|| TargetError::Method(text.to_owned()))?;
        Ok(match method {
            "punix" if !rest.is_empty() => Target::Passive(Listen::Unix(rundir.join(rest))),
            "unix" if !rest.is_empty() => Target::Active(Dial::Unix(rundir.join(rest))),
            "ptcp" | "pssl" => {
                let addr = listen_address(rest, port).ok_or_else(bad)?;
                Target::Passive(Listen::Tcp { addr, tls: method == "pssl" })
            }
            "tcp" | "ssl" => {
                let (host, port) = host_port(rest, port).ok_or_else(bad)?;
                Target::Active(Dial::Tcp { host, port, tls: method == "ssl" })
            }
            "punix" | "unix" => return Err(bad()),
            _ => return Err(TargetError::Method(text.to_owned())),
        })
    }

    /// Whether peers are waited for.
    pub(crate) fn is_passive(&self) -> bool {
        matches!(self, Target::Passive(_))
    }
}

/// `[port][:host]` of a passive method. Without host, all addresses of both families.
fn listen_address(text: &str, default: u16) -> Option<SocketAddr> {
    let (port, host) = match text.split_once(':') {
        Some((port, host)) => (port, Some(host)),
        None => (text, None),
    };
    let port = if port.is_empty() { default } else { port.parse().ok()? };
    let ip = match host {
        None | Some("") => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Some(host) => unbracket(host).parse().ok()?,
    };
    Some(SocketAddr::new(ip, port))
}

/// `host[:port]` of an active method; IPv6 addresses in brackets.
fn host_port(text: &str, default: u16) -> Option<(String, u16)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (host, rest) = inner.split_once(']')?;
        let _: Ipv6Addr = host.split('%').next()?.parse().ok()?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if rest.is_empty() => default,
            None => return None,
        };
        return Some((host.to_owned(), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, default),
    };
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    (plain && port != 0).then(|| (host.to_owned(), port))
}

fn unbracket(text: &str) -> &str {
    text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text)
}

/// The unspecified IPv4 address with the port of `addr`: where to listen when the host has no IPv6.
pub(super) fn ipv4_fallback(addr: SocketAddr) -> Option<SocketAddr> {
    (addr.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        .then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), addr.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(addr: &str, tls: bool) -> Target {
        Target::Passive(Listen::Tcp { addr: addr.parse().unwrap(), tls })
    }
    fn dial(host: &str, port: u16, tls: bool) -> Target {
        Target::Active(Dial::Tcp { host: host.into(), port, tls })
    }

    #[test]
    fn strings_parse() {
        let cases = [
            ("punix:db.sock", Some(Target::Passive(Listen::Unix("/run/x/db.sock".into())))),
            ("punix:/a/b", Some(Target::Passive(Listen::Unix("/a/b".into())))),
            ("unix:/a/b", Some(Target::Active(Dial::Unix("/a/b".into())))),
            ("ptcp:", Some(tcp("[::]:6640", false))),
            ("ptcp:16640", Some(tcp("[::]:16640", false))),
            ("ptcp:16640:127.0.0.1", Some(tcp("127.0.0.1:16640", false))),
            ("pssl:16640:[::1]", Some(tcp("[::1]:16640", true))),
            ("tcp:1.2.3.4", Some(dial("1.2.3.4", 6640, false))),
            ("ssl:[fe80::1]:77", Some(dial("fe80::1", 77, true))),
            ("tcp:[fe80::1]", Some(dial("fe80::1", 6640, false))),
            ("tcp:example.org:1", Some(dial("example.org", 1, false))),
            ("tcp:", None),
            ("tcp:1.2.3.4:0", None),
            ("tcp:1.2.3.4:99999", None),
            ("ptcp:x", None),
            ("ptcp:1:host", None),
            ("tcp:[zz]:1", None),
            ("tcp:[::1]x", None),
            ("punix:", None),
            ("bogus", None),
            ("none:1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Target::parse(text, OVSDB_PORT, Path::new("/run/x")).ok(), expected, "{text}");
        }
    }
}
