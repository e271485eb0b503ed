//! When may an answer go out? When the lease that it rests on is on disk.
//!
//! All that waits is written at once: however many clients ask, the disk is waited for once for all that came meanwhile.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use weft_flow::OfPort;
use weft_model::IpNet;
use weft_services::LeaseChange;
use weft_store::{LeaseWrite, Store, StoreError};
use weft_wire::Mac;

use super::dns;
use super::lease::{Family, named, written};
use super::network::Rests;
use crate::south::{Flows, Outgoing, To};

/// Batches that may wait for the disk; then the packets wait, and then they are dropped as on any busy cable.
pub(super) const QUEUE: usize = 64;

/// What a batch of packets comes to.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Changes of leases, in order.
    pub(super) writes: Vec<LeaseWrite>,
    /// Frames to send once these are durable.
    pub(super) frames: Vec<Outgoing>,
    /// Frames that rest on nothing that is not: they are not for the keeper.
    pub(super) free: Vec<Outgoing>,
    /// Names that come and go with leases.
    pub(super) names: Vec<dns::Tell>,
    /// Addresses that somebody else has; they are not for the keeper.
    pub(super) contests: Vec<Contest>,
}

/// An address of a network that somebody has who was not given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contest {
    /// The network's key.
    pub network: u64,
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub holder: Mac,
}

impl Work {
    /// Whether there is nothing to be kept, and nothing that waits for it.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.frames.is_empty() && self.names.is_empty()
    }

    /// A frame is to be sent by a port, when that may be.
    pub(super) fn send(&mut self, rests: Rests, port: OfPort, frame: Vec<u8>) {
        let frames = if rests == Rests::OnLeases { &mut self.frames } else { &mut self.free };
        frames.push(Outgoing { to: To::Ports(vec![port]), frame });
    }

    /// Notes changes of leases of a network, by its key.
    pub(super) fn note<'a, A: Family + 'a>(
        &mut self,
        key: u64,
        subnets: &[(String, IpNet)],
        changes: impl IntoIterator<Item = &'a LeaseChange<A>>,
    ) {
        for change in changes {
            self.writes.extend(written(subnets, change));
            self.names.extend(named(key, change));
        }
    }
}

/// Works until nobody has work any more.
///
/// # Errors
/// Leases could not be stored. What would have been answered was not.
pub(super) async fn run<S: Store>(
    store: Arc<S>,
    flows: Flows,
    names: mpsc::Sender<dns::Tell>,
    mut work: mpsc::Receiver<Work>,
) -> Result<(), StoreError> {
    let mut batch = Vec::new();
    while work.recv_many(&mut batch, QUEUE).await > 0 {
        let (mut writes, mut frames, mut tells) = (Vec::new(), Vec::new(), Vec::new());
        for part in batch.drain(..) {
            writes.extend(part.writes);
            frames.extend(part.frames);
            tells.extend(part.names);
        }
        if !writes.is_empty() {
            store.write_leases(writes).await?;
        }
        flows.send(frames).await;
        for tell in tells {
            // Name servers that are gone are told nothing.
            let _ = names.send(tell).await;
        }
    }
    Ok(())
}
