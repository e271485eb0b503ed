//! What time is it, on the clock that the whole switch shares with its datapath?

use nix::time::{ClockId, clock_gettime};

/// Milliseconds of the monotonic clock, coarse, as the datapath reads it.
pub(crate) fn now_ms() -> u64 {
    match clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE) {
        Ok(time) => time.tv_sec() as u64 * 1000 + time.tv_nsec() as u64 / 1_000_000,
        // The clock is there on every Linux that has network namespaces.
        Err(_) => 0,
    }
}
