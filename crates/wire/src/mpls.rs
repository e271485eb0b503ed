//! How is an MPLS label stack laid out? (RFC 3032 §2.1)

use crate::bytes::{head, room};
use crate::{Error, Result};

const LAYER: &str = "mpls";

/// Bytes of one label stack entry.
pub const ENTRY_LEN: usize = 4;

/// One label stack entry: label (20 bits), traffic class (3), bottom of stack (1), TTL (8).
///
/// A single word, it is its own Repr: `MplsEntry(u32::from_be_bytes(bytes))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MplsEntry(pub u32);

impl MplsEntry {
    /// Makes an entry; bits that do not fit are cut off.
    #[inline]
    #[must_use]
    pub const fn new(label: u32, tc: u8, bottom: bool, ttl: u8) -> Self {
        Self((label & 0xf_ffff) << 12 | ((tc & 7) as u32) << 9 | (bottom as u32) << 8 | ttl as u32)
    }

    /// Reads the entry at the start of `bytes`; gives what follows, too.
    ///
    /// # Errors
    /// `Truncated` when `bytes` are shorter than [`ENTRY_LEN`].
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8])> {
        let (entry, rest) = head::<ENTRY_LEN>(LAYER, bytes)?;
        Ok((Self(u32::from_be_bytes(*entry)), rest))
    }

    /// Writes the entry at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is shorter than [`ENTRY_LEN`].
    #[inline]
    pub fn emit(self, buf: &mut [u8]) -> Result<usize> {
        room(LAYER, buf, ENTRY_LEN)?.copy_from_slice(&self.0.to_be_bytes());
        Ok(ENTRY_LEN)
    }

    /// The label, 20 bits.
    #[inline]
    #[must_use]
    pub const fn label(self) -> u32 {
        self.0 >> 12
    }

    /// Traffic class, 3 bits (RFC 5462).
    #[inline]
    #[must_use]
    pub const fn tc(self) -> u8 {
        (self.0 >> 9 & 7) as u8
    }

    /// True for the last entry of the stack.
    #[inline]
    #[must_use]
    pub const fn bottom(self) -> bool {
        self.0 & 0x100 != 0
    }

    /// Time to live.
    #[inline]
    #[must_use]
    pub const fn ttl(self) -> u8 {
        self.0 as u8
    }
}

/// The entries of a stack from top to bottom; ends after the bottom or with an error.
#[derive(Debug, Clone)]
pub struct MplsStack<'a> {
    rest: &'a [u8],
    done: bool,
}

impl<'a> MplsStack<'a> {
    /// Reads a stack from what follows a header of type MPLS.
    #[inline]
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, done: false }
    }

    /// What follows the entries read so far.
    #[inline]
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl Iterator for MplsStack<'_> {
    type Item = Result<MplsEntry>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match MplsEntry::parse(self.rest) {
            Ok((entry, rest)) => {
                self.rest = rest;
                self.done = entry.bottom();
                Some(Ok(entry))
            }
            Err(_) => {
                self.done = true;
                Some(Err(Error::truncated(LAYER)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(raw: u32) {
            let entry = MplsEntry(raw);
            prop_assert_eq!(MplsEntry::new(entry.label(), entry.tc(), entry.bottom(), entry.ttl()), entry);
            let mut buf = [0; ENTRY_LEN];
            entry.emit(&mut buf).unwrap();
            prop_assert_eq!(MplsEntry::parse(&buf).unwrap().0, entry);
        }
    }

    #[test]
    fn stacks() {
        let (top, bottom) = (MplsEntry::new(16, 0, false, 64), MplsEntry::new(17, 5, true, 63));
        let mut bytes = top.0.to_be_bytes().to_vec();
        bytes.extend(bottom.0.to_be_bytes());
        bytes.extend([0x45, 0]);
        let mut stack = MplsStack::new(&bytes);
        assert_eq!(stack.by_ref().collect::<Result<Vec<_>>>().unwrap(), [top, bottom]);
        assert_eq!(stack.rest(), [0x45, 0]);
        assert!(MplsStack::new(&bytes[..7]).any(|e| e.is_err()), "cut before the bottom");
        assert_eq!(MplsStack::new(&bytes[..2]).count(), 1);
    }
}
