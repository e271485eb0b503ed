//! Machines in pods, as KubeVirt wires them: each behind a bridge `k6t-eth0` and a TAP in a namespace of its pod.
//!
//! ```text
//!   pod `bridged`   machine ── tap0 ─ k6t-eth0 ─ eth0-nic ── br-int   the pod's address and MAC are the machine's, by DHCP
//!   pod `masked`    machine ── tap0 ─ k6t-eth0 ┄ NAT ┄ eth0 ── br-int   the machine is 10.0.2.2, by the pod's own DHCP
//!   pod `plain`     no machine
//! ```

use crate::dual::no_dad;
use crate::field::{Field, network};
use crate::hosts::Service;
use crate::machine::{self, Vm};
use crate::networks::lease;
use crate::support::Kind;
use crate::taps::{mac, transfer, wait_ping};

/// What is not in the cluster.
const WORLD: &str = "198.51.100.9";

/// Bridge binding, `$1` the pod's namespace: the NIC gives its addresses and MAC to the machine, and becomes a port of the bridge
/// under another name. A device in its place, which leads nowhere, shows the pod's address to whoever looks in the pod.
const BRIDGE: &str = r#"set -e
mac=$(cat /sys/class/net/eth0/address)
address=$(ip -4 -o address show dev eth0 | awk '{print $4}')
ip link set eth0 down
ip address flush dev eth0
ip link set eth0 name eth0-nic
sysctl -qw net.ipv6.conf.eth0-nic.disable_ipv6=1
ip link add k6t-eth0 type bridge
sysctl -qw net.ipv6.conf.k6t-eth0.disable_ipv6=1
ip link set eth0-nic address 02:11:22:33:44:55 master k6t-eth0
ip link add eth0 type bridge
ip link set eth0 address $mac
ip address add $address dev eth0
ip tuntap add dev tap0 mode tap
ip link set tap0 mtu 1400 master k6t-eth0
for device in k6t-eth0 eth0-nic tap0; do ip link set $device mtu 1400 up; done
"#;

/// Masquerade binding: the pod keeps its address, and translates.
const MASQUERADE: &str = r#"set -e
ip link add k6t-eth0 type bridge
sysctl -qw net.ipv6.conf.k6t-eth0.accept_dad=0
ip address add 10.0.2.1/24 dev k6t-eth0
ip address add fd10:0:2::1/120 dev k6t-eth0
ip tuntap add dev tap0 mode tap
ip link set tap0 mtu 1400 master k6t-eth0
for device in k6t-eth0 tap0; do ip link set $device mtu 1400 up; done
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
nft -f - <<END
table ip nat {
  chain prerouting { type nat hook prerouting priority dstnat; iifname eth0 dnat to 10.0.2.2; }
  chain postrouting { type nat hook postrouting priority srcnat; ip saddr 10.0.2.2 oifname eth0 masquerade; }
}
table ip6 nat {
  chain prerouting {
    type nat hook prerouting priority dstnat
    iifname eth0 icmpv6 type echo-request dnat to fd10:0:2::2
    iifname eth0 meta l4proto { tcp, udp } dnat to fd10:0:2::2
  }
  chain postrouting { type nat hook postrouting priority srcnat; ip6 saddr fd10:0:2::2 oifname eth0 masquerade; }
}
END
"#;

/// The machine of a pod, booting there.
fn boot(field: &Field, pod: &str, mac: &str) -> Vm {
    let net = format!("--net=/run/netns/{}", field.name(pod));
    Vm::start(&field.site.switch.path(""), pod, &machine::tap(1, "tap0", mac, 1), |words| {
        field.site.switch.inside(&[&["nsenter", net.as_str()], words].concat())
    })
}

/// What virt-launcher answers to the machine behind a masquerade: its one address, and the name server of the pod.
fn dhcp(field: &Field, pod: &str, mac: &str) -> Service {
    let leases = field.site.switch.path("dnsmasq.leases");
    let server = field.serve(
        pod,
        &format!(
            "dnsmasq -d --conf-file=/dev/null --no-hosts --no-resolv --port=0 --user=root --interface=k6t-eth0 \
             --bind-interfaces --dhcp-authoritative --dhcp-range=10.0.2.2,static,255.255.255.0 \
             --dhcp-host={mac},10.0.2.2 --dhcp-option=3,10.0.2.1 --dhcp-option=6,10.60.0.1 \
             --dhcp-option=15,pods.example --dhcp-option=26,1400 --dhcp-leasefile={}",
            leases.display()
        ),
    );
    field.wait("the pod's DHCP server answers", |_| server.log().contains("DHCP, static leases"));
    server
}

/// The address of a family that the agent gave to a pod.
fn address(field: &Field, pod: &str, six: bool) -> String {
    let status = field.json("port", pod)["status"].clone();
    let all = status["addresses"].as_array().expect("addresses").clone();
    let of_family = all.iter().filter_map(|a| a.as_str()).find(|a| a.contains(':') == six);
    of_family.unwrap_or_else(|| panic!("{status}")).to_owned()
}

fn check(kind: Kind) {
    let mut field = Field::start(kind, 1);
    field.site.switch.ok("ip addr add 198.51.100.1/24 dev p1");
    field.site.on(1, &format!("ip addr add {WORLD}/24 dev eth0"));
    let spec = "mode: nat, mtu: 1400, domain: {name: pods.example}, nat: {ipv6: true}";
    field.apply(&network("pods", spec, &["10.60.0.0/24", "fd00:60::/64"]));
    for (n, pod) in ["bridged", "masked", "plain"].into_iter().enumerate() {
        let ns = field.space(pod);
        field.ok(&format!("port add {pod} --network pods --netns {ns} --mac {}", mac(n + 1)));
    }
    for (pod, script) in [("bridged", BRIDGE), ("masked", MASQUERADE)] {
        let file = field.file(&format!("{pod}.sh"), script);
        // As a namespace of its own has it: /sys shows its devices.
        field.site.switch.ok(&format!("ip netns exec {} sh {}", field.name(pod), file.display()));
    }
    let _dhcp = dhcp(&field, "masked", &mac(9));
    let (mut bridged, mut masked) = (boot(&field, "bridged", &mac(1)), boot(&field, "masked", &mac(9)));
    bridged.booted();
    masked.booted();

    // The one machine has the pod's address, from Weft; the other its own, from the pod.
    let pods = ["bridged", "masked", "plain"].map(|pod| address(&field, pod, false));
    lease(&mut bridged, &pods[0], "10.60.0.1", "pods.example");
    lease(&mut masked, "10.0.2.2", "10.0.2.1", "pods.example");
    assert!(field.ok("leases").contains(&pods[0]));
    assert!(!field.ok("leases").contains(&pods[1]), "the pod asked nobody");
    reach(&field, &mut bridged, &mut masked, &pods);
    six(&field, &mut bridged, &mut masked);

    // A machine that says it is another pod is not heard; behind the masquerade it cannot even say so.
    bridged.ok(&format!("ip addr add {}/24 dev eth0", pods[1]));
    assert_ne!(bridged.run(&format!("ping -c2 -W1 -I {} {}", pods[1], pods[2])).code, 0, "a spoofed address");
    // A machine that reboots is the same.
    bridged.reboot();
    lease(&mut bridged, &pods[0], "10.60.0.1", "pods.example");
    wait_ping(&mut bridged, &pods[2]);
    bridged.power_off();
    masked.power_off();
}

/// Machine and machine, machine and pod, machine and world.
fn reach(field: &Field, bridged: &mut Vm, masked: &mut Vm, pods: &[String; 3]) {
    for vm in [&mut *bridged, &mut *masked] {
        vm.wait_for(&format!("nslookup plain.pods.example 10.60.0.1 | grep -q {}", pods[2]));
        for to in ["10.60.0.1", &pods[2], WORLD] {
            wait_ping(vm, to);
        }
    }
    // The machine behind a masquerade is reached at its pod's address.
    wait_ping(bridged, &pods[1]);
    wait_ping(masked, &pods[0]);
    transfer(bridged, masked, &pods[1]);
    transfer(masked, bridged, &pods[0]);
    for pod in [&pods[0], &pods[1]] {
        field.wait_ping("plain", pod);
    }
    // A server on each, asked from a pod; and one of the world, asked by each.
    for (vm, pod) in [(&mut *bridged, &pods[0]), (&mut *masked, &pods[1])] {
        vm.ok("mkdir -p /tmp/www; dd if=/dev/zero bs=1M count=1 2>/dev/null | tr '\\0' w > /tmp/www/file; httpd -h /tmp/www");
        field.wait("a pod is served", |f| {
            let got = f.try_inside("plain", &format!("curl -s -m 10 http://{pod}/file")).out;
            got.len() == 1 << 20 && got.bytes().all(|b| b == b'w')
        });
    }
    let _server = field.site.serve(1, "busybox httpd -f -p 80 -h /usr/share/common-licenses");
    for vm in [bridged, masked] {
        vm.wait_for(&format!(
            "printf 'GET /GPL-3 HTTP/1.0\\r\\n\\r\\n' | nc {WORLD} 80 | grep -q 'END OF TERMS'"
        ));
    }
}

/// The same for IPv6, as far as each binding has it: the machine behind a bridge announces nothing and is told all.
fn six(field: &Field, bridged: &mut Vm, masked: &mut Vm) {
    for vm in [&mut *bridged, &mut *masked] {
        no_dad(vm);
    }
    masked.ok("ip addr add fd10:0:2::2/120 dev eth0 && ip -6 route add default via fd10:0:2::1");
    for to in ["fd00:60::1".to_owned(), address(field, "plain", true)] {
        masked.wait_for(&format!("ping -6 -c1 -W1 {to}"));
    }
    field.wait_ping("plain", &address(field, "masked", true));
    // What the network's router says reaches the machine through the bridge: a route, and no address of the prefix.
    bridged.wait_for("ip -6 route | grep -q ^default");
    bridged.ok(&format!("ip addr add {}/128 dev eth0", address(field, "bridged", true)));
    bridged.wait_for(&format!("ping -6 -c1 -W1 {}", address(field, "plain", true)));
    field.wait_ping("plain", &address(field, "bridged", true));
}

#[test]
fn pods_on_weft() {
    check(Kind::Weft);
}

#[test]
fn pods_on_open_vswitch() {
    check(Kind::Ovs);
}
