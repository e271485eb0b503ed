//! Where is the guest's memory, as this process sees it?
//!
//! The frontend names regions three ways: by the guest's physical addresses, by its own addresses, and by a place in a
//! file. Rings are given by its own addresses, buffers by the guest's.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use weft_host::sharedmap::SharedMap;

/// Regions a guest may have.
const MOST_REGIONS: usize = 64;

/// A region as the frontend describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RegionSpec {
    /// Where the guest sees it.
    pub(super) guest: u64,
    /// Where the frontend sees it.
    pub(super) user: u64,
    /// Bytes.
    pub(super) len: u64,
    /// Where it begins in its file.
    pub(super) offset: u64,
}

/// A region, mapped.
#[derive(Debug)]
pub(super) struct Region {
    spec: RegionSpec,
    map: SharedMap,
}

impl Region {
    pub(super) fn new(spec: RegionSpec, file: &File) -> io::Result<Arc<Region>> {
        let ends = spec.guest.checked_add(spec.len).and(spec.user.checked_add(spec.len));
        ends.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        Ok(Arc::new(Region { spec, map: SharedMap::new(file, spec.offset, spec.len)? }))
    }
}

/// The guest's memory at one time. A change of it makes a new one.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// By guest address; they do not overlap.
    regions: Vec<Arc<Region>>,
}

impl Memory {
    /// Memory of these regions; `None` if they overlap, or are too many.
    pub(super) fn new(mut regions: Vec<Arc<Region>>) -> Option<Memory> {
        regions.sort_by_key(|r| r.spec.guest);
        let apart = regions.windows(2).all(|w| w[0].spec.guest + w[0].spec.len <= w[1].spec.guest);
        (apart && regions.len() <= MOST_REGIONS).then_some(Memory { regions })
    }

    /// The guest's address of what the frontend sees at `user`.
    pub(super) fn guest_address(&self, user: u64) -> Option<u64> {
        let region = self.regions.iter().find(|r| user.wrapping_sub(r.spec.user) < r.spec.len)?;
        Some(region.spec.guest + (user - region.spec.user))
    }

    /// The first of `n` bytes at a guest address that are in one region; good while this memory lives.
    #[inline]
    pub(super) fn at(&self, guest: u64, n: usize) -> Option<NonNull<u8>> {
        let region = self.regions.iter().find(|r| guest.wrapping_sub(r.spec.guest) < r.spec.len)?;
        region.map.range(guest - region.spec.guest, n)
    }

    /// Goes through `n` bytes from a guest address, region by region. False if not all of them are memory; then some may
    /// have been gone through.
    #[inline]
    pub(super) fn each_piece(&self, guest: u64, n: usize, mut with: impl FnMut(NonNull<u8>, usize)) -> bool {
        // Nearly always one piece.
        if let Some(at) = self.at(guest, n) {
            with(at, n);
            return true;
        }
        let (mut guest, mut left) = (guest, n);
        while left > 0 {
            let found = self.regions.iter().find(|r| guest.wrapping_sub(r.spec.guest) < r.spec.len);
            let Some(region) = found else { return false };
            let here =
                usize::try_from(region.spec.guest + region.spec.len - guest).map_or(left, |l| l.min(left));
            let Some(at) = region.map.range(guest - region.spec.guest, here) else { return false };
            with(at, here);
            guest = guest.wrapping_add(here as u64);
            left -= here;
        }
        true
    }

    /// Whether some of it was taken away.
    pub(super) fn is_lost(&self) -> bool {
        self.regions.iter().any(|r| r.map.is_lost())
    }

    /// The NUMA node of its first region.
    pub(super) fn numa_node(&self) -> Option<u32> {
        self.regions.first()?.map.numa_node()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(guest: u64, user: u64, len: u64) -> Arc<Region> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        Region::new(RegionSpec { guest, user, len, offset: 0 }, &file).unwrap()
    }

    #[test]
    fn addresses_are_found_or_not() {
        let memory = Memory::new(vec![region(0x2000, 0x9000, 0x1000), region(0, 0x5000, 0x2000)]).unwrap();
        assert_eq!(memory.guest_address(0x5010), Some(0x10));
        assert_eq!(memory.guest_address(0x9fff), Some(0x2fff));
        assert_eq!(memory.guest_address(0xa000), None);
        assert!(memory.at(0x1ff0, 0x10).is_some() && memory.at(0x1ff0, 0x11).is_none());
        assert!(memory.at(u64::MAX, 2).is_none());
        let mut pieces = Vec::new();
        assert!(memory.each_piece(0x1ff0, 0x20, |_, n| pieces.push(n)));
        assert_eq!(pieces, [0x10, 0x10]);
        assert!(!memory.each_piece(0x2ff0, 0x11, |_, _| {}));
        assert!(!memory.each_piece(u64::MAX - 3, 8, |_, _| {}));
    }

    #[test]
    fn regions_that_overlap_are_refused() {
        assert!(Memory::new(vec![region(0, 0, 0x1001), region(0x1000, 0x9000, 0x1000)]).is_none());
        let spec = RegionSpec { guest: u64::MAX - 10, user: 0, len: 4096, offset: 0 };
        assert!(Region::new(spec, &tempfile::tempfile().unwrap()).is_err());
    }
}
