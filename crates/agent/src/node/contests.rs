//! What if somebody else has an address of ours? Who was to get it gets another, or its people are told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use weft_model::{Port, Subnet};
use weft_store::{Store, StoreError};
use weft_wire::Mac;

use super::{ADDRESS_IN_USE, Node, now};
use crate::respond::{self, Contest};
use crate::status::Fault;

/// For so long the address is left alone, as DHCP leaves it.
const LEFT_ALONE: Duration = Duration::from_secs(3_600);
/// Contests that may wait to be heard.
const QUEUE: usize = 1_024;
/// Addresses that are left alone at most: who answers every question shall not have all.
const MOST: usize = 4_096;

/// Addresses that somebody else has.
#[derive(Debug)]
pub(super) struct Contests {
    pub(super) heard: mpsc::Receiver<Contest>,
    /// By network and address: who has it, and until when it is left alone.
    held: BTreeMap<(String, IpAddr), (Mac, Instant)>,
    count: u64,
}

/// Nothing is contested yet; where to tell it.
pub(super) fn start() -> (mpsc::Sender<Contest>, Contests) {
    let (tell, heard) = mpsc::channel(QUEUE);
    (tell, Contests { heard, held: BTreeMap::new(), count: 0 })
}

impl Contests {
    /// How often that was found.
    pub(super) fn counts(&self) -> Option<(String, u64)> {
        (self.count > 0).then(|| ("dhcp_conflicts".to_owned(), self.count))
    }
}

impl<S: Store> Node<S> {
    /// Takes in that somebody has an address.
    pub(super) fn contest(&mut self, contest: &Contest) {
        let key = u32::try_from(contest.network).unwrap_or_default();
        let Some(network) = self.resolver.nets.name(key).map(str::to_owned) else { return };
        let Contest { address, holder, .. } = *contest;
        tracing::warn!(%network, %address, %holder, "somebody has an address that was to be given away");
        self.contests.count += 1;
        self.hold_contest(network, address, holder, LEFT_ALONE);
        self.tell_mends();
    }

    fn hold_contest(&mut self, network: String, address: IpAddr, holder: Mac, left: Duration) {
        if self.contests.held.len() >= MOST {
            return;
        }
        self.ipam.contest(&self.catalog, &network, address);
        self.ports.extend(self.catalog.port_by_ip(&network, address).map(|p| p.name().to_owned()));
        self.contests.held.insert((network, address), (holder, Instant::now() + left));
    }

    /// Takes back what was found before the agent was started.
    pub(super) async fn remember_contests(&mut self) -> Result<(), StoreError> {
        let probed =
            |s: &&Subnet| self.catalog.network(&s.spec.network).is_some_and(|n| s.spec.probes(&n.spec));
        let subnets = self.catalog.networks().flat_map(|n| self.catalog.subnets_of(n.name())).filter(probed);
        let subnets: Vec<(String, String)> =
            subnets.map(|s| (s.name().to_owned(), s.spec.network.clone())).collect();
        for (subnet, network) in subnets {
            for lease in self.store.leases(Some(&subnet)).await? {
                let Some((holder, seconds)) = respond::contest(&lease, now()) else { continue };
                // What a port's own machine declined says nothing of others.
                let port = self.catalog.port_by_ip(&network, lease.address);
                if port.is_none_or(|port| port.mac().0 != holder) {
                    let left = Duration::from_secs(seconds).min(LEFT_ALONE);
                    self.hold_contest(network.clone(), lease.address, holder, left);
                }
            }
        }
        Ok(())
    }

    /// Addresses that were left alone for long enough may be given again.
    pub(super) fn end_contests(&mut self) {
        let over = self.contests.held.extract_if(.., |_, (_, until)| *until <= Instant::now());
        let over: Vec<(String, IpAddr)> = over.map(|(at, _)| at).collect();
        for (network, address) in over {
            self.ipam.release(&self.catalog, &network, address);
            self.ports.extend(self.catalog.port_by_ip(&network, address).map(|p| p.name().to_owned()));
        }
    }

    /// Whether an address that is written for a port is another's.
    pub(super) fn contested(&self, port: &Port) -> Fault {
        let held = |ip: &IpAddr| {
            let (holder, _) = self.contests.held.get(&(port.spec.network.clone(), *ip))?;
            Some(format!(
                "the machine with MAC address {holder} has {ip}: give it or the port another address"
            ))
        };
        port.spec.addresses.iter().find_map(held).map(|why| (ADDRESS_IN_USE, why))
    }
}
