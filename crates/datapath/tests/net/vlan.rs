//! Floods, tags and moves: every frame exactly once, as it should be.

use weft_datapath::Datapath;
use weft_flow::OfPort;
use weft_host::netlink::Netlink;
use weft_host::netns::NetNs;
use weft_host::packet::{PacketOptions, PacketRx, PacketSocket, PacketTx, VlanTag};
use weft_pipeline::{VlanConfig, VlanMode};
use weft_wire::Mac;
use weft_wire::build::Frame;

use crate::rig::{FLOWING, Switch, host, namespace, ping, soon, stream, veth};

/// A station that speaks raw Ethernet.
struct Station {
    socket: PacketSocket,
    _ns: NetNs,
}

impl Station {
    fn new(switch_ns: &NetNs, peer: &str) -> Self {
        let ns = namespace("station");
        veth(&ns, "eth0", switch_ns, peer);
        let socket = ns.run(|| {
            let index = Netlink::open().unwrap().index_of("eth0").unwrap();
            PacketSocket::open(index, &PacketOptions { vnet_hdr: false, ..PacketOptions::default() }).unwrap()
        });
        Station { socket: socket.unwrap(), _ns: ns }
    }

    fn send(&self, frame: &[u8]) {
        assert_eq!(self.socket.send(&mut PacketTx::new(1), &[frame]).unwrap(), 1);
    }

    /// Tests' frames that came: their tag and their last byte.
    fn received(&self) -> Vec<(Option<VlanTag>, u8)> {
        let mut rx = PacketRx::new(1);
        let mut buf = vec![0; 2048];
        let mut frames = Vec::new();
        while let Ok(1) = self.socket.recv(&mut rx, &mut [&mut buf[..]]) {
            let info = rx.info(0);
            // Not what the kernels of the namespaces say by themselves.
            if info.len >= 60 && buf[12..14] == [0x88, 0xb5] {
                frames.push((info.vlan, buf[info.len - 1]));
            }
        }
        frames
    }
}

/// A frame of the local experimental EtherType (IEEE 802), told from others by its last byte.
fn frame(src: u8, dst: Mac, vid: Option<u16>, mark: u8) -> Vec<u8> {
    let mut frame = Frame::eth(Mac([2, 0, 0, 0, 0, src]), dst);
    if let Some(vid) = vid {
        frame = frame.vlan(vid);
    }
    let mut payload = [0; 60];
    payload[59] = mark;
    frame.ether_type(weft_wire::EtherType(0x88b5)).payload(payload).build()
}

#[test]
fn floods_tags_and_moves() {
    let ns = namespace("switch");
    // Ports 1 and 2: access in VLAN 10; port 3: a trunk; port 4: access in VLAN 20.
    let stations: Vec<_> = (1..=4).map(|n| Station::new(&ns, &format!("p{n}"))).collect();
    let switch = Switch::new(ns);
    for n in 1..=4 {
        assert_eq!(switch.device(&format!("p{n}")).0, n);
    }
    switch.change(|bridge| {
        for mut port in bridge.ports.clone().iter().cloned() {
            port.vlan = match port.ofport {
                OfPort(1 | 2) => VlanConfig::access(10),
                OfPort(3) => VlanConfig::new(VlanMode::Trunk, 0, &[10, 20]),
                _ => VlanConfig::access(20),
            };
            bridge.ports.insert(port);
        }
    });
    let got = |n: usize| {
        let mut frames = Vec::new();
        soon(|| {
            frames.extend(stations[n - 1].received());
            !frames.is_empty()
        });
        // A second copy would be here by now.
        std::thread::sleep(std::time::Duration::from_millis(30));
        frames.extend(stations[n - 1].received());
        frames
    };
    let tag = |vid| Some(VlanTag { tpid: 0x8100, tci: vid });
    // A broadcast in VLAN 10 reaches the other access port untagged, the trunk tagged, and nobody else.
    stations[0].send(&frame(1, Mac::BROADCAST, None, 1));
    assert_eq!((got(2), got(3)), (vec![(None, 1)], vec![(tag(10), 1)]));
    assert!(stations[0].received().is_empty() && stations[3].received().is_empty());
    // Tagged from the trunk into VLAN 20.
    stations[2].send(&frame(3, Mac::BROADCAST, Some(20), 2));
    assert_eq!(got(4), [(None, 2)]);
    assert!(stations[0].received().is_empty() && stations[1].received().is_empty());
    // Station 1 was learned: an answer goes to it alone.
    stations[2].send(&frame(3, Mac([2, 0, 0, 0, 0, 1]), Some(10), 3));
    assert_eq!(got(1), [(None, 3)]);
    assert!(stations[1].received().is_empty());
    // It moves to port 2; frames follow at once, though flows to port 1 are cached.
    for mark in 4..8 {
        stations[2].send(&frame(3, Mac([2, 0, 0, 0, 0, 1]), Some(10), mark));
    }
    assert!(soon(|| stations[0].received().iter().any(|(_, mark)| *mark == 7)));
    stations[1].send(&frame(1, Mac::BROADCAST, None, 8));
    assert_eq!(got(1), [(None, 8)]);
    stations[2].send(&frame(3, Mac([2, 0, 0, 0, 0, 1]), Some(10), 9));
    assert_eq!(got(2), [(None, 9)]);
    assert!(stations[0].received().is_empty(), "{:?}", switch.datapath.flows());
}

#[test]
fn streams_through_a_trunk() {
    let ns = [namespace("switch-a"), namespace("switch-b")];
    veth(&ns[0], "trunk", &ns[1], "trunk");
    let hosts = [host("a", &ns[0], "p1", "10.0.0.1", 24), host("b", &ns[1], "p1", "10.0.0.2", 24)];
    let switches = ns.map(|ns| {
        let switch = Switch::new(ns);
        let (access, trunk) = (switch.device("p1"), switch.device("trunk"));
        switch.change(|bridge| {
            for mut port in bridge.ports.clone().iter().cloned() {
                port.vlan = match port.dp_port {
                    Some(port) if port == access => VlanConfig::access(10),
                    _ => VlanConfig::new(VlanMode::Trunk, 0, &[10]),
                };
                bridge.ports.insert(port);
            }
        });
        assert_ne!(access, trunk);
        switch
    });
    let why = || format!("{} / {}", switches[0].why(), switches[1].why());
    assert!(ping(&hosts[0], "10.0.0.2"), "{}", why());
    let (rate, cpu) = stream(&hosts[0], &hosts[1], "10.0.0.2");
    println!("through a trunk: TCP {:.2} Gbit/s, {cpu:.2} s/GB; drops {}", rate / 1e9, why());
    assert!(rate > FLOWING, "{}", why());
}
