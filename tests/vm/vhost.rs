//! Machines whose memory is shared: vhost-user, QEMU listening or connecting; reboots, restarts and deaths.

use std::path::PathBuf;

use crate::hosts::Site;
use crate::machine;
use crate::taps::{address, mac, start, transfer, transfer_with_host, wait_ping};

fn socket(site: &Site, name: &str) -> PathBuf {
    site.switch.path(&format!("{name}.sock"))
}

/// Adds a port that connects to the socket at which QEMU listens.
fn add_client(site: &Site, name: &str) -> PathBuf {
    let path = socket(site, name);
    site.switch.ok(&format!(
        "ovs-vsctl add-port br0 {name} -- set interface {name} type=dpdkvhostuserclient options:vhost-server-path={}",
        path.display()
    ));
    path
}

fn column(site: &Site, port: &str, column: &str) -> String {
    site.switch.ok(&format!("ovs-vsctl get interface {port} {column}"))
}

fn wait_column(site: &Site, port: &str, name: &str, wanted: &str) {
    site.switch.wait_for(&format!("{name} of {port} is {wanted}"), |_| column(site, port, name) == wanted);
}

#[test]
fn machines_on_vhost_user_talk() {
    let site = Site::new(1);
    site.rules("actions=normal");
    site.on(1, "ip addr add 10.0.0.11/24 dev eth0");
    // To one QEMU the switch connects, as soon as it is there; the other connects to the switch.
    let first = add_client(&site, "vh1");
    site.switch.ok("ovs-vsctl add-port br0 vh2 -- set interface vh2 type=dpdkvhostuser");
    let second = site.switch.path("vh2");
    site.switch.wait_for("the switch listens", |_| second.exists());
    wait_column(&site, "vh1", "link_state", "down");
    assert_eq!(column(&site, "vh1", "status:mode"), "client");
    assert_eq!(column(&site, "vh2", "status:mode"), "server");
    assert_eq!(column(&site, "vh2", "status:status"), "disconnected");

    let mut one = start(&site, "one", 1, &machine::vhost_user(1, &first, true, &mac(1), 1));
    let mut two = start(&site, "two", 2, &machine::vhost_user(2, &second, false, &mac(2), 2));
    one.booted();
    two.booted();
    address(&mut one, 1);
    address(&mut two, 2);
    assert_eq!(two.ok("ls -d /sys/class/net/eth0/queues/tx-*").lines().count(), 2, "two queues are in use");
    for port in ["vh1", "vh2"] {
        wait_column(&site, port, "link_state", "up");
        assert_eq!(column(&site, port, "status:status"), "connected");
    }
    wait_column(&site, "vh2", "status:num_of_vrings", "\"4\"");
    assert!(column(&site, "vh1", "status:features").starts_with("\"0x"));
    for to in ["10.0.0.2", "10.0.0.11"] {
        wait_ping(&mut one, to);
    }
    transfer(&mut one, &mut two, "10.0.0.2");
    transfer(&mut two, &mut one, "10.0.0.1");
    transfer_with_host(&site, &mut one, 1, "10.0.0.11");
    transfer_with_host(&site, &mut two, 1, "10.0.0.11");

    // Reboots: the rings are set up anew.
    two.reboot();
    address(&mut two, 2);
    wait_ping(&mut one, "10.0.0.2");
    one.reboot();
    address(&mut one, 1);
    wait_ping(&mut two, "10.0.0.1");

    // The cable is pulled and plugged in while the machine runs.
    site.switch.ok("ovs-vsctl del-port vh1");
    assert_ne!(two.run("ping -c1 -W1 10.0.0.1").code, 0);
    add_client(&site, "vh1");
    wait_ping(&mut two, "10.0.0.1");

    // QEMU dies in the middle of a transfer; others talk on, and a new one has the port.
    two.ok("nc -l -p 5009 <&9 > /dev/null &");
    two.wait_for("netstat -ltn | grep -q :5009");
    one.ok("nc 10.0.0.2 5009 < /dev/zero > /dev/null 2>&1 &");
    two.wait_for("netstat -tn | grep -q 5009.*ESTABLISHED");
    one.kill();
    wait_column(&site, "vh1", "link_state", "down");
    wait_ping(&mut two, "10.0.0.11");
    let mut one = start(&site, "again", 1, &machine::vhost_user(1, &first, true, &mac(1), 1));
    one.booted();
    address(&mut one, 1);
    wait_ping(&mut one, "10.0.0.2");
    transfer(&mut one, &mut two, "10.0.0.2");
    one.power_off();
    two.power_off();
}

#[test]
fn a_machine_outlives_the_switch() {
    let mut site = Site::new(1);
    site.rules("actions=normal");
    site.on(1, "ip addr add 10.0.0.11/24 dev eth0");
    let first = add_client(&site, "vh1");
    let mut one = start(&site, "one", 1, &machine::vhost_user(1, &first, true, &mac(1), 1));
    one.booted();
    address(&mut one, 1);
    wait_ping(&mut one, "10.0.0.11");
    // Killed without warning, and started again: the switch connects by itself.
    site.switch.kill();
    assert_ne!(one.run("ping -c1 -W1 10.0.0.11").code, 0);
    site.switch.spawn();
    site.rules("actions=normal");
    wait_ping(&mut one, "10.0.0.11");
    transfer_with_host(&site, &mut one, 1, "10.0.0.11");
    one.power_off();
}
