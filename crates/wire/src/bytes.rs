//! How are big-endian fields read and written at fixed offsets?
//!
//! The readers take an array, so that with constant offsets every bound check is done by the
//! compiler and none is left at run time.

use crate::{Error, Result};

/// Splits off the first `N` bytes, or says that `layer` is truncated.
#[inline]
pub(crate) fn head<'a, const N: usize>(
    layer: &'static str,
    bytes: &'a [u8],
) -> Result<(&'a [u8; N], &'a [u8])> {
    bytes.split_first_chunk::<N>().ok_or(Error::truncated(layer))
}

/// Splits the first `N` bytes off a buffer that is to be written.
#[inline]
pub(crate) fn head_mut<'a, const N: usize>(
    layer: &'static str,
    bytes: &'a mut [u8],
) -> Result<(&'a mut [u8; N], &'a mut [u8])> {
    let have = bytes.len();
    bytes.split_first_chunk_mut::<N>().ok_or(Error::NoSpace { layer, need: N, have })
}

/// The first `need` bytes of a buffer that is to be written.
#[inline]
pub(crate) fn room<'a>(layer: &'static str, bytes: &'a mut [u8], need: usize) -> Result<&'a mut [u8]> {
    let have = bytes.len();
    bytes.get_mut(..need).ok_or(Error::NoSpace { layer, need, have })
}

#[inline]
pub(crate) const fn be16<const N: usize>(b: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

#[inline]
pub(crate) const fn be32<const N: usize>(b: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

#[inline]
pub(crate) fn array<const M: usize>(b: &[u8], at: usize) -> [u8; M] {
    let mut out = [0; M];
    out.copy_from_slice(&b[at..at + M]);
    out
}

#[inline]
pub(crate) fn put<const M: usize>(b: &mut [u8], at: usize, value: [u8; M]) {
    b[at..at + M].copy_from_slice(&value);
}

#[inline]
pub(crate) fn put16(b: &mut [u8], at: usize, value: u16) {
    put(b, at, value.to_be_bytes());
}

#[inline]
pub(crate) fn put32(b: &mut [u8], at: usize, value: u32) {
    put(b, at, value.to_be_bytes());
}
