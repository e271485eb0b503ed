//! How many bits of an address must be looked at to know which prefixes cover it? A path-compressed binary trie.
//!
//! Values are left aligned in 128 bits. Like everything in a table the trie is shared between versions.

use std::sync::Arc;

use weft_flow::FlowMask;
use weft_flow::{FlowKey, Match};

/// A field whose prefixes are tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrefixField {
    Ipv4Src,
    Ipv4Dst,
    Ipv6Src,
    Ipv6Dst,
    TpSrc,
    TpDst,
}

/// Number of tracked fields.
pub(crate) const PREFIX_FIELDS: usize = 6;

impl PrefixField {
    pub(crate) const ALL: [PrefixField; PREFIX_FIELDS] = [
        PrefixField::Ipv4Src,
        PrefixField::Ipv4Dst,
        PrefixField::Ipv6Src,
        PrefixField::Ipv6Dst,
        PrefixField::TpSrc,
        PrefixField::TpDst,
    ];

    /// The stage of a lookup in which the field is looked at.
    pub(crate) fn stage(self) -> usize {
        match self {
            PrefixField::TpSrc | PrefixField::TpDst => 3,
            _ => 2,
        }
    }

    fn width(self) -> u32 {
        match self {
            PrefixField::Ipv4Src | PrefixField::Ipv4Dst => 32,
            PrefixField::Ipv6Src | PrefixField::Ipv6Dst => 128,
            PrefixField::TpSrc | PrefixField::TpDst => 16,
        }
    }

    /// The field, left aligned.
    pub(crate) fn get(self, key: &FlowKey) -> u128 {
        let p = &key.packet;
        match self {
            PrefixField::Ipv4Src => u128::from(p.ipv4_src) << 96,
            PrefixField::Ipv4Dst => u128::from(p.ipv4_dst) << 96,
            PrefixField::Ipv6Src => u128::from_be_bytes(p.ipv6_src),
            PrefixField::Ipv6Dst => u128::from_be_bytes(p.ipv6_dst),
            PrefixField::TpSrc => u128::from(p.tp_src) << 112,
            PrefixField::TpDst => u128::from(p.tp_dst) << 112,
        }
    }

    /// Adds the first `len` bits of the field to a mask.
    pub(crate) fn add_prefix(self, mask: &mut FlowMask, len: u32) {
        let bits = ones(len.min(self.width()));
        let p = &mut mask.0.packet;
        match self {
            PrefixField::Ipv4Src => p.ipv4_src |= (bits >> 96) as u32,
            PrefixField::Ipv4Dst => p.ipv4_dst |= (bits >> 96) as u32,
            PrefixField::Ipv6Src => or_bytes(&mut p.ipv6_src, bits),
            PrefixField::Ipv6Dst => or_bytes(&mut p.ipv6_dst, bits),
            PrefixField::TpSrc => p.tp_src |= (bits >> 112) as u16,
            PrefixField::TpDst => p.tp_dst |= (bits >> 112) as u16,
        }
    }

    /// The length of the prefix that a mask looks at; 0 when it is none, or not a prefix.
    pub(crate) fn prefix_len(self, mask: &FlowMask) -> u32 {
        let bits = self.get(&mask.0);
        let len = bits.leading_ones();
        if bits == ones(len) { len } else { 0 }
    }

    /// The prefix that a match looks for, with its length.
    pub(crate) fn of(self, matching: &Match) -> Option<(u128, u32)> {
        let len = self.prefix_len(&matching.mask);
        (len > 0).then(|| (self.get(&matching.key) & ones(len), len))
    }
}

fn or_bytes(bytes: &mut [u8; 16], bits: u128) {
    *bytes = (u128::from_be_bytes(*bytes) | bits).to_be_bytes();
}

/// The first `len` bits set.
fn ones(len: u32) -> u128 {
    u128::MAX.checked_shl(128 - len.min(128)).unwrap_or(0)
}

/// A set of prefixes, each with the number of rules that have it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrefixTrie(Option<Arc<Node>>);

#[derive(Clone, Debug)]
struct Node {
    /// The bits of this node's part of the path, left aligned.
    bits: u128,
    /// How many they are: at least 1, except at the root.
    len: u32,
    /// Rules whose prefix ends here.
    rules: u32,
    children: [Option<Arc<Node>>; 2],
}

/// What a lookup tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covering {
    /// Bit *n* - 1 set: a prefix of *n* bits covers the value.
    lens: u128,
    /// Bits one must know of a value for this to hold.
    pub(crate) checked: u32,
}

impl Covering {
    /// Whether a prefix of `len` bits (at least 1) covers the value.
    pub(crate) fn has(&self, len: u32) -> bool {
        self.lens & (1 << (len - 1)) != 0
    }
}

impl PrefixTrie {
    pub(crate) fn lookup(&self, value: u128) -> Covering {
        let mut result = Covering { lens: 0, checked: 0 };
        let mut next = self.0.as_ref();
        while let Some(node) = next {
            let rest = value.checked_shl(result.checked).unwrap_or(0);
            let equal = (rest ^ node.bits).leading_zeros().min(node.len);
            result.checked += equal;
            if equal < node.len {
                result.checked += 1;
                return result;
            }
            if node.rules > 0 && result.checked > 0 {
                result.lens |= 1 << (result.checked - 1);
            }
            if result.checked >= 128 {
                return result;
            }
            next = node.children[bit(value, result.checked)].as_ref();
            // Where another way leads on, the bit that chose this one counts too.
            if next.is_none() && node.children.iter().any(Option::is_some) {
                result.checked += 1;
            }
        }
        result
    }

    pub(crate) fn insert(&mut self, prefix: u128, len: u32) {
        match &mut self.0 {
            Some(root) => insert(Arc::make_mut(root), prefix, len),
            None => self.0 = Some(Arc::new(Node::leaf(prefix, len))),
        }
    }

    pub(crate) fn remove(&mut self, prefix: u128, len: u32) {
        if let Some(root) = &mut self.0
            && remove(Arc::make_mut(root), prefix, len)
        {
            self.0 = None;
        }
    }
}

/// Bit `n` from the left.
fn bit(value: u128, n: u32) -> usize {
    usize::from(value.checked_shl(n).unwrap_or(0) >> 127 != 0)
}

impl Node {
    fn leaf(bits: u128, len: u32) -> Node {
        Node { bits: bits & ones(len), len, rules: 1, children: [None, None] }
    }
}

fn insert(node: &mut Node, prefix: u128, len: u32) {
    let equal = (prefix ^ node.bits).leading_zeros().min(node.len).min(len);
    if equal < node.len {
        // The ways part within this node: what is below the parting becomes a child.
        let rest = node.bits.checked_shl(equal).unwrap_or(0);
        let below = Node {
            bits: rest,
            len: node.len - equal,
            rules: node.rules,
            children: std::mem::take(&mut node.children),
        };
        *node = Node { bits: node.bits & ones(equal), len: equal, rules: 0, children: [None, None] };
        node.children[bit(rest, 0)] = Some(Arc::new(below));
    }
    if equal == len {
        node.rules += 1;
        return;
    }
    let (rest, len) = (prefix.checked_shl(equal).unwrap_or(0), len - equal);
    match &mut node.children[bit(rest, 0)] {
        Some(child) => insert(Arc::make_mut(child), rest, len),
        none => *none = Some(Arc::new(Node::leaf(rest, len))),
    }
}

/// Removes a prefix below `node`; true when the node is of no use any more.
fn remove(node: &mut Node, prefix: u128, len: u32) -> bool {
    let equal = (prefix ^ node.bits).leading_zeros().min(node.len);
    if equal < node.len || len < node.len {
        return false;
    }
    if len == node.len {
        node.rules = node.rules.saturating_sub(1);
    } else {
        let rest = prefix.checked_shl(node.len).unwrap_or(0);
        let child = &mut node.children[bit(rest, 0)];
        if let Some(c) = child
            && remove(Arc::make_mut(c), rest, len - node.len)
        {
            *child = None;
        }
    }
    if node.rules > 0 {
        return false;
    }
    match &mut node.children {
        [None, None] => true,
        [Some(only), None] | [None, Some(only)] => {
            // An empty node with one way on is joined to it.
            let child = Arc::unwrap_or_clone(only.clone());
            let bits = node.bits | child.bits.checked_shr(node.len).unwrap_or(0);
            *node = Node { bits, len: node.len + child.len, rules: child.rules, children: child.children };
            false
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixes() -> impl Strategy<Value = Vec<(u128, u32)>> {
        // Few distinct bits, so that prefixes share and contain each other.
        let one = (any::<u8>(), prop_oneof![1u32..10, Just(128)]);
        proptest::collection::vec(one.prop_map(|(v, len)| ((u128::from(v) << 120) & ones(len), len)), 1..40)
    }

    proptest! {
        #[test]
        fn covering_is_right_for_all_values_that_agree(
            all in prefixes(), removed in any::<u64>(), value in any::<u8>(), other in any::<u128>(),
        ) {
            let mut trie = PrefixTrie::default();
            for (prefix, len) in &all {
                trie.insert(*prefix, *len);
            }
            let before = trie.clone();
            let mut kept = Vec::new();
            for (n, (prefix, len)) in all.iter().enumerate() {
                if removed & (1 << n) != 0 {
                    trie.remove(*prefix, *len);
                } else {
                    kept.push((*prefix, *len));
                }
            }
            let value = u128::from(value) << 120;
            for (trie, set) in [(&trie, &kept), (&before, &all)] {
                let covering = trie.lookup(value);
                // Another value that has the same bits where they were looked at.
                let looked = ones(covering.checked);
                for v in [value, value & looked | other & !looked] {
                    for len in 1..=128 {
                        let covers = set.iter().any(|(p, l)| *l == len && (v ^ p) & ones(len) == 0);
                        // Prefixes longer than what was looked at are known not to cover it.
                        prop_assert_eq!(covers, covering.has(len), "len {} of {:?} in {:?}", len, covering, set);
                    }
                }
            }
            for (prefix, len) in kept {
                trie.remove(prefix, len);
            }
            prop_assert!(trie.0.is_none());
        }
    }
}
