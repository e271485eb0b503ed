//! What changed since then? The history of changes and those who follow it.
//!
//! Events have places in one sequence. A watch remembers its place and takes what is behind it, so that it neither misses
//! nor repeats an event, and a slow one holds nobody up: it finds its place forgotten and is told so.

use std::collections::VecDeque;
use std::sync::{Arc, RwLock};

use tokio::sync::watch;
use weft_model::{Catalog, Resource};

use crate::error::StoreError;

/// What happened to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was created or changed.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one resource. All events of a transaction have the same version.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The store's version after it.
    pub version: u64,
    /// What happened.
    pub change: Change,
    /// The resource after it was put, or before it was deleted.
    pub resource: Arc<Resource>,
}

/// What readers see.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) catalog: Catalog,
    pub(crate) version: u64,
    events: VecDeque<Event>,
    /// Place of the first event in the sequence of all.
    first: u64,
    /// Changes up to this version are forgotten.
    forgotten: u64,
    keep: usize,
}

impl Published {
    pub(crate) fn new(catalog: Catalog, version: u64, keep: usize) -> Self {
        Self { catalog, version, events: VecDeque::new(), first: 0, forgotten: version, keep }
    }

    /// Adds the events of one transaction.
    pub(crate) fn publish(&mut self, events: &[Event]) {
        for event in events {
            self.version = self.version.max(event.version);
            match event.change {
                Change::Put => drop(self.catalog.insert(Arc::clone(&event.resource))),
                Change::Delete => drop(self.catalog.remove(&event.resource.reference())),
            }
            self.events.push_back(event.clone());
        }
        while self.events.len() > self.keep {
            if let Some(event) = self.events.pop_front() {
                self.first += 1;
                self.forgotten = event.version;
            }
        }
    }

    /// The place of the first event after a version.
    fn place(&self, after: u64) -> Result<u64, StoreError> {
        if after > self.version {
            return Err(StoreError::Future(after));
        }
        if after < self.forgotten {
            return Err(StoreError::Compacted { after, oldest: self.forgotten });
        }
        Ok(self.first + self.events.partition_point(|e| e.version <= after) as u64)
    }
}

/// What the writer publishes to, and readers read from.
pub(crate) type Shared = Arc<RwLock<Published>>;

/// Follows the changes of a store.
#[derive(Debug)]
pub struct Watch {
    shared: Shared,
    told: watch::Receiver<u64>,
    place: u64,
    /// The version of the last event that was given out.
    after: u64,
}

impl Watch {
    pub(crate) fn new(shared: &Shared, told: watch::Receiver<u64>, after: u64) -> Result<Self, StoreError> {
        let place = read(shared).place(after)?;
        Ok(Self { shared: Arc::clone(shared), told, place, after })
    }

    /// The next event; waits for it. May be dropped while it waits without losing one.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when this watch was too slow, [`StoreError::Closed`] when the store is closed.
    pub async fn next(&mut self) -> Result<Event, StoreError> {
        loop {
            self.told.mark_unchanged();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            if self.told.changed().await.is_err() {
                // The writer is gone; it may have published before it went.
                return self.try_next()?.ok_or(StoreError::Closed);
            }
        }
    }

    /// The next event if it has happened.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when this watch was too slow.
    pub fn try_next(&mut self) -> Result<Option<Event>, StoreError> {
        let shared = read(&self.shared);
        let Some(index) = self.place.checked_sub(shared.first) else {
            return Err(StoreError::Compacted { after: self.after, oldest: shared.forgotten });
        };
        let event = usize::try_from(index).ok().and_then(|i| shared.events.get(i)).cloned();
        drop(shared);
        if let Some(event) = &event {
            self.place += 1;
            self.after = event.version;
        }
        Ok(event)
    }

    /// All events that have happened, at most `limit`; waits for the first.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_batch(&mut self, limit: usize) -> Result<Vec<Event>, StoreError> {
        let mut batch = vec![self.next().await?];
        while batch.len() < limit {
            match self.try_next()? {
                Some(event) => batch.push(event),
                None => break,
            }
        }
        Ok(batch)
    }
}

/// Reads what is published; a panic of another reader does not spoil it.
pub(crate) fn read(shared: &Shared) -> std::sync::RwLockReadGuard<'_, Published> {
    shared.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Changes what is published.
pub(crate) fn write(shared: &Shared) -> std::sync::RwLockWriteGuard<'_, Published> {
    shared.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}
