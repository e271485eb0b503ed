//! What was put right, how often, and who was told? Each thing is logged once a minute at most and counted always.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// For so long the same mend is not logged again.
const QUIET: Duration = Duration::from_secs(60);
/// Mends whose log is remembered.
const REMEMBERED: usize = 4096;

/// Mends, counted by cause.
#[derive(Debug, Default)]
pub struct Ledger {
    counts: BTreeMap<&'static str, u64>,
    logged: HashMap<String, Instant>,
    /// What is wrong now, and what was before.
    now: BTreeSet<String>,
    before: BTreeSet<String>,
}

impl Ledger {
    /// Something was made so; `again`: it had been so before, and somebody changed it.
    pub fn told(&mut self, cause: &'static str, again: bool, what: &str) {
        if !again {
            tracing::debug!(what, "made");
            return;
        }
        *self.counts.entry(cause).or_default() += 1;
        if self.logged.len() > REMEMBERED {
            self.logged.retain(|_, at| at.elapsed() < QUIET);
        }
        let quiet = self.logged.get(what).is_some_and(|at| at.elapsed() < QUIET);
        if !quiet {
            tracing::info!(cause, what, "put right what somebody changed");
            self.logged.insert(what.to_owned(), Instant::now());
        }
    }

    /// Something cannot be made so. It is logged once, however long it stays so.
    pub fn wrong(&mut self, why: String) {
        if !self.before.contains(&why) && !self.now.contains(&why) {
            tracing::warn!(why, "the host's part of the networks");
        }
        self.now.insert(why);
    }

    /// A look at everything is over.
    pub fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// What can be told.
    pub fn told_of(&self) -> Told {
        let counts = self.counts.iter().map(|(cause, n)| (format!("healed_{cause}"), *n)).collect();
        Told { counts, troubles: self.before.union(&self.now).cloned().collect() }
    }
}

/// What is told of a [`Ledger`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How often something was put right, by cause.
    pub counts: BTreeMap<String, u64>,
    /// What is wrong.
    pub troubles: Vec<String>,
}
