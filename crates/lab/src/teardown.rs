//! How is all that a lab made found and removed, whatever was killed before?

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use weft_host::mountns::{self, MountNs};
use weft_host::netns::{NETNS_DIR, NetNs, NsId, inside};
use weft_host::procfs::{ProcessId, processes};

use crate::layout::{ID_VARIABLE, lab_dir, mount_ns_file};
use crate::record::{Id, Remains};
use crate::{Error, Result};

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// Processes may beget others while they are killed; so often it is looked again.
const ROUNDS: usize = 50;

/// Removes a lab. Does all it can; what remains is in the error. The caller holds the lab's lock.
pub(crate) fn teardown(lab: &str, remains: Option<&Remains>, grace: Duration) -> Result<()> {
    let mut left = Vec::new();
    if let Some(remains) = remains {
        kill_all(lab, remains, grace, &mut left);
        remove_namespaces(lab, remains, &mut left);
    }
    remove_directory(lab, &mut left);
    if left.is_empty() { Ok(()) } else { Err(Error::Left { lab: lab.to_owned(), left }) }
}

/// The namespaces that belong to the lab, with those its hosts made for themselves.
struct Territory {
    net: BTreeSet<NsId>,
    mount: BTreeSet<NsId>,
}

fn territory(lab: &str, remains: &Remains) -> Territory {
    let ours = |ns: &&crate::record::NamedNs| NetNs::id_of(&ns.name).map(Id::from) == ns.id;
    let made = remains.namespaces.iter().filter(ours);
    let mut net: BTreeSet<NsId> = made.filter_map(|ns| NetNs::id_of(&ns.name)).collect();
    let mut mount = BTreeSet::new();
    for host in &remains.hosts {
        let Ok(mounts) = MountNs::open(&mount_ns_file(lab, host)) else { continue };
        // A plain file, left by a making that was broken off, is no namespace: entering it fails.
        let Ok(named) = inside(None, Some(&mounts), named_inside) else { continue };
        net.extend(named);
        mount.extend(mounts.id());
    }
    Territory { net, mount }
}

/// Identities of the namespaces named within a host, as by `ip netns add` there.
fn named_inside() -> Vec<NsId> {
    // A name under which nothing is mounted is a file of the host's /run.
    let plain = fs::metadata(NETNS_DIR).map(|m| std::os::unix::fs::MetadataExt::dev(&m)).unwrap_or(0);
    let names = NetNs::names().unwrap_or_default();
    names.iter().filter_map(|n| NetNs::id_of(n)).filter(|id| id.dev != plain).collect()
}

/// The lab's processes: in its namespaces, or with its mark in their environment; never this one or its parents.
fn inhabitants(remains: &Remains, land: &Territory) -> Vec<ProcessId> {
    let mut spared = BTreeSet::new();
    let mut own = i32::try_from(std::process::id()).ok().and_then(ProcessId::of);
    while let Some(process) = own.filter(|p| spared.insert(p.pid)) {
        own = process.parent().and_then(ProcessId::of);
    }
    let ours = |p: &ProcessId| {
        p.net_ns().is_some_and(|ns| land.net.contains(&ns))
            || p.mount_ns().is_some_and(|ns| land.mount.contains(&ns))
            || p.environment(ID_VARIABLE).is_some_and(|id| id == remains.id)
    };
    processes().into_iter().filter(|p| !spared.contains(&p.pid)).filter(ours).collect()
}

fn kill_all(lab: &str, remains: &Remains, grace: Duration, left: &mut Vec<String>) {
    let land = territory(lab, remains);
    if !grace.is_zero() {
        let asked: Vec<_> = inhabitants(remains, &land);
        asked.iter().for_each(|p| drop(p.signal(SIGTERM)));
        let end = Instant::now() + grace;
        while asked.iter().any(|p| p.alive()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    for _ in 0..ROUNDS {
        let living = inhabitants(remains, &land);
        if living.is_empty() {
            return;
        }
        living.iter().for_each(|p| drop(p.signal(SIGKILL)));
        std::thread::sleep(Duration::from_millis(2));
    }
    let stubborn = inhabitants(remains, &land);
    left.extend(stubborn.iter().map(|p| format!("process {} ({}) does not end", p.pid, p.command_line())));
}

fn remove_namespaces(lab: &str, remains: &Remains, left: &mut Vec<String>) {
    for host in &remains.hosts {
        let file = mount_ns_file(lab, host);
        if let Err(e) = mountns::unmount(&file) {
            left.push(format!("{}: {e}", file.display()));
        }
    }
    for ns in &remains.namespaces {
        let there = NetNs::id_of(&ns.name).map(Id::from);
        // Without an identity the making was broken off between intent and note; nobody had the name before.
        if there.is_some() && ns.id.is_some() && there != ns.id {
            left.push(format!("network namespace {} is another one now; left alone", ns.name));
        } else if let Err(e) = NetNs::delete(&ns.name) {
            left.push(e.to_string());
        }
    }
}

fn remove_directory(lab: &str, left: &mut Vec<String>) {
    let dir = lab_dir(lab);
    loop {
        match mountns::unmount(&dir) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => return left.push(format!("{}: {e}", dir.display())),
        }
    }
    match fs::remove_dir(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => left.push(format!("{}: {e}", dir.display())),
        _ => {}
    }
}
