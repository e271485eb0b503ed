//! Frames cross a socket and shared memory; guests and frontends that misbehave hurt only themselves.

use std::io::Write;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
use vhost::VhostBackend;
use weft_flow::{DpPort, DropReason};
use weft_wire::vnet::{Csum, Gso, GsoKind, VnetHdr};

use super::driver::{BUFFER, Driver, GUEST, LEN, NEXT, SIZE, WRITE, accept, descriptor, wait_for};
use super::frames::{Agreed, FromGuest, ToGuest};
use super::ring::{Broken, Ring};
use super::{VhostDevice, feature};
use crate::contract::{VhostMode, VhostSpec};
use crate::packet::{Pool, Slot};

const PORT: DpPort = DpPort(7);
/// Header of 12 bytes that says nothing.
const PLAIN: [u8; 12] = [0; 12];

fn open(path: &std::path::Path, mode: VhostMode) -> VhostDevice {
    VhostDevice::open(PORT, &VhostSpec { mode, path: path.to_owned(), mtu: 1500 }, 1, 0, None).unwrap()
}

/// A guest with that many rings, a device that is connected to it, and the socket between.
fn connected(rings: usize) -> (Driver, VhostDevice, vhost::vhost_user::Frontend, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = accept(&path);
    let device = open(&path, VhostMode::Client);
    let driver = Driver::new(rings);
    let socket = driver.connect(listener.accept().unwrap().0);
    let all = ("num_of_vrings".to_owned(), rings.to_string());
    wait_for("all rings work", || device.status().contains(&all));
    (driver, device, socket, dir)
}

/// What the device receives now.
fn receive(device: &VhostDevice, pool: &mut Pool) -> Vec<(Vec<u8>, VnetHdr, Option<DropReason>)> {
    let received = device.receive(0, pool.batch_mut(), PORT);
    assert!(!received.gone);
    (0..received.frames as Slot)
        .map(|slot| {
            let packet = pool.get(slot);
            (packet.data().to_vec(), packet.offload, packet.fault)
        })
        .collect()
}

/// Has the device send frames; how many went, and why others did not.
fn send(device: &VhostDevice, pool: &mut Pool, frames: &[&[u8]]) -> (usize, Vec<DropReason>) {
    let slots: Vec<Slot> = (0..frames.len() as Slot).collect();
    for (slot, frame) in slots.iter().zip(frames) {
        assert!(pool.get_mut(*slot).fill(frame, DpPort(1)));
        pool.get_mut(*slot).flow_hash = u32::from(*slot);
    }
    let (mut sent, mut errors) = (0, Vec::new());
    device.send(pool, &slots, |_| sent += 1, |reason| errors.push(reason));
    (sent, errors)
}

#[test]
fn frames_cross_both_ways() {
    let (mut driver, device, _socket, _dir) = connected(4);
    let mut pool = Pool::new().unwrap();
    assert!(device.takes().prefix != 0 && device.takes().uso);
    // From the guest, by both pairs, in pieces.
    driver.send(1, 0, &[&PLAIN, b"to the ", b"switch"]);
    driver.send(3, 5, &[&[&PLAIN[..], b"in one"].concat()]);
    let mut got: Vec<_> = receive(&device, &mut pool).into_iter().map(|(frame, ..)| frame).collect();
    got.sort();
    assert_eq!(got, [b"in one".to_vec(), b"to the switch".to_vec()]);
    assert_eq!((driver.take(1), driver.take(1), driver.take(3)), (Some((0, 0)), None, Some((5, 0))));
    // To the guest: a long frame takes several buffers.
    driver.offer_buffers(0, 0..16);
    driver.offer_buffers(2, 0..16);
    let long: Vec<u8> = (0..9000u32).map(|n| n as u8).collect();
    assert_eq!(send(&device, &mut pool, &[b"short", &long, b"last"]), (3, Vec::new()));
    let frames: Vec<_> = [0, 2, 0].map(|ring| driver.received(ring)).into_iter().flatten().collect();
    let bodies: Vec<&[u8]> = frames.iter().map(|f| &f[12..]).collect();
    assert_eq!(bodies, [b"short", &long[..], b"last"], "one flow by one queue");
    let status = device.status();
    let has = |key: &str, value: &str| status.iter().any(|(k, v)| k == key && v == value);
    assert!(has("mode", "client") && has("status", "connected") && has("num_of_vrings", "4"), "{status:?}");
}

#[test]
fn what_is_left_to_be_done_crosses_too() {
    let (mut driver, device, _socket, _dir) = connected(2);
    let mut pool = Pool::new().unwrap();
    let mut header = PLAIN;
    // Checksum to be completed from 34, at 16 from there; TCP over IPv4, segments of 1000, 54 bytes of headers.
    header[..10].copy_from_slice(&[1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0]);
    let frame = vec![0x45; 4000];
    driver.send(1, 0, &[&header, &frame]);
    let got = receive(&device, &mut pool);
    let gso = Gso { kind: GsoKind::TcpV4, size: 1000, ecn: false, hdr_len: 54 };
    let wanted = VnetHdr { csum: Csum::Partial { start: 34, offset: 16 }, gso: Some(gso), num_buffers: 0 };
    assert_eq!(got, [(frame.clone(), wanted, None)]);
    driver.offer_buffers(0, 0..4);
    pool.get_mut(0).fill(&frame, DpPort(1));
    pool.get_mut(0).offload = wanted;
    device.send(&pool, &[0], |_| {}, |reason| panic!("{reason:?}"));
    let back = driver.received(0).unwrap();
    assert_eq!((&back[..10], &back[12..]), (&header[..10], &frame[..]));
    // What was not agreed on is a fault.
    header[1] = 3;
    driver.send(1, 4, &[&header, &frame]);
    assert_eq!(receive(&device, &mut pool)[0].2, Some(DropReason::BadOffloadHeader));
}

#[test]
fn frames_wait_for_a_guest_that_is_slow() {
    let (mut driver, device, _socket, _dir) = connected(2);
    let mut pool = Pool::new().unwrap();
    driver.offer_buffers(0, 0..1);
    assert_eq!(send(&device, &mut pool, &[b"now", b"then", b"at last"]), (3, Vec::new()));
    assert_eq!(driver.received(0).unwrap()[12..], *b"now");
    assert_eq!(driver.received(0), None);
    driver.offer_buffers(0, 1..2);
    driver.kicks[0].write(1).unwrap();
    receive(&device, &mut pool);
    assert_eq!(driver.received(0).unwrap()[12..], *b"then");
    driver.offer_buffers(0, 2..8);
    // Order is kept: what is new goes behind what waits.
    send(&device, &mut pool, &[b"new"]);
    driver.kicks[0].write(1).unwrap();
    receive(&device, &mut pool);
    assert_eq!(driver.received(0).unwrap()[12..], *b"at last");
    assert_eq!(driver.received(0).unwrap()[12..], *b"new");
    // A frame that takes several buffers waits for the last; the guest is to tell of each.
    let long = vec![1; 5000];
    send(&device, &mut pool, &[&long]);
    assert!(driver.received(0).is_some(), "four buffers were left, one is now");
    send(&device, &mut pool, &[&long]);
    assert_eq!(driver.received(0), None);
    for index in 8..10 {
        driver.offer_buffers(0, index..index + 1);
        assert!(driver.is_wanted(0, driver.offered[0] - 1));
        driver.kicks[0].write(1).unwrap();
        receive(&device, &mut pool);
    }
    assert_eq!(driver.received(0).unwrap()[12..], long);
    driver.offer_buffers(0, 10..11);
    assert!(!driver.is_wanted(0, driver.offered[0] - 1), "nothing waits");
    // Not for ever: a guest that takes nothing loses frames, with a reason.
    let long = vec![0; 60_000];
    let lost = (0..100).flat_map(|_| send(&device, &mut pool, &[&long]).1).next();
    assert_eq!(lost, Some(DropReason::TxQueueFull));
    assert!(device.link_up());
}

#[test]
fn a_guest_is_told_when_it_asks_to_be() {
    let (mut driver, device, _socket, _dir) = connected(2);
    let mut pool = Pool::new().unwrap();
    for call in &driver.calls {
        let _ = call.read();
    }
    // The driver waits for index 0, by VIRTIO_RING_F_EVENT_IDX.
    driver.send(1, 0, &[&PLAIN, b"frame"]);
    assert_eq!(receive(&device, &mut pool).len(), 1);
    assert_eq!(driver.calls[1].read().unwrap(), 1);
    driver.send(1, 0, &[&PLAIN, b"frame"]);
    receive(&device, &mut pool);
    assert!(driver.calls[1].read().is_err(), "it asked for the one before");
}

/// Does something to the guest's rings, and tells which of the two breaks by it.
fn broken_by(what: &str, spoil: impl FnOnce(&mut Driver)) {
    let (mut driver, device, _socket, _dir) = connected(4);
    let mut pool = Pool::new().unwrap();
    spoil(&mut driver);
    receive(&device, &mut pool);
    send(&device, &mut pool, &[b"frame"]);
    let status = device.status();
    assert!(status.iter().any(|(key, value)| key == "broken_vrings" && value == "1"), "{what}: {status:?}");
    // The other pair works on.
    driver.send(3, 0, &[&PLAIN, b"frame"]);
    assert_eq!(receive(&device, &mut pool).len(), 1, "{what}");
    assert!(device.link_up(), "{what}");
}

#[test]
fn rings_that_make_no_sense_are_left_alone() {
    let ok = Driver::buffer(1, 0);
    broken_by("a loop", |d| {
        d.describe(1, 0, ok, 10, NEXT, 1);
        d.describe(1, 1, ok, 10, NEXT, 0);
        d.offer(1, 0);
    });
    broken_by("a loop of what is too long already", |d| {
        d.describe(1, 0, ok, u32::from(u16::MAX), NEXT, 0);
        d.offer(1, 0);
    });
    broken_by("a head outside", |d| d.offer(1, SIZE));
    broken_by("a next outside", |d| {
        d.describe(1, 0, ok, 10, NEXT, SIZE);
        d.offer(1, 0);
    });
    broken_by("more chains than descriptors", |d| d.claim(1, SIZE + 1));
    for (what, at, len) in [
        ("an address outside", GUEST - 1, 10),
        ("an end outside", GUEST + LEN - 5, 10),
        ("an address that wraps", u64::MAX - 3, 10),
        ("a length that is absurd", GUEST + LEN - 5, u32::MAX),
    ] {
        broken_by(what, |d| {
            d.describe(1, 0, at, len, 0, 0);
            d.offer(1, 0);
        });
        broken_by(what, |d| {
            d.describe(0, 0, at, len.max(100), WRITE, 0);
            d.offer(0, 0);
        });
    }
    broken_by("a receive buffer to be read", |d| {
        d.describe(0, 0, ok, 100, 0, 0);
        d.offer(0, 0);
    });
    const INDIRECT: u16 = 4;
    for (what, len, flags) in [
        ("an indirect table of no descriptors", 0, INDIRECT),
        ("of a part of one", 17, INDIRECT),
        ("with a next", 16, INDIRECT | NEXT),
    ] {
        broken_by(what, |d| {
            d.describe(1, 0, ok, len, flags, 1);
            d.offer(1, 0);
        });
    }
    broken_by("an indirect table in an indirect table", |d| {
        d.write(ok - GUEST, &descriptor(ok, 16, INDIRECT, 0));
        d.describe(1, 0, ok, 16, INDIRECT, 0);
        d.offer(1, 0);
    });
}

#[test]
fn indirect_tables_are_followed_wherever_they_are() {
    let (mut driver, device, _socket, _dir) = connected(2);
    let mut pool = Pool::new().unwrap();
    // Also where no descriptor would be aligned.
    let table = Driver::buffer(1, 3) + 1;
    driver.write(table - GUEST, &descriptor(Driver::buffer(1, 0), 12, NEXT, 1));
    driver.write(table - GUEST + 16, &descriptor(Driver::buffer(1, 1), 5, 0, 0));
    driver.write(Driver::buffer(1, 1) - GUEST, b"frame");
    driver.describe(1, 9, table, 32, 4, 0);
    driver.offer(1, 9);
    assert_eq!(receive(&device, &mut pool)[0].0, b"frame");
}

#[test]
fn memory_that_is_taken_away_hurts_nobody_else() {
    let (mut driver, device, _socket, _dir) = connected(2);
    let mut pool = Pool::new().unwrap();
    driver.send(1, 0, &[&PLAIN, b"frame"]);
    driver.offer_buffers(0, 0..4);
    driver.file.set_len(0).unwrap();
    receive(&device, &mut pool);
    let (sent, errors) = send(&device, &mut pool, &[b"a", b"b"]);
    assert_eq!(sent + errors.len(), 2);
    assert!(!device.link_up());
    drop(device);
}

#[test]
fn frontends_come_and_go_and_talk_nonsense() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let device = open(&path, VhostMode::Server);
    // Garbage, half a message, silence.
    for bytes in [&[0xff; 64][..], &[1, 0, 0, 0, 1, 0], &[], &[15, 0, 0, 0, 1, 0, 0, 0, 0, 16, 0, 0, 1]] {
        let mut stream = UnixStream::connect(&path).unwrap();
        let _ = stream.write_all(bytes);
    }
    let mut driver = Driver::new(2);
    let mut pool = Pool::new().unwrap();
    for _ in 0..3 {
        let mut socket = driver.connect(UnixStream::connect(&path).unwrap());
        wait_for("the link is up", || device.link_up());
        driver.send(1, 0, &[&PLAIN, b"frame"]);
        wait_for("a frame", || !receive(&device, &mut pool).is_empty());
        assert_eq!(driver.take(1), Some((0, 0)));
        // Stopped and started, as by a guest that reboots.
        assert_eq!(socket.get_vring_base(1).unwrap() as u16, driver.offered[1]);
        wait_for("the link is down", || !device.link_up());
        driver.set_up(&mut socket, 1);
        wait_for("the link is up again", || device.link_up());
        drop(socket);
        wait_for("the link is down", || !device.link_up());
    }
    // Memory that is not there, bells that are none.
    let stream = UnixStream::connect(&path).unwrap();
    let socket = vhost::vhost_user::Frontend::from_stream(stream, 2);
    socket.set_owner().unwrap();
    let mut region = driver.region();
    region.memory_size = LEN + 1;
    let _ = socket.set_mem_table(&[region]);
    wait_for("it was thrown out", || socket.get_features().is_err());
    drop(device);
    assert!(!path.exists(), "the socket goes with the port");
}

fn agreed() -> Agreed {
    Agreed::new(feature::OFFERED)
}

/// What a hostile guest writes, and where.
fn scribbles() -> impl Strategy<Value = Vec<(u64, [u8; 16])>> {
    // Mostly into the rings, with numbers that are nearly right.
    let at = prop_oneof![0u64..0x480, 0x800u64..0x890, 0xa00u64..0xc10].prop_map(|at| at / 2 * 2);
    let bytes = prop_oneof![
        any::<[u8; 16]>(),
        (0u64..8, 0u32..5000, 0u16..8, 0u16..70).prop_map(|(n, len, flags, next)| descriptor(
            Driver::buffer(0, n as u16),
            len,
            flags,
            next
        )),
        (any::<u64>(), any::<u32>(), 0u16..8, 0u16..70)
            .prop_map(|(at, len, flags, next)| descriptor(at, len, flags, next)),
        (0u16..70).prop_map(|n| [n as u8, 0].repeat(8).try_into().unwrap()),
    ];
    prop::collection::vec((at, bytes), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever stands in a ring, the device's side ends, and touches nothing that is not the guest's.
    #[test]
    fn no_ring_does_harm(writes in scribbles(), event_idx: bool, long: bool) {
        let driver = Driver::new(1);
        let mut pool = Pool::new().unwrap();
        let mut from = FromGuest::new(driver.ring(0, event_idx), agreed());
        let mut to = ToGuest::new(driver.ring(0, event_idx), agreed());
        pool.get_mut(1).fill(&vec![7; if long { 60_000 } else { 60 }], PORT);
        for (at, bytes) in writes {
            driver.write(at, &bytes);
            for _ in 0..4 {
                if !matches!(from.receive(pool.get_mut(0), PORT), Ok(true)) {
                    break;
                }
                prop_assert!(pool.get(0).len() <= crate::packet::FRAME_ROOM);
            }
            from.ring.show();
            from.ring.listen();
            let _ = to.send(pool.get(1));
            let _ = to.send_waiting();
            let _ = to.finish();
        }
    }

    /// Frames of any length in pieces of any length arrive as they were, both ways.
    #[test]
    fn frames_arrive_as_they_were(frame in prop::collection::vec(any::<u8>(), 1..6000), cuts in prop::collection::vec(1usize..2000, 0..6)) {
        let mut driver = Driver::new(2);
        let mut pool = Pool::new().unwrap();
        let whole = [&PLAIN[..], &frame].concat();
        let mut pieces = Vec::new();
        let mut rest = &whole[..];
        for cut in cuts.iter().chain(&[BUFFER as usize; 4]) {
            let (piece, later) = rest.split_at((*cut).min(rest.len()));
            if !piece.is_empty() {
                pieces.push(piece);
            }
            rest = later;
        }
        prop_assume!(rest.is_empty());
        driver.send(1, 0, &pieces);
        let mut from = FromGuest::new(driver.ring(1, false), agreed());
        prop_assert_eq!(from.receive(pool.get_mut(0), PORT), Ok(true));
        prop_assert_eq!(pool.get(0).data(), &frame[..]);
        let mut to = ToGuest::new(driver.ring(0, false), agreed());
        driver.offer_buffers(0, 0..8);
        prop_assert_eq!(to.send(pool.get(0)), Ok(Ok(())));
        to.ring.show();
        let back = driver.received(0).unwrap();
        prop_assert_eq!(&back[12..], &frame[..]);
    }
}

#[test]
fn a_ring_must_be_where_memory_is() {
    let driver = Driver::new(1);
    let memory = driver.memory();
    let at = |descriptors: u64, driver: u64, device: u64| super::ring::Places { descriptors, driver, device };
    let good = at(GUEST, GUEST + 0x800, GUEST + 0xa00);
    assert!(Ring::new(memory.clone(), SIZE, good, 0, true).is_some());
    assert!(Ring::new(memory.clone(), 48, good, 0, true).is_none());
    assert!(Ring::new(memory.clone(), 0, good, 0, true).is_none());
    for bad in [
        at(GUEST + 1, good.driver, good.device),
        at(GUEST + LEN - 16, good.driver, good.device),
        at(good.descriptors, GUEST + 0x801, good.device),
        at(good.descriptors, good.driver, GUEST + LEN - 8),
    ] {
        assert!(Ring::new(memory.clone(), SIZE, bad, 0, true).is_none(), "{bad:?}");
    }
    let mut ring = Ring::new(memory, SIZE, good, 0, true).unwrap();
    assert_eq!(ring.take(), Ok(None));
    driver.claim(0, 1);
    driver.write(0x804, &SIZE.to_le_bytes());
    assert_eq!(ring.take(), Err(Broken));
}
