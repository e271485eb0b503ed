//! What must hold before a transaction commits, and what does it drag along?
//!
//! In this order: strong references lead somewhere and deleted rows are not referred to;
//! rows nobody refers to any more are collected; tables keep within `maxRows`; weak
//! references to rows that are gone are dropped; indexes stay unique (RFC 7047 §3.2, §4.1.3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::overlay::Overlay;
use crate::db::{Row, RowChange};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::schema::{ColumnSchema, RefKind, Reference, TableSchema};
use crate::uuids::Uuid;
use crate::value::{Atom, Datum};

use crate::db::links::{RowKey, for_each_step};
use crate::db::table::{IndexKey, index_key};

/// Brings the overlay to the state to commit.
pub(crate) fn settle(overlay: &mut Overlay<'_>) -> Result<()> {
    loop {
        let mut counts = StrongCounts::of(overlay);
        counts.check(overlay)?;
        counts.collect_garbage(overlay);
        check_max_rows(overlay)?;
        // A map entry that goes with its weak side may take a strong side along.
        if !drop_weak_references(overlay)? {
            break;
        }
    }
    check_indexes(overlay)
}

/// How the transaction changes the number of strong references to each row.
struct StrongCounts {
    changes: BTreeMap<usize, BTreeMap<Uuid, RowChange>>,
    delta: BTreeMap<RowKey, i64>,
}

impl StrongCounts {
    fn of(overlay: &Overlay<'_>) -> Self {
        let changes = overlay.changes();
        let mut delta = BTreeMap::new();
        for (table, schema, change) in each_change(overlay, &changes) {
            add_strong(&mut delta, table, schema, change);
        }
        Self { changes, delta }
    }

    fn count(&self, overlay: &Overlay<'_>, row: RowKey) -> i64 {
        let delta = self.delta.get(&row).copied().unwrap_or(0);
        overlay.db.links().strong_count(row) + delta
    }

    fn check(&self, overlay: &Overlay<'_>) -> Result<()> {
        for (table, schema, change) in each_change(overlay, &self.changes) {
            match &change.new {
                Some(row) => check_targets(overlay, table, schema, change, row.uuid)?,
                None => {
                    let uuid = change.old.as_ref().map_or(Uuid::nil(), |row| row.uuid);
                    let count = self.count(overlay, (table, uuid));
                    if count > 0 {
                        let name = table_name(overlay, table);
                        let details = format!(
                            "row {uuid} of {name} cannot be deleted: {count} references to it remain"
                        );
                        return Err(OvsdbError::new(ErrorKind::Referential, details));
                    }
                }
            }
        }
        Ok(())
    }

    /// Deletes rows of non-root tables that lost, or never had, a reference.
    fn collect_garbage(&mut self, overlay: &mut Overlay<'_>) {
        let inserted = each_change(overlay, &self.changes)
            .filter(|(_, _, c)| c.old.is_none())
            .filter_map(|(table, _, c)| Some((table, c.new.as_ref()?.uuid)));
        let lost = self.delta.iter().filter(|(_, d)| **d < 0).map(|(k, _)| *k);
        let mut suspects: Vec<RowKey> = inserted.chain(lost).collect();
        while let Some(suspect) = suspects.pop() {
            let (table, uuid) = suspect;
            let Some(schema) = overlay.schema(table) else {
                continue;
            };
            if schema.is_root || self.count(overlay, suspect) > 0 {
                continue;
            }
            let Some(row) = overlay.get(table, uuid).cloned() else {
                continue;
            };
            overlay.delete(table, uuid);
            let gone = RowChange { old: Some(row), new: None };
            add_strong(&mut self.delta, table, schema, &gone);
            for_each_step(schema, &gone, |step| {
                if step.reference.kind == RefKind::Strong {
                    suspects.push((step.reference.table, step.target));
                }
            });
        }
    }
}

/// Every change with its table's position and schema.
fn each_change<'a>(
    overlay: &Overlay<'a>,
    changes: &'a BTreeMap<usize, BTreeMap<Uuid, RowChange>>,
) -> impl Iterator<Item = (usize, &'a TableSchema, &'a RowChange)> + use<'a> {
    let schema = overlay.db.schema();
    changes.iter().flat_map(move |(table, rows)| {
        let table_schema = schema.table_at(*table).map(|(_, t)| t);
        rows.values().filter_map(move |change| Some((*table, table_schema?, change)))
    })
}

fn add_strong(delta: &mut BTreeMap<RowKey, i64>, table: usize, schema: &TableSchema, change: &RowChange) {
    let row = change.old.as_ref().or(change.new.as_ref());
    let holder = row.map(|row| (table, row.uuid));
    for_each_step(schema, change, |step| {
        let target = (step.reference.table, step.target);
        if step.reference.kind == RefKind::Strong && Some(target) != holder {
            *delta.entry(target).or_insert(0) += if step.added { 1 } else { -1 };
        }
    });
}

fn table_name<'a>(overlay: &Overlay<'a>, table: usize) -> &'a str {
    overlay.db.schema().table_at(table).map_or("", |(name, _)| name)
}

/// New references must lead somewhere; that old ones still do, the counts of deleted rows
/// tell.
fn check_targets(
    overlay: &Overlay<'_>,
    table: usize,
    schema: &TableSchema,
    change: &RowChange,
    uuid: Uuid,
) -> Result<()> {
    let mut missing = None;
    for_each_step(schema, change, |step| {
        let to = step.reference.table;
        let strong = step.added && step.reference.kind == RefKind::Strong;
        if strong && overlay.get(to, step.target).is_none() {
            missing.get_or_insert((step.column, to, step.target));
        }
    });
    let Some((column, wanted, target)) = missing else {
        return Ok(());
    };
    let details = format!(
        "column {} of row {} of {} refers to row {target}, which {} does not have",
        schema.column_at(column).map_or("", |(name, _)| name),
        uuid,
        table_name(overlay, table),
        table_name(overlay, wanted),
    );
    Err(OvsdbError::new(ErrorKind::Referential, details))
}

fn check_max_rows(overlay: &Overlay<'_>) -> Result<()> {
    for (table, (name, schema)) in overlay.db.schema().tables().enumerate() {
        let Some(max) = schema.max_rows else {
            continue;
        };
        let count = overlay.row_count(table);
        if count > max && count > overlay.db.tables()[table].rows.len() {
            let details = format!("table {name} would hold {count} rows; the schema allows {max}");
            return Err(OvsdbError::new(ErrorKind::Constraint, details));
        }
    }
    Ok(())
}

/// Drops weak references that lead nowhere; true when strong ones went with them.
fn drop_weak_references(overlay: &mut Overlay<'_>) -> Result<bool> {
    let changes = overlay.changes();
    let mut holders: BTreeSet<RowKey> = BTreeSet::new();
    for (table, _, change) in each_change(overlay, &changes) {
        match (&change.old, &change.new) {
            (_, Some(row)) => drop(holders.insert((table, row.uuid))),
            (Some(row), None) => holders.extend(overlay.db.links().weak_holders((table, row.uuid))),
            (None, None) => {}
        }
    }
    let mut lost_strong = false;
    for (table, uuid) in holders {
        let (Some(schema), Some(row)) = (overlay.schema(table), overlay.get(table, uuid)) else {
            continue;
        };
        let mut pruned: Option<Row> = None;
        for (position, (name, column)) in schema.columns().enumerate() {
            let Some(kept) = without_dangling(overlay, column, &row.cells[position]) else {
                continue;
            };
            if !column.kind.allows_len(kept.len()) {
                let details = format!(
                    "column {name} of row {uuid} of {} would lose its last weak reference",
                    table_name(overlay, table)
                );
                return Err(OvsdbError::new(ErrorKind::Constraint, details));
            }
            let strong = |r: &Option<Reference>| r.is_some_and(|r| r.kind == RefKind::Strong);
            lost_strong |= strong(&column.key_ref) || strong(&column.value_ref);
            let pruned = pruned.get_or_insert_with(|| Row::clone(row));
            pruned.cells[position] = Arc::new(kept);
        }
        if let Some(pruned) = pruned {
            overlay.put(table, pruned);
        }
    }
    Ok(lost_strong)
}

/// The value without its dangling weak references; `None` when it has none.
fn without_dangling(overlay: &Overlay<'_>, column: &ColumnSchema, cell: &Datum) -> Option<Datum> {
    let weak = |r: Option<Reference>| r.filter(|r| r.kind == RefKind::Weak);
    let (key, value) = (weak(column.key_ref), weak(column.value_ref));
    if key.is_none() && value.is_none() {
        return None;
    }
    let leads = |reference: Option<Reference>, atom: &Atom| match (reference, atom) {
        (Some(reference), Atom::Uuid(target)) => overlay.get(reference.table, *target).is_some(),
        _ => true,
    };
    let kept = match cell {
        Datum::Set(atoms) => Datum::Set(atoms.iter().filter(|a| leads(key, a)).cloned().collect()),
        Datum::Map(pairs) => {
            let both = |(k, v): &&(Atom, Atom)| leads(key, k) && leads(value, v);
            Datum::Map(pairs.iter().filter(both).cloned().collect())
        }
    };
    (kept.len() != cell.len()).then_some(kept)
}

fn check_indexes(overlay: &Overlay<'_>) -> Result<()> {
    let changes = overlay.changes();
    for (table, rows) in &changes {
        let Some(schema) = overlay.schema(*table) else {
            continue;
        };
        for (columns, committed) in schema.indexes.iter().zip(&overlay.db.tables()[*table].indexes) {
            let mut taken: BTreeMap<IndexKey, Uuid> = BTreeMap::new();
            for row in rows.values().filter_map(|c| c.new.as_ref()) {
                let key = index_key(row, columns);
                let holder = committed.get(&key).filter(|u| !rows.contains_key(u));
                if let Some(other) = holder.or_else(|| taken.get(&key)) {
                    return Err(taken_twice(overlay, *table, columns, &key, *other, row.uuid));
                }
                taken.insert(key, row.uuid);
            }
        }
    }
    Ok(())
}

fn taken_twice(
    overlay: &Overlay<'_>,
    table: usize,
    columns: &[usize],
    key: &IndexKey,
    first: Uuid,
    second: Uuid,
) -> OvsdbError {
    let schema = overlay.schema(table);
    let name = |c: &usize| schema.and_then(|s| s.column_at(*c)).map_or("", |(n, _)| n);
    let names: Vec<&str> = columns.iter().map(name).collect();
    let values: Vec<String> = key.iter().map(|d| d.to_json().to_string()).collect();
    let details = format!(
        "rows {first} and {second} of {} would have identical values ({}) in the index on {}",
        table_name(overlay, table),
        values.join(", "),
        names.join(", "),
    );
    OvsdbError::new(ErrorKind::Constraint, details)
}
