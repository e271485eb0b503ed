//! Do controllers that misbehave cost a bounded memory, and leave the others alone?

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::harness::Switch;

/// An OpenFlow 1.3 hello.
const HELLO: &[u8] = b"\x04\x00\x00\x08\x00\x00\x00\x01";
/// Rules in the table.
const RULES: u32 = 40_000;

/// A request for all rules.
fn dump_request() -> Vec<u8> {
    let mut m = vec![4, 18, 0, 56, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0];
    m.extend([0xff; 8]);
    m.extend([0; 20]);
    m.extend([0, 1, 0, 4, 0, 0, 0, 0]);
    assert_eq!(m.len(), 56);
    m
}

pub(crate) fn resident_kb(s: &Switch) -> u64 {
    let pid = std::fs::read_to_string(s.path("ovs-vswitchd.pid")).expect("the pid file");
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).expect("the process");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

#[test]
fn one_that_never_reads() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let rules: String = (0..RULES)
        .map(|i| format!("table=1,ip,nw_dst=10.{}.{}.{},actions=drop\n", i >> 16, i >> 8 & 255, i & 255))
        .collect();
    std::fs::write(s.path("rules"), rules).expect("write the rules");
    s.ok(&format!("ovs-ofctl add-flows br0 {}", s.path("rules").display()));
    let before = resident_kb(&s);
    let mut deaf: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(s.path("br0.mgmt")).expect("connect");
            stream.write_all(HELLO).expect("say hello");
            stream.set_nonblocking(true).expect("not to wait");
            let many = dump_request().repeat(2000);
            let _ = stream.write(&many);
            stream
        })
        .collect();
    // Each answer is some megabytes, and each asked for it hundreds of times.
    assert!(s.ok("ovs-ofctl dump-aggregate br0").contains(&format!("flow_count={}", RULES + 1)));
    std::thread::sleep(std::time::Duration::from_secs(2));
    let grown = resident_kb(&s).saturating_sub(before);
    assert!(grown < 100 << 10, "{grown} KiB more");
    assert!(s.ok("ovs-ofctl dump-flows br0 table=1").lines().count() > RULES as usize);
    // One that reads after all gets whole answers.
    let stream = &mut deaf[0];
    stream.set_nonblocking(false).expect("to wait");
    let mut heard = vec![0; 64 << 10];
    let mut bytes = 0;
    while bytes < 20 << 20 {
        bytes += stream.read(&mut heard).expect("an answer");
    }
}

#[test]
fn a_thousand_connections() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- set-controller br0 ptcp:16653:127.0.0.1");
    let held: Vec<UnixStream> =
        (0..1000).map(|_| UnixStream::connect(s.path("br0.mgmt")).expect("connect")).collect();
    assert!(s.ok("ovs-ofctl show br0").contains("n_tables"));
    for mut stream in &held {
        stream.write_all(HELLO).expect("say hello");
        stream.write_all(b"\x04\x02\x00\x08\x00\x00\x00\x09").expect("ask for an echo");
        let mut answer = [0; 24];
        stream.read_exact(&mut answer).expect("hello and echo");
        assert_eq!(answer[17], 3);
    }
    assert!(s.ok("ovs-ofctl show br0").contains("n_tables"));
}

#[test]
fn limits_of_packets_are_told_of() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- set-controller br0 ptcp:16653:127.0.0.1 -- set controller br0 controller_rate_limit=100 controller_burst_limit=25");
    s.vsctl("add-port br0 t0 -- set interface t0 type=tap");
    let mut monitor = std::process::Command::new("ip")
        .args([
            "netns",
            "exec",
            &s.ns,
            "ovs-ofctl",
            "-OOpenFlow13",
            "monitor",
            "tcp:127.0.0.1:16653",
            "65534",
        ])
        .env("OVS_RUNDIR", s.dir.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("run ovs-ofctl");
    s.wait_for("the controller is there", || s.vsctl("get controller br0 is_connected") == "true");
    s.ok("ovs-ofctl add-flow br0 priority=9,actions=controller");
    let frame = "ffffffffffff02000000000a0806000108000604000102000000000a0a0100630000000000000a010002";
    for _ in 0..10 {
        s.ok(&format!("ovs-ofctl packet-out br0 'in_port=1,packet={frame},actions=table'"));
    }
    s.wait_for("the limit is told of", || {
        s.vsctl("get controller br0 status").contains("packet-in-action-bypassed")
    });
    monitor.kill().expect("end the monitor");
    monitor.wait().expect("end the monitor");
}

/// A message of OpenFlow 1.4.
fn message14(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let length = u16::try_from(8 + body.len()).expect("a short message").to_be_bytes();
    [&[5, kind, length[0], length[1], 0, 0, 0, 7], &body[..]].concat()
}

/// Connections that hold bundles, and messages of 60,000 bytes in each.
const HOLDERS: usize = 8;
const HELD: usize = 270;

#[test]
fn open_bundles_are_forgotten_and_their_memory_given_back() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- set open_vswitch . other_config:bundle-idle-timeout=600");
    let packet_out = message14(13, &[&[0xff; 7], &[0xfd], &[0; 8], &[0; 60_000]]);
    let add = message14(34, &[&[0, 0, 0, 1, 0, 0, 0, 3], &packet_out]);
    let before = resident_kb(&s);
    let mut holders: Vec<UnixStream> = (0..HOLDERS)
        .map(|_| {
            let mut stream = UnixStream::connect(s.path("br0.mgmt")).expect("connect");
            stream.write_all(b"\x05\x00\x00\x08\x00\x00\x00\x01").expect("say hello");
            stream.write_all(&message14(33, &[&[0, 0, 0, 1, 0, 0, 0, 3]])).expect("open a bundle");
            (0..HELD).for_each(|_| stream.write_all(&add).expect("add to the bundle"));
            stream
        })
        .collect();
    let grown = || resident_kb(&s).saturating_sub(before);
    let all = (HOLDERS * HELD * 60_000) as u64 >> 10;
    s.wait_for("the bundles are held", || grown() > all * 3 / 4);
    assert!(grown() < all * 2, "{} KiB for {all}", grown());
    // Others have theirs.
    std::fs::write(s.path("one"), "table=1,actions=drop\n").expect("write a rule");
    s.ok(&format!("ovs-ofctl -OOpenFlow14 --bundle add-flows br0 {}", s.path("one").display()));
    s.vsctl("set open_vswitch . other_config:bundle-idle-timeout=1");
    for stream in &mut holders {
        stream.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a timeout");
        loop {
            let mut header = [0; 8];
            stream.read_exact(&mut header).expect("what the switch says");
            let mut body = vec![0; usize::from(u16::from_be_bytes([header[2], header[3]])) - 8];
            stream.read_exact(&mut body).expect("what the switch says");
            if header[1] == 1 {
                // OFPET_BUNDLE_FAILED, OFPBFC_TIMEOUT.
                assert_eq!(body[..4], [0, 17, 0, 14]);
                break;
            }
        }
    }
    s.wait_for("the memory is given back", || grown() < all / 4);
}
