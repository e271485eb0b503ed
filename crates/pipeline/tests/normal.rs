//! Does NORMAL switch, learn, and treat VLANs as the port's configuration says?

mod common;

use common::{bridge, device, flows, frame, mac, outcome, packet, pipeline, tag, vlan_port};
use weft_flow::{DpPort, OfPort, VLAN_PRESENT, Vlan};
use weft_pipeline::{
    FailMode, FdbEntry, Pipeline, PortConfig, PortFlags, PriorityTags, VlanConfig, VlanMode, VlanSet,
};
use weft_wire::Mac;

fn three_ports() -> Pipeline {
    pipeline(vec![bridge(1, vec![device(1, 1), device(1, 2), device(1, 3)])])
}

/// A conversation: input port, source, destination, what becomes of it.
fn check(pipeline: &Pipeline, steps: &[(u32, u8, u8, &str)]) {
    for (n, (port, src, dst, expected)) in steps.iter().enumerate() {
        let verdict = pipeline.walk(&frame(*port, *src, *dst, &[]), n as u64);
        assert_eq!(outcome(&verdict), *expected, "step {n}");
    }
}

#[test]
fn floods_learns_and_relearns() {
    check(
        &three_ports(),
        &[
            (101, 1, 2, "102,103"),              // unknown: flooded
            (102, 2, 1, "101"),                  // learned
            (101, 1, 2, "102"),                  //
            (101, 1, 255, "102,103"),            // broadcast
            (103, 1, 2, "102"),                  // station 1 moved
            (102, 2, 1, "103"),                  //
            (103, 3, 1, "drop:hairpin-refused"), // both behind port 3
            (104, 1, 2, "drop:not-attached"),
        ],
    );
}

#[test]
fn cached_flows_follow_the_table() {
    let pipeline = three_ports();
    let mut changes = pipeline.subscribe();
    let there = frame(101, 1, 2, &[]);
    let flooded = pipeline.walk(&there, 0);
    assert!(flooded.cacheable && changes.take().is_some());
    let again = pipeline.revalidate(&there, 1);
    assert_eq!((outcome(&again), again.cacheable), (outcome(&flooded), true));
    assert_eq!(again.refresh, flooded.refresh);
    assert_eq!(changes.take(), None);
    // Station 2 answers: the flooding flow rests on its place.
    pipeline.walk(&frame(102, 2, 1, &[]), 2);
    let changed = changes.take().unwrap();
    assert!(!changed.tables && changed.affects(flooded.deps));
    assert_eq!(outcome(&pipeline.revalidate(&there, 3)), "102");
    // Station 1 moves to port 3: its flow from port 1 may not be cached any longer, so that moving back is seen.
    pipeline.walk(&frame(103, 1, 2, &[]), 4);
    assert!(changes.take().unwrap().affects(again.deps));
    assert!(!pipeline.revalidate(&there, 5).cacheable);
    // A late report about the old flow changes nothing, a newer one does.
    pipeline.refresh(&flooded.refresh[0], 3);
    assert_eq!(pipeline.fdb_entries(1, 5)[0].port, OfPort(3));
    pipeline.refresh(&flooded.refresh[0], 6);
    assert_eq!(pipeline.fdb_entries(1, 6)[0].port, OfPort(1));
}

#[test]
fn entries_age_unless_used() {
    let pipeline = three_ports();
    let mut config = bridge(1, vec![device(1, 1), device(1, 2)]);
    config.mac_aging_ms = 20_000;
    common::configure(&pipeline, config);
    let one = pipeline.walk(&frame(101, 1, 255, &[]), 0);
    pipeline.walk(&frame(102, 2, 255, &[]), 0);
    pipeline.refresh(&one.refresh[0], 15_000);
    pipeline.age(21_000);
    let left = FdbEntry { port: OfPort(1), vlan: 0, mac: mac(1), age_ms: 6_000, is_static: false };
    assert_eq!(pipeline.fdb_entries(1, 21_000), [left]);
    pipeline.fdb_flush(1);
    assert!(pipeline.fdb_entries(1, 0).is_empty());
    let stats = pipeline.fdb_stats(1);
    assert_eq!((stats.learned, stats.expired, stats.entries), (2, 1, 0));
}

#[test]
fn a_port_that_goes_takes_its_addresses_along() {
    let pipeline = three_ports();
    pipeline.walk(&frame(103, 3, 255, &[]), 0);
    let config = bridge(1, vec![device(1, 1), device(1, 2)]);
    common::configure(&pipeline, config);
    assert!(pipeline.fdb_entries(1, 0).is_empty());
    assert_eq!(outcome(&pipeline.walk(&frame(101, 1, 3, &[]), 0)), "102");
}

#[test]
fn static_entries_do_not_move() {
    let pipeline = three_ports();
    assert!(pipeline.fdb_add_static(1, 0, mac(9), OfPort(3)));
    check(&pipeline, &[(101, 1, 9, "103"), (102, 9, 1, "101"), (101, 1, 9, "103")]);
    assert!(pipeline.revalidate(&frame(102, 9, 1, &[]), 0).cacheable);
    pipeline.fdb_remove(1, 0, mac(9));
    check(&pipeline, &[(101, 1, 9, "102,103")]);
}

#[test]
fn reserved_multicast_stays() {
    let reserved: [[u8; 6]; 4] = [
        [1, 0x80, 0xc2, 0, 0, 0],
        [1, 0x80, 0xc2, 0, 0, 0x0e],
        [1, 0, 0x0c, 0xcc, 0xcc, 0xcd],
        [0, 0xe0, 0x2b, 0, 0, 4],
    ];
    for (forward_bpdu, expected) in [(false, "drop:reserved-multicast"), (true, "102,103")] {
        let mut config = bridge(1, vec![device(1, 1), device(1, 2), device(1, 3)]);
        config.forward_bpdu = forward_bpdu;
        let pipeline = pipeline(vec![config]);
        for dst in reserved {
            let mut key = frame(101, 1, 2, &[]);
            key.packet.eth_dst = Mac(dst);
            assert_eq!(outcome(&pipeline.walk(&key, 0)), expected, "{dst:x?}");
        }
        let mut key = frame(101, 1, 2, &[]);
        key.packet.eth_dst = Mac([1, 0x80, 0xc2, 0, 0, 0x10]);
        assert_eq!(outcome(&pipeline.walk(&key, 0)), "102,103");
    }
}

#[test]
fn port_flags() {
    let with = |n, flags| PortConfig { flags, ..device(1, n) };
    let flags = PortFlags::default();
    let ports = vec![
        device(1, 1),
        with(2, PortFlags { no_flood: true, ..flags }),
        with(3, PortFlags { down: true, ..flags }),
        with(4, PortFlags { no_forward: true, ..flags }),
        with(5, PortFlags { no_receive: true, ..flags }),
        with(6, PortFlags { protected: true, ..flags }),
        with(7, PortFlags { protected: true, ..flags }),
        PortConfig { link_up: false, ..device(1, 8) },
    ];
    check(
        &pipeline(vec![bridge(1, ports)]),
        &[
            (101, 1, 255, "105,106,107"),
            (102, 2, 1, "101"),
            (101, 1, 2, "102"), // no-flood ports take known unicast
            (103, 3, 1, "drop:port-down"),
            (105, 5, 1, "drop:port-no-receive"),
            (106, 6, 255, "101,105"),
            (107, 7, 6, "drop:no-other-port"),
            (101, 1, 7, "107"),
        ],
    );
}

#[test]
fn spanning_tree_frames_have_a_flag_of_their_own() {
    for (no_receive, no_receive_stp) in [(false, false), (true, false), (false, true), (true, true)] {
        let flags = PortFlags { no_receive, no_receive_stp, ..PortFlags::default() };
        let pipeline = pipeline(vec![bridge(1, vec![PortConfig { flags, ..device(1, 1) }, device(1, 2)])]);
        flows(&pipeline, 1, "actions=2");
        for (text, refused) in [
            ("dl_dst=01:80:c2:00:00:00,dl_type=0x05ff", no_receive_stp),
            // Another address, and another header.
            ("dl_dst=01:80:c2:00:00:01,dl_type=0x05ff", no_receive),
            ("dl_dst=01:80:c2:00:00:00,dl_type=0x88b6", no_receive),
        ] {
            let verdict = pipeline.walk(&packet(1, &format!("in_port=1,{text}")), 0);
            let expected = if refused { "drop:port-no-receive" } else { "102" };
            assert_eq!(outcome(&verdict), expected, "{text} {flags:?}");
            // Where it makes no difference, frames of both kinds share a flow.
            let looked = verdict.mask.0.packet.eth_dst != Mac::ZERO;
            assert_eq!(looked, no_receive != no_receive_stp && text.contains("05ff"), "{text} {flags:?}");
        }
    }
}

#[test]
fn a_bond_is_one_port() {
    let member = |n, link_up| PortConfig { bond: Some(7), link_up, ..device(1, n) };
    let with = |first_up| bridge(1, vec![device(1, 1), member(2, first_up), member(3, true), device(1, 4)]);
    let pipeline = pipeline(vec![with(true)]);
    check(
        &pipeline,
        &[
            (101, 1, 255, "102,104"),
            (102, 2, 1, "101"),
            (103, 9, 255, "drop:loop-suspected"),
            (102, 3, 2, "drop:hairpin-refused"),
            (101, 1, 2, "102"),
        ],
    );
    common::configure(&pipeline, with(false));
    check(
        &pipeline,
        &[
            (101, 1, 2, "103"),
            (101, 1, 255, "103,104"),
            (103, 2, 1, "101"),
            (103, 3, 2, "drop:hairpin-refused"),
        ],
    );
}

/// One port of each kind in VLAN 10, and some that are not.
fn vlan_bridge() -> Pipeline {
    let mode = |n, mode, tag, trunks: &[u16]| vlan_port(1, n, VlanConfig::new(mode, tag, trunks));
    pipeline(vec![bridge(
        1,
        vec![
            vlan_port(1, 1, VlanConfig::access(10)),
            vlan_port(1, 2, VlanConfig::access(20)),
            device(1, 3),
            mode(4, VlanMode::Trunk, 0, &[10, 30]),
            mode(5, VlanMode::NativeTagged, 10, &[20]),
            mode(6, VlanMode::NativeUntagged, 10, &[20]),
            mode(7, VlanMode::Dot1qTunnel, 10, &[]),
            vlan_port(1, 8, VlanConfig { priority_tags: PriorityTags::IfNonzero, ..VlanConfig::access(10) }),
            vlan_port(1, 9, VlanConfig { priority_tags: PriorityTags::Always, ..VlanConfig::access(10) }),
        ],
    )])
}

fn pcp(vid: u16, pcp: u16) -> Vlan {
    Vlan { tpid: 0x8100, tci: VLAN_PRESENT | vid | pcp << 13 }
}

#[test]
fn vlan_matrix() {
    // Input port, tags (outermost first), what becomes of a broadcast.
    let cases: &[(u32, &[Vlan], &str)] = &[
        // Access.
        (101, &[], "106,107,108,109,push10,103,104,105"),
        (101, &[pcp(0, 0)], "109,tcia,103,104,105,pop,106,107,108"),
        (101, &[pcp(0, 5)], "108,109,tcia00a,103,104,105,pop,106,107"),
        (101, &[tag(10)], "drop:tagged-on-access-port"),
        (101, &[tag(20)], "drop:tagged-on-access-port"),
        (102, &[], "push20,103,105,106"),
        // Trunks.
        (103, &[], "drop:no-other-port"),
        (103, &[tag(10)], "104,105,tci0,109,pop,101,106,107,108"),
        (103, &[pcp(10, 3)], "104,105,tci6000,108,109,pop,101,106,107"),
        (103, &[tag(20)], "105,106,pop,102"),
        (103, &[tag(40)], "drop:no-other-port"),
        (104, &[tag(20)], "drop:input-vlan-not-allowed"),
        (104, &[tag(30)], "103"),
        (104, &[], "drop:input-vlan-not-allowed"),
        // Native VLAN.
        (105, &[], "101,106,107,108,109,push10,103,104"),
        (105, &[tag(10)], "103,104,tci0,109,pop,101,106,107,108"),
        (105, &[tag(20)], "103,106,pop,102"),
        (105, &[tag(30)], "drop:input-vlan-not-allowed"),
        (106, &[], "101,107,108,109,push10,103,104,105"),
        (106, &[tag(10)], "103,104,105,tci0,109,pop,101,107,108"),
        // Customer's tags under a service tag.
        (107, &[], "101,106,108,109,push10/88a8,103,104,105"),
        (107, &[tag(7)], "101,106,108,109,push10/88a8,103,104,105"),
        (103, &[Vlan { tpid: 0x88a8, ..tag(10) }, tag(7)], "104,105,tci0,109,pop,101,106,107,108"),
    ];
    for (port, tags, expected) in cases {
        let pipeline = vlan_bridge();
        let verdict = pipeline.walk(&frame(*port, 1, 255, tags), 0);
        assert_eq!(outcome(&verdict), *expected, "{port} {tags:?}");
    }
}

#[test]
fn addresses_are_learned_by_vlan() {
    let pipeline = vlan_bridge();
    pipeline.walk(&frame(101, 1, 255, &[]), 0);
    pipeline.walk(&frame(102, 1, 255, &[]), 0);
    let learned: Vec<_> = pipeline.fdb_entries(1, 0).iter().map(|e| (e.vlan, e.port.0)).collect();
    assert_eq!(learned, [(10, 1), (20, 2)]);
    assert_eq!(outcome(&pipeline.walk(&frame(103, 3, 1, &[tag(10)]), 0)), "pop,101");
    assert_eq!(outcome(&pipeline.walk(&frame(103, 3, 1, &[tag(20)]), 0)), "pop,102");
    // A frame without a tag and one with VID 0 are in the same VLAN.
    assert_eq!(outcome(&pipeline.walk(&frame(108, 4, 1, &[]), 0)), "101");
    assert_eq!(outcome(&pipeline.walk(&frame(108, 4, 1, &[tag(0)]), 0)), "pop,101");
}

#[test]
fn customer_vlans_are_restricted() {
    let cvlans = VlanSet::of(&[7]);
    let tunnel = VlanConfig { cvlans, ..VlanConfig::new(VlanMode::Dot1qTunnel, 10, &[]) };
    let pipeline = pipeline(vec![bridge(1, vec![vlan_port(1, 1, tunnel), device(1, 2)])]);
    let check = |key, expected: &str| assert_eq!(outcome(&pipeline.walk(&key, 0)), expected);
    check(frame(101, 1, 255, &[tag(7)]), "push10/88a8,102");
    check(frame(101, 1, 255, &[tag(8)]), "drop:input-vlan-not-allowed");
    check(frame(102, 2, 255, &[tag(10), tag(7)]), "pop,101");
    check(frame(102, 2, 255, &[tag(10), tag(8)]), "drop:no-other-port");
}

#[test]
fn flood_vlans_do_not_learn() {
    let mut config = bridge(1, vec![device(1, 1), device(1, 2), device(1, 3)]);
    config.flood_vlans = VlanSet::of(&[0]);
    let pipeline = pipeline(vec![config]);
    check(&pipeline, &[(101, 1, 2, "102,103"), (102, 2, 1, "101,103")]);
    assert!(pipeline.fdb_entries(1, 0).is_empty());
    assert_eq!(outcome(&pipeline.walk(&frame(101, 1, 2, &[tag(5)]), 0)), "102,103");
    assert_eq!(pipeline.fdb_entries(1, 0).len(), 1);
}

#[test]
fn a_secure_bridge_has_no_rules() {
    let mut config = bridge(1, vec![device(1, 1), device(1, 2)]);
    config.fail_mode = FailMode::Secure;
    let pipeline = pipeline(vec![config.clone()]);
    assert_eq!(outcome(&pipeline.walk(&frame(101, 1, 2, &[]), 0)), "drop:fail-secure");
    config.controller_connected = true;
    common::configure(&pipeline, config);
    assert_eq!(outcome(&pipeline.walk(&frame(101, 1, 2, &[]), 0)), "drop:table-miss");
}

#[test]
fn masks_are_no_narrower_than_needed() {
    let pipeline = three_ports();
    let mask = pipeline.walk(&common::ipv4(101, 1, 2, 6, (1, 2)), 0).mask;
    let m = &mask.0.packet;
    assert_eq!((m.in_port, m.eth_dst, m.eth_src), (u32::MAX, Mac::BROADCAST, Mac::BROADCAST));
    assert_eq!(m.vlan[0], Vlan { tpid: 0, tci: 0x1fff });
    assert_eq!((m.ipv4_dst, m.ip_proto, m.ip_tos, m.tp_dst, m.vlan[1].tci), (0, 0, 0, 0, 0));
    assert_eq!(pipeline.snapshot().port_of(DpPort(101)), Some((1, OfPort(1))));
}
