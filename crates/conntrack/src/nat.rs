//! Which address and port does a new connection get?

use std::net::IpAddr;

use weft_flow::{Nat, NatSide};

use crate::key::{End, Key, fold, octets};
use crate::ports::with_port;

/// Addresses of a range that are tried for one connection.
const ADDRESSES: u128 = 64;
/// Ports tried at random before all of a range are looked at.
const PROBES: u32 = 16;
/// First port of the range taken when none is given: those below belong to services.
const UNPRIVILEGED: u16 = 1024;

/// Numbers that choices rest on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    pub(crate) seed: u64,
    /// Different each time.
    pub(crate) random: u64,
}

/// The key of the replies of a connection that is translated as asked: one that `free` has no objection to. `search`
/// looks at all ports, from the first given to the last, beginning at another, that an end of a key may have.
pub(crate) fn choose(
    key: &Key,
    nat: &Nat,
    chance: Chance,
    mut free: impl FnMut(&Key) -> bool,
    mut search: impl FnMut(&Key, NatSide, (u16, u16), u16) -> Option<Key>,
) -> Option<Key> {
    let side = nat.side?;
    let plain = key.reversed();
    let old = if side == NatSide::Src { key.src } else { key.dst };
    let (first, count) = range(nat, old.addr);
    let start = if nat.random {
        chance.random
    } else if nat.persistent {
        // The same address for a host each time.
        fold(hash_end(&End { port: 0, ..key.src }), chance.seed)
    } else {
        key.hash(chance.seed)
    };
    for i in 0..count.min(ADDRESSES) {
        let addr = (first + (u128::from(start) + i) % count).to_be_bytes();
        let mut reply = plain;
        if side == NatSide::Src {
            reply.dst.addr = addr;
        } else {
            reply.src.addr = addr;
        }
        if let Some(found) = ports(key, nat, side, old.port, chance, start, &reply, &mut free, &mut search) {
            return Some(found);
        }
        if side == NatSide::Dst && key.has_ports() && nat.ports.is_none() {
            // The client has the same port in use to this server, by another address of it: it gets another.
            let range = (UNPRIVILEGED, u16::MAX);
            if let Some(found) = search(&reply, NatSide::Src, range, (chance.random >> 48) as u16) {
                return Some(found);
            }
        }
    }
    None
}

/// First address and number of addresses.
fn range(nat: &Nat, old: [u8; 16]) -> (u128, u128) {
    let Some((low, high)) = nat.addrs.filter(|(low, _)| !low.is_unspecified()) else {
        return (u128::from_be_bytes(old), 1);
    };
    let number = |a: IpAddr| u128::from_be_bytes(octets(a));
    let (low, high) = (number(low), number(high));
    (low, high.saturating_sub(low).saturating_add(1))
}

fn hash_end(end: &End) -> u64 {
    let [a, b] = [0, 8].map(|i| u64::from_le_bytes(end.addr[i..i + 8].try_into().unwrap_or_default()));
    fold(a ^ 0x9e37_79b9_7f4a_7c15, b ^ u64::from(end.port))
}

/// `reply` with a port that is free.
#[expect(clippy::too_many_arguments, reason = "everything that a port is chosen by")]
fn ports(
    key: &Key,
    nat: &Nat,
    side: NatSide,
    old: u16,
    chance: Chance,
    start: u64,
    reply: &Key,
    free: &mut impl FnMut(&Key) -> bool,
    search: &mut impl FnMut(&Key, NatSide, (u16, u16), u16) -> Option<Key>,
) -> Option<Key> {
    let mut take = |port: u16| {
        let key = with_port(reply, side, port);
        free(&key).then_some(key)
    };
    if !key.has_ports() && !key.is_icmp() {
        return take(old);
    }
    let (low, high) = match nat.ports {
        Some((low, high)) if key.has_ports() => (low, high.max(low)),
        // A destination keeps its port: the service is there.
        _ if side == NatSide::Dst => return take(old),
        _ => {
            if !nat.random
                && let Some(reply) = take(old)
            {
                return Some(reply);
            }
            (if key.is_icmp() { 0 } else { UNPRIVILEGED }, u16::MAX)
        }
    };
    let count = u32::from(high - low) + 1;
    let port = |offset: u32| low + (offset % count) as u16;
    if nat.ports.is_some()
        && !nat.random
        && !nat.hash
        && (low..=high).contains(&old)
        && side == NatSide::Src
        && let Some(reply) = take(old)
    {
        return Some(reply);
    }
    let mut random = start ^ if nat.random { chance.random } else { 0 };
    for _ in 0..PROBES.min(count) {
        if let Some(reply) = take(port((random >> 32) as u32)) {
            return Some(reply);
        }
        random = fold(random ^ chance.random, 0x9e37_79b9_7f4a_7c15);
    }
    // Nearly all are taken.
    search(reply, side, (low, high), port((random >> 32) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::address;
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    /// Looks at ports one by one.
    fn one_by_one(used: &HashSet<Key>, reply: &Key, side: NatSide, (low, high): (u16, u16)) -> Option<Key> {
        (low..=high).map(|port| with_port(reply, side, port)).find(|k| !used.contains(k))
    }

    fn key(host: u8, port: u16) -> Key {
        let end = |a: [u8; 4], port| End { addr: Ipv4Addr::from(a).to_ipv6_mapped().octets(), port };
        Key {
            src: end([10, 0, 0, host], port),
            dst: end([192, 0, 2, 1], 80),
            zone: 0,
            proto: 6,
            v6: false,
            answer: false,
        }
    }

    #[test]
    fn every_port_of_a_range_is_given_out_before_none_is() {
        let addr: IpAddr = Ipv4Addr::new(198, 51, 100, 1).into();
        let nat = Nat {
            side: Some(NatSide::Src),
            addrs: Some((addr, addr)),
            ports: Some((2000, 2999)),
            ..Nat::default()
        };
        let mut used = HashSet::new();
        for n in 0..1000u16 {
            let chance = Chance { seed: 7, random: fold(u64::from(n) + 1, 99) };
            let reply = choose(
                &key((n % 200) as u8, 5000 + n),
                &nat,
                chance,
                |k| !used.contains(k),
                |k, side, range, _| one_by_one(&used, k, side, range),
            );
            let reply = reply.unwrap_or_else(|| panic!("connection {n} got nothing"));
            assert!((2000..3000).contains(&reply.dst.port));
            assert!(used.insert(reply));
        }
        let chance = Chance { seed: 7, random: 1 };
        assert_eq!(choose(&key(1, 1), &nat, chance, |k| !used.contains(k), |_, _, _, _| None), None);
    }

    #[test]
    fn a_source_keeps_its_port_and_a_persistent_one_its_address() {
        let range = (Ipv4Addr::new(198, 51, 100, 1).into(), Ipv4Addr::new(198, 51, 100, 9).into());
        let nat = Nat { side: Some(NatSide::Src), addrs: Some(range), persistent: true, ..Nat::default() };
        let chance = Chance { seed: 7, random: 3 };
        let given: HashSet<_> = (0..50)
            .map(|p| choose(&key(1, 4000 + p), &nat, chance, |_| true, |_, _, _, _| None).unwrap().dst)
            .collect();
        assert_eq!(given.iter().map(|e| e.addr).collect::<HashSet<_>>().len(), 1);
        assert_eq!(given.len(), 50, "ports stay as they are");
    }

    #[test]
    fn a_client_of_one_server_by_two_addresses_gets_another_port() {
        let server: IpAddr = Ipv4Addr::new(10, 9, 9, 9).into();
        let nat = Nat { side: Some(NatSide::Dst), addrs: Some((server, server)), ..Nat::default() };
        let chance = Chance { seed: 7, random: 3 };
        let plain = choose(&key(1, 4000), &nat, chance, |_| true, |_, _, _, _| None).unwrap();
        assert_eq!((address(&plain.src.addr, false), plain.dst.port), (server, 4000));
        let used = HashSet::from([plain]);
        let one_by_one = |k: &Key, side, range, _| one_by_one(&used, k, side, range);
        let other = choose(&key(1, 4000), &nat, chance, |k| *k != plain, one_by_one).unwrap();
        assert_eq!((other.src, other.dst.addr), (plain.src, plain.dst.addr));
        assert_ne!(other.dst.port, 4000);
    }
}
