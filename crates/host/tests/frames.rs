//! Frames and datagrams through the real kernel. Needs root.

mod common;

use std::net::{SocketAddr, UdpSocket as StdUdp};

use common::{Pair, eventually, ip};
use weft_host::inet::{MtuDiscovery, TxInfo};
use weft_host::ingress::IngressGuard;
use weft_host::netlink::Netlink;
use weft_host::netns::NetNs;
use weft_host::packet::{PacketOptions, PacketRx, PacketSocket, PacketTx, VlanTag};
use weft_host::raw::{GRE, RawOptions, RawSocket};
use weft_host::tun::{Tap, TapOptions, VNET_HDR_LEN, offload};
use weft_host::udp::{DatagramRx, DatagramTx, UdpOptions, UdpSocket};

fn bufs(n: usize) -> Vec<Vec<u8>> {
    vec![vec![0u8; 70_000]; n]
}

/// A broadcast frame of EtherType 0x88b5 (local experiments) whose payload begins with `tag`.
fn frame(tag: &str) -> Vec<u8> {
    let mut f = vec![0u8; VNET_HDR_LEN];
    f.extend([0xff; 6]);
    f.extend([2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    f.extend(tag.as_bytes());
    f.resize(VNET_HDR_LEN + 60, 0);
    f
}

fn carries(buf: &[u8], tag: &str) -> bool {
    buf.get(VNET_HDR_LEN + 14..).is_some_and(|p| p.starts_with(tag.as_bytes()))
}

fn open(ns: &NetNs, index: u32) -> PacketSocket {
    ns.run(|| PacketSocket::open(index, &PacketOptions::default())).unwrap().unwrap()
}

#[test]
fn frames_cross_in_batches_and_are_not_heard_by_their_sender() {
    let pair = Pair::new();
    let (a, b) = (open(&pair.a, pair.va), open(&pair.b, pair.vb));
    assert_eq!(a.vnet_hdr_len(), VNET_HDR_LEN);
    let (mut tx, mut rx) = (PacketTx::new(32), PacketRx::new(32));
    let out: Vec<_> = (0..20).map(|i| frame(&format!("n{i:02}"))).collect();
    assert_eq!(a.send(&mut tx, &out).unwrap(), 20);
    let mut buffers = bufs(32);
    let mut got = Vec::new();
    eventually("20 frames", || {
        let n = b.recv(&mut rx, &mut buffers).unwrap_or(0);
        for (i, buf) in buffers.iter().enumerate().take(n) {
            let info = rx.info(i);
            assert!(!info.truncated && info.vlan.is_none());
            if buf[24..26] == [0x88, 0xb5] {
                got.push(buf[..info.len].to_vec());
            }
        }
        (got.len() >= 20).then_some(())
    });
    assert_eq!(
        got.iter().map(|f| &f[12..]).collect::<Vec<_>>(),
        out.iter().map(|f| &f[12..]).collect::<Vec<_>>()
    );
    let n = a.recv(&mut rx, &mut buffers).unwrap_or(0);
    assert!(!buffers[..n].iter().any(|f| carries(f, "n")), "own frames are not received");
}

#[test]
fn vlan_tags_are_told_and_cut_frames_too() {
    let pair = Pair::new();
    let (a, b) = (open(&pair.a, pair.va), open(&pair.b, pair.vb));
    let mut tagged = frame("vlan");
    tagged.splice(VNET_HDR_LEN + 12..VNET_HDR_LEN + 12, [0x81, 0x00, 0x60, 0x2a]);
    a.send(&mut PacketTx::new(1), &[tagged]).unwrap();
    let mut rx = PacketRx::new(1);
    let mut short = vec![vec![0u8; 40]];
    let info = eventually("the tagged frame", || {
        b.recv(&mut rx, &mut short).ok()?;
        carries(&short[0], "vlan").then(|| rx.info(0))
    });
    assert_eq!(info.vlan, Some(VlanTag { tpid: 0x8100, tci: 0x602a }));
    assert!(info.truncated && info.len == 40, "{info:?}");
}

#[test]
fn a_dead_device_is_told() {
    let mut pair = Pair::new();
    let a = open(&pair.a, pair.va);
    pair.na.set_up(pair.va, false).unwrap();
    let error = a.send(&mut PacketTx::new(1), &[frame("x")]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
    let open = || PacketSocket::open(9999, &PacketOptions::default());
    assert!(pair.a.run(open).unwrap().unwrap_err().missing());
}

#[test]
fn taps_carry_unfinished_frames() {
    let ns = NetNs::unnamed("t").unwrap();
    let mut tap = ns.run(|| Tap::open("tap%d", &TapOptions::default())).unwrap().unwrap();
    assert_eq!((tap.name(), tap.vnet_hdr_len()), ("tap0", VNET_HDR_LEN));
    assert_eq!(tap.query_name().unwrap(), "tap0");
    assert_ne!(tap.offloads() & offload::TSO4, 0);
    let mut nl = Netlink::open_in(&ns).unwrap();
    let link = nl.link("tap0").unwrap();
    tap.set_carrier(false).unwrap();
    nl.set_up(link.index, true).unwrap();
    assert!(!nl.link("tap0").unwrap().carrier);
    tap.set_carrier(true).unwrap();
    assert!(nl.link("tap0").unwrap().carrier);
    nl.add_address(link.index, ip("192.0.2.1"), 24).unwrap();
    nl.add_neighbour(link.index, ip("192.0.2.2"), weft_wire::Mac([2, 0, 0, 0, 0, 2])).unwrap();
    ns.run(|| {
        StdUdp::bind("192.0.2.1:7000").unwrap().send_to(b"to be summed", "192.0.2.2:7001").unwrap();
    })
    .unwrap();
    let mut buf = vec![0u8; 70_000];
    let len = eventually("the datagram", || {
        let n = tap.recv(&mut buf).ok()?;
        buf[..n].ends_with(b"to be summed").then_some(n)
    });
    // VIRTIO_NET_HDR_F_NEEDS_CSUM, start 34 (after Ethernet and IPv4), offset 6 (UDP).
    assert_eq!((buf[0], &buf[6..10], len), (1, &[34, 0, 6, 0][..], 12 + 14 + 20 + 8 + 12));
    tap.set_offloads(0).unwrap();
    // Handed back, the same frame arrives as received if addressed the other way round; here only EINVAL is tested.
    buf[0] = 1;
    buf[6] = 200;
    assert_eq!(tap.send(&buf[..len]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let again =
        ns.run(|| Tap::open("tap0", &TapOptions { exclusive: true, ..TapOptions::default() })).unwrap();
    assert_eq!(again.unwrap_err().errno(), Some(libc::EBUSY));
    drop(tap);
    assert!(nl.link("tap0").is_err(), "a tap goes with its descriptor");
}

/// Sends 40 segments of 1,000 bytes as one message and receives them as few.
fn gso_and_gro(a: &str, b: &str, prefix: u8) {
    let pair = Pair::addressed(a, b, prefix);
    let bind = |ns: &NetNs, addr: &str, port: u16| {
        let addr = SocketAddr::new(ip(addr), port);
        ns.run(|| UdpSocket::bind(addr, &UdpOptions::default())).unwrap().unwrap()
    };
    let any = if ip(a).is_ipv4() { "0.0.0.0" } else { "::" };
    let (sa, sb) = (bind(&pair.a, any, 0), bind(&pair.b, any, 4789));
    let payload: Vec<u8> = (0..40_000u32).map(|i| (i / 1000) as u8).collect();
    let info = TxInfo {
        src: Some(ip(a)),
        tos: Some(0x2c),
        ttl: Some(33),
        segment: 1000,
        ..TxInfo::to(SocketAddr::new(ip(b), 4789))
    };
    let mut tx = DatagramTx::new(4);
    let plain = TxInfo::to(info.dst);
    assert_eq!(sa.send(&mut tx, &[&payload[..], &payload[..7]], &[info, plain]).unwrap(), 2);
    let (mut rx, mut buffers) = (DatagramRx::new(8), bufs(8));
    let (mut bytes, mut messages, mut small) = (Vec::new(), 0, 0);
    eventually("all bytes", || {
        let n = sb.recv(&mut rx, &mut buffers).unwrap_or(0);
        for (i, buf) in buffers.iter().enumerate().take(n) {
            let got = rx.info(i);
            assert_eq!((got.src.ip(), got.src.port()), (ip(a), sa.local_addr().port()));
            assert_eq!((got.dst, got.ifindex, got.truncated), (Some(ip(b)), pair.vb, false));
            if got.len == 7 {
                small += 1;
                assert_eq!((got.segment, got.tos, got.ttl), (0, 0, 64));
                continue;
            }
            messages += 1;
            assert_eq!((got.segment, got.tos, got.ttl), (1000, 0x2c, 33));
            bytes.extend_from_slice(&buf[..got.len]);
        }
        (bytes.len() == payload.len() && small == 1).then_some(())
    });
    assert!(bytes == payload && messages < 40, "merged into {messages} messages");
}

#[test]
fn udp_gso_and_gro_over_ipv4() {
    gso_and_gro("192.0.2.1", "192.0.2.2", 24);
}

#[test]
fn udp_gso_and_gro_over_ipv6() {
    gso_and_gro("2001:db8::1", "2001:db8::2", 64);
}

#[test]
fn df_and_deaf_sockets() {
    let pair = Pair::addressed("192.0.2.1", "192.0.2.2", 24);
    let options = UdpOptions { receive: false, ..UdpOptions::default() };
    let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let to = TxInfo::to("192.0.2.2:9".parse().unwrap());
    let mut tx = DatagramTx::new(1);
    let big = vec![0u8; 4000];
    for (mtu, fits) in [(MtuDiscovery::Probe, false), (MtuDiscovery::Do, false), (MtuDiscovery::Omit, true)] {
        let options = UdpOptions { mtu_discovery: mtu, checksum: false, ..options.clone() };
        let socket = pair.a.run(|| UdpSocket::bind(any, &options)).unwrap().unwrap();
        let sent = socket.send(&mut tx, &[&big], &[to]);
        assert_eq!(sent.is_ok(), fits, "{mtu:?}: {sent:?}");
        if let Err(e) = sent {
            assert_eq!(e.raw_os_error(), Some(libc::EMSGSIZE));
        }
    }
    let bare = UdpOptions { checksum: false, ..options.clone() };
    let socket = pair.a.run(|| UdpSocket::bind(any, &bare)).unwrap().unwrap();
    let refused = socket.send(&mut tx, &[&big], &[TxInfo { segment: 1000, ..to }]);
    assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EINVAL), "no segments without checksums");
    let deaf = pair.b.run(|| UdpSocket::bind("0.0.0.0:9".parse().unwrap(), &options)).unwrap().unwrap();
    let talker = pair.a.run(|| UdpSocket::bind(any, &options)).unwrap().unwrap();
    talker.send(&mut tx, &[&b"hello"[..]], &[to]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(deaf.recv(&mut DatagramRx::new(1), &mut bufs(1)).is_err());
}

#[test]
fn gre_packets_cross_over_both_families() {
    for (a, b, prefix, offset) in [("192.0.2.1", "192.0.2.2", 24, 20), ("2001:db8::1", "2001:db8::2", 64, 0)]
    {
        let pair = Pair::addressed(a, b, prefix);
        let open = |ns: &NetNs, local| ns.run(|| RawSocket::open(GRE, local, &RawOptions::default()));
        let sa = open(&pair.a, ip(a)).unwrap().unwrap();
        let any = if ip(a).is_ipv4() { ip("0.0.0.0") } else { ip("::") };
        let sb = open(&pair.b, any).unwrap().unwrap();
        let info = TxInfo { ttl: Some(9), tos: Some(4), ..TxInfo::to(SocketAddr::new(ip(b), 0)) };
        let packet = *b"\0\0\x65\x58payload";
        assert_eq!(sa.send(&mut DatagramTx::new(1), &[packet], &[info]).unwrap(), 1);
        let (mut rx, mut buffers) = (DatagramRx::new(1), bufs(1));
        let got = eventually("the packet", || {
            sb.recv(&mut rx, &mut buffers).ok()?;
            Some(sb.info(&rx, 0, &buffers[0]))
        });
        assert_eq!((got.offset, got.src.ip(), got.dst, got.ttl, got.tos), (offset, ip(a), Some(ip(b)), 9, 4));
        assert_eq!(&buffers[0][got.offset..got.len], packet);
    }
}

/// With the guard, the host's stack does not answer what AF_PACKET still receives.
fn stack_is_kept_out(attach: fn(u32) -> weft_host::Result<IngressGuard>) {
    let mut pair = Pair::addressed("192.0.2.1", "192.0.2.2", 24);
    let b = open(&pair.b, pair.vb);
    let mut buffers = bufs(32);
    let mut rx = PacketRx::new(32);
    let mut arp_seen = |why: &str| {
        eventually(why, || {
            let n = b.recv(&mut rx, &mut buffers).unwrap_or(0);
            buffers[..n].iter().any(|f| f[24..26] == [0x08, 0x06]).then_some(())
        });
    };
    let guard = pair.b.run(|| attach(pair.vb)).unwrap().unwrap();
    pair.na.probe_neighbour(pair.va, ip("192.0.2.2")).unwrap();
    arp_seen("AF_PACKET receives the ARP request");
    std::thread::sleep(std::time::Duration::from_millis(50));
    let resolved =
        |nl: &mut Netlink| nl.neighbours().unwrap().iter().any(|n| n.ip == ip("192.0.2.2") && n.usable());
    assert!(!resolved(&mut pair.na), "the stack answered through the guard");
    drop(guard);
    // Afresh: the failed attempt would be repeated only after a second.
    pair.na.delete_neighbour(pair.va, ip("192.0.2.2")).unwrap();
    pair.na.probe_neighbour(pair.va, ip("192.0.2.2")).unwrap();
    eventually("the stack answers again", || resolved(&mut pair.na).then_some(()));
}

#[test]
fn the_stack_is_kept_out_by_tcx() {
    stack_is_kept_out(|index| {
        let guard = IngressGuard::attach(index)?;
        assert!(guard.dies_with_owner());
        Ok(guard)
    });
}

#[test]
fn the_stack_is_kept_out_by_clsact() {
    stack_is_kept_out(|index| {
        // As after a kill: one filter lies there already.
        std::mem::forget(IngressGuard::attach_without_tcx(index)?);
        let guard = IngressGuard::attach_without_tcx(index)?;
        assert!(!guard.dies_with_owner());
        Ok(guard)
    });
}
