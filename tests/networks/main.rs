//! Do networks that are declared carry traffic, and only the traffic they should? On Weft and on Open vSwitch.

mod agent;
mod command;
mod dhcp;
mod dhcp_load;
mod dns;
mod field;
mod healing;
#[path = "../support/hosts.rs"]
mod hosts;
mod libvirt_xml;
mod modes;
mod plugs;
mod south;
#[path = "../support/mod.rs"]
mod support;
mod typing;
