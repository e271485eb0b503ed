//! Which rows does a row refer to, and who refers to a row?

use std::collections::{BTreeMap, BTreeSet};

use super::Row;
use crate::schema::{RefKind, Reference, TableSchema};
use crate::uuids::Uuid;
use crate::value::{Atom, Datum};

/// A row named by the position of its table and its UUID.
pub(crate) type RowKey = (usize, Uuid);

/// Counts strong references to each row and remembers who holds weak ones.
///
/// A row's reference to itself keeps nothing alive and is not counted.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    strong: Vec<BTreeMap<Uuid, u32>>,
    weak: Vec<BTreeMap<Uuid, BTreeSet<RowKey>>>,
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
        self.weak[table].get(&uuid).into_iter().flatten().copied()
    }

    pub(crate) fn insert(&mut self, table: usize, schema: &TableSchema, row: &Row) {
        for_each_reference(schema, row, |_, reference, target| match reference.kind {
            RefKind::Strong if (reference.table, target) == (table, row.uuid) => {}
            RefKind::Strong => *self.strong[reference.table].entry(target).or_insert(0) += 1,
            RefKind::Weak => {
                let holders = self.weak[reference.table].entry(target).or_default();
                holders.insert((table, row.uuid));
            }
        });
    }

    pub(crate) fn remove(&mut self, table: usize, schema: &TableSchema, row: &Row) {
        for_each_reference(schema, row, |_, reference, target| match reference.kind {
            RefKind::Strong if (reference.table, target) == (table, row.uuid) => {}
            RefKind::Strong => {
                let counts = &mut self.strong[reference.table];
                match counts.get_mut(&target) {
                    Some(count) if *count > 1 => *count -= 1,
                    _ => drop(counts.remove(&target)),
                }
            }
            RefKind::Weak => {
                let holders = &mut self.weak[reference.table];
                if let Some(set) = holders.get_mut(&target) {
                    set.remove(&(table, row.uuid));
                    if set.is_empty() {
                        holders.remove(&target);
                    }
                }
            }
        });
    }
}

/// Calls `f` with column position, reference and target for every reference in a row.
pub(crate) fn for_each_reference(schema: &TableSchema, row: &Row, mut f: impl FnMut(usize, Reference, Uuid)) {
    for (position, (_, column)) in schema.columns().enumerate() {
        if column.key_ref.is_none() && column.value_ref.is_none() {
            continue;
        }
        let mut visit = |reference: Option<Reference>, atom: &Atom| {
            if let (Some(reference), Atom::Uuid(target)) = (reference, atom) {
                f(position, reference, *target);
            }
        };
        match &*row.cells[position] {
            Datum::Set(atoms) => atoms.iter().for_each(|a| visit(column.key_ref, a)),
            Datum::Map(pairs) => pairs.iter().for_each(|(k, v)| {
                visit(column.key_ref, k);
                visit(column.value_ref, v);
            }),
        }
    }
}
