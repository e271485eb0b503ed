//! Does a datagram of every size arrive whole? 1 to 65,507 bytes, fragments included.

use std::net::UdpSocket;
use std::time::Duration;

use crate::bytes::checksum_errors;
use crate::world::{TwoHosts, VM_B, assert_ping, describe};

const LARGEST: usize = 65_507;

/// A datagram that says its size, so that a cut or mixed one is seen.
fn datagram(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i as u8).wrapping_mul(31).wrapping_add(size as u8)).collect()
}

/// Sends each size, echoes it, and sends again what was lost; a size that is lost five times does not pass.
fn every_size(with: &TwoHosts, sizes: impl Iterator<Item = usize>) {
    let lab = with.up();
    assert_ping(&lab);
    let (a, b) = (lab.workload("a", "vm0"), lab.workload("b", "vm0"));
    let server = b.inside(|| UdpSocket::bind((VM_B, 5002))).expect("inside").expect("the port is free");
    server.set_read_timeout(Some(Duration::from_secs(3))).expect("a time-out");
    let echo = std::thread::spawn(move || {
        let mut buf = vec![0; 1 << 16];
        while let Ok((n, from)) = server.recv_from(&mut buf) {
            if server.send_to(&buf[..n], from).is_err() {
                break;
            }
        }
    });
    let client = a.inside(|| UdpSocket::bind("0.0.0.0:0")).expect("inside").expect("a socket");
    client.connect((VM_B, 5002)).expect("connect");
    client.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    let mut buf = vec![0; 1 << 16];
    let mut lost = 0;
    for size in sizes {
        let sent = datagram(size);
        let mut arrived = false;
        for _ in 0..5 {
            client.send(&sent).unwrap_or_else(|e| panic!("send {size}: {e}"));
            match client.recv(&mut buf) {
                Ok(n) if n == size => {
                    assert!(buf[..n] == sent[..], "a datagram of {size} bytes came back changed");
                    arrived = true;
                    break;
                }
                Ok(_) => {}
                Err(_) => lost += 1,
            }
        }
        assert!(arrived, "no datagram of {size} bytes came through\n{}", describe(&lab));
    }
    drop(client);
    echo.join().expect("the echo ends");
    assert!(lost < 200, "{lost} datagrams were lost on the way");
    assert_eq!((checksum_errors(&a), checksum_errors(&b)), (0, 0), "checksum errors");
}

#[test]
fn every_size_over_ipv4() {
    every_size(&TwoHosts { inner_mtu: 1450, ..TwoHosts::default() }, 1..=LARGEST);
}

#[test]
fn sizes_over_ipv6_and_without_offloads() {
    let with = TwoHosts { ipv6: true, inner_mtu: 1430, offloads: (false, true), ..TwoHosts::default() };
    every_size(&with, (1..=3000).chain((3001..=LARGEST).step_by(61)).chain([LARGEST]));
}
