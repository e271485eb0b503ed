//! How does the switch read rows without knowing JSON?

use std::collections::BTreeMap;

use super::{Database, Row};
use crate::schema::TableSchema;
use crate::uuids::Uuid;
use crate::value::{Atom, Datum};

/// One table of a database, to read.
#[derive(Debug, Clone, Copy)]
pub struct TableView<'a> {
    db: &'a Database,
    position: usize,
}

impl<'a> TableView<'a> {
    pub(crate) fn new(db: &'a Database, position: usize) -> Self {
        Self { db, position }
    }

    fn schema(&self) -> Option<&'a TableSchema> {
        self.db.schema.table_at(self.position).map(|(_, t)| t)
    }

    /// Every row, ordered by UUID.
    pub fn rows(&self) -> impl Iterator<Item = RowView<'a>> + use<'a> {
        let rows = self.db.tables[self.position].rows.values();
        let schema = self.schema();
        rows.filter_map(move |row| Some(RowView::new(schema?, row)))
    }

    /// The row with that UUID.
    pub fn get(&self, uuid: Uuid) -> Option<RowView<'a>> {
        let row = self.db.tables[self.position].rows.get(&uuid)?;
        Some(RowView::new(self.schema()?, row))
    }

    /// The first row whose column holds exactly this value.
    pub fn find(&self, column: &str, value: impl Into<Atom>) -> Option<RowView<'a>> {
        let wanted = Datum::scalar(value);
        self.rows().find(|row| row.datum(column) == Some(&wanted))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.db.tables[self.position].rows.len()
    }

    /// True for a table without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One row, to read by column name. A column that is absent, empty or of another type
/// reads as its kind's nothing: `None`, `""`, `0`, `false`, an empty collection.
#[derive(Debug, Clone, Copy)]
pub struct RowView<'a> {
    schema: &'a TableSchema,
    row: &'a Row,
}

impl<'a> RowView<'a> {
    pub(crate) fn new(schema: &'a TableSchema, row: &'a Row) -> Self {
        Self { schema, row }
    }

    /// `_uuid`.
    pub fn uuid(&self) -> Uuid {
        self.row.uuid
    }

    /// `_version`.
    pub fn version(&self) -> Uuid {
        self.row.version
    }

    /// The value of a column; `None` when the table has no such column.
    pub fn datum(&self, column: &str) -> Option<&'a Datum> {
        let (position, _) = self.schema.column(column)?;
        self.row.cell(position)
    }

    fn atoms(&self, column: &str) -> &'a [Atom] {
        self.datum(column).map_or(&[], Datum::atoms)
    }

    /// The string of a scalar or optional column.
    pub fn opt_str(&self, column: &str) -> Option<&'a str> {
        match self.atoms(column) {
            [Atom::String(s)] => Some(s),
            _ => None,
        }
    }

    /// [`opt_str`](Self::opt_str), the empty string when absent.
    pub fn str(&self, column: &str) -> &'a str {
        self.opt_str(column).unwrap_or("")
    }

    /// The integer of a scalar or optional column.
    pub fn opt_int(&self, column: &str) -> Option<i64> {
        match self.atoms(column) {
            [Atom::Integer(i)] => Some(*i),
            _ => None,
        }
    }

    /// [`opt_int`](Self::opt_int), zero when absent.
    pub fn int(&self, column: &str) -> i64 {
        self.opt_int(column).unwrap_or(0)
    }

    /// The boolean of a scalar or optional column.
    pub fn opt_bool(&self, column: &str) -> Option<bool> {
        match self.atoms(column) {
            [Atom::Boolean(b)] => Some(*b),
            _ => None,
        }
    }

    /// [`opt_bool`](Self::opt_bool), false when absent.
    pub fn bool(&self, column: &str) -> bool {
        self.opt_bool(column).unwrap_or(false)
    }

    /// The strings of a set, sorted.
    pub fn strs(&self, column: &str) -> Vec<&'a str> {
        let text = |atom: &'a Atom| match atom {
            Atom::String(s) => Some(&**s),
            _ => None,
        };
        self.atoms(column).iter().filter_map(text).collect()
    }

    /// The integers of a set, sorted.
    pub fn ints(&self, column: &str) -> Vec<i64> {
        let int = |atom: &Atom| match atom {
            Atom::Integer(i) => Some(*i),
            _ => None,
        };
        self.atoms(column).iter().filter_map(int).collect()
    }

    /// The references of a set, sorted by UUID.
    pub fn refs(&self, column: &str) -> Vec<Uuid> {
        let uuid = |atom: &Atom| match atom {
            Atom::Uuid(u) => Some(*u),
            _ => None,
        };
        self.atoms(column).iter().filter_map(uuid).collect()
    }

    /// Whether a column refers to a row.
    pub fn refers_to(&self, column: &str, row: Uuid) -> bool {
        self.atoms(column).binary_search(&Atom::Uuid(row)).is_ok()
    }

    /// The reference of a scalar or optional column.
    pub fn reference(&self, column: &str) -> Option<Uuid> {
        match self.atoms(column) {
            [Atom::Uuid(u)] => Some(*u),
            _ => None,
        }
    }

    /// A string-string map.
    pub fn map(&self, column: &str) -> BTreeMap<&'a str, &'a str> {
        let pairs = self.datum(column).map_or(&[][..], Datum::pairs);
        let texts = |(k, v): &'a (Atom, Atom)| match (k, v) {
            (Atom::String(k), Atom::String(v)) => Some((&**k, &**v)),
            _ => None,
        };
        pairs.iter().filter_map(texts).collect()
    }

    /// The value of one key of a string-string map.
    pub fn get(&self, column: &str, key: &str) -> Option<&'a str> {
        let pairs = self.datum(column)?.pairs();
        let by_key = |(k, _): &(Atom, Atom)| match k {
            Atom::String(k) => (**k).cmp(key),
            _ => std::cmp::Ordering::Less,
        };
        match &pairs[pairs.binary_search_by(by_key).ok()?].1 {
            Atom::String(v) => Some(v),
            _ => None,
        }
    }

    /// An integer-reference map (`flow_tables`, `queues`, `ct_zones`).
    pub fn int_refs(&self, column: &str) -> BTreeMap<i64, Uuid> {
        let pairs = self.datum(column).map_or(&[][..], Datum::pairs);
        let pair = |(k, v): &(Atom, Atom)| match (k, v) {
            (Atom::Integer(k), Atom::Uuid(v)) => Some((*k, *v)),
            _ => None,
        };
        pairs.iter().filter_map(pair).collect()
    }
}
