//! Actions that need no second pass.

use std::sync::Arc;

use weft_flow::{Band, BandKind, DpAction, DropReason, Meter, PacketKey, SetField, extract_packet};
use weft_wire::build::Frame;
use weft_wire::ndp::NdpMessage;
use weft_wire::sctp::SctpView;

use crate::rig::{A, B, Rig, capture};

fn udp(tos: u8, len: usize) -> Vec<u8> {
    let headers = 14 + 20 + 8;
    Frame::eth(A, B).ipv4([1; 4], [2; 4]).tos(tos).udp(1, 2).payload(vec![7; len - headers]).build()
}

fn key(frame: &[u8]) -> PacketKey {
    let mut key = PacketKey::default();
    extract_packet(frame, 1, &mut key).unwrap();
    key
}

#[test]
fn meters_drop_for_the_rest_of_the_list() {
    let rig = Rig::new();
    let band = Band { kind: BandKind::Drop, rate: 1, burst: 3 };
    let meter = DpAction::Meter(Arc::new(Meter::new(1, 1, true, true, true, vec![band], 0)));
    let count = |mark| {
        let marks = (0..5).flat_map(|_| rig.execute(&udp(0, 60), &[capture(1), meter.clone(), capture(2)]));
        marks.filter(|(m, _)| *m == mark).count()
    };
    assert_eq!(count(2), 3);
    assert_eq!(rig.drops(DropReason::MeterExceeded), 2);
    assert_eq!(count(1), 5, "what comes before the meter is not its business");
}

#[test]
fn meters_remark() {
    let rig = Rig::new();
    let band = |by| Band { kind: BandKind::DscpRemark(by), rate: 1, burst: 1 };
    // AF11 is 10, AF12 12, AF13 14 (RFC 2597 §6); 46 is EF, which has no drop precedence.
    for (dscp, by, wanted) in
        [(10, 1, 12), (10, 2, 14), (12, 2, 14), (14, 1, 14), (46, 1, 46), (0, 1, 0), (36, 1, 38)]
    {
        let meter = Arc::new(Meter::new(1, 1, true, true, true, vec![band(by)], 0));
        let actions = [DpAction::Meter(meter), capture(1)];
        let v6 = Frame::eth(A, B).ipv6([1; 16], [2; 16]).tos(dscp << 2 | 1).udp(1, 2).build();
        for (frame, dscp) in [(udp(dscp << 2 | 1, 60), dscp), (udp(dscp << 2 | 1, 60), wanted), (v6, wanted)]
        {
            let got = rig.execute(&frame, &actions);
            assert_eq!(key(&got[0].1).ip_tos, dscp << 2 | 1);
        }
    }
}

#[test]
fn length_decides() {
    let rig = Rig::new();
    let check = DpAction::CheckPktLen {
        len: 100,
        greater: [DpAction::PopVlan, capture(1)].into(),
        not_greater: [DpAction::Set(SetField::EthDst(A)), capture(0)].into(),
    };
    let marks = |len| -> Vec<(u64, u8)> {
        let got = rig.execute(&udp(0, len), &[check.clone(), capture(2)]);
        got.iter().map(|(mark, frame)| (*mark, frame[5])).collect()
    };
    assert_eq!(marks(100), [(0, A.0[5]), (2, B.0[5])], "what a branch changes is its own");
    assert_eq!(marks(101), [(2, B.0[5])], "an untagged frame has no tag to pop");
}

#[test]
fn labels_go_on_and_off() {
    let rig = Rig::new();
    for vlan in [false, true] {
        let eth = if vlan { Frame::eth(A, B).vlan(5) } else { Frame::eth(A, B) };
        let plain = eth.ipv4([1; 4], [2; 4]).tcp(1, 2).payload([1, 2, 3]).build();
        let push = |lse| DpAction::PushMpls { lse, ethertype: 0x8847 };
        let (bottom, top) = (0x0006_4140, 0x0006_5040);
        let set = DpAction::Set(SetField::Mpls(0x0006_6040));
        let got = rig.execute(
            &plain,
            &[
                push(bottom),
                capture(1),
                push(top),
                set,
                capture(2),
                DpAction::PopMpls(0x8847),
                DpAction::PopMpls(0x0800),
                DpAction::Set(SetField::TpDst(2)),
                capture(3),
            ],
        );
        assert_eq!(got.iter().map(|g| g.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((key(&got[0].1).eth_type, key(&got[0].1).mpls), (0x8847, [bottom, 0, 0]));
        assert_eq!(key(&got[1].1).mpls, [0x0006_6040, bottom, 0]);
        assert_eq!(key(&got[1].1).vlan[0].vid(), if vlan { 5 } else { 0 });
        assert_eq!(got[2].1, plain);
    }
    assert!(rig.execute(&udp(0, 60), &[DpAction::PopMpls(0x0800), capture(1)]).is_empty());
    assert_eq!(rig.drops(DropReason::BadAction), 1);
}

#[test]
fn sctp_and_neighbour_discovery_fields() {
    let rig = Rig::new();
    let sctp = Frame::eth(A, B).ipv6([1; 16], [2; 16]).sctp(1, 2).payload([1, 2, 3, 4]).build();
    let got = rig.execute(&sctp, &[DpAction::Set(SetField::TpSrc(77)), capture(1)]);
    let view = SctpView::parse(&got[0].1[54..]).unwrap();
    assert!(view.checksum_ok() && view.src_port() == 77);

    let advert = |flags: u8, kind: u8| {
        let message = NdpMessage::NeighborAdvert {
            target: [9; 16].into(),
            router: flags & 4 != 0,
            solicited: flags & 2 != 0,
            override_: flags & 1 != 0,
        };
        let option = [kind, 1, 1, 2, 3, 4, 5, 6];
        Frame::eth(A, B).ipv6([1; 16], [2; 16]).ndp(message).payload(option).build()
    };
    let set = [
        DpAction::Set(SetField::NdReserved(0xe000_0000)),
        DpAction::Set(SetField::NdOptionsType(2)),
        capture(1),
    ];
    assert_eq!(rig.execute(&advert(0, 1), &set)[0].1, advert(7, 2));
}
