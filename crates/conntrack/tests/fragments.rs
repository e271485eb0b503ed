//! What is demanded of fragments, and how do those fare that do not meet it?

use weft_conntrack::{Conntrack, CtPacket, FragmentCounts, Limits, Reassembled, state};
use weft_flow::{CtKey, DropReason, PacketKey, extract_packet};
use weft_wire::Mac;
use weft_wire::build::Frame;
use weft_wire::fragment::Fragmenter;

/// A datagram in fragments of 100 bytes.
fn fragments(id: u32) -> Vec<Vec<u8>> {
    let frame = Frame::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let mut whole = frame.ipv4([10, 0, 0, 1], [192, 0, 2, 1]).udp(1000, 53).payload(vec![7; 200]).build();
    // May be fragmented, and is told apart from others.
    (whole[14 + 4], whole[14 + 5], whole[14 + 6]) = ((id >> 8) as u8, id as u8, 0);
    weft_wire::ipv4::fill_checksum(&mut whole[14..34]).expect("a header");
    let cut = Fragmenter::new(&whole, 100, id).expect("to be cut");
    let one = |i| {
        let mut out = vec![0; 200];
        let len = cut.write(i, &mut out).expect("it fits");
        out.truncate(len);
        out
    };
    (0..cut.count()).map(one).collect()
}

fn add(ct: &Conntrack, frame: &[u8], now_ms: u64) -> Reassembled {
    let mut key = PacketKey::default();
    let layout = extract_packet(frame, 1, &mut key).expect("a frame");
    ct.reassemble(&CtPacket { frame, layout: &layout, key: &key, checksums_good: false }, 1, now_ms)
}

#[test]
fn what_is_refused_is_counted() {
    let ct = Conntrack::new(42, Limits::default());
    let parts = fragments(1);
    assert_eq!(parts.len(), 3);
    // All there.
    assert_eq!(add(&ct, &parts[0], 0), Reassembled::Held);
    assert_eq!(add(&ct, &parts[1], 0), Reassembled::Held);
    assert_eq!((ct.fragments().waiting, ct.fragments().lists.len()), (2, 1));
    assert!(matches!(add(&ct, &parts[2], 0), Reassembled::Whole { .. }));
    let counts = FragmentCounts { accepted: 3, completed: 3, ..FragmentCounts::default() };
    assert_eq!((ct.fragments().counts[0], ct.fragments().waiting), (counts, 0));
    // Too small, but for the last.
    ct.set_fragment_rules(|rules| rules.least[0] = 400);
    assert_eq!(add(&ct, &parts[0], 0), Reassembled::Dropped(DropReason::CtFragment));
    assert_eq!(add(&ct, &parts[2], 0), Reassembled::Held);
    assert_eq!(ct.fragments().counts[0].small, 1);
    // Too late.
    ct.sweep(60_000, 1);
    assert_eq!((ct.fragments().counts[0].expired, ct.fragments().waiting), (1, 0));
    // Too many: the oldest go.
    ct.set_fragment_rules(|rules| (rules.least[0], rules.most) = (0, 4));
    for id in 10..20 {
        assert_eq!(add(&ct, &fragments(id)[0], u64::from(id)), Reassembled::Held);
    }
    let status = ct.fragments();
    assert_eq!((status.waiting, status.counts[0].purged), (4, 6));
    // Not wanted at all.
    ct.set_fragment_rules(|rules| rules.enabled[0] = false);
    assert_eq!(add(&ct, &parts[0], 0), Reassembled::Alone);
    let mut key = CtKey { zone: 9, mark: 3, dp_hash: 5, ..CtKey::default() };
    Conntrack::refuse(&mut key, 1);
    assert_eq!(key, CtKey { zone: 1, dp_hash: 5, state: state::TRK | state::INV, ..CtKey::default() });
}
