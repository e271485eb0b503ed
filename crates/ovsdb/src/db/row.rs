//! What is one row?

use std::sync::Arc;

use crate::schema::TableSchema;
use crate::uuids::Uuid;
use crate::value::Datum;

/// One version of one row. Cells stand in the order of the table's columns.
///
/// Rows are never changed in place: a change makes a new row that shares the cells it
/// leaves alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `_uuid`: stays for the life of the row.
    pub uuid: Uuid,
    /// `_version`: changes with every commit that changes the row.
    pub version: Uuid,
    pub(crate) cells: Vec<Arc<Datum>>,
}

impl Row {
    /// A row of default values.
    pub(crate) fn new(schema: &TableSchema, uuid: Uuid) -> Self {
        Self {
            uuid,
            version: Uuid::nil(),
            cells: schema.columns().map(|(_, c)| Arc::clone(&c.default)).collect(),
        }
    }

    /// The cell at a column position.
    pub fn cell(&self, position: usize) -> Option<&Datum> {
        self.cells.get(position).map(Arc::as_ref)
    }

    /// True when every cell holds the same (versions may differ).
    pub(crate) fn same_cells(&self, other: &Self) -> bool {
        self.cells.iter().zip(&other.cells).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}
