//! Which names does a network answer? From the resources, in the words of the `services` room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use weft_model::{Catalog, Network, NetworkMode, Port, SrvProtocol, SrvRecord};
use weft_services::dns::{Config, Data, Entry, Forward};
use weft_wire::Mac;

use super::Tell;
use crate::resolve::{Keys, gateway_mac, has_host, host_device, joined};

/// Longest string of a TXT record (RFC 1035 §3.3).
const STRING: usize = 255;
/// Answers of forwarders that a network's server remembers.
const CACHE: usize = 4_000;
/// Questions on their way to forwarders: of a network, and of one client.
const PENDING: (usize, usize) = (512, 64);
/// Longest answer over UDP that fits every path (RFC 6891 §6.2.5).
const UDP: u16 = 1232;
/// IPv6 and UDP headers.
const HEADERS: u16 = 48;

/// The name server of a network, without its ports' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// What it says; forwarders are those that were written.
    pub config: Config,
    /// Networks that routers join to this one, by their keys: their names are answered here, too.
    pub joined: Vec<u64>,
    /// Ask what the node asks, besides.
    pub ask_node: bool,
    /// The host's device, where TCP is answered.
    pub device: Option<String>,
    /// Who answers.
    pub mac: Mac,
}

/// The name server of a network; `None`: it has none.
pub fn names(catalog: &Catalog, keys: &Keys, name: &str, underlay_mtu: u16) -> Option<Names> {
    let network = catalog.network(name).filter(|n| n.spec.dns.enabled)?;
    let spec = &network.spec;
    let subnets = || catalog.subnets_of(name);
    let addresses: Vec<IpAddr> = subnets().filter_map(|s| s.spec.service_address(spec.mode)).collect();
    if addresses.is_empty() {
        return None;
    }
    let (forwarders, domains) = forwarders(network);
    // Those who may not leave do not leave by names.
    let ask_node = forwarders.is_empty() && spec.mode != NetworkMode::Isolated;
    let given = subnets().flat_map(|s| &s.spec.dhcp.hosts);
    let given = given.filter_map(|h| Some(address(h.name.as_deref()?, h.ip?)));
    // Where TCP is not answered, what fits the link is not cut: no other path is crossed.
    let most = if has_host(spec) { UDP } else { u16::MAX };
    let config = Config {
        domain: spec.domain.as_ref().map(|d| d.name.clone()),
        local_only: spec.domain.as_ref().is_some_and(|d| d.local_only),
        subnets: subnets().map(|s| (s.spec.cidr.network(), s.spec.cidr.prefix_len())).collect(),
        addresses,
        records: records(network).chain(given).collect(),
        forwarders,
        domains,
        forward_plain_names: spec.dns.forward_plain_names,
        cache_entries: CACHE,
        pending: PENDING,
        max_udp: most.min(network.mtu(underlay_mtu).saturating_sub(HEADERS)),
        ..Config::default()
    };
    Some(Names {
        config,
        joined: joined(catalog, name).into_iter().filter_map(|n| keys.get(n)).map(u64::from).collect(),
        ask_node,
        device: has_host(spec).then(|| host_device(name)),
        mac: gateway_mac(network),
    })
}

fn address(name: &str, ip: IpAddr) -> Entry {
    Entry { name: name.to_owned(), data: Data::Address(ip) }
}

/// Who is asked for everything, and who for certain domains.
fn forwarders(network: &Network) -> (Vec<SocketAddr>, Vec<Forward>) {
    let mut all = Vec::new();
    let mut domains: BTreeMap<&str, Vec<SocketAddr>> = BTreeMap::new();
    for forwarder in &network.spec.dns.forwarders {
        let server = forwarder.address.map(|ip| SocketAddr::new(ip, forwarder.port));
        match &forwarder.domain {
            Some(domain) => domains.entry(domain).or_default().extend(server),
            None => all.extend(server),
        }
    }
    let domains = domains.into_iter().map(|(domain, servers)| Forward { domain: domain.to_owned(), servers });
    (all, domains.collect())
}

/// The records that people wrote.
fn records(network: &Network) -> impl Iterator<Item = Entry> {
    let dns = &network.spec.dns;
    let hosts = dns.hosts.iter().flat_map(|h| h.names.iter().map(|name| address(name, h.ip)));
    let txt = dns.txt.iter().map(|t| Entry { name: t.name.clone(), data: Data::Txt(strings(&t.value)) });
    hosts.chain(txt).chain(dns.srv.iter().map(|s| srv(network, s)))
}

/// A text in strings of 255 bytes at most, cut between characters.
fn strings(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    for c in text.chars() {
        if out.last().is_some_and(|s| s.len() + c.len_utf8() > STRING) {
            out.push(String::new());
        }
        out.last_mut().into_iter().for_each(|s| s.push(c));
    }
    out
}

fn srv(network: &Network, srv: &SrvRecord) -> Entry {
    let protocol = match srv.protocol {
        SrvProtocol::Tcp => "tcp",
        SrvProtocol::Udp => "udp",
        SrvProtocol::Sctp => "sctp",
        SrvProtocol::Tls => "tls",
    };
    let own = network.spec.domain.as_ref().map(|d| &d.name);
    let below = |domain: Option<&String>| domain.map(|d| format!(".{d}")).unwrap_or_default();
    let service = srv.service.trim_start_matches('_');
    let target = match &srv.target {
        None => ".".to_owned(),
        Some(target) if target.trim_end_matches('.').contains('.') => target.clone(),
        Some(target) => format!("{target}{}", below(own)),
    };
    Entry {
        name: format!("_{service}._{protocol}{}", below(srv.domain.as_ref().or(own))),
        data: Data::Srv { priority: srv.priority, weight: srv.weight, port: srv.port, target },
    }
}

/// The names of a port.
fn of_port(port: &Port) -> Vec<Entry> {
    let addresses: BTreeSet<IpAddr> =
        port.spec.addresses.iter().chain(&port.status.addresses).copied().collect();
    addresses.into_iter().map(|ip| address(port.hostname(), ip)).collect()
}

/// What the name servers were told.
#[derive(Debug, Default)]
pub(super) struct Told {
    networks: HashMap<String, (u64, Option<Names>)>,
    ports: HashMap<String, (u64, Vec<Entry>)>,
}

impl Told {
    /// What changes when these networks and ports changed: a port's change is its own records alone.
    pub(super) fn changes(
        &mut self,
        catalog: &Catalog,
        keys: &Keys,
        (nets, ports): (&BTreeSet<String>, &BTreeSet<String>),
        underlay_mtu: u16,
    ) -> Vec<Tell> {
        let mut out = Vec::new();
        let mut begun = BTreeSet::new();
        for name in nets {
            let key = keys.get(name).map(u64::from);
            let old = self.networks.get(name);
            let Some(key) = key.filter(|_| catalog.network(name).is_some()) else {
                out.extend(self.networks.remove(name).map(|(key, _)| Tell::Gone(key)));
                continue;
            };
            let new = names(catalog, keys, name, underlay_mtu);
            if old.is_some_and(|(k, n)| (k, n) == (&key, &new)) {
                continue;
            }
            if new.is_some() && old.is_none_or(|(_, n)| n.is_none()) {
                begun.extend(catalog.ports_of(name).map(|p| p.name()));
            }
            out.push(Tell::Configure(key, new.clone().map(Box::new)));
            self.networks.insert(name.clone(), (key, new));
        }
        begun.iter().for_each(|name| drop(self.ports.remove(*name)));
        for name in ports.iter().map(String::as_str).chain(begun.iter().copied()) {
            let port = catalog.port(name);
            let new = port.and_then(|p| Some((u64::from(keys.get(&p.spec.network)?), of_port(p))));
            let old = self.ports.get(name);
            if old == new.as_ref() {
                continue;
            }
            if let Some((key, _)) = old.filter(|(key, _)| new.as_ref().is_none_or(|(k, _)| k != key)) {
                out.push(Tell::Port(*key, name.to_owned(), Vec::new()));
            }
            match new {
                Some((key, entries)) => {
                    out.push(Tell::Port(key, name.to_owned(), entries.clone()));
                    self.ports.insert(name.to_owned(), (key, entries));
                }
                None => drop(self.ports.remove(name)),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(text: &str) -> Catalog {
        weft_model::parse(text).unwrap().into_iter().map(|p| p.resource).collect()
    }

    const TEXT: &str = "
apiVersion: weft.dev/v1
kind: Network
metadata: {name: n}
spec:
  mode: MODE
  domain: {name: n.example, localOnly: true}
  dns:
    hosts: [{ip: 10.0.0.9, names: [printer, a.b.example]}]
    txt: [{name: about, value: text}]
    srv: [{service: ldap, protocol: tcp, target: printer, port: 389}, {service: _sip, protocol: udp}]
    forwarders: [{domain: corp.example, address: 192.0.2.3}, {domain: corp.example, address: 192.0.2.4, port: 54},
      {domain: lost.example}]
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: s}
spec: {network: n, cidr: 10.0.0.0/24, dhcp: {hosts: [{mac: '52:54:00:00:00:01', ip: 10.0.0.8, name: nas}]}}
---
apiVersion: weft.dev/v1
kind: Port
metadata: {name: p}
spec: {network: n, addresses: [10.0.0.7]}
";

    #[test]
    fn what_is_written_is_answered() {
        let keys = Keys::default();
        let nat = names(&catalog(&TEXT.replace("MODE", "nat")), &keys, "n", 1500).unwrap();
        let of = |name: &str| -> Vec<Data> {
            nat.config.records.iter().filter(|e| e.name == name).map(|e| e.data.clone()).collect()
        };
        assert_eq!(of("printer"), [Data::Address([10, 0, 0, 9].into())]);
        assert_eq!(of("nas"), [Data::Address([10, 0, 0, 8].into())]);
        assert_eq!(of("about"), [Data::Txt(vec!["text".into()])]);
        let target = "printer.n.example".to_owned();
        let ldap = Data::Srv { priority: 0, weight: 0, port: 389, target };
        assert_eq!(of("_ldap._tcp.n.example"), [ldap]);
        let none = Data::Srv { priority: 0, weight: 0, port: 0, target: ".".into() };
        assert_eq!(of("_sip._udp.n.example"), [none]);
        assert!(nat.config.local_only && nat.ask_node && nat.config.forwarders.is_empty());
        let domains: Vec<_> =
            nat.config.domains.iter().map(|f| (f.domain.as_str(), f.servers.len())).collect();
        assert_eq!(domains, [("corp.example", 2), ("lost.example", 0)]);
        assert_eq!(
            (nat.device.as_deref(), nat.config.addresses.as_slice()),
            (Some("wn-n"), &[IpAddr::from([10, 0, 0, 1])][..])
        );
        // Isolated networks do not speak with the world through the node's own servers.
        assert!(!names(&catalog(&TEXT.replace("MODE", "isolated")), &keys, "n", 1500).unwrap().ask_node);
        let off = TEXT.replace("MODE", "nat").replace("  dns:\n", "  dns:\n    enabled: false\n");
        assert_eq!(names(&catalog(&off), &keys, "n", 1500), None);
    }

    #[test]
    fn a_port_changes_its_own_records() {
        let mut catalog = catalog(&TEXT.replace("MODE", "nat"));
        let mut keys = Keys::default();
        keys.of("n");
        let set = |name: &str| BTreeSet::from([name.to_owned()]);
        let (nets, ports) = (set("n"), set("p"));
        let mut told = Told::default();
        let first = told.changes(&catalog, &keys, (&nets, &ports), 1500);
        assert!(
            matches!(&first[..], [Tell::Configure(1, Some(_)), Tell::Port(1, _, e)] if e.len() == 1),
            "{first:?}"
        );
        assert!(told.changes(&catalog, &keys, (&nets, &ports), 1500).is_empty());
        let mut port = catalog.port("p").unwrap().clone();
        port.spec.hostname = Some("web".into());
        catalog.insert(weft_model::Resource::from(port.clone()));
        let next = told.changes(&catalog, &keys, (&nets, &ports), 1500);
        assert!(matches!(&next[..], [Tell::Port(1, _, e)] if e[0].name == "web"), "{next:?}");
        catalog.remove(&port.reference());
        let last = told.changes(&catalog, &keys, (&nets, &ports), 1500);
        assert!(matches!(&last[..], [Tell::Port(1, _, e)] if e.is_empty()), "{last:?}");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let cut = strings(&"é".repeat(300));
        assert_eq!(cut.iter().map(String::len).collect::<Vec<_>>(), [254, 254, 92]);
        assert_eq!(strings(""), [""]);
    }
}
