//! Which schemas does the switch serve?
//!
//! Both are written from the manual pages `ovs-vswitchd.conf.db(5)` and `ovsdb-server(5)`
//! of Open vSwitch 3.1, in files of our own; version and checksum are those the manuals'
//! release carries, so that tools that compare them see the schema they know.

use std::sync::{Arc, LazyLock};

use super::DatabaseSchema;

static OPEN_VSWITCH: LazyLock<Arc<DatabaseSchema>> =
    LazyLock::new(|| load(include_str!("../../schema/open_vswitch.json")));

static SERVER: LazyLock<Arc<DatabaseSchema>> =
    LazyLock::new(|| load(include_str!("../../schema/server.json")));

fn load(text: &str) -> Arc<DatabaseSchema> {
    let schema = serde_json::from_str(text)
        .map_err(|e| e.to_string())
        .and_then(|json| DatabaseSchema::from_json(&json).map_err(|e| e.to_string()));
    match schema {
        Ok(schema) => Arc::new(schema),
        Err(error) => panic!("a schema built into the program does not parse: {error}"),
    }
}

/// `Open_vSwitch`, version 8.3.1: the configuration of the switch.
pub fn open_vswitch() -> Arc<DatabaseSchema> {
    Arc::clone(&OPEN_VSWITCH)
}

/// `_Server`, version 1.2.0: which databases a server holds.
pub fn server() -> Arc<DatabaseSchema> {
    Arc::clone(&SERVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parse_and_count() {
        let schema = open_vswitch();
        let columns: usize = schema.tables().map(|(_, t)| t.columns().len()).sum();
        assert_eq!((schema.tables().len(), columns), (19, 184));
        assert_eq!(server().tables().len(), 1);
    }
}
