//! Does a trace read like `ovs-appctl ofproto/trace`, and is it the walk that happens?

mod common;

use common::{bridge, device, flows, packet, patch, pipeline};
use weft_flow::{Action, OfPort};
use weft_pipeline::PacketOut;

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
    -> goto_table:3
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
    assert!(text.contains(" -> no-other-port: "), "{text}");
    assert!(text.ends_with("Datapath actions: drop\nDrop reason: no-other-port"), "{text}");
    let nowhere = pipeline.trace(&packet(5, PACKET), 0).1;
    assert_eq!(nowhere.drop, Some("not-attached"));
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
fn traces_are_data() {
    let pipeline = pipeline(vec![bridge(1, vec![device(1, 1), device(1, 2)])]);
    flows(&pipeline, 1, "actions=2");
    let json = serde_json::to_value(pipeline.trace(&packet(1, PACKET), 0).1).unwrap();
    assert_eq!(json["steps"][0]["kind"], "bridge");
    assert_eq!(json["steps"][0]["steps"][0]["text"], " 0. priority 32768");
    assert_eq!(json["steps"][0]["steps"][0]["steps"][0]["text"], "output:2");
    assert_eq!((&json["actions"], &json["drop"]), (&"102".into(), &serde_json::Value::Null));
}
