//! How do resources and leases lie in the file?
//!
//! Three tables of redb: `resources` (kind/name → JSON), `leases` (subnet, a zero byte, 4 or 16 bytes of address → opaque
//! bytes) and `meta` (`version`, `format`). A commit is one transaction of redb, durable when it returns.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use weft_model::{Catalog, Resource};

use crate::error::StoreError;
use crate::history::{Change, Event};
use crate::{Lease, LeaseWrite};

const RESOURCES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("resources");
const LEASES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("leases");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The form in which this version writes.
const FORMAT: u64 = 1;
/// Bytes of pages that redb keeps in memory.
const CACHE: usize = 32 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Disk {
    db: Database,
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Disk(format!("the store's file: {}", error.into()))
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
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
        let txn = db.begin_write().map_err(failed)?;
        {
            txn.open_table(RESOURCES).map_err(failed)?;
            txn.open_table(LEASES).map_err(failed)?;
            let mut meta = txn.open_table(META).map_err(failed)?;
            let format = meta.get("format").map_err(failed)?.map(|f| f.value());
            match format {
                None => drop(meta.insert("format", FORMAT).map_err(failed)?),
                Some(FORMAT) => {}
                Some(other) => {
                    let why = format!("{} has format {other}, this version knows {FORMAT}", path.display());
                    return Err(StoreError::Disk(why));
                }
            }
        }
        txn.commit().map_err(failed)?;
        Ok(Self { db })
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

    /// Writes events and leases, and waits until they are on disk.
    pub(super) fn write(
        &self,
        events: &[Event],
        version: u64,
        leases: &HashMap<Vec<u8>, Option<Vec<u8>>>,
    ) -> Result<(), StoreError> {
        let mut txn = self.db.begin_write().map_err(failed)?;
        txn.set_durability(Durability::Immediate).map_err(failed)?;
        if !events.is_empty() {
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
        if !leases.is_empty() {
            let mut table = txn.open_table(LEASES).map_err(failed)?;
            for (key, value) in leases {
                match value {
                    Some(value) => drop(table.insert(key.as_slice(), value.as_slice()).map_err(failed)?),
                    None => drop(table.remove(key.as_slice()).map_err(failed)?),
                }
            }
        }
        txn.commit().map_err(failed)
    }

    /// The leases of a subnet, or all.
    pub(super) fn leases(&self, subnet: Option<&str>) -> Result<Vec<Lease>, StoreError> {
        let txn = self.db.begin_read().map_err(failed)?;
        let table = txn.open_table(LEASES).map_err(failed)?;
        let mut all = Vec::new();
        let rows = match subnet {
            Some(subnet) => {
                let (low, high) = (prefix(subnet, 0), prefix(subnet, 1));
                table.range(low.as_slice()..high.as_slice()).map_err(failed)?
            }
            None => table.range::<&[u8]>(..).map_err(failed)?,
        };
        for row in rows {
            let (key, value) = row.map_err(failed)?;
            if let Some((subnet, address)) = split(key.value()) {
                all.push(Lease { subnet, address, value: value.value().to_vec() });
            }
        }
        Ok(all)
    }
}

fn prefix(subnet: &str, end: u8) -> Vec<u8> {
    let mut key = subnet.as_bytes().to_vec();
    key.push(end);
    key
}

/// Key and value of a change of a lease.
pub(super) fn lease_row(write: LeaseWrite) -> (Vec<u8>, Option<Vec<u8>>) {
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
