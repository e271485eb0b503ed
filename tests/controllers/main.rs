//! Do real controllers work with it? os-ken's sample applications, faucet, and OVN.

mod faucet;
#[path = "../support/hosts.rs"]
mod hosts;
mod osken;
mod python;
#[path = "../support/mod.rs"]
mod support;
