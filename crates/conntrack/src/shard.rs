//! Where are the connections? In shards with a lock each, so that threads seldom wait for each other.
//!
//! A connection lives in the shard of its original direction. Packets of its replies are found there too, because the
//! hash is the same in both directions, unless it is translated: then the shard of the replies has an [`Alias`].
//! No two shards are ever locked at once.

use hashbrown::HashTable;

use crate::conn::{Conn, Tick};
use crate::key::Key;
use crate::wheel::Wheel;

/// Number of shards; a power of two.
pub(crate) const SHARDS: usize = 64;
/// Connections that memory is taken for at a time.
const CHUNK: usize = 256;
/// The slot of an alias whose connection is not in place yet.
pub(crate) const PENDING: u32 = u32::MAX;

/// Where the replies of a translated connection lead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alias {
    pub(crate) key: Key,
    pub(crate) slot: u32,
    pub(crate) home: u8,
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The connection in this slot; whether the key is that of its replies.
    Here { slot: u32, reply: bool },
    /// The replies of a connection of another shard.
    There { home: u8, slot: u32 },
}

/// A part of the connections.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    index: HashTable<u32>,
    aliases: HashTable<Alias>,
    slab: Vec<Vec<Option<Conn>>>,
    free: Vec<u32>,
    /// Which connections are to be looked at when.
    wheel: Wheel,
}

/// The shard of a hash. Not by its highest bits: of those the hash table makes its tags, which would then be the same
/// for all of a shard, nor by its lowest, which are the place in the table.
pub(crate) fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize & (SHARDS - 1)
}

fn at(slab: &[Vec<Option<Conn>>], slot: u32) -> Option<&Conn> {
    slab.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.as_ref()
}

impl Shard {
    /// What a key of this shard leads to.
    pub(crate) fn find(&self, hash: u64, key: &Key) -> Option<Found> {
        let slab = &self.slab;
        let names = |slot: &u32| at(slab, *slot).is_some_and(|c| c.is_orig(key) || c.is_reply(key));
        if let Some(slot) = self.index.find(hash, names) {
            let reply = at(slab, *slot).is_some_and(|c| !c.is_orig(key));
            return Some(Found::Here { slot: *slot, reply });
        }
        let alias = self.aliases.find(hash, |a| a.key == *key)?;
        Some(Found::There { home: alias.home, slot: alias.slot })
    }

    /// The connection in a slot.
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Conn> {
        self.slab.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?.as_mut()
    }

    /// Some of the connections; `None` behind the last.
    pub(crate) fn chunk(&self, number: usize) -> Option<&[Option<Conn>]> {
        self.slab.get(number).map(Vec::as_slice)
    }

    /// All connections.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Conn)> {
        let numbered = |(i, chunk)| {
            let chunk: &Vec<Option<Conn>> = chunk;
            chunk.iter().enumerate().filter_map(move |(j, c)| Some(((i * CHUNK + j) as u32, c.as_ref()?)))
        };
        self.slab.iter().enumerate().flat_map(numbered)
    }

    /// Enters a connection whose original direction has this hash.
    pub(crate) fn insert(&mut self, hash: u64, conn: Conn, now: Tick, rehash: impl Fn(&Key) -> u64) -> u32 {
        let expires = conn.expires;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                if self.slab.last().is_none_or(|c| c.len() == CHUNK) {
                    self.slab.push(Vec::with_capacity(CHUNK));
                }
                let chunk = self.slab.len() - 1;
                self.slab[chunk].push(None);
                (chunk * CHUNK + self.slab[chunk].len() - 1) as u32
            }
        };
        self.slab[slot as usize / CHUNK][slot as usize % CHUNK] = Some(conn);
        let slab = &self.slab;
        self.index.insert_unique(hash, slot, |s| at(slab, *s).map_or(0, |c| rehash(&c.orig())));
        self.wheel.begin(slot, expires, now);
        slot
    }

    /// Takes a connection out.
    pub(crate) fn remove(&mut self, slot: u32, rehash: impl Fn(&Key) -> u64) -> Option<Conn> {
        let hash = rehash(&at(&self.slab, slot)?.orig());
        if let Ok(entry) = self.index.find_entry(hash, |s| *s == slot) {
            entry.remove();
        }
        let conn = self.slab[slot as usize / CHUNK][slot as usize % CHUNK].take();
        self.free.push(slot);
        conn
    }

    /// Enters an alias, or says where it has to lead now.
    pub(crate) fn set_alias(&mut self, hash: u64, alias: Alias, rehash: impl Fn(&Key) -> u64) {
        match self.aliases.find_mut(hash, |a| a.key == alias.key) {
            Some(old) => *old = alias,
            None => drop(self.aliases.insert_unique(hash, alias, |a| rehash(&a.key))),
        }
    }

    /// Takes an alias out.
    pub(crate) fn remove_alias(&mut self, hash: u64, key: &Key) {
        if let Ok(entry) = self.aliases.find_entry(hash, |a| a.key == *key) {
            entry.remove();
        }
    }

    /// A connection ends sooner than it was to until now.
    pub(crate) fn hasten(&mut self, slot: u32, expires: Tick, now: Tick) {
        self.wheel.hasten(slot, expires, now);
    }

    /// Takes out connections whose time is over, as far as the wheel knows them: all but those of the last seconds.
    /// About `budget` are looked at.
    pub(crate) fn sweep(
        &mut self,
        now: Tick,
        budget: usize,
        rehash: impl Fn(&Key) -> u64 + Copy,
        gone: &mut Vec<Conn>,
    ) {
        let mut left = budget;
        while left > 0
            && let Some(slot) = self.wheel.due(now)
        {
            left -= 1;
            self.settle(slot, now, rehash, gone);
        }
    }

    /// Takes out all connections whose time is over.
    pub(crate) fn reap(&mut self, now: Tick, rehash: impl Fn(&Key) -> u64 + Copy, gone: &mut Vec<Conn>) {
        self.sweep(now, usize::MAX, rehash, gone);
        for slot in self.wheel.take_current(now) {
            self.settle(slot, now, rehash, gone);
        }
    }

    /// Takes a connection out if its time is over, or says when to look at it next.
    fn settle(&mut self, slot: u32, now: Tick, rehash: impl Fn(&Key) -> u64 + Copy, gone: &mut Vec<Conn>) {
        match at(&self.slab, slot).map(|conn| conn.expires) {
            Some(expires) if expires.since(now) > 0 => self.wheel.begin(slot, expires, now),
            _ => gone.extend(self.remove(slot, rehash)),
        }
    }

    /// Takes out a connection that is not assured, of those that are looked at from a place on, as many as are `left`:
    /// the one that ends first.
    pub(crate) fn give_way(
        &mut self,
        from: u64,
        left: &mut usize,
        now: Tick,
        rehash: impl Fn(&Key) -> u64 + Copy,
    ) -> Option<Conn> {
        let slots = self.slab.last().map_or(0, |last| (self.slab.len() - 1) * CHUNK + last.len());
        let look_at = slots.min(*left);
        *left -= look_at;
        let places = (0..look_at).map(|i| ((from as usize % slots) + i) % slots);
        let weak = places.filter_map(|slot| {
            let conn = at(&self.slab, slot as u32).filter(|conn| !conn.proto.is_assured())?;
            Some((conn.expires.since(now), slot as u32))
        });
        let (_, slot) = weak.min()?;
        self.remove(slot, rehash)
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.slab.len() * CHUNK * size_of::<Option<Conn>>()
            + self.index.allocation_size()
            + self.aliases.allocation_size()
            + self.free.capacity() * size_of::<u32>()
            + self.wheel.memory()
    }
}
