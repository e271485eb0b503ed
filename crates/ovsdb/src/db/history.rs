//! What happened since a transaction a client still remembers?

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Commit, RowChange};
use crate::uuids::Uuid;

/// How much of the past is kept for `monitor_cond_since`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Most commits.
    pub commits: usize,
    /// Most changed rows in all commits together.
    pub rows: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { commits: 200, rows: 50_000 }
    }
}

/// The latest commits, oldest first, after the state named `base`.
#[derive(Debug, Clone)]
pub(crate) struct History {
    base: Uuid,
    commits: VecDeque<Arc<Commit>>,
    rows: usize,
    limits: HistoryLimits,
}

impl History {
    pub(crate) fn new(base: Uuid, limits: HistoryLimits) -> Self {
        Self { base, commits: VecDeque::new(), rows: 0, limits }
    }

    pub(crate) fn set_limits(&mut self, limits: HistoryLimits) {
        self.limits = limits;
        self.trim();
    }

    pub(crate) fn last_id(&self) -> Uuid {
        self.commits.back().map_or(self.base, |c| c.id)
    }

    pub(crate) fn push(&mut self, commit: Arc<Commit>) {
        self.rows += commit.row_count();
        self.commits.push_back(commit);
        self.trim();
    }

    /// Forgets the latest commit, if it is the one named.
    pub(crate) fn pop(&mut self, id: Uuid) {
        if self.commits.back().is_some_and(|c| c.id == id)
            && let Some(commit) = self.commits.pop_back()
        {
            self.rows -= commit.row_count();
        }
    }

    fn trim(&mut self) {
        while self.commits.len() > self.limits.commits || self.rows > self.limits.rows {
            let Some(commit) = self.commits.pop_front() else {
                return;
            };
            self.rows -= commit.row_count();
            self.base = commit.id;
        }
    }

    /// All changes after the state named `id`, a row's several changes folded into one;
    /// `None` when that state is not remembered.
    pub(crate) fn since(&self, id: Uuid) -> Option<BTreeMap<usize, BTreeMap<Uuid, RowChange>>> {
        let start = if id == self.base { 0 } else { self.commits.iter().position(|c| c.id == id)? + 1 };
        let mut merged: BTreeMap<usize, BTreeMap<Uuid, RowChange>> = BTreeMap::new();
        for (table, rows) in self.commits.range(start..).flat_map(|c| c.positions()) {
            let table = merged.entry(table).or_default();
            for (uuid, change) in rows {
                table
                    .entry(*uuid)
                    .and_modify(|m| m.new = change.new.clone())
                    .or_insert_with(|| change.clone());
            }
        }
        for table in merged.values_mut() {
            table.retain(|_, change| change.old.is_some() || change.new.is_some());
        }
        Some(merged)
    }
}
