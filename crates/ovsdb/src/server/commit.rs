//! What happens when a database changes?

use std::sync::Arc;

use serde_json::{Map, Value};

use super::batch::{Persist, Undo};
use super::{ConnId, Server};
use crate::db::Commit;
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::log;
use crate::rpc::Message;
use crate::schema::DatabaseSchema;

impl Server {
    /// Applies a commit, queues its record and tells every monitor.
    pub(super) fn commit(&mut self, name: &str, commit: Commit) {
        if commit.is_empty() {
            return;
        }
        let Some(db) = self.databases.get_mut(name) else {
            return;
        };
        let commit = Arc::new(commit);
        db.apply(&commit);
        // What describes the server itself does not outlive it.
        if !name.starts_with('_')
            && let Some(record) = log::encode_commit(&commit, self.now.unix_ms)
        {
            let db = name.to_owned();
            self.batch.persist.push(Persist::Append { db, record });
        }
        let tables = commit.positions().map(|(table, _)| (name.to_owned(), table));
        self.changed.extend(tables);
        self.notify_monitors(name, &commit);
        let name = name.to_owned();
        self.batch.undo.push(Undo::Commit(name.clone(), Arc::clone(&commit)));
        self.batch.changes.push((name, commit));
    }

    /// Puts a database under another schema, in memory and on the disk. Clients that do not
    /// follow such changes are closed, the others' monitors and waiting transactions end
    /// (ovsdb-server(7) §4.1.18 and §4.1.19).
    ///
    /// # Errors
    /// The rows do not fit the new schema; nothing has changed then.
    pub fn convert_database(&mut self, name: &str, schema: Arc<DatabaseSchema>) -> Result<()> {
        self.convert(name, schema, None)
    }

    pub(super) fn convert(
        &mut self,
        name: &str,
        schema: Arc<DatabaseSchema>,
        asked_by: Option<(ConnId, &Value)>,
    ) -> Result<()> {
        let Some(db) = self.databases.get(name) else {
            let details = format!("there is no database {name:?}");
            return Err(OvsdbError::new(ErrorKind::UnknownDatabase, details));
        };
        let new = log::convert(db, Arc::clone(&schema), &mut self.uuids)?;
        let replaced = Arc::new(new.as_commit());
        let comment = format!("converted to schema version {}", schema.version);
        let file = log::snapshot(&new, self.now.unix_ms, &comment);
        if let Some(old) = self.databases.insert(name.to_owned(), new) {
            let undo = Undo::Convert(name.to_owned(), Box::new(old));
            self.batch.undo.push(undo);
        }
        let db = name.to_owned();
        self.batch.persist.push(Persist::Replace { db, file });
        self.batch.changes.push((name.to_owned(), replaced));
        self.catalog_convert(name, &schema)?;
        if let Some((id, request)) = asked_by {
            self.reply(id, request.clone(), Ok(Value::Object(Map::new())));
        }
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.end_sessions(id, name);
        }
        self.retry_blocked();
        Ok(())
    }

    /// Ends what one client has going on in a database.
    fn end_sessions(&mut self, id: ConnId, name: &str) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !connection.change_aware {
            self.close(id);
            return;
        }
        let blocked = connection.blocked.extract_if(.., |b| b.db == name).collect::<Vec<_>>();
        let mut ended = Vec::new();
        connection.monitors.retain(|_, entry| {
            let stays = entry.db != name;
            if !stays {
                ended.push(entry.id.clone());
            }
            stays
        });
        for transaction in blocked {
            self.reply(id, transaction.request, Err("canceled".into()));
        }
        for monitor in ended {
            let notification =
                Message::Notification { method: "monitor_canceled".into(), params: vec![monitor] };
            self.send(id, notification);
        }
    }
}
