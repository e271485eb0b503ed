//! Does the engine hold a million connections, at a bounded cost each?

use weft_conntrack::{Conntrack, CtPacket, Limits, state};
use weft_flow::{CtKey, CtSpec, PacketKey, extract_packet};
use weft_wire::Mac;
use weft_wire::build::Frame;
use weft_wire::tcp::TcpFlags;

const CONNECTIONS: usize = 1_000_000;
/// Bytes that a connection takes at most, indexes and room for growth included.
const BYTES: usize = 256;

/// Packet of connection `n`: every second one is TCP, every second pair IPv6. `answer`: from the other end.
fn packet(n: usize, answer: bool) -> Vec<u8> {
    let eth = Frame::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let (host, port) = ((n >> 14) as u16, 1024 + (n & 0x3fff) as u16);
    let [high, low] = host.to_be_bytes();
    let (near, far) = ([10, 9, high, low], [192, 0, 2, 1]);
    let v6 = |last: u16| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, host, last).octets();
    let (near6, far6) = (v6(1), v6(2));
    let ip = match (n & 2 != 0, answer) {
        (false, false) => eth.ipv4(near, far),
        (false, true) => eth.ipv4(far, near),
        (true, false) => eth.ipv6(near6, far6),
        (true, true) => eth.ipv6(far6, near6),
    };
    let (from, to) = if answer { (80, port) } else { (port, 80) };
    match (n & 1 != 0, answer) {
        (false, _) => ip.udp(from, to).build(),
        (true, false) => ip.tcp(from, to).flags(TcpFlags::SYN).seq(1000, 0).window(1000).build(),
        (true, true) => {
            ip.tcp(from, to).flags(TcpFlags::SYN | TcpFlags::ACK).seq(5000, 1001).window(1000).build()
        }
    }
}

/// State bits that a packet is given.
fn track(ct: &Conntrack, frame: &[u8], now: u64) -> u16 {
    let (mut key, mut packet) = (CtKey::default(), PacketKey::default());
    let layout = extract_packet(frame, 1, &mut packet).unwrap();
    let packet = CtPacket { frame, layout: &layout, key: &packet, checksums_good: false };
    ct.execute(&packet, &mut key, &CtSpec { zone: 5, commit: true, ..CtSpec::default() }, now).unwrap();
    key.state
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn a_million_connections() {
    let ct = Conntrack::new(42, Limits { connections: CONNECTIONS, ..Limits::default() });
    let before = resident();
    for n in 0..CONNECTIONS {
        assert_eq!(track(&ct, &packet(n, false), 0), state::TRK | state::NEW, "{n}");
    }
    assert_eq!((ct.count(), ct.zone_count(5)), (CONNECTIONS, CONNECTIONS as u32));
    let grown = resident().saturating_sub(before);
    println!("{} bytes a connection, {} resident", ct.memory() / CONNECTIONS, grown / CONNECTIONS);
    assert!(ct.memory() <= BYTES * CONNECTIONS, "{} bytes", ct.memory());
    assert!(grown <= BYTES * CONNECTIONS, "{grown} bytes resident");
    // Each is found.
    for n in (0..CONNECTIONS).step_by(97) {
        assert_eq!(track(&ct, &packet(n, true), 1), state::TRK | state::EST | state::RPL, "{n}");
    }
    // More than the limit make others give way, and cost nothing more.
    let full = ct.memory();
    for n in CONNECTIONS..CONNECTIONS + 20_000 {
        track(&ct, &packet(n, false), 2);
    }
    assert_eq!(ct.count(), CONNECTIONS);
    assert!(ct.memory() <= full * 11 / 10, "{} bytes after {full}", ct.memory());
    for n in (0..CONNECTIONS).step_by(97) {
        let found = track(&ct, &packet(n, true), 3) & state::EST;
        assert_ne!(found, 0, "{n}: one that was answered does not give way");
    }
    // All end, and as many fit again.
    let mut now = 3;
    while ct.count() > 0 {
        now += 3_600_000;
        assert!(now < 1000 * 3_600_000, "{} are left", ct.count());
        ct.sweep(now, CONNECTIONS);
    }
    for n in 0..CONNECTIONS {
        track(&ct, &packet(n, false), now);
    }
    assert_eq!(ct.count(), CONNECTIONS);
    assert!(ct.memory() <= full * 11 / 10, "{} bytes after {full}", ct.memory());
}
