//! Tunnels whose underlay address is on a bridge of the switch itself.

use std::net::IpAddr;

use weft_datapath::{Datapath, PortKind, TunnelSpec};
use weft_flow::{OfPort, TunnelKind};
use weft_host::netlink::Netlink;
use weft_host::netns::NetNs;
use weft_pipeline::{
    BridgeConfig, PortConfig, PortKind as OfKind, Route, Snapshot, TunnelAddr, TunnelConfig, TunnelId,
};
use weft_wire::Mac;

use crate::rig::{FLOWING, Switch, address, host, iperf, namespace, ping, run, up, veth};

const PHYSICAL: u32 = 2;
const LOCAL: OfPort = OfPort(100);

/// A host whose underlay address is on `br-phy`, an internal port of the switch, beside the device `eth0`.
struct Node {
    switch: Switch,
    workload: NetNs,
    underlay: IpAddr,
    mac: Mac,
}

fn node(ns: NetNs, number: u8, v6: bool) -> Node {
    let underlay = if v6 { format!("fd00::{number}") } else { format!("192.168.1.{number}") };
    let workload = host("vm", &ns, "vm", &format!("10.0.0.{number}"), 24);
    run(&workload, &["ip", "link", "set", "eth0", "mtu", "1400"]);
    let switch = Switch::new(ns);
    switch.device("vm");
    let mac = Mac([2, 0, 0, 0, 9, number]);
    let add = |name: &str, kind| {
        let spec = weft_datapath::PortSpec::new(name, kind);
        switch.ns.run(|| switch.datapath.add_port(&spec)).unwrap().unwrap().number
    };
    let (eth0, local) =
        (add("eth0", PortKind::Device), add("br-phy", PortKind::Internal { mac: Some(mac), mtu: None }));
    switch
        .ns
        .run(|| {
            up("br-phy");
            address("br-phy", &underlay, if v6 { 64 } else { 24 });
        })
        .unwrap();
    let underlay: IpAddr = underlay.parse().unwrap();
    let mut bridge = BridgeConfig::new(PHYSICAL, "br-phy");
    let mut internal =
        PortConfig::new(LOCAL, Some(local), "br-phy", OfKind::Internal { addrs: vec![underlay] });
    internal.mac = mac;
    bridge.ports = vec![PortConfig::new(OfPort(1), Some(eth0), "eth0", OfKind::Device), internal].into();
    let publish = |snapshot: &mut Snapshot| {
        snapshot.set_bridge(bridge);
        let prefix = if v6 { "fd00::" } else { "192.168.1.0" }.parse().unwrap();
        let plen = if v6 { 64 } else { 24 };
        let route = Route { prefix, plen, bridge: PHYSICAL, port: LOCAL, gateway: None, src: underlay };
        snapshot.underlay_mut().set_routes(vec![route]);
        Ok::<_, ()>(())
    };
    switch.pipeline.update(publish).unwrap();
    Node { switch, workload, underlay, mac }
}

fn tunnel(switch: &Switch, kind: TunnelKind, remote: IpAddr) {
    let mut config = TunnelConfig::new(kind, TunnelAddr::Addr(remote));
    (config.in_key, config.out_key) = (TunnelId::Key(1000), TunnelId::Key(1000));
    switch.port("tun0", PortKind::Tunnel(TunnelSpec::new(kind)), OfKind::Tunnel(config.into()));
}

fn counter(switch: &Switch, wanted: &str) -> u64 {
    switch.datapath.coverage().iter().find(|(name, _)| *name == wanted).unwrap().1
}

#[test]
fn both_ends_native() {
    for (kind, v6) in [(TunnelKind::Vxlan, false), (TunnelKind::Vxlan, true), (TunnelKind::Gre, false)] {
        let ns = [namespace("host-a"), namespace("host-b")];
        veth(&ns[0], "eth0", &ns[1], "eth0");
        let [ns_a, ns_b] = ns;
        let (a, b) = (node(ns_a, 1, v6), node(ns_b, 2, v6));
        tunnel(&a.switch, kind, b.underlay);
        tunnel(&b.switch, kind, a.underlay);
        a.switch.pipeline.set_neighbour(PHYSICAL, b.underlay, Some(b.mac));
        b.switch.pipeline.set_neighbour(PHYSICAL, a.underlay, Some(a.mac));
        let why = || format!("{kind:?} v6={v6}: {} / {}", a.switch.why(), b.switch.why());
        assert!(ping(&a.workload, "10.0.0.2"), "{}", why());
        let rate = iperf(&a.workload, &b.workload, "10.0.0.2", &["-t", "2"]);
        println!("native {kind:?} v6={v6}: TCP {:.2} Gbit/s; drops {}", rate / 1e9, why());
        println!("{:?}", b.switch.datapath.coverage());
        assert!(
            rate > FLOWING && counter(&a.switch, "tunnel_push") > 0 && counter(&b.switch, "tunnel_pop") > 0,
            "{}",
            why()
        );
        // The host itself reaches the other by the same bridge.
        assert!(ping(&a.switch.ns, &b.underlay.to_string()), "{}", why());
    }
}

#[test]
fn native_to_the_kernel() {
    let ns = [namespace("host-a"), namespace("host-b")];
    veth(&ns[0], "eth0", &ns[1], "eth0");
    let [ns_a, ns_b] = ns;
    let a = node(ns_a, 1, false);
    let workload = host("vm", &ns_b, "vm", "10.0.0.2", 24);
    run(&workload, &["ip", "link", "set", "eth0", "mtu", "1400"]);
    let mac = ns_b
        .run(|| {
            address("eth0", "192.168.1.2", 24);
            let mut netlink = Netlink::open().unwrap();
            let mac = netlink.link("eth0").unwrap().mac.unwrap();
            let vxlan = weft_host::netlink::Vxlan {
                name: "vx0",
                vni: 1000,
                remote: a.underlay,
                local: None,
                port: 4789,
                learning: true,
                checksum: false,
                gbp: false,
            };
            let device = netlink.add_vxlan(&vxlan).unwrap();
            let bridge = netlink.add_bridge("br0").unwrap();
            let vm = netlink.index_of("vm").unwrap();
            netlink.set_master(device, Some(bridge)).unwrap();
            netlink.set_master(vm, Some(bridge)).unwrap();
            up("vx0");
            up("br0");
            mac
        })
        .unwrap();
    let remote: IpAddr = "192.168.1.2".parse().unwrap();
    tunnel(&a.switch, TunnelKind::Vxlan, remote);
    a.switch.pipeline.set_neighbour(PHYSICAL, remote, Some(mac));
    assert!(ping(&a.workload, "10.0.0.2"), "{}", a.switch.why());
    let there = iperf(&a.workload, &workload, "10.0.0.2", &["-t", "2"]);
    let back = iperf(&a.workload, &workload, "10.0.0.2", &["-t", "2", "-R"]);
    println!(
        "native to the kernel {:.2}, from it {:.2} Gbit/s; drops {}",
        there / 1e9,
        back / 1e9,
        a.switch.why()
    );
    println!("{:?}", a.switch.datapath.coverage());
    assert!(there > FLOWING && back > FLOWING);
}
