//! Do real controllers work with it? os-ken's sample applications, faucet, and OVN.
//!
//! `WEFT_CONTROLLERS_SWITCH=ovs` runs the same on Debian's Open vSwitch, to see whether the tests ask the right thing.

mod faucet;
mod hosts;
mod osken;
mod python;
#[path = "../support/mod.rs"]
mod support;
