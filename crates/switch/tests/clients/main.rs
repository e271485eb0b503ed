//! Do Debian's own clients work against the switch? Each test runs a switch of its own in a network namespace of its
//! own and drives it with `ovs-vsctl`, `ovs-appctl`, `ovs-ofctl`, `ovsdb-client` and `ovsdb-tool`.

mod appctl;
mod commands;
mod crash;
mod devices;
mod explain;
mod features;
mod harness;
mod hostile;
mod hostile_many;
mod notices;
mod ofctl;
mod ofctl_manual;
mod remotes;
mod tunnels;
mod vsctl;

/// Not a test: the process that [`harness::Switch`] starts runs this one function, and is the switch.
#[test]
fn the_switch_itself() {
    harness::be_the_switch_if_asked();
}
