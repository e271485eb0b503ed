//! The seed's scenario, typed with Debian's own `ovs-vsctl`: does it work as the reader expects?

use crate::world::{self, Switch, TwoHosts, assert_no_ping, assert_ping, drops, eventually, up_spec};
use weft_lab::LabSpec;

/// The lab of the README, with the lines of the tunnelling tutorial as written.
fn tutorial() -> world::Guard {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/two-hosts.yaml");
    up_spec(&LabSpec::read(&file).expect("the example is valid").unique())
}

#[test]
fn the_tutorial_works_as_written() {
    let lab = tutorial();
    let vm = lab.host("a").netns("vm0").expect("the tutorial made vm0");
    let answer = vm.ping(world::ip("10.0.0.2"), world::PATIENCE).expect("ping runs");
    assert!(answer.is_some(), "no answer\n{}", world::describe(&lab));
}

#[test]
fn the_underlay_carries_vni_1000_on_udp_4789() {
    let lab = TwoHosts::default().up();
    assert_ping(&lab);
    let network = lab.network("lan");
    let capture = network.spawn(["tcpdump", "-nn", "-l", "-c", "4", "-i", "bridge", "udp port 4789"]);
    let text = eventually("VXLAN frames on the underlay", || {
        lab.workload("a", "vm0").ping(world::ip(world::VM_B), world::PATIENCE).expect("ping runs");
        let text = capture.stdout();
        text.contains("vni 1000").then_some(text)
    });
    assert!(text.contains(".4789: VXLAN"), "{text}");
    assert!(text.contains("192.168.1.10.") && text.contains("192.168.1.20."), "{text}");
}

#[test]
fn another_vni_on_one_side_stops_traffic_and_drops_say_why() {
    let lab = TwoHosts::default().up();
    assert_ping(&lab);
    lab.host("b").exec(["ovs-vsctl", "--timeout=10", "set", "interface", "tun0", "options:key=2000"]).ok();
    let before = (drops(&lab, "a", "tunnel-wrong-vni"), drops(&lab, "b", "tunnel-wrong-vni"));
    assert_no_ping(&lab);
    let after = (drops(&lab, "a", "tunnel-wrong-vni"), drops(&lab, "b", "tunnel-wrong-vni"));
    assert!(after.1 > before.1, "b did not say so: {before:?} {after:?}\n{}", world::describe(&lab));
    lab.host("b").exec(["ovs-vsctl", "--timeout=10", "set", "interface", "tun0", "options:key=1000"]).ok();
    assert_ping(&lab);
}

#[test]
fn another_peer_is_refused_under_its_own_reason() {
    let lab = TwoHosts::default().up();
    assert_ping(&lab);
    let line = ["ovs-vsctl", "--timeout=10", "set", "interface", "tun0", "options:remote_ip=192.168.1.99"];
    lab.host("b").exec(line).ok();
    let before = drops(&lab, "b", "tunnel-wrong-peer");
    assert_no_ping(&lab);
    assert!(drops(&lab, "b", "tunnel-wrong-peer") > before, "{}", world::describe(&lab));
}

#[test]
fn a_removed_port_stops_traffic_and_adding_it_back_restores_it() {
    let lab = TwoHosts::default().up();
    assert_ping(&lab);
    lab.host("b").exec(["ovs-vsctl", "--timeout=10", "del-port", "tun0"]).ok();
    assert_no_ping(&lab);
    let add = "ovs-vsctl --timeout=10 add-port br0 tun0 -- set interface tun0 type=vxlan options:remote_ip=192.168.1.10 options:key=1000";
    lab.host("b").sh(add).ok();
    assert_ping(&lab);
    lab.host("a").exec(["ovs-vsctl", "--timeout=10", "del-port", "vnet0"]).ok();
    assert_no_ping(&lab);
    lab.host("a").exec(["ovs-vsctl", "--timeout=10", "add-port", "br0", "vnet0"]).ok();
    assert_ping(&lab);
}

#[test]
fn learned_addresses_cached_flows_and_the_trace_can_be_seen() {
    let lab = TwoHosts { a: Switch::Weft, ..TwoHosts::default() }.up();
    assert_ping(&lab);
    let host = lab.host("a");
    let fdb = host.exec(["ovs-appctl", "fdb/show", "br0"]).ok();
    assert!(fdb.lines().count() >= 3, "{fdb}");
    let flows = host.exec(["ovs-appctl", "dpctl/dump-flows"]).ok();
    assert!(flows.contains("set(tunnel(tun_id=0x3e8") && flows.contains("192.168.1.20"), "{flows}");
    let trace = host
        .exec(["ovs-appctl", "ofproto/trace", "br0", "in_port=1,icmp,nw_src=10.0.0.1,nw_dst=10.0.0.2"])
        .ok();
    assert!(trace.contains("NORMAL") && trace.contains("Datapath actions"), "{trace}");
    let ours = host.exec(["weft", "trace", "br0", "in_port=1,icmp,nw_src=10.0.0.1,nw_dst=10.0.0.2"]).ok();
    assert!(ours.contains("Datapath actions"), "{ours}");
}
