//! Frames across an underlay: between two datapaths, and between a datapath and the kernel's own tunnels.

use std::net::IpAddr;

use weft_datapath::{Datapath, PortKind, TunnelSpec};
use weft_flow::{DpPort, DropReason, OfPort, TunnelKind};
use weft_host::netlink::{Netlink, Vxlan};
use weft_pipeline::{PortConfig, PortKind as OfKind, TunnelAddr, TunnelConfig, TunnelId};

use crate::rig::{FLOWING, Switch, address, host, iperf, namespace, ping, run, stream, up, veth};

/// One host: a switch whose namespace has an underlay address on `eth0`, and a workload on its bridge.
struct Node {
    switch: Switch,
    workload: weft_host::netns::NetNs,
    underlay: IpAddr,
}

/// Two hosts on a cable.
fn nodes(v6: bool, mtu: u32) -> [Node; 2] {
    let ns = [namespace("host-a"), namespace("host-b")];
    veth(&ns[0], "eth0", &ns[1], "eth0");
    let mut number = 0;
    ns.map(|ns| {
        number += 1;
        let underlay = if v6 { format!("fd00::{number}") } else { format!("192.168.1.{number}") };
        ns.run(|| {
            address("eth0", &underlay, if v6 { 64 } else { 24 });
            let mut netlink = Netlink::open().unwrap();
            let index = netlink.index_of("eth0").unwrap();
            netlink.set_mtu(index, mtu).unwrap();
        })
        .unwrap();
        let workload = host("vm", &ns, "vm", &format!("10.0.0.{number}"), 24);
        let switch = Switch::new(ns);
        switch.device("vm");
        // What a network with an overlay does: workloads get an MTU that leaves room for the outer headers.
        run(&workload, &["ip", "link", "set", "eth0", "mtu", &(mtu - 80).to_string()]);
        Node { switch, workload, underlay: underlay.parse().unwrap() }
    })
}

impl Node {
    fn tunnel(
        &self,
        kind: TunnelKind,
        remote: IpAddr,
        key: u64,
        change: impl FnOnce(&mut TunnelConfig),
    ) -> DpPort {
        let mut config = TunnelConfig::new(kind, TunnelAddr::Addr(remote));
        (config.in_key, config.out_key) = (TunnelId::Key(key), TunnelId::Key(key));
        change(&mut config);
        let spec =
            TunnelSpec { csum: config.csum, seq: config.seq, gbp: config.gbp, ..TunnelSpec::new(kind) };
        self.switch.port("tun0", PortKind::Tunnel(spec), OfKind::Tunnel(config.into()))
    }
}

fn connect(kind: TunnelKind, v6: bool, change: impl Fn(&mut TunnelConfig)) -> [Node; 2] {
    let nodes = nodes(v6, 1500);
    nodes[0].tunnel(kind, nodes[1].underlay, 1000, &change);
    nodes[1].tunnel(kind, nodes[0].underlay, 1000, &change);
    nodes
}

fn check(what: &str, nodes: &[Node; 2]) {
    let why = || format!("{what}: {} / {}", nodes[0].switch.why(), nodes[1].switch.why());
    assert!(ping(&nodes[0].workload, "10.0.0.2"), "{}", why());
    let (rate, cpu) = stream(&nodes[0].workload, &nodes[1].workload, "10.0.0.2");
    println!("{what}: TCP {:.2} Gbit/s, {cpu:.2} s/GB; drops {}", rate / 1e9, why());
    let udp = iperf(
        &nodes[0].workload,
        &nodes[1].workload,
        "10.0.0.2",
        &["-t", "1", "-u", "-b", "100M", "-l", "8000"],
    );
    assert!(rate > FLOWING && udp > FLOWING, "{} {rate} {udp}", why());
    for node in nodes {
        let (ok, text) = run(&node.workload, &["nstat", "-az", "TcpInCsumErrors", "UdpInCsumErrors"]);
        assert!(ok && text.lines().filter(|l| l.contains("CsumErrors")).all(|l| l.contains(" 0 ")), "{text}");
    }
}

#[test]
fn vxlan() {
    let nodes = connect(TunnelKind::Vxlan, false, |_| ());
    check("VXLAN", &nodes);
    for node in &nodes {
        let coverage = node.switch.datapath.coverage();
        let count = |name| coverage.iter().find(|(n, _)| *n == name).unwrap().1;
        println!("{coverage:?}");
        assert!(count("tunnel_push") > 0 && count("tunnel_pop") > 0);
    }
}

#[test]
fn vxlan_over_ipv6_with_checksums_and_policy() {
    let change = |config: &mut TunnelConfig| (config.csum, config.gbp) = (true, true);
    check("VXLAN over IPv6", &connect(TunnelKind::Vxlan, true, change));
}

#[test]
fn geneve() {
    check("Geneve", &connect(TunnelKind::Geneve, false, |_| ()));
}

#[test]
fn gre() {
    let change = |config: &mut TunnelConfig| (config.csum, config.seq) = (true, true);
    check("GRE", &connect(TunnelKind::Gre, false, change));
    check("GRE over IPv6", &connect(TunnelKind::Gre, true, |_| ()));
}

#[test]
fn vxlan_with_the_kernel() {
    for v6 in [false, true] {
        let [a, b] = nodes(v6, 1500);
        // Host B gives up its switch for the kernel's VXLAN device and bridge.
        let Node { switch, workload, underlay } = b;
        let ns = switch.ns.try_clone().unwrap();
        drop(switch);
        a.tunnel(TunnelKind::Vxlan, underlay, 1000, |config| config.csum = v6);
        ns.run(|| {
            let mut netlink = Netlink::open().unwrap();
            let vxlan = Vxlan {
                name: "vx0",
                vni: 1000,
                remote: a.underlay,
                local: Some(underlay),
                port: 4789,
                learning: true,
                checksum: !v6,
                gbp: false,
            };
            let device = netlink.add_vxlan(&vxlan).unwrap();
            let bridge = netlink.add_bridge("br0").unwrap();
            let vm = netlink.index_of("vm").unwrap();
            netlink.set_master(device, Some(bridge)).unwrap();
            netlink.set_master(vm, Some(bridge)).unwrap();
            up("vx0");
            up("br0");
        })
        .unwrap();
        assert!(ping(&a.workload, "10.0.0.2"), "{}", a.switch.why());
        let there = iperf(&a.workload, &workload, "10.0.0.2", &["-t", "2"]);
        let back = iperf(&a.workload, &workload, "10.0.0.2", &["-t", "2", "-R"]);
        println!(
            "VXLAN to the kernel {:.2}, from it {:.2} Gbit/s; drops {}",
            there / 1e9,
            back / 1e9,
            a.switch.why()
        );
        assert!(there > FLOWING && back > FLOWING);
    }
}

#[test]
fn a_vtep_takes_only_what_it_should() {
    let nodes = nodes(false, 1500);
    nodes[0].tunnel(TunnelKind::Vxlan, nodes[1].underlay, 1000, |_| ());
    let port = nodes[1].tunnel(TunnelKind::Vxlan, nodes[0].underlay, 2000, |_| ());
    let fails = || !run(&nodes[0].workload, &["ping", "-c", "1", "-W", "1", "10.0.0.2"]).0;
    assert!(fails());
    let switch = &nodes[1].switch;
    assert!(switch.drops(DropReason::TunnelWrongVni) > 0, "{}", switch.why());
    let set = |remote: &str, id: u64| {
        switch.change(|bridge| {
            let mut config = TunnelConfig::new(TunnelKind::Vxlan, TunnelAddr::Addr(remote.parse().unwrap()));
            (config.in_key, config.out_key) = (TunnelId::Key(id), TunnelId::Key(id));
            let tunnel = bridge.ports.get(OfPort(port.0)).unwrap().clone();
            bridge.ports.insert(PortConfig { kind: OfKind::Tunnel(config.into()), ..tunnel });
        });
        switch.datapath.sync();
    };
    set("192.168.1.77", 1000);
    assert!(fails());
    // The kernel may just be giving up on an address that did not answer, and send nothing.
    let named = || switch.drops(DropReason::TunnelWrongPeer) > 0;
    assert!((0..10).any(|_| named() || (fails() && named())), "{}", switch.why());
    set("192.168.1.1", 1000);
    // The kernel may just be giving up on the address that did not answer so far.
    let reaches = || ping(&nodes[0].workload, "10.0.0.2");
    assert!(reaches() || reaches(), "{}", switch.why());
    // The last port of a listener takes its socket along.
    switch.datapath.del_port(port).unwrap();
    switch.change(|bridge| assert!(bridge.ports.remove(OfPort(port.0))));
    let (_, sockets) = run(&switch.ns, &["ss", "-uanH", "sport", "=", "4789"]);
    assert_eq!(sockets.trim(), "");
}
