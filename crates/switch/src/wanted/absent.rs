//! What does the database ask for that this switch does not do? It is said in the log: nobody is to wait for flows
//! that are never exported.

use std::collections::BTreeSet;

use weft_ovsdb::db::Database;

/// Columns of bridges that ask for exports, and what they ask for.
const EXPORTS: [(&str, &str); 2] = [("netflow", "NetFlow records"), ("sflow", "sFlow samples")];

/// A line for each thing that is asked for in vain.
pub(super) fn absent(db: &Database) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (column, what) in EXPORTS {
        let rows = db.table("Bridge").into_iter().flat_map(|table| table.rows());
        for row in rows.filter(|row| !row.refs(column).is_empty()) {
            out.insert(format!("bridge {}: {what} are not exported", row.str("name")));
        }
    }
    out
}
