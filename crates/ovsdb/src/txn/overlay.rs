//! What would the rows be, if the transaction so far were committed?

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::Condition;
use crate::db::{Database, Row, RowChange};
use crate::schema::TableSchema;
use crate::uuids::Uuid;
use crate::value::Datum;

/// The committed rows with a transaction's own changes on top.
#[derive(Debug)]
pub(crate) struct Overlay<'a> {
    pub(crate) db: &'a Database,
    changed: Vec<BTreeMap<Uuid, Option<Arc<Row>>>>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(db: &'a Database) -> Self {
        Self { db, changed: vec![BTreeMap::new(); db.tables().len()] }
    }

    /// The schema of the table at a position.
    pub(crate) fn schema(&self, table: usize) -> Option<&'a TableSchema> {
        self.db.schema().table_at(table).map(|(_, t)| t)
    }

    /// A row as the transaction sees it.
    pub(crate) fn get(&self, table: usize, uuid: Uuid) -> Option<&Arc<Row>> {
        match self.changed[table].get(&uuid) {
            Some(row) => row.as_ref(),
            None => self.committed(table, uuid),
        }
    }

    /// A row as it is without the transaction.
    pub(crate) fn committed(&self, table: usize, uuid: Uuid) -> Option<&'a Arc<Row>> {
        self.db.tables()[table].rows.get(&uuid)
    }

    /// True when the transaction has deleted the committed row of that UUID.
    pub(crate) fn was_deleted(&self, table: usize, uuid: Uuid) -> bool {
        matches!(self.changed[table].get(&uuid), Some(None))
    }

    /// Every row of a table as the transaction sees it.
    pub(crate) fn rows(&self, table: usize) -> impl Iterator<Item = &Arc<Row>> {
        let changed = &self.changed[table];
        let committed = self.db.tables()[table].rows.iter();
        let untouched = committed.filter(|(uuid, _)| !changed.contains_key(uuid));
        let untouched = untouched.map(|(_, row)| row);
        untouched.chain(changed.values().flatten())
    }

    /// Number of rows of a table as the transaction sees it.
    pub(crate) fn row_count(&self, table: usize) -> usize {
        let mut count = self.db.tables()[table].rows.len();
        for (uuid, row) in &self.changed[table] {
            match (self.committed(table, *uuid), row) {
                (None, Some(_)) => count += 1,
                (Some(_), None) => count -= 1,
                _ => {}
            }
        }
        count
    }

    /// The rows a condition means, in the order of their UUIDs.
    pub(crate) fn select(&self, table: usize, condition: &Condition) -> Vec<Arc<Row>> {
        if let Some(uuid) = condition.only_uuid() {
            let row = self.get(table, uuid).filter(|r| condition.matches_all(r));
            return row.cloned().into_iter().collect();
        }
        if let Some(row) = self.by_index(table, condition) {
            return row.filter(|r| condition.matches_all(r)).cloned().into_iter().collect();
        }
        let mut rows: Vec<Arc<Row>> =
            self.rows(table).filter(|r| condition.matches_all(r)).cloned().collect();
        rows.sort_unstable_by_key(|r| r.uuid);
        rows
    }

    /// The only row that can match, when clauses fix the value of an index; `None` when they do not, or when rows that the
    /// transaction changed share it, which is found out when it ends.
    fn by_index(&self, table: usize, condition: &Condition) -> Option<Option<&Arc<Row>>> {
        let committed = &self.db.tables()[table];
        let mut indexes = self.schema(table)?.indexes.iter().zip(&committed.indexes);
        let (index, columns, key) = indexes.find_map(|(columns, index)| {
            let key = columns.iter().map(|column| condition.only_value(*column));
            Some((index, columns, key.collect::<Option<Vec<&Datum>>>()?))
        })?;
        let has_key =
            |row: &&Arc<Row>| columns.iter().zip(&key).all(|(column, value)| *row.cells[*column] == **value);
        let mut changed = self.changed[table].values().flatten().filter(has_key);
        let first = changed.next();
        if changed.next().is_some() {
            return None;
        }
        let key: Vec<Arc<Datum>> = key.iter().map(|value| Arc::new(Datum::clone(value))).collect();
        let untouched = index.get(&key).filter(|uuid| !self.changed[table].contains_key(uuid));
        match (first, untouched) {
            (Some(_), Some(_)) => None,
            (Some(row), None) => Some(Some(row)),
            (None, uuid) => Some(uuid.and_then(|uuid| committed.rows.get(uuid))),
        }
    }

    /// Inserts or replaces a row.
    pub(crate) fn put(&mut self, table: usize, row: Row) {
        self.changed[table].insert(row.uuid, Some(Arc::new(row)));
    }

    /// Deletes a row; a row of this transaction leaves no trace.
    pub(crate) fn delete(&mut self, table: usize, uuid: Uuid) {
        if self.committed(table, uuid).is_some() {
            self.changed[table].insert(uuid, None);
        } else {
            self.changed[table].remove(&uuid);
        }
    }

    /// The rows that differ from the committed ones, by table position.
    pub(crate) fn changes(&self) -> BTreeMap<usize, BTreeMap<Uuid, RowChange>> {
        let mut tables = BTreeMap::new();
        for (table, changed) in self.changed.iter().enumerate() {
            let mut rows = BTreeMap::new();
            for (uuid, new) in changed {
                let old = self.committed(table, *uuid);
                let same = match (old, new) {
                    (Some(old), Some(new)) => old.same_cells(new),
                    (None, None) => true,
                    _ => false,
                };
                if !same {
                    let (old, new) = (old.cloned(), new.clone());
                    rows.insert(*uuid, RowChange { old, new });
                }
            }
            if !rows.is_empty() {
                tables.insert(table, rows);
            }
        }
        tables
    }
}
