//! One declared network on two hosts: the example's file holds what must come true.

use std::path::PathBuf;

use weft_lab::LabSpec;

use crate::world::up_spec;

#[test]
fn a_network_of_two_hosts() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/declared-two-hosts.yaml");
    let lab = up_spec(&LabSpec::read(&file).expect("it reads").unique());
    // Who is behind the tunnel is reached without the agents.
    for host in ["a", "b"] {
        assert!(lab.kill(host, "agent").expect("it can be killed"));
    }
    let answer = lab.workload("a", "web").exec(["ping", "-c1", "-W5", "10.1.0.110"]).ok();
    assert!(answer.contains("1 received"), "{answer}");
}
