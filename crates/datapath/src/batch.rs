//! Which packets are in hand, and which of them share a cached flow?

use weft_flow::{
    EXTRA_CT, EXTRA_TUN_METADATA, EXTRA_TUNNEL, FlowKey, PacketKey, Recirc, TunMetadata, TunnelKey,
};

use crate::meta::Meta;
use std::sync::Arc;

use crate::packet::{BATCH, Pool, Slot};
use crate::police::Policer;

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
    /// Packets whose section of tunnel options is filled in.
    pub(crate) optioned: u32,
    /// Packets that are looked up again: with what their frames carry along.
    pub(crate) resumed: u32,
    /// The walks that those resume.
    recirc_ids: [u32; BATCH],
    /// Which reading of headers each key is of, and how many there were in all.
    pub(crate) read: [u64; BATCH],
    pub(crate) readings: u64,
    /// Keeps those walks alive.
    pub(crate) frozen: Vec<Recirc>,
    /// Packets that are done with: dropped, or acted on.
    pub(crate) done: u32,
    /// What the port that they were just received by may take in, if not anything; taken before they are looked up.
    pub(crate) policer: Option<Arc<Policer>>,
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
            optioned: 0,
            resumed: 0,
            recirc_ids: [0; BATCH],
            read: [0; BATCH],
            readings: 0,
            frozen: Vec::new(),
            done: 0,
            policer: None,
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
        if self.optioned | self.resumed != 0 {
            self.end_sections();
        }
        self.done = 0;
        self.group_count = 0;
        self.len = 0;
    }

    /// Makes the sections of keys that few packets have zero again.
    #[cold]
    fn end_sections(&mut self) {
        for (i, key) in self.keys.iter_mut().enumerate() {
            let extras = if self.resumed & (1 << i) != 0 { key.packet.extras } else { 0 };
            if extras & EXTRA_TUNNEL != 0 {
                key.tunnel = Default::default();
            }
            if extras & EXTRA_CT != 0 {
                key.ct = Default::default();
            }
            if extras & EXTRA_TUN_METADATA != 0 || self.optioned & (1 << i) != 0 {
                key.tun_metadata = Default::default();
            }
        }
        (self.optioned, self.resumed) = (0, 0);
        self.frozen.clear();
    }

    /// Appends a frame that resumes a walk.
    pub(crate) fn resume(&mut self, slot: Slot, recirc_id: u32) {
        let i = self.len % BATCH;
        (self.slots[i], self.recirc_ids[i]) = (slot, recirc_id);
        self.resumed |= 1 << i;
        self.len += 1;
    }

    /// Completes the key of packet `i`, of which the headers are filled in, by what came with it.
    #[inline]
    pub(crate) fn complete_key(&mut self, i: usize, meta: &Meta) {
        let i = i % BATCH;
        let key = &mut self.keys[i];
        if self.resumed & (1 << i) != 0 {
            key.packet.recirc_id = self.recirc_ids[i];
            meta.store(key);
        } else {
            key.packet.extras = EXTRA_TUNNEL | meta.extra_bare();
            if self.optioned & (1 << i) != 0 {
                key.packet.extras |= EXTRA_TUN_METADATA;
            }
        }
    }

    /// Packet `i` is done with before it is looked up: no flow has that port.
    #[cold]
    pub(crate) fn no_flow(&mut self, i: usize) {
        let i = i % BATCH;
        self.keys[i].packet = PacketKey { in_port: u32::MAX, ..PacketKey::default() };
        self.read[i] = 0;
        self.done |= 1 << i;
    }

    /// Gives packet `i` the tunnel options it came with.
    pub(crate) fn optioned_by(&mut self, i: usize, options: &TunMetadata) {
        self.keys[i % BATCH].tun_metadata = *options;
        self.optioned |= 1 << (i % BATCH);
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
