//! Which rows does a row refer to, and who refers to a row?

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Row, RowChange};
use crate::schema::{ColumnSchema, RefKind, Reference, TableSchema};
use crate::uuids::Uuid;
use crate::value::{Atom, Datum};

/// A row named by the position of its table and its UUID.
pub(crate) type RowKey = (usize, Uuid);

/// One reference that a change of a row adds or removes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// Position of the column that holds it.
    pub(crate) column: usize,
    /// Strong or weak, and to which table.
    pub(crate) reference: Reference,
    /// The row referred to.
    pub(crate) target: Uuid,
    /// True when it is added, false when it is removed.
    pub(crate) added: bool,
}

/// Counts strong references to each row and remembers who holds weak ones.
///
/// A row's reference to itself keeps nothing alive and is not counted.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    strong: Vec<BTreeMap<Uuid, u32>>,
    /// For each row its holders and how many weak references each of them has to it.
    weak: Vec<BTreeMap<Uuid, BTreeMap<RowKey, u32>>>,
}

impl Links {
    pub(crate) fn new(tables: usize) -> Self {
        Self { strong: vec![BTreeMap::new(); tables], weak: vec![BTreeMap::new(); tables] }
    }

    /// Strong references other rows hold to this one.
    pub(crate) fn strong_count(&self, (table, uuid): RowKey) -> i64 {
        self.strong[table].get(&uuid).copied().unwrap_or(0).into()
    }

    /// The rows that hold weak references to this one.
    pub(crate) fn weak_holders(&self, (table, uuid): RowKey) -> impl Iterator<Item = RowKey> + '_ {
        let holders = self.weak[table].get(&uuid).into_iter();
        holders.flat_map(BTreeMap::keys).copied()
    }

    /// Follows a change of one row of a table.
    pub(crate) fn change(&mut self, table: usize, schema: &TableSchema, change: &RowChange) {
        let row = change.old.as_ref().or(change.new.as_ref());
        let Some(holder) = row.map(|row| (table, row.uuid)) else {
            return;
        };
        for_each_step(schema, change, |step| {
            let to = step.reference.table;
            match step.reference.kind {
                RefKind::Strong if (to, step.target) == holder => {}
                RefKind::Strong => count(&mut self.strong[to], step.target, step.added),
                RefKind::Weak => {
                    let holders = self.weak[to].entry(step.target).or_default();
                    count(holders, holder, step.added);
                    if holders.is_empty() {
                        self.weak[to].remove(&step.target);
                    }
                }
            }
        });
    }
}

/// Counts one up or down; a count of zero has no entry.
fn count<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K, up: bool) {
    if up {
        *counts.entry(key).or_insert(0) += 1;
        return;
    }
    match counts.get_mut(&key) {
        Some(count) if *count > 1 => *count -= 1,
        _ => drop(counts.remove(&key)),
    }
}

/// Calls `f` for every reference a change adds or removes. Of a large set in which one
/// element changed, only that element is told.
pub(crate) fn for_each_step(schema: &TableSchema, change: &RowChange, mut f: impl FnMut(Step)) {
    static NOTHING: Datum = Datum::Set(Vec::new());
    for (position, (_, column)) in schema.columns().enumerate() {
        if column.key_ref.is_none() && column.value_ref.is_none() {
            continue;
        }
        let cell = |row: &'_ Option<Arc<Row>>| row.as_ref().map(|r| Arc::clone(&r.cells[position]));
        let (old, new) = (cell(&change.old), cell(&change.new));
        if let (Some(old), Some(new)) = (&old, &new)
            && Arc::ptr_eq(old, new)
        {
            continue;
        }
        let rows = change.old.as_deref().zip(change.new.as_deref());
        let known = rows.and_then(|(old, new)| new.step_from(old, position));
        let old = old.as_deref().unwrap_or(&NOTHING);
        let new = new.as_deref().unwrap_or(&NOTHING);
        let mut tell = |reference: Option<Reference>, atom: &Atom, added| {
            if let (Some(reference), Atom::Uuid(target)) = (reference, atom) {
                f(Step { column: position, reference, target: *target, added });
            }
        };
        match known {
            Some(known) => {
                let is_new = |atom: &Atom| new.atoms().binary_search(atom).is_ok();
                known.atoms().iter().for_each(|atom| tell(column.key_ref, atom, is_new(atom)));
            }
            None => cell_steps(column, old, new, &mut tell),
        }
    }
}

fn cell_steps(
    column: &ColumnSchema,
    old: &Datum,
    new: &Datum,
    tell: &mut impl FnMut(Option<Reference>, &Atom, bool),
) {
    if column.kind.value.is_none() {
        merge(old.atoms(), new.atoms(), |atom, added| {
            tell(column.key_ref, atom, added);
        });
        return;
    }
    merge(old.pairs(), new.pairs(), |(key, value), added| {
        tell(column.key_ref, key, added);
        tell(column.value_ref, value, added);
    });
}

/// Calls `f` for what is in only one of two sorted lists: false for `old`, true for `new`.
fn merge<T: Ord>(old: &[T], new: &[T], mut f: impl FnMut(&T, bool)) {
    let (mut i, mut j) = (0, 0);
    while i < old.len() && j < new.len() {
        match old[i].cmp(&new[j]) {
            Ordering::Less => {
                f(&old[i], false);
                i += 1;
            }
            Ordering::Greater => {
                f(&new[j], true);
                j += 1;
            }
            Ordering::Equal => {
                i += 1;
                j += 1;
            }
        }
    }
    old[i..].iter().for_each(|item| f(item, false));
    new[j..].iter().for_each(|item| f(item, true));
}
