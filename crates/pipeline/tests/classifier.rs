//! Does tuple-space search find what a search of all rules finds, and is its mask neither too wide nor needlessly narrow?

mod common;

use std::collections::BTreeMap;

use common::{flow_mod, packet};
use proptest::prelude::*;
use weft_flow::{FlowKey, FlowMask, KEY_WORDS, Match};
use weft_pipeline::classifier::{Classifier, MiniMatch};
use weft_pipeline::{FlowMod, Rule, RuleFilter, TableSet};

fn matches() -> impl Strategy<Value = Match> {
    let text = prop_oneof![
        (0u8..4, 0u8..4).prop_map(|(a, b)| format!("dl_dst=02:00:00:00:00:0{a},in_port={b}")),
        (0u8..8, 24u8..33).prop_map(|(a, len)| format!("ip,nw_dst=10.0.0.{a}/{len}")),
        (0u8..8, 8u8..33).prop_map(|(a, len)| format!("ip,nw_src=10.{a}.0.{a}/{len}")),
        (0u8..8, 120u8..129).prop_map(|(a, len)| format!("ipv6,ipv6_dst=fd00::{a}/{len}")),
        (0u16..8, 0u16..3)
            .prop_map(|(a, n)| format!("tcp,tp_dst={a}/{:#x}", [0xffffu16, 0xfffc, 0x0003][usize::from(n)])),
        (0u8..4, 0u16..8, 28u8..33).prop_map(|(a, p, len)| format!("udp,nw_dst=10.0.0.{a}/{len},tp_src={p}")),
        (0u8..4).prop_map(|a| format!("reg0={a}")),
        Just(String::new()),
    ];
    text.prop_map(|t| flow_mod(format!("{t},actions=drop").trim_start_matches(',')).matching)
}

fn keys() -> impl Strategy<Value = FlowKey> {
    let kind = prop_oneof![Just("tcp"), Just("udp"), Just("tcp6"), Just("arp"), Just("dl_type=0x1234")];
    (kind, any::<[u8; 6]>()).prop_map(|(kind, n)| {
        let mut key = packet(0, kind);
        let p = &mut key.packet;
        p.eth_dst = common::mac(n[0] & 3);
        if kind != "dl_type=0x1234" {
            p.ipv4_dst = 0x0a00_0000 | u32::from(n[1] & 15);
            p.ipv4_src = 0x0a00_0000 | u32::from(n[2] & 7) << 16 | u32::from(n[2] & 7);
            (p.tp_src, p.tp_dst) = (u16::from(n[3] & 7), u16::from(n[4] & 15));
        }
        if kind == "tcp6" {
            p.ipv6_dst = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n[1] & 15];
            (p.ipv4_src, p.ipv4_dst) = (0, 0);
        }
        key.pipeline.in_port = u32::from(n[5] & 3);
        key.pipeline.regs[0] = u32::from(n[5] >> 2 & 3);
        key
    })
}

/// A rule made by a table set, which is who makes rules.
fn rule(priority: u16, matching: Match) -> Rule {
    let mut tables = TableSet::new();
    let outcome = tables.apply(&FlowMod::add(0, priority, matching, vec![]), 0).unwrap();
    Rule::clone(&outcome.added[0])
}

/// Some key that agrees with `key` under `mask`.
fn twin(key: &FlowKey, mask: &FlowMask, noise: &[u64]) -> FlowKey {
    let mut twin = *key;
    for i in 0..KEY_WORDS {
        let mask = mask.words()[i];
        twin.words_mut()[i] = key.words()[i] & mask | noise[i % noise.len()].rotate_left(i as u32) & !mask;
    }
    // Frames only: what rules say nothing of a packet's type for.
    twin.pipeline.packet_type = key.pipeline.packet_type;
    twin
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn finds_the_best_rule_and_masks_what_it_saw(
        ops in proptest::collection::vec((0u8..4, matches()), 1..60),
        keys in proptest::collection::vec(keys(), 8),
        noise in proptest::collection::vec(any::<u64>(), 5),
    ) {
        let mut classifier = Classifier::default();
        let mut all: BTreeMap<usize, (u16, Match)> = BTreeMap::new();
        // Priorities are distinct, so that the best rule is one; every fourth step removes one.
        for (n, (kind, matching)) in ops.into_iter().enumerate() {
            let old = classifier.clone();
            if kind == 0 && !all.is_empty() {
                let (n, (priority, matching)) = all.iter().nth(n % all.len()).map(|(n, r)| (*n, *r)).unwrap();
                prop_assert!(classifier.remove(&MiniMatch::new(&matching), priority).is_some());
                prop_assert!(classifier.remove(&MiniMatch::new(&matching), priority).is_none());
                prop_assert_eq!(old.len(), all.len());
                all.remove(&n);
            } else {
                let priority = (n as u16).wrapping_mul(7919) % 1009;
                prop_assert!(classifier.insert(rule(priority, matching)).1.is_none());
                prop_assert_eq!(old.len(), all.len());
                all.insert(n, (priority, matching));
            }
        }
        prop_assert_eq!((classifier.len(), classifier.iter().count()), (all.len(), all.len()));
        for key in keys {
            let best = all.values().filter(|(_, m)| m.covers(&key)).map(|(p, _)| *p).max();
            let mut mask = FlowMask::empty();
            let found = classifier.lookup(&key, &mut mask).map(|r| r.priority);
            prop_assert_eq!(found, best);
            for noise in [&noise[..], &[0], &[u64::MAX]] {
                let twin = twin(&key, &mask, noise);
                let mut twin_mask = FlowMask::empty();
                prop_assert_eq!(classifier.lookup(&twin, &mut twin_mask).map(|r| r.priority), best);
                prop_assert_eq!(twin_mask, mask);
            }
        }
    }

    #[test]
    fn small_matches_are_like_whole_ones(a in matches(), b in matches(), key in keys()) {
        let (small, other) = (MiniMatch::new(&a), MiniMatch::new(&b));
        prop_assert_eq!(small.expand(), a);
        prop_assert_eq!(small.covers(&key), a.covers(&key));
        prop_assert_eq!(small == other, a == b);
        let narrower = a.mask.words().iter().zip(b.mask.words()).all(|(a, b)| a & b == *b) && b.covers(&a.key);
        prop_assert_eq!(small.is_within(&other), narrower);
        let mut both = a.key;
        for ((out, m), k) in both.words_mut().iter_mut().zip(b.mask.words()).zip(b.key.words()) {
            *out = *out & !m | k;
        }
        prop_assert_eq!(small.overlaps(&other), a.covers(&both) && b.covers(&both));
        prop_assert_eq!(small.overlaps(&other), other.overlaps(&small));
    }
}

/// What a lookup adds to the mask, as text.
fn looked_at(rules: &[&str], text: &str) -> String {
    let mut tables = TableSet::new();
    let mut classifier = Classifier::default();
    for rule in rules {
        tables.apply(&flow_mod(&format!("{rule},actions=drop")), 0).unwrap();
    }
    for rule in tables.rules(&RuleFilter::default()) {
        classifier.insert(Rule::clone(&rule));
    }
    let (mut key, mut mask) = (packet(0, text), FlowMask::empty());
    key.pipeline.in_port = key.packet.in_port;
    classifier.lookup(&key, &mut mask);
    weft_flow::text::format_match(&Match::new(&key, mask), &Default::default())
}

#[test]
fn masks_stay_wide() {
    let routes = [
        "priority=24,ip,nw_dst=10.0.1.0/24",
        "priority=16,ip,nw_dst=10.0.0.0/16",
        "priority=8,ip,nw_dst=10.0.0.0/8",
    ];
    let mut hosts: Vec<String> = (1..100).map(|n| format!("priority=32,ip,nw_dst=192.168.1.{n}")).collect();
    hosts.extend(routes.iter().map(|r| (*r).to_owned()));
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let cases: &[(&[&str], &str, &str)] = &[
        // The first bit that differs from every longer prefix is enough.
        (&routes, "ip,nw_dst=10.0.1.5", "ip,nw_dst=10.0.1.0/24"),
        (&routes, "ip,nw_dst=10.0.2.5", "ip,nw_dst=10.0.2.0/23"),
        (&routes, "ip,nw_dst=10.128.0.1", "ip,nw_dst=10.128.0.0/9"),
        (&routes, "ip,nw_dst=11.0.0.1", "ip,nw_dst=11.0.0.0/8"),
        (&routes, "ip,nw_dst=192.168.0.1", "ip,nw_dst=128.0.0.0/1"),
        (&hosts, "ip,nw_dst=10.0.1.5", "ip,nw_dst=10.0.1.0/24"),
        (&hosts, "ip,nw_dst=192.168.2.9", "ip,nw_dst=192.168.2.0/23"),
        // A stage that fits nothing ends the search.
        (&["tcp,tp_dst=80"], "udp,tp_dst=80", "udp"),
        (&["tcp,tp_dst=80"], "arp", "arp"),
        (&["in_port=3,tcp,tp_dst=80"], "in_port=1,tcp,tp_dst=80", "in_port=1"),
        // A better rule makes others unseen.
        (&["priority=9,in_port=1", "priority=3,tcp,tp_dst=80"], "in_port=1,tcp,tp_dst=80", "in_port=1"),
        (&["priority=9,tcp,tp_dst=80", "priority=3,tcp,tp_src=7"], "tcp,tp_dst=80,tp_src=7", "tcp,tp_dst=80"),
        (&["priority=9,tcp,tp_dst=80", "priority=3,tcp"], "tcp,tp_dst=0x8000", "tcp,tp_dst=0x8000/0x8000"),
    ];
    for (rules, key, expected) in cases {
        assert_eq!(looked_at(rules, key), *expected, "{key} in {rules:?}");
    }
}
