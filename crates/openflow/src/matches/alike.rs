//! How are matches written that look at the same bits as the one before? It is kept as it was written, and only the values
//! are filled in. Long lists of rules are mostly such.

use weft_flow::{Field, Match, Premises};

use super::oxm::{Dialect, encode_field, fields};

/// The fields of the match that was written last.
#[derive(Debug, Default)]
pub(crate) struct Alike {
    /// What it depends on, besides the mask, which fields there are.
    written: Option<(Dialect, Premises)>,
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

/// Where the value of a field is.
#[derive(Debug)]
struct Slot {
    field: Field,
    mask: u128,
    at: usize,
}

impl Alike {
    /// As [`super::encode_tlvs`] without a cookie. With `same`, the mask is that of the match before.
    pub(crate) fn encode_tlvs(&mut self, dialect: Dialect, m: &Match, same: bool, out: &mut Vec<u8>) {
        let now = Some((dialect, m.premises()));
        if same && self.written == now {
            for Slot { field, mask, at } in &self.slots {
                put(&mut self.bytes, *at, usize::from(field.bytes()), field.get(&m.key) & mask);
            }
        } else {
            self.written = now;
            self.write(dialect, m);
        }
        out.extend_from_slice(&self.bytes);
    }

    fn write(&mut self, dialect: Dialect, m: &Match) {
        self.bytes.clear();
        self.slots.clear();
        for (field, value, mask) in fields(dialect, m) {
            if encode_field(dialect, field, value, mask, &mut self.bytes) {
                let len = usize::from(field.bytes());
                let behind = if mask == field.value_mask() { len } else { 2 * len };
                self.slots.push(Slot { field, mask, at: self.bytes.len() - behind });
            }
        }
    }
}

/// Overwrites `len` bytes with a number.
fn put(bytes: &mut [u8], at: usize, len: usize, value: u128) {
    let Some(to) = bytes.get_mut(at..at + len) else { return };
    match *to {
        [ref mut a] => *a = value as u8,
        [_, _] => to.copy_from_slice(&(value as u16).to_be_bytes()),
        [_, _, _, _] => to.copy_from_slice(&(value as u32).to_be_bytes()),
        _ => {
            let all = value.to_be_bytes();
            to.copy_from_slice(&all[all.len().saturating_sub(len)..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Version;
    use crate::matches::encode_tlvs;

    /// Values that fields depend on are mostly ones that something depends on.
    fn value(field: Field, random: u128) -> u128 {
        let of = |list: &[u128]| list[random as usize % list.len()];
        match field {
            Field::EthType => of(&[0x0800, 0x86dd, 0x0806, 0x8847, 0x894f, 5]),
            Field::NwProto => of(&[6, 17, 132, 1, 58, 253]),
            Field::Icmpv6Type => of(&[128, 135, 136]),
            Field::Icmpv6Code => of(&[0, 1]),
            Field::IpFrag => random & 3,
            Field::PacketType => of(&[0, 0x0001_0800, 0x0001_86dd]),
            _ => random,
        }
    }

    proptest! {
        /// What is filled in is what would be written.
        #[test]
        fn as_if_written_whole(
            others in prop::collection::vec(0..Field::ALL.len(), 0..6),
            basic: [bool; 6],
            values in prop::collection::vec(prop::collection::vec(any::<u128>(), 12), 1..6),
            bits in prop::collection::vec(prop_oneof![Just(u128::MAX), any::<u128>()], 12),
            version in 0usize..6,
        ) {
            let first = [Field::EthType, Field::NwProto, Field::Icmpv6Type, Field::Icmpv6Code, Field::IpFrag, Field::CtState];
            let basic = first.iter().zip(basic).filter(|(_, has)| *has).map(|(field, _)| *field);
            let picked: Vec<Field> = others.iter().map(|n| Field::ALL[*n]).chain(basic).collect();
            let dialect = if version == 0 { Dialect::Nxm } else { Dialect::Oxm(Version::ALL[version]) };
            let mut mask = weft_flow::FlowMask::empty();
            picked.iter().zip(&bits).for_each(|(field, bits)| field.mask_add(&mut mask, bits & field.value_mask()));
            let mut alike = Alike::default();
            for (n, values) in values.iter().enumerate() {
                let mut m = Match { mask, ..Match::any() };
                picked.iter().zip(values).for_each(|(field, random)| field.set(&mut m.key, value(*field, *random)));
                m.key.words_mut().iter_mut().zip(mask.words()).for_each(|(word, bits)| *word &= bits);
                let (mut whole, mut filled) = (vec![7], vec![7]);
                encode_tlvs(dialect, &m, None, &mut whole);
                alike.encode_tlvs(dialect, &m, n > 0, &mut filled);
                prop_assert_eq!(filled, whole, "{:?}", m);
            }
        }
    }
}
