//! Do a thousand connections, half of them never whole, and messages that were changed at random cost a bounded memory,
//! and leave a good client its answers?

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::harness::Switch;
use crate::hostile::resident_kb;

/// Connections at once.
const CONNECTIONS: usize = 1000;
/// Memory that all of them may take together, KiB.
const MAX_GROWN_KB: u64 = 128 << 10;
/// Changed messages sent in each version.
const MUTATIONS: u64 = 3000;
/// Times the good client asks while others misbehave.
const ASKED: usize = 50;

/// Numbers without pattern that are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A client that behaves: it asks for an echo and reads the answer.
struct Good {
    stream: UnixStream,
}

impl Good {
    fn connect(s: &Switch) -> Good {
        let mut stream = UnixStream::connect(s.path("br0.mgmt")).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.write_all(b"\x04\x00\x00\x08\x00\x00\x00\x01").expect("say hello");
        let mut hello = [0; 8];
        stream.read_exact(&mut hello).expect("a hello");
        let length = usize::from(u16::from_be_bytes([hello[2], hello[3]]));
        stream.read_exact(&mut vec![0; length - 8]).expect("its rest");
        Good { stream }
    }

    fn ask(&mut self, n: u32) {
        let mut request = vec![4, 2, 0, 8];
        request.extend(n.to_be_bytes());
        self.stream.write_all(&request).expect("ask");
        let mut answer = [0; 8];
        self.stream.read_exact(&mut answer).expect("an answer");
        assert_eq!((answer[1], &answer[4..]), (3, &n.to_be_bytes()[..]));
    }
}

/// A message of this version and type.
fn message(version: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![version, kind];
    out.extend(((body.len() + 8) as u16).to_be_bytes());
    out.extend([0, 0, 0, 1]);
    out.extend_from_slice(body);
    out
}

/// Messages that change something in a version, to begin with: a flow-mod, a group-mod, a meter-mod, a packet-out, a
/// question, an experimenter's, and the steps of a bundle.
fn seeds(version: u8) -> Vec<Vec<u8>> {
    let v10 = version == 1;
    let mut seeds = Vec::new();
    let output: &[u8] =
        if v10 { &[0, 0, 0, 8, 0, 2, 0, 0] } else { &[0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0] };
    let flow: Vec<u8> = if v10 {
        [
            &[0x00, 0x3f, 0xff, 0xff][..],
            &[0; 36],
            &[0; 8],
            &[0, 0, 0, 0, 0, 0, 0, 9],
            &[0xff; 6],
            &[0, 0],
            output,
        ]
        .concat()
    } else {
        let matching: Vec<u8> = if version == 2 {
            [&[0, 0, 0, 88, 0, 0, 0, 0, 0, 0, 3, 0xff][..], &[0; 76]].concat()
        } else {
            vec![0, 1, 0, 4, 0, 0, 0, 0]
        };
        let instruction = [&[0, 4, 0, 24, 0, 0, 0, 0][..], output].concat();
        [&[0; 16][..], &[0, 0, 0, 0, 0, 0, 0, 9], &[0xff; 12], &[0; 4], &matching, &instruction].concat()
    };
    seeds.push(message(version, 14, &flow));
    let packet: Vec<u8> = match version {
        1 => [&[0xff; 4][..], &[0, 1, 0, 8], output, &[0x55; 60]].concat(),
        6 => [
            &[0xff; 4][..],
            &[0, 16, 0, 0],
            &[0, 1, 0, 12, 0x80, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0],
            output,
            &[0x55; 60],
        ]
        .concat(),
        _ => [&[0xff; 4][..], &[0, 0, 0, 1, 0, 16], &[0; 6], output, &[0x55; 60]].concat(),
    };
    seeds.push(message(version, 13, &packet));
    let (question, barrier) = if v10 { (16, 18) } else { (18, 20) };
    for kind in [0u8, 1, 3, 4, 5, 6, 7, 9, 12, 13, 16] {
        let body = [&[0, kind, 0, 0][..], &[0; 4], &[0xff; 8], &[0; 24], &[0, 1, 0, 4, 0, 0, 0, 0]].concat();
        seeds.push(message(version, question, &body));
    }
    seeds.push(message(version, barrier, &[]));
    // Nicira's: flow-mod, tunnel options, resume, packet-in format, monitors.
    for subtype in [10u8, 13, 16, 19, 20, 24, 28, 29, 31, 32] {
        seeds.push(message(version, 4, &[&[0, 0, 0x23, 0x20, 0, 0, 0, subtype][..], &[0; 40]].concat()));
    }
    if v10 {
        return seeds;
    }
    let bucket = [&[0, 32, 0, 0][..], &[0xff; 8], &[0; 4], output].concat();
    let bucket15 = [&[0, 24, 0, 16, 0, 0, 0, 1][..], output].concat();
    let group = match version {
        6 => [&[0, 0, 0, 0, 0, 0, 0, 7, 0, 24, 0, 0][..], &[0xff; 4], &bucket15].concat(),
        _ => [&[0, 0, 0, 0, 0, 0, 0, 7][..], &bucket].concat(),
    };
    seeds.push(message(version, 15, &group));
    if version >= 4 {
        let band = [0, 1, 0, 16, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0, 0];
        seeds.push(message(version, 29, &[&[0, 0, 0, 1, 0, 0, 0, 3][..], &band].concat()));
        for step in [0u8, 2, 4, 6] {
            let control = [0, 0, 0, 1, 0, step, 0, 3];
            seeds.push(match version {
                4 => message(version, 4, &[&[0x4f, 0x4e, 0x46, 0, 0, 0, 0x08, 0xfc][..], &control].concat()),
                _ => message(version, 33, &control),
            });
        }
        let add = [&[0, 0, 0, 1, 0, 0, 0, 3][..], &message(version, 14, &flow)].concat();
        seeds.push(match version {
            4 => message(version, 4, &[&[0x4f, 0x4e, 0x46, 0, 0, 0, 0x08, 0xfd][..], &add].concat()),
            _ => message(version, 34, &add),
        });
    }
    seeds
}

/// A message with some bytes changed, whose length is right so that the stream goes on.
fn mutated(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut message = seeds[dice.below(seeds.len())].clone();
    for _ in 0..dice.below(4) {
        match dice.below(3) {
            0 => {
                let at = 8 + dice.below(message.len().max(9) - 8);
                if let Some(byte) = message.get_mut(at) {
                    *byte = dice.next() as u8;
                }
            }
            1 => message.truncate(8 + dice.below(message.len() - 7)),
            _ => message.extend(std::iter::repeat_n(dice.next() as u8, 1 + dice.below(32))),
        }
    }
    let length = (message.len() as u16).to_be_bytes();
    message[2..4].copy_from_slice(&length);
    message
}

#[test]
fn a_thousand_at_once_half_of_them_never_whole() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let mut good = Good::connect(&s);
    good.ask(1);
    let before = resident_kb(&s);
    let mut held = Vec::new();
    for n in 0..CONNECTIONS {
        let mut stream = UnixStream::connect(s.path("br0.mgmt")).expect("connect");
        if n % 2 == 0 {
            // A header that is cut, or a message that never ends.
            let part: &[u8] =
                if n % 4 == 0 { b"\x04\x00\x00" } else { b"\x04\x00\xff\xff\x00\x00\x00\x01half" };
            stream.write_all(part).expect("begin a hello");
        } else {
            stream
                .write_all(b"\x04\x00\x00\x08\x00\x00\x00\x01\x04\x02\x00\x08\x00\x00\x00\x09")
                .expect("say hello");
        }
        held.push(stream);
        if n % (CONNECTIONS / ASKED) == 0 {
            good.ask(n as u32);
        }
    }
    // Those that are whole are answered.
    for stream in held.iter_mut().skip(1).step_by(2) {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut answer = [0; 24];
        stream.read_exact(&mut answer).expect("hello and echo");
        assert_eq!(answer[17], 3);
    }
    good.ask(7);
    let grown = resident_kb(&s).saturating_sub(before);
    println!("{CONNECTIONS} connections: {grown} KiB more");
    assert!(grown < MAX_GROWN_KB, "{grown} KiB more");
    assert!(s.ok("ovs-ofctl show br0").contains("n_tables"));
}

#[test]
fn changed_messages_of_every_version() {
    let s = Switch::start();
    s.vsctl("add-br br0");
    let mut good = Good::connect(&s);
    good.ask(1);
    let before = resident_kb(&s);
    for version in 1..=6u8 {
        let seeds = seeds(version);
        let mut dice = Dice(u64::from(version));
        let mut sent = 0;
        while sent < MUTATIONS {
            let mut stream = UnixStream::connect(s.path("br0.mgmt")).expect("connect");
            let mut reader = stream.try_clone().expect("a second handle");
            // Whatever is said is read, so that nothing waits.
            let drain = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
            let mut write = |bytes: &[u8]| stream.write_all(bytes);
            let mut alive = write(&[version, 0, 0, 8, 0, 0, 0, 1]).is_ok();
            while alive && sent < MUTATIONS {
                alive = write(&mutated(&mut dice, &seeds)).is_ok();
                sent += 1;
                if sent % 500 == 0 {
                    good.ask(sent as u32);
                    break;
                }
            }
            let _ = stream.shutdown(std::net::Shutdown::Both);
            drain.join().expect("the reader ends").ok();
        }
    }
    good.ask(2);
    s.ok("ovs-ofctl -O OpenFlow15 del-flows br0");
    s.ok("ovs-ofctl -O OpenFlow15 del-groups br0");
    s.ok("ovs-ofctl -O OpenFlow15 del-meters br0");
    let grown = resident_kb(&s).saturating_sub(before);
    println!("{} changed messages: {grown} KiB more", 6 * MUTATIONS);
    assert!(grown < MAX_GROWN_KB, "{grown} KiB more");
    assert!(!s.log().contains("panic"), "{}", s.log());
}
