//! Do tunnels work, by the host's stack and through a bridge of the switch itself?

use crate::harness::{Switch, Workload};

/// Two switches with an underlay between their devices `u`, and a workload each on `br-int`.
struct Pair {
    a: Switch,
    b: Switch,
    vm_a: Workload,
    vm_b: Workload,
}

impl Pair {
    fn new() -> Pair {
        let (a, b) = (Switch::start(), Switch::start());
        a.ok(&format!("ip link add name u type veth peer name u netns {}", b.ns));
        for s in [&a, &b] {
            s.ok("ip link set dev u up");
            s.vsctl("add-br br-int");
        }
        let vm_a = a.workload("va", "10.0.0.1/24");
        let vm_b = b.workload("vb", "10.0.0.2/24");
        a.vsctl("add-port br-int va");
        b.vsctl("add-port br-int vb");
        Pair { a, b, vm_a, vm_b }
    }
}

#[test]
fn by_the_hosts_stack() {
    let p = Pair::new();
    p.a.ok("ip addr add 192.168.1.10/24 dev u");
    p.b.ok("ip addr add 192.168.1.20/24 dev u");
    let tunnel = |s: &Switch, to: &str, key: u32| {
        s.vsctl(&format!(
            "--may-exist add-port br-int vx -- set interface vx type=vxlan options:remote_ip={to} options:key={key}"
        ));
    };
    tunnel(&p.a, "192.168.1.20", 1000);
    tunnel(&p.b, "192.168.1.10", 1000);
    assert!(p.a.pings(&p.vm_a, "10.0.0.2"));
    p.a.wait_for("the way out is told", || {
        p.a.vsctl("get interface vx status").contains("tunnel_egress_iface=u")
    });
    tunnel(&p.b, "192.168.1.10", 1001);
    assert!(p.a.silent(&p.vm_a, "10.0.0.2"));
    let drops = p.b.ok("ovs-appctl weft/drops --json");
    assert!(drops.contains("tunnel-wrong-vni"), "{drops}");
    tunnel(&p.b, "192.168.1.10", 1000);
    assert!(p.a.pings(&p.vm_a, "10.0.0.2"));
    p.a.vsctl("del-port vx");
    assert!(p.b.silent(&p.vm_b, "10.0.0.1"));
}

/// The underlay's address of `a` is on a bridge of its own, so the switch builds outer headers itself.
fn through_a_bridge_of_its_own(addresses: [&str; 2], prefix: u8, kind: &str) {
    let p = Pair::new();
    let [here, there] = addresses;
    p.a.vsctl("add-br br-phy -- add-port br-phy u");
    p.a.ok("ip link set dev br-phy up");
    p.a.ok(&format!("ip addr add {here}/{prefix} dev br-phy"));
    p.b.ok(&format!("ip addr add {there}/{prefix} dev u"));
    p.a.vsctl(&format!(
        "add-port br-int t -- set interface t type={kind} options:remote_ip={there} options:key=7"
    ));
    p.b.vsctl(&format!(
        "add-port br-int t -- set interface t type={kind} options:remote_ip={here} options:key=7"
    ));
    let reaches = p.a.pings(&p.vm_a, "10.0.0.2");
    assert!(
        reaches,
        "{}\n{}\n{}",
        p.a.log(),
        p.a.ok("ovs-appctl weft/drops"),
        p.b.ok("ovs-appctl weft/drops")
    );
    assert!(p.a.vsctl("get interface t status").contains("tunnel_egress_iface=br-phy"));
    // The host itself still talks by the bridge.
    let ping = if here.contains(':') { "ping -6" } else { "ping" };
    assert_eq!(p.a.run(&format!("{ping} -c1 -W2 {there}")).code, 0);
}

#[test]
fn vxlan_through_a_bridge_of_its_own() {
    through_a_bridge_of_its_own(["192.168.1.10", "192.168.1.20"], 24, "vxlan");
}

#[test]
fn geneve_through_a_bridge_of_its_own() {
    through_a_bridge_of_its_own(["192.168.1.10", "192.168.1.20"], 24, "geneve");
}

#[test]
fn vxlan_over_ipv6_through_a_bridge_of_its_own() {
    through_a_bridge_of_its_own(["fd00::10", "fd00::20"], 64, "vxlan");
}
