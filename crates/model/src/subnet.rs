//! What is a subnet: which addresses does a network have, and who gets them?

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dhcp::{Dhcp, RouterAdvertisement, check_inside, check_route};
use crate::kind::Kind;
use crate::network::{NetworkMode, NetworkSpec, check_kept};
use crate::object::{Object, Spec};
use crate::problem::Checker;
use crate::scalar::{AddressRange, Route, check_label};
use crate::status::{Condition, Phase};

/// Addresses, DHCP and router advertisements of a network.
pub type Subnet = Object<SubnetSpec>;

/// Which address the gateway has: `auto` (the first one), `none`, or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Gateway {
    /// The first address of the prefix; none on isolated, bridged and private networks.
    #[default]
    Auto,
    /// There is none.
    None,
    /// This one.
    Address(IpAddr),
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

impl FromStr for Gateway {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            _ => match text.parse() {
                Ok(ip) => Ok(Self::Address(ip)),
                Err(_) => Err(format!("{:?} is not an IP address, auto or none", crate::problem::clip(text))),
            },
        }
    }
}

impl TryFrom<String> for Gateway {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Gateway> for String {
    fn from(gateway: Gateway) -> Self {
        gateway.to_string()
    }
}

/// What a subnet is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubnetSpec {
    /// Name of its network.
    pub network: String,
    /// Its prefix, IPv4 or IPv6.
    #[schema(value_type = String, example = "10.20.0.0/24")]
    pub cidr: IpNet,
    /// The gateway's address.
    #[serde(default)]
    pub gateway: Gateway,
    /// Addresses for Ports that name none; empty: all but gateway, `reserved` and fixed ones, those of `dhcp.ranges`
    /// when no other is left and nobody leases them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pool: Vec<AddressRange>,
    /// Name of an AddressPool that `pool` is taken from, shared with other subnets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_pool: Option<String>,
    /// Addresses that are never given to anyone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<AddressRange>,
    /// DHCP.
    #[serde(default)]
    pub dhcp: Dhcp,
    /// Router advertisements, for IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ra: Option<RouterAdvertisement>,
    /// Routes of the gateway beside the subnet's own prefix, and told to the machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What libvirt's document said and has no meaning here, by its place in `<ip>` (`tftp`, `@localPtr`); kept for the
    /// way back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub libvirt: BTreeMap<String, String>,
}

impl SubnetSpec {
    /// A subnet that says nothing but where it belongs and which prefix it has.
    #[must_use]
    pub fn new(network: impl Into<String>, cidr: IpNet) -> Self {
        Self {
            network: network.into(),
            cidr,
            gateway: Gateway::Auto,
            pool: Vec::new(),
            address_pool: None,
            reserved: Vec::new(),
            dhcp: Dhcp::default(),
            ra: None,
            routes: Vec::new(),
            libvirt: BTreeMap::new(),
        }
    }

    /// True for an IPv6 prefix.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.cidr.addr().is_ipv6()
    }

    /// The gateway's address on a network of this mode, `None` when there is none.
    ///
    /// An isolated network has a gateway only if it is written; the first address answers DHCP and DNS all the same,
    /// see [`Self::service_address`].
    #[must_use]
    pub fn gateway_address(&self, mode: NetworkMode) -> Option<IpAddr> {
        match self.gateway {
            Gateway::None => None,
            Gateway::Address(ip) => Some(ip),
            Gateway::Auto => match mode {
                NetworkMode::Nat | NetworkMode::Routed | NetworkMode::Open => self.first_address(),
                NetworkMode::Isolated | NetworkMode::Bridged | NetworkMode::Private => None,
            },
        }
    }

    /// The address at which the node answers DHCP and DNS in this subnet: the gateway's, else the first one. `None` on
    /// networks where somebody else does, behind relays, and in prefixes that have no room for it. A gateway that is written
    /// on a network that is joined to others is a router there, and speaks for itself.
    #[must_use]
    pub fn service_address(&self, mode: NetworkMode) -> Option<IpAddr> {
        if self.dhcp.relayed {
            return None;
        }
        let ours = !matches!(mode, NetworkMode::Bridged | NetworkMode::Private);
        let theirs = !ours && matches!(self.gateway, Gateway::Address(_));
        let needed = !theirs && (ours || self.dhcp.enabled == Some(true));
        self.gateway_address(mode).filter(|_| needed).or_else(|| {
            let first = if needed { self.first_address() } else { None };
            first.filter(|_| self.gateway != Gateway::None || self.dhcp.enabled == Some(true))
        })
    }

    /// The first address that a machine may have.
    #[must_use]
    pub fn first_address(&self) -> Option<IpAddr> {
        self.usable().map(|range| range.start)
    }

    /// The addresses that machines may have: without the network and broadcast address of an IPv4 prefix up to /30
    /// (RFC 3021 for /31), without the subnet-router anycast address of an IPv6 prefix (RFC 4291 §2.6.1).
    #[must_use]
    pub fn usable(&self) -> Option<AddressRange> {
        match self.cidr {
            IpNet::V4(net) if net.prefix_len() >= 31 => Some(AddressRange::of(self.cidr)),
            IpNet::V4(net) => {
                let start = net.network().to_bits().checked_add(1)?;
                let end = net.broadcast().to_bits().checked_sub(1)?;
                Some(AddressRange { start: IpAddr::V4(start.into()), end: IpAddr::V4(end.into()) })
            }
            IpNet::V6(net) if net.prefix_len() >= 127 => Some(AddressRange::of(self.cidr)),
            IpNet::V6(net) => {
                let start = net.network().to_bits().checked_add(1)?;
                Some(AddressRange { start: IpAddr::V6(start.into()), end: IpAddr::V6(net.broadcast()) })
            }
        }
    }

    /// Whether the node serves DHCP in this subnet of this network.
    #[must_use]
    pub fn serves_dhcp(&self, network: &NetworkSpec) -> bool {
        let ours = !matches!(network.mode, NetworkMode::Bridged | NetworkMode::Private);
        self.dhcp.enabled.unwrap_or(ours)
    }

    /// Whether addresses of this subnet of this network are probed before they are offered by DHCPv4.
    #[must_use]
    pub fn probes(&self, network: &NetworkSpec) -> bool {
        let served = self.serves_dhcp(network) && !self.is_ipv6() && !self.dhcp.relayed;
        served && self.dhcp.probe.unwrap_or(network.bridged.is_some())
    }

    /// Whether the node sends router advertisements in this subnet of this network.
    #[must_use]
    pub fn advertises(&self, network: &NetworkSpec) -> bool {
        let ours = !matches!(network.mode, NetworkMode::Bridged | NetworkMode::Private);
        self.is_ipv6() && !self.dhcp.relayed && self.ra.as_ref().and_then(|ra| ra.enabled).unwrap_or(ours)
    }
}

/// How a subnet fares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SubnetStatus {
    /// How far it has come.
    pub phase: Phase,
    /// The generation of the spec that this status is about.
    pub observed_generation: u64,
    /// The gateway's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<IpAddr>,
    /// Addresses that Ports have.
    pub allocated: u64,
    /// Leases that run.
    pub leases: u64,
    /// In detail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Spec for SubnetSpec {
    const KIND: Kind = Kind::Subnet;
    type Status = SubnetStatus;

    fn check(&self, c: &mut Checker) {
        c.text("network", &self.network, check_label(&self.network), "write the name of a Network");
        let cidr = self.cidr.trunc();
        if cidr != self.cidr {
            c.add("cidr", format!("{} has bits behind the prefix", self.cidr), format!("write {cidr}"));
        }
        let ip = cidr.addr();
        if ip.is_multicast() || ip.is_loopback() || cidr.prefix_len() == 0 {
            c.add(
                "cidr",
                format!("{cidr} is no prefix for machines"),
                "use a unicast prefix such as 10.20.0.0/24",
            );
        }
        if let Gateway::Address(gateway) = self.gateway {
            check_inside(c, "gateway", gateway, cidr);
            let ends = [cidr.network(), cidr.broadcast()];
            if cidr.addr().is_ipv4() && cidr.prefix_len() < 31 && ends.contains(&gateway) {
                c.add(
                    "gateway",
                    format!("{gateway} is the network's or its broadcast address"),
                    "use another one",
                );
            }
        }
        if !self.pool.is_empty() && self.address_pool.is_some() {
            c.add("addressPool", "stands beside `pool`", "keep one of the two");
        }
        if let Some(pool) = &self.address_pool {
            c.text("addressPool", pool, check_label(pool), "write the name of an AddressPool");
        }
        for (field, ranges) in [("pool", &self.pool), ("reserved", &self.reserved)] {
            check_ranges(c, field, ranges, Some(cidr));
        }
        c.field("dhcp", |c| self.dhcp.check(c, cidr));
        if let Some(ra) = &self.ra {
            if cidr.addr().is_ipv4() {
                c.add("ra", "is for IPv6 and the subnet is IPv4", "remove it");
            }
            c.field("ra", |c| ra.check(c));
        }
        c.each("routes", 256, &self.routes, |c, _, route| {
            check_route(c, route);
            check_inside(c, "via", route.via, cidr);
        });
        check_kept(c, &self.libvirt);
    }
}

/// Notes ranges that are none, that overlap, or that lie outside of a prefix.
pub(crate) fn check_ranges(c: &mut Checker, field: &str, ranges: &[AddressRange], cidr: Option<IpNet>) {
    c.each(field, 256, ranges, |c, i, range| {
        if let Err(why) = range.check() {
            c.add("end", why.to_string(), "write the lower address as `start`, both of one family");
        }
        if let Some(cidr) = cidr {
            check_inside(c, "start", range.start, cidr);
            check_inside(c, "end", range.end, cidr);
        }
        if let Some(other) = ranges.iter().take(i).find(|r| r.overlaps(range)) {
            c.add("", format!("{range} overlaps {other}"), "make the ranges disjoint");
        }
    });
}
