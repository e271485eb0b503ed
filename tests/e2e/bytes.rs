//! Does every byte of a stream arrive? A gigabyte of pseudo-random bytes, compared one by one on receipt.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::world::{self, Switch, TwoHosts, VM_B, assert_ping};
use weft_lab::{Lab, Place};

const GIGABYTE: u64 = 1 << 30;

/// The stream: a 64-bit multiply-and-xor generator, eight bytes a step.
struct Bytes(u64);

impl Bytes {
    fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_exact_mut(8) {
            self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            chunk.copy_from_slice(&(self.0 ^ (self.0 >> 29)).to_le_bytes());
        }
    }
}

/// Sends `total` bytes from `from` to `to` and compares all of them.
fn send(from: &Place, to: &Place, total: u64) {
    let listener = to.inside(|| TcpListener::bind((VM_B, 5001))).expect("inside").expect("the port is free");
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(world::PATIENCE)).expect("a time-out");
        let (mut want, mut expected) = (Bytes(1), vec![0; 1 << 16]);
        let mut got = vec![0; 1 << 16];
        let mut received = 0;
        while received < total {
            let n = got.len().min((total - received) as usize);
            if let Err(e) = stream.read_exact(&mut got[..n]) {
                panic!("after {received} of {total} bytes: {e}");
            }
            want.fill(&mut expected);
            assert!(got[..n] == expected[..n], "bytes differ between {received} and {}", received + n as u64);
            received += n as u64;
        }
        assert_eq!(stream.read(&mut got).expect("the end"), 0, "bytes after the end");
    });
    let mut stream = from.inside(|| TcpStream::connect((VM_B, 5001))).expect("inside").expect("a connection");
    stream.set_write_timeout(Some(world::PATIENCE)).expect("a time-out");
    let (mut bytes, mut buf, mut sent) = (Bytes(1), vec![0; 1 << 16], 0);
    while sent < total {
        let n = buf.len().min((total - sent) as usize);
        bytes.fill(&mut buf);
        stream.write_all(&buf[..n]).unwrap_or_else(|e| panic!("after {sent} of {total} bytes: {e}"));
        sent += n as u64;
    }
    drop(stream);
    if let Err(panic) = receiver.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Segments and datagrams that the kernel of a workload threw away for a wrong checksum.
pub(crate) fn checksum_errors(place: &Place) -> u64 {
    let text = place.exec(["cat", "/proc/net/snmp", "/proc/net/netstat", "/proc/net/snmp6"]).ok();
    let mut lines = text.lines().peekable();
    let mut errors = 0;
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [name, value] = words[..] {
            if name.ends_with("InCsumErrors") {
                errors += value.parse::<u64>().expect("a number");
            }
        } else if let Some(values) = lines.next_if(|l| l.split(' ').next() == words.first().copied()) {
            for (name, value) in words.iter().zip(values.split_whitespace()) {
                if matches!(*name, "InCsumErrors" | "TcpInCsumErrors") {
                    errors += value.parse::<u64>().expect("a number");
                }
            }
        }
    }
    errors
}

fn gigabyte(with: &TwoHosts) {
    let lab: &Lab = &with.up();
    assert_ping(lab);
    let (a, b) = (lab.workload("a", "vm0"), lab.workload("b", "vm0"));
    send(&a, &b, GIGABYTE);
    assert_eq!((checksum_errors(&a), checksum_errors(&b)), (0, 0), "checksum errors");
}

#[test]
fn underlay_1500_inner_1450() {
    gigabyte(&TwoHosts { inner_mtu: 1450, ..TwoHosts::default() });
}

#[test]
fn jumbo_frames() {
    gigabyte(&TwoHosts { mtu: 9000, inner_mtu: 8950, ..TwoHosts::default() });
}

#[test]
fn offloads_disabled_at_the_receiver() {
    gigabyte(&TwoHosts { inner_mtu: 1450, offloads: (true, false), ..TwoHosts::default() });
}

#[test]
fn offloads_disabled_at_the_sender() {
    gigabyte(&TwoHosts { inner_mtu: 1450, offloads: (false, true), ..TwoHosts::default() });
}

#[test]
fn to_the_kernel() {
    gigabyte(&TwoHosts { inner_mtu: 1450, b: Switch::Kernel, ..TwoHosts::default() });
}

#[test]
fn from_the_kernel() {
    gigabyte(&TwoHosts { inner_mtu: 1450, a: Switch::Kernel, ..TwoHosts::default() });
}
