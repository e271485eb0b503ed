//! Do conjunctive matches do what `ovs-fields(7)` says? Its example, its subtleties, and a plain model.

mod common;

use std::collections::BTreeMap;

use common::{flow_mod, packet};
use proptest::prelude::*;
use weft_flow::{Action, FlowKey, FlowMask, KEY_WORDS};
use weft_pipeline::classifier::Classifier;
use weft_pipeline::{Rule, RuleFilter, TableSet};

fn classifier(lines: &[String]) -> (Classifier, Vec<Rule>) {
    let mut tables = TableSet::new();
    for line in lines {
        tables.apply(&flow_mod(line), 0).unwrap();
    }
    let rules: Vec<Rule> = tables.rules(&RuleFilter::default()).iter().map(|r| Rule::clone(r)).collect();
    let mut classifier = Classifier::default();
    for rule in &rules {
        classifier.insert(rule.clone());
    }
    (classifier, rules)
}

/// The cookie of the rule that a packet matches.
fn found(classifier: &Classifier, key: &FlowKey) -> Option<u64> {
    classifier.lookup(key, &mut FlowMask::empty()).map(|r| r.cookie)
}

const MANUAL: &[&str] = &[
    "cookie=1,conj_id=1234,actions=controller",
    "ip,nw_src=10.0.0.1,actions=conjunction(1234,1/2)",
    "ip,nw_src=10.0.0.4,actions=conjunction(1234,1/2)",
    "ip,nw_src=10.0.0.6,actions=conjunction(1234,1/2)",
    "ip,nw_src=10.0.0.7,actions=conjunction(1234,1/2)",
    "ip,nw_dst=10.0.0.2,actions=conjunction(1234,2/2)",
    "ip,nw_dst=10.0.0.5,actions=conjunction(1234,2/2)",
    "ip,nw_dst=10.0.0.7,actions=conjunction(1234,2/2)",
    "ip,nw_dst=10.0.0.8,actions=conjunction(1234,2/2)",
];

#[test]
fn as_the_manual_says() {
    // More rules, packet, cookie of the rule that is found.
    let cases: &[(&[&str], &str, Option<u64>)] = &[
        (&[], "ip,nw_src=10.0.0.1,nw_dst=10.0.0.2", Some(1)),
        (&[], "ip,nw_src=10.0.0.7,nw_dst=10.0.0.7", Some(1)),
        (&[], "ip,nw_src=10.0.0.1,nw_dst=10.0.0.3", None),
        (&[], "ip,nw_src=10.0.0.2,nw_dst=10.0.0.2", None),
        // Clauses alone do not hide what is below them.
        (&["cookie=2,priority=1,ip,actions=1"], "ip,nw_src=10.0.0.1,nw_dst=10.0.0.3", Some(2)),
        (
            &["cookie=2,priority=1,ip,nw_src=10.0.0.1,actions=1"],
            "ip,nw_src=10.0.0.1,nw_dst=10.0.0.3",
            Some(2),
        ),
        (&["cookie=2,priority=1,ip,actions=1"], "ip,nw_src=10.0.0.1,nw_dst=10.0.0.2", Some(1)),
        // What is above them hides them.
        (&["cookie=2,priority=40000,ip,actions=1"], "ip,nw_src=10.0.0.1,nw_dst=10.0.0.2", Some(2)),
        // The rule of the conjunction may look at more than its identifier, and have any priority.
        (
            &["cookie=2,priority=50000,conj_id=1234,ip,nw_dst=10.0.0.2,actions=1"],
            "ip,nw_src=10.0.0.1,nw_dst=10.0.0.2",
            Some(2),
        ),
        (
            &["cookie=2,priority=50000,conj_id=1234,ip,nw_dst=10.0.0.2,actions=1"],
            "ip,nw_src=10.0.0.1,nw_dst=10.0.0.5",
            Some(1),
        ),
        // Clauses of one number and another priority are another conjunction.
        (
            &["priority=9,ip,nw_dst=10.0.0.3,actions=conjunction(1234,2/2)"],
            "ip,nw_src=10.0.0.1,nw_dst=10.0.0.3",
            None,
        ),
        // A conjunction that nobody asks for is as if it had not matched; one below it may.
        (
            &[
                "priority=40000,ip,nw_src=10.0.0.1,actions=conjunction(7,1/2)",
                "priority=40000,ip,nw_dst=10.0.0.2,actions=conjunction(7,2/2)",
            ],
            "ip,nw_src=10.0.0.1,nw_dst=10.0.0.2",
            Some(1),
        ),
        (
            &["ip,nw_src=10.0.0.1,nw_dst=10.0.0.9,actions=conjunction(5,1/3),conjunction(6,2/3)"],
            "ip,nw_src=10.0.0.1,nw_dst=10.0.0.9",
            None,
        ),
        // Notes may stand beside.
        (
            &["ip,nw_dst=10.0.0.9,actions=note:01,conjunction(1234,2/2)"],
            "ip,nw_src=10.0.0.1,nw_dst=10.0.0.9",
            Some(1),
        ),
    ];
    for (more, text, cookie) in cases {
        let conjunction_only = more.iter().any(|line| line.contains("conjunction(7,"));
        let mut lines: Vec<String> = MANUAL.iter().chain(*more).map(|l| (*l).to_owned()).collect();
        if conjunction_only {
            // Nothing else may match with conj_id=7.
            lines[0] = "cookie=1,conj_id=1234,ip,actions=controller".to_owned();
        }
        let (classifier, _) = classifier(&lines);
        assert_eq!(found(&classifier, &packet(0, text)), *cookie, "{text} with {more:?}");
    }
}

/// Rules of a priority each, clauses of few priorities.
fn lines() -> impl Strategy<Value = Vec<String>> {
    let matching = prop_oneof![
        (0u8..3).prop_map(|n| format!("ip,nw_src=10.0.0.{n}")),
        (0u8..3).prop_map(|n| format!("ip,nw_dst=10.0.0.{n}")),
        (30u8..32).prop_map(|n| format!("ip,nw_dst=10.0.0.0/{n}")),
        (0u8..3).prop_map(|n| format!("tcp,tp_dst={n}")),
        (0u8..3, 0u8..3).prop_map(|(a, b)| format!("tcp,nw_src=10.0.0.{a},tp_dst={b}")),
        Just("ip".to_owned()),
    ];
    let clause =
        (1u32..4, 1u8..4, 2u8..4).prop_map(|(id, k, n)| format!("conjunction({id},{}/{n})", k.min(n)));
    let clauses = proptest::collection::vec(clause, 1..4).prop_map(|c| c.join(","));
    let plain = prop_oneof![
        matching.clone(),
        (1u32..4).prop_map(|id| format!("conj_id={id}")),
        (1u32..4, matching.clone()).prop_map(|(id, m)| format!("conj_id={id},{m}")),
    ];
    let rule = prop_oneof![
        3 => (0u16..4, matching, clauses).prop_map(|(p, m, c)| (Some(20 * p + 5), m, c)),
        1 => plain.prop_map(|m| (None, m, "drop".to_owned())),
    ];
    proptest::collection::vec(rule, 1..40).prop_map(|rules| {
        let line = |(n, (priority, matching, actions)): (usize, (Option<u16>, String, String))| {
            let priority =
                priority.unwrap_or((n as u16).wrapping_mul(37) % 79 + u16::from(n % 79 == 5) * 100);
            format!("cookie={n},priority={priority},{matching},actions={actions}")
        };
        rules.into_iter().enumerate().map(line).collect()
    })
}

/// Clauses of a rule: conjunction, which clause, how many.
fn clauses(rule: &Rule) -> Vec<(u32, u8, u8)> {
    let clause = |a: &Action| match a {
        Action::Conjunction { id, clause, clauses } => Some((*id, *clause, *clauses)),
        _ => None,
    };
    rule.instructions.apply.iter().filter_map(clause).collect()
}

/// The priority of the rule that is found, by the manual.
fn model(rules: &[Rule], key: &FlowKey) -> Option<u16> {
    let plain = |key: &FlowKey| {
        let covers = |r: &&Rule| clauses(r).is_empty() && r.matching.covers(key);
        rules.iter().filter(covers).map(|r| r.priority).max()
    };
    let best = plain(key);
    let met: Vec<&Rule> = rules.iter().filter(|r| !clauses(r).is_empty() && r.matching.covers(key)).collect();
    let mut priorities: Vec<u16> = met.iter().map(|r| r.priority).filter(|p| Some(*p) > best).collect();
    priorities.sort_unstable_by(|a, b| b.cmp(a));
    priorities.dedup();
    for priority in priorities {
        let mut all: BTreeMap<(u32, u8), Vec<u8>> = BTreeMap::new();
        for rule in met.iter().filter(|r| r.priority == priority) {
            for (id, k, n) in clauses(rule) {
                all.entry((id, n)).or_default().push(k);
            }
        }
        for ((id, n), met) in all {
            if (0..n).all(|k| met.contains(&k)) {
                let mut key = *key;
                key.pipeline.conj_id = id;
                if let Some(found) = plain(&key) {
                    return Some(found);
                }
            }
        }
    }
    best
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_model(
        lines in lines(),
        picks in proptest::collection::vec(any::<[u8; 3]>(), 12),
        noise in proptest::collection::vec(any::<u64>(), 5),
    ) {
        let (classifier, rules) = classifier(&lines);
        for n in picks {
            let text = format!("tcp,nw_src=10.0.0.{},nw_dst=10.0.0.{},tp_dst={}", n[0] & 3, n[1] & 3, n[2] & 3);
            let key = packet(0, &text);
            let mut mask = FlowMask::empty();
            let best = classifier.lookup(&key, &mut mask).map(|r| r.priority);
            prop_assert_eq!(best, model(&rules, &key), "{} in {:#?}", text, lines);
            for noise in [&noise[..], &[0], &[u64::MAX]] {
                let mut twin = key;
                for i in 0..KEY_WORDS {
                    let (m, other) = (mask.words()[i], noise[i % noise.len()].rotate_left(i as u32));
                    twin.words_mut()[i] = key.words()[i] & m | other & !m;
                }
                // Rules that match Ethernet and no type are for frames.
                twin.pipeline.packet_type = 0;
                let mut twin_mask = FlowMask::empty();
                prop_assert_eq!(classifier.lookup(&twin, &mut twin_mask).map(|r| r.priority), best);
                prop_assert_eq!(twin_mask, mask);
            }
        }
    }
}
