//! Which rows does a table hold, and which values of its unique indexes are taken?

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Row;
use crate::schema::TableSchema;
use crate::uuids::Uuid;
use crate::value::Datum;

/// The values of the columns of one index in one row.
pub(crate) type IndexKey = Vec<Arc<Datum>>;

/// The committed rows of one table and its unique indexes.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) rows: BTreeMap<Uuid, Arc<Row>>,
    pub(crate) indexes: Vec<BTreeMap<IndexKey, Uuid>>,
}

impl Table {
    pub(crate) fn new(schema: &TableSchema) -> Self {
        Self { rows: BTreeMap::new(), indexes: vec![BTreeMap::new(); schema.indexes.len()] }
    }

    pub(crate) fn insert(&mut self, schema: &TableSchema, row: Arc<Row>) {
        for (index, columns) in self.indexes.iter_mut().zip(&schema.indexes) {
            index.insert(index_key(&row, columns), row.uuid);
        }
        self.rows.insert(row.uuid, row);
    }

    pub(crate) fn remove(&mut self, schema: &TableSchema, row: &Row) {
        for (index, columns) in self.indexes.iter_mut().zip(&schema.indexes) {
            index.remove(&index_key(row, columns));
        }
        self.rows.remove(&row.uuid);
    }
}

/// The key of a row in the index over `columns`.
pub(crate) fn index_key(row: &Row, columns: &[usize]) -> IndexKey {
    columns.iter().map(|&c| Arc::clone(&row.cells[c])).collect()
}
