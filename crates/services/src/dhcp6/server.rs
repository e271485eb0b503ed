//! Which message gets which reply? (RFC 8415 §16, §18.3)

use core::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use smallvec::SmallVec;

use super::config::{Config, Host, HostId};
use super::hosts::{Scope, Who};
use super::message::{Ia, Kind, Message, Status, code};
use super::outcome::{Event, Ignored, Outcome};
use super::write::Writer;
use super::{CLIENT_PORT, SERVER_PORT};
use crate::dhcp4::option::label;
use crate::frame::{Datagram, Envelope, link_local};
use crate::lease::{Changes, Client, Lease, LeaseBook, LeaseChange, LeaseState, NEVER};

/// Most associations answered in one message.
const MAX_IAS: usize = 4;

/// The DHCPv6 server of one network: its configuration and its book of leases.
#[derive(Debug)]
pub struct Server {
    config: Config,
    options: Vec<(u16, Vec<u8>)>,
    scopes: Vec<Scope>,
    book: LeaseBook<Ipv6Addr>,
}

type Found = SmallVec<[usize; 4]>;

impl Server {
    /// A server with an empty book.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mut server = Self {
            config: Config::new(config.mac),
            options: Vec::new(),
            scopes: Vec::new(),
            book: LeaseBook::new(Vec::new()),
        };
        server.configure(config);
        server
    }

    /// Takes another configuration and keeps the leases. Those that lie in no subnet any more are
    /// returned as changes.
    pub fn configure(&mut self, mut config: Config) -> Vec<LeaseChange<Ipv6Addr>> {
        self.scopes = core::mem::take(&mut config.subnets).into_iter().map(Scope::new).collect();
        self.options = config.options.encode();
        self.config = config;
        self.book.set_pools(self.scopes.iter().map(Scope::pool).collect())
    }

    /// Adds or replaces one fixed host in the subnet of `network`; O(log n). False when there is
    /// no such subnet.
    pub fn set_host(&mut self, network: Ipv6Addr, host: Host) -> bool {
        let Some(scope) = self.scopes.iter_mut().find(|s| s.subnet.network == network) else { return false };
        let fresh = host.address;
        let old = scope.hosts.insert(host.id.clone(), host).and_then(|host| host.address);
        old.into_iter().for_each(|address| self.book.unreserve(address));
        fresh.into_iter().for_each(|address| self.book.reserve(address));
        true
    }

    /// Removes a fixed host; its lease ends. An address that was declined stays so. Returns the change to store.
    pub fn remove_host(&mut self, network: Ipv6Addr, id: &HostId) -> Option<LeaseChange<Ipv6Addr>> {
        let scope = self.scopes.iter_mut().find(|s| s.subnet.network == network)?;
        let freed = scope.hosts.remove(id)?.address?;
        let declined = self.book.get(freed).is_some_and(|lease| lease.state == LeaseState::Declined);
        let change = if declined { None } else { self.book.remove(freed) };
        self.book.unreserve(freed);
        change
    }

    /// The leases.
    #[must_use]
    pub fn book(&self) -> &LeaseBook<Ipv6Addr> {
        &self.book
    }

    /// The leases, to load stored ones, to revert a change that could not be stored, to sweep.
    pub fn book_mut(&mut self) -> &mut LeaseBook<Ipv6Addr> {
        &mut self.book
    }

    /// Answers a frame; `now` as in the DHCPv4 server.
    pub fn handle_frame(&mut self, frame: &[u8], now: u64) -> Outcome {
        match Datagram::parse(frame) {
            Ok(datagram) => self.handle(&datagram, now),
            Err(_) => Ignored::NotForServer.into(),
        }
    }

    /// Answers a datagram.
    pub fn handle(&mut self, datagram: &Datagram<'_>, now: u64) -> Outcome {
        let (IpAddr::V6(dst), IpAddr::V6(client)) = (datagram.dst, datagram.src) else {
            return Ignored::NotForServer.into();
        };
        if datagram.dst_port != SERVER_PORT || client.is_multicast() || client.is_unspecified() {
            return Ignored::NotForServer.into();
        }
        let message = match Message::parse(datagram.payload) {
            Ok(message) => message,
            Err(why) => return Ignored::Parse(why).into(),
        };
        let ias = match message.ias() {
            Ok(mut ias) => {
                ias.truncate(MAX_IAS);
                ias
            }
            Err(why) => return Ignored::Parse(why).into(),
        };
        if let Err(why) = self.admit(&message) {
            return why.into();
        }
        let direct = message.relays.is_empty();
        let mac = if direct { Some(datagram.mac_src) } else { message.relays.last().and_then(|r| r.mac) };
        let duid = message.duid().unwrap_or_default();
        let name = client_name(&message).or_else(|| self.name_held(&message, duid, &ias));
        let who = Who { duid, mac, name: name.as_deref() };
        let (writer, changes, first) = if direct && !dst.is_multicast() {
            match self.unicast(&message) {
                Ok(writer) => (writer, Changes::new(), None),
                Err(why) => return why.into(),
            }
        } else {
            match self.answer(&message, who, &ias, now) {
                Ok(answer) => answer,
                Err(why) => return why.into(),
            }
        };
        let envelope = Envelope {
            mac_src: self.config.mac,
            mac_dst: datagram.mac_src,
            tags: datagram.tags.clone(),
            src: self.config.source.unwrap_or_else(|| link_local(self.config.mac)).into(),
            dst: datagram.src,
            src_port: SERVER_PORT,
            dst_port: if direct { CLIENT_PORT } else { SERVER_PORT },
        };
        let reply = envelope.seal(&writer.finish(&message)).ok();
        Outcome { reply, changes, event: Event::Answered(message.kind, first) }
    }

    /// What must and must not be in each message (RFC 8415 §16).
    fn admit(&self, message: &Message<'_>) -> Result<(), Ignored> {
        let server = message.options.get(code::SERVER_ID);
        let (needs_client, needs_server) = match message.kind {
            Kind::Solicit | Kind::Confirm | Kind::Rebind => (true, false),
            Kind::Request | Kind::Renew | Kind::Release | Kind::Decline => (true, true),
            Kind::InformationRequest => (false, server.is_some()),
            Kind::Advertise | Kind::Reply | Kind::Reconfigure => return Err(Ignored::Nonsense),
        };
        let has_client = message.options.has(code::CLIENT_ID);
        if (has_client && message.duid().is_none()) || (needs_client && !has_client) {
            return Err(Ignored::Nonsense);
        }
        match server {
            Some(duid) if needs_server && duid != self.config.duid => Err(Ignored::OtherServer),
            found if found.is_some() != needs_server => Err(Ignored::Nonsense),
            _ => Ok(()),
        }
    }

    /// No client was told to use unicast (RFC 8415 §18.4).
    fn unicast(&self, message: &Message<'_>) -> Result<Writer, Ignored> {
        if !matches!(message.kind, Kind::Request | Kind::Renew | Kind::Release | Kind::Decline) {
            return Err(Ignored::Nonsense);
        }
        let mut writer = self.start(Kind::Reply, message);
        writer.status(Status::UseMulticast, "send to ff02::1:2");
        Ok(writer)
    }

    fn start(&self, kind: Kind, message: &Message<'_>) -> Writer {
        let mut writer = Writer::reply(kind, message);
        if let Some(duid) = message.duid() {
            writer.option(code::CLIENT_ID, duid);
        }
        writer.option(code::SERVER_ID, &self.config.duid);
        writer
    }

    /// The subnets a client may be of: by the relay nearest to it (RFC 8415 §13.1), or the link's.
    fn candidates(&self, message: &Message<'_>) -> Found {
        let link = message.relays.iter().rev().map(|relay| relay.link).find(|link| !link.is_unspecified());
        match link {
            Some(link) => self.book.pool_of(link).into_iter().collect(),
            None => (0..self.scopes.len())
                .filter(|at| self.scopes.get(*at).is_some_and(|scope| !scope.subnet.relayed))
                .collect(),
        }
    }

    fn answer(
        &mut self,
        message: &Message<'_>,
        who: Who<'_>,
        ias: &[Ia],
        now: u64,
    ) -> Result<(Writer, Changes<Ipv6Addr>, Option<Ipv6Addr>), Ignored> {
        let found = self.candidates(message);
        let mut changes = Changes::new();
        let mut first = None;
        let rapid = message.kind == Kind::Solicit
            && message.options.has(code::RAPID_COMMIT)
            && found.iter().all(|at| self.scopes.get(*at).is_some_and(|s| s.subnet.rapid_commit));
        let kind = if message.kind == Kind::Solicit && !rapid { Kind::Advertise } else { Kind::Reply };
        let mut writer = self.start(kind, message);
        match message.kind {
            Kind::InformationRequest => {
                writer.option(code::REFRESH, &self.config.refresh_seconds.max(600).to_be_bytes());
            }
            Kind::Confirm => {
                self.confirm(ias, &found, &mut writer)?;
                return Ok((writer, changes, None));
            }
            Kind::Release | Kind::Decline => {
                writer.status(Status::Success, "");
                for ia in ias {
                    first = first.or(self.give_back(message.kind, who, ia, now, &mut writer, &mut changes));
                }
                return Ok((writer, changes, first));
            }
            _ if found.is_empty() => return Err(Ignored::NoSubnet),
            asks => {
                if rapid {
                    writer.option(code::RAPID_COMMIT, &[]);
                }
                if kind == Kind::Advertise && self.config.preference != 0 {
                    writer.option(code::PREFERENCE, &[self.config.preference]);
                }
                let bind = kind == Kind::Reply;
                let name = self.name(who, &found);
                let mut taken = SmallVec::<[Ipv6Addr; 4]>::new();
                for ia in ias {
                    let wish = Wish { asks, bind, name: name.clone() };
                    let given = self.associate(who, ia, &found, wish, now, &taken, &mut writer, &mut changes);
                    taken.extend(given);
                    first = first.or(given);
                }
                refuse_others(message, &mut writer);
            }
        }
        self.push_options(message, who, &found, &mut writer);
        Ok((writer, changes, first))
    }

    /// Offers, gives or prolongs one association's address, and says so.
    #[allow(clippy::too_many_arguments)] // What one association needs of its message.
    fn associate(
        &mut self,
        who: Who<'_>,
        ia: &Ia,
        found: &Found,
        wish: Wish,
        now: u64,
        taken: &[Ipv6Addr],
        writer: &mut Writer,
        changes: &mut Changes<Ipv6Addr>,
    ) -> Option<Ipv6Addr> {
        let client = Client::ia(who.duid, ia.iaid);
        let picked = found.iter().find_map(|at| Some((*at, self.pick(*at, who, ia, &client, now, taken)?)));
        let off_link =
            |address: &Ipv6Addr| !self.book.pool_of(*address).is_some_and(|at| found.contains(&at));
        if wish.asks == Kind::Request && ia.addresses.iter().any(off_link) {
            // RFC 8415 §18.3.2.
            writer.ia(ia.iaid, 0, 0, |w| w.status(Status::NotOnLink, "address is not of this link"));
            return None;
        }
        let stale = |given: Option<Ipv6Addr>| {
            let renews = matches!(wish.asks, Kind::Renew | Kind::Rebind);
            ia.addresses.iter().take(8).copied().filter(move |a| renews && Some(*a) != given)
        };
        let Some((at, address)) = picked else {
            writer.ia(ia.iaid, 0, 0, |w| {
                stale(None).for_each(|address| w.address(address, 0, 0));
                match wish.asks {
                    Kind::Renew | Kind::Rebind => w.status(Status::NoBinding, "no address for this client"),
                    _ => w.status(Status::NoAddrsAvail, "no address is left"),
                }
            });
            return None;
        };
        let scope = self.scopes.get(at)?;
        let (preferred, valid) = scope.lifetimes(scope.host(&who), address);
        let (t1, t2) = scope.times((preferred, valid));
        writer.ia(ia.iaid, t1, t2, |w| {
            w.address(address, preferred, valid);
            // RFC 8415 §18.3.4: addresses the client must give up come back with no lifetime.
            stale(Some(address)).for_each(|address| w.address(address, 0, 0));
        });
        let held = self.book.get(address).filter(|l| l.client == client && l.is_bound(now));
        let mac = held.and_then(|lease| lease.mac).or(who.mac);
        let (state, seconds) = match wish.bind {
            true => (LeaseState::Bound, valid),
            false if held.is_some() => return Some(address),
            false => (LeaseState::Offered, self.config.offer_seconds),
        };
        let forever = wish.bind && seconds == u32::MAX;
        let expires = if forever { NEVER } else { now.saturating_add(u64::from(seconds)) };
        let lease = Lease { address, client, mac, hostname: wish.name, state, since: now, expires };
        changes.extend(self.book.set(lease));
        Some(address)
    }

    fn pick(
        &self,
        at: usize,
        who: Who<'_>,
        ia: &Ia,
        client: &Client,
        now: u64,
        taken: &[Ipv6Addr],
    ) -> Option<Ipv6Addr> {
        let scope = self.scopes.get(at)?;
        let host = scope.host(&who);
        // A fixed host has one address, whatever number its association has this time.
        let fixed = host.and_then(|host| host.address).filter(|address| !taken.contains(address));
        let quarantined = |address: Ipv6Addr| {
            self.book.get(address).is_some_and(|l| l.state == LeaseState::Declined && l.expires > now)
        };
        // A name is anybody's to say: what one client holds by it, another does not get.
        let named = host.is_some_and(|host| matches!(host.id, HostId::Name(_)));
        let anothers = |address: Ipv6Addr| {
            let lease = self.book.get(address).filter(|l| named && l.expires > now && l.client != *client);
            lease.is_some_and(|l| l.mac.is_none() || l.mac != who.mac)
        };
        if let Some(address) = fixed.filter(|address| !quarantined(*address) && !anothers(*address)) {
            return Some(address);
        }
        if scope.subnet.known_only && host.is_none() {
            return None;
        }
        let most = self.config.per_mac;
        let greedy = || who.mac.is_some_and(|mac| self.book.held_by(mac, now) >= most);
        if most != 0 && self.book.find(at, client).is_none() && greedy() {
            return None;
        }
        self.book.choose(at, client, ia.addresses.first().copied(), now)
    }

    /// RFC 8415 §18.3.3: right for this link or not, or no word.
    fn confirm(&self, ias: &[Ia], found: &Found, writer: &mut Writer) -> Result<(), Ignored> {
        let mut addresses = ias.iter().flat_map(|ia| &ia.addresses).peekable();
        if addresses.peek().is_none() || found.is_empty() {
            return Err(Ignored::NothingToConfirm);
        }
        let here = |address: &Ipv6Addr| self.book.pool_of(*address).is_some_and(|at| found.contains(&at));
        if addresses.all(here) {
            writer.status(Status::Success, "");
        } else {
            writer.status(Status::NotOnLink, "address is not of this link");
        }
        Ok(())
    }

    /// RELEASE and DECLINE of one association (RFC 8415 §18.3.6, §18.3.7).
    fn give_back(
        &mut self,
        kind: Kind,
        who: Who<'_>,
        ia: &Ia,
        now: u64,
        writer: &mut Writer,
        changes: &mut Changes<Ipv6Addr>,
    ) -> Option<Ipv6Addr> {
        let client = Client::ia(who.duid, ia.iaid);
        let mut first = None;
        for address in ia.addresses.iter().take(8) {
            let held = self.book.get(*address).filter(|lease| {
                // DUIDs are easy to guess: who gives back must be who took.
                let same = lease.mac.is_none() || who.mac.is_none() || lease.mac == who.mac;
                same && lease.client == client
                    && matches!(lease.state, LeaseState::Bound | LeaseState::Offered)
            });
            let Some(lease) = held.cloned() else { continue };
            first = first.or(Some(*address));
            let room = self.book.pool_of(*address).map_or(0, |at| self.book.room(at, now).1);
            let (state, expires) = if kind == Kind::Release {
                (LeaseState::Released, lease.expires.min(now))
            } else if self.book.declined(now) as u128 <= room / 4 {
                (LeaseState::Declined, now.saturating_add(u64::from(self.config.decline_seconds)))
            } else {
                continue;
            };
            changes.extend(self.book.set(Lease { state, since: now, expires, ..lease }));
        }
        if first.is_none() {
            writer.ia(ia.iaid, 0, 0, |w| w.status(Status::NoBinding, "no such binding"));
        }
        first
    }

    fn name(&self, who: Who<'_>, found: &Found) -> Option<Arc<str>> {
        let host = found.iter().find_map(|at| self.scopes.get(*at)?.host(&who));
        host.and_then(|host| host.name.as_deref()).or(who.name).map(Arc::from)
    }

    /// The name that a client gave when it got what it has: renewals may leave it out.
    fn name_held(&self, message: &Message<'_>, duid: &[u8], ias: &[Ia]) -> Option<String> {
        let held = |at: usize| {
            ias.iter().find_map(|ia| self.book.find(at, &Client::ia(duid, ia.iaid))?.hostname.clone())
        };
        self.candidates(message).into_iter().find_map(held).map(|name| name.to_string())
    }

    /// Options the client asked for: its own, the subnet's, then the server's.
    fn push_options(&self, message: &Message<'_>, who: Who<'_>, found: &Found, writer: &mut Writer) {
        let scope = found.first().and_then(|at| self.scopes.get(*at));
        let fixed = found.iter().filter_map(|at| self.scopes.get(*at)?.host(&who));
        let fixed = fixed.map(|host| host.options.encode()).find(|own| !own.is_empty()).unwrap_or_default();
        let shared = scope.map_or(&[][..], |scope| &scope.options);
        let without = |set: &[(u16, Vec<u8>)], code: u16| set.iter().all(|(c, _)| *c != code);
        let own = shared.iter().filter(|(code, _)| without(&fixed, *code));
        let general = self.options.iter().filter(|(c, _)| without(shared, *c) && without(&fixed, *c));
        for (code, value) in fixed.iter().chain(own).chain(general) {
            if message.wants(*code) {
                writer.optional(*code, value);
            }
        }
        // RFC 4704 §6: this server keeps the records.
        if message.options.has(code::FQDN)
            && let Some(name) = self.name(who, found)
        {
            let domain = scope.and_then(|s| s.subnet.options.domain.as_deref());
            let domain = domain.or(self.config.options.domain.as_deref()).unwrap_or_default();
            let full = if domain.is_empty() { name.to_string() } else { format!("{name}.{domain}") };
            if let Some(wire) = crate::name::wire(&full) {
                writer.optional(code::FQDN, &[&[1][..], &wire].concat());
            }
        }
    }
}

/// What a client wants of an association.
struct Wish {
    asks: Kind,
    bind: bool,
    name: Option<Arc<str>>,
}

/// The client's name for itself (RFC 4704 §4.2): flags, then labels.
fn client_name(message: &Message<'_>) -> Option<String> {
    let [_, len @ 1..=63, rest @ ..] = message.options.get(code::FQDN)? else { return None };
    label(rest.get(..usize::from(*len))?)
}

/// Temporary addresses and prefixes are not given (RFC 8415 §18.3.9).
fn refuse_others(message: &Message<'_>, writer: &mut Writer) {
    for (kind, status) in [(code::IA_TA, Status::NoAddrsAvail), (code::IA_PD, Status::NoPrefixAvail)] {
        // An IA_PD has T1 and T2 behind its number, an IA_TA has not.
        let zeros = if kind == code::IA_PD { 8 } else { 0 };
        for iaid in message.options.all(kind).take(MAX_IAS).filter_map(|value| value.first_chunk::<4>()) {
            let mut body = iaid.to_vec();
            body.resize(4 + zeros, 0);
            body.extend(code::STATUS.to_be_bytes());
            body.extend([0, 2]);
            body.extend((status as u16).to_be_bytes());
            writer.option(kind, &body);
        }
    }
}
