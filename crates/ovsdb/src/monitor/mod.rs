//! Which changes does a client want to hear of (RFC 7047 §4.1.5, ovsdb-server(7) §4.1.12 ff.)?

mod request;
mod update;

use std::collections::BTreeMap;

use crate::db::Row;
use crate::txn::{ColumnRef, Condition};

/// Which dialect a monitor speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// `monitor` and `update`: whole old and new values.
    Plain,
    /// `monitor_cond` and `update2`: differences.
    Conditional,
    /// `monitor_cond_since` and `update3`: differences with a transaction id.
    Since,
}

/// `<monitor-select>`: which kinds of change are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Select {
    initial: bool,
    insert: bool,
    delete: bool,
    modify: bool,
}

/// The kind of one row's change, as one monitor sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Initial,
    Insert,
    Delete,
    Modify,
}

impl Select {
    const ALL: Self = Self { initial: true, insert: true, delete: true, modify: true };
    const NONE: Self = Self { initial: false, insert: false, delete: false, modify: false };

    fn or(self, other: Self) -> Self {
        Self {
            initial: self.initial || other.initial,
            insert: self.insert || other.insert,
            delete: self.delete || other.delete,
            modify: self.modify || other.modify,
        }
    }

    fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Initial => self.initial,
            Kind::Insert => self.insert,
            Kind::Delete => self.delete,
            Kind::Modify => self.modify,
        }
    }
}

/// The columns and rows of one table a monitor covers.
#[derive(Debug, Clone)]
struct TableMonitor {
    columns: Vec<(ColumnRef, Select)>,
    /// A row is covered when any of these holds; there is at least one.
    conditions: Vec<Condition>,
    /// The kinds of change any group of columns is told.
    select: Select,
}

impl TableMonitor {
    fn covers(&self, row: &Row) -> bool {
        self.conditions.iter().any(|c| c.matches_any(row))
    }

    fn tells(&self, kind: Kind) -> bool {
        self.select.has(kind)
    }
}

/// One monitor of one client.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    flavor: Flavor,
    tables: BTreeMap<usize, TableMonitor>,
}
