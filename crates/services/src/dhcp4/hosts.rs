//! Which settings hold for this client: those of a fixed host, or the subnet's?

use core::net::Ipv4Addr;
use std::collections::HashMap;
use std::sync::Arc;

use super::answer;
use super::config::{Host, HostId, OptionSet, Subnet};
use super::message::Message;
use super::option::code;
use crate::lease::{Client, Lease, LeaseBook, PoolId, PoolSpec};

/// A fixed host, ready for use.
#[derive(Debug)]
pub(super) struct FixedHost {
    pub(super) host: Host,
    pub(super) name: Option<Arc<str>>,
    pub(super) options: OptionSet,
}

/// A subnet, ready for use: option values are encoded, hosts are indexed.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) subnet: Subnet,
    pub(super) options: OptionSet,
    hosts: HashMap<HostId, FixedHost>,
    by_address: HashMap<Ipv4Addr, HostId>,
    /// Hosts that are known by name.
    named: usize,
}

/// A client as one subnet sees it.
#[derive(Debug, Clone)]
pub(super) struct Known<'a> {
    pub(super) client: Client,
    pub(super) host: Option<&'a FixedHost>,
}

impl Scope {
    pub(super) fn new(mut subnet: Subnet) -> Self {
        let hosts = core::mem::take(&mut subnet.hosts);
        let options = subnet.options.encode();
        let mut scope = Self { subnet, options, hosts: HashMap::new(), by_address: HashMap::new(), named: 0 };
        for host in hosts {
            scope.insert(host);
        }
        scope
    }

    /// Adds or replaces a host; returns the address that the replaced one had.
    pub(super) fn insert(&mut self, host: Host) -> Option<Ipv4Addr> {
        let freed = self.remove(&host.id);
        if let Some(address) = host.address {
            self.by_address.insert(address, host.id.clone());
        }
        let name = host.name.as_deref().map(Arc::from);
        let fixed = FixedHost { name, options: host.options.encode(), host };
        self.named += usize::from(matches!(fixed.host.id, HostId::Name(_)));
        self.hosts.insert(fixed.host.id.clone(), fixed);
        freed
    }

    /// Removes a host; returns the address it had.
    pub(super) fn remove(&mut self, id: &HostId) -> Option<Ipv4Addr> {
        let gone = self.hosts.remove(id)?;
        self.named -= usize::from(matches!(id, HostId::Name(_)));
        let address = gone.host.address?;
        if self.by_address.get(&address) == Some(id) {
            self.by_address.remove(&address);
            return Some(address);
        }
        None
    }

    /// The pool of this subnet: fixed addresses, routers and the server are kept back.
    pub(super) fn pool(&self) -> PoolSpec<Ipv4Addr> {
        let subnet = &self.subnet;
        let mut reserved = subnet.reserved.clone();
        reserved.extend(self.by_address.keys());
        reserved.extend(&subnet.options.routers);
        reserved.push(subnet.server);
        if subnet.prefix_len < 31 {
            reserved.extend([subnet.network, subnet.broadcast()]);
        }
        PoolSpec {
            network: subnet.network,
            prefix_len: subnet.prefix_len,
            ranges: subnet.ranges.clone(),
            reserved,
        }
    }

    /// True when `address` is a place of its own: kept for a host, the server or a router.
    pub(super) fn is_fixed_for(&self, address: Ipv4Addr, known: &Known<'_>) -> bool {
        known.host.is_some_and(|fixed| fixed.host.address == Some(address))
    }

    /// Who sent `message`: a host known by identifier goes before one known by address. A host
    /// known by its Ethernet address is that client whatever identifier it sends, so that a
    /// machine keeps its address from firmware to installer to system. Last comes the name that the
    /// client gives itself, or gave when it got what it has: `book` tells.
    pub(super) fn known(&self, message: &Message<'_>, at: PoolId, book: &LeaseBook<Ipv4Addr>) -> Known<'_> {
        let id = message.option(code::CLIENT_ID).filter(|id| id.len() >= 2);
        if let Some(id) = &id
            && !self.hosts.is_empty()
            && let Some(host) = self.hosts.get(&HostId::ClientId(id.to_vec()))
        {
            return Known { client: Client::id(id), host: Some(host) };
        }
        if let Some(mac) = message.mac()
            && !self.hosts.is_empty()
            && let Some(host) = self.hosts.get(&HostId::Mac(mac))
        {
            return Known { client: Client::mac(mac), host: Some(host) };
        }
        let client = match id {
            Some(id) if !self.subnet.ignore_client_id => Client::id(&id),
            _ => message.hardware(),
        };
        let host = (self.named > 0).then(|| {
            let had =
                || book.find(at, &client).and_then(|lease| lease.hostname.as_deref().map(str::to_owned));
            self.hosts.get(&HostId::Name(answer::own_name(message).or_else(had)?))
        });
        Known { client, host: host.flatten() }
    }

    /// Seconds of a lease of `address`, if its client asks for none.
    pub(super) fn lease_seconds(&self, address: Ipv4Addr) -> u32 {
        let range =
            self.subnet.range_seconds.iter().find(|(first, last, _)| (first..=last).contains(&&address));
        range.map_or(self.subnet.lease_seconds, |(_, _, seconds)| *seconds)
    }
}

impl Known<'_> {
    /// True when `lease` is this client's: by its identifier, or, for a fixed host, by its
    /// Ethernet address (it had the lease before it became one).
    pub(super) fn holds(&self, lease: &Lease<Ipv4Addr>, message: &Message<'_>) -> bool {
        lease.client == self.client
            || (self.host.is_some() && lease.mac.is_some() && lease.mac == message.mac())
    }
}
