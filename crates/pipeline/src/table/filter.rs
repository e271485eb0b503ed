//! Which rules does a question ask for?

use std::sync::Arc;

use weft_flow::{Match, OfPort};

use super::TableSet;
use super::flow_mod::GROUP_ANY;
use super::rule::Rule;
use crate::classifier::MiniMatch;

/// Which rules to list.
#[derive(Clone, Debug)]
pub struct RuleFilter {
    /// Table; `None`: all.
    pub table: Option<u8>,
    /// Rules whose match is this or narrower.
    pub matching: Match,
    /// Value of cookies in the bits of `cookie_mask`.
    pub cookie: u64,
    /// Bits of cookies that count.
    pub cookie_mask: u64,
    /// Rules that output to this port; [`OfPort::ANY`]: all.
    pub out_port: OfPort,
    /// Rules that execute this group; 0xffffffff (`OFPG_ANY`): all.
    pub out_group: u32,
}

impl Default for RuleFilter {
    fn default() -> Self {
        RuleFilter {
            table: None,
            matching: Match::any(),
            cookie: 0,
            cookie_mask: 0,
            out_port: OfPort::ANY,
            out_group: GROUP_ANY,
        }
    }
}

impl RuleFilter {
    /// Whether a rule is one of those asked for; `wanted` is the filter's match.
    pub(crate) fn selects(&self, rule: &Rule, wanted: &MiniMatch) -> bool {
        (rule.cookie ^ self.cookie) & self.cookie_mask == 0
            && (self.out_port == OfPort::ANY || rule.outputs_to(self.out_port))
            && (self.out_group == GROUP_ANY || rule.uses_group(self.out_group))
            && rule.matching.is_within(wanted)
    }

    /// Whether it asks for every rule of its tables.
    pub(crate) fn is_everything(&self, wanted: &MiniMatch) -> bool {
        self.cookie_mask == 0
            && self.out_port == OfPort::ANY
            && self.out_group == GROUP_ANY
            && wanted.is_any()
    }
}

impl TableSet {
    /// The rules that a filter selects: by table, then highest priority first, then oldest first.
    pub fn rules(&self, filter: &RuleFilter) -> Vec<Arc<Rule>> {
        let mut rules = self.select(filter, &MiniMatch::new(&filter.matching));
        rules.sort_by_key(|r| (r.table, std::cmp::Reverse(r.priority), r.id));
        rules
    }

    /// The rules that a filter selects, in no particular order.
    pub(super) fn select(&self, filter: &RuleFilter, wanted: &MiniMatch) -> Vec<Arc<Rule>> {
        let rules = self.each_table(filter.table).flat_map(|t| t.classifier.iter());
        if filter.is_everything(wanted) {
            return rules.cloned().collect();
        }
        rules.filter(|rule| filter.selects(rule, wanted)).cloned().collect()
    }
}
