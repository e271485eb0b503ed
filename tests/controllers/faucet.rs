//! Does faucet run a network on it? Two VLANs, routed, with an access list.

use crate::hosts::Site;
use crate::python::{Controller, program};

const CONFIG: &str = "
vlans:
  office:
    vid: 100
    faucet_vips: [10.1.0.254/24]
    faucet_mac: 0e:00:00:00:00:01
  guest:
    vid: 200
    faucet_vips: [10.2.0.254/24]
    faucet_mac: 0e:00:00:00:00:02
routers:
  between:
    vlans: [office, guest]
acls:
  no-telnet:
    - rule: {dl_type: 0x800, nw_proto: 6, tcp_dst: 23, actions: {allow: 0}}
    - rule: {actions: {allow: 1}}
dps:
  sw1:
    dp_id: 1
    hardware: Open vSwitch
    interfaces:
      1: {native_vlan: office, acls_in: [no-telnet]}
      2: {native_vlan: office}
      3: {native_vlan: guest}
";

#[test]
fn two_vlans_routed() {
    let site = Site::new(3);
    let file = site.switch.path("faucet.yaml");
    std::fs::write(&file, CONFIG).expect("write the configuration");
    let env = [
        ("FAUCET_CONFIG", file.display().to_string()),
        ("FAUCET_LOG", site.switch.path("faucet.log").display().to_string()),
        ("FAUCET_EXCEPTION_LOG", site.switch.path("faucet-exception.log").display().to_string()),
        ("FAUCET_PROMETHEUS_ADDR", "127.0.0.1".to_owned()),
    ];
    let controller = Controller::start(&site.switch, &[&program("faucet")], &env);
    site.switch.ok("ovs-vsctl set bridge br0 protocols=OpenFlow13 other_config:datapath-id=0000000000000001");
    site.switch.ok("ovs-vsctl set-controller br0 tcp:127.0.0.1:6653");
    for (n, own) in [(1, "10.1.0"), (2, "10.1.0"), (3, "10.2.0")] {
        site.on(n, &format!("ip addr add {own}.{n}/24 dev eth0"));
        site.on(n, &format!("ip route add default via {own}.254"));
    }
    let logged = || std::fs::read_to_string(site.switch.path("faucet.log")).unwrap_or_default();
    site.switch.wait_for("faucet configures the switch", |_| logged().contains("Cold start configuring DP"));
    site.wait_ping(1, "10.1.0.2");
    site.wait_ping(1, "10.1.0.254");
    site.wait_ping(3, "10.2.0.254");
    site.wait_ping(1, "10.2.0.3");
    site.wait_ping(3, "10.1.0.2");
    let errors = std::fs::read_to_string(site.switch.path("faucet-exception.log")).unwrap_or_default();
    assert!(!logged().contains("OFPErrorMsg") && errors.is_empty(), "{}\n{errors}", logged());
    // The access list: a server on port 23 is not reached, one on port 80 is.
    let serve = |port: u16| {
        let ns = format!("/run/netns/{}-h2", site.switch.ns);
        let net = format!("--net={ns}");
        let port = port.to_string();
        let words = ["nsenter", &net, "python3", "-m", "http.server", &port];
        Controller::start(&site.switch, &words, &[])
    };
    let (_telnet, _web) = (serve(23), serve(80));
    let fetch = |port: u16| {
        let ns = format!("{}-h1", site.switch.ns);
        site.switch
            .run(&format!("nsenter --net=/run/netns/{ns} curl -sS -m 2 -o /dev/null http://10.1.0.2:{port}/"))
            .code
    };
    site.switch.wait_for("port 80 is reached", |_| fetch(80) == 0);
    assert_ne!(fetch(23), 0, "the access list stops telnet");
    drop(controller);
}
