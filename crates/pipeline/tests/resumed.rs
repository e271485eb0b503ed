//! Do walks go on where they were interrupted? Connection tracking, labels, lengths, controllers.

mod common;

use common::{bridge, device, flows, ipv4, outcome, patch, pipeline, recirculated, short};
use weft_flow::{CT_NEW, CT_TRK, DpAction, EXTRA_CT, Field, FlowKey};
use weft_pipeline::{Frozen, Pipeline};

fn ready(rules: &str) -> Pipeline {
    let ports = (1..6).map(|n| device(1, n)).chain([patch(1, 9, (2, 9))]).collect();
    let other = vec![device(2, 1), patch(2, 9, (1, 9))];
    let pipeline = pipeline(vec![bridge(1, ports), bridge(2, other)]);
    flows(&pipeline, 1, rules);
    pipeline
}

fn tcp() -> FlowKey {
    ipv4(101, 1, 2, 6, (1000, 80))
}

fn tracked(state: u16) -> impl Fn(&mut FlowKey) {
    move |key| {
        key.packet.extras |= EXTRA_CT;
        (key.ct.state, key.ct.zone) = (state | CT_TRK, 5);
    }
}

#[test]
fn tracking() {
    let pipeline = ready(
        "table=0,ip,actions=load:9->NXM_NX_REG0[],ct(table=1,zone=5),load:1->NXM_NX_REG0[],output:2
        table=1,ct_state=+trk+new,reg0=9,actions=ct(commit,zone=NXM_NX_REG0[0..15],exec(set_field:0x1/0xf->ct_mark)),output:3
        table=1,ct_state=+trk+est,ct_mark=1,actions=ct_clear,output:4,resubmit(,2)
        table=2,ct_state=-trk,actions=output:5",
    );
    let first = pipeline.walk(&tcp(), 0);
    assert_eq!(short(&first.actions), "ct(zone=5),recirc,102");
    let new = recirculated(&pipeline, &tcp(), &first, tracked(CT_NEW));
    assert_eq!(short(&new.actions), "ct(zone=9,commit,mark=0x1/0xf),103");
    assert_ne!(new.mask.0.ct.state & CT_NEW, 0);
    assert_eq!(new.mask.0.ct.mark, 0, "only the state was looked at");
    let established = recirculated(&pipeline, &tcp(), &first, |key| {
        tracked(weft_flow::CT_EST)(key);
        key.ct.mark = 1;
    });
    assert_eq!(short(&established.actions), "ct_clear,104,105");
    // Who holds the walk no longer cannot resume it.
    let id = first.actions.iter().find_map(|a| match a {
        DpAction::Recirc(r) => Some(r.id),
        _ => None,
    });
    drop(first);
    let mut key = tcp();
    key.packet.recirc_id = id.unwrap();
    let gone = pipeline.walk(&key, 0);
    assert_eq!((outcome(&gone).as_str(), gone.cacheable), ("drop:recirc-gone", false));
}

#[test]
fn a_bridge_does_not_see_what_another_tracked() {
    let pipeline = ready("table=0,actions=ct(table=1)\ntable=1,actions=output:9");
    flows(&pipeline, 2, "ct_state=-trk,actions=1");
    let first = pipeline.walk(&tcp(), 0);
    let second = recirculated(&pipeline, &tcp(), &first, tracked(CT_NEW));
    assert_eq!(short(&second.actions), "ct_clear,201");
}

#[test]
fn translation_makes_headers_uncertain() {
    let pipeline = ready(
        "actions=set_field:10.0.0.9->ip_src,ct(commit,nat(src=1.1.1.1)),output:2,set_field:10.0.0.9->ip_src,output:3",
    );
    let verdict = pipeline.walk(&tcp(), 0);
    assert_eq!(
        short(&verdict.actions),
        "Ipv4Src(167772169),ct(zone=0,commit,nat),102,Ipv4Src(167772169),103"
    );
}

#[test]
fn labels() {
    let pipeline = ready(
        "in_port=1,actions=push_mpls:0x8847,set_field:7->mpls_label,output:2\nin_port=2,actions=pop_mpls:0x800,output:1,dec_ttl,output:3",
    );
    let pushed = pipeline.walk(&tcp(), 0);
    assert_eq!(short(&pushed.actions), "push_mpls7140/8847,102");
    assert_eq!(Field::NwTtl.mask_of(&pushed.mask), 0xff);
    let popped = pipeline.walk(&labelled([0x7140, 0, 0]), 0);
    assert_eq!(short(&popped.actions), "pop_mpls/800,101,recirc");
    let mut beneath = tcp();
    beneath.packet.in_port = 102;
    let rest = recirculated(&pipeline, &beneath, &popped, |_| ());
    assert_eq!(short(&rest.actions), "IpTtl(63),103");
}

/// A packet with labels from port 2.
fn labelled(mpls: [u32; 3]) -> FlowKey {
    let mut key = tcp();
    let eth_src = key.packet.eth_src;
    key.packet = weft_flow::PacketKey { in_port: 102, eth_type: 0x8847, mpls, eth_src, ..Default::default() };
    key
}

#[test]
fn what_is_beneath_labels_is_not_looked_for_in_the_next_table() {
    let pipeline = ready(
        "in_port=2,actions=pop_mpls:0x800,output:1,goto_table:1
        table=1,tcp,tp_dst=80,actions=output:3
        table=1,priority=1,actions=output:4",
    );
    let popped = pipeline.walk(&labelled([0x7140, 0, 0]), 0);
    assert_eq!(short(&popped.actions), "pop_mpls/800,101,recirc");
    let mut beneath = tcp();
    beneath.packet.in_port = 102;
    let rest = recirculated(&pipeline, &beneath, &popped, |_| ());
    assert_eq!(short(&rest.actions), "103");
}

#[test]
fn copied_ttls() {
    let (one, two) = ([0x7140, 0, 0], [0x7032, 0x8109, 0]);
    for (actions, labels, expected) in [
        ("copy_ttl_out,output:1", one, "copy_ttl_out,101"),
        ("copy_ttl_in,output:1", one, "copy_ttl_in,101"),
        // The datapath alone knows what the TTL is.
        ("copy_ttl_out,output:1,dec_mpls_ttl,output:3", one, "copy_ttl_out,101,recirc"),
        ("copy_ttl_in,output:1,dec_mpls_ttl,output:3", one, "copy_ttl_in,101,Mpls(28991),103"),
        ("copy_ttl_out,output:1", two, "Mpls(28681),101"),
        ("copy_ttl_in,output:1", two, "copy_ttl_in,101"),
        (
            "copy_ttl_in,pop_mpls:0x8847,dec_mpls_ttl,output:1",
            two,
            "copy_ttl_in,pop_mpls/8847,Mpls(33073),101",
        ),
    ] {
        let pipeline = ready(&format!("actions={actions}"));
        assert_eq!(short(&pipeline.walk(&labelled(labels), 0).actions), expected, "{actions}");
    }
    // A packet without a second header with a TTL.
    let pipeline = ready("actions=copy_ttl_out,copy_ttl_in,output:2");
    assert_eq!(short(&pipeline.walk(&tcp(), 0).actions), "102");
}

#[test]
fn lengths() {
    let pipeline = ready(
        "table=0,actions=resubmit(,1),output:5
        table=1,actions=check_pkt_larger(1500)->NXM_NX_REG0[0],resubmit(,2),output:4
        table=2,reg0=1,actions=output:2
        table=2,reg0=0,actions=mod_dl_src:02:00:00:00:00:07,output:3",
    );
    let verdict = pipeline.walk(&tcp(), 0);
    let rest = "EthSrc(02:00:00:00:00:07),103,104,105";
    assert_eq!(short(&verdict.actions), format!("len>1500?(102,104,105):({rest})"));
}

#[test]
fn forks_do_not_explode() {
    let checks = "check_pkt_larger(1500)->NXM_NX_REG0[0],".repeat(40);
    let pipeline = ready(&format!("actions={checks}output:2"));
    assert_eq!(outcome(&pipeline.walk(&tcp(), 0)), "drop:too-many-resubmits");
}

#[test]
fn controllers_pause_and_resume() {
    let pipeline = ready(
        "table=0,actions=load:3->NXM_NX_REG1[],resubmit(,1),output:5
        table=1,actions=clone(output:4),controller(userdata=01.02,pause),output:NXM_NX_REG1[],goto_table:2
        table=2,reg1=2,actions=write_actions(output:3)",
    );
    let verdict = pipeline.walk(&tcp(), 0);
    let [DpAction::Output(_), DpAction::Controller(to)] = &verdict.actions[..] else {
        panic!("{:?}", verdict.actions)
    };
    assert_eq!((&to.userdata[..], to.table), (&[1, 2][..], 1));
    let frozen = to.paused.clone().unwrap().0.downcast::<Frozen>().unwrap();
    let mut key = tcp();
    key.pipeline = frozen.pipeline;
    assert_eq!(short(&pipeline.resume(&frozen, &key, 0).actions), "103,105");
    key.pipeline.regs[1] = 2;
    assert_eq!(short(&pipeline.resume(&frozen, &key, 0).actions), "102,105,103");
}

#[test]
fn queues_and_marks() {
    let pipeline = ready(
        "actions=set_queue:5,output:2,pop_queue,enqueue:3:7,output:4,load:1->NXM_NX_PKT_MARK[],output:5",
    );
    assert_eq!(
        short(&pipeline.walk(&tcp(), 0).actions),
        "Priority(5),102,Priority(7),103,Priority(0),104,Mark(1),105"
    );
}

#[test]
fn tunnel_options() {
    use weft_flow::{EXTRA_TUN_METADATA, EXTRA_TUNNEL, TlvMapping, TlvTable, TunnelKind};
    let tunnel = common::tunnel(1, 7, TunnelKind::Geneve, "2.2.2.2", |_| ());
    let pipeline = pipeline(vec![bridge(1, vec![device(1, 1), device(1, 2), tunnel])]);
    let mapping = TlvMapping { class: 0x102, kind: 0x80, len: 4, index: 0 };
    let table = TlvTable::new().with(&[mapping]).unwrap();
    pipeline
        .update(|s| {
            s.set_tlv_table(1, table.clone());
            Ok::<_, ()>(())
        })
        .unwrap();
    let options = |verdict: &weft_flow::Verdict| match &verdict.actions[0] {
        DpAction::SetTunnel(tunnel) => tunnel.options.clone(),
        other => panic!("{other:?}"),
    };
    flows(
        &pipeline,
        1,
        "in_port=1,actions=set_field:0x12345678->tun_metadata0,7
        in_port=2,actions=7,delete_field:tun_metadata0,7",
    );
    let set = [1, 2, 0x80, 1, 0x12, 0x34, 0x56, 0x78];
    assert_eq!(options(&pipeline.walk(&tcp(), 0)), set);
    // Options that the packet came with go on, and are looked at; removed ones do not.
    let mut key = tcp();
    key.packet.in_port = 102;
    key.packet.extras = EXTRA_TUNNEL | EXTRA_TUN_METADATA;
    table.set(0, &mut key.tun_metadata, &[9, 9, 9, 9], &[0xff; 4]);
    let verdict = pipeline.walk(&key, 0);
    assert_eq!(options(&verdict), [1, 2, 0x80, 1, 9, 9, 9, 9]);
    assert_eq!(table.get(0, &verdict.mask.0.tun_metadata), Some(vec![0xff; 4]));
    let [_, _, DpAction::SetTunnel(last), _] = &verdict.actions[..] else { panic!("{:?}", verdict.actions) };
    assert!(last.options.is_empty());
}
