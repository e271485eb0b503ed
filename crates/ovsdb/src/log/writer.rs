//! How is a commit, or a whole database, written as records?

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha1::{Digest, Sha1};

use super::reader::MAGIC;
use crate::db::{Commit, Database, Row, RowChange};
use crate::schema::TableSchema;

/// One record: header line, JSON, line feed.
pub fn encode_record(json: &Value) -> Vec<u8> {
    let mut body = json.to_string();
    body.push('\n');
    let digest = Sha1::digest(body.as_bytes());
    let mut header = format!("{} ", body.len());
    for byte in digest {
        let _ = write!(header, "{byte:02x}");
    }
    let mut out = Vec::with_capacity(MAGIC.len() + header.len() + 1 + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(header.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(body.as_bytes());
    out
}

/// The record of one commit; `None` when only ephemeral columns changed.
///
/// Changed columns are written as differences (`_is_diff`), as Open vSwitch does since
/// 2.15, so that a port added to a bridge of a thousand costs one line, not a thousand.
/// `date_ms` is the time since the Unix epoch.
pub fn encode_commit(commit: &Commit, date_ms: i64) -> Option<Vec<u8>> {
    let mut record = Map::new();
    record.insert("_date".into(), date_ms.into());
    if let Some(comment) = &commit.comment {
        record.insert("_comment".into(), comment.as_str().into());
    }
    record.insert("_is_diff".into(), true.into());
    let header = record.len();
    for (position, rows) in commit.positions() {
        let Some((name, schema)) = commit.schema.table_at(position) else {
            continue;
        };
        let row = |(uuid, change)| Some((format!("{uuid}"), change_to_json(schema, change)?));
        let rows: Map<String, Value> = rows.iter().filter_map(row).collect();
        if !rows.is_empty() {
            record.insert(name.to_owned(), Value::Object(rows));
        }
    }
    (record.len() > header).then(|| encode_record(&Value::Object(record)))
}

fn change_to_json(schema: &TableSchema, change: &RowChange) -> Option<Value> {
    let (old, new) = match (&change.old, &change.new) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) => return Some(row_to_json(schema, new)),
        (Some(_), None) => return Some(Value::Null),
        (None, None) => return None,
    };
    let mut cells = Map::new();
    for (position, (name, column)) in schema.columns().enumerate() {
        if column.ephemeral || new.same_cell(old, position) {
            continue;
        }
        // A reader takes a difference from a default value as the value itself.
        let value = if old.cells[position] == column.default {
            new.cells[position].to_json()
        } else {
            new.diff_from(old, position, &column.kind).to_json()
        };
        cells.insert(name.to_owned(), value);
    }
    (!cells.is_empty()).then_some(Value::Object(cells))
}

/// A row without its ephemeral columns and those at their default.
fn row_to_json(schema: &TableSchema, row: &Row) -> Value {
    let cells = schema.columns().zip(&row.cells);
    let kept = cells.filter(|((_, c), cell)| !c.ephemeral && **cell != c.default);
    Value::Object(kept.map(|((name, _), cell)| (name.to_owned(), cell.to_json())).collect())
}

/// A whole file: the schema and, when there are rows, one record with all of them.
pub fn snapshot(db: &Database, date_ms: i64, comment: &str) -> Vec<u8> {
    let mut out = encode_record(&db.schema().to_json());
    let mut record = Map::new();
    record.insert("_date".into(), date_ms.into());
    if !comment.is_empty() {
        record.insert("_comment".into(), comment.into());
    }
    let header = record.len();
    for ((name, schema), table) in db.schema().tables().zip(db.tables()) {
        let row = |row: &Arc<Row>| (row.uuid.to_string(), row_to_json(schema, row));
        let rows: Map<String, Value> = table.rows.values().map(row).collect();
        if !rows.is_empty() {
            record.insert(name.to_owned(), Value::Object(rows));
        }
    }
    if record.len() > header {
        out.extend_from_slice(&encode_record(&Value::Object(record)));
    }
    out
}
