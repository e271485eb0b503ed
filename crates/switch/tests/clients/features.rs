//! Do groups, meters, tunnel options, paused packets and connection tracking work, as `ovs-ofctl` asks for them?

use crate::harness::Switch;

#[test]
fn groups_and_meters() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- add-port br0 t0 -- set interface t0 type=tap");
    for version in ["OpenFlow11", "OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        let of = |args: &str| s.ok(&format!("ovs-ofctl -O {version} {args}"));
        of("add-group br0 'group_id=7,type=select,bucket=weight:3,output:1,bucket=weight:1,output:LOCAL'");
        of("add-flow br0 table=3,ip,actions=group:7");
        let groups = of("dump-groups br0");
        assert!(groups.contains("group_id=7,type=select"), "{version}: {groups}");
        let stats = of("dump-group-stats br0");
        assert!(stats.contains("group_id=7") && stats.contains("ref_count=1"), "{version}: {stats}");
        assert!(of("dump-group-features br0").contains("max_groups"), "{version}");
        let said = s.run(&format!("ovs-ofctl -O {version} add-group br0 group_id=7,type=all"));
        assert!(said.err.contains("OFPGMFC_GROUP_EXISTS"), "{version} {said:?}");
        let said = s.run(&format!("ovs-ofctl -O {version} add-group br0 group_id=8,type=all,bucket=group:8"));
        assert!(said.err.contains("OFPGMFC_LOOP"), "{version} {said:?}");
        // Rules go with their group.
        of("del-groups br0 group_id=7");
        assert!(!of("dump-flows br0").contains("group:7"), "{version}");
        if version != "OpenFlow11" {
            of("add-meter br0 meter=5,kbps,burst,stats,band=type=drop,rate=1000,burst_size=500");
            assert!(of("dump-meters br0").contains("meter=5 kbps burst stats"), "{version}");
            assert!(of("meter-stats br0").contains("meter:5"), "{version}");
            assert!(of("meter-features br0").contains("max_meter"), "{version}");
            let said =
                s.run(&format!("ovs-ofctl -O {version} add-meter br0 meter=5,pktps,band=type=drop,rate=1"));
            assert!(said.err.contains("OFPMMFC_METER_EXISTS"), "{version} {said:?}");
            of("add-flow br0 table=4,ip,actions=meter:5,normal");
            assert!(of("meter-stats br0").contains("meter:5 flow_count:1"), "{version}");
            of("del-meters br0");
            assert!(!of("dump-flows br0").contains("meter:5"), "{version}");
        }
    }
}

#[test]
fn tunnel_options_are_fields() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    s.ok("ovs-ofctl add-tlv-map br0 {class=0x102,type=0x80,len=4}->tun_metadata0");
    assert!(s.ok("ovs-ofctl dump-tlv-map br0").contains("tun_metadata0"));
    let said = s.run("ovs-ofctl add-tlv-map br0 {class=0x102,type=0x80,len=4}->tun_metadata1");
    assert!(said.err.contains("NXTTMFC_DUP_ENTRY"), "{said:?}");
    s.ok("ovs-ofctl add-flow br0 tun_metadata0=0x1234,actions=drop");
    assert!(s.ok("ovs-ofctl dump-flows br0").contains("tun_metadata0=0x1234"));
    assert!(s.ok("ovs-ofctl dump-aggregate br0 tun_metadata0=0x1234").contains("flow_count=1"));
    s.ok("ovs-ofctl del-flows br0 tun_metadata0=0x1234");
    assert!(!s.ok("ovs-ofctl dump-flows br0").contains("tun_metadata0"));
    // Of zero no byte is sent: without a mask, with one, and in an action.
    s.ok("ovs-ofctl add-flow br0 tun_metadata0=0,actions=drop");
    s.ok("ovs-ofctl add-flow br0 tun_metadata0=0/0xff00,actions=set_field:0->tun_metadata0");
    let flows = s.ok("ovs-ofctl dump-flows br0");
    assert!(flows.contains("tun_metadata0=0 actions=drop"), "{flows}");
    assert!(flows.contains("tun_metadata0=0/0xff00 actions=set_field:0->tun_metadata0"), "{flows}");
    s.ok("ovs-ofctl add-flow br0 cookie=0x77,tun_metadata0=0x5600,actions=drop");
    let traced = s.ok("ovs-appctl ofproto/trace br0 in_port=LOCAL,tun_metadata0=0x5600");
    assert!(traced.contains("cookie 0x77"), "{traced}");
    s.ok("ovs-ofctl del-flows br0 tun_metadata0=0");
    s.ok("ovs-ofctl del-flows br0");
    s.ok("ovs-ofctl del-tlv-map br0");
    assert!(!s.ok("ovs-ofctl dump-tlv-map br0").contains("tun_metadata0"));
}

#[test]
fn paused_packets_go_on() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let (a, _b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl("add-port br0 a -- add-port br0 b");
    s.ok("ovs-ofctl add-flow br0 priority=9,icmp,icmp_type=8,actions=controller(pause),resubmit(,5)");
    s.ok("ovs-ofctl add-flow br0 table=5,actions=normal");
    assert!(s.silent(&a, "10.1.0.2"));
    let mut monitor = std::process::Command::new("ovs-ofctl")
        .args(["monitor", "br0", "resume"])
        .env("OVS_RUNDIR", s.dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("run ovs-ofctl");
    assert!(s.pings(&a, "10.1.0.2"));
    monitor.kill().expect("end the monitor");
    monitor.wait().expect("end the monitor");
}

#[test]
fn flows_are_saved_and_restored_by_script() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    s.ok("ovs-ofctl -OOpenFlow14 add-group br0 group_id=7,type=all,bucket=output:LOCAL");
    s.ok("ovs-ofctl -OOpenFlow14 add-flow br0 table=3,ip,actions=group:7");
    s.ok("ovs-ofctl add-tlv-map br0 {class=0x102,type=0x80,len=4}->tun_metadata0");
    let script = s.ok("/usr/share/openvswitch/scripts/ovs-save save-flows br0");
    let file = s.path("restore");
    std::fs::write(&file, script).expect("write the script");
    s.ok("ovs-ofctl del-flows br0");
    s.ok("ovs-ofctl -OOpenFlow14 del-groups br0");
    s.ok("ovs-ofctl del-tlv-map br0");
    s.ok(&format!("sh -e {}", file.display()));
    assert!(s.ok("ovs-ofctl -OOpenFlow14 dump-flows br0").contains("actions=group:7"));
    assert!(s.ok("ovs-ofctl -OOpenFlow14 dump-groups br0").contains("group_id=7"));
    assert!(s.ok("ovs-ofctl dump-tlv-map br0").contains("tun_metadata0"));
}

#[test]
fn connections_are_tracked_listed_limited_and_flushed() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let (a, _b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl("add-port br0 a -- add-port br0 b");
    s.ok("ovs-ofctl add-flow br0 priority=9,ct_state=-trk,ip,actions=ct(table=1,zone=5)");
    s.ok("ovs-ofctl add-flow br0 'table=1,ct_state=+trk+new,in_port=a,ip,actions=ct(commit,zone=5,exec(set_field:7->ct_mark)),normal'");
    s.ok("ovs-ofctl add-flow br0 table=1,ct_state=+trk+est,ip,actions=normal");
    assert!(s.pings(&a, "10.1.0.2"));
    let dump = s.ok("ovs-appctl dpctl/dump-conntrack");
    assert!(dump.contains("icmp,orig=(src=10.1.0.1,dst=10.1.0.2,"), "{dump}");
    assert!(dump.contains("zone=5") && dump.contains("mark=7"), "{dump}");
    assert_eq!(s.ok("ovs-appctl dpctl/dump-conntrack zone=6"), "");
    assert!(s.ok("ovs-appctl dpctl/ct-stats-show").contains("ICMP: "));
    s.ok("ovs-appctl dpctl/flush-conntrack zone=5");
    assert_eq!(s.ok("ovs-appctl dpctl/ct-get-nconns"), "0");
    s.ok("ovs-appctl dpctl/ct-set-limits default=10 zone=5,limit=2");
    assert_eq!(s.ok("ovs-appctl dpctl/ct-get-limits"), "default limit=10\nzone=5,limit=2,count=0");
    s.ok("ovs-appctl dpctl/ct-del-limits zone=5");
    assert_eq!(s.ok("ovs-appctl dpctl/ct-get-limits"), "default limit=10");
    s.ok("ovs-appctl dpctl/ct-set-maxconns 1000");
    assert_eq!(s.ok("ovs-appctl dpctl/ct-get-maxconns"), "1000");
    // Timeouts of a zone come from the database, capabilities go to it.
    s.vsctl("-- --id=@dp create datapath datapath_version=0 -- set open . datapaths:netdev=@dp");
    s.vsctl("add-zone-tp netdev zone=5 icmp_first=1 icmp_reply=1");
    s.wait_for("capabilities are told", || s.vsctl("list-dp-cap netdev").contains("recirc=true"));
    assert!(s.pings(&a, "10.1.0.2"));
    s.wait_for("connections end by the zone's timeouts", || {
        s.ok("ovs-appctl dpctl/dump-conntrack").is_empty()
    });
    let flows = s.ok("ovs-appctl dpctl/dump-flows filter=icmp");
    assert!(flows.is_empty() || flows.lines().all(|l| l.contains("0x0800")), "{flows}");
}

#[test]
fn packets_wait_until_flows_are_restored() {
    let mut s = Switch::start();
    s.vsctl("add-br br0");
    let (a, _b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl("add-port br0 a -- add-port br0 b");
    assert!(s.pings(&a, "10.1.0.2"));
    s.vsctl("set open . other_config:flow-restore-wait=true -- set-controller br0 ptcp:16653:127.0.0.1");
    s.kill();
    s.spawn();
    s.wait_for("the bridge is there", || s.run("ovs-ofctl dump-flows br0").code == 0);
    assert!(!s.ok("ovs-ofctl dump-flows br0").contains("NORMAL"));
    s.ok("ovs-ofctl add-flow br0 cookie=0x77,actions=normal");
    assert!(s.silent(&a, "10.1.0.2"));
    assert_ne!(s.run("ovs-ofctl show tcp:127.0.0.1:16653").code, 0);
    s.vsctl("remove open . other_config flow-restore-wait");
    assert!(s.pings(&a, "10.1.0.2"));
    assert!(s.ok("ovs-ofctl dump-flows br0").contains("cookie=0x77"));
    s.ok("ovs-ofctl show tcp:127.0.0.1:16653");
}

#[test]
fn monitors_hear_what_becomes_of_rules() {
    for version in ["OpenFlow10", "OpenFlow13", "OpenFlow14"] {
        let s = Switch::start();
        s.vsctl("add-br br0");
        s.ok("ovs-ofctl add-flow br0 cookie=0x11,table=3,ip,actions=drop");
        let heard = s.path("monitor");
        let file = std::fs::File::create(&heard).expect("create a file");
        let mut monitor = std::process::Command::new("ovs-ofctl")
            .args(["-O", version, "monitor", "br0", "watch:"])
            .env("OVS_RUNDIR", s.dir.path())
            .stdout(file.try_clone().expect("share a file"))
            .stderr(file)
            .spawn()
            .expect("run ovs-ofctl");
        let text = || std::fs::read_to_string(&heard).unwrap_or_default();
        s.wait_for(&format!("{version}: the rules that are there"), || text().contains("cookie=0x11"));
        s.ok("ovs-ofctl add-flow br0 cookie=0x22,table=3,arp,hard_timeout=1,actions=learn(table=4,cookie=0x33,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])");
        s.wait_for(&format!("{version}: an addition {}", text()), || text().contains("cookie=0x22"));
        let frame = "ffffffffffff02000000000a0806000108000604000102000000000a0a0100630000000000000a010002";
        s.ok(&format!("ovs-ofctl packet-out br0 'in_port=LOCAL,packet={frame},actions=resubmit(,3)'"));
        s.wait_for(&format!("{version}: a learned rule"), || text().contains("event=ADDED table=4"));
        s.wait_for(&format!("{version}: a rule that times out"), || text().contains("reason=hard"));
        s.ok("ovs-ofctl mod-flows br0 table=3,ip,actions=normal");
        s.wait_for(&format!("{version}: a change"), || text().contains("event=MODIFIED"));
        s.ok("ovs-ofctl del-flows br0 table=3");
        s.wait_for(&format!("{version}: a deletion"), || text().contains("event=DELETED reason=delete"));
        monitor.kill().expect("end the monitor");
        monitor.wait().expect("end the monitor");
    }
}

/// Actions of OpenFlow 1.0 with Nicira's, on packets that may lack what they change.
const ACTIONS10: &[&str] = &[
    "mod_vlan_vid:5,output:2",
    "mod_vlan_pcp:3,output:2",
    "strip_vlan,output:2",
    "mod_dl_src:02:00:00:00:00:01,mod_dl_dst:02:00:00:00:00:02,output:2",
    "mod_nw_src:10.0.0.1,mod_nw_dst:10.0.0.2,output:2",
    "mod_nw_tos:32,output:2",
    "mod_tp_src:80,mod_tp_dst:443,output:2",
    "enqueue:1:3,enqueue:LOCAL:4",
    "dec_ttl,output:2",
    "dec_ttl(1,2),output:2",
    "set_queue:7,output:2,pop_queue",
    "clone(mod_vlan_vid:6,enqueue:2:1),mod_tp_dst:8,output:2",
    "load:5->NXM_NX_REG0[],move:NXM_NX_REG0[0..7]->NXM_NX_REG1[8..15],push:NXM_NX_REG1[],pop:NXM_NX_REG2[]",
    "set_tunnel:5,set_tunnel64:0x500000000,output:NXM_NX_REG0[0..15]",
    "push_mpls:0x8847,set_mpls_label:5,set_mpls_tc:2,set_mpls_ttl:3,dec_mpls_ttl,pop_mpls:0x0800,output:2",
    "load:0x1005->NXM_OF_VLAN_TCI[],output:2",
    "controller(max_len=123,id=4),in_port,all,flood,normal,local",
    "note:01.02.03.04.05.06,resubmit(3,4),exit,fin_timeout(idle_timeout=3,hard_timeout=4)",
    "multipath(eth_src,50,modulo_n,8,0,NXM_NX_REG0[0..15])",
    "output(port=2,max_len=100),bundle(eth_src,0,hrw,ofport,members:1,2),learn(table=30,load:3->NXM_NX_REG1[],output:NXM_OF_IN_PORT[])",
    "write_metadata:5/7",
    "resubmit(,21),goto_table:23",
    "drop",
];

/// Matches as OpenFlow 1.0 has them.
const MATCHES10: &[&str] = &[
    "dl_vlan=5,dl_vlan_pcp=3",
    "dl_vlan=0xffff",
    "vlan_tci=0x1000/0x1000",
    "icmp,icmp_type=8,icmp_code=0,nw_src=10.0.0.0/8,nw_tos=32",
    "tcp,tp_src=80,dl_vlan=7,nw_dst=10.0.0.1",
    "arp,arp_spa=10.0.0.1,arp_op=1,arp_sha=02:00:00:00:00:01",
    "dl_type=0x88cc,dl_src=02:00:00:00:00:01/ff:00:00:00:00:00",
    "ip,nw_proto=6,ip_frag=later",
    "in_port=LOCAL,reg0=1/3,metadata=5,tun_id=7",
];

#[test]
fn flows_outlive_the_process_when_asked() {
    let mut s = Switch::start();
    s.vsctl("add-br br0 -- set bridge br0 other_config:weft-persist-flows=true");
    let (a, _b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl("add-port br0 a -- add-port br0 b");
    s.ok("ovs-ofctl -OOpenFlow15 del-flows br0");
    s.ok("ovs-ofctl -OOpenFlow15 add-meter br0 meter=5,kbps,burst,stats,band=type=drop,rate=100000,burst_size=50000");
    s.ok("ovs-ofctl -OOpenFlow15 add-group br0 'group_id=7,type=select,selection_method=hash,fields(ip_src),bucket=bucket_id:1,weight:1,actions=resubmit(,9)'");
    s.ok("ovs-ofctl add-tlv-map br0 {class=0x102,type=0x80,len=4}->tun_metadata0");
    s.ok("ovs-ofctl -OOpenFlow15 add-flow br0 cookie=0x77,importance=3,ip,actions=meter:5,group:7");
    s.ok("ovs-ofctl -OOpenFlow15 add-flow br0 arp,actions=resubmit(,9)");
    s.ok("ovs-ofctl add-flow br0 table=9,actions=learn(table=10,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]),normal");
    s.ok("ovs-ofctl add-flow br0 table=11,actions=drop");
    s.ok("ovs-ofctl del-flows br0 table=11");
    assert!(s.pings(&a, "10.1.0.2"));
    // What OpenFlow 1.0 may say and later versions may not, or say in another way.
    for (n, actions) in ACTIONS10.iter().enumerate() {
        s.ok(&format!("ovs-ofctl -OOpenFlow10 add-flow br0 'table=20,priority={n},cookie=0x{n:x},idle_timeout=900,send_flow_rem,in_port=1,actions={actions}'"));
    }
    for (n, matching) in MATCHES10.iter().enumerate() {
        s.ok(&format!("ovs-ofctl -OOpenFlow10 add-flow br0 'table=21,priority={n},{matching},actions=drop'"));
    }
    s.ok("ovs-ofctl -OOpenFlow10 add-flow br0 'table=23,tcp,actions=ct(commit,zone=7,exec(load:1->NXM_NX_CT_MARK[]),nat(src=10.1.1.1-10.1.1.9:5-9)),mod_nw_ecn:1,mod_nw_ttl:9,load:7->NXM_OF_TCP_DST[]'");
    s.ok("ovs-ofctl -OOpenFlow13 add-flow br0 'table=22,actions=meter:5,load:1->NXM_NX_REG0[3..5],write_actions(group:7,pop_vlan),write_metadata:1/3,goto_table:23'");
    // A deletion finds again what it deleted.
    s.ok("ovs-ofctl -OOpenFlow10 add-flow br0 table=24,dl_vlan=0xffff,actions=drop");
    s.ok("ovs-ofctl -OOpenFlow10 --strict del-flows br0 table=24,dl_vlan=0xffff");
    let rules = |s: &Switch| {
        let mut lines = Vec::new();
        for version in ["OpenFlow10", "OpenFlow13", "OpenFlow15"] {
            let said = s.ok(&format!("ovs-ofctl -O{version} --no-stats dump-flows br0"));
            let rules =
                said.lines().filter(|l| l.contains("actions=")).map(|l| format!("{version} {}", l.trim()));
            lines.extend(rules);
        }
        lines.sort();
        lines
    };
    // Nor do versions say the same of what buckets do.
    s.ok("ovs-ofctl -OOpenFlow11 add-group br0 'group_id=8,type=all,bucket=actions=mod_vlan_vid:5,mod_nw_tos:32,output:1,bucket=actions=load:1->NXM_NX_REG0[3..5],output:2'");
    let groups = |s: &Switch| {
        ["OpenFlow11", "OpenFlow13", "OpenFlow15"]
            .map(|v| s.ok(&format!("ovs-ofctl -O{v} dump-groups br0 8")))
    };
    let groups_before = groups(&s);
    let before = rules(&s);
    assert!(before.iter().any(|l| l.contains("table=10")), "{before:?}");
    s.kill();
    s.spawn();
    s.wait_for("the bridge is there", || s.run("ovs-ofctl dump-flows br0").code == 0);
    assert_eq!(rules(&s), before);
    assert_eq!(groups(&s), groups_before);
    assert!(s.ok("ovs-ofctl -OOpenFlow15 dump-groups br0").contains("selection_method=hash"));
    assert!(s.ok("ovs-ofctl -OOpenFlow15 dump-meters br0").contains("burst_size=50000"));
    assert!(s.ok("ovs-ofctl dump-tlv-map br0").contains("tun_metadata0"));
    assert!(s.pings(&a, "10.1.0.2"));
    // Without the wish nothing is kept.
    s.vsctl("remove bridge br0 other_config weft-persist-flows");
    s.wait_for("the journal is gone", || !s.path("weft-flows-br0.journal").exists());
    s.kill();
    s.spawn();
    s.wait_for("the bridge is there", || s.run("ovs-ofctl dump-flows br0").code == 0);
    assert!(s.ok("ovs-ofctl dump-flows br0").contains("actions=NORMAL"));
}

/// Rules beyond which a journal is written anew by a thread, some megabytes.
const MANY: u32 = 30_000;

#[test]
fn killed_while_the_journal_is_written_anew() {
    let mut s = Switch::start();
    s.vsctl("add-br br0 -- set bridge br0 fail_mode=secure other_config:weft-persist-flows=true");
    let rules: String = (0..MANY)
        .map(|i| format!("table=1,ip,nw_dst=10.{}.{}.{},actions=drop\n", i >> 16, i >> 8 & 255, i & 255))
        .collect();
    std::fs::write(s.path("rules"), rules).expect("write the rules");
    s.ok(&format!("ovs-ofctl add-flows br0 {}", s.path("rules").display()));
    let marked = |s: &Switch| s.ok("ovs-ofctl --no-stats dump-flows br0 table=2");
    let mut rewritten = false;
    for round in 0..6u32 {
        // Everything is said again until the journal is several times as long as what it says.
        for _ in 0..3 {
            s.ok(&format!("ovs-ofctl add-flows br0 {}", s.path("rules").display()));
            s.ok(&format!("ovs-ofctl add-flow br0 table=2,priority={},actions=drop", round + 1));
            let names = std::fs::read_dir(s.dir.path()).expect("the directory");
            rewritten |= names.flatten().any(|e| e.file_name().to_string_lossy().contains(".new"));
        }
        let before = marked(&s);
        std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * 7));
        s.kill();
        s.spawn();
        s.wait_for("the bridge is there", || s.run("ovs-ofctl dump-flows br0 table=2").code == 0);
        assert_eq!(marked(&s), before, "round {round}");
        assert!(s.ok("ovs-ofctl dump-aggregate br0 table=1").contains(&format!("flow_count={MANY}")));
    }
    let short = || std::fs::metadata(s.path("weft-flows-br0.journal")).is_ok_and(|m| m.len() < 64 << 20);
    s.wait_for("the journal is short", short);
    println!("seen while it was written anew: {rewritten}");
}
