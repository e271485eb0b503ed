//! Does listing page by page give every rule once, small tables in order, whatever the size of a page?

mod common;

use std::collections::BTreeSet;

use common::flow_mod;
use weft_pipeline::{RuleCursor, RuleFilter, TableSet};

fn tables(count: u32) -> TableSet {
    let mut tables = TableSet::new();
    for i in 0..count {
        let line = format!(
            "cookie={i},table={},priority={},ip,nw_dst=10.{}.{}.{}/{},actions=drop",
            if i % 100 == 99 { 7 } else { 0 },
            i % 5,
            i >> 16,
            i >> 8 & 255,
            i & 255,
            31 + i % 2
        );
        tables.apply(&flow_mod(&line), 0).unwrap();
    }
    tables
}

#[test]
fn every_rule_once() {
    for (count, page) in [(0, 3), (5, 1), (5, 2), (300, 7), (30_000, 500), (30_000, 100_000)] {
        let tables = tables(count);
        for filter in [RuleFilter::default(), RuleFilter { table: Some(7), ..RuleFilter::default() }] {
            let expected: BTreeSet<u64> = tables.rules(&filter).iter().map(|r| r.cookie).collect();
            let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
            let mut cursor = RuleCursor::new(tables.clone(), filter);
            while !cursor.is_done() {
                let rules = cursor.next_page(page);
                assert!(rules.len() <= page);
                for rule in rules {
                    assert!(seen.insert(rule.cookie), "{} twice", rule.cookie);
                    order.push((rule.table, std::cmp::Reverse(rule.priority), rule.id));
                }
            }
            assert_eq!(seen, expected);
            assert!(count > 8192 || order.is_sorted());
            assert!(cursor.next_page(10).is_empty());
        }
    }
}
