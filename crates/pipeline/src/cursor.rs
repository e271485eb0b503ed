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
        self.visit(n, &mut |rule| page.push(rule.clone()));
        page
    }

    /// Shows what [`RuleCursor::next_page`] would return.
    pub fn visit(&mut self, n: usize, each: &mut dyn FnMut(&Arc<Rule>)) {
        let (mut shown, mut looked) = (0, 0);
        let all = self.filter.is_everything(&self.wanted);
        while shown < n && looked < SORTED && !self.is_done() {
            if !self.sorted.is_empty() {
                let keep = self.sorted.len().saturating_sub(n - shown);
                shown += self.sorted.len() - keep;
                self.sorted.drain(keep..).rev().for_each(|rule| each(&rule));
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
                if all || filter.selects(rule, wanted) {
                    shown += 1;
                    each(rule);
                }
                shown < n && looked < SORTED
            });
            if !more {
                self.next_table();
            }
        }
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
