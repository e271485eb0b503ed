//! Does real traffic cross? Datapaths in network namespaces, with kernels at both ends.
//!
//! Needs root. Namespaces are unnamed and go when the test ends, however it ends.

mod device;
mod hostile;
mod native;
mod rig;
mod tunnel;
mod vlan;
