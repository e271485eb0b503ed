//! What is one row?

use std::sync::{Arc, Weak};

use crate::schema::{ColumnType, TableSchema};
use crate::uuids::Uuid;
use crate::value::Datum;

/// One version of one row. Cells stand in the order of the table's columns.
///
/// Rows are never changed in place: a change makes a new row that shares the cells it
/// leaves alone.
#[derive(Debug, Clone)]
pub struct Row {
    /// `_uuid`: stays for the life of the row.
    pub uuid: Uuid,
    /// `_version`: changes with every commit that changes the row.
    pub version: Uuid,
    pub(crate) cells: Vec<Arc<Datum>>,
    /// How large sets came about of which a few elements changed.
    steps: Vec<Step>,
}

/// How a cell came about. Those who ask what changed are many, and the sets may have ten thousand elements.
#[derive(Debug, Clone)]
struct Step {
    column: usize,
    /// The cells between which it leads: only these very ones.
    from: Weak<Datum>,
    to: Weak<Datum>,
    /// The elements in only one of them.
    difference: Arc<Datum>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        let Row { uuid, version, cells, steps: _ } = self;
        *uuid == other.uuid && *version == other.version && *cells == other.cells
    }
}

impl Row {
    /// A row of default values.
    pub(crate) fn new(schema: &TableSchema, uuid: Uuid) -> Self {
        Self {
            uuid,
            version: Uuid::nil(),
            cells: schema.columns().map(|(_, c)| Arc::clone(&c.default)).collect(),
            steps: Vec::new(),
        }
    }

    /// The cell at a column position.
    pub fn cell(&self, position: usize) -> Option<&Datum> {
        self.cells.get(position).map(Arc::as_ref)
    }

    /// True when every cell holds the same (versions may differ).
    pub(crate) fn same_cells(&self, other: &Self) -> bool {
        (0..self.cells.len()).all(|column| self.same_cell(other, column))
    }

    /// True when both rows hold the same in a column.
    pub(crate) fn same_cell(&self, other: &Self, column: usize) -> bool {
        let (a, b) = (&self.cells[column], &other.cells[column]);
        let known = || self.step_from(other, column).or_else(|| other.step_from(self, column));
        Arc::ptr_eq(a, b) || known().map_or_else(|| a == b, Datum::is_empty)
    }

    /// The elements of a set that are in only one of two rows, `old` the one before; `None`: it is not known.
    pub(crate) fn step_from(&self, old: &Self, column: usize) -> Option<&Datum> {
        let step = self.steps.iter().find(|step| step.column == column)?;
        let leads = std::ptr::eq(step.from.as_ptr(), Arc::as_ptr(&old.cells[column]))
            && std::ptr::eq(step.to.as_ptr(), Arc::as_ptr(&self.cells[column]));
        leads.then_some(&*step.difference)
    }

    /// [`Datum::diff`] of a column from the row before.
    pub(crate) fn diff_from(&self, old: &Self, column: usize, kind: &ColumnType) -> Datum {
        match self.step_from(old, column).filter(|_| kind.max > 1) {
            Some(difference) => difference.clone(),
            None => old.cells[column].diff(&self.cells[column], kind),
        }
    }

    /// Puts a set in the place of another one from which it differs in these elements. `committed`: the cell with which it
    /// will be compared, if the one that is there was not committed itself.
    pub(crate) fn step(
        &mut self,
        column: usize,
        new: Datum,
        difference: Datum,
        committed: Option<&Arc<Datum>>,
    ) {
        let (old, new) = (Arc::clone(&self.cells[column]), Arc::new(new));
        let (mut from, mut difference) = (Arc::downgrade(&old), difference);
        let before = self.steps.iter().position(|step| step.column == column);
        if let Some(before) = before.map(|at| self.steps.swap_remove(at))
            && committed.is_some_and(|cell| std::ptr::eq(before.from.as_ptr(), Arc::as_ptr(cell)))
            && std::ptr::eq(before.to.as_ptr(), Arc::as_ptr(&old))
        {
            difference = before.difference.elements_of_one(&difference);
            from = before.from;
        }
        let to = Arc::downgrade(&new);
        self.steps.push(Step { column, from, to, difference: Arc::new(difference) });
        self.cells[column] = new;
    }
}
