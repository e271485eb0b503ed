//! Links, addresses, routes, neighbours, namespaces and offloads against the real kernel. Needs root.

mod common;

use common::{Pair, eventually, ip};
use weft_host::ethtool::{self, Feature};
use weft_host::netlink::{Event, Monitor, Netlink, OperState, VethEnd, Vxlan};
use weft_host::netns::NetNs;
use weft_host::poll::wait_readable;
use weft_wire::Mac;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

#[test]
fn links_are_made_changed_and_deleted() {
    let ns = NetNs::unnamed("t").unwrap();
    let mut nl = Netlink::open_in(&ns).unwrap();
    let first = VethEnd { mac: Some(MAC), mtu: Some(9000), ..VethEnd::named("v0") };
    nl.add_veth(&first, &VethEnd::named("v1")).unwrap();
    assert!(nl.add_veth(&first, &VethEnd::named("v2")).unwrap_err().exists());

    let v0 = nl.link("v0").unwrap();
    assert_eq!((v0.mac, v0.mtu, v0.kind.as_deref(), v0.admin_up), (Some(MAC), 9000, Some("veth"), false));
    assert_eq!(v0.lower, Some(nl.index_of("v1").unwrap()));
    nl.set_up(v0.index, true).unwrap();
    assert_eq!(nl.link("v0").unwrap().oper_state, OperState::LowerLayerDown);
    let v1 = nl.index_of("v1").unwrap();
    nl.set_up(v1, true).unwrap();
    let v0 = nl.link("v0").unwrap();
    assert_eq!((v0.admin_up, v0.carrier, v0.oper_state), (true, true, OperState::Up));

    let bridge = nl.add_bridge("br").unwrap();
    nl.set_master(v0.index, Some(bridge)).unwrap();
    nl.set_mtu(v0.index, 1400).unwrap();
    nl.set_mac(v0.index, Mac([2, 0, 0, 0, 0, 8])).unwrap();
    let v0 = nl.link_by_index(v0.index).unwrap();
    assert_eq!((v0.master, v0.mtu, v0.mac), (Some(bridge), 1400, Some(Mac([2, 0, 0, 0, 0, 8]))));
    nl.set_master(v0.index, None).unwrap();
    nl.set_up(v0.index, false).unwrap();
    nl.set_name(v0.index, "renamed").unwrap();

    let mut names: Vec<_> = nl.links().unwrap().into_iter().map(|l| l.name).collect();
    names.sort();
    let ours: Vec<_> = names.iter().filter(|n| ["br", "renamed", "v1"].contains(&n.as_str())).collect();
    assert_eq!(ours, ["br", "renamed", "v1"]);
    nl.delete_link(v1).unwrap();
    assert!(matches!(nl.link("renamed"), Err(weft_host::Error::NoDevice(_))));
    let error = nl.set_mtu(v0.index, 1).unwrap_err().to_string();
    assert!(error.starts_with(&format!("set mtu 1 of device {}", v0.index)), "{error}");
    nl.set_mtu(bridge, 5).unwrap_err();
}

#[test]
fn vxlan_devices_are_made() {
    let pair = Pair::addressed("192.0.2.1", "192.0.2.2", 24);
    let mut nl = pair.na;
    let vxlan = Vxlan {
        name: "vx",
        vni: 1000,
        remote: ip("192.0.2.2"),
        local: Some(ip("192.0.2.1")),
        port: 4789,
        learning: true,
        checksum: false,
        gbp: true,
    };
    nl.add_vxlan(&vxlan).unwrap();
    assert_eq!(nl.link("vx").unwrap().kind.as_deref(), Some("vxlan"));
    let six = Vxlan { name: "vx6", vni: 1001, remote: ip("2001:db8::2"), local: None, gbp: false, ..vxlan };
    nl.add_vxlan(&six).unwrap();
}

#[test]
fn addresses_routes_and_neighbours() {
    let mut pair = Pair::addressed("192.0.2.1", "192.0.2.2", 24);
    let (nl, va) = (&mut pair.na, pair.va);
    nl.add_address(va, ip("2001:db8::1"), 64).unwrap();
    nl.add_address(va, ip("192.0.2.1"), 24).unwrap();
    let addresses = nl.addresses().unwrap();
    for (address, prefix) in [("192.0.2.1", 24), ("2001:db8::1", 64)] {
        let found = addresses.iter().find(|a| a.ip == ip(address)).unwrap();
        assert_eq!((found.ifindex, found.prefix, found.tentative), (va, prefix, false));
    }

    nl.add_route(ip("198.51.100.0"), 24, Some(ip("192.0.2.2")), None).unwrap();
    nl.add_route(ip("0.0.0.0"), 0, Some(ip("192.0.2.254")), None).unwrap();
    nl.add_route(ip("2001:db8:1::"), 48, Some(ip("2001:db8::2")), None).unwrap();
    let hop = |nl: &mut Netlink, to: &str| {
        let route = nl.route_to(ip(to), None).unwrap();
        (route.hops[0].gateway, route.hops[0].ifindex, route.source)
    };
    assert_eq!(hop(nl, "192.0.2.9"), (None, va, Some(ip("192.0.2.1"))));
    assert_eq!(hop(nl, "198.51.100.9"), (Some(ip("192.0.2.2")), va, Some(ip("192.0.2.1"))));
    assert_eq!(hop(nl, "203.0.113.9"), (Some(ip("192.0.2.254")), va, Some(ip("192.0.2.1"))));
    assert_eq!(hop(nl, "2001:db8:1::5"), (Some(ip("2001:db8::2")), va, Some(ip("2001:db8::1"))));
    assert!(nl.route_to(ip("192.0.2.1"), None).unwrap().local);
    assert!(nl.routes().unwrap().iter().any(|r| r.dst == ip("198.51.100.0") && r.prefix == 24));
    nl.delete_route(ip("0.0.0.0"), 0).unwrap();
    assert_eq!(nl.route_to(ip("203.0.113.9"), None).unwrap_err().errno(), Some(libc::ENETUNREACH));

    nl.add_neighbour(va, ip("192.0.2.77"), MAC).unwrap();
    let all = nl.neighbours().unwrap();
    let found = all.iter().find(|n| n.ip == ip("192.0.2.77")).unwrap();
    assert_eq!((found.ifindex, found.mac, found.usable()), (va, Some(MAC), true));
    nl.delete_neighbour(va, ip("192.0.2.77")).unwrap();
    nl.probe_neighbour(va, ip("192.0.2.2")).unwrap();
    let vb_mac = pair.nb.link("vb").unwrap().mac;
    eventually("the neighbour is resolved", || {
        nl.neighbours()
            .unwrap()
            .into_iter()
            .find(|n| n.ip == ip("192.0.2.2") && n.usable() && n.mac == vb_mac)
    });
}

#[test]
fn links_move_between_namespaces() {
    let mut pair = Pair::new();
    let other = NetNs::unnamed("c").unwrap();
    pair.na.move_to(pair.va, &other, Some("eth0")).unwrap();
    assert!(pair.na.link("va").is_err());
    let mut there = Netlink::open_in(&other).unwrap();
    assert_eq!(there.link("eth0").unwrap().kind.as_deref(), Some("veth"));
}

#[test]
fn changes_are_told() {
    let mut pair = Pair::new();
    let mut monitor = pair.a.run(Monitor::open).unwrap().unwrap();
    assert_eq!(monitor.next_event().unwrap(), None);
    pair.na.set_mtu(pair.va, 1300).unwrap();
    pair.na.add_address(pair.va, ip("192.0.2.1"), 24).unwrap();
    pair.na.add_neighbour(pair.va, ip("192.0.2.7"), MAC).unwrap();
    let vb = pair.vb;
    pair.nb.delete_link(vb).unwrap();
    let mut seen = [false; 5];
    eventually("all changes told", || {
        wait_readable(&monitor, 100).unwrap();
        while let Some(event) = monitor.next_event().unwrap() {
            match event {
                Event::Link(l) if l.mtu == 1300 => seen[0] = true,
                Event::Address(a) if a.ip == ip("192.0.2.1") => seen[1] = true,
                Event::Route(r) if r.dst == ip("192.0.2.0") => seen[2] = true,
                Event::Neighbour(n) if n.mac == Some(MAC) => seen[3] = true,
                Event::LinkGone(l) if l.name == "va" => seen[4] = true,
                _ => {}
            }
        }
        (seen == [true; 5]).then_some(())
    });
}

#[test]
fn offloads_are_switched() {
    let pair = Pair::new();
    let get = |f| pair.a.run(|| ethtool::feature("va", f)).unwrap().unwrap();
    for on in [false, true] {
        pair.a.run(|| ethtool::set_all_features("va", on)).unwrap().unwrap();
        for feature in [Feature::TxChecksum, Feature::Tso, Feature::Gso, Feature::ScatterGather, Feature::Gro]
        {
            assert_eq!(get(feature), on, "{feature:?}");
        }
    }
    assert_eq!(pair.a.run(|| ethtool::driver("va")).unwrap().unwrap().0, "veth");
    assert_eq!(pair.a.run(|| ethtool::speed("va")).unwrap().unwrap().mbps, Some(10_000));
    let missing = pair.a.run(|| ethtool::feature("nope", Feature::Gro)).unwrap().unwrap_err();
    assert!(missing.missing() && missing.to_string().contains("nope"), "{missing}");
}

#[test]
fn named_namespaces() {
    let name = format!("weft-host-test-{}", std::process::id());
    let ns = NetNs::create(&name).unwrap();
    assert!(NetNs::create(&name).unwrap_err().exists());
    assert!(NetNs::names().unwrap().contains(&name));
    assert_eq!(NetNs::id_of(&name), Some(ns.id().unwrap()));
    assert_ne!(NetNs::current().unwrap().id().unwrap(), ns.id().unwrap());
    ns.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let read = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(ns.run(read).unwrap().trim(), "1");
    let seen =
        std::process::Command::new("ip").args(["netns", "exec", &name, "ip", "-o", "link"]).output().unwrap();
    assert!(String::from_utf8_lossy(&seen.stdout).contains("lo:"), "{seen:?}");
    NetNs::delete(&name).unwrap();
    NetNs::delete(&name).unwrap();
    assert!(NetNs::open(&name).is_err());
    assert!(NetNs::create("a/b").is_err());
}
