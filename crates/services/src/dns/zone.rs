//! Which names does the network have, and which addresses have names?

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::HashMap;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::config::{Config, Data, Entry, holds};
use super::{Key, key, key_of, labels, suffixes};

/// What the gateway is called, unless something else is.
const GATEWAY: &str = "gateway";
/// Longest chain of aliases that is followed.
const MAX_ALIASES: usize = 8;

/// What is known of a name.
#[derive(Debug, Default)]
struct Node {
    /// Records an operator wrote; leases cannot change the addresses of such a name.
    fixed: Vec<RData>,
    /// Addresses from leases, which count while nothing is fixed.
    leased: Vec<IpAddr>,
    /// Nodes below, and this one: a name that only others stand under exists, too (RFC 8020).
    below: usize,
}

/// What the zone says to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// These records, of the name asked for or of what it is an alias of.
    Records(Vec<Record>),
    /// The name is there, but has no such record; the zone's apex goes with it.
    NoData(Name),
    /// The name does not exist in a zone of ours; the zone's apex goes with it.
    NoName(Name),
    /// An alias to a name that is not ours: what is known, and who must be asked about.
    Elsewhere(Vec<Record>, Name),
    /// Not ours to answer.
    NotOurs,
}

/// The names of a network.
#[derive(Debug)]
pub struct Zone {
    domain: Option<(Key, Name)>,
    local_only: bool,
    subnets: Vec<(IpAddr, u8)>,
    nodes: HashMap<Key, Node>,
    reverse: HashMap<IpAddr, Vec<(Name, bool)>>,
    addresses: Vec<IpAddr>,
    ttl: u32,
    serial: u32,
}

impl Zone {
    /// The zone of a configuration, without leases. Records whose names are no names are left out.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let domain = config.domain.as_deref().and_then(|domain| Some((key_of(domain)?, absolute(domain)?)));
        let mut zone = Self {
            domain,
            // With nobody to ask, what is not known here is not known at all.
            local_only: config.local_only || config.forwarders.is_empty(),
            subnets: config.subnets.clone(),
            nodes: HashMap::new(),
            reverse: HashMap::new(),
            addresses: config.addresses.clone(),
            ttl: config.ttl,
            serial: 1,
        };
        for entry in &config.records {
            zone.add(entry);
        }
        for address in &config.addresses {
            zone.lease(GATEWAY, *address);
        }
        zone
    }

    /// Adds a record. False when its name or what it says cannot be written.
    pub fn add(&mut self, entry: &Entry) -> bool {
        let (Some(name), Some(data)) = (self.full(&entry.name), rdata(&entry.data)) else { return false };
        if let Data::Address(address) = entry.data {
            self.reverse.entry(address).or_default().push((name.clone(), true));
        }
        self.node(&key(&name)).fixed.push(data);
        self.serial = self.serial.wrapping_add(1);
        true
    }

    /// Takes one such record away, if it is there.
    pub fn remove(&mut self, entry: &Entry) {
        let (Some(name), Some(data)) = (self.full(&entry.name), rdata(&entry.data)) else { return };
        let at = key(&name);
        let Some(node) = self.nodes.get_mut(&at) else { return };
        let Some(place) = node.fixed.iter().position(|d| *d == data) else { return };
        node.fixed.swap_remove(place);
        if let Data::Address(address) = entry.data {
            self.forget_reverse(&name, address, true);
        }
        self.release(&at);
    }

    /// Gives an address of a lease a name: a label, or a full name. While a record has the name,
    /// the lease does not count. False when it does not, when the name is none, or when it is one
    /// that clients must not claim (`wpad`, CERT VU#598349).
    pub fn set_lease(&mut self, name: &str, address: IpAddr) -> bool {
        let Some(full) = self.full(name) else { return false };
        let at = key(&full);
        let reserved = [&b"\x04wpad"[..], b"\x06isatap", b"\x09localhost", b"\x02ns", b"\x07gateway"];
        if at.is_empty() || reserved.iter().any(|label| at.starts_with(label)) {
            return false;
        }
        self.lease(name, address);
        self.nodes.get(&at).is_some_and(|node| node.fixed.is_empty())
    }

    fn lease(&mut self, name: &str, address: IpAddr) {
        let Some(full) = self.full(name) else { return };
        let node = self.node(&key(&full));
        let known = node.leased.contains(&address);
        if known {
            self.release(&key(&full));
            return;
        }
        node.leased.push(address);
        self.reverse.entry(address).or_default().push((full, false));
        self.serial = self.serial.wrapping_add(1);
    }

    /// Takes the name of a lease away.
    pub fn remove_lease(&mut self, name: &str, address: IpAddr) {
        let Some(full) = self.full(name) else { return };
        let at = key(&full);
        let Some(node) = self.nodes.get_mut(&at) else { return };
        let Some(place) = node.leased.iter().position(|a| *a == address) else { return };
        node.leased.swap_remove(place);
        self.forget_reverse(&full, address, false);
        self.release(&at);
    }

    /// One record less at a name and its parents.
    fn release(&mut self, at: &Key) {
        self.serial = self.serial.wrapping_add(1);
        for suffix in suffixes(at) {
            if let Some(node) = self.nodes.get_mut(suffix) {
                node.below = node.below.saturating_sub(1);
                if node.below == 0 {
                    self.nodes.remove(suffix);
                }
            }
        }
    }

    fn forget_reverse(&mut self, name: &Name, address: IpAddr, fixed: bool) {
        let Some(names) = self.reverse.get_mut(&address) else { return };
        if let Some(place) = names.iter().position(|(n, f)| *f == fixed && n == name) {
            names.swap_remove(place);
        }
        if names.is_empty() {
            self.reverse.remove(&address);
        }
    }

    /// The names of an address that count: those of records, else those of leases which no record
    /// has.
    fn names_of(&self, address: &IpAddr) -> Vec<&Name> {
        let Some(names) = self.reverse.get(address) else { return Vec::new() };
        let of = |fixed| names.iter().filter(move |(_, f)| *f == fixed).map(|(name, _)| name);
        if of(true).next().is_some() {
            return of(true).collect();
        }
        let free = |name: &&Name| self.nodes.get(&key(name)).is_some_and(|node| node.fixed.is_empty());
        of(false).filter(free).collect()
    }

    /// The names of leases: the label of those in the domain, the full name of others.
    pub fn leases(&self) -> Vec<(String, IpAddr)> {
        let mut all = Vec::new();
        for (address, names) in &self.reverse {
            let own = self.full(GATEWAY).filter(|_| self.addresses.contains(address));
            for (name, _) in names.iter().filter(|(name, fixed)| !fixed && own.as_ref() != Some(name)) {
                let inside = self.domain.as_ref().is_some_and(|(_, domain)| name.base_name() == *domain);
                let label = name.iter().next().map(|l| String::from_utf8_lossy(l).into_owned());
                let text = label.filter(|_| inside).unwrap_or_else(|| name.to_ascii());
                all.push((text, *address));
            }
        }
        all
    }

    /// Counts one more record at `at` and its parents; returns the node.
    fn node(&mut self, at: &Key) -> &mut Node {
        for suffix in suffixes(at) {
            match self.nodes.get_mut(suffix) {
                Some(node) => node.below += 1,
                None => drop(self.nodes.insert(suffix.into(), Node { below: 1, ..Node::default() })),
            }
        }
        self.nodes.entry(at.clone()).or_default()
    }

    /// A name of one label is one of the domain's.
    fn full(&self, name: &str) -> Option<Name> {
        let plain = absolute(name)?;
        match &self.domain {
            Some((_, domain)) if plain.num_labels() == 1 => {
                let mut label = plain;
                label.set_fqdn(false);
                label.append_domain(domain).ok()
            }
            _ => Some(plain),
        }
    }

    /// The answer to a question, as far as it is known here.
    #[must_use]
    pub fn find(&self, name: &Name, kind: RecordType) -> Found {
        let at = key(name);
        if let Some(found) = self.find_reverse(name, &at, kind) {
            return found;
        }
        let mut records = Vec::new();
        let (mut owner, mut at) = (name.clone(), at);
        for _ in 0..MAX_ALIASES {
            let before = records.len();
            if let Some(target) = self.step(&owner, &at, kind, &mut records) {
                at = key(&target);
                owner = target;
                continue;
            }
            if records.len() > before {
                return Found::Records(records);
            }
            return match self.nothing(&owner, &at) {
                nothing if before == 0 => nothing,
                Found::NotOurs => Found::Elsewhere(records, owner),
                _ => Found::Records(records),
            };
        }
        Found::Records(records)
    }

    /// The answer to a question of another network, which can reach this one: about names of the domain and reverse names
    /// of the subnets. With it goes how many labels of the name are the domain's. `None`: the name is none of these.
    #[must_use]
    pub fn find_from_afar(&self, name: &Name, kind: RecordType) -> Option<(usize, Found)> {
        let at = key(name);
        if let Some((address, bits)) = reverse(&at) {
            let ours = self.subnets.iter().any(|(net, len)| bits >= *len && holds((*net, *len), address));
            return ours.then(|| (usize::MAX, self.find(name, kind)));
        }
        let depth = self.depth(&at);
        (depth > 0).then(|| (depth, self.find(name, kind)))
    }

    /// How many labels of a name are the domain's; 0: it is not of the domain.
    #[must_use]
    pub fn depth_of(&self, name: &Name) -> usize {
        self.depth(&key(name))
    }

    fn depth(&self, at: &[u8]) -> usize {
        let domain = self.domain.as_ref().filter(|(domain, _)| suffixes(at).any(|s| s == &**domain));
        domain.map_or(0, |(domain, _)| labels(domain))
    }

    /// Adds the records of one name; returns where its alias leads, when that is to be followed.
    fn step(&self, owner: &Name, at: &Key, kind: RecordType, records: &mut Vec<Record>) -> Option<Name> {
        let push = |records: &mut Vec<Record>, data: RData| {
            records.push(Record::from_rdata(owner.clone(), self.ttl, data));
        };
        if let Some((domain, apex)) = &self.domain {
            if at == domain {
                match kind {
                    RecordType::SOA => push(records, RData::SOA(self.soa(apex))),
                    RecordType::NS => push(records, RData::NS(NS(nameserver(apex)))),
                    _ => {}
                }
            } else if at.starts_with(b"\x02ns") && at.get(3..) == Some(&**domain) {
                let own = self.addresses.iter().map(|address| address_data(*address));
                own.filter(|data| data.record_type() == kind).for_each(|data| push(records, data));
            }
        }
        let plain = || Some([&**at, &*self.domain.as_ref()?.0].concat());
        let node = self.nodes.get(at).or_else(|| match labels(at) {
            1 => self.nodes.get(&*plain()?),
            _ => None,
        })?;
        let leased = node.leased.iter().filter(|_| node.fixed.is_empty());
        let leased = leased.map(|address| address_data(*address));
        for data in node.fixed.iter().cloned().chain(leased).filter(|data| data.record_type() == kind) {
            push(records, data);
        }
        let alias = node.fixed.iter().find_map(|data| match data {
            RData::CNAME(target) if kind != RecordType::CNAME => Some(target),
            _ => None,
        })?;
        push(records, RData::CNAME(alias.clone()));
        Some(alias.0.clone())
    }

    fn nothing(&self, name: &Name, at: &Key) -> Found {
        let plain = labels(at) == 1
            && self
                .domain
                .as_ref()
                .is_some_and(|(domain, _)| self.nodes.contains_key(&*[&**at, &**domain].concat()));
        let apex = self.domain.as_ref().filter(|(domain, _)| suffixes(at).any(|s| s == &**domain));
        let there = self.nodes.contains_key(at)
            || plain
            || apex.is_some_and(|(domain, _)| domain == at || is_ns(at, domain));
        match (apex, there) {
            (Some((_, apex)), true) => Found::NoData(apex.clone()),
            (None, true) if !at.is_empty() && self.has_records(at, plain) => Found::NoData(name.clone()),
            (Some((_, apex)), false) if self.local_only => Found::NoName(apex.clone()),
            _ => Found::NotOurs,
        }
    }

    /// A name outside of the domain is ours only when it has records itself.
    fn has_records(&self, at: &Key, plain: bool) -> bool {
        plain || self.nodes.get(at).is_some_and(|node| !node.fixed.is_empty() || !node.leased.is_empty())
    }

    /// Reverse names: of addresses that have names, and of the network's subnets.
    fn find_reverse(&self, name: &Name, at: &[u8], kind: RecordType) -> Option<Found> {
        let (address, bits) = reverse(at)?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        let whole = bits == all;
        let names = Some(self.names_of(&address)).filter(|names| whole && !names.is_empty());
        let ours = self.subnets.iter().find(|(net, len)| bits >= *len && holds((*net, *len), address));
        // A name above a subnet's own reverse name exists, but is not ours to speak about.
        let apex = || ours.and_then(|(net, len)| reverse_apex(*net, *len)).unwrap_or_else(|| name.clone());
        match names {
            Some(names) if kind == RecordType::PTR => {
                let record = |target: &&Name| {
                    let target = *target;
                    Record::from_rdata(name.clone(), self.ttl, RData::PTR(PTR(target.clone())))
                };
                Some(Found::Records(names.iter().map(record).collect()))
            }
            Some(_) => Some(Found::NoData(apex())),
            None if ours.is_none() => None,
            None if bits < all => Some(Found::NoData(apex())),
            None => Some(Found::NoName(apex())),
        }
    }

    /// The record that goes with absence (RFC 2308 §3).
    #[must_use]
    pub fn negative(&self, apex: &Name) -> Record {
        Record::from_rdata(apex.clone(), self.ttl, RData::SOA(self.soa(apex)))
    }

    fn soa(&self, apex: &Name) -> SOA {
        let server = nameserver(self.domain.as_ref().map_or(apex, |(_, domain)| domain));
        let mail = apex.prepend_label("hostmaster").unwrap_or_else(|_| apex.clone());
        SOA::new(server, mail, self.serial, 3600, 600, 86_400, self.ttl)
    }
}

fn is_ns(at: &[u8], domain: &[u8]) -> bool {
    at.strip_prefix(b"\x02ns").is_some_and(|rest| rest == domain)
}

fn nameserver(apex: &Name) -> Name {
    apex.prepend_label("ns").unwrap_or_else(|_| apex.clone())
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

/// A name in text as an absolute one. Underscores are allowed: services have them.
pub(crate) fn absolute(name: &str) -> Option<Name> {
    key_of(name)?;
    let mut name = Name::from_ascii(name.trim_matches('.')).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn rdata(data: &Data) -> Option<RData> {
    Some(match data {
        Data::Address(address) => address_data(*address),
        Data::Txt(strings) if !strings.is_empty() && strings.iter().all(|s| s.len() <= 255) => {
            RData::TXT(TXT::new(strings.clone()))
        }
        Data::Txt(_) => return None,
        Data::Srv { priority, weight, port, target } => {
            let target = if target == "." { Name::root() } else { absolute(target)? };
            RData::SRV(SRV::new(*priority, *weight, *port, target))
        }
        Data::Alias(target) => RData::CNAME(CNAME(absolute(target)?)),
    })
}

/// The address (and how many of its bits) that a reverse name stands for (RFC 1035 §3.5,
/// RFC 3596 §2.5). A name below that of a whole address has one bit more than there are.
pub(crate) fn reverse(at: &[u8]) -> Option<(IpAddr, u8)> {
    const V4: &[u8] = b"\x07in-addr\x04arpa";
    const V6: &[u8] = b"\x03ip6\x04arpa";
    let inner = |tail: &[u8]| at.strip_suffix(tail).filter(|rest| !rest.is_empty());
    let mut parts: Vec<&[u8]> = Vec::new();
    let split = |mut rest: &'_ [u8], parts: &mut Vec<Vec<u8>>| {
        while let Some((len, tail)) = rest.split_first() {
            let Some((label, next)) = tail.split_at_checked(usize::from(*len)) else { return false };
            parts.push(label.to_vec());
            rest = next;
        }
        true
    };
    let mut owned = Vec::new();
    if let Some(rest) = inner(V4) {
        split(rest, &mut owned).then_some(())?;
        parts.extend(owned.iter().rev().map(Vec::as_slice));
        let mut octets = [0; 4];
        for (i, part) in parts.iter().enumerate() {
            if i == 4 {
                return Some((Ipv4Addr::from(octets).into(), 33));
            }
            let text = core::str::from_utf8(part).ok()?;
            let plain = text.len() == 1 || !text.starts_with('0');
            *octets.get_mut(i)? =
                text.parse().ok().filter(|_| plain && text.bytes().all(|b| b.is_ascii_digit()))?;
        }
        return Some((Ipv4Addr::from(octets).into(), 8 * parts.len() as u8));
    }
    let rest = inner(V6)?;
    split(rest, &mut owned).then_some(())?;
    let mut number = 0u128;
    for (i, part) in owned.iter().rev().enumerate() {
        if i == 32 {
            return Some((Ipv6Addr::from(number).into(), 129));
        }
        let [digit] = part[..] else { return None };
        let nibble = u128::from(char::from(digit).to_digit(16)?);
        number |= nibble.checked_shl(124u32.checked_sub(4 * i as u32)?)?;
    }
    Some((Ipv6Addr::from(number).into(), 4 * owned.len() as u8))
}

/// The reverse zone of a subnet, cut to whole labels.
fn reverse_apex(net: IpAddr, len: u8) -> Option<Name> {
    let text = match net {
        IpAddr::V4(net) => {
            let octets = net.octets();
            let kept = octets.iter().take(usize::from(len / 8)).rev().map(|o| format!("{o}."));
            kept.collect::<String>() + "in-addr.arpa"
        }
        IpAddr::V6(net) => {
            let number = u128::from(net);
            let nibbles = (0..u32::from(len / 4)).rev().map(|i| number >> (124 - 4 * i) & 0xf);
            nibbles.map(|n| format!("{n:x}.")).collect::<String>() + "ip6.arpa"
        }
    };
    absolute(&text)
}
