//! How fast are the caches? A packet of a known flow, a new connection of a known megaflow under few and many masks,
//! and what it takes to cache a flow.
#![allow(missing_docs)] // The macros of criterion make items without any.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use weft_datapath::probe::Caches;
use weft_flow::{DpAction, DpPort, FlowKey, FlowMask};

fn key(n: u32) -> FlowKey {
    let mut key = FlowKey::default();
    let p = &mut key.packet;
    (p.in_port, p.eth_type, p.ip_proto) = (1, 0x0800, 17);
    (p.ipv4_src, p.ipv4_dst, p.tp_src, p.tp_dst) = (0x0a00_0000 + n, 0x0a01_0001, 1024, 53);
    key
}

/// A mask over ports, protocol and so many bits of the source address.
fn mask(bits: u32) -> FlowMask {
    let mut mask = FlowMask::empty();
    let p = &mut mask.0.packet;
    (p.in_port, p.eth_type, p.ip_proto, p.tp_dst) = (u32::MAX, u16::MAX, u8::MAX, u16::MAX);
    p.ipv4_src = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    p.ipv4_dst = bits;
    mask
}

fn look_ups(c: &mut Criterion) {
    let output = || vec![DpAction::Output(DpPort(2))];
    let mut caches = Caches::new(100_000);
    for n in 0..10_000 {
        assert!(caches.install(&key(n), key(n).packet.hash(7), &mask(32), output()));
    }
    c.bench_function("signature hit, one of 10,000 flows", |b| {
        let mut n = 0;
        b.iter(|| {
            n = (n + 7_919) % 10_000;
            let key = key(n);
            black_box(caches.by_signature(&key, key.packet.hash(7)))
        });
    });
    for masks in [1, 10, 100] {
        let mut caches = Caches::new(100_000);
        for n in 0..masks {
            let mut mask = mask(32);
            mask.0.packet.ipv4_dst = n;
            // Only the last of them matches the probe.
            let mut key = key(1);
            key.packet.tp_dst = if n + 1 == masks { 53 } else { 54 };
            assert!(caches.install(&key, u64::from(n), &mask, output()));
        }
        let probe = key(1);
        c.bench_function(&format!("classifier hit, last of {masks} masks"), |b| {
            b.iter(|| black_box(caches.by_classifier(black_box(&probe), 99)));
        });
    }
}

fn set_up(c: &mut Criterion) {
    c.bench_function("install 1,000 flows", |b| {
        b.iter_batched(
            || Caches::new(100_000),
            |mut caches| {
                for n in 0..1_000 {
                    let key = key(n);
                    caches.install(&key, key.packet.hash(7), &mask(32), vec![DpAction::Output(DpPort(2))]);
                }
                caches
            },
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, look_ups, set_up);
criterion_main!(benches);
