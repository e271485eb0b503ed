//! How does this process change rows without writing JSON?

use std::sync::Arc;

use super::mutation::mutable_column;
use super::overlay::Overlay;
use super::{Symbols, finish};
use crate::db::{Commit, Database, Row};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::schema::TableSchema;
use crate::uuids::{Uuid, UuidStream};
use crate::value::Datum;

/// A transaction of this process, built by calls. The commit-time rules are those of a
/// client's transaction; nothing is changed until [`finish`](Self::finish) succeeds and
/// its commit is applied.
#[derive(Debug)]
pub struct Edit<'a, 'u> {
    overlay: Overlay<'a>,
    symbols: Symbols<'u>,
    id: Uuid,
    comment: Option<String>,
}

impl<'a, 'u> Edit<'a, 'u> {
    /// Starts a transaction on `db`.
    pub fn new(db: &'a Database, uuids: &'u mut UuidStream) -> Self {
        let id = uuids.draw();
        Self { overlay: Overlay::new(db), symbols: Symbols::new(uuids), id, comment: None }
    }

    fn table(&self, name: &str) -> Result<(usize, &'a TableSchema)> {
        let found = self.overlay.db.schema().table(name);
        found.ok_or_else(|| OvsdbError::new(ErrorKind::Syntax, format!("there is no table {name}")))
    }

    /// Inserts a row with the given columns and gives its UUID.
    ///
    /// # Errors
    /// As for an `insert` operation.
    pub fn insert(&mut self, table: &str, cells: &[(&str, Datum)]) -> Result<Uuid> {
        let (position, schema) = self.table(table)?;
        let uuid = self.symbols.fresh();
        let mut row = Row::new(schema, uuid);
        for (name, datum) in cells {
            let column = schema.column(name);
            let (column, kind) = column
                .map(|(p, c)| (p, &c.kind))
                .ok_or_else(|| OvsdbError::new(ErrorKind::UnknownColumn, format!("{table} has no {name}")))?;
            datum.check_fits(kind)?;
            row.cells[column] = Arc::new(datum.clone());
        }
        self.overlay.put(position, row);
        Ok(uuid)
    }

    /// Sets one column of one row; setting what is there already changes nothing.
    ///
    /// # Errors
    /// No such table, column or row; an immutable column; a value that does not fit.
    pub fn set(&mut self, table: &str, uuid: Uuid, column: &str, datum: Datum) -> Result<()> {
        let (position, schema) = self.table(table)?;
        let (column, column_schema) = mutable_column(schema, column)?;
        let Some(row) = self.overlay.get(position, uuid) else {
            let details = format!("{table} has no row {uuid}");
            return Err(OvsdbError::new(ErrorKind::InvalidParameters, details));
        };
        if *row.cells[column] == datum {
            return Ok(());
        }
        datum.check_fits(&column_schema.kind)?;
        let mut row = Row::clone(row);
        row.cells[column] = Arc::new(datum);
        self.overlay.put(position, row);
        Ok(())
    }

    /// Puts a whole row as it is, its values checked against their types.
    pub(crate) fn put_row(&mut self, table: usize, row: &Row) -> Result<()> {
        let schema = self.overlay.schema(table).into_iter();
        for ((_, column), cell) in schema.flat_map(TableSchema::columns).zip(&row.cells) {
            cell.check(&column.kind)?;
        }
        self.overlay.put(table, row.clone());
        Ok(())
    }

    /// Deletes one row; no error when it is gone already.
    ///
    /// # Errors
    /// No such table.
    pub fn delete(&mut self, table: &str, uuid: Uuid) -> Result<()> {
        let (position, _) = self.table(table)?;
        if self.overlay.get(position, uuid).is_some() {
            self.overlay.delete(position, uuid);
        }
        Ok(())
    }

    /// Leaves a comment in the log.
    pub fn comment(&mut self, text: &str) {
        self.comment = Some(text.replace('\0', " "));
    }

    /// Applies the commit-time rules; the commit may be empty.
    ///
    /// # Errors
    /// A broken reference, constraint or index.
    pub fn finish(self) -> Result<Commit> {
        let mut commit = finish(self.overlay, self.id, self.symbols)?;
        commit.comment = self.comment;
        commit.local = true;
        Ok(commit)
    }
}
