//! Where does a walk go on that was interrupted? Walks are frozen for recirculation and for controllers.
//!
//! A packet that recirculates comes back with the number of a frozen walk. Equal walks have the same number, so that
//! cached flows do not differ from each other, or from a fresh walk, by numbers alone.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use weft_flow::{Action, Instructions, PipelineKey, TunMetadata, TunnelKey};

/// Entries that may have died before they are looked for.
const SWEEP_AFTER: usize = 1024;

/// Actions of one rule that are left to be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenFrame {
    /// Table of the rule.
    pub table: u8,
    /// Its cookie; all ones: none.
    pub cookie: u64,
    /// Reason that packet-ins of its outputs to the controller have (`OFPR_*`).
    pub reason: u8,
    /// What is left of its actions.
    pub actions: Vec<Action>,
    /// The instructions after apply-actions, if they are still to come.
    pub rest: Option<Arc<Instructions>>,
}

/// A walk that waits to be resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Bridge.
    pub bridge: u32,
    /// Table to look up first (`ct(table=N)`).
    pub table: Option<u8>,
    /// What is left to be done, innermost first; before the action set.
    pub frames: Vec<FrozenFrame>,
    /// Values on the stack, the top one last.
    pub stack: Vec<u128>,
    /// Action set, in order of writing.
    pub action_set: Vec<Action>,
    /// Input port, registers, metadata, mark, priority.
    pub pipeline: PipelineKey,
    /// Tunnel fields that the walk set, and which bits of them it knows.
    pub tunnel: (TunnelKey, TunnelKey),
    /// Tunnel options that the walk set, and which bits of them it knows; `None`: those of the packet.
    pub options: Option<Box<(TunMetadata, TunMetadata)>>,
    /// What connection tracking says of the packet counts; else it is forgotten.
    pub conntracked: bool,
    /// The datapath has the packet's hash.
    pub hashed: bool,
    /// Mark and priority that the datapath was told of.
    pub told: (u32, u32),
    /// Bytes to which the packet is cut.
    pub trunc: Option<u32>,
    /// It is a packet-out that may go to the tables still.
    pub packet_out: bool,
}

impl Frozen {
    fn digest(&self) -> u64 {
        let mut h = DefaultHasher::new();
        (self.bridge, self.table, &self.stack, self.conntracked, self.hashed, self.told).hash(&mut h);
        (&self.pipeline, &self.tunnel, self.options.as_deref(), self.action_set.len()).hash(&mut h);
        for frame in &self.frames {
            (frame.table, frame.cookie, frame.reason, frame.actions.len()).hash(&mut h);
        }
        h.finish()
    }
}

#[derive(Debug, Default)]
struct Table {
    by_id: HashMap<u32, Weak<Frozen>>,
    by_digest: HashMap<u64, Vec<u32>>,
    last: u32,
    sweep_at: usize,
}

/// The frozen walks that something may resume, by number.
#[derive(Debug, Default)]
pub(crate) struct FrozenTable(Mutex<Table>);

impl FrozenTable {
    /// The walk with a number.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<Frozen>> {
        self.0.lock().by_id.get(&id)?.upgrade()
    }

    /// The number of a walk, the same for equal ones for as long as one of them is held.
    pub(crate) fn intern(&self, frozen: Frozen) -> (u32, Arc<Frozen>) {
        let digest = frozen.digest();
        let mut guard = self.0.lock();
        let table = &mut *guard;
        for id in table.by_digest.get(&digest).into_iter().flatten() {
            if let Some(known) = table.by_id.get(id).and_then(Weak::upgrade)
                && *known == frozen
            {
                return (*id, known);
            }
        }
        if table.by_id.len() >= table.sweep_at {
            table.sweep();
        }
        let id = table.next_id();
        let frozen = Arc::new(frozen);
        table.by_id.insert(id, Arc::downgrade(&frozen));
        table.by_digest.entry(digest).or_default().push(id);
        (id, frozen)
    }
}

impl Table {
    fn next_id(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.by_id.contains_key(&self.last) {
                return self.last;
            }
        }
    }

    /// Forgets numbers of walks that nobody holds.
    fn sweep(&mut self) {
        self.by_id.retain(|_, frozen| frozen.strong_count() > 0);
        let by_id = &self.by_id;
        self.by_digest.retain(|_, ids| {
            ids.retain(|id| by_id.contains_key(id));
            !ids.is_empty()
        });
        self.sweep_at = 2 * self.by_id.len() + SWEEP_AFTER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(table: u8) -> Frozen {
        Frozen { table: Some(table), ..Frozen::default() }
    }

    #[test]
    fn equal_walks_share_a_number_while_held() {
        let table = FrozenTable::default();
        let (a, held) = table.intern(walk(1));
        let (b, other) = table.intern(walk(2));
        assert!(a != 0 && b != 0 && a != b);
        assert_eq!(table.intern(walk(1)).0, a);
        assert_eq!(table.get(b).as_deref(), Some(&walk(2)));
        drop((held, other));
        assert_eq!(table.get(a), None);
        let (c, _held) = table.intern(walk(1));
        assert!(c != a && c != b, "numbers are not reused");
    }

    #[test]
    fn the_dead_are_forgotten() {
        let table = FrozenTable::default();
        let held: Vec<_> = (0..10).map(|n| table.intern(walk(n))).collect();
        for n in 0..10_000u32 {
            table.intern(Frozen { stack: vec![n.into()], ..Frozen::default() });
        }
        assert!(table.0.lock().by_id.len() < 3000);
        assert!(held.iter().all(|(id, frozen)| table.get(*id).as_ref() == Some(frozen)));
    }
}
