//! How is a virtqueue read and written by the device's side? (virtio 1.2 §2.7, split virtqueues)
//!
//! Everything in it is the guest's to write at any time. Each number is read once, checked, and then used; a chain has
//! at most as many descriptors as the ring, so that no loop is followed for long. A ring that makes no sense is
//! [`Broken`], and is not looked at again before the frontend sets it up anew.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use super::memory::Memory;

/// Descriptors a ring may have: what the specification allows.
pub(super) const MOST_DESCRIPTORS: u32 = 32_768;

const DESCRIPTOR: usize = 16;
const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const DESC_INDIRECT: u16 = 4;
/// In the driver's ring: do not interrupt. In the device's: do not notify.
const QUIET: u16 = 1;

/// The guest wrote what makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// A buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffer {
    /// Guest address.
    pub(super) at: u64,
    /// Bytes.
    pub(super) len: u32,
    /// For the device to write, else to read.
    pub(super) writable: bool,
}

/// Where a ring is, in guest addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) descriptors: u64,
    pub(super) driver: u64,
    pub(super) device: u64,
}

/// A ring that works.
pub(super) struct Ring {
    memory: Arc<Memory>,
    size: u16,
    descriptors: NonNull<u8>,
    /// Flags, index, heads of chains; then which use the driver wants to be told of.
    driver: NonNull<u8>,
    /// Flags, index, used chains; then which chain the device wants to be told of.
    device: NonNull<u8>,
    /// By `VIRTIO_RING_F_EVENT_IDX`.
    event_idx: bool,
    /// The chain that is taken next.
    next: u16,
    /// Chains given back, and how many of them the guest may see.
    used: u16,
    shown: u16,
    /// Up to where it was told of them.
    told: u16,
    /// Whether the driver was asked to say nothing.
    quiet: bool,
}

// SAFETY: the pointers are into `memory`, which the ring keeps and which is good to use from any thread.
unsafe impl Send for Ring {}

impl Ring {
    /// A ring in memory, whose next chain is `next`. `None` if it is not all there, or not aligned.
    pub(super) fn new(
        memory: Arc<Memory>,
        size: u16,
        places: Places,
        next: u16,
        event_idx: bool,
    ) -> Option<Ring> {
        let n = usize::from(size);
        if !size.is_power_of_two() {
            return None;
        }
        let aligned = |at: NonNull<u8>, to: usize| at.as_ptr().addr().is_multiple_of(to).then_some(at);
        let descriptors = memory.at(places.descriptors, n * DESCRIPTOR).and_then(|at| aligned(at, 16))?;
        let driver = memory.at(places.driver, 6 + 2 * n).and_then(|at| aligned(at, 2))?;
        let device = memory.at(places.device, 6 + 8 * n).and_then(|at| aligned(at, 4))?;
        let mut ring = Ring {
            memory,
            size,
            descriptors,
            driver,
            device,
            event_idx,
            next,
            used: next,
            shown: next,
            told: next,
            quiet: false,
        };
        // What was given back before is in the ring itself: after a reconnection it is the truth.
        ring.used = ring.load(ring.device, 2);
        (ring.shown, ring.told) = (ring.used, ring.used);
        Some(ring)
    }

    /// The chain that is taken next; where a ring goes on that is set up again.
    pub(super) fn next(&self) -> u16 {
        self.next
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(super) fn size(&self) -> u16 {
        self.size
    }

    /// A number that both sides use.
    #[inline]
    fn load(&self, part: NonNull<u8>, at: usize) -> u16 {
        // SAFETY: callers ask for what `new` found to be there, at even places.
        let number = unsafe { AtomicU16::from_ptr(part.add(at).as_ptr().cast()) };
        u16::from_le(number.load(Ordering::Acquire))
    }

    #[inline]
    fn store(&self, part: NonNull<u8>, at: usize, value: u16) {
        // SAFETY: as in `load`.
        let number = unsafe { AtomicU16::from_ptr(part.add(at).as_ptr().cast()) };
        number.store(value.to_le(), Ordering::Release);
    }

    #[inline]
    fn slot(&self, index: u16) -> usize {
        usize::from(index & (self.size - 1))
    }

    /// The head of the next chain, which is taken by this; `None`: there is none.
    #[inline]
    pub(super) fn take(&mut self) -> Result<Option<u16>, Broken> {
        let waiting = self.load(self.driver, 2).wrapping_sub(self.next);
        if waiting == 0 {
            return Ok(None);
        }
        let head = self.load(self.driver, 4 + 2 * self.slot(self.next));
        if waiting > self.size || head >= self.size {
            return Err(Broken);
        }
        self.next = self.next.wrapping_add(1);
        Ok(Some(head))
    }

    /// Chains taken since `next` was what is given are there again.
    #[inline]
    pub(super) fn put_back(&mut self, next: u16) {
        self.next = next;
    }

    /// Goes through the buffers of a chain.
    #[inline]
    pub(super) fn chain(&self, head: u16, mut with: impl FnMut(Buffer)) -> Result<(), Broken> {
        let mut table = (self.descriptors, self.size);
        let mut index = head;
        let mut indirect = false;
        for _ in 0..self.size {
            if index >= table.1 {
                return Err(Broken);
            }
            // SAFETY: the table has `table.1` descriptors, and is in memory that the ring keeps. Indirect tables may
            // be anywhere: their bytes are read one array at a time, which needs no alignment.
            let raw: [u8; DESCRIPTOR] = unsafe {
                table.0.cast::<[u8; DESCRIPTOR]>().add(usize::from(index)).as_ptr().read_volatile()
            };
            let word = |at: usize, n: usize| {
                let mut bytes = [0; 8];
                bytes[..n].copy_from_slice(&raw[at..at + n]);
                u64::from_le_bytes(bytes)
            };
            let (at, len, flags, next) =
                (word(0, 8), word(8, 4) as u32, word(12, 2) as u16, word(14, 2) as u16);
            if flags & DESC_INDIRECT != 0 {
                let count = len as usize / DESCRIPTOR;
                let whole = (len as usize).is_multiple_of(DESCRIPTOR)
                    && count > 0
                    && count <= MOST_DESCRIPTORS as usize;
                if indirect || !whole || flags & DESC_NEXT != 0 {
                    return Err(Broken);
                }
                let first = self.memory.at(at, len as usize).ok_or(Broken)?;
                table = (first, u16::try_from(count).map_err(|_| Broken)?);
                (index, indirect) = (0, true);
                continue;
            }
            with(Buffer { at, len, writable: flags & DESC_WRITE != 0 });
            if flags & DESC_NEXT == 0 {
                return Ok(());
            }
            index = next;
        }
        Err(Broken)
    }

    /// Gives a chain back, `len` bytes of it written; the guest sees it after [`Ring::show`].
    #[inline]
    pub(super) fn give_back(&mut self, head: u16, len: u32) {
        let at = 4 + 8 * self.slot(self.used);
        let mut element = [0u8; 8];
        element[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        element[4..].copy_from_slice(&len.to_le_bytes());
        // SAFETY: inside the device's part, which has eight bytes for each chain.
        unsafe { self.device.add(at).cast::<[u8; 8]>().as_ptr().write_volatile(element) };
        self.used = self.used.wrapping_add(1);
    }

    /// Shows the guest what was given back. True: it wants to be told.
    #[inline]
    pub(super) fn show(&mut self) -> bool {
        if self.used == self.shown {
            return false;
        }
        self.store(self.device, 2, self.used);
        self.shown = self.used;
        // The index is written before it is read whether the guest waits for it; it does the reverse.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.load(self.driver, 4 + 2 * usize::from(self.size));
            let since = self.used.wrapping_sub(event).wrapping_sub(1);
            let tell = since < self.used.wrapping_sub(self.told);
            if tell {
                self.told = self.used;
            }
            tell
        } else {
            self.load(self.driver, 0) & QUIET == 0
        }
    }

    /// Asks the driver to say nothing about chains it adds.
    #[inline]
    pub(super) fn be_quiet(&mut self) {
        // With event indexes silence is the rule: the driver speaks once, at the index it was told.
        if !self.quiet && !self.event_idx {
            self.store(self.device, 0, QUIET);
        }
        self.quiet = true;
    }

    /// Chains that the driver has added so far, as a number that goes round.
    #[inline]
    pub(super) fn added(&self) -> u16 {
        self.load(self.driver, 2)
    }

    /// Asks the driver to tell of the next chain it adds; how many it had added when it was asked.
    #[inline]
    pub(super) fn listen(&mut self) -> u16 {
        let added = self.added();
        self.quiet = false;
        if self.event_idx {
            self.store(self.device, 4 + 8 * usize::from(self.size), added);
        } else {
            self.store(self.device, 0, 0);
        }
        // What was asked for is written before it is looked for; the driver does the reverse.
        fence(Ordering::SeqCst);
        added
    }
}
