//! A pair of namespaces joined by a veth pair, for tests. Needs root.
#![allow(dead_code)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use weft_host::netlink::{Netlink, OperState, VethEnd};
use weft_host::netns::NetNs;

/// Two unnamed namespaces, `va` in the first, `vb` in the second, both up.
pub(crate) struct Pair {
    pub(crate) a: NetNs,
    pub(crate) b: NetNs,
    pub(crate) na: Netlink,
    pub(crate) nb: Netlink,
    /// Index of `va`.
    pub(crate) va: u32,
    /// Index of `vb`.
    pub(crate) vb: u32,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let a = NetNs::unnamed("test a").expect("namespaces need root");
        let b = NetNs::unnamed("test b").unwrap();
        let mut na = Netlink::open_in(&a).unwrap();
        let mut nb = Netlink::open_in(&b).unwrap();
        let far = VethEnd { ns: Some(&b), ..VethEnd::named("vb") };
        na.add_veth(&VethEnd { index: 1000, ..VethEnd::named("va") }, &far).unwrap();
        let (va, vb) = (na.index_of("va").unwrap(), nb.index_of("vb").unwrap());
        for (netlink, index) in [(&mut na, va), (&mut nb, vb)] {
            let lo = netlink.index_of("lo").unwrap();
            netlink.set_up(lo, true).unwrap();
            netlink.set_up(index, true).unwrap();
        }
        // Until the kernel has noticed the carrier on both ends, frames are lost.
        for (netlink, index) in [(&mut na, va), (&mut nb, vb)] {
            eventually("the link is up", || {
                (netlink.link_by_index(index).unwrap().oper_state == OperState::Up).then_some(())
            });
        }
        Self { a, b, na, nb, va, vb }
    }

    /// As `new`, with an address on each end.
    pub(crate) fn addressed(a: &str, b: &str, prefix: u8) -> Self {
        let mut pair = Self::new();
        pair.na.add_address(pair.va, ip(a), prefix).unwrap();
        pair.nb.add_address(pair.vb, ip(b), prefix).unwrap();
        pair
    }
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Tries until `f` gives something, for at most half a minute.
pub(crate) fn eventually<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(got) = f() {
            return got;
        }
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
