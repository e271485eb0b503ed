//! What does a packet of a new flow cost, when the rules look at its addresses and ports?
//!
//! The rules are those of the bench's row: addresses and ports are moved into registers, and a table of a thousand
//! rules on those is looked up.

use std::time::{Duration, Instant};

use weft_datapath::{Datapath, PcapSpec, PortKind, PortSpec};
use weft_flow::text::{Syntax, parse_addition};
use weft_flow::{Instructions, OfPort};
use weft_pipeline::{BridgeConfig, FlowMod, Pipeline, PortConfig, PortKind as OfKind};
use weft_wire::build::Frame;

use crate::{A, B, IN, OUT, Rig, cpu_time, tsc_hz};

/// Flows of the measurement, unless `RIG_FLOWS` says otherwise.
const FLOWS: u32 = 300_000;

pub(crate) fn run() {
    let rig = Rig::new(pipeline(), Vec::new());
    let flows = std::env::var("RIG_FLOWS").ok().and_then(|n| n.parse().ok()).unwrap_or(FLOWS);
    let frames: Vec<_> = (0..flows).map(|i| frame(i).into_boxed_slice()).collect();
    let source = PortKind::Pcap(PcapSpec { frames: frames.into(), loops: Some(1) });
    let source = PortSpec { number: Some(IN), ..PortSpec::new("in", source) };
    let (cpu, start) = (cpu_time(), Instant::now());
    rig.datapath.add_port(&source).expect("source");
    while rig.packets() < u64::from(flows) && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (cpu, packets) = (cpu_time() - cpu, rig.packets() as f64);
    println!(
        "\n{:<28} {:>8.0} thousand per second of processor time, {:.0} cycles each, {} flows",
        "misses, two tables",
        packets / cpu / 1e3,
        cpu * tsc_hz() / packets,
        rig.datapath.stats().flows
    );
}

fn frame(i: u32) -> Vec<u8> {
    let src = (0x0a01_0001 + (i >> 14)).to_be_bytes();
    let ports = (1024 + (i & 0x3fff) as u16, 2000);
    Frame::eth(A, B).ipv4(src, [10, 2, 0, 1]).udp(ports.0, ports.1).payload([0; 18]).build()
}

fn pipeline() -> Pipeline {
    let pipeline = Pipeline::new();
    let mut bridge = BridgeConfig::new(1, "br0");
    let port = |n: u32, dp| PortConfig::new(OfPort(n), Some(dp), "p", OfKind::Device);
    bridge.ports = vec![port(1, IN), port(2, OUT)].into();
    let mut snapshot = (*pipeline.snapshot()).clone();
    snapshot.set_bridge(bridge);
    let tables = snapshot.tables_mut(1).expect("tables");
    let mut rules: Vec<String> =
        (0..1000).map(|i| format!("table=1,priority=10,reg0={i},reg1=0x0a010000,actions=drop")).collect();
    rules.push("table=1,priority=1,actions=output:2".to_owned());
    rules.push(
        "udp,actions=move:NXM_OF_UDP_SRC[]->NXM_NX_REG0[0..15],move:NXM_OF_IP_SRC[]->NXM_NX_REG1[],\
         resubmit(,1)"
            .to_owned(),
    );
    for rule in rules {
        let flow = parse_addition(&rule, &Syntax::default()).expect("rule");
        let instructions: Instructions = flow.instructions.expect("actions");
        let mut add = FlowMod::add(flow.table.unwrap_or(0), flow.priority, flow.matching, Vec::new());
        add.instructions = instructions;
        tables.apply(&add, 0).expect("rule");
    }
    pipeline.publish(snapshot);
    pipeline
}
