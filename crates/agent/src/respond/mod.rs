//! Who answers what ports ask the network: for an address, a router, why a packet cannot go on?
//!
//! One task owns the responders of all networks. Packets come from flows, answers go back by the port they came from;
//! leases are durable before an answer goes out.

mod config;
mod icmp;
mod lease;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::time::sleep_until;
use weft_compile::{Cookie, Purpose};
use weft_flow::{Action, OfPort};
use weft_services::{LeaseChange, dhcp4, dhcp6, ra};
use weft_store::{LeaseWrite, Store};

pub use config::{Services, services};
pub use icmp::Routers;
pub use lease::lease_view;

use lease::{read_lease, written};

use crate::south::{Flows, Punt};

/// Packets handled before their leases are made durable together.
const BATCH: usize = 256;

/// What the responders are told.
#[derive(Debug)]
pub enum Tell {
    /// A network, by its key, has these services, or none.
    Configure(u64, Option<Box<Services>>),
    /// The ports of a network, for what is said unasked.
    Ports(u64, Vec<OfPort>),
    /// A packet.
    Punt(Box<Punt>),
}

/// The responders of one network.
struct Network {
    services: Box<Services>,
    dhcp4: Option<dhcp4::Server>,
    dhcp6: Option<dhcp6::Server>,
    router: Option<ra::Router>,
    ports: Vec<OfPort>,
}

/// An answer that waits for its lease to be durable.
struct Answer {
    port: OfPort,
    frame: Vec<u8>,
}

/// A change of a lease, and the network whose book has it.
enum Kept {
    V4(u64, LeaseChange<Ipv4Addr>),
    V6(u64, LeaseChange<Ipv6Addr>),
}

/// All responders.
struct Responders<S> {
    store: Arc<S>,
    flows: Flows,
    networks: HashMap<u64, Network>,
    started: Instant,
    icmp: icmp::Limit,
}

/// Starts the task. It ends when the sender is dropped.
pub fn start<S: Store>(store: Arc<S>, flows: Flows) -> mpsc::Sender<Tell> {
    let (sender, receiver) = mpsc::channel(8192);
    let responders = Responders {
        store,
        flows,
        networks: HashMap::new(),
        started: Instant::now(),
        icmp: icmp::Limit::default(),
    };
    tokio::spawn(responders.run(receiver));
    sender
}

/// Seconds since 1970: leases outlive the process.
fn wall() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl<S: Store> Responders<S> {
    async fn run(mut self, mut told: mpsc::Receiver<Tell>) {
        loop {
            let next =
                self.networks.values().filter_map(|n| n.router.as_ref()).map(ra::Router::next_at).min();
            let next = self.started + Duration::from_millis(next.unwrap_or(u64::MAX >> 20));
            let mut batch = Vec::new();
            tokio::select! {
                n = told.recv_many(&mut batch, BATCH) => if n == 0 { return },
                () = sleep_until(next.into()) => {}
            }
            let (mut answers, mut writes, mut kept) = (Vec::new(), Vec::new(), Vec::new());
            for tell in batch {
                match tell {
                    Tell::Configure(key, services) => self.configure(key, services, &mut writes).await,
                    Tell::Ports(key, ports) => {
                        if let Some(network) = self.networks.get_mut(&key) {
                            network.ports = ports;
                        }
                    }
                    Tell::Punt(punt) => answers.extend(self.punt(&punt, &mut writes, &mut kept)),
                }
            }
            // What a client is told must be true after a crash.
            if !writes.is_empty()
                && let Err(why) = self.store.write_leases(writes).await
            {
                tracing::error!(%why, "leases could not be stored: they are taken back, and nobody is told of them");
                kept.iter().rev().for_each(|change| self.undo(change));
                answers.clear();
            }
            for Answer { port, frame } in answers {
                self.flows.send(OfPort::CONTROLLER, vec![Action::Output { port, max_len: 0 }], frame);
            }
            self.advertise();
        }
    }

    /// Takes back what could not be stored.
    fn undo(&mut self, kept: &Kept) {
        match kept {
            Kept::V4(key, change) => {
                let server = self.networks.get_mut(key).and_then(|n| n.dhcp4.as_mut());
                server.map(|s| s.book_mut().revert(change)).unwrap_or_default();
            }
            Kept::V6(key, change) => {
                let server = self.networks.get_mut(key).and_then(|n| n.dhcp6.as_mut());
                server.map(|s| s.book_mut().revert(change)).unwrap_or_default();
            }
        }
    }

    async fn configure(&mut self, key: u64, services: Option<Box<Services>>, writes: &mut Vec<LeaseWrite>) {
        let Some(services) = services else {
            self.networks.remove(&key);
            return;
        };
        let now = self.started.elapsed().as_millis() as u64;
        let known = self.networks.remove(&key);
        let ports = known.as_ref().map(|n| n.ports.clone()).unwrap_or_default();
        let fresh = known.is_none();
        let (mut dhcp4, mut dhcp6, mut router) =
            known.map_or((None, None, None), |n| (n.dhcp4, n.dhcp6, n.router));
        match (&services.dhcp4, &mut dhcp4) {
            (Some(config), Some(server)) => {
                writes.extend(written(&services, &server.configure(config.clone())))
            }
            (Some(config), server) => *server = Some(dhcp4::Server::new(config.clone())),
            (None, server) => *server = None,
        }
        match (&services.dhcp6, &mut dhcp6) {
            (Some(config), Some(server)) => {
                writes.extend(written(&services, &server.configure(config.clone())))
            }
            (Some(config), server) => *server = Some(dhcp6::Server::new(config.clone())),
            (None, server) => *server = None,
        }
        match (&services.router, &mut router) {
            (Some(config), Some(router)) if router.config() == config => {}
            (Some(config), Some(router)) => router.configure(config.clone(), now),
            (Some(config), router) => *router = Some(ra::Router::new(config.clone(), now)),
            (None, router) => *router = None,
        }
        let mut network = Network { services, dhcp4, dhcp6, router, ports };
        if fresh {
            self.remember(&mut network).await;
        }
        self.networks.insert(key, network);
    }

    /// Takes stored leases back.
    async fn remember(&self, network: &mut Network) {
        for (subnet, _) in &network.services.subnets {
            match self.store.leases(Some(subnet)).await {
                Ok(leases) => {
                    for lease in leases {
                        match lease.address {
                            IpAddr::V4(a) => {
                                let read = read_lease(a, &lease.value).zip(network.dhcp4.as_mut());
                                read.map(|(lease, server)| server.book_mut().load(lease));
                            }
                            IpAddr::V6(a) => {
                                let read = read_lease(a, &lease.value).zip(network.dhcp6.as_mut());
                                read.map(|(lease, server)| server.book_mut().load(lease));
                            }
                        }
                    }
                }
                Err(why) => tracing::error!(%why, subnet, "leases could not be read"),
            }
        }
    }

    /// Answers a packet.
    fn punt(&mut self, punt: &Punt, writes: &mut Vec<LeaseWrite>, kept: &mut Vec<Kept>) -> Option<Answer> {
        let cookie = Cookie::from_u64(punt.cookie)?;
        let network = self.networks.get_mut(&punt.metadata)?;
        let frame = match cookie.purpose {
            Purpose::Dhcp => {
                let v4 = network.dhcp4.as_mut().map(|server| server.handle_frame(&punt.frame, wall()));
                if let Some(outcome) = v4.filter(|o| o.reply.is_some() || !o.changes.is_empty()) {
                    writes.extend(written(&network.services, &outcome.changes));
                    tracing::debug!(event = ?outcome.event, "DHCPv4");
                    kept.extend(outcome.changes.into_iter().map(|c| Kept::V4(punt.metadata, c)));
                    outcome.reply
                } else {
                    let outcome = network.dhcp6.as_mut()?.handle_frame(&punt.frame, wall());
                    writes.extend(written(&network.services, &outcome.changes));
                    tracing::debug!(event = ?outcome.event, "DHCPv6");
                    kept.extend(outcome.changes.into_iter().map(|c| Kept::V6(punt.metadata, c)));
                    outcome.reply
                }
            }
            Purpose::RouterAdvert => network.router.as_ref()?.handle_frame(&punt.frame),
            Purpose::NoRoute => {
                let problem = weft_wire::icmp_error::Problem::HostUnreachable;
                self.icmp.answer(&network.services.routers, &punt.frame, problem, self.started)
            }
            Purpose::Route if punt.reason == 2 => {
                let problem = weft_wire::icmp_error::Problem::TimeExceeded;
                self.icmp.answer(&network.services.routers, &punt.frame, problem, self.started)
            }
            _ => None,
        };
        frame.map(|frame| Answer { port: punt.in_port, frame })
    }

    /// Router advertisements that are due.
    fn advertise(&mut self) {
        let now = self.started.elapsed();
        for network in self.networks.values_mut() {
            let Some(router) = network.router.as_mut() else { continue };
            let random = u64::from(now.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
            let Some(frame) = router.poll(now.as_millis() as u64, random) else { continue };
            if network.ports.is_empty() {
                continue;
            }
            let out = network.ports.iter().map(|port| Action::Output { port: *port, max_len: 0 });
            self.flows.send(OfPort::CONTROLLER, out.collect(), frame);
        }
    }
}
