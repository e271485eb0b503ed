//! Whom does the node itself ask for names? `resolv.conf(5)`, read again when it changes.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::time::SystemTime;

use weft_host::netlink::Netlink;

/// Servers that are used at most.
const MOST: usize = 8;
/// Bytes of the file that are read at most.
const LONGEST: u64 = 64 << 10;

/// The file, as it was read last.
#[derive(Debug)]
pub(super) struct Resolv {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    servers: Vec<SocketAddr>,
}

impl Resolv {
    pub(super) fn new(path: PathBuf) -> Resolv {
        Resolv { path, seen: None, servers: Vec::new() }
    }

    /// Its servers.
    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    /// Reads it if it is not as it was. True: there are other servers now.
    pub(super) fn look(&mut self) -> bool {
        let seen = std::fs::metadata(&self.path).ok().and_then(|m| Some((m.modified().ok()?, m.len())));
        if seen == self.seen {
            return false;
        }
        self.seen = seen;
        let text = std::fs::File::open(&self.path).and_then(|file| {
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, LONGEST), &mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        });
        let servers = parse(&text.unwrap_or_default(), index_of);
        let changed = servers != self.servers;
        self.servers = servers;
        changed
    }
}

fn index_of(device: &str) -> Option<u32> {
    Netlink::open().ok()?.index_of(device).ok()
}

fn parse(text: &str, index_of: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let word = words.next().filter(|w| *w == "nameserver").and(words.next())?;
        let (address, scope) = word.split_once('%').map_or((word, None), |(a, s)| (a, Some(s)));
        match (address.parse().ok()?, scope) {
            (IpAddr::V6(ip), Some(scope)) => {
                let index = scope.parse().ok().or_else(|| index_of(scope))?;
                Some(SocketAddrV6::new(ip, 53, 0, index).into())
            }
            (ip, None) if !ip.is_unspecified() && !ip.is_multicast() => Some(SocketAddr::new(ip, 53)),
            _ => None,
        }
    };
    text.lines().filter_map(server).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 x\n\
                    nameserver fe80::1%eth0\nnameserver nonsense\nnameserver 0.0.0.0\nnameserver\n";
        let found = parse(text, |device| (device == "eth0").then_some(7));
        let want = ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53"].map(|s| s.parse().unwrap());
        assert_eq!(found, want);
    }

    #[test]
    fn a_change_is_noticed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut resolv = Resolv::new(file.path().to_owned());
        assert!(!resolv.look());
        std::fs::write(file.path(), "nameserver 192.0.2.1\n").unwrap();
        assert!(resolv.look() && !resolv.look());
        std::fs::remove_file(file.path()).unwrap();
        assert!(resolv.look() && resolv.servers().is_empty());
    }
}
