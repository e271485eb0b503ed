//! What does `_Server` say of the databases (ovsdb-server(5))?

use serde_json::Value;

use super::Server;
use crate::db::Database;
use crate::error::Result;
use crate::schema::{self, DatabaseSchema};
use crate::txn::Edit;
use crate::uuids::Uuid;
use crate::value::Datum;

const CATALOG: &str = "_Server";
const TABLE: &str = "Database";

impl Server {
    /// Starts serving `_Server`, which lists itself.
    pub(super) fn start_catalog(&mut self) {
        let catalog = Database::new(schema::server(), self.uuids.draw());
        let schema = schema::server();
        self.databases.insert(CATALOG.to_owned(), catalog);
        let listed = self.catalog_insert(CATALOG, &schema);
        debug_assert!(listed.is_ok(), "{listed:?}");
        // Nobody can have seen the database without this row.
        self.batch = super::Batch::default();
        self.changed.clear();
    }

    /// Lists a database.
    pub(super) fn catalog_insert(&mut self, name: &str, schema: &DatabaseSchema) -> Result<()> {
        let cells = [
            ("name", Datum::scalar(name)),
            ("model", Datum::scalar("standalone")),
            ("connected", Datum::scalar(true)),
            ("leader", Datum::scalar(true)),
            ("schema", schema_text(schema)),
        ];
        self.catalog_edit(|edit| edit.insert(TABLE, &cells).map(drop))
    }

    /// Tells of a database's new schema.
    pub(super) fn catalog_convert(&mut self, name: &str, schema: &DatabaseSchema) -> Result<()> {
        let row = self.catalog_row(name);
        let text = schema_text(schema);
        self.catalog_edit(|edit| match row {
            Some(uuid) => edit.set(TABLE, uuid, "schema", text),
            None => Ok(()),
        })
    }

    fn catalog_row(&self, name: &str) -> Option<Uuid> {
        let table = self.databases.get(CATALOG)?.table(TABLE)?;
        table.find("name", name).map(|row| row.uuid())
    }

    fn catalog_edit(&mut self, change: impl FnOnce(&mut Edit<'_, '_>) -> Result<()>) -> Result<()> {
        let Some(catalog) = self.databases.get(CATALOG) else {
            return Ok(());
        };
        let mut edit = Edit::new(catalog, &mut self.uuids);
        change(&mut edit)?;
        let commit = edit.finish()?;
        self.commit(CATALOG, commit);
        Ok(())
    }
}

fn schema_text(schema: &DatabaseSchema) -> Datum {
    let json: Value = schema.to_json();
    Datum::scalar(json.to_string().as_str())
}
