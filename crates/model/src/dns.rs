//! Which names does a network answer, and whom does it ask for others?

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Checker;
use crate::scalar::check_domain;

/// The domain of a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Domain {
    /// Ports get names in it: `web.lab.example`.
    pub name: String,
    /// Never ask forwarders for names in it.
    #[serde(default)]
    pub local_only: bool,
}

/// DNS of a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Dns {
    /// Answer DNS at the gateway address and announce it.
    pub enabled: bool,
    /// Whom to ask for other names; empty: what the node itself asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwarders: Vec<Forwarder>,
    /// Ask forwarders for names without a dot too.
    pub forward_plain_names: bool,
    /// Names of addresses that have no Port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<DnsHost>,
    /// TXT records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub txt: Vec<TxtRecord>,
    /// SRV records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub srv: Vec<SrvRecord>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            enabled: true,
            forwarders: Vec::new(),
            forward_plain_names: true,
            hosts: Vec::new(),
            txt: Vec::new(),
            srv: Vec::new(),
        }
    }
}

/// A DNS server to ask.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forwarder {
    /// Its address; absent together with a domain: names of the domain are never forwarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// Its port.
    #[serde(default = "dns_port")]
    pub port: u16,
    /// Ask it only for names of this domain; absent: for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

const fn dns_port() -> u16 {
    53
}

/// Names of an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsHost {
    /// The address.
    #[schema(value_type = String)]
    pub ip: IpAddr,
    /// Its names; one without a dot is of the network's domain.
    pub names: Vec<String>,
}

/// A TXT record (RFC 1035 §3.3.14).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TxtRecord {
    /// Its name.
    pub name: String,
    /// Its text.
    pub value: String,
}

/// A transport protocol of an SRV record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SrvProtocol {
    /// `_tcp`
    Tcp,
    /// `_udp`
    Udp,
    /// `_sctp`
    Sctp,
    /// `_tls`
    Tls,
}

/// An SRV record (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SrvRecord {
    /// Name of the service without underscore: `ldap`.
    pub service: String,
    /// Transport.
    pub protocol: SrvProtocol,
    /// Domain; absent: the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Host that offers the service; absent: the service is said not to exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Port of the service.
    #[serde(default)]
    pub port: u16,
    /// Lower is asked first.
    #[serde(default)]
    pub priority: u16,
    /// Share among targets of the same priority.
    #[serde(default)]
    pub weight: u16,
}

const NAME: &str = "write a domain name such as lab.example";

impl Domain {
    pub(crate) fn check(&self, c: &mut Checker) {
        c.text("name", &self.name, check_domain(&self.name), NAME);
    }
}

impl Dns {
    pub(crate) fn check(&self, c: &mut Checker) {
        c.each("forwarders", 64, &self.forwarders, |c, _, f| {
            if f.address.is_none() && f.domain.is_none() {
                c.add("", "names neither an address nor a domain", "add `address`");
            }
            c.within("port", f.port, 1, u16::MAX);
            if let Some(domain) = &f.domain {
                c.text("domain", domain, check_domain(domain), NAME);
            }
        });
        c.each("hosts", 10_000, &self.hosts, |c, _, host| {
            if host.names.is_empty() {
                c.add("names", "is empty", "add a name");
            }
            c.each("names", 64, &host.names, |c, _, name| c.text("", name, check_domain(name), NAME));
        });
        c.each("txt", 1_000, &self.txt, |c, _, txt| {
            c.text("name", &txt.name, check_domain(&txt.name), NAME);
            if txt.value.len() > 4_096 {
                c.add("value", "is longer than 4096 bytes", "shorten it");
            }
        });
        c.each("srv", 1_000, &self.srv, |c, _, srv| {
            let plain = srv.service.strip_prefix('_').unwrap_or(&srv.service);
            if plain.contains('.') {
                c.add("service", "has a dot", "write the service alone, such as ldap");
            }
            c.text("service", &srv.service, check_domain(plain), "write a service such as ldap");
            for (field, name) in [("domain", &srv.domain), ("target", &srv.target)] {
                // A target that is the root says that there is no such service (RFC 2782).
                if let Some(name) = name.as_ref().filter(|n| field != "target" || *n != ".") {
                    c.text(field, name, check_domain(name), NAME);
                }
            }
            if srv.target.is_some() && srv.port == 0 {
                c.add("port", "is missing", "add the port of the service");
            }
        });
    }
}
