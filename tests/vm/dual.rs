//! Machines on a network of both families, on Weft and on Open vSwitch: addresses by DHCP, DHCPv6 and by what the router
//! announces; names; machine, namespace and world; isolation; and a machine that says it is another.

use std::path::PathBuf;

use crate::field::{Field, WEFT, network};
use crate::hosts::Site;
use crate::machine::{self, Vm};
use crate::networks::lease;
use crate::support::Kind;
use crate::taps::{mac, transfer, transfer_with_host, wait_ping};

/// What is not on the node.
const WORLD: [&str; 2] = ["198.51.100.9", "2001:db8:9::9"];

/// What dhclient is told becomes the machine's; RFC 8415 leaves the prefix to the router.
const SCRIPT: &str = "printf '#!/bin/sh\\ncase $reason in BOUND6) ip addr add $new_ip6_address/128 dev $interface && \
                      echo told: $new_ip6_address $new_dhcp6_name_servers $new_dhcp6_domain_search;; esac\\n' \
                      > /tmp/six; chmod +x /tmp/six";

fn intent() -> String {
    // Machines may ask for addresses, and may make some.
    let both = "ra: {managed: true, autonomous: true}";
    let spec = "mode: nat, nat: {ipv6: true}, domain: {name: blue.example}";
    let blue = network("blue", spec, &["10.1.0.0/24", "fd00:1::/64"])
        .replace("cidr: 'fd00:1::/64'", &format!("cidr: 'fd00:1::/64', {both}"));
    blue + &network("red", "mode: isolated", &["10.2.0.0/24", "fd00:2::/64"])
}

/// Starts a machine on a TAP that is on the bridge already by its name.
fn start(field: &Field, kind: Kind, name: &str, n: usize, programs: &[PathBuf]) -> Vm {
    let switch = &field.site.switch;
    let mut words = machine::tap(n, &format!("tap{n}"), &mac(n), 1);
    if kind == Kind::Ovs {
        machine::finish_packets(&mut words);
    }
    let vm = Vm::start_equipped(&switch.path(""), name, programs, &words, |words| switch.inside(words));
    switch.ok(&format!("ip link set tap{n} up"));
    vm
}

fn check(kind: Kind) {
    let field = Field::start(kind, 2);
    let (site, switch) = (&field.site, &field.site.switch);
    switch.ok("ip addr add 198.51.100.1/24 dev p2");
    switch.ok("ip addr add 2001:db8:9::1/64 dev p2 nodad");
    site.on(2, &format!("ip addr add {}/24 dev eth0", WORLD[0]));
    site.on(2, &format!("ip addr add {}/64 dev eth0 nodad", WORLD[1]));
    field.apply(&intent());
    for (name, n) in [("one", 1), ("two", 2)] {
        let ip = format!("--ip 10.1.0.1{n} --ip fd00:1::1{n}");
        field
            .ok(&format!("port add {name} --network blue --iface-id {name} --mac {} {ip} --no-wait", mac(n)));
        switch.run(&format!(
            "ovs-vsctl add-port br-int tap{n} -- set Interface tap{n} external-ids:iface-id={name}"
        ));
    }
    let ip = "--ip 10.2.0.13 --ip fd00:2::13";
    field.ok(&format!("port add pod --network red --device p1 --mac {} {ip}", Site::mac(1)));
    site.on(1, "ip addr add 10.2.0.13/24 dev eth0");
    site.on(1, "ip addr add fd00:2::13/64 dev eth0 nodad");
    let mut one = start(&field, kind, "one", 1, &["/usr/sbin/dhclient".into()]);
    let mut two = start(&field, kind, "two", 2, &[]);
    for (vm, port) in [(&mut one, "one"), (&mut two, "two")] {
        vm.booted();
        field.ready(port);
    }
    addresses(&field, &mut one, &mut two);
    talk(&field, &mut one, &mut two);
    apart(&field, &mut one);
    spoof(&field, &mut two);

    // A machine that reboots is the same.
    two.reboot();
    lease(&mut two, "10.1.0.12", "10.1.0.1", "blue.example");
    two.wait_for("ip -6 addr show dev eth0 | grep -v tentative | grep -q fd00:1:");
    wait_ping(&mut two, "10.1.0.11");
    wait_ping(&mut two, "fd00:1::11");
    one.power_off();
    two.power_off();
}

/// The address that machine `n` makes of blue's prefix (RFC 4291 appendix A).
fn own(n: usize) -> String {
    format!("fd00:1::ff:fe00:20{n}")
}

fn addresses(field: &Field, one: &mut Vm, two: &mut Vm) {
    lease(one, "10.1.0.11", "10.1.0.1", "blue.example");
    lease(two, "10.1.0.12", "10.1.0.1", "blue.example");
    // The kernel of each makes an address of what is announced, and takes the router.
    for (n, vm) in [(1, &mut *one), (2, &mut *two)] {
        vm.wait_for(&format!("ip -6 addr show dev eth0 | grep -v tentative | grep -q {}/64", own(n)));
        vm.wait_for("ip -6 route | grep -q '^default via fe80::'");
        let mtu = vm.ok("cat /proc/sys/net/ipv6/conf/eth0/mtu");
        assert_eq!(mtu, vm.ok("cat /sys/class/net/eth0/mtu"), "both families are told the same");
    }
    // One asks besides.
    one.ok(SCRIPT);
    no_dad(one);
    let told = one.ok("dhclient -6 -1 -q -sf /tmp/six -lf /tmp/leases -pf /tmp/pid eth0");
    assert!(told.contains("told: fd00:1::11 fd00:1::1 blue.example."), "{told}");
    assert!(field.ok("leases").contains("fd00:1::11"), "{}", field.ok("leases"));
}

/// Addresses are usable at once: busybox has no word for it.
pub(crate) fn no_dad(vm: &mut Vm) {
    vm.ok("echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad");
}

fn talk(field: &Field, one: &mut Vm, two: &mut Vm) {
    // Names, by either family.
    for server in ["10.1.0.1", "fd00:1::1"] {
        for address in ["10.1.0.12", "fd00:1::12"] {
            one.wait_for(&format!("nslookup two.blue.example {server} | grep -q {address}"));
        }
    }
    // The gateway, the other machine, the world behind the node's addresses.
    for to in ["10.1.0.1", "fd00:1::1", "10.1.0.12", &own(2), WORLD[0], WORLD[1]] {
        wait_ping(one, to);
    }
    for to in ["fd00:1::1", "10.1.0.11", "fd00:1::11", &own(1), WORLD[1]] {
        wait_ping(two, to);
    }
    transfer(one, two, "10.1.0.12");
    transfer(two, one, "fd00:1::11");
    transfer_with_host(&field.site, one, 2, WORLD[0]);
    transfer_with_host(&field.site, two, 2, WORLD[1]);
}

/// Another network of the node: neither reaches the other, and the isolated one reaches no world.
fn apart(field: &Field, one: &mut Vm) {
    for address in ["10.2.0.13", "fd00:2::13"] {
        assert_ne!(one.run(&format!("ping -c2 -W1 {address}")).code, 0, "{address} is of another network");
    }
    for address in ["10.1.0.11", "fd00:1::11", WORLD[0], WORLD[1]] {
        assert!(!field.site.pings(1, address), "{address} is not of the isolated network");
    }
    for gateway in ["10.2.0.1", "fd00:2::1"] {
        field.site.wait_ping(1, gateway);
    }
}

/// A machine that says it is another is not heard, and what dropped it names the port and why.
fn spoof(field: &Field, two: &mut Vm) {
    let switch = &field.site.switch;
    let drops = || {
        let socket = field.socket();
        switch.ok(&format!(
            "env WEFT_SOCKET={} {WEFT} drops --rundir {}",
            socket.display(),
            switch.path("").display()
        ))
    };
    no_dad(two);
    for (address, to) in [("10.1.0.99/24", "10.1.0.11"), ("fd00:1::99/64", "fd00:1::11")] {
        two.ok(&format!("ip addr add {address} dev eth0"));
        let from = address.split('/').next().expect("an address");
        assert_ne!(two.run(&format!("ping -c2 -W1 -I {from} {to}")).code, 0, "{from} is not its own");
    }
    let why = "Port/two: drops: sent from an IP address that is not the port's";
    switch.wait_for("the drop is told", |_| drops().contains(why));
    two.ok("ip link set eth0 down; ip link set eth0 address 02:00:00:00:02:63 up");
    assert_ne!(two.run("ping -c2 -W1 10.1.0.11").code, 0, "the MAC address is not its own");
    let why = "Port/two: drops: sent from a MAC address that is not the port's";
    switch.wait_for("that drop is told", |_| drops().contains(why));
}

#[test]
fn both_families_on_weft() {
    check(Kind::Weft);
}

#[test]
fn both_families_on_open_vswitch() {
    check(Kind::Ovs);
}
