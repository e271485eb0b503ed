//! What rows does a database hold, and what follows from a change to them?

mod commit;
mod history;
pub(crate) mod links;
mod row;
pub(crate) mod table;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use commit::{Commit, RowChange};
pub(crate) use history::History;
pub use history::HistoryLimits;
pub(crate) use links::Links;
pub use row::Row;
pub(crate) use table::Table;
pub use view::{RowView, TableView};

use crate::schema::DatabaseSchema;
use crate::uuids::Uuid;

/// One database in memory: rows, the links between them, and the last few commits.
///
/// A database is changed by [`apply`](Self::apply) alone; [`crate::txn`] works out what to
/// apply without touching it.
#[derive(Debug, Clone)]
pub struct Database {
    schema: Arc<DatabaseSchema>,
    tables: Vec<Table>,
    links: Links,
    history: History,
}

impl Database {
    /// An empty database. `id` names its state, as a transaction id does.
    pub fn new(schema: Arc<DatabaseSchema>, id: Uuid) -> Self {
        let tables: Vec<Table> = schema.tables().map(|(_, t)| Table::new(t)).collect();
        Self {
            links: Links::new(tables.len()),
            history: History::new(id, HistoryLimits::default()),
            tables,
            schema,
        }
    }

    /// A database of the rows a commit inserts, without a past.
    pub(crate) fn with_rows(commit: &Commit) -> Self {
        let mut db = Self::new(Arc::clone(&commit.schema), commit.id);
        db.apply_rows(commit);
        db
    }

    /// Every row as if it had just been inserted: what a follower is told when the whole
    /// database has been replaced.
    pub(crate) fn as_commit(&self) -> Commit {
        let mut tables = BTreeMap::new();
        for (position, table) in self.tables.iter().enumerate() {
            let inserted = |row: &Arc<Row>| RowChange { old: None, new: Some(Arc::clone(row)) };
            let rows: BTreeMap<_, _> = table.rows.iter().map(|(u, r)| (*u, inserted(r))).collect();
            if !rows.is_empty() {
                tables.insert(position, rows);
            }
        }
        Commit::new(self.last_id(), Arc::clone(&self.schema), tables)
    }

    /// The schema.
    pub fn schema(&self) -> &Arc<DatabaseSchema> {
        &self.schema
    }

    /// The id of the latest commit (or of the state at start).
    pub fn last_id(&self) -> Uuid {
        self.history.last_id()
    }

    /// Bounds what [`monitor_cond_since`] can look back on.
    ///
    /// [`monitor_cond_since`]: crate::Server
    pub fn set_history_limits(&mut self, limits: HistoryLimits) {
        self.history.set_limits(limits);
    }

    /// The table of that name, to read.
    pub fn table(&self, name: &str) -> Option<TableView<'_>> {
        let (position, _) = self.schema.table(name)?;
        Some(TableView::new(self, position))
    }

    /// The row of that UUID in the table of that name, to read.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<RowView<'_>> {
        self.table(table)?.get(uuid)
    }

    /// The first row of a table: the row of a table that has at most one.
    pub fn only_row(&self, table: &str) -> Option<RowView<'_>> {
        self.table(table)?.rows().next()
    }

    /// Number of rows in all tables.
    pub fn row_count(&self) -> usize {
        self.tables.iter().map(|t| t.rows.len()).sum()
    }

    /// Makes the changes of a commit that was worked out against this very state.
    pub fn apply(&mut self, commit: &Arc<Commit>) {
        self.apply_rows(commit);
        self.history.push(Arc::clone(commit));
    }

    /// Takes back the latest commit. Commits are undone newest first.
    pub fn undo(&mut self, commit: &Commit) {
        self.apply_rows(&commit.inverted());
        self.history.pop(commit.id);
    }

    fn apply_rows(&mut self, commit: &Commit) {
        for (position, changes) in commit.positions() {
            let Some((_, schema)) = self.schema.table_at(position) else {
                continue;
            };
            let table = &mut self.tables[position];
            // Old keys leave every index before new ones enter: rows may swap names.
            for change in changes.values() {
                if let Some(old) = &change.old {
                    table.remove(schema, old);
                }
            }
            for change in changes.values() {
                if let Some(new) = &change.new {
                    table.insert(schema, Arc::clone(new));
                }
                self.links.change(position, schema, change);
            }
        }
    }

    pub(crate) fn tables(&self) -> &[Table] {
        &self.tables
    }

    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }
}
