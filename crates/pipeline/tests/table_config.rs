//! Do limits, eviction, vacancy, bundles and everything that takes rules along do what OpenFlow says?

mod common;

use common::flow_mod;
use proptest::prelude::*;
use weft_flow::{Action, Field, Match, OfPort, Subfield};
use weft_pipeline::{
    ALL_TABLES, FlowMod, FlowModCommand, FlowModError, FlowModOutcome, INTERNAL_TABLE, Learned, MAX_RULES,
    RemovedReason, RuleFilter, TableConfig, TableMiss, TableSet, Vacancy,
};

fn tables(lines: &[&str]) -> TableSet {
    let mut tables = TableSet::new();
    for line in lines {
        tables.apply(&flow_mod(line), 0).unwrap();
    }
    tables
}

fn cookies(tables: &TableSet) -> Vec<u64> {
    let mut all: Vec<u64> = tables.rules(&RuleFilter::default()).iter().map(|r| r.cookie).collect();
    all.sort_unstable();
    all
}

fn gone(outcome: &FlowModOutcome) -> Vec<(u64, RemovedReason)> {
    outcome.removed.iter().map(|r| (r.rule.cookie, r.reason)).collect()
}

fn important(importance: u16, line: &str) -> FlowMod {
    FlowMod { importance, ..flow_mod(line) }
}

fn delete(line: &str) -> FlowMod {
    FlowMod { command: FlowModCommand::Delete { strict: false }, ..flow_mod(line) }
}

#[test]
fn full_tables_refuse_or_evict() {
    let full = |change: fn(&mut TableConfig)| {
        let mut tables = TableSet::new();
        tables.configure(ALL_TABLES, |c| c.max_rules = 4);
        tables.configure(0, change);
        tables.apply(&important(5, "cookie=1,in_port=1,hard_timeout=50,actions=1"), 0).unwrap();
        tables.apply(&important(3, "cookie=2,in_port=2,hard_timeout=90,actions=1"), 0).unwrap();
        tables.apply(&important(3, "cookie=3,in_port=3,idle_timeout=80,actions=1"), 0).unwrap();
        tables.apply(&flow_mod("cookie=4,in_port=4,actions=1"), 0).unwrap();
        tables
    };
    let refused = FlowModError::TableFull { table: 0, limit: 4 };
    let mut tables = full(|_| ());
    assert_eq!(tables.apply(&flow_mod("cookie=9,in_port=9,actions=1"), 0).unwrap_err(), refused);
    assert!(tables.apply(&flow_mod("table=1,in_port=9,actions=1"), 0).is_ok());
    // A rule in the place of another needs no room.
    let again = tables.apply(&flow_mod("cookie=5,in_port=4,actions=2"), 0).unwrap();
    assert_eq!((again.replaced[0].cookie, again.removed.len()), (4, 0));
    for evicts in [(|c| c.evict = true) as fn(&mut TableConfig), |c| c.overflow_evict = true] {
        let mut tables = full(evicts);
        // Of the least important, the one that ends first; those without a timeout stay.
        for (n, evicted) in [(11, 3), (12, 2), (13, 1)] {
            let line = format!("cookie={n},in_port={n},actions=1");
            let outcome = tables.apply(&flow_mod(&line), 0).unwrap();
            assert_eq!(gone(&outcome), [(evicted, RemovedReason::Eviction)]);
        }
        assert_eq!(tables.apply(&flow_mod("in_port=14,actions=1"), 0).unwrap_err(), refused);
        assert_eq!(cookies(&tables), [4, 11, 12, 13]);
    }
    // A limit set too late evicts what it may.
    let mut tables = full(|c| c.evict = true);
    let outcome = tables.configure(0, |c| c.max_rules = 2);
    assert_eq!(gone(&outcome), [(3, RemovedReason::Eviction), (2, RemovedReason::Eviction)]);
}

#[test]
fn the_largest_group_gives_up_a_rule() {
    let mut tables = TableSet::new();
    let port = Subfield { field: Field::InPort, start: 0, bits: 32 };
    tables.configure(0, |c| {
        (c.max_rules, c.overflow_evict, c.groups) = (5, true, vec![port]);
    });
    for (n, line) in [
        (1, "in_port=1,hard_timeout=1"),
        (2, "in_port=2,hard_timeout=9,ip"),
        (3, "in_port=2,hard_timeout=8,arp"),
    ] {
        tables.apply(&flow_mod(&format!("cookie={n},{line},actions=1")), 0).unwrap();
    }
    // Rules that may not be evicted make no group large.
    for n in [4, 5] {
        tables.apply(&flow_mod(&format!("cookie={n},in_port=3,tcp,tp_dst={n},actions=1")), 0).unwrap();
    }
    let outcome = tables.apply(&flow_mod("cookie=6,actions=1"), 0).unwrap();
    assert_eq!(gone(&outcome), [(3, RemovedReason::Eviction)]);
}

#[test]
fn vacancy_is_told_once_each_way() {
    let mut tables = TableSet::new();
    tables.configure(0, |c| {
        (c.max_rules, c.vacancy) = (10, Some(Vacancy { down: 30, up: 50 }));
    });
    let mut told = Vec::new();
    for n in 0..10 {
        let outcome = tables.apply(&flow_mod(&format!("cookie={n},in_port={n},actions=1")), 0).unwrap();
        told.extend(outcome.events);
    }
    assert_eq!(tables.vacancy(0), 0);
    for n in 0..10 {
        told.extend(tables.apply(&delete(&format!("in_port={n},actions=")), 0).unwrap().events);
    }
    let told: Vec<_> = told.iter().map(|e| (e.table, e.down, e.vacancy)).collect();
    assert_eq!(told, [(0, true, 20), (0, false, 60)]);
    assert_eq!(tables.vacancy(0), 100);
}

#[test]
fn configuration_is_by_table_or_of_all() {
    let mut tables = TableSet::new();
    assert_eq!((tables.miss(7), tables.table_config(7).max_rules), (TableMiss::Default, MAX_RULES));
    tables.configure(7, |c| c.miss = TableMiss::Drop);
    assert_eq!((tables.miss(7), tables.miss(8)), (TableMiss::Drop, TableMiss::Default));
    tables.configure(ALL_TABLES, |c| c.miss = TableMiss::Continue);
    assert_eq!((tables.miss(7), tables.miss(8)), (TableMiss::Continue, TableMiss::Continue));
    tables.apply(&flow_mod("table=9,actions=1"), 0).unwrap();
    assert_eq!(tables.miss(9), TableMiss::Continue);
    // The switch's own table is not for controllers.
    let mut own = flow_mod("actions=1");
    own.table = INTERNAL_TABLE;
    assert_eq!(tables.apply(&own, 0).unwrap_err(), FlowModError::ReadOnly(INTERNAL_TABLE));
    let leads_there = FlowModError::BadGoto { from: 0, to: INTERNAL_TABLE };
    assert_eq!(tables.apply(&flow_mod("actions=goto_table:254"), 0).unwrap_err(), leads_there);
}

#[test]
fn bundles_are_whole_and_in_order() {
    let mut tables = tables(&["cookie=1,in_port=1,actions=1"]);
    let bundle = [
        flow_mod("cookie=2,in_port=2,actions=1"),
        delete("actions="),
        flow_mod("cookie=3,in_port=1,actions=1"),
        flow_mod("cookie=4,in_port=1,actions=2"),
    ];
    let outcome = tables.apply_all(&bundle, 0).unwrap();
    let added: Vec<u64> = outcome.added.iter().map(|r| r.cookie).collect();
    assert_eq!((added, outcome.replaced[0].cookie, cookies(&tables)), (vec![2, 3, 4], 3, vec![4]));
    assert_eq!(gone(&outcome).len(), 2);
    let broken = [delete("actions="), flow_mod("table=3,actions=goto_table:1")];
    assert_eq!(tables.apply_all(&broken, 0).unwrap_err(), (1, FlowModError::BadGoto { from: 3, to: 1 }));
    assert_eq!(cookies(&tables), [4]);
}

#[test]
fn rules_go_with_their_group_or_meter() {
    let lines = [
        "cookie=1,in_port=1,actions=group:7",
        "cookie=2,in_port=2,actions=clone(output:1,group:7),2",
        "cookie=3,in_port=3,actions=write_actions(group:8)",
        "cookie=4,in_port=4,actions=meter:7,1",
        "cookie=5,in_port=5,actions=1",
    ];
    let mut by_group = tables(&lines);
    let before = by_group.clone();
    assert_eq!(by_group.delete_group_users(9).removed.len(), 0);
    let mut outcome = by_group.delete_group_users(7);
    outcome.removed.sort_by_key(|r| r.rule.cookie);
    assert_eq!(gone(&outcome), [(1, RemovedReason::GroupDelete), (2, RemovedReason::GroupDelete)]);
    assert_eq!(gone(&by_group.delete_group_users(7)), []);
    let mut all = before.clone();
    assert_eq!(all.delete_group_users(0xffff_fffc).removed.len(), 3);
    let mut by_meter = before.clone();
    assert_eq!(gone(&by_meter.delete_meter_users(7)), [(4, RemovedReason::MeterDelete)]);
    // Deleting and listing by group.
    let mut deleted = before.clone();
    deleted.apply(&FlowMod { out_group: 7, ..delete("actions=") }, 0).unwrap();
    assert_eq!(cookies(&deleted), [3, 4, 5]);
    let eight = before.rules(&RuleFilter { out_group: 8, ..RuleFilter::default() });
    assert_eq!(eight.iter().map(|r| r.cookie).collect::<Vec<_>>(), [3]);
    // A rule modified is no longer there for the group.
    let modify = FlowModCommand::Modify { strict: false, or_add: false };
    let mut modified = before;
    modified.apply(&FlowMod { command: modify, ..flow_mod("actions=drop") }, 0).unwrap();
    assert_eq!(modified.delete_group_users(7).removed.len(), 0);
}

#[test]
fn learned_rules_go_with_their_learners() {
    let learner = |n: u8, cookie: u8| {
        format!(
            "table={n},actions=learn(table=5,cookie={cookie},delete_learned,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])"
        )
    };
    let mut tables = tables(&[
        "cookie=7,table=5,in_port=1,actions=1",
        "cookie=8,table=5,in_port=2,actions=1",
        "cookie=7,table=6,actions=1",
    ]);
    for line in [learner(1, 7), learner(2, 7), learner(3, 8)] {
        tables.apply(&flow_mod(&line), 0).unwrap();
    }
    assert_eq!(tables.apply(&delete("table=1,actions="), 0).unwrap().removed.len(), 1);
    let outcome = tables.apply(&delete("table=2,actions="), 0).unwrap();
    assert_eq!(gone(&outcome), [(0, RemovedReason::Delete), (7, RemovedReason::Delete)]);
    assert_eq!(cookies(&tables), [0, 7, 8]);
    // A learner that stays a learner keeps its rules; one that is modified does not.
    tables.apply(&flow_mod(&learner(3, 8)), 0).unwrap();
    assert_eq!(cookies(&tables), [0, 7, 8]);
    let outcome = tables.apply(&flow_mod("table=3,actions=1"), 0).unwrap();
    assert_eq!(gone(&outcome), [(8, RemovedReason::Delete)]);
}

#[test]
fn learning_refreshes_and_has_limits() {
    let learned = |n: u8, limit: u32| Learned {
        rule: FlowMod { hard_timeout: 10, cookie: 3, ..flow_mod(&format!("table=1,in_port={n},actions=1")) },
        limit,
    };
    let mut tables = TableSet::new();
    assert_eq!(tables.learn(&learned(1, 2), 0).unwrap().added.len(), 1);
    assert!(tables.learn(&learned(1, 2), 5_000).unwrap().is_empty());
    assert!(tables.expire(10_000).is_empty(), "its hard timeout counts from when it was learned again");
    assert_eq!(tables.learn(&learned(2, 2), 10_000).unwrap().added.len(), 1);
    assert!(tables.may_learn(&learned(2, 2)) && !tables.may_learn(&learned(3, 2)));
    assert!(tables.learn(&learned(3, 2), 10_000).unwrap().is_empty());
    assert!(tables.learn(&learned(3, 0), 10_000).unwrap().added.len() == 1);
    assert!(tables.refresh_learned(&learned(2, 2), 12_000) && !tables.refresh_learned(&learned(9, 2), 0));
    assert_eq!(tables.expire(15_000).removed.len(), 1);
    assert_eq!(tables.next_expiry(), Some(20_000));
    assert_eq!(tables.expire(20_000).removed.len(), 1);
    assert_eq!(tables.expire(22_000).removed.len(), 1);
    // Another rule in its place is no refreshment.
    tables.apply(&flow_mod("cookie=9,table=1,in_port=1,actions=drop"), 0).unwrap();
    let outcome = tables.learn(&learned(1, 2), 1).unwrap();
    assert_eq!((outcome.added[0].cookie, outcome.replaced[0].cookie), (3, 9));
    let rule = outcome.added[0].clone();
    let short = tables.shorten(&rule, 4, 60).unwrap();
    assert_eq!((short.rule.idle_timeout, short.rule.hard_timeout), (4, 10));
    assert!(tables.shorten(&rule, 5, 0).is_none());
    assert_eq!(tables.next_expiry(), Some(4_001));
}

#[test]
fn what_modify_adds_and_keeps() {
    let modify = |cookie: u64, mask: u64, line: &str| FlowMod {
        command: FlowModCommand::Modify { strict: true, or_add: true },
        cookie,
        cookie_mask: mask,
        ..flow_mod(line)
    };
    let mut tables = TableSet::new();
    assert!(tables.apply(&modify(u64::MAX, 0, "actions=1"), 0).unwrap().is_empty(), "no cookie to add with");
    assert!(tables.apply(&modify(4, 1, "actions=1"), 0).unwrap().is_empty(), "only some are meant");
    assert_eq!(tables.apply(&modify(4, 0, "actions=1"), 0).unwrap().added[0].cookie, 4);
    let outcome =
        tables.apply(&FlowMod { importance: 9, idle_timeout: 8, ..modify(5, 0, "actions=2") }, 3).unwrap();
    let changed = &outcome.modified[0];
    assert_eq!((changed.old.cookie, changed.rule.cookie), (4, 5));
    assert_eq!((changed.rule.importance, changed.rule.idle_timeout, changed.rule.id), (0, 0, changed.old.id));
    assert_ne!(changed.old.instructions, changed.rule.instructions);
    // A rule with the very same match does not overlap: it is replaced.
    let mut checked = flow_mod("actions=3");
    checked.flags.check_overlap = true;
    let outcome = tables.apply(&checked, 4).unwrap();
    assert_eq!(outcome.replaced.len(), 1);
    assert!(!outcome.added[0].flags.check_overlap, "a flag of the message, not of the rule");
    let any = FlowMod::add(0, 1, Match::any(), vec![Action::Output { port: OfPort(1), max_len: 0 }]);
    assert!(tables.apply(&any, 0).is_ok());
}

#[test]
fn what_went_with_its_learner_does_not_expire_again() {
    let mut tables = TableSet::new();
    let lines = [
        "in_port=0,idle_timeout=3,actions=learn(table=1,cookie=7,delete_learned,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])",
        "table=1,cookie=7,in_port=2,hard_timeout=3,actions=group:1",
        "table=1,cookie=8,in_port=3,hard_timeout=3,actions=drop",
        "table=1,cookie=9,in_port=4,actions=group:1",
    ];
    lines.iter().for_each(|line| drop(tables.apply(&flow_mod(line), 0).unwrap()));
    let gone: Vec<_> = tables.expire(3_000).removed.iter().map(|r| (r.rule.cookie, r.reason)).collect();
    let expected =
        [(0, RemovedReason::IdleTimeout), (7, RemovedReason::Delete), (8, RemovedReason::HardTimeout)];
    assert_eq!(gone, expected, "each once");
    assert_eq!(tables.rules(&RuleFilter::default()).len(), 1, "what stays is not cleared away");
    assert_eq!(tables.group_users(1), 1);
}

/// A change of the tables as a controller, a packet or the time makes it.
fn change(tables: &mut TableSet, what: u8, line: &str, now: u64) {
    let deleted = FlowMod { command: FlowModCommand::Delete { strict: what & 1 == 0 }, ..flow_mod(line) };
    let modify = FlowModCommand::Modify { strict: what & 1 == 0, or_add: what & 2 == 0 };
    match what {
        0..8 => drop(tables.apply(&important(u16::from(what), line), now)),
        8..10 => drop(tables.apply(&deleted, now)),
        10..14 => drop(tables.apply(&FlowMod { command: modify, ..flow_mod(line) }, now)),
        14 => drop(tables.learn(&Learned { rule: flow_mod(line), limit: 4 }, now)),
        15 => drop(tables.expire(now)),
        16 => drop(tables.delete_group_users(2)),
        17 => drop(tables.delete_meter_users(3)),
        18 => drop(tables.configure(0, |c| (c.max_rules, c.evict) = (6, !c.evict))),
        19 => tables.rules(&RuleFilter::default()).first().into_iter().for_each(|rule| {
            tables.shorten(rule, 1, 2);
        }),
        // A bundle that is undone.
        20 => {
            let bundle = [flow_mod(line), deleted, flow_mod("table=3,actions=goto_table:1")];
            assert!(tables.apply_all(&bundle, now).is_err());
        }
        _ => drop(tables.apply_all(&[flow_mod(line), deleted, flow_mod(line)], now)),
    }
}

/// Rules of few matches, that execute few groups and pass few meters.
fn lines() -> impl Strategy<Value = String> {
    let timeouts = prop_oneof![Just(""), Just("hard_timeout=2,"), Just("idle_timeout=3,")];
    let uses = prop_oneof![
        (1u32..4).prop_map(|n| format!("group:{n}")),
        (1u32..4).prop_map(|n| format!("group:{n},group:{n},clone(output:1,group:2)")),
        (1u32..4).prop_map(|n| format!("write_actions(group:{n})")),
        (1u32..4).prop_map(|n| format!("meter:{n},1")),
        (1u32..4).prop_map(|n| format!("meter:{n},group:{n}")),
        Just("learn(table=1,cookie=7,delete_learned,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),group:1".to_owned()),
        Just("drop".to_owned()),
    ];
    (0u8..2, 0u8..8, prop_oneof![Just(0u8), Just(7)], timeouts, uses).prop_map(
        |(table, port, cookie, timeouts, uses)| {
            format!("table={table},cookie={cookie},in_port={port},{timeouts}actions={uses}")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// How many rules refer to a group or a meter is known without looking at rules.
    #[test]
    fn users_of_groups_and_meters_are_counted_right(
        ops in proptest::collection::vec((0u8..22, lines(), 0u64..1500), 1..80),
    ) {
        let mut tables = TableSet::new();
        let (mut now, mut before) = (0, Vec::new());
        for (n, (what, line, later)) in ops.into_iter().enumerate() {
            now += later;
            if n % 8 == 0 {
                before.push(tables.clone());
            }
            change(&mut tables, what, &line, now);
            for tables in before.iter().chain([&tables]) {
                let rules = tables.rules(&RuleFilter::default());
                for id in 0..5 {
                    let counted = |uses: &dyn Fn(&weft_pipeline::Rule) -> bool| rules.iter().filter(|r| uses(r)).count();
                    prop_assert_eq!(tables.group_users(id) as usize, counted(&|r| r.uses_group(id)));
                    prop_assert_eq!(tables.meter_users(id) as usize, counted(&|r| r.uses_meter(id)));
                }
            }
        }
    }
}
