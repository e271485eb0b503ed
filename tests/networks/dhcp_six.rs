//! DHCPv6 as people's programs speak it: ISC's dhclient is told a name server and asks it, and ISC's relay speaks for a
//! client of a subnet behind it.

use crate::field::{Field, network};
use crate::hosts::Service;
use crate::support::Kind;

/// Notes what was told, and gives the device its address.
const SCRIPT: &str = "#!/bin/sh
case $reason in BOUND6|RENEW6|REBIND6) ;; *) exit 0;; esac
ip -6 addr replace $new_ip6_address/64 dev $interface nodad
(env; echo) >> TOLD
";

const BEHIND: &str = "apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: behind}
spec:
  network: blue
  cidr: 'fd00:9::/64'
  gateway: 'fd00:9::1'
  dhcp:
    relayed: true
    leaseSeconds: 600
    ranges: [{start: 'fd00:9::100', end: 'fd00:9::1ff'}, {start: 'fd00:9::200', end: 'fd00:9::2ff', leaseSeconds: 300}]
    hosts: [{name: paul, ip: 'fd00:9::60'}]
    options: {dns: ['fd00:1::1']}
";

/// Runs a client in a namespace, where it asks as `name`, and returns what it was told.
fn dhclient(field: &Field, space: &str, name: &str) -> (Service, String) {
    let linked =
        |f: &Field| f.inside(space, "ip -6 addr show dev eth0 scope link -tentative").contains("fe80");
    field.wait("there is a link-local address", linked);
    let path = |what: &str| field.site.switch.path(&format!("{space}.{what}"));
    let told = path("told");
    let script = field.file("six.script", &SCRIPT.replace("TOLD", &told.display().to_string()));
    field.site.switch.ok(&format!("chmod +x {}", script.display()));
    let send = if name.is_empty() { String::new() } else { format!("send fqdn.fqdn \"{name}\";\n") };
    let conf = field.file(
        &format!("{space}.conf"),
        &format!("{send}request dhcp6.name-servers, dhcp6.domain-search, dhcp6.fqdn;\ntimeout 20;\n"),
    );
    let files = format!(
        "-cf {} -lf {} -pf {} -sf {}",
        conf.display(),
        path("leases").display(),
        path("pid").display(),
        script.display()
    );
    let client = field.serve(space, &format!("dhclient -6 -d -v {files} eth0"));
    let read = || std::fs::read_to_string(&told).unwrap_or_default();
    let bound = field.site.switch.eventually(|_| read().contains("new_ip6_address="));
    assert!(bound, "{space} was told nothing: {}\n{}", client.log(), field.site.switch.logs());
    let said = read();
    (client, said)
}

fn value<'a>(told: &'a str, name: &str) -> &'a str {
    let line = told.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {name} in {told}"))
}

fn check(kind: Kind) {
    let mut field = Field::start(kind, 0);
    let spec = "mode: isolated, spoofGuard: false, domain: {name: blue.example, localOnly: true}";
    field.apply(&(network("blue", spec, &["fd00:1::/64"]) + BEHIND));
    let (vm, relay) = (field.space("vm"), field.space("relay"));
    let own = field.ok(&format!("port add vm --network blue --netns {vm}"));
    field.ok(&format!("port add relay --network blue --netns {relay} --ip fd00:1::5"));

    // The name server that is told is one, and it knows the name of the one that asks.
    let (mut client, told) = dhclient(&field, "vm", "");
    assert_eq!(value(&told, "new_ip6_address"), own);
    assert_eq!(value(&told, "new_dhcp6_domain_search"), "blue.example.");
    let server = value(&told, "new_dhcp6_name_servers");
    for (question, answer) in
        [("vm.blue.example aaaa", own.as_str()), ("-x fd00:1::5", "relay.blue.example.")]
    {
        let said = field.inside("vm", &format!("dig +short +time=3 @{server} {question}"));
        assert_eq!(said.trim(), answer, "{question} of {server}");
    }
    client.end();

    // Behind a relay.
    let far = field.space("far");
    field.inside("relay", &format!("ip link add lan type veth peer name eth0 netns {far}"));
    field.inside("relay", "ip -6 addr add fd00:9::1/64 dev lan nodad");
    field.inside("relay", "ip link set lan up");
    field.inside("far", "ip link set eth0 up");
    for device in ["lan", "eth0"] {
        let line = format!("ip -6 addr show dev {device} scope link -tentative");
        field.wait("there is a link-local address", |f| f.inside("relay", &line).contains("fe80"));
    }
    let agent = field.serve("relay", "dhcrelay -6 -d --no-pid -I -l lan -u eth0");
    field.wait("the relay listens", |_| agent.log().contains("Sending on"));
    let (mut client, told) = dhclient(&field, "far", "");
    let first = value(&told, "new_ip6_address").to_owned();
    let (last, seconds) = first.rsplit_once("::").expect("an address");
    let valid = if seconds.starts_with('2') { "300" } else { "600" };
    assert_eq!((last, value(&told, "new_max_life")), ("fd00:9", valid), "{told}\n{}", agent.log());
    assert_eq!(value(&told, "new_dhcp6_name_servers"), "fd00:1::1");
    assert!(field.ok("leases").contains(&first), "{}", field.ok("leases"));
    client.end();
    // It says a name, and is known by it.
    for file in ["far.told", "far.leases"] {
        let _ = std::fs::remove_file(field.site.switch.path(file));
    }
    let (mut client, told) = dhclient(&field, "far", "paul");
    assert_eq!(value(&told, "new_ip6_address"), "fd00:9::60", "{told}");
    client.end();
}

on_both!(check);
