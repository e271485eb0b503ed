//! Do flow-mods change tables as OpenFlow says?

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::flow_mod;
use weft_flow::{Match, OfPort};
use weft_pipeline::{
    ALL_TABLES, FailMode, FlowMod, FlowModCommand, FlowModError, FlowModOutcome, RemovedReason, Rule,
    RuleFilter, TableSet,
};

fn tables(lines: &[&str]) -> TableSet {
    let mut tables = TableSet::new();
    for line in lines {
        tables.apply(&flow_mod(line), 0).unwrap();
    }
    tables
}

/// A flow-mod with another command than add; `line` may leave actions out.
fn change(command: FlowModCommand, line: &str) -> FlowMod {
    let line = if line.contains("actions=") { line.to_owned() } else { format!("{line},actions=drop") };
    FlowMod { command, ..flow_mod(line.trim_start_matches(',')) }
}

fn delete(strict: bool, line: &str) -> FlowMod {
    change(FlowModCommand::Delete { strict }, line)
}

fn modify(strict: bool, or_add: bool, line: &str) -> FlowMod {
    change(FlowModCommand::Modify { strict, or_add }, line)
}

/// Cookies of all rules, in order of table, priority, age.
fn cookies(tables: &TableSet) -> Vec<u64> {
    tables.rules(&RuleFilter::default()).iter().map(|r| r.cookie).collect()
}

const RULES: &[&str] = &[
    "cookie=1,priority=10,ip,nw_dst=10.0.0.0/8,actions=1",
    "cookie=2,priority=20,ip,nw_dst=10.1.0.0/16,actions=2",
    "cookie=3,priority=20,tcp,tp_dst=80,actions=clone(3)",
    "cookie=4,priority=30,arp,actions=write_actions(output:2)",
    "cookie=5,table=1,priority=10,ip,nw_dst=10.0.0.0/8,actions=controller",
];

#[test]
fn listing() {
    let tables = tables(RULES);
    assert_eq!(cookies(&tables), [4, 2, 3, 1, 5]);
    let select = |filter: RuleFilter| tables.rules(&filter).iter().map(|r| r.cookie).collect::<Vec<_>>();
    let any = RuleFilter::default;
    assert_eq!(select(RuleFilter { table: Some(1), ..any() }), [5]);
    assert_eq!(select(RuleFilter { matching: flow_mod("ip,actions=").matching, ..any() }), [2, 3, 1, 5]);
    assert_eq!(
        select(RuleFilter { matching: flow_mod("ip,nw_dst=10.0.0.0/8,actions=").matching, ..any() }),
        [2, 1, 5]
    );
    assert_eq!(select(RuleFilter { cookie: 1, cookie_mask: 1, ..any() }), [3, 1, 5]);
    let port = |port| select(RuleFilter { out_port: port, ..any() });
    assert_eq!(port(OfPort(2)), [4, 2]);
    assert_eq!(port(OfPort(3)), [3]);
    assert_eq!(port(OfPort::CONTROLLER), [5]);
    assert_eq!(
        (tables.len(), tables.stats(0).active, tables.stats(0).masks, tables.stats(9).active),
        (5, 4, 4, 0)
    );
}

#[test]
fn deleting() {
    // Flow-mod, what is left.
    let cases: &[(FlowMod, &[u64])] = &[
        (delete(false, "ip"), &[4, 5]),
        (delete(false, "ip,nw_dst=10.0.0.0/8"), &[4, 3, 5]),
        (delete(false, "ip,nw_dst=10.1.1.1"), &[4, 2, 3, 1, 5]),
        (FlowMod { table: ALL_TABLES, ..delete(false, "ip,nw_dst=10.0.0.0/8") }, &[4, 3]),
        (FlowMod { table: ALL_TABLES, ..delete(false, "") }, &[]),
        (delete(true, "priority=10,ip,nw_dst=10.0.0.0/8"), &[4, 2, 3, 5]),
        (delete(true, "priority=11,ip,nw_dst=10.0.0.0/8"), &[4, 2, 3, 1, 5]),
        (delete(true, "priority=10,ip,nw_dst=10.0.0.0/9"), &[4, 2, 3, 1, 5]),
        (FlowMod { table: ALL_TABLES, ..delete(true, "priority=10,ip,nw_dst=10.0.0.0/8") }, &[4, 2, 3]),
        (FlowMod { out_port: OfPort(2), ..delete(false, "") }, &[3, 1, 5]),
        (FlowMod { cookie_match: 3, cookie_mask: u64::MAX, ..delete(false, "") }, &[4, 2, 1, 5]),
    ];
    for (flow_mod, left) in cases {
        let mut tables = tables(RULES);
        let before = tables.clone();
        let outcome = tables.apply(flow_mod, 0).unwrap();
        assert_eq!(cookies(&tables), *left, "{flow_mod:?}");
        assert_eq!(outcome.removed.len(), 5 - left.len());
        assert!(outcome.removed.iter().all(|r| r.reason == RemovedReason::Delete));
        assert_eq!(cookies(&before), [4, 2, 3, 1, 5], "the old version stays");
    }
}

fn one(outcome: FlowModOutcome) -> Arc<Rule> {
    let modified = outcome.modified.into_iter().map(|m| m.rule);
    let [rule] = &outcome.added.into_iter().chain(modified).collect::<Vec<_>>()[..] else { panic!() };
    rule.clone()
}

#[test]
fn replacing_and_modifying_keep_counters_unless_asked() {
    let mut tables = tables(RULES);
    let rule = tables.rules(&RuleFilter::default())[3].clone();
    rule.stats.credit(5, 500, 7);
    let again =
        one(tables.apply(&flow_mod("cookie=9,priority=10,ip,nw_dst=10.0.0.0/8,actions=7"), 50).unwrap());
    assert_eq!((again.cookie, again.created_ms, again.stats.packets.load(Ordering::Relaxed)), (9, 50, 5));
    assert_eq!(tables.len(), 5);
    // Modify: counters and creation stay, the cookie only changes with OpenFlow 1.0's semantics.
    let changed = one(tables
        .apply(&modify(true, false, "cookie=8,priority=10,ip,nw_dst=10.0.0.0/8,actions=8"), 60)
        .unwrap());
    assert_eq!((changed.cookie, changed.created_ms, changed.modified_ms), (9, 50, 60));
    assert_eq!(changed.instructions, flow_mod("actions=8").instructions.into());
    assert_eq!(changed.stats.packets.load(Ordering::Relaxed), 5);
    let changed = one(tables
        .apply(&modify(true, true, "cookie=8,priority=10,ip,nw_dst=10.0.0.0/8,actions=8"), 60)
        .unwrap());
    assert_eq!(changed.cookie, 8);
    let mut reset = modify(true, false, "priority=10,ip,nw_dst=10.0.0.0/8,actions=8");
    reset.flags.reset_counts = true;
    assert_eq!(one(tables.apply(&reset, 60).unwrap()).stats.packets.load(Ordering::Relaxed), 0);
    // Not strict: all that are covered.
    let outcome = tables.apply(&modify(false, false, "ip,actions=1"), 0).unwrap();
    assert_eq!(outcome.modified.len(), 3);
    // Nothing to modify.
    assert!(tables.apply(&modify(false, false, "dl_type=0x999,actions=1"), 0).unwrap().modified.is_empty());
    assert_eq!(tables.apply(&modify(false, true, "dl_type=0x999,actions=1"), 0).unwrap().added.len(), 1);
}

#[test]
fn what_is_refused_changes_nothing() {
    let overlapping = |line| {
        let mut flow_mod = flow_mod(line);
        flow_mod.flags.check_overlap = true;
        flow_mod
    };
    let cases = [
        (overlapping("priority=20,ip,nw_dst=10.1.2.0/24,actions=1"), FlowModError::Overlap { table: 0 }),
        (overlapping("priority=20,udp,actions=1"), FlowModError::Overlap { table: 0 }),
        (FlowMod { table: ALL_TABLES, ..flow_mod("actions=1") }, FlowModError::BadTableId(255)),
        (flow_mod("table=3,actions=goto_table:3"), FlowModError::BadGoto { from: 3, to: 3 }),
        (flow_mod("table=3,actions=goto_table:2"), FlowModError::BadGoto { from: 3, to: 2 }),
        (modify(false, false, "actions=goto_table:0"), FlowModError::BadGoto { from: 0, to: 0 }),
    ];
    let mut tables = tables(RULES);
    for (flow_mod, error) in cases {
        assert_eq!(tables.apply(&flow_mod, 0).unwrap_err(), error);
        assert!(error.to_string().starts_with("OFP"));
        assert_eq!(cookies(&tables), [4, 2, 3, 1, 5]);
    }
    let apart = overlapping("priority=20,arp,actions=1");
    assert_eq!(tables.apply(&apart, 0).unwrap().added.len(), 1);
    tables.set_limit(5);
    let full = FlowModError::TableFull { table: 0, limit: 5 };
    assert_eq!(tables.apply(&flow_mod("actions=1"), 0).unwrap_err(), full);
    assert!(tables.apply(&apart_again(), 0).is_ok());
}

fn apart_again() -> FlowMod {
    flow_mod("priority=20,arp,actions=2")
}

#[test]
fn rules_expire() {
    let mut tables = tables(&[
        "cookie=1,actions=1",
        "cookie=2,ip,idle_timeout=10,actions=1",
        "cookie=3,arp,hard_timeout=20,actions=1",
        "cookie=4,tcp,idle_timeout=10,hard_timeout=15,actions=1",
    ]);
    assert_eq!(tables.next_expiry(), Some(10_000));
    assert!(tables.expire(9_999).is_empty());
    for rule in tables.rules(&RuleFilter::default()).iter().filter(|r| r.cookie == 4) {
        rule.stats.credit(1, 60, 9_000);
    }
    let gone = |tables: &mut TableSet, now| {
        tables.expire(now).removed.iter().map(|r| (r.rule.cookie, r.reason)).collect::<Vec<_>>()
    };
    assert_eq!(gone(&mut tables, 10_000), [(2, RemovedReason::IdleTimeout)]);
    assert_eq!(gone(&mut tables, 15_000), [(4, RemovedReason::HardTimeout)]);
    assert_eq!(gone(&mut tables, 15_000), []);
    // Modifying starts the hard timeout anew.
    tables.apply(&modify(false, false, "arp,actions=2"), 19_000).unwrap();
    assert_eq!(gone(&mut tables, 38_000), []);
    assert_eq!(gone(&mut tables, 39_000), [(3, RemovedReason::HardTimeout)]);
    assert_eq!((tables.next_expiry(), cookies(&tables)), (None, vec![1]));
}

#[test]
fn fresh_bridges() {
    let initial = TableSet::initial(FailMode::Standalone);
    let rules = initial.rules(&RuleFilter::default());
    assert_eq!(rules.len(), 1);
    assert_eq!((rules[0].priority, rules[0].matching.expand()), (0, Match::any()));
    assert_eq!(rules[0].instructions, flow_mod("actions=normal").instructions.into());
    assert!(TableSet::initial(FailMode::Secure).is_empty());
}

#[test]
fn tables_count_packets_of_rules_that_went() {
    let pipeline =
        common::pipeline(vec![common::bridge(1, vec![common::device(1, 1), common::device(1, 2)])]);
    common::flows(&pipeline, 1, "ip,actions=2");
    let credit = |text| {
        for rule in pipeline.walk(&common::packet(1, text), 0).rules {
            rule.stats.credit(1, 60, 5);
        }
    };
    credit("in_port=1,ip");
    credit("in_port=1,ip");
    credit("in_port=1,arp");
    let stats = pipeline.snapshot().bridge(1).unwrap().tables.stats(0);
    assert_eq!((stats.lookups, stats.matched), (3, 2));
    pipeline.update(|s| s.tables_mut(1).unwrap().apply(&delete(false, ""), 0)).unwrap();
    let stats = pipeline.snapshot().bridge(1).unwrap().tables.stats(0);
    assert_eq!((stats.active, stats.lookups, stats.matched), (0, 3, 2));
}
