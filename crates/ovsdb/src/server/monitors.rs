//! Who is told of which change?

use std::sync::Arc;

use serde_json::{Map, Value};

use super::connection::MonitorEntry;
use super::methods::Answer;
use super::{ConnId, Server};
use crate::db::Commit;
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::json;
use crate::monitor::{Flavor, Monitor};
use crate::rpc::Message;
use crate::uuids::{Uuid, parse_uuid};

impl Server {
    /// `monitor`, `monitor_cond` and `monitor_cond_since`.
    pub(super) fn monitor(
        &mut self,
        id: ConnId,
        _request: &Value,
        params: &[Value],
        flavor: Flavor,
    ) -> Result<Answer> {
        let whole = || Value::Array(params.to_vec());
        let name = self.database_name(params)?;
        let (monitor_id, requests, last_id) = match (flavor, params) {
            (Flavor::Plain | Flavor::Conditional, [_, id, requests]) => (id, requests, None),
            (Flavor::Since, [_, id, requests]) => (id, requests, Some(Uuid::nil())),
            (Flavor::Since, [_, id, requests, last]) => {
                let last = last.as_str().and_then(parse_uuid);
                let wrong = || OvsdbError::syntax(&whole(), "the last transaction id is a UUID");
                (id, requests, Some(last.ok_or_else(wrong)?))
            }
            _ => return Err(OvsdbError::syntax(&whole(), "wrong number of parameters")),
        };
        let limits = self.limits;
        let (Some(db), Some(connection)) = (self.databases.get(&name), self.connections.get_mut(&id)) else {
            return Ok(Answer::Sent);
        };
        let key = json::canonical(monitor_id);
        if connection.monitors.contains_key(&key) {
            let details = "this client has a monitor of that id";
            return Err(OvsdbError::syntax(monitor_id, details));
        }
        let monitor = Monitor::from_json(db.schema(), requests, flavor)?;
        let size = key.len() + monitor.weight();
        if connection.monitors.len() >= limits.monitors || !connection.has_room(size, limits.kept) {
            let details = "this client has too many monitors";
            return Err(OvsdbError::new(ErrorKind::ResourcesExhausted, details));
        }
        let result = match last_id {
            None => monitor.initial(db),
            Some(last) => {
                let since = db.history().since(last);
                let found = since.is_some();
                let updates = match since {
                    Some(changes) => {
                        let changes = changes.iter().map(|(table, rows)| (*table, rows));
                        let updates = monitor.update(db.schema(), changes);
                        updates.unwrap_or_else(|| Value::Object(Map::new()))
                    }
                    None => monitor.initial(db),
                };
                let id = Value::from(db.last_id().to_string());
                Value::Array(vec![found.into(), id, updates])
            }
        };
        let entry = MonitorEntry { id: monitor_id.clone(), db: name, monitor, size };
        connection.monitors.insert(key, entry);
        Ok(Answer::Now(result))
    }

    /// `monitor_cond_change`: the update it calls for goes out before its reply.
    pub(super) fn monitor_cond_change(&mut self, id: ConnId, params: &[Value]) -> Result<Value> {
        let [old_id, new_id, requests] = params else {
            let details = "the parameters are two monitor ids and condition changes";
            return Err(OvsdbError::syntax(&Value::Array(params.to_vec()), details));
        };
        let (old_key, new_key) = (json::canonical(old_id), json::canonical(new_id));
        let unknown = || OvsdbError::syntax(old_id, "this client has no monitor of that id");
        let connection = self.connections.get_mut(&id).ok_or_else(unknown)?;
        if new_key != old_key && connection.monitors.contains_key(&new_key) {
            let details = "this client has a monitor of the new id";
            return Err(OvsdbError::syntax(new_id, details));
        }
        let entry = connection.monitors.get(&old_key).ok_or_else(unknown)?;
        let db = self.databases.get(&entry.db).ok_or_else(unknown)?;
        if entry.monitor.flavor() == Flavor::Plain {
            let details = "a plain monitor has no conditions";
            return Err(OvsdbError::syntax(old_id, details));
        }
        let monitor = entry.monitor.with_conditions(db.schema(), requests)?;
        let size = new_key.len() + monitor.weight();
        if !connection.has_room(size.saturating_sub(entry.size), self.limits.kept) {
            let details = "the monitors of this client take too much";
            return Err(OvsdbError::new(ErrorKind::ResourcesExhausted, details));
        }
        let updates = monitor.condition_update(&entry.monitor, db);
        let flavor = monitor.flavor();
        let last_id = db.last_id();
        let entry = MonitorEntry { id: new_id.clone(), db: entry.db.clone(), monitor, size };
        connection.monitors.shift_remove(&old_key);
        connection.monitors.insert(new_key, entry);
        if let Some(updates) = updates {
            let notification = notification(flavor, new_id.clone(), last_id, updates);
            self.send(id, notification);
        }
        Ok(Value::Object(Map::new()))
    }

    /// `monitor_cancel`.
    pub(super) fn monitor_cancel(&mut self, id: ConnId, params: &[Value]) -> Answer {
        let [monitor] = params else {
            return Answer::Plain("invalid parameters");
        };
        let key = json::canonical(monitor);
        let connection = self.connections.get_mut(&id);
        match connection.and_then(|c| c.monitors.shift_remove(&key)) {
            Some(_) => Answer::Now(Value::Object(Map::new())),
            None => Answer::Plain("unknown monitor"),
        }
    }

    /// Tells every client whose monitors cover something of a commit.
    pub(super) fn notify_monitors(&mut self, name: &str, commit: &Arc<Commit>) {
        let mut notifications = Vec::new();
        for (id, connection) in &self.connections {
            for entry in connection.monitors.values().filter(|e| e.db == name) {
                let updates = entry.monitor.update(&commit.schema, commit.positions());
                if let Some(updates) = updates {
                    let flavor = entry.monitor.flavor();
                    let message = notification(flavor, entry.id.clone(), commit.id, updates);
                    notifications.push((*id, message));
                }
            }
        }
        for (id, message) in notifications {
            self.send(id, message);
        }
    }
}

fn notification(flavor: Flavor, id: Value, last_id: Uuid, updates: Value) -> Message {
    let (method, params) = match flavor {
        Flavor::Plain => ("update", vec![id, updates]),
        Flavor::Conditional => ("update2", vec![id, updates]),
        Flavor::Since => ("update3", vec![id, last_id.to_string().into(), updates]),
    };
    Message::Notification { method: method.to_owned(), params }
}
