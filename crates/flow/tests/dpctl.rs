//! Are cached flows and their actions printed as `dpctl/dump-flows` prints them?

use std::sync::Arc;

use weft_flow::text::{
    Syntax, format_dp_actions, format_dp_flow, format_dp_flow_options, format_dp_flow_stats, parse_dp_flow,
    parse_match,
};
use weft_flow::*;
use weft_wire::Mac;

const FLOWS: &str = include_str!("data/dp-flows.txt");

fn no_names(_: DpPort) -> Option<String> {
    None
}

#[test]
fn flows() {
    for line in FLOWS.lines().filter(|l| !l.starts_with('#')) {
        let (text, printed) = line.split_once(" => ").unwrap();
        let mut m = parse_match(text, &Syntax::default()).unwrap();
        (m.key.packet.in_port, m.mask.0.packet.in_port) = (1, u32::MAX);
        assert_eq!(format_dp_flow(&m.key, &m.mask, &no_names), printed, "{text}");
        let (key, mask) = parse_dp_flow(printed, &|_| None, &TlvTable::new()).unwrap();
        assert_eq!(format_dp_flow(&key, &mask, &no_names), printed, "{text}");
    }
}

#[test]
fn tunnel_flags_and_two_tags() {
    let mut m = parse_match("tun_id=0x7b,tun_dst=1.1.2.88,arp", &Syntax::default()).unwrap();
    m.key.tunnel.flags = TUN_KEY;
    m.mask.0.tunnel.flags = TUN_KEY | TUN_DF | TUN_CSUM;
    for (tag, mask) in m.key.packet.vlan.iter_mut().zip(&mut m.mask.0.packet.vlan) {
        *tag = Vlan { tpid: 0x8100, tci: VLAN_PRESENT | 5 };
        *mask = Vlan { tpid: 0xffff, tci: 0xffff };
    }
    m.key.packet.vlan[0].tpid = 0x88a8;
    let names = |p: DpPort| Some(format!("port{p}"));
    assert_eq!(
        format_dp_flow(&m.key, &m.mask, &names),
        "tunnel(tun_id=0x7b,dst=1.1.2.88,flags(-df-csum+key)),recirc_id(0),in_port(port0),packet_type(ns=0,id=0),\
         eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=5,pcp=0),encap(eth_type(0x0806)))"
    );
}

#[test]
fn statistics() {
    assert_eq!(format_dp_flow_stats(5, 490, Some(523), 0), "packets:5, bytes:490, used:0.523s");
    assert_eq!(format_dp_flow_stats(0, 0, None, 0), "packets:0, bytes:0, used:never");
    assert_eq!(
        format_dp_flow_stats(1, 2, Some(12_005), 0x1b),
        "packets:1, bytes:2, used:12.005s, flags:SFP."
    );
}

fn tunnel(edit: impl FnOnce(&mut TunnelKey), options: &[u8]) -> DpAction {
    let mut key = TunnelKey {
        id: 0x3e8,
        ipv4_dst: u32::from_be_bytes([192, 168, 1, 20]),
        ttl: 64,
        tp_dst: 4789,
        flags: TUN_KEY | TUN_DF,
        ..TunnelKey::default()
    };
    edit(&mut key);
    DpAction::SetTunnel(Arc::new(TunnelOut { key, options: options.to_vec() }))
}

fn check(actions: &[DpAction], packet: &str, printed: &str) {
    let key = parse_match(packet, &Syntax::default()).unwrap().key.packet;
    assert_eq!(format_dp_actions(actions, &key, &no_names), printed);
}

#[test]
fn tunnels() {
    let out = DpAction::Output(DpPort(3));
    let cases = [
        (tunnel(|_| {}, &[]), "tun_id=0x3e8,dst=192.168.1.20,ttl=64,tp_dst=4789,flags(df|key)"),
        (
            tunnel(
                |k| {
                    k.ipv4_src = 0x0102_0304;
                    (k.tos, k.tp_src, k.flags) = (4, 5, TUN_DF | TUN_CSUM | TUN_KEY);
                },
                &[],
            ),
            "tun_id=0x3e8,src=1.2.3.4,dst=192.168.1.20,tos=0x4,ttl=64,tp_src=5,tp_dst=4789,flags(df|csum|key)",
        ),
        (
            tunnel(
                |k| {
                    k.set_src("fe80::1".parse().unwrap());
                    k.set_dst("fe80::2".parse().unwrap());
                    (k.gbp_id, k.gbp_flags, k.flags) = (5, 8, TUN_DF | TUN_KEY | TUN_GBP);
                },
                &[],
            ),
            "tun_id=0x3e8,ipv6_src=fe80::1,ipv6_dst=fe80::2,ttl=64,tp_dst=4789,vxlan(gbp(id=5,flags=0x8)),flags(df|key)",
        ),
        (
            tunnel(|k| k.tp_dst = 6081, &[1, 2, 0x80, 1, 1, 2, 3, 4]),
            "tun_id=0x3e8,dst=192.168.1.20,ttl=64,tp_dst=6081,geneve({class=0x102,type=0x80,len=4,0x1020304}),flags(df|key)",
        ),
        (tunnel(|k| k.id = 0, &[]), "tun_id=0x0,dst=192.168.1.20,ttl=64,tp_dst=4789,flags(df|key)"),
    ];
    for (action, inside) in cases {
        check(&[action, out.clone()], "ip", &format!("set(tunnel({inside})),3"));
    }
}

#[test]
fn fields_of_one_header_are_one_set() {
    use DpAction::{Output, Set};
    let mac = |n| Mac([0, 0, 0, 0, 0, n]);
    check(
        &[
            Set(SetField::EthDst(mac(2))),
            Set(SetField::EthSrc(mac(1))),
            Set(SetField::Ipv4Dst(0x0102_0304)),
            Set(SetField::IpTtl(64)),
            Set(SetField::IpTtl(63)),
            Set(SetField::TpDst(80)),
            Output(DpPort(3)),
        ],
        "tcp",
        "set(eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02)),set(ipv4(dst=1.2.3.4,ttl=63)),set(tcp(dst=80)),3",
    );
    check(
        &[
            Set(SetField::Ipv6Src([0; 16])),
            Set(SetField::IpTos(4)),
            Set(SetField::Ipv6Label(5)),
            Set(SetField::TpSrc(53)),
        ],
        "udp6",
        "set(ipv6(src=::,label=0x5,tclass=0x4)),set(udp(src=53))",
    );
    check(
        &[Set(SetField::ArpOp(2)), Set(SetField::Ipv4Src(0x0102_0304)), Set(SetField::ArpSha(mac(1)))],
        "arp",
        "set(arp(sip=1.2.3.4,op=2,sha=00:00:00:00:00:01))",
    );
    check(&[Set(SetField::TpSrc(0)), Set(SetField::TpDst(0))], "icmp", "set(icmp(type=0,code=0))");
}

#[test]
fn others() {
    use DpAction::{Clone, Controller, Output, PopVlan, PushVlan, Trunc, TunnelPop};
    let port = |n| Output(DpPort(n));
    check(&[], "ip", "drop");
    check(
        &[
            PopVlan,
            PushVlan { tpid: 0x8100, tci: 0x700a },
            port(3),
            PushVlan { tpid: 0x88a8, tci: 0x1005 },
            port(2),
        ],
        "ip",
        "pop_vlan,push_vlan(vid=10,pcp=3),3,push_vlan(tpid=0x88a8,vid=5,pcp=0),2",
    );
    check(&[Trunc(100), port(3), port(1), TunnelPop(DpPort(4))], "ip", "trunc(100),3,1,tnl_pop(4)");
    check(&[Clone([port(1), Clone([port(2)].into())].into()), port(3)], "ip", "clone(1,clone(2)),3");
    let to = ToController {
        bridge: 0,
        controller_id: 0,
        max_len: 65535,
        reason: 1,
        table: 0,
        cookie: 0x123,
        key: Box::default(),
        userdata: Vec::new(),
        paused: None,
        meter: None,
    };
    check(
        &[Controller(Arc::new(to))],
        "ip",
        "userspace(pid=0,controller(reason=1,dont_send=0,continuation=0,recirc_id=0,rule_cookie=0x123,\
         controller_id=0,max_len=65535))",
    );
}

#[test]
fn native_tunnel() {
    let hex = "f8bc124434b6aa55aa550000 0800 45000000000040004011000001010258 0101025c 000012b500000000 0800000000007b00";
    let hex = hex.replace(' ', "");
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    assert_eq!(bytes.len(), 50);
    let push = |bytes: Vec<u8>| DpAction::TunnelPush {
        header: Arc::new(EncapHeader { bytes, kind: TunnelKind::Vxlan, ip_offset: 14 }),
        actions: [DpAction::Output(DpPort(1))].into(),
    };
    check(
        &[push(bytes.clone())],
        "ip",
        "clone(tnl_push(header(size=50,type=4,eth(dst=f8:bc:12:44:34:b6,src=aa:55:aa:55:00:00,dl_type=0x0800),\
         ipv4(src=1.1.2.88,dst=1.1.2.92,proto=17,tos=0,ttl=64,frag=0x4000),udp(src=0,dst=4789,csum=0x0),\
         vxlan(flags=0x8000000,vni=0x7b))),1)",
    );
    for len in 0..bytes.len() {
        let key = PacketKey::default();
        assert!(format_dp_actions(&[push(bytes[..len].to_vec())], &key, &no_names).contains("size="));
    }
}

fn ct(edit: impl FnOnce(&mut CtSpec)) -> DpAction {
    let mut spec = CtSpec { zone: 5, ..CtSpec::default() };
    edit(&mut spec);
    DpAction::Ct(Arc::new(spec))
}

#[test]
fn connections() {
    let nat = Nat {
        side: Some(NatSide::Src),
        addrs: Some(("10.0.0.1".parse().unwrap(), "10.0.0.5".parse().unwrap())),
        ports: Some((5, 6)),
        persistent: true,
        hash: true,
        random: false,
    };
    let cases = [
        (ct(|c| c.zone = 0), "ct"),
        (ct(|_| {}), "ct(zone=5)"),
        (
            ct(|c| (c.commit, c.mark, c.label) = (true, Some((1, u32::MAX)), Some((5, u128::MAX)))),
            "ct(commit,zone=5,mark=0x1/0xffffffff,label=0x5)",
        ),
        (
            ct(|c| {
                (c.commit, c.force, c.alg) = (true, true, 21);
                (c.mark, c.label, c.nat) = (Some((1, 0xf)), Some((5, 0xff)), Some(nat));
            }),
            "ct(force_commit,zone=5,mark=0x1/0xf,label=0x5/0xff,helper=ftp,\
             nat(src=10.0.0.1-10.0.0.5:5-6,persistent,hash))",
        ),
        (ct(|c| (c.zone, c.nat) = (0, Some(Nat::default()))), "ct(nat)"),
    ];
    for (action, printed) in cases {
        check(&[action, DpAction::CtClear], "tcp", &format!("{printed},ct_clear"));
    }
}

#[test]
fn recirculation_meters_and_labels() {
    let recirc = Recirc { id: 0x1f, frozen: Opaque(Arc::new(())) };
    let hash = |symmetric| DpAction::Hash { basis: 0, symmetric };
    check(
        &[hash(false), hash(true), DpAction::Recirc(recirc)],
        "tcp",
        "hash(l4(0)),hash(sym_l4(0)),recirc(0x1f)",
    );
    let meter = Arc::new(Meter::new(0, 7, false, false, false, Vec::new(), 0));
    check(&[DpAction::Meter(meter)], "tcp", "meter(7)");
    check(
        &[DpAction::PushMpls { lse: 10 << 12 | 0x140, ethertype: 0x8847 }, DpAction::PopMpls(0x800)],
        "tcp",
        "push_mpls(label=10,tc=0,ttl=64,bos=1,eth_type=0x8847),pop_mpls(eth_type=0x800)",
    );
    let long = [DpAction::Output(DpPort(1))].into();
    let by_length = DpAction::CheckPktLen { len: 100, greater: long, not_greater: [].into() };
    check(&[by_length], "tcp", "check_pkt_len(size=100,gt(1),le(drop))");
    let set = |field| DpAction::Set(field);
    check(
        &[set(SetField::Priority(5)), set(SetField::Mark(0))],
        "tcp",
        "set(skb_priority(0x5)),set(skb_mark(0))",
    );
    for (share, printed) in [(u32::MAX, None), (share_of_probability(30_000), Some("45.8")), (1, Some("0.0"))]
    {
        let to = SampleTo {
            bridge: 1,
            sampler: Sampler::Bridge,
            output: Some(DpPort(3)),
            tunnel: Some(Box::default()),
            tunnels: true,
        };
        let text = "userspace(pid=0,ipfix(output_port=3),tunnel_out_port=3)";
        let text = printed.map_or(text.into(), |p| format!("sample(sample={p}%,actions({text}))"));
        check(&[DpAction::Sample { share, to: Arc::new(to) }], "tcp", &text);
    }
    let to = SampleTo {
        bridge: 1,
        sampler: Sampler::Rule {
            probability: 655,
            collector_set_id: 1,
            obs_domain_id: 2,
            obs_point_id: 3,
            direction: SampleDirection::Egress,
        },
        output: None,
        tunnel: None,
        tunnels: false,
    };
    let printed = "sample(sample=1.0%,actions(userspace(pid=0,flow_sample(probability=655,collector_set_id=1,\
                   obs_domain_id=2,obs_point_id=3,output_port=4294967295,egress))))";
    check(&[DpAction::Sample { share: share_of_probability(655), to: Arc::new(to) }], "tcp", printed);
    let nd = [set(SetField::NdReserved(0)), set(SetField::NdOptionsType(2))];
    check(&nd, "icmp6", "set(nd_ext(nd_reserved=0x0,nd_options_type=2))");
}

#[test]
fn flows_of_open_vswitch() {
    // As ovs-vswitchd 3.1 prints them.
    let lines = [
        "ct_state(+new-inv+trk),ct_zone(0x5),ct_mark(0x7/0xf),ct_label(0x9/0xff),recirc_id(0x1),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no)",
        "ct_tuple4(src=1.2.3.4/255.255.255.0,dst=1.2.3.5,proto=6,tp_src=80),recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no)",
        "ct_tuple6(src=::1,dst=::2,proto=6,src_port=80,dst_port=80/0xff),recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x86dd),ipv6(frag=no)",
        "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(src=1.2.3.4,proto=6,tos=0/0x3,ttl=64,frag=first),tcp(src=80/0xff00,dst=5),tcp_flags(syn|ack)",
        "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(proto=6,frag=no),tcp_flags(+syn-ack)",
        "tunnel(tun_id=0x7f10354,src=10.10.10.10,dst=20.20.20.20,ttl=64,geneve({class=0xffff,type=0x80,len=8,0xa1b2c3d400000000/0xffffffff00000000}),flags(-df+csum+key)),recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0800),ipv4(frag=no)",
        "recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x88a8),vlan(vid=5,pcp=0),encap(eth_type(0x8100),vlan(vid=6,pcp=3),encap(eth_type(0x0800),ipv4(frag=no)))",
        "tunnel(dst=1.1.1.1,tp_dst=4789,vxlan(gbp(id=5,flags=0x8)),flags(-df)),recirc_id(0),in_port(1),packet_type(ns=0,id=0),eth_type(0x0806),arp(sip=1.2.3.4,op=1)",
    ];
    let tlv = TlvTable::new().with(&[TlvMapping { class: 0xffff, kind: 0x80, len: 8, index: 3 }]).unwrap();
    for line in lines {
        let (key, mask) = parse_dp_flow(line, &|_| None, &tlv).unwrap();
        let masked =
            line.replace("1.2.3.4/255.255.255.0", "1.2.3.0/255.255.255.0").replace("80/0xff00", "0/0xff00");
        assert_eq!(format_dp_flow_options(&key, &mask, &tlv, &no_names), masked);
    }
    let named = |name: &str| (name == "p1").then_some(DpPort(7));
    let (key, mask) = parse_dp_flow("in_port(p1),eth_type(0x1234)", &named, &tlv).unwrap();
    assert_eq!((key.packet.in_port, mask.0.packet.eth_type), (7, 0xffff));
    for bad in [
        "in_port(p2)",
        "foo(1)",
        "ipv4(foo=1)",
        "eth(src=1)",
        "ipv4(src=1.2.3.4",
        "tunnel(flags(x))",
        "encap(encap(encap(vlan(vid=1),vlan(vid=2),vlan(vid=3))))",
    ] {
        assert!(parse_dp_flow(bad, &named, &tlv).is_err(), "{bad}");
    }
}
