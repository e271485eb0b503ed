//! Which network devices are there, and which addresses do they have? Kept up to date by netlink notifications.

use std::collections::HashMap;
use std::net::IpAddr;

use weft_host::netlink::{Address, Event, Link, Netlink};
use weft_wire::Mac;

/// Devices and addresses of the switch's network namespace.
pub(crate) struct Links {
    netlink: Netlink,
    by_index: HashMap<u32, Link>,
    /// Their indexes by name.
    by_name: HashMap<String, u32>,
    addresses: HashMap<u32, Vec<IpAddr>>,
}

/// What a notification was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Noticed {
    /// A device appeared, changed or went.
    Device,
    /// A device's addresses changed.
    Addresses,
    /// A route changed.
    Routes,
    /// A neighbour changed: on which device, which address, and its link-layer address if it is usable.
    Neighbour(u32, IpAddr, Option<Mac>),
    /// Everything may have changed.
    All,
}

impl Links {
    /// Lists what there is in this thread's network namespace.
    pub(crate) fn open() -> weft_host::Result<Links> {
        let netlink = Netlink::open()?;
        let (by_index, by_name, addresses) = Default::default();
        let mut links = Links { netlink, by_index, by_name, addresses };
        links.relist()?;
        Ok(links)
    }

    /// Lists everything anew.
    pub(crate) fn relist(&mut self) -> weft_host::Result<()> {
        let all = self.netlink.links()?;
        self.by_index.clear();
        self.by_name.clear();
        all.into_iter().for_each(|link| self.insert(link));
        self.addresses.clear();
        for Address { ifindex, ip, .. } in self.netlink.addresses()? {
            self.addresses.entry(ifindex).or_default().push(ip);
        }
        Ok(())
    }

    /// The handle to ask and tell the kernel more.
    pub(crate) fn netlink(&mut self) -> &mut Netlink {
        &mut self.netlink
    }

    /// The device of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Link> {
        self.by_index.get(self.by_name.get(name)?)
    }

    /// The device of that index.
    pub(crate) fn by_index(&self, index: u32) -> Option<&Link> {
        self.by_index.get(&index)
    }

    /// The addresses of a device.
    pub(crate) fn addresses(&self, index: u32) -> &[IpAddr] {
        self.addresses.get(&index).map_or(&[], Vec::as_slice)
    }

    /// Asks the kernel anew about one device.
    pub(crate) fn refresh(&mut self, name: &str) -> Option<&Link> {
        match self.netlink.link(name) {
            Ok(link) => {
                let index = link.index;
                self.insert(link);
                self.by_index.get(&index)
            }
            Err(_) => {
                let index = self.by_name.get(name).copied();
                index.into_iter().for_each(|index| self.remove(index));
                None
            }
        }
    }

    fn insert(&mut self, link: Link) {
        self.remove(link.index);
        // A name can only be one device's: whichever had it before is gone or renamed.
        if let Some(before) = self.by_name.insert(link.name.clone(), link.index) {
            self.by_index.remove(&before);
        }
        self.by_index.insert(link.index, link);
    }

    fn remove(&mut self, index: u32) {
        if let Some(link) = self.by_index.remove(&index) {
            self.by_name.remove(&link.name);
        }
    }

    /// Takes a notification in.
    pub(crate) fn notice(&mut self, event: Event) -> Noticed {
        match event {
            Event::Link(link) => {
                self.insert(link);
                Noticed::Device
            }
            Event::LinkGone(link) => {
                self.remove(link.index);
                self.addresses.remove(&link.index);
                Noticed::Device
            }
            Event::Address(Address { ifindex, ip, .. }) => {
                let addresses = self.addresses.entry(ifindex).or_default();
                if !addresses.contains(&ip) {
                    addresses.push(ip);
                }
                Noticed::Addresses
            }
            Event::AddressGone(Address { ifindex, ip, .. }) => {
                if let Some(addresses) = self.addresses.get_mut(&ifindex) {
                    addresses.retain(|a| *a != ip);
                }
                Noticed::Addresses
            }
            Event::Route(_) | Event::RouteGone(_) => Noticed::Routes,
            Event::Neighbour(n) => Noticed::Neighbour(n.ifindex, n.ip, n.mac.filter(|_| n.usable())),
            Event::NeighbourGone(n) => Noticed::Neighbour(n.ifindex, n.ip, None),
            Event::Lost => Noticed::All,
        }
    }
}
