//! Hostile bytes through every responder: for property tests and fuzz targets alike.
#![allow(dead_code)] // Each user takes its part.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_services::dhcp4::message::Message as Message4;
use weft_services::frame::{Datagram, Tags};
use weft_services::{LeaseState, dhcp4, dhcp6, dns};
use weft_wire::Mac;

const SERVER: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);

fn datagram(payload: &[u8], v6: bool) -> Datagram<'_> {
    let ip = |v4: Ipv4Addr, six: Ipv6Addr| if v6 { IpAddr::V6(six) } else { IpAddr::V4(v4) };
    let all: Ipv6Addr = "ff02::1:2".parse().expect("an address");
    Datagram {
        mac_src: Mac([2, 0, 0, 0, 0, 1]),
        mac_dst: Mac::BROADCAST,
        tags: Tags::new(),
        src: ip(Ipv4Addr::UNSPECIFIED, "fe80::1".parse().expect("an address")),
        dst: ip(Ipv4Addr::BROADCAST, all),
        src_port: 68,
        dst_port: if v6 { 547 } else { 67 },
        payload,
    }
}

/// A DHCPv4 server with little room and something of everything.
pub(crate) fn server4() -> dhcp4::Server {
    let ip = |d| Ipv4Addr::new(10, 0, 0, d);
    let mut subnet = dhcp4::Subnet::new(ip(0), 24, ip(1));
    subnet.ranges = vec![(ip(10), ip(20))];
    subnet.rapid_commit = true;
    subnet.hosts = vec![dhcp4::Host::fixed(Mac([2, 0, 0, 0, 0, 2]), ip(50))];
    subnet.options.routers = vec![ip(1)];
    subnet.options.dns = vec![ip(1), ip(2)];
    subnet.options.domain = Some("lab.test".into());
    subnet.options.search = vec!["lab.test".into(), "a.lab.test".into()];
    subnet.options.raw = vec![(224, vec![7; 200]), (225, vec![8; 300])];
    subnet.boot = vec![dhcp4::Boot { file: "f".repeat(140), ..dhcp4::Boot::default() }];
    dhcp4::Server::new(dhcp4::Config {
        subnets: vec![subnet],
        strict_mac: false,
        ..dhcp4::Config::new(SERVER)
    })
}

/// A DHCPv6 server of the same kind.
pub(crate) fn server6() -> dhcp6::Server {
    let ip = |d| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, d);
    let mut subnet = dhcp6::Subnet::new(ip(0), 64);
    subnet.ranges = vec![(ip(0x10), ip(0x20))];
    subnet.rapid_commit = true;
    subnet.options.dns = vec![ip(1)];
    subnet.options.domain = Some("lab.test".into());
    dhcp6::Server::new(dhcp6::Config { subnets: vec![subnet], ..dhcp6::Config::new(SERVER) })
}

/// Handles `data` as a frame and as a payload, by both families. Laws: a reply can be read again
/// and is no request; what changed lies in the book as the change says; an address has one holder.
pub(crate) fn dhcp(data: &[u8]) {
    let (mut four, mut six) = (server4(), server6());
    for now in [0, 5, 10_000] {
        for outcome in [four.handle_frame(data, now), four.handle(&datagram(data, false), now)] {
            if let Some(frame) = &outcome.reply {
                let reply = Datagram::parse(frame).expect("a reply is a frame");
                assert!(reply.payload.len() <= 1472 && Message4::parse(reply.payload).is_err());
            }
            for change in &outcome.changes {
                assert_eq!(four.book().get(change.address), change.after.as_ref());
            }
        }
        for outcome in [six.handle_frame(data, now), six.handle(&datagram(data, true), now)] {
            if let Some(frame) = &outcome.reply {
                Datagram::parse(frame).expect("a reply is a frame");
            }
        }
        assert!(four.book().len() <= 12 && six.book().len() <= 20);
        assert!(four.book().iter().all(|l| l.state != LeaseState::Bound || l.expires > l.since));
    }
    let router = weft_services::ra::Router::new(weft_services::ra::Config::new(SERVER), 0);
    let _ = router.handle_frame(data);
}

/// Handles `data` as a query by both transports, as a forwarder's response, and as a stream.
/// Laws: an answer has the query's id, is a response, and is no longer than it may be.
pub(crate) fn dns(data: &[u8]) {
    let mut server = dns::Server::new(dns::Config {
        domain: Some("lab.test".into()),
        subnets: vec![("10.0.0.0".parse().expect("an address"), 24)],
        records: vec![
            dns::Entry { name: "db".into(), data: dns::Data::Address([10, 0, 0, 5].into()) },
            dns::Entry { name: "www".into(), data: dns::Data::Alias("db.lab.test".into()) },
        ],
        forwarders: vec![([192, 0, 2, 1], 53).into()],
        ..dns::Config::default()
    });
    let mut seed = 1u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed
    };
    let client = IpAddr::from([10, 0, 0, 9]);
    for transport in [dns::Transport::Udp, dns::Transport::Tcp] {
        let step = server.handle_query(client, (), transport, data, 0, &mut random);
        if let dns::Step::Answer((), bytes) = &step {
            assert!(bytes.len() >= 12 && bytes[..2] == data[..2] && bytes[2] & 0x80 != 0);
            assert!(transport == dns::Transport::Tcp || bytes.len() <= 1232);
            // What is sent is no query: two servers cannot talk for ever.
            let again = server.handle_query(client, (), transport, bytes, 0, &mut random);
            assert!(matches!(again, dns::Step::Ignore(_)));
        }
        if let dns::Step::Ask(ask) = step {
            let _ = server.handle_response(ask.token, ask.server, ask.transport, data, 1, &mut random);
            // With the id and letters that were asked for, to come further.
            let mut fitting = data.to_vec();
            let head = ask.message.len().min(fitting.len()).min(12 + 20);
            if fitting.len() > 4 {
                fitting[..2].copy_from_slice(&ask.message[..2]);
                fitting[2] |= 0x80;
                fitting[12.min(head)..head].copy_from_slice(&ask.message[12.min(head)..head]);
            }
            let _ = server.handle_response(ask.token, ask.server, ask.transport, &fitting, 2, &mut random);
        }
    }
    for now in [2_000, 4_000, 60_000] {
        let _ = server.poll(now, &mut random);
    }
    let mut frames = dns::tcp::Frames::default();
    let mut rest = data;
    loop {
        rest = &rest[frames.push(rest)..];
        match frames.next() {
            Ok(Some(_)) => {}
            Ok(None) if rest.is_empty() => break,
            Ok(None) => assert!(!rest.is_empty()),
            Err(_) => break,
        }
    }
}
