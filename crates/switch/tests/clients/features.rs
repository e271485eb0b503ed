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
        assert!(of("dump-group-stats br0").contains("group_id=7"), "{version}");
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
