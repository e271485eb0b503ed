//! Which column of `CT_Timeout_Policy` counts for a TCP connection?

use std::cell::Cell;

use weft_conntrack::{Conntrack, CtPacket, Filter, Limits, TimeoutPolicy, state};
use weft_flow::{CtKey, CtSpec, PacketKey, extract_packet};
use weft_wire::Mac;
use weft_wire::build::Frame;
use weft_wire::tcp::TcpFlags;

const SYN: u16 = TcpFlags::SYN;
const ACK: u16 = TcpFlags::ACK;
const FIN: u16 = TcpFlags::FIN;
const RST: u16 = TcpFlags::RST;

/// A segment, by the server or not: flags, sequence number, acknowledgment, bytes; and the column that counts after it.
type Step = (bool, u16, u32, u32, usize, &'static str);

/// Each column has seconds of its own.
fn policy() -> TimeoutPolicy {
    let mut policy = TimeoutPolicy::default();
    for (i, name) in TimeoutPolicy::names().iter().enumerate() {
        policy.set(name, 1000 + 10 * i as u32).unwrap();
    }
    // Longer than others, so that a limit on these can be seen.
    policy.set("tcp_established", 5000).unwrap();
    policy
}

fn play(steps: &[Step]) {
    let policy = policy();
    let mut limits = Limits::default();
    limits.policies.insert(5, policy);
    let ct = Conntrack::new(42, limits);
    let spec = CtSpec { zone: 5, commit: true, ..CtSpec::default() };
    for (i, (server, flags, seq, ack, len, column)) in steps.iter().enumerate() {
        let eth = Frame::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let segment = if *server {
            eth.ipv4([192, 0, 2, 1], [10, 0, 0, 1]).tcp(80, 4000)
        } else {
            eth.ipv4([10, 0, 0, 1], [192, 0, 2, 1]).tcp(4000, 80)
        };
        let frame = segment.flags(*flags).seq(*seq, *ack).window(1000).payload(vec![0; *len]).build();
        let (mut key, mut packet) = (CtKey::default(), PacketKey::default());
        let layout = extract_packet(&frame, 1, &mut packet).unwrap();
        let packet = CtPacket { frame: &frame, layout: &layout, key: &packet, checksums_good: false };
        ct.execute(&packet, &mut key, &spec, 0).unwrap();
        assert_eq!(key.state & state::INV, 0, "step {i}");
        let left = Cell::new(0);
        ct.each(&Filter::default(), 0, |e| {
            left.set(e.timeout);
            true
        });
        assert_eq!(Some(left.get()), policy.get(column).map(u64::from), "step {i}: {column}");
    }
}

#[test]
fn from_the_first_syn_to_the_last_ack() {
    play(&[
        (false, SYN, 100, 0, 0, "tcp_syn_sent"),
        (true, SYN | ACK, 500, 101, 0, "tcp_syn_recv"),
        (false, ACK, 101, 501, 0, "tcp_established"),
        (false, FIN | ACK, 101, 501, 0, "tcp_fin_wait"),
        (true, ACK, 501, 102, 0, "tcp_close_wait"),
        (true, FIN | ACK, 501, 102, 0, "tcp_last_ack"),
        (false, ACK, 102, 502, 0, "tcp_time_wait"),
    ]);
    play(&[
        (false, SYN, 100, 0, 0, "tcp_syn_sent"),
        (true, SYN | ACK, 500, 101, 0, "tcp_syn_recv"),
        (true, RST | ACK, 501, 101, 0, "tcp_close"),
    ]);
}

#[test]
fn both_ends_begin() {
    play(&[
        (false, SYN, 100, 0, 0, "tcp_syn_sent"),
        (true, SYN, 500, 0, 0, "tcp_syn_sent2"),
        (false, SYN | ACK, 100, 501, 0, "tcp_syn_recv"),
        (true, SYN | ACK, 500, 101, 0, "tcp_established"),
    ]);
}

#[test]
fn picked_up_in_its_midst() {
    play(&[
        (false, ACK, 100, 500, 10, "tcp_unack"),
        (false, ACK, 110, 500, 10, "tcp_unack"),
        (true, ACK, 500, 120, 10, "tcp_syn_recv"),
        (false, ACK, 120, 510, 0, "tcp_established"),
    ]);
}

#[test]
fn one_end_sends_in_vain() {
    let open = [
        (false, SYN, 100, 0, 0, "tcp_syn_sent"),
        (true, SYN | ACK, 500, 101, 0, "tcp_syn_recv"),
        (false, ACK, 101, 501, 0, "tcp_established"),
    ];
    let again = (false, ACK, 101, 501, 10, "tcp_established");
    let mut steps = open.to_vec();
    // Sent once, and three times more.
    steps.extend([again, again, again]);
    steps.push((false, ACK, 101, 501, 10, "tcp_retransmit"));
    steps.push((false, ACK, 101, 501, 10, "tcp_retransmit"));
    // The other end is there after all.
    steps.push((true, ACK, 501, 111, 0, "tcp_established"));
    steps.extend([(false, ACK, 101, 501, 10, "tcp_established"); 2]);
    // Something new.
    steps.push((false, ACK, 111, 501, 10, "tcp_established"));
    steps.push((false, ACK, 111, 501, 10, "tcp_established"));
    play(&steps);
}
