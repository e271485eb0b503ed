//! Does an address answer, without a ping program?

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use weft_host::inet::TxInfo;
use weft_host::poll::wait_readable;
use weft_host::raw::{RawOptions, RawSocket};
use weft_host::udp::{DatagramRx, DatagramTx};

/// A lost request is repeated after this long.
const INTERVAL: Duration = Duration::from_millis(50);

/// Sends echo requests from the namespace it was opened in (RFC 792, RFC 4443 §4.1).
pub(crate) struct Pinger {
    socket: RawSocket,
    to: IpAddr,
    id: u16,
}

impl Pinger {
    /// A socket in this thread's network namespace.
    pub(crate) fn open(to: IpAddr) -> weft_host::Result<Self> {
        use std::sync::atomic::{AtomicU16, Ordering};
        static NEXT: AtomicU16 = AtomicU16::new(1);
        let (protocol, any): (u8, IpAddr) =
            if to.is_ipv4() { (1, [0u8; 4].into()) } else { (58, [0u8; 16].into()) };
        let options = RawOptions { recv_buffer: 0, send_buffer: 0, ..RawOptions::default() };
        let id = (std::process::id() as u16).wrapping_mul(31) ^ NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { socket: RawSocket::open(protocol, any, &options)?, to, id })
    }

    fn request(&self, seq: u16) -> Vec<u8> {
        let mut packet = vec![if self.to.is_ipv4() { 8 } else { 128 }, 0, 0, 0];
        packet.extend(self.id.to_be_bytes());
        packet.extend(seq.to_be_bytes());
        packet.extend(b"weft lab reaches");
        if self.to.is_ipv4() {
            // The kernel sums ICMPv6 by itself.
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// Repeats requests until one is answered; the round-trip time of that one, or `None` after `patience`.
    pub(crate) fn until(&self, patience: Duration) -> Option<Duration> {
        let end = Instant::now() + patience;
        let mut tx = DatagramTx::new(1);
        for seq in 0u16.. {
            let sent = Instant::now();
            // No route yet is like no answer yet.
            let _ =
                self.socket.send(&mut tx, &[self.request(seq)], &[TxInfo::to(SocketAddr::new(self.to, 0))]);
            if self.answered(seq, sent + INTERVAL) {
                return Some(sent.elapsed());
            }
            if Instant::now() >= end {
                break;
            }
        }
        None
    }

    fn answered(&self, seq: u16, until: Instant) -> bool {
        let mut rx = DatagramRx::new(1);
        let mut bufs = [[0u8; 2048]];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let _ = wait_readable(&self.socket, left.as_millis().max(1) as u32);
            while let Ok(1) = self.socket.recv(&mut rx, &mut bufs) {
                let info = self.socket.info(&rx, 0, &bufs[0]);
                let reply = if self.to.is_ipv4() { 0 } else { 129 };
                if let [kind, _, _, _, i0, i1, s0, s1, ..] = bufs[0][info.offset..info.len]
                    && kind == reply
                    && [i0, i1] == self.id.to_be_bytes()
                    && [s0, s1] == seq.to_be_bytes()
                    && info.src.ip() == self.to
                {
                    return true;
                }
            }
        }
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
