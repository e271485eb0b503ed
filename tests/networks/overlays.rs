//! One network on two nodes, through each kind of tunnel: machines have their addresses by DHCP, reach each other, whole
//! connections pass, and what is on the wire between the nodes is what it says.

use crate::field::{Field, network};
use crate::support::Kind;

/// Kinds of overlay, each with a filter for what it looks like in the underlay.
const KINDS: [(&str, u8, &str); 3] =
    [("vxlan", 1, "udp port 4789"), ("gre", 2, "ip proto 47"), ("geneve", 3, "udp port 6081")];

/// What machines are told by DHCP becomes theirs.
const SCRIPT: &str = "#!/bin/sh
[ $1 = bound ] || exit 0
ip addr replace $ip/$mask dev $interface
ip link set $interface mtu $mtu
";

/// Joins two nodes by a cable, `under` on each; the node's own address is on it, or on a bridge that has it.
fn cable(a: &Field, b: &Field) {
    a.site.switch.ok(&format!("ip link add under type veth peer name under netns {}", b.site.switch.ns));
    for (field, own) in [(a, "192.0.2.1"), (b, "192.0.2.2")] {
        let switch = &field.site.switch;
        let mut device = "under";
        // Open vSwitch in user space makes outer headers only for what leaves by a bridge of its own, and completes no checksum.
        if switch.kind == Kind::Ovs {
            device = "br-phy";
            let mac = switch.ok("cat /sys/class/net/under/address");
            switch.ok(&format!(
                "ovs-vsctl add-br br-phy -- set bridge br-phy datapath_type=netdev 'other_config:hwaddr=\"{mac}\"' -- add-port br-phy under"
            ));
            switch.ok("ip link set under up");
        }
        switch.ok(&format!("ip addr add {own}/24 dev {device}"));
        switch.ok(&format!("ip link set {device} up"));
    }
}

fn check(kind: Kind) {
    let (mut a, mut b) = (Field::node(kind, 3, "a"), Field::node(kind, 3, "b"));
    cable(&a, &b);
    for (field, peer, last) in [(&a, "192.0.2.2", 11), (&b, "192.0.2.1", 12)] {
        for (n, (kind, net, _)) in (1..).zip(KINDS) {
            let spec = format!("mode: isolated, overlay: {{kind: {kind}, key: {net}00, peers: [{peer}]}}");
            field.apply(&network(kind, &spec, &[&format!("10.{net}.0.0/24"), &format!("fd00:{net}::/64")]));
            let mac = format!("02:00:00:00:{last}:{net:02}");
            field.site.on(n, &format!("ip link set eth0 address {mac}"));
            let ip = format!("--mac {mac} --ip 10.{net}.0.{last} --ip fd00:{net}::{last}");
            field.ok(&format!("port add {kind}-{last} --network {kind} --device p{n} {ip}"));
            lease(field, n, &format!("10.{net}.0.{last}"));
            field.site.on(n, &format!("ip addr add fd00:{net}::{last}/64 dev eth0 nodad"));
        }
    }
    for (n, (kind, net, filter)) in (1..).zip(KINDS) {
        let seen =
            a.site.serve_in(&a.site.switch.ns, &format!("timeout 60 tcpdump -l -nn -i under '{filter}'"));
        a.wait("tcpdump listens", |_| seen.log().contains("listening"));
        for there in [format!("10.{net}.0.12"), format!("fd00:{net}::12")] {
            a.site.wait_ping(n, &there);
        }
        b.site.wait_ping(n, &format!("10.{net}.0.11"));
        a.wait(&format!("{kind} in the underlay"), |_| seen.log().lines().any(|l| l.contains("192.0.2.2")));
        // Segments that are larger than the underlay takes.
        let _server = b.site.serve(n, "busybox httpd -f -p 80 -h /usr/share/common-licenses");
        for host in [format!("10.{net}.0.12"), format!("[fd00:{net}::12]")] {
            a.wait(&format!("HTTP over {kind}"), |f| {
                f.site.try_on(n, &format!("curl -g -s -m 5 http://{host}/GPL-3")).out.contains("END OF TERMS")
            });
        }
        // Two networks of the same nodes are apart.
        let other = if net == 1 { 2 } else { 1 };
        assert!(!a.site.pings(n, &format!("10.{other}.0.12")), "{kind} reaches another network");
    }
    apart(&mut a, &mut b);
}

/// Machine `n` of a node asks for its address, and the agent of this node answers; what it is told becomes its own.
fn lease(field: &Field, n: usize, address: &str) {
    let script = field.file("udhcpc.script", SCRIPT);
    field.site.switch.ok(&format!("chmod +x {}", script.display()));
    let line = format!("busybox udhcpc -f -q -n -i eth0 -t 20 -T 1 -O mtu -s {}", script.display());
    let said = field.site.try_on(n, &line);
    assert_eq!(said.code, 0, "{address}: {}{}\n{}", said.out, said.err, field.site.switch.logs());
    let has = field.site.on(n, "ip addr show dev eth0");
    assert!(has.contains(&format!("inet {address}/24")) && !has.contains("mtu 1500"), "{has}");
}

/// `portIsolation` holds between ports of two nodes, each by what its own node knows, and leaves the gateway.
fn apart(a: &mut Field, b: &mut Field) {
    let shy = |field: &Field, peer: &str, isolated: bool| {
        let overlay = format!("overlay: {{kind: geneve, key: 900, peers: [{peer}]}}");
        let spec = format!("mode: isolated, portIsolation: {isolated}, {overlay}");
        field.apply(&network("shy", &spec, &["10.9.0.0/24", "fd00:9::/64"]));
    };
    for (field, peer, n) in [(&mut *a, "192.0.2.2", 11), (&mut *b, "192.0.2.1", 12)] {
        shy(field, peer, false);
        let ns = field.space("shy");
        let ip = format!("--ip 10.9.0.{n} --ip fd00:9::{n}");
        field.ok(&format!("port add shy --network shy --netns {ns} {ip}"));
    }
    let far = ["10.9.0.12", "fd00:9::12"];
    far.iter().for_each(|there| a.wait_ping("shy", there));
    // Either node alone keeps them apart.
    for (one, two) in [(true, false), (false, true), (true, true)] {
        shy(a, "192.0.2.2", one);
        shy(b, "192.0.2.1", two);
        a.wait("they are apart", |f| far.iter().all(|there| !f.pings("shy", there)));
        b.wait("both ways", |f| !f.pings("shy", "10.9.0.11") && !f.pings("shy", "fd00:9::11"));
        for field in [&*a, &*b] {
            for gateway in ["10.9.0.1", "fd00:9::1"] {
                field.wait_ping("shy", gateway);
            }
        }
        a.wait("the host reaches its port", |f| f.site.switch.run("ping -c1 -W1 10.9.0.11").code == 0);
    }
    shy(a, "192.0.2.2", false);
    shy(b, "192.0.2.1", false);
    far.iter().for_each(|there| a.wait_ping("shy", there));
}

on_both!(check);
