//! Who owns which lock, and who waits for it (RFC 7047 §4.1.8 to §4.1.10)?

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

use super::{ConnId, Server};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::json;
use crate::rpc::Message;

/// For each lock its owner and, behind it, those who wait.
#[derive(Debug, Default)]
pub(super) struct Locks {
    queues: BTreeMap<String, VecDeque<ConnId>>,
}

impl Locks {
    pub(super) fn owner(&self, name: &str) -> Option<ConnId> {
        self.queues.get(name)?.front().copied()
    }

    fn count(&self, id: ConnId) -> usize {
        self.queues.values().filter(|q| q.contains(&id)).count()
    }

    /// Takes a client out of a queue; gives the new owner if the client was the old one.
    fn leave(&mut self, name: &str, id: ConnId) -> Option<ConnId> {
        let queue = self.queues.get_mut(name)?;
        let owned = queue.front() == Some(&id);
        queue.retain(|c| *c != id);
        let next = queue.front().copied();
        if next.is_none() {
            self.queues.remove(name);
        }
        next.filter(|_| owned)
    }
}

impl Server {
    /// `lock` and `steal`.
    pub(super) fn lock(&mut self, id: ConnId, params: &[Value], steal: bool) -> Result<Value> {
        let name = lock_name(params)?;
        if self.locks.count(id) >= self.limits.locks {
            let details = "this client holds too many locks";
            return Err(OvsdbError::new(ErrorKind::ResourcesExhausted, details));
        }
        let queue = self.locks.queues.entry(name.to_owned()).or_default();
        if queue.contains(&id) {
            let details = "the client has asked for this lock already";
            return Err(OvsdbError::syntax(&Value::from(name), details));
        }
        let owner = queue.front().copied();
        if steal {
            queue.push_front(id);
        } else {
            queue.push_back(id);
        }
        if let Some(robbed) = owner.filter(|_| steal) {
            self.notify_lock(robbed, "stolen", name);
        }
        let locked = owner.is_none() || steal;
        Ok(Value::Object(Map::from_iter([("locked".to_owned(), locked.into())])))
    }

    /// `unlock`.
    pub(super) fn unlock(&mut self, id: ConnId, params: &[Value]) -> Result<Value> {
        let name = lock_name(params)?;
        if !self.locks.queues.get(name).is_some_and(|q| q.contains(&id)) {
            let details = "the client has not asked for this lock";
            return Err(OvsdbError::syntax(&Value::from(name), details));
        }
        if let Some(next) = self.locks.leave(name, id) {
            self.notify_lock(next, "locked", name);
        }
        Ok(Value::Object(Map::new()))
    }

    /// Gives up everything a client holds or waits for.
    pub(super) fn release_locks(&mut self, id: ConnId) {
        let held = self.locks.queues.iter().filter(|(_, q)| q.contains(&id));
        let held: Vec<String> = held.map(|(name, _)| name.clone()).collect();
        for name in held {
            if let Some(next) = self.locks.leave(&name, id) {
                self.notify_lock(next, "locked", &name);
            }
        }
    }

    fn notify_lock(&mut self, id: ConnId, method: &str, name: &str) {
        let notification = Message::Notification { method: method.to_owned(), params: vec![name.into()] };
        self.send(id, notification);
    }
}

fn lock_name(params: &[Value]) -> Result<&str> {
    match params {
        [Value::String(name)] if json::is_id(name) => Ok(name),
        _ => Err(OvsdbError::syntax(&Value::Array(params.to_vec()), "the parameter is the <id> of a lock")),
    }
}
