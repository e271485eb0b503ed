//! What did a transaction change?

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Row, RowView};
use crate::schema::DatabaseSchema;
use crate::uuids::Uuid;

/// One row before and after a commit; never `None` on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    /// Before; `None` for an inserted row.
    pub old: Option<Arc<Row>>,
    /// After; `None` for a deleted row.
    pub new: Option<Arc<Row>>,
}

/// Everything one transaction changed, collected rows and dropped references included.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The transaction's id, as `update3` carries it.
    pub id: Uuid,
    /// The schema the rows follow.
    pub schema: Arc<DatabaseSchema>,
    /// The texts of the transaction's `comment` operations, a line each.
    pub comment: Option<String>,
    /// True for a transaction of this process, false for a client's.
    pub local: bool,
    tables: BTreeMap<usize, BTreeMap<Uuid, RowChange>>,
}

impl Commit {
    pub(crate) fn new(
        id: Uuid,
        schema: Arc<DatabaseSchema>,
        tables: BTreeMap<usize, BTreeMap<Uuid, RowChange>>,
    ) -> Self {
        Self { id, schema, comment: None, local: false, tables }
    }

    /// True when nothing changed.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Number of rows changed.
    pub fn row_count(&self) -> usize {
        self.tables.values().map(BTreeMap::len).sum()
    }

    /// Name and changed rows of every changed table.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &BTreeMap<Uuid, RowChange>)> {
        let named = |(position, rows)| Some((self.schema.table_at(position)?.0, rows));
        self.positions().filter_map(named)
    }

    /// The changed rows of the table of that name.
    pub fn table(&self, name: &str) -> impl Iterator<Item = &RowChange> {
        let rows = self.schema.table(name).and_then(|(p, _)| self.tables.get(&p));
        rows.into_iter().flat_map(BTreeMap::values)
    }

    /// True when the table changed in one of the named columns, by insert or by delete.
    /// Without columns, any change counts.
    pub fn touches(&self, table: &str, columns: &[&str]) -> bool {
        let Some((_, schema)) = self.schema.table(table) else {
            return false;
        };
        let differs = |change: &RowChange, name: &&str| {
            let cell = |row: &Option<Arc<Row>>| {
                let (position, _) = schema.column(name)?;
                row.as_ref()?.cells.get(position).cloned()
            };
            cell(&change.old) != cell(&change.new)
        };
        let whole = |c: &RowChange| columns.is_empty() || c.old.is_none() || c.new.is_none();
        self.table(table).any(|c| whole(c) || columns.iter().any(|name| differs(c, name)))
    }

    /// True when the table changed in a column that is not among these, by insert or by delete.
    pub fn touches_others(&self, table: &str, columns: &[&str]) -> bool {
        let Some((_, schema)) = self.schema.table(table) else {
            return false;
        };
        let known: Vec<usize> = columns.iter().filter_map(|name| Some(schema.column(name)?.0)).collect();
        let differs = |change: &RowChange| {
            let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
            let cells = old.cells.iter().zip(&new.cells).enumerate();
            cells.filter(|(at, _)| !known.contains(at)).any(|(_, (a, b))| !Arc::ptr_eq(a, b) && a != b)
        };
        self.table(table).any(differs)
    }

    /// The old and new row of a change of the named table, to read.
    pub fn views<'a>(
        &'a self,
        table: &str,
        change: &'a RowChange,
    ) -> (Option<RowView<'a>>, Option<RowView<'a>>) {
        let Some((_, schema)) = self.schema.table(table) else {
            return (None, None);
        };
        let view = |row: &'a Option<Arc<Row>>| row.as_deref().map(|r| RowView::new(schema, r));
        (view(&change.old), view(&change.new))
    }

    /// The same changes backwards.
    pub(crate) fn inverted(&self) -> Self {
        let mut inverted = self.clone();
        for change in inverted.tables.values_mut().flat_map(BTreeMap::values_mut) {
            std::mem::swap(&mut change.old, &mut change.new);
        }
        inverted
    }

    /// Table position and changed rows of every changed table.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (usize, &BTreeMap<Uuid, RowChange>)> {
        self.tables.iter().map(|(p, rows)| (*p, rows))
    }
}
