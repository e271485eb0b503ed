//! Which request gets which reply? (RFC 2131 §4.3)

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use smallvec::SmallVec;
use weft_wire::Mac;

use super::SERVER_PORT;
use super::answer;
use super::config::{Config, Host, HostId};
use super::hosts::{Known, Scope};
use super::message::{Kind, Message};
use super::option::code;
use super::outcome::{Event, Ignored, NakReason, Outcome};
use crate::frame::Datagram;
use crate::lease::{Changes, Client, Lease, LeaseBook, LeaseChange, LeaseState, NEVER};

/// Shortest lease that a client can ask for, in seconds.
const MIN_LEASE: u32 = 120;
/// Most relays a request may have crossed (RFC 1542 §4.1.1).
const MAX_HOPS: u8 = 16;

/// The DHCPv4 server of one network: its configuration and its book of leases.
#[derive(Debug)]
pub struct Server {
    config: Config,
    scopes: Vec<Scope>,
    book: LeaseBook<Ipv4Addr>,
}

/// How a client came to ask for an address (RFC 2131 §4.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Selecting,
    InitReboot,
    Renewing,
}

type Found = SmallVec<[usize; 4]>;

impl Server {
    /// A server with an empty book.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut server =
            Self { config: Config::new(config.mac), scopes: Vec::new(), book: LeaseBook::new(Vec::new()) };
        server.configure(config);
        server
    }

    /// Takes another configuration and keeps the leases. Those that lie in no subnet any more are
    /// returned as changes.
    pub fn configure(&mut self, mut config: Config) -> Vec<LeaseChange<Ipv4Addr>> {
        self.scopes = core::mem::take(&mut config.subnets).into_iter().map(Scope::new).collect();
        self.config = config;
        self.book.set_pools(self.scopes.iter().map(Scope::pool).collect())
    }

    /// Adds or replaces one fixed host in the subnet of `network`; O(log n). False when there is
    /// no such subnet.
    pub fn set_host(&mut self, network: Ipv4Addr, host: Host) -> bool {
        let Some(scope) = self.scopes.iter_mut().find(|s| s.subnet.network == network) else { return false };
        let fresh = host.address;
        if let Some(freed) = scope.insert(host) {
            self.book.unreserve(freed);
        }
        fresh.into_iter().for_each(|address| self.book.reserve(address));
        true
    }

    /// Removes a fixed host; its lease ends. An address that was declined stays so. Returns the changes to store.
    pub fn remove_host(&mut self, network: Ipv4Addr, id: &HostId) -> Option<LeaseChange<Ipv4Addr>> {
        let scope = self.scopes.iter_mut().find(|s| s.subnet.network == network)?;
        let freed = scope.remove(id)?;
        let declined = self.book.get(freed).is_some_and(|lease| lease.state == LeaseState::Declined);
        let change = if declined { None } else { self.book.remove(freed) };
        self.book.unreserve(freed);
        change
    }

    /// The leases.
    #[must_use]
    pub fn book(&self) -> &LeaseBook<Ipv4Addr> {
        &self.book
    }

    /// The leases, to load stored ones, to revert a change that could not be stored, to sweep.
    pub fn book_mut(&mut self) -> &mut LeaseBook<Ipv4Addr> {
        &mut self.book
    }

    /// Answers a frame. `now` is in seconds of any clock that does not jump back, the same one
    /// that stored leases were written with.
    pub fn handle_frame(&mut self, frame: &[u8], now: u64) -> Outcome {
        match Datagram::parse(frame) {
            Ok(datagram) => self.handle(&datagram, now),
            Err(_) => Ignored::NotForServer.into(),
        }
    }

    /// Answers a datagram.
    pub fn handle(&mut self, datagram: &Datagram<'_>, now: u64) -> Outcome {
        if datagram.dst_port != SERVER_PORT {
            return Ignored::NotForServer.into();
        }
        let message = match Message::parse(datagram.payload) {
            Ok(message) => message,
            Err(why) => return Ignored::Parse(why).into(),
        };
        if message.hops > MAX_HOPS || (message.htype == 1 && !message.mac().is_some_and(|m| m.is_unicast())) {
            return Ignored::Nonsense.into();
        }
        let direct = message.giaddr == Ipv4Addr::UNSPECIFIED && message.kind != Kind::Inform;
        // A renewal may come through a router, which puts its own address on the frame; it then
        // comes from the IP address it is about.
        let routed = message.ciaddr != Ipv4Addr::UNSPECIFIED && datagram.src == IpAddr::V4(message.ciaddr);
        let foreign = message.mac().is_some_and(|mac| mac != datagram.mac_src);
        if self.config.strict_mac && direct && foreign && !routed {
            return Ignored::ForeignHardware.into();
        }
        let found = self.candidates(datagram, &message);
        if found.is_empty() {
            return Ignored::NoSubnet.into();
        }
        match message.kind {
            Kind::Discover => self.discover(datagram, &message, &found, now),
            Kind::Request => self.request(datagram, &message, &found, now),
            Kind::Decline => self.decline(&message, &found, now),
            Kind::Release => self.release(&message, now),
            Kind::Inform => self.inform(datagram, &message, &found),
            Kind::Offer | Kind::Ack | Kind::Nak => Ignored::Nonsense.into(),
        }
    }

    /// Somebody of this Ethernet address answered the probe of an address that was offered: nobody
    /// is given it for [`Config::decline_seconds`].
    pub fn conflict(&mut self, address: Ipv4Addr, holder: Mac, now: u64) -> Changes<Ipv4Addr> {
        let Some(lease) = self.book.get(address).cloned() else { return Changes::new() };
        let lease = Lease { client: Client::mac(holder), mac: Some(holder), hostname: None, ..lease };
        self.set_aside(lease, now)
    }

    fn set_aside(&mut self, lease: Lease<Ipv4Addr>, now: u64) -> Changes<Ipv4Addr> {
        let expires = now.saturating_add(u64::from(self.config.decline_seconds));
        self.book.set(Lease { state: LeaseState::Declined, since: now, expires, ..lease })
    }

    /// The subnets a client may be of: the relay's (RFC 2131 §4.3.1, RFC 3011, RFC 3527), that of
    /// an address it holds and sends from, or those of the link.
    fn candidates(&self, datagram: &Datagram<'_>, message: &Message<'_>) -> Found {
        let relayed = message.giaddr != Ipv4Addr::UNSPECIFIED;
        let link = message
            .relay_address(code::RELAY_LINK)
            .or_else(|| message.address(code::SUBNET))
            .or_else(|| relayed.then_some(message.giaddr));
        let of = |address| self.book.pool_of(address).into_iter().collect::<Found>();
        if let Some(link) = link {
            return of(link);
        }
        let unicast = matches!(datagram.dst, IpAddr::V4(dst) if !dst.is_broadcast());
        if unicast && message.ciaddr != Ipv4Addr::UNSPECIFIED {
            return of(message.ciaddr);
        }
        (0..self.scopes.len()).filter(|at| self.scopes.get(*at).is_some_and(|s| !s.subnet.relayed)).collect()
    }

    /// True when the client may have `address` now, as far as leases go.
    fn open(&self, address: Ipv4Addr, known: &Known<'_>, message: &Message<'_>, now: u64) -> bool {
        self.book.get(address).is_none_or(|lease| {
            lease.expires <= now || (lease.state != LeaseState::Declined && known.holds(lease, message))
        })
    }

    /// True when one that knows no lease of its own holds too many under other names.
    fn greedy(&self, message: &Message<'_>, now: u64) -> bool {
        let most = self.config.per_mac;
        most != 0 && message.mac().is_some_and(|mac| self.book.held_by(mac, now) >= most)
    }

    fn pick(&self, at: usize, message: &Message<'_>, now: u64) -> Option<Ipv4Addr> {
        let scope = self.scopes.get(at)?;
        let known = scope.known(message, at, &self.book);
        let fixed = known.host.and_then(|fixed| fixed.host.address);
        if let Some(address) = fixed.filter(|address| self.open(*address, &known, message, now)) {
            return Some(address);
        }
        if scope.subnet.known_only && known.host.is_none() {
            return None;
        }
        if self.greedy(message, now) && self.book.find(at, &known.client).is_none() {
            return None;
        }
        self.book.choose(at, &known.client, message.address(code::REQUESTED), now)
    }

    fn discover(
        &mut self,
        datagram: &Datagram<'_>,
        message: &Message<'_>,
        found: &Found,
        now: u64,
    ) -> Outcome {
        // Where the client is known goes before where it is not.
        let knows = |at: &usize| {
            self.scopes.get(*at).is_some_and(|scope| {
                let known = scope.known(message, *at, &self.book);
                known.host.is_some() || self.book.find(*at, &known.client).is_some()
            })
        };
        let first = (found.len() > 1).then(|| found.iter().copied().find(knows)).flatten();
        let picked = first
            .into_iter()
            .chain(found.iter().copied())
            .find_map(|at| Some((at, self.pick(at, message, now)?)));
        let Some((at, address)) = picked else { return Ignored::NoAddress.into() };
        let Some(scope) = self.scopes.get(at) else { return Ignored::NoSubnet.into() };
        let known = scope.known(message, at, &self.book);
        let entry = self.book.get(address).filter(|lease| known.holds(lease, message));
        let held = entry.is_some_and(|lease| lease.is_bound(now));
        let probe = (scope.subnet.probe && entry.is_none_or(|lease| lease.state == LeaseState::Offered))
            .then_some(address);
        // What is not known to be free is promised, not given.
        if scope.subnet.rapid_commit && message.has(code::RAPID_COMMIT) && probe.is_none() {
            return self.give(datagram, message, at, address, now);
        }
        let seconds = lease_seconds(scope, &known, message, address);
        let bytes = answer::grant(scope, &known, message, Kind::Offer, Some(address), Some(seconds));
        let Some(reply) = bytes.and_then(|b| self.seal(datagram, message, at, Kind::Offer, address, &b))
        else {
            return Ignored::TooLarge.into();
        };
        let mut changes = Changes::new();
        if !held {
            let until = now.saturating_add(u64::from(self.config.offer_seconds));
            let lease = lease(&known, message, address, LeaseState::Offered, now, until);
            changes = self.book.set(lease);
        }
        Outcome { reply: Some(reply), changes, probe, event: Event::Offered(address) }
    }

    fn request(
        &mut self,
        datagram: &Datagram<'_>,
        message: &Message<'_>,
        found: &Found,
        now: u64,
    ) -> Outcome {
        let requested = message.address(code::REQUESTED);
        let held = (message.ciaddr != Ipv4Addr::UNSPECIFIED).then_some(message.ciaddr);
        let (asks, address) = match (message.address(code::SERVER_ID), requested, held) {
            (Some(server), requested, held) => {
                if !self.is_us(server, message) {
                    self.forget_offer(message, found);
                    return Ignored::OtherServer.into();
                }
                match requested.or(held) {
                    Some(address) => (Asks::Selecting, address),
                    None => return Ignored::Nonsense.into(),
                }
            }
            (None, _, Some(held)) => (Asks::Renewing, held),
            (None, Some(requested), None) => (Asks::InitReboot, requested),
            (None, None, None) => return Ignored::Nonsense.into(),
        };
        let here = self.book.pool_of(address).filter(|at| found.contains(at));
        let Some((at, scope)) = here.and_then(|at| Some((at, self.scopes.get(at)?))) else {
            // Wrong network: said aloud by whoever is sure of this one.
            let at = found.first().copied().unwrap_or_default();
            return self.nak(datagram, message, at, NakReason::WrongNetwork);
        };
        let known = scope.known(message, at, &self.book);
        let entry = self.book.get(address).filter(|lease| known.holds(lease, message));
        let fixed = known.host.and_then(|fixed| fixed.host.address);
        let mine = scope.is_fixed_for(address, &known);
        if !mine && entry.is_none() && (asks != Asks::Selecting && !self.config.authoritative) {
            return Ignored::Unknown.into();
        }
        let why = if !self.open(address, &known, message, now) {
            NakReason::InUse
        } else if mine {
            return self.give(datagram, message, at, address, now);
        } else if fixed.is_some_and(|fixed| self.open(fixed, &known, message, now)) {
            NakReason::OtherAddress
        } else if !self.book.is_dynamic(at, address)
            || (scope.subnet.known_only && known.host.is_none())
            || (self.greedy(message, now) && self.book.find(at, &known.client).is_none())
        {
            NakReason::NotGiven
        } else {
            return self.give(datagram, message, at, address, now);
        };
        self.nak(datagram, message, at, why)
    }

    /// Binds the address and says so.
    fn give(
        &mut self,
        datagram: &Datagram<'_>,
        message: &Message<'_>,
        at: usize,
        address: Ipv4Addr,
        now: u64,
    ) -> Outcome {
        let Some(scope) = self.scopes.get(at) else { return Ignored::NoSubnet.into() };
        let known = scope.known(message, at, &self.book);
        let seconds = lease_seconds(scope, &known, message, address);
        let until = if seconds == u32::MAX { NEVER } else { now.saturating_add(u64::from(seconds)) };
        let bytes = answer::grant(scope, &known, message, Kind::Ack, Some(address), Some(seconds));
        let Some(reply) = bytes.and_then(|b| self.seal(datagram, message, at, Kind::Ack, address, &b)) else {
            return Ignored::TooLarge.into();
        };
        let lease = lease(&known, message, address, LeaseState::Bound, now, until);
        let changes = self.book.set(lease);
        Outcome { reply: Some(reply), changes, probe: None, event: Event::Acked(address) }
    }

    fn nak(&self, datagram: &Datagram<'_>, message: &Message<'_>, at: usize, why: NakReason) -> Outcome {
        let bytes = self.scopes.get(at).and_then(|scope| answer::refuse(scope, message, &why.to_string()));
        let none = Ipv4Addr::UNSPECIFIED;
        match bytes.and_then(|b| self.seal(datagram, message, at, Kind::Nak, none, &b)) {
            Some(reply) => Outcome { reply: Some(reply), ..Outcome::silent(Event::Nak(why)) },
            None => Ignored::TooLarge.into(),
        }
    }

    fn decline(&mut self, message: &Message<'_>, found: &Found, now: u64) -> Outcome {
        let server = message.address(code::SERVER_ID);
        let Some(address) = message.address(code::REQUESTED) else { return Ignored::Nonsense.into() };
        if server.is_some_and(|server| !self.is_us(server, message)) {
            return Ignored::OtherServer.into();
        }
        let Some(at) = self.book.pool_of(address).filter(|at| found.contains(at)) else {
            return Ignored::NoSubnet.into();
        };
        let holds = self.scopes.get(at).zip(self.book.get(address)).is_some_and(|(scope, lease)| {
            matches!(lease.state, LeaseState::Bound | LeaseState::Offered)
                && scope.known(message, at, &self.book).holds(lease, message)
        });
        if !holds {
            return Ignored::Unknown.into();
        }
        // One client that declines everything must not empty the pool.
        let (_, all) = self.book.room(at, now);
        if self.book.declined(now) as u128 > all / 4 {
            return Ignored::TooManyDeclined.into();
        }
        let changes = self.book.get(address).cloned().map(|lease| self.set_aside(lease, now));
        let changes = changes.unwrap_or_default();
        Outcome { changes, ..Outcome::silent(Event::Declined(address)) }
    }

    fn release(&mut self, message: &Message<'_>, now: u64) -> Outcome {
        let address = message.ciaddr;
        let Some(lease) = self.book.get(address).filter(|lease| lease.state == LeaseState::Bound) else {
            return Ignored::Unknown.into();
        };
        let scope = self.book.pool_of(address).and_then(|at| Some((at, self.scopes.get(at)?)));
        if !scope.is_some_and(|(at, scope)| scope.known(message, at, &self.book).holds(lease, message)) {
            return Ignored::Unknown.into();
        }
        if message.address(code::SERVER_ID).is_some_and(|server| !self.is_us(server, message)) {
            return Ignored::OtherServer.into();
        }
        let expires = lease.expires.min(now);
        let changes =
            self.book.set(Lease { state: LeaseState::Released, since: now, expires, ..lease.clone() });
        Outcome { changes, ..Outcome::silent(Event::Released(address)) }
    }

    /// Options for a client that has an address already (RFC 2131 §4.3.5): no address, no times.
    fn inform(&self, datagram: &Datagram<'_>, message: &Message<'_>, found: &Found) -> Outcome {
        let own = match datagram.src {
            _ if message.ciaddr != Ipv4Addr::UNSPECIFIED => message.ciaddr,
            IpAddr::V4(src) => src,
            IpAddr::V6(_) => return Ignored::Nonsense.into(),
        };
        let here = self.book.pool_of(own).filter(|at| found.contains(at));
        let Some(at) = here.or(found.first().copied()) else { return Ignored::NoSubnet.into() };
        let Some(scope) = self.scopes.get(at) else { return Ignored::NoSubnet.into() };
        let known = scope.known(message, at, &self.book);
        let bytes = answer::grant(scope, &known, message, Kind::Ack, None, None);
        match bytes.and_then(|b| self.seal(datagram, message, at, Kind::Ack, own, &b)) {
            Some(reply) => Outcome { reply: Some(reply), ..Outcome::silent(Event::Informed(own)) },
            None => Ignored::TooLarge.into(),
        }
    }

    /// Drops the offer to a client that took another server's.
    fn forget_offer(&mut self, message: &Message<'_>, found: &Found) {
        for at in found {
            let Some(scope) = self.scopes.get(*at) else { continue };
            let known = scope.known(message, *at, &self.book);
            if let Some(address) = self.book.find(*at, &known.client).map(|lease| lease.address) {
                self.book.forget_offer(address);
            }
        }
    }

    fn is_us(&self, server: Ipv4Addr, message: &Message<'_>) -> bool {
        self.scopes.iter().any(|scope| scope.subnet.server == server)
            || message.relay_address(code::RELAY_SERVER_ID) == Some(server)
    }

    fn seal(
        &self,
        datagram: &Datagram<'_>,
        message: &Message<'_>,
        at: usize,
        kind: Kind,
        yiaddr: Ipv4Addr,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let server = self.scopes.get(at)?.subnet.server;
        let envelope = answer::envelope(datagram, message, kind, yiaddr, self.config.mac, server);
        envelope.seal(bytes).ok()
    }
}

fn lease_seconds(scope: &Scope, known: &Known<'_>, message: &Message<'_>, address: Ipv4Addr) -> u32 {
    let own = known.host.and_then(|fixed| fixed.host.lease_seconds);
    let most = own.unwrap_or_else(|| scope.lease_seconds(address));
    let asked = message.number32(code::LEASE_TIME).unwrap_or(most);
    asked.clamp(MIN_LEASE.min(most), most)
}

fn lease(
    known: &Known<'_>,
    message: &Message<'_>,
    address: Ipv4Addr,
    state: LeaseState,
    now: u64,
    expires: u64,
) -> Lease<Ipv4Addr> {
    let given = known.host.and_then(|fixed| fixed.name.clone());
    let hostname = given.or_else(|| answer::name(known, message).map(Arc::from));
    Lease { address, client: known.client.clone(), mac: message.mac(), hostname, state, since: now, expires }
}
