//! How many cycles does the datapath spend on a packet? A source in memory, a sink that counts, nothing between but
//! the datapath: the rig by which user-space datapaths are compared.
//!
//! `cargo run --release -p weft-datapath --example rig [SECONDS [CASE]]`
//!
//! Cycles are of the time stamp counter, over the processor time of the one lane (so that others who compete for the
//! processor count little).
#![allow(unsafe_code)]

mod attack;
mod barrier;
mod ct;
mod misses;

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_datapath::{Datapath, PcapSpec, PortKind, PortSpec, TunnelSpec, UserDatapath, UserOptions};
use weft_flow::OfPort;
use weft_flow::{DpAction, DpPort, EncapHeader, FlowKey, FlowMask, Match, TunnelKind};
use weft_pipeline::{
    BridgeConfig, Pipeline, PortConfig, PortKind as OfKind, TunnelAddr, TunnelConfig, TunnelId,
};
use weft_wire::build::Frame;
use weft_wire::{Mac, Vni};

const IN: DpPort = DpPort(1);
const OUT: DpPort = DpPort(2);
const TUNNEL: DpPort = DpPort(3);
const UNDERLAY: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 1);
const REMOTE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(192, 0, 2, 2);
const VNI: Vni = Vni::from_be_bytes([0, 3, 232]);
const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let only = args.next();
    let tsc = tsc_hz();
    println!("{:<28} {:>8} {:>8} {:>8}  {:>7} {:>9}", "case", "cyc/pkt", "goal", "Mpps", "hit %", "flows");
    for case in CASES.iter().filter(|c| only.as_deref().is_none_or(|o| c.name.contains(o))) {
        let rig = (case.make)();
        rig.start();
        std::thread::sleep(Duration::from_millis(300));
        let (before, start, cpu) = (rig.packets(), Instant::now(), cpu_time());
        std::thread::sleep(Duration::from_secs_f64(seconds));
        let packets = rig.packets() - before;
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_time() - cpu);
        let stats = rig.datapath.stats();
        let hits = 100.0 * stats.hits as f64 / (stats.hits + stats.misses).max(1) as f64;
        let cycles = cpu * tsc / packets.max(1) as f64;
        println!(
            "{:<28} {:>8.0} {:>8} {:>8.2}  {:>7.2} {:>9}",
            case.name,
            cycles,
            case.goal,
            packets as f64 / wall / 1e6,
            hits,
            stats.flows
        );
        if std::env::var_os("RIG_DUMP").is_some() {
            for flow in rig.datapath.flows().iter().take(4) {
                println!("  {:?} {:?} packets {}", flow.actions, flow.drop, flow.packets);
            }
        }
    }
    let wants = |what: &str| only.as_deref().is_none_or(|only| what.contains(only));
    if wants("barrier") {
        barrier::run();
    }
    if wants("ct, new connections") {
        ct::run();
    }
    if wants("misses, two tables") {
        misses::run();
    }
    if wants("attack") {
        attack::run(seconds);
    }
}

struct Case {
    name: &'static str,
    goal: u32,
    make: fn() -> Rig,
}

const CASES: &[Case] = &[
    Case { name: "1 flow", goal: 117, make: || forward(1, port_match) },
    Case { name: "10k flows, 1 megaflow", goal: 235, make: || forward(10_000, port_match) },
    Case { name: "10k megaflows", goal: 450, make: || forward(10_000, five_tuple_match) },
    Case { name: "NORMAL, learned", goal: 116, make: normal },
    Case { name: "every packet a new flow", goal: 1300, make: set_up },
    Case { name: "VXLAN encap, 1 flow", goal: 138, make: || encap(1) },
    Case { name: "VXLAN encap, 10k flows", goal: 259, make: || encap(10_000) },
    Case { name: "VXLAN decap, 1 flow", goal: 243, make: || decap(1) },
    Case { name: "recirculation, 1 flow", goal: 0, make: || ct::passes(1, false) },
    Case { name: "ct, 1 connection", goal: 447, make: || ct::passes(1, true) },
    Case { name: "ct, 10k connections", goal: 890, make: || ct::passes(10_000, true) },
    Case { name: "VXLAN decap, 10k flows", goal: 546, make: || decap(10_000) },
];

/// A datapath under load.
struct Rig {
    datapath: UserDatapath,
    frames: Vec<Vec<u8>>,
}

impl Rig {
    fn new(pipeline: Pipeline, frames: Vec<Vec<u8>>) -> Rig {
        Rig::with_limit(pipeline, frames, UserOptions::default().flow_limit)
    }

    fn with_limit(pipeline: Pipeline, frames: Vec<Vec<u8>>, flow_limit: usize) -> Rig {
        let options = UserOptions { lanes: Some(1), flow_limit, ..UserOptions::default() };
        let datapath = UserDatapath::new(Arc::new(pipeline), Arc::new(|_| true), &options).expect("datapath");
        let out = PortSpec { number: Some(OUT), ..PortSpec::new("out", PortKind::Null) };
        datapath.add_port(&out).expect("sink");
        Rig { datapath, frames }
    }

    fn start(&self) {
        let frames = self.frames.iter().map(|frame| frame.clone().into_boxed_slice()).collect();
        let source = PortKind::Pcap(PcapSpec { frames, loops: None });
        let source = PortSpec { number: Some(IN), ..PortSpec::new("in", source) };
        self.datapath.add_port(&source).expect("source");
    }

    fn packets(&self) -> u64 {
        self.datapath.port_stats(OUT).expect("sink").tx_packets
    }
}

/// 64-byte UDP frames (60 without the checksum trailer), each of another flow.
fn flows(n: u32) -> Vec<Vec<u8>> {
    let flow = |i: u32| {
        let src = [10, 0, (i >> 8) as u8, i as u8];
        let ports = (1024 + (i % 40_000) as u16, 53);
        Frame::eth(A, B).ipv4(src, [10, 1, 0, 1]).udp(ports.0, ports.1).payload([0; 18]).build()
    };
    (0..n).map(flow).collect()
}

/// Matches what looks at layer 3 without looking at hosts.
fn port_match(_: &FlowKey) -> FlowMask {
    let mut mask = FlowMask::empty();
    mask.0.packet.in_port = u32::MAX;
    mask.0.packet.eth_type = u16::MAX;
    mask.0.packet.ip_frag = u8::MAX;
    mask.0.packet.ipv4_dst = 0xffff_0000;
    mask
}

/// Matches one connection.
fn five_tuple_match(key: &FlowKey) -> FlowMask {
    let mut mask = port_match(key);
    let p = &mut mask.0.packet;
    (p.ipv4_src, p.ipv4_dst, p.ip_proto, p.tp_src, p.tp_dst) =
        (u32::MAX, u32::MAX, u8::MAX, u16::MAX, u16::MAX);
    mask
}

fn key_of(frame: &[u8]) -> FlowKey {
    let mut key = FlowKey::default();
    weft_flow::extract_packet(frame, IN.0, &mut key.packet).expect("frame");
    key
}

/// From source to sink by cached flows put by hand.
fn forward(n: u32, mask: fn(&FlowKey) -> FlowMask) -> Rig {
    let frames = flows(n);
    let rig = Rig::new(Pipeline::new(), frames.clone());
    for frame in &frames {
        let key = key_of(frame);
        let mask = mask(&key);
        rig.datapath.put_flow(&Match::new(&key, mask), &[DpAction::Output(OUT)]).expect("flow");
    }
    rig
}

/// A bridge of two ports that learned where everyone is.
fn normal() -> Rig {
    let pipeline = Pipeline::new();
    let mut bridge = BridgeConfig::new(1, "br0");
    let port = |n: u32, dp| PortConfig::new(OfPort(n), Some(dp), "p", OfKind::Device);
    bridge.ports = vec![port(1, IN), port(2, OUT)].into();
    let mut snapshot = (*pipeline.snapshot()).clone();
    snapshot.set_bridge(bridge);
    pipeline.publish(snapshot);
    pipeline.fdb_add_static(1, 0, B, OfPort(2));
    Rig::new(pipeline, flows(1))
}

/// More flows in turn than the cache holds: every packet misses, walks the tables, is installed, and throws one out.
fn set_up() -> Rig {
    let pipeline = Pipeline::new();
    let mut bridge = BridgeConfig::new(1, "br0");
    let port = |n: u32, dp| PortConfig::new(OfPort(n), Some(dp), "p", OfKind::Device);
    bridge.ports = vec![port(1, IN), port(2, OUT)].into();
    let mut snapshot = (*pipeline.snapshot()).clone();
    snapshot.set_bridge(bridge);
    pipeline.publish(snapshot);
    let flow = |i: u32| {
        let dst = Mac([2, 1, 0, (i >> 16) as u8, (i >> 8) as u8, i as u8]);
        Frame::eth(A, dst).ipv4([10, 0, 0, 1], [10, 0, 0, 2]).udp(1, 2).payload([0; 18]).build()
    };
    Rig::with_limit(pipeline, (0..20_000).map(flow).collect(), 2_000)
}

fn outer_header() -> Vec<u8> {
    Frame::eth(B, A).ipv4(UNDERLAY.octets(), REMOTE.octets()).udp(0, 4789).vxlan(VNI).build()
}

fn encap(n: u32) -> Rig {
    let frames = flows(n);
    let rig = Rig::new(Pipeline::new(), frames.clone());
    let mut bytes = outer_header();
    bytes[34 + 6..34 + 8].fill(0);
    let header = EncapHeader { bytes, kind: TunnelKind::Vxlan, ip_offset: 14 };
    let push = DpAction::TunnelPush { header: header.into(), actions: [DpAction::Output(OUT)].into() };
    let key = key_of(&frames[0]);
    rig.datapath.put_flow(&Match::new(&key, port_match(&key)), &[push]).expect("flow");
    rig
}

fn decap(n: u32) -> Rig {
    let pipeline = Pipeline::new();
    let mut bridge = BridgeConfig::new(1, "br0");
    let remote = TunnelAddr::Addr(REMOTE.into());
    let mut tunnel = TunnelConfig::new(TunnelKind::Vxlan, remote);
    tunnel.in_key = TunnelId::Key(1000);
    bridge.ports = vec![
        PortConfig::new(OfPort(3), Some(TUNNEL), "vxlan0", OfKind::Tunnel(tunnel.into())),
        PortConfig::new(OfPort(2), Some(OUT), "out", OfKind::Device),
    ]
    .into();
    let mut snapshot = (*pipeline.snapshot()).clone();
    snapshot.set_bridge(bridge);
    pipeline.publish(snapshot);
    let outer = |i: u32, inner: &[u8]| {
        let frame = Frame::eth(A, B).ipv4(REMOTE.octets(), UNDERLAY.octets());
        let mut frame = frame.udp(50_000 + (i % 10_000) as u16, 4789).vxlan(VNI).payload(inner).build();
        frame[34 + 6..34 + 8].fill(0);
        frame
    };
    let frames: Vec<_> = flows(n).iter().enumerate().map(|(i, f)| outer(i as u32, f)).collect();
    let rig = Rig::new(pipeline, frames.clone());
    let spec = TunnelSpec::new(TunnelKind::Vxlan);
    let port = PortSpec { number: Some(TUNNEL), ..PortSpec::new("vxlan0", PortKind::Tunnel(spec)) };
    rig.datapath.add_port(&port).expect("tunnel port");
    let key = key_of(&frames[0]);
    let pop = [DpAction::TunnelPop(TUNNEL)];
    rig.datapath.put_flow(&Match::new(&key, port_match(&key)), &pop).expect("flow");
    rig
}

/// Seconds of processor time of this process: of its one lane, since all else sleeps.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("schedstat");
    let tasks = std::fs::read_dir("/proc/self/task").expect("tasks");
    let ns = |text: &str| text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
    let all = tasks.flatten().filter_map(|t| std::fs::read_to_string(t.path().join("schedstat")).ok());
    let total: u64 = all.map(|text| ns(&text)).sum();
    total.max(ns(&stat)) as f64 / 1e9
}

/// Frequency of the time stamp counter.
fn tsc_hz() -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 has the instruction.
        let now = || unsafe { core::arch::x86_64::_rdtsc() };
        let (start, at) = (now(), Instant::now());
        std::thread::sleep(Duration::from_millis(50));
        (now() - start) as f64 / at.elapsed().as_secs_f64()
    }
    #[cfg(not(target_arch = "x86_64"))]
    1e9
}
