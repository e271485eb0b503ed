//! What does a transaction answer, and what would it change (RFC 7047 §4.1.3)?
//!
//! [`execute`] only reads the database. Its [`Commit`] is then applied, or dropped.

mod column;
mod condition;
mod edit;
mod mutation;
mod ops;
mod overlay;
mod settle;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub(crate) use column::{ColumnRef, read_columns};
pub(crate) use condition::Condition;
pub use edit::Edit;
use ops::{Executor, Step};
use overlay::Overlay;

use crate::db::{Commit, Database};
use crate::error::OvsdbError;
use crate::uuids::{UuidStream, parse_uuid};
use crate::value::Symbols;

/// What a transaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anything.
    ReadWrite,
    /// Read only, for this reason.
    ReadOnly(&'static str),
}

/// What a transaction's outcome depends on besides the database and its operations.
pub struct Context<'a> {
    /// Milliseconds since the transaction was first tried.
    pub elapsed_ms: u64,
    /// Does the client own the lock of that name?
    pub owns_lock: &'a dyn Fn(&str) -> bool,
    /// May it write?
    pub access: Access,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("elapsed_ms", &self.elapsed_ms)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Outcome {
    /// It ran to its end, good or bad.
    Done {
        /// The reply's `result`: one element per operation, `null` after a failed one, and
        /// one more when the commit itself failed.
        results: Vec<Value>,
        /// What to apply; `None` when it failed or changed nothing.
        commit: Option<Box<Commit>>,
    },
    /// A `wait` does not hold yet. Nothing was done; run it again when `table` has changed
    /// or `timeout_ms` have passed since it was first tried.
    Blocked {
        /// Position of the table waited on.
        table: usize,
        /// Milliseconds from the first try; `None` waits for ever.
        timeout_ms: Option<u64>,
    },
}

/// Runs the operations of one `transact` request against `db`.
pub fn execute(db: &Database, ops: &[Value], context: &Context<'_>, uuids: &mut UuidStream) -> Outcome {
    let id = uuids.draw();
    let mut symbols = Symbols::new(uuids);
    preset_names(&mut symbols, ops);
    let mut executor =
        Executor { overlay: Overlay::new(db), symbols, comments: Vec::new(), selected: 0, context };
    let mut results = Vec::with_capacity(ops.len() + 1);
    for (i, op) in ops.iter().enumerate() {
        let what = format!("operation {} of {}", i + 1, ops.len());
        match executor.run(op, &what) {
            Ok(Step::Next(result)) => results.push(result),
            Ok(Step::Block { table, timeout_ms }) => return Outcome::Blocked { table, timeout_ms },
            Err(error) => {
                results.push(error.to_json());
                results.resize(ops.len(), Value::Null);
                return Outcome::Done { results, commit: None };
            }
        }
    }
    let comment = executor.comments.join("\n");
    let commit = match finish(executor.overlay, id, executor.symbols) {
        Ok(mut commit) => {
            commit.comment = Some(comment).filter(|c| !c.is_empty());
            Some(Box::new(commit)).filter(|c| !c.is_empty())
        }
        Err(error) => {
            results.push(error.to_json());
            None
        }
    };
    Outcome::Done { results, commit }
}

/// Applies the commit-time rules and gives changed rows their new versions.
fn finish(
    mut overlay: Overlay<'_>,
    id: crate::uuids::Uuid,
    mut symbols: Symbols<'_>,
) -> Result<Commit, OvsdbError> {
    settle::settle(&mut overlay)?;
    let schema = Arc::clone(overlay.db.schema());
    let mut tables = overlay.changes();
    drop(overlay);
    for change in tables.values_mut().flat_map(|rows| rows.values_mut()) {
        if let Some(new) = &mut change.new {
            Arc::make_mut(new).version = symbols.fresh();
        }
    }
    Ok(Commit::new(id, schema, tables))
}

/// An insert with both `uuid` and `uuid-name` fixes the name, also for uses before it.
fn preset_names(symbols: &mut Symbols<'_>, ops: &[Value]) {
    for op in ops {
        let text = |member: &str| op.get(member).and_then(Value::as_str);
        if let (Some("insert"), Some(name), Some(uuid)) =
            (text("op"), text("uuid-name"), text("uuid").and_then(parse_uuid))
        {
            symbols.preset(name, uuid);
        }
    }
}
