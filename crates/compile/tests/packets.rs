//! What becomes of packets in the flows of a plan? The pipeline that forwards them says.

mod common;

use std::net::Ipv4Addr;

use common::{mac, nets, port};
use weft_compile::*;
use weft_flow::text::{Syntax, parse_key};
use weft_flow::{DpAction, DpPort, Field, FlowKey, OfPort, TunnelKind};
use weft_pipeline::group::{Bucket as PipelineBucket, GroupCommand, GroupKind, GroupMod};
use weft_pipeline::{FlowMod, Pipeline, PortConfig, PortKind, Snapshot, TunnelAddr, TunnelConfig, TunnelId};

/// A bridge with the flows of a plan: ports 1 to 5, 77 of no network, the host's links 101 and 102, tunnel 200, uplink 300.
struct Rig {
    pipeline: Pipeline,
}

impl Rig {
    /// Ports 1 and 2 are of network 1, 3 and 4 of network 2, 5 of network 3.
    fn new() -> Rig {
        Rig::with(&[])
    }

    /// The same, with these ports of network 3 besides.
    fn with(more: &[(u32, Vlans)]) -> Rig {
        let mut config = weft_pipeline::BridgeConfig::new(1, "br-int");
        let mut tunnel = TunnelConfig::new(TunnelKind::Vxlan, TunnelAddr::Flow);
        (tunnel.in_key, tunnel.out_key) = (TunnelId::Flow, TunnelId::Flow);
        for n in [1, 2, 3, 4, 5, 6, 7, 77, 101, 102, 200, 300] {
            let kind = if n == 200 { PortKind::Tunnel(tunnel.clone().into()) } else { PortKind::Device };
            config.ports.insert(PortConfig::new(OfPort(n), Some(DpPort(n)), &format!("p{n}"), kind));
        }
        let (mut compiler, _) = Compiler::new();
        compiler.apply(nets().into_iter().map(|(k, n)| Change::Net(k, Some(n))));
        let ports = [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5)].map(|(net, n)| (n, port(net, n)));
        compiler.apply(ports.map(|(n, mut port)| {
            if n == 2 {
                let pair = |prefix: &str, bits| (mac(2), prefix.parse().unwrap(), bits);
                port.guard = Guard::On(vec![pair("10.99.0.0", 24), pair("fd00:99::", 64)]);
            }
            Change::Port(PortKey(n), Some(port))
        }));
        compiler.apply(
            more.iter().map(|(n, vlans)| {
                Change::Port(PortKey(*n), Some(Port { vlans: vlans.clone(), ..port(3, *n) }))
            }),
        );
        let delta = compiler.whole();
        let pipeline = Pipeline::new();
        let mut snapshot = Snapshot::new();
        snapshot.set_bridge(config);
        let tables = snapshot.tables_mut(1).unwrap();
        *tables = weft_pipeline::TableSet::new();
        for flow in delta.flows.values() {
            let mut add = FlowMod::add(flow.stage.table(), flow.priority, flow.to_match(), Vec::new());
            (add.instructions, add.cookie) = (flow.instructions.clone(), flow.cookie.to_u64());
            flow.to_match().check_prereqs().unwrap_or_else(|f| panic!("{flow:?}: {f:?} is not there"));
            tables.apply(&add, 0).unwrap_or_else(|e| panic!("{flow:?}: {e}"));
        }
        for (key, group) in delta.groups {
            let mut add = GroupMod::new(GroupCommand::Add, key.group(), GroupKind::All);
            let bucket = |b: Bucket| PipelineBucket::new(b.id, 0, b.actions);
            add.buckets = group.buckets.into_iter().map(bucket).collect();
            snapshot.group_mod(1, &add, 0).unwrap_or_else(|e| panic!("{e}"));
        }
        pipeline.publish(snapshot);
        Rig { pipeline }
    }

    /// What is sent where, as text, in order; what was learned before is known.
    fn sends(&self, packet: &str) -> (Vec<String>, Option<Cookie>) {
        let mut key: FlowKey =
            parse_key(packet, &Syntax::default()).unwrap_or_else(|e| panic!("{packet}: {e}"));
        key.packet.in_port = key.pipeline.in_port;
        let verdict = self.pipeline.walk(&key, 1000);
        let mut out = Vec::new();
        describe(&verdict.actions, &mut Vec::new(), &mut out);
        let last = verdict.rules.last().and_then(|r| Cookie::from_u64(r.cookie));
        (out, last)
    }

    fn check(&self, packet: &str, expected: &[&str]) {
        let (mut sent, last) = self.sends(packet);
        sent.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(sent, expected, "{packet} (last rule: {last:?})");
    }

    fn dropped(&self, packet: &str, purpose: Purpose) {
        let (sent, last) = self.sends(packet);
        assert_eq!(sent, Vec::<String>::new(), "{packet}");
        assert_eq!(last.map(|c| c.purpose), Some(purpose), "{packet}: {last:?}");
    }
}

/// Outputs with what was set before them.
fn describe(actions: &[DpAction], set: &mut Vec<String>, out: &mut Vec<String>) {
    for action in actions {
        match action {
            DpAction::Output(port) => out.push(format!("{}{port}", set.concat())),
            DpAction::Set(field) => set.push(format!("{field:?} ")),
            DpAction::SetTunnel(tunnel) => {
                let to = Field::TunDst.get(&FlowKey { tunnel: tunnel.key, ..FlowKey::default() });
                set.retain(|s| !s.starts_with("tunnel"));
                set.push(format!("tunnel {} to {} ", tunnel.key.id, Ipv4Addr::from(to as u32)));
            }
            DpAction::PushVlan { tci, .. } => set.push(format!("vlan {} ", tci & 0xfff)),
            DpAction::PopVlan => set.push("untag ".into()),
            DpAction::Controller(to) => out.push(format!("agent {:?}", to.userdata)),
            DpAction::CheckPktLen { len, greater, not_greater } => {
                describe(not_greater, &mut set.clone(), out);
                let mut long = Vec::new();
                describe(greater, &mut set.clone(), &mut long);
                out.extend(long.into_iter().map(|sent| format!("longer than {len}: {sent}")));
            }
            DpAction::Clone(inner) => describe(inner, &mut set.clone(), out),
            other => out.push(format!("{other:?}")),
        }
    }
}

/// A frame from a port of a network, with its own addresses.
fn from(n: u32, rest: &str) -> String {
    format!("in_port={n},dl_src={},{rest}", mac(n))
}

#[test]
fn ports_of_a_network_reach_each_other() {
    let rig = Rig::new();
    let to2 = format!("dl_dst={}", mac(2));
    rig.check(&from(1, &format!("{to2},icmp,nw_src=10.0.1.1,nw_dst=10.0.1.2,nw_ttl=64")), &["2"]);
    rig.check(&from(1, &format!("{to2},tcp6,ipv6_src=fd00:1::1,ipv6_dst=fd00:1::2,nw_ttl=64")), &["2"]);
    rig.check(&from(1, &format!("{to2},dl_type=0x88b5")), &["2"]);
    // Flooded: the other port, the host, and the other node.
    let all =
        from(1, "dl_dst=ff:ff:ff:ff:ff:ff,udp,nw_src=10.0.1.1,nw_dst=10.0.1.255,tp_src=1,tp_dst=2,nw_ttl=9");
    rig.check(&all, &["2", "101", "tunnel 1001 to 192.0.2.7 200"]);
    let unknown = from(1, "dl_dst=02:00:00:00:77:77,icmp,nw_src=10.0.1.1,nw_dst=10.0.1.77,nw_ttl=64");
    rig.check(&unknown, &["2", "101", "tunnel 1001 to 192.0.2.7 200"]);
}

#[test]
fn what_a_port_may_not_send_dies_under_its_name() {
    let rig = Rig::new();
    let bcast = "dl_dst=ff:ff:ff:ff:ff:ff";
    let to2 = format!("dl_dst={}", mac(2));
    for (packet, purpose) in [
        (
            format!("in_port=1,dl_src={},{to2},icmp,nw_src=10.0.1.1,nw_dst=10.0.1.2", mac(9)),
            Purpose::SpoofedMac,
        ),
        (from(1, &format!("{to2},icmp,nw_src=10.0.1.9,nw_dst=10.0.1.2")), Purpose::SpoofedIp),
        (from(1, &format!("{to2},icmp6,ipv6_src=fd00:1::9,ipv6_dst=fd00:1::2")), Purpose::SpoofedIp),
        (
            from(1, &format!("{bcast},arp,arp_op=1,arp_sha={},arp_spa=10.0.1.9,arp_tpa=10.0.1.2", mac(1))),
            Purpose::SpoofedNeighbour,
        ),
        (
            from(1, &format!("{bcast},arp,arp_op=2,arp_sha={},arp_spa=10.0.1.1,arp_tpa=10.0.1.2", mac(9))),
            Purpose::SpoofedNeighbour,
        ),
        (
            from(
                1,
                &format!(
                    "{to2},icmp6,ipv6_src=fd00:1::1,ipv6_dst=fd00:1::2,icmp_type=136,nd_target=fd00:1::9"
                ),
            ),
            Purpose::SpoofedNeighbour,
        ),
        (
            from(1, &format!("{bcast},udp,nw_src=10.0.1.1,nw_dst=255.255.255.255,tp_src=67,tp_dst=68")),
            Purpose::DhcpServerGuard,
        ),
        (
            from(1, &format!("{to2},udp6,ipv6_src=fd00:1::1,ipv6_dst=fd00:1::2,tp_src=547,tp_dst=546")),
            Purpose::DhcpServerGuard,
        ),
        (
            from(1, &format!("{to2},icmp6,ipv6_src=fe80::1,ipv6_dst=ff02::1,icmp_type=134")),
            Purpose::RouterGuard,
        ),
        (
            "in_port=77,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_type=0x88b5".into(),
            Purpose::NoNetwork,
        ),
    ] {
        rig.dropped(&packet, purpose);
    }
}

#[test]
fn neighbours_are_found_without_flooding() {
    let rig = Rig::new();
    let ask = |n: u32, spa: &str, tpa: &str| {
        from(
            n,
            &format!("dl_dst=ff:ff:ff:ff:ff:ff,arp,arp_op=1,arp_sha={},arp_spa={spa},arp_tpa={tpa}", mac(n)),
        )
    };
    for (target, owner) in [("10.0.1.2", mac(2)), ("10.0.1.1", mac(0xee01))] {
        // Port 1 has 10.0.1.1 as the gateway has in this plan: asked by port 2 there.
        let (asker, spa) = if target == "10.0.1.1" { (2, "10.0.1.2") } else { (1, "10.0.1.1") };
        let (sent, last) = rig.sends(&ask(asker, spa, target));
        assert_eq!(sent.len(), 1, "{sent:?}");
        assert!(sent[0].ends_with(&format!(" {asker}")), "back to the asker: {sent:?}");
        assert!(sent[0].contains("ArpOp(2)") || sent[0].contains("Arp"), "{sent:?}");
        assert_eq!(last.map(|c| c.purpose), Some(Purpose::Arp), "{sent:?} {owner}");
    }
    // One that asks whether its address is taken is not told that it is, by itself.
    rig.check(&ask(2, "0.0.0.0", "10.0.1.2"), &["1", "101", "tunnel 1001 to 192.0.2.7 200"]);
    // Solicitations go to the one they ask for.
    let solicit = |target: &str| {
        from(
            1,
            &format!(
                "dl_dst=33:33:ff:00:00:02,icmp6,ipv6_src=fd00:1::1,ipv6_dst=ff02::1:ff00:2,\
                          icmp_type=135,icmp_code=0,nd_target={target},nd_sll={}",
                mac(1)
            ),
        )
    };
    rig.check(&solicit("fd00:1::2"), &["2"]);
}

#[test]
fn gateways_route_answer_and_lead_out() {
    let rig = Rig::new();
    let gw = format!("dl_dst={}", mac(0xee01));
    // To the other network: TTL one less, MAC addresses of the hop. What does not fit there is not sent.
    let there = from(2, &format!("{gw},tcp,nw_src=10.0.1.2,nw_dst=10.0.2.3,tp_src=1,tp_dst=2,nw_ttl=64"));
    let sends = |packet: &str| {
        let (mut sent, _) = rig.sends(packet);
        let too_big = format!("longer than 1314: agent {:?}", [Purpose::TooBig as u8, 5, 20]);
        assert_eq!(sent.pop(), Some(too_big), "{sent:?}");
        sent
    };
    let sent = sends(&there);
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].ends_with(" 3") && sent[0].contains("63"), "{sent:?}");
    assert!(sent[0].contains(&mac(3).to_string()) && sent[0].contains(&mac(0xee02).to_string()), "{sent:?}");
    // Nobody here has that address: the host may know.
    let sent = sends(&there.replace("10.0.2.3", "10.0.2.77"));
    assert!(sent.len() == 1 && sent[0].ends_with(" 102"), "{sent:?}");
    // A machine of the other network routes on.
    let sent = sends(&there.replace("10.0.2.3", "10.99.7.7"));
    assert!(sent.len() == 1 && sent[0].ends_with(" 4"), "{sent:?}");
    assert!(sent[0].contains("63") && sent[0].contains(&mac(4).to_string()), "{sent:?}");
    // Back into the larger network everything fits.
    let back =
        format!("dl_dst={},tcp,nw_src=10.0.2.3,nw_dst=10.0.1.2,tp_src=2,tp_dst=1,nw_ttl=64", mac(0xee02));
    let (sent, _) = rig.sends(&from(3, &back));
    assert!(sent.len() == 1 && sent[0].ends_with(" 2"), "{sent:?}");
    // The TTL runs out.
    let sent = sends(&there.replace("nw_ttl=64", "nw_ttl=1"));
    assert!(sent.len() == 1 && sent[0].starts_with("agent"), "{sent:?}");
    // Elsewhere.
    rig.check(&from(2, &format!("{gw},icmp,nw_src=10.0.1.2,nw_dst=192.0.2.99,nw_ttl=64")), &["101"]);
    let none = format!(
        "in_port=5,dl_src={},dl_dst={},icmp,nw_src=10.0.3.5,nw_dst=192.0.2.99,nw_ttl=64",
        mac(5),
        mac(0xee03)
    );
    rig.check(&none, &[&format!("agent {:?}", [Purpose::NoRoute as u8])]);
    // A ping for a gateway, its own or that of the other network.
    for gateway in ["10.0.1.1", "10.0.2.1"] {
        let ping =
            from(2, &format!("{gw},icmp,nw_src=10.0.1.2,nw_dst={gateway},icmp_type=8,icmp_code=0,nw_ttl=5"));
        let (sent, last) = rig.sends(&ping);
        assert!(sent.len() == 1 && sent[0].ends_with(" 2"), "{sent:?} {last:?}");
        assert_eq!(last.map(|c| c.purpose), Some(Purpose::Echo));
    }
    // What else is for the gateway is the host's.
    rig.check(&from(2, &format!("{gw},tcp,nw_src=10.0.1.2,nw_dst=10.0.1.1,tp_dst=22,nw_ttl=5")), &["101"]);
}

#[test]
fn services_are_asked_for() {
    let rig = Rig::new();
    let agent = |purpose: Purpose| format!("agent {:?}", [purpose as u8]);
    let discover =
        "dl_dst=ff:ff:ff:ff:ff:ff,udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,tp_src=68,tp_dst=67,nw_ttl=64";
    rig.check(&from(1, discover), &[&agent(Purpose::Dhcp)]);
    let solicit =
        "dl_dst=33:33:00:01:00:02,udp6,ipv6_src=fe80::1,ipv6_dst=ff02::1:2,tp_src=546,tp_dst=547,nw_ttl=1";
    rig.check(&from(1, solicit), &[&agent(Purpose::Dhcp)]);
    let router = "dl_dst=33:33:00:00:00:02,icmp6,ipv6_src=fe80::1,ipv6_dst=ff02::2,icmp_type=133,icmp_code=0,nw_ttl=255";
    rig.check(&from(1, router), &[&agent(Purpose::RouterAdvert)]);
    let dns =
        format!("dl_dst={},udp,nw_src=10.0.1.2,nw_dst=10.0.1.1,tp_src=5000,tp_dst=53,nw_ttl=64", mac(0xee01));
    rig.check(&from(2, &dns), &[&agent(Purpose::Dns)]);
}

#[test]
fn isolated_ports_reach_their_gateway_only() {
    let rig = Rig::new();
    rig.dropped(
        &from(3, &format!("dl_dst={},icmp,nw_src=10.0.2.3,nw_dst=10.0.2.4,nw_ttl=64", mac(4))),
        Purpose::Isolated,
    );
    rig.check(
        &from(3, "dl_dst=ff:ff:ff:ff:ff:ff,udp,nw_src=10.0.2.3,nw_dst=10.0.2.255,tp_src=1,tp_dst=2,nw_ttl=3"),
        &["102"],
    );
    rig.check(
        &from(3, &format!("dl_dst={},icmp,nw_src=10.0.2.3,nw_dst=192.0.2.1,nw_ttl=64", mac(0xee02))),
        &["102"],
    );
}

/// Ports of one network are apart also when they are on two nodes; the gateway is on each of them.
#[test]
fn isolated_ports_are_apart_through_tunnels() {
    let rig = Rig::new();
    let came = |from: &str, to: &str| {
        format!(
            "in_port=200,tun_id=1002,tun_src=192.0.2.7,tun_dst=192.0.2.1,dl_src={from},dl_dst={to},{}",
            "icmp,nw_src=10.0.2.99,nw_dst=10.0.2.3,nw_ttl=64"
        )
    };
    let (far, gateway) = ("02:00:00:00:99:99", mac(0xee02).to_string());
    rig.dropped(&came(far, &mac(3).to_string()), Purpose::Isolated);
    rig.check(&came(far, "ff:ff:ff:ff:ff:ff"), &["102"]);
    rig.check(&came(far, &gateway), &["102"]);
    rig.check(&came(&gateway, &mac(3).to_string()), &["3"]);
    // Where it comes from was learned, and still nothing of a port goes there.
    let back = format!("dl_dst={far},icmp,nw_src=10.0.2.3,nw_dst=10.0.2.99,nw_ttl=64");
    rig.dropped(&from(3, &back), Purpose::Isolated);
    // The host may ask the other node's ports.
    let host =
        format!("in_port=102,dl_src={gateway},dl_dst={far},icmp,nw_src=10.0.2.1,nw_dst=10.0.2.99,nw_ttl=64");
    rig.check(&host, &["tunnel 1002 to 192.0.2.7 200"]);
}

#[test]
fn a_port_may_send_from_the_prefixes_that_it_is_allowed() {
    let rig = Rig::new();
    let to1 = format!("dl_dst={}", mac(1));
    let told = |target: &str| {
        let from_own = "icmp6,ipv6_src=fd00:1::2,ipv6_dst=fd00:1::9,icmp_type=136,icmp_code=0";
        from(2, &format!("{to1},{from_own},nd_target={target}"))
    };
    let arp =
        |spa: &str| from(2, &format!("{to1},arp,arp_op=2,arp_sha={},arp_spa={spa},arp_tpa=10.0.1.1", mac(2)));
    let ip = |src: &str| from(2, &format!("{to1},icmp,nw_src={src},nw_dst=10.0.1.9,nw_ttl=64"));
    let six = |src: &str| from(2, &format!("{to1},tcp6,ipv6_src={src},ipv6_dst=fd00:1::9,nw_ttl=64"));
    for packet in [
        ip("10.99.0.0"),
        ip("10.99.0.255"),
        ip("10.0.1.2"),
        six("fd00:99::1"),
        six("fd00:99::ffff:ffff:ffff:ffff"),
        arp("10.99.0.7"),
        arp("10.0.1.2"),
        told("fd00:99::7"),
        told("fd00:1::2"),
    ] {
        rig.check(&packet, &["1"]);
    }
    for packet in [ip("10.99.1.0"), ip("10.98.255.255"), six("fd00:99:0:1::")] {
        rig.dropped(&packet, Purpose::SpoofedIp);
    }
    for packet in [arp("10.99.1.0"), told("fd00:99:0:1::")] {
        rig.dropped(&packet, Purpose::SpoofedNeighbour);
    }
}

#[test]
fn tunnels_and_cables_are_learned_from_and_do_not_loop() {
    let rig = Rig::new();
    let far = "02:00:00:00:99:99";
    // From the other node: flooded here, never back into a tunnel.
    let hello = format!(
        "in_port=200,tun_id=1003,tun_src=192.0.2.7,tun_dst=192.0.2.1,dl_src={far},dl_dst=ff:ff:ff:ff:ff:ff,\
                         arp,arp_op=1,arp_sha={far},arp_spa=10.0.3.99,arp_tpa=10.0.3.77"
    );
    rig.check(&hello, &["5", "vlan 30 300"]);
    let answer = from(5, &format!("dl_dst={far},icmp,nw_src=10.0.3.5,nw_dst=10.0.3.99,nw_ttl=64"));
    rig.check(&answer, &["tunnel 1003 to 192.0.2.7 200"]);
    // The cable: tagged, and learned from as well.
    let wired = "02:00:00:00:88:88";
    let cable = format!(
        "in_port=300,dl_vlan=30,dl_src={wired},dl_dst={},icmp,nw_src=10.0.3.88,nw_dst=10.0.3.5,nw_ttl=64",
        mac(5)
    );
    rig.check(&cable, &["untag 5"]);
    rig.check(
        &from(5, &format!("dl_dst={wired},icmp,nw_src=10.0.3.5,nw_dst=10.0.3.88,nw_ttl=64")),
        &["vlan 30 300"],
    );
    // Another VLAN or VNI is of no network.
    rig.dropped(&cable.replace("dl_vlan=30", "dl_vlan=33"), Purpose::NoNetwork);
    rig.dropped(&hello.replace("tun_id=1003", "tun_id=1004"), Purpose::NoNetwork);
}

#[test]
fn cookies_of_flows_name_their_owners() {
    let (mut compiler, _) = Compiler::new();
    compiler.apply(nets().into_iter().map(|(k, n)| Change::Net(k, Some(n))));
    let delta = compiler.apply([Change::Port(PortKey(7), Some(port(1, 2)))]);
    assert!(!delta.flows.is_empty());
    for flow in delta.flows.values() {
        assert_eq!((flow.cookie.kind, flow.cookie.key), (Kind::Port, 7));
        assert_eq!(Cookie::from_u64(flow.cookie.to_u64()), Some(flow.cookie));
        let drops = flow.instructions.apply.is_empty() && flow.instructions.goto.is_none();
        assert_eq!(drops, flow.cookie.purpose.drops(), "{flow:?}");
    }
}

#[test]
fn vlans_of_an_uplink_reach_the_ports_that_are_in_them() {
    let access = Vlans { untagged: Some(31), own_tag: None, tags: Vec::new() };
    let trunk = Vlans { untagged: None, own_tag: Some((30, true)), tags: vec![31] };
    let rig = Rig::with(&[(6, access), (7, trunk)]);
    let packet = |n: u32, tag: u32, to: u32, from: u32| {
        let tag = if tag == 0 { String::new() } else { format!("dl_vlan={tag},") };
        let own = format!("nw_src=10.0.3.{},nw_dst=10.0.3.{to},nw_ttl=64", n.min(250));
        format!("in_port={n},{tag}dl_src={},dl_dst={},icmp,{own}", mac(from), mac(to))
    };
    let untag = |n: u32| format!("untag {n}");
    let out = |vlan: u32, port: u32| format!("vlan {vlan} {port}");
    // The network's own VLAN: 30 outside, without a tag at port 5, with it at port 7, and not at port 6.
    rig.check(&packet(300, 30, 5, 99), &[&untag(5)]);
    let (sent, _) = rig.sends(&packet(300, 30, 7, 99));
    assert!(sent.len() == 1 && sent[0].ends_with(" 7"), "{sent:?}");
    rig.dropped(&packet(300, 30, 6, 99), Purpose::OtherVlan);
    rig.check(&packet(5, 0, 7, 5), &[&out(30, 7)]);
    rig.dropped(&packet(5, 0, 6, 5), Purpose::OtherVlan);
    rig.check(&packet(7, 30, 5, 7), &[&untag(5)]);
    // VLAN 31: outside and at port 7 with its tag, at port 6 without.
    rig.check(&packet(300, 31, 6, 99), &[&untag(6)]);
    rig.check(&packet(300, 31, 7, 99), &["7"]);
    rig.dropped(&packet(300, 31, 5, 99), Purpose::OtherVlan);
    rig.check(&packet(6, 0, 7, 6), &[&out(31, 7)]);
    rig.check(&packet(7, 31, 6, 7), &[&untag(6)]);
    let (sent, _) = rig.sends(&packet(6, 0, 77, 6));
    assert!(sent.contains(&"vlan 31 300".to_owned()) && sent.len() == 2, "{sent:?}");
    // What a port is not in is not taken from it, nor is a tag inside the network's own VLAN.
    for (port, tag) in [(5, 31), (5, 30), (6, 31), (6, 30), (7, 0), (7, 32)] {
        rig.dropped(&packet(port, tag, 99, port), Purpose::OtherVlan);
    }
    rig.dropped(&packet(300, 32, 5, 99), Purpose::OtherVlan);
    rig.dropped(&packet(300, 33, 5, 99), Purpose::NoNetwork);
    rig.dropped(&packet(300, 0, 5, 99), Purpose::NoNetwork);
    // The guard holds inside tags.
    rig.dropped(&packet(7, 31, 6, 8), Purpose::SpoofedMac);
    rig.dropped(&packet(7, 31, 6, 7).replace("nw_src=10.0.3.7", "nw_src=10.0.3.8"), Purpose::SpoofedIp);
}
