//! Does every command of `ovs-ofctl(8)`, with its options, work against the switch, or fail as its manual says?
//!
//! One table: the OpenFlow versions, the command, its exit status and a part of what it prints, on both of its outputs.
//! What it prints was taken from Debian's Open vSwitch 3.1.

use crate::harness::Switch;

/// Versions of a line of the table: `all`, one, or several by their last digits.
type Line = (&'static str, &'static str, i32, &'static str);

/// A packet for packet-outs.
const ARP: &str = "ffffffffffff02000000000a0806000108000604000102000000000a0a0100630000000000000a010002";

/// Showing what there is, and configuring tables, ports and fragments.
const SHOW: &[Line] = &[
    ("all", "show br0", 0, "n_tables:254"),
    ("all", "dump-desc br0", 0, "Hardware: Open vSwitch"),
    ("all", "dump-tables br0", 0, "table 0:\n"),
    ("0", "dump-tables br0", 0, "tables 1...253: ditto"),
    ("345", "dump-table-features br0", 0, "max_entries=16777216"),
    ("45", "dump-table-desc br0", 0, "eviction=off"),
    ("3", "dump-table-desc br0", 1, "needs OpenFlow 1.4 or later"),
    ("12", "mod-table br0 0 drop", 0, ""),
    ("1", "dump-tables br0", 0, "config=drop"),
    ("12", "mod-table br0 1 continue", 0, ""),
    ("12", "mod-table br0 0 controller", 0, ""),
    ("3", "mod-table br0 0 drop", 1, "requires one of the OpenFlow versions"),
    ("345", "mod-table br0 0 name:first", 0, ""),
    ("345", "dump-table-features br0", 0, "table 0 (\"first\"):"),
    ("345", "--names dump-flows br0", 0, ""),
    ("345", "mod-table br0 first name:", 0, ""),
    ("345", "dump-tables br0", 0, "table 0:\n"),
    ("3", "mod-table br0 0 evict", 1, "requires one of the OpenFlow versions OpenFlow14, OpenFlow15"),
    ("45", "mod-table br0 0 evict", 0, ""),
    ("45", "dump-table-desc br0", 0, "eviction=on"),
    ("45", "mod-table br0 0 noevict", 0, ""),
    ("45", "mod-table br0 0 vacancy:20,40", 0, ""),
    ("45", "dump-table-desc br0", 0, "vacancy=on vacancy_down=20% vacancy_up=40%"),
    ("45", "mod-table br0 0 novacancy", 0, ""),
    ("45", "mod-table br0 0 vacancy:40,20", 1, "OFPBPC_BAD_VALUE"),
    ("45", "mod-table br0 0 nonsense", 1, "invalid table_mod setting nonsense"),
    ("all", "dump-ports br0", 0, "rx pkts="),
    ("all", "dump-ports br0 t1", 0, "1 ports"),
    ("all", "dump-ports br0 1", 0, "1 ports"),
    ("all", "dump-ports br0 nope", 1, "unknown port `nope'"),
    ("all", "dump-ports-desc br0", 0, "LOCAL(br0): addr:"),
    ("5", "dump-ports-desc br0 77", 0, "OFPST_PORT_DESC reply"),
    ("all", "mod-port br0 t1 down", 0, ""),
    ("all", "dump-ports-desc br0", 0, "PORT_DOWN"),
    ("all", "mod-port br0 1 up", 0, ""),
    ("all", "mod-port br0 t1 no-receive", 0, ""),
    ("all", "show br0", 0, "NO_RECV"),
    ("all", "mod-port br0 t1 receive", 0, ""),
    ("all", "mod-port br0 t1 no-receive-stp", 0, ""),
    ("all", "mod-port br0 t1 receive-stp", 0, ""),
    ("all", "mod-port br0 t1 no-stp", 0, ""),
    ("all", "mod-port br0 t1 stp", 0, ""),
    ("all", "mod-port br0 t1 no-forward", 0, ""),
    ("all", "show br0", 0, "NO_FWD"),
    ("all", "mod-port br0 t1 forward", 0, ""),
    ("0", "mod-port br0 t1 no-flood", 0, ""),
    ("0", "show br0", 0, "NO_FLOOD"),
    ("0", "mod-port br0 t1 flood", 0, ""),
    ("all", "mod-port br0 t1 no-packet-in", 0, ""),
    ("all", "show br0", 0, "NO_PACKET_IN"),
    ("all", "mod-port br0 t1 packet-in", 0, ""),
    ("all", "mod-port br0 br0 up", 0, ""),
    ("all", "mod-port br0 nope up", 1, "couldn't find port `nope'"),
    ("all", "mod-port br0 t1 sideways", 1, "unknown mod-port command 'sideways'"),
    ("all", "set-frags br0 drop", 0, ""),
    ("all", "get-frags br0", 0, "drop"),
    ("all", "set-frags br0 nx-match", 0, ""),
    ("all", "get-frags br0", 0, "nx-match"),
    ("all", "set-frags br0 reassemble", 1, "setting fragment handling mode failed"),
    ("all", "set-frags br0 normal", 0, ""),
    ("all", "get-frags br0", 0, "normal"),
];

/// Rules.
const FLOWS: &[Line] = &[
    ("all", "del-flows br0", 0, ""),
    ("all", "add-flow br0 priority=1,actions=normal", 0, ""),
    ("all", "add-flows br0 FLOWS", 0, ""),
    ("all", "dump-flows br0", 0, "priority=5,tcp actions=output:2"),
    ("all", "dump-flows br0 udp", 0, "table=3, n_packets=0"),
    ("all", "--sort=priority dump-flows br0", 0, "priority=7"),
    ("all", "--rsort dump-flows br0", 0, "priority=7"),
    ("all", "--names dump-flows br0", 0, "actions=output:t2"),
    ("all", "--no-names --no-stats dump-flows br0", 0, " priority=5,tcp actions=output:2"),
    ("all", "--color=always dump-flows br0", 0, "NORMAL"),
    ("all", "--timestamp -m dump-flows br0", 0, "NORMAL"),
    ("all", "--read-only dump-flows br0", 0, "NORMAL"),
    ("all", "--read-only del-flows br0", 1, "does not work in read only mode"),
    ("all", "dump-aggregate br0", 0, "flow_count=3"),
    ("all", "dump-aggregate br0 tcp", 0, "flow_count=1"),
    ("all", "mod-flows br0 tcp,actions=output:1", 0, ""),
    ("all", "--strict mod-flows br0 priority=5,tcp,actions=drop", 0, ""),
    ("all", "dump-flows br0 tcp", 0, "tcp actions=drop"),
    ("all", "diff-flows br0 FLOWS", 2, "+priority=5,tcp actions=output:2"),
    ("0", "replace-flows br0 FLOWS", 1, "does not support any of the usable flow formats"),
    ("12345", "replace-flows br0 FLOWS", 0, ""),
    ("12345", "diff-flows br0 FLOWS", 0, ""),
    ("12345", "--readd replace-flows br0 FLOWS", 0, ""),
    ("all", "--bundle replace-flows br0 FLOWS", 0, ""),
    ("all", "--bundle add-flows br0 MODS", 0, ""),
    ("all", "dump-flows br0 tcp", 0, "priority=6,tcp actions=output:1"),
    ("all", "--strict del-flows br0 priority=6,tcp", 0, ""),
    ("all", "del-flows br0 udp", 0, ""),
    ("all", "--bundle --strict mod-flows br0 priority=5,tcp,actions=output:1", 0, ""),
    ("all", "add-flow br0 cookie=5,table=2,actions=drop", 0, ""),
    ("all", "dump-flows br0 cookie=5/-1", 0, "cookie=0x5"),
    ("all", "mod-flows br0 cookie=5/-1,cookie=6,actions=output:1", 0, ""),
    ("all", "del-flows br0 cookie=5/-1", 0, ""),
    ("all", "del-flows br0 table=2", 0, ""),
    ("0", "-F NXM+table_id dump-flows br0", 1, "does not support any of the usable flow formats"),
    ("0", "-F NXM dump-flows br0", 0, "NXST_FLOW"),
    ("0", "-F OpenFlow10 dump-flows br0", 0, "OFPST_FLOW"),
    ("0", "-F nonsense dump-flows br0", 1, "nonsense: unknown flow protocol"),
    ("345", "-F OXM dump-flows br0", 0, "OFPST_FLOW"),
    ("0", "-P nxt_packet_in packet-out br0 PACKET", 0, ""),
    ("all", "add-flow br0 nonsense", 1, "must specify an action"),
    ("all", "add-flow br0 actions=group:99", 1, "OFPBAC_BAD_OUT_GROUP"),
    ("all", "packet-out br0 PACKET", 0, ""),
    ("all", "queue-stats br0", 0, "0 queues"),
    ("all", "queue-stats br0 1 77", 0, "OFPQOFC_BAD_QUEUE"),
    ("all", "queue-stats br0 77", 0, "OFPQOFC_BAD_PORT"),
    ("all", "queue-stats br0 ALL ALL", 0, "0 queues"),
    ("all", "queue-get-config br0 1", 0, "OFP"),
    ("123", "queue-get-config br0", 0, "OFPT_QUEUE_GET_CONFIG_REPLY"),
    ("345", "queue-get-config br0 77", 0, "OFPQOFC_BAD_PORT"),
    ("all", "dump-ipfix-bridge br0", 0, "NXST_NOT_CONFIGURED"),
    ("all", "dump-ipfix-flow br0", 0, "NXST_NOT_CONFIGURED"),
    ("all", "ct-flush-zone br0 5", 0, ""),
    ("all", "ct-flush br0", 0, ""),
    ("all", "ct-flush br0 zone=5", 0, ""),
    ("all", "ct-flush br0 zone=5 ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17", 0, ""),
    ("all", "ct-flush br0 ct_nw_src=10.0.0.1,ct_nw_proto=6 ct_nw_src=10.0.0.5,ct_nw_proto=6", 0, ""),
];

/// Groups, meters, bundles, tunnel options, and talking to the switch.
const OTHERS: &[Line] = &[
    ("all", "add-group br0 group_id=1,type=all,bucket=output:1,bucket=output:2", 0, ""),
    ("all", "add-group br0 group_id=1,type=all", 1, "OFPGMFC_GROUP_EXISTS"),
    ("all", "add-groups br0 GROUPS", 0, ""),
    ("all", "mod-group br0 group_id=1,type=indirect,bucket=output:2", 0, ""),
    ("all", "mod-group br0 group_id=9,type=all", 1, "OFPGMFC_UNKNOWN_GROUP"),
    ("all", "--may-create mod-group br0 group_id=9,type=all", 0, ""),
    ("all", "dump-groups br0", 0, "group_id=12,type=select"),
    ("05", "dump-groups br0 1", 0, "group_id=1,type=indirect"),
    ("all", "dump-group-features br0", 0, "Types:  0xf"),
    ("all", "dump-group-stats br0", 0, "group_id=9"),
    ("all", "dump-group-stats br0 group_id=1", 0, "packet_count=0"),
    (
        "3",
        "insert-buckets br0 group_id=9,command_bucket_id=last,bucket=actions=output:2",
        1,
        "needs OpenFlow 1.5",
    ),
    ("5", "insert-buckets br0 group_id=9,command_bucket_id=last,bucket=bucket_id:7,actions=output:2", 0, ""),
    ("5", "remove-buckets br0 group_id=9,command_bucket_id=7", 0, ""),
    ("5", "remove-buckets br0 group_id=9,command_bucket_id=77", 1, "OFPGMFC_UNKNOWN_BUCKET"),
    ("all", "del-groups br0 group_id=9", 0, ""),
    ("all", "del-groups br0", 0, ""),
    ("all", "--bundle add-groups br0 GROUPS", 0, ""),
    ("all", "del-groups br0", 0, ""),
    ("0", "add-meter br0 meter=3,kbps,band=type=drop,rate=1", 1, "none of the usable flow formats"),
    ("345", "add-meter br0 meter=3,kbps,burst,band=type=drop,rate=100,burst_size=50", 0, ""),
    ("345", "add-meter br0 meter=3,kbps,band=type=drop,rate=1", 1, "OFPMMFC_METER_EXISTS"),
    ("345", "mod-meter br0 meter=3,pktps,stats,band=type=drop,rate=9", 0, ""),
    ("345", "mod-meter br0 meter=4,kbps,band=type=drop,rate=1", 1, "OFPMMFC_UNKNOWN_METER"),
    ("345", "dump-meters br0", 0, "meter=3 pktps stats bands="),
    ("345", "dump-meter br0 meter=3", 0, "type=drop rate=9"),
    ("345", "dump-meters br0 meter=77", 0, "OFPMMFC_UNKNOWN_METER"),
    ("345", "meter-stats br0", 0, "meter:3 flow_count:0"),
    ("345", "meter-stats br0 meter=3", 0, "packet_in_count:0"),
    ("345", "meter-features br0", 0, "capabilities: kbps pktps burst stats"),
    ("345", "del-meters br0 meter=3", 0, ""),
    ("345", "del-meters br0", 0, ""),
    ("all", "bundle br0 BUNDLE", 0, ""),
    ("all", "dump-flows br0 table=4", 0, "actions=group:21"),
    ("all", "dump-group-stats br0", 0, "group_id=21"),
    ("all", "bundle br0 WRONG", 1, "Error OFPBAC_BAD_OUT_GROUP for: OFPT_FLOW_MOD"),
    ("all", "dump-aggregate br0 table=5", 0, "flow_count=0"),
    ("all", "del-flows br0 table=4", 0, ""),
    ("all", "del-groups br0", 0, ""),
    ("02345", "add-tlv-map br0 {class=0xffff,type=1,len=4}->tun_metadata1", 0, ""),
    ("02345", "add-tlv-map br0 {class=0xffff,type=1,len=4}->tun_metadata2", 1, "NXTTMFC_DUP_ENTRY"),
    ("02345", "dump-tlv-map br0", 0, "tun_metadata1"),
    ("02345", "add-flow br0 tun_metadata1=1234,actions=drop", 0, ""),
    ("02345", "dump-flows br0", 0, "tun_metadata1=0x4d2"),
    ("02345", "del-flows br0 tun_metadata1=1234", 0, ""),
    ("02345", "del-tlv-map br0 {class=0xffff,type=1,len=4}->tun_metadata1", 0, ""),
    ("02345", "del-tlv-map br0", 0, ""),
    ("all", "probe br0", 0, ""),
    ("all", "-t 5 probe br0", 0, ""),
    ("all", "probe nope", 1, "nope is not a bridge or a socket"),
    ("all", "ping br0 8", 0, "8 bytes from br0"),
    ("all", "benchmark br0 64 20", 0, "Finished in"),
    ("0", "ofp-parse FLOWS", 1, "unexpected end of file mid-message"),
    ("0", "show", 1, "requires at least 1 arguments"),
    ("0", "nonsense br0", 1, "unknown command 'nonsense'"),
    ("0", "list-commands", 0, "ct-flush-zone"),
];

/// Commands to a monitor that runs (`ovs-ofctl(8)`, "RUNTIME MANAGEMENT COMMANDS").
const RUNTIME: &[(&str, i32, &str)] = &[
    ("ofctl/barrier", 0, ""),
    ("ofctl/send 0402000800000005", 0, ""),
    ("ofctl/block", 0, ""),
    ("ofctl/unblock", 0, ""),
    ("ofctl/packet-out PACKET", 0, ""),
    ("ofctl/set-output-file OUTPUT", 0, ""),
    ("ofctl/send 0402000800000006", 0, ""),
    ("exit", 0, ""),
];

fn versions(of: &str) -> Vec<u8> {
    if of == "all" { (0..=5).collect() } else { of.bytes().map(|b| b - b'0').collect() }
}

#[test]
fn every_command_of_the_manual() {
    let s = Switch::start();
    s.vsctl(
        "add-br br0 -- set bridge br0 fail_mode=secure -- add-port br0 t1 -- set interface t1 type=tap ofport_request=1 \
         -- add-port br0 t2 -- set interface t2 type=tap ofport_request=2",
    );
    let files = [
        ("FLOWS", "priority=5,tcp,actions=output:2\ntable=3,priority=7,udp,actions=drop\n"),
        (
            "MODS",
            "add priority=6,tcp,actions=output:2\nmodify_strict priority=6,tcp,actions=output:1\ndelete udp\n",
        ),
        (
            "GROUPS",
            "add group_id=11,type=all,bucket=output:2\nadd_or_mod group_id=12,type=select,bucket=weight:3,output:2\n",
        ),
        (
            "BUNDLE",
            "group add group_id=21,type=all,bucket=output:2\nflow add table=4,tcp,actions=group:21\n\
             packet-out in_port=1,packet=ARP,actions=table\n",
        ),
        ("WRONG", "flow add table=5,udp,actions=drop\nflow add table=5,tcp,actions=group:99\n"),
    ];
    for (name, text) in files {
        std::fs::write(s.path(name), text.replace("ARP", ARP)).expect("write a file");
    }
    let packet = format!("in_port=1,packet={ARP},actions=output:2");
    let (mut run, mut failed) = (0, Vec::new());
    for version in 0..=5u8 {
        let lines = SHOW.iter().chain(FLOWS).chain(OTHERS);
        for &(_, line, code, part) in lines.filter(|l| versions(l.0).contains(&version)) {
            let words: Vec<String> = line
                .split(' ')
                .map(|word| match word {
                    "PACKET" => packet.clone(),
                    name if files.iter().any(|f| f.0 == name) => s.path(name).display().to_string(),
                    word => word.to_owned(),
                })
                .collect();
            let command = format!("ovs-ofctl -O OpenFlow1{version} {}", words.join(" "));
            let said = s.run(&command);
            run += 1;
            let out = format!("{}{}", said.out, said.err);
            if said.code != code || !out.contains(part) {
                let start: String = out.chars().take(300).collect();
                failed
                    .push(format!("1.{version}: {line}: expected {code}, {part:?}: {}: {start}", said.code));
            }
        }
    }
    println!("{run} commands");
    assert!(failed.is_empty(), "{} of {run}:\n{}", failed.len(), failed.join("\n"));
    assert!(run > 600, "only {run} commands");
}

#[test]
fn a_monitor_takes_commands() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- add-port br0 t1 -- set interface t1 type=tap");
    let (control, heard) = (s.path("monitor.ctl"), s.path("heard"));
    let file = std::fs::File::create(&heard).expect("create a file");
    let mut monitor = std::process::Command::new("ovs-ofctl")
        .args(["-OOpenFlow13", "monitor", "br0", "65534", "watch:!initial"])
        .arg(format!("--unixctl={}", control.display()))
        .env("OVS_RUNDIR", s.dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(file)
        .spawn()
        .expect("run ovs-ofctl");
    let hears =
        |name: &str, words: &str| std::fs::read_to_string(s.path(name)).is_ok_and(|t| t.contains(words));
    s.wait_for("the monitor listens", || control.exists());
    s.ok("ovs-ofctl add-flow br0 table=7,actions=drop");
    s.wait_for("the monitor is told of a rule", || hears("heard", "event=ADDED table=7"));
    for (command, code, part) in RUNTIME {
        let packet = format!("in_port=1,packet={ARP},actions=output:1");
        let output = s.path("more").display().to_string();
        let command = command.replace("PACKET", &packet).replace("OUTPUT", &output);
        let said = s.run(&format!("ovs-appctl -t {} {command}", control.display()));
        assert!(said.code == *code && said.out.contains(part), "{command}: {said:?}");
    }
    s.wait_for("answers go to the other file", || hears("more", "OFPT_ECHO_REPLY"));
    assert!(monitor.wait().expect("it ends").success());
}

#[test]
fn queues_are_those_of_the_database() {
    let s = Switch::start();
    s.vsctl(
        "add-br br0 -- add-port br0 t1 -- set interface t1 type=tap ofport_request=1 -- add-port br0 t2 \
         -- set interface t2 type=tap ofport_request=2 -- set port t1 qos=@q \
         -- --id=@q create qos type=linux-htb queues:1=@a queues:7=@b -- --id=@a create queue other_config:max-rate=5000000 \
         -- --id=@b create queue other_config:min-rate=2000000",
    );
    let table = [
        ("queue-stats br0", 0, "3 queues"),
        ("queue-stats br0 1 7", 0, "port 1 queue 7: bytes="),
        ("queue-stats br0 ALL 7", 0, "1 queues"),
        ("queue-stats br0 2", 0, "0 queues"),
        ("queue-stats br0 1 9", 0, "OFPQOFC_BAD_QUEUE"),
        ("queue-stats br0 2 7", 0, "OFPQOFC_BAD_QUEUE"),
        ("queue-get-config br0 1", 0, "queue 7:"),
        ("queue-get-config br0", 0, "queue 0:"),
    ];
    for version in 0..=5 {
        for (line, code, part) in table {
            let said = s.run(&format!("ovs-ofctl -O OpenFlow1{version} {line}"));
            let out = format!("{}{}", said.out, said.err);
            assert!(said.code == code && out.contains(part), "1.{version}: {line}: {}: {out}", said.code);
        }
    }
    s.vsctl("clear port t1 qos");
    s.wait_for("no queues", || s.ok("ovs-ofctl queue-stats br0").contains("0 queues"));
}
