//! Which flows does a network ask for, besides those of its ports?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_flow::{Action, Field, Learn, LearnDst, LearnSpec, LearnSrc, OfPort};
use weft_wire::{EtherType, IpProto};

use super::port::flood_to;
use super::{arp_reply, back, leave_by, on_address, to_agent, vlan, whole};
use crate::cookie::{Cookie, Kind, Purpose};
use crate::flow::{Bucket, Flow, mac, put, set};
use crate::plan::{Net, NetKey, Overlay, Plan, Subnet, Uplink};
use crate::stage::{Register, Stage};

/// Seconds for which a learned MAC address is kept without use.
const LEARNED_IDLE: u16 = 300;
/// MAC addresses learned at most for one network.
const LEARNED_MOST: u32 = 65_536;
/// Bit of the Ethernet destination that several stations share.
const GROUP_BIT: u128 = 1 << 40;
/// Length of an Ethernet header.
const HEADER: u16 = 14;
/// Numbers of buckets that are no ports'.
const HOST_BUCKET: u32 = 0xf000_0000;
const UPLINK_BUCKET: u32 = 0xf000_0001;
const PEER_BUCKETS: u32 = 0xf100_0000;

/// All DHCPv6 relay agents and servers, and all servers of a site (RFC 8415 §7.1).
const DHCP6_GROUPS: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2)),
    IpAddr::V6(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3)),
];

fn flow(key: NetKey, stage: Stage, priority: u16, purpose: Purpose) -> Flow {
    Flow::new(stage, priority, Cookie { kind: Kind::Network, purpose, key: key.0 })
}

/// All flows of a network.
pub(crate) fn flows(key: NetKey, net: &Net, plan: &Plan) -> Vec<Flow> {
    let mut out = Vec::new();
    entries(&mut out, key, net);
    for subnet in &net.subnets {
        gateway(&mut out, key, net, subnet);
    }
    services(&mut out, key, net);
    if net.probes {
        probes(&mut out, key, net);
    }
    routes(&mut out, key, net, plan);
    bridge(&mut out, key, net);
    exits(&mut out, key, net);
    out
}

/// What gets a copy of flooded packets, besides ports.
pub(crate) fn buckets(net: &Net) -> Vec<Bucket> {
    let to = |id, port: OfPort| flood_to(id, vec![put(Register::OutPort, port.0)]);
    let host = net.host.iter().map(|h| to(HOST_BUCKET, h.port));
    let uplink = net.uplink.iter().map(|u| to(UPLINK_BUCKET, u.port));
    let peers = net.overlay.iter().flat_map(|o| o.peers.iter().map(move |p| (o, *p))).enumerate();
    let peers = peers.map(|(i, (overlay, peer))| {
        let there = match peer {
            IpAddr::V4(a) => set(Field::TunDst, u32::from(a)),
            IpAddr::V6(a) => set(Field::TunIpv6Dst, u128::from(a)),
        };
        flood_to(PEER_BUCKETS + i as u32, vec![there, put(Register::OutPort, overlay.port.0)])
    });
    host.chain(uplink).chain(peers).collect()
}

/// Where packets of the network come in, besides at ports.
fn entries(out: &mut Vec<Flow>, key: NetKey, net: &Net) {
    let entry = |port: OfPort, next| {
        let mut flow = flow(key, Stage::Classify, 100, Purpose::Forward).on(Field::InPort, port.0).goto(next);
        flow.instructions.metadata = Some((key.0.into(), u64::MAX));
        flow
    };
    if let Some(host) = &net.host {
        out.push(entry(host.port, Stage::Neighbour));
    }
    if let Some(Overlay { port, vni, .. }) = net.overlay {
        let learn = learn(key, port, &tunnel_fields(net));
        let came = |more| {
            let tunnel = entry(port, Stage::Bridge).on(Field::TunId, vni);
            tunnel.act([Some(put(Register::FromTunnel, 1)), more, Some(learn.clone())].into_iter().flatten())
        };
        // Ports of other nodes are ports; their gateways are the gateway.
        let isolated = net.isolated.then(|| put(Register::FromIsolated, 1));
        if isolated.is_some() {
            let mut gateway = came(None).on(Field::EthSrc, mac(net.gateway_mac));
            gateway.priority += 10;
            out.push(gateway);
        }
        out.push(came(isolated));
    }
    if let Some(Uplink { port, vlan, trunk }) = &net.uplink {
        let cable = || entry(*port, Stage::Bridge);
        let learn = || learn(key, *port, &[]);
        out.push(match vlan {
            0 => vlan::untagged(cable()).act([learn()]),
            own => vlan::tagged(cable(), *own).act([Action::PopVlan, learn()]),
        });
        // What is learned leads to the uplink whatever the VLAN is.
        out.extend(trunk.iter().map(|other| vlan::tagged(cable(), *other).act(vlan::stray()).act([learn()])));
    }
}

/// The fields that hold who sent a packet through a tunnel, and whom to send one to.
fn tunnel_fields(net: &Net) -> Vec<(Field, Field)> {
    let v6 = net.overlay.iter().flat_map(|o| &o.peers).any(IpAddr::is_ipv6);
    vec![if v6 { (Field::TunIpv6Src, Field::TunIpv6Dst) } else { (Field::TunSrc, Field::TunDst) }]
}

/// Remembers by which port the sender is reached, and with which values of other fields.
fn learn(key: NetKey, port: OfPort, copies: &[(Field, Field)]) -> Action {
    let spec = |src, dst| LearnSpec { src, dst };
    let mut specs = vec![
        spec(LearnSrc::Value(key.0.into()), LearnDst::Match(whole(Field::Metadata))),
        spec(LearnSrc::Field(whole(Field::EthSrc)), LearnDst::Match(whole(Field::EthDst))),
        spec(LearnSrc::Value(port.0.into()), LearnDst::Load(Register::OutPort.subfield())),
    ];
    specs.extend(
        copies.iter().map(|(src, dst)| spec(LearnSrc::Field(whole(*src)), LearnDst::Load(whole(*dst)))),
    );
    let cookie = Cookie { kind: Kind::Network, purpose: Purpose::Learn, key: key.0 };
    Action::Learn(Box::new(Learn {
        idle_timeout: LEARNED_IDLE,
        hard_timeout: 0,
        priority: 100,
        table: Stage::Learned.table(),
        cookie: cookie.to_u64(),
        fin_timeout: (0, 0),
        send_flow_rem: false,
        delete_learned: true,
        limit: LEARNED_MOST,
        result: None,
        specs,
    }))
}

/// The gateway's address: ARP is answered, solicitations and what is meant for it go to the host.
fn gateway(out: &mut Vec<Flow>, key: NetKey, net: &Net, subnet: &Subnet) {
    let Some(address) = subnet.gateway else { return };
    match (address, &net.host) {
        (IpAddr::V4(v4), _) => {
            out.push(arp_reply(
                flow(key, Stage::Neighbour, 90, Purpose::Arp).of(key),
                v4.into(),
                net.gateway_mac,
            ));
        }
        (IpAddr::V6(v6), Some(host)) => {
            let asked = flow(key, Stage::Neighbour, 90, Purpose::Neighbour).of(key);
            let asked = asked.transport(true, IpProto::ICMPV6).on(Field::Icmpv6Type, 135u8);
            out.push(leave_by(asked.on(Field::Icmpv6Code, 0u8).on(Field::NdTarget, v6), host.port));
        }
        (IpAddr::V6(_), None) => {}
    }
    if let Some(host) = &net.host {
        let own = flow(key, Stage::Route, 300, Purpose::Forward).of(key);
        out.push(leave_by(on_address(own, false, address, 128), host.port));
    }
    if net.dns {
        let question = flow(key, Stage::Service, 100, Purpose::Dns).of(key);
        let question = question.transport(address.is_ipv6(), IpProto::UDP).on(Field::UdpDst, 53u16);
        out.push(ask(on_address_only(question, address)));
    }
}

/// Matches a destination whose Ethernet type is matched already.
fn on_address_only(flow: Flow, address: IpAddr) -> Flow {
    match address {
        IpAddr::V4(a) => flow.on(Field::IpDst, u32::from(a)),
        IpAddr::V6(a) => flow.on(Field::Ipv6Dst, a),
    }
}

/// Sends to the agent.
fn ask(flow: Flow) -> Flow {
    let action = to_agent(flow.cookie);
    flow.act([action])
}

/// What the agent answers, and pings.
fn services(out: &mut Vec<Flow>, key: NetKey, net: &Net) {
    let flow = |purpose| flow(key, Stage::Service, 100, purpose).of(key);
    let any = |test: fn(&Subnet) -> bool| net.subnets.iter().any(test);
    let dhcp = |v6, from: u16, to: u16| {
        let asked = flow(Purpose::Dhcp).transport(v6, IpProto::UDP);
        ask(asked.on(Field::UdpSrc, from).on(Field::UdpDst, to))
    };
    if any(|s| s.dhcp && s.address.is_ipv4()) {
        out.push(dhcp(false, 68, 67));
    }
    if any(|s| s.dhcp && s.address.is_ipv6()) {
        out.push(dhcp(true, 546, 547));
    }
    // Relays speak to the gateway, or to whoever hears them.
    for gateway in net.subnets.iter().filter(|s| s.dhcp).filter_map(|s| s.gateway) {
        let relayed = |to| {
            let server: u16 = if gateway.is_ipv6() { 547 } else { 67 };
            let asked = flow(Purpose::Dhcp).transport(gateway.is_ipv6(), IpProto::UDP);
            let asked = asked.on(Field::UdpSrc, server).on(Field::UdpDst, server);
            ask(on_address_only(asked, to))
        };
        out.push(relayed(gateway));
        let all: &[IpAddr] =
            if gateway.is_ipv6() { &DHCP6_GROUPS } else { &[IpAddr::V4(Ipv4Addr::BROADCAST)] };
        out.extend(all.iter().map(|to| relayed(*to)));
    }
    if any(|s| s.adverts && s.address.is_ipv6()) {
        let asked = flow(Purpose::RouterAdvert).transport(true, IpProto::ICMPV6);
        out.push(ask(asked.on(Field::Icmpv6Type, 133u8).on(Field::Icmpv6Code, 0u8)));
    }
}

/// Answers to probes go to the agent, who asked from no address (RFC 5227 §2.1.1): those of ports, whose guard has seen
/// them by then, and those that come in from outside.
fn probes(out: &mut Vec<Flow>, key: NetKey, net: &Net) {
    for (stage, priority) in [(Stage::Neighbour, 95), (Stage::Bridge, 110)] {
        let answer = flow(key, stage, priority, Purpose::Probe).of(key).ethertype(EtherType::ARP);
        let answer = answer.on(Field::ArpOp, 2u8).on(Field::ArpTpa, 0u32).on_register(Register::Tagged, 0);
        out.push(ask(answer.on(Field::ArpTha, mac(net.gateway_mac))));
    }
}

/// Answers a ping (RFC 792, RFC 4443 §4.2).
fn echo(flow: Flow, net: &Net, address: IpAddr) -> Flow {
    let v6 = address.is_ipv6();
    let (proto, ty, code, asked, answer) = if v6 {
        (IpProto::ICMPV6, Field::Icmpv6Type, Field::Icmpv6Code, 128u8, 129u8)
    } else {
        (IpProto::ICMP, Field::IcmpType, Field::IcmpCode, 8, 0)
    };
    let (src, dst) = if v6 { (Field::Ipv6Src, Field::Ipv6Dst) } else { (Field::IpSrc, Field::IpDst) };
    let flow = flow.on(Field::EthDst, mac(net.gateway_mac)).transport(v6, proto);
    let flow = on_address_only(flow.on(ty, asked).on(code, 0u8), address);
    flow.act([
        Action::Move { src: whole(Field::EthSrc), dst: whole(Field::EthDst) },
        set(Field::EthSrc, mac(net.gateway_mac)),
        Action::Move { src: whole(src), dst: whole(dst) },
        match address {
            IpAddr::V4(a) => set(src, u32::from(a)),
            IpAddr::V6(a) => set(src, u128::from(a)),
        },
        set(ty, answer),
        set(Field::NwTtl, 64u8),
        back(),
    ])
}

/// From the gateway's MAC address to networks of the same router, to machines that route on, to the host, or to an ICMP
/// error.
fn routes(out: &mut Vec<Flow>, key: NetKey, net: &Net, plan: &Plan) {
    let there = |to: NetKey| if to == key { Some(net) } else { plan.nets.get(&to) };
    for hop in net.hops.iter().rev() {
        let Some(there) = there(hop.net) else { continue };
        lead(out, key, net, (hop.net, there), (hop.address, hop.prefix), |way| {
            way.act([set(Field::EthDst, mac(hop.mac))]).goto(Stage::Bridge)
        });
    }
    for to in [&key].into_iter().chain(&net.routed) {
        let Some(there) = there(*to) else { continue };
        for subnet in &there.subnets {
            if let Some(address) = subnet.gateway {
                out.push(echo(flow(key, Stage::Service, 100, Purpose::Echo).of(key), net, address));
            }
            let prefix = (subnet.address, subnet.prefix);
            lead(out, key, net, (*to, there), prefix, |way| way.goto(Stage::NextHop));
        }
    }
    let last = |purpose| flow(key, Stage::Route, 1, purpose).of(key).on(Field::EthDst, mac(net.gateway_mac));
    let beyond = net.host.as_ref().filter(|h| h.default_route);
    out.push(match beyond {
        Some(host) => leave_by(last(Purpose::Route), host.port),
        None => ask(last(Purpose::NoRoute)),
    });
    // An address of the subnet that no port here has: the host looks for it.
    if let Some(host) = &net.host {
        let seek = flow(key, Stage::NextHop, 1, Purpose::Route).of(key);
        out.push(leave_by(seek.act([set(Field::EthDst, mac(net.gateway_mac))]), host.port));
    }
}

/// From the gateway's MAC address into a network, for a prefix. Where that network takes less than this one, the length
/// is looked at before.
fn lead(
    out: &mut Vec<Flow>,
    key: NetKey,
    net: &Net,
    (to, there): (NetKey, &Net),
    (address, prefix): (IpAddr, u8),
    on: impl Fn(Flow) -> Flow,
) {
    let way = |stage, purpose| {
        let way = flow(key, stage, 100 + u16::from(prefix), purpose).of(key);
        on_address(way.on(Field::EthDst, mac(net.gateway_mac)), false, address, prefix)
    };
    let enter = |way: Flow| {
        let way = way.act([set(Field::EthSrc, mac(there.gateway_mac)), Action::DecTtl(Vec::new())]);
        let mut way = on(way);
        way.instructions.metadata = Some((to.0.into(), u64::MAX));
        way
    };
    if there.mtu == 0 || net.mtu != 0 && net.mtu <= there.mtu {
        return out.push(enter(way(Stage::Route, Purpose::Route)));
    }
    let look =
        Action::CheckPktLarger { len: there.mtu.saturating_add(HEADER), dst: Register::TooBig.subfield() };
    out.push(way(Stage::Route, Purpose::Route).act([look]).goto(Stage::Fit));
    out.push(enter(way(Stage::Fit, Purpose::Route).on_register(Register::TooBig, 0)));
    let too_big = way(Stage::Fit, Purpose::TooBig).on_register(Register::TooBig, 1);
    // The agent has to say how much it takes.
    let mut tell = to_agent(too_big.cookie);
    if let Action::Controller(to) = &mut tell {
        to.userdata.extend(there.mtu.to_be_bytes());
    }
    out.push(too_big.act([tell]));
}

/// To the host, to all, or to where the destination was last heard from.
fn bridge(out: &mut Vec<Flow>, key: NetKey, net: &Net) {
    let at = |stage, priority, purpose| flow(key, stage, priority, purpose).of(key);
    if let Some(host) = &net.host {
        let known = at(Stage::Bridge, 100, Purpose::Forward).on(Field::EthDst, mac(net.gateway_mac));
        out.push(leave_by(known, host.port));
    }
    let all = at(Stage::Bridge, 90, Purpose::Flood).on_bits(Field::EthDst, GROUP_BIT, GROUP_BIT);
    out.push(all.act([Action::Group(key.group())]));
    let look = Action::Resubmit { port: None, table: Some(Stage::Learned.table()), ct: false };
    out.push(at(Stage::Bridge, 1, Purpose::Forward).act([look]).goto(Stage::Flood));
    let unknown = at(Stage::Flood, 100, Purpose::Flood).on_register(Register::OutPort, 0);
    out.push(unknown.act([Action::Group(key.group())]));
}

/// What leaves by tunnels and cables needs a mark of its network.
fn exits(out: &mut Vec<Flow>, key: NetKey, net: &Net) {
    let leave = |priority, purpose, port: OfPort| {
        flow(key, Stage::Output, priority, purpose).of(key).on_register(Register::OutPort, port.0)
    };
    let send = |port| Action::Output { port, max_len: 0 };
    if let Some(Overlay { port, vni, .. }) = net.overlay {
        out.push(leave(200, Purpose::TunnelLoop, port).on_register(Register::FromTunnel, 1));
        if net.isolated {
            out.push(leave(190, Purpose::Isolated, port).on_register(Register::FromIsolated, 1));
        }
        out.push(leave(50, Purpose::Forward, port).act([set(Field::TunId, vni), send(port)]));
    }
    if let Some(Uplink { port, vlan, trunk }) = &net.uplink {
        if *vlan != 0 {
            out.push(leave(50, Purpose::Forward, *port).act(vlan::tag(*vlan)).act([send(*port)]));
        }
        if !trunk.is_empty() {
            let stray = leave(vlan::MEMBER, Purpose::Forward, *port).on_register(Register::Tagged, 1);
            out.push(stray.act([send(*port)]));
        }
    }
}
