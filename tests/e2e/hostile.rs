//! What if everything that comes in is hostile? A million mutated frames into every kind of port, a hundred thousand
//! mutated messages into every socket: no crash, flat memory, and ordinary traffic goes on.

use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::wire::Wire;
use crate::world::{Guard, PATIENCE, TwoHosts, assert_ping, describe, eventually};
use weft_lab::Lab;

const FRAMES: usize = 1_000_000;
const MESSAGES: usize = 100_000;
/// Growth of resident memory that caches and allocator may account for, in kilobytes.
const GROWTH_KB: u64 = 16 * 1024;

/// A small generator (xorshift64*), seeded so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    /// Changes, cuts or lengthens `bytes` from `from` on.
    fn mutate(&mut self, bytes: &mut Vec<u8>, from: usize) {
        for _ in 0..1 + self.below(4) {
            let at = from + self.below((bytes.len() - from).max(1));
            match self.below(8) {
                0 if at > from => bytes.truncate(at),
                1 => bytes.extend((0..self.below(64)).map(|i| (i * 37) as u8)),
                2 if at + 1 < bytes.len() => bytes[at..at + 2].copy_from_slice(&[0xff, 0xff]),
                3 if at + 1 < bytes.len() => bytes[at..at + 2].copy_from_slice(&[0, 0]),
                _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|p| u8::from_str_radix(std::str::from_utf8(p).expect("hex"), 16).expect("hex"))
        .collect()
}

/// Well-formed frames of many kinds, to start from.
fn seeds() -> Vec<Vec<u8>> {
    let eth = "ffffffffffff 02ee00000001";
    let ip4 = "45000054 00014000 4001 0000 0a000001 0a000002";
    let ip6 = "60012345 0020 3a ff fe800000000000000000000000000001 ff0200000000000000000000000000fb";
    [
        format!("{eth} 0806 0001080006040001 02ee00000001 0a000001 000000000000 0a000002"),
        format!("{eth} 0800 {ip4} 0800 1234 0001 0001 {}", "61".repeat(56)),
        format!("{eth} 0800 45000030 00014000 4006 0000 0a000001 0a000002 03e807d0 00000001 00000000 7002ffff 00000000 020405b401010402"),
        format!("{eth} 0800 46000034 00012000 4011 0000 0a000001 0a000002 94040000 03e807d0 001c0000 {}", "62".repeat(20)),
        format!("{eth} 8100 2064 88a8 0001 0800 {ip4} 0800 1234 0001 0001 {}", "63".repeat(40)),
        format!("{eth} 86dd {ip6} 8700 0000 00000000 fe800000000000000000000000000002 0101 02ee00000001"),
        format!("{eth} 86dd 60000000 0020 00 40 {0} {0} 3c000104 00000000 11000104 00000000 03e807d0 00100000 {1}", "20010db8000000000000000000000001", "64".repeat(8)),
        format!("{eth} 8847 00064040 00065140 00066140 {ip4}"),
        format!("{eth} 0026 aaaa03 000000 0800 {ip4} {}", "65".repeat(20)),
        format!("{eth} 0800 4500003c 00010000 4084 0000 0a000001 0a000002 03e807d0 00000001 00000000 {}", "66".repeat(20)),
    ]
    .iter()
    .map(|t| hex(t))
    .collect()
}

fn rss_kb(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the switch is alive");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// Runs `attack` in two halves and panics if the switch died, grew in the second half, or no longer forwards.
fn survives(lab: &Guard, mut attack: impl FnMut(&Lab, u64)) {
    assert_ping(lab);
    let pid = lab.pid("a", "switch").expect("the switch runs");
    attack(lab, 1);
    let before = rss_kb(pid);
    attack(lab, 2);
    assert_eq!(lab.pid("a", "switch"), Some(pid), "the switch died");
    let after = rss_kb(pid);
    assert!(after < before + GROWTH_KB, "resident memory grew from {before} to {after} kB");
    assert_ping(lab);
    let log = lab.log("a", "switch").expect("a log");
    assert!(!log.contains("panicked"), "{log}");
}

/// Half of the frames, mutated, by a wire.
fn frames(wire: &mut Wire, seeds: &[Vec<u8>], from: usize, seed: u64) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
    let mut batch = Vec::with_capacity(32);
    for n in 0..FRAMES / 2 {
        let mut frame = seeds[n % seeds.len()].clone();
        random.mutate(&mut frame, from);
        frame.truncate(1400);
        if frame.len() >= 14 {
            batch.push(frame);
        }
        if batch.len() == 32 {
            wire.send(&batch);
            batch.clear();
        }
    }
}

#[test]
fn a_million_frames_into_a_device_port() {
    let lab = TwoHosts::default().up();
    let mut wire = Wire::open(&lab.workload("a", "vm0"), "eth0");
    survives(&lab, |_, seed| frames(&mut wire, &seeds(), 0, seed));
}

/// Frames into the host's end of a port that the switch makes itself.
fn own_device(kind: &str) {
    let lab = TwoHosts::default().up();
    let host = lab.host("a");
    host.sh(&format!(
        "ovs-vsctl --timeout=10 add-port br0 dev0 -- set interface dev0 type={kind}; ip link set dev0 up"
    ))
    .ok();
    let mut wire = Wire::open(&host, "dev0");
    survives(&lab, |_, seed| frames(&mut wire, &seeds(), 0, seed));
}

#[test]
fn a_million_frames_into_an_internal_port() {
    own_device("internal");
}

#[test]
fn a_million_frames_into_a_tap_port() {
    own_device("tap");
}

#[test]
fn a_million_frames_from_a_pcap_port() {
    const FILE: usize = 50_000;
    let lab = TwoHosts::default().up();
    let host = lab.host("a");
    survives(&lab, |_, seed| {
        let (mut random, seeds) = (Random(0x0123_4567_89ab_cdef ^ seed), seeds());
        let words = |w: &[u32]| w.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
        let mut pcap = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1]);
        for n in 0..FILE {
            let mut frame = seeds[n % seeds.len()].clone();
            random.mutate(&mut frame, 0);
            pcap.extend(words(&[0, 0, frame.len() as u32, frame.len() as u32]));
            pcap.extend(frame);
        }
        std::fs::write(host.dir().join("hostile.pcap"), pcap).expect("the capture is written");
        host.sh("ovs-vsctl --timeout=10 --if-exists del-port br0 src0 -- add-port br0 src0 \
             -- set interface src0 type=pcap options:file=$OVS_RUNDIR/hostile.pcap options:loop=true")
            .ok();
        eventually("the frames are played", || {
            let text = host.exec(["ovs-ofctl", "dump-ports", "br0", "src0"]).ok();
            let count = text.split("rx pkts=").nth(1)?.split(',').next()?.trim().parse::<usize>().ok()?;
            (count >= FRAMES / 2).then_some(())
        });
        host.sh("ovs-vsctl --timeout=10 del-port br0 src0").ok();
    });
}

#[test]
fn a_million_frames_through_a_patch_port() {
    let lab = TwoHosts::default().up();
    let host = lab.host("a");
    host.sh(
        "ovs-vsctl --timeout=10 add-br br1 -- add-port br0 p0 -- set interface p0 type=patch options:peer=p1 \
         -- add-port br1 p1 -- set interface p1 type=patch options:peer=p0 \
         -- add-port br1 int1 -- set interface int1 type=internal; ip link set int1 up",
    )
    .ok();
    let mut wire = Wire::open(&host, "int1");
    survives(&lab, |_, seed| frames(&mut wire, &seeds(), 0, seed));
}

/// Tunnel payloads with the header `header` before each seed, sent to `port` of host a.
fn udp_tunnel(tunnel: &'static str, header: &str, port: u16) {
    let lab = TwoHosts { tunnel, ..TwoHosts::default() }.up();
    let header = hex(header);
    let seeds: Vec<_> = seeds().iter().map(|s| [header.clone(), s.clone()].concat()).collect();
    // From host b's address: the peer that the port takes.
    let socket =
        lab.host("b").inside(|| UdpSocket::bind("192.168.1.20:0")).expect("inside").expect("a socket");
    socket.connect(("192.168.1.10", port)).expect("connect");
    survives(&lab, |_, seed| {
        let mut random = Random(0xdead_beef_0bad_cafe ^ seed);
        for n in 0..FRAMES / 2 {
            let mut datagram = seeds[n % seeds.len()].clone();
            random.mutate(&mut datagram, 0);
            datagram.truncate(1400);
            // A refusal only says that the kernel's buffers are full.
            let _ = socket.send(&datagram);
        }
    });
}

#[test]
fn a_million_datagrams_into_a_vxlan_port() {
    udp_tunnel("vxlan", "0800000000 03e800", 4789);
}

#[test]
fn a_million_datagrams_into_a_geneve_port() {
    udp_tunnel("geneve", "0200 6558 0003e8 00 ffff0001 01020304", 6081);
}

#[test]
fn a_million_packets_into_a_gre_port() {
    let lab = TwoHosts { tunnel: "gre", ..TwoHosts::default() }.up();
    let mac = lab.host("a").exec(["cat", "/sys/class/net/eth0/address"]).ok();
    let outer = |len: usize| {
        let mut ip = hex("45000000 00004000 402f0000 c0a80114 c0a8010a");
        ip[2..4].copy_from_slice(&(20 + len as u16).to_be_bytes());
        let sum: u32 = ip.chunks(2).map(|c| u32::from(u16::from_be_bytes([c[0], c[1]]))).sum();
        let sum = !(((sum >> 16) + (sum & 0xffff)) as u16);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        [hex(&mac), hex("02ee00000099 0800"), ip].concat()
    };
    let gre = hex("20006558 000003e8");
    let mut wire = Wire::open(&lab.network("lan"), "bridge");
    survives(&lab, |_, seed| {
        let mut random = Random(0xfeed_f00d ^ seed);
        let (seeds, mut batch) = (seeds(), Vec::new());
        for n in 0..FRAMES / 2 {
            let mut payload = [gre.clone(), seeds[n % seeds.len()].clone()].concat();
            random.mutate(&mut payload, 0);
            payload.truncate(1300);
            batch.push([outer(payload.len()), payload].concat());
            if batch.len() == 32 {
                wire.send(&batch);
                batch.clear();
            }
        }
    });
}

/// Sends half of the messages, four of five mutated, each by a connection of its own, and reads until the switch has
/// closed it: so every one of them was read.
fn messages(path: &Path, seeds: &[Vec<u8>], seed: u64) {
    let mut random = Random(0xc0ff_ee00_1234 ^ seed);
    let mut answered = 0;
    let mut sink = [0; 65536];
    for n in 0..MESSAGES / 2 {
        let mut message = seeds[n % seeds.len()].clone();
        if !n.is_multiple_of(5) {
            random.mutate(&mut message, 0);
        }
        let mut stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        // The switch may refuse the message before it has all of it.
        if stream.write_all(&message).is_ok() {
            let _ = stream.shutdown(Shutdown::Write);
        }
        loop {
            match stream.read(&mut sink) {
                Ok(0) => break,
                Ok(n) => answered += n,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("message {n} left the connection open: {message:?}")
                }
                Err(_) => break,
            }
        }
    }
    assert!(answered > MESSAGES, "only {answered} bytes were answered");
}

#[test]
fn a_hundred_thousand_messages_into_the_database() {
    let lab = TwoHosts::default().up();
    let seeds: Vec<Vec<u8>> = [
        r#"{"method":"list_dbs","id":1,"params":[]}"#,
        r#"{"method":"get_schema","id":2,"params":["Open_vSwitch"]}"#,
        r#"{"method":"monitor_cond_since","id":3,"params":["Open_vSwitch",["monid",1],{"Bridge":[{"columns":["name","ports"]}]},"00000000-0000-0000-0000-000000000000"]}"#,
        r#"{"method":"transact","id":4,"params":["Open_vSwitch",{"op":"select","table":"Interface","where":[["name","==","vnet0"]]},{"op":"wait","timeout":0,"table":"Bridge","where":[],"columns":["name"],"until":"==","rows":[]}]}"#,
        r#"{"method":"transact","id":5,"params":["Open_vSwitch",{"op":"insert","table":"Mirror","row":{"name":"m"},"uuid-name":"x"},{"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["external_ids","insert",["map",[["k","v"]]]]]},{"op":"abort"}]}"#,
        r#"{"method":"lock","id":6,"params":["l"]}{"method":"unlock","id":7,"params":["l"]}"#,
        r#"{"method":"echo","id":"e","params":[[[[[[[[]]]]]]]]}"#,
    ]
    .iter()
    .map(|s| s.as_bytes().to_vec())
    .collect();
    let path = lab.host("a").dir().join("db.sock");
    survives(&lab, |_, seed| {
        messages(&path, &seeds, seed);
    });
}

#[test]
fn a_hundred_thousand_messages_into_openflow() {
    let lab = TwoHosts::default().up();
    let hello = "04 00 0008 00000001";
    let seeds: Vec<Vec<u8>> = [
        hello.into(),
        format!("{hello} 04 05 0008 00000002"),
        format!("{hello} 04 12 0010 00000003 000d 0000 00000000"),
        format!("{hello} 04 12 0038 00000004 0001 0000 00000000 ff000000 ffffffff ffffffff 00000000 0000000000000000 0000000000000000 0001 0004 00000000"),
        // A flow that matches nothing real (metadata), priority 1, goto-free, output to controller.
        format!("{hello} 04 0e 0058 00000005 0000000000000000 0000000000000000 0a 00 0000 0000 0001 ffffffff ffffffff ffffffff 0000 0000 0001 0004 00000000 0004 0018 00000000 0000 0010 fffffffd ffff 000000000000 0000000000000000"),
        "01 00 0008 00000001 01 10 000c 00000006 0000 0000".into(),
        "01 00 0008 00000001 01 04 0018 00000007 00002320 00000010 00000000 00000000".into(),
        format!("{hello} 04 0d 0028 00000008 ffffffff fffffffd 0010 000000000000 0000 0010 0000fffb 0000 000000000000"),
        format!("{hello} 04 14 0008 00000009"),
    ]
    .iter()
    .map(|s: &String| hex(s))
    .collect();
    let path = lab.host("a").dir().join("br0.mgmt");
    survives(&lab, |lab, seed| {
        messages(&path, &seeds, seed);
        lab.host("a").exec(["ovs-ofctl", "del-flows", "br0"]).ok();
        lab.host("a").exec(["ovs-ofctl", "add-flow", "br0", "actions=NORMAL"]).ok();
    });
}

/// A client that asks for much and never reads must not make the switch hold it all.
#[test]
fn a_client_that_never_reads_is_cut_off() {
    let lab = TwoHosts::default().up();
    assert_ping(&lab);
    let pid = lab.pid("a", "switch").expect("the switch runs");
    let before = rss_kb(pid);
    let request = br#"{"method":"get_schema","id":2,"params":["Open_vSwitch"]}"#.repeat(100);
    let mut stream = UnixStream::connect(lab.host("a").dir().join("db.sock")).expect("connect");
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a time-out");
    // Some megabytes of requests may wait in the socket and before the main loop. These are 57, for 30 GB of schemas.
    let refused = (0..10_000).any(|_| stream.write_all(&request).is_err());
    assert!(refused, "the switch took everything");
    let after = rss_kb(pid);
    assert!(after < before + 64 * 1024, "from {before} to {after} kB for a client that never reads");
    drop(stream);
    assert_ping(&lab);
    assert!(lab.host("a").exec(["ovs-vsctl", "--timeout=5", "show"]).success(), "{}", describe(&lab));
}
