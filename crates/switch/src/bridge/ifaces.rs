//! Which interfaces has a bridge? With what is asked of all of them at once, so that nobody has to go through them.
//!
//! A bridge may have ten thousand interfaces of which one comes, goes or changes. Every change goes through
//! [`Ifaces::edit`], which keeps the indexes and notes what is to be published and reported.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use weft_flow::OfPort;
use weft_wire::Mac;

use super::Iface;
use super::address::may_represent;
use crate::wanted::IfaceKind;

/// Interfaces on which others, or the host's routes, depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// A device of the host's own stack.
    Internal,
    /// Led to by another bridge.
    Patch,
    /// Led to by the host's routes.
    Tunnel,
    /// Of a virtual machine, whose coming the datapath does not tell one by one.
    Vhost,
}

/// What the indexes hold of an interface.
#[derive(Default, PartialEq)]
struct Facts {
    number: Option<OfPort>,
    /// The address that counts for the bridge's.
    mac: Option<Mac>,
    /// The MTU that counts for internal ports.
    mtu: Option<u32>,
    role: Option<Role>,
    /// The port, if that is a bond.
    bond: Option<String>,
    taken: bool,
}

impl Facts {
    fn of(iface: &Iface) -> Facts {
        let home = &iface.home;
        let first = home.ifaces.first().filter(|first| first.name == iface.wanted.name && !first.is_local);
        let mac = first.and_then(|_| home.mac.or(iface.state.mac)).filter(|mac| may_represent(*mac));
        let (mtu, role) = match &iface.wanted.kind {
            Ok(IfaceKind::Device) => (iface.wanted.mtu_request.or(iface.state.mtu), None),
            Ok(IfaceKind::Internal) => (None, Some(Role::Internal)),
            Ok(IfaceKind::Patch { .. }) => (None, Some(Role::Patch)),
            Ok(IfaceKind::Tunnel { .. }) => (None, Some(Role::Tunnel)),
            Ok(IfaceKind::Vhost { .. }) => (None, Some(Role::Vhost)),
            _ => (None, None),
        };
        let bond = home.bond.as_ref().map(|_| iface.port.clone());
        Facts { number: iface.ofport, mac, mtu, role, bond, taken: iface.taken }
    }
}

/// Values with how many have each.
#[derive(Debug)]
struct Counted<T>(BTreeMap<T, usize>);

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Counted(BTreeMap::new())
    }
}

impl<T: Ord + Copy> Counted<T> {
    fn add(&mut self, value: T) {
        *self.0.entry(value).or_default() += 1;
    }

    fn remove(&mut self, value: T) {
        if let Entry::Occupied(mut entry) = self.0.entry(value) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }

    fn least(&self) -> Option<T> {
        self.0.keys().next().copied()
    }
}

/// A bond.
#[derive(Debug)]
pub(crate) struct Members {
    /// Its number for the pipeline, as long as it has members.
    pub(crate) number: u32,
    /// Their names.
    pub(crate) names: BTreeSet<String>,
}

/// The interfaces of a bridge.
#[derive(Default)]
pub(crate) struct Ifaces {
    all: BTreeMap<String, Iface>,
    by_number: BTreeMap<OfPort, String>,
    macs: Counted<Mac>,
    mtus: Counted<u32>,
    roles: BTreeSet<(Role, String)>,
    bonds: BTreeMap<String, Members>,
    last_bond: u32,
    taken: BTreeSet<String>,
    /// Numbers under which something came, went or changed since this was last published.
    pub(crate) unpublished: BTreeSet<OfPort>,
    /// Interfaces that came or changed since the database was last told.
    pub(crate) unreported: BTreeSet<String>,
    /// Roles of those that came, went or changed.
    touched: BTreeSet<Role>,
}

impl Ifaces {
    /// The interface of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Iface> {
        self.all.get(name)
    }

    /// All of them, by name.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Iface> {
        self.all.values()
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.all.keys()
    }

    /// The one with an OpenFlow number.
    pub(crate) fn by_number(&self, number: OfPort) -> Option<&Iface> {
        self.all.get(self.by_number.get(&number)?)
    }

    /// Those with an OpenFlow number, by that.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = &Iface> {
        self.by_number.values().filter_map(|name| self.all.get(name))
    }

    /// The numbers that are given.
    pub(super) fn numbers(&self) -> &BTreeMap<OfPort, String> {
        &self.by_number
    }

    /// Those with a role, by name.
    pub(crate) fn with_role(&self, role: Role) -> impl Iterator<Item = &Iface> {
        let from = self.roles.range((role, String::new())..);
        from.take_while(move |(of, _)| *of == role).filter_map(|(_, name)| self.all.get(name))
    }

    /// The bonds, by the name of the port.
    pub(crate) fn bonds(&self) -> &BTreeMap<String, Members> {
        &self.bonds
    }

    /// Names that another bridge has a port of.
    pub(super) fn taken(&self) -> &BTreeSet<String> {
        &self.taken
    }

    /// The lowest address of those that count for the bridge's.
    pub(super) fn least_mac(&self) -> Option<Mac> {
        self.macs.least()
    }

    /// The least MTU of devices.
    pub(super) fn least_mtu(&self) -> Option<u32> {
        self.mtus.least()
    }

    /// Whether one with a role came, went or changed since this was last asked.
    pub(crate) fn take_touched(&mut self, role: Role) -> bool {
        self.touched.remove(&role)
    }

    /// Adds one, in place of the one that has its name.
    pub(super) fn insert(&mut self, iface: Iface) {
        let name = iface.wanted.name.clone();
        self.remove(&name);
        let facts = Facts::of(&iface);
        self.touch(&name, &facts);
        self.index(&name, facts);
        self.all.insert(name, iface);
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, name: &str) -> Option<Iface> {
        let iface = self.all.remove(name)?;
        let facts = Facts::of(&iface);
        self.touch(name, &facts);
        self.unreported.remove(name);
        self.unindex(name, &facts);
        Some(iface)
    }

    /// Changes one: its name stays.
    pub(crate) fn edit<T>(&mut self, name: &str, change: impl FnOnce(&mut Iface) -> T) -> Option<T> {
        let iface = self.all.get_mut(name)?;
        let before = Facts::of(iface);
        let done = change(iface);
        let after = Facts::of(iface);
        self.touch(name, &before);
        if before != after {
            self.touch(name, &after);
            self.unindex(name, &before);
            self.index(name, after);
        }
        Some(done)
    }

    /// All of them, for what is kept with them and no index rests on: traffic, and what the database was told.
    pub(super) fn books(&mut self) -> impl Iterator<Item = &mut Iface> {
        self.all.values_mut()
    }

    /// [`Ifaces::books`] of one.
    pub(super) fn book(&mut self, name: &str) -> Option<&mut Iface> {
        self.all.get_mut(name)
    }

    /// All are to be published and reported: what they have in common changed.
    pub(crate) fn touch_all(&mut self) {
        self.unpublished.extend(self.by_number.keys());
        self.unreported.extend(self.all.keys().cloned());
    }

    fn touch(&mut self, name: &str, facts: &Facts) {
        self.unpublished.extend(facts.number);
        self.touched.extend(facts.role);
        if !self.unreported.contains(name) {
            self.unreported.insert(name.to_owned());
        }
    }

    fn index(&mut self, name: &str, facts: Facts) {
        let Facts { number, mac, mtu, role, bond, taken } = facts;
        if let Some(number) = number {
            self.by_number.insert(number, name.to_owned());
        }
        mac.into_iter().for_each(|mac| self.macs.add(mac));
        mtu.into_iter().for_each(|mtu| self.mtus.add(mtu));
        self.roles.extend(role.map(|role| (role, name.to_owned())));
        if let Some(port) = bond {
            let members = self.bonds.entry(port).or_insert_with(|| {
                self.last_bond += 1;
                Members { number: self.last_bond, names: BTreeSet::new() }
            });
            members.names.insert(name.to_owned());
        }
        if taken {
            self.taken.insert(name.to_owned());
        }
    }

    fn unindex(&mut self, name: &str, facts: &Facts) {
        // Numbers are exchanged one by one: another one may have it by now.
        if let Some(number) = facts.number.filter(|n| self.by_number.get(n).is_some_and(|of| of == name)) {
            self.by_number.remove(&number);
        }
        facts.mac.into_iter().for_each(|mac| self.macs.remove(mac));
        facts.mtu.into_iter().for_each(|mtu| self.mtus.remove(mtu));
        if let Some(role) = facts.role {
            self.roles.remove(&(role, name.to_owned()));
        }
        if let Some(port) = &facts.bond
            && let Some(members) = self.bonds.get_mut(port)
        {
            members.names.remove(name);
            if members.names.is_empty() {
                self.bonds.remove(port);
            }
        }
        if facts.taken {
            self.taken.remove(name);
        }
    }
}
