//! What can be said in a lab's file?

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weft_host::Mac;

use crate::error::At;
use crate::{Error, Result};

/// A whole lab.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabSpec {
    /// Names the lab's namespaces (`weft-NAME-…`) and its directory; 1–32 of `a-z 0-9 -`.
    pub name: String,
    /// Underlay networks.
    #[serde(default)]
    pub networks: Vec<NetworkSpec>,
    /// Virtual hosts.
    pub hosts: Vec<HostSpec>,
    /// What must come true after every host's `setup`.
    #[serde(default)]
    pub wait: Vec<Condition>,
    /// Commands that must succeed at the end.
    #[serde(default)]
    pub check: Vec<CheckSpec>,
}

/// An underlay network: a bridge in a namespace of its own, named `bridge` there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Its name; the namespace is `weft-LAB-NAME`.
    pub name: String,
    /// Largest IP packet, in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// Subnets on it; host addresses without a prefix length take theirs.
    #[serde(default)]
    pub subnets: Vec<Cidr>,
}

/// A virtual host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostSpec {
    /// Its name; the namespace is `weft-LAB-NAME`.
    pub name: String,
    /// Its network cards.
    #[serde(default)]
    pub links: Vec<LinkSpec>,
    /// Environment of everything run on it.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Kernel settings of its network namespace.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Workloads beside it.
    #[serde(default)]
    pub workloads: Vec<WorkloadSpec>,
    /// Commands that stay running, started in order.
    #[serde(default)]
    pub run: Vec<RunSpec>,
    /// What must come true before `setup`.
    #[serde(default)]
    pub wait: Vec<Condition>,
    /// Shell lines run in order after `run` and `wait`.
    #[serde(default)]
    pub setup: Vec<String>,
}

/// A host's network card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// The network it is on; may be left out if there is one.
    #[serde(default)]
    pub network: Option<String>,
    /// Its name in the host; `eth0`, `eth1`, … if left out.
    #[serde(default)]
    pub device: Option<String>,
    /// Its addresses, with or without prefix length.
    #[serde(default)]
    pub addresses: Vec<Cidr>,
    /// Its MTU; the network's if left out.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Its MAC address; made from the names if left out.
    #[serde(default)]
    pub mac: Option<MacText>,
    /// Checksum and segmentation offloads and GRO.
    #[serde(default = "yes")]
    pub offloads: bool,
}

/// A workload: a namespace joined to its host by a veth pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// Its name; the namespace is `weft-LAB-HOST-NAME`, and `NAME` to `ip netns` on the host.
    pub name: String,
    /// The host's end of its link; `v-NAME` if left out.
    #[serde(default)]
    pub device: Option<String>,
    /// The workload's end; `eth0` if left out.
    #[serde(default)]
    pub inside: Option<String>,
    /// Its addresses, each with prefix length.
    #[serde(default)]
    pub addresses: Vec<Cidr>,
    /// Its routers, one for each family.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// MTU of both ends.
    #[serde(default = "default_mtu")]
    pub mtu: u32,
    /// MAC address of the workload's end; made from the names if left out.
    #[serde(default)]
    pub mac: Option<MacText>,
    /// Checksum and segmentation offloads and GRO of both ends.
    #[serde(default = "yes")]
    pub offloads: bool,
}

/// A command that stays running.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// Its name within the host; its output goes to `NAME.log`.
    pub name: String,
    /// A shell command that stays in the foreground.
    pub command: String,
    /// Its environment, besides the host's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What must come true before the next command is started.
    #[serde(default)]
    pub ready: Option<Condition>,
}

/// Something to wait for: one of `socket`, `file`, `ping`, `command`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Where: `HOST`, `HOST/WORKLOAD` or a network. May be left out within a host.
    #[serde(default)]
    pub on: Option<String>,
    /// A unix stream socket accepts connections; relative to the host's run directory.
    #[serde(default)]
    pub socket: Option<String>,
    /// A file exists; relative to the host's run directory.
    #[serde(default)]
    pub file: Option<String>,
    /// The address answers to ICMP echo.
    #[serde(default)]
    pub ping: Option<IpAddr>,
    /// A shell command succeeds.
    #[serde(default)]
    pub command: Option<String>,
    /// For how long to wait.
    #[serde(default = "default_timeout")]
    pub seconds: f64,
}

/// A command that must succeed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// Where: `HOST`, `HOST/WORKLOAD` or a network.
    pub on: String,
    /// A shell command.
    pub command: String,
    /// Its output must contain this.
    #[serde(default)]
    pub expect: Option<String>,
}

fn default_mtu() -> u32 {
    1500
}

fn yes() -> bool {
    true
}

fn default_timeout() -> f64 {
    10.0
}

impl LabSpec {
    /// Reads a lab from YAML; `file` names it in errors. Every field is checked.
    pub fn parse(yaml: &str, file: &str) -> Result<Self> {
        let spec: Self = serde_yaml_ng::from_str(yaml)
            .map_err(|e| Error::Syntax { file: file.to_owned(), message: e.to_string() })?;
        crate::check::check(&spec)?;
        Ok(spec)
    }

    /// Reads a lab's file.
    pub fn read(path: &Path) -> Result<Self> {
        let yaml = std::fs::read_to_string(path).at(format!("read {}", path.display()))?;
        let file = path.display().to_string();
        Self::parse(&yaml, &file).map_err(|error| match error {
            Error::Field { field, problem, mend } => Error::field(format!("{file}: {field}"), problem, mend),
            other => other,
        })
    }

    /// The same lab under a name nobody else uses, for tests running side by side.
    pub fn unique(mut self) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let suffix = format!("-{}-{number}", std::process::id());
        self.name.truncate(crate::check::NAME_MAX.saturating_sub(suffix.len()));
        self.name.push_str(&suffix);
        self
    }
}

/// An address, with or without the length of its subnet's prefix: `192.0.2.1/24` or `192.0.2.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address.
    pub ip: IpAddr,
    /// The prefix length, if given.
    pub prefix: Option<u8>,
}

impl Cidr {
    /// Whether `ip` lies in this subnet.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let prefix = u32::from(self.prefix.unwrap_or(128));
        match (self.ip, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let differing = net.to_bits() ^ ip.to_bits();
                differing.leading_zeros() >= prefix.min(32)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let differing = net.to_bits() ^ ip.to_bits();
                differing.leading_zeros() >= prefix.min(128)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.ip),
            None => write!(f, "{}", self.ip),
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let bad = || format!("{text:?} is no address; write it as 192.0.2.1/24 or 2001:db8::1/64");
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| bad())?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        if prefix.is_some_and(|p| p > longest) {
            return Err(format!("{text:?} has too long a prefix; at most /{longest}"));
        }
        Ok(Self { ip, prefix })
    }
}

/// A MAC address written `aa:bb:cc:dd:ee:ff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacText(pub Mac);

impl fmt::Display for MacText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MacText {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mac: Mac = text.parse().map_err(|e| format!("{text:?} is {e}"))?;
        if mac.is_unicast() { Ok(Self(mac)) } else { Err(format!("{text:?} is no unicast MAC address")) }
    }
}

/// Serialises a type as its text.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

serde_as_text!(Cidr);
serde_as_text!(MacText);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for text in ["192.0.2.1", "10.0.0.1/8", "2001:db8::1/64", "::/0"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for bad in ["", "192.0.2", "192.0.2.1/33", "::1/129", "192.0.2.1/", "192.0.2.1/24/1", "192.0.2.1/-1"]
        {
            assert!(bad.parse::<Cidr>().is_err(), "{bad:?}");
        }
        let net: Cidr = "192.168.0.0/23".parse().unwrap();
        let inside = |ip: &str| net.contains(ip.parse().unwrap());
        assert!(inside("192.168.1.255") && !inside("192.168.2.0") && !inside("::1"));
        let all: Cidr = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn unique_names_fit() {
        let spec = LabSpec::parse("name: a-very-long-name-for-a-lab-indeed\nhosts: []", "x");
        assert!(spec.is_err(), "35 bytes are too many");
        let spec = LabSpec::parse("name: a-rather-long-name-for-a-lab\nhosts: [{name: a}]", "x").unwrap();
        let (one, two) = (spec.clone().unique(), spec.unique());
        assert_ne!(one.name, two.name);
        crate::check::check(&one).unwrap();
    }
}
