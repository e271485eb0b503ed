//! Which cached flow did packets with this hash hit last? The signature match cache.
//!
//! It remembers, per packet hash, only the index of a flow: eight bytes instead of a whole key. The flow is then
//! compared with the packet under the flow's own mask. That is exact: every bit that had a part in a verdict is in
//! its mask, so any cached flow that matches gives the right verdict. Ten thousand connections on one megaflow
//! thus share one flow's cache lines, and an entry for a deleted flow needs no invalidation.

use crate::arch::prefetch;

/// Entries in all: 256 KiB, which stays in a second-level cache.
const ENTRIES: usize = 32_768;
const WAYS: usize = 4;
const BUCKETS: usize = ENTRIES / WAYS;

/// Four entries, half a cache line.
#[derive(Clone, Copy, Default)]
#[repr(C, align(32))]
struct Bucket {
    /// The high half of the hash.
    tags: [u32; WAYS],
    /// Index of the flow.
    flows: [u32; WAYS],
}

/// The cache of one lane.
pub(crate) struct SignatureCache {
    buckets: Box<[Bucket; BUCKETS]>,
    /// Insertions into full buckets.
    pressed: u32,
}

/// Of so many hashes that find their bucket full, one gets in: more connections than there are entries then keep some
/// of them, and packets that come once do not push out those of connections.
const ADMITTED: u32 = 8;

impl SignatureCache {
    pub(crate) fn new() -> Self {
        let buckets = vec![Bucket { tags: [0; WAYS], flows: [u32::MAX; WAYS] }; BUCKETS].into_boxed_slice();
        match buckets.try_into() {
            Ok(buckets) => SignatureCache { buckets, pressed: 0 },
            Err(_) => unreachable!("the vector has BUCKETS elements"),
        }
    }

    #[inline]
    fn bucket(&self, hash: u64) -> &Bucket {
        &self.buckets[hash as usize % BUCKETS]
    }

    /// Asks the processor to fetch what [`SignatureCache::candidates`] will read.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        prefetch(self.bucket(hash));
    }

    /// Flows that packets with this hash may hit; each is to be compared. Indices may be stale.
    #[inline(always)]
    pub(crate) fn candidates(&self, hash: u64) -> Candidates<'_> {
        let bucket = self.bucket(hash);
        let tag = (hash >> 32) as u32;
        let mut ways = 0;
        for way in 0..WAYS {
            ways |= u32::from(bucket.tags[way] == tag) << way;
        }
        Candidates { bucket, ways }
    }

    /// Remembers that packets with this hash hit `flow`; not always, if others have its place.
    #[inline]
    pub(crate) fn insert(&mut self, hash: u64, flow: u32) {
        let bucket = &mut self.buckets[hash as usize % BUCKETS];
        let tag = (hash >> 32) as u32;
        let known = (0..WAYS).find(|&w| bucket.tags[w] == tag || bucket.flows[w] == u32::MAX);
        let way = match known {
            Some(way) => way,
            None => {
                self.pressed = self.pressed.wrapping_add(1);
                if !self.pressed.is_multiple_of(ADMITTED) {
                    return;
                }
                // Bits that choose neither bucket nor, mostly, tag.
                (hash >> 24) as usize % WAYS
            }
        };
        bucket.tags[way] = tag;
        bucket.flows[way] = flow;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.buckets.fill(Bucket { tags: [0; WAYS], flows: [u32::MAX; WAYS] });
    }
}

/// See [`SignatureCache::candidates`].
pub(crate) struct Candidates<'a> {
    bucket: &'a Bucket,
    ways: u32,
}

impl Iterator for Candidates<'_> {
    type Item = u32;
    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if self.ways == 0 {
            return None;
        }
        let way = self.ways.trailing_zeros() as usize % WAYS;
        self.ways &= self.ways - 1;
        Some(self.bucket.flows[way])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_and_keeps_the_ways_apart() {
        let mut cache = SignatureCache::new();
        let guess = |cache: &SignatureCache, hash| cache.candidates(hash).next().filter(|f| *f != u32::MAX);
        assert_eq!(guess(&cache, 7), None);
        // Five hashes of one bucket, each with a tag of its own.
        let hashes: Vec<u64> = (1..=5u64).map(|i| (i << 32) | (i << 24) | 7).collect();
        for (i, hash) in hashes[..4].iter().enumerate() {
            cache.insert(*hash, i as u32);
        }
        for (i, hash) in hashes[..4].iter().enumerate() {
            assert_eq!(cache.candidates(*hash).collect::<Vec<_>>(), [i as u32]);
        }
        cache.insert(hashes[4], 4);
        assert_eq!(guess(&cache, hashes[4]), None, "once is not enough to push others out");
        (1..ADMITTED).for_each(|_| cache.insert(hashes[4], 4));
        cache.insert(hashes[4], 4);
        let alive = hashes.iter().filter(|h| guess(&cache, **h).is_some()).count();
        assert_eq!((alive, guess(&cache, hashes[4])), (4, Some(4)), "one of the four gave way");
        cache.insert(hashes[4], 5);
        assert_eq!(guess(&cache, hashes[4]), Some(5), "its place is its own");
        cache.clear();
        assert_eq!(guess(&cache, hashes[4]), None);
    }
}
