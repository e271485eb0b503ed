//! What does connection tracking cost? New connections a second, bytes of each, packets of known ones.

use crate::cycles::{self, Case, Way, tcp_syn, udp};
use crate::replay::play;
use crate::report::Table;
use crate::sheet::{Better, Scale, Sheet, Step, Who};

const NOTE: &str = "A pcap file of first packets is played once, each a new connection that ct(commit) enters \
(two passes: ct(table=1), then ct(commit) and output). OVS-DPDK's polling thread and Weft's lane, null sink.";

/// Every row, round by round.
pub(crate) fn table(rounds: usize, scale: &Scale) -> Table {
    let mut sheet = Sheet::new("Connection tracking", NOTE);
    let steps: [(&str, Step); 2] =
        [("UDP", |w, s, c| new(w, s, c, "UDP")), ("TCP", |w, s, c| new(w, s, c, "TCP"))];
    sheet.rounds(rounds, &steps, scale);
    sheet.table()
}

fn firewall(input: &str, output: &str) -> Vec<String> {
    vec![
        format!("table=0,priority=10,ip,in_port={input},ct_state=-trk,actions=ct(table=1)"),
        format!("table=1,priority=10,ip,ct_state=+trk+new,actions=ct(commit),output:{output}"),
        format!("table=1,priority=10,ip,ct_state=+trk+est,actions=output:{output}"),
        "table=1,priority=1,actions=drop".to_owned(),
    ]
}

fn new(who: Who, sheet: &mut Sheet, scale: &Scale, protocol: &str) -> Result<(), String> {
    let frame = if protocol == "UDP" { udp } else { tcp_syn };
    let frames: Vec<_> =
        (0..scale.packets).map(|i| frame(1 + (i >> 15), 1, 1024 + (i & 0x7fff) as u16, 80)).collect();
    let played = play(who, "c", &frames, &firewall("1", "2"))?;
    let mut put = |what: &str, unit, value| {
        sheet.put(who, &format!("new {protocol} connections{what}"), unit, Better::More, value);
    };
    put("", "connections/s", played.rate);
    put(", by CPU time", "connections/CPU s", played.per_cpu);
    put(", share forwarded", "of 1", played.share);
    if !played.lost.is_empty() {
        sheet.note(format!("Weft dropped of the {protocol} connections: {}", played.lost));
    }
    let name = format!("resident memory, {} {protocol} connections", scale.packets);
    sheet.put(who, &name, "bytes/connection", Better::Less, played.bytes);
    Ok(())
}

/// The frame that answers: addresses and ports exchanged, which leaves the checksums as they are.
fn reply(frame: &[u8]) -> Vec<u8> {
    let mut f = frame.to_vec();
    f[26..30].copy_from_slice(&frame[30..34]);
    f[30..34].copy_from_slice(&frame[26..30]);
    f[34..36].copy_from_slice(&frame[36..38]);
    f[36..38].copy_from_slice(&frame[34..36]);
    f
}

/// Packets of known connections, in cycles a packet.
pub(crate) fn known(rounds: usize, seconds: u64) -> Table {
    // Both directions come by one port: the connections are established.
    fn both(frames: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
        frames.flat_map(|f| [f.clone(), reply(&f)]).collect()
    }
    fn many() -> Vec<Vec<u8>> {
        both((0..10_000u32).map(|i| udp(1 + (i >> 8), 1, 1000 + (i & 0xff) as u16, 80)))
    }
    fn one() -> Vec<Vec<u8>> {
        both((0..32).map(|_| udp(1, 1, 1000, 80)))
    }
    fn flows() -> Vec<String> {
        firewall("IN", "OUT")
    }
    let cases = [
        Case { name: "1 connection", frames: one, flows, way: Way::Plain },
        Case { name: "10k connections", frames: many, flows, way: Way::Plain },
    ];
    cycles::compare("Cycles per packet of known connections (two passes)", &cases, rounds, seconds)
}
