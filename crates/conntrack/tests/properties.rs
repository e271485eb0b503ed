//! What holds for all packets: translation is undone by the answer, names are unique, nothing panics.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use weft_conntrack::{Conntrack, CtPacket, Edits, Filter, Limits, state};
use weft_flow::{CtKey, CtSpec, Layout, Nat, NatSide, PacketKey, SetField, extract_packet};
use weft_wire::Mac;
use weft_wire::build::Frame;
use weft_wire::icmpv4::Icmpv4Message;
use weft_wire::icmpv6::Icmpv6Message;

/// A packet by what names its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Named {
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
    /// 1: ICMP, 6: TCP, 17: UDP.
    proto: u8,
    answer: bool,
}

impl Named {
    fn frame(&self) -> Vec<u8> {
        let eth = Frame::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let ip = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => eth.ipv4(src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => eth.ipv6(src, dst),
            _ => panic!("one family"),
        };
        let (id, seq) = (self.sport, 1);
        let frame = match (self.proto, self.src.is_ipv6(), self.answer) {
            (6, _, false) => ip.tcp(self.sport, self.dport).flags(2).seq(100, 0),
            (6, _, true) => ip.tcp(self.sport, self.dport).flags(0x12).seq(900, 101),
            (17, _, _) => ip.udp(self.sport, self.dport),
            (_, false, false) => ip.icmpv4(Icmpv4Message::EchoRequest { id, seq }),
            (_, false, true) => ip.icmpv4(Icmpv4Message::EchoReply { id, seq }),
            (_, true, false) => ip.icmpv6(Icmpv6Message::EchoRequest { id, seq }),
            (_, true, true) => ip.icmpv6(Icmpv6Message::EchoReply { id, seq }),
        };
        frame.payload([1, 2, 3]).build()
    }

    fn answered(&self) -> Named {
        Named { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, answer: true, ..*self }
    }

    fn edited(mut self, edits: &Edits, l4: u16) -> Named {
        for field in &edits.fields {
            match *field {
                SetField::Ipv4Src(a) => self.src = Ipv4Addr::from_bits(a).into(),
                SetField::Ipv4Dst(a) => self.dst = Ipv4Addr::from_bits(a).into(),
                SetField::Ipv6Src(a) => self.src = Ipv6Addr::from(a).into(),
                SetField::Ipv6Dst(a) => self.dst = Ipv6Addr::from(a).into(),
                SetField::TpSrc(p) => self.sport = p,
                SetField::TpDst(p) => self.dport = p,
                other => panic!("{other:?}"),
            }
        }
        for patch in &edits.patches {
            assert_eq!((patch.at, patch.bytes.len()), (usize::from(l4) + 4, 2));
            let id = u16::from_be_bytes([patch.bytes[0], patch.bytes[1]]);
            (self.sport, self.dport) = (id, id);
        }
        self
    }
}

fn track(ct: &Conntrack, frame: &[u8], spec: &CtSpec) -> Option<(CtKey, Edits, Layout)> {
    let (mut key, mut out) = (PacketKey::default(), CtKey::default());
    let layout = extract_packet(frame, 1, &mut key).ok()?;
    let packet = CtPacket { frame, layout: &layout, key: &key, checksums_good: false };
    let edits = Edits::clone(&ct.execute(&packet, &mut out, spec, 5).ok()?);
    Some((out, edits, layout))
}

fn addr(v6: bool, net: u8, host: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(10, net, 0, host).into()
    }
}

prop_compose! {
    fn named()(v6: bool, host in 1u8..5, server in 1u8..3, sport in 2000u16..2006, proto in prop::sample::select(vec![1u8, 6, 17]))
        -> Named {
        let dport = if proto == 1 { sport } else { 80 };
        Named { src: addr(v6, 1, host), dst: addr(v6, 2, server), sport, dport, proto, answer: false }
    }
}

prop_compose! {
    fn nat()(side in prop::option::of(prop::sample::select(vec![NatSide::Src, NatSide::Dst])), width in 0u8..3,
        ports in prop::option::of((2000u16..2010, 0u16..6)), persistent: bool, hash: bool, random: bool)
        -> (Nat, u8) {
        let ports = ports.map(|(low, n)| (low, low + n));
        (Nat { side, addrs: None, ports, persistent, hash: hash && !random, random }, width)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn answers_undo_translation_and_names_are_unique(packets in prop::collection::vec((named(), nat()), 1..40)) {
        let ct = Conntrack::new(9, Limits::default());
        let mut made: Vec<(Named, Named)> = Vec::new();
        for (packet, (mut nat, width)) in packets {
            let v6 = packet.src.is_ipv6();
            nat.addrs = nat.side.map(|_| (addr(v6, 3, 1), addr(v6, 3, 1 + width)));
            let spec = CtSpec { zone: 4, commit: true, nat: Some(nat), ..CtSpec::default() };
            let Some((out, edits, layout)) = track(&ct, &packet.frame(), &spec) else { continue };
            prop_assert!(out.state & state::INV == 0);
            let sent = packet.edited(&edits, layout.l4);
            if out.state & state::RPL == 0 && made.iter().all(|(p, _)| *p != packet) {
                made.push((packet, sent));
            }
        }
        prop_assert_eq!(ct.count(), made.len());
        let mut names = HashSet::new();
        for (packet, sent) in &made {
            prop_assert!(names.insert(sent.answered()), "two share {:?}", sent);
            let spec = CtSpec { zone: 4, nat: Some(Nat::default()), ..CtSpec::default() };
            let (out, edits, layout) = track(&ct, &sent.answered().frame(), &spec).unwrap();
            prop_assert_eq!(out.state & (state::EST | state::RPL), state::EST | state::RPL);
            prop_assert_eq!(sent.answered().edited(&edits, layout.l4), packet.answered());
        }
        prop_assert_eq!(ct.flush(&Filter::default()), made.len());
        for (_, sent) in &made {
            let (out, _, _) = track(&ct, &sent.answered().frame(), &CtSpec { zone: 4, ..CtSpec::default() }).unwrap();
            prop_assert!(out.state & state::EST == 0, "nothing is left of it");
        }
    }

    #[test]
    fn no_bytes_do_harm(packets in prop::collection::vec((named(), prop::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        any::<usize>(), any::<bool>()), 1..30)) {
        let ct = Conntrack::new(9, Limits::default());
        for (packet, changes, cut, good) in packets {
            let mut frame = packet.frame();
            for (at, byte) in changes {
                let n = frame.len();
                frame[at % n] = byte;
            }
            if cut % 4 == 0 {
                frame.truncate(cut % frame.len());
            }
            let (mut key, mut out) = (PacketKey::default(), CtKey::default());
            let Ok(layout) = extract_packet(&frame, 1, &mut key) else { continue };
            let shown = CtPacket { frame: &frame, layout: &layout, key: &key, checksums_good: good };
            if key.ip_frag != 0 {
                let _ = ct.reassemble(&shown, 1, 0);
            }
            let nat = Some(Nat { side: Some(NatSide::Src), ..Nat::default() });
            let _ = ct.execute(&shown, &mut out, &CtSpec { commit: true, alg: 21, nat, ..CtSpec::default() }, 0);
            prop_assert!(out.state & state::TRK != 0);
        }
    }
}

#[test]
fn threads_share_one_address() {
    let ct = Conntrack::new(3, Limits::default());
    let public = addr(false, 3, 1);
    let nat = Nat {
        side: Some(NatSide::Src),
        addrs: Some((public, public)),
        ports: Some((5000, 5999)),
        ..Nat::default()
    };
    let spec = CtSpec { zone: 1, commit: true, nat: Some(nat), ..CtSpec::default() };
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u8)
            .map(|thread| {
                let (ct, spec) = (&ct, &spec);
                scope.spawn(move || {
                    let packet = |port| Named {
                        src: addr(false, 1, thread),
                        dst: addr(false, 2, 1),
                        sport: port,
                        dport: 80,
                        proto: 17,
                        answer: false,
                    };
                    (1..=400).filter(|port| track(ct, &packet(*port).frame(), spec).is_some()).count()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    let mut names = HashSet::new();
    ct.each(&Filter::default(), 5, |e| names.insert((e.reply.dst, e.reply.dport)));
    assert_eq!((taken, names.len(), ct.count()), (1000, 1000, 1000));
}
