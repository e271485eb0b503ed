//! Do networks that are declared carry traffic, and only the traffic they should? On Weft and on Open vSwitch.

/// A test of each of the two switches.
macro_rules! on_both {
    ($check:ident) => {
        #[test]
        fn on_weft() {
            $check($crate::support::Kind::Weft);
        }

        #[test]
        fn on_open_vswitch() {
            $check($crate::support::Kind::Ovs);
        }
    };
}

mod addresses;
mod agent;
mod bandwidth;
mod beyond;
mod command;
mod contests;
mod dhcp;
mod dhcp_load;
mod dhcp_six;
mod dns;
mod field;
mod firewalls;
mod healing;
#[path = "../support/hosts.rs"]
mod hosts;
mod joined;
mod libvirt_xml;
mod modes;
mod overlays;
mod pings;
mod plugs;
mod south;
#[path = "../support/mod.rs"]
mod support;
mod typing;
mod vlans;
