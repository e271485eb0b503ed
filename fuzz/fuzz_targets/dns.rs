//! Does any query, response or stream make the name server panic, or answer what it must not?
#![no_main]

#[path = "../../crates/services/tests/touch/mod.rs"]
mod touch;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| touch::dns(data));
