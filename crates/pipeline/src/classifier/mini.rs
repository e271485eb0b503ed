//! How is a match kept small? Only words in which it looks at something, in the order in which lookup visits them.

use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{CACHED_WORDS, FlowKey, FlowMask, KEY_WORDS, Match, PACKET_WORDS, PacketKey};

/// Number of stages of a lookup: metadata, link layer, network layer, transport layer.
pub(crate) const STAGES: usize = 4;

/// The stage in which a word of the packet section is looked at: ports, Ethernet and VLAN, network, transport. The
/// words of the other sections are all in the first.
const PACKET_STAGE: [u8; PACKET_WORDS] = [0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3];

fn stage_of(word: usize) -> usize {
    PACKET_STAGE.get(word).copied().unwrap_or(0).into()
}

/// A mask without its zero words.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct MiniMask {
    /// Index and mask of each word, by stage, and then by index.
    pub(crate) words: SmallVec<[(u8, u64); 8]>,
    /// Where in `words` each stage ends.
    pub(crate) ends: [u8; STAGES],
    hash: u64,
}

impl MiniMask {
    pub(crate) fn new(mask: &FlowMask) -> MiniMask {
        let mut mini = MiniMask { words: SmallVec::new(), ends: [0; STAGES], hash: 0 };
        // Nearly all words are zero: most are passed over eight at once.
        for (n, some) in mask.words().chunks(8).enumerate() {
            if some.iter().fold(0, |all, bits| all | bits) == 0 {
                continue;
            }
            for (i, bits) in some.iter().enumerate().filter(|(_, bits)| **bits != 0) {
                mini.words.push(((8 * n + i) as u8, *bits));
            }
        }
        mini.words.sort_by_key(|(word, _)| stage_of(usize::from(*word)));
        for (n, (word, _)) in mini.words.iter().enumerate() {
            mini.ends[stage_of(usize::from(*word))] = n as u8 + 1;
        }
        for stage in 1..STAGES {
            mini.ends[stage] = mini.ends[stage].max(mini.ends[stage - 1]);
        }
        mini.hash = finish(mini.words.iter().fold(1, |h, (word, bits)| mix(mix(h, (*word).into()), *bits)));
        mini
    }

    pub(crate) fn expand(&self) -> FlowMask {
        let mut mask = FlowMask::empty();
        self.add_to(&mut mask, self.words.len());
        mask
    }

    /// Hash of the mask itself.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Hash of what it looks at in `key`: that of the matches which cover the key.
    pub(crate) fn hash_of(&self, key: &FlowKey) -> u64 {
        let words = self.words.iter();
        finish(words.fold(0, |h, &(word, bits)| mix(h, key.words()[usize::from(word)] & bits)))
    }

    /// Whether all its bits are in `a` or `b`.
    pub(crate) fn is_within(&self, a: &FlowMask, b: &FlowMask) -> bool {
        self.words.iter().all(|&(word, bits)| {
            let at = usize::from(word);
            bits & !(a.words()[at] | b.words()[at]) == 0
        })
    }

    /// Adds the bits of the first `words` words.
    pub(crate) fn add_to(&self, mask: &mut FlowMask, words: usize) {
        let out = mask.0.words_mut();
        for &(word, bits) in &self.words[..words] {
            out[usize::from(word)] |= bits;
        }
    }

    /// The masked words of `key`.
    pub(crate) fn values(&self, key: &FlowKey) -> SmallVec<[u64; 4]> {
        self.words.iter().map(|&(word, bits)| key.words()[usize::from(word)] & bits).collect()
    }
}

/// Mixes a word into a hash.
#[inline]
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Spreads a hash over its high bits, which tries consume first.
#[inline]
pub(crate) fn finish(hash: u64) -> u64 {
    let h = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ (h >> 29)
}

/// A match in small form. Equal matches are equal.
#[derive(Clone, Debug)]
pub struct MiniMatch {
    pub(crate) mask: Arc<MiniMask>,
    pub(crate) values: SmallVec<[u64; 4]>,
}

impl MiniMatch {
    /// The small form of a match.
    pub fn new(matching: &Match) -> MiniMatch {
        let mask = MiniMask::new(&matching.mask);
        let values = mask.values(&matching.key);
        MiniMatch { mask: Arc::new(mask), values }
    }
    /// The match in full.
    pub fn expand(&self) -> Match {
        let mut full = Match { key: FlowKey::default(), mask: self.mask.expand() };
        for (&(word, _), value) in self.mask.words.iter().zip(&self.values) {
            full.key.words_mut()[usize::from(word)] = *value;
        }
        full
    }
    /// Whether it looks at the same bits as another rule's of the same table.
    pub fn is_alike(&self, other: &MiniMatch) -> bool {
        Arc::ptr_eq(&self.mask, &other.mask)
    }
    /// [`MiniMatch::expand`] into `full`, which is what `before` was expanded to, if there was one.
    pub fn expand_after(&self, before: Option<&MiniMatch>, full: &mut Match) {
        if !before.is_some_and(|before| before.is_alike(self)) {
            *full = self.expand();
            return;
        }
        for (&(word, _), value) in self.mask.words.iter().zip(&self.values) {
            full.key.words_mut()[usize::from(word)] = *value;
        }
    }
    /// The packet section of the values.
    pub(crate) fn packet(&self) -> PacketKey {
        let mut packet = PacketKey::default();
        for (&(word, _), value) in self.mask.words.iter().zip(&self.values) {
            if let Some(to) = packet.words_mut().get_mut(usize::from(word)) {
                *to = *value;
            }
        }
        packet
    }
    /// Whether `key` matches.
    #[inline]
    pub fn covers(&self, key: &FlowKey) -> bool {
        let words = self.mask.words.iter().zip(&self.values);
        words.into_iter().all(|(&(word, bits), value)| key.words()[usize::from(word)] & bits == *value)
    }
    /// Whether some packet matches both.
    pub fn overlaps(&self, other: &MiniMatch) -> bool {
        self.common(other)
            .all(|(mask, other_mask, value, other_value)| (value ^ other_value) & mask & other_mask == 0)
    }
    /// Whether every packet that matches this also matches `other`.
    pub fn is_within(&self, other: &MiniMatch) -> bool {
        let theirs = other.mask.words.iter().zip(&other.values);
        theirs.into_iter().all(|(&(word, bits), value)| {
            let mine = self.mask.words.iter().position(|(w, _)| *w == word);
            mine.is_some_and(|i| self.mask.words[i].1 & bits == bits && self.values[i] & bits == *value)
        })
    }
    fn common<'a>(&'a self, other: &'a MiniMatch) -> impl Iterator<Item = (u64, u64, u64, u64)> + 'a {
        let mine = self.mask.words.iter().zip(&self.values);
        mine.filter_map(move |(&(word, bits), value)| {
            let i = other.mask.words.iter().position(|(w, _)| *w == word)?;
            Some((bits, other.mask.words[i].1, *value, other.values[i]))
        })
    }
    /// Whether it looks at nothing.
    pub fn is_any(&self) -> bool {
        self.mask.words.is_empty()
    }
    pub(crate) fn hash(&self) -> u64 {
        finish(self.values.iter().fold(0, |h, v| mix(h, *v)))
    }
}

impl PartialEq for MiniMatch {
    fn eq(&self, other: &MiniMatch) -> bool {
        self.values == other.values && (Arc::ptr_eq(&self.mask, &other.mask) || self.mask == other.mask)
    }
}

impl Eq for MiniMatch {}

/// The words of a key that caches match on are the first [`CACHED_WORDS`]; the stages must not be confused by that.
const _: () = assert!(CACHED_WORDS < KEY_WORDS && KEY_WORDS <= u8::MAX as usize);
