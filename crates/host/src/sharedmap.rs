//! How is memory of another process used, given as a file descriptor?
//!
//! Nothing is taken for granted of the other side: the file may be no memory at all, shorter than it is said to be, or
//! shrink later (see [`crate::busguard`]). What is in the memory changes at any time; it is only ever read and written
//! through raw pointers, never borrowed.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::ptr::NonNull;

use crate::busguard::BusGuard;

/// Bytes a mapping may have: what no machine has yet.
const MOST: u64 = 1 << 44;

/// A part of a file, mapped to be read and written, shared with whoever else has the file.
#[derive(Debug)]
pub struct SharedMap {
    /// `None` while it is being unmapped.
    guard: Option<BusGuard>,
    /// Address and length of the whole mapping, which begins and ends at pages of the file's own size.
    base: NonNull<libc::c_void>,
    whole: usize,
    /// Where the part begins, and how long it is.
    skip: usize,
    len: usize,
}

// SAFETY: the mapping belongs to nobody in particular; access is through raw pointers, whose users see to it that what
// they do is right while others do the same.
unsafe impl Send for SharedMap {}
// SAFETY: as above.
unsafe impl Sync for SharedMap {}

impl SharedMap {
    /// Maps `len` bytes of `file` from `offset`.
    ///
    /// # Errors
    /// EINVAL when it is no plain file or memory, or not that long; else the kernel's reason.
    pub fn new(file: &File, offset: u64, len: u64) -> io::Result<SharedMap> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let status = file.metadata()?;
        let end = offset.checked_add(len).filter(|end| *end <= MOST && len > 0).ok_or_else(invalid)?;
        if !status.is_file() || end > status.size() {
            return Err(invalid());
        }
        // Files of huge pages are mapped by those.
        let page = status.blksize().max(4096).next_power_of_two();
        let first = offset / page * page;
        let whole = (end - first).next_multiple_of(page) as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
        let from = libc::off_t::try_from(first).map_err(|_| invalid())?;
        // SAFETY: a new mapping, where the kernel finds room.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), whole, access, flags, file.as_raw_fd(), from) };
        let base = NonNull::new(base).filter(|base| base.as_ptr() != libc::MAP_FAILED);
        let base = base.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: just mapped; a process that dumps its core leaves out the memory of others.
        unsafe { libc::madvise(base.as_ptr(), whole, libc::MADV_DONTDUMP) };
        match BusGuard::new(base.as_ptr() as usize, whole) {
            Ok(guard) => {
                let skip = (offset - first) as usize;
                Ok(SharedMap { guard: Some(guard), base, whole, skip, len: len as usize })
            }
            Err(e) => {
                // SAFETY: mapped above, and nobody has seen it.
                unsafe { libc::munmap(base.as_ptr(), whole) };
                Err(e)
            }
        }
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a mapping has at least one byte.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether the other side took the memory away; what is read since is zero, and what is written is seen by nobody.
    pub fn is_lost(&self) -> bool {
        self.guard.as_ref().is_some_and(BusGuard::is_lost)
    }

    /// The `n` bytes from `at`, if they are all inside. Good to read and write while the mapping lives.
    #[inline]
    pub fn range(&self, at: u64, n: usize) -> Option<NonNull<u8>> {
        let at = usize::try_from(at).ok()?;
        let end = at.checked_add(n)?;
        // SAFETY: inside the mapping.
        (end <= self.len).then(|| unsafe { self.base.cast::<u8>().add(self.skip + at) })
    }

    /// The NUMA node that the first page is on (get_mempolicy(2)), where the kernel knows nodes.
    pub fn numa_node(&self) -> Option<u32> {
        const MPOL_F_NODE: libc::c_ulong = 1;
        const MPOL_F_ADDR: libc::c_ulong = 2;
        let mut node: libc::c_int = -1;
        // SAFETY: writes one int to a live local; the address is inside the mapping.
        let ret = unsafe {
            let at = self.base.as_ptr();
            let none = std::ptr::null_mut::<libc::c_ulong>();
            libc::syscall(libc::SYS_get_mempolicy, &raw mut node, none, 0, at, MPOL_F_NODE | MPOL_F_ADDR)
        };
        if ret == 0 { u32::try_from(node).ok() } else { None }
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // First the guard: the addresses may be another's as soon as they are given back.
        self.guard = None;
        // SAFETY: mapped in `new`, unmapped once; pointers into it must not be used any more.
        unsafe { libc::munmap(self.base.as_ptr(), self.whole) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_mapped() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10_000).unwrap();
        for (offset, len, fits) in [
            (0, 10_000, true),
            (9_000, 1_000, true),
            (0, 10_001, false),
            (0, 0, false),
            (u64::MAX, 2, false),
            (1, u64::MAX, false),
        ] {
            assert_eq!(SharedMap::new(&file, offset, len).is_ok(), fits, "{offset} {len}");
        }
        assert!(SharedMap::new(&File::open("/dev/zero").unwrap(), 0, 4096).is_err());
        let map = SharedMap::new(&file, 5_000, 100).unwrap();
        assert!(map.range(0, 100).is_some() && map.range(99, 1).is_some() && map.range(100, 0).is_some());
        assert!(
            map.range(0, 101).is_none() && map.range(100, 1).is_none() && map.range(u64::MAX, 1).is_none()
        );
    }

    #[test]
    fn two_see_the_same() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let (one, two) =
            (SharedMap::new(&file, 4000, 200).unwrap(), SharedMap::new(&file, 4100, 100).unwrap());
        // SAFETY: inside the mappings, which live until the end.
        unsafe {
            one.range(150, 1).unwrap().write_volatile(42);
            assert_eq!(two.range(50, 1).unwrap().read_volatile(), 42);
            file.set_len(0).unwrap();
            assert_eq!(two.range(50, 1).unwrap().read_volatile(), 0);
        }
        assert!(two.is_lost());
    }
}
