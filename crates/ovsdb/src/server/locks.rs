//! Who owns which lock, and who waits for it (RFC 7047 §4.1.8 to §4.1.10)?

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::{ConnId, Server};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::json;
use crate::rpc::Message;

/// Longest name of a lock.
const MAX_NAME: usize = 1024;

/// What one client has to do with locks, as the `status` column of `Manager` tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockStatus {
    /// Locks it owns.
    pub held: Vec<String>,
    /// Locks it waits for.
    pub waiting: Vec<String>,
    /// Locks that were stolen from it.
    pub lost: Vec<String>,
}

/// How a client came to stand in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Asked,
    Stole,
}

/// For each lock its owner and, behind it, those who wait.
///
/// A client that asked and is robbed stands right behind the thief. One that had stolen
/// the lock itself is out, as ovsdb-server does it, and has to unlock before it asks again.
#[derive(Debug, Default)]
pub(super) struct Locks {
    queues: BTreeMap<String, VecDeque<(ConnId, Manner)>>,
    out: BTreeSet<(ConnId, String)>,
}

impl Locks {
    pub(super) fn owner(&self, name: &str) -> Option<ConnId> {
        self.queues.get(name)?.front().map(|(id, _)| *id)
    }

    fn queued(&self, name: &str, id: ConnId) -> bool {
        let queue = self.queues.get(name);
        queue.is_some_and(|q| q.iter().any(|(c, _)| *c == id))
    }

    /// True when the client has asked for the lock and not unlocked it since.
    fn has_asked(&self, name: &str, id: ConnId) -> bool {
        self.queued(name, id) || self.out.contains(&(id, name.to_owned()))
    }

    /// The locks a client has asked for and not unlocked since.
    fn of(&self, id: ConnId) -> Vec<String> {
        let queued = self.queues.keys().filter(|name| self.queued(name, id));
        let out = self.out.iter().filter(|(c, _)| *c == id).map(|(_, name)| name);
        queued.chain(out).cloned().collect()
    }

    /// Takes a client out of a queue; gives the new owner if the client was the old one.
    fn leave(&mut self, name: &str, id: ConnId) -> Option<ConnId> {
        self.out.remove(&(id, name.to_owned()));
        let owned = self.owner(name) == Some(id);
        let queue = self.queues.get_mut(name)?;
        queue.retain(|(c, _)| *c != id);
        if queue.is_empty() {
            self.queues.remove(name);
        }
        self.owner(name).filter(|_| owned)
    }

    /// Puts a client in front of a queue; gives the robbed owner.
    fn steal(&mut self, name: &str, id: ConnId) -> Option<ConnId> {
        let queue = self.queues.entry(name.to_owned()).or_default();
        let robbed = queue.front().copied();
        if let Some((thief, Manner::Stole)) = robbed {
            queue.pop_front();
            self.out.insert((thief, name.to_owned()));
        }
        queue.push_front((id, Manner::Stole));
        robbed.map(|(id, _)| id)
    }
}

impl Server {
    /// A client's locks.
    pub fn lock_status(&self, id: ConnId) -> LockStatus {
        let mut status = LockStatus::default();
        for name in self.locks.of(id) {
            if self.locks.owner(&name) == Some(id) {
                status.held.push(name);
            } else if self.locks.queued(&name, id) {
                status.waiting.push(name);
            } else {
                status.lost.push(name);
            }
        }
        status
    }

    /// `lock` and `steal`.
    pub(super) fn lock(&mut self, id: ConnId, params: &[Value], steal: bool) -> Result<Value> {
        let name = lock_name(params)?;
        if self.locks.of(id).len() >= self.limits.locks {
            let details = "this client holds too many locks";
            return Err(OvsdbError::new(ErrorKind::ResourcesExhausted, details));
        }
        if self.locks.has_asked(name, id) {
            let details = "the client has asked for this lock already";
            return Err(OvsdbError::syntax(&Value::from(name), details));
        }
        let locked = if steal {
            if let Some(robbed) = self.locks.steal(name, id) {
                self.notify_lock(robbed, "stolen", name);
            }
            true
        } else {
            let queue = self.locks.queues.entry(name.to_owned()).or_default();
            queue.push_back((id, Manner::Asked));
            queue.len() == 1
        };
        Ok(Value::Object(Map::from_iter([("locked".to_owned(), locked.into())])))
    }

    /// `unlock`.
    pub(super) fn unlock(&mut self, id: ConnId, params: &[Value]) -> Result<Value> {
        let name = lock_name(params)?;
        if !self.locks.has_asked(name, id) {
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
        for name in self.locks.of(id) {
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
        [Value::String(name)] if json::is_id(name) && name.len() <= MAX_NAME => Ok(name),
        _ => Err(OvsdbError::syntax(&Value::Array(params.to_vec()), "the parameter is the <id> of a lock")),
    }
}
