//! Does a cached verdict say of a packet what a walk of it would say? On the sets and packets that are compared with
//! Open vSwitch (tests/oracle).
//!
//! The packets of a set go through a cache that holds every verdict under its mask, as datapaths do. A packet that
//! several verdicts cover must find them all to be its own. A second packet that agrees with the first one where the
//! mask looks, and differs anywhere else, must be decided the same.

mod common;
#[path = "../../../tests/support/dice.rs"]
mod dice;
#[path = "../../../tests/oracle/packets.rs"]
#[allow(dead_code, reason = "packets go in as keys here")]
mod packets;
#[path = "../../../tests/oracle/rules.rs"]
mod rules;
mod support {
    pub(crate) use crate::dice::Dice;
}

use common::twins::{copies, same_but_for_mask, twin};
use common::{bridge, device, local, pipeline};
use dice::Dice;
use weft_flow::text::{Syntax, parse_actions, parse_key};
use weft_flow::{Band, BandKind, CACHED_WORDS, Field, FlowKey, OfPort, TlvMapping, TlvTable, Verdict};
use weft_pipeline::group::{Bucket, GroupCommand, GroupKind, GroupMod, Selection, SelectionMethod};
use weft_pipeline::meter::{MeterCommand, MeterMod};
use weft_pipeline::{BridgeConfig, FailMode, Pipeline};

/// Sets of tables, as in tests/oracle, and packets for each: the 80 of tests/oracle, and more.
const SETS: u64 = 260;
const PACKETS: usize = 320;

/// A bridge with a set's meters, groups and rules. `None`: some are refused.
fn world(tables: &rules::Tables) -> Option<Pipeline> {
    let mut ports: Vec<_> = (1..=rules::PORTS as u32).map(|n| device(1, n)).collect();
    ports.push(local(1, &[]));
    let config = BridgeConfig { fail_mode: FailMode::Secure, ..bridge(1, ports) };
    let pipeline = pipeline(vec![config]);
    let option = TlvMapping { class: 0xffff, kind: 0, len: 4, index: 0 };
    let options = TlvTable::new().with(&[option]).expect("an option");
    let syntax = Syntax { tlv: &options, ..Syntax::default() };
    for id in 1..=rules::METERS as u32 {
        let bands = vec![Band { kind: BandKind::Drop, rate: 1000, burst: 100 }];
        let add = MeterMod { command: MeterCommand::Add, id, pktps: true, burst: true, stats: false, bands };
        pipeline.update(|s| s.meter_mod(1, &add, 0)).ok()?;
    }
    for text in &tables.groups {
        let add = group(text);
        pipeline.update(|s| s.group_mod(1, &add, 0)).ok()?;
    }
    pipeline
        .update(|s| {
            s.set_tlv_table(1, options.clone());
            let tables_of_bridge = s.tables_mut(1).expect("the bridge");
            *tables_of_bridge = weft_pipeline::TableSet::new();
            tables.flows.iter().try_for_each(|line| {
                let rule = common::flow_mod_in(line, &syntax);
                tables_of_bridge.apply(&rule, 0).map(drop)
            })
        })
        .ok()?;
    // In some VLANs it is known where stations are; nobody is learned there.
    for (n, mac) in rules::MACS.iter().enumerate() {
        let mac: weft_wire::Mac = mac.parse().expect("an address of the pool");
        for vlan in (0..4).filter(|_| !mac.is_multicast()) {
            pipeline.fdb_add_static(1, vlan, mac, OfPort(1 + n as u32 + u32::from(vlan)));
        }
    }
    Some(pipeline)
}

/// A group in the syntax of ovs-ofctl(8), as far as the generated ones go.
fn group(text: &str) -> GroupMod {
    let (head, buckets) = text.split_once(",bucket=").expect("groups have buckets");
    let value = |of: &str, name: &str| {
        let at = of.split(',').find_map(|w| w.strip_prefix(name))?;
        Some(at.trim_start_matches(['=', ':']).to_owned())
    };
    let kind = match value(head, "type").as_deref() {
        Some("select") => GroupKind::Select,
        Some("ff") => GroupKind::FastFailover,
        Some("indirect") => GroupKind::Indirect,
        _ => GroupKind::All,
    };
    let id = value(head, "group_id").and_then(|id| id.parse().ok()).expect("a number");
    let mut out = GroupMod::new(GroupCommand::Add, id, kind);
    if head.contains("selection_method=hash") {
        let fields = [Field::IpDst, Field::TcpDst].map(|f| (f, f.value_mask())).to_vec();
        out.selection = Selection { method: SelectionMethod::Hash, param: 0, fields };
    } else if head.contains("selection_method=dp_hash") {
        out.selection.method = SelectionMethod::DpHash;
    }
    for (id, bucket) in buckets.split(",bucket=").enumerate() {
        let (options, actions) = bucket.split_once("actions=").expect("buckets have actions");
        let number = |name| value(options, name).and_then(|n| n.parse::<u16>().ok());
        let weight = number("weight").unwrap_or(u16::from(kind == GroupKind::Select));
        let actions = parse_actions(actions, &Syntax::default()).expect("actions of a bucket");
        let mut bucket = Bucket::new(id as u32, weight, actions);
        bucket.watch_port = number("watch_port").map_or(OfPort::ANY, |n| OfPort(n.into()));
        out.buckets.push(bucket);
    }
    out
}

/// Whether a cache takes a packet for the one that the verdict was made for.
fn covers(held: &(FlowKey, Verdict), key: &FlowKey) -> bool {
    let (of, verdict) = held;
    let words = of.words()[..CACHED_WORDS].iter().zip(&key.words()[..CACHED_WORDS]);
    words.zip(verdict.mask.words()).all(|((a, b), mask)| (a ^ b) & mask == 0)
}

#[test]
fn a_cache_decides_as_a_walk_does() {
    let (mut packets, mut found, mut twins, mut punted, mut refused) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for set in 0..SETS {
        let mut dice = Dice((1 + set) << 32);
        let tables = rules::generate(&mut dice);
        let Some(pipeline) = world(&tables) else {
            refused += 1;
            continue;
        };
        let mut noise = Dice(set);
        let mut cache: Vec<(FlowKey, Verdict)> = Vec::new();
        for _ in 0..PACKETS {
            let packet = packets::generate(&mut dice);
            let mut key = parse_key(&packet.flow(), &Syntax::default()).expect("what it comes with");
            (key.packet, key.pipeline) = Default::default();
            key.note_extras();
            weft_flow::extract_packet(&packet.frame, 100 + packet.port as u32, &mut key.packet)
                .expect("packets are sound");
            packets += 1;
            // The packet, and what is looked up again of it.
            let mut keys = vec![key];
            for n in 0..16 {
                let Some(key) = keys.get(n).copied() else { break };
                let own = pipeline.revalidate(&key, 0);
                let state = noise.next();
                if keys.len() < 16 {
                    keys.extend(copies(&key, &own.actions, state));
                }
                let show = |held: &FlowKey| {
                    format!(
                        "set {}:\n{}\n{}\nand\n{}",
                        set + 1,
                        tables.flows.join("\n"),
                        pipeline.trace(held, 0).1,
                        pipeline.trace(&key, 0).1
                    )
                };
                for held in cache.iter().filter(|held| covers(held, &key)) {
                    found += 1;
                    assert!(same_but_for_mask(&held.1, &own), "{}", show(&held.0));
                }
                // What controllers get is the same for all of a cached flow, or the verdict is of one packet only.
                let told = format!("{:?}", own.actions).contains("Controller(");
                punted += u64::from(told && own.cacheable);
                let compared = if told && !own.cacheable { 0 } else { 2 };
                for bits in [noise.next(), u64::MAX].into_iter().take(compared) {
                    twins += 1;
                    let bits: Vec<u64> = (0..7).map(|i| bits.rotate_left(i * 9)).collect();
                    let twin = twin(&key, &own, &bits);
                    assert!(same_but_for_mask(&pipeline.revalidate(&twin, 0), &own), "{}", show(&twin));
                }
                if own.cacheable {
                    cache.push((key, own));
                }
            }
        }
    }
    println!("{packets} packets, found in the cache {found} times, {twins} twins, {refused} sets refused");
    assert!(packets >= 20_000 && refused <= 3, "{packets} packets, {refused} sets refused");
    assert!(found >= 20_000, "only {found} packets were found in the cache");
    assert!(punted >= 1_000, "only {punted} cached verdicts send packets to controllers");
}
