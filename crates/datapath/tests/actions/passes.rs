//! Are frames looked up again, with what they carry along?

use weft_datapath::Datapath;
use weft_flow::{DpAction, DropReason, EXTRA_CT, SetField};
use weft_wire::Mac;
use weft_wire::build::Frame;

use crate::rig::{A, B, Rig, capture, recirc};

fn frame(src_port: u16) -> Vec<u8> {
    Frame::eth(A, B).ipv4([10, 0, 0, 1], [10, 0, 0, 2]).udp(src_port, 53).payload([1, 2, 3]).build()
}

#[test]
fn a_copy_resumes_and_the_original_goes_on() {
    let rig = Rig::new();
    let to = |mac: u8| DpAction::Set(SetField::EthDst(Mac([mac; 6])));
    rig.flow(
        7,
        |k| k.packet.eth_dst = Mac([4; 6]),
        |m| m.packet.eth_dst = Mac([255; 6]),
        &[to(6), capture(70)],
    );
    rig.flow(8, |k| k.packet.eth_dst = Mac([4; 6]), |m| m.packet.eth_dst = Mac([255; 6]), &[capture(80)]);
    let got = rig.execute(&frame(1), &[to(4), recirc(7), recirc(8), to(8), capture(1)]);
    let seen: Vec<(u64, u8)> = got.iter().map(|(mark, frame)| (*mark, frame[0])).collect();
    assert_eq!(seen, [(1, 8), (70, 6), (80, 4)]);
    assert!(got.iter().all(|(_, frame)| frame.len() == self::frame(1).len()));
}

#[test]
fn who_resumes_nothing_is_dropped() {
    let rig = Rig::new();
    assert!(rig.execute(&frame(1), &[recirc(99)]).is_empty());
    assert_eq!(rig.drops(DropReason::RecircGone) + rig.drops(DropReason::NotAttached), 1);
}

#[test]
fn passes_are_bounded() {
    let rig = Rig::new();
    rig.flow(5, |_| (), |_| (), &[capture(5), recirc(5)]);
    let passes = rig.execute(&frame(1), &[recirc(5)]).len();
    assert_eq!((passes, rig.drops(DropReason::RecursionTooDeep)), (32, 1));
    // Frames that double with each pass end sooner.
    rig.flow(6, |_| (), |_| (), &[recirc(6), recirc(6)]);
    rig.execute(&frame(1), &[recirc(6)]);
    let refused = rig.drops(DropReason::RecursionTooDeep);
    assert!((2..10_000).contains(&refused), "{refused}");
    assert_eq!(rig.execute(&frame(1), &[recirc(5)]).len(), 32, "the next frame has a budget of its own");
}

#[test]
fn the_hash_spreads_connections_and_keeps_each_together() {
    let rig = Rig::new();
    for bucket in 0..4 {
        let actions = [capture(u64::from(bucket))];
        rig.flow(3, |k| (k.packet.extras, k.ct.dp_hash) = (EXTRA_CT, bucket), |m| m.ct.dp_hash = 3, &actions);
    }
    let bucket = |port: u16, basis: u32| {
        rig.execute(&frame(port), &[DpAction::Hash { basis, symmetric: false }, recirc(3)])[0].0
    };
    let first: Vec<u64> = (0..200).map(|port| bucket(port, 1)).collect();
    let again: Vec<u64> = (0..200).map(|port| bucket(port, 1)).collect();
    let other: Vec<u64> = (0..200).map(|port| bucket(port, 2)).collect();
    assert_eq!(first, again);
    assert_ne!(first, other);
    for bucket in 0..4 {
        let share = first.iter().filter(|b| **b == bucket).count();
        assert!((25..75).contains(&share), "{share} of 200 in bucket {bucket}");
    }
}

#[test]
fn clearing_forgets_the_connection_but_not_the_hash() {
    let rig = Rig::new();
    rig.flow(3, |k| k.packet.extras = EXTRA_CT, |_| (), &[capture(1)]);
    rig.flow(3, |k| k.packet.extras = 0, |_| (), &[capture(0)]);
    let got = |actions: &[DpAction]| rig.execute(&frame(1), actions)[0].0;
    assert_eq!(got(&[recirc(3)]), 0);
    assert_eq!(got(&[DpAction::Hash { basis: 1, symmetric: false }, DpAction::CtClear, recirc(3)]), 1);
    assert_eq!(got(&[DpAction::CtClear, recirc(3)]), 0);
}

#[test]
fn many_copies_at_once_find_buffers() {
    let rig = Rig::new();
    rig.flow(7, |_| (), |_| (), &[capture(7)]);
    let mut actions = Vec::new();
    for mac in 0..200 {
        actions.extend([DpAction::Set(SetField::EthDst(Mac([mac; 6]))), recirc(7)]);
    }
    let got = rig.execute(&frame(1), &actions);
    assert_eq!(got.iter().map(|(_, frame)| frame[0]).collect::<Vec<u8>>(), (0..200).collect::<Vec<u8>>());
    assert_eq!(rig.datapath.drops().iter().sum::<u64>(), 0);
}
