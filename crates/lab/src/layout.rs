//! What are a lab's things called, and where are they?

use std::path::{Path, PathBuf};

use weft_host::Mac;

use crate::spec::{LabSpec, LinkSpec, NetworkSpec, WorkloadSpec};
use crate::{Error, Result};

/// Where the labs are: a directory for each, a tmpfs of its own.
pub(crate) const LABS_DIR: &str = "/run/weft/lab";
/// The bridge of a network, in its namespace.
pub(crate) const BRIDGE: &str = "bridge";
/// Marks everything a lab runs, in its environment.
pub(crate) const ID_VARIABLE: &str = "WEFT_LAB_ID";
/// Indexes of the underlay's ports begin here, so that they differ from those of the hosts' ends.
const PORT_INDEX: u32 = 10_000;

/// The lab's directory.
pub(crate) fn lab_dir(lab: &str) -> PathBuf {
    Path::new(LABS_DIR).join(lab)
}

/// A host's run directory, the same path inside and outside it: sockets, pid files, logs, database.
pub(crate) fn host_dir(lab: &str, host: &str) -> PathBuf {
    lab_dir(lab).join(host)
}

/// Keeps a host's mount namespace.
pub(crate) fn mount_ns_file(lab: &str, host: &str) -> PathBuf {
    lab_dir(lab).join(".ns").join(host)
}

/// The namespace of a network or a host.
pub(crate) fn ns_name(lab: &str, name: &str) -> String {
    format!("weft-{lab}-{name}")
}

/// The namespace of a workload.
pub(crate) fn workload_ns_name(lab: &str, host: &str, workload: &str) -> String {
    format!("weft-{lab}-{host}-{workload}")
}

/// Every namespace the lab makes.
pub(crate) fn all_ns_names(spec: &LabSpec) -> Vec<String> {
    let mut names: Vec<_> = spec.networks.iter().map(|n| ns_name(&spec.name, &n.name)).collect();
    for host in &spec.hosts {
        names.push(ns_name(&spec.name, &host.name));
        names.extend(host.workloads.iter().map(|w| workload_ns_name(&spec.name, &host.name, &w.name)));
    }
    names
}

/// The device of a host's `i`th link.
pub(crate) fn link_device(link: &LinkSpec, i: usize) -> String {
    link.device.clone().unwrap_or_else(|| format!("eth{i}"))
}

/// The underlay's end of a link: `number` counts all links of the network.
pub(crate) fn port_device(host: &str, number: usize) -> String {
    let mut name = format!("{number}-{host}");
    name.truncate(15);
    name
}

/// The index of the underlay's end of a link.
pub(crate) fn port_index(number: usize) -> u32 {
    PORT_INDEX + number as u32
}

/// The host's end of a workload's link.
pub(crate) fn workload_device(workload: &WorkloadSpec) -> String {
    let mut name = workload.device.clone().unwrap_or_else(|| format!("v-{}", workload.name));
    if workload.device.is_none() {
        name.truncate(15);
    }
    name
}

/// The workload's end of its link.
pub(crate) fn inside_device(workload: &WorkloadSpec) -> &str {
    workload.inside.as_deref().unwrap_or("eth0")
}

/// The network a link is on; `at` is the link's field.
pub(crate) fn network_of<'a>(at: &str, spec: &'a LabSpec, link: &LinkSpec) -> Result<&'a NetworkSpec> {
    let field = format!("{at}.network");
    let known = || spec.networks.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ");
    match (&link.network, &spec.networks[..]) {
        (None, [only]) => Ok(only),
        (None, []) => Err(Error::field(field, "there is no network", "add one to `networks`")),
        (None, many) => {
            let problem = format!("it is missing, and there are {} networks", many.len());
            Err(Error::field(field, problem, format!("name one of {}", known())))
        }
        (Some(name), all) => all.iter().find(|n| n.name == *name).ok_or_else(|| {
            let mend = if all.is_empty() {
                "add it to `networks`".into()
            } else {
                format!("name one of {}", known())
            };
            Error::field(field, format!("there is no network {name:?}"), mend)
        }),
    }
}

/// A locally administered MAC address that is the same every time (FNV-1a over the names).
pub(crate) fn mac(parts: &[&str]) -> Mac {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|p| p.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let b = hash.to_be_bytes();
    Mac([0x02, b[0] ^ b[6], b[1] ^ b[7], b[2], b[3], b[4] ^ b[5]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_fit() {
        assert_eq!(port_device("a", 1), "1-a");
        assert_eq!(port_device("a-very-long-host-name", 12), "12-a-very-long-");
        assert!(mac(&["lab", "a", "eth0"]).is_local() && mac(&["lab", "a", "eth0"]).is_unicast());
        assert_ne!(mac(&["lab", "a", "eth0"]), mac(&["lab", "b", "eth0"]));
        assert_ne!(mac(&["ab", "c"]), mac(&["a", "bc"]));
    }
}
