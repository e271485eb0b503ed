//! How many leases and names a second, in code alone: no sockets, no disk.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weft_services::dhcp4::{Config, Server, Subnet};
use weft_services::dns;
use weft_services::frame::{Envelope, Tags};
use weft_services::{Client, Lease, LeaseState};
use weft_wire::Mac;

const LEASES: u32 = 65_536;

fn mac(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac([2, 1, a, b, c, d])
}

/// A server of 10.0.0.0/14 that holds [`LEASES`] leases.
fn server() -> Server {
    let ip = |n: u32| Ipv4Addr::from(0x0a00_0000 + n);
    let mut subnet = Subnet::new(ip(0), 14, ip(1));
    subnet.ranges = vec![(ip(256), ip(0x3_ff00))];
    subnet.options.routers = vec![ip(1)];
    subnet.options.dns = vec![ip(1)];
    subnet.options.domain = Some("lab.test".into());
    subnet.options.mtu = Some(1450);
    let mut server = Server::new(Config { subnets: vec![subnet], ..Config::new(mac(u32::MAX)) });
    for n in 0..LEASES {
        server.book_mut().load(Lease {
            address: ip(256 + n * 3),
            client: Client::mac(mac(n)),
            mac: Some(mac(n)),
            hostname: None,
            state: LeaseState::Bound,
            since: 0,
            expires: 3600 + u64::from(n),
        });
    }
    server
}

fn frame(kind: u8, mac: Mac, address: Option<Ipv4Addr>) -> Vec<u8> {
    let mut b = vec![1, 1, 6, 0, 0, 0, 0, 7, 0, 0, 0, 0];
    b.resize(28, 0);
    b.extend(mac.0);
    b.resize(236, 0);
    b.extend([99, 130, 83, 99, 53, 1, kind]);
    if let Some(address) = address {
        b.extend([50, 4]);
        b.extend(address.octets());
        b.extend([54, 4, 10, 0, 0, 1]);
    }
    b.extend([12, 5, b'h', b'o', b's', b't', b'1', 55, 7, 1, 3, 6, 15, 26, 28, 121, 255]);
    let envelope = Envelope {
        mac_src: mac,
        mac_dst: Mac::BROADCAST,
        tags: Tags::new(),
        src: Ipv4Addr::UNSPECIFIED.into(),
        dst: Ipv4Addr::BROADCAST.into(),
        src_port: 68,
        dst_port: 67,
    };
    envelope.seal(&b).expect("a frame")
}

fn dhcp(c: &mut Criterion) {
    let mut group = c.benchmark_group("dhcp4");
    group.throughput(Throughput::Elements(1));
    let mut server = server();
    let (mut n, mut now) = (0, 0);
    // Half are clients that come again, half are new ones; old leases end as time goes on.
    let clients: Vec<_> = (0..2 * LEASES)
        .map(|n| (frame(1, mac(n), None), frame(3, mac(n), Some(Ipv4Addr::UNSPECIFIED))))
        .collect();
    group.bench_function("discover+request, 65,536 leases", |b| {
        b.iter(|| {
            n = (n + 40_503) % (2 * LEASES);
            if n % 64 == 0 {
                now += 1;
            }
            let (discover, request) = &clients[n as usize];
            let offer = server.handle_frame(discover, now);
            let at = 14 + 20 + 8 + 16;
            let reply = offer.reply.expect("an offer");
            let mut request = request.clone();
            // Without a checksum, which IPv4 allows: the client's work is not measured.
            request[40..42].fill(0);
            request[42 + 245..42 + 249].copy_from_slice(&reply[at..at + 4]);
            let ack = server.handle_frame(&request, now);
            assert!(!ack.changes.is_empty());
            black_box(ack)
        });
    });
    group.finish();
}

fn names(c: &mut Criterion) {
    let mut group = c.benchmark_group("dns");
    group.throughput(Throughput::Elements(1));
    let mut server = dns::Server::new(dns::Config {
        domain: Some("lab.test".into()),
        local_only: true,
        subnets: vec![(Ipv4Addr::new(10, 0, 0, 0).into(), 14)],
        ..dns::Config::default()
    });
    for n in 0..LEASES {
        server.zone_mut().set_lease(&format!("host{n}"), Ipv4Addr::from(0x0a00_0000 + n).into());
    }
    let query = |name: &str, kind: u8| {
        let mut b = vec![0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.') {
            b.push(label.len() as u8);
            b.extend(label.as_bytes());
        }
        b.extend([0, 0, kind, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        b
    };
    let client = IpAddr::from([10, 0, 0, 9]);
    for (what, bytes) in [
        ("an address of 65,536", query("host4711.lab.test", 1)),
        ("a reverse name", query("103.18.0.10.in-addr.arpa", 12)),
        ("a name that is not", query("nobody.lab.test", 1)),
    ] {
        group.bench_function(what, |b| {
            b.iter(|| server.handle_query(client, (), dns::Transport::Udp, black_box(&bytes), 0, &mut || 7));
        });
    }
    group.finish();
}

criterion_group!(benches, dhcp, names);
criterion_main!(benches);
