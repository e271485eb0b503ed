//! How is an operation of `transact` written (RFC 7047 §5.2)?

use serde_json::{Value, json};

use crate::uuids::Uuid;
use crate::value::Datum;

/// A `<row>` of columns and their values.
pub fn row(cells: &[(&str, Datum)]) -> Value {
    let cell = |(name, datum): &(&str, Datum)| ((*name).to_owned(), datum.to_json());
    Value::Object(cells.iter().map(cell).collect())
}

/// The condition that means one row.
pub fn this(uuid: Uuid) -> Value {
    json!([["_uuid", "==", ["uuid", uuid.to_string()]]])
}

/// A reference to the row an insert of this transaction names.
pub fn named(name: &str) -> Value {
    json!(["named-uuid", name])
}

/// Inserts `row`; other operations may refer to it by `name`.
pub fn insert(table: &str, name: Option<&str>, row: Value) -> Value {
    let mut op = json!({"op": "insert", "table": table, "row": row});
    if let Some(name) = name {
        op["uuid-name"] = name.into();
    }
    op
}

/// Sets columns of the rows `condition` means.
pub fn update(table: &str, condition: Value, row: Value) -> Value {
    json!({"op": "update", "table": table, "where": condition, "row": row})
}

/// Mutates one column (`+=`, `insert`, `delete`, …) of the rows `condition` means.
pub fn mutate(table: &str, condition: Value, column: &str, mutator: &str, value: Value) -> Value {
    let mutations = json!([[column, mutator, value]]);
    json!({"op": "mutate", "table": table, "where": condition, "mutations": mutations})
}

/// Deletes the rows `condition` means.
pub fn delete(table: &str, condition: Value) -> Value {
    json!({"op": "delete", "table": table, "where": condition})
}

/// Reads the named columns of the rows `condition` means.
pub fn select(table: &str, condition: Value, columns: &[&str]) -> Value {
    json!({"op": "select", "table": table, "where": condition, "columns": columns})
}

/// Lets the transaction fail unless `columns` of the rows `condition` means are `rows`.
pub fn verify(table: &str, condition: Value, columns: &[&str], rows: Value) -> Value {
    json!({
        "op": "wait", "table": table, "where": condition, "columns": columns,
        "until": "==", "rows": rows, "timeout": 0,
    })
}

/// Lets the transaction fail unless this client owns the lock.
pub fn assert(lock: &str) -> Value {
    json!({"op": "assert", "lock": lock})
}

/// Leaves a comment in the server's log.
pub fn comment(text: &str) -> Value {
    json!({"op": "comment", "comment": text})
}
