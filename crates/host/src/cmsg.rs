//! How is a message's ancillary data (cmsg(3)) walked and built without allocation?

use std::ffi::c_int;

const ALIGN: usize = size_of::<usize>();
const HDR: usize = align(size_of::<libc::cmsghdr>());

const fn align(len: usize) -> usize {
    (len + ALIGN - 1) & !(ALIGN - 1)
}

/// Room one item of `len` bytes takes.
pub(crate) const fn space(len: usize) -> usize {
    HDR + align(len)
}

/// Ancillary data of one message: `N` bytes, aligned as the kernel wants them.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control<const N: usize>(pub(crate) [u8; N]);

/// One item: its level, its type, its bytes.
pub(crate) type Item<'a> = (c_int, c_int, &'a [u8]);

/// Walks the items of the first `len` bytes the kernel filled in.
pub(crate) fn items(control: &[u8], len: usize) -> impl Iterator<Item = Item<'_>> {
    let mut rest = &control[..len.min(control.len())];
    std::iter::from_fn(move || {
        if rest.len() < size_of::<libc::cmsghdr>() {
            return None;
        }
        // SAFETY: at least a cmsghdr's bytes are there; plain integers, read unaligned.
        let hdr: libc::cmsghdr = unsafe { rest.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
        #[allow(clippy::unnecessary_cast)] // u32 with other libcs
        let item_len = hdr.cmsg_len as usize;
        if item_len < HDR || item_len > rest.len() {
            return None;
        }
        let data = &rest[HDR..item_len];
        rest = &rest[align(item_len).min(rest.len())..];
        Some((hdr.cmsg_level, hdr.cmsg_type, data))
    })
}

/// Reads a plain value from an item's bytes, if they suffice. `T` is an integer or a C struct of integers.
pub(crate) fn value<T: Copy>(data: &[u8]) -> Option<T> {
    // SAFETY: length checked; callers use plain integer types, for which any bytes are valid.
    (data.len() >= size_of::<T>()).then(|| unsafe { data.as_ptr().cast::<T>().read_unaligned() })
}

/// Appends an item at `at`; returns the new end. Callers size `control` with [`space`].
pub(crate) fn push<T: Copy>(control: &mut [u8], at: usize, level: c_int, kind: c_int, value: T) -> usize {
    let end = at + space(size_of::<T>());
    let slot = &mut control[at..end];
    // SAFETY: zeroed plain data; fields set below (other libcs have padding fields).
    let mut hdr: libc::cmsghdr = unsafe { std::mem::zeroed() };
    hdr.cmsg_len = (HDR + size_of::<T>()) as _;
    hdr.cmsg_level = level;
    hdr.cmsg_type = kind;
    // SAFETY: `slot` holds HDR plus T's aligned size; both are plain data written unaligned.
    unsafe {
        slot.as_mut_ptr().cast::<libc::cmsghdr>().write_unaligned(hdr);
        slot.as_mut_ptr().add(HDR).cast::<T>().write_unaligned(value);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_walked() {
        let mut control = Control([0u8; space(4) + space(2)]);
        let end = push(&mut control.0, 0, 1, 2, 7i32);
        let end = push(&mut control.0, end, 3, 4, 9u16);
        assert_eq!(end, control.0.len());
        let got: Vec<_> = items(&control.0, end).map(|(l, t, d)| (l, t, d.to_vec())).collect();
        assert_eq!(got, [(1, 2, 7i32.to_ne_bytes().to_vec()), (3, 4, 9u16.to_ne_bytes().to_vec())]);
        assert_eq!(items(&control.0, 5).count(), 0, "a cut item is not walked");
        control.0[0] = 3;
        assert_eq!(items(&control.0, end).count(), 0, "a length below the header ends the walk");
    }
}
