//! Does `ovs-ofctl` work, in every version of OpenFlow?

use crate::harness::Switch;

#[test]
fn every_version_shows_and_dumps() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- add-port br0 t0 -- set interface t0 type=tap");
    for version in ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        let of = |args: &str| s.ok(&format!("ovs-ofctl -O {version} {args}"));
        assert!(of("show br0").contains("1(t0): addr:"), "{version}");
        assert!(of("dump-flows br0").contains("actions=NORMAL"), "{version}");
        assert!(of("dump-ports br0").contains("rx pkts="), "{version}");
        assert!(of("dump-ports-desc br0").contains("LOCAL(br0)"), "{version}");
        assert!(of("dump-desc br0").contains("Weft"), "{version}");
        assert!(of("dump-tables br0").contains("table 0"), "{version}");
        assert!(of("dump-aggregate br0").contains("flow_count=1"), "{version}");
        of("add-flow br0 table=3,priority=5,tcp,tcp_dst=80,actions=output:1");
        assert!(of("dump-flows br0 table=3").contains("tp_dst=80 actions=output:1"), "{version}");
        of("mod-flows br0 table=3,tcp,actions=drop");
        assert!(of("dump-flows br0 table=3").contains("actions=drop"), "{version}");
        of("del-flows br0 table=3");
        assert!(!of("dump-flows br0").contains("tp_dst"), "{version}");
        assert!(of("probe br0").is_empty() || version.is_empty());
    }
    s.vsctl("set bridge br0 protocols=OpenFlow13");
    assert_ne!(s.run("ovs-ofctl -O OpenFlow10 show br0").code, 0);
    s.ok("ovs-ofctl -O OpenFlow13 show br0");
}

#[test]
fn rules_decide_and_time_out() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let (a, _b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl("add-port br0 a -- add-port br0 b");
    assert!(s.pings(&a, "10.1.0.2"));
    // What a barrier has answered is in force: the very next packet is dropped.
    for _ in 0..10 {
        s.ok("ovs-ofctl add-flow br0 priority=9,icmp,actions=drop");
        assert_ne!(s.run(&format!("ip netns exec {} ping -c1 -W1 10.1.0.2", a.ns)).code, 0);
        s.ok("ovs-ofctl --strict del-flows br0 priority=9,icmp");
        assert_eq!(s.run(&format!("ip netns exec {} ping -c1 -W1 10.1.0.2", a.ns)).code, 0);
    }
    let drops = s.ok("ovs-appctl weft/drops --json");
    assert!(drops.contains("\"rule-drop\":10"), "{drops}");
    s.ok("ovs-ofctl add-flow br0 hard_timeout=1,priority=9,icmp,actions=drop");
    s.ok("ovs-ofctl -OOpenFlow13 add-flow br0 idle_timeout=1,priority=8,actions=normal");
    s.wait_for("rules time out", || !s.ok("ovs-ofctl dump-flows br0").contains("timeout"));
    assert!(s.pings(&a, "10.1.0.2"));
    s.ok("ovs-ofctl mod-port br0 b down");
    assert!(s.ok("ovs-ofctl show br0").contains("PORT_DOWN"));
    assert!(s.silent(&a, "10.1.0.2"));
    s.ok("ovs-ofctl mod-port br0 b up");
    assert!(s.pings(&a, "10.1.0.2"));
}

#[test]
fn many_rules_in_a_file_and_a_bundle() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let rules: String = (0..2000u32)
        .map(|i| {
            format!("table=1,priority={},ip,nw_dst=10.{}.{}.0/24,actions=drop\n", i % 7, i / 256, i % 256)
        })
        .collect();
    std::fs::write(s.path("rules"), rules).expect("write the rules");
    let file = s.path("rules");
    s.ok(&format!("ovs-ofctl add-flows br0 {}", file.display()));
    assert!(s.ok("ovs-ofctl dump-aggregate br0 table=1").contains("flow_count=2000"));
    s.ok("ovs-ofctl del-flows br0 table=1");
    s.ok(&format!("ovs-ofctl -OOpenFlow14 --bundle add-flows br0 {}", file.display()));
    assert!(s.ok("ovs-ofctl dump-aggregate br0 table=1").contains("flow_count=2000"));
    s.ok(&format!("ovs-ofctl -OOpenFlow14 --bundle replace-flows br0 {}", file.display()));
    assert!(s.ok("ovs-ofctl dump-aggregate br0").contains("flow_count=2000"));
    assert_eq!(s.ok(&format!("ovs-ofctl diff-flows br0 {}", file.display())), "");
    // A bundle with one bad message changes nothing.
    let said = s
        .run("ovs-ofctl -OOpenFlow14 --bundle add-flow br0 table=1,check_overlap,priority=0,ip,actions=drop");
    assert_ne!(said.code, 0, "{said:?}");
    assert!(s.ok("ovs-ofctl dump-aggregate br0").contains("flow_count=2000"));
}

#[test]
fn packets_go_to_controllers_and_come_from_them() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let (a, b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl("add-port br0 a -- add-port br0 b");
    let heard = s.path("monitor");
    let file = std::fs::File::create(&heard).expect("create a file");
    let mut monitor = std::process::Command::new("ovs-ofctl")
        .args(["-OOpenFlow13", "monitor", "br0", "65535"])
        .env("OVS_RUNDIR", s.dir.path())
        .stdout(file.try_clone().expect("share a file"))
        .stderr(file)
        .spawn()
        .expect("run ovs-ofctl");
    let hears = |words: &str| std::fs::read_to_string(&heard).is_ok_and(|text| text.contains(words));
    s.ok("ovs-ofctl add-flow br0 priority=9,cookie=0x2a,icmp,send_flow_rem,actions=controller");
    s.wait_for("a packet-in", || {
        s.run(&format!("ip netns exec {} ping -c1 -W1 10.1.0.2", a.ns));
        hears("NXT_PACKET_IN2 (OF1.3)") && hears("cookie=0x2a") && hears("in_port=1")
    });
    // An ARP request from nobody, sent out of b's port, makes b answer to nobody's address.
    let frame = "ffffffffffff02000000000a08060001080006040001\
                 02000000000a0a010063000000000000\
                 0a010002";
    s.ok(&format!("ovs-ofctl packet-out br0 in_port=controller,packet={frame},actions=output:2"));
    s.wait_for("the sender of the packet-out is learned", || {
        s.run(&format!("ip -n {} neigh show 10.1.0.99", b.ns)).out.contains("02:00:00:00:00:0a")
    });
    s.vsctl("add-port br0 late -- set interface late type=tap");
    s.wait_for("a port-status", || hears("OFPT_PORT_STATUS (OF1.3) (xid=0x0): ADD"));
    s.vsctl("del-port late");
    s.wait_for("a port-status", || hears("DEL: 3(late)"));
    s.ok("ovs-ofctl del-flows br0 icmp");
    s.wait_for("a flow-removed", || hears("OFPT_FLOW_REMOVED (OF1.3)"));
    monitor.kill().expect("end the monitor");
    monitor.wait().expect("end the monitor");
}

#[test]
fn snoopers_see_what_controllers_say() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- set-controller br0 ptcp:16653:127.0.0.1");
    let seen = s.path("seen");
    let file = std::fs::File::create(&seen).expect("create a file");
    let mut snoop = std::process::Command::new("ovs-ofctl")
        .args(["snoop", "br0"])
        .env("OVS_RUNDIR", s.dir.path())
        .stdout(file.try_clone().expect("share a file"))
        .stderr(file)
        .spawn()
        .expect("run ovs-ofctl");
    s.wait_for("messages are seen", || {
        s.ok("ovs-ofctl -OOpenFlow13 dump-flows tcp:127.0.0.1:16653");
        let text = std::fs::read_to_string(&seen).unwrap_or_default();
        text.contains("OFPST_FLOW request (OF1.3)") && text.contains("OFPST_FLOW reply (OF1.3)")
    });
    snoop.kill().expect("end the snooper");
    snoop.wait().expect("end the snooper");
}

#[test]
fn fail_modes() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let (a, _b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl("add-port br0 a -- add-port br0 b");
    assert!(s.pings(&a, "10.1.0.2"));
    s.vsctl("set-fail-mode br0 secure");
    assert!(!s.ok("ovs-ofctl dump-flows br0").contains("NORMAL"));
    assert!(s.silent(&a, "10.1.0.2"));
    assert!(s.ok("ovs-appctl weft/drops").contains("fail-secure"));
    s.ok("ovs-ofctl add-flow br0 actions=normal");
    assert!(s.pings(&a, "10.1.0.2"));
    s.vsctl("del-fail-mode br0");
    assert!(s.ok("ovs-ofctl dump-flows br0").contains("priority=0 actions=NORMAL"));
    assert!(s.pings(&a, "10.1.0.2"));
}
