//! Do ports see the VLANs of an uplink that they are in, with the tags that they want, and no others?
//!
//! A machine with VLANs of its own is a bridge at the port, with hosts in each VLAN behind it.

use crate::field::{Field, network};
use crate::hosts::Site;
use crate::support::Kind;

/// Outside hosts 1 (VLAN 42) and 2 (VLAN 47); behind port `g` hosts 3 (without tag) and 4 (VLAN 47); host 5 on port `a`.
fn lan(kind: Kind) -> Field {
    let field = Field::start(kind, 5);
    let switch = &field.site.switch;
    for (one, other) in [("up0", "up1"), ("g0", "g1")] {
        switch.ok(&format!("ip link add {one} type veth peer name {other}"));
        [one, other].iter().for_each(|end| drop(switch.ok(&format!("ip link set {end} up"))));
    }
    let datapath = if kind == Kind::Ovs { "-- set bridge BR datapath_type=netdev" } else { "" };
    let bridge = |name: &str, ports: &str| {
        switch.ok(&format!("ovs-vsctl add-br {name} {} {ports}", datapath.replace("BR", name)));
    };
    bridge("br-out", "-- add-port br-out up1 -- add-port br-out p1 tag=42 -- add-port br-out p2 tag=47");
    bridge(
        "br-guest",
        "-- add-port br-guest g1 tag=1 vlan_mode=native-untagged -- add-port br-guest p3 tag=1 -- add-port br-guest p4 tag=47",
    );
    for (n, address) in
        [(1, "10.42.0.1"), (2, "10.47.0.1"), (3, "10.42.0.3"), (4, "10.47.0.4"), (5, "10.47.0.5")]
    {
        field.site.on(n, &format!("ip addr add {address}/24 dev eth0"));
    }
    let trunk =
        "mode: bridged, vlan: {id: 42, trunk: [42, 47], nativeMode: untagged}, bridged: {uplink: up0}";
    field.apply(&network("lan", trunk, &["10.42.0.0/24"]));
    field
}

fn port(name: &str, device: &str, mac: usize, more: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: {name}}}\n\
         spec: {{network: lan, mac: '{}', attachment: {{device: {device}}}, {more}}}\n---\n",
        Site::mac(mac)
    )
}

/// Port `g` with these VLANs: all of the network's, if it names none.
fn guest(vlan: &str) -> String {
    let pair = format!("allowedPairs: [{{mac: '{}', ip: 10.47.0.4/32}}]", Site::mac(4));
    port("g", "g0", 3, &format!("addresses: [10.42.0.3], {pair}{vlan}"))
}

fn carried(kind: Kind) {
    let field = lan(kind);
    let own = "allowedPairs: [{ip: 10.47.0.5/32}, {ip: 10.42.0.5/32}], vlan: {id: 47}";
    field.apply(&(guest("") + &port("a", "p5", 5, own)));
    field.ready("g");
    field.ready("a");
    // Each VLAN, between the uplink and ports, and between ports.
    for (n, there) in
        [(3, "10.42.0.1"), (4, "10.47.0.1"), (5, "10.47.0.1"), (5, "10.47.0.4"), (2, "10.47.0.5")]
    {
        field.site.wait_ping(n, there);
    }
    // VLANs are apart, whichever addresses are in them.
    field.site.on(5, "ip addr add 10.42.0.5/24 dev eth0");
    field.site.on(2, "ip addr add 10.42.0.2/24 dev eth0");
    assert!(!field.site.pings(5, "10.42.0.1") && !field.site.pings(5, "10.42.0.3"), "47 is not 42");
    assert!(!field.site.pings(2, "10.42.0.3"), "from outside neither");
    field.site.on(2, "ip addr del 10.42.0.2/24 dev eth0");
    // The guard holds in there.
    field.site.on(4, "ip addr add 10.47.0.99/24 dev eth0");
    assert!(field.site.pings(4, "10.47.0.1"));
    assert_ne!(field.site.try_on(4, "ping -c1 -W1 -I 10.47.0.99 10.47.0.1").code, 0, "it is not the port's");
    field.site.on(4, "ip addr del 10.47.0.99/24 dev eth0");
    // A VLAN that the network does not have does not pass.
    let retag =
        |tag: u16| field.site.switch.ok(&format!("ovs-vsctl set port p2 tag={tag} -- set port p4 tag={tag}"));
    retag(48);
    assert!(!field.site.pings(4, "10.47.0.1"), "48 is not carried");
    retag(47);
    field.site.wait_ping(4, "10.47.0.1");
    // Nor do frames that have no tag outside reach the network's own VLAN.
    field.site.switch.ok("ovs-vsctl clear port p1 tag");
    assert!(!field.site.pings(3, "10.42.0.1"), "42 has a tag there");
    field.site.switch.ok("ovs-vsctl set port p1 tag=42");
    field.site.wait_ping(3, "10.42.0.1");
}

fn native(kind: Kind) {
    let field = lan(kind);
    // The own VLAN with its tag, too.
    field.apply(&guest(", vlan: {id: 42, trunk: [42, 47], nativeMode: tagged}"));
    field.ready("g");
    field.site.switch.ok("ovs-vsctl set port p3 tag=42");
    field.site.wait_ping(3, "10.42.0.1");
    field.site.wait_ping(4, "10.47.0.1");
    // Only one of them: the other does not pass.
    field.apply(&guest(", vlan: {trunk: [47]}"));
    field.wait("the own VLAN is gone", |f| !f.site.pings(3, "10.42.0.1"));
    field.site.wait_ping(4, "10.47.0.1");
    // Another one without a tag.
    field.apply(&guest(", vlan: {id: 47}"));
    field.site.switch.ok("ovs-vsctl set port p4 tag=1");
    field.site.wait_ping(4, "10.47.0.1");
    // One that the network does not have: nothing passes, and it is told.
    field.apply(&guest(", vlan: {id: 50}"));
    field.wait("it is told", |f| f.ok("describe port g").contains("50 not in `vlan.trunk` of Network/lan"));
    assert!(!field.site.pings(4, "10.47.0.1") && !field.site.pings(3, "10.42.0.1"));
}

mod between_uplink_and_ports {
    use super::carried;
    on_both!(carried);
}

mod with_and_without_tags {
    use super::native;
    on_both!(native);
}
