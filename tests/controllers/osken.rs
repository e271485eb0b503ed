//! Do os-ken's sample applications run on it? A learning switch in each version of OpenFlow, and a router with REST.

use crate::hosts::Site;
use crate::python::{Controller, app, program};

/// A bridge whose controller is os-ken with these applications, speaking one version.
fn start(hosts: usize, apps: &[&str], version: &str) -> (Site, Controller) {
    let site = Site::new(hosts);
    site.switch.ok(&format!(
        "ovs-vsctl set bridge br0 protocols={version} other_config:datapath-id=0000000000000001"
    ));
    let manager = program(if apps.contains(&"rest_router") { "osken-rest" } else { "osken-manager" });
    let paths: Vec<String> = apps.iter().map(|a| app(a)).collect();
    let mut words = vec![manager.as_str(), "--ofp-tcp-listen-port=6653", "--verbose"];
    words.extend(paths.iter().map(String::as_str));
    let controller = Controller::start(&site.switch, &words, &[]);
    site.switch.ok("ovs-vsctl set-controller br0 tcp:127.0.0.1:6653");
    site.switch.wait_for("the controller is connected", |s| {
        s.ok("ovs-vsctl get controller br0 is_connected") == "true"
    });
    (site, controller)
}

fn learning_switch(name: &str, version: &str) {
    let (site, controller) = start(3, &[name], version);
    for n in 1..=3 {
        site.on(n, &format!("ip addr add 10.0.0.{n}/24 dev eth0"));
    }
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        site.wait_ping(from, &format!("10.0.0.{to}"));
    }
    // The controller put rules for what it learned, and the switch says so in its words.
    let rules = site.switch.ok(&format!("ovs-ofctl -O {version} dump-flows br0"));
    let learned = rules.lines().filter(|l| l.contains("dl_dst=02:00:00:00:01:")).count();
    assert!(learned >= 6, "{rules}");
    // With the rules in place pings go on when the controller is stopped.
    let (mut controller, before) = (controller, rules);
    controller.end();
    assert!(site.pings(1, "10.0.0.2"), "without the controller:\n{before}");
    let log = controller.log();
    assert!(!log.contains("Traceback") && !log.contains("EventOFPErrorMsg received"), "{log}");
}

#[test]
fn simple_switch_10() {
    learning_switch("simple_switch", "OpenFlow10");
}

#[test]
fn simple_switch_12() {
    learning_switch("simple_switch_12", "OpenFlow12");
}

#[test]
fn simple_switch_13() {
    learning_switch("simple_switch_13", "OpenFlow13");
}

#[test]
fn simple_switch_14() {
    learning_switch("simple_switch_14", "OpenFlow14");
}

#[test]
fn simple_switch_15() {
    learning_switch("simple_switch_15", "OpenFlow15");
}

#[test]
fn rest_router() {
    let (site, _controller) = start(2, &["rest_router"], "OpenFlow13");
    for (n, own) in [(1, "10.1.0"), (2, "10.2.0")] {
        site.on(n, &format!("ip addr add {own}.10/24 dev eth0"));
        site.on(n, &format!("ip route add default via {own}.1"));
    }
    let post = |json: &str| {
        let line = format!("curl -sS -X POST -d '{json}' http://127.0.0.1:8080/router/0000000000000001");
        site.switch.run(&line).out
    };
    site.switch.wait_for("the router answers", |_| post(r#"{"address":"10.1.0.1/24"}"#).contains("success"));
    assert!(post(r#"{"address":"10.2.0.1/24"}"#).contains("success"));
    // The gateway itself, then through it.
    site.wait_ping(1, "10.1.0.1");
    site.wait_ping(2, "10.2.0.1");
    site.wait_ping(1, "10.2.0.10");
    site.wait_ping(2, "10.1.0.10");
    let rules = site.switch.ok("ovs-ofctl -O OpenFlow13 dump-flows br0");
    assert!(rules.contains("dec_ttl"), "{rules}");
}

#[test]
fn a_controller_reads_statistics() {
    // simple_monitor_13 asks for flow and port statistics every ten seconds.
    let (site, controller) = start(2, &["simple_monitor_13"], "OpenFlow13");
    site.on(1, "ip addr add 10.0.0.1/24 dev eth0");
    site.on(2, "ip addr add 10.0.0.2/24 dev eth0");
    site.wait_ping(1, "10.0.0.2");
    let told = |_: &crate::support::Switch| {
        let log = controller.log();
        log.contains("EventOFPFlowStatsReply") && log.contains("EventOFPPortStatsReply")
    };
    site.switch.wait_for("statistics come", told);
}
