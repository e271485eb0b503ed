//! Which flows does a port ask for?

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use weft_flow::{Action, Field};
use weft_wire::{EtherType, IpProto, Mac};

use super::{arp_reply, leave_by, on_address, on_prefix, vlan};
use crate::cookie::{Cookie, Kind, Purpose};
use crate::flow::{Bucket, Flow, mac, put, set};
use crate::plan::{Guard, Limit, Net, Port, PortKey};
use crate::stage::{Register, Stage};

/// Link-local addresses (RFC 4291 §2.5.6) may be chosen by whoever has the port.
const LINK_LOCAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
/// Claims of a port that is no router nor DHCP server are dropped before all else.
const ROLE: u16 = 200;
/// Flows for single addresses.
const ADDRESS: u16 = 150;
/// What a host sends before it has an address.
const NEWCOMER: u16 = 140;
/// The address is not the port's.
const SPOOFED: u16 = 130;
/// Other protocols, from the right MAC address.
const OTHER: u16 = 120;

pub(super) fn cookie(key: PortKey, purpose: Purpose) -> Cookie {
    Cookie { kind: Kind::Port, purpose, key: key.0 }
}

/// All flows of a port.
pub(crate) fn flows(key: PortKey, port: &Port, net: &Net) -> Vec<Flow> {
    let flow = |stage, priority, purpose| Flow::new(stage, priority, cookie(key, purpose));
    let mut out = Vec::new();
    let next = if port.guard == Guard::Off { Stage::Neighbour } else { Stage::Guard };
    let mut entry = flow(Stage::Classify, 100, Purpose::Forward).on(Field::InPort, port.port.0).goto(next);
    entry.instructions.metadata = Some((port.net.0.into(), u64::MAX));
    if net.isolated {
        entry = entry.act([put(Register::FromIsolated, 1)]);
        let between = flow(Stage::Output, 100, Purpose::Isolated).on_register(Register::FromIsolated, 1);
        out.push(between.on_register(Register::OutPort, port.port.0));
    }
    let (sends, receives) = key.meters();
    entry.instructions.meter = port.sends.map(|_| sends);
    out.extend(vlan::entries(key, port, net, entry));
    out.extend(vlan::exits(key, port, net));
    if port.receives.is_some() {
        let mut leave = flow(Stage::Output, 60, Purpose::Limit).on_register(Register::OutPort, port.port.0);
        leave.instructions.meter = Some(receives);
        out.push(leave.act([Action::Output { port: port.port, max_len: 0 }]));
    }
    if let Guard::On(more) = &port.guard {
        guard(&mut out, key, port, more);
    }
    // Who is in another VLAN answers for itself, to those who are there.
    let served = net.uplink.is_none() || port.vlans.is_served();
    for address in port.addresses.iter().filter(|_| served) {
        neighbour(&mut out, key, port, *address);
        let hop = on_address(flow(Stage::NextHop, 100, Purpose::Route).of(port.net), false, *address, 128);
        out.push(hop.act([set(Field::EthDst, mac(port.mac))]).goto(Stage::Bridge));
    }
    let known = flow(Stage::Bridge, 100, Purpose::Forward).of(port.net).on(Field::EthDst, mac(port.mac));
    out.push(leave_by(known, port.port));
    out
}

/// The meters of a port.
pub(crate) fn meters(key: PortKey, port: &Port) -> impl Iterator<Item = (u32, Limit)> {
    let (sends, receives) = key.meters();
    [(sends, port.sends), (receives, port.receives)].into_iter().filter_map(|(id, limit)| Some((id, limit?)))
}

/// Its copy of what is flooded.
pub(crate) fn bucket(key: PortKey, port: &Port) -> Bucket {
    flood_to(key.0, vec![put(Register::OutPort, port.port.0)])
}

/// A bucket that prepares and then passes the last stage.
pub(crate) fn flood_to(id: u32, mut actions: Vec<Action>) -> Bucket {
    actions.push(Action::Resubmit { port: None, table: Some(Stage::Output.table()), ct: false });
    Bucket { id, actions }
}

/// ARP for the port is answered, but never to itself: it asks whether somebody else has its address (RFC 5227 §2.1).
/// Solicitations go to the port alone.
fn neighbour(out: &mut Vec<Flow>, key: PortKey, port: &Port, address: IpAddr) {
    let flow = |priority, purpose| Flow::new(Stage::Neighbour, priority, cookie(key, purpose)).of(port.net);
    match address {
        IpAddr::V4(v4) => {
            let own = flow(110, Purpose::Arp).on(Field::InPort, port.port.0).ethertype(EtherType::ARP);
            let own = own.on(Field::ArpOp, 1u8).on(Field::ArpTpa, u32::from(v4));
            out.push(own.goto(Stage::Service));
            out.push(arp_reply(flow(100, Purpose::Arp), v4.into(), port.mac));
        }
        IpAddr::V6(v6) => {
            let asked = flow(100, Purpose::Neighbour).transport(true, IpProto::ICMPV6);
            let asked = asked.on(Field::Icmpv6Type, 135u8).on(Field::Icmpv6Code, 0u8).on(Field::NdTarget, v6);
            out.push(leave_by(asked, port.port));
        }
    }
}

/// What the port may send goes on; what it may not is dropped by a flow that says why.
fn guard(out: &mut Vec<Flow>, key: PortKey, port: &Port, more: &[(Mac, IpAddr, u8)]) {
    let flow = |priority, purpose| {
        Flow::new(Stage::Guard, priority, cookie(key, purpose)).on(Field::InPort, port.port.0)
    };
    let ports = |flow: Flow, v6, from: u16, to: u16| {
        flow.transport(v6, IpProto::UDP).on(Field::UdpSrc, from).on(Field::UdpDst, to)
    };
    let icmp6 = |flow: Flow, ty: u8| flow.transport(true, IpProto::ICMPV6).on(Field::Icmpv6Type, ty);
    out.push(ports(flow(ROLE, Purpose::DhcpServerGuard), false, 67, 68));
    out.push(ports(flow(ROLE, Purpose::DhcpServerGuard), true, 547, 546));
    out.push(icmp6(flow(ROLE, Purpose::RouterGuard), 134));
    out.push(flow(100, Purpose::SpoofedMac));

    let own = port.addresses.iter().map(|a| (port.mac, *a, 128));
    let pairs: BTreeSet<(Mac, IpAddr, u8)> = own.chain(more.iter().copied()).collect();
    let macs: BTreeSet<Mac> = pairs.iter().map(|(m, ..)| *m).chain([port.mac]).collect();
    for (from, address, prefix) in pairs {
        let flow =
            |priority| flow(priority, Purpose::Forward).on(Field::EthSrc, mac(from)).goto(Stage::Neighbour);
        out.push(on_address(flow(ADDRESS), true, address, prefix));
        out.push(if address.is_ipv4() {
            let arp = flow(ADDRESS).ethertype(EtherType::ARP).on(Field::ArpSha, mac(from));
            on_prefix(arp, Field::ArpSpa, address, prefix)
        } else {
            let told = icmp6(flow(ADDRESS + 10), 136).on(Field::Icmpv6Code, 0u8);
            on_prefix(told, Field::NdTarget, address, prefix)
        });
    }
    for from in macs {
        let flow = |priority, purpose| flow(priority, purpose).on(Field::EthSrc, mac(from));
        let pass = |priority| flow(priority, Purpose::Forward).goto(Stage::Neighbour);
        let arp = pass(NEWCOMER).ethertype(EtherType::ARP).on(Field::ArpSha, mac(from));
        out.push(arp.on(Field::ArpSpa, 0u32));
        let discover = ports(pass(NEWCOMER), false, 68, 67);
        out.push(discover.on(Field::IpSrc, 0u32).on(Field::IpDst, u32::MAX));
        out.push(on_address(pass(NEWCOMER), true, LINK_LOCAL.0.into(), LINK_LOCAL.1));
        // Duplicate address detection and multicast listener reports (RFC 4862 §5.4, RFC 3810 §5.2.13).
        for ty in [135, 143] {
            out.push(icmp6(pass(NEWCOMER), ty).on(Field::Ipv6Src, 0u128));
        }
        let local = icmp6(pass(ADDRESS + 5), 136).on(Field::Icmpv6Code, 0u8);
        let mask = u128::MAX << (128 - LINK_LOCAL.1);
        out.push(local.on_bits(Field::NdTarget, LINK_LOCAL.0.into(), mask));
        out.push(icmp6(flow(ADDRESS + 4, Purpose::SpoofedNeighbour), 136));
        out.push(flow(SPOOFED, Purpose::SpoofedNeighbour).ethertype(EtherType::ARP));
        out.push(flow(SPOOFED, Purpose::SpoofedIp).ethertype(EtherType::IPV4));
        out.push(flow(SPOOFED, Purpose::SpoofedIp).ethertype(EtherType::IPV6));
        out.push(pass(OTHER));
    }
}
