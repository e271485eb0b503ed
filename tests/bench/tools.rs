//! What runs inside the namespaces? Small UDP tools: echo and request/response latency, one-way delay, sender and counter of
//! packets.

use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, recvmsg, sendmmsg,
    setsockopt, sockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::AsRawFd;

/// UDP payload of a 64-byte frame: 64 − FCS 4 − Ethernet 14 − IPv4 20 − UDP 8.
const SMALL: usize = 18;
const BATCH: usize = 64;

/// Runs `tool ADDRESS SECONDS` and prints its result as one line of numbers.
pub(crate) fn run(argv: &[String]) -> ExitCode {
    let result = match argv.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["echo", addr] => echo(addr),
        ["rr", addr, seconds] => rr(addr, seconds),
        ["sink", addr] => sink(addr),
        ["pace", addr, rate, seconds] => pace(addr, rate, seconds),
        ["ages", addr] => ages(addr),
        ["blast", addr, seconds] => blast(addr, seconds),
        ["flood", device, seconds, attack] => crate::flood::run(device, seconds, attack),
        _ => Err(std::io::Error::other(format!("unknown tool {argv:?}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{argv:?}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn parse(seconds: &str) -> std::io::Result<Duration> {
    seconds.parse().map(Duration::from_secs_f64).map_err(std::io::Error::other)
}

/// Sends every datagram back.
fn echo(addr: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(addr)?;
    let mut buf = [0; 2048];
    loop {
        let (n, from) = socket.recv_from(&mut buf)?;
        socket.send_to(&buf[..n], from)?;
    }
}

/// Measures request/response: prints transactions a second, p50 and p99 in microseconds.
fn rr(addr: &str, seconds: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(addr)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (start, length) = (Instant::now(), parse(seconds)?);
    let mut times = Vec::with_capacity(1 << 20);
    let mut buf = [0; 64];
    while start.elapsed() < length {
        let sent = Instant::now();
        socket.send(&[0; SMALL])?;
        if socket.recv(&mut buf).is_ok() {
            times.push(sent.elapsed().as_secs_f64() * 1e6);
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times.get(((times.len() as f64 - 1.0) * q) as usize).copied().unwrap_or(f64::NAN);
    println!("{} {} {}", times.len() as f64 / start.elapsed().as_secs_f64(), at(0.5), at(0.99));
    Ok(())
}

/// Microseconds since 1970.
fn wall() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64() * 1e6)
}

/// Sends so many small datagrams a second, each with the time it was sent at.
fn pace(addr: &str, rate: &str, seconds: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(addr)?;
    let every = Duration::from_secs_f64(1.0 / rate.parse::<f64>().map_err(std::io::Error::other)?);
    let (start, length) = (Instant::now(), parse(seconds)?);
    let mut next = start;
    while next < start + length {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let mut payload = [0; SMALL];
        payload[..8].copy_from_slice(&wall().to_be_bytes());
        socket.send(&payload)?;
        next += every;
    }
    Ok(())
}

/// How old are datagrams of [`pace`] when the kernel receives them? Prints how many came, the median, and the 90th and
/// the 99th percentile in microseconds, once none has come for two seconds.
fn ages(addr: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    let (mut found, mut buf, mut control) = (Vec::new(), [0; 64], nix::cmsg_space!(nix::sys::time::TimeSpec));
    loop {
        let mut into = [IoSliceMut::new(&mut buf)];
        let got = recvmsg::<()>(socket.as_raw_fd(), &mut into, Some(&mut control), MsgFlags::empty());
        let Ok(got) = got else {
            if found.is_empty() {
                continue;
            }
            break;
        };
        let came = got.cmsgs()?.find_map(|c| match c {
            ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time).as_secs_f64() * 1e6),
            _ => None,
        });
        let sent = buf.first_chunk().map(|bytes| f64::from_be_bytes(*bytes));
        found.extend(came.zip(sent).map(|(came, sent)| came - sent));
    }
    found.sort_by(f64::total_cmp);
    let at = |q: f64| found.get(((found.len() as f64 - 1.0) * q) as usize).copied().unwrap_or(f64::NAN);
    println!("{} {} {} {}", found.len(), at(0.5), at(0.9), at(0.99));
    Ok(())
}

/// Counts datagrams: prints the total when a datagram of another size comes, or after two silent seconds.
fn sink(addr: &str) -> std::io::Result<()> {
    let socket = UdpSocket::bind(addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut bufs = vec![[0u8; 64]; BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let (mut total, mut first, mut last) = (0u64, None, Instant::now());
    loop {
        let mut slices: Vec<_> = bufs.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let got =
            recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), MsgFlags::MSG_WAITFORONE, None);
        match got {
            Ok(messages) => {
                total += messages.count() as u64;
                last = Instant::now();
                first.get_or_insert(last);
            }
            Err(_) if first.is_some() => break,
            Err(_) => continue,
        }
    }
    let seconds = first.map_or(0.0, |f| (last - f).as_secs_f64());
    println!("{} {}", total, total as f64 / seconds);
    Ok(())
}

/// Sends small datagrams as fast as it can for some seconds.
fn blast(addr: &str, seconds: &str) -> std::io::Result<()> {
    let SocketAddr::V4(to) = addr.parse().map_err(std::io::Error::other)? else {
        return Err(std::io::Error::other("an IPv4 address is needed"));
    };
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let payload = [0u8; SMALL];
    let slices = vec![[IoSlice::new(&payload)]; BATCH];
    let to = vec![Some(SockaddrIn::from(to)); BATCH];
    let none: [ControlMessage; 0] = [];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    let (start, length, mut sent) = (Instant::now(), parse(seconds)?, 0u64);
    while start.elapsed() < length {
        if let Ok(done) = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &to, none, MsgFlags::empty()) {
            sent += done.count() as u64;
        }
    }
    println!("{} {}", sent, sent as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
