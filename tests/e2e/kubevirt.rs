//! A VM inside a pod, behind a bridge and a TAP, as KubeVirt wires it: the example's file holds what must come true.

use std::path::PathBuf;

use weft_lab::LabSpec;

use crate::world::up_spec;

#[test]
fn vms_in_pods() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/kubevirt.yaml");
    let lab = up_spec(&LabSpec::read(&file).expect("it reads").unique());
    // The wiring inside a pod is its owner's, and needs no agent.
    assert!(lab.kill("node", "agent").expect("it can be killed"));
    let answer = lab.workload("node", "vm-bridged").exec(["ping", "-c1", "-W5", "10.60.0.1"]).ok();
    assert!(answer.contains("1 received"), "{answer}");
}

/// The same with machines that run.
#[test]
fn vms_that_run_in_pods() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/kubevirt-vms.yaml");
    let mut spec = LabSpec::read(&file).expect("it reads").unique();
    // The kernel that scripts/guest fetched, if none is installed.
    let guest =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory").join("guest");
    if guest.join("boot").exists() {
        for host in &mut spec.hosts {
            host.env.insert("WEFT_GUEST".into(), guest.display().to_string());
        }
    }
    let lab = up_spec(&spec);
    assert!(lab.kill("node", "agent").expect("it can be killed"));
    let asked = "10.60.0.11/cgi-bin/ping?10.60.0.13";
    let answer = lab.workload("node", "plain").exec(["curl", "-s", "-m", "20", asked]).ok();
    assert!(answer.contains("1 packets received"), "{answer}");
}
