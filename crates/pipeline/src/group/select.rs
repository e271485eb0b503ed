//! Which bucket does a hash lead to? Weighted tables, and the highest random weight.

use weft_flow::bucket_score;

use super::{Bucket, Group, GroupKind, SelectionMethod};

/// Most slots of a table when the group asks for the datapath's hash.
const MAX_SLOTS: u64 = 256;
/// Most slots when the method is the switch's choice.
const MAX_DEFAULT_SLOTS: u64 = 64;
/// Fewest slots.
const MIN_SLOTS: u64 = 16;

/// A table with a power of two of slots, each a bucket, in which buckets have shares by their weights.
#[derive(Clone, Debug)]
pub(crate) struct HashTable {
    /// Positions of buckets in their group.
    pub(crate) slots: Vec<u16>,
}

impl HashTable {
    /// The table of a group; `None` when the group chooses in another way, or its weights want too many slots.
    pub(super) fn new(group: &Group) -> Option<HashTable> {
        let most = match (group.kind, group.selection.method) {
            (GroupKind::Select, SelectionMethod::DpHash) => MAX_SLOTS,
            (GroupKind::Select, SelectionMethod::Default) => MAX_DEFAULT_SLOTS,
            _ => return None,
        };
        let weights: Vec<u64> = group.buckets.iter().map(|b| b.weight.into()).collect();
        let total: u64 = weights.iter().sum();
        let least = *weights.iter().filter(|w| **w > 0).min()?;
        let slots = total.div_ceil(least).next_power_of_two().max(MIN_SLOTS);
        (slots <= most).then(|| HashTable { slots: apportion(&weights, slots as usize) })
    }

    /// Which bits of the hash count.
    pub(crate) fn mask(&self) -> u32 {
        self.slots.len() as u32 - 1
    }

    /// The buckets for a hash, in the order in which they are tried.
    pub(crate) fn candidates(&self, hash: u32) -> impl Iterator<Item = usize> {
        let n = self.slots.len();
        let first = (hash & self.mask()) as usize;
        (0..n).map(move |i| self.slots[(first + i) % n].into())
    }
}

/// Gives slots to buckets by Webster's method: each next one to whom the greatest quotient of weight and 1, 3, 5…
fn apportion(weights: &[u64], slots: usize) -> Vec<u16> {
    let mut hits = vec![0u64; weights.len()];
    let winner = |hits: &[u64]| {
        // w/(2h+1) of two buckets, compared crosswise; the first of equals.
        let better = |a: usize, b: usize| weights[a] * (2 * hits[b] + 1) > weights[b] * (2 * hits[a] + 1);
        (1..weights.len()).fold(0, |best, i| if better(i, best) { i } else { best })
    };
    (0..slots)
        .map(|_| {
            let i = winner(&hits);
            hits[i] += 1;
            i as u16
        })
        .collect()
}

/// The bucket of the highest random weight for a hash, among those that `live` takes.
pub(crate) fn heaviest(buckets: &[Bucket], hash: u32, live: impl Fn(&Bucket) -> bool) -> Option<usize> {
    let mut best: Option<(u32, usize)> = None;
    for (i, bucket) in buckets.iter().enumerate().filter(|(_, b)| b.weight > 0 && live(b)) {
        let score = bucket_score(bucket.id, bucket.weight, hash);
        if best.is_none_or(|(s, _)| score >= s) {
            best = Some((score, i));
        }
    }
    best.map(|(_, i)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_weights() {
        let count = |weights: &[u64], slots| {
            let table = apportion(weights, slots);
            (0..weights.len())
                .map(|i| table.iter().filter(|s| usize::from(**s) == i).count())
                .collect::<Vec<_>>()
        };
        assert_eq!(count(&[1, 1], 16), [8, 8]);
        assert_eq!(count(&[1, 3], 16), [4, 12]);
        assert_eq!(count(&[0, 5], 16), [0, 16]);
        assert_eq!(count(&[100, 200, 100], 16), [4, 8, 4]);
    }

    #[test]
    fn heavier_buckets_win_more_often() {
        let buckets = [Bucket::new(0, 1, vec![]), Bucket::new(1, 3, vec![]), Bucket::new(2, 0, vec![])];
        let mut wins = [0; 3];
        for hash in 0..10_000 {
            wins[heaviest(&buckets, hash, |_| true).unwrap()] += 1;
        }
        assert!(wins[2] == 0 && wins[1] > 3 * wins[0] && wins[0] > 500, "{wins:?}");
        assert_eq!(heaviest(&buckets, 1, |b| b.id == 2), None);
    }
}
