//! Which connection does a packet belong to, and what may it therefore do?
//!
//! Pure: no I/O, no clock, no unsafe.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]
