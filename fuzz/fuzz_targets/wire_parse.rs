//! Does any input make a parser of `weft-wire` panic, or break a law of round trips?
#![no_main]

#[path = "../../crates/wire/tests/touch/mod.rs"]
mod touch;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| touch::everything(data));
