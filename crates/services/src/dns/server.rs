//! Which query gets which answer, and who is asked when nobody here knows?

use core::net::{IpAddr, SocketAddr};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, HINFO};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable;
use smallvec::SmallVec;

use super::answer::{self, Answer, Bad, Query};
use super::cache::Cache;
use super::config::{Config, holds};
use super::pending::{Table, Waiter};
use super::zone::{Found, Zone, reverse};
use super::{Key, key, key_of, labels, suffixes};

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// In a stream, behind its length: see [`super::tcp`].
    Tcp,
}

/// What is to be done next. `P` is whatever the caller needs to find a client again: an envelope,
/// a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Step<P> {
    /// Send these bytes to this client.
    Answer(P, Vec<u8>),
    /// Ask a forwarder.
    Ask(Ask),
    /// Do nothing.
    Ignore(Ignored),
}

/// A question to a forwarder. Send it from a socket of its own, connected to `server`, and hand
/// what comes back to [`Server::handle_response`] with the token; close the socket when the token
/// is asked about again, or when [`Server::is_pending`] says that it is no longer needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Names the question.
    pub token: u64,
    /// Whom to ask.
    pub server: SocketAddr,
    /// How.
    pub transport: Transport,
    /// A random source port for UDP; any other random one is as good.
    pub port: u16,
    /// The message.
    pub message: Vec<u8>,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// Shorter than a header.
    #[error("too short for a message")]
    Short,
    /// A response where a query belongs.
    #[error("a response, not a query")]
    Response,
    /// The client waits for an answer that is on its way.
    #[error("the question is on its way")]
    OnItsWay,
    /// A response nobody waits for, or one that does not fit the question asked.
    #[error("not the answer to a question that was asked")]
    Unasked,
}

type Steps<P> = SmallVec<[Step<P>; 1]>;

/// The name server of one network.
#[derive(Debug)]
pub struct Server<P> {
    config: Config,
    domains: Vec<(Key, Vec<SocketAddr>)>,
    zone: Zone,
    cache: Cache,
    pending: Table<P>,
}

impl<P: Clone> Server<P> {
    /// A server that knows the records of its configuration and no leases.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            domains: domains(&config),
            zone: Zone::new(&config),
            cache: Cache::new(config.cache_entries),
            pending: Table::new(),
            config,
        }
    }

    /// Takes another configuration; the names of leases stay, questions on their way too. What
    /// was remembered is forgotten when others are asked from now on.
    pub fn configure(&mut self, config: Config) {
        let mut zone = Zone::new(&config);
        for (name, address) in self.zone.leases() {
            zone.set_lease(&name, address);
        }
        if (&config.forwarders, &config.domains) != (&self.config.forwarders, &self.config.domains)
            || config.cache_entries != self.config.cache_entries
        {
            self.cache = Cache::new(config.cache_entries);
        }
        self.domains = domains(&config);
        (self.zone, self.config) = (zone, config);
    }

    /// The network's names.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The network's names, to follow leases.
    pub fn zone_mut(&mut self) -> &mut Zone {
        &mut self.zone
    }

    /// Answers of forwarders that are remembered, and questions on their way to them.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.cache.len(), self.pending.len())
    }

    /// Forgets every answer of forwarders.
    pub fn flush(&mut self) {
        self.cache.clear();
    }

    /// Answers a query. `client` is the asker's address, `back` leads the answer to it, `now` is
    /// in milliseconds of a steady clock, and `random` gives unpredictable numbers.
    pub fn handle_query(
        &mut self,
        client: IpAddr,
        back: P,
        transport: Transport,
        bytes: &[u8],
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Step<P> {
        self.handle_query_among(&[], client, back, transport, bytes, now, random)
    }

    /// The same for a client that can reach other networks, too: what is said of their domains and reverse names is known.
    #[allow(clippy::too_many_arguments)] // A query and all that goes with it.
    pub fn handle_query_among(
        &mut self,
        others: &[&Zone],
        client: IpAddr,
        back: P,
        transport: Transport,
        bytes: &[u8],
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Step<P> {
        let query = match answer::read(bytes, transport, self.config.max_udp) {
            Ok(query) => query,
            Err(Bad::Ignore(why)) => return Step::Ignore(why),
            Err(Bad::Reply(bytes)) => return Step::Answer(back, bytes),
        };
        let allow = &self.config.allow;
        if !allow.is_empty() && !allow.iter().any(|net| holds(*net, client)) {
            return Step::Answer(back, say(&query, ResponseCode::Refused));
        }
        match self.local(&query, others) {
            Local::Answer(answer) => Step::Answer(back, answer::write(&query, answer)),
            Local::Ask(before, name) => self.ask(client, back, query, before, name, now, random),
        }
    }

    /// What is known here.
    fn local(&self, query: &Query, others: &[&Zone]) -> Local {
        let (name, kind) = (query.name(), query.kind());
        let ours = |answer| Local::Answer(Answer { authoritative: true, ..answer });
        let absent = |zone: &Zone, apex: &Name, code| {
            ours(Answer { code, authorities: vec![zone.negative(apex)], ..Answer::default() })
        };
        if kind == RecordType::ANY {
            // RFC 8482 §4.2.
            let data = RData::HINFO(HINFO::new("RFC8482".into(), String::new()));
            let answers = vec![Record::from_rdata(name.clone(), 3600, data)];
            return Local::Answer(Answer { answers, ..Answer::default() });
        }
        let (zone, found) = self.look_up(name, kind, others);
        match found {
            Found::Records(answers) => return ours(Answer { answers, ..Answer::default() }),
            Found::NoData(apex) => return absent(zone, &apex, ResponseCode::NoError),
            Found::NoName(apex) => return absent(zone, &apex, ResponseCode::NXDomain),
            Found::Elsewhere(before, target) => return Local::Ask(before, target),
            Found::NotOurs => {}
        }
        let at = key(name);
        if at.ends_with(b"\x09localhost") {
            // RFC 6761 §6.3.
            let data = match kind {
                RecordType::A => Some(RData::A(A::new(127, 0, 0, 1))),
                RecordType::AAAA => Some(RData::AAAA(AAAA(core::net::Ipv6Addr::LOCALHOST))),
                _ => None,
            };
            return match data {
                Some(data) => ours(Answer {
                    answers: vec![Record::from_rdata(name.clone(), self.config.ttl, data)],
                    ..Answer::default()
                }),
                None => absent(&self.zone, name, ResponseCode::NoError),
            };
        }
        let plain = labels(&at) == 1
            && !self.config.forward_plain_names
            && !matches!(kind, RecordType::NS | RecordType::DS);
        if self.domain_servers(&at).is_none() && (plain || stays_here(&at)) {
            return absent(&self.zone, &apex_of(name), ResponseCode::NXDomain);
        }
        Local::Ask(Vec::new(), name.clone())
    }

    /// The zone that says most about a name, and what it says: our own, or one of `others`.
    fn look_up<'a>(&'a self, name: &Name, kind: RecordType, others: &[&'a Zone]) -> (&'a Zone, Found) {
        let worth = |found: &Found| match found {
            Found::NotOurs => 0,
            Found::NoName(_) => 1,
            Found::NoData(_) => 2,
            Found::Elsewhere(..) => 3,
            Found::Records(_) => 4,
        };
        let (mut zone, mut best) = (&self.zone, self.zone.find(name, kind));
        let own = self.zone.depth_of(name);
        for other in others {
            let found = match &best {
                Found::Records(_) => break,
                // Where an alias of ours leads.
                Found::Elsewhere(before, target) => match other.find_from_afar(target, kind) {
                    Some((_, Found::Records(more))) => Found::Records([before.as_slice(), &more].concat()),
                    _ => continue,
                },
                _ => match other.find_from_afar(name, kind) {
                    Some((_, found @ Found::Records(_))) => found,
                    // Who has the longer domain knows what is not in it.
                    Some((depth, found)) if depth > own => found,
                    _ => continue,
                },
            };
            if worth(&found) > worth(&best) {
                (zone, best) = (other, found);
            }
        }
        (zone, best)
    }

    fn domain_servers(&self, at: &[u8]) -> Option<&[SocketAddr]> {
        suffixes(at)
            .find_map(|suffix| self.domains.iter().find(|(domain, _)| &**domain == suffix))
            .map(|(_, servers)| &**servers)
    }

    #[allow(clippy::too_many_arguments)] // A query and all that goes with it.
    fn ask(
        &mut self,
        client: IpAddr,
        back: P,
        query: Query,
        before: Vec<Record>,
        name: Name,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Step<P> {
        let at = key(&name);
        let question = (at, query.kind(), query.dnssec, query.metadata.checking_disabled);
        if let Some(answer) = self.cache.get(&question, now / 1000) {
            return Step::Answer(back, relay(&query, before, &name, answer));
        }
        if !query.metadata.recursion_desired {
            return Step::Answer(back, say(&query, ResponseCode::Refused));
        }
        let servers = match self.domain_servers(&question.0) {
            Some([]) => {
                let authorities = vec![self.zone.negative(&apex_of(&name))];
                let code = ResponseCode::NXDomain;
                return Step::Answer(
                    back,
                    answer::write(&query, Answer { code, authorities, ..Answer::default() }),
                );
            }
            Some(servers) => servers.to_vec(),
            None => self.config.forwarders.clone(),
        };
        if servers.is_empty() {
            return Step::Answer(back, say(&query, ResponseCode::Refused));
        }
        let waiter = Box::new(Waiter { back, address: client, query, before });
        let waiter = match self.pending.join(&question, waiter, self.config.pending.1) {
            // The client asks again by itself when too many wait.
            Ok(_) => return Step::Ignore(Ignored::OnItsWay),
            Err(waiter) => waiter,
        };
        let timing = (now, self.config.timeout_ms);
        match self.pending.start(question, waiter, &name, servers, self.config.pending, timing, random) {
            Ok(Some(ask)) => Step::Ask(ask),
            Ok(None) => Step::Ignore(Ignored::OnItsWay),
            Err(waiter) => Step::Answer(waiter.back, say(&waiter.query, ResponseCode::ServFail)),
        }
    }

    /// True while an answer to this question is waited for.
    #[must_use]
    pub fn is_pending(&self, token: u64) -> bool {
        self.pending.get(token).is_some()
    }

    /// Takes what a forwarder said. `from` is where it came from.
    pub fn handle_response(
        &mut self,
        token: u64,
        from: SocketAddr,
        transport: Transport,
        bytes: &[u8],
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Steps<P> {
        let unasked = || smallvec::smallvec![Step::Ignore(Ignored::Unasked)];
        let Some(pending) = self.pending.get(token) else { return unasked() };
        // Counts that the bytes cannot hold are not worth reading: a record is 11 bytes at least.
        let counts =
            bytes.get(4..12).map(|b| b.chunks_exact(2).map(|c| usize::from(c[0]) << 8 | usize::from(c[1])));
        let plausible = counts.is_some_and(|counts| counts.sum::<usize>() <= bytes.len() / 5);
        if from != pending.server || transport != pending.transport || !plausible {
            return unasked();
        }
        let Ok(message) = Message::from_bytes(bytes) else { return unasked() };
        let [question] = message.queries.as_slice() else { return unasked() };
        let (_, kind, ..) = pending.question;
        let meta = message.metadata;
        if meta.id != pending.id
            || meta.message_type != MessageType::Response
            || question.query_type() != kind
            || *question.name() != pending.name
        {
            return unasked();
        }
        let timing = (now, self.config.timeout_ms);
        // A server that does not give our letters back may be a forger's guess: TCP tells.
        let same_letters = question.name().eq_case(&pending.name);
        if transport == Transport::Udp && (meta.truncation || !same_letters) {
            return match self.pending.by_tcp(token, timing, random) {
                Some(ask) => smallvec::smallvec![Step::Ask(ask)],
                None => unasked(),
            };
        }
        let failed = !matches!(meta.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
        if failed && let Some(ask) = self.pending.again(token, timing, random) {
            return smallvec::smallvec![Step::Ask(ask)];
        }
        let Some(pending) = self.pending.finish(token) else { return unasked() };
        let answer = Answer {
            code: meta.response_code,
            authoritative: false,
            authentic: meta.authentic_data,
            answers: message.answers,
            authorities: message.authorities,
        };
        self.cache.put(pending.question, answer.clone(), now / 1000);
        let name = &pending.name;
        let reply = |w: Box<Waiter<P>>| Step::Answer(w.back, relay(&w.query, w.before, name, answer.clone()));
        pending.waiters.into_iter().map(reply).collect()
    }

    /// When [`Self::poll`] has something to do next, in milliseconds.
    #[must_use]
    pub fn next_at(&self) -> Option<u64> {
        self.pending.next_deadline()
    }

    /// Asks other forwarders where one was silent, and tells clients when all were.
    pub fn poll(&mut self, now: u64, random: &mut dyn FnMut() -> u64) -> Vec<Step<P>> {
        let mut steps = Vec::new();
        for token in self.pending.due(now) {
            match self.pending.again(token, (now, self.config.timeout_ms), random) {
                Some(ask) => steps.push(Step::Ask(ask)),
                None => {
                    let waiters =
                        self.pending.finish(token).map(|pending| pending.waiters).unwrap_or_default();
                    let fail =
                        |w: Box<Waiter<P>>| Step::Answer(w.back, say(&w.query, ResponseCode::ServFail));
                    steps.extend(waiters.into_iter().map(fail));
                }
            }
        }
        steps
    }
}

fn domains(config: &Config) -> Vec<(Key, Vec<SocketAddr>)> {
    config.domains.iter().filter_map(|f| Some((key_of(&f.domain)?, f.servers.clone()))).collect()
}

enum Local {
    Answer(Answer),
    /// Nobody here knows: aliases so far, and the name to ask about.
    Ask(Vec<Record>, Name),
}

fn say(query: &Query, code: ResponseCode) -> Vec<u8> {
    answer::write(query, Answer { code, ..Answer::default() })
}

/// A forwarder's answer, in the letters of this client's question, behind our own aliases.
fn relay(query: &Query, before: Vec<Record>, asked: &Name, mut answer: Answer) -> Vec<u8> {
    let letters = before.last().and_then(|record| match &record.data {
        RData::CNAME(target) => Some(target.0.clone()),
        _ => None,
    });
    let letters = letters.unwrap_or_else(|| query.name().clone());
    for record in answer.answers.iter_mut().chain(&mut answer.authorities) {
        if record.name == *asked {
            record.name.clone_from(&letters);
        }
    }
    answer.answers.splice(0..0, before);
    answer::write(query, answer)
}

/// The name that an absence is said of: the last label.
fn apex_of(name: &Name) -> Name {
    name.trim_to(1)
}

/// True for names that mean something only here and are never asked upstream: special names
/// (RFC 6761, 6762, 7686, 8375) and the reverse names of private addresses (RFC 6303).
fn stays_here(at: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] = [
        b"\x07invalid",
        b"\x05local",
        b"\x05onion",
        b"\x04test",
        b"\x09localhost",
        b"\x08internal",
        b"\x04home\x04arpa",
    ];
    if suffixes(at).any(|suffix| NAMES.contains(&suffix)) {
        return true;
    }
    match reverse(at) {
        Some((IpAddr::V4(ip), bits)) => {
            let shared = bits >= 16 && ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            let second = bits >= 16 && (ip.is_private() || ip.is_link_local());
            let first = matches!(ip.octets()[0], 0 | 10 | 127);
            shared || second || first || ip.is_broadcast() || (bits >= 24 && ip.is_documentation())
        }
        Some((IpAddr::V6(ip), bits)) => {
            let whole = bits == 128 && (ip.is_loopback() || ip.is_unspecified());
            whole || (bits >= 8 && ip.octets()[0] == 0xfd) || (bits >= 12 && ip.is_unicast_link_local())
        }
        None => false,
    }
}
