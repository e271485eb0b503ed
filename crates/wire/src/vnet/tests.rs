//! Do virtio_net_hdrs survive hostile values, and are checksums completed right?

use super::*;
use crate::Mac;
use crate::build::Frame;
use proptest::prelude::*;

fn any_hdr() -> impl Strategy<Value = VnetHdr> {
    let csum = prop_oneof![
        Just(Csum::None),
        Just(Csum::Valid),
        any::<(u16, u16)>().prop_map(|(start, offset)| Csum::Partial { start, offset }),
    ];
    let kind = prop_oneof![
        Just((GsoKind::TcpV4, true)),
        Just((GsoKind::TcpV6, false)),
        Just((GsoKind::Udp, false)),
        Just((GsoKind::UdpL4, false)),
    ];
    let gso = (kind, 1u16.., any::<u16>()).prop_map(|((kind, ecn), size, hdr_len)| Gso {
        kind,
        size,
        ecn,
        hdr_len,
    });
    (csum, prop::option::of(gso), any::<u16>()).prop_map(|(csum, gso, num_buffers)| VnetHdr {
        csum,
        gso,
        num_buffers,
    })
}

proptest! {
    #[test]
    fn round_trip(mut hdr in any_hdr(), legacy: bool, little: bool) {
        let form = if legacy { VnetForm::Legacy } else { VnetForm::Mrg };
        let order = if little { ByteOrder::Little } else { ByteOrder::Native };
        if legacy {
            hdr.num_buffers = 0;
        }
        let mut buf = [0xff; 12];
        prop_assert_eq!(hdr.emit(&mut buf, form, order).unwrap(), form.len());
        prop_assert_eq!(VnetHdr::parse(&buf, form, order).unwrap(), hdr);
        prop_assert!(VnetHdr::parse(&buf[..form.len() - 1], form, order).is_err());
    }

    #[test]
    fn completing_undoes_making_partial(v6: bool, udp: bool, vlan: bool, payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut frame = Frame::eth(Mac([2; 6]), Mac([4; 6]));
        if vlan {
            frame = frame.vlan(7);
        }
        frame = if v6 { frame.ipv6([1; 16], [2; 16]) } else { frame.ipv4([1; 4], [2; 4]) };
        frame = if udp { frame.udp(1, 2) } else { frame.tcp(1, 2) };
        let whole = frame.payload(payload).build();
        let mut bytes = whole.clone();
        let mut hdr = VnetHdr { csum: make_partial(&mut bytes).unwrap(), ..VnetHdr::default() };
        prop_assert!(hdr.validate(&bytes).is_ok() && !hdr.is_done());
        complete_checksum(&mut bytes, &mut hdr).unwrap();
        prop_assert_eq!(hdr, VnetHdr::default());
        prop_assert_eq!(bytes, whole);
    }
}

#[test]
fn raw_layout() {
    let gso = Gso { kind: GsoKind::TcpV6, size: 0x0102, ecn: true, hdr_len: 0x0304 };
    let csum = Csum::Partial { start: 0x0506, offset: 0x10 };
    let mut buf = [0; 12];
    let hdr = VnetHdr { csum, gso: Some(gso), num_buffers: 1 };
    hdr.emit(&mut buf, VnetForm::Mrg, ByteOrder::Little).unwrap();
    assert_eq!(buf, [1, 0x84, 4, 3, 2, 1, 6, 5, 0x10, 0, 1, 0]);
}

#[test]
fn refuses_what_contradicts() {
    let cases = [
        ("unknown gso type", [0, 2, 0, 0, 1, 0, 0, 0, 0, 0]),
        ("ecn alone", [0, 0x80, 0, 0, 1, 0, 0, 0, 0, 0]),
        ("ecn with udp", [0, 0x85, 0, 0, 1, 0, 0, 0, 0, 0]),
        ("gso size 0", [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (what, bytes) in cases {
        assert!(VnetHdr::parse(&bytes, VnetForm::Legacy, ByteOrder::Little).is_err(), "{what}");
    }
    let mut frame = [0; 60];
    for (start, offset) in [(59, 0), (44, 15), (65535, 65535), (0, 59)] {
        let mut hdr = VnetHdr { csum: Csum::Partial { start, offset }, ..VnetHdr::default() };
        assert!(hdr.validate(&frame).is_err(), "{start}+{offset}");
        assert!(complete_checksum(&mut frame, &mut hdr).is_err(), "{start}+{offset}");
    }
    let last = VnetHdr { csum: Csum::Partial { start: 44, offset: 14 }, ..VnetHdr::default() };
    assert!(last.validate(&frame).is_ok());
    let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1, ecn: false, hdr_len: 61 });
    assert!(VnetHdr { gso, ..VnetHdr::default() }.validate(&frame).is_err());
}

#[test]
fn shifts() {
    let gso = Gso { kind: GsoKind::TcpV4, size: 1, ecn: false, hdr_len: 54 };
    let mut hdr = VnetHdr { csum: Csum::Partial { start: 34, offset: 16 }, gso: Some(gso), num_buffers: 0 };
    hdr.shift(4).unwrap();
    assert_eq!(hdr.csum, Csum::Partial { start: 38, offset: 16 });
    assert_eq!(hdr.gso.map(|gso| gso.hdr_len), Some(58));
    assert!(hdr.shift(-39).is_err());
}

#[test]
fn infers_what_a_tunnel_left() {
    for v6 in [false, true] {
        let eth = Frame::eth(Mac([2; 6]), Mac([4; 6]));
        let ip = if v6 { eth.ipv6([1; 16], [2; 16]) } else { eth.ipv4([1; 4], [2; 4]) };
        let headers = if v6 { 60 } else { 40 };
        let mut long = ip.clone().tcp(1, 2).payload([7; 4000]).build();
        assert_eq!(infer(&long, 1450), VnetHdr::default(), "a complete checksum");
        let csum = make_partial(&mut long).unwrap();
        let hdr = infer(&long, 1450);
        let gso = hdr.gso.unwrap();
        assert_eq!((hdr.csum, gso.size), (csum, 1450 - headers));
        assert_eq!(usize::from(gso.hdr_len), 14 + usize::from(headers));
        assert_eq!(infer(&long, 9000), VnetHdr { csum, ..VnetHdr::default() });
        assert_eq!(infer(&long, 30).gso, None);
        let mut short = ip.udp(1, 2).payload([7; 40]).build();
        let csum = make_partial(&mut short).unwrap();
        assert_eq!(infer(&short, 1450), VnetHdr { csum, ..VnetHdr::default() });
    }
}
