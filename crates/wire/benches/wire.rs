//! How fast are checksums, segmentation and merging?
#![allow(missing_docs)] // The macros of criterion make items without any.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weft_wire::Mac;
use weft_wire::build::Frame;
use weft_wire::checksum::{Sum, copy_and_sum, update32};
use weft_wire::ipv4::Ipv4View;
use weft_wire::locate::Located;
use weft_wire::merge::{Merger, Push, Trust};
use weft_wire::segment::Segmenter;
use weft_wire::tcp::{TcpFlags, TcpView};
use weft_wire::vnet::{Gso, GsoKind, VnetHdr, make_partial};

/// Payload of a segment behind VXLAN on a link of 1,500 bytes.
const MSS: usize = 1398;
/// Payload of a frame of nearly 64 KiB.
const PAYLOAD: usize = MSS * 46;

fn tcp(at: usize, payload: &[u8]) -> Vec<u8> {
    Frame::eth(Mac([2; 6]), Mac([4; 6]))
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2])
        .id((at / MSS) as u16)
        .tcp(1, 2)
        .seq(at as u32, 1)
        .flags(TcpFlags::ACK)
        .tcp_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])
        .payload(payload)
        .build()
}

fn checksums(c: &mut Criterion) {
    for len in [20, 64, 256, 1500, 65_536] {
        let data = vec![7u8; len];
        let mut dst = vec![0u8; len];
        let mut group = c.benchmark_group("checksum");
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("sum {len}"), |b| b.iter(|| Sum::of(black_box(&data)).finish()));
        group.bench_function(format!("copy and sum {len}"), |b| {
            b.iter(|| copy_and_sum(black_box(&mut dst), black_box(&data)).finish());
        });
    }
    c.bench_function("checksum/update", |b| b.iter(|| update32(black_box(7), black_box(1), black_box(9))));
}

fn parse(c: &mut Criterion) {
    let frame = tcp(0, &[0; 100]);
    c.bench_function("parse/views of ipv4 and tcp", |b| {
        b.iter(|| {
            let ip = Ipv4View::parse(&black_box(&frame)[14..]).ok()?;
            let tcp = TcpView::parse(ip.payload()).ok()?;
            Some((ip.src(), ip.dst(), tcp.src_port(), tcp.dst_port()))
        });
    });
    c.bench_function("parse/locate", |b| b.iter(|| Located::parse(black_box(&frame)).map(|f| f.l4)));
}

fn segment(c: &mut Criterion) {
    let mut frame = tcp(0, &vec![7; PAYLOAD]);
    let csum = make_partial(&mut frame).expect("a TCP frame");
    let gso = Gso { kind: GsoKind::TcpV4, size: MSS as u16, ecn: false, hdr_len: 66 };
    let hdr = VnetHdr { csum, gso: Some(gso), num_buffers: 0 };
    let mut out = vec![0; 80_000];
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("train of 46 behind VXLAN", |b| {
        b.iter(|| {
            let seg = Segmenter::new(black_box(&frame), &hdr).expect("a good frame");
            seg.write_train(0, 64, &[8, 0, 0, 0, 0, 3, 0xe8, 0], &mut out).map(|train| train.len)
        });
    });
}

fn merge(c: &mut Criterion) {
    let frames: Vec<_> = (0..46).map(|i| tcp(i * MSS, &vec![7; MSS])).collect();
    let mut out = vec![0; 80_000];
    let mut group = c.benchmark_group("merge");
    group.throughput(Throughput::Bytes(frames.iter().map(|f| f.len() as u64).sum()));
    for trust in [Trust::Verify, Trust::Verified] {
        group.bench_function(format!("46 segments, {trust:?}"), |b| {
            b.iter(|| {
                let mut merger = Merger::new(trust);
                for frame in &frames {
                    assert_eq!(merger.push(black_box(frame), &mut out), Push::Taken);
                }
                merger.finish(&mut out)
            });
        });
    }
}

criterion_group!(benches, checksums, parse, segment, merge);
criterion_main!(benches);
