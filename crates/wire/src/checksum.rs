//! What is the Internet checksum of these bytes, and how does it change with them? (RFC 1071, RFC 1624)
//!
//! A [`Sum`] is a ones-complement sum that was not folded yet. Sums of parts are added with `+`;
//! a part that starts at an odd offset of the whole is turned by [`Sum::swapped`] first. Words are
//! summed in the order of the machine and turned once at the end, which RFC 1071 §2(B) allows.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::{Add, AddAssign};

use crate::IpProto;

/// A ones-complement sum of 16-bit big-endian words, not folded.
///
/// The sum of 64 KiB stays below 2^47, so more of them than a machine has memory for may be added
/// without a fold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// The sum of bytes; an odd last byte counts as if a zero followed it.
    #[inline]
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        sum(bytes)
    }

    /// The sum of one 16-bit word, given as a number.
    #[inline]
    #[must_use]
    pub const fn word(value: u16) -> Self {
        Self(value.to_be() as u64)
    }

    /// The sum of one 32-bit field, given as a number.
    #[inline]
    #[must_use]
    pub const fn long(value: u32) -> Self {
        Self(value.to_be() as u64)
    }

    /// The sum that these words have when they start at an odd offset.
    #[inline]
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self(fold(self.0).swap_bytes() as u64)
    }

    /// Folded to 16 bits: what a pseudo-header sum in a checksum field holds.
    #[inline]
    #[must_use]
    pub const fn value(self) -> u16 {
        u16::from_be(fold(self.0))
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    #[must_use]
    pub const fn finish(self) -> u16 {
        !self.value()
    }

    /// The checksum as UDP sends it: never 0, which would mean "none" (RFC 768).
    #[inline]
    #[must_use]
    pub const fn finish_nonzero(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// True when the bytes summed, their checksum field among them, are intact.
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }

    /// The sum of the IPv4 pseudo header (RFC 9293 §3.1); `len` counts the transport header and
    /// its payload.
    #[inline]
    #[must_use]
    pub fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, proto: IpProto, len: u16) -> Self {
        Self::long(src.to_bits())
            + Self::long(dst.to_bits())
            + Self::word(u16::from(proto.0))
            + Self::word(len)
    }

    /// The sum of the IPv6 pseudo header (RFC 8200 §8.1); `len` counts the transport header and
    /// its payload, without extension headers.
    #[inline]
    #[must_use]
    pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, proto: IpProto, len: u32) -> Self {
        Self::of(&src.octets()) + Self::of(&dst.octets()) + Self::word(u16::from(proto.0)) + Self::long(len)
    }
}

impl Add for Sum {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl AddAssign for Sum {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Adds the carries back until 16 bits are left (RFC 1071 §2).
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The plain sum of 32-bit words in 64 bits: a reduction that the compiler turns into vector
/// additions of any width. Folding comes once, at the end.
#[inline]
fn sum(bytes: &[u8]) -> Sum {
    let (words, tail) = bytes.as_chunks::<4>();
    let total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    Sum(total + u64::from(u32::from_ne_bytes(last)))
}

/// Bytes copied before they are summed: they are still in the first-level cache then.
const COPY_BLOCK: usize = 2048;

/// Copies `src` to the start of `dst` and returns the sum of the bytes copied.
///
/// Copies what fits: `min(src.len(), dst.len())` bytes.
#[inline]
#[must_use]
pub fn copy_and_sum(dst: &mut [u8], src: &[u8]) -> Sum {
    let mut total = Sum::ZERO;
    for (to, from) in dst.chunks_mut(COPY_BLOCK).zip(src.chunks(COPY_BLOCK)) {
        let n = to.len().min(from.len());
        to[..n].copy_from_slice(&from[..n]);
        total += sum(&from[..n]);
    }
    total
}

/// The checksum field after one 16-bit word under it changed (RFC 1624 §3, equation 3).
///
/// For UDP over IPv4 a field of 0 means "no checksum" and must be left alone by the caller.
#[inline]
#[must_use]
pub const fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    update(checksum, Sum::word(old), Sum::word(new))
}

/// The checksum field after one 32-bit field (at an even offset) changed.
#[inline]
#[must_use]
pub const fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    update(checksum, Sum::long(old), Sum::long(new))
}

/// The checksum field after bytes with the sum `old` gave way to bytes with the sum `new`.
#[inline]
#[must_use]
pub const fn update(checksum: u16, old: Sum, new: Sum) -> u16 {
    let kept = (!checksum).to_be() as u64;
    let removed = !fold(old.0) as u64;
    let added = fold(new.0) as u64;
    !u16::from_be(fold(kept + removed + added))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as it is written, a word at a time.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            (any::<u8>(), 0usize..6000).prop_map(|(b, n)| vec![b; n]),
        ]
    }

    proptest! {
        #[test]
        fn equals_naive(data in bytes()) {
            prop_assert_eq!(Sum::of(&data).value(), naive(&data));
        }

        #[test]
        fn parts_combine(data in bytes(), cut: prop::sample::Index) {
            let at = cut.index(data.len() + 1);
            let (a, b) = data.split_at(at);
            let b = if at % 2 == 0 { Sum::of(b) } else { Sum::of(b).swapped() };
            prop_assert_eq!((Sum::of(a) + b).value(), naive(&data));
        }

        #[test]
        fn copy_sums(data in bytes(), room in 0usize..6000) {
            let mut dst = vec![0xaa; room];
            let n = room.min(data.len());
            prop_assert_eq!(copy_and_sum(&mut dst, &data).value(), naive(&data[..n]));
            prop_assert_eq!(&dst[..n], &data[..n]);
            prop_assert!(dst[n..].iter().all(|b| *b == 0xaa));
        }

        #[test]
        fn update_equals_recompute(mut data in prop::collection::vec(any::<u8>(), 8..64), at in 0usize..3, new: u32) {
            data[7] |= 1; // all-zero data has two checksums
            let at = at * 2 % (data.len() - 4);
            let at = if at + 4 > 7 { 0 } else { at };
            let before = Sum::of(&data).finish();
            let old = u32::from_be_bytes(data[at..at + 4].try_into().unwrap());
            data[at..at + 4].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update32(before, old, new), Sum::of(&data).finish());
            let low = update16(before, (old >> 16) as u16, (new >> 16) as u16);
            prop_assert_eq!(update16(low, old as u16, new as u16), Sum::of(&data).finish());
        }

        #[test]
        fn verifies(mut data in prop::collection::vec(any::<u8>(), 2..100)) {
            data[..2].fill(0);
            let checksum = Sum::of(&data).finish();
            data[..2].copy_from_slice(&checksum.to_be_bytes());
            // All-zero data sums to 0 even with its checksum in place only if that is 0: it is 0xffff.
            prop_assert!(Sum::of(&data).is_valid());
            data[0] ^= 0x40;
            prop_assert!(!Sum::of(&data).is_valid());
        }
    }

    #[test]
    fn rfc_1071_example() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&data).value(), 0xddf2);
    }

    #[test]
    fn largest_buffer() {
        for n in [65_534, 65_535, 65_536, 262_144] {
            let data = vec![0xff; n];
            assert_eq!(Sum::of(&data).value(), naive(&data), "{n}");
        }
    }

    #[test]
    fn pseudo_headers() {
        let (a, b) = ("192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let raw = [192, 0, 2, 1, 198, 51, 100, 7, 0, 17, 0x12, 0x34];
        assert_eq!(Sum::pseudo_v4(a, b, IpProto::UDP, 0x1234).value(), naive(&raw));
        let (a, b): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "fe80::2".parse().unwrap());
        let mut raw = a.octets().to_vec();
        raw.extend(b.octets());
        raw.extend([0, 1, 0x12, 0x34, 0, 0, 0, 6]);
        assert_eq!(Sum::pseudo_v6(a, b, IpProto::TCP, 0x11234).value(), naive(&raw));
    }
}
