//! Does a trace read like `ovs-appctl ofproto/trace`, and is it the walk that happens?

mod common;

use common::{bridge, device, flows, packet, patch, pipeline};
use weft_flow::{Action, OfPort};
use weft_pipeline::{PacketOut, TraceFrom};

const PACKET: &str = "in_port=1,tcp,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,\
                      nw_ttl=64,tp_src=1000,tp_dst=80";

#[test]
fn a_walk_over_tables_and_bridges() {
    let pipeline = pipeline(vec![
        bridge(1, vec![device(1, 1), device(1, 2), patch(1, 3, (2, 3))]),
        bridge(2, vec![device(2, 1), patch(2, 3, (1, 3))]),
    ]);
    let rules = "cookie=0x5,in_port=1,actions=load:0x7->NXM_NX_REG0[],resubmit(,1),resubmit(,2)
        table=1,priority=10,tcp,actions=mod_dl_dst:02:00:00:00:00:09,2
        table=2,reg0=7,actions=goto_table:3
        table=3,ip,actions=3";
    flows(&pipeline, 1, rules);
    let key = packet(1, PACKET);
    let (verdict, trace) = pipeline.trace(&key, 0);
    let expected = "\
Flow: tcp,in_port=1,vlan_tci=0x0000,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_tos=0,nw_ecn=0,nw_ttl=64,nw_frag=no,tp_src=1000,tp_dst=80,tcp_flags=0

bridge(\"br1\")
-------------
 0. in_port=1, priority 32768, cookie 0x5
    load:0x7->NXM_NX_REG0[]
    resubmit(,1)
     1. tcp, priority 10
            set_field:02:00:00:00:00:09->eth_dst
            output:2
    resubmit(,2)
 2. reg0=0x7, priority 32768
    goto_table:3
 3. ip, priority 32768
    output:3

bridge(\"br2\")
-------------
 0. priority 0
    NORMAL
     -> 02:00:00:00:00:01 would be learned on port 3 in VLAN 0
     -> no learned MAC for destination 02:00:00:00:00:09 in VLAN 0, flooding
";
    let text = trace.to_string();
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("\nFinal flow: tcp,reg0=0x7,"), "{text}");
    assert!(text.contains("\nMegaflow: recirc_id=0,"), "{text}");
    assert!(text.ends_with("\nDatapath actions: set(eth(dst=02:00:00:00:00:09)),102,201"), "{text}");
    // Nothing was learned, and the actions are those of the walk.
    assert!(pipeline.fdb_entries(2, 0).is_empty());
    assert_eq!(pipeline.walk(&key, 0).actions, verdict.actions);
}

#[test]
fn drops_say_why() {
    let pipeline = pipeline(vec![bridge(1, vec![device(1, 1)])]);
    let text = pipeline.trace(&packet(1, PACKET), 0).1.to_string();
    assert!(text.contains(" >> no-other-port: "), "{text}");
    assert!(text.ends_with("Datapath actions: drop\nDrop reason: no-other-port"), "{text}");
    let nowhere = pipeline.trace(&packet(5, PACKET), 0).1;
    assert_eq!(nowhere.drop, Some("not-attached"));
    flows(&pipeline, 1, "in_port=1,cookie=0x77,actions=drop");
    let text = pipeline.trace(&packet(1, PACKET), 0).1.to_string();
    assert!(text.contains(" 0. in_port=1, priority 32768, cookie 0x77\n    drop\n"), "{text}");
    assert!(text.ends_with("drop\nDrop reason: rule-drop (table 0, cookie 0x77)"), "{text}");
    let mut config = (*pipeline.snapshot().bridge(1).unwrap().config).clone();
    config.ports.insert(weft_pipeline::PortConfig { link_up: false, ..device(1, 2) });
    common::configure(&pipeline, config);
    flows(&pipeline, 1, "actions=2");
    let text = pipeline.trace(&packet(1, PACKET), 0).1.to_string();
    assert!(text.ends_with("Drop reason: port-down (port 2 \"p102\")"), "{text}");
}

#[test]
fn through_connection_tracking() {
    let pipeline = pipeline(vec![bridge(1, (1..4).map(|n| device(1, n)).collect())]);
    let rules = "\
        ip,actions=ct(commit,zone=5,table=1,nat(src=1.1.1.1:100))
        table=1,ct_state=+new,ip,actions=2
        table=1,ct_state=+est,ip,actions=ct(zone=6,table=2)
        table=2,ct_state=+inv,ip,actions=3";
    flows(&pipeline, 1, rules);
    let text = pipeline.trace(&packet(1, PACKET), 0).1.to_string();
    let expected = "
recirc(0x1) - resume conntrack with default ct_state=trk|new (use --ct-next to customize)
Replacing src/dst IP/ports to simulate NAT:
 Initial flow: nw_src=10.0.0.1,tp_src=1000,nw_dst=10.0.0.2,tp_dst=80
 Modified flow: nw_src=1.1.1.1,tp_src=100,nw_dst=10.0.0.2,tp_dst=80
===============================================================================

Flow: recirc_id=0x1,ct_state=new|trk,ct_zone=5,";
    assert!(text.contains(expected), "{text}");
    let thawed = "
bridge(\"br1\")
-------------
    thaw
        Resuming from table 1
 1. ct_state=+new,ip, priority 32768
    output:2
";
    assert!(text.contains(thawed), "{text}");
    // The packet is in other states the next times.
    let next = [weft_flow::CT_TRK | weft_flow::CT_EST, weft_flow::CT_TRK | weft_flow::CT_INV];
    let (_, trace) = pipeline.trace_through(TraceFrom::DpPort, &packet(1, PACKET), &next, 0);
    let actions: Vec<_> = trace.resumed.iter().map(|r| r.trace.actions.as_str()).collect();
    assert_eq!(actions.len(), 2);
    assert!(actions[0].starts_with("ct(zone=6),recirc(") && actions[1] == "103", "{actions:?}");
    assert!(trace.resumed[1].title[0].ends_with("- resume conntrack with ct_state=inv|trk"), "{trace}");
}

#[test]
fn groups_and_action_sets() {
    let pipeline = pipeline(vec![bridge(1, (1..5).map(|n| device(1, n)).collect())]);
    let buckets = [(0, "mod_dl_src:02:00:00:00:00:07,output:2"), (0, "output:3")];
    common::add_group(&pipeline, 1, 1, weft_pipeline::group::GroupKind::All, &buckets);
    flows(&pipeline, 1, "actions=write_actions(output:2,group:1),goto_table:1\ntable=1,actions=4");
    let text = pipeline.trace(&packet(1, PACKET), 0).1.to_string();
    let expected = "
 0. priority 32768
    write_actions(output:2,group:1)
     -> action set is: group:1
    goto_table:1
     1. priority 32768
            output:4
--. Executing action set:
    group:1
    bucket 0
            set_field:02:00:00:00:00:07->eth_src
            output:2
    bucket 1
            output:3
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn any_port_and_packet_outs() {
    let pipeline = pipeline(vec![bridge(1, vec![device(1, 1), patch(1, 3, (2, 3))]), bridge(2, vec![])]);
    flows(&pipeline, 1, "in_port=3,actions=1");
    let (verdict, trace) = pipeline.trace_on(1, OfPort(3), &packet(1, PACKET), 0);
    assert_eq!((common::outcome(&verdict), trace.drop), ("101".to_owned(), None));
    let actions = [Action::Output { port: OfPort::TABLE, max_len: 0 }];
    let out = PacketOut { bridge: 1, in_port: OfPort(3), actions: &actions };
    let (verdict, trace) = pipeline.trace_packet_out(&out, &packet(1, PACKET), 0);
    assert_eq!(common::outcome(&verdict), "101");
    assert!(trace.to_string().contains(" 0. in_port=3, priority 32768"), "{trace}");
}

#[test]
fn a_clone_ends_with_the_action_set() {
    let pipeline = pipeline(vec![bridge(1, (1..6).map(|n| device(1, n)).collect())]);
    let rules = "actions=resubmit(,1),clone(output:3,resubmit(,2)),output:4
        table=1,actions=write_actions(output:2)
        table=2,actions=write_actions(set_field:02:00:00:00:00:07->eth_src)";
    flows(&pipeline, 1, rules);
    let (verdict, _) = pipeline.trace(&packet(1, PACKET), 0);
    // What the clone wrote is in its own set only.
    assert_eq!(common::outcome(&verdict), "(103,EthSrc(02:00:00:00:00:07),102),104,102");
}

#[test]
fn a_traced_packet_teaches_if_it_is_there() {
    let pipeline = pipeline(vec![bridge(1, (1..4).map(|n| device(1, n)).collect())]);
    flows(
        &pipeline,
        1,
        "actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),NORMAL",
    );
    let key = packet(1, PACKET);
    let rules = |pipeline: &weft_pipeline::Pipeline| {
        let snapshot = pipeline.snapshot();
        snapshot.bridge(1).expect("the bridge").tables.rules(&Default::default()).len()
    };
    pipeline.trace(&key, 0);
    assert_eq!((pipeline.fdb_entries(1, 0).len(), rules(&pipeline)), (0, 1));
    let (_, trace) = pipeline.trace_and_learn(TraceFrom::DpPort, &key, &[], 0);
    assert!(trace.to_string().contains("-> learned that"), "{trace}");
    assert_eq!((pipeline.fdb_entries(1, 0).len(), rules(&pipeline)), (1, 2));
}

#[test]
fn a_packet_to_its_own_source_goes_nowhere() {
    let pipeline = pipeline(vec![bridge(1, (1..4).map(|n| device(1, n)).collect())]);
    flows(&pipeline, 1, "actions=NORMAL");
    let key = common::frame(101, 1, 1, &[]);
    // Before it is learned from, and after.
    assert_eq!(pipeline.trace(&key, 0).1.drop, Some("hairpin-refused"));
    assert_eq!(common::outcome(&pipeline.walk(&key, 0)), "drop:hairpin-refused");
    assert_eq!(pipeline.trace(&key, 0).1.drop, Some("hairpin-refused"));
}

#[test]
fn traces_are_data() {
    let pipeline = pipeline(vec![bridge(1, vec![device(1, 1), device(1, 2)])]);
    flows(&pipeline, 1, "actions=2");
    let json = serde_json::to_value(pipeline.trace(&packet(1, PACKET), 0).1).unwrap();
    assert_eq!(json["steps"][0]["kind"], "bridge");
    assert_eq!(json["steps"][0]["steps"][0]["text"], " 0. priority 32768");
    assert_eq!(json["steps"][0]["steps"][0]["steps"][0]["text"], "output:2");
    assert_eq!((&json["actions"], &json["drop"]), (&"102".into(), &serde_json::Value::Null));
}
