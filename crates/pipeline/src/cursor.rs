//! How are a million rules listed without holding a list of them? Page by page, from a picture that does not change.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::classifier::{Classifier, MiniMatch, Position};
use crate::table::{Rule, RuleFilter, TableSet};

/// Tables up to this size are listed by priority, larger ones mask by mask.
const SORTED: usize = 8192;

/// A walk through the rules that a filter selects. Holds the tables as they were when it began, and a page at most.
#[derive(Clone, Debug)]
pub struct RuleCursor {
    tables: TableSet,
    filter: RuleFilter,
    wanted: MiniMatch,
    /// The table being listed; `None` when done.
    table: Option<u8>,
    position: Position,
    /// Rules of a small table, still to be listed, last one first.
    sorted: Vec<Arc<Rule>>,
}

impl RuleCursor {
    /// Before the first rule.
    pub fn new(tables: TableSet, filter: RuleFilter) -> RuleCursor {
        RuleCursor {
            wanted: MiniMatch::new(&filter.matching),
            table: filter.table.or_else(|| tables.next_table(None)),
            tables,
            filter,
            position: Position::default(),
            sorted: Vec::new(),
        }
    }

    /// The next rules, `n` at most: by table, in small tables by priority and then by age. Looks at no more than some
    /// thousands; so a page may be empty although others follow.
    pub fn next_page(&mut self, n: usize) -> Vec<Arc<Rule>> {
        let mut page = Vec::new();
        let mut looked = 0;
        while page.len() < n && looked < SORTED && !self.is_done() {
            if !self.sorted.is_empty() {
                let keep = self.sorted.len().saturating_sub(n - page.len());
                page.extend(self.sorted.drain(keep..).rev());
                if self.sorted.is_empty() {
                    self.next_table();
                }
                continue;
            }
            let Some(classifier) = self.table.and_then(|n| self.tables.table(n)).map(|t| &t.classifier)
            else {
                self.next_table();
                continue;
            };
            if classifier.len() <= SORTED {
                looked += classifier.len();
                self.sorted = self.small(classifier);
                if self.sorted.is_empty() {
                    self.next_table();
                }
                continue;
            }
            let (filter, wanted) = (&self.filter, &self.wanted);
            let more = classifier.scan(&mut self.position, |rule| {
                looked += 1;
                if filter.selects(rule, wanted) {
                    page.push(rule.clone());
                }
                page.len() < n && looked < SORTED
            });
            if !more {
                self.next_table();
            }
        }
        page
    }

    /// Whether all rules were listed.
    pub fn is_done(&self) -> bool {
        self.table.is_none()
    }

    fn small(&self, classifier: &Classifier) -> Vec<Arc<Rule>> {
        let mut rules: Vec<_> =
            classifier.iter().filter(|r| self.filter.selects(r, &self.wanted)).cloned().collect();
        rules.sort_by_key(|r| (Reverse(r.priority), r.id));
        rules.reverse();
        rules
    }

    fn next_table(&mut self) {
        self.position = Position::default();
        self.table = match self.filter.table {
            Some(_) => None,
            None => self.tables.next_table(self.table),
        };
    }
}
