//! Which transactions wait for a change, and until when?

use serde_json::Value;

use super::{ConnId, Server};

/// A transaction and, once it has blocked, what it waits for.
#[derive(Debug)]
pub(super) struct Blocked {
    /// The id to reply with.
    pub(super) request: Value,
    /// Name of the database.
    pub(super) db: String,
    pub(super) ops: Vec<Value>,
    /// Length of the operations as JSON text; known once the transaction has blocked.
    pub(super) size: usize,
    /// When it was first tried.
    pub(super) started_ms: u64,
    /// Position of the table whose change may let it go on.
    pub(super) waits_on: usize,
    /// Milliseconds from the start at which it fails.
    pub(super) timeout_ms: Option<u64>,
}

impl Blocked {
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        Some(self.started_ms.saturating_add(self.timeout_ms?))
    }
}

impl Server {
    /// Tries the transactions that wait on tables that have changed, and those that their
    /// commits let go on, until nothing moves.
    pub(super) fn retry_blocked(&mut self) {
        while !self.changed.is_empty() {
            let changed = std::mem::take(&mut self.changed);
            let waits = |b: &Blocked| changed.iter().any(|(db, t)| *db == b.db && *t == b.waits_on);
            self.retry_where(waits);
        }
    }

    /// Tries the transactions whose time is up: their waits now fail.
    pub(super) fn expire_blocked(&mut self) {
        let now = self.now.mono_ms;
        self.retry_where(|b| b.deadline_ms().is_some_and(|deadline| deadline <= now));
        self.retry_blocked();
    }

    fn retry_where(&mut self, pick: impl Fn(&Blocked) -> bool) {
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let picked: Vec<Blocked> = connection.blocked.extract_if(.., |b| pick(b)).collect();
            for transaction in picked {
                let again = self.attempt(id, transaction);
                if let (Some(again), Some(connection)) = (again, self.connections.get_mut(&id)) {
                    connection.blocked.push(again);
                }
            }
        }
    }

    /// `cancel`: a waiting transaction is answered with "canceled".
    pub(super) fn cancel(&mut self, id: ConnId, request: &Value) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut waiting = connection.blocked.iter();
        if let Some(position) = waiting.position(|b| b.request == *request) {
            let canceled = connection.blocked.remove(position);
            self.reply(id, canceled.request, Err("canceled".into()));
        }
    }
}
