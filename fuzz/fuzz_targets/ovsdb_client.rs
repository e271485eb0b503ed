//! Can a server, saying anything, make the OVSDB client panic?
#![no_main]

#[path = "../../crates/ovsdb/tests/hostile/mod.rs"]
#[allow(dead_code)]
mod hostile;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| hostile::client(data));
