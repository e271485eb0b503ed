//! Does any frame or datagram make the DHCP and router advertisement responders panic, or break
//! a law of leases?
#![no_main]

#[path = "../../crates/services/tests/touch/mod.rs"]
mod touch;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| touch::dhcp(data));
