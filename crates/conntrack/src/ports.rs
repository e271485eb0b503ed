//! Which ports of a translated address are taken, when nearly all are?
//!
//! While there are many free ports, chance finds one. When it fails, a [`Pool`] is made: a map of the ports that
//! connections to one remote end have at one translated address. It is made once, by asking for every port, and kept
//! right after; so the last free port is found as fast as the first, and that there is none is known at once.
//!
//! A map is a hint: whoever gets a port from it must still reserve it, and says so when it was taken.

use std::collections::HashMap;

use weft_flow::NatSide;

use crate::key::Key;

/// Most maps at once, 8 KiB each.
const MOST: usize = 64;
/// Milliseconds after which a map that shows no free port is made anew: ports given back while it was made are
/// missing in it.
const STALE_MS: u64 = 1000;
/// Milliseconds without use after which a map goes.
const IDLE_MS: u64 = 30_000;
/// Milliseconds between two maps: making one takes some.
const MAKE_MS: u64 = 20;

/// Ports that connections have: the name of their replies with the port left out, and which end it is of.
type Name = (Key, bool);

/// A map of ports.
#[derive(Debug)]
struct Pool {
    taken: Box<[u64; 1024]>,
    made_ms: u64,
    used_ms: u64,
}

/// All maps.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    map: HashMap<Name, Pool>,
    next_make_ms: u64,
}

/// The name of a connection's replies with this port at the end that is translated.
pub(crate) fn with_port(reply: &Key, side: NatSide, port: u16) -> Key {
    let mut key = *reply;
    if side == NatSide::Src || key.is_icmp() {
        key.dst.port = port;
    }
    if side == NatSide::Dst || key.is_icmp() {
        // One identifier names both ends.
        key.src.port = port;
    }
    key
}

impl Pool {
    fn set(&mut self, port: u16, taken: bool) {
        let bit = 1 << (port & 63);
        let word = &mut self.taken[usize::from(port >> 6)];
        *word = if taken { *word | bit } else { *word & !bit };
    }

    /// The first free port from `begin` on, around the range.
    fn free(&self, low: u16, high: u16, begin: u16) -> Option<u16> {
        let search = |from: u16, to: u16| {
            (from >> 6..=to >> 6).find_map(|at| {
                let mut free = !self.taken[usize::from(at)];
                if at == from >> 6 {
                    free &= u64::MAX << (from & 63);
                }
                if at == to >> 6 {
                    free &= u64::MAX >> (63 - (to & 63));
                }
                (free != 0).then(|| at << 6 | free.trailing_zeros() as u16)
            })
        };
        let begin = begin.clamp(low, high);
        search(begin, high).or_else(|| search(low, begin))
    }
}

impl Pools {
    /// Number of maps.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Finds a port from `low` to `high`, from `begin` on, that `take` accepts.
    #[expect(clippy::too_many_arguments, reason = "a search has these")]
    pub(crate) fn search(
        &mut self,
        reply: &Key,
        side: NatSide,
        (low, high): (u16, u16),
        begin: u16,
        now_ms: u64,
        in_use: impl Fn(&Key) -> bool,
        mut take: impl FnMut(&Key) -> bool,
    ) -> Option<Key> {
        let name = (with_port(reply, side, 0), side == NatSide::Src);
        loop {
            let Some(pool) = self.map.get_mut(&name) else {
                self.make(name, side, now_ms, &in_use)?;
                continue;
            };
            pool.used_ms = now_ms;
            while let Some(port) = pool.free(low, high, begin) {
                pool.set(port, true);
                let key = with_port(reply, side, port);
                if take(&key) {
                    return Some(key);
                }
            }
            if pool.made_ms + STALE_MS > now_ms || self.next_make_ms > now_ms {
                return None;
            }
            self.map.remove(&name);
        }
    }

    /// Makes a map. `None`: not now.
    fn make(&mut self, name: Name, side: NatSide, now_ms: u64, in_use: impl Fn(&Key) -> bool) -> Option<()> {
        if self.next_make_ms > now_ms {
            return None;
        }
        self.next_make_ms = now_ms + MAKE_MS;
        if self.map.len() >= MOST {
            let oldest = self.map.iter().min_by_key(|(_, pool)| pool.used_ms).map(|(name, _)| *name)?;
            self.map.remove(&oldest);
        }
        let mut pool = Pool { taken: Box::new([0; 1024]), made_ms: now_ms, used_ms: now_ms };
        for port in 0..=u16::MAX {
            if in_use(&with_port(&name.0, side, port)) {
                pool.set(port, true);
            }
        }
        self.map.insert(name, pool);
        Some(())
    }

    /// A connection whose replies had this name is gone.
    pub(crate) fn give_back(&mut self, reply: &Key) {
        for (side, port) in [(NatSide::Src, reply.dst.port), (NatSide::Dst, reply.src.port)] {
            if let Some(pool) = self.map.get_mut(&(with_port(reply, side, 0), side == NatSide::Src)) {
                pool.set(port, false);
            }
        }
    }

    /// Lets maps go that nobody has used for a while.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        self.map.retain(|_, pool| pool.used_ms + IDLE_MS > now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::End;
    use std::cell::RefCell;
    use std::collections::HashSet;

    #[test]
    fn every_port_is_found_once_and_again_when_given_back() {
        let end = |port| End { addr: [1; 16], port };
        let reply = Key { src: end(80), dst: end(1), zone: 0, proto: 6, v6: true, answer: false };
        let used = RefCell::new(HashSet::from([with_port(&reply, NatSide::Src, 1007)]));
        let mut pools = Pools::default();
        let get = |pools: &mut Pools, begin, now| {
            let in_use = |k: &Key| used.borrow().contains(k);
            let take = |k: &Key| used.borrow_mut().insert(*k);
            pools.search(&reply, NatSide::Src, (1000, 1130), begin, now, in_use, take).map(|k| k.dst.port)
        };
        let mut got: Vec<_> = (0..130).map(|i| get(&mut pools, 1000 + i * 7 % 131, 0).unwrap()).collect();
        got.sort_unstable();
        assert_eq!(got, (1000..=1130).filter(|p| *p != 1007).collect::<Vec<_>>());
        assert_eq!(get(&mut pools, 1000, 1), None);
        let gone = with_port(&reply, NatSide::Src, 1064);
        used.borrow_mut().remove(&gone);
        pools.give_back(&gone);
        assert_eq!(get(&mut pools, 1130, 2), Some(1064));
        // One that nobody gave back is found when the map is made anew.
        used.borrow_mut().remove(&gone);
        assert_eq!(get(&mut pools, 1130, 3), None);
        assert_eq!(get(&mut pools, 1130, 2000), Some(1064));
        pools.expire(100_000);
        assert_eq!(pools.len(), 0);
    }
}
