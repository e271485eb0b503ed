//! What becomes of a database's rows under another schema (ovsdb-server(7) §4.1.19)?

use std::collections::BTreeMap;
use std::sync::Arc;

use super::load::assemble;
use crate::db::{Database, Row};
use crate::error::Result;
use crate::schema::DatabaseSchema;
use crate::uuids::UuidStream;
use crate::value::Datum;

/// The same rows under another schema. Tables and columns the new schema lacks are left
/// behind, columns it adds take their defaults; all of its constraints apply.
///
/// # Errors
/// A value, row or reference the new schema does not allow.
pub fn convert(db: &Database, schema: Arc<DatabaseSchema>, uuids: &mut UuidStream) -> Result<Database> {
    let mut tables = Vec::with_capacity(schema.tables().len());
    for (name, new) in schema.tables() {
        let mut rows = BTreeMap::new();
        if let Some((position, old)) = db.schema().table(name) {
            for (uuid, old_row) in &db.tables()[position].rows {
                let mut row = Row::new(new, *uuid);
                row.version = old_row.version;
                for (cell, (name, column)) in row.cells.iter_mut().zip(new.columns()) {
                    let Some((from, old_column)) = old.column(name) else {
                        continue;
                    };
                    let value = &old_row.cells[from];
                    *cell = if old_column.kind == column.kind {
                        Arc::clone(value)
                    } else {
                        let value = value.to_json();
                        Arc::new(Datum::from_json(&value, &column.kind)?)
                    };
                }
                rows.insert(*uuid, Arc::new(row));
            }
        }
        tables.push(rows);
    }
    assemble(schema, tables, uuids)
}
