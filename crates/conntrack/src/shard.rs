//! Where are the connections? In shards with a lock each, so that threads seldom wait for each other.
//!
//! A connection lives in the shard of its original direction. Packets of its replies are found there too, because the
//! hash is the same in both directions, unless it is translated: then the shard of the replies has an [`Alias`].
//! No two shards are ever locked at once.

use hashbrown::HashTable;

use crate::conn::Conn;
use crate::key::Key;

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
    /// Where the sweep goes on.
    cursor: u32,
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
        let names = |slot: &u32| at(slab, *slot).is_some_and(|c| c.orig == *key || c.reply == *key);
        if let Some(slot) = self.index.find(hash, names) {
            let reply = at(slab, *slot).is_some_and(|c| c.orig != *key);
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
    pub(crate) fn insert(&mut self, hash: u64, conn: Conn, rehash: impl Fn(&Key) -> u64) -> u32 {
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
        self.index.insert_unique(hash, slot, |s| at(slab, *s).map_or(0, |c| rehash(&c.orig)));
        slot
    }

    /// Takes a connection out.
    pub(crate) fn remove(&mut self, slot: u32, rehash: impl Fn(&Key) -> u64) -> Option<Conn> {
        let hash = rehash(&at(&self.slab, slot)?.orig);
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

    /// Looks at the next `budget` slots and takes out those whose time is over.
    pub(crate) fn sweep(
        &mut self,
        now_ms: u64,
        budget: usize,
        rehash: impl Fn(&Key) -> u64 + Copy,
    ) -> Vec<Conn> {
        let slots = self.slab.last().map_or(0, |last| (self.slab.len() - 1) * CHUNK + last.len()) as u32;
        let mut out = Vec::new();
        for _ in 0..budget.min(slots as usize) {
            if self.cursor >= slots {
                self.cursor = 0;
            }
            let slot = self.cursor;
            self.cursor += 1;
            if at(&self.slab, slot).is_some_and(|c| c.expires_ms <= now_ms) {
                out.extend(self.remove(slot, rehash));
            }
        }
        out
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.slab.len() * CHUNK * size_of::<Option<Conn>>()
            + self.index.allocation_size()
            + self.aliases.allocation_size()
            + self.free.capacity() * size_of::<u32>()
    }
}
