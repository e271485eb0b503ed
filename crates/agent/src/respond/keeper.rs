//! When may an answer go out? When the lease that it rests on is on disk.
//!
//! All that waits is written at once: however many clients ask, the disk is waited for once for all that came meanwhile.

use std::sync::Arc;

use tokio::sync::mpsc;
use weft_store::{LeaseWrite, Store, StoreError};

use crate::south::{Flows, Outgoing};

/// Batches that may wait for the disk; then the packets wait, and then they are dropped as on any busy cable.
pub(super) const QUEUE: usize = 64;

/// What a batch of packets comes to.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Changes of leases, in order.
    pub(super) writes: Vec<LeaseWrite>,
    /// Frames to send once these are durable.
    pub(super) frames: Vec<Outgoing>,
}

impl Work {
    /// Whether there is nothing to be done.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.frames.is_empty()
    }
}

/// Works until nobody has work any more.
///
/// # Errors
/// Leases could not be stored. What would have been answered was not.
pub(super) async fn run<S: Store>(
    store: Arc<S>,
    flows: Flows,
    mut work: mpsc::Receiver<Work>,
) -> Result<(), StoreError> {
    let mut batch = Vec::new();
    while work.recv_many(&mut batch, QUEUE).await > 0 {
        let (mut writes, mut frames) = (Vec::new(), Vec::new());
        for part in batch.drain(..) {
            writes.extend(part.writes);
            frames.extend(part.frames);
        }
        if !writes.is_empty() {
            store.write_leases(writes).await?;
        }
        flows.send(frames).await;
    }
    Ok(())
}
