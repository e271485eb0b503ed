//! Does `ovs-appctl` work with both daemons' names?

use crate::harness::Switch;

#[test]
fn commands_answer_or_say_why_not() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    // Command, exit code, and a piece of what it says.
    let cases = [
        ("version", 0, "ovs-vswitchd (Open vSwitch) 3.1.0"),
        ("-t ovsdb-server version", 0, "ovsdb-server (Open vSwitch) 3.1.0"),
        ("list-commands", 0, "The available commands are:\n  bfd/set-forwarding"),
        ("-t ovsdb-server list-commands", 0, "ovsdb-server/compact"),
        (
            "nocmd",
            2,
            "\"nocmd\" is not a valid command (use \"list-commands\" to see a list of valid commands)",
        ),
        ("fdb/show", 2, "\"fdb/show\" command requires at least 1 arguments"),
        ("fdb/show a b", 2, "\"fdb/show\" command takes at most 1 arguments"),
        ("fdb/show nobr", 2, "no such bridge"),
        ("fdb/show br0", 0, " port  VLAN  MAC                Age\n"),
        ("fdb/flush", 0, "table successfully flushed"),
        ("fdb/flush br0", 0, "table successfully flushed"),
        ("fdb/flush nobr", 2, "no such bridge"),
        ("fdb/stats-show br0", 0, "Current/maximum MAC entries in the table: 0/8192"),
        ("dpif/show", 0, "br0 65534/1: (internal)"),
        ("dpif/dump-flows br0", 0, ""),
        ("dpif/dump-flows nobr", 2, "no such bridge"),
        ("dpif/show-dp-features br0", 0, "Tunnel push pop: Yes"),
        ("dpctl/show", 0, "lookups: hit:"),
        ("dpctl/show -s", 0, "RX packets:"),
        ("dpctl/dump-dps", 0, "system@ovs-netdev"),
        ("dpctl/dump-flows", 0, ""),
        ("dpctl/dump-flows nodp", 2, "datapath not found (Invalid argument)"),
        ("ofproto/list", 0, "br0\n"),
        ("ofproto/trace br0 in_port=LOCAL", 0, "Datapath actions: "),
        ("ofproto/trace-packet-out br0 in_port=LOCAL output:LOCAL", 0, "Datapath actions: "),
        (
            "ofproto/trace-packet-out br0 in_port=LOCAL",
            2,
            "a bridge and a flow are needed, or a flow of the datapath",
        ),
        ("ofproto/trace-packet-out in_port(br0) output:LOCAL", 0, "Datapath actions: "),
        ("ofproto/trace in_port(br0),eth_type(0x0806)", 0, "Datapath actions: "),
        ("ofproto/trace system@ovs-netdev in_port(br0),eth_type(0x0806)", 0, "Datapath actions: "),
        ("ofproto/trace nodp in_port(br0)", 2, "Cannot find datapath of this name"),
        ("ofproto/trace in_port(99)", 2, "Invalid datapath flow"),
        ("ofproto/trace in_port(br0),eth_typ(1)", 2, "Bad datapath flow syntax"),
        ("ofproto/trace in_port=1", 2, "a bridge and a flow are needed, or a flow of the datapath"),
        ("ofproto/trace nobr in_port=1", 2, "nobr: unknown bridge"),
        ("ofproto/trace br0 in_port=LOCAL 0102", 2, "too short"),
        ("ofproto/trace br0 inport=1", 2, "Bad openflow flow syntax: inport=1"),
        ("coverage/show", 0, "Event coverage"),
        ("coverage/read-counter nosuch", 2, "No such counter"),
        ("vlog/list", 0, "console    syslog    file"),
        ("vlog/set bridge:file:dbg", 0, ""),
        ("vlog/set foo", 2, "no destination, level, or module \"foo\""),
        ("vlog/reopen", 0, ""),
        ("memory/show", 0, "rules:"),
        ("weft/drops", 0, "no drops"),
        ("weft/drops --json", 0, "{\"total\":{}"),
        ("bond/list", 0, "bond\ttype"),
        ("-t ovsdb-server ovsdb-server/compact", 0, ""),
        ("-t ovsdb-server ovsdb-server/compact nodb", 2, "no database by that name"),
        ("-t ovsdb-server ovsdb-server/list-dbs", 0, "Open_vSwitch\n_Server\n"),
        ("-t ovsdb-server ovsdb-server/list-remotes", 0, "db:Open_vSwitch,Open_vSwitch,manager_options"),
        ("-t ovsdb-server ovsdb-server/add-remote punix:x.sock", 0, ""),
        ("-t ovsdb-server ovsdb-server/add-remote bogus", 2, "bogus"),
        ("-t ovsdb-server ovsdb-server/remove-remote nosuch", 2, "no such remote"),
        ("-t ovsdb-server ovsdb-server/reconnect", 0, ""),
        ("-t ovsdb-server ovsdb-server/sync-status", 0, "state: active"),
    ];
    for (command, code, piece) in cases {
        let said = s.appctl(command);
        assert_eq!(said.code, code, "{command}: {said:?}");
        let text = format!("{}{}", said.out, said.err);
        assert!(text.contains(piece), "{command}: {piece:?} is not in {text}");
    }
    assert!(s.ok("ovs-vsctl --db=unix:/proc/self/cwd/x.sock --version").contains("ovs-vsctl"));
    let other = s.path("x.sock");
    assert_eq!(s.ok(&format!("ovs-vsctl --db=unix:{} list-br", other.display())), "br0");
    s.ok("ovs-appctl -t ovsdb-server ovsdb-server/remove-remote punix:x.sock");
    assert!(!other.exists());
    s.check_database();
}

#[test]
fn learned_addresses_and_cached_flows_are_shown() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let (a, _b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl("add-port br0 a tag=3 -- add-port br0 b tag=3");
    assert!(s.pings(&a, "10.1.0.2"));
    let mac = s.ok(&format!("ip netns exec {} cat /sys/class/net/eth0/address", a.ns));
    let fdb = s.ok("ovs-appctl fdb/show br0");
    assert!(fdb.lines().any(|l| l.starts_with("    1     3  ") && l.contains(&mac)), "{fdb}");
    let flows = s.ok("ovs-appctl dpctl/dump-flows -m");
    assert!(
        flows
            .lines()
            .any(|l| l.contains("in_port(a)") && l.contains("eth_type(0x0800)") && l.contains("actions:b")),
        "{flows}"
    );
    let trace =
        s.ok("ovs-appctl ofproto/trace br0 in_port=a,dl_src=02:00:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff");
    assert!(trace.contains("would be learned on port 1 in VLAN 3"), "{trace}");
    // What a packet comes with besides its bytes counts with them.
    s.ok("ovs-ofctl add-flow br0 'priority=9,ip,ct_state=+trk+est,actions=drop'");
    let frame = "02000000000102000000000208004500001c000000004011669f0a0000020a00000100010002000800000000";
    for (tracked, rule) in [("ip,ct_state=trk|est,ct_mark=3", "priority 9"), ("ip", "priority 0")] {
        let traced = s.ok(&format!("ovs-appctl ofproto/trace br0 'in_port=a,{tracked}' {frame}"));
        assert!(
            traced.contains(rule) && traced.contains("ct_mark=0x3") == (rule == "priority 9"),
            "{traced}"
        );
    }
    s.ok("ovs-appctl fdb/flush br0");
    s.ok("ovs-ofctl --strict del-flows br0 'priority=9,ip,ct_state=+trk+est'");
    assert!(s.pings(&a, "10.1.0.2"));
    let flows = s.ok("ovs-appctl dpctl/dump-flows -m");
    // A line of that listing, as it is, comes to its own actions.
    for line in flows.lines().filter(|l| l.contains("in_port(a)") || l.contains("in_port(b)")) {
        let (_, actions) = line.rsplit_once("actions:").expect("actions");
        let pasted = s.ok(&format!("ovs-appctl ofproto/trace --names '{line}'"));
        assert!(pasted.lines().any(|l| l == format!("Datapath actions: {actions}")), "{line}: {pasted}");
    }
    // A trace learns nothing.
    assert!(!s.ok("ovs-appctl fdb/show br0").contains("02:00:00:00:00:01"));
    s.ok("ovs-appctl fdb/flush br0");
    assert!(s.pings(&a, "10.1.0.2"));
}

#[test]
fn exit_keeps_the_bridges_own_device_and_cleanup_does_not() {
    let mut s = Switch::start();
    s.vsctl("add-br br0");
    s.ok("ip addr add 10.2.0.1/24 dev br0");
    s.ok("ip link set br0 up");
    s.ok("ovs-appctl exit");
    assert!(s.wait_end());
    for left in ["db.sock", "br0.mgmt", "ovs-vswitchd.pid", "ovsdb-server.pid"] {
        assert!(!s.path(left).exists(), "{left}");
    }
    assert!(s.ok("ip addr show br0").contains("10.2.0.1/24"));
    s.spawn();
    assert!(s.ok("ip addr show br0").contains("10.2.0.1/24"));
    let a = s.workload("a", "10.2.0.2/24");
    s.vsctl("add-port br0 a");
    assert!(s.pings(&a, "10.2.0.1"));
    s.ok("ovs-appctl exit --cleanup");
    assert!(s.wait_end());
    assert_ne!(s.run("ip link show br0").code, 0);
    s.check_database();
}
