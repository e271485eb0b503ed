//! What rows does the server hold, as far as a monitor tells?

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::db::{Row, RowChange, RowView};
use crate::error::OvsdbError;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::uuids::{Uuid, parse_uuid};
use crate::value::{Atom, Datum};

/// An update that does not follow from what was reported before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// The update is not of the form `<table-updates2>`.
    #[error("an update is malformed: {0}")]
    Malformed(String),
    /// A row is changed or deleted that was never reported.
    #[error("an update speaks of row {0}, which is not known")]
    UnknownRow(Uuid),
    /// A value does not fit its column.
    #[error(transparent)]
    Value(#[from] OvsdbError),
}

/// Rows of the monitored tables, kept up to date with `update2` and `update3`.
#[derive(Debug, Clone)]
pub struct Replica {
    schema: Arc<DatabaseSchema>,
    tables: Vec<BTreeMap<Uuid, Arc<Row>>>,
}

impl Replica {
    /// A replica that knows no row.
    pub fn new(schema: Arc<DatabaseSchema>) -> Self {
        let count = schema.tables().len();
        Self { schema, tables: vec![BTreeMap::new(); count] }
    }

    /// Forgets every row: before the initial rows of a monitor whose `found` was false.
    pub fn clear(&mut self) {
        self.tables.iter_mut().for_each(BTreeMap::clear);
    }

    /// The rows of a table, ordered by UUID.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = RowView<'_>> {
        let found = self.schema.table(table);
        found.into_iter().flat_map(|(position, schema)| {
            let rows = self.tables[position].values();
            rows.map(move |row| RowView::new(schema, row))
        })
    }

    /// One row.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<RowView<'_>> {
        let (position, schema) = self.schema.table(table)?;
        let row = self.tables[position].get(&uuid)?;
        Some(RowView::new(schema, row))
    }

    /// A row of a change that [`Replica::apply`] told of, to read.
    pub fn view<'a>(&'a self, table: &str, row: &'a Row) -> Option<RowView<'a>> {
        let (_, schema) = self.schema.table(table)?;
        Some(RowView::new(schema, row))
    }

    /// The rows to which a column of a changed row refers before or after, but not both.
    pub fn refs_of_one(&self, table: &str, change: &RowChange, column: &str) -> Vec<Uuid> {
        self.schema.table(table).map(|(_, schema)| change.refs_of_one(schema, column)).unwrap_or_default()
    }

    /// Applies `<table-updates2>` and gives what changed, with the names of the tables.
    ///
    /// # Errors
    /// The replica is then of no use: monitor again from the start.
    pub fn apply(&mut self, updates: &Value) -> Result<Vec<(String, RowChange)>, ReplicaError> {
        let malformed = |what: &Value| ReplicaError::Malformed(what.to_string());
        let mut changes = Vec::new();
        for (name, rows) in updates.as_object().ok_or_else(|| malformed(updates))? {
            let found = self.schema.table(name);
            let (position, schema) = found.ok_or_else(|| malformed(&name.as_str().into()))?;
            for (uuid, update) in rows.as_object().ok_or_else(|| malformed(rows))? {
                let uuid = parse_uuid(uuid).ok_or_else(|| malformed(&uuid.as_str().into()))?;
                let old = self.tables[position].get(&uuid).cloned();
                let new = apply_row(schema, uuid, old.as_ref(), update)?.map(Arc::new);
                match &new {
                    Some(row) => self.tables[position].insert(uuid, Arc::clone(row)),
                    None => self.tables[position].remove(&uuid),
                };
                changes.push((name.clone(), RowChange { old, new }));
            }
        }
        Ok(changes)
    }
}

fn apply_row(
    schema: &TableSchema,
    uuid: Uuid,
    old: Option<&Arc<Row>>,
    update: &Value,
) -> Result<Option<Row>, ReplicaError> {
    let malformed = || ReplicaError::Malformed(update.to_string());
    let members = update.as_object().ok_or_else(malformed)?;
    let (kind, cells) = members.iter().next().ok_or_else(malformed)?;
    let is_difference = kind == "modify";
    let mut row = match kind.as_str() {
        "delete" => return old.map(|_| None).ok_or(ReplicaError::UnknownRow(uuid)),
        "initial" | "insert" => Row::new(schema, uuid),
        "modify" => Row::clone(old.ok_or(ReplicaError::UnknownRow(uuid))?),
        _ => return Err(malformed()),
    };
    for (name, value) in cells.as_object().ok_or_else(malformed)? {
        let Some((position, column)) = schema.column(name) else {
            if let ("_version", Ok(Atom::Uuid(version))) =
                (name.as_str(), Atom::from_json(value, crate::schema::AtomicType::Uuid, None))
            {
                row.version = version;
            }
            continue;
        };
        // A difference may have any number of elements.
        let mut kind = column.kind.clone();
        if kind.max > 1 {
            (kind.min, kind.max) = (0, u32::MAX);
        }
        let datum = Datum::read_unchecked(value, &kind, None)?;
        if !is_difference {
            row.cells[position] = Arc::new(datum);
            continue;
        }
        let new = row.cells[position].apply_diff(&datum, &column.kind)?;
        if column.kind.max > 1 && column.kind.value.is_none() {
            row.step(position, new, datum, None);
        } else {
            row.cells[position] = Arc::new(new);
        }
    }
    Ok(Some(row))
}
