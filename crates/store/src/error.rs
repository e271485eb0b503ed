//! Why did the store refuse?

use weft_model::{ObjectRef, Problems};

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed it in between.
    #[error("{object} is at version {found} and not {expected}; read it again and repeat the change")]
    Conflict {
        /// What.
        object: ObjectRef,
        /// Version that the change was made from; 0 for "does not exist".
        expected: u64,
        /// Version that it has; 0 when it does not exist.
        found: u64,
    },
    /// It does not exist.
    #[error("there is no {0}")]
    NotFound(ObjectRef),
    /// The resources would be invalid or contradict each other.
    #[error("{0}")]
    Invalid(Problems),
    /// Others refer to it.
    #[error("{object} is used by {}; delete them first", list(users))]
    InUse {
        /// What.
        object: ObjectRef,
        /// By whom.
        users: Vec<ObjectRef>,
    },
    /// The history begins later.
    #[error("changes after version {after} are forgotten; list again and watch from there")]
    Compacted {
        /// The version asked for.
        after: u64,
        /// The lowest version that can be asked for now.
        oldest: u64,
    },
    /// The version lies in the future: it is of another store.
    #[error("version {0} has not happened yet; list again and watch from there")]
    Future(u64),
    /// There is no room.
    #[error("there are {0} resources already; delete some")]
    Full(usize),
    /// Another process has the file open.
    #[error("{0} is open in another process")]
    Busy(String),
    /// The disk or its contents fail.
    #[error("{0}")]
    Disk(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

fn list(users: &[ObjectRef]) -> String {
    let mut text: Vec<String> = users.iter().take(5).map(ToString::to_string).collect();
    if users.len() > 5 {
        text.push(format!("{} more", users.len() - 5));
    }
    text.join(", ")
}
