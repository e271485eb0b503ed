//! Is the key of a frame the one that Open vSwitch gives? And is no frame too strange?

use std::fmt::Write as _;
use std::process::Command;

use weft_flow::text::{Syntax, format_key};
use weft_flow::{DropReason, FlowKey, L3Kind, OfPort, PacketKey, extract_packet, extract_packet_vlans};

const FRAMES: &str = include_str!("data/frames.txt");
const KEYS: &str = include_str!("data/frame-keys.txt");

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let line = |line: &'static str| {
        let (name, hex) = line.split_once(": ").expect("name: frame");
        let hex: Vec<u8> = hex.bytes().filter(|b| *b != b' ').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        (name, hex.chunks(2).map(byte).collect())
    };
    FRAMES.lines().filter(|l| !l.starts_with('#')).map(line).collect()
}

fn frame(name: &str) -> Vec<u8> {
    frames().into_iter().find(|(n, _)| *n == name).expect("a frame of that name").1
}

/// The key as `ovs-ofctl parse-pcap` prints it.
fn describe(frame: &[u8]) -> String {
    let mut key = FlowKey::default();
    if let Err(reason) = extract_packet(frame, 7, &mut key.packet) {
        return reason.to_string();
    }
    key.pipeline.in_port = OfPort::ANY.0;
    key.packet.in_port = 0;
    format_key(&key, &Syntax::default())
}

/// Frames that `seed` makes of the given ones: cut, and with bytes changed, mostly in the headers.
fn mutants(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let originals = frames();
    let mut state = seed;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut make = || {
        let mut frame = originals[random(originals.len())].1.clone();
        for _ in 0..random(4) {
            let at = 12 + random(frame.len().saturating_sub(12).max(1));
            let bit = 1u8 << random(8);
            if let Some(byte) = frame.get_mut(at) {
                *byte = if random(2) == 0 { *byte ^ bit } else { random(256) as u8 };
            }
        }
        if random(3) == 0 {
            frame.truncate(14 + random(frame.len() - 13));
        }
        frame
    };
    (0..count).map(|_| make()).collect()
}

/// What Open vSwitch makes of frames; `None` where it is not installed.
fn ask_open_vswitch(frames: &[Vec<u8>], tag: &str) -> Option<Vec<String>> {
    let mut pcap = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        pcap.extend(word.to_le_bytes());
    }
    for frame in frames {
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            pcap.extend(word.to_le_bytes());
        }
        pcap.extend(frame);
    }
    let path = std::env::temp_dir().join(format!("weft-frames-{}-{tag}.pcap", std::process::id()));
    std::fs::write(&path, pcap).unwrap();
    let out = Command::new("ovs-ofctl").arg("parse-pcap").arg(&path).output();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8(out.ok()?.stdout).unwrap();
    Some(text.lines().map(str::to_owned).collect())
}

#[test]
fn known_keys() {
    let mut found = String::new();
    for (name, frame) in frames() {
        let _ = writeln!(found, "{name}: {}", describe(&frame));
    }
    for (ours, wanted) in found.lines().zip(KEYS.lines()) {
        assert_eq!(ours, wanted);
    }
    assert_eq!(found.lines().count(), KEYS.lines().count());
}

/// Open vSwitch reads ICMP in IPv6, IGMP in IPv6 and ICMPv6 in IPv4, where they have no meaning; and it knows NSH.
fn is_foreign(key: &str) -> bool {
    if key.contains("dl_type=0x894f") {
        return true;
    }
    let protocols: &[&str] =
        if key.starts_with("ipv6,") { &["nw_proto=1,", "nw_proto=2,"] } else { &["nw_proto=58,"] };
    protocols.iter().any(|p| key.contains(p))
}

#[test]
fn keys_are_those_of_open_vswitch() {
    let mut all: Vec<Vec<u8>> = frames().into_iter().map(|(_, f)| f).collect();
    all.extend(mutants(1, 5000));
    let Some(theirs) = ask_open_vswitch(&all, "keys") else {
        println!("ovs-ofctl is not installed: nothing to compare with");
        return;
    };
    assert_eq!(theirs.len(), all.len());
    let mut wrong = Vec::new();
    for (frame, theirs) in all.iter().zip(theirs) {
        let ours = describe(frame);
        if ours != theirs && !is_foreign(&ours) {
            let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
            wrong.push(format!("{hex}\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(8)].join("\n"));
}

#[test]
fn layouts() {
    let layout = |name: &str| extract_packet(&frame(name), 1, &mut PacketKey::default()).unwrap();
    let cases = [
        ("udp", L3Kind::Ipv4, 0, [14, 14, 34, 42], 46),
        ("udp-padded", L3Kind::Ipv4, 0, [14, 14, 34, 42], 42),
        ("tcp", L3Kind::Ipv4, 0, [14, 14, 34, 58], 58),
        ("tcp-options-ip", L3Kind::Ipv4, 0, [14, 14, 38, 62], 62),
        ("later-fragment", L3Kind::Ipv4, 0, [14, 14, 0, 0], 46),
        ("gre", L3Kind::Ipv4, 0, [14, 14, 34, 0], 42),
        ("vlan", L3Kind::Ipv4, 1, [18, 18, 38, 46], 50),
        ("qinq", L3Kind::Ipv4, 2, [22, 22, 42, 50], 54),
        ("three-tags", L3Kind::Other, 2, [22, 22, 0, 0], 54),
        ("arp", L3Kind::Arp, 0, [14, 14, 0, 0], 60),
        ("udp6", L3Kind::Ipv6, 0, [14, 14, 54, 62], 66),
        ("hop-by-hop", L3Kind::Ipv6, 0, [14, 14, 62, 70], 74),
        ("later-fragment6", L3Kind::Ipv6, 0, [14, 14, 0, 0], 74),
        ("extension-too-long", L3Kind::Other, 0, [14, 14, 0, 0], 74),
        ("mpls", L3Kind::Mpls, 0, [14, 18, 0, 0], 38),
        ("mpls-four", L3Kind::Mpls, 0, [14, 30, 0, 0], 38),
        ("mpls-no-bottom", L3Kind::Mpls, 0, [14, 0, 0, 0], 22),
        ("snap", L3Kind::Ipv4, 0, [22, 22, 42, 50], 50),
    ];
    for (name, kind, vlans, offsets, end) in cases {
        let l = layout(name);
        assert_eq!((l.kind, l.vlans, l.end), (kind, vlans, end), "{name}");
        assert_eq!([l.l2_5, l.l3, l.l4, l.payload], offsets, "{name}");
    }
}

#[test]
fn tags_beyond_the_limit_are_payload() {
    let frame = frame("qinq");
    let mut key = PacketKey::default();
    extract_packet_vlans(&frame, 1, 1, &mut key).unwrap();
    assert_eq!((key.eth_type, key.vlan[0].vid(), key.vlan[1].is_present()), (0x8100, 0x64, false));
    extract_packet_vlans(&frame, 1, 0, &mut key).unwrap();
    assert_eq!((key.eth_type, key.vlan[0].is_present()), (0x88a8, false));
    extract_packet_vlans(&frame, 1, 9, &mut key).unwrap();
    assert_eq!((key.eth_type, key.vlan[1].vid(), key.vlan[1].pcp()), (0x0800, 10, 1));
}

#[test]
fn short_frames_are_malformed() {
    let mut key = PacketKey::default();
    for len in 0..14 {
        let result = extract_packet(&frame("udp")[..len], 1, &mut key);
        assert_eq!(result, Err(DropReason::MalformedFrame), "{len} bytes");
    }
}

#[test]
fn nothing_is_too_strange() {
    // Also that offsets stay within the frame, whatever its bytes say.
    for frame in mutants(2, 100_000) {
        let mut key = PacketKey::default();
        let l = extract_packet(&frame, 1, &mut key).unwrap();
        assert!(l.end as usize <= frame.len(), "{l:?}");
        for offset in [l.l2_5, l.l3, l.l4, l.payload] {
            assert!(u32::from(offset) <= l.end, "{l:?} of {} bytes", frame.len());
        }
    }
}

#[test]
fn registers_that_are_zero_are_not_shown() {
    let cases: [(&[(usize, u32)], &str); 4] = [
        (&[], ""),
        (&[(0, 1)], "reg0=0x1,"),
        (&[(3, 0xff), (4, 2)], "reg3=0xff,reg4=0x2,"),
        (&[(15, u32::MAX)], "reg15=0xffffffff,"),
    ];
    for (set, expected) in cases {
        let mut key = FlowKey::default();
        for (n, value) in set {
            key.pipeline.regs[*n] = *value;
        }
        let text = format_key(&key, &Syntax::default());
        assert_eq!(text.split("in_port").next(), Some(expected), "{text}");
    }
}
