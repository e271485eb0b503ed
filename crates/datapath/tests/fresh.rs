//! Does every cached flow say what a fresh walk says, of every packet that it matches?
//!
//! Generated rules and packets; flows are compared after packets went through, after the tables changed, and after
//! packets went through again. A flow's match is tried on all packets, not only on the one that it was made for: a
//! mask that is too wide shows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use weft_datapath::{Datapath, PcapSpec, PortKind, PortSpec, UserDatapath, UserOptions};
use weft_flow::text::{Syntax, parse_flow, parse_instructions};
use weft_flow::{DpPort, DropReason, FlowKey, OfPort, extract_packet};
use weft_pipeline::{
    BridgeConfig, FailMode, FlowMod, FlowModCommand, Pipeline, PortConfig, PortKind as OfKind,
};
use weft_wire::Mac;
use weft_wire::build::Frame;
use weft_wire::nsh::{self, Metadata, NshRepr};

const BRIDGE: u32 = 1;
/// Two that receive, two that only send.
const PORTS: [u32; 4] = [1, 2, 3, 4];

/// A stateful firewall, so that packets get to the later tables.
const BASE: [&str; 4] = [
    "table=0,priority=25,udp actions=ct(table=1,zone=1)",
    "table=0,priority=1,ip actions=load:1->NXM_NX_REG0[],resubmit(,1)",
    "table=1,priority=20,ct_state=+new+trk,udp actions=ct(commit,zone=1,exec(load:1->NXM_NX_CT_MARK[])),output:3",
    "table=1,priority=20,ct_state=+est+trk,udp,ct_mark=1 actions=ct(table=2,zone=2),output:4",
];

fn matching() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        (1u32..3).prop_map(|n| format!("in_port={n}")),
        (0u8..4).prop_map(|n| format!("dl_src=02:00:00:00:00:0{n}")),
        prop_oneof![Just("dl_vlan=5".to_owned()), Just("vlan_tci=0/0x1fff".to_owned())],
        (0u8..8, 29u8..=32).prop_map(|(host, len)| format!("ip,nw_src=10.0.0.{host}/{len}")),
        (0u8..8, 24u8..=32).prop_map(|(host, len)| format!("ip,nw_dst=10.0.1.{host}/{len}")),
        (0u16..4).prop_map(|port| format!("udp,tp_dst={}", 50 + port)),
        (0u16..4).prop_map(|port| format!("udp,tp_src={}/0xfffc", 1000 + port)),
        Just("ip,nw_tos=32".to_owned()),
        (0u8..4).prop_map(|si| format!("dl_type=0x894f,nsh_si={si}")),
        Just("dl_type=0x894f,nsh_mdtype=1,nsh_c1=1/3".to_owned()),
    ];
    prop::collection::vec(field, 1..4).prop_map(|fields| fields.join(","))
}

/// What only rules of later tables may match.
fn later() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        (0u32..3).prop_map(|n| format!("reg0={n}")),
        Just("ct_state=+trk".to_owned()),
        Just("ct_state=+new+trk,ip".to_owned()),
        Just("ct_state=-trk".to_owned()),
        Just("ct_mark=1".to_owned()),
        Just("ip,nw_ttl=63".to_owned()),
        Just("dl_type=0x894f,nsh_ttl=63".to_owned()),
        Just("packet_type=(1,0x800)".to_owned()),
    ];
    (prop::collection::vec(field, 0..2), matching()).prop_map(|(a, b)| {
        let mut parts = a;
        parts.extend((!b.is_empty()).then_some(b));
        parts.join(",")
    })
}

fn actions() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        4 => (1u32..=4).prop_map(|n| format!("output:{n}")),
        1 => Just("IN_PORT".to_owned()),
        2 => (0u32..3).prop_map(|n| format!("load:{n}->NXM_NX_REG0[],resubmit(,1)")),
        1 => Just("mod_vlan_vid:7".to_owned()),
        1 => Just("strip_vlan".to_owned()),
        1 => Just("dec_ttl".to_owned()),
        1 => Just("mod_dl_dst:02:00:00:00:00:09".to_owned()),
        2 => Just("resubmit(,1)".to_owned()),
        2 => (1u16..3).prop_map(|zone| format!("ct(table=2,zone={zone})")),
        1 => Just("ct(commit,zone=1,exec(load:1->NXM_NX_CT_MARK[])),output:3".to_owned()),
        1 => Just("clone(mod_nw_tos:32,resubmit(,1))".to_owned()),
        1 => Just("encap(nsh),set_field:1->nsh_c1,encap(ethernet),resubmit(,1)".to_owned()),
        1 => Just("decap(),resubmit(,1),encap(ethernet),output:3".to_owned()),
        1 => Just("decap(),decap(),output:4".to_owned()),
        1 => Just("encap(nsh),decap(),output:3".to_owned()),
        1 => Just("move:NXOXM_NSH_SI[0..1]->NXOXM_NSH_C2[0..1],dec_nsh_ttl,output:4".to_owned()),
    ];
    let list = prop::collection::vec(one, 1..3).prop_map(|list| list.join(","));
    prop_oneof![6 => list, 1 => Just("drop".to_owned())]
}

/// Rules that recirculate do so with later tables, so that no packet goes round.
fn rule() -> impl Strategy<Value = String> {
    let plain = |list: &String| !list.contains("table=2");
    prop_oneof![
        4 => (matching(), 1u16..50, actions()).prop_map(|(m, p, a)| line(0, p, &m, &a)),
        3 => (later(), 1u16..50, actions()).prop_map(|(m, p, a)| line(1, p, &m, &a.replace("resubmit(,1)", "output:4"))),
        3 => (later(), 1u16..50, actions().prop_filter("no rounds", plain))
            .prop_map(|(m, p, a)| line(2, p, &m, &a.replace("resubmit(,1)", "output:4"))),
    ]
}

fn line(table: u8, priority: u16, matching: &str, actions: &str) -> String {
    let comma = if matching.is_empty() { "" } else { "," };
    format!("table={table},priority={priority}{comma}{matching} actions={actions}")
}

/// `None`: an action does not go with the match.
fn flow_mod(line: &str) -> Option<FlowMod> {
    let syntax = Syntax::default();
    let (flow, actions) = line.split_once(" actions=")?;
    let flow = parse_flow(flow, &syntax).ok()?;
    let instructions = parse_instructions(actions, &flow.matching, &syntax).ok()?;
    let command = FlowModCommand::Add;
    Some(FlowMod {
        instructions,
        ..FlowMod::new(command, flow.table.unwrap_or(0), flow.priority, flow.matching)
    })
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    (0u8..4, any::<bool>(), 0u8..8, 0u8..8, 0u16..4, 0u16..4, 0u8..5).prop_map(
        |(mac, tag, src, dst, from, to, kind)| {
            let mut frame = Frame::eth(Mac([2, 0, 0, 0, 0, mac]), Mac([2, 0, 0, 0, 0, 8]));
            if tag {
                frame = frame.vlan(5);
            }
            if kind == 0 {
                return frame.ether_type(weft_wire::EtherType(0x88b5)).payload([0; 46]).build();
            }
            if kind == 4 {
                let path = u32::from(src) << 8 | u32::from(dst & 3);
                let metadata = Metadata::Fixed([mac; 16]);
                let header =
                    NshRepr { flags: 0, ttl: 60 + dst % 4, next: nsh::next::ETHERNET, path, metadata };
                let inner = Frame::eth(Mac([2, 0, 0, 0, 0, mac]), Mac([2, 0, 0, 0, 0, 8]));
                let inner = inner.ipv4([10, 0, 0, src], [10, 0, 1, dst]).udp(1000 + from, 50 + to).build();
                let mut payload = vec![0; header.header_len()];
                header.emit(&mut payload).unwrap();
                payload.extend(inner);
                return frame.ether_type(weft_wire::EtherType::NSH).payload(payload).build();
            }
            let frame = frame.ipv4([10, 0, 0, src], [10, 0, 1, dst]).tos(if kind == 1 { 32 } else { 0 });
            frame.udp(1000 + from, 50 + to).payload([0; 20]).build()
        },
    )
}

struct Switch {
    pipeline: Arc<Pipeline>,
    datapath: UserDatapath,
    frames: Vec<Vec<u8>>,
}

impl Switch {
    fn new(frames: Vec<Vec<u8>>) -> Switch {
        let pipeline = Arc::new(Pipeline::new());
        let mut bridge = BridgeConfig::new(BRIDGE, "br0");
        bridge.fail_mode = FailMode::Secure;
        let port = |n: &u32| PortConfig::new(OfPort(*n), Some(DpPort(*n)), &format!("p{n}"), OfKind::Device);
        bridge.ports = PORTS.iter().map(port).collect();
        let publish = |s: &mut weft_pipeline::Snapshot| {
            s.set_bridge(bridge.clone());
            Ok::<_, ()>(())
        };
        pipeline.update(publish).unwrap();
        let options = UserOptions { lanes: Some(1), ..UserOptions::default() };
        let datapath = UserDatapath::new(pipeline.clone(), Arc::new(|_| true), &options).unwrap();
        for n in &PORTS[2..] {
            let spec =
                PortSpec { number: Some(DpPort(*n)), ..PortSpec::new(format!("p{n}"), PortKind::Null) };
            datapath.add_port(&spec).unwrap();
        }
        Switch { pipeline, datapath, frames }
    }

    fn add(&self, rules: &[String]) {
        let add = |s: &mut weft_pipeline::Snapshot| {
            let tables = s.tables_mut(BRIDGE).unwrap();
            for flow_mod in rules.iter().filter_map(|line| flow_mod(line)) {
                tables.apply(&flow_mod, 0).unwrap();
            }
            Ok::<_, ()>(())
        };
        self.pipeline.update(add).unwrap();
    }

    fn delete(&self, table: u8) {
        let delete = |s: &mut weft_pipeline::Snapshot| {
            let command = FlowModCommand::Delete { strict: false };
            let all = FlowMod::new(command, table, 0, weft_flow::Match::any());
            s.tables_mut(BRIDGE).unwrap().apply(&all, 0).unwrap();
            Ok::<_, ()>(())
        };
        self.pipeline.update(delete).unwrap();
    }

    /// Sends every frame once by both ports.
    fn replay(&self) {
        for n in &PORTS[..2] {
            let frames: Vec<Box<[u8]>> = self.frames.iter().map(|f| f.clone().into()).collect();
            let kind = PortKind::Pcap(PcapSpec { frames: frames.into(), loops: Some(1) });
            let spec = PortSpec { number: Some(DpPort(*n)), ..PortSpec::new(format!("p{n}"), kind) };
            self.datapath.add_port(&spec).unwrap();
        }
        for n in &PORTS[..2] {
            let start = Instant::now();
            let received = || self.datapath.port_stats(DpPort(*n)).unwrap().rx_packets as usize;
            while received() < self.frames.len() && start.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.datapath.del_port(DpPort(*n)).unwrap();
        }
    }

    /// Every packet of these frames, as it comes in.
    fn keys(&self) -> Vec<FlowKey> {
        let one = |(n, frame): (&u32, &Vec<u8>)| {
            let mut key = FlowKey::default();
            extract_packet(frame, *n, &mut key.packet).unwrap();
            key
        };
        let pairs = PORTS[..2].iter().flat_map(|n| self.frames.iter().map(move |frame| (n, frame)));
        pairs.map(one).collect()
    }

    /// Compares all flows with fresh walks; returns how many comparisons there were.
    fn compare(&self) -> Result<usize, TestCaseError> {
        let (keys, mut compared) = (self.keys(), 0);
        for flow in self.datapath.flows() {
            let own = flow.matching.key;
            // Packets as they come in, as they may be when they resume, and the one that the match itself is.
            let resumed = keys.iter().map(|key| {
                let mut key = *key;
                key.packet.recirc_id = own.packet.recirc_id;
                (key.packet.extras, key.ct) = (own.packet.extras, own.ct);
                key
            });
            for key in
                keys.iter().copied().chain(resumed).chain([own]).filter(|key| flow.matching.covers(key))
            {
                let (fresh, trace) = self.pipeline.trace(&key, 0);
                if fresh.drop == Some(DropReason::RecircGone) {
                    // No flow leads to this one any more, and its number is not given again.
                    continue;
                }
                prop_assert_eq!(&flow.actions, &fresh.actions, "{:?}\n{:?}", flow.matching, trace);
                prop_assert_eq!(flow.drop, fresh.drop);
                compared += 1;
            }
        }
        Ok(compared)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]
    #[test]
    fn flows_say_what_walks_say(
        first in prop::collection::vec(rule(), 4..24),
        second in prop::collection::vec(rule(), 1..8),
        emptied in prop::option::of(0u8..3),
        frames in prop::collection::vec(frame(), 60),
    ) {
        let switch = Switch::new(frames);
        switch.add(&BASE.map(str::to_owned));
        switch.add(&first);
        switch.replay();
        prop_assert!(switch.compare()? > 0);
        if let Some(table) = emptied {
            switch.delete(table);
        }
        switch.add(&second);
        switch.datapath.sync();
        switch.compare()?;
        switch.replay();
        prop_assert!(switch.compare()? > 0);
        // Again, now that connections are known.
        switch.replay();
        switch.compare()?;
    }
}
