//! In which order do changes become durable, visible and acknowledged?
//!
//! One thread. It takes all requests that wait, does them one after the other in a working catalog, writes what came of it
//! in one transaction of the file, then publishes it, then answers. If writing fails, the working catalog is taken back
//! and all are told so. Leases are written together likewise, apart from resources.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use weft_model::Catalog;

use super::disk::{Disk, lease_row};
use super::journal::Row;
use crate::error::StoreError;
use crate::history::{Event, Shared, write};
use crate::txn::{Outcome, Transaction, Undo, apply};
use crate::{Lease, LeaseWrite};

/// Requests that are made durable together, at most.
const BATCH: usize = 2_048;
/// Time from one write of leases to the next, if they come faster: to wait for the disk costs as much for one as for all
/// that come meanwhile.
const PACE: Duration = Duration::from_millis(1);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked of the writer.
#[derive(Debug)]
pub(super) enum Request {
    Commit(Transaction, Answer<Outcome>),
    WriteLeases(Vec<LeaseWrite>, Answer<()>),
    Leases(Option<String>, Answer<Vec<Lease>>),
    Close(Answer<()>),
}

pub(super) struct Writer {
    disk: Disk,
    catalog: Catalog,
    version: u64,
    room: usize,
    shared: Shared,
    tell: watch::Sender<u64>,
    /// When leases were written last.
    leased: Option<Instant>,
    /// Whether those of before could move from the journal to the database.
    moved: Result<(), StoreError>,
}

/// What a batch comes to before it is written.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    leases: Vec<Row>,
    undos: Vec<Undo>,
    commits: Vec<(Answer<Outcome>, Result<Outcome, StoreError>)>,
    writes: Vec<Answer<()>>,
}

impl Writer {
    pub(super) fn new(
        disk: Disk,
        catalog: Catalog,
        version: u64,
        room: usize,
        shared: Shared,
        tell: watch::Sender<u64>,
    ) -> Self {
        Self { disk, catalog, version, room, shared, tell, leased: None, moved: Ok(()) }
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = Batch::default();
            let mut reads = Vec::new();
            let mut next = Some(first);
            let mut taken = 0;
            let mut closing = None;
            while let Some(request) = next {
                match request {
                    Request::Commit(txn, answer) => self.commit(&txn, answer, &mut batch),
                    Request::WriteLeases(writes, answer) => {
                        batch.leases.extend(writes.into_iter().map(lease_row));
                        batch.writes.push(answer);
                    }
                    Request::Leases(subnet, answer) => reads.push((subnet, answer)),
                    Request::Close(answer) => closing = Some(answer),
                }
                taken += 1;
                if taken == 1 && !batch.leases.is_empty() {
                    self.keep_pace();
                }
                next = if taken < BATCH && closing.is_none() { queue.try_recv().ok() } else { None };
            }
            let written = batch.leases.len();
            self.finish(batch);
            for (subnet, answer) in reads {
                drop(answer.send(self.disk.leases(subnet.as_deref())));
            }
            if let Some(answer) = closing {
                drop(answer.send(self.disk.close()));
                return;
            }
            if written > 0 {
                // What does not move is still in the journal; why it does not, the next to write leases are told.
                self.moved = self.disk.tend(written);
            }
        }
        let _ = self.disk.close();
    }

    /// Waits a moment for more leases, if the last were written a moment ago.
    fn keep_pace(&mut self) {
        let now = Instant::now();
        let due = self.leased.map_or(now, |last| last + PACE);
        sleep(due.saturating_duration_since(now));
        self.leased = Some(now.max(due));
    }

    fn commit(&mut self, txn: &Transaction, answer: Answer<Outcome>, batch: &mut Batch) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let done = apply(&mut self.catalog, txn, self.version + 1, now, self.room);
        let outcome = done.map(|(outcome, undo)| {
            if txn.dry_run {
                undo.undo(&mut self.catalog);
            } else {
                self.version = outcome.version;
                batch.events.extend(outcome.events.iter().cloned());
                batch.undos.push(undo);
            }
            outcome
        });
        batch.commits.push((answer, outcome));
    }

    /// Writes, publishes, answers.
    fn finish(&mut self, batch: Batch) {
        let nothing = batch.events.is_empty();
        let written = if nothing { Ok(()) } else { self.disk.write(&batch.events, self.version) };
        if written.is_err() {
            for undo in batch.undos.into_iter().rev() {
                undo.undo(&mut self.catalog);
            }
            // Versions that were not published may be used again.
            self.version = crate::history::read(&self.shared).version;
        } else if !batch.events.is_empty() {
            write(&self.shared).publish(&batch.events);
            self.tell.send_replace(self.version);
        }
        for (answer, outcome) in batch.commits {
            drop(answer.send(written.clone().and(outcome)));
        }
        let kept = match (batch.leases.is_empty(), &self.moved) {
            (true, _) => Ok(()),
            (false, Ok(())) => self.disk.write_leases(batch.leases),
            (false, Err(why)) => Err(why.clone()),
        };
        for answer in batch.writes {
            drop(answer.send(kept.clone()));
        }
    }
}
