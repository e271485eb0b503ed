//! How do the devices of [`Plug`]s come into the kernel, stay there, and go?
//!
//! What is ours says so in its alias ([`ALIAS`]); nothing else is changed or removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use weft_host::ethtool::{self, Feature};
use weft_host::netlink::{Link, Netlink, NextHop, Route, VethEnd};
use weft_host::netns::{NetNs, NsId};
use weft_host::tun::{Tap, TapOptions};
use weft_host::{Error, user_id};

use super::{Inside, Plug, PlugKind};
use crate::heal::Ledger;
use crate::resolve::CABLE;

/// Begins the alias of a device that the agent made.
pub const ALIAS: &str = "weft-agent ";
/// An administrator's routes are so marked (`RTPROT_STATIC`).
const STATIC: u8 = 4;
/// Begins the alias of the other end, in a namespace.
const ALIAS_INSIDE: &str = "weft: ";
/// What a lost device is counted under.
const CAUSE: &str = "device";

/// Why something is not plugged in, in a word and in words.
pub type Fault = (&'static str, String);

/// What is there, as it was seen last.
#[derive(Debug, Default)]
pub struct Plugged {
    made: HashMap<String, Made>,
    /// Their names by index.
    by_index: HashMap<u32, String>,
    /// What keeps devices from being there, by device.
    pub faults: BTreeMap<String, Fault>,
    /// Devices that were made anew under the name that they had before, until somebody takes note of it.
    pub remade: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Made {
    plug: Plug,
    index: u32,
    ns: Option<NsId>,
}

fn waits(what: String) -> Fault {
    ("NotPlugged", what)
}

fn refused(why: &impl ToString) -> Fault {
    ("CannotPlug", why.to_string())
}

fn is_ours(link: &Link) -> bool {
    link.alias.as_ref().is_some_and(|a| a.starts_with(ALIAS))
}

/// A pair whose making was cut off: the mark comes before it is set up.
fn half_made(link: &Link) -> bool {
    let ours = ["wp-", "wc-"].iter().any(|prefix| link.name.starts_with(prefix));
    ours && link.alias.is_none() && !link.admin_up && link.kind.as_deref() == Some("veth")
}

/// The host's stack says nothing by a device that leads elsewhere, and forwards nothing of it: a switch in user space may
/// leave it the frames too.
fn silence(name: &str) {
    let settings = [("ipv6", "disable_ipv6", "1"), ("ipv4", "arp_ignore", "8"), ("ipv4", "forwarding", "0")];
    for (family, setting, value) in settings {
        // Without the family in the kernel there is nothing to silence.
        let _ = std::fs::write(format!("/proc/sys/net/{family}/conf/{name}/{setting}"), value);
    }
}

/// The devices of this namespace, looked up as they are asked for, or all at once.
struct Links<'a> {
    netlink: &'a mut Netlink,
    all: Option<HashMap<String, Link>>,
}

impl Links<'_> {
    fn get(&mut self, name: &str) -> Option<Link> {
        match &self.all {
            Some(all) => all.get(name).cloned(),
            None => self.netlink.link(name).ok(),
        }
    }
}

impl Plugged {
    /// Makes the kernel hold these devices. `only`: those of these names were changed; else everything is looked at, and
    /// what is ours and nobody's any more is removed.
    pub fn ensure(
        &mut self,
        plugs: &BTreeMap<String, Plug>,
        only: Option<&BTreeSet<String>>,
        ledger: &mut Ledger,
    ) {
        if only.is_some_and(BTreeSet::is_empty) {
            return;
        }
        let mut netlink = match Netlink::open() {
            Ok(netlink) => netlink,
            Err(why) => return ledger.wrong(why.to_string()),
        };
        let all = match only {
            Some(_) => None,
            None => match netlink.links() {
                Ok(links) => Some(links.into_iter().map(|l| (l.name.clone(), l)).collect()),
                Err(why) => return ledger.wrong(why.to_string()),
            },
        };
        let mut links = Links { netlink: &mut netlink, all };
        self.remove(plugs, only, &mut links, ledger);
        let these: Vec<(&String, &Plug)> = match only {
            Some(only) => only.iter().filter_map(|name| plugs.get_key_value(name)).collect(),
            None => plugs.iter().collect(),
        };
        for (name, plug) in these {
            match self.one(&mut links, name, plug, ledger) {
                Ok(()) => drop(self.faults.remove(name)),
                Err(why) => {
                    if self.faults.get(name) != Some(&why) {
                        tracing::info!(device = name, owner = plug.owner, reason = why.1, "not plugged in");
                    }
                    self.faults.insert(name.clone(), why);
                }
            }
        }
    }

    /// Of these devices the kernel told, by index and name: which of ours that is about.
    pub fn concerned(
        &self,
        plugs: &BTreeMap<String, Plug>,
        told: &BTreeSet<(u32, String)>,
    ) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        for (index, name) in told {
            // One that was renamed is not there under its own name, and not to be there under another.
            if let Some(own) = self.by_index.get(index).filter(|own| *own != name) {
                out.extend([own.clone(), name.clone()]);
            }
            out.extend(plugs.get_key_value(name).map(|(name, _)| name.clone()));
        }
        for (name, peer, bridge) in cables(plugs) {
            if told.iter().any(|(_, told)| told == peer || told == bridge) {
                out.insert(name.clone());
            }
        }
        out
    }

    /// Devices that may come to be without a word of the kernel: of namespaces that came or were replaced.
    pub fn suspects(&self, plugs: &BTreeMap<String, Plug>) -> BTreeSet<String> {
        let suspect = |(name, plug): &(&String, &Plug)| match &plug.kind {
            PlugKind::Netns(inside) => match namespace(&inside.path) {
                Ok(ns) => self.made.get(*name).is_none_or(|m| m.ns != Some(ns)),
                Err(_) => !self.faults.contains_key(*name),
            },
            _ => self.faults.contains_key(*name),
        };
        plugs.iter().filter(suspect).map(|(name, _)| name.clone()).collect()
    }

    /// Removes what is ours and not wanted any more.
    fn remove(
        &mut self,
        plugs: &BTreeMap<String, Plug>,
        only: Option<&BTreeSet<String>>,
        links: &mut Links<'_>,
        ledger: &mut Ledger,
    ) {
        let ends: BTreeSet<&str> = cables(plugs).map(|(_, peer, _)| peer).collect();
        let kept = |name: &str| plugs.contains_key(name) || ends.contains(name);
        let gone: Vec<Link> = match (only, &links.all) {
            (Some(only), _) => {
                for name in only.iter().filter(|name| !plugs.contains_key(*name)) {
                    self.faults.remove(name);
                    self.forget(name);
                }
                only.iter().filter(|name| !kept(name)).filter_map(|name| links.get(name)).collect()
            }
            (None, Some(all)) => {
                self.faults.retain(|name, _| plugs.contains_key(name));
                let gone = self.made.keys().filter(|name| !plugs.contains_key(*name)).cloned();
                gone.collect::<Vec<_>>().iter().for_each(|name| self.forget(name));
                all.values().filter(|l| !kept(&l.name)).cloned().collect()
            }
            (None, None) => Vec::new(),
        };
        for link in gone.iter().filter(|l| is_ours(l)) {
            match links.netlink.delete_link(link.index) {
                Err(why) if !why.missing() => ledger.wrong(why.to_string()),
                _ => tracing::debug!(device = link.name, "removed"),
            }
        }
    }

    fn forget(&mut self, name: &str) {
        if let Some(made) = self.made.remove(name) {
            self.by_index.remove(&made.index);
        }
    }

    fn one(
        &mut self,
        links: &mut Links<'_>,
        name: &str,
        plug: &Plug,
        ledger: &mut Ledger,
    ) -> Result<(), Fault> {
        let ns = match &plug.kind {
            PlugKind::Netns(inside) => Some(namespace(&inside.path)?),
            _ => None,
        };
        let there = links.get(name);
        let made = self.made.get(name).filter(|m| m.plug == *plug && m.ns == ns);
        if let (Some(link), Some(made)) = (&there, made)
            && link.index == made.index
        {
            return self.keep(links, link, plug, ledger);
        }
        let before = self.made.get(name).cloned();
        let link = match there {
            Some(link) if !is_ours(&link) && !half_made(&link) => match plug.kind {
                // Somebody made it before: it is used, and left there.
                PlugKind::Tap { .. } => Some(link),
                _ => {
                    return Err(refused(&format!(
                        "device {name} is there and not ours: remove or rename it"
                    )));
                }
            },
            Some(link) => {
                if adopt(links, &link, plug, before.as_ref(), ns)? {
                    Some(link)
                } else {
                    links.netlink.delete_link(link.index).map_err(|e| refused(&e))?;
                    None
                }
            }
            None => None,
        };
        let (index, fresh) = match link {
            Some(link) => (link.index, false),
            None => (make(links, name, plug)?, true),
        };
        let again = before.as_ref().is_some_and(|b| b.plug == *plug);
        if fresh && before.is_some() {
            self.remade.insert(name.to_owned());
        }
        self.forget(name);
        self.made.insert(name.to_owned(), Made { plug: plug.clone(), index, ns });
        self.by_index.insert(index, name.to_owned());
        if fresh {
            ledger.told(CAUSE, again, &format!("{name} of {}", plug.owner));
        }
        Ok(())
    }

    /// What is there stays up and where it belongs.
    fn keep(
        &self,
        links: &mut Links<'_>,
        link: &Link,
        plug: &Plug,
        ledger: &mut Ledger,
    ) -> Result<(), Fault> {
        let mut netlink_up = |links: &mut Links<'_>, link: &Link| {
            if link.admin_up {
                return Ok(());
            }
            ledger.told(CAUSE, true, &format!("{} is up", link.name));
            links.netlink.set_up(link.index, true).map_err(|e| refused(&e))
        };
        if is_ours(link) {
            netlink_up(links, link)?;
        }
        let PlugKind::Cable { peer, bridge } = &plug.kind else { return Ok(()) };
        let on = the_bridge(links, bridge)?;
        let Some(end) = links.get(peer) else { return Err(waits(format!("{peer} is not there"))) };
        netlink_up(links, &end)?;
        if end.master != Some(on.index) {
            links.netlink.set_master(end.index, Some(on.index)).map_err(|e| refused(&e))?;
            ledger.told(CAUSE, true, &format!("{peer} is on {bridge}"));
        }
        Ok(())
    }
}

/// The cables onto bridges of the kernel: name, the end on the bridge, and the bridge.
fn cables(plugs: &BTreeMap<String, Plug>) -> impl Iterator<Item = (&String, &str, &str)> {
    // There are few of them among many ports, and all are called so.
    let called = plugs.range(CABLE.to_owned()..).take_while(|(name, _)| name.starts_with(CABLE));
    called.filter_map(|(name, plug)| match &plug.kind {
        PlugKind::Cable { peer, bridge } => Some((name, peer.as_str(), bridge.as_str())),
        _ => None,
    })
}

/// The bridge of the kernel that is meant.
fn the_bridge(links: &mut Links<'_>, name: &str) -> Result<Link, Fault> {
    let bridge = links.get(name).ok_or_else(|| waits(format!("bridge {name} is not there yet")))?;
    if bridge.kind.as_deref() != Some("bridge") {
        return Err(refused(&format!("{name} is not a bridge of the kernel; join it as `uplink`")));
    }
    Ok(bridge)
}

/// The identity of a namespace's file.
fn namespace(path: &Path) -> Result<NsId, Fault> {
    let there = std::fs::metadata(path);
    let meta = there.map_err(|_| waits(format!("namespace {} is not there yet", path.display())))?;
    // Anything else might block who opens it.
    if !meta.is_file() {
        return Err(refused(&format!("{} is not a network namespace", path.display())));
    }
    Ok(NsId { dev: meta.dev(), ino: meta.ino() })
}

/// Whether a device of ours that is there can stay: of what was it made, and what is it to be?
fn adopt(
    links: &mut Links<'_>,
    link: &Link,
    plug: &Plug,
    before: Option<&Made>,
    ns: Option<NsId>,
) -> Result<bool, Fault> {
    if half_made(link) || link.alias.as_deref() != Some(&alias(plug)) {
        return Ok(false);
    }
    if link.mtu != plug.mtu && !matches!(plug.kind, PlugKind::Cable { .. }) {
        return Ok(false);
    }
    match &plug.kind {
        PlugKind::Netns(inside) => {
            // Only the namespace's identity tells it from one that had the name before.
            let same = before.is_none_or(|b| b.index == link.index && b.ns == ns);
            let old = before.and_then(|b| match &b.plug.kind {
                PlugKind::Netns(old) => Some(old),
                _ => None,
            });
            if !same || old.is_some_and(|old| old.device != inside.device || old.mac != inside.mac) {
                return Ok(false);
            }
            let ns = NetNs::open_path(&inside.path, &inside.path.display().to_string());
            let ns = ns.map_err(|e| refused(&e))?;
            let lower = link.lower.unwrap_or(0);
            let mark = format!("{ALIAS_INSIDE}{}", plug.owner);
            ns.run(|| -> Result<bool, Error> {
                let mut netlink = Netlink::open()?;
                let Ok(end) = netlink.link_by_index(lower) else { return Ok(false) };
                if end.alias.as_deref() != Some(&mark) {
                    return Ok(false);
                }
                if let Some(old) = old {
                    let gone = old.addresses.iter().filter(|a| !inside.addresses.contains(a));
                    for (ip, prefix) in gone {
                        let _ = netlink.delete_address(end.index, *ip, *prefix);
                    }
                    for route in old.routes.iter().filter(|r| !inside.routes.contains(r)) {
                        let _ = netlink.delete_this_route(&way(route, end.index));
                    }
                    for gateway in old.gateways.iter().filter(|g| !inside.gateways.contains(g)) {
                        let way = way(&(anywhere(*gateway), 0, *gateway), end.index);
                        let _ = netlink.delete_this_route(&way);
                    }
                    address(&mut netlink, end.index, inside)?;
                }
                Ok(true)
            })
            .and_then(|done| done)
            .map_err(|e| refused(&e))
        }
        PlugKind::Tap { .. } => Ok(before.is_none_or(|b| b.plug == *plug)),
        PlugKind::Cable { peer, .. } => Ok(links.get(peer).is_some()),
    }
}

fn alias(plug: &Plug) -> String {
    format!("{ALIAS}{}", plug.owner)
}

/// Makes a device; its index.
fn make(links: &mut Links<'_>, name: &str, plug: &Plug) -> Result<u32, Fault> {
    match &plug.kind {
        PlugKind::Netns(inside) => make_veth(links.netlink, name, plug, inside),
        PlugKind::Tap { multi_queue, owner } => {
            make_tap(links.netlink, name, plug, *multi_queue, owner.as_deref())
        }
        PlugKind::Cable { peer, bridge } => {
            let bridge = the_bridge(links, bridge)?;
            make_cable(links.netlink, name, peer, plug, &bridge).map_err(|e| refused(&e))
        }
    }
}

fn make_veth(netlink: &mut Netlink, name: &str, plug: &Plug, inside: &Inside) -> Result<u32, Fault> {
    let label = inside.path.display().to_string();
    let ns = NetNs::open_path(&inside.path, &label).map_err(|e| refused(&e))?;
    let here = VethEnd { mtu: Some(plug.mtu), ..VethEnd::named(name) };
    let mac = Some(inside.mac);
    let there = VethEnd { mac, mtu: Some(plug.mtu), ns: Some(&ns), ..VethEnd::named(&inside.device) };
    netlink.add_veth(&here, &there).map_err(|e| {
        if e.exists() {
            let device = &inside.device;
            return refused(&format!(
                "namespace {label} has a device {device} that is not ours: name another"
            ));
        }
        refused(&e)
    })?;
    let index = netlink.index_of(name).map_err(|e| refused(&e))?;
    let owner = &plug.owner;
    let work = ns.run(|| configure(inside, owner)).and_then(|done| done);
    let work = work.and_then(|()| netlink.set_alias(index, &alias(plug)));
    silence(name);
    let work = work.and_then(|()| netlink.set_up(index, true));
    work.map_err(|e| {
        // The next attempt begins anew.
        let _ = netlink.delete_link(index);
        refused(&e)
    })?;
    Ok(index)
}

/// Gives the end in a namespace, in which it runs, what it is to have.
fn configure(inside: &Inside, owner: &str) -> Result<(), Error> {
    let mut netlink = Netlink::open()?;
    let index = netlink.index_of(&inside.device)?;
    netlink.set_alias(index, &format!("{ALIAS_INSIDE}{owner}"))?;
    if inside.whole {
        ethtool::set_feature(&inside.device, Feature::TxChecksum, false)?;
    }
    if inside.addresses.iter().any(|(ip, _)| ip.is_ipv6()) {
        // Addresses and routers are known: what is announced would come on top.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/accept_ra", inside.device), "0");
    }
    netlink.set_up(index, true)?;
    address(&mut netlink, index, inside)
}

/// Where default routes of this family lead.
fn anywhere(family: std::net::IpAddr) -> std::net::IpAddr {
    if family.is_ipv4() { [0u8; 4].into() } else { [0u8; 16].into() }
}

/// Addresses, and default routes where the namespace has none by another device.
fn address(netlink: &mut Netlink, index: u32, inside: &Inside) -> Result<(), Error> {
    for (ip, prefix) in &inside.addresses {
        netlink.add_address(index, *ip, *prefix)?;
    }
    let routes = netlink.routes()?;
    for gateway in &inside.gateways {
        let others = routes.iter().any(|r| {
            r.prefix == 0
                && r.dst.is_ipv4() == gateway.is_ipv4()
                && r.table == 254
                && r.hops.iter().any(|hop| hop.ifindex != index)
        });
        if !others {
            netlink.add_route(anywhere(*gateway), 0, Some(*gateway), Some(index))?;
        }
    }
    for route in &inside.routes {
        match netlink.new_route(&way(route, index)) {
            // What its owner decided counts.
            Err(why) if why.exists() => {}
            done => done?,
        }
    }
    Ok(())
}

/// A route that is told to machines, by the device that leads to them.
fn way((dst, prefix, via): &(IpAddr, u8, IpAddr), index: u32) -> Route {
    Route {
        dst: *dst,
        prefix: *prefix,
        hops: vec![NextHop { gateway: Some(*via), ifindex: index }],
        source: None,
        table: 254,
        priority: 0,
        protocol: STATIC,
        local: false,
        mtu: None,
    }
}

fn make_tap(
    netlink: &mut Netlink,
    name: &str,
    plug: &Plug,
    multi_queue: bool,
    owner: Option<&str>,
) -> Result<u32, Fault> {
    let uid = owner.map(|o| user_id(o).ok_or_else(|| refused(&format!("there is no user {o}"))));
    let uid = uid.transpose()?;
    let options = TapOptions { vnet_hdr: false, multi_queue, exclusive: true, ..TapOptions::default() };
    let mut work = || -> Result<u32, Error> {
        let tap = Tap::open(name, &options)?;
        if let Some(uid) = uid {
            tap.set_owner(uid)?;
        }
        let index = netlink.index_of(name)?;
        netlink.set_alias(index, &alias(plug))?;
        netlink.set_mtu(index, plug.mtu)?;
        silence(name);
        netlink.set_up(index, true)?;
        tap.set_persistent(true)?;
        Ok(index)
    };
    // What fails half way vanishes with its descriptor.
    work().map_err(|e| refused(&e))
}

fn make_cable(
    netlink: &mut Netlink,
    name: &str,
    peer: &str,
    plug: &Plug,
    bridge: &Link,
) -> Result<u32, Error> {
    // The bridge's MTU follows its least port's: it is not to change.
    let end = |name| VethEnd { mtu: Some(bridge.mtu), ..VethEnd::named(name) };
    netlink.add_veth(&end(name), &end(peer))?;
    let (here, there) = (netlink.index_of(name)?, netlink.index_of(peer)?);
    for (index, name) in [(there, peer), (here, name)] {
        netlink.set_alias(index, &alias(plug))?;
        silence(name);
    }
    netlink.set_master(there, Some(bridge.index))?;
    netlink.set_up(there, true)?;
    netlink.set_up(here, true)?;
    Ok(here)
}

/// Removes every device that an agent made here; their names, and what could not be removed.
pub fn cleanup() -> (Vec<String>, Vec<String>) {
    let (mut gone, mut wrong) = (Vec::new(), Vec::new());
    let links = Netlink::open().and_then(|mut netlink| Ok((netlink.links()?, netlink)));
    let (links, mut netlink) = match links {
        Ok(found) => found,
        Err(why) => return (gone, vec![why.to_string()]),
    };
    for link in links.iter().filter(|l| is_ours(l)) {
        match netlink.delete_link(link.index) {
            Ok(()) => gone.push(link.name.clone()),
            // The other end of one that is gone already.
            Err(why) if why.missing() => gone.push(link.name.clone()),
            Err(why) => wrong.push(why.to_string()),
        }
    }
    (gone, wrong)
}
