//! Machines on TAPs: made by QEMU or before it, with one queue or more, plugged in and out, rebooted and killed.

use crate::hosts::Site;
use crate::machine::{self, Vm};

/// What TCP carries in a transfer, in MiB.
const MEGABYTES: usize = 8;

/// Address of the network device of machine `n`.
pub(crate) fn mac(n: usize) -> String {
    format!("02:00:00:00:02:{n:02x}")
}

/// Gives a machine its address and sets its device up.
pub(crate) fn address(vm: &mut Vm, n: usize) {
    vm.ok(&format!("ip addr add 10.0.0.{n}/24 dev eth0 && ip link set eth0 up"));
}

/// Waits until a machine gets an answer to a ping.
pub(crate) fn wait_ping(vm: &mut Vm, address: &str) {
    vm.wait_for(&format!("ping -c1 -W1 {address}"));
}

/// Sends some megabytes by TCP from one machine to another, whose address is given; not a bit may change.
pub(crate) fn transfer(from: &mut Vm, to: &mut Vm, address: &str) {
    to.ok("nc -l -p 5001 <&9 > /tmp/got & echo $! > /tmp/nc");
    to.wait_for("netstat -ltn | grep -q :5001");
    let made = format!("dd if=/dev/urandom of=/tmp/sent bs=1M count={MEGABYTES} 2>/dev/null");
    from.ok(&format!("{made}; nc {address} 5001 < /tmp/sent"));
    to.wait_for("! kill -0 $(cat /tmp/nc) 2>/dev/null");
    let (sent, got) = (from.ok("md5sum < /tmp/sent"), to.ok("md5sum < /tmp/got"));
    assert_eq!(sent, got, "what arrived is what was sent");
}

/// The same from a machine to host `n`, and back.
pub(crate) fn transfer_with_host(site: &Site, vm: &mut Vm, n: usize, host: &str) {
    let (got, back) = (site.switch.path("got"), site.switch.path("back"));
    let silence = site.switch.path("silence");
    site.switch.run(&format!("mkfifo {}", silence.display()));
    let listen = format!("exec 9<>{}; busybox nc -l -p 5002 <&9 > {}", silence.display(), got.display());
    let server = site.serve(n, &format!("busybox sh -c '{listen}'"));
    site.switch.wait_for("the host listens", |_| site.on(n, "ss -ltn").contains(":5002"));
    vm.ok(&format!(
        "dd if=/dev/urandom of=/tmp/sent bs=1M count={MEGABYTES} 2>/dev/null; nc {host} 5002 < /tmp/sent"
    ));
    let sum = vm.ok("md5sum < /tmp/sent");
    let whole = (MEGABYTES as u64) << 20;
    site.switch.wait_for("all of it arrived", |_| got.metadata().is_ok_and(|m| m.len() == whole));
    assert_eq!(site.switch.ok(&format!("busybox sh -c 'md5sum < {}'", got.display())), sum);
    drop(server);

    // Back: the machine fetches what it sent.
    std::fs::rename(&got, &back).expect("rename");
    let _server = site.serve(n, &format!("busybox sh -c 'busybox nc -l -p 5003 < {}'", back.display()));
    site.switch.wait_for("the host listens", |_| site.on(n, "ss -ltn").contains(":5003"));
    vm.ok(&format!("nc {host} 5003 <&9 > /tmp/got"));
    assert_eq!(vm.ok("md5sum < /tmp/got"), sum);
}

/// A number of the Interface table's statistics, as of now.
pub(crate) fn statistic(site: &Site, port: &str, name: &str) -> u64 {
    // Statistics are written every some seconds; what is dumped by OpenFlow is of now.
    let dump = site.switch.ok(&format!("ovs-ofctl dump-ports br0 {port}"));
    let (direction, field) = name.split_once('_').expect("rx_… or tx_…");
    let line = dump.lines().find(|l| l.contains(&format!("{direction} "))).expect("a line");
    let text = line.split(&format!("{field}=")).nth(1).expect("the field");
    text.split(',').next().and_then(|t| t.trim().parse().ok()).unwrap_or_else(|| panic!("{name}: {dump}"))
}

pub(crate) fn start(site: &Site, name: &str, cpus: usize, words: &[String]) -> Vm {
    Vm::start_with(&site.switch.path(""), name, cpus, words, |words| site.switch.inside(words))
}

#[test]
fn machines_on_taps_talk() {
    let mut site = Site::new(1);
    site.rules("actions=normal");
    site.on(1, "ip addr add 10.0.0.11/24 dev eth0");
    // One TAP is QEMU's, and was wanted before it was there; the other is there first, and has two queues.
    site.switch.run("ovs-vsctl add-port br0 tap1");
    site.switch.ok("ip tuntap add dev tap2 mode tap multi_queue");
    site.switch.ok("ovs-vsctl add-port br0 tap2");
    let mut one = start(&site, "one", 1, &machine::tap(1, "tap1", &mac(1), 1));
    let mut two = start(&site, "two", 2, &machine::tap(2, "tap2", &mac(2), 2));
    for tap in ["tap1", "tap2"] {
        site.switch.ok(&format!("ip link set {tap} up"));
    }
    // A TAP that the switch makes, its device end moved into a namespace.
    site.switch.ok("ovs-vsctl add-port br0 tap3 -- set interface tap3 type=tap");
    site.add_host_with_device("tap3");
    site.on(2, "ip addr add 10.0.0.12/24 dev tap3");
    site.on(2, "ip link set tap3 up");
    one.booted();
    two.booted();
    address(&mut one, 1);
    address(&mut two, 2);
    assert_eq!(two.ok("ls -d /sys/class/net/eth0/queues/tx-*").lines().count(), 2, "two queues are in use");

    for to in ["10.0.0.2", "10.0.0.11", "10.0.0.12"] {
        wait_ping(&mut one, to);
    }
    // Offloads are on: segments of up to 64 KiB cross whole, both ways, to each kind of port.
    let before = ["rx_pkts", "rx_bytes"].map(|name| statistic(&site, "tap1", name));
    transfer(&mut one, &mut two, "10.0.0.2");
    let after = ["rx_pkts", "rx_bytes"].map(|name| statistic(&site, "tap1", name));
    let (packets, bytes) = (after[0] - before[0], after[1] - before[1]);
    assert!(bytes > (MEGABYTES as u64) << 20 && bytes / packets > 3000, "{bytes} bytes in {packets} frames");
    transfer(&mut two, &mut one, "10.0.0.1");
    transfer_with_host(&site, &mut one, 1, "10.0.0.11");
    transfer_with_host(&site, &mut two, 2, "10.0.0.12");

    // A machine that reboots finds its cable where it was.
    one.reboot();
    address(&mut one, 1);
    wait_ping(&mut one, "10.0.0.2");
    // The cable is pulled and plugged in while the machine runs.
    site.switch.ok("ovs-vsctl del-port tap2");
    assert_ne!(one.run("ping -c1 -W1 10.0.0.2").code, 0);
    site.switch.ok("ovs-vsctl add-port br0 tap2");
    wait_ping(&mut one, "10.0.0.2");
    transfer(&mut one, &mut two, "10.0.0.2");
    // QEMU dies, and its TAP with it; both come back.
    one.kill();
    site.switch.wait_for("the TAP is gone", |s| s.run("ip link show tap1").code != 0);
    let mut one = start(&site, "again", 1, &machine::tap(1, "tap1", &mac(1), 1));
    site.switch.ok("ip link set tap1 up");
    one.booted();
    address(&mut one, 1);
    wait_ping(&mut one, "10.0.0.2");
    one.power_off();
    two.power_off();
}
