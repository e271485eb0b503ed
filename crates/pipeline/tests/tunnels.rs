//! Which outer header does a packet get, which tunnel port takes one that comes in, and why not?

mod common;

use std::net::IpAddr;

use common::{addr, bridge, device, flows, local, outcome, packet, patch, pipeline, tunnel};
use weft_flow::{
    DepTags, DpPort, DropReason, OfPort, TUN_GBP, TUN_KEY, TunnelKey,
    TunnelKind::{self, Geneve, Gre, Vxlan},
};
use weft_pipeline::{Pipeline, Resolve, Route, Snapshot, TunnelByte, TunnelConfig, TunnelId, TunnelListener};
use weft_wire::Mac;

const IP: &str = "in_port=1,tcp,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_src=10.0.0.1,nw_dst=10.0.0.2,\
                  nw_ttl=17,nw_tos=0x28,nw_ecn=2,tp_src=1000,tp_dst=80";
const OTHER: &str = "in_port=1,dl_type=0x1234,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02";

fn key(id: u64) -> TunnelId {
    TunnelId::Key(id)
}

/// Options of a tunnel, rule, packet, what becomes of it.
#[test]
fn the_datapath_encapsulates() {
    type Case = (TunnelKind, &'static str, fn(&mut TunnelConfig), &'static str, &'static str, &'static str);
    let cases: &[Case] = &[
        (
            Vxlan,
            "1.1.1.2",
            |_| (),
            "2",
            OTHER,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=0 ttl=64 flags=4 dport=4789],102",
        ),
        (
            Vxlan,
            "fd00::2",
            |c| c.out_key = key(7),
            "2",
            OTHER,
            "tunnel[::>fd00::2 id=7 tos=0 ttl=64 flags=5 dport=4789],102",
        ),
        (
            Geneve,
            "1.1.1.2",
            |c| c.csum = true,
            "2",
            OTHER,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=0 ttl=64 flags=6 dport=6081],102",
        ),
        (
            Gre,
            "1.1.1.2",
            |c| c.df = false,
            "2",
            OTHER,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=0 ttl=64 flags=0 dport=0],102",
        ),
        (
            Vxlan,
            "1.1.1.2",
            |c| c.dst_port = 8472,
            "2",
            OTHER,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=0 ttl=64 flags=4 dport=8472],102",
        ),
        (
            Vxlan,
            "1.1.1.2",
            |c| c.local = addr("1.1.1.1"),
            "2",
            OTHER,
            "tunnel[1.1.1.1>1.1.1.2 id=0 tos=0 ttl=64 flags=4 dport=4789],102",
        ),
        // The ECN bits are copied, the DSCP and TTL only when they shall be inherited.
        (
            Vxlan,
            "1.1.1.2",
            |_| (),
            "2",
            IP,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=2 ttl=64 flags=4 dport=4789],102",
        ),
        (
            Vxlan,
            "1.1.1.2",
            |c| c.tos = TunnelByte::Inherit,
            "2",
            IP,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=42 ttl=64 flags=4 dport=4789],102",
        ),
        (
            Vxlan,
            "1.1.1.2",
            |c| c.tos = TunnelByte::Inherit,
            "2",
            OTHER,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=0 ttl=64 flags=4 dport=4789],102",
        ),
        (
            Vxlan,
            "1.1.1.2",
            |c| (c.tos, c.ttl) = (TunnelByte::Value(0x10), TunnelByte::Value(9)),
            "2",
            IP,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=18 ttl=9 flags=4 dport=4789],102",
        ),
        (
            Vxlan,
            "1.1.1.2",
            |c| c.ttl = TunnelByte::Inherit,
            "2",
            IP,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=2 ttl=17 flags=4 dport=4789],102",
        ),
        (
            Vxlan,
            "1.1.1.2",
            |c| c.ttl = TunnelByte::Inherit,
            "2",
            OTHER,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=0 ttl=64 flags=4 dport=4789],102",
        ),
        // What rules say.
        (
            Vxlan,
            "flow",
            |c| c.out_key = TunnelId::Flow,
            "set_field:9->tun_id,set_field:2.2.2.2->tun_dst,2",
            OTHER,
            "tunnel[0.0.0.0>2.2.2.2 id=9 tos=0 ttl=64 flags=5 dport=4789],102",
        ),
        (
            Vxlan,
            "flow",
            |c| c.local = addr("flow"),
            "set_field:3.3.3.3->tun_src,set_field:2.2.2.2->tun_dst,2",
            OTHER,
            "tunnel[3.3.3.3>2.2.2.2 id=0 tos=0 ttl=64 flags=4 dport=4789],102",
        ),
        (Vxlan, "flow", |_| (), "2", OTHER, "drop:tunnel-no-remote"),
        (
            Vxlan,
            "1.1.1.2",
            |c| c.gbp = true,
            "set_field:5->tun_gbp_id,2",
            OTHER,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=0 ttl=64 flags=14 dport=4789],102",
        ),
        (
            Vxlan,
            "1.1.1.2",
            |c| c.gbp = true,
            "2",
            OTHER,
            "tunnel[0.0.0.0>1.1.1.2 id=0 tos=0 ttl=64 flags=4 dport=4789],102",
        ),
        // Changes to the packet come before, and are not lost after.
        (
            Vxlan,
            "1.1.1.2",
            |_| (),
            "mod_vlan_vid:5,2,1,in_port",
            OTHER,
            "push5,tunnel[0.0.0.0>1.1.1.2 id=0 tos=0 ttl=64 flags=4 dport=4789],102,101",
        ),
    ];
    for (kind, remote, change, actions, text, expected) in cases {
        let pipeline = pipeline(vec![bridge(1, vec![device(1, 1), tunnel(1, 2, *kind, remote, change)])]);
        flows(&pipeline, 1, &format!("actions={actions}"));
        let key = packet(1, text);
        assert_eq!(outcome(&pipeline.walk(&key, 0)), *expected, "{}", pipeline.trace(&key, 0).1);
    }
}

fn received(id: u64, src: &str, dst: &str, flags: u16) -> TunnelKey {
    let mut key = TunnelKey { id, flags, ..TunnelKey::default() };
    key.set_src(src.parse().unwrap());
    key.set_dst(dst.parse().unwrap());
    key
}

#[test]
fn the_most_specific_port_takes_the_packet() {
    use DropReason::{TunnelFlags, TunnelWrongPeer, TunnelWrongVni};
    let ports = vec![
        tunnel(1, 1, Vxlan, "1.1.1.2", |c| (c.in_key, c.local) = (key(7), addr("1.1.1.1"))),
        tunnel(1, 2, Vxlan, "1.1.1.2", |c| c.in_key = key(7)),
        tunnel(1, 3, Vxlan, "1.1.1.2", |_| ()),
        tunnel(1, 4, Vxlan, "flow", |c| c.in_key = key(8)),
        tunnel(1, 5, Vxlan, "1.1.1.9", |c| c.in_key = TunnelId::Flow),
        tunnel(1, 6, Geneve, "flow", |c| c.in_key = TunnelId::Flow),
        tunnel(1, 7, Vxlan, "1.1.1.2", |c| (c.in_key, c.gbp) = (key(9), true)),
        tunnel(1, 8, Vxlan, "fd00::2", |c| (c.in_key, c.local) = (key(7), addr("fd00::1"))),
        tunnel(1, 9, Vxlan, "flow", |c| (c.in_key, c.dst_port) = (TunnelId::Flow, 8472)),
        tunnel(1, 10, Vxlan, "1.1.1.7", |c| (c.in_key, c.local) = (key(6), addr("1.1.1.1"))),
    ];
    let pipeline = pipeline(vec![bridge(1, ports)]);
    let snapshot = pipeline.snapshot();
    type Case = (TunnelKind, u16, u64, &'static str, &'static str, Result<u32, DropReason>);
    let cases: &[Case] = &[
        (Vxlan, 4789, 7, "1.1.1.2", "1.1.1.1", Ok(101)),
        (Vxlan, 4789, 7, "1.1.1.2", "1.1.1.5", Ok(102)),
        (Vxlan, 4789, 0, "1.1.1.2", "1.1.1.1", Ok(103)),
        (Vxlan, 4789, 8, "9.9.9.9", "1.1.1.1", Ok(104)),
        (Vxlan, 4789, 55, "1.1.1.9", "1.1.1.1", Ok(105)),
        (Vxlan, 4789, 8, "1.1.1.9", "1.1.1.1", Ok(104)), // the key outweighs the peer
        (Vxlan, 4789, 55, "1.1.1.2", "1.1.1.1", Err(TunnelWrongVni)),
        (Vxlan, 4789, 7, "fd00::2", "fd00::1", Ok(108)),
        (Vxlan, 4789, 6, "1.1.1.7", "1.1.1.1", Ok(110)),
        (Vxlan, 4789, 6, "1.1.1.2", "1.1.1.1", Err(TunnelWrongVni)),
        (Geneve, 6081, 123, "4.4.4.4", "1.1.1.1", Ok(106)),
        (Geneve, 6082, 123, "4.4.4.4", "1.1.1.1", Err(TunnelWrongPeer)),
        (Vxlan, 8472, 123, "4.4.4.4", "1.1.1.1", Ok(109)),
        (Gre, 0, 123, "4.4.4.4", "1.1.1.1", Err(TunnelWrongPeer)),
    ];
    for (kind, dst_port, id, src, dst, expected) in cases {
        let key = received(*id, src, dst, TUN_KEY);
        assert_eq!(
            snapshot.tunnel_demux(*kind, *dst_port, &key),
            expected.map(DpPort),
            "{kind:?} {id} {src}"
        );
    }
    // Without key 8 on any peer, a stranger is a stranger.
    let only = pipeline_of(vec![tunnel(1, 1, Vxlan, "1.1.1.2", |c| c.in_key = key(7))]);
    let stranger = received(7, "9.9.9.9", "1.1.1.1", TUN_KEY);
    assert_eq!(only.tunnel_demux(Vxlan, 4789, &stranger), Err(TunnelWrongPeer));
    // Group policy bits are refused where the port does not expect them.
    let gbp = |id| received(id, "1.1.1.2", "1.1.1.1", TUN_KEY | TUN_GBP);
    assert_eq!(snapshot.tunnel_demux(Vxlan, 4789, &gbp(7)), Err(TunnelFlags));
    assert_eq!(snapshot.tunnel_demux(Vxlan, 4789, &gbp(9)), Ok(DpPort(107)));
    // Listeners.
    let listener = TunnelListener { kind: Vxlan, dst_port: 8472, port: DpPort(109) };
    assert_eq!(snapshot.tunnel_listener(DpPort(109)), Some(listener));
    assert_eq!(snapshot.tunnel_listeners().count(), 3);
}

fn pipeline_of(ports: Vec<weft_pipeline::PortConfig>) -> std::sync::Arc<Snapshot> {
    pipeline(vec![bridge(1, ports)]).snapshot()
}

#[test]
fn congestion_marks_come_in() {
    let pipeline = pipeline(vec![bridge(1, vec![tunnel(1, 1, Vxlan, "1.1.1.2", |_| ()), device(1, 2)])]);
    flows(&pipeline, 1, "actions=2");
    let check = |outer: u8, inner: u8, expected: &str| {
        let mut key = packet(1, &format!("{IP},tun_src=1.1.1.2,tun_dst=1.1.1.1"));
        key.packet.ip_tos = 0x28 | inner;
        key.tunnel.tos = outer;
        assert_eq!(outcome(&pipeline.walk(&key, 0)), expected, "{outer} {inner}");
    };
    check(0, 0, "102");
    check(2, 2, "102");
    check(3, 0, "drop:tunnel-ecn");
    check(3, 1, "IpTos(43),102");
    check(3, 2, "IpTos(43),102");
    check(3, 3, "102");
}

/// Bridge 1: overlay with VXLAN to 192.168.1.20. Bridge 2: underlay with the address 192.168.1.10 on LOCAL.
fn native() -> Pipeline {
    let pipeline = pipeline(vec![
        bridge(
            1,
            vec![
                device(1, 1),
                tunnel(1, 2, Vxlan, "192.168.1.20", |c| (c.in_key, c.out_key) = (key(7), key(7))),
            ],
        ),
        bridge(2, vec![local(2, &["192.168.1.10"]), device(2, 1), device(2, 2)]),
    ]);
    flows(&pipeline, 1, "in_port=1,actions=2\nin_port=2,actions=1");
    let ip = |a: &str| a.parse::<IpAddr>().unwrap();
    let route = |prefix: &str, plen, gateway: Option<&str>| Route {
        prefix: ip(prefix),
        plen,
        bridge: 2,
        port: OfPort::LOCAL,
        gateway: gateway.map(ip),
        src: ip("192.168.1.10"),
    };
    let routes = vec![route("0.0.0.0", 0, Some("192.168.1.1")), route("192.168.1.0", 24, None)];
    pipeline
        .update(|s| {
            s.underlay_mut().set_routes(routes);
            Ok::<_, ()>(())
        })
        .unwrap();
    pipeline
}

#[test]
fn native_encapsulation_waits_for_the_neighbour() {
    let pipeline = native();
    let mut changes = pipeline.subscribe();
    let key = packet(1, OTHER);
    let pending = pipeline.walk(&key, 0);
    assert_eq!(outcome(&pending), "drop:tunnel-neighbour-pending");
    let ip = |a: &str| a.parse::<IpAddr>().unwrap();
    let wanted =
        Resolve { bridge: 2, port: OfPort::LOCAL, addr: ip("192.168.1.20"), src: ip("192.168.1.10") };
    pipeline.walk(&key, 0);
    assert_eq!(pipeline.take_resolves(), [wanted]);
    assert_eq!(pipeline.take_resolves(), []);
    let mac = Mac([2, 0, 0, 0, 0xee, 2]);
    pipeline.set_neighbour(2, ip("192.168.1.20"), Some(mac));
    let changed = changes.take().unwrap();
    assert!(!changed.tables && changed.affects(pending.deps));
    // NORMAL on the underlay floods until the peer was heard of.
    let pushed = pipeline.walk(&key, 0);
    assert_eq!(outcome(&pushed), "encap50(201,202)");
    assert_ne!(pushed.deps, DepTags::default());
    pipeline.walk(&packet(2, "in_port=2,dl_type=0x1234,dl_src=02:00:00:00:ee:02"), 0);
    assert_eq!(outcome(&pipeline.walk(&key, 0)), "encap50(202)");
    // The outer header of VXLAN does not depend on a packet that is not IP: nothing of it is looked at.
    flows(&pipeline, 2, "udp,nw_src=192.168.1.10,nw_dst=192.168.1.20,tp_dst=4789,actions=mod_vlan_vid:5,1");
    let verdict = pipeline.walk(&key, 0);
    assert_eq!(outcome(&verdict), "encap50(push5,201)");
    let mask = &verdict.mask.0.packet;
    assert_eq!((mask.eth_dst, mask.eth_src, mask.vlan[0].tci), (Mac::ZERO, Mac::ZERO, 0));
    // Elsewhere by the gateway.
    let far = |s: &mut Snapshot| {
        let config =
            bridge(1, vec![device(1, 1), tunnel(1, 2, Vxlan, "8.8.8.8", |c| c.out_key = TunnelId::Key(7))]);
        s.set_bridge(config);
        Ok::<_, ()>(())
    };
    pipeline.update(far).unwrap();
    assert_eq!(outcome(&pipeline.walk(&key, 0)), "drop:tunnel-neighbour-pending");
    assert_eq!(pipeline.take_resolves()[0].addr, ip("192.168.1.1"));
}

#[test]
fn native_tunnels_end_at_local() {
    let pipeline = native();
    let udp = "dl_src=02:00:00:00:ee:02,dl_dst=02:00:00:00:ff:02,nw_src=192.168.1.20,nw_ttl=64,tp_src=5555";
    let check = |text: &str, expected: &str| {
        let key = packet(2, &format!("in_port=1,{text},{udp}"));
        assert_eq!(outcome(&pipeline.walk(&key, 0)), expected, "{}", pipeline.trace(&key, 0).1);
    };
    // LOCAL's own address was learned when it spoke.
    let mut hello = packet(2, "in_port=1,dl_type=0x1234,dl_src=02:00:00:00:ff:02");
    hello.packet.in_port = 299;
    pipeline.walk(&hello, 0);
    check("udp,nw_dst=192.168.1.10,tp_dst=4789", "decap102");
    check("udp,nw_dst=192.168.1.11,tp_dst=4789", "299");
    check("udp,nw_dst=192.168.1.10,tp_dst=4790", "299");
    check("tcp,nw_dst=192.168.1.10,tp_dst=4789", "299");
    flows(&pipeline, 2, "actions=mod_vlan_vid:5,LOCAL");
    check("udp,nw_dst=192.168.1.10,tp_dst=4789", "push5,decap102");
}

#[test]
fn tunnels_inside_themselves_are_refused() {
    let pipeline = native();
    let mac = Some(Mac([2, 0, 0, 0, 0xee, 2]));
    pipeline.set_neighbour(2, "192.168.1.20".parse().unwrap(), mac);
    // The underlay bridge sends what LOCAL says through a cable into the overlay, and so into the tunnel again.
    pipeline
        .update(|s| {
            s.set_bridge(bridge(2, vec![local(2, &["192.168.1.10"]), patch(2, 1, (1, 3))]));
            let overlay = s.bridge(1).unwrap().config.as_ref().clone();
            let mut ports: Vec<_> = overlay.ports.iter().cloned().collect();
            ports.push(patch(1, 3, (2, 1)));
            s.set_bridge(bridge(1, ports));
            Ok::<_, ()>(())
        })
        .unwrap();
    flows(&pipeline, 1, "actions=2");
    assert_eq!(outcome(&pipeline.walk(&packet(1, OTHER), 0)), "drop:tunnel-loop");
}
