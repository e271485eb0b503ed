//! What does a subnet tell the machines in it: DHCPv4, DHCPv6, router advertisements?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Checker;
use crate::scalar::{MacAddr, Route, check_domain, check_label};

/// DHCP of a subnet: DHCPv4 (RFC 2131) or DHCPv6 (RFC 8415), by the family of its prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Dhcp {
    /// Serve it; absent: yes, except on `bridged` and `private` networks, where somebody else does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Addresses for clients that have neither Port nor `hosts` entry; empty: these get none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<DhcpRange>,
    /// How long a lease lasts, in seconds.
    pub lease_seconds: u32,
    /// When clients renew (T1), in seconds; absent: half of the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_seconds: Option<u32>,
    /// When clients ask any server (T2), in seconds; absent: seven eighths of the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rebind_seconds: Option<u32>,
    /// Clients with fixed addresses or names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<DhcpHost>,
    /// What clients are told beside the address.
    pub options: DhcpOptions,
    /// Two messages instead of four for clients that ask for it (RFC 4039, RFC 8415 §18.3.1).
    pub rapid_commit: bool,
    /// Ask by ARP whether an address is free before it is offered (RFC 2131 §2.2); absent: on networks that are joined to
    /// something outside, where others may hold addresses that nobody here knows of. IPv4 only: in IPv6 machines ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<bool>,
    /// The subnet lies behind a relay: its addresses are for clients that a relay speaks for (`giaddr`, RFC 2131 §4.1),
    /// never for the network's own machines, and its gateway is the relay's affair.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub relayed: bool,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            enabled: None,
            ranges: Vec::new(),
            lease_seconds: 3_600,
            renew_seconds: None,
            rebind_seconds: None,
            hosts: Vec::new(),
            options: DhcpOptions::default(),
            rapid_commit: false,
            probe: None,
            relayed: false,
        }
    }
}

/// Addresses that DHCP gives away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DhcpRange {
    /// First address.
    #[schema(value_type = String)]
    pub start: IpAddr,
    /// Last address.
    #[schema(value_type = String)]
    pub end: IpAddr,
    /// How long a lease of this range lasts; absent: as the subnet says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
}

/// A client that is known beforehand; at least one of `mac`, `clientId`, `duid` and `name` says which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DhcpHost {
    /// Its hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Its client identifier (option 61) as hexadecimal digits with colons, or as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its DHCPv6 identifier (RFC 8415 §11) as hexadecimal digits with colons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duid: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its address; absent: one of the ranges.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    /// How long its lease lasts; absent: as the subnet says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
}

/// What clients are told beside the address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DhcpOptions {
    /// DNS servers (6, v6: 23); empty: the gateway, if the network answers DNS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub dns: Vec<IpAddr>,
    /// Domain (15); absent: the network's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Domains to search (119, v6: 24).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Time servers (42, v6: 56).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub ntp: Vec<IpAddr>,
    /// MTU (26); absent: the network's. IPv4 only, as all below but `bootFile` and `raw`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Classless routes (121).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// TFTP server by name (66).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tftp_server: Option<String>,
    /// Boot file (67 and the field `file`; v6: 59).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_file: Option<String>,
    /// Boot server (field `siaddr`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub next_server: Option<Ipv4Addr>,
    /// Boot files by architecture of the client (93, RFC 4578 §2.1); others get `bootFile`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pxe: Vec<PxeBoot>,
    /// What a client that is iPXE already gets instead (175).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipxe: Option<IpxeBoot>,
    /// Any other option.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub raw: Vec<RawOption>,
}

/// Boot file of one architecture.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PxeBoot {
    /// Number of the architecture (RFC 4578 §2.1): 0 BIOS, 7 and 9 EFI x86-64, 11 EFI arm64, 16 HTTP x86-64.
    pub arch: u16,
    /// Boot file.
    pub boot_file: String,
    /// Boot server; absent: as for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub next_server: Option<Ipv4Addr>,
}

/// What iPXE gets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpxeBoot {
    /// Script or file, usually a URL.
    pub boot_file: String,
}

/// An option by number; exactly one of `hex`, `text` and `addresses`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawOption {
    /// Number: 1–254 for DHCPv4, 1–65535 for DHCPv6.
    pub code: u16,
    /// Its bytes as hexadecimal digits, with or without colons.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// Its bytes as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its bytes as addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Send it also to clients that did not ask for it.
    pub force: bool,
}

impl RawOption {
    /// The bytes of the option, `None` when the fields do not say exactly one thing.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match (&self.hex, &self.text, self.addresses.as_slice()) {
            (Some(hex), None, []) => parse_hex(hex),
            (None, Some(text), []) => Some(text.as_bytes().to_vec()),
            (None, None, [_, ..]) => {
                let mut bytes = Vec::new();
                for address in &self.addresses {
                    match address {
                        IpAddr::V4(v4) => bytes.extend(v4.octets()),
                        IpAddr::V6(v6) => bytes.extend(v6.octets()),
                    }
                }
                Some(bytes)
            }
            _ => None,
        }
    }
}

/// Router advertisements of an IPv6 subnet (RFC 4861 §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RouterAdvertisement {
    /// Send them; absent: yes, except on `bridged` and `private` networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Addresses come by DHCPv6 (flag M); absent: when DHCP is served and has addresses to give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed: Option<bool>,
    /// Other things come by DHCPv6 (flag O); absent: when DHCP is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<bool>,
    /// Clients may make addresses of the prefix by themselves (flag A); absent: unless `managed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autonomous: Option<bool>,
    /// How long addresses of the prefix are valid, in seconds.
    pub valid_seconds: u32,
    /// How long they are preferred, in seconds.
    pub preferred_seconds: u32,
    /// How long the gateway is a default router, in seconds, at most 9000.
    pub router_lifetime_seconds: u16,
    /// DNS servers (RFC 8106 §5.1); empty: the gateway, if the network answers DNS.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub rdnss: Vec<Ipv6Addr>,
    /// Domains to search (RFC 8106 §5.2).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dnssl: Vec<String>,
    /// MTU; absent: the network's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Longest time between two unasked advertisements, in seconds, 4–1800.
    pub interval_seconds: u16,
}

impl Default for RouterAdvertisement {
    fn default() -> Self {
        Self {
            enabled: None,
            managed: None,
            other: None,
            autonomous: None,
            valid_seconds: 86_400,
            preferred_seconds: 14_400,
            router_lifetime_seconds: 1_800,
            rdnss: Vec::new(),
            dnssl: Vec::new(),
            mtu: None,
            interval_seconds: 600,
        }
    }
}

/// The bytes of hexadecimal digits, two a byte, with or without colons; between colons one digit is a byte as well
/// (`0:3:0:1:52:…`). `None` for anything else.
#[must_use]
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = Vec::new();
    for part in text.split(':') {
        match part.as_bytes() {
            [one] if text.contains(':') => bytes.push(digit(*one)?),
            pairs if !pairs.is_empty() && pairs.len().is_multiple_of(2) => {
                for pair in pairs.chunks_exact(2) {
                    bytes.push(digit(pair[0])? << 4 | digit(pair[1])?);
                }
            }
            _ => return None,
        }
    }
    Some(bytes)
}

impl Dhcp {
    /// Checks DHCP of a subnet with this prefix.
    pub(crate) fn check(&self, c: &mut Checker, cidr: IpNet) {
        c.within("leaseSeconds", self.lease_seconds, 60, u32::MAX);
        let t2 = self.rebind_seconds.unwrap_or(self.lease_seconds);
        if self.renew_seconds.is_some_and(|t1| t1 > t2) {
            c.add("renewSeconds", "is after `rebindSeconds`", "make renew < rebind < lease");
        }
        if t2 > self.lease_seconds {
            c.add("rebindSeconds", "is after the end of the lease", "make renew < rebind < lease");
        }
        c.each("ranges", 256, &self.ranges, |c, i, range| {
            for (field, ip) in [("start", range.start), ("end", range.end)] {
                check_inside(c, field, ip, cidr);
            }
            if let Some(seconds) = range.lease_seconds {
                c.within("leaseSeconds", seconds, 60, u32::MAX);
            }
            if range.start.is_ipv4() == range.end.is_ipv4() && range.end < range.start {
                c.add("end", format!("{} is below start {}", range.end, range.start), "swap the two");
            }
            if let Some(other) =
                self.ranges.iter().take(i).find(|r| r.start <= range.end && range.start <= r.end)
            {
                let what = format!("overlaps {}-{}", other.start, other.end);
                c.add("", what, "make the ranges disjoint");
            }
        });
        if self.probe.is_some() && cidr.addr().is_ipv6() {
            c.add(
                "probe",
                "has no place in DHCPv6, and the subnet is IPv6",
                "remove it: machines ask by themselves",
            );
        }
        if self.probe == Some(true) && self.relayed {
            c.add("probe", "cannot be answered behind a relay", "remove it");
        }
        c.each("hosts", 10_000, &self.hosts, |c, _, host| host.check(c, cidr));
        repeated(c, "mac", self.hosts.iter().map(|h| h.mac));
        repeated(c, "ip", self.hosts.iter().map(|h| h.ip));
        repeated(c, "clientId", self.hosts.iter().map(|h| h.client_id.as_ref()));
        c.field("options", |c| self.options.check(c, Some(cidr)));
    }
}

/// Notes values that two hosts have.
fn repeated<T: std::hash::Hash + Eq>(c: &mut Checker, field: &str, values: impl Iterator<Item = Option<T>>) {
    let mut seen = std::collections::HashMap::new();
    for (i, value) in values.enumerate() {
        let Some(value) = value else { continue };
        if let Some(first) = seen.insert(value, i) {
            let what = format!("is the same as of hosts[{first}]");
            c.add(&format!("hosts[{i}].{field}"), what, "give each host its own");
        }
    }
}

impl DhcpHost {
    fn check(&self, c: &mut Checker, cidr: IpNet) {
        if self.mac.is_none() && self.client_id.is_none() && self.duid.is_none() && self.name.is_none() {
            c.add("", "does not say which client it is", "add `mac`, `clientId`, `duid` or `name`");
        }
        // Each family has one of the two to know clients by.
        let (field, other) = if cidr.addr().is_ipv4() { ("duid", "clientId") } else { ("clientId", "duid") };
        let (foreign, own) = match cidr {
            IpNet::V4(_) => (self.duid.is_some(), self.client_id.is_some()),
            IpNet::V6(_) => (self.client_id.is_some(), self.duid.is_some()),
        };
        if foreign && !own && self.mac.is_none() && self.name.is_none() {
            c.add(
                field,
                format!("identifies no client in {cidr}"),
                format!("add `mac`, `{other}` or `name`"),
            );
        }
        if self.mac.is_some_and(|mac| !mac.0.is_unicast()) {
            c.add("mac", "is not the address of one machine", "use a unicast address");
        }
        if let Some(duid) = &self.duid
            && !parse_hex(duid).is_some_and(|d| (3..=130).contains(&d.len()))
        {
            c.add(
                "duid",
                "is not a DUID",
                "write 3-130 bytes in hexadecimal, such as 00:03:00:01:52:54:00:00:00:01",
            );
        }
        if let Some(id) = &self.client_id
            && !(1..=255).contains(&id.len())
        {
            c.add("clientId", "is empty or longer than 255", "write it in hexadecimal or as text");
        }
        if let Some(name) = &self.name {
            c.text("name", name, check_domain(name), "write a host name");
        }
        if let Some(ip) = self.ip {
            check_inside(c, "ip", ip, cidr);
        }
        if let Some(seconds) = self.lease_seconds {
            c.within("leaseSeconds", seconds, 60, u32::MAX);
        }
    }
}

impl DhcpOptions {
    /// Checks options of a subnet with this prefix, or of a port.
    pub(crate) fn check(&self, c: &mut Checker, cidr: Option<IpNet>) {
        let v4 = cidr.map(|net| net.addr().is_ipv4());
        for (field, list) in [("dns", &self.dns), ("ntp", &self.ntp)] {
            c.each(field, 32, list, |c, _, ip| {
                if v4.is_some_and(|v4| v4 != ip.is_ipv4()) {
                    c.add(
                        "",
                        format!("{ip} is of another family than the subnet"),
                        "use the subnet's family",
                    );
                }
            });
        }
        if let Some(domain) = &self.domain {
            c.text("domain", domain, check_domain(domain), "write a domain such as lab.example");
        }
        c.each("search", 32, &self.search, |c, _, domain| {
            c.text("", domain, check_domain(domain), "write a domain such as lab.example");
        });
        if v4 == Some(false) {
            self.check_v6(c);
        }
        if let Some(mtu) = self.mtu {
            c.within("mtu", mtu, 68, u16::MAX);
        }
        c.each("routes", 256, &self.routes, |c, _, route| check_route(c, route));
        for (field, text) in [("tftpServer", &self.tftp_server), ("bootFile", &self.boot_file)] {
            if text.as_ref().is_some_and(|t| t.is_empty() || t.len() > 255) {
                c.add(field, "is empty or longer than 255 bytes", "shorten it or remove it");
            }
        }
        c.each("pxe", 64, &self.pxe, |c, i, pxe| {
            if self.pxe.iter().take(i).any(|p| p.arch == pxe.arch) {
                c.add("arch", format!("{} is there twice", pxe.arch), "remove one");
            }
            if pxe.boot_file.is_empty() || pxe.boot_file.len() > 255 {
                c.add("bootFile", "is empty or longer than 255 bytes", "name a file");
            }
        });
        c.each("raw", 128, &self.raw, |c, _, option| {
            let last = if v4 == Some(false) { u16::MAX } else { 254 };
            c.within("code", option.code, 1, last);
            match option.bytes() {
                None => {
                    c.add("", "needs exactly one of hex, text and addresses", "give the value in one form")
                }
                Some(bytes) if bytes.len() > 255 => {
                    c.add("", "is longer than 255 bytes", "shorten the value");
                }
                Some(_) => {}
            }
        });
    }
}

impl DhcpOptions {
    /// Notes what DHCPv6 has no words for.
    fn check_v6(&self, c: &mut Checker) {
        let by_url = "write the URL as `bootFile`";
        let fields = [
            ("mtu", self.mtu.is_some(), "write `mtu` in the Network or in `ra`: routers announce it"),
            ("routes", !self.routes.is_empty(), "leave them to the gateway, which has the Subnet's `routes`"),
            ("tftpServer", self.tftp_server.is_some(), by_url),
            ("nextServer", self.next_server.is_some(), by_url),
            ("pxe", !self.pxe.is_empty(), by_url),
            ("ipxe", self.ipxe.is_some(), by_url),
        ];
        for (field, _, mend) in fields.into_iter().filter(|(_, there, _)| *there) {
            c.add(field, "has no place in DHCPv6, and the subnet is IPv6", mend);
        }
    }
}

impl RouterAdvertisement {
    pub(crate) fn check(&self, c: &mut Checker) {
        c.within("intervalSeconds", self.interval_seconds, 4, 1_800);
        c.within("routerLifetimeSeconds", self.router_lifetime_seconds, 0, 9_000);
        if self.router_lifetime_seconds != 0 && self.router_lifetime_seconds < self.interval_seconds {
            c.add("routerLifetimeSeconds", "is shorter than `intervalSeconds`", "raise it (RFC 4861 §6.2.1)");
        }
        if self.preferred_seconds > self.valid_seconds {
            c.add("preferredSeconds", "is longer than `validSeconds`", "lower it (RFC 4861 §4.6.2)");
        }
        if let Some(mtu) = self.mtu {
            c.within("mtu", mtu, 1_280, 65_535);
        }
        c.each("rdnss", 32, &self.rdnss, |_, _, _| {});
        c.each("dnssl", 32, &self.dnssl, |c, _, d| c.text("", d, check_domain(d), "write a domain"));
    }
}

/// Notes an address outside of a prefix.
pub(crate) fn check_inside(c: &mut Checker, field: &str, ip: IpAddr, cidr: IpNet) {
    if !cidr.contains(&ip) {
        c.add(field, format!("{ip} is outside of {cidr}"), format!("use an address inside {cidr}"));
    }
}

/// Notes a route whose parts do not fit together.
pub(crate) fn check_route(c: &mut Checker, route: &Route) {
    if route.to.addr().is_ipv4() != route.via.is_ipv4() {
        c.add("via", format!("{} is of another family than {}", route.via, route.to), "use one family");
    }
    if route.to.addr() != route.to.network() {
        c.add(
            "to",
            format!("{} has bits behind the prefix", route.to),
            format!("write {}", route.to.trunc()),
        );
    }
}

/// Notes a host name that is no DNS label.
pub(crate) fn check_hostname(c: &mut Checker, field: &str, name: &str) {
    c.text(field, name, check_label(name), "write one label of a-z, 0-9 and hyphen, such as web-1");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal() {
        for (text, bytes) in [
            ("00:03:00:01:52", Some(vec![0, 3, 0, 1, 0x52])),
            ("0:3:0:1:52", Some(vec![0, 3, 0, 1, 0x52])),
            ("0003:00:01", Some(vec![0, 3, 0, 1])),
            ("0aFf", Some(vec![0x0a, 0xff])),
            ("", None),
            ("1", None),
            ("00:", None),
            ("000:1", None),
            ("0g", None),
        ] {
            assert_eq!(parse_hex(text), bytes, "{text:?}");
        }
    }
}
