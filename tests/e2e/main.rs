//! What users do, on virtual hosts, with real peers: Debian's Open vSwitch tools and switch, the kernel's own devices.
//!
//! Each file is a promise of the product; `world` builds the labs.

mod bytes;
mod crash;
mod datagrams;
mod declared;
mod hostile;
mod kubevirt;
mod mesh;
mod peers;
mod seed;
mod wire;
mod world;
