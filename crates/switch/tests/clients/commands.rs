//! Does every command of Debian's `ovs-vswitchd` work, or say why it is not offered?

use std::collections::BTreeSet;

use crate::harness::{Said, Switch, Workload};

/// A bridge with two workloads, a bond, a patch port to a second bridge, a tunnel, and rules that track connections.
struct Scene {
    s: Switch,
    a: Workload,
    b: Workload,
}

impl Scene {
    fn new() -> Scene {
        let s = Switch::start();
        let (a, b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
        for n in 1..=2 {
            s.ok(&format!("ip link add name m{n} type veth peer name n{n}"));
            s.ok(&format!("ip link set dev m{n} up"));
            s.ok(&format!("ip link set dev n{n} up"));
        }
        s.vsctl(
            "add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 a -- add-port br0 b \
             -- add-bond br0 bond0 m1 m2 bond_mode=active-backup -- add-br br1 \
             -- set bridge br1 datapath_type=netdev",
        );
        s.vsctl(
            "add-port br0 vx -- set interface vx type=vxlan options:remote_ip=10.9.0.2 options:key=77 \
             -- add-port br0 gn -- set interface gn type=geneve options:remote_ip=flow options:key=flow",
        );
        s.ok("ip addr add 10.9.0.1/24 dev br1");
        s.ok("ip link set dev br1 up");
        for flow in [
            "table=0,cookie=0x11,priority=10,ip,actions=ct(table=1,zone=5)",
            "table=1,cookie=0x12,ct_state=+new,ip,actions=ct(commit,zone=5),normal",
            "table=1,cookie=0x13,ct_state=+est,ip,actions=normal",
        ] {
            s.ok(&format!("ovs-ofctl add-flow br0 {flow}"));
        }
        assert!(s.pings(&a, "10.1.0.2"));
        Scene { s, a, b }
    }

    fn appctl(&self, args: &str) -> Said {
        self.s.appctl(args)
    }
}

/// A flow to put by hand.
const FLOW: &str = "in_port(a),eth(src=00:00:00:00:00:01,dst=00:00:00:00:00:02),eth_type(0x0800),\
    ipv4(src=1.1.1.1,dst=2.2.2.2,proto=6,tos=0,ttl=64,frag=no),tcp(src=1,dst=2)";

/// Command line, exit code, and a piece of what it says. In this order: some undo others. `{flow}` is [`FLOW`], `{ufid}`
/// the identifier of a live flow, `{file}` a file of flows.
const CASES: &[(&str, i32, &str)] = &[
    ("bfd/set-forwarding a true", 2, "no such BFD object"),
    ("bfd/set-forwarding normal", 0, "OK"),
    ("bfd/set-forwarding x", 2, "unknown fault string"),
    ("bfd/show", 0, ""),
    ("bfd/show a", 2, "no such bfd object"),
    ("bond/list", 0, "bond0\tactive-backup\t0\tm1, m2"),
    ("bond/set-active-member bond0 m2", 0, "done"),
    ("bond/set-active-member bond0 m2", 0, "no change"),
    ("bond/set-active-member bond0 a", 2, "no such member"),
    ("bond/set-active-member nobond a", 2, "no such bond"),
    ("bond/show", 0, "member m2: enabled\n  active member\n  may_enable: true"),
    ("bond/show nobond", 2, "no such bond"),
    ("bridge/dump-flows br0", 0, "priority=10,ip,actions=ct(table=1,zone=5)"),
    ("bridge/dump-flows --offload-stats br0", 0, "n_offload_packets=0, n_offload_bytes=0, "),
    ("bridge/dump-flows nobr", 2, "Unknown bridge"),
    ("bridge/reconnect", 0, ""),
    ("bridge/reconnect nobr", 2, "Unknown bridge"),
    ("cfm/set-fault a true", 2, "no such CFM object"),
    ("cfm/set-fault false", 0, "OK"),
    ("cfm/show", 0, ""),
    ("cfm/show a", 2, "no such CFM object"),
    ("coverage/read-counter nosuch", 2, "No such counter"),
    ("coverage/show", 0, "Event coverage"),
    ("dpctl/dump-dps", 0, "netdev@ovs-netdev\n"),
    ("dpctl/show", 0, "netdev@ovs-netdev:\n  lookups: hit:"),
    ("dpctl/show nodp", 2, "opening datapath nodp failed"),
    ("dpctl/show -s", 0, "collisions:0"),
    ("dpctl/list-commands", 0, "dpctl/add-flow                [dp] flow actions"),
    ("dpctl/cache-get-size", 0, "netdev@ovs-netdev:"),
    ("dpctl/parse-actions set(eth(src=00:00:00:00:00:01)),2", 0, "set(eth(src=00:00:00:00:00:01)),2"),
    ("dpctl/parse-actions nonsense", 2, "odp_actions_from_string"),
    ("dpctl/normalize-actions in_port(1) 2,3", 0, "input flow: "),
    // Flows.
    ("dpctl/add-flow {flow} 6", 0, ""),
    ("dpctl/add-flow {flow} 6", 2, "ovs-vswitchd: updating flow table (File exists)"),
    (
        "dpctl/dump-flows filter=ip,nw_src=1.1.1.1",
        0,
        "tcp(src=1,dst=2), packets:0, bytes:0, used:never, actions:6",
    ),
    ("dpctl/mod-flow {flow} push_vlan(vid=5,pcp=0),2", 0, ""),
    ("dpctl/dump-flows filter=ip,nw_src=1.1.1.1", 0, "actions:push_vlan(vid=5,pcp=0),2"),
    ("dpctl/del-flow -s {flow}", 0, "packets:0, bytes:0, used:never"),
    ("dpctl/del-flow {flow}", 2, "ovs-vswitchd: deleting flow (No such file or directory)"),
    ("dpctl/mod-flow {flow} 2", 2, "ovs-vswitchd: updating flow table (No such file or directory)"),
    ("dpctl/mod-flow --may-create {flow} drop", 0, ""),
    ("dpctl/dump-flows filter=ip,nw_src=1.1.1.1", 0, "actions:drop\n"),
    ("dpctl/add-flow bad(1) 2", 2, "ovs-vswitchd: parsing flow key"),
    ("dpctl/add-flow {flow} nonsense", 2, "ovs-vswitchd: parsing actions"),
    ("dpctl/add-flow {flow} recirc(0x5)", 2, "not supported"),
    ("dpctl/del-flows {file}", 2, "(line 4)"),
    ("dpctl/add-flows {file}", 2, "File exists"),
    ("dpctl/dump-flows filter=ip,nw_src=1.1.1.1", 0, "actions:3"),
    ("dpctl/mod-flows {file}", 2, "File exists"),
    ("dpctl/add-flows /nonexistent", 2, "Opening file \"/nonexistent\" failed"),
    ("dpctl/get-flow {ufid}", 0, "actions:"),
    ("dpctl/get-flow -m {ufid}", 0, "ufid:"),
    (
        "dpctl/get-flow ufid:00000000-0000-0000-0000-000000000001",
        2,
        "ovs-vswitchd: getting flow (No such file",
    ),
    ("dpctl/get-flow bad", 2, "ovs-vswitchd: parsing flow ufid"),
    ("ofproto/detrace {ufid}", 0, "cookie=0x1"),
    ("ofproto/detrace ufid:00000000-0000-0000-0000-000000000001", 2, "UFID was not found"),
    ("dpctl/dump-flows --names filter=in_port=a", 0, "in_port(a)"),
    ("dpctl/dump-flows -m type=ovs", 0, "dp:ovs, actions:"),
    ("dpctl/dump-flows type=offloaded", 0, ""),
    ("dpctl/dump-flows type=nonsense", 2, "Failed to parse type (nonsense)"),
    ("dpctl/dump-flows filter=bad", 2, "ovs-vswitchd: Failed to parse filter (bad"),
    ("dpctl/dump-flows pmd=3", 0, ""),
    ("dpctl/dump-flows netdev@ovs-netdev", 0, "recirc_id("),
    ("dpif/dump-dps", 0, "netdev@br0\nnetdev@br1\n"),
    ("dpif/dump-flows -m br0", 0, "ufid:"),
    ("dpif/dump-flows nobr", 2, "no such bridge"),
    ("dpif/show", 0, "vx "),
    ("dpif/show-dp-features br0", 0, "CT state NAT: Yes"),
    ("dpif/set-dp-features br0", 0, "ct_zone (CT zone) : [run time]:true, [boot time]:true"),
    ("dpif/set-dp-features br0 ct_zone true", 0, ""),
    ("dpif/set-dp-features br0 ct_zone false", 2, "always true"),
    ("dpif/set-dp-features br0 nosuch true", 0, "Unexpected support field"),
    // Connections.
    ("dpctl/dump-conntrack", 0, "type=0,code=0),zone=5\n"),
    ("dpctl/dump-conntrack -m", 0, "id=0,zone=5,status=0"),
    ("dpctl/dump-conntrack -s", 0, "zone=5,timeout="),
    ("dpctl/dump-conntrack zone=5", 0, "icmp,orig=(src=10.1.0.1,dst=10.1.0.2"),
    ("dpctl/dump-conntrack zone=bad", 2, "datapath not found (Invalid argument)"),
    ("dpctl/ct-stats-show", 0, "Connections Stats:\n    Total: 1\n  ICMP: 1"),
    ("dpctl/ct-stats-show zone=5 verbose", 0, "  ICMP: 1"),
    ("dpctl/ct-stats-show zone=9", 0, "Total: 0"),
    ("dpctl/ct-bkts", 0, "Current Connections: 1"),
    ("dpctl/ct-bkts x", 2, "datapath not found"),
    ("dpctl/ct-get-nconns", 0, "1\n"),
    ("dpctl/ct-get-limits", 0, "default limit=0"),
    ("dpctl/ct-set-limits default=10 zone=1,limit=5 zone=2,limit=3", 0, ""),
    ("dpctl/ct-get-limits", 0, "default limit=10\nzone=1,limit=5,count=0\nzone=2,limit=3,count=0"),
    ("dpctl/ct-get-limits zone=1,5", 0, "zone=5,limit=10,count=1"),
    ("dpctl/ct-get-limits zone=x", 2, "invalid zone"),
    ("dpctl/ct-del-limits zone=1,2", 0, ""),
    ("dpctl/ct-del-limits default", 2, "invalid argument default"),
    ("dpctl/ct-set-limits zone=1", 2, "failed to parse zone limit"),
    ("dpctl/ct-set-limits zone=1,limit=x", 2, "failed to parse field limit"),
    ("dpctl/ct-set-limits default=x", 2, "invalid default limit"),
    ("dpctl/ct-set-limits foo", 2, "field foo missing value"),
    ("dpctl/ct-set-limits default=0", 0, ""),
    ("dpctl/ct-get-maxconns", 0, "3000000"),
    ("dpctl/ct-set-maxconns 10", 0, "setting maxconns successful"),
    ("dpctl/ct-set-maxconns bad", 2, "maxconns missing or malformed"),
    ("dpctl/ct-set-maxconns 3000000", 0, "setting maxconns successful"),
    ("dpctl/ct-disable-tcp-seq-chk", 0, "disabling TCP sequence checking successful"),
    ("dpctl/ct-get-tcp-seq-chk", 0, "TCP sequence checking: disabled"),
    ("dpctl/ct-enable-tcp-seq-chk", 0, "enabling TCP sequence checking successful"),
    ("dpctl/ipf-set-disabled v6", 0, "disabling fragmentation reassembly successful"),
    ("dpctl/ipf-get-status", 0, "v4 enabled: 1\n        v6 enabled: 0\n"),
    ("dpctl/ipf-set-enabled v6", 0, "enabling fragmentation reassembly successful"),
    ("dpctl/ipf-set-enabled x", 2, "parameter missing: 'v4' for IPv4 or 'v6' for IPv6"),
    ("dpctl/ipf-set-min-frag v4 1000", 0, "setting minimum fragment size successful"),
    ("dpctl/ipf-set-min-frag v4 100", 2, "requested minimum fragment size too small"),
    ("dpctl/ipf-set-max-nfrags 500", 0, "setting maximum fragments successful"),
    ("dpctl/ipf-set-max-nfrags 50000", 2, "setting maximum fragments failed"),
    ("dpctl/ipf-get-status -m", 0, "min v4 frag size: 1000"),
    ("dpctl/flush-conntrack zone=5 bad=1", 2, "invalid conntrack tuple field: bad"),
    ("dpctl/flush-conntrack ct_nw_src=10.1.0.1,ct_ipv6_dst=::1", 2, "the L3 protocol does not match ::1"),
    (
        "dpctl/flush-conntrack zone=5 ct_nw_src=10.1.0.1,ct_nw_dst=10.1.0.2,ct_nw_proto=6,ct_tp_src=1,ct_tp_dst=80",
        2,
        "failed to flush",
    ),
    ("dpctl/flush-conntrack zone=5 ct_nw_src=10.1.0.1", 0, ""),
    ("dpctl/ct-get-nconns", 0, "0\n"),
    ("dpctl/del-flows", 0, ""),
    // MAC tables.
    ("fdb/add br0 a 7 02:00:00:00:00:77", 0, ""),
    ("fdb/add br0 a 7 02", 2, "bad MAC address"),
    ("fdb/show br0", 0, "    7  02:00:00:00:00:77  static"),
    ("fdb/del br0 7 02:00:00:00:00:77", 0, ""),
    ("fdb/del br0 7 02:00:00:00:00:77", 2, "could not find static mac entry"),
    ("fdb/stats-clear br0", 0, "statistics successfully cleared"),
    ("fdb/stats-clear", 0, "statistics successfully cleared"),
    ("fdb/stats-show br0", 0, "Total number of learned MAC entries     : 0"),
    ("fdb/flush", 0, "table successfully flushed"),
    ("lacp/show", 0, ""),
    ("lacp/show bond0", 2, "no such lacp object"),
    ("lacp/show-stats", 0, ""),
    ("list-commands", 0, "dpctl/add-flow          [dp] flow actions"),
    ("mdb/flush", 0, "table successfully flushed"),
    ("mdb/show br0", 2, "multicast snooping is disabled"),
    ("memory/show", 0, "rules:"),
    ("ofproto/list", 0, "br0\nbr1"),
    ("ofproto/list-tunnels", 0, "vx (vxlan: ::->10.9.0.2, key=0x4d, legacy_l2, dp port="),
    ("ofproto/list-tunnels", 0, "gn (geneve: ::->flow, key=flow, legacy_l2, dp port="),
    ("ofproto/trace br0 in_port=a", 0, "Datapath actions: "),
    ("ofproto/trace-packet-out br0 in_port=a drop", 0, "Datapath actions: "),
    ("ovs/route/add 10.7.0.0/16 br1 10.9.0.7", 0, "OK"),
    ("ovs/route/add bad br1", 2, "Invalid parameters"),
    ("ovs/route/add 10.6.0.0/16 nobr", 2, "Error while inserting route."),
    ("ovs/route/show", 0, "User: 10.7.0.0/16 dev br1 GW 10.9.0.7 SRC 10.9.0.1"),
    ("ovs/route/show", 0, "Cached: 10.9.0.1/32 dev br1 SRC 10.9.0.1 local"),
    ("ovs/route/lookup 10.7.0.1", 0, "src 10.9.0.1\ngateway 10.9.0.7\ndev br1"),
    ("ovs/route/lookup 10.9.0.9", 0, "gateway ::\ndev br1"),
    ("ovs/route/lookup 99.1.1.1", 2, "Not found"),
    ("ovs/route/del 10.7.0.0/16", 0, "OK"),
    ("ovs/route/del 10.7.0.0/16", 2, "Not found"),
    ("qos/show a", 2, "QoS not configured on a"),
    ("qos/show nosuch", 2, "no such interface"),
    ("qos/show-types a", 0, "QoS type: linux-htb"),
    ("revalidator/pause", 0, ""),
    ("upcall/show", 0, "revalidation  : paused"),
    ("revalidator/resume", 0, ""),
    ("revalidator/purge", 0, ""),
    ("revalidator/wait", 0, ""),
    ("rstp/show", 0, ""),
    ("rstp/show br0", 2, "No such RSTP object"),
    ("rstp/tcn", 0, "OK"),
    ("stp/show", 0, ""),
    ("stp/show br0", 2, "no such stp object"),
    ("stp/tcn", 0, "OK"),
    ("tnl/arp/set br1 10.9.0.2 02:00:00:00:00:99", 0, "OK"),
    ("tnl/neigh/set br1 bad 02:00:00:00:00:99", 2, "bad IP address"),
    ("tnl/neigh/set br1 fc00::1 02:00:00:00:00:98", 0, "OK"),
    ("tnl/arp/show", 0, "10.9.0.2                                      02:00:00:00:00:99   br1"),
    ("tnl/neigh/show", 0, "fc00::1                                       02:00:00:00:00:98   br1"),
    ("tnl/arp/aging", 0, "900"),
    ("tnl/neigh/aging 100", 0, "OK"),
    ("tnl/neigh/aging 0", 2, "bad aging value"),
    ("tnl/neigh/aging", 0, "100"),
    ("tnl/egress_port_range", 0, "(49152-65535 for tunnels through the switch's own bridges)"),
    ("tnl/egress_port_range 50000 40000", 0, "OK"),
    ("tnl/egress_port_range", 0, "Tunnel UDP source port range: 40000-50000\n"),
    ("tnl/egress_port_range x 1", 2, "Invalid min."),
    ("tnl/arp/flush", 0, "OK"),
    ("tnl/neigh/flush", 0, "OK"),
    ("tnl/ports/show -v", 0, "Listening ports:\n"),
    ("upcall/disable-megaflows", 0, "megaflows disabled"),
    ("upcall/show", 0, "megaflows     : disabled"),
    ("upcall/enable-megaflows", 0, "megaflows enabled"),
    ("upcall/disable-ufid", 0, "Datapath dumping tersely using UFID disabled"),
    ("upcall/show", 0, "ufid enabled : false"),
    ("upcall/enable-ufid", 0, "Datapath dumping tersely using UFID enabled for supported datapaths"),
    ("upcall/set-flow-limit 1000", 0, "set flow_limit to 1000"),
    ("upcall/set-flow-limit x", 2, "a number of flows is needed"),
    ("upcall/show", 0, "(limit 1000)"),
    ("version", 0, "ovs-vswitchd (Open vSwitch) 3.1.0"),
    ("vlog/list", 0, "console    syslog    file"),
    (
        "vlog/list-pattern",
        0,
        "CONSOLE  none                              %D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c|%p|%m",
    ),
    ("vlog/set PATTERN:console:%m", 0, ""),
    ("vlog/set PATTERN:nosuch:x", 2, "unknown destination \"nosuch\""),
    ("vlog/list-pattern", 0, "CONSOLE  none                              %m\n"),
    ("vlog/disable-rate-limit", 0, ""),
    ("vlog/disable-rate-limit nosuch", 2, "unknown module"),
    ("vlog/enable-rate-limit bridge", 0, ""),
    ("vlog/reopen", 0, ""),
    ("vlog/close", 0, ""),
    ("metrics", 0, "# TYPE weft_rules gauge"),
    ("exit --cleanup", 0, ""),
];

/// The commands of Debian's `ovs-vswitchd`, with a database of its own and no bridges.
fn theirs(s: &Switch) -> BTreeSet<String> {
    let file = |name: &str| s.path(&format!("their.{name}")).display().to_string();
    let (db, sock, db_ctl, ctl) = (file("db"), file("sock"), file("dbctl"), file("ctl"));
    s.ok(&format!("ovsdb-tool create {db} /usr/share/openvswitch/vswitch.ovsschema"));
    // Detached they would keep this test's pipes open.
    let start = |line: &str| s.ok(&format!("sh -c '{line} >/dev/null 2>&1 </dev/null &'"));
    start(&format!("ovsdb-server {db} --remote=punix:{sock} --unixctl={db_ctl}"));
    s.wait_for("their database", || s.run(&format!("ovs-vsctl --db=unix:{sock} --no-wait init")).code == 0);
    start(&format!("ovs-vswitchd unix:{sock} --unixctl={ctl} --disable-system"));
    let listed = || s.run(&format!("ovs-appctl -t {ctl} list-commands")).out;
    s.wait_for("their commands", || listed().contains("fdb/show"));
    let names: BTreeSet<String> = listed()
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    s.ok(&format!("ovs-appctl -t {ctl} exit"));
    s.ok(&format!("ovs-appctl -t {db_ctl} exit"));
    names
}

#[test]
fn every_command_works_or_says_why_it_is_not_offered() {
    let scene = Scene::new();
    let theirs = theirs(&scene.s);
    assert!(theirs.len() > 100, "{theirs:?}");
    let tried: BTreeSet<&str> = CASES.iter().filter_map(|(line, ..)| line.split(' ').next()).collect();
    let ours = scene.s.ok("ovs-appctl list-commands");
    for name in theirs.iter().filter(|name| !tried.contains(name.as_str())) {
        // Enough arguments for any.
        let said = scene.appctl(name);
        let refused = said.code == 2 && said.err.contains(&format!("{name} is not offered: "));
        assert!(refused, "{name} is neither tried nor refused: {said:?}");
        let listed = ours.lines().any(|line| line.split_whitespace().next() == Some(name));
        assert!(!listed, "{name} is listed and not offered");
    }
    let file = scene.s.path("flows");
    let text = format!(
        "# Two lines that count.\n{FLOW}, packets:1, bytes:2, used:never, actions:2\n\nmodify {FLOW} 3\nadd {FLOW} 4\n"
    );
    std::fs::write(&file, text).expect("write a file");
    let dump = scene.s.ok("ovs-appctl dpctl/dump-flows -m filter=icmp,in_port=a");
    let ufid = dump.lines().find_map(|line| line.split(',').next().filter(|w| w.starts_with("ufid:")));
    let ufid = ufid.unwrap_or_else(|| panic!("no flow in {dump}"));
    for (line, code, piece) in CASES {
        let line = line
            .replace("{flow}", &format!("'{FLOW}'"))
            .replace("{ufid}", ufid)
            .replace("{file}", &file.display().to_string());
        let said = scene.appctl(&line);
        assert_eq!(said.code, *code, "{line}: {said:?}\n{}", scene.s.log());
        let text = format!("{}{}", said.out, said.err);
        assert!(text.contains(piece), "{line}: {piece:?} is not in {text}");
    }
}

/// Seconds since the last packet of each flow that is shown.
fn idle(flows: &str) -> Vec<f64> {
    let used = flows.lines().filter_map(|line| line.split("used:").nth(1)?.split('s').next()?.parse().ok());
    used.collect()
}

#[test]
fn a_paused_revalidator_lets_flows_grow_old_and_never_wrong() {
    let scene = Scene::new();
    let s = &scene.s;
    s.ok("ovs-appctl revalidator/pause");
    assert!(s.pings(&scene.a, "10.1.0.2"));
    let dump = || s.ok("ovs-appctl dpctl/dump-flows filter=icmp");
    // By itself a flow goes after ten seconds.
    s.wait_for("flows grow old", || idle(&dump()).iter().any(|used| *used > 11.5));
    // A change counts all the same, from the first packet on.
    s.ok("ovs-ofctl add-flow br0 priority=99,icmp,actions=drop");
    assert!(s.silent(&scene.a, "10.1.0.2"));
    assert!(s.silent(&scene.b, "10.1.0.1"));
    s.ok("ovs-ofctl --strict del-flows br0 priority=99,icmp");
    assert!(s.pings(&scene.a, "10.1.0.2"));
    s.ok("ovs-appctl revalidator/resume");
    s.wait_for("old flows go", || idle(&dump()).iter().all(|used| *used < 11.5));
}

#[test]
fn without_megaflows_each_connection_has_a_flow() {
    let scene = Scene::new();
    let s = &scene.s;
    s.ok("ovs-ofctl del-flows br0");
    s.ok("ovs-ofctl add-flow br0 actions=normal");
    let flows = || {
        let dump = s.ok("ovs-appctl dpctl/dump-flows filter=udp,in_port=a");
        dump.lines().filter(|line| line.contains("ipv4(")).count()
    };
    let send = || {
        let script = "import socket\nfor port in range(9000,9020):\n \
                      socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b'x',('10.1.0.2',port))";
        std::fs::write(s.path("send.py"), script).expect("write a file");
        s.ok(&format!("ip netns exec {} python3 {}", scene.a.ns, s.path("send.py").display()));
    };
    send();
    s.wait_for("one flow for all", || flows() == 1);
    s.ok("ovs-appctl upcall/disable-megaflows");
    send();
    s.wait_for("a flow for each", || flows() >= 20);
    s.ok("ovs-appctl upcall/set-flow-limit 5");
    // Flows of one batch do not drive each other out.
    s.wait_for("few flows", || s.ok("ovs-appctl dpctl/dump-flows").lines().count() <= 6);
    assert!(s.pings(&scene.a, "10.1.0.2"));
}
