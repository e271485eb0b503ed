//! What if a machine outside has an address that was to be given away? It is asked before, and nobody else gets it.

use crate::field::{Field, network};
use crate::hosts::Site;
use crate::support::Kind;

/// Gives the device its address, and writes down what was told.
const SCRIPT: &str = "#!/bin/sh
[ -n \"$ip\" ] && ip addr replace $ip/$mask dev $interface
(env; echo reason=$1) >> $TOLD
exit 0
";

/// The address that host `n` gets by DHCP.
fn ask(field: &Field, n: usize, name: &str, options: &str) -> String {
    let script = field.file("script", SCRIPT);
    field.site.switch.ok(&format!("chmod +x {}", script.display()));
    let told = field.site.switch.path(&format!("told.{name}"));
    let line = format!("busybox udhcpc -f -q -n -i eth0 -t 30 -T 1 {options} -s {}", script.display());
    let said = field.site.try_on(n, &format!("env TOLD={} {line}", told.display()));
    assert_eq!(said.code, 0, "{name}: {}{}\n{}", said.out, said.err, field.site.switch.logs());
    let told = std::fs::read_to_string(told).expect("what was told");
    let line = told.lines().find_map(|l| l.strip_prefix("ip="));
    line.unwrap_or_else(|| panic!("no address in {told}")).to_owned()
}

fn conflicts(field: &Field) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&field.ok("status -o json")).expect("JSON");
    status["counters"]["dhcp_conflicts"].as_u64().unwrap_or(0)
}

/// The line of an address among the leases.
fn lease(field: &Field, address: &str) -> String {
    let leases = field.ok("leases");
    leases.lines().find(|line| line.split_whitespace().any(|word| word == address)).unwrap_or("").to_owned()
}

/// On a bridge of the kernel with a router and a machine on it that Weft knows nothing of.
fn bridge(kind: Kind) {
    let mut field = Field::start(kind, 3);
    let switch = &field.site.switch;
    switch.ok("ip link add virbr9 up type bridge");
    switch.ok("ip addr add 10.9.0.1/24 dev virbr9");
    switch.ok("ip link set p1 master virbr9");
    field.site.on(1, "ip addr add 10.9.0.2/24 dev eth0");
    field.apply(&network("lan", "mode: bridged, bridged: {bridge: virbr9}", &["10.9.0.0/24"]).replace(
        "cidr: '10.9.0.0/24'}",
        "cidr: '10.9.0.0/24', gateway: 10.9.0.1, pool: [{start: 10.9.0.2, end: 10.9.0.9}], \
         dhcp: {enabled: true, leaseSeconds: 600}}",
    ));
    let add = |name: &str, n: usize, more: &str| {
        field.ok(&format!("port add {name} --network lan --device p{n} --mac {} {more}", Site::mac(n)))
    };
    // The lowest address of the pool is the port's, until it is seen that another machine has it.
    assert_eq!(add("vm", 2, ""), "10.9.0.2");
    assert_eq!(ask(&field, 2, "vm", ""), "10.9.0.3");
    field.wait("the port has the next one", |f| f.json("port", "vm")["status"]["addresses"][0] == "10.9.0.3");
    let line = lease(&field, "10.9.0.2");
    assert!(line.contains("declined") && line.contains(&Site::mac(1)), "{line:?} in {}", field.ok("leases"));
    assert_eq!(conflicts(&field), 1);
    // It has it in earnest: others are reached, its router is the one of the network, who answers for itself.
    field.site.wait_ping(2, "10.9.0.2");
    field.site.wait_ping(2, "10.9.0.1");
    let router = field.site.switch.ok("cat /sys/class/net/virbr9/address");
    let neighbour = field.site.on(2, "ip neigh show 10.9.0.1");
    assert!(neighbour.contains(router.trim()), "{neighbour}");
    // It renews with the same.
    assert_eq!(ask(&field, 2, "again", "-r 10.9.0.3"), "10.9.0.3");
    assert_eq!(conflicts(&field), 1);

    // An address that is written for a port is nobody's to change: it is told.
    assert_eq!(add("fixed", 3, "--ip 10.9.0.9"), "10.9.0.9");
    field.site.on(1, "ip addr add 10.9.0.9/24 dev eth0");
    let silent = field.site.try_on(3, "busybox udhcpc -f -q -n -i eth0 -t 3 -T 1 -s /bin/true");
    assert_ne!(silent.code, 0, "{}", silent.out);
    field.wait("it is told", |f| {
        let said = f.ok("describe port fixed");
        said.contains("AddressInUse") && said.contains(&Site::mac(1)) && said.contains("10.9.0.9")
    });
    assert_eq!(conflicts(&field), 2);

    // An agent that is killed knows it when it is back.
    field.site.switch.kill_last();
    field.agent();
    field.ok("port add late --network lan --iface-id late --no-wait");
    field.wait("a port that comes gets another one", |f| {
        f.json("port", "late")["status"]["addresses"][0] == "10.9.0.4"
    });
    field.wait("it is told again", |f| f.ok("describe port fixed").contains("AddressInUse"));
}

/// On an uplink, in a VLAN: a client without a port, of which the range is. Those in other VLANs are not asked.
fn uplink(kind: Kind) {
    let field = Field::start(kind, 3);
    let switch = &field.site.switch;
    switch.ok("ip link add up0 type veth peer name up1");
    switch.ok("ip link set up0 up");
    switch.ok("ip link set up1 up");
    let datapath = if kind == Kind::Ovs { "-- set bridge br-out datapath_type=netdev" } else { "" };
    switch.ok(&format!(
        "ovs-vsctl add-br br-out {datapath} -- add-port br-out up1 -- add-port br-out p1 tag=30 -- add-port br-out p2 tag=31"
    ));
    field.site.on(1, "ip addr add 10.30.0.100/24 dev eth0");
    field.site.on(2, "ip addr add 10.30.0.101/24 dev eth0");
    field.apply(
        &network("lan", "mode: bridged, vlan: {id: 30}, bridged: {uplink: up0}", &["10.30.0.0/24"]).replace(
            "cidr: '10.30.0.0/24'}",
            "cidr: '10.30.0.0/24', dhcp: {enabled: true, ranges: [{start: 10.30.0.100, end: 10.30.0.101}]}}",
        ),
    );
    field.apply(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {name: inn}\n\
         spec: {network: lan, spoofGuard: false, attachment: {device: p3}}\n",
    );
    field.ready("inn");
    assert_eq!(ask(&field, 3, "guest", "-r 10.30.0.100"), "10.30.0.101");
    let line = lease(&field, "10.30.0.100");
    assert!(line.contains("declined") && line.contains(&Site::mac(1)), "{line:?} in {}", field.ok("leases"));
    assert_eq!(conflicts(&field), 1, "the machine in another VLAN was not asked");
    field.site.wait_ping(3, "10.30.0.100");
}

mod on_a_bridge {
    use super::bridge;
    on_both!(bridge);
}

mod on_an_uplink {
    use super::uplink;
    on_both!(uplink);
}
