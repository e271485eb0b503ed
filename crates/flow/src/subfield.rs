//! How are some bits of a field read, written and masked, tunnel options included?

use crate::{Field, FlowKey, FlowMask, Subfield, TlvTable};

impl Subfield {
    /// All of a field.
    pub fn whole(field: Field) -> Self {
        Subfield { field, start: 0, bits: field.bits() }
    }

    /// The bits as those of the field's number, if that is how the key holds it.
    fn ones(&self) -> Option<u128> {
        let end = u32::from(self.start) + u32::from(self.bits);
        if self.field.tun_metadata_index().is_some() || self.bits == 0 || end > u128::BITS {
            return None;
        }
        Some(u128::MAX >> (u128::BITS - u32::from(self.bits)) << self.start)
    }

    /// The bits in wire order, right aligned in as few bytes as hold them. Bits that a tunnel option does not have
    /// are zero.
    pub fn get(&self, key: &FlowKey, table: &TlvTable) -> Vec<u8> {
        let bytes = self.field.get_bytes(key, table);
        let mut out = shifted(&bytes, -i32::from(self.start), usize::from(self.bits).div_ceil(8));
        clear_above(&mut out, self.bits);
        out
    }

    /// The lowest 128 bits as a number.
    pub fn get_number(&self, key: &FlowKey, table: &TlvTable) -> u128 {
        if let Some(ones) = self.ones() {
            return (self.field.get(key) & ones) >> self.start;
        }
        self.get(key, table).iter().fold(0, |n, b| n << 8 | u128::from(*b))
    }

    /// Writes the bits, in wire order and right aligned; those that `value` lacks on its left are zero.
    pub fn set(&self, key: &mut FlowKey, table: &TlvTable, value: &[u8]) {
        let len = usize::from(self.start.saturating_add(self.bits)).div_ceil(8);
        let mut mask = vec![0xff; usize::from(self.bits).div_ceil(8)];
        clear_above(&mut mask, self.bits);
        let mask = shifted(&mask, self.start.into(), len);
        let value = shifted(value, self.start.into(), len);
        self.field.set_bytes(key, table, &value, &mask);
    }

    /// Writes the bits of a number.
    pub fn set_number(&self, key: &mut FlowKey, table: &TlvTable, value: u128) {
        self.set(key, table, &value.to_be_bytes());
    }

    /// Adds the bits to a mask of what counts; of a tunnel option, whether it is present counts too.
    pub fn mask_add(&self, mask: &mut FlowMask, table: &TlvTable) {
        if self.field == Field::InPort16 {
            self.field.mask_add(mask, 0xffff);
        } else if let Some(ones) = self.ones() {
            self.field.mask_add(mask, ones);
        } else {
            self.set(&mut mask.0, table, &vec![0xff; usize::from(self.bits).div_ceil(8)]);
        }
    }
}

/// Bytes as one number, shifted left (or right, when negative) by bits, in `len` bytes.
fn shifted(bytes: &[u8], by: i32, len: usize) -> Vec<u8> {
    // Bit 0 is the last byte's lowest.
    let bit_of = |at: i64| -> u8 {
        let Ok(at) = usize::try_from(at) else { return 0 };
        bytes.iter().rev().nth(at / 8).map_or(0, |b| b >> (at % 8) & 1)
    };
    let mut out = vec![0; len];
    for (i, byte) in out.iter_mut().rev().enumerate() {
        let low = 8 * i as i64 - i64::from(by);
        *byte = if low % 8 == 0 {
            usize::try_from(low).ok().and_then(|at| bytes.iter().rev().nth(at / 8)).copied().unwrap_or(0)
        } else {
            (0..8).fold(0, |b, bit| b | bit_of(low + bit) << bit)
        };
    }
    out
}

/// Clears the bits of a number above its lowest `bits`.
fn clear_above(bytes: &mut [u8], bits: u16) {
    if !bits.is_multiple_of(8)
        && let Some(first) = bytes.first_mut()
    {
        *first &= 0xff >> (8 - bits % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TlvMapping;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_are_those_of_numbers(value: u128, new: u128, a in 0..128u16, b in 0..128u16) {
            let table = TlvTable::new();
            let mut key = FlowKey::default();
            Field::Xxreg1.set(&mut key, value);
            let s = Subfield { field: Field::Xxreg1, start: a.min(b), bits: a.abs_diff(b) + 1 };
            let ones = if s.bits == 128 { u128::MAX } else { (1 << s.bits) - 1 };
            prop_assert_eq!(s.get_number(&key, &table), value >> s.start & ones);
            s.set_number(&mut key, &table, new & ones);
            let expected = value & !(ones << s.start) | (new & ones) << s.start;
            prop_assert_eq!(Field::Xxreg1.get(&key), expected);
            let mut mask = FlowMask::empty();
            s.mask_add(&mut mask, &table);
            prop_assert_eq!(Field::Xxreg1.mask_of(&mask), ones << s.start);
        }

        #[test]
        fn bits_of_options(body in prop::collection::vec(any::<u8>(), 124), a in 0..992u16, b in 0..992u16) {
            let lines = [TlvMapping { class: 1, kind: 1, len: 124, index: 5 }, TlvMapping { class: 1, kind: 2, len: 124, index: 6 }];
            let table = TlvTable::new().with(&lines).unwrap();
            let mut key = FlowKey::default();
            Field::TunMetadata5.set_bytes(&mut key, &table, &body, &[0xff; 124]);
            let (start, bits) = (a.min(b), a.abs_diff(b) + 1);
            let from = Subfield { field: Field::TunMetadata5, start, bits };
            let to = Subfield { field: Field::TunMetadata6, start, bits };
            let value = from.get(&key, &table);
            to.set(&mut key, &table, &value);
            prop_assert_eq!(to.get(&key, &table), value);
            let mut mask = FlowMask::empty();
            to.mask_add(&mut mask, &table);
            let got = Field::TunMetadata6.get_bytes(&key, &table);
            let bits = Field::TunMetadata6.get_bytes(&mask.0, &table);
            let expected: Vec<u8> = body.iter().zip(&bits).map(|(v, m)| v & m).collect();
            prop_assert_eq!(got, expected);
            prop_assert_eq!(mask.0.tun_metadata.present, 1 << 6);
        }
    }
}
