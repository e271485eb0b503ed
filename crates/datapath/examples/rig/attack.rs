//! What is left of the forwarding rate while somebody sends packets that each bring about another mask?
//!
//! The tables have one rule each on an address or port; a packet that differs from one of them first in bit *n* makes
//! the walk look at *n* bits, so that crafted packets combine to 262,144 masks (the tuple-space explosion of CoNEXT
//! 2019, CVE-2019-25076).

use std::time::Duration;

use weft_datapath::{Datapath, PcapSpec, PortKind, PortSpec};
use weft_flow::{Action, DpPort, Field, Match, OfPort};
use weft_pipeline::{BridgeConfig, FlowMod, Pipeline, PortConfig, PortKind as OfKind};
use weft_wire::Mac;
use weft_wire::build::Frame;

use crate::{B, IN, OUT, Rig, cpu_time, flows};

/// Where the attack comes in, and where it goes.
const EVIL: DpPort = DpPort(4);
const DUMP: DpPort = DpPort(5);
/// What the rules are about.
const SRC: u32 = 0xc0a8_0101;
const DST: u32 = 0xac10_0101;
const PORTS: (u16, u16) = (0x5555, 0xaaaa);

pub(crate) fn run(seconds: f64) {
    let victims = || flows(10_000);
    // Every so many packets are somebody else's.
    let mix = |other: Vec<Vec<u8>>, share: usize| -> Vec<Vec<u8>> {
        let good = victims();
        let frame =
            |i: usize| if i.is_multiple_of(share) { &other[i % other.len()] } else { &good[i % good.len()] };
        (0..200_000).map(|i| frame(i).clone()).collect()
    };
    println!("\n{:<36} {:>10} {:>7} {:>7} {:>9}", "attack", "victims*", "share", "masks", "dropped");
    measure("nobody else", victims(), None, seconds, None);
    let calm = measure("harmless, by another port", victims(), Some(harmless()), seconds, None);
    measure("attack, by another port", victims(), Some(crafted(50_000)), seconds, Some(calm));
    for share in [10, 2] {
        let name = |what: &str| format!("{what}, 1 of {share} packets of the port");
        let calm = measure(&name("harmless"), mix(harmless(), share), None, seconds, None);
        measure(&name("attack"), mix(crafted(50_000), share), None, seconds, Some(calm));
    }
    println!("* millions of their packets per second of the lane's processor time");
}

fn measure(
    name: &str,
    frames: Vec<Vec<u8>>,
    attack: Option<Vec<Vec<u8>>>,
    seconds: f64,
    calm: Option<f64>,
) -> f64 {
    let rig = Rig::new(pipeline(), frames);
    let dump = PortSpec { number: Some(DUMP), ..PortSpec::new("dump", PortKind::Null) };
    rig.datapath.add_port(&dump).expect("sink");
    rig.start();
    if let Some(frames) = attack {
        let frames = frames.into_iter().map(Vec::into_boxed_slice).collect();
        let source = PortKind::Pcap(PcapSpec { frames, loops: None });
        let source = PortSpec { number: Some(EVIL), ..PortSpec::new("evil", source) };
        rig.datapath.add_port(&source).expect("source");
    }
    std::thread::sleep(Duration::from_millis(500));
    let (before, cpu) = (rig.packets(), cpu_time());
    std::thread::sleep(Duration::from_secs_f64(seconds));
    let rate = (rig.packets() - before) as f64 / (cpu_time() - cpu) / 1e6;
    let refused =
        rig.datapath.coverage().iter().find(|(name, _)| *name == "upcall_refused").map_or(0, |c| c.1);
    let share = calm.map_or(100.0, |calm| rate / calm * 100.0);
    println!("{name:<36} {rate:>10.2} {share:>6.0}% {:>7} {refused:>9}", rig.datapath.stats().masks);
    rate
}

fn pipeline() -> Pipeline {
    let pipeline = Pipeline::new();
    let mut bridge = BridgeConfig::new(1, "br0");
    let port = |n: u32, dp| PortConfig::new(OfPort(n), Some(dp), "p", OfKind::Device);
    bridge.ports = vec![port(1, IN), port(2, OUT), port(4, EVIL), port(5, DUMP)].into();
    let mut snapshot = (*pipeline.snapshot()).clone();
    snapshot.set_bridge(bridge);
    let tables = snapshot.tables_mut(1).expect("tables");
    let to = |port: DpPort| vec![Action::Output { port: OfPort(port.0), max_len: 0 }];
    let udp = || Match::any().with(Field::EthType, 0x800).with(Field::NwProto, 17);
    let rules = [
        (100, udp().with(Field::IpSrc, SRC.into()), to(DUMP)),
        (90, udp().with(Field::IpDst, DST.into()), to(DUMP)),
        (80, udp().with(Field::UdpSrc, PORTS.0.into()), to(DUMP)),
        (70, udp().with(Field::UdpDst, PORTS.1.into()), to(DUMP)),
        (
            60,
            Match::any().with(Field::EthSrc, u128::from(u64::from_be_bytes([0, 0, 2, 0, 0, 0, 0, 1]))),
            to(OUT),
        ),
        (1, Match::any(), to(DUMP)),
    ];
    for (priority, matching, actions) in rules {
        tables.apply(&FlowMod::add(0, priority, matching, actions), 0).expect("rule");
    }
    pipeline.publish(snapshot);
    pipeline
}

/// Frames of somebody else, on known flows.
fn harmless() -> Vec<Vec<u8>> {
    let from = |mut frame: Vec<u8>| {
        frame[11] = 66;
        frame
    };
    flows(10_000).into_iter().map(from).collect()
}

/// Frames that differ from what the rules are about in other bits each.
fn crafted(n: usize) -> Vec<Vec<u8>> {
    let evil = Mac([2, 0, 0, 0, 0, 66]);
    let frame = |i: usize| {
        // Spread over all combinations.
        let i = i * 40_503 % 262_144;
        let src = SRC ^ 1 << (i % 32);
        let dst = DST ^ 1 << (i / 32 % 32);
        let ports = (PORTS.0 ^ 1 << (i / 1024 % 16), PORTS.1 ^ 1 << (i / 16_384 % 16));
        Frame::eth(evil, B)
            .ipv4(src.to_be_bytes(), dst.to_be_bytes())
            .udp(ports.0, ports.1)
            .payload([0; 18])
            .build()
    };
    (0..n).map(frame).collect()
}
