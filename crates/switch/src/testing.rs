//! How does a unit test change a database as clients do?

use std::sync::Arc;

use weft_ovsdb::db::Database;
use weft_ovsdb::{Commit, Datum, Edit, Result, Uuid, UuidStream};

/// References to rows.
pub(crate) fn refs(rows: impl IntoIterator<Item = Uuid>) -> Datum {
    Datum::set(rows.into_iter().map(weft_ovsdb::Atom::Uuid))
}

/// The row of that name.
pub(crate) fn find(db: &Database, table: &str, name: &str) -> Option<Uuid> {
    db.table(table)?.find("name", name).map(|row| row.uuid())
}

/// Makes a change, and tells what came of it.
pub(crate) fn commit(
    db: &mut Database,
    uuids: &mut UuidStream,
    work: impl FnOnce(&Database, &mut Edit<'_, '_>) -> Result<()>,
) -> Arc<Commit> {
    let before = db.clone();
    let mut edit = Edit::new(&before, uuids);
    work(&before, &mut edit).expect("an edit");
    let commit = Arc::new(edit.finish().expect("a commit"));
    db.apply(&commit);
    commit
}
