//! When is a log worth rewriting?

/// Counts what was appended since the last snapshot and says when to write a new one.
///
/// A log is rewritten when it has grown to four times its snapshot and past a floor, and
/// when enough time has passed since the last attempt, so that a failing disk is not
/// hammered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    snapshot_len: u64,
    len: u64,
    attempted_ms: u64,
}

impl Compaction {
    /// Smallest log worth rewriting, in bytes.
    pub const FLOOR: u64 = 4 << 20;
    /// Growth over the snapshot at which it is rewritten.
    pub const FACTOR: u64 = 4;
    /// Time between attempts, in milliseconds.
    pub const INTERVAL_MS: u64 = 60_000;

    /// For a file just opened (`len` as on disk; how much of it a snapshot would take is
    /// not known) or just rewritten.
    pub fn new(snapshot_len: u64, len: u64, now_ms: u64) -> Self {
        Self { snapshot_len, len, attempted_ms: now_ms }
    }

    /// Notes `bytes` appended.
    pub fn appended(&mut self, bytes: usize) {
        self.len = self.len.saturating_add(bytes as u64);
    }

    /// Notes an attempt, which may fail.
    pub fn attempted(&mut self, now_ms: u64) {
        self.attempted_ms = now_ms;
    }

    /// True when the log should be rewritten now.
    pub fn due(&self, now_ms: u64) -> bool {
        let grown = self.snapshot_len.saturating_mul(Self::FACTOR).max(Self::FLOOR);
        self.len > grown && now_ms.saturating_sub(self.attempted_ms) >= Self::INTERVAL_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_what_has_grown_and_not_too_often() {
        let mut log = Compaction::new(1000, 1000, 0);
        log.appended(2 << 20);
        assert!(!log.due(Compaction::INTERVAL_MS));
        log.appended(2 << 20);
        assert!(!log.due(Compaction::INTERVAL_MS - 1));
        assert!(log.due(Compaction::INTERVAL_MS));
        log.attempted(Compaction::INTERVAL_MS);
        assert!(!log.due(Compaction::INTERVAL_MS + 1));
        assert!(!Compaction::new(4 << 20, 16 << 20, 0).due(u64::MAX));
    }
}
