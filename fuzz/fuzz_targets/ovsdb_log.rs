//! Does any file make the OVSDB log reader panic, or a snapshot that does not load?
#![no_main]

#[path = "../../crates/ovsdb/tests/hostile/mod.rs"]
#[allow(dead_code)]
mod hostile;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| hostile::file(data));
