//! Does the switch follow devices that come, change and go?

use crate::harness::Switch;

#[test]
fn a_port_waits_for_its_device_and_outlives_it() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let b = s.workload("b", "10.1.0.2/24");
    s.vsctl("add-port br0 b");
    assert!(s.run("ovs-vsctl --timeout=5 add-port br0 a").err.contains("No such device"));
    assert_eq!(s.vsctl("get interface a ofport"), "-1");
    for round in 0..3 {
        let a = s.workload("a", "10.1.0.1/24");
        s.vsctl("wait-until interface a ofport>0 link_state=up");
        assert_eq!(s.vsctl("get interface a error"), "[]");
        assert!(s.pings(&a, "10.1.0.2"), "round {round}");
        let number = s.vsctl("get interface a ofport");
        assert_eq!(number, "2", "the number stays");
        s.ok("ip link del dev a");
        s.vsctl("wait-until interface a ofport=-1");
        assert!(s.vsctl("get interface a error").contains("No such device"));
        drop(a);
    }
    drop(b);
}

#[test]
fn state_mtu_and_names_are_followed() {
    let s = Switch::start();
    s.ok("ip link add d0 type veth peer name e0");
    s.vsctl("add-br br0 -- add-port br0 d0");
    assert_eq!(s.vsctl("get interface d0 admin_state link_state"), "down\ndown");
    s.ok("ip link set d0 up");
    s.vsctl("wait-until interface d0 admin_state=up link_state=down");
    s.ok("ip link set e0 up");
    s.vsctl("wait-until interface d0 link_state=up");
    let resets: i64 = s.vsctl("get interface d0 link_resets").parse().expect("a number");
    assert!(resets >= 1);
    s.ok("ip link set d0 mtu 1400");
    s.vsctl("wait-until interface d0 mtu=1400");
    // The bridge's own port has the least MTU of the others.
    s.vsctl("set interface d0 mtu_request=1300");
    s.vsctl("wait-until interface d0 mtu=1300 -- wait-until interface br0 mtu=1300");
    // A bridge takes the address of its hardware, which has no local bit.
    s.ok("ip link set d0 down");
    s.ok("ip link set d0 address 00:16:3e:00:00:07");
    s.ok("ip link set d0 up");
    s.vsctl("wait-until interface br0 mac_in_use='\"00:16:3e:00:00:07\"'");
    s.ok("ip link set d0 down");
    s.ok("ip link set d0 name renamed");
    s.vsctl("wait-until interface d0 ofport=-1");
    s.ok("ip link set renamed name d0");
    s.vsctl("wait-until interface d0 ofport=1");
}

#[test]
fn an_internal_port_works_in_another_namespace() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- add-port br0 in0 -- set interface in0 type=internal");
    let (a, b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.9.0.1/24"));
    s.vsctl("add-port br0 a");
    s.ok(&format!("ip link set in0 netns {}", b.ns));
    s.ok(&format!("ip -n {} addr add 10.1.0.2/24 dev in0", b.ns));
    s.ok(&format!("ip -n {} link set in0 up", b.ns));
    assert!(s.pings(&a, "10.1.0.2"));
    assert_eq!(s.vsctl("get interface in0 ofport"), "1");
    s.vsctl("del-port in0");
    assert_ne!(s.run(&format!("ip -n {} link show in0", b.ns)).code, 0);
}

#[test]
fn a_bond_moves_to_the_member_that_is_up() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- add-br br1");
    let (a, _b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    for i in 0..2 {
        s.ok(&format!("ip link add m{i} type veth peer name n{i}"));
        s.ok(&format!("ip link set m{i} up"));
        s.ok(&format!("ip link set n{i} up"));
    }
    s.vsctl("add-port br0 a -- add-bond br0 bond0 m0 m1 bond_mode=active-backup");
    s.vsctl("add-port br1 b -- add-port br1 n0 -- add-port br1 n1");
    assert!(s.pings(&a, "10.1.0.2"));
    let active = s.ok("ovs-appctl bond/show bond0");
    assert!(active.contains("member m0: enabled\n  active member"), "{active}");
    s.ok("ip link set m0 down");
    s.wait_for("the other member takes over", || {
        s.ok("ovs-appctl bond/show bond0").contains("member m1: enabled\n  active member")
    });
    assert!(s.pings(&a, "10.1.0.2"));
}

/// A device that appears may take the number of a patch port: what comes through the patch comes by its new one.
#[test]
fn a_number_that_is_taken_from_a_patch_port_is_told_to_its_other_end() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- set bridge br0 fail_mode=secure -- add-br br1 -- set bridge br1 fail_mode=secure");
    s.vsctl(
        "add-port br0 pa -- set interface pa type=patch options:peer=pb -- add-port br1 pb \
         -- set interface pb type=patch options:peer=pa",
    );
    let number = |name: &str| s.vsctl(&format!("get interface {name} ofport"));
    let first = number("pa");
    s.run(&format!("ovs-vsctl --no-wait add-port br0 late -- set interface late ofport_request={first}"));
    s.ok("ip link add late type veth peer name other");
    s.wait_for("the device has the number it asked for", || number("late") == first);
    let second = number("pa");
    assert_ne!(first, second);
    s.ok(&format!("ovs-ofctl add-flow br0 in_port={second},actions=LOCAL"));
    s.ok("ovs-ofctl add-flow br1 actions=output:pb");
    let rule = format!(" 0. in_port={second}, priority");
    s.wait_for("the other end knows", || s.appctl("ofproto/trace br1 in_port=LOCAL").out.contains(&rule));
}

/// What a port may take in, as libvirt's `<bandwidth>` sets it: beyond the burst next to nothing passes, and is named.
#[test]
fn what_comes_in_is_policed() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- set bridge br0 fail_mode=secure");
    let a = s.workload("a", "10.1.0.1/24");
    s.vsctl("add-port br0 a -- set interface a ingress_policing_rate=1 ingress_policing_burst=16");
    s.ok(&format!("ip -n {} neigh add 10.1.0.2 lladdr 52:54:00:00:00:02 dev eth0", a.ns));
    let sent = |cookie: u32| {
        s.ok(&format!("ovs-ofctl add-flow br0 cookie={cookie},in_port=a,icmp,actions=drop"));
        // 20 frames of 1,000 bytes: of these 8 kbit make one.
        s.run(&format!("ip netns exec {} ping -q -c 20 -i 0.02 -W 0.1 -s 958 10.1.0.2", a.ns));
        let line = s.ok(&format!("ovs-ofctl dump-flows br0 cookie={cookie}/-1"));
        let count = line.split("n_packets=").nth(1).and_then(|rest| rest.split(',').next());
        count.and_then(|n| n.parse::<u64>().ok()).unwrap_or_else(|| panic!("no count: {line}"))
    };
    let since = std::time::Instant::now();
    let passed = sent(1);
    let most = 2 + since.elapsed().as_secs() / 8 + 1;
    assert!((1..=most).contains(&passed), "{passed} of 20 passed");
    let drops = s.appctl("weft/drops").out;
    assert!(drops.contains("policing-exceeded"), "{drops}");
    // Packets per second, in place of bits; the buckets are full again.
    s.vsctl("set interface a ingress_policing_rate=0 ingress_policing_kpkts_rate=1 ingress_policing_kpkts_burst=1");
    assert_eq!(sent(2), 20);
    s.vsctl("set interface a ingress_policing_kpkts_rate=0");
    assert_eq!(sent(3), 20);
}

/// What leaves by a port is shaped by the kernel, queue by queue, as libvirt's `<bandwidth>` asks.
#[test]
fn what_leaves_is_queued() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- set bridge br0 fail_mode=secure");
    let (a, b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl(
        "add-port br0 a -- add-port br0 b -- set port a qos=@q \
         -- --id=@q create qos type=linux-htb other_config:max-rate=50000000 queues:0=@d queues:7=@s \
         -- --id=@d create queue other_config:min-rate=10000000 \
         -- --id=@s create queue other_config:max-rate=2000000 other_config:priority=3",
    );
    let classes = s.ok("tc class show dev a");
    let words = [
        "class htb 1:fffe root rate 50Mbit ceil 50Mbit",
        "class htb 1:1 parent 1:fffe prio 0 rate 10Mbit ceil 50Mbit",
        "class htb 1:8 parent 1:fffe prio 3",
        "ceil 2Mbit",
    ];
    words.iter().for_each(|words| assert!(classes.contains(words), "{words:?} is not in {classes}"));
    s.ok("ovs-ofctl add-flow br0 actions=NORMAL");
    s.ok("ovs-ofctl add-flow br0 priority=40000,icmp,in_port=b,actions=set_queue:7,output:a");
    assert!(s.pings(&a, "10.1.0.2") && s.pings(&b, "10.1.0.1"));
    let sent = |queue: u32| {
        let out = s.ok(&format!("ovs-ofctl queue-stats br0 a {queue}"));
        let count =
            out.split("pkts=").nth(1).and_then(|rest| rest.split(',').next()).and_then(|n| n.parse().ok());
        count.unwrap_or_else(|| panic!("no count: {out}"))
    };
    let (others, before): (u64, u64) = (sent(0), sent(7));
    assert!(others >= 1 && before >= 2, "ARP by the default queue, ICMP by the other: {others}, {before}");
    s.ok(&format!("ip netns exec {} ping -q -c 5 -i 0.05 10.1.0.1", b.ns));
    assert_eq!(sent(7), before + 5);
    let shown = s.appctl("qos/show a").out;
    for words in [
        "QoS: a linux-htb\nmax-rate: 50000000\n",
        "Queue 7:\n  max-rate: 2000000\n  priority: 3\n  tx_packets: ",
    ] {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    // What is asked for changes, and the device with it; another device of the name is told as well.
    let qos = s.vsctl("get port a qos");
    s.vsctl(&format!("set qos {qos} other_config:max-rate=20000000"));
    assert!(s.ok("tc class show dev a").contains("class htb 1:fffe root rate 20Mbit ceil 20Mbit"));
    s.ok("ip link del dev a");
    s.vsctl("wait-until interface a ofport=-1");
    drop(a);
    let a = s.workload("a", "10.1.0.1/24");
    s.vsctl("wait-until interface a ofport>0 link_state=up");
    assert!(s.pings(&a, "10.1.0.2"));
    assert!(s.ok("tc class show dev a").contains("class htb 1:fffe root rate 20Mbit ceil 20Mbit"));
    s.vsctl("clear port a qos");
    assert!(!s.ok("tc qdisc show dev a").contains("htb"));
    assert!(s.pings(&b, "10.1.0.1"), "who names a queue that is not there is sent all the same");
}
