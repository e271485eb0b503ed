//! How is Weft started in a namespace, and what does the kernel say of its process?

use crate::ns::{World, wait_for};
use crate::ovs;

/// Starts `weft switch` in namespace `ns`; returns its pid.
pub(crate) fn start(world: &mut World, ns: &str) -> Result<u32, String> {
    start_with(world, ns, &[])
}

/// As [`start`], with further arguments.
pub(crate) fn start_with(world: &mut World, ns: &str, args: &[&str]) -> Result<u32, String> {
    let dir = world.dir.join(ns);
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let d = dir.display().to_string();
    let env = ovs::env(world, ns);
    let db = format!("{d}/conf.db");
    let mut argv = vec![env!("CARGO_BIN_EXE_weft"), "switch", "--rundir", &d, "--db", &db, "--pidfile"];
    argv.extend(args);
    let pid = world.spawn(ns, &env, &argv, &format!("{ns}.log"))?;
    wait_for(&dir.join("db.sock"), 3.0)
        .map_err(|e| format!("{e}\n{}", world.output(&format!("{ns}.log"))))?;
    ovs::vsctl(world, ns, "--retry init")?;
    Ok(pid_of_switch(world, ns).unwrap_or(pid))
}

/// The pid in the switch's pidfile (`ip netns exec` replaces itself, so it is mostly the spawned pid).
fn pid_of_switch(world: &World, ns: &str) -> Option<u32> {
    std::fs::read_to_string(world.dir.join(ns).join("ovs-vswitchd.pid")).ok()?.trim().parse().ok()
}

/// CPU seconds by the scheduler's nanosecond clock, summed over threads.
pub(crate) fn cpu_exact(pid: u32) -> Option<f64> {
    cpu_of(pid, "")
}

/// As [`cpu_exact`], of the threads whose name begins so.
pub(crate) fn cpu_of(pid: u32, name: &str) -> Option<f64> {
    let mut total = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        if !std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name)) {
            continue;
        }
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        total += text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9;
    }
    Some(total)
}

/// Resident memory in megabytes.
pub(crate) fn rss_mb(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
