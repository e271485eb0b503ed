//! What is asked of the processor and its memory itself?

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Asks for the cache line at `what` without waiting for it.
#[inline(always)]
pub(crate) fn prefetch<T>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint and never faults; SSE is in every x86-64.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(what).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}

/// A clock that costs next to nothing to read, for shares of time: its unit is about half a nanosecond.
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 has the instruction.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        crate::clock::now_us() * 2_000
    }
}

const HUGE_PAGE: usize = 2 << 20;

/// Zeroed memory in huge pages, where the kernel grants them: a batch of frames then takes one entry of the
/// processor's address cache instead of one per frame.
struct Region {
    start: NonNull<u8>,
    len: usize,
    mapped: *mut libc::c_void,
    mapped_len: usize,
}

// SAFETY: plain memory; whoever may touch which part is decided by `Buffer`.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped; no `Buffer` is left, for each holds the region.
        unsafe { libc::munmap(self.mapped, self.mapped_len) };
    }
}

/// A part of a [`Region`] of which it is the only owner.
pub(crate) struct Buffer {
    start: NonNull<u8>,
    len: usize,
    _region: Option<Arc<Region>>,
}

// SAFETY: a buffer owns its bytes alone, as a box does.
unsafe impl Send for Buffer {}

impl Buffer {
    /// `count` zeroed buffers of `len` bytes each.
    pub(crate) fn allocate(count: usize, len: usize) -> io::Result<Vec<Buffer>> {
        let stride = len.next_multiple_of(64);
        let total = count * stride;
        let mapped_len = total.next_multiple_of(HUGE_PAGE) + HUGE_PAGE;
        // SAFETY: a new private mapping; nothing else is at the address the kernel chooses.
        let mapped = unsafe {
            let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), mapped_len, prot, flags, -1, 0)
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let skip = mapped.align_offset(HUGE_PAGE);
        // SAFETY: the mapping is a huge page longer than `total`, so the aligned start and `total` lie inside.
        let start = unsafe { NonNull::new_unchecked(mapped.cast::<u8>().add(skip)) };
        // SAFETY: the range lies inside the mapping. Advice that is not taken changes nothing.
        unsafe { libc::madvise(start.as_ptr().cast(), total, libc::MADV_HUGEPAGE) };
        let region = Arc::new(Region { start, len: total, mapped, mapped_len });
        let buffer = |i: usize| {
            debug_assert!((i + 1) * stride <= region.len);
            // SAFETY: `i * stride + len` is at most `total`; ranges of different `i` do not overlap.
            let start = unsafe { region.start.add(i * stride) };
            Buffer { start, len, _region: Some(region.clone()) }
        };
        Ok((0..count).map(buffer).collect())
    }

    /// No memory.
    pub(crate) const fn none() -> Buffer {
        Buffer { start: NonNull::dangling(), len: 0, _region: None }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];
    #[inline(always)]
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are initialised (zeroed by the kernel), owned by this buffer, and live with its region.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for Buffer {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_apart() {
        let mut buffers = Buffer::allocate(5, 100_001).unwrap();
        for (i, buffer) in buffers.iter_mut().enumerate() {
            assert!(buffer.len() == 100_001 && buffer.iter().all(|b| *b == 0), "{i}");
            buffer.fill(i as u8 + 1);
        }
        let last = buffers.pop().unwrap();
        for (i, buffer) in buffers.iter().enumerate() {
            assert!(buffer.iter().all(|b| *b == i as u8 + 1), "{i}");
        }
        drop(buffers);
        assert!(last.iter().all(|b| *b == 5), "the region lives as long as one of its buffers");
        assert!(Buffer::none().is_empty());
    }
}
