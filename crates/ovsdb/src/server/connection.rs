//! What does the server remember of one client?

use indexmap::IndexMap;
use serde_json::Value;

use super::blocked::Blocked;
use crate::monitor::Monitor;
use crate::rpc::{Decoder, FrameLimits};
use crate::txn::Access;

/// A client, for the life of its connection. Never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// How a client is to be treated.
#[derive(Debug, Clone, Copy)]
pub struct ConnOptions {
    /// May it write?
    pub access: Access,
    /// Probe the client after this many silent milliseconds, drop it after twice as many.
    /// `None` for clients whose death the kernel tells (unix sockets).
    pub probe_ms: Option<u64>,
}

impl Default for ConnOptions {
    fn default() -> Self {
        Self { access: Access::ReadWrite, probe_ms: None }
    }
}

/// What clients together and each may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Size of one message.
    pub frame: FrameLimits,
    /// Bytes a client may leave unread; one message more and it is dropped.
    pub backlog: usize,
    /// Transactions of one client that may wait at a time.
    pub blocked: usize,
    /// Monitors of one client.
    pub monitors: usize,
    /// Bytes that the waiting transactions and monitors of one client may take, roughly.
    pub kept: usize,
    /// Locks one client may hold or wait for.
    pub locks: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            frame: FrameLimits::default(),
            backlog: 32 << 20,
            blocked: 100,
            monitors: 1000,
            kept: 8 << 20,
            locks: 1000,
        }
    }
}

/// One monitor and where it looks.
#[derive(Debug)]
pub(super) struct MonitorEntry {
    /// The client's name for it, any JSON value.
    pub(super) id: Value,
    /// Name of the database.
    pub(super) db: String,
    pub(super) monitor: Monitor,
    /// About how many bytes it takes.
    pub(super) size: usize,
}

/// What a probe's time has come to.
pub(super) enum Probe {
    Quiet,
    Ask,
    Dead,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) options: ConnOptions,
    pub(super) decoder: Decoder,
    /// Bytes given to the rim that have not left.
    pub(super) backlog: usize,
    /// By the canonical text of the client's id.
    pub(super) monitors: IndexMap<String, MonitorEntry>,
    pub(super) blocked: Vec<Blocked>,
    /// Stays connected when a database changes under it (ovsdb-server(7) §4.1.18).
    pub(super) change_aware: bool,
    heard_ms: u64,
    probed_ms: Option<u64>,
}

impl Connection {
    pub(super) fn new(options: ConnOptions, frame: FrameLimits, now_ms: u64) -> Self {
        Self {
            options,
            decoder: Decoder::new(frame),
            backlog: 0,
            monitors: IndexMap::new(),
            blocked: Vec::new(),
            change_aware: false,
            heard_ms: now_ms,
            probed_ms: None,
        }
    }

    /// Notes a sign of life.
    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.probed_ms = None;
    }

    pub(super) fn probe(&mut self, now_ms: u64) -> Probe {
        let Some(interval) = self.options.probe_ms else {
            return Probe::Quiet;
        };
        match self.probed_ms {
            Some(asked) if now_ms.saturating_sub(asked) >= interval => Probe::Dead,
            None if now_ms.saturating_sub(self.heard_ms) >= interval => {
                self.probed_ms = Some(now_ms);
                Probe::Ask
            }
            _ => Probe::Quiet,
        }
    }

    /// True when the client may keep `more` bytes.
    pub(super) fn has_room(&self, more: usize, limit: usize) -> bool {
        let blocked: usize = self.blocked.iter().map(|b| b.size).sum();
        let monitors: usize = self.monitors.values().map(|m| m.size).sum();
        blocked.saturating_add(monitors).saturating_add(more) <= limit
    }

    /// When a wait runs out or a probe is due.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        let since = self.probed_ms.unwrap_or(self.heard_ms);
        let probe = self.options.probe_ms.map(|p| since.saturating_add(p));
        let waits = self.blocked.iter().filter_map(Blocked::deadline_ms);
        waits.chain(probe).min()
    }
}
