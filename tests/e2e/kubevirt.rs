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
