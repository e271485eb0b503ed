//! Do virtual machines that nobody here wrote talk through the switch? QEMU's, on TAPs and on vhost-user sockets.

mod dual;
#[path = "../networks/field.rs"]
mod field;
#[path = "../support/hosts.rs"]
mod hosts;
mod kubevirt;
mod libvirtd;
mod machine;
mod networks;
#[path = "../support/mod.rs"]
mod support;
mod taps;
mod vhost;
