//! Nothing that arrives can stop a datapath: mutated frames into every kind of port.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use weft_datapath::{Datapath, Execute, PcapSpec, PortKind, PortSpec, TunnelSpec};
use weft_flow::{DpAction, DpPort, DropReason, EncapHeader, SetField, TunnelKind};
use weft_host::inet::TxInfo;
use weft_host::netlink::Netlink;
use weft_host::packet::{PacketOptions, PacketSocket, PacketTx};
use weft_host::raw::{GRE, RawOptions, RawSocket};
use weft_host::udp::DatagramTx;
use weft_pipeline::{PortKind as OfKind, TunnelAddr, TunnelConfig, TunnelId};
use weft_wire::build::Frame;
use weft_wire::{Mac, Vni};

use crate::rig::{Switch, host, namespace, ping, veth};

/// Small, fast and the same each time: xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Breaks something: flips bits, cuts, repeats, lies about lengths.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match self.below(6) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                2 => bytes.truncate(at),
                3 => bytes.extend(std::iter::repeat_n(self.next() as u8, at.min(300))),
                4 if at + 2 <= bytes.len() => {
                    bytes[at..at + 2].copy_from_slice(&(self.next() as u16).to_be_bytes())
                }
                _ if !bytes.is_empty() => bytes[at] = if self.next() & 1 == 0 { 0 } else { 0xff },
                _ => {}
            }
        }
    }
}

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// One good frame of each sort.
fn good() -> Vec<Vec<u8>> {
    let eth = || Frame::eth(A, B);
    let v4 = || eth().ipv4([10, 0, 0, 1], [10, 0, 0, 2]);
    let v6 = || eth().ipv6([1; 16], [2; 16]);
    let inner = v4().udp(1, 2).payload([7; 40]).build();
    vec![
        v4().udp(1000, 53).payload([1; 100]).build(),
        v4().tcp(1000, 80).payload([2; 1400]).build(),
        v6().tcp(1000, 80).payload([3; 200]).build(),
        v6().udp(5, 6).payload([4; 9]).build(),
        eth().vlan(7).ipv4([10, 0, 0, 1], [10, 0, 0, 2]).udp(1, 2).build(),
        v4().udp(50_000, 4789).vxlan(Vni::from_be_bytes([0, 3, 232])).payload(&inner).build(),
        v4().udp(50_000, 6081).geneve(Vni::from_be_bytes([0, 3, 232]), &[0; 8]).payload(&inner).build(),
        eth().payload([0; 46]).build(),
    ]
}

/// How many frames per kind of port.
fn count() -> usize {
    std::env::var("WEFT_HOSTILE").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

fn total(switch: &Switch) -> u64 {
    switch.datapath.drops().iter().sum()
}

#[test]
fn frames_by_device() {
    let ns = namespace("switch");
    let (a, _b) = (host("a", &ns, "p1", "10.0.0.1", 24), host("b", &ns, "p2", "10.0.0.2", 24));
    let attacker = namespace("attacker");
    veth(&attacker, "eth0", &ns, "p3");
    let switch = Switch::new(ns);
    for name in ["p1", "p2", "p3"] {
        switch.device(name);
    }
    let socket = attacker.run(|| {
        let index = Netlink::open().unwrap().index_of("eth0").unwrap();
        PacketSocket::open(index, &PacketOptions { receive: false, ..PacketOptions::default() }).unwrap()
    });
    let socket = socket.unwrap();
    let mut tx = PacketTx::new(32);
    let (mut random, good) = (Random(88_172_645_463_325_252), good());
    let mut sent = 0;
    while sent < count() {
        let batch: Vec<Vec<u8>> = (0..32)
            .map(|_| {
                // The offload header is mutated too: what the kernel lets through is for us to refuse.
                let mut bytes = good[random.below(good.len())].clone();
                random.mutate(&mut bytes);
                let mut header = vec![0; socket.vnet_hdr_len()];
                if random.below(4) == 0 {
                    random.mutate(&mut header);
                    header.resize(socket.vnet_hdr_len(), 0);
                }
                header.extend(bytes);
                header
            })
            .collect();
        for frame in &batch {
            let _ = socket.send(&mut tx, std::slice::from_ref(frame));
        }
        sent += batch.len();
    }
    assert!(ping(&a, "10.0.0.2"), "{}", switch.why());
}

#[test]
fn frames_from_memory_through_every_action() {
    let switch = Switch::with_lanes(namespace("switch"), 1);
    let null = switch.port("null", PortKind::Null, OfKind::Device);
    let (mut random, good) = (Random(7), good());
    let header = Frame::eth(A, B).ipv4([1, 1, 1, 1], [2, 2, 2, 2]).udp(0, 4789).vxlan(Vni::MAX).build();
    let header = EncapHeader { bytes: header, kind: TunnelKind::Vxlan, ip_offset: 14 };
    let mut config = TunnelConfig::new(TunnelKind::Vxlan, TunnelAddr::Any);
    config.in_key = TunnelId::Flow;
    let spec = TunnelSpec::new(TunnelKind::Vxlan);
    let tunnel = switch.port("vx", PortKind::Tunnel(spec), OfKind::Tunnel(config.into()));
    let out = || DpAction::Output(null);
    let set = |field| DpAction::Set(field);
    let actions = vec![
        out(),
        DpAction::PushVlan { tpid: 0x8100, tci: 5 },
        out(),
        DpAction::PopVlan,
        DpAction::Clone([set(SetField::Ipv4Src(1)), set(SetField::TpSrc(7)), out()].into()),
        DpAction::Clone([set(SetField::Ipv6Dst([9; 16])), set(SetField::IpTtl(1)), out()].into()),
        DpAction::Trunc(20),
        out(),
        DpAction::TunnelPush { header: header.into(), actions: [out(), DpAction::TunnelPop(tunnel)].into() },
        DpAction::TunnelPop(tunnel),
    ];
    let singles = [
        set(SetField::IpTos(3)),
        set(SetField::TpDst(3)),
        set(SetField::NdTarget([3; 16])),
        set(SetField::NdSll(A)),
        set(SetField::ArpOp(2)),
        set(SetField::Mpls(3)),
        set(SetField::VlanTci(3)),
        set(SetField::Ipv6Label(3)),
        DpAction::PopVlan,
    ];
    for round in 0..count() / 4 {
        let mut frame = good[random.below(good.len())].clone();
        random.mutate(&mut frame);
        let actions = match round % 3 {
            0 => actions.clone(),
            _ => vec![singles[random.below(singles.len())].clone(), out()],
        };
        switch.datapath.execute(Execute { frame, bare: 0, in_port: DpPort(9), actions }).unwrap();
    }
    switch.datapath.sync();
    assert!(switch.drops(DropReason::BadAction) > 0 && switch.drops(DropReason::MalformedFrame) > 0);
    assert!(switch.drops(DropReason::TunnelMalformed) > 0, "{}", switch.why());
    // The same frames as received, from a source that replays them.
    let frames: Vec<Box<[u8]>> = (0..count())
        .map(|_| {
            let mut frame = good[random.below(good.len())].clone();
            random.mutate(&mut frame);
            frame.into()
        })
        .collect();
    let expected = frames.len() as u64;
    let pcap = PcapSpec { frames: frames.into(), loops: Some(1) };
    let source = switch.datapath.add_port(&PortSpec::new("pcap", PortKind::Pcap(pcap))).unwrap().number;
    switch.change(|bridge| {
        let port =
            weft_pipeline::PortConfig::new(weft_flow::OfPort(source.0), Some(source), "pcap", OfKind::Device);
        bridge.ports.insert(port);
    });
    let received = || switch.datapath.port_stats(source).unwrap().rx_packets;
    assert!(crate::rig::soon(|| received() == expected), "{} of {expected}", received());
}

#[test]
fn datagrams_into_vteps() {
    let sender = namespace("sender");
    let ns = namespace("switch");
    veth(&sender, "eth0", &ns, "eth0");
    sender.run(|| crate::rig::address("eth0", "192.168.1.1", 24)).unwrap();
    ns.run(|| crate::rig::address("eth0", "192.168.1.2", 24)).unwrap();
    let switch = Switch::new(ns);
    switch.port("null", PortKind::Null, OfKind::Device);
    for kind in [TunnelKind::Vxlan, TunnelKind::Geneve, TunnelKind::Gre] {
        let mut config = TunnelConfig::new(kind, TunnelAddr::Any);
        config.in_key = TunnelId::Flow;
        let name = format!("{kind:?}").to_lowercase();
        switch.port(&name, PortKind::Tunnel(TunnelSpec::new(kind)), OfKind::Tunnel(config.into()));
    }
    let inner = Frame::eth(A, B).ipv4([10, 0, 0, 1], [10, 0, 0, 2]).tcp(1, 2).payload([7; 400]).build();
    let tunnels: [(u16, Vec<u8>); 3] = [
        (4789, [&[8, 0, 0, 0, 0, 3, 232, 0][..], &inner].concat()),
        (6081, [&[2, 0, 0x65, 0x58, 0, 3, 232, 0, 0, 1, 1, 1, 0, 0, 0, 0][..], &inner].concat()),
        (0, [&[0x20, 0, 0x65, 0x58, 0, 0, 3, 232][..], &inner].concat()),
    ];
    let (udp, raw) = sender
        .run(|| {
            let udp = UdpSocket::bind("192.168.1.1:0").unwrap();
            let raw = RawSocket::open(GRE, "192.168.1.1".parse().unwrap(), &RawOptions::default()).unwrap();
            (udp, raw)
        })
        .unwrap();
    let mut tx = DatagramTx::new(1);
    let mut random = Random(99);
    let start = Instant::now();
    for _ in 0..count() {
        let (port, bytes) = &tunnels[random.below(3)];
        let mut bytes = bytes.clone();
        random.mutate(&mut bytes);
        let to = std::net::SocketAddr::new("192.168.1.2".parse().unwrap(), *port);
        if *port == 0 {
            let _ = raw.send(&mut tx, &[&bytes[..]], &[TxInfo::to(to)]);
        } else {
            let _ = udp.send_to(&bytes, to);
        }
    }
    assert!(udp.as_fd().try_clone_to_owned().is_ok());
    std::thread::sleep(Duration::from_millis(200));
    for reason in [DropReason::TunnelMalformed, DropReason::TunnelFlags, DropReason::TunnelUnknownCritical] {
        assert!(switch.drops(reason) > 0, "{reason}: {}", switch.why());
    }
    let received: u64 = switch
        .datapath
        .ports()
        .iter()
        .map(|p| switch.datapath.port_stats(p.number).unwrap().rx_packets)
        .sum();
    println!("{} datagrams in {:?}: {received} taken, {} dropped", count(), start.elapsed(), total(&switch));
    assert!(received > 0);
}
