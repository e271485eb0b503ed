//! What does the rim have to do, and in which order?

use std::sync::Arc;

use super::{ConnId, Server};
use crate::db::{Commit, Database};

/// One change to a database's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Persist {
    /// Append these bytes.
    Append {
        /// Name of the database.
        db: String,
        /// One whole record.
        record: Vec<u8>,
    },
    /// Put a new file in the old one's place (write aside, sync, rename).
    Replace {
        /// Name of the database.
        db: String,
        /// The whole file.
        file: Vec<u8>,
    },
}

/// Work for the rim, to be done in the order of the fields.
#[derive(Debug, Default)]
pub struct Batch {
    /// Make these durable, in order, with one sync at the end.
    pub persist: Vec<Persist>,
    /// Then send these. If persisting failed, send nothing and call
    /// [`Server::persist_failed`].
    pub sends: Vec<(ConnId, Vec<u8>)>,
    /// Then close these clients, after their sends.
    pub closes: Vec<ConnId>,
    /// What changed in which database, for the parts of this process that follow it. After
    /// a conversion every row is told as inserted, under the new schema.
    pub changes: Vec<(String, Arc<Commit>)>,
    pub(super) undo: Vec<Undo>,
}

/// How to take back what was not persisted.
#[derive(Debug)]
pub(super) enum Undo {
    Commit(String, Arc<Commit>),
    Convert(String, Box<Database>),
}

impl Batch {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.persist.is_empty() && self.sends.is_empty() && self.closes.is_empty() && self.changes.is_empty()
    }

    /// Messages for one client in a row share a buffer.
    pub(super) fn push_send(&mut self, id: ConnId, mut bytes: Vec<u8>) {
        match self.sends.last_mut() {
            Some((last, buffer)) if *last == id => buffer.append(&mut bytes),
            _ => self.sends.push((id, bytes)),
        }
    }
}

impl Server {
    /// Takes back everything since the batch before the one whose persisting failed: the
    /// databases return to what is on the disk. Every client is closed, since some may have
    /// read what is now undone; they reconnect and read again. The next batch carries the
    /// closes and, as changes, the undoing.
    pub fn persist_failed(&mut self) {
        let mut undo = std::mem::take(&mut self.unconfirmed);
        undo.append(&mut self.batch.undo);
        self.batch = Batch::default();
        for step in undo.into_iter().rev() {
            match step {
                Undo::Commit(name, commit) => {
                    if let Some(db) = self.databases.get_mut(&name) {
                        db.undo(&commit);
                        let undone = Arc::new(commit.inverted());
                        self.batch.changes.push((name, undone));
                    }
                }
                Undo::Convert(name, db) => {
                    let restored = Arc::new(db.as_commit());
                    self.databases.insert(name.clone(), *db);
                    self.batch.changes.push((name, restored));
                }
            }
        }
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.close(id);
        }
    }
}
