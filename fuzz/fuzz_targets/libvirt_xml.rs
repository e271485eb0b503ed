//! Does any text make the reader of libvirt's XML panic, or does anything that it takes not come back?
#![no_main]

#[path = "../../crates/libvirt/tests/touch/mod.rs"]
mod touch;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    touch::document(data);
});
