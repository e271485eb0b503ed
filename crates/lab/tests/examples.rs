//! The examples' files. Those that need no `weft` are brought up. Needs root and Debian's openvswitch-switch.

use std::path::PathBuf;
use std::time::Duration;

use weft_lab::{Lab, LabSpec};

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

#[test]
fn every_example_reads() {
    let files = std::fs::read_dir(example("")).unwrap().flatten().map(|e| e.path());
    let labs: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect();
    assert!(labs.len() >= 2, "{labs:?}");
    for file in labs {
        let spec = LabSpec::read(&file).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(file.file_stem().unwrap(), spec.name.as_str(), "the lab is called as its file");
    }
}

#[test]
fn two_hosts_on_open_vswitch_reach_each_other() {
    let lab = Lab::up(&LabSpec::read(&example("two-hosts-ovs.yaml")).unwrap().unique()).unwrap();
    let answer = lab.workload("b", "vm0").ping("10.0.0.1".parse().unwrap(), Duration::from_secs(30)).unwrap();
    assert!(answer.is_some(), "{:?}", lab.status());
    assert!(lab.host("a").exec(["ovs-vsctl", "show"]).ok().contains("vxlan0"));
    // Each host's database is its own.
    let count = lab.host("b").exec(["ovs-vsctl", "get", "interface", "vxlan0", "options:remote_ip"]).ok();
    assert_eq!(count, "\"192.168.1.10\"");
    assert!(lab.kill("a", "ovs-vswitchd").unwrap());
    assert_eq!(lab.status().state, "damaged");
}
