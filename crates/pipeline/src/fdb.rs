//! Behind which port is a MAC address? The table that NORMAL switching learns, one for each bridge.
//!
//! Entries of a port form a list, least recently used first: ageing looks at the heads only, and when the table is full
//! the port that has most entries gives up its oldest one, so that no port can push out the others'.

use std::collections::{BTreeSet, HashMap};

use parking_lot::Mutex;
use weft_flow::{DepTags, OfPort};
use weft_wire::Mac;

/// An entry of a MAC table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// OpenFlow port.
    pub port: OfPort,
    /// VLAN.
    pub vlan: u16,
    /// Address.
    pub mac: Mac,
    /// Milliseconds since it was last used.
    pub age_ms: u64,
    /// Whether it was configured: it neither ages nor moves.
    pub is_static: bool,
}

/// Counters of a MAC table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FdbStats {
    /// Addresses learned.
    pub learned: u64,
    /// Entries that aged out.
    pub expired: u64,
    /// Entries given up because the table was full.
    pub evicted: u64,
    /// Addresses that appeared on another port.
    pub moved: u64,
    /// Entries now.
    pub entries: usize,
    /// Configured entries now.
    pub static_entries: usize,
    /// Entries there may be.
    pub max_entries: usize,
}

const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    vlan: u16,
    mac: Mac,
    port: OfPort,
    is_static: bool,
    used_ms: u64,
    prev: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
    len: usize,
}

#[derive(Debug, Default)]
struct Inner {
    index: HashMap<(u16, Mac), u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Learned entries by port; configured ones are in no list.
    ports: HashMap<OfPort, List>,
    /// Configured entries.
    fixed: BTreeSet<u32>,
    max: usize,
    aging_ms: u64,
    stats: FdbStats,
}

/// The MAC table of a bridge.
#[derive(Debug)]
pub(crate) struct Fdb {
    bridge: u32,
    inner: Mutex<Inner>,
}

impl Fdb {
    pub(crate) fn new(bridge: u32) -> Fdb {
        Fdb { bridge, inner: Mutex::new(Inner::default()) }
    }

    /// What decisions rest on that look `mac` up.
    pub(crate) fn tag(&self, vlan: u16, mac: Mac) -> u64 {
        let entry = mac.to_u64() | u64::from(vlan) << 48;
        entry.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ u64::from(self.bridge).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
    }

    /// Limits: entries (10 to a million), and milliseconds an unused one lives (15 seconds to an hour).
    pub(crate) fn configure(&self, max: usize, aging_ms: u64) {
        let mut inner = self.inner.lock();
        inner.max = max.clamp(10, 1_000_000);
        inner.aging_ms = aging_ms.clamp(15_000, 3_600_000);
    }

    pub(crate) fn lookup(&self, vlan: u16, mac: Mac) -> Option<OfPort> {
        let inner = self.inner.lock();
        let slot = *inner.index.get(&(vlan, mac))?;
        Some(inner.slots[slot as usize].port)
    }

    /// Whether [`Fdb::learn`] would add or move the entry.
    pub(crate) fn would_learn(&self, vlan: u16, mac: Mac, port: OfPort) -> bool {
        let inner = self.inner.lock();
        match inner.index.get(&(vlan, mac)) {
            Some(&slot) => {
                let slot = &inner.slots[slot as usize];
                slot.port != port && !slot.is_static
            }
            None => true,
        }
    }

    /// Notes that a packet of `mac` came in by `port`. Returns what changed besides the time.
    pub(crate) fn learn(&self, vlan: u16, mac: Mac, port: OfPort, now_ms: u64) -> DepTags {
        self.note(vlan, mac, port, now_ms, false)
    }

    /// Notes that a cached flow was used by which `mac` sends from `port`. A report that is older than what is known of
    /// the entry does not move it back. Returns what changed besides the time.
    pub(crate) fn report(&self, vlan: u16, mac: Mac, port: OfPort, used_ms: u64) -> DepTags {
        self.note(vlan, mac, port, used_ms, true)
    }

    fn note(&self, vlan: u16, mac: Mac, port: OfPort, now_ms: u64, late: bool) -> DepTags {
        let mut tags = DepTags::default();
        let mut inner = self.inner.lock();
        if let Some(&at) = inner.index.get(&(vlan, mac)) {
            let slot = inner.slots[at as usize];
            if slot.is_static {
                return tags;
            }
            if slot.port != port {
                if late && now_ms < slot.used_ms {
                    return tags;
                }
                inner.stats.moved += 1;
                tags.add(self.tag(vlan, mac));
            }
            inner.unlink(at);
            let slot = &mut inner.slots[at as usize];
            slot.port = port;
            slot.used_ms = slot.used_ms.max(now_ms);
            inner.link(at);
            return tags;
        }
        while inner.index.len() >= inner.max {
            let Some((vlan, mac)) = inner.evict() else { return tags };
            tags.add(self.tag(vlan, mac));
        }
        inner.insert(vlan, mac, port, now_ms, false);
        inner.stats.learned += 1;
        tags.add(self.tag(vlan, mac));
        tags
    }

    /// Configures an entry. Returns what changed.
    pub(crate) fn set_static(&self, vlan: u16, mac: Mac, port: OfPort) -> DepTags {
        let mut inner = self.inner.lock();
        inner.remove(vlan, mac);
        inner.insert(vlan, mac, port, 0, true);
        DepTags::of(self.tag(vlan, mac))
    }

    /// Removes an entry, configured ones too. Returns what changed.
    pub(crate) fn remove(&self, vlan: u16, mac: Mac) -> DepTags {
        let removed = self.inner.lock().remove(vlan, mac);
        if removed { DepTags::of(self.tag(vlan, mac)) } else { DepTags::default() }
    }

    /// Removes learned entries, all or those of one port. Returns what changed.
    pub(crate) fn flush(&self, port: Option<OfPort>) -> DepTags {
        let mut inner = self.inner.lock();
        let ports = port.map_or_else(|| inner.ports.keys().copied().collect(), |port| vec![port]);
        let mut tags = DepTags::default();
        ports.into_iter().for_each(|port| self.flush_port(&mut inner, port, &mut tags));
        tags
    }

    /// Removes all entries of a port that is no more. Returns what changed.
    pub(crate) fn forget_port(&self, port: OfPort) -> DepTags {
        let mut tags = DepTags::default();
        let mut inner = self.inner.lock();
        self.flush_port(&mut inner, port, &mut tags);
        let fixed = inner.fixed.iter().filter(|at| inner.slots[**at as usize].port == port);
        let fixed: Vec<Slot> = fixed.map(|at| inner.slots[*at as usize]).collect();
        for Slot { vlan, mac, .. } in fixed {
            inner.remove(vlan, mac);
            tags.add(self.tag(vlan, mac));
        }
        tags
    }

    fn flush_port(&self, inner: &mut Inner, port: OfPort, tags: &mut DepTags) {
        while let Some(list) = inner.ports.get(&port) {
            let Slot { vlan, mac, .. } = inner.slots[list.head as usize];
            inner.remove(vlan, mac);
            tags.add(self.tag(vlan, mac));
        }
    }

    /// Removes entries that were not used for too long. Returns what changed.
    pub(crate) fn age(&self, now_ms: u64) -> DepTags {
        let mut tags = DepTags::default();
        let mut inner = self.inner.lock();
        let aging = inner.aging_ms;
        let ports: Vec<OfPort> = inner.ports.keys().copied().collect();
        for port in ports {
            while let Some(list) = inner.ports.get(&port) {
                let slot = inner.slots[list.head as usize];
                if slot.used_ms.saturating_add(aging) > now_ms {
                    break;
                }
                inner.remove(slot.vlan, slot.mac);
                inner.stats.expired += 1;
                tags.add(self.tag(slot.vlan, slot.mac));
            }
        }
        tags
    }

    /// The entries, by VLAN and address.
    pub(crate) fn entries(&self, now_ms: u64) -> Vec<FdbEntry> {
        let inner = self.inner.lock();
        let entry = |at: &u32| {
            let slot = inner.slots[*at as usize];
            FdbEntry {
                port: slot.port,
                vlan: slot.vlan,
                mac: slot.mac,
                age_ms: if slot.is_static { 0 } else { now_ms.saturating_sub(slot.used_ms) },
                is_static: slot.is_static,
            }
        };
        let mut entries: Vec<FdbEntry> = inner.index.values().map(entry).collect();
        entries.sort_by_key(|e| (e.vlan, e.mac));
        entries
    }

    pub(crate) fn stats(&self) -> FdbStats {
        let inner = self.inner.lock();
        let entries = inner.index.len();
        FdbStats { entries, static_entries: inner.fixed.len(), max_entries: inner.max, ..inner.stats }
    }

    /// Begins to count anew.
    pub(crate) fn clear_stats(&self) {
        self.inner.lock().stats = FdbStats::default();
    }
}

impl Inner {
    fn insert(&mut self, vlan: u16, mac: Mac, port: OfPort, now_ms: u64, is_static: bool) {
        let slot = Slot { vlan, mac, port, is_static, used_ms: now_ms, prev: NIL, next: NIL };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert((vlan, mac), at);
        if is_static {
            self.fixed.insert(at);
        } else {
            self.link(at);
        }
    }

    fn remove(&mut self, vlan: u16, mac: Mac) -> bool {
        let Some(at) = self.index.remove(&(vlan, mac)) else { return false };
        if !self.fixed.remove(&at) {
            self.unlink(at);
        }
        self.free.push(at);
        true
    }

    /// Gives up the oldest entry of the port that has most.
    fn evict(&mut self) -> Option<(u16, Mac)> {
        let list = self.ports.values().max_by_key(|l| l.len)?;
        let slot = self.slots[list.head as usize];
        self.remove(slot.vlan, slot.mac);
        self.stats.evicted += 1;
        Some((slot.vlan, slot.mac))
    }

    /// Appends a slot to its port's list.
    fn link(&mut self, at: u32) {
        let list =
            self.ports.entry(self.slots[at as usize].port).or_insert(List { head: NIL, tail: NIL, len: 0 });
        let tail = list.tail;
        list.tail = at;
        list.len += 1;
        if tail == NIL {
            list.head = at;
        } else {
            self.slots[tail as usize].next = at;
        }
        let slot = &mut self.slots[at as usize];
        (slot.prev, slot.next) = (tail, NIL);
    }

    /// Takes a slot out of its port's list.
    fn unlink(&mut self, at: u32) {
        let Slot { port, prev, next, .. } = self.slots[at as usize];
        if prev != NIL {
            self.slots[prev as usize].next = next;
        }
        if next != NIL {
            self.slots[next as usize].prev = prev;
        }
        let Some(list) = self.ports.get_mut(&port) else { return };
        if list.head == at {
            list.head = next;
        }
        if list.tail == at {
            list.tail = prev;
        }
        list.len -= 1;
        if list.len == 0 {
            self.ports.remove(&port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u64) -> Mac {
        Mac::from_u64(0x0200_0000_0000 | n)
    }

    fn table(max: usize) -> Fdb {
        let fdb = Fdb::new(1);
        fdb.configure(max, 15_000);
        fdb
    }

    #[test]
    fn learns_moves_and_ages() {
        let fdb = table(100);
        assert_ne!(fdb.learn(5, mac(1), OfPort(1), 0), DepTags::default());
        assert_eq!(fdb.learn(5, mac(1), OfPort(1), 1_000), DepTags::default());
        assert_eq!(fdb.lookup(5, mac(1)), Some(OfPort(1)));
        assert_eq!(fdb.lookup(6, mac(1)), None);
        assert!(fdb.would_learn(5, mac(1), OfPort(2)) && !fdb.would_learn(5, mac(1), OfPort(1)));
        assert_ne!(fdb.learn(5, mac(1), OfPort(2), 2_000), DepTags::default());
        // A late report of the old place.
        assert_eq!(fdb.report(5, mac(1), OfPort(1), 1_500), DepTags::default());
        assert_eq!(fdb.lookup(5, mac(1)), Some(OfPort(2)));
        // A packet is always right, even if its lane's clock is behind.
        assert_ne!(fdb.learn(5, mac(1), OfPort(1), 1_999), DepTags::default());
        assert_ne!(fdb.report(5, mac(1), OfPort(2), 2_000), DepTags::default());
        fdb.learn(5, mac(2), OfPort(2), 10_000);
        assert_eq!(fdb.age(16_999), DepTags::default());
        assert_eq!(fdb.age(17_000), DepTags::of(fdb.tag(5, mac(1))));
        assert_eq!(fdb.entries(17_000).len(), 1);
        assert_eq!(fdb.entries(17_000)[0].age_ms, 7_000);
        let stats = fdb.stats();
        assert_eq!((stats.learned, stats.moved, stats.expired, stats.entries), (2, 3, 1, 1));
    }

    #[test]
    fn use_keeps_alive() {
        let fdb = table(100);
        for t in 0..10 {
            fdb.learn(0, mac(1), OfPort(1), t * 10_000);
            assert_eq!(fdb.age(t * 10_000 + 9_000), DepTags::default());
        }
        assert_ne!(fdb.age(105_000), DepTags::default());
    }

    #[test]
    fn a_full_table_takes_from_the_greediest_port() {
        let fdb = table(10);
        for n in 0..3 {
            fdb.learn(0, mac(n), OfPort(1), n);
        }
        for n in 100..1000 {
            fdb.learn(0, mac(n), OfPort(2), n);
        }
        let entries = fdb.entries(1000);
        assert_eq!(entries.len(), 10);
        assert_eq!(entries.iter().filter(|e| e.port == OfPort(1)).count(), 3);
        assert!(fdb.lookup(0, mac(999)).is_some() && fdb.lookup(0, mac(992)).is_none());
        assert_eq!(fdb.stats().evicted, 893);
    }

    #[test]
    fn configured_entries_stay() {
        let fdb = table(10);
        fdb.set_static(0, mac(1), OfPort(3));
        assert_eq!(fdb.learn(0, mac(1), OfPort(4), 5), DepTags::default());
        assert!(!fdb.would_learn(0, mac(1), OfPort(4)));
        for n in 100..200 {
            fdb.learn(0, mac(n), OfPort(2), n);
        }
        fdb.age(10_000_000);
        fdb.flush(None);
        assert_eq!(
            fdb.entries(0),
            [FdbEntry { port: OfPort(3), vlan: 0, mac: mac(1), age_ms: 0, is_static: true }]
        );
        assert_ne!(fdb.forget_port(OfPort(3)), DepTags::default());
        assert!(fdb.entries(0).is_empty());
    }
}
