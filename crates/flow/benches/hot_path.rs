//! How long do the steps take that every frame goes through?

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use weft_flow::{Field, FlowKey, Match, PacketKey, SparseMask, extract_packet};

fn frame(l3: &str) -> Vec<u8> {
    let hex = format!("020000000002020000000001{l3}");
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap_or(0)).collect()
}

fn extract(c: &mut Criterion) {
    let udp =
        frame("0800 4500001c000040004011000001020304050607080035003600080000".replace(' ', "").as_str());
    let tcp = frame(
        "0800 450000280000400040060000010203040506070804d20050000000010000000250100200000000000000"
            .replace(' ', "")
            .as_str(),
    );
    let vlan = frame(
        "8100600a 0800 4500001c000040004011000001020304050607080035003600080000".replace(' ', "").as_str(),
    );
    let v6 = frame(
        "86dd 6000000000081140 20010db8000000000000000000000001 20010db8000000000000000000000002 0035003600080000"
            .replace(' ', "")
            .as_str(),
    );
    let arp =
        frame("0806 0001080006040001 0200000000010a000001 0000000000000a000002".replace(' ', "").as_str());
    for (name, frame) in [("udp", udp), ("tcp", tcp), ("vlan_udp", vlan), ("udp6", v6), ("arp", arp)] {
        c.bench_function(&format!("extract/{name}"), |b| {
            let mut key = PacketKey::default();
            b.iter(|| extract_packet(black_box(&frame), 1, black_box(&mut key)));
        });
    }
}

fn hash(c: &mut Criterion) {
    let mut key = FlowKey::default();
    key.packet = PacketKey { eth_type: 0x800, ipv4_src: 1, ipv4_dst: 2, ip_proto: 17, ..key.packet };
    c.bench_function("hash/packet", |b| b.iter(|| black_box(&key.packet).hash(black_box(7))));
    c.bench_function("hash/flow5", |b| b.iter(|| black_box(&key.packet).flow_hash5(black_box(7))));
    c.bench_function("compare/packet", |b| {
        let other = key.packet;
        b.iter(|| black_box(&key.packet) == black_box(&other));
    });
    let five = Match::any()
        .with(Field::EthType, 0x800)
        .with(Field::EthDst, 5)
        .with(Field::IpDst, 1)
        .with(Field::NwProto, 17)
        .with(Field::UdpDst, 53);
    let sparse = SparseMask::cached(&five.mask);
    let packed = sparse.pack(key.words());
    c.bench_function("sparse/hash4", |b| b.iter(|| sparse.hash_masked(black_box(key.words()), black_box(7))));
    c.bench_function("sparse/match4", |b| {
        b.iter(|| sparse.matches_packed(black_box(key.words()), black_box(&packed)));
    });
}

criterion_group!(benches, extract, hash);
criterion_main!(benches);
