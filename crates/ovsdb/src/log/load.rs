//! What database does a log describe?

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::reader::{LogReader, Tail};
use crate::db::{Commit, Database, Row, RowChange};
use crate::error::{ErrorKind, OvsdbError};
use crate::schema::{DatabaseSchema, TableSchema};
use crate::txn::Edit;
use crate::uuids::{Uuid, UuidStream, parse_uuid};
use crate::value::Datum;

/// A file that cannot be opened as a database.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is empty: create it from [`super::snapshot`] of a new database.
    #[error("the file is empty")]
    Empty,
    /// The first record is not whole, so there is no schema.
    #[error("not an OVSDB database file: {0}")]
    NotADatabase(String),
    /// The file is that of a cluster member.
    #[error(
        "a clustered database cannot be opened as a standalone one; see ovsdb-tool cluster-to-standalone"
    )]
    Clustered,
    /// The first record is not a schema.
    #[error("the schema in the file is wrong: {0}")]
    Schema(OvsdbError),
    /// A whole record does not fit the schema or the rows before it.
    #[error("the record at offset {offset} is wrong: {error}")]
    Record {
        /// Offset of the record in the file.
        offset: usize,
        /// What is wrong.
        error: OvsdbError,
    },
    /// The rows as a whole break the schema's rules.
    #[error("the rows in the file are inconsistent: {0}")]
    Inconsistent(OvsdbError),
}

/// A database read from a log.
#[derive(Debug)]
pub struct Loaded {
    /// The rows, under the schema the file carries.
    pub db: Database,
    /// Length of the part of the file that was read: truncate to this before appending.
    pub valid_len: usize,
    /// How the file ends.
    pub tail: Tail,
    /// Number of transaction records read.
    pub transactions: usize,
}

type Rows = BTreeMap<Uuid, Arc<Row>>;

/// Reads a whole file. Records of Open vSwitch of any version are understood, with
/// differences (`_is_diff`) or without.
///
/// # Errors
/// See [`LoadError`]. A torn tail is no error.
pub fn load(bytes: &[u8], uuids: &mut UuidStream) -> Result<Loaded, LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    if bytes.starts_with(b"OVSDB CLUSTER ") {
        return Err(LoadError::Clustered);
    }
    let mut reader = LogReader::new(bytes);
    let Some(first) = reader.next() else {
        let reason = match reader.tail() {
            Tail::Torn { reason, .. } => reason.clone(),
            Tail::Clean => String::from("no record"),
        };
        return Err(LoadError::NotADatabase(reason));
    };
    let schema = DatabaseSchema::from_json(&first.json).map_err(LoadError::Schema)?;
    let schema = Arc::new(schema);
    let mut tables: Vec<Rows> = vec![Rows::new(); schema.tables().len()];
    let mut transactions = 0;
    for record in reader.by_ref() {
        replay(&schema, &mut tables, &record.json, uuids)
            .map_err(|error| LoadError::Record { offset: record.start, error })?;
        transactions += 1;
    }
    let db = assemble(schema, tables, uuids).map_err(LoadError::Inconsistent)?;
    Ok(Loaded { db, valid_len: reader.offset(), tail: reader.tail().clone(), transactions })
}

/// Applies one transaction record to the rows.
fn replay(
    schema: &DatabaseSchema,
    tables: &mut [Rows],
    json: &Value,
    uuids: &mut UuidStream,
) -> Result<(), OvsdbError> {
    let Some(record) = json.as_object() else {
        return Err(OvsdbError::syntax(json, "a transaction record is an object"));
    };
    let is_diff = record.get("_is_diff").and_then(Value::as_bool) == Some(true);
    for (name, rows) in record.iter().filter(|(name, _)| !name.starts_with('_')) {
        let (position, table) = schema
            .table(name)
            .ok_or_else(|| OvsdbError::new(ErrorKind::Syntax, format!("there is no table {name}")))?;
        let rows = rows.as_object();
        let rows = rows.ok_or_else(|| OvsdbError::syntax(json, "rows must be an object"))?;
        for (uuid, cells) in rows {
            let uuid = parse_uuid(uuid)
                .ok_or_else(|| OvsdbError::syntax(&Value::from(uuid.as_str()), "not a UUID"))?;
            replay_row(table, &mut tables[position], uuid, cells, is_diff, uuids.draw())?;
        }
    }
    Ok(())
}

fn replay_row(
    schema: &TableSchema,
    rows: &mut Rows,
    uuid: Uuid,
    cells: &Value,
    is_diff: bool,
    version: Uuid,
) -> Result<(), OvsdbError> {
    if cells.is_null() {
        return match rows.remove(&uuid) {
            Some(_) => Ok(()),
            None => Err(OvsdbError::new(
                ErrorKind::Referential,
                format!("row {uuid} is deleted but does not exist"),
            )),
        };
    }
    let Some(cells) = cells.as_object() else {
        return Err(OvsdbError::syntax(cells, "a row is an object or null"));
    };
    let mut row = match rows.get(&uuid) {
        Some(row) => Row::clone(row),
        None => Row::new(schema, uuid),
    };
    row.version = version;
    for (name, value) in cells {
        let (position, column) = schema.column(name).ok_or_else(|| {
            let details = format!("the table has no column {name:?}");
            OvsdbError::new(ErrorKind::UnknownColumn, details)
        })?;
        let cell = &row.cells[position];
        let datum = if is_diff && *cell != column.default {
            let mut kind = column.kind.clone();
            if kind.max > 1 {
                (kind.min, kind.max) = (0, u32::MAX);
            }
            let diff = Datum::read_unchecked(value, &kind, None)?;
            cell.apply_diff(&diff, &column.kind)?
        } else {
            Datum::read_unchecked(value, &column.kind, None)?
        };
        row.cells[position] = Arc::new(datum);
    }
    rows.insert(uuid, Arc::new(row));
    Ok(())
}

/// Builds a database of rows and checks them as one great insert.
pub(super) fn assemble(
    schema: Arc<DatabaseSchema>,
    tables: Vec<Rows>,
    uuids: &mut UuidStream,
) -> Result<Database, OvsdbError> {
    let empty = Database::new(Arc::clone(&schema), uuids.draw());
    let mut edit = Edit::new(&empty, uuids);
    let mut versions: BTreeMap<(usize, Uuid), Uuid> = BTreeMap::new();
    for (position, rows) in tables.iter().enumerate() {
        for row in rows.values() {
            versions.insert((position, row.uuid), row.version);
            edit.put_row(position, row)?;
        }
    }
    let settled = edit.finish()?;
    let mut changes: BTreeMap<usize, BTreeMap<Uuid, RowChange>> = BTreeMap::new();
    for (position, rows) in settled.positions() {
        let table = changes.entry(position).or_default();
        for (uuid, change) in rows {
            let mut change = change.clone();
            if let (Some(row), Some(version)) = (&mut change.new, versions.get(&(position, *uuid))) {
                Arc::make_mut(row).version = *version;
            }
            table.insert(*uuid, change);
        }
    }
    Ok(Database::with_rows(&Commit::new(settled.id, schema, changes)))
}
