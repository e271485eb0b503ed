//! Who gets which address: ports and strangers share a range that is all there is, and hosts are known by their names.

use crate::field::{Field, network};
use crate::support::Kind;

/// Gives what clients are told to a file, and the device its address.
const SCRIPT: &str = "#!/bin/sh
[ -n \"$ip\" ] && ip addr replace $ip/$mask dev $interface
(env; echo reason=$1) >> $TOLD
exit 0
";

/// A machine with a MAC address of its own behind the port `inn`, in a namespace of its own; it asks by DHCP.
fn ask(field: &mut Field, name: &str, options: &str) -> String {
    let ns = field.space(name);
    field.inside("inn", &format!("ip link add link eth0 name {name} type macvlan mode bridge"));
    field.inside("inn", &format!("ip link set {name} netns {ns} name eth0"));
    let script = field.file("script", SCRIPT);
    field.site.switch.ok(&format!("chmod +x {}", script.display()));
    let told = field.site.switch.path(&format!("told.{name}"));
    field.inside(name, "ip link set eth0 up");
    let line = format!("busybox udhcpc -f -q -n -i eth0 -t 20 -T 1 {options} -s {}", script.display());
    let said = field.try_inside(name, &format!("env TOLD={} {line}", told.display()));
    assert_eq!(said.code, 0, "{name}: {}{}\n{}", said.out, said.err, field.site.switch.logs());
    std::fs::read_to_string(told).expect("what was told")
}

fn ip(told: &str) -> String {
    let line = told.lines().find_map(|l| l.strip_prefix("ip="));
    line.unwrap_or_else(|| panic!("no address in {told}")).to_owned()
}

fn check(kind: Kind) {
    let mut field = Field::start(kind, 0);
    let text = network("tiny", "mode: nat, spoofGuard: false", &["10.1.0.0/29"]).replace(
        "cidr: '10.1.0.0/29'}",
        "cidr: '10.1.0.0/29', dhcp: {ranges: [{start: 10.1.0.2, end: 10.1.0.5, leaseSeconds: 900}], \
         hosts: [{name: printer, ip: 10.1.0.6, leaseSeconds: 1200}]}}",
    );
    field.apply(&text);
    let inn = field.space("inn");
    let first = field.ok(&format!("port add inn --network tiny --netns {inn}"));
    assert_eq!(first, "10.1.0.2", "nothing but the range is left");
    // A stranger has one of the range, for as long as the range says; one that is known by its name has its own.
    let told = ask(&mut field, "guest", "");
    assert!(told.contains("lease=900"), "{told}");
    let guest = ip(&told);
    let told = ask(&mut field, "office", "-x hostname:Printer");
    assert!(told.contains("lease=1200") && told.contains("hostname=printer"), "{told}");
    assert_eq!(ip(&told), "10.1.0.6");
    // Ports get the others, and when these are gone, none.
    let ports: Vec<String> = ["a", "b"]
        .iter()
        .map(|name| {
            let ns = field.space(name);
            field.ok(&format!("port add {name} --network tiny --netns {ns}"))
        })
        .collect();
    let mut all = [vec![first, guest.clone()], ports].concat();
    all.sort();
    assert_eq!(all, ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"]);
    field.ok("port add late --network tiny --iface-id late --no-wait");
    field.wait("it is told", |f| f.ok("describe port late").contains("no address left"));
    for name in ["a", "b"] {
        field.wait_ping(name, &guest);
        field.wait_ping(name, "10.1.0.6");
    }
    let leases = field.ok("leases");
    assert!(leases.contains(&guest) && leases.contains("printer"), "{leases}");
    field.ok("port del b");
    field.wait("a port that is gone leaves its address", |f| {
        f.json("port", "late")["status"]["addresses"].as_array().is_some_and(|a| a.len() == 1)
    });
}

/// Subnets that take their addresses from a pool that is wider than they are, and from one that has none for them.
fn pools(kind: Kind) {
    let mut field = Field::start(kind, 0);
    let mut text = String::from(
        "apiVersion: weft.dev/v1\nkind: AddressPool\nmetadata: {name: site}\nspec: {cidrs: [10.20.0.0/16]}\n---\n",
    );
    let from = |text: String, name: &str| text.replace("/24'}", &format!("/24', addressPool: {name}}}"));
    text += &from(network("blue", "mode: isolated", &["10.20.5.0/24"]), "site");
    field.apply(&text);
    for (name, want) in [("a", "10.20.5.2"), ("b", "10.20.5.3")] {
        let ns = field.space(name);
        assert_eq!(field.ok(&format!("port add {name} --network blue --netns {ns}")), want);
    }
    field.wait_ping("a", "10.20.5.3");
    // A pool that loses its last address of the subnet: who comes then is told, and gets one when there are more.
    let pool = |cidr: &str| {
        format!(
            "apiVersion: weft.dev/v1\nkind: AddressPool\nmetadata: {{name: site}}\nspec: {{cidrs: [{cidr}]}}\n"
        )
    };
    field.apply(&pool("10.20.6.0/24"));
    let ns = field.space("c");
    field.ok(&format!("port add c --network blue --netns {ns} --no-wait"));
    field.wait("it is told", |f| {
        f.ok("describe port c").contains("AddressPool/site has no address of subnet blue-0, 10.20.5.0/24")
    });
    assert_ne!(field.json("port", "c")["status"]["phase"], "Ready");
    field.apply(&pool("10.20.5.128/25"));
    field.ready("c");
    field.wait_ping("c", "10.20.5.2");
    assert_eq!(field.json("port", "c")["status"]["addresses"][0], "10.20.5.128");
}

#[test]
fn pools_on_weft() {
    pools(Kind::Weft);
}

#[test]
fn pools_on_open_vswitch() {
    pools(Kind::Ovs);
}

on_both!(check);
