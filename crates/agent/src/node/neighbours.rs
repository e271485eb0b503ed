//! Who are the host's neighbours in the networks? Ports, whose MAC addresses are known: the kernel is told, so that it asks
//! nobody, and believes no more what it learned when another machine comes in a port's place.
//!
//! Entries are permanent and marked as ours (`proto 87` in `ip neigh`); they go with the port. Nobody is told of entries that
//! others delete: these come back with the next look at everything, and until then ARP finds the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use weft_host::netlink::{Neighbour, Netlink};
use weft_model::Catalog;
use weft_wire::Mac;

use crate::heal::Ledger;
use crate::ipam::held;
use crate::resolve::{has_host, host_device};

/// Marks entries of ours: nobody else's number.
const PROTOCOL: u8 = 0x57;
/// What a mend is counted under.
const CAUSE: &str = "neighbour";

type Place = (String, IpAddr);

/// What the kernel is to know, and what of it changed.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Places of ports, by their names.
    ports: HashMap<String, BTreeSet<Place>>,
    /// Whose a place is: the port, and its MAC address.
    wanted: BTreeMap<Place, (String, Mac)>,
    dirty: BTreeSet<Place>,
    /// What the kernel was told.
    told: BTreeMap<Place, Mac>,
}

impl Neighbours {
    /// A port came, went or changed.
    pub(super) fn port_changed(&mut self, catalog: &Catalog, name: &str) {
        let port = catalog.port(name);
        let network = port.and_then(|p| catalog.network(&p.spec.network)).filter(|n| has_host(&n.spec));
        let new: BTreeMap<Place, Mac> = port.zip(network).map_or_else(BTreeMap::new, |(port, network)| {
            let device = host_device(network.name());
            held(port).map(|ip| ((device.clone(), ip), port.mac().0)).collect()
        });
        for place in self.ports.remove(name).unwrap_or_default() {
            // Another port may have it by now.
            let own = self.wanted.get(&place).is_some_and(|(owner, _)| owner == name);
            if own && !new.contains_key(&place) {
                self.wanted.remove(&place);
                self.dirty.insert(place);
            }
        }
        for (place, mac) in &new {
            let entry = (name.to_owned(), *mac);
            if self.wanted.get(place) != Some(&entry) {
                self.wanted.insert(place.clone(), entry);
                self.dirty.insert(place.clone());
            }
        }
        if !new.is_empty() {
            self.ports.insert(name.to_owned(), new.into_keys().collect());
        }
    }

    /// Whether there is something to tell.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Tells the kernel what changed; with `all`, what others changed too.
    pub(super) fn ensure(&mut self, all: bool, ledger: &mut Ledger) {
        let dirty = std::mem::take(&mut self.dirty);
        if self.wanted.is_empty() && self.told.is_empty() && dirty.is_empty() {
            return;
        }
        let seen = Netlink::open().and_then(|mut netlink| {
            let links = netlink.links()?;
            let there = if all { netlink.neighbours()? } else { Vec::new() };
            Ok((netlink, links, there))
        });
        let (mut netlink, links, there) = match seen {
            Ok(seen) => seen,
            Err(why) => {
                self.dirty = dirty;
                return ledger.wrong(why.to_string());
            }
        };
        let index: HashMap<&str, u32> = links.iter().map(|l| (l.name.as_str(), l.index)).collect();
        let name: HashMap<u32, &str> = links.iter().map(|l| (l.index, l.name.as_str())).collect();
        let mut right: BTreeMap<Place, &Neighbour> = BTreeMap::new();
        for entry in there.iter().filter(|entry| entry.is_permanent()) {
            let Some(device) = name.get(&entry.ifindex) else { continue };
            let place = ((*device).to_owned(), entry.ip);
            match self.wanted.get(&place) {
                Some((_, mac)) if entry.mac == Some(*mac) => drop(right.insert(place, entry)),
                None if entry.protocol == PROTOCOL => {
                    // One that went meanwhile is gone.
                    let _ = netlink.delete_neighbour(entry.ifindex, entry.ip);
                    self.told.remove(&place);
                }
                _ => {}
            }
        }
        let looked: Vec<Place> = if all {
            self.wanted.keys().filter(|place| !right.contains_key(*place)).cloned().chain(dirty).collect()
        } else {
            dirty.into_iter().collect()
        };
        for place in looked {
            let Some(index) = index.get(place.0.as_str()).copied() else {
                // It comes with its device.
                self.told.remove(&place);
                continue;
            };
            let Some((_, mac)) = self.wanted.get(&place) else {
                if self.told.remove(&place).is_some() {
                    let _ = netlink.delete_neighbour(index, place.1);
                }
                continue;
            };
            let what = format!("{} is at {mac} on {}", place.1, place.0);
            match netlink.set_neighbour(index, place.1, *mac, PROTOCOL) {
                Ok(()) => {
                    let again = self.told.insert(place, *mac) == Some(*mac);
                    ledger.told(CAUSE, again, &what);
                }
                Err(why) => ledger.wrong(format!("{what}: {why}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::{Network, NetworkSpec, Port, PortSpec, Resource};

    #[test]
    fn a_place_is_the_last_ports_that_has_it() {
        let mut catalog = Catalog::new();
        catalog.insert(Resource::from(Network::new("blue", NetworkSpec::default())));
        let ip: IpAddr = "10.0.0.5".parse().unwrap();
        let put = |catalog: &mut Catalog, name: &str, addresses: Vec<IpAddr>| {
            let spec = PortSpec { network: "blue".into(), addresses, ..PortSpec::default() };
            catalog.insert(Resource::from(Port::new(name, spec)));
            catalog.port(name).map(|p| p.mac().0).unwrap()
        };
        let mut all = Neighbours::default();
        let place = ("wn-blue".to_owned(), ip);
        let a = put(&mut catalog, "a", vec![ip]);
        all.port_changed(&catalog, "a");
        assert_eq!(all.wanted.get(&place), Some(&("a".to_owned(), a)));
        all.dirty.clear();
        all.port_changed(&catalog, "a");
        assert!(!all.is_dirty(), "the same again");
        // It changes hands, in whichever order that is told.
        put(&mut catalog, "a", vec![]);
        let b = put(&mut catalog, "b", vec![ip]);
        all.port_changed(&catalog, "b");
        all.port_changed(&catalog, "a");
        assert_eq!(all.wanted.get(&place), Some(&("b".to_owned(), b)));
        assert!(all.is_dirty());
        let gone = catalog.port("b").map(|p| p.reference()).unwrap();
        catalog.remove(&gone);
        all.port_changed(&catalog, "b");
        assert!(all.wanted.is_empty() && all.ports.is_empty() && all.dirty.contains(&place));
    }
}
