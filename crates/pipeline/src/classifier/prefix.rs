//! How many bits of an address must be looked at to know which prefixes cover it? A path-compressed binary trie.
//!
//! Values are left aligned in 128 bits. Like everything in a table the trie is shared between versions.

use triomphe::Arc;

use weft_flow::{FlowKey, FlowMask, PacketKey};

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

    /// Whether the field has more than 32 bits, and its number among those that do or do not.
    fn place(self) -> (bool, usize) {
        match self {
            PrefixField::Ipv4Src => (false, 0),
            PrefixField::Ipv4Dst => (false, 1),
            PrefixField::TpSrc => (false, 2),
            PrefixField::TpDst => (false, 3),
            PrefixField::Ipv6Src => (true, 0),
            PrefixField::Ipv6Dst => (true, 1),
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
    pub(crate) fn get(self, p: &PacketKey) -> u128 {
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
        let bits = self.get(&mask.0.packet);
        let len = bits.leading_ones();
        if bits == ones(len) { len } else { 0 }
    }
}

/// Length of the prefix that a mask has of each tracked field, or 0.
pub(crate) type PrefixLens = [u8; PREFIX_FIELDS];

fn prefixes_of(lens: &PrefixLens, packet: &PacketKey) -> impl Iterator<Item = (PrefixField, u128, u32)> {
    let all = PrefixField::ALL.into_iter().zip(lens).filter(|(_, len)| **len > 0);
    all.map(|(field, len)| (field, field.get(packet) & ones(u32::from(*len)), u32::from(*len)))
}

fn or_bytes(bytes: &mut [u8; 16], bits: u128) {
    *bytes = (u128::from_be_bytes(*bytes) | bits).to_be_bytes();
}

/// The first `len` bits set.
fn ones(len: u32) -> u128 {
    u128::MAX.checked_shl(128 - len.min(128)).unwrap_or(0)
}

/// How the bits of a node are kept: as many as the field has, so that tables of a million addresses stay small.
pub(crate) trait Store: Copy + Default + std::fmt::Debug {
    /// Left aligned.
    fn wide(self) -> u128;
    /// From left aligned bits.
    fn narrow(bits: u128) -> Self;
}

impl Store for u32 {
    fn wide(self) -> u128 {
        u128::from(self) << 96
    }
    fn narrow(bits: u128) -> u32 {
        (bits >> 96) as u32
    }
}

impl Store for u128 {
    fn wide(self) -> u128 {
        self
    }
    fn narrow(bits: u128) -> u128 {
        bits
    }
}

/// A set of prefixes, each with the number of rules that have it.
#[derive(Clone, Debug)]
pub(crate) struct PrefixTrie<B>(Child<B>);

impl<B> Default for PrefixTrie<B> {
    fn default() -> Self {
        PrefixTrie(Child::None)
    }
}

/// The bits of a part of the path.
#[derive(Clone, Copy, Debug)]
struct Part<B> {
    /// Left aligned.
    bits: B,
    /// Rules whose prefix ends here.
    rules: u32,
    /// How many bits: at least 1, except at the root.
    len: u8,
}

#[derive(Clone, Debug)]
struct Node<B> {
    part: Part<B>,
    children: [Child<B>; 2],
}

#[derive(Clone, Debug)]
enum Child<B> {
    None,
    Leaf(Part<B>),
    Node(Arc<Node<B>>),
}

/// The prefixes of all tracked fields of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefixes {
    narrow: [PrefixTrie<u32>; 4],
    wide: [PrefixTrie<u128>; 2],
}

impl Prefixes {
    pub(crate) fn lookup(&self, field: PrefixField, key: &FlowKey) -> Covering {
        let value = field.get(&key.packet);
        match field.place() {
            (false, at) => self.narrow[at].lookup(value),
            (true, at) => self.wide[at].lookup(value),
        }
    }
    /// Adds the prefixes that a rule looks for: of these lengths, in this packet.
    pub(crate) fn insert(&mut self, lens: &PrefixLens, packet: &PacketKey) {
        for (field, prefix, len) in prefixes_of(lens, packet) {
            match field.place() {
                (false, at) => self.narrow[at].insert(prefix, len),
                (true, at) => self.wide[at].insert(prefix, len),
            }
        }
    }
    /// Takes back what [`Prefixes::insert`] added.
    pub(crate) fn remove(&mut self, lens: &PrefixLens, packet: &PacketKey) {
        for (field, prefix, len) in prefixes_of(lens, packet) {
            match field.place() {
                (false, at) => self.narrow[at].remove(prefix, len),
                (true, at) => self.wide[at].remove(prefix, len),
            }
        }
    }
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

impl<B: Store> PrefixTrie<B> {
    pub(crate) fn lookup(&self, value: u128) -> Covering {
        let mut result = Covering { lens: 0, checked: 0 };
        let mut next = &self.0;
        loop {
            let (part, children) = match next {
                Child::None => return result,
                Child::Leaf(part) => (part, None),
                Child::Node(node) => (&node.part, Some(&node.children)),
            };
            let (rest, len) = (value.checked_shl(result.checked).unwrap_or(0), u32::from(part.len));
            let equal = (rest ^ part.bits.wide()).leading_zeros().min(len);
            result.checked += equal;
            if equal < len {
                result.checked += 1;
                return result;
            }
            if part.rules > 0 && result.checked > 0 {
                result.lens |= 1 << (result.checked - 1);
            }
            let Some(children) = children.filter(|_| result.checked < 128) else { return result };
            next = &children[bit(value, result.checked)];
            // Where another way leads on, the bit that chose this one counts too.
            if matches!(next, Child::None) {
                result.checked += 1;
            }
        }
    }

    pub(crate) fn insert(&mut self, prefix: u128, len: u32) {
        insert(&mut self.0, prefix, len);
    }

    pub(crate) fn remove(&mut self, prefix: u128, len: u32) {
        remove(&mut self.0, prefix, len);
    }
}

/// Bit `n` from the left.
fn bit(value: u128, n: u32) -> usize {
    usize::from(value.checked_shl(n).unwrap_or(0) >> 127 != 0)
}

impl<B: Store> Child<B> {
    fn leaf(bits: u128, len: u32, rules: u32) -> Child<B> {
        Child::Leaf(Part { bits: B::narrow(bits & ones(len)), rules, len: len as u8 })
    }
    fn part_mut(&mut self) -> Option<&mut Part<B>> {
        match self {
            Child::None => None,
            Child::Leaf(part) => Some(part),
            Child::Node(node) => Some(&mut Arc::make_mut(node).part),
        }
    }
    /// The node, made from the leaf if it is one.
    fn node_mut(&mut self) -> Option<&mut Node<B>> {
        if let Child::Leaf(part) = *self {
            *self = Child::Node(Arc::new(Node { part, children: [Child::None, Child::None] }));
        }
        match self {
            Child::Node(node) => Some(Arc::make_mut(node)),
            _ => None,
        }
    }
}

fn insert<B: Store>(child: &mut Child<B>, prefix: u128, len: u32) {
    let Some(part) = child.part_mut() else {
        *child = Child::leaf(prefix, len, 1);
        return;
    };
    let (bits, part_len) = (part.bits.wide(), u32::from(part.len));
    let equal = (prefix ^ bits).leading_zeros().min(part_len).min(len);
    if equal < part_len {
        // The ways part within this node: what is below the parting becomes a child.
        let rest = bits.checked_shl(equal).unwrap_or(0);
        (part.bits, part.len) = (B::narrow(rest), (part_len - equal) as u8);
        let below = std::mem::replace(child, Child::leaf(bits, equal, 0));
        if let Some(node) = child.node_mut() {
            node.children[bit(rest, 0)] = below;
        }
    }
    if equal == len {
        if let Some(part) = child.part_mut() {
            part.rules += 1;
        }
        return;
    }
    let rest = prefix.checked_shl(equal).unwrap_or(0);
    if let Some(node) = child.node_mut() {
        insert(&mut node.children[bit(rest, 0)], rest, len - equal);
    }
}

fn remove<B: Store>(child: &mut Child<B>, prefix: u128, len: u32) {
    let Some(part) = child.part_mut() else { return };
    let part_len = u32::from(part.len);
    if len < part_len || (prefix ^ part.bits.wide()).leading_zeros() < part_len {
        return;
    }
    if len == part_len {
        part.rules = part.rules.saturating_sub(1);
    } else if let Child::Node(node) = child {
        let rest = prefix.checked_shl(part_len).unwrap_or(0);
        remove(&mut Arc::make_mut(node).children[bit(rest, 0)], rest, len - part_len);
    }
    tidy(child);
}

/// What ends no prefix and parts no ways goes.
fn tidy<B: Store>(child: &mut Child<B>) {
    match child {
        Child::Leaf(part) if part.rules == 0 => *child = Child::None,
        Child::Node(node) => {
            let (part, children) = (node.part, &mut Arc::make_mut(node).children);
            match children {
                [Child::None, Child::None] if part.rules == 0 => *child = Child::None,
                [Child::None, Child::None] => *child = Child::Leaf(part),
                [only, Child::None] | [Child::None, only] if part.rules == 0 => {
                    let mut only = std::mem::replace(only, Child::None);
                    if let Some(below) = only.part_mut() {
                        let len = u32::from(part.len);
                        let bits = part.bits.wide() | below.bits.wide().checked_shr(len).unwrap_or(0);
                        (below.bits, below.len) = (B::narrow(bits), part.len + below.len);
                    }
                    *child = only;
                }
                _ => {}
            }
        }
        _ => {}
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
            let mut trie = PrefixTrie::<u128>::default();
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
            prop_assert!(matches!(trie.0, Child::None));
        }
    }
}
