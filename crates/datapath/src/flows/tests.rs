//! Do cached flows come, stay and go as they should?

use super::*;
use std::sync::atomic::Ordering::Relaxed;
use weft_flow::{RuleRef, RuleStats};

fn key(n: u32) -> FlowKey {
    let mut key = FlowKey::default();
    (key.packet.in_port, key.packet.ipv4_dst, key.packet.tp_dst) = (1, n, n as u16);
    key
}

/// A verdict that looks at the IPv4 destination, and at `more` words of tunnel options beside.
fn verdict(port: u32, more: usize) -> Verdict {
    let mut mask = Box::new(FlowMask::empty());
    mask.0.packet.ipv4_dst = u32::MAX;
    mask.0.tun_metadata.data[..more].fill([0xff; 8]);
    let stats = std::sync::Arc::new(RuleStats::default());
    Verdict {
        actions: vec![DpAction::Output(DpPort(port))],
        mask,
        drop: None,
        cacheable: true,
        deps: DepTags::default(),
        rules: vec![RuleRef { bridge: 1, table: 0, cookie: 7, stats }],
        refresh: Vec::new(),
        counters: Vec::new(),
        effects: Vec::new(),
    }
}

fn install(table: &mut FlowTable, n: u32, verdict: Verdict, now_ms: u64) -> u32 {
    match table.install(&key(n), u64::from(n) << 32 | 5, verdict, 1, now_ms) {
        Installed::Yes(flow) => flow,
        Installed::No(_) => panic!("not installed"),
    }
}

/// By signature, or else by the classifier, as lanes do.
fn find(table: &mut FlowTable, n: u32) -> Option<u32> {
    let hash = u64::from(n) << 32 | 5;
    table.lookup_signature(hash, &key(n)).or_else(|| table.lookup_megaflow(hash, &key(n), usize::MAX).0)
}

#[test]
fn what_is_installed_is_found_and_what_is_removed_is_not() {
    for more in [0, 3, 20] {
        let mut table = FlowTable::new(100, 3);
        let flows: Vec<u32> = (0..50).map(|n| install(&mut table, n, verdict(n, more), 0)).collect();
        assert_eq!((table.len(), table.masks()), (50, 1));
        for n in 0..50 {
            assert_eq!(find(&mut table, n), Some(flows[n as usize]), "{more} more words");
            assert!(table.confirm(flows[n as usize], &key(n), 1));
            assert!(!table.confirm(flows[n as usize], &key(n), 2), "of another epoch");
            assert!(!table.confirm(flows[n as usize], &key(n + 1), 1), "of another packet");
            let (match_key, mask) = table.matching(flows[n as usize]);
            assert_eq!((match_key.packet.ipv4_dst, match_key.packet.tp_dst), (n, 0));
            assert!(
                table.has_mask(flows[n as usize], &verdict(1, more).mask)
                    && mask.0.packet.in_port == u32::MAX
            );
        }
        for n in 0..50 {
            table.remove(flows[n as usize], 0);
            assert_eq!(find(&mut table, n), None, "the signature cache may still hold its index");
        }
        assert_eq!((table.len(), table.masks()), (0, 0));
        // A slot that is used again answers for its new flow only.
        let again = install(&mut table, 99, verdict(1, more), 0);
        assert_eq!((find(&mut table, 0), find(&mut table, 99)), (None, Some(again)));
    }
}

#[test]
fn traffic_is_credited_once() {
    let mut table = FlowTable::new(100, 3);
    let first = verdict(1, 0);
    let stats = first.rules[0].stats.clone();
    let flow = install(&mut table, 7, first, 0);
    let hit = |table: &mut FlowTable| {
        let hot = table.hot(flow);
        (hot.packets, hot.bytes, hot.used_ms) = (hot.packets + 2, hot.bytes + 100, 50);
    };
    hit(&mut table);
    assert!(table.credit(flow, 60) && !table.credit(flow, 70));
    assert_eq!(
        (stats.packets.load(Relaxed), stats.bytes.load(Relaxed), stats.used_ms.load(Relaxed)),
        (2, 100, 50)
    );
    // A new verdict over the same match: what the old rule let through is still the old rule's.
    hit(&mut table);
    let second = verdict(2, 0);
    let new_stats = second.rules[0].stats.clone();
    assert_eq!(install(&mut table, 7, second, 80), flow);
    hit(&mut table);
    table.remove(flow, 90);
    assert_eq!((stats.packets.load(Relaxed), new_stats.packets.load(Relaxed)), (4, 2));
}

#[test]
fn the_oldest_gives_way_but_not_what_is_in_use_or_pinned() {
    let mut table = FlowTable::new(3, 3);
    let pinned = match table.pin(&key(1), 1, verdict(1, 0), 1, 0) {
        Installed::Yes(flow) => flow,
        Installed::No(_) => panic!("not installed"),
    };
    let in_use = install(&mut table, 2, verdict(1, 0), 1);
    let old = install(&mut table, 3, verdict(1, 0), 2);
    table.hot(in_use).group = 0;
    assert!(table.make_room(10));
    assert!(table.is_live(pinned) && table.is_live(in_use) && !table.is_live(old));
    assert!(!table.make_room(10), "there is room now");
    table.clear(10);
    assert_eq!(table.len(), 0);
}

/// Verdicts that look at ever other bits, as crafted packets bring them about.
fn crafted(n: u32) -> Verdict {
    let mut verdict = verdict(1, 0);
    verdict.mask.0.packet.ipv4_src = n;
    verdict
}

#[test]
fn masks_come_slowly_and_end() {
    use crate::megaflow::MAX_MASKS;
    let mut table = FlowTable::new(10_000, 3);
    for n in 0..1000 {
        install(&mut table, n, crafted(n), 60_000);
        assert!(find(&mut table, n).is_some());
    }
    // Those that come at once, those that were saved up, and the one that all others share.
    assert_eq!((table.masks(), table.narrowed), (32 + 16 + 1, 1000 - 48));
    for n in 1000..10_000 {
        install(&mut table, n, crafted(n), 60_000 + u64::from(n));
    }
    assert_eq!(table.masks(), MAX_MASKS);
    let mut packet = key(20_000);
    packet.packet.in_port = 2;
    assert!(matches!(table.install(&packet, 1, crafted(7), 1, 70_000), Installed::Yes(_)));
    let (flow, tried) = table.lookup_megaflow(77, &packet, usize::MAX);
    assert!(flow.is_some() && tried == 1, "another port has masks of its own");
}

#[test]
fn narrow_flows_are_for_one_kind_of_packet() {
    let mut table = FlowTable::new(10_000, 3);
    for n in 0..100 {
        install(&mut table, n, crafted(n), 0);
    }
    let mut packet = key(5_000);
    (packet.packet.extras, packet.ct.mark, packet.packet.ip_ttl) = (EXTRA_CT, 7, 64);
    packet.packet.eth_type = 0x0800;
    assert!(matches!(table.install(&packet, 9, crafted(5_000), 1, 0), Installed::Yes(_)));
    assert!(table.lookup_megaflow(9, &packet, usize::MAX).0.is_some());
    let others: [fn(&mut FlowKey); 3] =
        [|k| k.ct.mark = 8, |k| k.packet.ip_ttl = 63, |k| k.packet.tp_dst ^= 1];
    for change in others {
        let mut other = packet;
        change(&mut other);
        assert_eq!(table.lookup_megaflow(10, &other, usize::MAX).0, None);
    }
}
