//! How are leases kept and shown? As JSON in the store, for people who look.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_model::IpNet;
use weft_services::lease::{Address, LeaseState};
use weft_services::{Client, Lease, LeaseChange};
use weft_store::LeaseWrite;
use weft_wire::Mac;

use super::dns::Tell;

/// An address family whose leases are kept.
pub(super) trait Family: Address {
    fn ip(self) -> IpAddr;
}

impl Family for Ipv4Addr {
    fn ip(self) -> IpAddr {
        self.into()
    }
}

impl Family for Ipv6Addr {
    fn ip(self) -> IpAddr {
        self.into()
    }
}

/// What a change of a lease means for the store; `None`: nothing.
pub(super) fn written<A: Family>(subnets: &[(String, IpNet)], change: &LeaseChange<A>) -> Option<LeaseWrite> {
    let address = change.address.ip();
    let subnet = subnets.iter().find(|(_, cidr)| cidr.contains(&address))?.0.clone();
    Some(match &change.after {
        Some(lease) if lease.state == LeaseState::Offered => return None,
        Some(lease) => LeaseWrite::Put(weft_store::Lease { subnet, address, value: write_lease(lease) }),
        None => LeaseWrite::Remove { subnet, address },
    })
}

/// What takes a stored lease away.
pub(super) fn removal(lease: weft_store::Lease) -> LeaseWrite {
    LeaseWrite::Remove { subnet: lease.subnet, address: lease.address }
}

#[derive(serde::Serialize)]
struct Written<'a> {
    client: String,
    mac: Option<String>,
    hostname: Option<&'a str>,
    state: &'static str,
    since: u64,
    expires: u64,
}

/// A lease as the store keeps it: JSON, for people who look.
fn write_lease<A>(lease: &Lease<A>) -> Vec<u8> {
    let state = match lease.state {
        LeaseState::Offered => "offered",
        LeaseState::Bound => "bound",
        LeaseState::Released => "released",
        LeaseState::Declined => "declined",
    };
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or_default();
    let value = Written {
        client: lease.client.bytes().iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect(),
        mac: lease.mac.map(|m| m.to_string()),
        hostname: lease.hostname.as_deref(),
        state,
        since: lease.since,
        expires: lease.expires,
    };
    // Strings and numbers: it cannot fail.
    serde_json::to_vec(&value).unwrap_or_default()
}

/// A stored lease; `None`: it cannot be read, which is said.
pub(super) fn read_lease<A: Copy + std::fmt::Debug>(address: A, value: &[u8]) -> Option<Lease<A>> {
    let read = || {
        let value: serde_json::Value = serde_json::from_slice(value).ok()?;
        let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
        let number = |key: &str| value.get(key).and_then(serde_json::Value::as_u64);
        let client = weft_model::parse_hex(text("client")?)?;
        let state = match text("state")? {
            "bound" => LeaseState::Bound,
            "released" => LeaseState::Released,
            "declined" => LeaseState::Declined,
            _ => return None,
        };
        Some(Lease {
            address,
            client: Client::from_bytes(&client),
            mac: text("mac").and_then(|m| m.parse().ok()),
            hostname: text("hostname").map(Into::into),
            state,
            since: number("since")?,
            expires: number("expires")?,
        })
    };
    let lease = read();
    if lease.is_none() {
        tracing::warn!(?address, "a stored lease cannot be read; it is passed over");
    }
    lease
}

/// True while a stored lease, or the quarantine of its address, keeps the address from others.
pub fn is_held(lease: &weft_store::Lease, now: u64) -> bool {
    let held = read_lease(lease.address, &lease.value);
    held.is_some_and(|l| l.state != LeaseState::Released && l.expires > now)
}

/// Who has the address of a stored lease without having been given it, or declined it, and for how many seconds it is left
/// alone; `None`: nobody.
pub fn contest(lease: &weft_store::Lease, now: u64) -> Option<(Mac, u64)> {
    let held = read_lease(lease.address, &lease.value)?;
    let left = held.expires.saturating_sub(now);
    held.mac.filter(|_| held.state == LeaseState::Declined && left > 0).map(|mac| (mac, left))
}

/// Whether a client has the address of a stored lease.
pub fn is_running(lease: &weft_store::Lease) -> bool {
    read_lease(lease.address, &lease.value).is_some_and(|l| l.is_bound(super::wall()))
}

/// What a change of a lease means for names; `None`: nothing.
pub(super) fn named<A: Family>(key: u64, change: &LeaseChange<A>) -> Option<Tell> {
    let (address, after) = (change.address.ip(), change.after.as_ref());
    if after.is_some_and(|lease| lease.state == LeaseState::Offered) {
        return None;
    }
    let bound = after.filter(|lease| lease.state == LeaseState::Bound);
    let name = bound.and_then(|lease| Some((lease.hostname.clone()?, lease.expires)));
    let had = change.before.as_ref().is_some_and(|lease| lease.hostname.is_some());
    (had || name.is_some()).then_some(Tell::Lease(key, address, name))
}

/// The name of a stored lease that is held.
pub(super) fn name_of(key: u64, lease: &weft_store::Lease) -> Option<Tell> {
    let found = read_lease(lease.address, &lease.value)?;
    let name = found.hostname.clone().filter(|_| found.is_bound(super::wall()))?;
    Some(Tell::Lease(key, lease.address, Some((name, found.expires))))
}

/// A stored lease as people see it; `None`: it cannot be read.
pub fn lease_view(subnet: &str, network: &str, address: IpAddr, value: &[u8]) -> Option<weft_api::LeaseView> {
    let lease = read_lease(address, value)?;
    let state = match lease.state {
        LeaseState::Bound if !lease.is_bound(super::wall()) => "expired",
        LeaseState::Bound => "bound",
        LeaseState::Released => "released",
        LeaseState::Declined => "declined",
        LeaseState::Offered => "offered",
    };
    Some(weft_api::LeaseView {
        network: network.to_owned(),
        subnet: subnet.to_owned(),
        address,
        mac: lease.mac.map(weft_model::MacAddr),
        client_id: Some(lease.client.to_string()),
        hostname: lease.hostname.as_deref().map(str::to_owned),
        port: None,
        state: state.to_owned(),
        expires: if lease.expires == u64::MAX { 0 } else { lease.expires },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_read_back() {
        let address = Ipv4Addr::new(10, 0, 0, 5);
        let lease = Lease {
            address,
            client: Client::id(&[1, 2, 0xfe]),
            mac: Some("02:00:00:00:00:05".parse().unwrap()),
            hostname: Some("five".into()),
            state: LeaseState::Bound,
            since: 17,
            expires: u64::MAX,
        };
        assert_eq!(read_lease(address, &write_lease(&lease)), Some(lease));
        for wrong in ["", "{}", "[1]", r#"{"client":"zz","state":"bound","since":1,"expires":2}"#] {
            assert_eq!(read_lease(address, wrong.as_bytes()), None, "{wrong}");
        }
    }
}
