//! What does connection tracking cost, for known connections and for new ones?

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_datapath::{Datapath, PcapSpec, PortKind, PortSpec};
use weft_flow::{CtSpec, DpAction, EXTRA_CT, FlowMask, Match, Opaque, Recirc};
use weft_pipeline::Pipeline;
use weft_wire::build::Frame;

use crate::{A, B, IN, OUT, Rig, cpu_time, flows, key_of, port_match};

/// Connections of the measurement of new ones.
const NEW: u32 = 400_000;

/// Packets that are looked up again, tracked before or not.
pub(crate) fn passes(n: u32, tracked: bool) -> Rig {
    let rig = Rig::new(Pipeline::new(), flows(n));
    let key = key_of(&rig.frames[0]);
    let recirc = DpAction::Recirc(Recirc { id: 1, frozen: Opaque(Arc::new(1)) });
    let spec = CtSpec { zone: 1, commit: true, ..CtSpec::default() };
    let first = if tracked { vec![DpAction::Ct(spec.into()), recirc] } else { vec![recirc] };
    rig.datapath.put_flow(&Match::new(&key, exact(port_match(&key))), &first).expect("flow");
    let (mut key, mut mask) = (key, exact(port_match(&key)));
    key.packet.recirc_id = 1;
    if tracked {
        key.packet.extras = EXTRA_CT;
        // Tracked and not invalid: new and established alike.
        (key.ct.state, mask.0.ct.state) = (0x20, 0x30);
    }
    rig.datapath.put_flow(&Match::new(&key, mask), &[DpAction::Output(OUT)]).expect("flow");
    rig
}

fn exact(mut mask: FlowMask) -> FlowMask {
    (mask.0.packet.recirc_id, mask.0.packet.extras) = (u32::MAX, u16::MAX);
    mask
}

pub(crate) fn run() {
    let rig = passes(1, true);
    let frames: Vec<_> = distinct(NEW).into_iter().map(Vec::into_boxed_slice).collect();
    let source = PortKind::Pcap(PcapSpec { frames: frames.into(), loops: Some(1) });
    let source = PortSpec { number: Some(IN), ..PortSpec::new("in", source) };
    let (memory, cpu, start) = (rig.datapath.conntrack().memory(), cpu_time(), Instant::now());
    rig.datapath.add_port(&source).expect("source");
    while rig.packets() < u64::from(NEW) && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (cpu, made) = (cpu_time() - cpu, rig.datapath.conntrack().created());
    let bytes = (rig.datapath.conntrack().memory() - memory) / made.max(1) as usize;
    println!(
        "\n{:<28} {:>8.0} thousand per second of processor time, {bytes} bytes each",
        "ct, new connections",
        made as f64 / cpu / 1e3
    );
}

/// Frames of that many connections.
fn distinct(n: u32) -> Vec<Vec<u8>> {
    let frame = |i: u32| {
        let src = (0x0a00_0000 + i / 16).to_be_bytes();
        Frame::eth(A, B).ipv4(src, [10, 1, 0, 1]).udp(1024 + (i % 16) as u16, 53).payload([0; 18]).build()
    };
    (0..n).map(frame).collect()
}
