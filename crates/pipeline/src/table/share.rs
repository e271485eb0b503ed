//! What do rules have in common that need be kept only once? Their instructions, mostly.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;

use parking_lot::Mutex;
use weft_flow::{Action, Instructions};

use crate::classifier::{finish, mix};

/// Instructions that are remembered.
const SLOTS: usize = 1024;
/// Actions that are looked at to find equal ones.
const LOOKED_AT: usize = 8;

/// Instructions that rules were lately given, so that equal ones are kept once. Has no part in what tables mean; all
/// versions of a table set use the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(Arc<Mutex<Vec<Option<Arc<Instructions>>>>>);

impl Shared {
    /// The instructions, shared with rules that have the same.
    pub(super) fn instructions(&self, wanted: &Instructions) -> Arc<Instructions> {
        let mut slots = self.0.lock();
        if slots.is_empty() {
            slots.resize(SLOTS, None);
        }
        let at = fingerprint(wanted) as usize % SLOTS;
        match &slots[at] {
            Some(same) if **same == *wanted => same.clone(),
            _ => {
                let new = Arc::new(wanted.clone());
                slots[at] = Some(new.clone());
                new
            }
        }
    }
}

/// Hash of something small.
pub(super) fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// A hash of something small that nobody chooses to our harm: what collides is only not shared.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for some in bytes.chunks(8) {
            let word = some.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = mix(self.0, n);
    }
    fn write_u128(&mut self, n: u128) {
        self.write_u64(n as u64);
        self.write_u64((n >> 64) as u64);
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
    fn finish(&self) -> u64 {
        finish(self.0)
    }
}

/// A number that equal instructions have in common, and others mostly not.
fn fingerprint(instructions: &Instructions) -> u64 {
    let mut hasher = Quick::default();
    (instructions.goto, instructions.metadata, instructions.meter, instructions.clear).hash(&mut hasher);
    let actions = instructions.apply.iter().take(LOOKED_AT).chain(instructions.write.iter().take(LOOKED_AT));
    for action in actions {
        discriminant(action).hash(&mut hasher);
        match action {
            Action::Output { port, .. } | Action::OutputTrunc { port, .. } => port.0.hash(&mut hasher),
            Action::SetField { field, value, mask, .. } => (field, value, mask).hash(&mut hasher),
            Action::Resubmit { port, table, .. } => (port.map(|p| p.0), table).hash(&mut hasher),
            Action::Group(id) | Action::Meter(id) | Action::SetQueue(id) => id.hash(&mut hasher),
            Action::Conjunction { id, clause, .. } => (id, clause).hash(&mut hasher),
            Action::SetVlanVid(vid) => vid.hash(&mut hasher),
            Action::Ct(ct) => (ct.commit, ct.table).hash(&mut hasher),
            _ => {}
        }
    }
    hasher.finish()
}
