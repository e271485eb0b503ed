//! How do resources and leases lie in the file?
//!
//! Three tables of redb: `resources` (kind/name → JSON), `leases` (subnet, a zero byte, 4 or 16 bytes of address → opaque
//! bytes) and `meta` (`version`, `format`). A commit is one transaction of redb, durable when it returns.
//!
//! Leases are durable once they are in the [journal](super::journal). When that is long, its rows move to the table, a
//! part after each write; until then they are read from memory. Where the store is closed the journal is gone, and the
//! file has the format of before there was one.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use weft_model::{Catalog, Resource};

use super::journal::{self, Journal, Row};
use crate::error::StoreError;
use crate::history::{Change, Event};
use crate::{Lease, LeaseWrite};

const RESOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("resources");
const LEASES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("leases");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The file holds everything.
const FORMAT: u64 = 1;
/// There is a journal beside it.
const JOURNALED: u64 = 2;
/// Bytes of pages that redb keeps in memory.
const CACHE: usize = 32 * 1024 * 1024;

/// Rows that move to the table together, at least: enough to share its pages, few enough to hold nobody up.
const STEP: usize = 512;

type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    db: Database,
    journal: Journal,
    /// Rows in the half of the journal that is written.
    fresh: Rows,
    /// Rows that move to the table.
    moving: Rows,
    /// Rows in the half of the journal that is written, those of one lease counted each time, and how many there may be
    /// before they move.
    written: usize,
    most: usize,
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Disk(format!("the store's file: {}", error.into()))
}

impl Disk {
    /// Opens or makes the file. `most`: so many leases may wait in the journal.
    pub(super) fn open(path: &Path, most: usize) -> Result<Self, StoreError> {
        let told = |e: std::io::Error| StoreError::Disk(format!("{}: {e}", path.display()));
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(told)?;
        }
        // Made here and not by redb, for the sake of its mode.
        let options = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        drop(options.map_err(told)?);
        let db = Database::builder().set_cache_size(CACHE).create(path).map_err(|e| match e {
            DatabaseError::DatabaseAlreadyOpen => StoreError::Busy(path.display().to_string()),
            e => StoreError::Disk(format!("{}: {}", path.display(), redb::Error::from(e))),
        })?;
        let format = {
            let txn = db.begin_write().map_err(failed)?;
            txn.open_table(RESOURCES).map_err(failed)?;
            txn.open_table(LEASES).map_err(failed)?;
            let format = {
                let meta = txn.open_table(META).map_err(failed)?;
                meta.get("format").map_err(failed)?.map_or(FORMAT, |f| f.value())
            };
            txn.commit().map_err(failed)?;
            format
        };
        // Of a journal that is left where the file holds everything, nothing counts.
        let left = match format {
            FORMAT => Vec::new(),
            JOURNALED => journal::read(path).map_err(unwritten)?,
            other => {
                let why = format!("{} has format {other}, this version knows {JOURNALED}", path.display());
                return Err(StoreError::Disk(why));
            }
        };
        let left: Rows = left.into_iter().collect();
        if format == JOURNALED {
            put_leases(&db, left.iter(), Some(FORMAT))?;
        }
        journal::remove(path).map_err(unwritten)?;
        let journal = Journal::create(path).map_err(unwritten)?;
        put_leases(&db, [].into_iter(), Some(JOURNALED))?;
        let (fresh, moving) = (Rows::new(), Rows::new());
        Ok(Self { path: path.to_owned(), db, journal, fresh, moving, written: 0, most })
    }

    /// Moves all leases to the table, and takes the journal away.
    pub(super) fn close(mut self) -> Result<(), StoreError> {
        self.moving.append(&mut self.fresh);
        put_leases(&self.db, self.moving.iter(), Some(FORMAT))?;
        journal::remove(&self.path).map_err(unwritten)
    }

    /// All resources and the version.
    pub(super) fn load(&self) -> Result<(Catalog, u64), StoreError> {
        let txn = self.db.begin_read().map_err(failed)?;
        let version = {
            let meta = txn.open_table(META).map_err(failed)?;
            meta.get("version").map_err(failed)?.map_or(0, |v| v.value())
        };
        let mut catalog = Catalog::new();
        let table = txn.open_table(RESOURCES).map_err(failed)?;
        for row in table.iter().map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            let resource: Resource = serde_json::from_slice(value.value())
                .map_err(|e| StoreError::Disk(format!("the store's file: {}: {e}", key.value())))?;
            catalog.insert(Arc::new(resource));
        }
        Ok((catalog, version))
    }

    /// Writes events, and waits until they are on disk.
    pub(super) fn write(&self, events: &[Event], version: u64) -> Result<(), StoreError> {
        let mut txn = self.db.begin_write().map_err(failed)?;
        txn.set_durability(Durability::Immediate).map_err(failed)?;
        {
            let mut table = txn.open_table(RESOURCES).map_err(failed)?;
            for event in events {
                let key = event.resource.reference().to_string();
                match event.change {
                    Change::Put => {
                        let bytes = serde_json::to_vec(&*event.resource)
                            .map_err(|e| StoreError::Disk(format!("{key} cannot be written: {e}")))?;
                        table.insert(key.as_str(), bytes.as_slice()).map_err(failed)?;
                    }
                    Change::Delete => drop(table.remove(key.as_str()).map_err(failed)?),
                }
            }
            let mut meta = txn.open_table(META).map_err(failed)?;
            meta.insert("version", version).map_err(failed)?;
        }
        txn.commit().map_err(failed)
    }

    /// Writes leases, the later ones of an address last, and waits until they are on disk.
    pub(super) fn write_leases(&mut self, rows: Vec<Row>) -> Result<(), StoreError> {
        self.journal.append(&rows).map_err(unwritten)?;
        self.written += rows.len();
        self.fresh.extend(rows);
        Ok(())
    }

    /// Moves a part of what waits in the journal to the table, after so many rows were written: twice as many, so that
    /// there is an end.
    pub(super) fn tend(&mut self, written: usize) -> Result<(), StoreError> {
        if self.moving.is_empty() && self.written >= self.most {
            self.journal.turn();
            self.written = 0;
            self.moving = std::mem::take(&mut self.fresh);
        }
        if !self.moving.is_empty() {
            let step = STEP.max(2 * written);
            put_leases(&self.db, self.moving.iter().take(step), None)?;
            self.moving = match self.moving.keys().nth(step).cloned() {
                Some(key) => self.moving.split_off(&key),
                None => Rows::new(),
            };
        }
        Ok(())
    }

    /// The leases of a subnet, or all.
    pub(super) fn leases(&self, subnet: Option<&str>) -> Result<Vec<Lease>, StoreError> {
        let (low, high) = match subnet {
            Some(subnet) => (Bound::Included(prefix(subnet, 0)), Bound::Excluded(prefix(subnet, 1))),
            None => (Bound::Unbounded, Bound::Unbounded),
        };
        let range = (low.as_ref().map(Vec::as_slice), high.as_ref().map(Vec::as_slice));
        let txn = self.db.begin_read().map_err(failed)?;
        let table = txn.open_table(LEASES).map_err(failed)?;
        let mut all = BTreeMap::new();
        for row in table.range::<&[u8]>(range).map_err(failed)? {
            let (key, value) = row.map_err(failed)?;
            all.insert(key.value().to_vec(), value.value().to_vec());
        }
        let newer = self.moving.range::<[u8], _>(range).chain(self.fresh.range::<[u8], _>(range));
        for (key, value) in newer {
            match value {
                Some(value) => drop(all.insert(key.clone(), value.clone())),
                None => drop(all.remove(key)),
            }
        }
        let lease = |(key, value): (Vec<u8>, Vec<u8>)| {
            split(&key).map(|(subnet, address)| Lease { subnet, address, value })
        };
        Ok(all.into_iter().filter_map(lease).collect())
    }
}

fn unwritten(error: io::Error) -> StoreError {
    StoreError::Disk(format!("the store's journal: {error}"))
}

/// Writes rows to the table in one transaction, in their order, and maybe the format of the file.
fn put_leases<'a>(
    db: &Database,
    rows: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
    format: Option<u64>,
) -> Result<(), StoreError> {
    let mut txn = db.begin_write().map_err(failed)?;
    txn.set_durability(Durability::Immediate).map_err(failed)?;
    {
        let mut table = txn.open_table(LEASES).map_err(failed)?;
        for (key, value) in rows {
            match value {
                Some(value) => drop(table.insert(key.as_slice(), value.as_slice()).map_err(failed)?),
                None => drop(table.remove(key.as_slice()).map_err(failed)?),
            }
        }
        if let Some(format) = format {
            txn.open_table(META).map_err(failed)?.insert("format", format).map_err(failed)?;
        }
    }
    txn.commit().map_err(failed)
}

fn prefix(subnet: &str, end: u8) -> Vec<u8> {
    let mut key = subnet.as_bytes().to_vec();
    key.push(end);
    key
}

/// Key and value of a change of a lease.
pub(super) fn lease_row(write: LeaseWrite) -> Row {
    let key = |subnet: &str, address: IpAddr| {
        let mut key = prefix(subnet, 0);
        match address {
            IpAddr::V4(v4) => key.extend(v4.octets()),
            IpAddr::V6(v6) => key.extend(v6.octets()),
        }
        key
    };
    match write {
        LeaseWrite::Put(lease) => (key(&lease.subnet, lease.address), Some(lease.value)),
        LeaseWrite::Remove { subnet, address } => (key(&subnet, address), None),
    }
}

fn split(key: &[u8]) -> Option<(String, IpAddr)> {
    let zero = key.iter().position(|b| *b == 0)?;
    let subnet = std::str::from_utf8(&key[..zero]).ok()?.to_owned();
    let bytes = &key[zero + 1..];
    let address = match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return None,
    };
    Some((subnet, address))
}
