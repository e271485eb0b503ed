//! Does every cached flow that a change of rules concerns hear of it, and do most of the others not?

mod common;

use common::{bridge, device, flow_mod, flows, patch, pipeline};
use proptest::prelude::*;
use weft_flow::{CACHED_WORDS, FlowKey, Verdict};
use weft_pipeline::{ALL_TABLES, Changes, FlowMod, FlowModCommand, Pipeline, TableMiss};

/// Ways to match; `{n}` becomes a small number.
const MATCHES: &[&str] = &[
    "",
    "in_port={n}",
    "dl_dst=02:00:00:00:00:0{n}",
    "ip,nw_dst=10.0.0.{n}",
    "ip,nw_dst=10.0.0.0/3{n}",
    "tcp,tp_dst={n}",
    "udp,nw_dst=10.0.0.{n},tp_src={n}",
    "reg0={n}",
    "conj_id={n}",
    "tcp,reg0={n},tp_src={n}",
];

/// Actions; `{n}` becomes a small number.
const ACTIONS: &[&str] = &[
    "output:{n}",
    "output:{n},resubmit(,{n})",
    "load:{n}->NXM_NX_REG0[],resubmit(,{n})",
    "move:NXM_OF_ETH_DST[0..2]->NXM_NX_REG0[0..2],resubmit(,{n})",
    "mod_dl_dst:02:00:00:00:00:0{n},resubmit(,{n})",
    "mod_nw_dst:10.0.0.{n},goto_table:{n}",
    "resubmit({n},2)",
    "output:9",
    "conjunction({n},1/2)",
    "conjunction({n},2/2)",
    "conjunction(1,1/2),conjunction(2,1/2)",
];

fn filled(templates: &'static [&'static str]) -> impl Strategy<Value = String> {
    (0..templates.len(), 0u8..3).prop_map(|(i, n)| templates[i].replace("{n}", &n.to_string()))
}

fn rule() -> impl Strategy<Value = (u32, FlowMod)> {
    let first = prop_oneof![3 => Just(0u8), 2 => 1u8..3];
    (1u32..3, first, 0u16..5, filled(MATCHES), filled(ACTIONS)).prop_filter_map(
        "goto_table leads forward",
        |(bridge, table, priority, matching, actions)| {
            let forward = actions.split_once("goto_table:").is_none_or(|(_, to)| to > &*table.to_string());
            let line = format!("table={table},priority={priority},{matching},actions={actions}");
            forward.then(|| (bridge, flow_mod(&line.replace(",,", ","))))
        },
    )
}

/// A rule added, or what it matches deleted or modified, or a table given another miss behaviour.
fn change() -> impl Strategy<Value = (u32, FlowMod)> {
    (rule(), 0u8..6).prop_map(|((bridge, flow_mod), kind)| {
        let command = match kind {
            0 => FlowModCommand::Delete { strict: true },
            1 => FlowModCommand::Delete { strict: false },
            2 => FlowModCommand::Modify { strict: false, or_add: false },
            _ => FlowModCommand::Add,
        };
        (bridge, FlowMod { command, ..flow_mod })
    })
}

fn keys() -> impl Strategy<Value = FlowKey> {
    (1u32..4, any::<[u8; 4]>(), any::<bool>()).prop_map(|(port, n, tcp)| {
        let ports = (u16::from(n[2] & 3), u16::from(n[3] & 3));
        let mut key = common::ipv4(100 + port, 1, n[0] & 3, if tcp { 6 } else { 17 }, ports);
        key.packet.ipv4_dst = 0x0a00_0000 | u32::from(n[1] & 3);
        key
    })
}

fn bridges() -> Pipeline {
    let ports = |b: u32| (1..4).map(|n| device(b, n)).collect::<Vec<_>>();
    let (mut one, mut two) = (ports(1), ports(2));
    one.push(patch(1, 9, (2, 9)));
    two.push(patch(2, 9, (1, 9)));
    let pipeline = pipeline(vec![bridge(1, one), bridge(2, two)]);
    for id in [1, 2] {
        flows(&pipeline, id, "");
    }
    pipeline
}

fn apply(pipeline: &Pipeline, (bridge, flow_mod): &(u32, FlowMod)) {
    let done = pipeline.update(|s| s.tables_mut(*bridge).unwrap().apply(flow_mod, 0));
    assert!(done.is_ok() || flow_mod.command != FlowModCommand::Add);
}

/// Whether a flow hears of what changed since the last call.
fn hears(changes: &mut Changes, verdict: &Verdict) -> bool {
    changes.take().is_some_and(|changed| changed.affects(verdict.deps))
}

/// Some key that agrees with `key` under the mask of a verdict.
fn twin(key: &FlowKey, verdict: &Verdict, noise: u64) -> FlowKey {
    let mut twin = *key;
    for i in 0..CACHED_WORDS {
        let mask = verdict.mask.words()[i];
        let other = noise.rotate_left(i as u32 * 7);
        // Values like those that rules have: few bits.
        twin.words_mut()[i] =
            key.words()[i] & mask | (key.words()[i] ^ other & 0x0003_0003_0003_0003) & !mask;
    }
    twin
}

fn same(a: &Verdict, b: &Verdict) -> bool {
    let rules = |v: &Verdict| v.rules.iter().map(|r| (r.bridge, r.table, r.cookie)).collect::<Vec<_>>();
    a.actions == b.actions && a.drop == b.drop && rules(a) == rules(b)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_concerned_is_left_out(
        rules in proptest::collection::vec(rule(), 1..20),
        changes in proptest::collection::vec(change(), 1..5),
        keys in proptest::collection::vec(keys(), 4),
        noise in proptest::collection::vec(any::<u64>(), 6),
    ) {
        let pipeline = bridges();
        rules.iter().for_each(|rule| apply(&pipeline, rule));
        let mut flows: Vec<(FlowKey, Verdict)> = keys.iter().map(|k| (*k, pipeline.walk(k, 0))).collect();
        for (n, change) in changes.iter().enumerate() {
            let mut lane = pipeline.subscribe();
            apply(&pipeline, change);
            if n == 3 {
                pipeline.update(|s| {
                    s.tables_mut(1).unwrap().configure(ALL_TABLES, |c| c.miss = TableMiss::Continue);
                    Ok::<_, ()>(())
                }).unwrap();
            }
            let changed = lane.take().unwrap_or_default();
            for (key, verdict) in &mut flows {
                if changed.affects(verdict.deps) {
                    *verdict = pipeline.walk(key, 0);
                    continue;
                }
                for twin in noise.iter().map(|n| twin(key, verdict, *n)).chain([*key]) {
                    let now = pipeline.walk(&twin, 0);
                    prop_assert!(same(&now, verdict), "{change:?}\n{verdict:?}\nis now\n{now:?}");
                }
            }
        }
    }
}

/// How many of 256 flows hear of each of 256 changes, in percent.
fn heard(rules: &str, flow: impl Fn(u32) -> FlowKey, change: impl Fn(u32) -> (u32, FlowMod)) -> u32 {
    let pipeline = bridges();
    flows(&pipeline, 1, rules);
    flows(&pipeline, 2, "priority=1,ip,nw_dst=10.0.0.1,actions=drop");
    let verdicts: Vec<Verdict> = (0..256).map(|n| pipeline.walk(&flow(n), 0)).collect();
    let mut heard = 0;
    for n in 0..256 {
        let mut lane = pipeline.subscribe();
        apply(&pipeline, &change(n));
        let changed = lane.take().unwrap_or_default();
        heard += verdicts.iter().filter(|v| changed.affects(v.deps)).count() as u32;
    }
    heard * 100 / (256 * 256)
}

#[test]
fn few_others_hear() {
    let flow = |n: u32| common::ipv4(101, 1, n as u8, 6, (1000, 80));
    let host = |bridge: u32| {
        move |n: u32| {
            let line = format!("priority=5,ip,nw_dst=11.{bridge}.{}.{},actions=2", n / 7, n);
            (bridge, flow_mod(&line))
        }
    };
    let exact = "priority=5,ip,nw_dst=10.0.0.255,actions=3\npriority=1,actions=2";
    let stages = "priority=5,ip,nw_dst=10.0.0.255,actions=3\npriority=1,actions=resubmit(,1)\n\
                  table=1,priority=1,tcp,actions=2";
    // Of a change in another bridge, of hosts' routes beside theirs.
    assert!(heard(exact, flow, host(2)) <= 25, "{}", heard(exact, flow, host(2)));
    assert!(heard(stages, flow, host(2)) <= 35, "{}", heard(stages, flow, host(2)));
}

#[test]
fn conjunctions_are_heard_of() {
    let pipeline = bridges();
    let clauses = "priority=9,conj_id=6,actions=1\npriority=9,ip,nw_src=10.0.0.1,actions=conjunction(5,1/2)\n\
                   priority=9,ip,nw_dst=10.0.0.2,actions=conjunction(5,2/2)\npriority=1,actions=2";
    flows(&pipeline, 1, clauses);
    let key = common::ipv4(101, 1, 2, 6, (1, 2));
    // The rule of the conjunction comes, a clause goes.
    for line in ["priority=9,conj_id=5,actions=3", "priority=9,ip,nw_src=10.0.0.1,actions=2"] {
        let verdict = pipeline.walk(&key, 0);
        let mut lane = pipeline.subscribe();
        apply(&pipeline, &(1, flow_mod(line)));
        assert!(hears(&mut lane, &verdict), "{line}");
    }
}

#[test]
fn a_change_that_decides_nothing_is_not_announced() {
    let pipeline = bridges();
    flows(&pipeline, 1, "cookie=3,ip,idle_timeout=10,actions=2");
    let verdict = pipeline.walk(&common::ipv4(101, 1, 2, 6, (1, 2)), 0);
    let mut lane = pipeline.subscribe();
    pipeline.update(|s| Ok::<_, ()>(s.tables_mut(1).unwrap().expire(1_000))).unwrap();
    assert!(!hears(&mut lane, &verdict));
    pipeline.update(|s| Ok::<_, ()>(s.tables_mut(1).unwrap().expire(10_000))).unwrap();
    assert!(hears(&mut lane, &verdict));
}

#[test]
fn what_was_copied_before_a_change_tells_all() {
    let pipeline = bridges();
    flows(&pipeline, 1, "ip,actions=2");
    let verdict = pipeline.walk(&common::ipv4(101, 1, 2, 6, (1, 2)), 0);
    let mut lane = pipeline.subscribe();
    let mut draft = (*pipeline.snapshot()).clone();
    apply(&pipeline, &(1, flow_mod("priority=7,ip,nw_dst=99.0.0.1,actions=1")));
    lane.take();
    draft.tables_mut(2).unwrap().apply(&flow_mod("priority=3,arp,actions=1"), 0).unwrap();
    pipeline.publish(draft);
    assert!(hears(&mut lane, &verdict));
}
