//! How is Debian's Open vSwitch started in a namespace? Its user-space datapath, or the DPDK build.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::ns::World;

/// Which build of ovs-vswitchd.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    /// `openvswitch-switch`.
    Plain,
    /// `openvswitch-switch-dpdk`, with these columns of `other_config` set before it starts.
    Dpdk(&'static [&'static str]),
}

const DPDK_BINARY: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The environment in which Debian's tools find the switch of namespace `ns`.
pub(crate) fn env(world: &World, ns: &str) -> HashMap<String, String> {
    let dir = world.dir.join(ns).display().to_string();
    ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR"].into_iter().map(|k| (k.to_owned(), dir.clone())).collect()
}

/// Starts ovsdb-server and ovs-vswitchd in namespace `ns`.
pub(crate) fn start(world: &mut World, ns: &str, build: Build) -> Result<(), String> {
    let dir = world.dir.join(ns);
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let (env, d) = (env(world, ns), dir.display().to_string());
    world.exec(ns, &env, &["ovsdb-tool", "create", &format!("{d}/conf.db"), SCHEMA])?;
    let sock = format!("--remote=punix:{d}/db.sock");
    world.exec(
        ns,
        &env,
        &["ovsdb-server", &sock, "--pidfile", "--detach", "--log-file", &format!("{d}/conf.db")],
    )?;
    world.pidfiles.push(dir.join("ovsdb-server.pid"));
    vsctl(world, ns, "--no-wait init")?;
    let binary = match build {
        Build::Plain => "ovs-vswitchd",
        Build::Dpdk(config) => {
            // Two DPDK processes share nothing if their files have names of their own.
            let config = config.join(" ").replace("PREFIX", &unique(world, ns));
            vsctl(world, ns, &format!("--no-wait set Open_vSwitch . other_config:dpdk-init=true {config}"))?;
            DPDK_BINARY
        }
    };
    // The DPDK build names its files after itself; give them the usual names.
    let (pidfile, ctl) = (format!("--pidfile={d}/ovs-vswitchd.pid"), format!("--unixctl={d}/ctl"));
    let argv =
        [binary, &format!("unix:{d}/db.sock"), &pidfile, &ctl, "--detach", "--log-file", "--disable-system"];
    world.exec(ns, &env, &argv)?;
    world.pidfiles.push(dir.join("ovs-vswitchd.pid"));
    Ok(())
}

/// Runs `ovs-vsctl` on the switch of namespace `ns`.
pub(crate) fn vsctl(world: &World, ns: &str, line: &str) -> Result<String, String> {
    tool(world, ns, "ovs-vsctl --timeout=20", line)
}

/// Runs one of Debian's tools on the switch of namespace `ns`.
pub(crate) fn tool(world: &World, ns: &str, tool: &str, line: &str) -> Result<String, String> {
    world.exec(ns, &env(world, ns), &["sh", "-ec", &format!("{tool} {line}")])
}

/// A name no DPDK process has used: their shared files outlive them, and a second use of a name fails.
fn unique(world: &World, ns: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}{}", world.full(ns), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Runs a command of ovs-vswitchd's control socket.
pub(crate) fn appctl(world: &World, ns: &str, line: &str) -> Result<String, String> {
    let ctl = world.dir.join(ns).join("ctl");
    tool(world, ns, "ovs-appctl", &format!("-t {} {line}", ctl.display()))
}
