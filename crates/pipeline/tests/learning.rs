//! What do packets teach flow tables?

mod common;

use common::{bridge, device, flows, ipv4, outcome, pipeline};
use weft_flow::FlowKey;
use weft_pipeline::{Pipeline, RuleFilter};

fn ready(rules: &str) -> Pipeline {
    let pipeline = pipeline(vec![bridge(1, (1..6).map(|n| device(1, n)).collect())]);
    flows(&pipeline, 1, rules);
    pipeline
}

fn tcp(port: u32, src: u8, dst: u8) -> FlowKey {
    ipv4(port, src, dst, 6, (1000, 80))
}

fn learned(pipeline: &Pipeline, table: u8) -> Vec<String> {
    let snapshot = pipeline.snapshot();
    let rules =
        snapshot.bridge(1).unwrap().tables.rules(&RuleFilter { table: Some(table), ..Default::default() });
    let text = |m: &weft_flow::Match| weft_flow::text::format_match(m, &weft_flow::text::Syntax::default());
    rules.iter().map(|r| format!("{}:{}", r.priority, text(&r.matching.expand()))).collect()
}

const MAC_LEARNING: &str = "table=0,actions=learn(table=1,priority=7,idle_timeout=10,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]),resubmit(,1),output:NXM_NX_REG0[]
    table=1,priority=0,actions=load:5->NXM_NX_REG0[]";

#[test]
fn a_learning_switch() {
    let pipeline = ready(MAC_LEARNING);
    let key = tcp(101, 1, 2);
    // Neither traces nor checks of cached flows learn.
    pipeline.trace(&key, 0);
    pipeline.revalidate(&key, 0);
    assert_eq!(learned(&pipeline, 1).len(), 1);
    let verdict = pipeline.walk(&key, 0);
    assert_eq!(outcome(&verdict), "105");
    assert_eq!(learned(&pipeline, 1)[0], "7:dl_dst=02:00:00:00:00:01");
    assert_eq!(pipeline.take_learned().len(), 1);
    assert_eq!(outcome(&pipeline.walk(&tcp(102, 2, 1), 0)), "101");
    // A cached flow teaches again what was forgotten meanwhile.
    let forget = common::flow_mod("table=1,dl_dst=02:00:00:00:00:01,actions=drop");
    let forget =
        weft_pipeline::FlowMod { command: weft_pipeline::FlowModCommand::Delete { strict: false }, ..forget };
    pipeline.update(|s| s.tables_mut(1).unwrap().apply(&forget, 0)).unwrap();
    assert_eq!(learned(&pipeline, 1).len(), 2);
    assert_eq!((verdict.effects.len(), verdict.cacheable), (1, true));
    verdict.effects.iter().for_each(|e| pipeline.effect(e, 1));
    assert_eq!(learned(&pipeline, 1).len(), 3);
}

#[test]
fn limits_and_results() {
    let pipeline = ready(
        "table=0,actions=learn(table=1,cookie=9,limit=2,result_dst=NXM_NX_REG1[0],NXM_OF_ETH_SRC[]),resubmit(,2)
        table=2,reg1=1,actions=2
        table=2,reg1=0,actions=3",
    );
    let outs: Vec<_> = [1, 2, 3, 2].map(|src| outcome(&pipeline.walk(&tcp(101, src, 9), 0))).into();
    assert_eq!(outs, ["102", "102", "103", "102"]);
    assert_eq!(learned(&pipeline, 1).len(), 2);
}

#[test]
fn connections_that_end() {
    let pipeline = ready("tcp,idle_timeout=60,actions=fin_timeout(idle_timeout=5,hard_timeout=9),2");
    let timeouts = || {
        let snapshot = pipeline.snapshot();
        let rules = snapshot.bridge(1).unwrap().tables.rules(&RuleFilter::default());
        (rules[0].idle_timeout, rules[0].hard_timeout)
    };
    let mut key = tcp(101, 1, 2);
    assert_eq!(pipeline.walk(&key, 0).mask.0.packet.tcp_flags, 5);
    assert_eq!(timeouts(), (60, 0));
    key.packet.tcp_flags = 0x11;
    pipeline.walk(&key, 0);
    assert_eq!(timeouts(), (5, 9));
}

#[test]
fn a_cached_flow_that_would_teach_is_not_kept() {
    let pipeline =
        ready("table=0,actions=learn(table=1,hard_timeout=10,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),output:2");
    let key = tcp(101, 1, 2);
    assert!(!pipeline.revalidate(&key, 0).cacheable, "its next packet has to teach");
    assert!(pipeline.walk(&key, 0).cacheable);
    assert!(pipeline.revalidate(&key, 5_000).cacheable, "the rule is there");
    // To look at a cached flow does not make what it taught young.
    let expired = pipeline.update(|s| Ok::<_, ()>(s.tables_mut(1).unwrap().expire(11_000)));
    assert_eq!(expired.unwrap().removed.len(), 1);
    assert!(!pipeline.revalidate(&key, 11_000).cacheable);
}
