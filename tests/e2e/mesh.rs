//! Three hosts, a full mesh of tunnels, 50 workloads: does every frame go where it should, once?

use std::time::Duration;

use crate::wire::Wire;
use crate::world::{self, Guard, up};
use weft_lab::Lab;

const HOSTS: [(&str, usize); 3] = [("a", 17), ("b", 17), ("c", 16)];
/// A local experimental EtherType (IEEE 802), so that nothing else is counted.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
const BROADCAST: [u8; 6] = [0xff; 6];

/// The mesh: tunnel ports are protected, so that what comes by one tunnel does not leave by another.
fn mesh() -> Guard {
    let mut yaml = String::from(
        "name: mesh\nnetworks:\n  - { name: lan, mtu: 1600, subnets: [192.168.1.0/24] }\nhosts:\n",
    );
    for (h, (name, workloads)) in HOSTS.iter().enumerate() {
        yaml += &format!(
            "  - name: {name}\n    links: [{{ addresses: [192.168.1.{}] }}]\n    workloads:\n",
            h + 1
        );
        let mut setup = String::from("ovs-vsctl --timeout=20 add-br br0");
        for w in 0..*workloads {
            yaml += &format!("      - {{ name: w{w}, device: p{w}, addresses: [10.0.{h}.{}/16] }}\n", w + 1);
            setup += &format!(" -- add-port br0 p{w}");
        }
        for peer in (0..HOSTS.len()).filter(|p| *p != h) {
            setup += &format!(
                " -- add-port br0 t{peer} -- set port t{peer} protected=true -- set interface t{peer} type=vxlan options:remote_ip=192.168.1.{} options:key=7",
                peer + 1
            );
        }
        yaml += &world::run_yaml(world::Switch::Weft);
        yaml += &format!("    setup: [{}]\n", serde_json::Value::from(setup));
    }
    up(&yaml)
}

fn wires(lab: &Lab) -> Vec<Wire> {
    let all = HOSTS.iter().flat_map(|(host, n)| (0..*n).map(move |w| (host, w)));
    all.map(|(host, w)| Wire::open(&lab.workload(host, &format!("w{w}")), "eth0")).collect()
}

fn mac(n: usize) -> [u8; 6] {
    [0x02, 0xee, 0, 0, 0, n as u8]
}

fn frame(dst: [u8; 6], src: [u8; 6], tag: u8) -> Vec<u8> {
    let mut f = [&dst[..], &src, &ETHERTYPE].concat();
    f.resize(60, tag);
    f
}

/// Sends a frame by `wires[from]` and says how many copies each of the others saw.
fn copies(wires: &mut [Wire], from: usize, dst: [u8; 6], src: [u8; 6], tag: u8) -> Vec<usize> {
    let sent = frame(dst, src, tag);
    wires[from].send(std::slice::from_ref(&sent));
    std::thread::sleep(Duration::from_millis(300));
    let count = |w: &mut Wire| w.receive(Duration::from_millis(10)).iter().filter(|f| **f == sent).count();
    wires.iter_mut().map(count).collect()
}

/// One copy everywhere but at `from`.
fn everyone_but(n: usize, from: usize) -> Vec<usize> {
    (0..n).map(|i| usize::from(i != from)).collect()
}

/// One copy at `to` only.
fn only(n: usize, to: usize) -> Vec<usize> {
    (0..n).map(|i| usize::from(i == to)).collect()
}

#[test]
fn fifty_workloads_see_each_frame_once() {
    let lab = mesh();
    world::eventually("the mesh is up", || {
        lab.workload("a", "w0").ping(world::ip("10.0.2.16"), Duration::from_secs(1)).expect("ping runs")
    });
    let mut wires = wires(&lab);
    let n = wires.len();
    assert_eq!(n, 50);
    wires.iter_mut().for_each(Wire::flush);

    // Broadcast reaches everyone once, from each host.
    for from in [0, 20, 49] {
        assert_eq!(
            copies(&mut wires, from, BROADCAST, mac(from), 1),
            everyone_but(n, from),
            "broadcast from {from}"
        );
    }
    // Unknown unicast is flooded once.
    assert_eq!(copies(&mut wires, 0, mac(99), mac(0), 2), everyone_but(n, 0), "unknown unicast");
    // Learned addresses get theirs alone: same host, other host.
    for to in [20, 49] {
        assert_eq!(copies(&mut wires, 0, mac(to), mac(0), 3), only(n, to), "to {to}");
        assert_eq!(copies(&mut wires, to, mac(0), mac(to), 4), only(n, 0), "back from {to}");
    }
    // An address that moves from host a to host c is learned anew, by all.
    assert_eq!(copies(&mut wires, 1, BROADCAST, mac(77), 5), everyone_but(n, 1), "before the move");
    assert_eq!(copies(&mut wires, 20, mac(77), mac(20), 6), only(n, 1), "before the move");
    assert_eq!(copies(&mut wires, 48, BROADCAST, mac(77), 7), everyone_but(n, 48), "the move");
    assert_eq!(copies(&mut wires, 20, mac(77), mac(20), 8), only(n, 48), "after the move");
    assert_eq!(copies(&mut wires, 2, mac(77), mac(2), 9), only(n, 48), "after the move, from its old host");
}
