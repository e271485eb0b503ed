//! Which packets are in hand, and which of them share a cached flow?

use weft_flow::{FlowKey, TunnelKey};

use crate::packet::{BATCH, Pool, Slot};

/// Packets that share a flow.
#[derive(Clone, Copy)]
pub(crate) struct Group {
    /// The flow they hit.
    pub(crate) flow: u32,
    len: u8,
    members: [u8; BATCH],
}

impl Group {
    /// Places in the batch.
    #[inline(always)]
    pub(crate) fn members(&self) -> &[u8] {
        &self.members[..usize::from(self.len)]
    }
}

/// A batch as it is looked up: everything indexed by place in the batch.
pub(crate) struct Batch {
    /// Number of packets.
    pub(crate) len: usize,
    /// Where each packet stands.
    pub(crate) slots: [Slot; BATCH],
    /// What is known of each. Sections that a packet does not have are zero.
    pub(crate) keys: Box<[FlowKey; BATCH]>,
    /// Hash of each packet's key.
    pub(crate) hashes: [u64; BATCH],
    /// Packets that came in a tunnel: their tunnel section is filled in.
    pub(crate) tunnelled: u32,
    /// Packets that are done with: dropped, or acted on.
    pub(crate) done: u32,
    groups: Box<[Group; BATCH]>,
    group_count: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Batch {
            len: 0,
            slots: std::array::from_fn(|i| i as Slot),
            keys: Box::new([FlowKey::default(); BATCH]),
            hashes: [0; BATCH],
            tunnelled: 0,
            done: 0,
            groups: Box::new([Group { flow: 0, len: 0, members: [0; BATCH] }; BATCH]),
            group_count: 0,
        }
    }

    /// Begins a batch of the first `len` buffers.
    #[inline]
    pub(crate) fn begin(&mut self, len: usize) {
        self.len = len;
        for i in 0..len.min(BATCH) {
            self.slots[i] = i as Slot;
        }
    }

    /// Ends a batch: the batch holds its frames no longer, and the tunnel sections of keys that were filled in are zero
    /// again.
    #[inline]
    pub(crate) fn end(&mut self, pool: &mut Pool) {
        for slot in &self.slots[..self.len.min(BATCH)] {
            pool.release(*slot);
        }
        while self.tunnelled != 0 {
            let i = self.tunnelled.trailing_zeros() as usize;
            self.tunnelled &= self.tunnelled - 1;
            self.keys[i].tunnel = Default::default();
        }
        self.done = 0;
        self.group_count = 0;
        self.len = 0;
    }

    /// Gives packet `i` the outer header it came with.
    #[inline]
    pub(crate) fn tunnelled_by(&mut self, i: usize, key: TunnelKey) {
        self.keys[i % BATCH].tunnel = key;
        self.tunnelled |= 1 << (i % BATCH);
    }

    /// Opens a group for `flow`; returns its number.
    #[inline(always)]
    pub(crate) fn open_group(&mut self, flow: u32) -> u8 {
        let number = self.group_count;
        self.groups[number].flow = flow;
        self.groups[number].len = 0;
        self.group_count += 1;
        number as u8
    }

    /// Puts packet `i` into a group.
    #[inline(always)]
    pub(crate) fn join(&mut self, group: u8, i: usize) {
        let group = &mut self.groups[usize::from(group)];
        group.members[usize::from(group.len) % BATCH] = i as u8;
        group.len += 1;
    }

    /// The groups, in the order of their first packets.
    #[inline(always)]
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups[..self.group_count]
    }
}
