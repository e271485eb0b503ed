//! Do fragments put together give the packet back?

use super::*;
use crate::Mac;
use crate::build::Frame;
use crate::ipv4::Ipv4View;
use crate::ipv6::Ipv6View;
use crate::ipv6_ext::Chain;
use proptest::prelude::*;

fn eth(tags: usize) -> Frame {
    (0..tags).fold(Frame::eth(Mac([2; 6]), Mac([4; 6])), |f, tag| f.vlan(tag as u16 + 1))
}

fn pieces(frame: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>> {
    let cut = Fragmenter::new(frame, mtu, 0x0102_0304)?;
    (0..cut.count())
        .map(|i| {
            let mut out = vec![0xaa; 70_000];
            let len = cut.write(i, &mut out)?;
            assert!(cut.write(i, &mut vec![0; len - 1]).is_err());
            out.truncate(len);
            Ok(out)
        })
        .collect()
}

proptest! {
    #[test]
    fn ipv4_parts_make_the_whole(
        tags in 0usize..3, len in 0usize..5000, mtu in 68usize..2000, offset in 0u16..5000, more: bool, options: bool,
    ) {
        let payload: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        let frag = Ipv4Frag(offset | if more { Ipv4Frag::MF } else { 0 });
        // Record route (not copied), security (copied), padding.
        let list: &[u8] = if options { &[7, 7, 4, 0, 0, 0, 0, 130, 4, 9, 9, 0] } else { &[] };
        let whole = eth(tags).ipv4([1; 4], [2; 4]).id(77).frag(frag).ip_options(list).payload(&payload).build();
        let l3 = 14 + tags * 4;
        let view = Ipv4View::parse(&whole[l3..]).unwrap();
        let parts = pieces(&whole, mtu).unwrap();
        if whole.len() - l3 <= mtu {
            prop_assert_eq!(parts, vec![whole]);
            return Ok(());
        }
        let mut got = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            prop_assert_eq!(&part[..l3], &whole[..l3]);
            let ip = Ipv4View::parse(&part[l3..]).unwrap();
            prop_assert!(ip.checksum_ok() && ip.total_len() <= mtu && ip.total_len() == part.len() - l3);
            prop_assert_eq!((ip.id(), ip.src(), ip.ttl(), ip.proto()), (77, view.src(), view.ttl(), view.proto()));
            prop_assert_eq!(ip.frag().offset(), frag.offset() + got.len());
            prop_assert_eq!(ip.frag().more_fragments(), more || i + 1 != parts.len());
            let want: &[u8] = if i == 0 { list } else if options { &[130, 4, 9, 9] } else { &[] };
            prop_assert_eq!(ip.options(), want);
            got.extend_from_slice(ip.payload());
        }
        prop_assert_eq!(got, payload);
    }

    #[test]
    fn ipv6_parts_make_the_whole(tags in 0usize..3, len in 0usize..5000, mtu in 1280usize..2000, exts in 0usize..4) {
        let payload: Vec<u8> = (0..len).map(|i| (i * 31) as u8).collect();
        let mut frame = eth(tags).ipv6([1; 16], [2; 16]).flow_label(5);
        for kind in [IpProto::HOPOPT, IpProto::ROUTING, IpProto::DSTOPTS].iter().take(exts) {
            frame = frame.ext(*kind, &[0; 14]);
        }
        let whole = frame.udp(1, 2).payload(&payload).build();
        let l3 = 14 + tags * 4;
        let kept = 16 * exts.min(2);
        let parts = pieces(&whole, mtu).unwrap();
        if whole.len() - l3 <= mtu {
            prop_assert_eq!(parts, vec![whole]);
            return Ok(());
        }
        let mut got = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let ip = Ipv6View::parse(&part[l3..]).unwrap();
            prop_assert!(part.len() - l3 <= mtu && ip.payload().len() == part.len() - l3 - 40);
            let headers: Vec<_> = ExtHeaders::new(ip.next_header(), ip.payload()).map(|h| h.unwrap()).collect();
            let at = headers.iter().position(|h| h.kind == IpProto::FRAGMENT).unwrap();
            prop_assert_eq!(at, exts.min(2));
            let fragment = Chain::walk(ip.next_header(), ip.payload()).unwrap().fragment.unwrap();
            prop_assert_eq!(fragment.id, 0x0102_0304);
            prop_assert_eq!(fragment.offset, got.len());
            prop_assert_eq!(fragment.more_fragments, i + 1 != parts.len());
            prop_assert_eq!(fragment.next_header, if exts == 3 { IpProto::DSTOPTS } else { IpProto::UDP });
            got.extend_from_slice(&ip.payload()[kept + FRAGMENT_LEN..]);
        }
        prop_assert_eq!(&got[..], &whole[l3 + 40 + kept..]);
    }

    #[test]
    fn hostile_packets_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), v6: bool, mtu in 0usize..200) {
        let mut frame = vec![0; 12];
        frame.extend(if v6 { [0x86, 0xdd, 0x60] } else { [8, 0, 0x46] });
        frame.extend(bytes);
        let _ = pieces(&frame, mtu);
    }
}

#[test]
fn refuses() {
    let v4 = |frag| eth(0).ipv4([1; 4], [2; 4]).frag(Ipv4Frag(frag)).payload([0; 2000]).build();
    assert!(pieces(&v4(Ipv4Frag::DF), 1500).is_err());
    assert!(pieces(&v4(0), 27).is_err(), "no room for 8 bytes");
    assert!(pieces(&v4(0x1fff), 1500).is_err(), "offset overflows");
    assert_eq!(pieces(&v4(0), 28).unwrap().len(), 250);
    let v6 = eth(0).ipv6([1; 16], [2; 16]).fragment(0, true, 1).udp(1, 2).payload([0; 2000]).build();
    assert!(pieces(&v6, 1500).is_err());
}
