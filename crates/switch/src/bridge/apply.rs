//! How is reality made to match what is wanted?

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use weft_datapath::{PcapSpec, PortKind, PortSpec, TunnelSpec, VhostSpec};
use weft_flow::OfPort;
use weft_host::tun::{Tap, TapOptions};

use super::numbers::{Numbers, Wish};
use super::{Bridge, Host, Iface, State, World};
use crate::wanted::{self, IfaceKind, Wanted};

impl World {
    /// Opens and closes ports, and gives numbers and addresses, until everything is as wanted or has its error.
    pub(crate) fn apply(&mut self, wanted: &Wanted, host: &mut Host<'_>) {
        self.remove_unwanted(wanted, host);
        for want in &wanted.bridges {
            if !self.bridges.contains_key(&want.name) {
                self.next_id += 1;
                self.bridges.insert(want.name.clone(), Bridge::new(self.next_id, want));
                tracing::info!(target: "bridge", "bridge {}: added", want.name);
            }
        }
        for want in &wanted.bridges {
            if let Some(mut bridge) = self.bridges.remove(&want.name) {
                bridge.sockets = self.rundir.join(&wanted.vhost_sock_dir);
                let open = |b: &Bridge, name: &str| b.ifaces.get(name).is_some_and(|i| i.ofport.is_some());
                bridge.apply(want, &|name| self.bridges.values().any(|b| open(b, name)), host);
                self.bridges.insert(want.name.clone(), bridge);
            }
        }
        self.plug_patches();
    }

    /// Tries again what could not be opened.
    pub(crate) fn retry(&mut self, host: &mut Host<'_>) {
        for bridge in self.bridges.values_mut() {
            bridge.open_ifaces(host);
        }
        self.plug_patches();
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
            let mut concerned = false;
            for iface in bridge.ifaces.values_mut() {
                if (iface.has_device() || iface.is_vhost()) && names.contains(&iface.wanted.name) {
                    concerned = true;
                    let was = iface.ofport.filter(|_| iface.state.link_up);
                    iface.follow_device(host);
                    down.extend(was.filter(|_| !iface.state.link_up).map(|port| (bridge.id, port)));
                }
            }
            if concerned {
                bridge.open_ifaces(host);
            }
        }
        down
    }

    fn remove_unwanted(&mut self, wanted: &Wanted, host: &mut Host<'_>) {
        let wants: BTreeMap<&str, &wanted::Bridge> =
            wanted.bridges.iter().map(|b| (b.name.as_str(), b)).collect();
        self.bridges.retain(|name, bridge| {
            let keep = wants.get(name.as_str()).is_some_and(|want| want.uuid == bridge.uuid);
            if !keep {
                bridge.ifaces.values_mut().for_each(|iface| iface.remove(host));
                tracing::info!(target: "bridge", "bridge {name}: removed");
            }
            keep
        });
        for bridge in self.bridges.values_mut() {
            let want = wants[bridge.name.as_str()];
            let gone =
                others(&want.ports, &bridge.wanted.ports).flat_map(|p| &p.ifaces).map(|i| i.name.clone());
            for name in gone.collect::<Vec<_>>() {
                let has = |port: &Arc<wanted::Port>| port.ifaces.iter().any(|i| i.name == name);
                if others(&bridge.wanted.ports, &want.ports).any(has) || want.ports.iter().any(has) {
                    continue;
                }
                if let Some(mut iface) = bridge.ifaces.remove(&name) {
                    iface.remove(host);
                    tracing::info!(target: "bridge", "bridge {}: deleted interface {name}", bridge.name);
                }
            }
        }
    }

    /// Notes as an error that a patch port has no other end.
    fn plug_patches(&mut self) {
        let peers: BTreeMap<String, String> = self
            .ifaces()
            .filter_map(|(_, iface)| match &iface.wanted.kind {
                Ok(IfaceKind::Patch { peer }) => Some((iface.wanted.name.clone(), peer.clone())),
                _ => None,
            })
            .collect();
        for bridge in self.bridges.values_mut() {
            let datapath = bridge.wanted.datapath_name();
            for iface in bridge.ifaces.values_mut() {
                if let Ok(IfaceKind::Patch { peer }) = &iface.wanted.kind {
                    let plugged = peers.get(peer) == Some(&iface.wanted.name);
                    iface.error = (!plugged)
                        .then(|| format!("No usable peer '{peer}' exists in '{datapath}' datapath."));
                }
            }
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
            // Its ports are yet to be looked at.
            wanted: wanted::Bridge { ports: Arc::default(), ..want.clone() },
            ifaces: BTreeMap::new(),
            mac: super::address::default_mac(want.uuid),
            datapath_id: 0,
            controller_connected: false,
            miss_to_controller: false,
            numbers: Numbers::default(),
            sockets: std::path::PathBuf::new(),
        }
    }

    /// `elsewhere`: whether another bridge has an interface of a name.
    fn apply(&mut self, want: &wanted::Bridge, elsewhere: &dyn Fn(&str) -> bool, host: &mut Host<'_>) {
        let before = std::mem::replace(&mut self.wanted, want.clone());
        for port in others(&before.ports, &want.ports) {
            for wanted in &port.ifaces {
                let iface =
                    self.ifaces.entry(wanted.name.clone()).or_insert_with(|| Iface::new(wanted, port));
                if !same_device(&iface.wanted, wanted) {
                    iface.remove(host);
                    iface.error = None;
                }
                iface.wanted = wanted.clone();
                iface.port.clone_from(&port.name);
                iface.home = Arc::clone(port);
            }
        }
        // Who has a port of the name has it until it goes.
        for (name, iface) in self.ifaces.iter_mut().filter(|(_, i)| i.ofport.is_none() || i.taken) {
            iface.taken = elsewhere(name);
            if iface.taken {
                iface.remove(host);
                iface.error = Some(format!("could not add network device {name} to ofproto (File exists)"));
            }
        }
        self.open_ifaces(host);
    }

    fn open_ifaces(&mut self, host: &mut Host<'_>) {
        for iface in self.ifaces.values_mut() {
            if matches!(iface.wanted.kind, Ok(IfaceKind::Patch { .. })) {
                iface.opened_ms = if iface.opened_ms == 0 { crate::clock::now_ms() } else { iface.opened_ms };
            } else if iface.dp_port.is_none() && !iface.taken {
                let had = iface.error.take();
                if let Err(why) = iface.open(host, &self.sockets) {
                    if had.as_ref() != Some(&why) {
                        tracing::warn!(target: "bridge", "{why}");
                    }
                    iface.error = Some(why);
                }
            }
        }
        self.number_ifaces();
        self.choose_active_members();
        self.choose_addresses(host);
    }

    fn number_ifaces(&mut self) {
        let usable = |i: &Iface| i.dp_port.is_some() || matches!(i.wanted.kind, Ok(IfaceKind::Patch { .. }));
        // Most have a number that nothing asks to be changed.
        let settled =
            |i: &Iface| i.ofport.filter(|n| i.wanted.ofport_request.is_none_or(|r| OfPort(r.into()) == *n));
        if self.ifaces.values().all(|i| if usable(i) { settled(i).is_some() } else { i.ofport.is_none() }) {
            return;
        }
        let wish = |i: &Iface| Wish {
            is_local: i.wanted.is_local,
            request: i.wanted.ofport_request,
            current: i.ofport.or(i.last_ofport),
            last: i.wanted.last_ofport,
        };
        let all = self.ifaces.values().filter(|i| usable(i));
        let (done, open): (Vec<&Iface>, Vec<&Iface>) = all.partition(|i| settled(i).is_some());
        let taken: HashSet<OfPort> = done.iter().filter_map(|i| i.ofport).collect();
        let few = open.iter().map(|i| (i.wanted.name.as_str(), wish(i))).collect();
        let named = |given: BTreeMap<&str, OfPort>| -> BTreeMap<String, OfPort> {
            given.into_iter().map(|(name, n)| (name.to_owned(), n)).collect()
        };
        if let Some(given) = self.numbers.assign_more(taken, &few).map(named) {
            for (name, number) in given {
                self.number(&name, Some(number));
            }
            return;
        }
        let all = self.ifaces.values().filter(|i| usable(i)).map(|i| (i.wanted.name.as_str(), wish(i)));
        let given = named(self.numbers.assign(&all.collect()));
        let names: Vec<String> = self.ifaces.keys().cloned().collect();
        for name in names {
            self.number(&name, given.get(&name).copied());
        }
    }

    fn number(&mut self, name: &str, number: Option<OfPort>) {
        let Some(iface) = self.ifaces.get_mut(name) else { return };
        if let Some(new) = number.filter(|_| iface.ofport != number) {
            tracing::info!(target: "bridge", "bridge {}: added interface {name} on port {new}", self.name);
        }
        iface.ofport = number;
        iface.last_ofport = number.or(iface.last_ofport);
    }
}

/// Ports of `b` that are not the very same in `a`; both are sorted by name.
fn others<'a>(
    a: &'a [Arc<wanted::Port>],
    b: &'a [Arc<wanted::Port>],
) -> impl Iterator<Item = &'a Arc<wanted::Port>> {
    let mut a = a.iter().peekable();
    b.iter().filter(move |port| {
        if a.next_if(|other| Arc::ptr_eq(other, port)).is_some() {
            return false;
        }
        while a.next_if(|other| other.name < port.name).is_some() {}
        a.next_if(|other| Arc::ptr_eq(other, port)).is_none()
    })
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
        self.refresh(host);
        Ok(())
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
            status: Vec::new(),
        };
        if let Ok(speed) = weft_host::ethtool::speed(&self.wanted.name) {
            (self.state.speed_mbps, self.state.full_duplex) = (speed.mbps, speed.full_duplex);
        }
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
