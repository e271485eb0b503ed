//! How does one node keep everything in one file?

mod disk;
mod journal;
mod writer;

use std::path::Path;
use std::sync::{Arc, RwLock};

use tokio::sync::{mpsc, oneshot, watch};
use weft_model::{Catalog, Kind, ObjectRef, Resource};

use crate::error::StoreError;
use crate::history::{Published, Shared, Watch, read};
use crate::selector::Selector;
use crate::txn::{Outcome, Transaction};
use crate::{Lease, LeaseWrite, Listing, Store};
use disk::Disk;
use writer::{Request, Writer};

/// Requests that wait for the writer before those who make them wait too.
const QUEUE: usize = 4_096;

/// Limits of an embedded store.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many events a watch may be behind.
    pub history: usize,
    /// How many resources there may be.
    pub max_resources: usize,
    /// How many leases may wait in the journal beside the file before they move into it.
    pub journal: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { history: 100_000, max_resources: 1_000_000, journal: 32_768 }
    }
}

/// A store in a file of this node. Cheap to clone; the file is closed when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Embedded {
    shared: Shared,
    requests: mpsc::Sender<Request>,
    told: watch::Receiver<u64>,
}

impl Embedded {
    /// Opens the file, or makes it with its directories, readable for its owner only.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when another process has it open; [`StoreError::Disk`] when it cannot be read, or holds what
    /// this version does not understand.
    pub fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let disk = Disk::open(path, options.journal)?;
        let (catalog, version) = disk.load()?;
        let shared = Arc::new(RwLock::new(Published::new(catalog.clone(), version, options.history.max(1))));
        let (requests, queue) = mpsc::channel(QUEUE);
        let (tell, told) = watch::channel(version);
        let writer = Writer::new(disk, catalog, version, options.max_resources, Arc::clone(&shared), tell);
        std::thread::Builder::new()
            .name("weft-store".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|e| StoreError::Disk(format!("no thread for the store: {e}")))?;
        Ok(Self { shared, requests, told })
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Closes the file and waits until it is closed; what was asked before is done first. Other clones find the store
    /// closed.
    pub async fn close(self) {
        drop(self.ask(Request::Close).await);
    }

    /// Reads the published resources without copying them.
    pub fn with_catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&read(&self.shared).catalog)
    }
}

impl Store for Embedded {
    async fn get(&self, reference: &ObjectRef) -> Result<Option<Arc<Resource>>, StoreError> {
        Ok(read(&self.shared).catalog.get(reference).cloned())
    }

    async fn list(&self, kind: Option<Kind>, selector: &Selector) -> Result<Listing, StoreError> {
        let shared = read(&self.shared);
        let chosen = |r: &&Arc<Resource>| selector.matches(&r.metadata().labels);
        let items = match kind {
            Some(kind) => shared.catalog.list(kind).filter(chosen).cloned().collect(),
            None => shared.catalog.iter().filter(chosen).cloned().collect(),
        };
        Ok(Listing { version: shared.version, items })
    }

    async fn catalog(&self) -> Result<(Catalog, u64), StoreError> {
        let shared = read(&self.shared);
        Ok((shared.catalog.clone(), shared.version))
    }

    async fn commit(&self, txn: Transaction) -> Result<Outcome, StoreError> {
        self.ask(|answer| Request::Commit(txn, answer)).await
    }

    async fn watch(&self, after: u64) -> Result<Watch, StoreError> {
        Watch::new(&self.shared, self.told.clone(), after)
    }

    async fn version(&self) -> Result<u64, StoreError> {
        Ok(read(&self.shared).version)
    }

    async fn leases(&self, subnet: Option<&str>) -> Result<Vec<Lease>, StoreError> {
        let subnet = subnet.map(str::to_owned);
        self.ask(|answer| Request::Leases(subnet, answer)).await
    }

    async fn write_leases(&self, writes: Vec<LeaseWrite>) -> Result<(), StoreError> {
        self.ask(|answer| Request::WriteLeases(writes, answer)).await
    }
}
