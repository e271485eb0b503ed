//! How does a lab fare?

use serde::Serialize;
use weft_host::netlink::Netlink;
use weft_host::netns::NetNs;

use crate::layout;
use crate::record::{Id, Record, Stage};

/// A lab in the list of labs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabSummary {
    /// Its name.
    pub name: String,
    /// `up`; `damaged` if a namespace is gone or a command has ended; `incomplete` if its making failed or is
    /// under way; `broken` if its record cannot be read.
    pub state: String,
    /// How many hosts.
    pub hosts: usize,
    /// How many workloads, declared or made on a host by `ip netns add`.
    pub workloads: usize,
}

/// All about a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabStatus {
    /// Its name.
    pub name: String,
    /// As in [`LabSummary::state`].
    pub state: String,
    /// Its hosts.
    pub hosts: Vec<HostStatus>,
}

/// A host of a lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// Its network namespace.
    pub namespace: String,
    /// Whether that exists and is the one the lab made.
    pub present: bool,
    /// Its run directory.
    pub directory: String,
    /// `DEVICE ADDRESS/PREFIX`, loopback and link-local addresses left out.
    pub addresses: Vec<String>,
    /// Its `run:` commands.
    pub services: Vec<ServiceStatus>,
    /// Its workloads, declared or made on the host by `ip netns add`.
    pub workloads: Vec<WorkloadStatus>,
}

/// A running command of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The command line in the file.
    pub command: String,
    /// Its process, if it runs.
    pub pid: Option<i32>,
}

/// A workload of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkloadStatus {
    /// Its name.
    pub name: String,
    /// `DEVICE ADDRESS/PREFIX`, loopback and link-local addresses left out.
    pub addresses: Vec<String>,
    /// Whether its namespace exists.
    pub present: bool,
}

pub(crate) fn summary(name: &str) -> LabSummary {
    let (state, hosts, workloads) = match Record::load(name) {
        Ok(Some(record)) => {
            let status = status(&record);
            let workloads = status.hosts.iter().map(|h| h.workloads.len()).sum();
            (status.state, status.hosts.len(), workloads)
        }
        Ok(None) => ("incomplete".to_owned(), 0, 0),
        Err(_) => ("broken".to_owned(), 0, 0),
    };
    LabSummary { name: name.to_owned(), state, hosts, workloads }
}

fn stage(record: &Record) -> &'static str {
    match record.stage {
        Stage::Building => "incomplete",
        Stage::Up => "up",
    }
}

pub(crate) fn status(record: &Record) -> LabStatus {
    let hosts: Vec<_> = record.spec.hosts.iter().map(|h| host(record, h)).collect();
    let whole = hosts.iter().all(|h| {
        h.present && h.services.iter().all(|s| s.pid.is_some()) && h.workloads.iter().all(|w| w.present)
    });
    let state = if whole || record.stage == Stage::Building { stage(record) } else { "damaged" };
    LabStatus { name: record.spec.name.clone(), state: state.to_owned(), hosts }
}

fn host(record: &Record, host: &crate::spec::HostSpec) -> HostStatus {
    let lab = &record.spec.name;
    let namespace = layout::ns_name(lab, &host.name);
    let alive = |name: &str| {
        let service = record.services.iter().find(|s| s.host == host.name && s.name == name)?;
        service.process().alive().then_some(service.pid)
    };
    let services = host.run.iter().map(|r| ServiceStatus {
        name: r.name.clone(),
        command: r.command.clone(),
        pid: alive(&r.name),
    });
    HostStatus {
        name: host.name.clone(),
        present: present(record, &namespace),
        addresses: NetNs::open(&namespace).map(|ns| addresses(&ns)).unwrap_or_default(),
        namespace,
        directory: layout::host_dir(lab, &host.name).display().to_string(),
        services: services.collect(),
        workloads: workloads(record, host),
    }
}

/// The declared workloads, then the namespaces the host made by itself.
fn workloads(record: &Record, host: &crate::spec::HostSpec) -> Vec<WorkloadStatus> {
    let lab = &record.spec.name;
    let mut list: Vec<_> = host
        .workloads
        .iter()
        .map(|w| {
            let name = layout::workload_ns_name(lab, &host.name, &w.name);
            let addresses = NetNs::open(&name).map(|ns| addresses(&ns)).unwrap_or_default();
            WorkloadStatus { name: w.name.clone(), addresses, present: present(record, &name) }
        })
        .collect();
    if let Ok(place) = crate::lab::host_place(record, &host.name) {
        let mut names = place.inside(|| NetNs::names().unwrap_or_default()).unwrap_or_default();
        names.retain(|n| !host.workloads.iter().any(|w| w.name == *n));
        names.sort();
        let found = names.iter().filter_map(|n| Some((n, place.netns(n).ok()?)));
        list.extend(found.map(|(name, inner)| WorkloadStatus {
            name: name.clone(),
            addresses: addresses(inner.net_ns()),
            present: true,
        }));
    }
    list
}

/// The namespace is the one the lab made.
pub(crate) fn present(record: &Record, name: &str) -> bool {
    let noted = record.namespaces.iter().find(|n| n.name == name).and_then(|n| n.id);
    noted.is_some() && NetNs::id_of(name).map(Id::from) == noted
}

fn addresses(ns: &NetNs) -> Vec<String> {
    let list = || -> weft_host::Result<Vec<String>> {
        let mut netlink = Netlink::open_in(ns)?;
        let links = netlink.links()?;
        let quiet = |ip: std::net::IpAddr| match ip {
            std::net::IpAddr::V4(ip) => ip.is_loopback(),
            std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
        };
        let addresses = netlink.addresses()?.into_iter().filter(|a| !quiet(a.ip));
        let name = |index| links.iter().find(|l| l.index == index).map_or("?", |l| l.name.as_str());
        Ok(addresses.map(|a| format!("{} {}/{}", name(a.ifindex), a.ip, a.prefix)).collect())
    };
    list().unwrap_or_default()
}
