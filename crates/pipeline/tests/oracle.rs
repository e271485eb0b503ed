//! Is a cached verdict right for every packet it is used for, and do the datapath actions do what the rules say?
//!
//! Random rules on bridges with cables and tunnels. A second packet agrees with the first one wherever the verdict's
//! mask looks, and is random elsewhere: its own walk must give the same verdict. And a plain interpreter, which
//! executes each action at once on a whole packet, must see the same packets leave by the same ports.

mod common;
mod model;

use common::twins::{copies, same, twin};
use common::{addr, bridge, device, flows, local, patch, pipeline, tunnel};
use proptest::prelude::*;
use weft_flow::text::{Syntax, format_key};
use weft_flow::{Band, BandKind, CACHED_WORDS, EXTRA_BARE, FlowKey, OfPort, TunnelKind};
use weft_pipeline::group::{Bucket, GroupCommand, GroupKind, GroupMod};
use weft_pipeline::meter::{MeterCommand, MeterMod};
use weft_pipeline::{Pipeline, PriorityTags, Route, TunnelByte, TunnelId, VlanConfig, VlanMode};
use weft_wire::Mac;

/// Ways to match; `{n}` becomes a small number.
const MATCHES: &[&str] = &[
    "",
    "in_port={n}",
    "dl_src=02:00:00:00:00:0{n}",
    "dl_dst=02:00:00:00:00:0{n}",
    "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
    "dl_vlan={n}",
    "vlan_tci=0x1000/0x1000",
    "vlan_tci=0x0000/0x1fff",
    "ip",
    "arp,arp_op={n}",
    "ip,nw_src=10.0.0.{n}",
    "ip,nw_dst=10.0.0.{n}",
    "ip,nw_dst=10.0.0.0/{n}",
    "ip,nw_dst=10.0.0.0/30",
    "ip,nw_src=0.0.0.{n}/0.0.0.3",
    "ip,nw_tos=0x20",
    "ip,nw_ttl={n}",
    "ip,nw_frag=no",
    "tcp,tp_dst={n}",
    "tcp,tp_src=0x10/0xfff0",
    "udp,tp_dst={n}",
    "tcp,nw_src=10.0.0.{n},tp_dst=0/0x8000",
    "ipv6,ipv6_dst=fd00::/1{n}",
    "ipv6,ipv6_src=fd00::{n}",
    "reg0={n}",
    "metadata={n}/0x3",
    "tun_id={n}",
    "tun_src=1.1.1.{n}",
    "mpls",
    "mpls,mpls_label={n}",
    "mpls,mpls_bos=0",
    "mpls,mpls_ttl={n}",
    "ip,ct_state=+trk+new",
    "ip,ct_state=-trk",
    "ct_state=+est",
    "ct_mark={n}/0x3",
    "ct_zone={n}",
    "reg1=1/1",
    "dl_type=0x894f",
    "dl_type=0x894f,nsh_si={n}",
    "dl_type=0x894f,nsh_spi={n},nsh_ttl={n}",
    "dl_type=0x894f,nsh_mdtype=1,nsh_c2={n}/0x3",
    "dl_type=0x894f,nsh_np=3,nsh_flags=0/1",
    "packet_type=(1,0x800)",
    "packet_type=(1,0x800),nw_ttl={n}",
    "packet_type=(1,0x894f)",
    "packet_type=(1,0x894f),nsh_np={n}",
];

/// Actions; `{n}` becomes a small number.
const ACTIONS: &[&str] = &[
    "output:{n}",
    "output:{n}",
    "in_port",
    "all",
    "flood",
    "normal",
    "mod_dl_src:02:00:00:00:00:0{n}",
    "mod_dl_dst:02:00:00:00:00:0{n}",
    "mod_vlan_vid:{n}",
    "mod_vlan_pcp:{n}",
    "strip_vlan",
    "push_vlan:0x8100",
    "push_vlan:0x88a8",
    "load:0->NXM_OF_VLAN_TCI[]",
    "load:{n}->NXM_OF_VLAN_TCI[0..3]",
    "set_field:10.0.0.{n}->ip_src",
    "set_field:10.0.0.{n}->ip_dst",
    "set_field:0.0.0.{n}/0.0.0.7->ip_dst",
    "set_field:fd00::{n}->ipv6_dst",
    "set_field:{n}->tcp_dst",
    "set_field:{n}->udp_src",
    "set_field:{n}->arp_op",
    "set_field:02:00:00:00:00:0{n}->arp_sha",
    "mod_nw_tos:0x20",
    "mod_nw_ecn:2",
    "dec_ttl",
    "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]",
    "move:NXM_OF_ETH_SRC[0..3]->NXM_NX_REG0[4..7]",
    "move:NXM_OF_IP_SRC[0..15]->NXM_OF_IP_DST[0..15]",
    "move:NXM_OF_VLAN_TCI[0..7]->NXM_NX_REG0[0..7]",
    "load:{n}->NXM_NX_REG0[]",
    "load:{n}->NXM_NX_REG0[2..4]",
    "output:NXM_NX_REG0[]",
    "push:NXM_OF_ETH_DST[]",
    "pop:NXM_OF_ETH_SRC[]",
    "pop:NXM_NX_REG0[]",
    "set_field:{n}->tun_id",
    "set_field:2.2.2.{n}->tun_dst",
    "resubmit(,{n})",
    "resubmit(,{n})",
    "resubmit({n},)",
    "clone(output:{n},mod_dl_src:02:00:00:00:00:07,output:{n})",
    "clone(strip_vlan,dec_ttl,resubmit(,{n}))",
    "output(port={n},max_len=64)",
    "exit",
    "group:{n}",
    "group:{n}",
    "push_mpls:0x8847",
    "pop_mpls:0x0800",
    "pop_mpls:0x8847",
    "set_field:{n}->mpls_label",
    "set_field:{n}->mpls_tc",
    "dec_mpls_ttl",
    "ct(table={n})",
    "ct(table={n},zone={n})",
    "ct(commit,zone=NXM_NX_REG0[0..15],table={n},exec(set_field:{n}->ct_mark))",
    "ct(commit)",
    "ct_clear",
    "check_pkt_larger(30{n})->NXM_NX_REG1[0]",
    "set_queue:{n}",
    "pop_queue",
    "enqueue:{n}:5",
    "meter:{n}",
    "load:{n}->NXM_NX_PKT_MARK[]",
    "multipath(symmetric_l4,{n},hrw,4,0,NXM_NX_REG0[0..7])",
    "multipath(nw_src,{n},modulo_n,4,0,NXM_NX_REG0[0..7])",
    "bundle(symmetric_l3l4,{n},hrw,ofport,members:1,{n})",
    "learn(table={n},NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],NXM_OF_VLAN_TCI[0..11],output:NXM_OF_IN_PORT[])",
    "fin_timeout(idle_timeout={n})",
    "clone(ct(table={n}),output:{n},pop_mpls:0x0800,dec_ttl,output:{n})",
    "encap(nsh)",
    "encap(nsh(md_type=1)),set_field:{n}->nsh_si,set_field:{n}->nsh_c3,encap(ethernet),output:{n}",
    "encap(ethernet)",
    "encap(ethernet),output:{n}",
    "decap()",
    "decap()",
    "decap(),decap(),output:{n}",
    "decap(),dec_ttl,encap(ethernet),output:{n}",
    "clone(encap(nsh),dec_nsh_ttl,encap(ethernet),output:{n})",
    "dec_nsh_ttl",
    "set_field:{n}->nsh_ttl",
    "set_field:{n}->nsh_si",
    "set_field:{n}->nsh_spi",
    "set_field:0x100/0xf00->nsh_c1",
    "set_field:{n}/3->nsh_flags",
    "move:NXOXM_NSH_SI[]->NXOXM_NSH_C2[0..7]",
    "goto_table:{n}",
    "write_metadata:{n}",
    "write_actions(output:{n},set_field:02:00:00:00:00:0{n}->eth_src)",
    "clear_actions",
];

/// Order in which instructions must stand.
fn stage(action: &str) -> usize {
    let order = ["clear_actions", "write_actions", "write_metadata", "goto_table"];
    if action.starts_with("meter:") {
        return 0;
    }
    order.iter().position(|name| action.starts_with(name)).map_or(1, |n| n + 2)
}

fn filled(templates: &'static [&'static str]) -> impl Strategy<Value = String> {
    (0..templates.len(), 1u8..8).prop_map(|(i, n)| templates[i].replace("{n}", &n.to_string()))
}

fn rule() -> impl Strategy<Value = String> {
    let table = prop_oneof![3 => Just(0u8), 4 => 1u8..8];
    (table, 0u16..6, filled(MATCHES), proptest::collection::vec(filled(ACTIONS), 0..6)).prop_map(
        |(table, priority, matching, mut actions)| {
            actions.sort_by_key(|a| stage(a));
            let mut once: Vec<String> = Vec::new();
            for action in actions {
                let forward =
                    action.strip_prefix("goto_table:").is_none_or(|to| to.parse::<u8>().unwrap() > table);
                if forward
                    && (stage(&action) == 1 || once.last().is_none_or(|last| stage(last) != stage(&action)))
                {
                    once.push(action);
                }
            }
            let actions = if once.is_empty() { "drop".to_owned() } else { once.join(",") };
            format!("table={table},priority={priority},{matching},actions={actions}")
        },
    )
}

/// A key that prints on one line.
#[derive(Clone)]
struct Line(FlowKey);

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut key = self.0;
        key.pipeline.in_port = key.packet.in_port - 100;
        f.write_str(&format_key(&key, &Syntax::default()))
    }
}

/// A packet with small numbers in its fields, which rules are likely to match.
fn key() -> impl Strategy<Value = Line> {
    let eth_type = [0x800u16, 0x800, 0x86dd, 0x806, 0x1234, 0x8847, 0x894f, 0x894f].as_slice();
    let eth_type = prop::sample::select(eth_type);
    let proto = prop_oneof![Just(6u8), Just(17), Just(1), Just(2)];
    let tci =
        prop_oneof![2 => Just(0u16), 3 => (0u16..8, 0u16..8).prop_map(|(vid, pcp)| 0x1000 | vid | pcp << 13)];
    let numbers = (1u32..5, any::<[u8; 8]>(), any::<bool>(), any::<bool>());
    (eth_type, proto, tci.clone(), tci, numbers).prop_map(
        |(eth_type, proto, tci, tci1, (port, n, tunnel, multi))| {
            let mut key = FlowKey::default();
            let p = &mut key.packet;
            p.in_port = 100 + port;
            p.eth_type = eth_type;
            p.eth_src = Mac([2, 0, 0, 0, 0, n[0] & 7]);
            p.eth_dst = if multi { Mac::BROADCAST } else { Mac([2, 0, 0, 0, 0, n[1] & 7]) };
            if tci != 0 {
                p.vlan[0] = weft_flow::Vlan { tpid: 0x8100, tci };
                if tci1 != 0 {
                    p.vlan[1] = weft_flow::Vlan { tpid: 0x8100, tci: tci1 };
                }
            }
            if eth_type == 0x8847 {
                // One to four labels.
                let depth = usize::from(n[2] & 3);
                for (i, label) in p.mpls.iter_mut().enumerate().take(depth + 1) {
                    let bottom = u32::from(i == depth) << 8;
                    *label = u32::from(n[3 + i] & 7) << 12 | bottom | u32::from(n[6] & 3);
                }
            } else if eth_type == 0x894f {
                p.nd_reserved = u32::from_be_bytes([n[2] & 3, n[3] & 7, 1, n[4] & 7]);
                p.ipv4_src = u32::from(n[5] & 7) << 8 | u32::from(n[6] & 7);
                p.nd_target[7] = n[7] & 7;
            } else if eth_type != 0x1234 {
                p.ip_proto = if eth_type == 0x806 { 1 + (n[2] & 1) } else { proto };
                if eth_type == 0x86dd {
                    p.ipv6_src = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n[3] & 7];
                    p.ipv6_dst = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n[4] & 7];
                } else {
                    p.ipv4_src = 0x0a00_0000 | u32::from(n[3] & 7);
                    p.ipv4_dst = 0x0a00_0000 | u32::from(n[4] & 7);
                }
            }
            if matches!(eth_type, 0x800 | 0x86dd) {
                p.ip_ttl = n[5] & 7;
                p.ip_tos = n[5] >> 4 << 2 & 0x2f;
                (p.tp_src, p.tp_dst) = (u16::from(n[6] & 0x1f), u16::from(n[7] & 7));
            }
            if tunnel {
                p.extras = weft_flow::EXTRA_TUNNEL;
                key.tunnel.id = u64::from(n[2] & 7);
                key.tunnel.set_src([1, 1, 1, n[6] & 7].into());
                key.tunnel.set_dst([1, 1, 1, 1].into());
                key.tunnel.tos = n[7] >> 6;
            }
            if n[0] & 0xe0 == 0 {
                // Without an Ethernet header.
                let p = &mut key.packet;
                (p.eth_src, p.eth_dst, p.vlan) = (Mac::ZERO, Mac::ZERO, Default::default());
                p.extras |= EXTRA_BARE;
            }
            Line(key)
        },
    )
}

/// Bridge 1 with devices, a cable, tunnels of both kinds; bridge 2 with VLANs; bridge 3 as underlay.
fn world(rules: &[String], other_rules: &[String]) -> Pipeline {
    let access = |n| common::vlan_port(1, n, VlanConfig::access(2));
    let native = VlanConfig {
        priority_tags: PriorityTags::IfNonzero,
        ..VlanConfig::new(VlanMode::NativeUntagged, 3, &[])
    };
    let ports = vec![
        device(1, 1),
        access(2),
        patch(1, 3, (2, 3)),
        tunnel(1, 4, TunnelKind::Vxlan, "flow", |c| {
            (c.out_key, c.tos, c.ttl) = (TunnelId::Flow, TunnelByte::Inherit, TunnelByte::Inherit);
        }),
        tunnel(1, 5, TunnelKind::Geneve, "2.2.2.2", |c| c.local = addr("2.2.2.1")),
        common::vlan_port(1, 6, native),
        common::vlan_port(1, 7, VlanConfig::new(VlanMode::Dot1qTunnel, 4, &[])),
    ];
    let two = vec![device(2, 1), device(2, 2), patch(2, 3, (1, 3)), device(2, 4)];
    let three = vec![local(3, &["2.2.2.1"]), device(3, 1)];
    let pipeline = pipeline(vec![bridge(1, ports), bridge(2, two), bridge(3, three)]);
    let route = Route {
        prefix: [2, 2, 2, 0].into(),
        plen: 24,
        bridge: 3,
        port: OfPort::LOCAL,
        gateway: Some([2, 2, 2, 9].into()),
        src: [2, 2, 2, 1].into(),
    };
    pipeline
        .update(|s| {
            s.underlay_mut().set_routes(vec![route]);
            Ok::<_, ()>(())
        })
        .unwrap();
    pipeline.set_neighbour(3, [2, 2, 2, 9].into(), Some(common::mac(9)));
    equip(&pipeline);
    flows(&pipeline, 1, &rules.join("\n"));
    if !other_rules.is_empty() {
        flows(&pipeline, 2, &other_rules.join("\n"));
    }
    // Some stations are known.
    for (port, n) in [(101, 1), (102, 2), (201, 3), (202, 4)] {
        pipeline.fdb_add_static(port / 100, 0, common::mac(n), OfPort(port % 100));
        pipeline.fdb_add_static(port / 100, 2, common::mac(n), OfPort(port % 100));
    }
    pipeline
}

/// Groups 1 to 6 of bridge 1, and meters 1 to 3.
fn equip(pipeline: &Pipeline) {
    let all = [(0, "set_field:02:00:00:00:00:06->eth_src,output:2"), (0, "dec_ttl,output:3")];
    common::add_group(pipeline, 1, 1, GroupKind::All, &all);
    common::add_group(pipeline, 1, 2, GroupKind::Indirect, &[(0, "pop_vlan,output:4")]);
    let mut failover = GroupMod::new(GroupCommand::Add, 3, GroupKind::FastFailover);
    for (id, port) in [(0, 90), (1, 5)] {
        let bucket = Bucket::new(id, 0, vec![common::output(OfPort(port))]);
        failover.buckets.push(Bucket { watch_port: OfPort(port), ..bucket });
    }
    common::group(pipeline, 1, &failover);
    common::add_group(pipeline, 1, 4, GroupKind::All, &[(0, "group:2"), (0, "set_field:3->ip_dscp,group:1")]);
    common::add_group(pipeline, 1, 5, GroupKind::Select, &[(1, "output:2"), (3, "output:3")]);
    common::add_group(pipeline, 1, 6, GroupKind::Select, &[(1, "output:2"), (300, "output:3")]);
    for id in 1..4 {
        let bands = vec![Band { kind: BandKind::Drop, rate: 1, burst: 0 }];
        let add = MeterMod { command: MeterCommand::Add, id, pktps: true, burst: false, stats: false, bands };
        pipeline.update(|s| s.meter_mod(1, &add, 0)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cached_verdicts_are_right(
        rules in proptest::collection::vec(rule(), 1..14),
        others in proptest::collection::vec(rule(), 0..4),
        keys in proptest::collection::vec(key(), 4),
        noise in proptest::collection::vec(any::<u64>(), 7),
    ) {
        let pipeline = world(&rules, &others);
        let mut keys: Vec<FlowKey> = keys.into_iter().map(|Line(key)| key).collect();
        let mut held = Vec::new();
        while let Some(key) = keys.pop() {
            let verdict = pipeline.revalidate(&key, 0);
            if held.len() < 12 {
                keys.extend(copies(&key, &verdict.actions, noise[0]));
            }
            prop_assert_eq!(verdict.actions.is_empty(), verdict.drop.is_some());
            // What controllers get is the same for all of a cached flow, or the verdict is of one packet only.
            if !verdict.cacheable && format!("{:?}", verdict.actions).contains("Controller(") {
                continue;
            }
            prop_assert_eq!(verdict.mask.words()[CACHED_WORDS..].iter().sum::<u64>(), 0);
            for noise in [&noise[..], &[0], &[u64::MAX], &noise[3..]] {
                let twin = twin(&key, &verdict, noise);
                let own = pipeline.revalidate(&twin, 0);
                prop_assert!(
                    same(&verdict, &own),
                    "{:?}\nand\n{:?}\n{}\n{}\n{}", rules, others,
                    pipeline.trace(&key, 0).1, pipeline.trace(&twin, 0).1,
                    verdict.mask == own.mask,
                );
            }
            held.push(verdict);
        }
    }

    #[test]
    fn actions_do_what_rules_say(rules in proptest::collection::vec(rule(), 1..14), keys in proptest::collection::vec(key(), 4)) {
        let ports: Vec<_> = (1..8).map(|n| device(1, n)).collect();
        // What the model does not know: hashes, and what is not seen in packets.
        let known = |r: &String| !["normal", "multipath", "bundle", "learn", "fin_", "group:5", "group:6"].iter().any(|w| r.contains(w));
        let rules: Vec<String> = rules.into_iter().filter(known).collect();
        let pipeline = pipeline(vec![bridge(1, ports)]);
        equip(&pipeline);
        flows(&pipeline, 1, &rules.join("\n"));
        let snapshot = pipeline.snapshot();
        for Line(key) in keys {
            let Some(expected) = model::interpret(&snapshot, &key) else { continue };
            let verdict = pipeline.revalidate(&key, 0);
            let sent = model::execute(&key, &verdict.actions, &|key| pipeline.revalidate(key, 0).actions);
            prop_assert_eq!(sent, expected, "{:?}\n{}", rules, pipeline.trace(&key, 0).1);
        }
    }
}
