//! What is a client told of a change?

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Flavor, Kind, Monitor, TableMonitor};
use crate::db::{Database, Row, RowChange};
use crate::schema::{DatabaseSchema, TableSchema};
use crate::txn::ColumnRef;
use crate::uuids::Uuid;

impl Monitor {
    /// `<table-updates>` or `<table-updates2>` for the rows a client starts with.
    pub(crate) fn initial(&self, db: &Database) -> Value {
        let schema = db.schema();
        let mut tables = Map::new();
        for (position, monitor) in &self.tables {
            let Some((name, table)) = schema.table_at(*position) else {
                continue;
            };
            if !monitor.tells(Kind::Initial) {
                continue;
            }
            let mut rows = Map::new();
            let covered = db.tables()[*position].rows.values().filter(|r| monitor.covers(r));
            for row in covered {
                let update = self.row(table, monitor, Kind::Initial, None, Some(row));
                rows.insert(row.uuid.to_string(), update);
            }
            if !rows.is_empty() {
                tables.insert(name.to_owned(), Value::Object(rows));
            }
        }
        Value::Object(tables)
    }

    /// The updates a set of changes calls for; `None` when it calls for none.
    pub(crate) fn update<'c>(
        &self,
        schema: &DatabaseSchema,
        changes: impl Iterator<Item = (usize, &'c BTreeMap<Uuid, RowChange>)>,
    ) -> Option<Value> {
        let mut tables = Map::new();
        for (position, changed) in changes {
            let Some(monitor) = self.tables.get(&position) else {
                continue;
            };
            let Some((name, table)) = schema.table_at(position) else {
                continue;
            };
            let mut rows = Map::new();
            for (uuid, change) in changed {
                if let Some(update) = self.change(table, monitor, change) {
                    rows.insert(uuid.to_string(), update);
                }
            }
            if !rows.is_empty() {
                tables.insert(name.to_owned(), Value::Object(rows));
            }
        }
        (!tables.is_empty()).then_some(Value::Object(tables))
    }

    /// The updates that lead from the rows `old` covers to those `self` covers.
    pub(crate) fn condition_update(&self, old: &Self, db: &Database) -> Option<Value> {
        let mut tables = Map::new();
        for (position, monitor) in &self.tables {
            let (Some(before), Some((name, table))) =
                (old.tables.get(position), db.schema().table_at(*position))
            else {
                continue;
            };
            let mut rows = Map::new();
            for row in db.tables()[*position].rows.values() {
                let (kind, old, new) = match (before.covers(row), monitor.covers(row)) {
                    (false, true) => (Kind::Insert, None, Some(row)),
                    (true, false) => (Kind::Delete, Some(row), None),
                    _ => continue,
                };
                if monitor.tells(kind) {
                    let update = self.row(table, monitor, kind, old, new);
                    rows.insert(row.uuid.to_string(), update);
                }
            }
            if !rows.is_empty() {
                tables.insert(name.to_owned(), Value::Object(rows));
            }
        }
        (!tables.is_empty()).then_some(Value::Object(tables))
    }

    fn change(&self, table: &TableSchema, monitor: &TableMonitor, change: &RowChange) -> Option<Value> {
        let old = change.old.as_ref().filter(|row| monitor.covers(row));
        let new = change.new.as_ref().filter(|row| monitor.covers(row));
        let kind = match (old, new) {
            (None, None) => return None,
            (None, Some(_)) => Kind::Insert,
            (Some(_), None) => Kind::Delete,
            (Some(old), Some(new)) => {
                let told = |(column, select): &(ColumnRef, super::Select)| {
                    select.has(Kind::Modify) && !column.same(old, new)
                };
                return monitor
                    .columns
                    .iter()
                    .any(told)
                    .then(|| self.row(table, monitor, Kind::Modify, Some(old), Some(new)));
            }
        };
        let update = || self.row(table, monitor, kind, old, new);
        monitor.tells(kind).then(update)
    }

    fn row(
        &self,
        table: &TableSchema,
        monitor: &TableMonitor,
        kind: Kind,
        old: Option<&Arc<Row>>,
        new: Option<&Arc<Row>>,
    ) -> Value {
        let columns = monitor.columns.iter().filter(|(_, s)| s.has(kind));
        let columns = columns.map(|(column, _)| *column);
        match self.flavor {
            Flavor::Plain => plain_row(table, columns, old, new),
            Flavor::Conditional | Flavor::Since => diff_row(table, columns, kind, old, new),
        }
    }
}

/// `<row-update>`: whole values; of a modified row `old` holds what changed.
fn plain_row(
    table: &TableSchema,
    columns: impl Iterator<Item = ColumnRef>,
    old: Option<&Arc<Row>>,
    new: Option<&Arc<Row>>,
) -> Value {
    let (mut before, mut after) = (Map::new(), Map::new());
    for column in columns {
        let name = column.name(table);
        if let Some(old) = old
            && new.is_none_or(|new| !column.same(old, new))
        {
            before.insert(name.to_owned(), column.with(old, |d| d.to_json()));
        }
        if let Some(new) = new {
            after.insert(name.to_owned(), column.with(new, |d| d.to_json()));
        }
    }
    let mut update = Map::new();
    if old.is_some() {
        update.insert("old".into(), Value::Object(before));
    }
    if new.is_some() {
        update.insert("new".into(), Value::Object(after));
    }
    Value::Object(update)
}

/// `<row-update2>`: differences; defaults are left out of new rows.
fn diff_row(
    table: &TableSchema,
    columns: impl Iterator<Item = ColumnRef>,
    kind: Kind,
    old: Option<&Arc<Row>>,
    new: Option<&Arc<Row>>,
) -> Value {
    let member = match kind {
        Kind::Initial => "initial",
        Kind::Insert => "insert",
        Kind::Delete => "delete",
        Kind::Modify => "modify",
    };
    let mut cells = Map::new();
    if let Some(new) = new {
        for column in columns {
            if let Some(value) = diff_cell(table, column, old, new) {
                cells.insert(column.name(table).to_owned(), value);
            }
        }
    }
    let value = if new.is_some() { Value::Object(cells) } else { Value::Null };
    Value::Object(Map::from_iter([(member.to_owned(), value)]))
}

fn diff_cell(
    table: &TableSchema,
    column: ColumnRef,
    old: Option<&Arc<Row>>,
    new: &Arc<Row>,
) -> Option<Value> {
    if old.is_some_and(|old| column.same(old, new)) {
        return None;
    }
    let ColumnRef::Cell(position) = column else {
        return Some(column.with(new, |d| d.to_json()));
    };
    let (_, schema) = table.column_at(position)?;
    let cell = &new.cells[position];
    match old {
        Some(old) => Some(new.diff_from(old, position, &schema.kind).to_json()),
        None => (*cell != schema.default).then(|| cell.to_json()),
    }
}
