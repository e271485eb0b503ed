//! Can two clients, saying anything, make the OVSDB server panic or its log differ from its memory?
#![no_main]

#[path = "../../crates/ovsdb/tests/hostile/mod.rs"]
#[allow(dead_code)]
mod hostile;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| hostile::session(data));
