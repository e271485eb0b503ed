//! Does Weft speak with switches that nobody here wrote? The kernel's vxlan device and Debian's Open vSwitch.

use crate::world::{self, Switch, TwoHosts, VM_B, assert_ping, eventually, ip};
use weft_lab::Lab;

/// Ping, then a stream in both directions with a checksum at the end.
fn works(with: &TwoHosts) {
    let lab = with.up();
    assert_ping(&lab);
    stream(&lab, &[]);
    stream(&lab, &["-R"]);
}

/// A short iperf3 run must carry data.
fn stream(lab: &Lab, extra: &[&str]) {
    let _server = lab.workload("b", "vm0").spawn(["iperf3", "-s", "-1"]);
    let client = lab.workload("a", "vm0");
    eventually("iperf3 runs", || {
        let args = ["iperf3", "-c", VM_B, "-t", "1", "-J", "--connect-timeout", "1000"];
        let out = client.exec(args.iter().chain(extra));
        let json: serde_json::Value = serde_json::from_str(&out.stdout).ok()?;
        let bytes = json["end"]["sum_received"]["bytes"].as_u64()?;
        assert!(bytes > 1_000_000, "only {bytes} bytes in a second\n{}", world::describe(lab));
        Some(())
    });
    assert!(client.ping(ip(VM_B), world::PATIENCE).expect("ping runs").is_some());
}

#[test]
fn weft_and_weft_over_ipv6() {
    works(&TwoHosts { ipv6: true, ..TwoHosts::default() });
}

#[test]
fn weft_and_weft_by_geneve() {
    works(&TwoHosts { tunnel: "geneve", ..TwoHosts::default() });
}

#[test]
fn weft_and_weft_by_gre() {
    works(&TwoHosts { tunnel: "gre", ..TwoHosts::default() });
}

#[test]
fn weft_and_weft_by_gre_over_ipv6() {
    works(&TwoHosts { tunnel: "gre", ipv6: true, ..TwoHosts::default() });
}

#[test]
fn weft_and_the_kernel_over_ipv4() {
    works(&TwoHosts { b: Switch::Kernel, ..TwoHosts::default() });
}

#[test]
fn weft_and_the_kernel_over_ipv6() {
    works(&TwoHosts { b: Switch::Kernel, ipv6: true, ..TwoHosts::default() });
}

#[test]
fn weft_and_open_vswitch_by_vxlan() {
    works(&TwoHosts { b: Switch::Ovs, ..TwoHosts::default() });
}

#[test]
fn weft_and_open_vswitch_by_geneve() {
    works(&TwoHosts { b: Switch::Ovs, tunnel: "geneve", ..TwoHosts::default() });
}

#[test]
fn weft_and_open_vswitch_by_gre() {
    works(&TwoHosts { b: Switch::Ovs, tunnel: "gre", ..TwoHosts::default() });
}
