//! What does the database ask for that this switch does not do? It is said in the log: nobody is to wait for flows
//! that are never exported.

use std::collections::BTreeSet;

use weft_ovsdb::db::Database;

/// Columns whose rows ask for exports, by table, and what they ask for.
const EXPORTS: [(&str, &str, &str); 4] = [
    ("Bridge", "netflow", "NetFlow records"),
    ("Bridge", "sflow", "sFlow samples"),
    ("Bridge", "ipfix", "IPFIX records"),
    ("Flow_Sample_Collector_Set", "ipfix", "IPFIX records of the sample action"),
];

/// A line for each thing that is asked for in vain.
pub(super) fn absent(db: &Database) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (table, column, what) in EXPORTS {
        let rows = db.table(table).into_iter().flat_map(|table| table.rows());
        for row in rows.filter(|row| !row.refs(column).is_empty()) {
            let whose = match table {
                "Bridge" => format!("bridge {}", row.str("name")),
                _ => format!("collector set {}", row.int("id")),
            };
            out.insert(format!("{whose}: {what} are not exported"));
        }
    }
    out
}
