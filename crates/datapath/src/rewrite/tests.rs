//! Are headers changed as asked, with their checksums kept right?

use super::*;
use proptest::prelude::*;
use weft_flow::{DpPort, PacketKey, extract_packet};
use weft_wire::arp::ArpRepr;
use weft_wire::build::Frame;
use weft_wire::icmpv4::Icmpv4Message;
use weft_wire::icmpv6::Icmpv6Message;
use weft_wire::ndp::NdpMessage;
use weft_wire::vnet::{self, VnetHdr};

use crate::packet::{Pool, Slot};

const SLOT: Slot = 0;

fn load(pool: &mut Pool, frame: &[u8]) -> PacketKey {
    let mut key = PacketKey::default();
    let packet = pool.get_mut(SLOT);
    assert!(packet.fill(frame, DpPort(1)));
    packet.layout = extract_packet(frame, 1, &mut key).unwrap();
    packet.ip_proto = key.ip_proto;
    key
}

/// What can be changed, and the same packet built with the change.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Udp,
    Sctp,
    Icmp,
}

fn build(
    v6: bool,
    kind: Kind,
    tags: usize,
    addrs: (u8, u8),
    ports: (u16, u16),
    tos_ttl: (u8, u8),
) -> Vec<u8> {
    let mut frame = Frame::eth(Mac([2; 6]), Mac([4; 6]));
    for tag in 0..tags {
        frame = frame.vlan(tag as u16 + 5);
    }
    frame =
        if v6 { frame.ipv6([addrs.0; 16], [addrs.1; 16]) } else { frame.ipv4([addrs.0; 4], [addrs.1; 4]) };
    frame = frame.tos(tos_ttl.0).ttl(tos_ttl.1);
    let frame = match kind {
        Kind::Tcp => frame.tcp(ports.0, ports.1),
        Kind::Udp => frame.udp(ports.0, ports.1),
        Kind::Sctp => frame.sctp_tagged(ports.0, ports.1, 77),
        Kind::Icmp if v6 => frame.icmpv6(Icmpv6Message::EchoRequest { id: 1, seq: 2 }),
        Kind::Icmp => frame.icmpv4(Icmpv4Message::EchoRequest { id: 1, seq: 2 }),
    };
    frame.payload([1, 2, 3, 4, 5, 6, 7]).build()
}

proptest! {
    /// Changing a packet field by field gives the packet that is built with those fields, checksums and all; and the
    /// same when the checksum is still to be completed.
    #[test]
    fn equals_what_is_built(
        v6: bool,
        kind in prop_oneof![Just(Kind::Tcp), Just(Kind::Udp), Just(Kind::Sctp), Just(Kind::Icmp)],
        tags in 0usize..3,
        partial: bool,
        old in any::<((u8, u8), (u16, u16), (u8, u8))>(),
        new in any::<((u8, u8), (u16, u16), (u8, u8))>(),
    ) {
        let mut pool = Pool::new().unwrap();
        let mut frame = build(v6, kind, tags, old.0, old.1, old.2);
        let wanted = build(v6, kind, tags, new.0, new.1, new.2);
        let partial = partial && !matches!(kind, Kind::Icmp | Kind::Sctp);
        let csum = if partial { vnet::make_partial(&mut frame).unwrap() } else { Csum::None };
        load(&mut pool, &frame);
        let packet = pool.get_mut(SLOT);
        packet.offload = VnetHdr { csum, ..VnetHdr::default() };
        let (addrs, ports, (tos, ttl)) = new;
        let mut fields = if v6 {
            vec![SetField::Ipv6Src([addrs.0; 16]), SetField::Ipv6Dst([addrs.1; 16])]
        } else {
            let word = |b| u32::from_be_bytes([b; 4]);
            vec![SetField::Ipv4Src(word(addrs.0)), SetField::Ipv4Dst(word(addrs.1))]
        };
        fields.extend([SetField::IpTos(tos), SetField::IpTtl(ttl)]);
        if !matches!(kind, Kind::Icmp) {
            fields.extend([SetField::TpSrc(ports.0), SetField::TpDst(ports.1)]);
        }
        for field in &fields {
            prop_assert_eq!(set_field(packet, field), Ok(()), "{:?}", field);
        }
        let mut offload = packet.offload;
        vnet::complete_checksum(packet.data_mut(), &mut offload).unwrap();
        prop_assert_eq!(packet.data(), &wanted[..]);
    }

    /// Tags go on and off without a trace, and what moved is still where the layout says.
    #[test]
    fn tags_go_on_and_off(v6: bool, tags in 0usize..2, tci: u16, qinq: bool) {
        let mut pool = Pool::new().unwrap();
        let mut frame = build(v6, Kind::Tcp, tags, (1, 2), (3, 4), (0, 64));
        let csum = vnet::make_partial(&mut frame).unwrap();
        load(&mut pool, &frame);
        let packet = pool.get_mut(SLOT);
        packet.offload = VnetHdr { csum, ..VnetHdr::default() };
        let (before, tpid) = ((packet.layout, packet.offload), if qinq { 0x88a8 } else { 0x8100 });
        push_vlan(packet, tpid, tci).unwrap();
        let mut key = PacketKey::default();
        let tagged = packet.data().to_vec();
        prop_assert_eq!(extract_packet(&tagged, 1, &mut key), Ok(packet.layout));
        prop_assert_eq!((key.vlan[0].tpid, key.vlan[0].vid()), (tpid, tci & 0xfff));
        set_field(packet, &SetField::VlanTci(77)).unwrap();
        prop_assert_eq!(set_field(packet, &SetField::Ipv4Dst(9)).is_ok(), !v6);
        pop_vlan(packet).unwrap();
        prop_assert_eq!((packet.layout, packet.offload), before);
        prop_assert_eq!(&packet.data()[..12], &frame[..12]);
    }

    /// Bytes and text anywhere in the payload are replaced as if the packet had been built so.
    #[test]
    fn payloads_are_patched_and_spliced(
        v6: bool,
        tcp: bool,
        partial: bool,
        payload in prop::collection::vec(any::<u8>(), 8..40),
        (at, remove) in (0usize..6, 0usize..3),
        insert in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let with = |payload: &[u8]| {
            let frame = Frame::eth(Mac([2; 6]), Mac([4; 6])).vlan(3);
            let frame = if v6 { frame.ipv6([1; 16], [2; 16]) } else { frame.ipv4([1; 4], [2; 4]) };
            let frame = if tcp { frame.tcp(21, 9) } else { frame.udp(69, 9) };
            frame.payload(payload).build()
        };
        let mut pool = Pool::new().unwrap();
        let mut frame = with(&payload);
        let csum = if partial { vnet::make_partial(&mut frame).unwrap() } else { Csum::None };
        load(&mut pool, &frame);
        let packet = pool.get_mut(SLOT);
        packet.offload = VnetHdr { csum, ..VnetHdr::default() };
        let start = usize::from(packet.layout.payload);
        let mut wanted = payload.clone();
        wanted[at..at + 2].copy_from_slice(&[0xab, 0xcd]);
        wanted.splice(at..at + remove, insert.iter().copied());
        patch(packet, start + at, &[0xab, 0xcd]).unwrap();
        splice(packet, start + at, remove, &insert).unwrap();
        let mut offload = packet.offload;
        vnet::complete_checksum(packet.data_mut(), &mut offload).unwrap();
        prop_assert_eq!(packet.data(), &with(&wanted)[..]);
        let mut key = PacketKey::default();
        prop_assert_eq!(extract_packet(&with(&wanted), 1, &mut key), Ok(packet.layout));
        prop_assert!(patch(packet, start + wanted.len(), &[1]).is_err());
        prop_assert!(splice(packet, start + wanted.len() - 1, 2, &[]).is_err());
    }

    /// No action on any bytes does harm.
    #[test]
    fn hostile_frames(bytes in prop::collection::vec(any::<u8>(), 14..200), kind in 0usize..3, proto: u8) {
        let mut pool = Pool::new().unwrap();
        let mut frame = build(kind == 1, Kind::Tcp, kind % 2, (1, 2), (3, 4), (0, 64));
        let n = bytes.len().min(frame.len());
        frame[14..n].copy_from_slice(&bytes[14..n]);
        load(&mut pool, &frame);
        let packet = pool.get_mut(SLOT);
        packet.ip_proto = proto;
        packet.truncate(bytes.len() / 2 + 14);
        let fields = [
            SetField::EthSrc(Mac([1; 6])), SetField::VlanTci(1), SetField::Mpls(1), SetField::Ipv4Src(1),
            SetField::Ipv6Src([1; 16]), SetField::Ipv6Label(1), SetField::IpTos(1), SetField::IpTtl(1),
            SetField::TpSrc(1), SetField::ArpOp(1), SetField::ArpSha(Mac([1; 6])), SetField::NdTarget([1; 16]),
            SetField::NdSll(Mac([1; 6])), SetField::NdTll(Mac([1; 6])),
        ];
        for field in &fields {
            let _ = set_field(packet, field);
        }
        let _ = copy_ttl(packet, true);
        let _ = copy_ttl(packet, false);
        let _ = pop_vlan(packet);
        let _ = push_vlan(packet, 0x8100, 1);
    }
}

proptest! {
    /// A TTL that is copied gives the frame that one builds with it.
    #[test]
    fn ttls_are_copied(labels in 0usize..4, outer_v6: bool, v6: bool, outer: u8, inner: u8, outwards: bool) {
        let frame = |outer: u8, inner: u8| {
            let mut frame = Frame::eth(Mac([2; 6]), Mac([4; 6])).vlan(5);
            for n in 0..labels {
                let ttl = match n {
                    0 => outer,
                    1 => inner,
                    _ => 7,
                };
                frame = frame.mpls(n as u32 + 16).ttl(ttl);
            }
            if labels == 0 {
                frame = if outer_v6 { frame.ipv6([9; 16], [8; 16]) } else { frame.ipv4([9; 4], [8; 4]) }.ttl(outer);
            }
            let frame = if v6 { frame.ipv6([1; 16], [2; 16]) } else { frame.ipv4([1; 4], [2; 4]) };
            frame.ttl(if labels < 2 { inner } else { 7 }).udp(1, 2).payload([1, 2, 3]).build()
        };
        let mut pool = Pool::new().unwrap();
        load(&mut pool, &frame(outer, inner));
        let packet = pool.get_mut(SLOT);
        copy_ttl(packet, outwards).unwrap();
        let wanted = if outwards { frame(inner, inner) } else { frame(outer, outer) };
        prop_assert_eq!(packet.data(), &wanted[..]);
        // Nothing is done to a frame that ends early.
        for len in 14..packet.len().min(60) {
            load(&mut pool, &wanted[..len]);
            prop_assert_eq!(copy_ttl(pool.get_mut(SLOT), outwards), Ok(()));
        }
    }
}

#[test]
fn what_only_looks_like_ip_beneath_a_label_stays() {
    let mut pool = Pool::new().unwrap();
    for first in [0x45, 0x60, 0x00] {
        let mut frame = Frame::eth(Mac([2; 6]), Mac([4; 6])).mpls(16).ttl(9).ipv6([1; 16], [2; 16]).udp(1, 2);
        frame = frame.payload([7; 40]);
        let mut bytes = frame.build();
        bytes[18] = first;
        bytes[23] -= 1;
        load(&mut pool, &bytes);
        for outwards in [false, true] {
            assert_eq!(copy_ttl(pool.get_mut(SLOT), outwards), Ok(()));
            assert_eq!(pool.get_mut(SLOT).data(), &bytes[..], "{first:x}");
        }
    }
}

#[test]
fn udp_without_checksum_stays_without() {
    let mut pool = Pool::new().unwrap();
    let mut frame = build(false, Kind::Udp, 0, (1, 2), (3, 4), (0, 64));
    frame[14 + 20 + 6..14 + 20 + 8].fill(0);
    load(&mut pool, &frame);
    let packet = pool.get_mut(SLOT);
    set_field(packet, &SetField::Ipv4Src(7)).unwrap();
    set_field(packet, &SetField::TpDst(7)).unwrap();
    assert_eq!(packet.data()[14 + 20 + 6..14 + 20 + 8], [0, 0]);
}

#[test]
fn actions_that_do_not_fit_are_refused() {
    let mut pool = Pool::new().unwrap();
    load(&mut pool, &build(false, Kind::Tcp, 0, (1, 2), (3, 4), (0, 64)));
    let packet = pool.get_mut(SLOT);
    let before = packet.data().to_vec();
    let misfits = [
        SetField::VlanTci(1),
        SetField::Mpls(1),
        SetField::Ipv6Src([1; 16]),
        SetField::Ipv6Label(1),
        SetField::ArpOp(1),
        SetField::NdTarget([1; 16]),
        SetField::NdSll(Mac([1; 6])),
    ];
    for field in &misfits {
        assert_eq!(set_field(packet, field), Err(NotThere), "{field:?}");
    }
    assert_eq!(pop_vlan(packet), Err(NotThere));
    assert_eq!(packet.data(), before);
}

#[test]
fn arp_and_neighbour_discovery() {
    let mut pool = Pool::new().unwrap();
    let request = ArpRepr::request(Mac([2; 6]), [10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let arp = Frame::eth(Mac([2; 6]), Mac::BROADCAST).arp(request).build();
    load(&mut pool, &arp);
    let packet = pool.get_mut(SLOT);
    for field in [
        SetField::ArpOp(2),
        SetField::ArpSha(Mac([7; 6])),
        SetField::ArpTha(Mac([8; 6])),
        SetField::Ipv4Src(9),
    ] {
        set_field(packet, &field).unwrap();
    }
    let bytes = packet.data().to_vec();
    let key = load(&mut pool, &bytes);
    assert_eq!((key.ip_proto, key.arp_sha, key.arp_tha, key.ipv4_src), (2, Mac([7; 6]), Mac([8; 6]), 9));

    // A solicitation with a source link-layer address option (RFC 4861 §4.6.1).
    let solicit = |target: [u8; 16], mac: u8| {
        let message = NdpMessage::NeighborSolicit { target: target.into() };
        let option = [1, 1, mac, mac, mac, mac, mac, mac];
        Frame::eth(Mac([2; 6]), Mac([4; 6])).ipv6([1; 16], [2; 16]).ndp(message).payload(option).build()
    };
    load(&mut pool, &solicit([5; 16], 1));
    let packet = pool.get_mut(SLOT);
    set_field(packet, &SetField::NdTarget([6; 16])).unwrap();
    set_field(packet, &SetField::NdSll(Mac([9; 6]))).unwrap();
    assert_eq!(packet.data(), solicit([6; 16], 9));
    assert_eq!(set_field(packet, &SetField::NdTll(Mac([9; 6]))), Err(NotThere));
}

#[test]
fn sctp_left_to_a_device_is_completed_by_its_own_sum() {
    let whole =
        Frame::eth(Mac([2; 6]), Mac([4; 6])).ipv4([1; 4], [2; 4]).sctp(5, 6).payload([1, 2, 3, 4]).build();
    let mut frame = whole.clone();
    frame[34 + 8..34 + 12].fill(0);
    let mut pool = Pool::new().unwrap();
    load(&mut pool, &frame);
    let packet = pool.get_mut(SLOT);
    packet.offload.csum = Csum::Partial { start: 34, offset: 8 };
    packet.complete_checksum().unwrap();
    assert_eq!((packet.data(), packet.offload.csum), (&whole[..], Csum::None));
}

#[test]
fn an_sctp_checksum_that_was_wrong_stays_wrong() {
    let good = build(false, Kind::Sctp, 0, (1, 2), (1000, 2000), (0, 64));
    let wanted = build(false, Kind::Sctp, 0, (1, 2), (7, 2000), (0, 64));
    let l4 = 34;
    let set = |frame: &[u8], csum: Csum| {
        let mut pool = Pool::new().unwrap();
        load(&mut pool, frame);
        let packet = pool.get_mut(SLOT);
        packet.offload = VnetHdr { csum, ..VnetHdr::default() };
        set_field(packet, &SetField::TpSrc(7)).unwrap();
        assert_eq!(packet.offload.csum, Csum::None);
        packet.data().to_vec()
    };
    assert_eq!(set(&good, Csum::None), wanted);
    let mut wrong = good.clone();
    wrong[l4 + sctp::field::CHECKSUM] ^= 0x40;
    let mut still = wanted.clone();
    still[l4 + sctp::field::CHECKSUM] ^= 0x40;
    assert_eq!(set(&wrong, Csum::None), still);
    // One that was left to a device is computed.
    let partial = Csum::Partial { start: l4 as u16, offset: sctp::field::CHECKSUM as u16 };
    assert_eq!(set(&wrong, partial), wanted);
}
