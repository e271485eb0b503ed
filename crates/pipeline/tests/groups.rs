//! What do groups and meters do with packets, and which changes to them are refused?

mod common;

use common::{add_group, bridge, device, flows, group, ipv4, outcome, pipeline, recirculated, short};
use weft_flow::{Band, BandKind, EXTRA_CT, Field, OfPort};
use weft_pipeline::Pipeline;
use weft_pipeline::group::*;
use weft_pipeline::meter::{MeterCommand, MeterError, MeterMod};

fn ready(rules: &str) -> Pipeline {
    let pipeline = pipeline(vec![bridge(1, (1..6).map(|n| device(1, n)).collect())]);
    flows(&pipeline, 1, rules);
    pipeline
}

fn down(pipeline: &Pipeline, port: u32) {
    let mut config = (*pipeline.snapshot().bridge(1).unwrap().config).clone();
    let port = config.ports.get(OfPort(port)).unwrap().clone();
    config.ports.insert(weft_pipeline::PortConfig { link_up: false, ..port });
    common::configure(pipeline, config);
}

#[test]
fn all_buckets_get_a_copy() {
    let pipeline = ready("actions=group:1,output:5");
    let buckets = [(0, "mod_dl_src:02:00:00:00:00:07,output:2"), (0, "output:3"), (0, "output:1")];
    add_group(&pipeline, 1, 1, GroupKind::All, &buckets);
    let verdict = pipeline.walk(&ipv4(101, 1, 2, 6, (1, 2)), 0);
    assert_eq!(short(&verdict.actions), "(EthSrc(02:00:00:00:00:07),102),103,105");
    assert_eq!(verdict.counters.len(), 4, "the group and each bucket");
}

#[test]
fn the_first_live_bucket() {
    let pipeline = ready("actions=group:1");
    let mut add = GroupMod::new(GroupCommand::Add, 1, GroupKind::FastFailover);
    for (i, port) in [2, 3].into_iter().enumerate() {
        let actions = vec![common::output(OfPort(port))];
        add.buckets.push(Bucket { watch_port: OfPort(port), ..Bucket::new(i as u32, 0, actions) });
    }
    // The last one watches another group.
    let last = Bucket { watch_group: 2, ..Bucket::new(9, 0, vec![common::output(OfPort(4))]) };
    add.buckets.push(last);
    group(&pipeline, 1, &add);
    add_group(&pipeline, 1, 2, GroupKind::Indirect, &[(0, "output:4")]);
    let key = ipv4(101, 1, 2, 6, (1, 2));
    for (expected, gone) in [("102", 2), ("103", 3), ("104", 4)] {
        assert_eq!(outcome(&pipeline.walk(&key, 0)), expected);
        down(&pipeline, gone);
    }
    group(&pipeline, 1, &GroupMod::new(GroupCommand::Delete, 2, GroupKind::All));
    assert_eq!(outcome(&pipeline.walk(&key, 0)), "drop:group-no-bucket");
}

#[test]
fn selection_by_the_datapaths_hash() {
    let pipeline = ready("actions=load:7->NXM_NX_REG0[],group:1,output:NXM_NX_REG0[0..2]");
    add_group(&pipeline, 1, 1, GroupKind::Select, &[(1, "output:2"), (3, "output:3"), (0, "output:4")]);
    let key = ipv4(101, 1, 2, 6, (1, 2));
    let first = pipeline.walk(&key, 0);
    assert_eq!(short(&first.actions), "hash0,recirc");
    assert_eq!(Field::TcpDst.mask_of(&first.mask), 0);
    let mut seen = [0; 5];
    for hash in 1..=64u32 {
        let verdict = recirculated(&pipeline, &key, &first, |key| {
            key.packet.extras |= EXTRA_CT;
            key.ct.dp_hash = hash;
        });
        assert_eq!(verdict.mask.0.ct.dp_hash, 0xf, "16 slots");
        let out = outcome(&verdict);
        seen[out.parse::<usize>().unwrap() - 100] += 1;
    }
    assert_eq!((seen[2], seen[3], seen[4]), (16, 48, 0));
    // The same state has the same number.
    assert_eq!(pipeline.revalidate(&key, 0).actions, first.actions);
}

#[test]
fn selection_by_fields() {
    let pipeline = ready("actions=group:1");
    let mut add = GroupMod::new(GroupCommand::Add, 1, GroupKind::Select);
    add.selection = Selection { method: SelectionMethod::Hash, param: 5, fields: vec![(Field::IpSrc, 0xff)] };
    add.buckets = (2..4).map(|n| Bucket::new(n, 1, vec![common::output(OfPort(n))])).collect();
    group(&pipeline, 1, &add);
    let mut outs = std::collections::BTreeSet::new();
    for src in 1..32 {
        let verdict = pipeline.walk(&ipv4(101, src, 2, 6, (1, 2)), 0);
        assert_eq!(Field::IpSrc.mask_of(&verdict.mask), 0xff);
        outs.insert(outcome(&verdict));
    }
    assert_eq!(outs.into_iter().collect::<Vec<_>>(), ["102", "103"]);
    // Beneath a label the fields are not known yet.
    flows(&pipeline, 1, "actions=pop_mpls:0x800,output:4,group:1");
    let mut labelled = ipv4(101, 1, 2, 6, (1, 2));
    let eth_src = labelled.packet.eth_src;
    labelled.packet = weft_flow::PacketKey {
        in_port: 101,
        eth_type: 0x8847,
        eth_src,
        mpls: [0x7140, 0, 0],
        ..Default::default()
    };
    assert_eq!(short(&pipeline.walk(&labelled, 0).actions), "pop_mpls/800,104,recirc");
}

#[test]
fn group_mods_that_are_refused() {
    let pipeline = ready("");
    let add =
        |id, kind, buckets: Vec<Bucket>| GroupMod { buckets, ..GroupMod::new(GroupCommand::Add, id, kind) };
    let apply = |group_mod: &GroupMod| pipeline.update(|s| s.group_mod(1, group_mod, 0)).map(|_| ());
    let plain = |id| Bucket::new(id, 0, vec![]);
    let to = |id| Bucket::new(0, 0, vec![weft_flow::Action::Group(id)]);
    let watching = |id| Bucket { watch_group: id, ..plain(0) };
    let port = || Bucket { watch_port: OfPort(1), ..plain(0) };
    use GroupError::*;
    use GroupKind::*;
    let cases = [
        (add(1, All, vec![plain(0), plain(1)]), Ok(())),
        (add(1, All, vec![]), Err(GroupExists(1))),
        (add(2, All, vec![plain(0), plain(0)]), Err(BucketExists(0))),
        (add(2, All, vec![Bucket::new(0, 5, vec![])]), Err(InvalidGroup(2))),
        (add(2, Indirect, vec![]), Err(InvalidGroup(2))),
        (add(2, Indirect, vec![plain(0), plain(1)]), Err(InvalidGroup(2))),
        (add(2, All, vec![port()]), Err(WatchUnsupported)),
        (add(2, FastFailover, vec![plain(0)]), Err(InvalidGroup(2))),
        (add(2, All, vec![plain(0xffff_ffff)]), Err(BadBucket(0xffff_ffff))),
        (add(0xffff_ff01, All, vec![]), Err(InvalidGroup(0xffff_ff01))),
        (add(2, Indirect, vec![to(3)]), Ok(())),
        (add(3, Indirect, vec![to(2)]), Err(Loop(3))),
        (add(3, Indirect, vec![to(3)]), Err(Loop(3))),
        (add(3, FastFailover, vec![watching(4)]), Ok(())),
        (add(4, FastFailover, vec![watching(3)]), Err(BadWatch(4))),
        (GroupMod::new(GroupCommand::Modify, 9, All), Err(UnknownGroup(9))),
        (GroupMod::new(GroupCommand::Delete, 9, All), Ok(())),
        (
            GroupMod { command_bucket: 7, ..GroupMod::new(GroupCommand::RemoveBucket, 1, All) },
            Err(UnknownBucket(7)),
        ),
        (GroupMod { command_bucket: 1, ..GroupMod::new(GroupCommand::RemoveBucket, 1, All) }, Ok(())),
    ];
    for (i, (group_mod, expected)) in cases.into_iter().enumerate() {
        assert_eq!(apply(&group_mod), expected, "case {i}");
    }
    let mut insert = GroupMod::new(GroupCommand::InsertBucket, 1, All);
    for (at, id) in [(BUCKET_LAST, 5), (BUCKET_FIRST, 6), (0, 7)] {
        (insert.command_bucket, insert.buckets) = (at, vec![plain(id)]);
        apply(&insert).unwrap();
    }
    let ids = |p: &Pipeline| {
        let snapshot = p.snapshot();
        snapshot.bridge(1).unwrap().groups.get(1).unwrap().buckets.iter().map(|b| b.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&pipeline), [6, 0, 7, 5]);
    assert_eq!(apply(&insert), Err(BucketExists(7)));
}

#[test]
fn rules_go_with_their_group() {
    let pipeline = ready("actions=2\nin_port=1,actions=group:1\nin_port=2,actions=clone(group:2)");
    add_group(&pipeline, 1, 1, GroupKind::Indirect, &[(0, "output:2")]);
    let delete = GroupMod::new(GroupCommand::Delete, GROUP_ALL, GroupKind::All);
    let outcome = pipeline.update(|s| s.group_mod(1, &delete, 0)).unwrap();
    assert_eq!(outcome.removed.len(), 1);
    assert_eq!(outcome.removed[0].reason, weft_pipeline::RemovedReason::GroupDelete);
}

#[test]
fn meters() {
    let pipeline = ready("actions=meter:3,output:2");
    let mut meter_mod = MeterMod {
        command: MeterCommand::Add,
        id: 3,
        pktps: true,
        burst: false,
        stats: false,
        bands: vec![Band { kind: BandKind::Drop, rate: 10, burst: 0 }],
    };
    let apply = |m: &MeterMod| pipeline.update(|s| s.meter_mod(1, m, 0)).map(|o| o.removed.len());
    let key = ipv4(101, 1, 2, 6, (1, 2));
    assert_eq!(outcome(&pipeline.walk(&key, 0)), "102");
    assert_eq!(apply(&meter_mod), Ok(0));
    assert_eq!(apply(&meter_mod), Err(MeterError::MeterExists(3)));
    assert_eq!(outcome(&pipeline.walk(&key, 0)), "meter3,102");
    meter_mod.bands[0].rate = 0;
    meter_mod.command = MeterCommand::Modify;
    assert_eq!(apply(&meter_mod), Err(MeterError::BadRate));
    meter_mod.bands[0] = Band { kind: BandKind::DscpRemark(4), rate: 1, burst: 0 };
    assert_eq!(apply(&meter_mod), Err(MeterError::BadBandValue(4)));
    meter_mod.id = 4;
    meter_mod.bands.clear();
    assert_eq!(apply(&meter_mod), Err(MeterError::UnknownMeter(4)));
    (meter_mod.id, meter_mod.command) = (3, MeterCommand::Delete);
    assert_eq!(apply(&meter_mod), Ok(1), "the rule goes with it");
}

#[test]
fn chains_do_not_explode() {
    let pipeline = ready("actions=group:1");
    for id in 1..8 {
        let next = format!("group:{}", id + 1);
        let buckets: Vec<(u16, &str)> = (0..30).map(|_| (0, next.as_str())).collect();
        add_group(&pipeline, 1, id, GroupKind::All, &buckets);
    }
    add_group(&pipeline, 1, 8, GroupKind::Indirect, &[(0, "set_queue:1")]);
    assert_eq!(outcome(&pipeline.walk(&ipv4(101, 1, 2, 6, (1, 2)), 0)), "drop:too-many-resubmits");
}
