//! Does any message make a responder panic, or break a law? Random bytes get nowhere: these are
//! right messages with a few bytes changed, cut or repeated.

mod touch;

use std::net::Ipv4Addr;

use dhcproto::Decodable;
use dhcproto::v4;
use proptest::prelude::*;
use weft_services::dhcp4::message::Message;
use weft_services::frame::Datagram;

/// A DHCPv4 request as clients send it.
fn request4(kind: u8, mac: u8) -> Vec<u8> {
    let mut b = vec![1, 1, 6, 0, 0, 0, 0, 7, 0, 0, 0, 0];
    b.resize(28, 0);
    b.extend([2, 0, 0, 0, 0, mac]);
    b.resize(236, 0);
    b.extend([99, 130, 83, 99, 53, 1, kind, 50, 4, 10, 0, 0, 11, 61, 7, 1, 2, 0, 0, 0, 0, mac]);
    b.extend([12, 3, b'w', b'e', b'b', 60, 9]);
    b.extend(b"PXEClient");
    b.extend([93, 2, 0, 7, 81, 6, 0, 0, 0, b'w', b'e', b'b', 82, 4, 1, 2, 3, 4]);
    b.extend([57, 2, 5, 220, 55, 9, 1, 3, 6, 15, 26, 119, 121, 224, 225, 80, 0, 255]);
    b
}

/// A DHCPv6 message behind a relay.
fn request6(kind: u8) -> Vec<u8> {
    let mut inner = vec![kind, 1, 2, 3, 0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
    if matches!(kind, 3 | 5 | 8 | 9) {
        inner.extend([0, 2, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 0xfe]);
    }
    inner.extend([0, 3, 0, 40, 0, 0, 0, 7]);
    inner.extend([0; 8]);
    inner.extend([0, 5, 0, 24, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11]);
    inner.extend([0; 8]);
    inner.extend([0, 6, 0, 4, 0, 23, 0, 24, 0, 39, 0, 5, 0, 3, b'w', b'e', b'b']);
    let mut outer = vec![12, 0, 0xfd, 0];
    outer.resize(34, 0);
    outer.extend([0, 18, 0, 2, b'e', b'0', 0, 9, 0, inner.len() as u8]);
    outer.extend(inner);
    outer
}

fn query(name: &[u8], kind: u8, edns: bool) -> Vec<u8> {
    let mut b = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    b.extend(name);
    b.extend([0, 0, kind, 0, 1]);
    if edns {
        b.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    b
}

/// Changes a few bytes, then cuts, or repeats a piece.
fn damaged(whole: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = whole.len();
    let changes = prop::collection::vec((0..len, any::<u8>()), 0..6);
    (Just(whole), changes, prop::option::of(0..len), prop::option::of((0..len, 0..40usize))).prop_map(
        |(mut b, changes, cut, repeat)| {
            for (at, byte) in changes {
                b[at] = byte;
            }
            if let Some((at, n)) = repeat {
                let piece = b[at..(at + n).min(b.len())].to_vec();
                b.splice(at..at, piece);
            }
            b.truncate(cut.map_or(usize::MAX, |cut| cut.max(1)));
            b
        },
    )
}

fn dhcp() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (1..9u8, 1..4u8).prop_flat_map(|(kind, mac)| damaged(request4(kind, mac))),
        (1..12u8).prop_flat_map(|kind| damaged(request6(kind))),
        prop::collection::vec(any::<u8>(), 0..400),
    ]
}

fn dns() -> impl Strategy<Value = Vec<u8>> {
    let names: Vec<&[u8]> = vec![
        b"\x02db\x03lab\x04test",
        b"\x03www\x03lab\x04test",
        b"\x015\x010\x010\x0210\x07in-addr\x04arpa",
        b"\x07example\x03com",
    ];
    let queries = (
        prop::sample::select(names),
        prop::sample::select(vec![1u8, 2, 5, 6, 12, 16, 28, 33, 252, 255]),
        any::<bool>(),
    );
    prop_oneof![
        8 => queries.prop_flat_map(|(name, kind, edns)| damaged(query(name, kind, edns))),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn dhcp_keeps_its_laws(data in dhcp()) {
        touch::dhcp(&data);
    }

    #[test]
    fn dns_keeps_its_laws(data in dns()) {
        touch::dns(&data);
    }

    /// A second opinion: `dhcproto` reads in our replies what we meant to write, and in requests
    /// what we read.
    #[test]
    fn another_codec_agrees(kind in prop::sample::select(vec![1u8, 3, 8]), mac in 1..4u8, hops: u8, secs: u16) {
        let mut request = request4(kind, mac);
        request[3] = hops % 17;
        request[8..10].copy_from_slice(&secs.to_be_bytes());
        let ours = Message::parse(&request).unwrap();
        let theirs = v4::Message::from_bytes(&request).unwrap();
        prop_assert_eq!(theirs.opts().msg_type().map(u8::from), Some(kind));
        prop_assert_eq!((theirs.hops(), theirs.secs(), theirs.xid()), (ours.hops, ours.secs, ours.xid));
        let mut server = touch::server4();
        let datagram = weft_services::frame::Envelope {
            mac_src: weft_wire::Mac([2, 0, 0, 0, 0, mac]),
            mac_dst: weft_wire::Mac::BROADCAST,
            tags: Default::default(),
            src: Ipv4Addr::UNSPECIFIED.into(),
            dst: Ipv4Addr::BROADCAST.into(),
            src_port: 68,
            dst_port: 67,
        };
        let outcome = server.handle_frame(&datagram.seal(&request).unwrap(), 0);
        let Some(frame) = outcome.reply else { return Ok(()) };
        let reply = Datagram::parse(&frame).unwrap();
        let theirs = v4::Message::from_bytes(reply.payload).unwrap();
        prop_assert_eq!(theirs.opcode(), v4::Opcode::BootReply);
        let router = theirs.opts().get(v4::OptionCode::Router).cloned();
        let is_nak = theirs.opts().msg_type() == Some(v4::MessageType::Nak);
        prop_assert!(is_nak || router == Some(v4::DhcpOption::Router(vec![Ipv4Addr::new(10, 0, 0, 1)])));
    }
}

#[test]
fn the_samples_are_answered() {
    // Otherwise the damage is done to messages that never came far.
    for (kind, mac) in [(1, 1), (1, 2), (3, 1)] {
        let mut server = touch::server4();
        let request = request4(kind, mac);
        let envelope = weft_services::frame::Envelope {
            mac_src: weft_wire::Mac([2, 0, 0, 0, 0, mac]),
            mac_dst: weft_wire::Mac::BROADCAST,
            tags: Default::default(),
            src: Ipv4Addr::UNSPECIFIED.into(),
            dst: Ipv4Addr::BROADCAST.into(),
            src_port: 68,
            dst_port: 67,
        };
        assert!(server.handle_frame(&envelope.seal(&request).unwrap(), 0).reply.is_some(), "{kind} {mac}");
    }
    for kind in [1, 3, 5, 6, 8, 9, 11] {
        let bytes = request6(kind);
        let inner = weft_services::dhcp6::message::Message::parse(&bytes).unwrap();
        assert_eq!(inner.relays.len(), 1);
    }
}
