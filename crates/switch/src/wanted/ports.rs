//! Which ports are asked for of a bridge, and which of them has an interface?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Iface, Port};

/// The ports of a bridge, by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ports {
    by_name: BTreeMap<String, Arc<Port>>,
    /// Pairs of an interface and its port.
    owners: BTreeSet<(String, String)>,
}

impl Ports {
    /// Adds a port, or puts it in place of the one that has its name.
    pub(super) fn insert(&mut self, port: Port) {
        self.remove(&port.name);
        self.owners.extend(port.ifaces.iter().map(|i| (i.name.clone(), port.name.clone())));
        self.by_name.insert(port.name.clone(), Arc::new(port));
    }

    /// Takes a port out.
    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<Port>> {
        let port = self.by_name.remove(name)?;
        for iface in &port.ifaces {
            self.owners.remove(&(iface.name.clone(), port.name.clone()));
        }
        Some(port)
    }

    /// The ports, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Port>> {
        self.by_name.values()
    }

    /// The ports that have an interface of this name. In a database that makes sense it is one.
    pub(crate) fn with(&self, iface: &str) -> impl Iterator<Item = &Arc<Port>> {
        let pairs = self.owners.range((iface.to_owned(), String::new())..);
        let names = pairs.take_while(move |(of, _)| of == iface).map(|(_, port)| port);
        names.filter_map(|port| self.by_name.get(port))
    }

    /// What is asked for of the interface of this name, and its port.
    pub(crate) fn iface(&self, name: &str) -> Option<(&Arc<Port>, &Iface)> {
        let port = self.with(name).next()?;
        Some((port, port.ifaces.iter().find(|i| i.name == name)?))
    }
}

impl FromIterator<Port> for Ports {
    fn from_iter<I: IntoIterator<Item = Port>>(ports: I) -> Ports {
        let mut all = Ports::default();
        ports.into_iter().for_each(|port| all.insert(port));
        all
    }
}
