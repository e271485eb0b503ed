//! What a rule matches.

use crate::{FlowKey, FlowMask};

/// A value and the bits of it that count. Canonical: bits outside the mask are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Match {
    /// Values.
    pub key: FlowKey,
    /// Bits that count.
    pub mask: FlowMask,
}

impl Match {
    /// Matches every packet.
    pub fn any() -> Self {
        Match::default()
    }
    /// A match of `key` under `mask`, made canonical.
    pub fn new(key: &FlowKey, mask: FlowMask) -> Self {
        Match { key: mask.apply(key), mask }
    }
    /// Whether `key` matches.
    #[inline]
    pub fn covers(&self, key: &FlowKey) -> bool {
        self.mask.matches(key, &self.key)
    }
}
