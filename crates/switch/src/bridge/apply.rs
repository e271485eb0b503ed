//! How is reality made to match what is wanted?

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use weft_datapath::{PcapSpec, Policing, PortKind, PortSpec, TunnelSpec, VhostSpec};
use weft_flow::OfPort;
use weft_host::tun::{Tap, TapOptions};
use weft_pipeline::FragMode;

use super::numbers::{Numbers, Wish};
use super::{Bridge, Host, Iface, Ifaces, Role, State, World};
use crate::wanted::{self, Changes, IfaceKind, Wanted};

impl World {
    /// Opens and closes ports, and gives numbers and addresses, until everything is as wanted or has its error.
    /// `changes`: the interfaces that are asked for otherwise than the last time; `None`: anything may be.
    pub(crate) fn apply(&mut self, wanted: &Wanted, changes: Option<Changes>, host: &mut Host<'_>) {
        let whole = changes.is_none();
        let changes = changes.unwrap_or_else(|| self.take_bridges(wanted, host));
        let nothing = BTreeSet::new();
        for want in &wanted.bridges {
            if let Some(bridge) = self.bridges.get_mut(&want.name) {
                bridge.remove_unwanted(want, changes.get(&want.name).unwrap_or(&nothing), host);
            }
        }
        for want in &wanted.bridges {
            if let Some(mut bridge) = self.bridges.remove(&want.name) {
                let open = |b: &Bridge, name: &str| b.ifaces.get(name).is_some_and(|i| i.ofport.is_some());
                let elsewhere = |name: &str| self.bridges.values().any(|b| open(b, name));
                let names = changes.get(&want.name).unwrap_or(&nothing);
                if whole || !names.is_empty() || !bridge.ifaces.taken().is_empty() {
                    bridge.apply(want, names, &elsewhere, host);
                }
                self.bridges.insert(want.name.clone(), bridge);
            }
        }
        self.plug_patches(whole);
    }

    /// Tries again what could not be opened.
    pub(crate) fn retry(&mut self, host: &mut Host<'_>) {
        for bridge in self.bridges.values_mut() {
            let closed = bridge.ifaces.values().filter(|i| i.ofport.is_none() || i.error.is_some());
            let names: BTreeSet<String> = closed.map(|i| i.wanted.name.clone()).collect();
            bridge.open_ifaces(&names, host);
        }
        self.plug_patches(false);
    }

    /// Devices of these names appeared, changed or went: closes and opens ports accordingly. Returns the ports whose
    /// link went down.
    pub(crate) fn follow_devices(
        &mut self,
        names: &BTreeSet<String>,
        host: &mut Host<'_>,
    ) -> Vec<(u32, OfPort)> {
        let mut down = Vec::new();
        for bridge in self.bridges.values_mut() {
            let followed = |name: &&String| {
                bridge.ifaces.get(name).is_some_and(|iface| iface.has_device() || iface.is_vhost())
            };
            let names: BTreeSet<String> = names.iter().filter(followed).cloned().collect();
            for name in &names {
                let follow = |iface: &mut Iface| {
                    let was = iface.ofport.filter(|_| iface.state.link_up);
                    iface.follow_device(host);
                    was.filter(|_| !iface.state.link_up)
                };
                down.extend(bridge.ifaces.edit(name, follow).flatten().map(|port| (bridge.id, port)));
            }
            if !names.is_empty() {
                bridge.open_ifaces(&names, host);
            }
        }
        // A device that comes may take the number of a patch port, which its other end is to hear of.
        self.plug_patches(false);
        down
    }

    /// Removes bridges that are not wanted and adds those that are. All interfaces are to be looked at then.
    fn take_bridges(&mut self, wanted: &Wanted, host: &mut Host<'_>) -> Changes {
        let wants: BTreeMap<&str, &wanted::Bridge> =
            wanted.bridges.iter().map(|b| (b.name.as_str(), b)).collect();
        self.bridges.retain(|name, bridge| {
            let keep = wants.get(name.as_str()).is_some_and(|want| want.uuid == bridge.uuid);
            if !keep {
                bridge.remove_all(host);
                tracing::info!(target: "bridge", "bridge {name}: removed");
            }
            keep
        });
        for want in &wanted.bridges {
            let bridge = self.bridges.entry(want.name.clone()).or_insert_with(|| {
                self.next_id += 1;
                tracing::info!(target: "bridge", "bridge {}: added", want.name);
                Bridge::new(self.next_id, want)
            });
            bridge.sockets = self.rundir.join(&wanted.vhost_sock_dir);
            bridge.wanted = wanted::Bridge { ports: Arc::default(), ..want.clone() };
        }
        let all = |want: &wanted::Bridge| {
            let there = self.bridges.get(&want.name).into_iter().flat_map(|b| b.ifaces.names()).cloned();
            let asked = want.ports.iter().flat_map(|port| &port.ifaces).map(|i| i.name.clone());
            (want.name.clone(), there.chain(asked).collect())
        };
        wanted.bridges.iter().map(all).collect()
    }

    /// Notes as an error that a patch port has no other end, and has all of them published: each depends on another.
    /// Unless all are to be looked at, that is done when one came, went or changed.
    fn plug_patches(&mut self, all: bool) {
        if !(self.take_touched(Role::Patch) | all) {
            return;
        }
        let mut peers = BTreeMap::new();
        for iface in self.bridges.values().flat_map(|b| b.ifaces.with_role(Role::Patch)) {
            if let Ok(IfaceKind::Patch { peer }) = &iface.wanted.kind {
                peers.insert(iface.wanted.name.clone(), peer.clone());
            }
        }
        for bridge in self.bridges.values_mut() {
            let datapath = bridge.wanted.datapath_name();
            for (name, peer) in &peers {
                let plugged = peers.get(peer) == Some(name);
                bridge.ifaces.edit(name, |iface| {
                    if matches!(iface.wanted.kind, Ok(IfaceKind::Patch { .. })) {
                        iface.error = (!plugged)
                            .then(|| format!("No usable peer '{peer}' exists in '{datapath}' datapath."));
                    }
                });
            }
            bridge.ifaces.take_touched(Role::Patch);
        }
    }
}

impl wanted::Bridge {
    /// The datapath type, as clients see it: never empty.
    pub(crate) fn datapath_name(&self) -> &str {
        if self.datapath_type.is_empty() { "system" } else { &self.datapath_type }
    }
}

impl Bridge {
    fn new(id: u32, want: &wanted::Bridge) -> Bridge {
        Bridge {
            id,
            uuid: want.uuid,
            name: want.name.clone(),
            wanted: wanted::Bridge { ports: Arc::default(), ..want.clone() },
            ifaces: Ifaces::default(),
            mac: super::address::default_mac(want.uuid),
            datapath_id: 0,
            controller_connected: false,
            miss_to_controller: false,
            fragments: FragMode::default(),
            internal_mtu: None,
            numbers: Numbers::default(),
            sockets: std::path::PathBuf::new(),
        }
    }

    /// Removes interfaces, of those named, that are not wanted.
    fn remove_unwanted(&mut self, want: &wanted::Bridge, names: &BTreeSet<String>, host: &mut Host<'_>) {
        for name in names.iter().filter(|name| want.ports.iface(name).is_none()) {
            if let Some(mut iface) = self.ifaces.remove(name) {
                iface.remove(host);
                tracing::info!(target: "bridge", "bridge {}: deleted interface {name}", self.name);
            }
        }
    }

    fn remove_all(&mut self, host: &mut Host<'_>) {
        let names: Vec<String> = self.ifaces.names().cloned().collect();
        for name in names {
            self.ifaces.edit(&name, |iface| iface.remove(host));
        }
    }

    /// Makes these interfaces what is wanted of them. `elsewhere`: whether another bridge has an interface of a name.
    fn apply(
        &mut self,
        want: &wanted::Bridge,
        names: &BTreeSet<String>,
        elsewhere: &dyn Fn(&str) -> bool,
        host: &mut Host<'_>,
    ) {
        for name in names {
            let Some((port, wanted)) = want.ports.iface(name) else { continue };
            match self.ifaces.get(name) {
                Some(iface) if Arc::ptr_eq(&iface.home, port) || *iface.home == **port => {}
                Some(_) => {
                    self.ifaces.edit(name, |iface| iface.is_wanted_as(wanted, port, host));
                }
                None => self.ifaces.insert(Iface::new(wanted, port)),
            }
        }
        // Who has a port of the name has it until it goes.
        let names: BTreeSet<String> = names.union(self.ifaces.taken()).cloned().collect();
        for name in &names {
            let Some(iface) = self.ifaces.get(name) else { continue };
            let taken = (iface.ofport.is_none() || iface.taken) && elsewhere(name);
            if taken || iface.taken {
                self.ifaces.edit(name, |iface| {
                    iface.taken = taken;
                    if taken {
                        iface.remove(host);
                        iface.error =
                            Some(format!("could not add network device {name} to ofproto (File exists)"));
                    }
                });
            }
        }
        self.open_ifaces(&names, host);
    }

    /// Opens those of these interfaces that are not open, and gives numbers, work and addresses.
    fn open_ifaces(&mut self, names: &BTreeSet<String>, host: &mut Host<'_>) {
        for name in names {
            let Some(iface) = self.ifaces.get(name) else { continue };
            let is_patch = matches!(iface.wanted.kind, Ok(IfaceKind::Patch { .. }));
            if is_patch && iface.opened_ms == 0 {
                self.ifaces.edit(name, |iface| iface.opened_ms = crate::clock::now_ms());
            } else if !is_patch && iface.dp_port.is_none() && !iface.taken {
                self.ifaces.edit(name, |iface| {
                    let had = iface.error.take();
                    if let Err(why) = iface.open(host, &self.sockets) {
                        if had.as_ref() != Some(&why) {
                            tracing::warn!(target: "bridge", "{why}");
                        }
                        iface.error = Some(why);
                    }
                });
            }
        }
        self.number_ifaces(names);
        self.choose_active_members(names);
        self.choose_addresses(names, host);
    }

    /// Gives numbers to those of these interfaces that need one. The others have the number that they are to have.
    fn number_ifaces(&mut self, names: &BTreeSet<String>) {
        let usable = |i: &Iface| i.dp_port.is_some() || matches!(i.wanted.kind, Ok(IfaceKind::Patch { .. }));
        // Most have a number that nothing asks to be changed.
        let settled =
            |i: &Iface| i.ofport.filter(|n| i.wanted.ofport_request.is_none_or(|r| OfPort(r.into()) == *n));
        let wish = |i: &Iface| Wish {
            is_local: i.wanted.is_local,
            request: i.wanted.ofport_request,
            current: i.ofport.or(i.last_ofport),
            last: i.wanted.last_ofport,
        };
        let mut few = BTreeMap::new();
        for name in names {
            let Some(iface) = self.ifaces.get(name) else { continue };
            if !usable(iface) {
                self.number(name, None);
            } else if settled(iface).is_none() {
                few.insert(name.as_str(), wish(iface));
            }
        }
        if few.is_empty() {
            return;
        }
        let named = |given: BTreeMap<&str, OfPort>| -> BTreeMap<String, OfPort> {
            given.into_iter().map(|(name, n)| (name.to_owned(), n)).collect()
        };
        // What these have now is theirs to change.
        let others =
            |n: OfPort| self.ifaces.numbers().get(&n).is_some_and(|of| !few.contains_key(of.as_str()));
        if let Some(given) = self.numbers.assign_more(others, &few).map(named) {
            for name in few.keys() {
                self.number(name, given.get(*name).copied());
            }
            return;
        }
        let all = self.ifaces.values().filter(|i| usable(i)).map(|i| (i.wanted.name.as_str(), wish(i)));
        let given = named(self.numbers.assign(&all.collect()));
        let names: Vec<String> = self.ifaces.names().cloned().collect();
        for name in names {
            self.number(&name, given.get(&name).copied());
        }
    }

    fn number(&mut self, name: &str, number: Option<OfPort>) {
        if self.ifaces.get(name).is_none_or(|iface| iface.ofport == number) {
            return;
        }
        if let Some(new) = number {
            tracing::info!(target: "bridge", "bridge {}: added interface {name} on port {new}", self.name);
        }
        self.ifaces.edit(name, |iface| {
            iface.ofport = number;
            iface.last_ofport = number.or(iface.last_ofport);
        });
    }
}

/// Whether an open port serves the new wish too.
fn same_device(old: &wanted::Iface, new: &wanted::Iface) -> bool {
    old.is_local == new.is_local
        && match (&old.kind, &new.kind) {
            (Ok(IfaceKind::Patch { .. }), Ok(IfaceKind::Patch { .. })) => true,
            (Ok(a @ IfaceKind::Tunnel { .. }), Ok(b @ IfaceKind::Tunnel { .. })) => {
                tunnel_spec(a) == tunnel_spec(b)
            }
            (a, b) => a == b,
        }
}

/// The part of a tunnel that its sockets depend on.
fn tunnel_spec(kind: &IfaceKind) -> Option<TunnelSpec> {
    match kind {
        IfaceKind::Tunnel { config, mark } => Some(TunnelSpec {
            kind: config.kind,
            dst_port: config.dst_port,
            gbp: config.gbp,
            gpe: config.gpe,
            csum: config.csum,
            seq: config.seq,
            // Which local addresses are taken is for the pipeline to say.
            local: None,
            mark: *mark,
        }),
        _ => None,
    }
}

impl Iface {
    /// Is from now on what a wish asks for, and closed if that is another device.
    fn is_wanted_as(&mut self, wanted: &wanted::Iface, port: &Arc<wanted::Port>, host: &mut Host<'_>) {
        if !same_device(&self.wanted, wanted) {
            self.remove(host);
            self.error = None;
        }
        let policing = (self.wanted.policing != wanted.policing).then_some(wanted.policing);
        self.wanted = wanted.clone();
        if let Some(policing) = policing {
            self.police(policing, host);
        }
        self.port.clone_from(&port.name);
        self.home = Arc::clone(port);
        self.shape(host);
        self.standby &= port.bond.is_some();
        self.egress = self.egress.take().filter(|_| matches!(wanted.kind, Ok(IfaceKind::Tunnel { .. })));
    }

    /// Opens the port. `sockets`: the directory of vhost-user sockets that are made here.
    fn open(&mut self, host: &mut Host<'_>, sockets: &Path) -> Result<(), String> {
        let name = self.wanted.name.clone();
        let kind = match self.wanted.kind.clone()? {
            IfaceKind::Patch { .. } => return Ok(()),
            IfaceKind::Device => {
                if host.links.refresh(&name).is_none() {
                    return Err(format!("could not open network device {name} (No such device)"));
                }
                PortKind::Device
            }
            IfaceKind::Internal => {
                if self.wanted.is_local {
                    // The host's own addresses are on it: it outlives the switch.
                    persist(&name);
                }
                PortKind::Internal { mac: self.wanted.mac, mtu: None }
            }
            IfaceKind::Tap => PortKind::Tap,
            tunnel @ IfaceKind::Tunnel { .. } => match tunnel_spec(&tunnel) {
                Some(spec) => PortKind::Tunnel(spec),
                None => return Err(format!("{name}: no tunnel")),
            },
            IfaceKind::Pcap { file, loops } => {
                PortKind::Pcap(PcapSpec::open(&file, loops).map_err(|e| format!("{name}: {e}"))?)
            }
            IfaceKind::Vhost { mode, path, mtu } => {
                PortKind::Vhost(VhostSpec { mode, path: sockets.join(path), mtu })
            }
            IfaceKind::Null => PortKind::Null,
        };
        let info =
            host.datapath.add_port(&PortSpec::new(name.clone(), kind)).map_err(|e| failure(&name, &e))?;
        self.dp_port = Some(info.number);
        self.state = State::default();
        self.opened_ms = crate::clock::now_ms();
        if self.wanted.policing.limits() {
            self.police(self.wanted.policing, host);
        }
        self.refresh(host);
        Ok(())
    }

    /// Limits what the port takes in.
    fn police(&self, policing: Policing, host: &Host<'_>) {
        if let Some(port) = self.dp_port
            && let Err(e) = host.datapath.police(port, policing)
        {
            tracing::warn!(target: "bridge", "{}: {e}", self.wanted.name);
        }
    }

    /// Closes the port; its device, if the switch made it, goes too.
    fn remove(&mut self, host: &mut Host<'_>) {
        let internal = matches!(self.wanted.kind, Ok(IfaceKind::Internal)) && self.dp_port.is_some();
        self.close(host);
        if internal
            && self.wanted.is_local
            && let Some(link) = host.links.refresh(&self.wanted.name)
            && link.kind.as_deref() == Some("tun")
        {
            let index = link.index;
            if let Err(e) = host.links.netlink().delete_link(index) {
                tracing::warn!(target: "bridge", "{e}");
            }
        }
    }

    /// Closes the port.
    pub(super) fn close(&mut self, host: &mut Host<'_>) {
        if let Some(port) = self.dp_port.take()
            && let Err(e) = host.datapath.del_port(port)
        {
            tracing::warn!(target: "bridge", "{}: {e}", self.wanted.name);
        }
        // Without a port nothing is shaped.
        self.shape(host);
        self.ofport = None;
        self.state = State::default();
        self.chosen_mtu = None;
    }

    /// The device behind an open port changed, went, or was replaced by another of the same name.
    fn follow_device(&mut self, host: &mut Host<'_>) {
        if self.dp_port.is_none() {
            return;
        }
        if self.is_vhost() {
            return self.refresh(host);
        }
        match host.links.get(&self.wanted.name).map(|l| l.index) {
            Some(index) if index == self.state.ifindex || self.state.ifindex == 0 => {
                self.refresh(host);
                // Another one took its name since the kernel told of this one.
                let replaced = self.state.ifindex != 0 && self.state.ifindex != index;
                if replaced && matches!(self.wanted.kind, Ok(IfaceKind::Device)) {
                    self.close(host);
                }
            }
            Some(_) => self.close(host),
            None if matches!(self.wanted.kind, Ok(IfaceKind::Device)) => self.close(host),
            // The device end of a TAP was moved to another namespace, which is that one's to look after.
            None => self.state = State { ifindex: 0, mac: self.state.mac, ..State::default() },
        }
    }

    /// Reads anew what the device is like.
    pub(super) fn refresh(&mut self, host: &mut Host<'_>) {
        if self.is_vhost() {
            return self.refresh_vhost(host);
        }
        if !self.has_device() {
            return;
        }
        let Some(link) = host.links.refresh(&self.wanted.name) else { return };
        let link_up = link.carrier && link.admin_up;
        if self.state.ifindex != 0 && self.state.link_up != link_up {
            self.link_resets += 1;
        }
        self.state = State {
            ifindex: link.index,
            mac: link.mac,
            mtu: Some(link.mtu),
            admin_up: link.admin_up,
            link_up,
            driver: link.kind.clone(),
            speed_mbps: self.state.speed_mbps,
            full_duplex: self.state.full_duplex,
            modes: self.state.modes,
            status: Vec::new(),
        };
        if let Ok(speed) = weft_host::ethtool::speed(&self.wanted.name) {
            (self.state.speed_mbps, self.state.full_duplex) = (speed.mbps, speed.full_duplex);
            self.state.modes = speed.modes;
        }
        self.shape(host);
    }
}

impl Iface {
    /// Reads anew whether a virtual machine is there.
    fn refresh_vhost(&mut self, host: &Host<'_>) {
        let Some(info) = self.dp_port.and_then(|port| host.datapath.port_info(port).ok()) else { return };
        // A port that was just opened has no link to lose.
        if self.state.mtu.is_some() && self.state.link_up != info.link_up {
            self.link_resets += 1;
            let word = if info.link_up { "up" } else { "down" };
            tracing::info!(target: "bridge", "{}: virtual machine's link is {word}", self.wanted.name);
        }
        let (link_up, mtu, status) = (info.link_up, info.mtu, info.status);
        self.state = State { link_up, mtu, status, ..State::default() };
    }
}

/// Makes a TAP that stays when the switch ends; there may be one already.
fn persist(name: &str) {
    if let Ok(tap) = Tap::open(name, &TapOptions::default())
        && let Err(e) = tap.set_persistent(true)
    {
        tracing::warn!(target: "bridge", "{e}");
    }
}

/// The text of the `error` column.
fn failure(name: &str, error: &weft_datapath::Error) -> String {
    let errno = match error {
        weft_datapath::Error::Host(e) => e.errno(),
        weft_datapath::Error::Os { source, .. } => source.raw_os_error(),
        _ => None,
    };
    let why = match errno {
        Some(errno) => Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    };
    tracing::debug!(target: "bridge", "{name}: {error}");
    format!("could not add network device {name} to ofproto ({why})")
}
