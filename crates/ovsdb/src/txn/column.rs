//! Which column does a name mean, `_uuid` and `_version` included?

use serde_json::Value;

use crate::db::Row;
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::schema::{AtomicType, ColumnType, TableSchema};
use crate::value::Datum;

/// A column of a table, or one of the two every row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ColumnRef {
    /// `_uuid`.
    Uuid,
    /// `_version`.
    Version,
    /// The column at a position of the schema.
    Cell(usize),
}

impl ColumnRef {
    /// Every column of a table, the two implicit ones first.
    pub(crate) fn all(schema: &TableSchema) -> impl Iterator<Item = Self> {
        let cells = (0..schema.columns().len()).map(Self::Cell);
        [Self::Uuid, Self::Version].into_iter().chain(cells)
    }

    pub(crate) fn name(self, schema: &TableSchema) -> &str {
        match self {
            Self::Uuid => "_uuid",
            Self::Version => "_version",
            Self::Cell(position) => schema.column_at(position).map_or("", |(name, _)| name),
        }
    }

    /// Gives the value of this column in `row` to `f`.
    pub(crate) fn with<T>(self, row: &Row, f: impl FnOnce(&Datum) -> T) -> T {
        match self {
            Self::Uuid => f(&Datum::scalar(row.uuid)),
            Self::Version => f(&Datum::scalar(row.version)),
            Self::Cell(position) => f(&row.cells[position]),
        }
    }

    /// True when both rows hold the same here.
    pub(crate) fn same(self, a: &Row, b: &Row) -> bool {
        match self {
            Self::Uuid => a.uuid == b.uuid,
            Self::Version => a.version == b.version,
            Self::Cell(position) => a.same_cell(b, position),
        }
    }
}

/// Finds a column by name and gives its type.
pub(crate) fn find_column(schema: &TableSchema, name: &str) -> Result<(ColumnRef, ColumnType)> {
    match name {
        "_uuid" => Ok((ColumnRef::Uuid, ColumnType::scalar(AtomicType::Uuid))),
        "_version" => Ok((ColumnRef::Version, ColumnType::scalar(AtomicType::Uuid))),
        _ => match schema.column(name) {
            Some((position, column)) => Ok((ColumnRef::Cell(position), column.kind.clone())),
            None => {
                let details = format!("the table has no column {name:?}");
                Err(OvsdbError::new(ErrorKind::UnknownColumn, details))
            }
        },
    }
}

/// Reads an array of distinct column names; all columns when there is none.
pub(crate) fn read_columns(schema: &TableSchema, names: Option<&Vec<Value>>) -> Result<Vec<ColumnRef>> {
    let Some(names) = names else {
        return Ok(ColumnRef::all(schema).collect());
    };
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        let text = name.as_str().ok_or_else(|| OvsdbError::syntax(name, "a column name is needed"))?;
        let column = match find_column(schema, text) {
            Ok((column, _)) => column,
            Err(e) => return Err(OvsdbError::syntax(name, e.details)),
        };
        columns.push(column);
    }
    let mut sorted = columns.clone();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|w| w[0] == w[1]) {
        let details = format!("column {} is named twice", twice[0].name(schema));
        return Err(OvsdbError::new(ErrorKind::Syntax, details));
    }
    Ok(columns)
}
