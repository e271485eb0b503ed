//! Each way in which a network reaches what is outside of it, with traffic: bridged, private, VLAN, routed, open, NAT.

use crate::field::{Field, network};
use crate::support::Kind;

/// Bridged to a bridge of the kernel that others use too, as `virbr0` and `cni0` are.
fn linux_bridge(kind: Kind) {
    let mut field = Field::start(kind, 1);
    let switch = &field.site.switch;
    // Somebody's bridge with a machine on it; the host has an address there.
    switch.ok("ip link add virbr9 type bridge");
    switch.ok("ip addr add 10.9.0.1/24 dev virbr9");
    switch.ok("ip link set virbr9 up");
    switch.ok("ip link set p1 mtu 1400");
    switch.ok("ip link set p1 master virbr9");
    field.site.on(1, "ip addr add 10.9.0.2/24 dev eth0");
    // The firewall of the host drops what it does not know, and sees what is bridged.
    switch.ok("iptables -P FORWARD DROP");
    switch.ok("sysctl -qw net.bridge.bridge-nf-call-iptables=1");
    let before = switch.ok("ip link show virbr9");
    field.apply(&network("lan", "mode: bridged, bridged: {bridge: virbr9}", &["10.9.0.0/24"]));
    let ns = field.space("vm");
    field.ok(&format!("port add vm --network lan --netns {ns} --ip 10.9.0.77"));
    field.wait_ping("vm", "10.9.0.2");
    field.wait_ping("vm", "10.9.0.1");
    let mtu = |text: &str| text.split_whitespace().skip_while(|w| *w != "mtu").nth(1).map(str::to_owned);
    let now = field.site.switch.ok("ip link show virbr9");
    assert_eq!(mtu(&before), mtu(&now), "the bridge is as it was");
    // What the bridge takes is what the network takes, and its machines are told.
    assert_eq!(mtu(&before).as_deref(), Some("1400"));
    field.wait("the network has the bridge's MTU", |f| f.json("network", "lan")["status"]["mtu"] == 1400);
    assert_eq!(mtu(&field.inside("vm", "ip link show eth0")).as_deref(), Some("1400"));
    // Taken off the bridge, it is put back.
    field.site.switch.ok("ip link set wb-lan nomaster");
    field.wait("it is on the bridge again", |f| f.pings("vm", "10.9.0.2"));
    assert!(field.healed("device") >= 1);
    // A bridge that is made anew gets its cable again.
    field.site.switch.ok("ip link del virbr9");
    field.wait("it is told", |f| f.ok("describe network lan").contains("bridge virbr9 is not there yet"));
    field.site.switch.ok("ip link add virbr9 up type bridge");
    field.site.switch.ok("ip link set p1 master virbr9");
    field.wait_ping("vm", "10.9.0.2");
    // With the network the cable goes, and nothing else.
    field.ok("port del vm");
    field.ok("delete subnet lan-0");
    field.ok("delete network lan");
    field.wait("the cable is gone", |f| f.site.switch.run("ip link show wb-lan").code != 0);
    assert!(field.site.switch.ok("ip link show p1").contains("master virbr9"));
    field.wait("rules of ours are gone", |f| f.site.switch.ok("iptables -S FORWARD") == "-P FORWARD DROP");
}

#[test]
fn linux_bridge_on_weft() {
    linux_bridge(Kind::Weft);
}

#[test]
fn linux_bridge_on_open_vswitch() {
    linux_bridge(Kind::Ovs);
}

/// An uplink device with VLANs: one network untagged, one tagged, one private.
fn uplink(kind: Kind) {
    let mut field = Field::start(kind, 2);
    let switch = &field.site.switch;
    // The network outside: a switch at the other end of the uplink, with host 1 on it untagged and host 2 in VLAN 30.
    switch.ok("ip link add up0 type veth peer name up1");
    switch.ok("ip link set up0 up");
    switch.ok("ip link set up1 up");
    let datapath = if kind == Kind::Ovs { "-- set bridge br-out datapath_type=netdev" } else { "" };
    switch.ok(&format!(
        "ovs-vsctl add-br br-out {datapath} -- add-port br-out up1 -- add-port br-out p1 -- add-port br-out p2 tag=30"
    ));
    field.site.on(1, "ip addr add 10.8.0.1/24 dev eth0");
    field.site.on(2, "ip addr add 10.30.0.1/24 dev eth0");
    field.apply(&network("plain", "mode: bridged, bridged: {uplink: up0}", &["10.8.0.0/24"]));
    let tagged = "mode: bridged, vlan: {id: 30}, bridged: {uplink: up0}";
    field.apply(&network("tagged", tagged, &["10.30.0.0/24"]));
    for (name, net, ip) in [("a", "plain", "10.8.0.5"), ("b", "tagged", "10.30.0.5")] {
        let ns = field.space(name);
        field.ok(&format!("port add {name} --network {net} --netns {ns} --ip {ip}"));
    }
    field.wait_ping("a", "10.8.0.1");
    field.wait_ping("b", "10.30.0.1");
    // The VLANs are apart.
    field.inside("a", "ip route add 10.30.0.0/24 dev eth0");
    assert!(!field.pings("a", "10.30.0.1"));

    // Private: the router is reached, neighbours are not.
    let private = "mode: private, vlan: {id: 40}, bridged: {uplink: up0}";
    field.apply(&network("shy", private, &["10.7.0.0/24"]));
    field.site.switch.ok("ovs-vsctl set port p2 tag=40");
    field.site.on(2, "ip addr add 10.7.0.1/24 dev eth0");
    for (name, ip) in [("c", "10.7.0.5"), ("d", "10.7.0.6")] {
        let ns = field.space(name);
        field.ok(&format!("port add {name} --network shy --netns {ns} --ip {ip}"));
    }
    field.wait_ping("c", "10.7.0.1");
    field.wait_ping("d", "10.7.0.1");
    assert!(!field.pings("c", "10.7.0.6"), "neighbours are apart");
    for line in
        ["port del a b c d", "delete subnet plain-0 tagged-0 shy-0", "delete network plain tagged shy"]
    {
        field.ok(line);
    }
    let ports = |f: &Field| f.site.switch.ok("ovs-vsctl list-ports br-int");
    field.wait("the uplink is free", |f| ports(f).trim().is_empty());
    field.site.switch.ok("ip link show up0");
}

#[test]
fn uplink_on_weft() {
    uplink(Kind::Weft);
}

#[test]
fn uplink_on_open_vswitch() {
    uplink(Kind::Ovs);
}

/// Through the host: routed and open networks with their own addresses, NAT behind the host's, IPv4 and IPv6.
fn through_the_host(kind: Kind) {
    let mut field = Field::start(kind, 1);
    let switch = &field.site.switch;
    // Host 1 is the world. It has routes to networks that are routed, and none to what is behind NAT.
    for line in ["ip addr add 192.0.2.1/24 dev p1", "ip -6 addr add 2001:db8::1/64 dev p1 nodad"] {
        switch.ok(line);
    }
    for line in [
        "ip addr add 192.0.2.99/24 dev eth0",
        "ip -6 addr add 2001:db8::99/64 dev eth0 nodad",
        "ip route add 10.2.0.0/23 via 192.0.2.1",
        "ip -6 route add fd00:2::/31 via 2001:db8::1",
    ] {
        field.site.on(1, line);
    }
    field.apply(&network("routed", "mode: routed", &["10.2.0.0/24", "fd00:2::/64"]));
    field.apply(&network("open", "mode: open", &["10.2.1.0/24", "fd00:3::/64"]));
    let forwards = "{listen: {port: 8080}, to: {name: web, port: 80}}, \
                    {listen: {port: 8081}, to: {address: 'fd00:4::9', port: 80}}";
    let nat = format!("mode: nat, nat: {{ipv6: true, forwards: [{forwards}]}}");
    field.apply(&network("hidden", &nat, &["10.4.0.0/24", "fd00:4::/64"]));
    // What leads nowhere yet is told, until it does.
    let idle =
        |f: &Field| f.ok("describe network hidden").contains("nat.forwards[0].to.name: there is no Port web");
    field.wait("the forward is told", idle);
    let of = [
        ("r", "routed", "10.2.0.9", "fd00:2::9"),
        ("o", "open", "10.2.1.9", "fd00:3::9"),
        ("web", "hidden", "10.4.0.9", "fd00:4::9"),
    ];
    for (name, net, v4, v6) in of {
        let ns = field.space(name);
        field.ok(&format!("port add {name} --network {net} --netns {ns} --ip {v4} --ip {v6}"));
        for world in ["192.0.2.99", "2001:db8::99"] {
            field.wait_ping(name, world);
        }
    }
    // From outside: routed networks are reached, those behind NAT only by their forwards.
    for there in ["10.2.0.9", "fd00:2::9", "10.2.1.9", "fd00:3::9"] {
        field.site.wait_ping(1, there);
    }
    for (route, there) in
        [("10.4.0.0/24 via 192.0.2.1", "10.4.0.9"), ("fd00:4::/64 via 2001:db8::1", "fd00:4::9")]
    {
        field.site.on(1, &format!("ip route add {route}"));
        assert!(!field.site.pings(1, there), "{there} is hidden");
    }
    field.wait("the forward leads somewhere", |f| !idle(f));
    let _server = field.serve("web", "busybox httpd -f -p 80 -h /usr/share/common-licenses");
    let gets = |said: crate::support::Said| said.out.contains("END OF TERMS");
    let get = |url: &str| format!("curl -g -s -m 3 http://{url}/GPL-3");
    for url in ["192.0.2.1:8080", "[2001:db8::1]:8080", "[2001:db8::1]:8081"] {
        field.wait(&format!("the world gets {url}"), |f| gets(f.site.try_on(1, &get(url))));
        // A neighbour, by the host's address (hairpin); and the host itself.
        field.wait(&format!("the host gets {url}"), |f| gets(f.site.switch.run(&get(url))));
        field.wait(&format!("the machine itself gets {url}"), |f| gets(f.try_inside("web", &get(url))));
    }
}

#[test]
fn through_the_host_on_weft() {
    through_the_host(Kind::Weft);
}

#[test]
fn through_the_host_on_open_vswitch() {
    through_the_host(Kind::Ovs);
}
