//! Packets in, states and translations out.

use std::net::{IpAddr, Ipv4Addr};

use weft_conntrack::{Conntrack, CtOutcome, CtPacket, Edits, Filter, Limits, Reassembled, state};
use weft_flow::{CtKey, CtSpec, DropReason, Layout, Nat, NatSide, PacketKey, SetField, extract_packet};
use weft_wire::Mac;
use weft_wire::build::Frame;
use weft_wire::icmpv4::Icmpv4Message;
use weft_wire::tcp::TcpFlags;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [192, 0, 2, 1];
const PUBLIC: [u8; 4] = [198, 51, 100, 7];
const SYN: u16 = TcpFlags::SYN;
const ACK: u16 = TcpFlags::ACK;
const FIN: u16 = TcpFlags::FIN;
const RST: u16 = TcpFlags::RST;

fn eth() -> Frame {
    Frame::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]))
}

fn parsed(frame: &[u8]) -> (PacketKey, Layout) {
    let mut key = PacketKey::default();
    let layout = extract_packet(frame, 1, &mut key).unwrap();
    (key, layout)
}

/// Tracks a frame; the key's section and the edits.
fn track(ct: &Conntrack, frame: &[u8], spec: &CtSpec, now: u64) -> (CtKey, CtOutcome) {
    track_again(ct, frame, spec, CtKey::default(), now)
}

fn track_again(ct: &Conntrack, frame: &[u8], spec: &CtSpec, mut key: CtKey, now: u64) -> (CtKey, CtOutcome) {
    let (packet, layout) = parsed(frame);
    let packet = CtPacket { frame, layout: &layout, key: &packet, checksums_good: false };
    let outcome = ct.execute(&packet, &mut key, spec, now);
    (key, outcome)
}

fn edits(outcome: CtOutcome) -> Edits {
    outcome.unwrap_or_else(|reason| panic!("dropped: {reason}"))
}

fn commit(zone: u16) -> CtSpec {
    CtSpec { zone, commit: true, ..CtSpec::default() }
}

fn look(zone: u16) -> CtSpec {
    CtSpec { zone, ..CtSpec::default() }
}

fn tracker() -> Conntrack {
    Conntrack::new(42, Limits::default())
}

#[test]
fn a_tcp_connection_from_beginning_to_end() {
    // Whether by the client, flags, sequence number, acknowledgment, payload, state expected.
    let (new, est, rpl, inv) = (state::NEW, state::EST, state::RPL, state::INV);
    let steps: [(bool, u16, u32, u32, usize, u16); 14] = [
        (true, SYN, 1000, 0, 0, new),
        (false, SYN | ACK, 5000, 1001, 0, est | rpl),
        (true, ACK, 1001, 5001, 0, est),
        (true, ACK, 1001, 5001, 100, est),
        (false, ACK, 5001, 1101, 500, est | rpl),
        // Far outside of the window, either way.
        (true, ACK, 900_000, 5501, 100, inv),
        (true, ACK, 1101, 4_000_000, 100, inv),
        // Sent again.
        (true, ACK, 1001, 5501, 100, est),
        (true, RST, 77_777, 0, 0, inv),
        (true, FIN | ACK, 1101, 5501, 0, est),
        (false, ACK, 5501, 1102, 0, est | rpl),
        (false, FIN | ACK, 5501, 1102, 0, est | rpl),
        (true, ACK, 1102, 5502, 0, est),
        // The same ports again.
        (true, SYN, 9000, 0, 0, new),
    ];
    let ct = tracker();
    for (i, (client, flags, seq, ack, len, expected)) in steps.into_iter().enumerate() {
        let (src, dst, sport, dport) = if client { (A, B, 4000, 80) } else { (B, A, 80, 4000) };
        let frame = eth().ipv4(src, dst).tcp(sport, dport).flags(flags).seq(seq, ack).window(1000);
        let frame = frame.payload(vec![0; len]).build();
        let (key, outcome) = track(&ct, &frame, &commit(1), 10 * i as u64);
        assert_eq!(key.state, expected | state::TRK, "step {i}");
        assert!(edits(outcome).is_empty());
        let line = std::cell::OnceCell::new();
        ct.each(&Filter::default(), 10 * i as u64, |e| line.set(e.to_string()).is_ok());
        let name = match i {
            0 | 13 => "SYN_SENT",
            1..=8 => "ESTABLISHED",
            9 => "CLOSING",
            _ => "TIME_WAIT",
        };
        let line = line.into_inner().unwrap();
        assert!(line.ends_with(&format!(",zone=1,protoinfo=(state={name})")), "step {i}: {line}");
    }
    assert_eq!(ct.count(), 1);
}

#[test]
fn a_syn_is_sent_again_and_both_ends_may_begin() {
    let send = |ct: &Conntrack, client: bool, flags, seq, ack, now| {
        let (src, dst, sport, dport) = if client { (A, B, 4000, 80) } else { (B, A, 80, 4000) };
        let frame = eth().ipv4(src, dst).tcp(sport, dport).flags(flags).seq(seq, ack).window(1000).build();
        track(ct, &frame, &commit(1), now).0.state & !state::TRK
    };
    let ct = tracker();
    assert_eq!(send(&ct, true, SYN, 1000, 0, 0), state::NEW);
    assert_eq!(send(&ct, true, SYN, 1000, 0, 1), state::NEW, "nobody answered");
    assert_eq!(send(&ct, true, SYN, 70_000_000, 0, 2), state::NEW, "with another initial sequence number");
    assert_eq!(send(&ct, false, SYN | ACK, 9, 70_000_001, 3), state::EST | state::RPL);
    assert_eq!(send(&ct, true, ACK, 70_000_001, 10, 4), state::EST);
    // RFC 9293 §3.5, figure 8: simultaneous open.
    let ct = tracker();
    assert_eq!(send(&ct, true, SYN, 100, 0, 0), state::NEW);
    assert_eq!(send(&ct, false, SYN, 300, 0, 1), state::EST | state::RPL);
    assert_eq!(send(&ct, true, SYN | ACK, 100, 301, 2), state::EST);
    assert_eq!(send(&ct, false, SYN | ACK, 300, 101, 3), state::EST | state::RPL);
    assert_eq!(send(&ct, true, ACK, 101, 301, 4), state::EST);
    assert_eq!(ct.count(), 1);
}

#[test]
fn an_answer_alone_begins_nothing() {
    let ct = tracker();
    for flags in [SYN | ACK, RST, RST | ACK, FIN, 0, SYN | FIN] {
        let frame = eth().ipv4(A, B).tcp(1, 2).flags(flags).build();
        assert_eq!(track(&ct, &frame, &commit(1), 0).0.state, state::TRK | state::INV, "{flags:#x}");
    }
    let reply = eth().ipv4(A, B).icmpv4(Icmpv4Message::EchoReply { id: 1, seq: 1 }).build();
    assert_eq!(track(&ct, &reply, &commit(1), 0).0.state, state::TRK | state::INV);
    assert_eq!(ct.count(), 0);
}

#[test]
fn hosts_may_ask_each_other_under_one_identifier() {
    let ct = tracker();
    let ask = |src, dst| eth().ipv4(src, dst).icmpv4(Icmpv4Message::EchoRequest { id: 7, seq: 1 }).build();
    let answer = |src, dst| eth().ipv4(src, dst).icmpv4(Icmpv4Message::EchoReply { id: 7, seq: 1 }).build();
    assert_eq!(track(&ct, &ask(A, B), &commit(1), 0).0.state, state::TRK | state::NEW);
    assert_eq!(track(&ct, &ask(B, A), &look(1), 0).0.state, state::TRK | state::NEW, "no answer");
    assert_eq!(track(&ct, &ask(B, A), &commit(1), 0).0.state, state::TRK | state::NEW);
    for (src, dst) in [(A, B), (B, A)] {
        let key = track(&ct, &answer(src, dst), &look(1), 1).0;
        assert_eq!(key.state, state::TRK | state::EST | state::RPL);
        assert_eq!((key.ipv4_src, key.tp_src), (u32::from_be_bytes(dst), 8));
    }
    assert_eq!(ct.count(), 2);
}

#[test]
fn a_wrong_checksum_is_invalid() {
    let ct = tracker();
    let mut frame = eth().ipv4(A, B).udp(1, 2).payload([1, 2, 3]).build();
    *frame.last_mut().unwrap() ^= 1;
    assert_eq!(track(&ct, &frame, &commit(1), 0).0.state, state::TRK | state::INV);
    let mut frame = eth().ipv4(A, B).udp(1, 2).payload([1, 2, 3]).build();
    // Of the IP header.
    frame[24] ^= 1;
    assert_eq!(track(&ct, &frame, &commit(1), 0).0.state, state::TRK | state::INV);
}

#[test]
fn udp_marks_zones_and_time() {
    let ct = tracker();
    let (question, answer) = (eth().ipv4(A, B).udp(1, 2).build(), eth().ipv4(B, A).udp(2, 1).build());
    let spec = CtSpec { mark: Some((5, u32::MAX)), label: Some((7, u128::MAX)), ..commit(3) };
    assert_eq!(track(&ct, &question, &look(3), 0).0.state, state::TRK | state::NEW, "not committed");
    assert_eq!(ct.count(), 0);
    let key = track(&ct, &question, &spec, 0).0;
    assert_eq!((key.mark, u128::from_be_bytes(key.label), key.tp_dst, key.ip_proto), (5, 7, 2, 17));
    assert_eq!(track(&ct, &question, &look(3), 1).0.state, state::TRK | state::NEW, "not answered");
    let key = track(&ct, &answer, &look(3), 1).0;
    assert_eq!(key.state, state::TRK | state::EST | state::RPL);
    assert_eq!((key.mark, key.ipv4_src), (5, u32::from_be_bytes(A)));
    assert_eq!(track(&ct, &answer, &look(4), 1).0.state, state::TRK | state::NEW, "another zone");
    // Thirty seconds after an answer it is over.
    assert_eq!(track(&ct, &question, &look(3), 29_000).0.state, state::TRK | state::EST);
    assert_eq!(track(&ct, &question, &look(3), 60_000).0.state, state::TRK | state::NEW);
    assert_eq!(ct.count(), 0);
}

#[test]
fn limits_sweeping_and_flushing() {
    let ct = tracker();
    ct.set_limits(|l| {
        l.connections = 10;
        l.zones.insert(1, 3);
    });
    let begin =
        |zone: u16, port: u16, now| track(&ct, &eth().ipv4(A, B).udp(port, 2).build(), &commit(zone), now).1;
    for port in 1..=3 {
        assert!(edits(begin(1, port, 0)).is_empty());
    }
    assert_eq!(begin(1, 4, 0), Err(DropReason::CtZoneFull));
    let answer = |zone: u16, port: u16| {
        let (key, _) = track(&ct, &eth().ipv4(B, A).udp(2, port).build(), &look(zone), 0);
        assert_eq!(key.state, state::TRK | state::EST | state::RPL, "{port}");
    };
    (1..=3).for_each(|port| answer(1, port));
    (1..=7).for_each(|port| drop(edits(begin(2, port, 0))));
    (1..=6).for_each(|port| answer(2, port));
    // One was not answered: it makes room, and only that.
    assert!(edits(begin(2, 9, 0)).is_empty());
    answer(2, 9);
    assert_eq!(begin(2, 10, 0), Err(DropReason::CtTableFull));
    assert_eq!(ct.zones().into_iter().collect::<Vec<_>>(), [(1, 3), (2, 7)]);
    assert_eq!(ct.flush(&Filter { zone: Some(2), orig_ports: (Some(1), None), ..Filter::default() }), 1);
    assert_eq!(ct.flush(&Filter { zone: Some(2), ..Filter::default() }), 6);
    let mut lines = Vec::new();
    ct.each(&Filter::default(), 0, |e| {
        lines.push(e.to_string());
        true
    });
    lines.sort();
    let first = "udp,orig=(src=10.0.0.1,dst=192.0.2.1,sport=1,dport=2),reply=(src=192.0.2.1,dst=10.0.0.1,sport=2,dport=1),zone=1";
    assert_eq!((lines.len(), lines[0].as_str()), (3, first));
    while ct.sweep(100_000, 1000) > 0 {}
    assert_eq!((ct.count(), ct.zone_count(1)), (0, 0));
}

#[test]
fn what_is_over_counts_no_more_though_nobody_swept() {
    let ct = tracker();
    ct.set_limits(|l| {
        l.connections = 8;
        l.zones.insert(1, 3);
    });
    let public = IpAddr::from(Ipv4Addr::from(PUBLIC));
    let one_port = CtSpec {
        nat: Some(Nat {
            side: Some(NatSide::Src),
            addrs: Some((public, public)),
            ports: Some((7000, 7002)),
            ..Nat::default()
        }),
        ..commit(1)
    };
    let begin = |port: u16, spec: &CtSpec, now| {
        track(&ct, &eth().ipv4(A, B).udp(port, 2).build(), spec, now).1.map(|edits| edits.fields.len())
    };
    for now in [0, 61_000, 300_000] {
        for port in 1..=3 {
            let own = u16::try_from(now / 1000).unwrap() + port;
            assert_eq!(begin(own, &one_port, now), Ok(2), "port {own} at {now}");
        }
        assert_eq!(begin(999, &one_port, now), Err(DropReason::CtZoneFull));
    }
    // Ports that connections have that are over are free.
    ct.set_limits(|l| l.zones.clear());
    for port in 1..=3 {
        assert_eq!(begin(400 + port, &one_port, 400_000), Ok(2));
    }
    assert_eq!(begin(404, &one_port, 400_000), Err(DropReason::NatExhausted));
    // All eight are answered, and over: room for as many others.
    for (round, now) in [(1, 500_000), (2, 600_000)] {
        for port in 1..=8 {
            assert_eq!(begin(round * 100 + port, &commit(2), now), Ok(0), "{port} at {now}");
            let answer = eth().ipv4(B, A).udp(2, round * 100 + port).build();
            assert_eq!(track(&ct, &answer, &look(2), now).0.state & state::EST, state::EST);
        }
        assert_eq!(begin(99, &commit(2), now), Err(DropReason::CtTableFull));
        assert_eq!(ct.count(), 8);
    }
}

fn snat(zone: u16) -> CtSpec {
    let addr: IpAddr = Ipv4Addr::from(PUBLIC).into();
    CtSpec {
        nat: Some(Nat { side: Some(NatSide::Src), addrs: Some((addr, addr)), ..Nat::default() }),
        ..commit(zone)
    }
}

fn nat(zone: u16) -> CtSpec {
    CtSpec { nat: Some(Nat::default()), ..look(zone) }
}

#[test]
fn a_source_is_translated_and_answers_are_translated_back() {
    let ct = tracker();
    let question = eth().ipv4(A, B).udp(1000, 53).build();
    let (key, outcome) = track(&ct, &question, &snat(1), 0);
    assert_eq!(key.state, state::TRK | state::NEW | state::SNAT);
    assert_eq!(edits(outcome).fields[..], [SetField::Ipv4Src(u32::from_be_bytes(PUBLIC))]);
    assert_eq!(key.ipv4_src, u32::from_be_bytes(A), "the original tuple");
    // Once more in the same zone, already translated.
    let translated = eth().ipv4(PUBLIC, B).udp(1000, 53).build();
    let (again, outcome) = track_again(&ct, &translated, &nat(1), key, 1);
    assert_eq!(again.state & state::SNAT, state::SNAT);
    assert!(edits(outcome).is_empty());
    // Another host with the same port gets another.
    let other = eth().ipv4([10, 0, 0, 2], B).udp(1000, 53).build();
    let other = edits(track(&ct, &other, &snat(1), 1).1);
    assert!(
        matches!(other.fields[..], [SetField::Ipv4Src(_), SetField::TpSrc(port)] if port != 1000),
        "{other:?}"
    );
    let answer = eth().ipv4(B, PUBLIC).udp(53, 1000).build();
    let (key, outcome) = track(&ct, &answer, &nat(1), 2);
    assert_eq!(key.state, state::TRK | state::EST | state::RPL | state::SNAT);
    assert_eq!(edits(outcome).fields[..], [SetField::Ipv4Dst(u32::from_be_bytes(A))]);
    // Nobody may take the translated name and the answers to it.
    let thief = eth().ipv4(PUBLIC, B).udp(1000, 53).build();
    assert_eq!(track(&ct, &thief, &commit(1), 3).1, Err(DropReason::NatExhausted));
    // A stranger's packet to that port is none of it.
    let stranger = eth().ipv4([203, 0, 113, 9], PUBLIC).udp(53, 1000).build();
    assert_eq!(track(&ct, &stranger, &nat(1), 3).0.state, state::TRK | state::NEW);
    assert_eq!(ct.flush(&Filter::default()), 2);
    assert_eq!(track(&ct, &answer, &nat(1), 4).0.state, state::TRK | state::NEW, "aliases went too");
}

#[test]
fn every_port_of_an_address_is_given_out_and_given_again() {
    let ct = tracker();
    let ask = |n: u32, now| {
        let host = [10, 1 + (n >> 16) as u8, (n >> 8) as u8, n as u8];
        let frame = eth().ipv4(host, B).udp(5000, 53).build();
        track(&ct, &frame, &snat(1), now).1.map(|_| ())
    };
    let mut spec_used = 0;
    let before = std::time::Instant::now();
    for n in 0..70_000 {
        match ask(n, 0) {
            Ok(()) => spec_used += 1,
            Err(reason) => assert_eq!(reason, DropReason::NatExhausted),
        }
    }
    // All ports that need no privilege; the first connection keeps its own, which is among them.
    assert_eq!(spec_used, 65_536 - 1024);
    assert!(before.elapsed().as_secs() < 60, "it takes {:?}", before.elapsed());
    // No two have the same.
    let mut replies = std::collections::HashSet::new();
    ct.each(&Filter::default(), 0, |e| replies.insert((e.reply.dst, e.reply.dport)));
    assert_eq!(replies.len(), spec_used);
    // One that goes makes room for one.
    assert_eq!(
        ct.flush(&Filter {
            zone: Some(1),
            orig: (Some(Ipv4Addr::new(10, 1, 3, 7).into()), None),
            ..Filter::default()
        }),
        1
    );
    assert_eq!(ask(80_000, 1), Ok(()));
    assert_eq!(ask(80_001, 1), Err(DropReason::NatExhausted));
}

#[test]
fn an_error_is_related_and_its_quotation_translated() {
    let ct = tracker();
    let question = eth().ipv4(A, B).udp(1000, 9).payload([7; 20]).build();
    drop(edits(track(&ct, &question, &snat(1), 0).1));
    let sent = eth().ipv4(PUBLIC, B).udp(1000, 9).payload([7; 20]).build();
    let error =
        eth().ipv4(B, PUBLIC).icmpv4(Icmpv4Message::Unreachable { code: 3 }).payload(&sent[14..]).build();
    let (key, outcome) = track(&ct, &error, &nat(1), 1);
    assert_eq!(key.state, state::TRK | state::REL | state::RPL | state::SNAT);
    let edits = edits(outcome);
    assert_eq!(edits.fields[..], [SetField::Ipv4Dst(u32::from_be_bytes(A))]);
    let mut frame = error.clone();
    for patch in &edits.patches {
        frame[patch.at..patch.at + patch.bytes.len()].copy_from_slice(&patch.bytes);
    }
    // Outer Ethernet, IP and ICMP headers: 14 + 20 + 8.
    assert_eq!(
        frame[42..42 + 28],
        question[14..42],
        "the quotation is what the host sent, checksums included"
    );
    let broken = &mut error.clone()[..];
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(track(&ct, broken, &nat(1), 1).0.state, state::TRK | state::INV, "its checksum is wrong");
    let astray = eth().ipv4(B, [198, 51, 100, 8]).icmpv4(Icmpv4Message::Unreachable { code: 3 });
    let astray = astray.payload(&sent[14..]).build();
    assert_eq!(track(&ct, &astray, &nat(1), 1).0.state, state::TRK | state::INV, "to somebody else");
    let strange = eth().ipv4(B, PUBLIC).icmpv4(Icmpv4Message::Unreachable { code: 3 });
    let strange = strange.payload(&eth().ipv4(PUBLIC, B).udp(1, 2).build()[14..]).build();
    assert_eq!(track(&ct, &strange, &nat(1), 1).0.state, state::TRK | state::INV);
}

#[test]
fn ftp_announces_a_connection_through_translation() {
    let ct = tracker();
    let spec = CtSpec { alg: 21, ..snat(1) };
    let send = |flags, seq, ack, text: &str| {
        eth().ipv4(A, B).tcp(4000, 21).flags(flags).seq(seq, ack).payload(text).build()
    };
    drop(edits(track(&ct, &send(SYN, 100, 0, ""), &spec, 0).1));
    let answer = eth().ipv4(B, PUBLIC).tcp(21, 4000).flags(SYN | ACK).seq(500, 101).build();
    assert_eq!(track(&ct, &answer, &nat(1), 1).0.state & state::EST, state::EST);
    drop(edits(track(&ct, &send(ACK, 101, 501, ""), &nat(1), 2).1));
    let command = send(ACK, 101, 501, "PORT 10,0,0,1,8,0\r\n");
    let changed = edits(track(&ct, &command, &nat(1), 3).1);
    let splice = changed.splice.expect("the command is changed");
    assert_eq!(splice.insert, b"198,51,100,7,8,0");
    assert_eq!(&command[splice.at..splice.at + splice.remove], b"10,0,0,1,8,0");
    // What the client sends next counts from four bytes further on, and the server's acknowledgment from four less.
    let next = edits(track(&ct, &send(ACK, 120, 501, "LIST\r\n"), &nat(1), 4).1);
    assert_eq!(next.patches[0].bytes[..], 124u32.to_be_bytes());
    let ack = eth().ipv4(B, PUBLIC).tcp(21, 4000).flags(ACK).seq(501, 124).build();
    assert_eq!(edits(track(&ct, &ack, &nat(1), 5).1).patches[0].bytes[..], 120u32.to_be_bytes());
    // What the server has received out of order is acknowledged in the same way (two NOPs, then one block).
    let sack = [1, 1, 5, 10, 0, 0, 0, 130, 0, 0, 0, 140];
    let ack = eth().ipv4(B, PUBLIC).tcp(21, 4000).flags(ACK).seq(501, 124).tcp_options(&sack).build();
    let patches = edits(track(&ct, &ack, &nat(1), 5).1).patches;
    let written: Vec<_> = patches.iter().map(|p| (p.at - 34, p.bytes.to_vec())).collect();
    let bytes = |n: u32| n.to_be_bytes().to_vec();
    assert_eq!(written, [(8, bytes(120)), (24, bytes(126)), (28, bytes(136))]);
    // The data connection is expected, and ends at the client.
    let data = eth().ipv4(B, PUBLIC).tcp(20, 2048).flags(SYN).build();
    let spec = CtSpec { nat: Some(Nat::default()), ..commit(1) };
    let (key, outcome) = track(&ct, &data, &spec, 6);
    assert_eq!(key.state, state::TRK | state::NEW | state::REL | state::DNAT);
    assert_eq!(edits(outcome).fields[..], [SetField::Ipv4Dst(u32::from_be_bytes(A))]);
    let stranger = eth().ipv4([203, 0, 113, 9], PUBLIC).tcp(20, 2049).flags(SYN).build();
    assert_eq!(track(&ct, &stranger, &look(1), 7).0.state, state::TRK | state::NEW);
    // Nobody announces somebody else.
    let bounce = edits(track(&ct, &send(ACK, 126, 501, "PORT 10,0,0,9,8,0\r\n"), &nat(1), 8).1);
    assert!(bounce.splice.is_none());
}

#[test]
fn fragments_become_a_datagram() {
    let ct = tracker();
    let whole = eth().ipv4(A, B).udp(1000, 53).payload((0..200u8).collect::<Vec<_>>()).build();
    let parts = weft_wire::fragment::Fragmenter::new(
        &{
            let mut frame = whole.clone();
            // May be fragmented.
            frame[14 + 6] = 0;
            weft_wire::ipv4::fill_checksum(&mut frame[14..34]).unwrap();
            frame
        },
        100,
        0,
    )
    .unwrap()
    .count();
    assert!(parts > 2);
    let mut source = whole.clone();
    source[14 + 6] = 0;
    weft_wire::ipv4::fill_checksum(&mut source[14..34]).unwrap();
    let cut = weft_wire::fragment::Fragmenter::new(&source, 100, 0).unwrap();
    let mut frames: Vec<Vec<u8>> = (0..parts)
        .map(|i| {
            let mut out = vec![0; 200];
            let len = cut.write(i, &mut out).unwrap();
            out.truncate(len);
            out
        })
        .collect();
    frames.reverse();
    let add = |frame: &[u8], now| {
        let (key, layout) = parsed(frame);
        ct.reassemble(&CtPacket { frame, layout: &layout, key: &key, checksums_good: false }, 1, now)
    };
    for (i, frame) in frames.iter().enumerate() {
        let result = add(frame, 0);
        if i + 1 < parts {
            assert_eq!(result, Reassembled::Held);
        } else {
            assert_eq!(result, Reassembled::Whole { frame: source.clone(), mru: 96 + 4 });
        }
    }
    // The same one twice harms nobody; another one in its place does, and takes everything with it.
    assert_eq!(add(&frames[0], 0), Reassembled::Held);
    assert_eq!(add(&frames[0], 0), Reassembled::Held);
    let mut other = frames[0].clone();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(add(&other, 0), Reassembled::Dropped(DropReason::CtFragment));
    // What overlaps leaves nothing behind that counts: the next datagrams still come together.
    for _ in 0..100 {
        assert_eq!(add(&frames[0], 0), Reassembled::Held);
        assert_eq!(add(&other, 0), Reassembled::Dropped(DropReason::CtFragment));
    }
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(add(frame, 0) == Reassembled::Held, i + 1 < parts);
    }
}
