//! Which connections are announced by others, and what shall become of them?

use std::collections::HashMap;

use crate::key::{End, Key};

/// Most expectations at once.
const MOST: usize = 65_536;
/// Milliseconds that an expectation waits.
const PATIENCE_MS: u64 = 120_000;

/// What is known of the first packet of an expected connection: all but the source port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Expected {
    src: [u8; 16],
    dst: End,
    zone: u16,
    proto: u8,
    v6: bool,
}

/// An announced connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation {
    /// Where it is to end up: address and port of the announcer.
    pub(crate) to: End,
    /// Address it is to come from then.
    pub(crate) from: [u8; 16],
    /// The connection that announced it.
    pub(crate) master: Key,
    /// Its mark.
    pub(crate) mark: u32,
    /// Its label.
    pub(crate) label: u128,
    expires_ms: u64,
}

/// All announced connections.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    map: HashMap<Expected, Expectation>,
}

impl Expected {
    /// What a packet with this key would fulfil.
    pub(crate) fn by(key: &Key) -> Expected {
        Expected { src: key.src.addr, dst: key.dst, zone: key.zone, proto: key.proto, v6: key.v6 }
    }
}

impl Expectation {
    pub(crate) fn new(
        to: End,
        from: [u8; 16],
        master: Key,
        mark: u32,
        label: u128,
        now_ms: u64,
    ) -> Expectation {
        Expectation { to, from, master, mark, label, expires_ms: now_ms + PATIENCE_MS }
    }
}

impl Expectations {
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether something else is expected there.
    pub(crate) fn taken(&self, at: &Expected, to: &End, now_ms: u64) -> bool {
        self.map.get(at).is_some_and(|e| e.expires_ms > now_ms && e.to != *to)
    }

    /// Expects a connection. Nothing happens when too many are expected already.
    pub(crate) fn add(&mut self, at: Expected, expectation: Expectation, now_ms: u64) {
        if self.map.len() >= MOST {
            self.map.retain(|_, e| e.expires_ms > now_ms);
        }
        if self.map.len() < MOST {
            self.map.insert(at, expectation);
        }
    }

    /// What a packet with this key fulfils.
    pub(crate) fn get(&self, key: &Key, now_ms: u64) -> Option<Expectation> {
        self.map.get(&Expected::by(key)).filter(|e| e.expires_ms > now_ms).copied()
    }

    /// The expectation that a packet with this key fulfils is fulfilled.
    pub(crate) fn done(&mut self, key: &Key) {
        self.map.remove(&Expected::by(key));
    }

    /// Forgets what a connection that is gone announced.
    pub(crate) fn forget(&mut self, master: &Key) {
        self.map.retain(|_, e| e.master != *master);
    }
}
