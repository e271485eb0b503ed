//! Which questions are on their way to forwarders, and who waits for them?

use core::net::{IpAddr, SocketAddr};
use std::collections::{BTreeSet, HashMap};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question};
use hickory_proto::rr::{Name, Record};

use super::answer::Query;
use super::cache;
use super::server::{Ask, Transport};

/// Most clients that wait for one answer.
const MAX_WAITERS: usize = 64;
/// Most times that forwarders are asked about one question.
const MAX_TRIES: usize = 4;

/// A client that waits.
#[derive(Debug)]
pub(super) struct Waiter<P> {
    pub(super) back: P,
    pub(super) address: IpAddr,
    pub(super) query: Query,
    /// Aliases of ours that led to the question.
    pub(super) before: Vec<Record>,
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Pending<P> {
    pub(super) question: cache::Question,
    /// The name as it was sent, in letters of random case.
    pub(super) name: Name,
    pub(super) waiters: Vec<Box<Waiter<P>>>,
    servers: Vec<SocketAddr>,
    tries: usize,
    pub(super) server: SocketAddr,
    pub(super) id: u16,
    pub(super) transport: Transport,
    deadline: u64,
}

/// All questions on their way, bounded in all and per client.
#[derive(Debug)]
pub(super) struct Table<P> {
    all: HashMap<u64, Pending<P>>,
    by_question: HashMap<cache::Question, u64>,
    by_deadline: BTreeSet<(u64, u64)>,
    by_client: HashMap<IpAddr, usize>,
    next: u64,
}

impl<P> Table<P> {
    pub(super) fn new() -> Self {
        Self {
            all: HashMap::new(),
            by_question: HashMap::new(),
            by_deadline: BTreeSet::new(),
            by_client: HashMap::new(),
            next: 1,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, token: u64) -> Option<&Pending<P>> {
        self.all.get(&token)
    }

    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    pub(super) fn due(&self, now: u64) -> Vec<u64> {
        self.by_deadline.range(..=(now, u64::MAX)).map(|(_, token)| *token).collect()
    }

    /// Lets a client wait for a question that is on its way already. Gives it back when the
    /// question is not, or when too many wait.
    pub(super) fn join(
        &mut self,
        question: &cache::Question,
        waiter: Box<Waiter<P>>,
        most: usize,
    ) -> Result<bool, Box<Waiter<P>>> {
        let Some(pending) = self.by_question.get(question).and_then(|token| self.all.get_mut(token)) else {
            return Err(waiter);
        };
        let count = self.by_client.entry(waiter.address).or_default();
        if pending.waiters.len() >= MAX_WAITERS || *count >= most {
            return Ok(false);
        }
        *count += 1;
        pending.waiters.push(waiter);
        Ok(true)
    }

    /// Sends a question on its way. Gives the client back when too many are.
    #[allow(clippy::too_many_arguments)] // All that makes a question.
    pub(super) fn start(
        &mut self,
        question: cache::Question,
        waiter: Box<Waiter<P>>,
        name: &Name,
        servers: Vec<SocketAddr>,
        limits: (usize, usize),
        timing: (u64, u64),
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Option<Ask>, Box<Waiter<P>>> {
        let count = self.by_client.get(&waiter.address).copied().unwrap_or_default();
        let Some(server) = servers.first().copied() else { return Err(waiter) };
        if self.all.len() >= limits.0 || count >= limits.1 {
            return Err(waiter);
        }
        self.by_client.insert(waiter.address, count + 1);
        let token = self.next;
        self.next += 1;
        let pending = Pending {
            question: question.clone(),
            name: name.clone(),
            waiters: vec![waiter],
            servers,
            tries: 0,
            server,
            id: 0,
            transport: Transport::Udp,
            deadline: 0,
        };
        self.by_question.insert(question, token);
        self.all.insert(token, pending);
        // A question that was read can be written: this is always an Ask.
        self.ask(token, server, Transport::Udp, timing, random).map_or(Ok(None), |ask| Ok(Some(ask)))
    }

    /// Asks the next server, in order; None when all were asked often enough.
    pub(super) fn again(
        &mut self,
        token: u64,
        timing: (u64, u64),
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Ask> {
        let pending = self.all.get(&token)?;
        let tries = pending.tries;
        // Two rounds at most.
        if tries >= MAX_TRIES.min(2 * pending.servers.len()) {
            return None;
        }
        let server = *pending.servers.get(tries % pending.servers.len())?;
        self.ask(token, server, Transport::Udp, timing, random)
    }

    /// Asks the same server by TCP: its answer was cut short, or its letters were not ours.
    pub(super) fn by_tcp(
        &mut self,
        token: u64,
        timing: (u64, u64),
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Ask> {
        let server = self.all.get(&token).filter(|pending| pending.transport == Transport::Udp)?.server;
        self.ask(token, server, Transport::Tcp, timing, random)
    }

    fn ask(
        &mut self,
        token: u64,
        server: SocketAddr,
        transport: Transport,
        (now, timeout): (u64, u64),
        random: &mut dyn FnMut() -> u64,
    ) -> Option<Ask> {
        let pending = self.all.get_mut(&token)?;
        self.by_deadline.remove(&(pending.deadline, token));
        let bits = random();
        pending.tries += 1;
        pending.server = server;
        pending.transport = transport;
        pending.id = bits as u16;
        pending.name = mixed(&pending.name, random);
        pending.deadline = now.saturating_add(timeout);
        self.by_deadline.insert((pending.deadline, token));
        let (_, kind, dnssec, unchecked) = &pending.question;
        let mut message = Message::new(pending.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = *unchecked;
        message.queries.push(Question::query(pending.name.clone(), *kind));
        let mut edns = Edns::new();
        edns.set_max_payload(1232).set_dnssec_ok(*dnssec).set_version(0);
        message.edns = Some(edns);
        // 1024 and above, evenly (RFC 5452 §9.2).
        let port = 1024 + ((bits >> 16) % (65_536 - 1024)) as u16;
        Some(Ask { token, server, transport, port, message: message.to_vec().ok()? })
    }

    /// Takes a question off the table.
    pub(super) fn finish(&mut self, token: u64) -> Option<Pending<P>> {
        let pending = self.all.remove(&token)?;
        self.by_deadline.remove(&(pending.deadline, token));
        self.by_question.remove(&pending.question);
        for waiter in &pending.waiters {
            if let Some(count) = self.by_client.get_mut(&waiter.address) {
                *count -= 1;
                if *count == 0 {
                    self.by_client.remove(&waiter.address);
                }
            }
        }
        Some(pending)
    }
}

/// The name with letters of random case: 0x20, bits that a forger has to guess.
fn mixed(name: &Name, random: &mut dyn FnMut() -> u64) -> Name {
    let (mut bits, mut left) = (0, 0);
    let mut flip = |byte: u8| {
        if !byte.is_ascii_alphabetic() {
            return byte;
        }
        if left == 0 {
            (bits, left) = (random(), 64);
        }
        left -= 1;
        bits >>= 1;
        if bits & 1 == 0 { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() }
    };
    let labels: Vec<Vec<u8>> = name.iter().map(|label| label.iter().map(|b| flip(*b)).collect()).collect();
    Name::from_labels(labels.iter().map(Vec::as_slice)).unwrap_or_else(|_| name.clone())
}
