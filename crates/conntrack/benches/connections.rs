//! How fast are connections made and found, and how large are they?

use criterion::{Criterion, criterion_group, criterion_main};
use weft_conntrack::{Conntrack, CtPacket, Limits};
use weft_flow::{CtKey, CtSpec, PacketKey, extract_packet};
use weft_wire::Mac;
use weft_wire::build::Frame;
use weft_wire::tcp::TcpFlags;

fn bench(c: &mut Criterion) {
    let eth = Frame::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    let frame = eth.ipv4([10, 0, 0, 1], [10, 0, 0, 2]).tcp(1, 80).flags(TcpFlags::SYN).build();
    let mut key = PacketKey::default();
    let layout = extract_packet(&frame, 1, &mut key).expect("a frame");
    let spec = CtSpec { zone: 1, commit: true, ..CtSpec::default() };
    let ct = Conntrack::new(1, Limits { connections: usize::MAX, ..Limits::default() });
    let mut n = 0u32;
    let mut one = |ct: &Conntrack, n: u32| {
        (key.ipv4_src, key.tp_src) = (n, (n >> 8) as u16);
        let mut out = CtKey::default();
        let packet = CtPacket { frame: &frame, layout: &layout, key: &key, checksums_good: true };
        ct.execute(&packet, &mut out, &spec, 0)
    };
    for i in 0..1_000_000u32 {
        let _ = one(&ct, i);
    }
    println!("{} bytes per connection at {}", ct.memory() / ct.count(), ct.count());
    c.bench_function("hit among a million", |b| {
        b.iter(|| {
            n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            one(&ct, n % 1_000_000)
        });
    });
    let fresh = Conntrack::new(1, Limits { connections: usize::MAX, ..Limits::default() });
    let mut m = 0u32;
    c.bench_function("new connection", |b| {
        b.iter(|| {
            m += 1;
            one(&fresh, m)
        });
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
