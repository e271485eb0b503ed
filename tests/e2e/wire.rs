//! How does a test send and see frames as they are? A packet socket on a workload's device.

use std::time::{Duration, Instant};

use weft_host::packet::{PacketOptions, PacketRx, PacketSocket, PacketTx};
use weft_lab::Place;

/// A workload's device, opened for whole frames.
pub(crate) struct Wire {
    socket: PacketSocket,
    rx: PacketRx,
    tx: PacketTx,
}

impl Wire {
    /// Opens `device` at `place`.
    pub(crate) fn open(place: &Place, device: &str) -> Wire {
        let index =
            place.netlink().expect("netlink").index_of(device).unwrap_or_else(|e| panic!("{device}: {e}"));
        let options = PacketOptions {
            vnet_hdr: false,
            promiscuous: true,
            qdisc_bypass: false,
            receive: true,
            recv_buffer: 4 << 20,
            send_buffer: 0,
            fanout: None,
        };
        let socket =
            place.inside(|| PacketSocket::open(index, &options)).expect("inside").expect("a packet socket");
        Wire { socket, rx: PacketRx::new(32), tx: PacketTx::new(32) }
    }

    /// Sends frames, all of them.
    pub(crate) fn send(&mut self, frames: &[Vec<u8>]) {
        let mut rest = frames;
        while !rest.is_empty() {
            match self.socket.send(&mut self.tx, &rest[..rest.len().min(32)]) {
                Ok(n) => rest = &rest[n.max(1)..],
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(e) if e.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => {
                    std::thread::yield_now()
                }
                // A mutated frame may be one that the kernel does not take; it is not the switch's to see.
                Err(_) => rest = &rest[1..],
            }
        }
    }

    /// Every frame that comes within `time`.
    pub(crate) fn receive(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let (end, mut got) = (Instant::now() + time, Vec::new());
        let mut bufs = vec![vec![0u8; 2048]; 32];
        while Instant::now() < end {
            match self.socket.recv(&mut self.rx, &mut bufs) {
                Ok(n) if n > 0 => {
                    for (i, buf) in bufs.iter().enumerate().take(n) {
                        got.push(buf[..self.rx.info(i).len.min(buf.len())].to_vec());
                    }
                }
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        got
    }

    /// Forgets what has come so far.
    pub(crate) fn flush(&mut self) {
        self.receive(Duration::from_millis(20));
    }
}
