//! How fast are the caches by themselves? Handles for the benchmarks; no part of the contract.

use weft_flow::{DepTags, DpAction, FlowKey, FlowMask, Verdict};

use crate::flows::{FlowTable, Installed};

/// The caches of one lane, without the lane.
pub struct Caches(FlowTable);

impl Caches {
    /// Empty caches for so many flows.
    pub fn new(limit: usize) -> Self {
        Caches(FlowTable::new(limit, 0x1234_5678_9abc_def1))
    }

    /// Caches an action list for packets like `key` under `mask`, making room if need be. False: too many masks.
    pub fn install(&mut self, key: &FlowKey, hash: u64, mask: &FlowMask, actions: Vec<DpAction>) -> bool {
        let verdict = Verdict {
            actions,
            mask: Box::new(*mask),
            drop: None,
            cacheable: true,
            deps: DepTags::default(),
            rules: Vec::new(),
            refresh: Vec::new(),
            counters: Vec::new(),
            effects: Vec::new(),
        };
        self.0.make_room(0);
        matches!(self.0.pin(key, hash, verdict, 1, 0), Installed::Yes(_))
    }

    /// A look-up by signature, as for packets of known flows.
    pub fn by_signature(&self, key: &FlowKey, hash: u64) -> Option<u32> {
        let guess = self.0.guess(hash);
        if self.0.confirm(guess, key, 1) { Some(guess) } else { self.0.lookup_signature(hash, key) }
    }

    /// A look-up by the classifier, as for new connections of known megaflows. Returns how many masks were tried.
    pub fn by_classifier(&mut self, key: &FlowKey, hash: u64) -> (Option<u32>, u32) {
        self.0.lookup_megaflow(hash, key, usize::MAX)
    }
}
