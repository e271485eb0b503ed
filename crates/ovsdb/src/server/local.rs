//! How does this process read and change the databases it serves?

use serde_json::Value;

use super::{Now, Server};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::txn::{self, Access, Context, Edit, Outcome};
use crate::uuids::Uuid;

impl Server {
    /// Runs a transaction of this process, as `transact` does for clients. It may write
    /// columns a client may write, and does not wait.
    ///
    /// # Errors
    /// No such database; a `wait` that does not hold now. The failure of an operation is
    /// in the results, as for clients.
    pub fn transact_local(&mut self, db: &str, ops: &[Value], now: Now) -> Result<Vec<Value>> {
        self.now = now;
        let context = Context { elapsed_ms: u64::MAX, owns_lock: &|_| false, access: Access::ReadWrite };
        let database = self.databases.get(db).ok_or_else(|| unknown(db))?;
        match txn::execute(database, ops, &context, &mut self.uuids) {
            Outcome::Done { results, commit } => {
                if let Some(mut commit) = commit {
                    commit.local = true;
                    self.commit(db, *commit);
                    self.retry_blocked();
                }
                Ok(results)
            }
            Outcome::Blocked { .. } => {
                Err(OvsdbError::new(ErrorKind::TimedOut, "a transaction of this process does not wait"))
            }
        }
    }

    /// Changes rows of a database by calls on an [`Edit`]; `None` when that changes nothing,
    /// else the transaction's id. Columns that only this process writes (`statistics`,
    /// `ofport`, `cur_cfg`) are written this way.
    ///
    /// # Errors
    /// No such database, an error of `change`, or a rule broken at commit; nothing has
    /// changed then.
    pub fn edit(
        &mut self,
        db: &str,
        now: Now,
        change: impl FnOnce(&mut Edit<'_, '_>) -> Result<()>,
    ) -> Result<Option<Uuid>> {
        self.now = now;
        let database = self.databases.get(db).ok_or_else(|| unknown(db))?;
        let mut edit = Edit::new(database, &mut self.uuids);
        change(&mut edit)?;
        let commit = edit.finish()?;
        if commit.is_empty() {
            return Ok(None);
        }
        let id = commit.id;
        self.commit(db, commit);
        self.retry_blocked();
        Ok(Some(id))
    }
}

fn unknown(db: &str) -> OvsdbError {
    let details = format!("there is no database {db:?}");
    OvsdbError::new(ErrorKind::UnknownDatabase, details)
}
