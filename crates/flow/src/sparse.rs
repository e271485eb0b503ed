//! Which words of a key does a mask look at, and how are those few words hashed and compared?
//!
//! A mask has [`KEY_WORDS`] words and is nearly all zero. A [`SparseMask`] lists the others, so that a classifier with
//! many masks touches only what each one asks for. The words are ordered in four stages, so that a lookup can stop as
//! soon as the words of a stage fit no rule.

use smallvec::SmallVec;

use crate::hash::{SALT, fold};
use crate::{CACHED_WORDS, FlowMask, KEY_WORDS, PACKET_WORDS};

/// Number of stages.
pub const STAGES: usize = 4;

/// Stage of each word of a key: 0, what is not in the packet (port, tunnel, connection, registers); 1, Ethernet,
/// VLAN and MPLS; 2, IP addresses and header; 3, ports, ND and ARP hardware addresses.
pub const STAGE_OF_WORD: [u8; KEY_WORDS] = {
    let mut stage = [0; KEY_WORDS];
    let mut i = 1;
    while i < PACKET_WORDS {
        stage[i] = match i {
            1..=4 => 1,
            5..=11 => 2,
            _ => 3,
        };
        i += 1;
    }
    stage
};

/// One word of a mask that is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MaskWord {
    /// Bits that count.
    pub bits: u64,
    /// What the word is multiplied by in hashes; follows from `index`.
    salt: u64,
    /// Index of the word in the key, below [`KEY_WORDS`].
    pub index: u16,
}

/// The words of a mask that are not zero, by stage and then by index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SparseMask {
    words: SmallVec<[MaskWord; 6]>,
    /// Where each stage ends in `words`.
    ends: [u8; STAGES],
}

impl SparseMask {
    /// The words of a whole mask: for flow tables.
    pub fn new(mask: &FlowMask) -> Self {
        Self::of_words(mask.words())
    }

    /// The words of the sections that caches know, the registers left out: for the megaflow classifier.
    pub fn cached(mask: &FlowMask) -> Self {
        Self::of_words(&mask.words()[..CACHED_WORDS])
    }

    fn of_words(mask: &[u64]) -> Self {
        let mut out = SparseMask::default();
        for stage in 0..STAGES {
            for (index, &bits) in mask.iter().enumerate() {
                if bits != 0 && usize::from(STAGE_OF_WORD[index]) == stage {
                    out.words.push(MaskWord { bits, salt: salt(index), index: index as u16 });
                }
            }
            out.ends[stage] = out.words.len() as u8;
        }
        out
    }

    /// The words, by stage and then by index.
    #[inline]
    pub fn words(&self) -> &[MaskWord] {
        &self.words
    }

    /// Number of words: the length of a packed value.
    #[inline]
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether the mask looks at nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The words of one stage (0 to 3).
    #[inline]
    pub fn stage(&self, stage: usize) -> &[MaskWord] {
        let start = if stage == 0 { 0 } else { self.ends[stage - 1] };
        &self.words[usize::from(start)..usize::from(self.ends[stage])]
    }

    /// Hash of the bits that count.
    #[inline]
    pub fn hash_masked(&self, key: &[u64; KEY_WORDS], seed: u64) -> u64 {
        finish(hash_words(&self.words, key, seed), seed)
    }

    /// The same hash, of a value packed by [`SparseMask::pack`].
    #[inline]
    pub fn hash_packed(&self, packed: &[u64], seed: u64) -> u64 {
        let h = self.words.iter().zip(packed).fold(seed, |h, (w, v)| step(h, *v, w.salt, seed));
        finish(h, seed)
    }

    /// Hashes of the bits that count up to and including each stage: the last one is [`SparseMask::hash_masked`].
    /// Stages are computed one by one as the iterator is driven.
    pub fn stage_hashes<'a>(
        &'a self,
        key: &'a [u64; KEY_WORDS],
        seed: u64,
    ) -> impl Iterator<Item = u64> + 'a {
        (0..STAGES).scan(seed, move |h, stage| {
            for w in self.stage(stage) {
                *h = step(*h, key[usize::from(w.index)] & w.bits, w.salt, seed);
            }
            Some(finish(*h, seed))
        })
    }

    /// Whether `key` and `value` agree in the bits that count.
    #[inline]
    pub fn matches_masked(&self, key: &[u64; KEY_WORDS], value: &[u64; KEY_WORDS]) -> bool {
        let differ = |w: &MaskWord| {
            let i = usize::from(w.index);
            (key[i] ^ value[i]) & w.bits
        };
        self.words.iter().fold(0, |d, w| d | differ(w)) == 0
    }

    /// Whether `key` agrees with a value packed by [`SparseMask::pack`].
    #[inline]
    pub fn matches_packed(&self, key: &[u64; KEY_WORDS], packed: &[u64]) -> bool {
        let differ = |w: &MaskWord, v: &u64| (key[usize::from(w.index)] & w.bits) ^ v;
        packed.len() == self.words.len()
            && self.words.iter().zip(packed).fold(0, |d, (w, v)| d | differ(w, v)) == 0
    }

    /// The words of `key` that count, masked, in the order of [`SparseMask::words`]: what a classifier keeps.
    pub fn pack(&self, key: &[u64; KEY_WORDS]) -> SmallVec<[u64; 8]> {
        self.words.iter().map(|w| key[usize::from(w.index)] & w.bits).collect()
    }

    /// The whole mask again.
    pub fn to_mask(&self) -> FlowMask {
        let mut mask = FlowMask::empty();
        for w in &self.words {
            mask.0.words_mut()[usize::from(w.index)] = w.bits;
        }
        mask
    }
}

fn salt(index: usize) -> u64 {
    SALT[index % SALT.len()] ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Adds a word to a hash. The products do not depend on each other, so that they overlap in the processor.
#[inline(always)]
fn step(h: u64, word: u64, salt: u64, seed: u64) -> u64 {
    h.wrapping_add(fold(word ^ seed, salt ^ seed))
}

#[inline(always)]
fn hash_words(words: &[MaskWord], key: &[u64; KEY_WORDS], seed: u64) -> u64 {
    words.iter().fold(seed, |h, w| step(h, key[usize::from(w.index)] & w.bits, w.salt, seed))
}

#[inline(always)]
fn finish(h: u64, seed: u64) -> u64 {
    fold(h ^ SALT[0], seed ^ SALT[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Field, FlowKey, Match};
    use proptest::prelude::*;

    fn key_of(words: &[(usize, u64)]) -> FlowKey {
        let mut key = FlowKey::default();
        for (i, w) in words {
            key.words_mut()[*i] = *w;
        }
        key
    }

    proptest! {
        #[test]
        fn agrees_with_whole_masks(
            mask in prop::collection::vec((0..KEY_WORDS, any::<u64>()), 0..12),
            a in prop::collection::vec((0..KEY_WORDS, any::<u64>()), 0..12),
            flip in (0..KEY_WORDS, 0..64u32),
            seed: u64,
        ) {
            let (mask, a) = (FlowMask(key_of(&mask)), key_of(&a));
            let mut b = a;
            b.words_mut()[flip.0] ^= 1 << flip.1;
            let sparse = SparseMask::new(&mask);
            let same = mask.matches(&a, &b);
            prop_assert_eq!(sparse.to_mask(), mask);
            prop_assert_eq!(sparse.matches_masked(a.words(), b.words()), same);
            let packed = sparse.pack(b.words());
            prop_assert_eq!(sparse.matches_packed(a.words(), &packed), same);
            prop_assert_eq!(sparse.hash_masked(a.words(), seed) == sparse.hash_masked(b.words(), seed), same);
            prop_assert_eq!(sparse.hash_packed(&packed, seed), sparse.hash_masked(b.words(), seed));
            let last = sparse.stage_hashes(a.words(), seed).last();
            prop_assert_eq!(last, Some(sparse.hash_masked(a.words(), seed)));
        }
    }

    #[test]
    fn stages() {
        let m = Match::any()
            .with(Field::TcpDst, 80)
            .with(Field::IpDst, 1)
            .with(Field::EthType, 0x800)
            .with(Field::Reg3, 1);
        let sparse = SparseMask::new(&m.mask);
        let stages: Vec<usize> = (0..STAGES).map(|s| sparse.stage(s).len()).collect();
        assert_eq!(stages, [1, 1, 1, 1]);
        assert_eq!(SparseMask::cached(&m.mask).len(), 3);
    }
}
