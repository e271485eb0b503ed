//! Which connections are announced by others, and what shall become of them?

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use smallvec::SmallVec;

use crate::key::{End, Key};

/// Most expectations at once.
const MOST: usize = 65_536;
/// Most expectations of one connection: the oldest goes.
const MOST_OF_ONE: usize = 8;
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
    /// What each connection announced, oldest first.
    by_master: HashMap<Key, SmallVec<[Expected; 1]>>,
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
        self.take_out(&at);
        if self.map.len() >= MOST {
            let over: Vec<_> =
                self.map.iter().filter(|(_, e)| e.expires_ms <= now_ms).map(|(at, _)| *at).collect();
            over.iter().for_each(|at| self.take_out(at));
        }
        if self.map.len() >= MOST {
            return;
        }
        let own = self.by_master.entry(expectation.master).or_default();
        own.push(at);
        let oldest = (own.len() > MOST_OF_ONE).then(|| own.remove(0));
        self.map.insert(at, expectation);
        if let Some(oldest) = oldest {
            self.map.remove(&oldest);
        }
    }

    fn take_out(&mut self, at: &Expected) {
        let Some(gone) = self.map.remove(at) else { return };
        if let Entry::Occupied(mut own) = self.by_master.entry(gone.master) {
            own.get_mut().retain(|other| other != at);
            if own.get().is_empty() {
                own.remove();
            }
        }
    }

    /// What a packet with this key fulfils.
    pub(crate) fn get(&self, key: &Key, now_ms: u64) -> Option<Expectation> {
        self.map.get(&Expected::by(key)).filter(|e| e.expires_ms > now_ms).copied()
    }

    /// The expectation that a packet with this key fulfils is fulfilled.
    pub(crate) fn done(&mut self, key: &Key) {
        self.take_out(&Expected::by(key));
    }

    /// Forgets what a connection that is gone announced.
    pub(crate) fn forget(&mut self, master: &Key) {
        for at in self.by_master.remove(master).into_iter().flatten() {
            self.map.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_announces_few() {
        let end = |port| End { addr: [1; 16], port };
        let key = |port| Key { src: end(0), dst: end(port), zone: 0, proto: 6, v6: true, answer: false };
        let mut all = Expectations::default();
        let announce = |all: &mut Expectations, master, port| {
            let what = Expectation::new(end(port), [1; 16], key(master), 0, 0, 0);
            all.add(Expected::by(&key(port)), what, 0);
        };
        (0..100).for_each(|port| announce(&mut all, 1, port));
        assert_eq!((all.len(), all.by_master.len()), (MOST_OF_ONE, 1));
        assert!(all.get(&key(99), 0).is_some() && all.get(&key(91), 0).is_none());
        announce(&mut all, 2, 99);
        assert_eq!(all.len(), MOST_OF_ONE, "what is announced again is the later connection's");
        all.done(&key(98));
        all.forget(&key(1));
        assert_eq!((all.len(), all.by_master.len()), (1, 1));
        all.forget(&key(2));
        assert_eq!((all.len(), all.by_master.len()), (0, 0));
    }
}
