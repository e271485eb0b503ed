//! What if a file shrinks while it is mapped?
//!
//! Who shares memory by a file descriptor can truncate the file, and then the kernel sends SIGBUS to whoever touches
//! what is no more: the whole process would die of one peer. A guarded mapping survives it: the handler puts zeroed
//! memory of our own in the place of the whole mapping, notes that, and the access goes on. SIGBUS for any other reason
//! ends the process as before.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Mappings that can be guarded at the same time.
const PLACES: usize = 2048;

/// A guarded range of addresses. `len` is 0 where the place is free; it is written last and cleared first, as the
/// handler reads without lock.
struct Place {
    start: AtomicUsize,
    len: AtomicUsize,
    lost: AtomicBool,
}

static TABLE: [Place; PLACES] =
    [const { Place { start: AtomicUsize::new(0), len: AtomicUsize::new(0), lost: AtomicBool::new(false) } };
        PLACES];

/// Whoever changes the table, or installs the handler, holds it.
static CHANGING: Mutex<()> = Mutex::new(());

/// Keeps a mapping guarded while it lives. To be dropped before the range is unmapped.
#[derive(Debug)]
pub struct BusGuard {
    place: usize,
}

impl BusGuard {
    /// Guards `len` bytes from address `start`: a whole mapping of a file, which stays until the guard is dropped.
    ///
    /// # Errors
    /// When the handler cannot be installed, or all places are taken.
    pub fn new(start: usize, len: usize) -> io::Result<BusGuard> {
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        install()?;
        let free = TABLE.iter().position(|place| place.len.load(Ordering::Acquire) == 0);
        let place = free.filter(|_| len > 0).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
        TABLE[place].start.store(start, Ordering::Release);
        TABLE[place].lost.store(false, Ordering::Release);
        TABLE[place].len.store(len, Ordering::Release);
        Ok(BusGuard { place })
    }

    /// Whether the file shrank, and the mapping is no longer the peer's.
    pub fn is_lost(&self) -> bool {
        TABLE[self.place].lost.load(Ordering::Acquire)
    }
}

impl Drop for BusGuard {
    fn drop(&mut self) {
        let _changing = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        TABLE[self.place].len.store(0, Ordering::Release);
    }
}

/// Installs the handler, once.
fn install() -> io::Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() {
        return Ok(());
    }
    // SAFETY: a zeroed sigaction is a valid one; the handler has the signature that SA_SIGINFO asks for, and does
    // nothing but what signal-safety(7) and Linux allow in a handler: atomics, and plain system calls.
    let done = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut())
    };
    crate::sys::cvt(done)?;
    let _ = DONE.set(());
    Ok(())
}

extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel gives a siginfo_t, and SIGBUS fills in the address.
    let address = unsafe { (*info).si_addr() } as usize;
    for place in &TABLE {
        let (len, start) = (place.len.load(Ordering::Acquire), place.start.load(Ordering::Acquire));
        if len == 0 || address.wrapping_sub(start) >= len {
            continue;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the range is a mapping that the owner of the guard keeps; it is replaced by memory that can be
        // accessed in the same ways, so that every pointer into it stays good.
        let put = unsafe { libc::mmap(start as *mut libc::c_void, len, access, flags, -1, 0) };
        if put != libc::MAP_FAILED {
            place.lost.store(true, Ordering::Release);
            return;
        }
    }
    // Nobody's mapping: the access is tried again without handler, and ends the process.
    // SAFETY: sets the default action.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsRawFd, FromRawFd};

    const LEN: usize = 1 << 16;

    fn shared() -> (File, *mut u8) {
        // SAFETY: makes a file that is only ours and maps it.
        unsafe {
            let fd = crate::sys::cvt(libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC)).unwrap();
            let file = File::from_raw_fd(fd);
            file.set_len(LEN as u64).unwrap();
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let map = libc::mmap(std::ptr::null_mut(), LEN, access, libc::MAP_SHARED, file.as_raw_fd(), 0);
            assert_ne!(map, libc::MAP_FAILED);
            (file, map.cast())
        }
    }

    #[test]
    fn a_file_that_shrinks_is_survived_and_noticed() {
        let (file, map) = shared();
        let guard = BusGuard::new(map as usize, LEN).unwrap();
        // SAFETY: inside the mapping, which stays until the end.
        unsafe {
            map.write_volatile(7);
            assert_eq!(map.read_volatile(), 7);
            assert!(!guard.is_lost());
            file.set_len(0).unwrap();
            assert_eq!(map.add(LEN - 1).read_volatile(), 0);
            assert!(guard.is_lost());
            map.write_volatile(8);
            assert_eq!(map.read_volatile(), 8, "memory of our own");
            drop(guard);
            libc::munmap(map.cast(), LEN);
        }
    }

    #[test]
    fn who_is_not_guarded_dies() {
        let (file, map) = shared();
        let (_other, other) = shared();
        let _guard = BusGuard::new(other as usize, LEN).unwrap();
        file.set_len(0).unwrap();
        // SAFETY: the child touches the mapping and ends; it calls nothing that might be locked.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                map.read_volatile();
                libc::_exit(0);
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGBUS);
        }
    }
}
