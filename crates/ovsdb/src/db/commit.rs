//! What did a transaction change?

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Row, RowView};
use crate::schema::{DatabaseSchema, TableSchema};
use crate::uuids::Uuid;
use crate::value::{Atom, Datum};

/// One row before and after a commit; never `None` on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct RowChange {
    /// Before; `None` for an inserted row.
    pub old: Option<Arc<Row>>,
    /// After; `None` for a deleted row.
    pub new: Option<Arc<Row>>,
}

impl RowChange {
    /// The rows to which a column refers before or after, but not both.
    pub(crate) fn refs_of_one(&self, schema: &TableSchema, column: &str) -> Vec<Uuid> {
        let Some((position, _)) = schema.column(column) else { return Vec::new() };
        let known = self.old.as_ref().zip(self.new.as_ref());
        let difference = known.and_then(|(old, new)| new.step_from(old, position)).cloned();
        let difference = difference.unwrap_or_else(|| {
            let nothing = Datum::empty();
            let cell = |row: &'_ Option<Arc<Row>>| row.as_ref().map(|row| Arc::clone(&row.cells[position]));
            let (old, new) = (cell(&self.old), cell(&self.new));
            let old = old.as_deref().unwrap_or(&nothing);
            old.elements_of_one(new.as_deref().unwrap_or(&nothing))
        });
        let uuid = |atom: &Atom| if let Atom::Uuid(uuid) = atom { Some(*uuid) } else { None };
        difference.atoms().iter().filter_map(uuid).collect()
    }
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
        let differs = |change: &RowChange, name: &&str| match (&change.old, &change.new) {
            (Some(old), Some(new)) => {
                schema.column(name).is_some_and(|(position, _)| !new.same_cell(old, position))
            }
            _ => true,
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
            (0..new.cells.len()).filter(|at| !known.contains(at)).any(|at| !new.same_cell(old, at))
        };
        self.table(table).any(differs)
    }

    /// The rows to which a column of a changed row of the named table refers before or after, but not both.
    pub fn refs_of_one(&self, table: &str, change: &RowChange, column: &str) -> Vec<Uuid> {
        self.schema.table(table).map(|(_, schema)| change.refs_of_one(schema, column)).unwrap_or_default()
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
