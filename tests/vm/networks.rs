//! Machines on networks that are declared: two hosts, two networks, and a world outside.
//!
//! ```text
//!   host a                       underlay                       host b
//!   ┌ one (blue, TAP)          192.0.2.0/24          two (blue, vhost-user) ┐
//!   └ pod (red, namespace)  .1 ────────────── .2     three (red, TAP)       ┘
//!   └ outside, 198.51.100.9: it knows host a, and no network
//! ```

use crate::field::{Field, WEFT};
use crate::hosts::Site;
use crate::machine::{self, Vm};
use crate::support::Kind;
use crate::taps::{mac, start, transfer, transfer_with_host, wait_ping};

/// What both hosts are told; only the other's address differs. Host b has port two by another way.
fn intent(peer: &str, two: bool) -> String {
    let mut text = String::new();
    for (name, number, mode, kind) in [("blue", 1, "nat", "geneve"), ("red", 2, "isolated", "vxlan")] {
        text += &format!(
            "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec: {{mode: {mode}, \
             domain: {{name: {name}.example}}, overlay: {{kind: {kind}, key: {number}00, peers: [{peer}]}}}}\n---\n\
             apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {{name: {name}4}}\n\
             spec: {{network: {name}, cidr: 10.{number}.0.0/24}}\n---\n"
        );
    }
    let pod = Site::mac(1);
    for (name, network, node, mac, address) in [
        ("one", "blue", "a", mac(1), "10.1.0.11"),
        ("two", "blue", "b", mac(2), "10.1.0.12"),
        ("three", "red", "b", mac(3), "10.2.0.13"),
        ("pod", "red", "a", pod, "10.2.0.14"),
    ]
    .into_iter()
    .filter(|(name, ..)| two || *name != "two")
    {
        text += &format!(
            "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: {name}}}\nspec: {{network: {network}, node: {node}, \
             mac: '{mac}', addresses: [{address}], attachment: {{ifaceId: {name}}}}}\n---\n"
        );
    }
    text
}

/// Has a machine ask for its address; it must be told this one.
pub(crate) fn lease(vm: &mut Vm, address: &str, router: &str, domain: &str) {
    let told = vm.ok("ip link set eth0 up; udhcpc -i eth0 -n -q -t 20 -T 1 -O mtu");
    for part in [format!("ip={address} "), format!("router={router} "), format!("domain={domain} ")] {
        assert!(told.contains(&part), "{part:?} was to be told: {told}");
    }
    let mtu = told.split("mtu=").nth(1).and_then(|rest| rest.split(' ').next()).expect("an MTU");
    vm.ok(&format!("ip link set eth0 mtu {mtu}"));
}

#[test]
fn machines_on_two_networks_of_two_hosts() {
    let (a, b) = (Field::node(Kind::Weft, 2, "a"), Field::node(Kind::Weft, 0, "b"));
    let (sa, sb) = (&a.site.switch, &b.site.switch);
    sa.ok(&format!("ip link add under type veth peer name under netns {}", sb.ns));
    for (switch, address) in [(sa, "192.0.2.1/24"), (sb, "192.0.2.2/24")] {
        switch.ok(&format!("ip addr add {address} dev under"));
        switch.ok("ip link set under up");
    }
    sa.ok("ip addr add 198.51.100.1/24 dev p2");
    a.site.on(2, "ip addr add 198.51.100.9/24 dev eth0");
    for (host, peer, two) in [(&a, "192.0.2.2", true), (&b, "192.0.2.1", false)] {
        host.apply(&intent(peer, two));
        host.site.switch.wait_for("br-int is there", |s| s.run("ovs-vsctl br-exists br-int").code == 0);
    }

    // The words are those that libvirt, or a person, has for each.
    let plug = |host: &Field, port: &str, id: &str| {
        let line =
            format!("ovs-vsctl add-port br-int {port} -- set Interface {port} external-ids:iface-id={id}");
        host.site.switch.run(&line);
    };
    let socket = sb.path("two.sock");
    plug(&a, "p1", "pod");
    plug(&a, "tap1", "one");
    plug(&b, "tap3", "three");
    let (at, mac2) = (socket.display(), mac(2));
    b.ok(&format!("port add two --network blue --vhost-user {at} --mac {mac2} --ip 10.1.0.12 --no-wait"));
    let mut one = start(&a.site, "one", 1, &machine::tap(1, "tap1", &mac(1), 1));
    let mut two = start(&b.site, "two", 1, &machine::vhost_user(2, &socket, true, &mac(2), 1));
    let mut three = start(&b.site, "three", 1, &machine::tap(3, "tap3", &mac(3), 1));
    sa.ok("ip link set tap1 up");
    sb.ok("ip link set tap3 up");
    for vm in [&mut one, &mut two, &mut three] {
        vm.booted();
    }
    for (host, port) in [(&a, "one"), (&a, "pod"), (&b, "two"), (&b, "three")] {
        host.ready(port);
    }

    // Addresses by DHCP, each from the agent of its host.
    lease(&mut one, "10.1.0.11", "10.1.0.1", "blue.example");
    lease(&mut two, "10.1.0.12", "10.1.0.1", "blue.example");
    lease(&mut three, "10.2.0.13", "", "red.example");
    a.site.on(1, "ip addr add 10.2.0.14/24 dev eth0");
    a.site.on(1, "ip link set eth0 mtu 1400");

    // Names by DNS: of machines on this host and on the other.
    for (name, address) in [("two.blue.example", "10.1.0.12"), ("one.blue.example", "10.1.0.11")] {
        one.wait_for(&format!("nslookup {name} 10.1.0.1 | grep -q {address}"));
    }
    assert_ne!(
        one.run("nslookup three.red.example 10.1.0.1 | grep 10.2.0.13").code,
        0,
        "a name of another network"
    );

    // Machine and machine, machine and namespace, over the underlay.
    wait_ping(&mut one, "10.1.0.12");
    transfer(&mut one, &mut two, "10.1.0.12");
    transfer(&mut two, &mut one, "10.1.0.11");
    wait_ping(&mut three, "10.2.0.14");
    transfer_with_host(&a.site, &mut three, 1, "10.2.0.14");
    // Machine and world, behind the host's address.
    wait_ping(&mut one, "198.51.100.9");
    transfer_with_host(&a.site, &mut one, 2, "198.51.100.9");

    // Networks are apart, both ways, on one host and between two; and an isolated one reaches no world.
    for (vm, others) in [(&mut one, ["10.2.0.13", "10.2.0.14"]), (&mut three, ["10.1.0.11", "10.1.0.12"])] {
        for address in others {
            let said = vm.run(&format!("ping -c2 -W1 {address}"));
            assert_ne!(said.code, 0, "{address} is of another network");
        }
    }
    assert_ne!(three.run("ping -c2 -W1 198.51.100.9").code, 0, "the network is isolated");

    // A machine that says it is another is not heard, and the rule that dropped it names the port and why.
    two.ok("ip addr add 10.1.0.99/24 dev eth0");
    assert_ne!(two.run("ping -c2 -W1 -I 10.1.0.99 10.1.0.11").code, 0, "a spoofed address");
    let drops = |words: &str| {
        let (dir, socket) = (sb.path(""), b.socket());
        sb.ok(&format!("env WEFT_SOCKET={} {WEFT} {words} --rundir {}", socket.display(), dir.display()))
    };
    let why = "Port/two: drops: sent from an IP address that is not the port's";
    sb.wait_for("the drop is told", |_| drops("drops").contains(why));

    // A machine that reboots is the same.
    one.reboot();
    lease(&mut one, "10.1.0.11", "10.1.0.1", "blue.example");
    wait_ping(&mut one, "10.1.0.12");
    for vm in [one, two, three] {
        vm.power_off();
    }
}
