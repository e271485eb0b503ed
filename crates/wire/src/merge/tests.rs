//! Does cutting a merged frame give the originals back, and is nothing merged that must not be?

use super::*;
use crate::Mac;
use crate::build::Frame;
use crate::segment::Segmenter;
use proptest::prelude::*;

/// What one test frame differs in from the plain next segment of its flow.
#[derive(Debug, Clone)]
struct Step {
    len: usize,
    push: bool,
    change: Option<usize>,
}

const CHANGES: usize = 17;

fn flow(v6: bool, tags: usize) -> Frame {
    let mut frame = Frame::eth(Mac([2; 6]), Mac([4; 6]));
    for tag in 0..tags {
        frame = frame.vlan(tag as u16 + 1);
    }
    if v6 { frame.ipv6([1; 16], [2; 16]) } else { frame.ipv4([10, 0, 0, 1], [10, 0, 0, 2]) }
}

/// The frames of a stream, some of them changed so that they cannot be joined.
fn frames(v6: bool, tags: usize, id: u16, seq: u32, steps: &[Step]) -> Vec<Vec<u8>> {
    let (mut at, mut out) = (seq, Vec::new());
    for (i, step) in steps.iter().enumerate() {
        let payload: Vec<u8> = (0..step.len).map(|n| (n * 7 + i * 13) as u8).collect();
        let change = step.change.unwrap_or(CHANGES);
        let mut frame = flow(v6, tags);
        if !v6 {
            frame = frame.id(id.wrapping_add(i as u16));
        }
        frame = match change {
            0 => frame.ttl(9),
            1 => frame.tos(4),
            2 if !v6 => frame.id(1),
            3 if !v6 => frame.ip_options(&[1, 1, 1, 1]),
            4 if !v6 => frame.frag(Ipv4Frag(0)),
            5 if !v6 => frame.frag(Ipv4Frag(Ipv4Frag::MF)),
            6 if v6 => frame.ext(IpProto::DSTOPTS, &[0; 6]),
            _ => frame,
        };
        let flags = TcpFlags::ACK | if step.push { TcpFlags::PSH } else { 0 };
        let ports = if change == 7 { 5 } else { 6 };
        frame = frame.tcp(ports, 80).seq(at, if change == 8 { 1 } else { 2 }).flags(flags);
        frame = frame.tcp_options(&[1, 1, 8, 10, 0, 0, 0, u8::from(change == 9), 0, 0, 0, 2]);
        frame = match change {
            10 => frame.flags(flags | TcpFlags::FIN),
            11 => frame.flags(flags | TcpFlags::CWR),
            12 => frame.flags(flags | TcpFlags::ECE),
            13 => frame.window(3),
            14 => frame.seq(at.wrapping_add(1), 2),
            _ => frame,
        };
        at = at.wrapping_add(step.len as u32);
        let mut bytes = frame.payload(payload).build();
        match change {
            15 => *bytes.last_mut().unwrap() ^= 1, // a wrong checksum
            16 => bytes.push(0),                   // padding
            _ => {}
        }
        out.push(bytes);
    }
    out
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = prop_oneof![6 => Just(1000usize), 1 => 0usize..1000, 1 => Just(1001)];
    let change = prop_oneof![8 => Just(None), 1 => (0..CHANGES).prop_map(Some)];
    let step =
        (len, prop::bool::weighted(0.1), change).prop_map(|(len, push, change)| Step { len, push, change });
    prop::collection::vec(step, 1..100)
}

/// Merges, and cuts what was merged again. Also gives the sizes of the merged frames.
fn through(frames: &[Vec<u8>], room: usize, trust: Trust) -> (Vec<Vec<u8>>, Vec<usize>) {
    let (mut sent, mut sizes) = (Vec::new(), Vec::new());
    let mut merger = Merger::new(trust);
    let mut buf = vec![0xaa; room];
    let flush = |merger: &mut Merger, buf: &mut Vec<u8>, sent: &mut Vec<Vec<u8>>, sizes: &mut Vec<usize>| {
        let Some(merged) = merger.finish(buf).unwrap() else { return };
        sizes.push(merged.segments);
        let frame = &buf[..merged.len];
        merged.hdr.validate(frame).unwrap();
        if merged.segments == 1 {
            assert_eq!(merged.hdr, VnetHdr { csum: Csum::Valid, ..VnetHdr::default() });
            sent.push(frame.to_vec());
            return;
        }
        let seg = Segmenter::new(frame, &merged.hdr).unwrap();
        assert_eq!(seg.count(), merged.segments);
        for i in 0..seg.count() {
            let mut out = vec![0; seg.segment_len(i)];
            seg.write(i, &mut out).unwrap();
            sent.push(out);
        }
    };
    for frame in frames {
        match merger.push(frame, &mut buf) {
            Push::Taken => {}
            Push::Full => {
                flush(&mut merger, &mut buf, &mut sent, &mut sizes);
                match merger.push(frame, &mut buf) {
                    Push::Taken => {}
                    other => {
                        assert_eq!(other, Push::Pass, "an empty merger is never full");
                        sent.push(frame.clone());
                    }
                }
            }
            Push::Pass => {
                flush(&mut merger, &mut buf, &mut sent, &mut sizes);
                sent.push(frame.clone());
            }
        }
    }
    flush(&mut merger, &mut buf, &mut sent, &mut sizes);
    (sent, sizes)
}

proptest! {
    #[test]
    fn merging_then_segmenting_changes_nothing(
        v6: bool, tags in 0usize..3, id: u16, seq: u32, steps in steps(),
        room in prop_oneof![Just(65_600usize), 0usize..10_000],
    ) {
        let frames = frames(v6, tags, id, seq, &steps);
        let (sent, _) = through(&frames, room, Trust::Verify);
        prop_assert_eq!(sent, frames);
    }

    #[test]
    fn hostile_frames_change_nothing(
        v6: bool, seq: u32, pokes in prop::collection::vec((0usize..5, any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of((0usize..5, any::<prop::sample::Index>())),
    ) {
        let steps = vec![Step { len: 100, push: false, change: None }; 5];
        let mut frames = frames(v6, 1, 7, seq, &steps);
        for (frame, at, byte) in pokes {
            let at = at.index(80);
            frames[frame][at] = byte;
        }
        if let Some((frame, at)) = cut {
            let at = at.index(frames[frame].len());
            frames[frame].truncate(at);
        }
        let (sent, _) = through(&frames, 65_600, Trust::Verify);
        prop_assert_eq!(sent, frames);
    }
}

#[test]
fn joins_as_much_as_fits() {
    let plain = |n: usize| vec![Step { len: 1000, push: false, change: None }; n];
    for v6 in [false, true] {
        let (_, sizes) = through(&frames(v6, 0, 65_530, u32::MAX - 5000, &plain(100)), 70_000, Trust::Verify);
        assert_eq!(sizes, [65, 35], "v6: {v6}");
        let (_, sizes) = through(&frames(v6, 0, 0, 0, &plain(10)), 4000, Trust::Verify);
        assert_eq!(sizes, [3, 3, 3, 1], "v6: {v6}");
    }
    let mut ends = plain(6);
    ends[1].push = true;
    ends[4].len = 10;
    let (_, sizes) = through(&frames(false, 0, 0, 0, &ends), 70_000, Trust::Verify);
    assert_eq!(sizes, [2, 3, 1]);
}

#[test]
fn every_change_parts() {
    for v6 in [false, true] {
        for change in 0..CHANGES {
            if (v6 && (2..=5).contains(&change)) || (!v6 && change == 6) {
                continue;
            }
            let mut steps = vec![Step { len: 100, push: false, change: None }; 3];
            steps[1].change = Some(change);
            let (sent, sizes) = through(&frames(v6, 0, 4, 0, &steps), 70_000, Trust::Verify);
            assert!(sizes.iter().all(|n| *n == 1), "change {change}, v6 {v6}: {sizes:?}");
            assert_eq!(sent.len(), 3);
        }
    }
}

#[test]
fn trust_is_trust() {
    let mut steps = vec![Step { len: 100, push: false, change: None }; 3];
    steps[1].change = Some(15);
    let (_, sizes) = through(&frames(false, 0, 4, 0, &steps), 70_000, Trust::Verified);
    assert_eq!(sizes, [3]);
}
