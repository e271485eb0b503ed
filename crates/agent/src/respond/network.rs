//! What do the responders of one network know, and what do they answer?

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use weft_compile::{Cookie, NetKey, Purpose};
use weft_services::{LeaseState, dhcp4, dhcp6, ra};
use weft_store::Lease;
use weft_wire::icmp_error::Problem;

use super::icmp::Limit;
use super::keeper::{Contest, Work};
use super::lease::{name_of, read_lease};
use super::probe::{self, Offer, Probes};
use super::{Services, Station, wall};
use crate::south::{Outgoing, Punt, To};

/// What an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rests {
    /// On leases: it goes out when they are durable, and behind what was answered before.
    OnLeases,
    /// On nothing that a crash could take back.
    OnNothing,
}

/// The responders of one network.
pub(super) struct Network {
    /// The network's number on this node.
    key: u64,
    pub(super) services: Box<Services>,
    dhcp4: Option<dhcp4::Server>,
    dhcp6: Option<dhcp6::Server>,
    pub(super) router: Option<ra::Router>,
    /// Offers that wait until it is known that nobody has their addresses.
    probes: Probes,
    /// Ports by their keys.
    pub(super) stations: HashMap<u32, Station>,
}

/// Servers that were made a moment ago: their leases are only in the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct New {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Network {
    /// The responders of these services, without leases. `now` is in milliseconds since the start.
    pub(super) fn new(key: u64, services: Box<Services>, now: u64) -> Network {
        Network {
            key,
            dhcp4: services.dhcp4.clone().map(dhcp4::Server::new),
            dhcp6: services.dhcp6.clone().map(dhcp6::Server::new),
            router: services.router.clone().map(|config| ra::Router::new(config, now)),
            services,
            probes: Probes::default(),
            stations: HashMap::new(),
        }
    }

    /// Takes stored leases back, of the families whose servers are new.
    pub(super) fn remember(&mut self, leases: Vec<Lease>, new: New, work: &mut Work) {
        for lease in leases {
            work.names.extend(name_of(self.key, &lease));
            match (lease.address, &mut self.dhcp4, &mut self.dhcp6) {
                (IpAddr::V4(address), Some(server), _) if new.v4 => {
                    read_lease(address, &lease.value).map(|lease| server.book_mut().load(lease));
                }
                (IpAddr::V6(address), _, Some(server)) if new.v6 => {
                    read_lease(address, &lease.value).map(|lease| server.book_mut().load(lease));
                }
                _ => {}
            }
        }
    }

    /// Other services, for the same ports, which are told anew by [`Network::resettle`].
    pub(super) fn configure(&mut self, services: Box<Services>, now: u64, work: &mut Work) -> New {
        let new = New {
            v4: services.dhcp4.is_some() && self.dhcp4.is_none(),
            v6: services.dhcp6.is_some() && self.dhcp6.is_none(),
        };
        // Leases outside of the new subnets were leases of the old ones.
        let old = std::mem::replace(&mut self.services, services);
        match (&self.services.dhcp4, &mut self.dhcp4) {
            (Some(config), Some(server)) => {
                work.note(self.key, &old.subnets, &server.configure(config.clone()));
            }
            (config, server) => *server = config.clone().map(dhcp4::Server::new),
        }
        match (&self.services.dhcp6, &mut self.dhcp6) {
            (Some(config), Some(server)) => {
                work.note(self.key, &old.subnets, &server.configure(config.clone()));
            }
            (config, server) => *server = config.clone().map(dhcp6::Server::new),
        }
        match (&self.services.router, &mut self.router) {
            (Some(config), Some(router)) if router.config() == config => {}
            (Some(config), Some(router)) => router.configure(config.clone(), now),
            (config, router) => *router = config.clone().map(|config| ra::Router::new(config, now)),
        }
        new
    }

    /// Forgets leases that ended by then, at most so many of each family; how many.
    pub(super) fn sweep(&mut self, ended: u64, limit: usize, work: &mut Work) -> usize {
        let mut swept = 0;
        if let Some(server) = &mut self.dhcp4 {
            let gone = server.book_mut().sweep(ended, limit);
            swept += gone.len();
            work.note(self.key, &self.services.subnets, &gone);
        }
        if let Some(server) = &mut self.dhcp6 {
            let gone = server.book_mut().sweep(ended, limit);
            swept += gone.len();
            work.note(self.key, &self.services.subnets, &gone);
        }
        swept
    }

    /// Tells the servers all ports.
    pub(super) fn resettle(&mut self, work: &mut Work) {
        for (port, station) in std::mem::take(&mut self.stations) {
            self.settle(port, station, work);
        }
    }

    /// A port has other addresses, or is gone: what it does not keep ends.
    pub(super) fn let_go(&mut self, port: u32, now: Option<&Station>, work: &mut Work) {
        let Some(old) = self.stations.remove(&port) else { return };
        let keeps4 = |net: &Ipv4Addr, host: &dhcp4::Host| {
            let same =
                |(n, h): &(Ipv4Addr, dhcp4::Host)| n == net && h.id == host.id && h.address == host.address;
            now.is_some_and(|station| station.hosts4.iter().any(same))
        };
        for (net, host) in old.hosts4.iter().filter(|(net, host)| !keeps4(net, host)) {
            let Some(server) = &mut self.dhcp4 else { break };
            work.note(self.key, &self.services.subnets, &server.remove_host(*net, &host.id));
            // The subnet may know the same host.
            let subnets = self.services.dhcp4.iter().flat_map(|c| &c.subnets).filter(|s| s.network == *net);
            for known in subnets.flat_map(|s| &s.hosts).filter(|h| h.id == host.id) {
                server.set_host(*net, known.clone());
            }
        }
        let keeps6 = |net: &Ipv6Addr, host: &dhcp6::Host| {
            let same =
                |(n, h): &(Ipv6Addr, dhcp6::Host)| n == net && h.id == host.id && h.address == host.address;
            now.is_some_and(|station| station.hosts6.iter().any(same))
        };
        for (net, host) in old.hosts6.iter().filter(|(net, host)| !keeps6(net, host)) {
            let Some(server) = &mut self.dhcp6 else { break };
            work.note(self.key, &self.services.subnets, &server.remove_host(*net, &host.id));
            let subnets = self.services.dhcp6.iter().flat_map(|c| &c.subnets).filter(|s| s.network == *net);
            for known in subnets.flat_map(|s| &s.hosts).filter(|h| h.id == host.id) {
                server.set_host(*net, known.clone());
            }
        }
    }

    /// A port has these addresses. What others hold of them, from before they were given to the port, ends.
    pub(super) fn settle(&mut self, port: u32, station: Station, work: &mut Work) {
        for (net, host) in &station.hosts4 {
            let Some(server) = &mut self.dhcp4 else { break };
            server.set_host(*net, host.clone());
            let dhcp4::HostId::Mac(mac) = host.id else { continue };
            let held = host.address.and_then(|address| server.book().get(address));
            if let Some(lease) = held.filter(|l| l.state != LeaseState::Declined && l.mac != Some(mac)) {
                let gone = lease.address;
                work.note(self.key, &self.services.subnets, &server.book_mut().remove(gone));
            }
        }
        for (net, host) in &station.hosts6 {
            let Some(server) = &mut self.dhcp6 else { break };
            server.set_host(*net, host.clone());
            let dhcp6::HostId::Mac(mac) = host.id else { continue };
            let held = host.address.and_then(|address| server.book().get(address));
            if let Some(lease) =
                held.filter(|l| l.state != LeaseState::Declined && l.mac.is_some_and(|m| m != mac))
            {
                let gone = lease.address;
                work.note(self.key, &self.services.subnets, &server.book_mut().remove(gone));
            }
        }
        self.stations.insert(port, station);
    }

    /// The answer to a packet; what it rests on is added to `work`.
    pub(super) fn answer(
        &mut self,
        punt: &Punt,
        icmp: &mut Limit,
        started: Instant,
        work: &mut Work,
    ) -> Option<(Rests, Vec<u8>)> {
        let nothing = |frame| (Rests::OnNothing, frame);
        let problem = match Cookie::from_u64(punt.cookie)?.purpose {
            Purpose::Dhcp => return self.dhcp(punt, work),
            Purpose::Probe => {
                self.taken(&punt.frame, work);
                return None;
            }
            Purpose::RouterAdvert => return self.router.as_ref()?.handle_frame(&punt.frame).map(nothing),
            Purpose::NoRoute => Problem::HostUnreachable,
            Purpose::TooBig => Problem::TooBig { mtu: next_mtu(&punt.userdata)? },
            Purpose::Route if punt.reason == 2 => Problem::TimeExceeded,
            _ => return None,
        };
        icmp.answer(&self.services.routers, &punt.frame, problem, started).map(nothing)
    }

    /// The frame's datagram is of one family; the other's server passes it over.
    fn dhcp(&mut self, punt: &Punt, work: &mut Work) -> Option<(Rests, Vec<u8>)> {
        if let Some(server) = &mut self.dhcp4 {
            let outcome = server.handle_frame(&punt.frame, wall());
            if outcome.event != dhcp4::Event::Ignored(dhcp4::Ignored::NotForServer) {
                tracing::debug!(event = ?outcome.event, "DHCPv4");
                work.note(self.key, &self.services.subnets, &outcome.changes);
                let reply = outcome.reply?;
                let unsure = outcome.probe.filter(|address| !self.probes.is_free(*address, Instant::now()));
                if let Some(address) = unsure {
                    let offer = Offer { request: punt.clone(), reply };
                    if self.probes.hold(address, offer, Instant::now()) {
                        self.ask(address, work);
                    }
                    return None;
                }
                // To one that holds the address already, an offer goes out behind the word that it does.
                let promise =
                    |address| server.book().get(address).is_some_and(|l| l.state == LeaseState::Offered);
                let rests = match outcome.event {
                    dhcp4::Event::Offered(to) if outcome.changes.is_empty() && promise(to) => {
                        Rests::OnNothing
                    }
                    _ => Rests::OnLeases,
                };
                return Some((rests, reply));
            }
        }
        let outcome = self.dhcp6.as_mut()?.handle_frame(&punt.frame, wall());
        tracing::debug!(event = ?outcome.event, "DHCPv6");
        work.note(self.key, &self.services.subnets, &outcome.changes);
        outcome.reply.map(|frame| (Rests::OnLeases, frame))
    }

    /// Asks the network who has an address.
    fn ask(&self, address: Ipv4Addr, work: &mut Work) {
        let frame = probe::question(self.services.routers.mac, address);
        let key = u32::try_from(self.key).unwrap_or_default();
        work.free.extend(frame.map(|frame| Outgoing { to: To::Network(NetKey(key)), frame }));
    }

    /// When offers that wait are to be looked at.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.probes.next_at()
    }

    /// Looks at offers that wait.
    pub(super) fn probe(&mut self, work: &mut Work) {
        for step in self.probes.poll(Instant::now()) {
            match step {
                probe::Step::Ask(address) => self.ask(address, work),
                probe::Step::Free(address, offer) => {
                    let book = self.dhcp4.as_ref().map(dhcp4::Server::book);
                    let promised = |l: &weft_services::Lease<_>| l.state == LeaseState::Offered;
                    if book.and_then(|book| book.get(address)).is_some_and(promised) {
                        work.send(Rests::OnNothing, offer.request.in_port, offer.reply);
                    }
                }
            }
        }
    }

    /// Somebody says to have an address. Whom it was to be offered to, who may have it already, is offered another.
    fn taken(&mut self, frame: &[u8], work: &mut Work) {
        let Some((address, holder)) = probe::answer(frame) else { return };
        let Some(server) = &mut self.dhcp4 else { return };
        let promised = server.book().get(address).filter(|lease| lease.state == LeaseState::Offered);
        if promised.is_none_or(|lease| lease.mac == Some(holder)) {
            return;
        }
        let Some(offer) = self.probes.taken(address) else { return };
        let changes = server.conflict(address, holder, wall());
        work.note(self.key, &self.services.subnets, &changes);
        work.contests.push(Contest { network: self.key, address: address.into(), holder });
        if let Some((rests, frame)) = self.dhcp(&offer.request, work) {
            work.send(rests, offer.request.in_port, frame);
        }
    }
}

/// What the next network takes, as the flow says behind its purpose.
fn next_mtu(userdata: &[u8]) -> Option<usize> {
    let mtu = userdata.get(1..3)?.try_into().ok()?;
    Some(u16::from_be_bytes(mtu).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::{services, station};
    use weft_model::{Catalog, Port, PortSpec, Resource};
    use weft_services::Client;
    use weft_store::LeaseWrite;

    const NETWORK: &str = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: blue}\nspec: {}\n---\n\
        apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: v4}\nspec: {network: blue, cidr: 10.0.0.0/24}\n";

    fn catalog() -> Catalog {
        let mut catalog = Catalog::new();
        weft_model::parse(NETWORK).unwrap().into_iter().for_each(|p| drop(catalog.insert(p.resource)));
        catalog
    }

    /// A port with this address, as the responders see it.
    fn at(catalog: &mut Catalog, name: &str, address: &str) -> Station {
        let mut port = Port::new(name, PortSpec { network: "blue".into(), ..PortSpec::default() });
        port.status.addresses = vec![address.parse().unwrap()];
        catalog.insert(Resource::from(port.clone()));
        station(catalog, &port, None)
    }

    fn bind(network: &mut Network, address: &str, station: &Station) {
        let dhcp4::HostId::Mac(mac) = station.hosts4[0].1.id else { panic!("a port has a MAC address") };
        let lease = weft_services::Lease {
            address: address.parse().unwrap(),
            client: Client::mac(mac),
            mac: Some(mac),
            hostname: None,
            state: LeaseState::Bound,
            since: 1,
            expires: u64::MAX,
        };
        assert!(network.dhcp4.as_mut().unwrap().book_mut().load(lease));
    }

    #[test]
    fn leases_that_ended_long_ago_are_forgotten() {
        let mut network = Network::new(1, Box::new(services(&catalog(), "blue", 1500).unwrap()), 0);
        let lease = |last: u8, state, expires| weft_services::Lease {
            address: Ipv4Addr::new(10, 0, 0, last),
            client: Client::mac(weft_wire::Mac([2, 0, 0, 0, 0, last])),
            mac: None,
            hostname: None,
            state,
            since: 1,
            expires,
        };
        let book = network.dhcp4.as_mut().unwrap().book_mut();
        for (last, expires) in [(5, 100), (6, 200), (7, 300), (8, u64::MAX)] {
            assert!(book.load(lease(last, LeaseState::Bound, expires)));
        }
        assert!(book.load(lease(9, LeaseState::Released, 150)));
        let mut work = Work::default();
        assert_eq!(network.sweep(250, 2, &mut work), 2, "some at a time");
        assert_eq!(network.sweep(250, 9, &mut work), 1);
        let left = |last| network.dhcp4.as_ref().unwrap().book().get(Ipv4Addr::new(10, 0, 0, last)).is_some();
        assert_eq!([5, 6, 7, 8, 9].map(left), [false, false, true, true, false]);
        assert_eq!(work.writes.len(), 3, "the store forgets them too");
    }

    #[test]
    fn what_is_too_big_is_told_with_the_mtu_of_the_next_network() {
        let mut catalog = catalog();
        let mut network = Network::new(1, Box::new(services(&catalog, "blue", 1500).unwrap()), 0);
        let station = at(&mut catalog, "a", "10.0.0.5");
        network.settle(1, station, &mut Work::default());
        let mut punt = asks(weft_wire::Mac([2, 0, 0, 0, 0, 5]), 1, None);
        // To one machine, not to all.
        punt.frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        punt.frame[26..34].copy_from_slice(&[10, 0, 0, 5, 10, 9, 0, 7]);
        punt.frame[24..26].copy_from_slice(&[0, 0]);
        let sum =
            punt.frame[14..34].chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]]))).sum::<u32>();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        punt.frame[24..26].copy_from_slice(&sum.to_be_bytes());
        punt.cookie = Cookie { kind: weft_compile::Kind::Network, purpose: Purpose::TooBig, key: 1 }.to_u64();
        let mut ask = |userdata: &[u8]| {
            punt.userdata = userdata.to_vec();
            network.answer(&punt, &mut Limit::default(), Instant::now(), &mut Work::default())
        };
        let (_, answer) = ask(&[12, 5, 20]).unwrap();
        assert_eq!(answer[26..34], [10, 0, 0, 1, 10, 0, 0, 5], "from the gateway to the sender");
        assert_eq!((&answer[34..36], &answer[40..42]), (&[3, 4][..], &1300u16.to_be_bytes()[..]));
        assert_eq!(ask(&[12]), None);
    }

    fn holder(network: &Network, address: &str) -> Option<weft_wire::Mac> {
        network.dhcp4.as_ref().unwrap().book().get(address.parse().unwrap())?.mac
    }

    #[test]
    fn addresses_change_hands_and_nobody_holds_them_from_before() {
        let mut catalog = catalog();
        let mut network = Network::new(1, Box::new(services(&catalog, "blue", 1500).unwrap()), 0);
        let mut work = Work::default();
        for (key, name, address) in [(1, "a", "10.0.0.5"), (2, "b", "10.0.0.6")] {
            let station = at(&mut catalog, name, address);
            network.settle(key, station.clone(), &mut work);
            bind(&mut network, address, &station);
        }
        assert!(work.writes.is_empty());
        // They swap: what each held ends.
        let now = [(1, at(&mut catalog, "a", "10.0.0.6")), (2, at(&mut catalog, "b", "10.0.0.5"))];
        now.iter().for_each(|(key, station)| network.let_go(*key, Some(station), &mut work));
        now.into_iter().for_each(|(key, station)| network.settle(key, station, &mut work));
        let gone = |w: &LeaseWrite| matches!(w, LeaseWrite::Remove { subnet, .. } if subnet == "v4");
        assert!(work.writes.len() == 2 && work.writes.iter().all(gone), "{work:?}");
        assert_eq!((holder(&network, "10.0.0.5"), holder(&network, "10.0.0.6")), (None, None));
        // A port that is told again unchanged keeps its lease; one that is gone does not.
        let a = at(&mut catalog, "a", "10.0.0.6");
        bind(&mut network, "10.0.0.6", &a);
        work.writes.clear();
        network.let_go(1, Some(&a), &mut work);
        network.settle(1, a, &mut work);
        assert!(work.writes.is_empty() && holder(&network, "10.0.0.6").is_some());
        network.let_go(1, None, &mut work);
        assert!(work.writes.len() == 1 && holder(&network, "10.0.0.6").is_none());
        // An address that somebody held before it was given to a port is the port's.
        let stranger = at(&mut catalog, "stranger", "10.0.0.9");
        bind(&mut network, "10.0.0.7", &stranger);
        network.settle(3, at(&mut catalog, "c", "10.0.0.7"), &mut work);
        assert!(work.writes.len() == 2 && holder(&network, "10.0.0.7").is_none());
    }

    /// A request of a machine, as a flow hands it over: of this kind, and for this address of this server.
    fn asks(mac: weft_wire::Mac, kind: u8, wants: Option<(Ipv4Addr, Ipv4Addr)>) -> Punt {
        let mut message = vec![0; 240];
        message[..4].copy_from_slice(&[1, 1, 6, 0]);
        message[28..34].copy_from_slice(&mac.0);
        message[236..].copy_from_slice(&[99, 130, 83, 99]);
        message.extend([53, 1, kind]);
        for (code, address) in wants.iter().flat_map(|(server, wanted)| [(54, server), (50, wanted)]) {
            message.extend([code, 4]);
            message.extend(address.octets());
        }
        message.push(255);
        let envelope = weft_services::frame::Envelope {
            mac_src: mac,
            mac_dst: weft_wire::Mac::BROADCAST,
            tags: Default::default(),
            src: Ipv4Addr::UNSPECIFIED.into(),
            dst: Ipv4Addr::BROADCAST.into(),
            src_port: 68,
            dst_port: 67,
        };
        let cookie = Cookie { kind: weft_compile::Kind::Network, purpose: Purpose::Dhcp, key: 1 }.to_u64();
        let frame = envelope.seal(&message).unwrap();
        Punt { cookie, reason: 0, userdata: Vec::new(), in_port: weft_flow::OfPort(1), metadata: 1, frame }
    }

    #[test]
    fn offers_go_at_once_and_acknowledgements_when_they_are_durable() {
        let mut catalog = catalog();
        let mut network = Network::new(1, Box::new(services(&catalog, "blue", 1500).unwrap()), 0);
        let station = at(&mut catalog, "a", "10.0.0.5");
        let dhcp4::HostId::Mac(mac) = station.hosts4[0].1.id else { panic!("a port has a MAC address") };
        network.settle(1, station, &mut Work::default());
        let mut ask = |punt: Punt| {
            let mut work = Work::default();
            let (rests, frame) =
                network.answer(&punt, &mut Limit::default(), Instant::now(), &mut work).unwrap();
            (rests, frame[42 + 240 + 2], work.writes.len())
        };
        let own = "10.0.0.5".parse().unwrap();
        let server = "10.0.0.1".parse().unwrap();
        assert_eq!(ask(asks(mac, 1, None)), (Rests::OnNothing, 2, 0), "a first offer");
        assert_eq!(ask(asks(mac, 1, None)), (Rests::OnNothing, 2, 0), "the same again");
        assert_eq!(ask(asks(mac, 3, Some((server, own)))), (Rests::OnLeases, 5, 1), "a lease");
        assert_eq!(ask(asks(mac, 3, Some((server, own)))), (Rests::OnLeases, 5, 1), "renewed");
        assert_eq!(ask(asks(mac, 1, None)), (Rests::OnLeases, 2, 0), "behind the word that it is held");
    }
}
