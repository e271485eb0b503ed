//! Are segments what a slow and simple cutter would make?

use super::*;
use crate::Mac;
use crate::build::Frame;
use crate::ipv4::Ipv4Frag;
use crate::vnet::make_partial;
use proptest::prelude::*;

/// A flow whose frames can be built one by one, which is the reference.
#[derive(Debug, Clone)]
struct Flow {
    tags: usize,
    v6: bool,
    exts: usize,
    udp: bool,
    id: u16,
    seq: u32,
    flags: u16,
    options: usize,
    df: bool,
}

impl Flow {
    fn frame(&self, at: usize, index: usize, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = Frame::eth(Mac([2; 6]), Mac([4; 6]));
        for tag in 0..self.tags {
            frame = frame.vlan(tag as u16 + 1);
        }
        frame = if self.v6 {
            frame.ipv6([1; 16], [2; 16]).tos(0x22).flow_label(7)
        } else {
            let frag = Ipv4Frag(if self.df { Ipv4Frag::DF } else { 0 });
            frame.ipv4([10, 0, 0, 1], [10, 0, 0, 2]).id(self.id.wrapping_add(index as u16)).frag(frag)
        };
        for ext in 0..if self.v6 { self.exts } else { 0 } {
            frame = frame.ext(IpProto::DSTOPTS, &vec![0; 6 + ext * 8]);
        }
        frame = if self.udp {
            frame.udp(1000, 2000)
        } else {
            let options = vec![1; self.options * 4];
            frame.tcp(1000, 2000).seq(self.seq.wrapping_add(at as u32), 9).flags(flags).tcp_options(&options)
        };
        frame.payload(payload).build()
    }

    fn gso(&self, size: u16) -> Gso {
        let kind = match (self.udp, self.v6) {
            (true, _) => GsoKind::UdpL4,
            (false, true) => GsoKind::TcpV6,
            (false, false) => GsoKind::TcpV4,
        };
        Gso { kind, size, ecn: false, hdr_len: 0 }
    }

    /// The segments as they must come out, each built from nothing.
    fn segments(&self, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
        let count = payload.len().div_ceil(size).max(1);
        let part = |i: usize| &payload[i * size..payload.len().min((i + 1) * size)];
        (0..count)
            .map(|i| {
                let mut flags = self.flags;
                if i + 1 != count {
                    flags &= !(TcpFlags::FIN | TcpFlags::PSH);
                }
                if i != 0 {
                    flags &= !TcpFlags::CWR;
                }
                self.frame(i * size, i, flags, part(i))
            })
            .collect()
    }
}

fn flow() -> impl Strategy<Value = Flow> {
    (
        (0usize..3, any::<bool>(), 0usize..3, any::<bool>()),
        (any::<u16>(), any::<u32>(), 0u16..0x1000, 0usize..=10, any::<bool>()),
    )
        .prop_map(|((tags, v6, exts, udp), (id, seq, flags, options, df))| Flow {
            tags,
            v6,
            exts,
            udp,
            id,
            seq,
            flags,
            options,
            df,
        })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    (0usize..6000, any::<u8>()).prop_map(|(len, salt)| {
        (0..len).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] ^ salt).collect()
    })
}

proptest! {
    #[test]
    fn equals_the_reference(flow in flow(), payload in payload(), size in 1u16..2000, partial: bool, padding in 0usize..9) {
        let size = size.max(payload.len() as u16 / 60 + 1);
        let mut frame = flow.frame(0, 0, flow.flags, &payload);
        let mut hdr = VnetHdr { gso: Some(flow.gso(size)), ..VnetHdr::default() };
        if partial {
            hdr.csum = make_partial(&mut frame).unwrap();
        }
        frame.extend(vec![0; padding]);
        let seg = Segmenter::new(&frame, &hdr).unwrap();
        let want = flow.segments(&payload, usize::from(size));
        prop_assert_eq!(seg.count(), want.len());
        for (i, want) in want.iter().enumerate() {
            let mut out = vec![0xaa; seg.segment_len(i) + 1];
            prop_assert_eq!(seg.write(i, &mut out).unwrap(), want.len());
            prop_assert_eq!(&out[..want.len()], &want[..], "segment {}", i);
            prop_assert!(seg.write(i, &mut out[..want.len() - 1]).is_err());
        }
        prop_assert!(seg.write(want.len(), &mut vec![0; 9000]).is_err());
        prop_assert_eq!(seg.segment_len(want.len()), 0);
    }

    #[test]
    fn trains_are_segments_behind_a_prefix(flow in flow(), payload in payload(), room in 0usize..8000, max in 0usize..20) {
        let frame = flow.frame(0, 0, flow.flags, &payload);
        let hdr = VnetHdr { gso: Some(flow.gso(1000)), ..VnetHdr::default() };
        let seg = Segmenter::new(&frame, &hdr).unwrap();
        let prefix = [8, 0, 0, 0, 0, 3, 0xe8, 0];
        let mut dst = vec![0; room];
        let mut next = 0;
        while next < seg.count() {
            match seg.write_train(next, max, &prefix, &mut dst) {
                Err(_) => {
                    prop_assert!(room < prefix.len() + seg.segment_len(next));
                    break;
                }
                Ok(train) => {
                    prop_assert!(train.segments <= max.max(1) && train.len <= room);
                    for (i, chunk) in dst[..train.len].chunks(train.stride).enumerate() {
                        let mut want = prefix.to_vec();
                        want.resize(8 + seg.segment_len(next + i), 0);
                        seg.write(next + i, &mut want[8..]).unwrap();
                        prop_assert_eq!(chunk, &want[..]);
                    }
                    next += train.segments;
                }
            }
        }
        prop_assert!(seg.write_train(seg.count(), 1, &prefix, &mut vec![0; 9000]).is_err());
    }

    #[test]
    fn hostile_frames_do_not_panic(flow in flow(), payload in payload(), at: prop::sample::Index, byte: u8, kind in 0u8..6, cut: prop::sample::Index) {
        let mut frame = flow.frame(0, 0, flow.flags, &payload);
        let i = at.index(80.min(frame.len()));
        frame[i] = byte;
        frame.truncate(cut.index(frame.len() * 2));
        let mut bytes = [1, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[4] = byte | 1;
        if let Ok(hdr) = VnetHdr::parse(&bytes, vnet::VnetForm::Legacy, vnet::ByteOrder::Little)
            && let Ok(seg) = Segmenter::new(&frame, &VnetHdr { csum: Csum::None, ..hdr })
        {
            let mut out = vec![0; seg.max_segment_len()];
            for i in 0..seg.count() {
                seg.write(i, &mut out).unwrap();
            }
        }
    }
}

#[test]
fn refuses() {
    let flow =
        Flow { tags: 0, v6: false, exts: 0, udp: false, id: 0, seq: 0, flags: 0x10, options: 0, df: true };
    let frame = flow.frame(0, 0, 0x10, &[0; 3000]);
    let gso = flow.gso(1000);
    let none = VnetHdr::default();
    let with = |gso: Gso| VnetHdr { gso: Some(gso), ..none };
    assert!(Segmenter::new(&frame, &with(gso)).is_ok());
    assert!(Segmenter::new(&frame, &none).is_err());
    assert!(Segmenter::new(&frame, &with(Gso { size: 0, ..gso })).is_err());
    for kind in [GsoKind::TcpV6, GsoKind::Udp, GsoKind::UdpL4] {
        assert!(Segmenter::new(&frame, &with(Gso { kind, ..gso })).is_err(), "{kind:?}");
    }
    let moved = VnetHdr { csum: Csum::Partial { start: 30, offset: 16 }, ..with(gso) };
    assert!(Segmenter::new(&frame, &moved).is_err());
    let mut fragment = frame.clone();
    fragment[20] |= 0x20;
    assert!(Segmenter::new(&fragment, &with(gso)).is_err());
    assert!(Segmenter::new(&frame[..frame.len() - 1], &with(gso)).is_err());
}

/// The tunnels that a frame can be cut inside of.
fn tunnel(kind: usize, v6: bool, index: usize, checksum: bool) -> Frame {
    let frame = Frame::eth(Mac([6; 6]), Mac([8; 6])).vlan(9);
    let frame = if v6 {
        frame.ipv6([3; 16], [4; 16])
    } else {
        frame.ipv4([192, 0, 2, 1], [192, 0, 2, 2]).id(0xfffe_u16.wrapping_add(index as u16))
    };
    let vni = crate::Vni::new(1000).unwrap();
    let udp = |frame: Frame| if checksum { frame.udp(9, 99) } else { frame.udp(9, 99).no_checksum() };
    match kind {
        0 => udp(frame).vxlan(vni),
        1 => udp(frame).geneve(vni, &[0, 1, 2, 1, 9, 9, 9, 9]),
        _ => frame.gre(Some(5), None, checksum),
    }
}

proptest! {
    #[test]
    fn cuts_inside_tunnels(
        flow in flow(), payload in payload(), kind in 0usize..3, v6: bool, checksum: bool,
    ) {
        let inside = |index: usize, inner: &[u8]| tunnel(kind, v6, index, checksum).carry(inner).build();
        let mut inner = flow.frame(0, 0, flow.flags, &payload);
        let mut hdr = VnetHdr { csum: make_partial(&mut inner).unwrap(), ..VnetHdr::default() };
        hdr.gso = Some(flow.gso(1000));
        let frame = inside(0, &inner);
        hdr.shift((frame.len() - inner.len()) as i32).unwrap();
        let seg = Segmenter::new(&frame, &hdr).unwrap();
        let want = flow.segments(&payload, 1000);
        prop_assert_eq!(seg.count(), want.len());
        for (i, want) in want.iter().enumerate() {
            let mut out = vec![0xaa; seg.segment_len(i)];
            seg.write(i, &mut out).unwrap();
            prop_assert_eq!(out, inside(i, want), "segment {}", i);
        }
    }
}

#[test]
fn refuses_tunnels_it_does_not_know() {
    let flow =
        Flow { tags: 0, v6: false, exts: 0, udp: false, id: 0, seq: 0, flags: 0x10, options: 0, df: true };
    let mut inner = flow.frame(0, 0, 0x10, &[0; 3000]);
    let csum = make_partial(&mut inner).unwrap();
    let mut hdr = VnetHdr { csum, gso: Some(flow.gso(1000)), num_buffers: 0 };
    let sequenced = Frame::eth(Mac([6; 6]), Mac([8; 6])).ipv4([1; 4], [2; 4]).gre(None, Some(1), false);
    let frame = sequenced.carry(&inner).build();
    hdr.shift((frame.len() - inner.len()) as i32).unwrap();
    assert!(Segmenter::new(&frame, &hdr).is_err());
    let opaque = Frame::eth(Mac([6; 6]), Mac([8; 6])).ipv4([1; 4], [2; 4]).udp(1, 2).payload(&inner).build();
    assert!(Segmenter::new(&opaque, &hdr).is_err());
}
