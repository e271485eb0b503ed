//! Which cached flows may a changed rule be of any concern to? Tags: bits that a flow has and a change announces.
//!
//! Where a table has few masks, a flow has a tag for each: of the values it was looked up with if the mask was seen
//! whole, which only rules with these values announce, or else of the mask. A mask that is new concerns all. Where a
//! table has many masks, or conjunctive matches, a flow has a tag of the table.
//!
//! All bits depend on the table's number only, not on the bridge's: whoever knows the bridge rotates them.

use weft_flow::{FlowKey, FlowMask};

use super::Classifier;
use super::mini::{finish, mix};
use crate::table::Rule;

/// Masks up to which flows have a tag for each.
const FEW: usize = 4;

fn bit(table: u8, kind: u64, what: u64) -> u64 {
    1 << (finish(mix(mix(u64::from(table) + 1, kind), what)) >> 58)
}

fn of_table(table: u8) -> u64 {
    bit(table, 1, 0)
}

fn of_masks(table: u8) -> u64 {
    bit(table, 2, 0)
}

fn of_mask(table: u8, mask: u64) -> u64 {
    bit(table, 3, mask)
}

fn of_values(table: u8, mask: u64, values: u64) -> u64 {
    bit(table, 4, mask.rotate_left(17) ^ values)
}

impl Classifier {
    /// Tags of a flow whose key was looked up in this table, all of whose packets agree in the bits `seen` and `known`.
    /// With `coarse` a single tag.
    pub(crate) fn tags(
        &self,
        table: u8,
        key: &FlowKey,
        seen: &FlowMask,
        known: &FlowMask,
        coarse: bool,
    ) -> u64 {
        if coarse || self.masks > FEW || self.conjunctive > 0 {
            return of_table(table);
        }
        self.order.values().fold(of_masks(table), |tags, subtable| {
            let mask = &subtable.mask;
            tags | if mask.is_within(seen, known) {
                of_values(table, mask.hash(), mask.hash_of(key))
            } else {
                of_mask(table, mask.hash())
            }
        })
    }

    /// Subtables that were ever made: a change of it concerns all flows of the table.
    pub(crate) fn generation(&self) -> u64 {
        self.made
    }
}

/// Tags that the change of a rule announces; `new_mask`: it came with a new subtable.
pub(crate) fn changed(rule: &Rule, new_mask: bool) -> u64 {
    let (table, mask) = (rule.table, rule.matching.mask.hash());
    let tags = of_table(table) | of_mask(table, mask) | of_values(table, mask, rule.matching.hash());
    if new_mask { tags | of_masks(table) } else { tags }
}

/// Tags of a flow that looked in a table that is not there.
pub(crate) fn absent(table: u8) -> u64 {
    of_masks(table)
}
