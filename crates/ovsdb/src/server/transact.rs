//! How does a client's transaction run, and who hears of it first?

use serde_json::Value;

use super::blocked::Blocked;
use super::methods::Answer;
use super::{ConnId, Server};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::txn::{self, Access, Context, Outcome};

impl Server {
    /// `transact`: the updates its commit calls for go out before its reply.
    pub(super) fn transact(
        &mut self,
        id: ConnId,
        request: Value,
        db: String,
        params: Vec<Value>,
    ) -> Result<Answer> {
        let transaction = Blocked {
            request,
            db,
            ops: params.into_iter().skip(1).collect(),
            size: 0,
            started_ms: self.now.mono_ms,
            waits_on: 0,
            timeout_ms: None,
        };
        if let Some(mut blocked) = self.attempt(id, transaction) {
            let limits = self.limits;
            let Some(connection) = self.connections.get_mut(&id) else {
                return Ok(Answer::Sent);
            };
            blocked.size = blocked.ops.iter().map(|op| op.to_string().len()).sum();
            let room = connection.has_room(blocked.size, limits.kept);
            if connection.blocked.len() >= limits.blocked || !room {
                let details = "too many transactions of this client are waiting already";
                return Err(OvsdbError::new(ErrorKind::ResourcesExhausted, details));
            }
            connection.blocked.push(blocked);
        }
        self.retry_blocked();
        Ok(Answer::Sent)
    }

    /// Runs a transaction and replies, or gives it back because it has to wait.
    pub(super) fn attempt(&mut self, id: ConnId, mut transaction: Blocked) -> Option<Blocked> {
        let access = match self.refusal(id, &transaction.db) {
            Some(why) => Access::ReadOnly(why),
            None => Access::ReadWrite,
        };
        let locks = &self.locks;
        let context = Context {
            elapsed_ms: self.now.mono_ms.saturating_sub(transaction.started_ms),
            owns_lock: &|name| locks.owner(name) == Some(id),
            access,
        };
        let db = self.databases.get(&transaction.db)?;
        match txn::execute(db, &transaction.ops, &context, &mut self.uuids) {
            Outcome::Done { results, commit } => {
                if let Some(commit) = commit {
                    self.commit(&transaction.db, *commit);
                }
                self.reply(id, transaction.request, Ok(Value::Array(results)));
                None
            }
            Outcome::Blocked { table, timeout_ms } => {
                (transaction.waits_on, transaction.timeout_ms) = (table, timeout_ms);
                Some(transaction)
            }
        }
    }

    /// Why a client may not write to a database, if it may not.
    pub(super) fn refusal(&self, id: ConnId, db: &str) -> Option<&'static str> {
        if db.starts_with('_') {
            return Some("the database describes the server and is read-only");
        }
        match self.connections.get(&id)?.options.access {
            Access::ReadWrite => None,
            Access::ReadOnly(why) => Some(why),
        }
    }
}
