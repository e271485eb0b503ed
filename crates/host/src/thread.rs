//! Which CPU and which name has a thread?

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Result;
use crate::error::Context;

/// Binds the calling thread to the given CPUs (numbers as in /proc/cpuinfo).
pub fn pin(cpus: &[usize]) -> Result<()> {
    let what = || format!("bind thread to CPUs {cpus:?}");
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).context(what)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).context(what)
}

/// The CPUs the calling thread may run on.
pub fn allowed_cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context(|| "read CPU affinity".into())?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Names the calling thread as tools show it; cut to 15 bytes.
pub fn set_name(name: &str) {
    let mut raw = [0u8; 16];
    for (to, from) in raw.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    // SAFETY: PR_SET_NAME reads at most 16 bytes, NUL-terminated here.
    unsafe { libc::prctl(libc::PR_SET_NAME, raw.as_ptr()) };
}
