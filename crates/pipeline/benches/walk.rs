//! What does a miss cost? Walks over 1, 10 and 100 masks, routing, NORMAL, and flow-mods into a large table.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{bridge, device, flow_mod, flows, ipv4, mac, pipeline};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weft_flow::OfPort;
use weft_pipeline::{FlowModError, Pipeline};

fn ports() -> Pipeline {
    pipeline(vec![bridge(1, (1..=4).map(|n| device(1, n)).collect())])
}

/// Rules under this many masks of addresses and ports, of which the packet matches the last.
fn masks(n: u32) -> String {
    let rule = |i: u32| {
        let (src, dst) = (i % 10, i / 10);
        let (src, dst) = (0xffff_ffff_u32 << src, 0xffff_ffff_u32 << dst);
        let (src, dst) = (std::net::Ipv4Addr::from_bits(src), std::net::Ipv4Addr::from_bits(dst));
        let last = if i + 1 == n { "tp_dst=80" } else { "tp_dst=81" };
        format!("priority={},tcp,nw_src=10.0.0.0/{src},nw_dst=10.0.0.0/{dst},{last},actions=2", 1000 - i)
    };
    (0..n).map(rule).collect::<Vec<_>>().join("\n")
}

fn walks(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    let packet = ipv4(101, 0, 0, 6, (1000, 80));
    for n in [1, 10, 100] {
        let pipeline = ports();
        flows(&pipeline, 1, &masks(n));
        assert_eq!(pipeline.snapshot().bridge(1).unwrap().tables.stats(0).masks, n as usize);
        assert!(pipeline.walk(&packet, 0).drop.is_none());
        group.bench_function(BenchmarkId::new("masks", n), |b| {
            b.iter(|| pipeline.walk(black_box(&packet), 0))
        });
    }
    let pipeline = ports();
    for n in 1..=4 {
        pipeline.fdb_add_static(1, 0, mac(n), OfPort(n.into()));
    }
    let known = ipv4(101, 1, 2, 6, (1000, 80));
    group.bench_function("normal/known", |b| b.iter(|| pipeline.walk(black_box(&known), 0)));
    let unknown = ipv4(101, 1, 9, 6, (1000, 80));
    group.bench_function("normal/flood", |b| b.iter(|| pipeline.walk(black_box(&unknown), 0)));
    let stages: Vec<String> = (0..10)
        .map(|t| format!("table={t},ip,actions=load:{t}->NXM_NX_REG0[],resubmit(,{})", t + 1))
        .chain(["table=10,ip,actions=mod_dl_dst:02:00:00:00:00:09,dec_ttl,2".to_owned()])
        .collect();
    flows(&pipeline, 1, &stages.join("\n"));
    group.bench_function("tables/11", |b| b.iter(|| pipeline.walk(black_box(&known), 0)));
    group.finish();
}

fn flow_mods(c: &mut Criterion) {
    let mut group = c.benchmark_group("flow_mod");
    group.sample_size(20);
    for size in [100u32, 100_000] {
        let pipeline = ports();
        let rule = |n: u32| {
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n);
            flow_mod(&format!("priority=10,ip,nw_dst={address},actions=2"))
        };
        let filled = pipeline.update(|s| {
            let tables = s.tables_mut(1).ok_or(FlowModError::BadTableId(0))?;
            (0..size).try_for_each(|n| tables.apply(&rule(n), 0).map(drop))
        });
        assert!(filled.is_ok());
        let (one, mut n) = (rule(5), 0);
        group.bench_function(BenchmarkId::new("publish one into", size), |b| {
            b.iter(|| {
                n += 1;
                pipeline
                    .update(|s| s.tables_mut(1).ok_or(FlowModError::BadTableId(0))?.apply(black_box(&one), n))
            });
        });
        let packet = ipv4(101, 1, 5, 6, (1000, 80));
        group.bench_function(BenchmarkId::new("walk among", size), |b| {
            b.iter(|| pipeline.walk(black_box(&packet), 0))
        });
    }
    group.finish();
}

criterion_group!(benches, walks, flow_mods);
criterion_main!(benches);
