//! Which small values do resources share, and how are they written?

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use weft_wire::Mac;

/// A MAC address as text, `52:54:00:12:34:56`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub Mac);

impl TryFrom<String> for MacAddr {
    type Error = weft_wire::MacParseError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for MacAddr {
    type Err = weft_wire::MacParseError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.0.to_string()
    }
}

impl From<Mac> for MacAddr {
    fn from(mac: Mac) -> Self {
        Self(mac)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Addresses from `start` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressRange {
    /// First address.
    #[schema(value_type = String)]
    pub start: IpAddr,
    /// Last address, of the same family and not below `start`.
    #[schema(value_type = String)]
    pub end: IpAddr,
}

/// Why two addresses are no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// One is IPv4, the other IPv6.
    #[error("start and end are of different families")]
    Families,
    /// They are the wrong way around.
    #[error("end is below start")]
    Backwards,
}

impl AddressRange {
    /// A range, if it is one.
    ///
    /// # Errors
    /// [`RangeError`] for addresses of two families or in the wrong order.
    pub fn new(start: IpAddr, end: IpAddr) -> Result<Self, RangeError> {
        let range = Self { start, end };
        range.check().map(|()| range)
    }

    /// All addresses of a prefix, network and broadcast address included.
    #[must_use]
    pub fn of(net: IpNet) -> Self {
        Self { start: net.network(), end: net.broadcast() }
    }

    /// Says whether this is a range at all; what was parsed may not be.
    ///
    /// # Errors
    /// [`RangeError`] for addresses of two families or in the wrong order.
    pub fn check(&self) -> Result<(), RangeError> {
        match (self.start.is_ipv4() == self.end.is_ipv4(), self.start <= self.end) {
            (false, _) => Err(RangeError::Families),
            (true, false) => Err(RangeError::Backwards),
            (true, true) => Ok(()),
        }
    }

    /// True when the address lies in the range.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.start.is_ipv4() && self.start <= ip && ip <= self.end
    }

    /// True when the ranges share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start.is_ipv4() == other.start.is_ipv4() && self.start <= other.end && other.start <= self.end
    }

    /// The addresses that both have.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Option<Self> {
        let both = Self { start: self.start.max(other.start), end: self.end.min(other.end) };
        self.overlaps(other).then_some(both)
    }

    /// How many addresses there are, at most `u128::MAX`.
    #[must_use]
    pub fn count(&self) -> u128 {
        number(self.end).saturating_sub(number(self.start)).saturating_add(1)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// TCP or UDP ports from `start` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// First port.
    pub start: u16,
    /// Last port, not below `start`.
    pub end: u16,
}

/// A route: packets to `to` go to `via`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination prefix.
    #[schema(value_type = String, example = "10.9.0.0/16")]
    pub to: IpNet,
    /// Next hop, of the same family.
    #[schema(value_type = String, example = "10.0.0.254")]
    pub via: IpAddr,
    /// Lower is preferred; absent: the default of whoever installs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

/// The address as a number (32 bits for IPv4).
pub(crate) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Checks a DNS label of lower-case letters, digits and hyphens (RFC 1123 §2.1), at most 63 long.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_label(text: &str) -> Result<(), &'static str> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    match text.as_bytes() {
        [] => Err("is empty"),
        bytes if bytes.len() > 63 => Err("is longer than 63 characters"),
        bytes if !bytes.iter().copied().all(fits) => Err("has characters other than a-z, 0-9 and hyphen"),
        [b'-', ..] | [.., b'-'] => Err("begins or ends with a hyphen"),
        _ => Ok(()),
    }
}

/// Checks a domain name as people write it: labels of letters, digits, hyphens and underscores with dots between them,
/// at most 253 characters (RFC 1035 §2.3.4); a dot at the end is allowed.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_domain(text: &str) -> Result<(), &'static str> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err("is empty");
    }
    if name.len() > 253 {
        return Err("is longer than 253 characters");
    }
    for label in name.split('.') {
        let bytes = label.as_bytes();
        if bytes.is_empty() {
            return Err("has an empty label (two dots in a row)");
        }
        if bytes.len() > 63 {
            return Err("has a label longer than 63 characters");
        }
        if !bytes.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')) {
            return Err("has characters other than letters, digits, hyphen and underscore");
        }
        if bytes.first() == Some(&b'-') || bytes.last() == Some(&b'-') {
            return Err("has a label that begins or ends with a hyphen");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "web-1", "4d1b2c3e-0000-4000-8000-000000000000", &"a".repeat(63)] {
            assert_eq!(check_label(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn domains() {
        for good in ["a", "lab.example", "Lab.Example.", "_sip._tcp.example.org"] {
            assert_eq!(check_domain(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a..b", "-a.b", "a b", &"a".repeat(64), &"ab.".repeat(100)] {
            assert!(check_domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges() {
        let r = |a: &str, b: &str| AddressRange::new(a.parse().unwrap(), b.parse().unwrap());
        assert_eq!(r("10.0.0.2", "10.0.0.1"), Err(RangeError::Backwards));
        assert_eq!(r("10.0.0.2", "::1"), Err(RangeError::Families));
        let a = r("10.0.0.1", "10.0.0.9").unwrap();
        assert_eq!(a.count(), 9);
        assert!(a.overlaps(&r("10.0.0.9", "10.0.0.20").unwrap()));
        assert!(!a.overlaps(&r("10.0.0.10", "10.0.0.20").unwrap()));
        assert!(!a.contains("::a".parse().unwrap()));
        assert_eq!(AddressRange::of("::/0".parse().unwrap()).count(), u128::MAX);
    }
}
