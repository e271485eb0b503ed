//! Who answers what ports ask the network: for an address, a router, why a packet cannot go on?
//!
//! ```text
//!   node ──Tell───▶ ┐
//!                   ├─▶ responders ──answers, changes of leases──▶ keeper ──▶ store, one write for all that wait
//!   flows ──Punt──▶ ┘        │                                        └─────▶ flows: the answers, once that is durable
//!                            └──offers and other answers that rest on no lease──▶ flows
//! ```
//! One task owns the responders of all networks, another keeps their leases. Packets come from flows, answers go back by
//! the port they came from. When leases cannot be kept, nothing can be promised any more, and both tasks end.

mod config;
pub mod dns;
mod icmp;
mod keeper;
mod lease;
mod network;
mod probe;
mod sort;
mod station;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;
use weft_flow::OfPort;
use weft_services::ra;
use weft_store::{Store, StoreError};

pub(crate) use config::self_made;
pub use config::{Services, services};
pub use icmp::Routers;
pub use keeper::Contest;
pub use lease::{contest, is_held, is_running, lease_view};
pub use sort::sort;
pub use station::{Station, station};

use keeper::Work;
use network::{Network, New};

use crate::south::{Flows, Outgoing, Punt, Punts, To};

/// Packets handled before their leases are on the way to the disk.
const BATCH: usize = 256;

/// How often ended leases are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// So long a lease is remembered after its end, for who comes back, in seconds: a week.
const REMEMBERED: u64 = 7 * 24 * 3600;
/// Leases of a network and family that are forgotten at once.
const FORGOTTEN: usize = 4096;

/// What the responders are told.
#[derive(Debug)]
pub enum Tell {
    /// A network, by its key, has these services, or none.
    Configure(u64, Option<Box<Services>>),
    /// What is known of ports, by their keys: the network that a port is of and what it is there, or nothing.
    Stations(Vec<(u32, Option<(u64, Station)>)>),
    /// These subnets are gone, and what was leased of them.
    Forget(Vec<String>),
}

/// All responders.
struct Responders<S> {
    store: Arc<S>,
    networks: HashMap<u64, Network>,
    /// The network that a port is of, as was told last.
    homes: HashMap<u32, u64>,
    keeper: mpsc::Sender<Work>,
    contests: mpsc::Sender<Contest>,
    flows: Flows,
    started: Instant,
    icmp: icmp::Limit,
    sweep: Instant,
}

/// Starts the tasks. They end when the sender is dropped, or when leases cannot be read or kept, which the receiver is
/// told.
pub fn start<S: Store>(
    store: Arc<S>,
    flows: Flows,
    punts: Punts,
    names: mpsc::Sender<dns::Tell>,
    contests: mpsc::Sender<Contest>,
) -> (mpsc::Sender<Tell>, oneshot::Receiver<StoreError>) {
    let (sender, told) = mpsc::channel(1024);
    let (failed, failure) = oneshot::channel();
    let (keeper, work) = mpsc::channel(keeper::QUEUE);
    let keeping = tokio::spawn(keeper::run(Arc::clone(&store), flows.clone(), names, work));
    let responders = Responders {
        store,
        networks: HashMap::new(),
        homes: HashMap::new(),
        keeper,
        contests,
        flows,
        started: Instant::now(),
        icmp: icmp::Limit::default(),
        sweep: Instant::now() + SWEEP,
    };
    tokio::spawn(async move {
        let answered = responders.run(told, punts).await;
        // The keeper's word counts: it knows why it went.
        let kept = keeping.await.unwrap_or(Ok(()));
        if let Err(why) = kept.and(answered) {
            let _ = failed.send(why);
        }
    });
    (sender, failure)
}

/// Seconds since 1970: leases outlive the process.
fn wall() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl<S: Store> Responders<S> {
    async fn run(mut self, mut told: mpsc::Receiver<Tell>, mut punts: Punts) -> Result<(), StoreError> {
        let mut batch = Vec::new();
        loop {
            let next =
                self.networks.values().filter_map(|n| n.router.as_ref()).map(ra::Router::next_at).min();
            let next = self.started + Duration::from_millis(next.unwrap_or(u64::MAX >> 20));
            let probe = self.networks.values().filter_map(Network::next_probe).min();
            let wake = probe.unwrap_or(next).min(next).min(self.sweep);
            let mut work = Work::default();
            tokio::select! {
                // What a port is comes before what it asks.
                biased;
                tell = told.recv() => match tell {
                    Some(tell) => self.take(tell, &mut work).await?,
                    None => return Ok(()),
                },
                n = punts.recv_many(&mut batch, BATCH) => {
                    if n == 0 {
                        return Ok(());
                    }
                    batch.drain(..).for_each(|punt| self.punt(&punt, &mut work));
                }
                () = sleep_until(wake.into()) => {}
            }
            if Instant::now() >= next {
                self.advertise(&mut work);
            }
            if probe.is_some_and(|at| Instant::now() >= at) {
                self.networks.values_mut().for_each(|network| network.probe(&mut work));
            }
            if Instant::now() >= self.sweep {
                self.sweep(&mut work);
            }
            self.flows.send(std::mem::take(&mut work.free)).await;
            for contest in work.contests.drain(..) {
                // Who is busy hears of it when it is found again: nobody is waited for that waits for us.
                let _ = self.contests.try_send(contest);
            }
            if !work.is_empty() && self.keeper.send(work).await.is_err() {
                return Err(StoreError::Closed);
            }
        }
    }

    async fn take(&mut self, tell: Tell, work: &mut Work) -> Result<(), StoreError> {
        match tell {
            Tell::Configure(key, None) => drop(self.networks.remove(&key)),
            Tell::Configure(key, Some(services)) => {
                let now = self.started.elapsed().as_millis() as u64;
                let (mut network, new) = match self.networks.remove(&key) {
                    Some(known) if known.services == services => {
                        self.networks.insert(key, known);
                        return Ok(());
                    }
                    Some(mut known) => {
                        let new = known.configure(services, now, work);
                        (known, new)
                    }
                    None => (Network::new(key, services, now), New { v4: true, v6: true }),
                };
                for (subnet, _) in network.services.subnets.clone() {
                    if new.v4 || new.v6 {
                        network.remember(self.store.leases(Some(&subnet)).await?, new, work);
                    }
                }
                network.resettle(work);
                self.networks.insert(key, network);
            }
            Tell::Stations(stations) => self.stations(stations, work),
            Tell::Forget(subnets) => {
                for subnet in subnets {
                    let gone = self.store.leases(Some(&subnet)).await?;
                    work.writes.extend(gone.into_iter().map(lease::removal));
                }
            }
        }
        Ok(())
    }

    /// Addresses change hands: all that is let go is let go before anything is taken.
    fn stations(&mut self, stations: Vec<(u32, Option<(u64, Station)>)>, work: &mut Work) {
        for (port, now) in &stations {
            let Some(home) = self.homes.get(port) else { continue };
            if let Some(network) = self.networks.get_mut(home) {
                let stays = now.as_ref().filter(|(net, _)| net == home).map(|(_, station)| station);
                network.let_go(*port, stays, work);
            }
        }
        for (port, now) in stations {
            let Some((net, station)) = now else {
                self.homes.remove(&port);
                continue;
            };
            self.homes.insert(port, net);
            if let Some(network) = self.networks.get_mut(&net) {
                network.settle(port, station, work);
            }
        }
    }

    /// Answers a packet.
    fn punt(&mut self, punt: &Punt, work: &mut Work) {
        let Some(network) = self.networks.get_mut(&punt.metadata) else { return };
        if let Some((rests, frame)) = network.answer(punt, &mut self.icmp, self.started, work) {
            work.send(rests, punt.in_port, frame);
        }
    }

    /// Forgets leases that ended long ago. Where there are more than are forgotten at once, the rest soon.
    fn sweep(&mut self, work: &mut Work) {
        let ended = wall().saturating_sub(REMEMBERED);
        let most = self.networks.values_mut().map(|n| n.sweep(ended, FORGOTTEN, work)).max();
        let more = most.is_some_and(|n| n >= FORGOTTEN);
        self.sweep = Instant::now() + if more { Duration::from_secs(1) } else { SWEEP };
    }

    /// Router advertisements that are due.
    fn advertise(&mut self, work: &mut Work) {
        let now = self.started.elapsed();
        for network in self.networks.values_mut() {
            let Some(router) = network.router.as_mut() else { continue };
            let random = u64::from(now.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
            let Some(frame) = router.poll(now.as_millis() as u64, random) else { continue };
            let ports: Vec<OfPort> = network.stations.values().filter_map(|s| s.port).collect();
            if !ports.is_empty() {
                work.free.push(Outgoing { to: To::Ports(ports), frame });
            }
        }
    }
}
