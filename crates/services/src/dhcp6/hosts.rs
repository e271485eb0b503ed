//! Which settings hold for this client: those of a fixed host, or the subnet's?

use core::net::Ipv6Addr;
use std::collections::HashMap;

use weft_wire::Mac;

use super::config::{Host, HostId, Subnet};
use crate::lease::PoolSpec;

/// A subnet, ready for use.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) subnet: Subnet,
    pub(super) hosts: HashMap<HostId, Host>,
    pub(super) options: Vec<(u16, Vec<u8>)>,
}

impl Scope {
    pub(super) fn new(mut subnet: Subnet) -> Self {
        let hosts = core::mem::take(&mut subnet.hosts);
        let options = subnet.options.encode();
        Self { hosts: hosts.into_iter().map(|host| (host.id.clone(), host)).collect(), subnet, options }
    }

    pub(super) fn pool(&self) -> PoolSpec<Ipv6Addr> {
        let mut reserved = self.subnet.reserved.clone();
        reserved.extend(self.hosts.values().filter_map(|host| host.address));
        // The subnet-router anycast address (RFC 4291 §2.6.1).
        reserved.push(self.subnet.network);
        let (network, prefix_len) = (self.subnet.network, self.subnet.prefix_len);
        PoolSpec { network, prefix_len, ranges: self.subnet.ranges.clone(), reserved }
    }

    pub(super) fn host(&self, who: &Who<'_>) -> Option<&Host> {
        let by_duid = self.hosts.get(&HostId::Duid(who.duid.to_vec()));
        let by_name = || self.hosts.get(&HostId::Name(who.name?.to_owned()));
        by_duid.or_else(|| self.hosts.get(&HostId::Mac(who.mac?))).or_else(by_name)
    }

    /// Seconds that an address is preferred and valid, for a host or for anybody.
    pub(super) fn lifetimes(&self, host: Option<&Host>, address: Ipv6Addr) -> (u32, u32) {
        let subnet = &self.subnet;
        let range =
            || subnet.range_seconds.iter().find(|(first, last, _)| (first..=last).contains(&&address));
        let own = host.and_then(|h| h.lease_seconds).or_else(|| range().map(|(_, _, seconds)| *seconds));
        own.map_or((subnet.preferred_seconds.min(subnet.valid_seconds), subnet.valid_seconds), |s| (s, s))
    }

    /// T1 and T2 (RFC 8415 §21.4) of an address that is preferred and valid for these seconds.
    pub(super) fn times(&self, (preferred, valid): (u32, u32)) -> (u32, u32) {
        let forever = preferred == u32::MAX;
        let t1 = if forever { preferred } else { preferred / 2 };
        let t2 = if forever { preferred } else { (u64::from(preferred) * 4 / 5) as u32 };
        let t2 = self.subnet.rebind_seconds.unwrap_or(t2).min(valid);
        (self.subnet.renew_seconds.unwrap_or(t1).min(t2), t2)
    }
}

/// Who sent a message, as far as is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) duid: &'a [u8],
    pub(super) mac: Option<Mac>,
    pub(super) name: Option<&'a str>,
}
