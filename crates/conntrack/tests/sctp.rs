//! SCTP associations in, states and translations out.

use std::net::{IpAddr, Ipv4Addr};

use weft_conntrack::{Conntrack, CtPacket, Edits, Filter, Limits, state};
use weft_flow::{CtKey, CtSpec, Nat, NatSide, PacketKey, SetField, extract_packet};
use weft_wire::Mac;
use weft_wire::build::Frame;
use weft_wire::icmpv4::Icmpv4Message;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [192, 0, 2, 1];
const PUBLIC: [u8; 4] = [198, 51, 100, 7];
const INV: u16 = state::TRK | state::INV;

/// Chunks: type, flags, length, initiate tag where there is one.
const INIT: &[u8] = &[1, 0, 0, 20, 0, 0, 0, 100, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9];
const INIT_ACK: &[u8] = &[2, 0, 0, 20, 0, 0, 0, 200, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 9];
const COOKIE_ECHO: &[u8] = &[10, 0, 0, 8, 1, 2, 3, 4];
const COOKIE_ACK: &[u8] = &[11, 0, 0, 4];
const DATA: &[u8] = &[0, 3, 0, 17, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0];
const ABORT: &[u8] = &[6, 0, 0, 4];

fn frame(src: [u8; 4], dst: [u8; 4], ports: (u16, u16), tag: u32, chunks: &[u8]) -> Vec<u8> {
    let eth = Frame::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    eth.ipv4(src, dst).sctp_tagged(ports.0, ports.1, tag).payload(chunks).build()
}

fn track(ct: &Conntrack, frame: &[u8], spec: &CtSpec, now: u64) -> (u16, Edits) {
    let (mut key, mut packet) = (CtKey::default(), PacketKey::default());
    let layout = extract_packet(frame, 1, &mut packet).unwrap();
    let packet = CtPacket { frame, layout: &layout, key: &packet, checksums_good: false };
    let outcome = ct.execute(&packet, &mut key, spec, now);
    (key.state, outcome.unwrap_or_else(|reason| panic!("dropped: {reason}")))
}

fn lines(ct: &Conntrack, now: u64) -> Vec<String> {
    let lines = std::cell::RefCell::new(Vec::new());
    ct.each(&Filter::default(), now, |e| {
        lines.borrow_mut().push(format!("{}", e.detailed(false, true)));
        true
    });
    lines.into_inner()
}

/// Whether by the client, tag, chunks, state expected, state and lifetime of the association after it.
type Step = (bool, u32, &'static [u8], u16, &'static str, u64);

#[test]
fn an_association_is_new_until_it_is_answered() {
    let ct = Conntrack::new(42, Limits::default());
    let spec = CtSpec { zone: 3, commit: true, ..CtSpec::default() };
    let (new, est, rpl) =
        (state::TRK | state::NEW, state::TRK | state::EST, state::TRK | state::EST | state::RPL);
    let steps: [Step; 9] = [
        (true, 0, INIT, new, "COOKIE_WAIT", 3),
        (true, 0, INIT, new, "COOKIE_WAIT", 3),
        (false, 100, INIT_ACK, rpl, "COOKIE_WAIT", 3),
        (true, 200, COOKIE_ECHO, est, "COOKIE_ECHOED", 3),
        (false, 100, COOKIE_ACK, rpl, "ESTABLISHED", 210),
        (true, 200, DATA, est, "ESTABLISHED", 210),
        (true, 201, DATA, INV, "ESTABLISHED", 210),
        (false, 200, ABORT, INV, "ESTABLISHED", 210),
        (false, 100, ABORT, rpl, "CLOSED", 10),
    ];
    for (i, (client, tag, chunks, expected, name, seconds)) in steps.into_iter().enumerate() {
        let (src, dst, ports) = if client { (A, B, (5000, 36412)) } else { (B, A, (36412, 5000)) };
        let (got, edits) = track(&ct, &frame(src, dst, ports, tag, chunks), &spec, 0);
        assert_eq!(got, expected, "step {i}");
        assert!(edits.is_empty());
        let (orig, reply) = if i < 2 { (0, 100) } else { (200, 100) };
        let after = format!(
            "sctp,orig=(src=10.0.0.1,dst=192.0.2.1,sport=5000,dport=36412),\
             reply=(src=192.0.2.1,dst=10.0.0.1,sport=36412,dport=5000),zone=3,timeout={seconds},\
             protoinfo=(state={name},vtag_orig={orig},vtag_reply={reply})"
        );
        assert_eq!(lines(&ct, 0), [after], "step {i}");
    }
    // Another association between the same ends.
    assert_eq!(track(&ct, &frame(A, B, (5000, 36412), 0, INIT), &spec, 1).0, new);
    assert_eq!(ct.count(), 1);
    // Unanswered, it is soon gone.
    assert!(lines(&ct, 3_100).is_empty());
}

#[test]
fn what_begins_nothing_is_invalid() {
    let ct = Conntrack::new(42, Limits::default());
    let spec = CtSpec { zone: 3, commit: true, ..CtSpec::default() };
    for chunks in [DATA, INIT_ACK, COOKIE_ECHO, COOKIE_ACK, ABORT, &[], &[1, 0, 0, 3]] {
        assert_eq!(track(&ct, &frame(A, B, (1, 2), 100, chunks), &spec, 0).0, INV, "{chunks:?}");
    }
    let mut wrong = frame(A, B, (1, 2), 0, INIT);
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(track(&ct, &wrong, &spec, 0).0, INV, "the checksum is wrong");
    assert_eq!(ct.count(), 0);
}

#[test]
fn addresses_and_ports_are_translated_both_ways() {
    let ct = Conntrack::new(42, Limits::default());
    let to = IpAddr::from(Ipv4Addr::from(PUBLIC));
    let nat =
        Nat { side: Some(NatSide::Src), addrs: Some((to, to)), ports: Some((7000, 7000)), ..Nat::default() };
    let spec = CtSpec { zone: 3, commit: true, nat: Some(nat), ..CtSpec::default() };
    let (got, edits) = track(&ct, &frame(A, B, (5000, 36412), 0, INIT), &spec, 0);
    assert_eq!(got, state::TRK | state::NEW | state::SNAT);
    assert_eq!(edits.fields[..], [SetField::Ipv4Src(u32::from_be_bytes(PUBLIC)), SetField::TpSrc(7000)]);
    let back = CtSpec { commit: false, nat: Some(Nat::default()), ..spec };
    let (got, edits) = track(&ct, &frame(B, PUBLIC, (36412, 7000), 100, INIT_ACK), &back, 1);
    assert_eq!(got, state::TRK | state::EST | state::RPL | state::SNAT);
    assert_eq!(edits.fields[..], [SetField::Ipv4Dst(u32::from_be_bytes(A)), SetField::TpDst(5000)]);
    // An error about it, from a router on the way, quotes as much as the tag.
    let quoted = frame(PUBLIC, B, (7000, 36412), 200, COOKIE_ECHO);
    let eth = Frame::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let error = eth.ipv4([203, 0, 113, 1], PUBLIC).icmpv4(Icmpv4Message::Unreachable { code: 1 });
    let (got, edits) = track(&ct, &error.payload(&quoted[14..42]).build(), &back, 2);
    assert_eq!(got, state::TRK | state::REL | state::RPL | state::SNAT);
    assert_eq!(edits.fields[..], [SetField::Ipv4Dst(u32::from_be_bytes(A))]);
    assert!(edits.patches.iter().any(|p| p.bytes[..] == 5000u16.to_be_bytes()));
}
