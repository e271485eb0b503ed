//! How do a lab's networks, hosts and workloads come to be?

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use weft_host::mountns::{self, MountNs};
use weft_host::netlink::{Netlink, OperState, VethEnd};
use weft_host::netns::{NetNs, inside};
use weft_host::{Mac, ethtool};

use crate::error::At;
use crate::layout::{self, BRIDGE, LABS_DIR};
use crate::record::{NamedNs, Record, Stage};
use crate::spec::{HostSpec, LabSpec, LinkSpec, NetworkSpec, WorkloadSpec};
use crate::{Error, Result};

/// How long the kernel may take to notice a carrier.
const CARRIER_PATIENCE: Duration = Duration::from_secs(3);

/// Makes everything but the processes. What was made before a failure is in the record.
pub(crate) fn make(spec: &LabSpec, weft: Option<PathBuf>) -> Result<Record> {
    let mut record = begin(spec, weft)?;
    let mut ports = Ports::default();
    for (i, network) in spec.networks.iter().enumerate() {
        let ns =
            make_network(spec, network, &mut record).map_err(|e| in_field(e, &format!("networks[{i}]")))?;
        ports.networks.push(ns);
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        make_host(spec, host, &format!("hosts[{i}]"), &mut record, &mut ports)?;
    }
    record.save()?;
    ports.wait_for_carriers()?;
    Ok(record)
}

/// A failure without a field of its own is the field's.
fn in_field(error: Error, field: &str) -> Error {
    match error {
        Error::Host { field: inner, source } if inner.is_empty() => {
            Error::Host { field: field.into(), source }
        }
        other => other,
    }
}

/// Writes down what is to be made, in a directory of its own, before making it.
fn begin(spec: &LabSpec, weft: Option<PathBuf>) -> Result<Record> {
    let names = layout::all_ns_names(spec);
    if let Some(name) = names.iter().find(|n| NetNs::id_of(n).is_some()) {
        return Err(Error::NameTaken { name: name.clone(), lab: spec.name.clone() });
    }
    let dir = layout::lab_dir(&spec.name);
    mountns::mount_private_tmpfs(&dir).at(format!("mount {}", dir.display()))?;
    fs::create_dir(dir.join(".ns")).at("create directories")?;
    let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let record = Record {
        id: format!("{}-{}-{:x}", spec.name, std::process::id(), stamp.as_nanos()),
        stage: Stage::Building,
        weft,
        namespaces: names.into_iter().map(|name| NamedNs { name, id: None }).collect(),
        hosts: spec.hosts.iter().map(|h| h.name.clone()).collect(),
        services: Vec::new(),
        spec: spec.clone(),
    };
    record.save()?;
    Ok(record)
}

/// Makes a named namespace with loopback up, and notes its identity.
fn make_ns(name: &str, sysctls: &[(&str, &str)], record: &mut Record) -> Result<(NetNs, Netlink)> {
    let ns = NetNs::create(name).at("")?;
    record.made(name, ns.id().at("")?);
    for (key, value) in sysctls {
        // A kernel without IPv6 has none of these.
        match ns.sysctl(key, value) {
            Err(e) if e.missing() => {}
            other => other.at("")?,
        }
    }
    let mut netlink = Netlink::open_in(&ns).at("")?;
    netlink.index_of("lo").and_then(|lo| netlink.set_up(lo, true)).at("")?;
    Ok((ns, netlink))
}

/// The underlay only carries: it has no addresses and says nothing of its own.
const SILENT: &[(&str, &str)] =
    &[("net/ipv6/conf/all/disable_ipv6", "1"), ("net/ipv6/conf/default/disable_ipv6", "1")];
/// Addresses are usable at once: nobody else has them.
const NO_DAD: &[(&str, &str)] =
    &[("net/ipv6/conf/all/accept_dad", "0"), ("net/ipv6/conf/default/accept_dad", "0")];

/// A network's namespace and how many ports its bridge has.
struct NetworkNs {
    name: String,
    ns: NetNs,
    netlink: Netlink,
    bridge: u32,
    ports: usize,
}

/// What was joined to networks so far.
#[derive(Default)]
struct Ports {
    networks: Vec<NetworkNs>,
    /// Devices that must have a carrier in the end.
    pending: Vec<(Netlink, u32, String)>,
}

impl Ports {
    fn wait_for_carriers(mut self) -> Result<()> {
        let end = Instant::now() + CARRIER_PATIENCE;
        for (netlink, index, what) in &mut self.pending {
            // Until then the kernel throws away what is sent there.
            while netlink.link_by_index(*index).at(what.clone())?.oper_state != OperState::Up {
                if Instant::now() > end {
                    return Err(Error::Timeout {
                        field: what.clone(),
                        what: "its link to come up".into(),
                        seconds: CARRIER_PATIENCE.as_secs_f64(),
                        output: String::new(),
                    });
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        Ok(())
    }
}

fn make_network(spec: &LabSpec, network: &NetworkSpec, record: &mut Record) -> Result<NetworkNs> {
    let (ns, mut netlink) = make_ns(&layout::ns_name(&spec.name, &network.name), SILENT, record)?;
    let bridge = netlink.add_bridge(BRIDGE).at("")?;
    netlink.set_mtu(bridge, network.mtu).at("")?;
    netlink.set_up(bridge, true).at("")?;
    Ok(NetworkNs { name: network.name.clone(), ns, netlink, bridge, ports: 0 })
}

/// A host being made.
struct HostNs<'a> {
    lab: &'a LabSpec,
    host: &'a HostSpec,
    ns: NetNs,
    netlink: Netlink,
}

fn make_host(
    spec: &LabSpec,
    host: &HostSpec,
    at: &str,
    record: &mut Record,
    ports: &mut Ports,
) -> Result<()> {
    let made = make_ns(&layout::ns_name(&spec.name, &host.name), NO_DAD, record);
    let (ns, netlink) = made.map_err(|e| in_field(e, at))?;
    for (key, value) in &host.sysctls {
        ns.sysctl(key, value).at(format!("{at}.sysctls"))?;
    }
    let dir = layout::host_dir(&spec.name, &host.name);
    make_directory(&dir, record.weft.as_deref()).at(format!("{at}: create {}", dir.display()))?;
    let keep = layout::mount_ns_file(&spec.name, &host.name);
    let mounts = MountNs::create(&keep, &ns, || furnish(&spec.name, &dir)).at(at)?;
    let mut making = HostNs { lab: spec, host, ns, netlink };
    for (i, link) in host.links.iter().enumerate() {
        make_link(&mut making, link, i, &format!("{at}.links[{i}]"), ports)?;
    }
    for (i, workload) in host.workloads.iter().enumerate() {
        let at = format!("{at}.workloads[{i}]");
        let made = make_workload(&mut making, workload, record);
        let (inner, index) = made.map_err(|e| in_field(e, &at))?;
        // So that `ip netns exec NAME` works on the host.
        let path = Path::new(weft_host::netns::NETNS_DIR).join(&workload.name);
        inside(None, Some(&mounts), || File::create(&path).map(|_| inner.bind_to(&path)))
            .at(at.clone())?
            .at(format!("{at}: create {}", path.display()))?
            .at(at.clone())?;
        ports.pending.push((Netlink::open_in(&inner).at(at.clone())?, index, at));
    }
    Ok(())
}

/// A host's run directory, and in it the programs its processes find first.
fn make_directory(dir: &Path, weft: Option<&Path>) -> io::Result<()> {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin)?;
    if let Some(weft) = weft {
        symlink(weft, bin.join("weft"))?;
    }
    // Who is root already needs no sudo, which may not be installed.
    let sudo = bin.join("sudo");
    fs::write(
        &sudo,
        "#!/bin/sh\nwhile case \"$1\" in -*) true;; *) false;; esac; do shift; done\nexec \"$@\"\n",
    )?;
    fs::set_permissions(&sudo, Permissions::from_mode(0o755))
}

/// Within the host's new mount namespace: a `/run` of its own, with only its own run directory in it.
fn furnish(lab: &str, dir: &Path) -> io::Result<()> {
    // Copies of others' mounts would keep their namespaces alive after they are removed.
    let own = layout::lab_dir(lab);
    for other in mountns::mount_points_below(Path::new(LABS_DIR))? {
        if !other.starts_with(&own) {
            mountns::unmount(&other)?;
        }
    }
    while mountns::unmount(Path::new(weft_host::netns::NETNS_DIR))? {}
    let held = File::open(dir)?;
    mountns::mount_private_tmpfs(Path::new("/run"))?;
    for path in [Path::new(weft_host::netns::NETNS_DIR), Path::new("/run/lock"), dir] {
        fs::create_dir_all(path)?;
    }
    mountns::mount_bind(Path::new(&format!("/proc/thread-self/fd/{}", held.as_raw_fd())), dir)?;
    // For programs that do not heed OVS_RUNDIR.
    symlink(dir, "/run/openvswitch")?;
    if fs::canonicalize("/var/run").is_ok_and(|real| real != Path::new("/run")) {
        mountns::mount_bind(Path::new("/run"), Path::new("/var/run"))?;
    }
    mountns::mount_sysfs()
}

fn make_link(making: &mut HostNs<'_>, link: &LinkSpec, i: usize, at: &str, ports: &mut Ports) -> Result<()> {
    let HostNs { lab: spec, host, ns: host_ns, netlink } = making;
    let network_spec = layout::network_of(at, spec, link)?;
    let Some(network) = ports.networks.iter_mut().find(|n| n.name == network_spec.name) else {
        return Err(Error::field(format!("{at}.network"), "it was not made", "report this as a bug"));
    };
    network.ports += 1;
    let (device, port) = (layout::link_device(link, i), layout::port_device(&host.name, network.ports));
    let mac = link.mac.map_or_else(|| layout::mac(&[&spec.name, &host.name, &device]), |m| m.0);
    let index = layout::port_index(network.ports);
    let far = VethEnd { mtu: Some(network_spec.mtu), index, ..VethEnd::named(&port) };
    let near = VethEnd {
        mac: Some(mac),
        mtu: Some(link.mtu.unwrap_or(network_spec.mtu)),
        ns: Some(host_ns),
        ..VethEnd::named(&device)
    };
    network.netlink.add_veth(&far, &near).at(at)?;
    if !link.offloads {
        no_offloads(&[(host_ns, &device), (&network.ns, &port)]).at(format!("{at}.offloads"))?;
    }
    network.netlink.set_master(index, Some(network.bridge)).at(at)?;
    network.netlink.set_up(index, true).at(at)?;
    let own = netlink.index_of(&device).at(at)?;
    netlink.set_up(own, true).at(at)?;
    for (j, address) in link.addresses.iter().enumerate() {
        let subnet = network_spec.subnets.iter().find(|s| s.contains(address.ip));
        let whole = if address.ip.is_ipv4() { 32 } else { 128 };
        let prefix = address.prefix.or(subnet.and_then(|s| s.prefix)).unwrap_or(whole);
        netlink.add_address(own, address.ip, prefix).at(format!("{at}.addresses[{j}]"))?;
    }
    ports.pending.push((Netlink::open_in(&network.ns).at(at)?, index, at.to_owned()));
    Ok(())
}

fn no_offloads(ends: &[(&NetNs, &str)]) -> weft_host::Result<()> {
    ends.iter().try_for_each(|(ns, device)| ns.run(|| ethtool::set_all_features(device, false))?)
}

/// Makes a workload; its namespace, and its device's index there.
fn make_workload(
    making: &mut HostNs<'_>,
    workload: &WorkloadSpec,
    record: &mut Record,
) -> Result<(NetNs, u32)> {
    let HostNs { lab: spec, host, ns: host_ns, netlink } = making;
    let name = layout::workload_ns_name(&spec.name, &host.name, &workload.name);
    let (ns, mut inner) = make_ns(&name, NO_DAD, record)?;
    let (device, inside) = (layout::workload_device(workload), layout::inside_device(workload));
    let own: Mac =
        workload.mac.map_or_else(|| layout::mac(&[&spec.name, &host.name, &workload.name, inside]), |m| m.0);
    let far = VethEnd {
        mac: Some(own),
        mtu: Some(workload.mtu),
        index: layout::port_index(0),
        ..VethEnd::named(inside)
    };
    let near = VethEnd { mtu: Some(workload.mtu), ns: Some(host_ns), ..VethEnd::named(&device) };
    inner.add_veth(&far, &near).at("")?;
    if !workload.offloads {
        no_offloads(&[(host_ns, &device), (&ns, inside)]).at("")?;
    }
    let index = inner.index_of(inside).at("")?;
    inner.set_up(index, true).at("")?;
    for address in &workload.addresses {
        inner.add_address(index, address.ip, address.prefix.unwrap_or(0)).at("")?;
    }
    netlink.index_of(&device).and_then(|i| netlink.set_up(i, true)).at("")?;
    for gateway in &workload.gateways {
        let any = if gateway.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() };
        inner.add_route(any, 0, Some(*gateway), Some(index)).at("")?;
    }
    Ok((ns, index))
}
