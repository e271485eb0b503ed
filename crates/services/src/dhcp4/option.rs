//! Which DHCPv4 options are there, and how are their values encoded? (RFC 2132 and later)

use core::net::Ipv4Addr;

/// Option codes, each with its source.
pub mod code {
    /// Padding (RFC 2132 §3.1).
    pub const PAD: u8 = 0;
    /// Subnet mask (§3.3).
    pub const SUBNET_MASK: u8 = 1;
    /// Routers (§3.5).
    pub const ROUTER: u8 = 3;
    /// Name servers (§3.8).
    pub const DNS: u8 = 6;
    /// The client's name (§3.14).
    pub const HOST_NAME: u8 = 12;
    /// The client's domain (§3.17).
    pub const DOMAIN_NAME: u8 = 15;
    /// Interface MTU (§5.1).
    pub const MTU: u8 = 26;
    /// Broadcast address (§5.3).
    pub const BROADCAST: u8 = 28;
    /// NTP servers (§8.3).
    pub const NTP: u8 = 42;
    /// Vendor-specific information (§8.4).
    pub const VENDOR: u8 = 43;
    /// Requested address (§9.1).
    pub const REQUESTED: u8 = 50;
    /// Lease time (§9.2).
    pub const LEASE_TIME: u8 = 51;
    /// Overload of `file` and `sname` (§9.3).
    pub const OVERLOAD: u8 = 52;
    /// Message type (§9.6).
    pub const MESSAGE_TYPE: u8 = 53;
    /// Server identifier (§9.7).
    pub const SERVER_ID: u8 = 54;
    /// Parameter request list (§9.8).
    pub const PARAMETERS: u8 = 55;
    /// Error text (§9.9).
    pub const MESSAGE: u8 = 56;
    /// Longest message the client takes (§9.10).
    pub const MAX_SIZE: u8 = 57;
    /// T1 (§9.11).
    pub const RENEWAL: u8 = 58;
    /// T2 (§9.12).
    pub const REBINDING: u8 = 59;
    /// Vendor class (§9.13).
    pub const VENDOR_CLASS: u8 = 60;
    /// Client identifier (§9.14).
    pub const CLIENT_ID: u8 = 61;
    /// TFTP server name (§9.4).
    pub const TFTP_SERVER: u8 = 66;
    /// Boot file name (§9.5).
    pub const BOOT_FILE: u8 = 67;
    /// User class (RFC 3004).
    pub const USER_CLASS: u8 = 77;
    /// Rapid commit (RFC 4039).
    pub const RAPID_COMMIT: u8 = 80;
    /// The client's full name (RFC 4702).
    pub const FQDN: u8 = 81;
    /// Relay agent information (RFC 3046).
    pub const RELAY_AGENT: u8 = 82;
    /// Client system architecture (RFC 4578 §2.1).
    pub const ARCHITECTURE: u8 = 93;
    /// Client machine identifier (RFC 4578 §2.3).
    pub const MACHINE_ID: u8 = 97;
    /// IPv6-only preferred (RFC 8925).
    pub const V6_ONLY: u8 = 108;
    /// Captive portal (RFC 8910).
    pub const CAPTIVE_PORTAL: u8 = 114;
    /// Subnet selection (RFC 3011).
    pub const SUBNET: u8 = 118;
    /// Domain search list (RFC 3397).
    pub const SEARCH: u8 = 119;
    /// Classless static routes (RFC 3442).
    pub const ROUTES: u8 = 121;
    /// iPXE's encapsulated options.
    pub const IPXE: u8 = 175;
    /// End (RFC 2132 §3.2).
    pub const END: u8 = 255;
    /// Relay sub-option: link selection (RFC 3527).
    pub const RELAY_LINK: u8 = 5;
    /// Relay sub-option: server identifier override (RFC 5107).
    pub const RELAY_SERVER_ID: u8 = 11;
}

/// A route for option 121.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub network: Ipv4Addr,
    /// Bits of the prefix, 0–32.
    pub prefix_len: u8,
    /// By which router; 0.0.0.0 for "on the link" (RFC 3442, "Local Subnet Routes").
    pub via: Ipv4Addr,
}

/// A list of addresses: options 3, 6, 42.
#[must_use]
pub fn addresses(list: &[Ipv4Addr]) -> Vec<u8> {
    list.iter().flat_map(|address| address.octets()).collect()
}

/// Classless static routes (RFC 3442): prefix length, the significant bytes, the router.
#[must_use]
pub fn routes(list: &[Route]) -> Vec<u8> {
    let mut out = Vec::new();
    for route in list {
        let bits = route.prefix_len.min(32);
        let mask = u32::MAX.checked_shl(u32::from(32 - bits)).unwrap_or(0);
        let network = (u32::from(route.network) & mask).to_be_bytes();
        out.push(bits);
        out.extend(network.iter().take(usize::from(bits.div_ceil(8))));
        out.extend(route.via.octets());
    }
    out
}

/// A domain search list (RFC 3397 §2): names of RFC 1035 §3.1, endings shared by pointers.
///
/// Names with an empty or overlong label, or longer than 255 bytes, are left out.
#[must_use]
pub fn search(domains: &[String]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    // Endings that were written: where they stand.
    let mut known: Vec<(String, usize)> = Vec::new();
    for domain in domains {
        let name = domain.trim_matches('.').to_ascii_lowercase();
        if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
            continue;
        }
        let mut rest = name.as_str();
        loop {
            if let Some((_, at)) = known.iter().find(|(ending, _)| ending == rest) {
                out.extend((0xc000 | *at as u16).to_be_bytes());
                break;
            }
            if out.len() < 0x4000 {
                known.push((rest.to_owned(), out.len()));
            }
            let (label, tail) = rest.split_once('.').unwrap_or((rest, ""));
            out.push(label.len() as u8);
            out.extend(label.as_bytes());
            if tail.is_empty() {
                out.push(0);
                break;
            }
            rest = tail;
        }
    }
    out
}

/// PXE's vendor options (RFC 4578 is about the rest; PXE 2.1 §2.2.2): discovery control 8, "take
/// the boot file of this reply and look for no other server".
#[must_use]
pub fn pxe_no_discovery() -> Vec<u8> {
    vec![6, 1, 8, code::END]
}

/// A name that a client gave, made a DNS label: letters, digits and hyphens of its first label,
/// in lower case. None when nothing is left (RFC 1123 §2.1).
#[must_use]
pub fn label(name: &[u8]) -> Option<String> {
    let first = name.split(|b| *b == b'.' || *b == 0).next()?;
    let label: String = first
        .iter()
        .map(|b| b.to_ascii_lowercase() as char)
        .map(|c| if c == '_' || c == ' ' { '-' } else { c })
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(63)
        .collect();
    let label = label.trim_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

/// The name in a client's FQDN option (RFC 4702 §2): behind three bytes, either text or, with the
/// E flag, labels of RFC 1035.
#[must_use]
pub fn fqdn(value: &[u8]) -> Option<String> {
    let [flags, _, _, name @ ..] = value else { return None };
    if flags & 0b100 == 0 {
        return label(name);
    }
    let [len @ 1..=63, rest @ ..] = name else { return None };
    label(rest.get(..usize::from(*len))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
        Ipv4Addr::new(a, b, c, d)
    }

    #[test]
    fn routes_as_in_rfc_3442() {
        let route = |network, prefix_len| Route { network, prefix_len, via: ip(9, 9, 9, 9) };
        for (r, want) in [
            (route(ip(0, 0, 0, 0), 0), &[0][..]),
            (route(ip(10, 0, 0, 0), 8), &[8, 10]),
            (route(ip(10, 0, 0, 0), 24), &[24, 10, 0, 0]),
            (route(ip(10, 17, 0, 0), 16), &[16, 10, 17]),
            (route(ip(10, 229, 0, 128), 25), &[25, 10, 229, 0, 128]),
            (route(ip(10, 198, 122, 47), 32), &[32, 10, 198, 122, 47]),
            (route(ip(10, 255, 255, 255), 9), &[9, 10, 128]),
        ] {
            let got = routes(&[r]);
            assert_eq!(got.split_at(want.len()), (want, &[9, 9, 9, 9][..]), "{r:?}");
        }
    }

    #[test]
    fn search_shares_endings_as_in_rfc_3397() {
        let got = search(&["eng.apple.com".into(), "marketing.apple.com.".into(), "apple.com".into()]);
        let want = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04\xc0\x04";
        assert_eq!(got, want);
        assert!(search(&["a..b".into(), "".into(), format!("{}.x", "l".repeat(64))]).is_empty());
    }

    #[test]
    fn names_become_labels() {
        for (name, want) in [
            (&b"Web-1"[..], Some("web-1")),
            (b"web.example.org", Some("web")),
            (b"my_vm 1\0", Some("my-vm-1")),
            (b"-x-", Some("x")),
            (b"\xff\xfe", None),
            (b"", None),
        ] {
            assert_eq!(label(name).as_deref(), want, "{name:?}");
        }
        assert_eq!(fqdn(b"\x04\0\0\x03Web\x02ex\0").as_deref(), Some("web"));
        assert_eq!(fqdn(b"\x00\0\0web.ex").as_deref(), Some("web"));
        assert!(fqdn(b"\x04\0\0\x09We").is_none() && fqdn(b"\x04\0").is_none());
    }
}
