//! Does each action do to packets what OpenFlow and `ovs-actions(7)` say?

mod common;

use common::{bridge, device, flows, outcome, packet, patch, pipeline};
use weft_flow::{DpAction, FlowKey, OfPort};
use weft_pipeline::{PacketOut, Pipeline};

const TCP: &str = "in_port=1,tcp,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,\
                   nw_ttl=64,nw_tos=0,nw_ecn=1,tp_src=1000,tp_dst=80";
const TAGGED: &str = "in_port=1,dl_vlan=10,dl_vlan_pcp=3,dl_type=0x1234";
const PLAIN: &str = "in_port=1,dl_type=0x1234,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02";
const ARP: &str = "in_port=1,arp,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.2,arp_sha=02:00:00:00:00:01";

fn four_ports() -> Pipeline {
    pipeline(vec![bridge(1, (1..=4).map(|n| device(1, n)).collect())])
}

/// Rules, a packet, what becomes of it.
type Case = (&'static str, &'static str, &'static str);

fn check(cases: &[Case]) {
    let pipeline = four_ports();
    for (rules, text, expected) in cases {
        flows(&pipeline, 1, rules);
        let key = packet(1, text);
        let verdict = pipeline.walk(&key, 0);
        assert_eq!(outcome(&verdict), *expected, "{rules} on {text}\n{}", pipeline.trace(&key, 0).1);
    }
}

#[test]
fn outputs() {
    check(&[
        ("actions=2,3", PLAIN, "102,103"),
        ("actions=1", PLAIN, "drop:hairpin-refused"),
        ("actions=in_port", PLAIN, "101"),
        ("actions=all", PLAIN, "102,103,104"),
        ("actions=flood", PLAIN, "102,103,104"),
        ("actions=9", PLAIN, "drop:port-gone"),
        ("actions=drop", PLAIN, "drop:rule-drop"),
        ("in_port=2,actions=3", PLAIN, "drop:table-miss"),
        ("", PLAIN, "drop:table-miss"),
        ("actions=load:3->NXM_NX_REG0[],output:NXM_NX_REG0[]", PLAIN, "103"),
        ("actions=output(port=2,max_len=60),3", PLAIN, "trunc60,102,103"),
        ("priority=0,actions=controller:128", PLAIN, "controller(reason=0,max=128)"),
        ("dl_type=0x1234,actions=controller:128", PLAIN, "controller(reason=1,max=128)"),
        ("actions=note:01.02,2", PLAIN, "102"),
    ]);
}

#[test]
fn fields() {
    check(&[
        ("actions=mod_dl_dst:02:00:00:00:00:09,2", PLAIN, "EthDst(02:00:00:00:00:09),102"),
        // A rule that matches the value knows that nothing changes.
        ("tcp,tp_dst=80,actions=set_field:80->tcp_dst,2", TCP, "102"),
        ("tcp,actions=set_field:80->tcp_dst,2", TCP, "TpDst(80),102"),
        // Written twice, set once; not sent, not set.
        ("actions=set_field:1.1.1.1->ip_dst,set_field:2.2.2.2->ip_dst,2", TCP, "Ipv4Dst(33686018),102"),
        ("actions=2,set_field:1.1.1.1->ip_dst", TCP, "102"),
        // Fields that the packet does not have.
        ("actions=set_field:1.1.1.1->ip_dst,2", PLAIN, "102"),
        ("ip,actions=set_field:80->tcp_dst,2", "in_port=1,udp,tp_dst=5", "102"),
        ("actions=set_field:1.1.1.1->arp_tpa,2", ARP, "Ipv4Dst(16843009),102"),
        ("actions=set_field:2->arp_op,2", ARP, "ArpOp(2),102"),
        ("actions=mod_nw_tos:0x20,2", TCP, "IpTos(33),102"),
        ("actions=set_field:0x100/0xff00->tcp_dst,2", TCP, "TpDst(336),102"),
        ("actions=dec_ttl,2", TCP, "IpTtl(63),102"),
        ("actions=dec_ttl,dec_ttl,2", TCP, "IpTtl(62),102"),
        ("actions=dec_ttl,2", "in_port=1,tcp,nw_ttl=1", "controller(reason=2,max=65535)"),
        ("actions=dec_ttl,2", PLAIN, "102"),
        ("actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],2", TCP, "EthDst(02:00:00:00:00:01),102"),
        ("actions=move:NXM_OF_TCP_SRC[0..7]->NXM_OF_TCP_DST[8..15],2", TCP, "TpDst(59472),102"),
        (
            "actions=push:NXM_OF_ETH_SRC[],push:NXM_OF_ETH_DST[],pop:NXM_OF_ETH_SRC[],pop:NXM_OF_ETH_DST[],in_port",
            TCP,
            "EthSrc(02:00:00:00:00:02),EthDst(02:00:00:00:00:01),101",
        ),
        ("actions=pop:NXM_NX_REG0[],2", PLAIN, "102"),
        // Set for one port, set back for the next.
        (
            "tcp,tp_dst=80,actions=set_field:81->tcp_dst,2,set_field:80->tcp_dst,3",
            TCP,
            "TpDst(81),102,TpDst(80),103",
        ),
    ]);
}

#[test]
fn tags() {
    check(&[
        ("actions=mod_vlan_vid:5,2", PLAIN, "push5,102"),
        ("actions=mod_vlan_vid:5,2", TAGGED, "tci6005,102"),
        ("actions=mod_vlan_pcp:1,2", TAGGED, "tci200a,102"),
        ("actions=mod_vlan_pcp:1,2", PLAIN, "push8192,102"),
        ("actions=strip_vlan,2", TAGGED, "pop,102"),
        ("actions=strip_vlan,2", PLAIN, "102"),
        ("actions=strip_vlan,mod_vlan_vid:6,2", TAGGED, "pop,push6,102"),
        ("actions=push_vlan:0x8100,set_field:4102->vlan_vid,2", PLAIN, "push6,102"),
        ("actions=push_vlan:0x88a8,set_field:4102->vlan_vid,2", TAGGED, "push6/88a8,102"),
        ("actions=push_vlan:0x8100,pop_vlan,2", TAGGED, "102"),
        ("actions=mod_vlan_vid:5,2,strip_vlan,3", PLAIN, "push5,102,pop,103"),
        ("actions=strip_vlan,2,mod_vlan_vid:10,3", TAGGED, "pop,102,push10,103"),
        ("actions=load:0->NXM_OF_VLAN_TCI[],2", TAGGED, "pop,102"),
        ("dl_vlan=10,actions=pop_vlan,2", TAGGED, "pop,102"),
        ("vlan_tci=0/0x1000,actions=2", PLAIN, "102"),
        ("vlan_tci=0x1000/0x1000,actions=2", PLAIN, "drop:table-miss"),
    ]);
}

#[test]
fn tables() {
    check(&[
        ("actions=resubmit(,1)\ntable=1,actions=2", PLAIN, "102"),
        ("actions=resubmit(,1),3\ntable=1,dl_type=0x800,actions=2", PLAIN, "103"),
        ("actions=resubmit(,1)\ntable=1,actions=drop", PLAIN, "drop:rule-drop"),
        ("actions=resubmit(,1)", PLAIN, "drop:table-miss"),
        ("priority=2,in_port=4,actions=2\npriority=1,actions=resubmit(4)", PLAIN, "102"),
        // IN_PORT is not the port that a resubmit pretends.
        ("priority=2,in_port=4,actions=in_port\npriority=1,actions=resubmit(4)", PLAIN, "101"),
        ("actions=resubmit(,0)", PLAIN, "drop:resubmit-too-deep"),
        ("actions=load:1->NXM_NX_REG0[],goto_table:3\ntable=3,reg0=1,actions=2", PLAIN, "102"),
        ("actions=goto_table:3", PLAIN, "drop:table-miss"),
        ("actions=write_metadata:0xf0/0xff,goto_table:1\ntable=1,metadata=0xf0,actions=2", PLAIN, "102"),
        ("actions=resubmit(,1),resubmit(,1)\ntable=1,actions=2,exit,3", PLAIN, "102"),
        // What a resubmit changes stays changed, what a clone changes does not.
        (
            "actions=resubmit(,1),2\ntable=1,actions=mod_dl_dst:02:00:00:00:00:07",
            PLAIN,
            "EthDst(02:00:00:00:00:07),102",
        ),
        ("actions=clone(mod_dl_dst:02:00:00:00:00:07,2),3", PLAIN, "(EthDst(02:00:00:00:00:07),102),103"),
        ("actions=3,clone(mod_dl_dst:02:00:00:00:00:07,2)", PLAIN, "103,EthDst(02:00:00:00:00:07),102"),
        // An exit ends everything, but for what is around a bucket.
        ("actions=clone(2,exit,4),3", PLAIN, "102"),
        ("actions=clone(clone(2,exit),4),3", PLAIN, "102"),
        (
            "actions=resubmit(,1),3\ntable=1,actions=clone(resubmit(,2)),4\ntable=2,actions=2,exit",
            PLAIN,
            "102",
        ),
        ("actions=clone(2,exit),goto_table:1\ntable=1,actions=3", PLAIN, "102"),
        ("actions=clone(mod_dl_dst:02:00:00:00:00:07,2,exit),3", PLAIN, "EthDst(02:00:00:00:00:07),102"),
        // The action set is done all the same, in a clone and at the end.
        ("actions=clone(resubmit(,1),exit),3\ntable=1,actions=write_actions(output:2)", PLAIN, "102"),
        (
            "actions=resubmit(,1),clone(2,exit),3\ntable=1,actions=write_actions(output:4)",
            PLAIN,
            "102,104,104",
        ),
        (
            "actions=clone(load:9->NXM_NX_REG0[]),resubmit(,1)\ntable=1,reg0=9,actions=2\ntable=1,reg0=0,actions=3",
            PLAIN,
            "103",
        ),
        // The rest of a list is skipped when the TTL ran out, other lists are not.
        (
            "actions=resubmit(,1),2\ntable=1,actions=dec_ttl,3",
            "in_port=1,tcp,nw_ttl=1",
            "controller(reason=2,max=65535),102",
        ),
    ]);
}

#[test]
fn action_sets() {
    check(&[
        ("actions=write_actions(output:2)", PLAIN, "102"),
        (
            "actions=write_actions(output:2),goto_table:1\ntable=1,actions=write_actions(output:3)",
            PLAIN,
            "103",
        ),
        (
            "actions=write_actions(output:2),goto_table:1\ntable=1,actions=clear_actions",
            PLAIN,
            "drop:rule-drop",
        ),
        ("actions=3,write_actions(output:2)", PLAIN, "103,102"),
        (
            "actions=write_actions(output:2,set_field:02:00:00:00:00:07->eth_dst,push_vlan:0x8100)",
            PLAIN,
            "EthDst(02:00:00:00:00:07),push0,102",
        ),
        ("actions=write_actions(output:2),goto_table:1", PLAIN, "102"),
        ("actions=write_actions(output:2),goto_table:1\ntable=1,actset_output=2,actions=3", PLAIN, "103,102"),
    ]);
}

#[test]
fn endless_rules_end() {
    let pipeline = four_ports();
    // Every table resubmits twice to the next: 2^250 lookups if nobody counted.
    let lines: Vec<String> =
        (0..250).map(|t| format!("table={t},actions=resubmit(,{0}),resubmit(,{0}),2", t + 1)).collect();
    flows(&pipeline, 1, &lines.join("\n"));
    assert_eq!(outcome(&pipeline.walk(&packet(1, PLAIN), 0)), "drop:too-many-resubmits");
    // A thread with a small stack does not mind.
    std::thread::Builder::new()
        .stack_size(512 * 1024)
        .spawn(move || assert!(pipeline.walk(&packet(1, PLAIN), 0).drop.is_some()))
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn patch_cables() {
    let pipeline = pipeline(vec![
        bridge(1, vec![device(1, 1), patch(1, 2, (2, 2)), device(1, 3)]),
        bridge(2, vec![device(2, 1), patch(2, 2, (1, 2)), patch(2, 3, (3, 1))]),
        bridge(3, vec![patch(3, 1, (2, 3)), patch(3, 2, (9, 9))]),
    ]);
    let key = packet(1, PLAIN);
    let check = |expected: &str| {
        assert_eq!(outcome(&pipeline.walk(&key, 0)), expected, "{}", pipeline.trace(&key, 0).1)
    };
    // NORMAL everywhere: bridge 3 has no other port.
    check("201,103");
    flows(&pipeline, 1, "actions=load:7->NXM_NX_REG0[],set_field:02:00:00:00:00:07->eth_src,2,3");
    flows(&pipeline, 2, "in_port=2,reg0=0,actions=mod_vlan_vid:9,1");
    check("(EthSrc(02:00:00:00:00:07),push9,201),EthSrc(02:00:00:00:00:07),103");
    flows(&pipeline, 1, "actions=mod_vlan_vid:9,2");
    flows(&pipeline, 2, "in_port=2,dl_vlan=9,actions=strip_vlan,1,3");
    flows(&pipeline, 3, "actions=in_port");
    // Back through the cable to bridge 2, which drops it.
    check("201");
    flows(&pipeline, 2, "actions=in_port");
    flows(&pipeline, 1, "actions=2");
    // Bridge 1 got it back by port 2 and does not send it there again.
    check("drop:hairpin-refused");
    flows(
        &pipeline,
        1,
        "actions=load:2->NXM_NX_REG0[],resubmit(,1)\ntable=1,in_port=2,actions=in_port\ntable=1,actions=2",
    );
    check("drop:recursion-too-deep");
}

#[test]
fn many_parallel_cables_do_not_explode() {
    let cables = |own: u32, other: u32| (2..10).map(move |n| patch(own, n, (other, n)));
    let one = std::iter::once(device(1, 1)).chain(cables(1, 2)).collect();
    let two = std::iter::once(device(2, 1)).chain(cables(2, 1)).collect();
    let pipeline = pipeline(vec![bridge(1, one), bridge(2, two)]);
    let mut key = packet(1, PLAIN);
    key.packet.eth_dst = weft_wire::Mac::BROADCAST;
    assert!(pipeline.walk(&key, 0).drop.is_some());
}

#[test]
fn packet_outs() {
    let pipeline = four_ports();
    flows(&pipeline, 1, "in_port=2,actions=3\nin_port=controller,actions=4");
    let send = |in_port, text: &str| {
        let line = common::flow_mod(&format!("actions={text}"));
        let out = PacketOut { bridge: 1, in_port, actions: &line.instructions.apply };
        let verdict = pipeline.packet_out(&out, &packet(1, "dl_type=0x1234"), 0);
        assert!(!verdict.cacheable);
        outcome(&verdict)
    };
    assert_eq!(send(OfPort::CONTROLLER, "1,2"), "101,102");
    assert_eq!(send(OfPort(2), "table"), "103");
    assert_eq!(send(OfPort::CONTROLLER, "table,1"), "104,101");
    assert_eq!(send(OfPort(1), "all"), "102,103,104");
    assert_eq!(send(OfPort::ANY, "normal"), "101,102,103,104");
    assert_eq!(send(OfPort(1), "controller"), "controller(reason=5,max=65535)");
    let out = PacketOut { bridge: 7, in_port: OfPort(1), actions: &[] };
    assert_eq!(outcome(&pipeline.packet_out(&out, &FlowKey::default(), 0)), "drop:not-attached");
}

#[test]
fn misses_go_to_controllers_that_expect_them() {
    let mut config = bridge(1, vec![device(1, 1), device(1, 2)]);
    config.flags_no_packet_in(2);
    config.miss_to_controller = true;
    config.controller_connected = true;
    let pipeline = pipeline(vec![config]);
    flows(&pipeline, 1, "dl_type=0x800,actions=dec_ttl,2\ndl_type=0x999,actions=resubmit(,7),2");
    let check = |text, expected: &str| assert_eq!(outcome(&pipeline.walk(&packet(1, text), 0)), expected);
    check(PLAIN, "controller(reason=0,max=65535)");
    check("in_port=2,dl_type=0x1234", "drop:table-miss");
    check("in_port=1,dl_type=0x999", "102");
    check("in_port=1,ip,nw_ttl=1", "controller(reason=2,max=65535)");
}

trait NoPacketIn {
    fn flags_no_packet_in(&mut self, port: u32);
}

impl NoPacketIn for weft_pipeline::BridgeConfig {
    fn flags_no_packet_in(&mut self, port: u32) {
        let mut port = self.ports.get(OfPort(port)).unwrap().clone();
        port.flags.no_packet_in = true;
        self.ports.insert(port);
    }
}

#[test]
fn packet_ins_know_where_they_come_from() {
    let pipeline = four_ports();
    flows(
        &pipeline,
        1,
        "actions=goto_table:5\ntable=5,cookie=0x77,dl_type=0x1234,actions=load:6->NXM_NX_REG1[],controller(id=3,max_len=20,reason=action)\n\
         table=5,dl_type=0x1235,actions=controller(pause)",
    );
    let verdict = pipeline.walk(&packet(1, PLAIN), 0);
    let [DpAction::Controller(c)] = &verdict.actions[..] else { panic!("{:?}", verdict.actions) };
    assert_eq!((c.table, c.cookie, c.controller_id, c.max_len, c.reason), (5, 0x77, 3, 20, 1));
    assert_eq!((c.key.pipeline.in_port, c.key.pipeline.regs[1]), (1, 6));
    // What it tells is the same for every packet of the cached flow; what waits for an answer is one packet's own.
    assert!(verdict.cacheable && c.key.packet == Default::default());
    let paused = pipeline.walk(&packet(1, &PLAIN.replace("0x1234", "0x1235")), 0);
    assert!(!paused.cacheable && matches!(&paused.actions[..], [DpAction::Controller(_)]), "{paused:?}");
    let rules: Vec<_> = verdict.rules.iter().map(|r| (r.table, r.cookie)).collect();
    assert_eq!(rules, [(0, 0), (5, 0x77)]);
}
