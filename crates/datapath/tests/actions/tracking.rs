//! Do packets pass connection tracking as they should?

use std::sync::Arc;

use weft_datapath::{Datapath, PortKind, PortSpec};
use weft_flow::{CtSpec, DpAction, DpPort, EXTRA_CT, FlowKey, Nat, NatSide, PacketKey, extract_packet};
use weft_wire::build::Frame;
use weft_wire::fragment::Fragmenter;
use weft_wire::ipv4::Ipv4Frag;

use crate::rig::{A, B, Rig, capture, recirc};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];
const OUTSIDE: [u8; 4] = [192, 0, 2, 9];
const NEW: u16 = 0x01;
const EST: u16 = 0x02;
const RPL: u16 = 0x08;
const INV: u16 = 0x10;
const TRK: u16 = 0x20;
const RST: u16 = 4;

fn ct(change: impl Fn(&mut CtSpec)) -> DpAction {
    let mut spec = CtSpec { zone: 5, ..CtSpec::default() };
    change(&mut spec);
    DpAction::Ct(Arc::new(spec))
}

fn udp(from: [u8; 4], to: [u8; 4], ports: (u16, u16)) -> Vec<u8> {
    Frame::eth(A, B).ipv4(from, to).udp(ports.0, ports.1).payload([1, 2, 3, 4, 5]).build()
}

fn key(frame: &[u8]) -> PacketKey {
    let mut key = PacketKey::default();
    extract_packet(frame, 1, &mut key).unwrap();
    key
}

/// A rig that captures a tracked packet under its state.
fn rig() -> Rig {
    let rig = Rig::new();
    for state in 0..256u16 {
        let set = move |k: &mut FlowKey| (k.packet.extras, k.ct.state) = (EXTRA_CT, state);
        rig.flow(1, set, |m| m.ct.state = u16::MAX, &[capture(state.into())]);
    }
    rig
}

/// States of a packet that passes these actions.
fn states(rig: &Rig, frame: &[u8], action: DpAction) -> Vec<u16> {
    rig.execute(frame, &[action, recirc(1)]).iter().map(|(state, _)| *state as u16).collect()
}

#[test]
fn a_connection_is_new_then_established() {
    let rig = rig();
    let (there, back) = (udp(CLIENT, SERVER, (1000, 53)), udp(SERVER, CLIENT, (53, 1000)));
    let track = || ct(|_| ());
    assert_eq!(states(&rig, &there, track()), [TRK | NEW]);
    assert_eq!(states(&rig, &back, track()), [TRK | NEW], "nothing was committed");
    assert_eq!(
        states(&rig, &there, ct(|spec| (spec.commit, spec.mark) = (true, Some((7, 0xff))))),
        [TRK | NEW]
    );
    assert_eq!(rig.datapath.conntrack().count(), 1);
    assert_eq!(states(&rig, &back, track()), [TRK | EST | RPL]);
    assert_eq!(states(&rig, &there, track()), [TRK | EST]);
    assert_eq!(states(&rig, &there, ct(|spec| spec.zone = 6)), [TRK | NEW], "zones are apart");
    rig.flow(2, |k| (k.packet.extras, k.ct.mark) = (EXTRA_CT, 7), |m| m.ct.mark = u32::MAX, &[capture(99)]);
    assert_eq!(rig.execute(&back, &[track(), recirc(2)]).len(), 1, "the mark is known");
    let stray = Frame::eth(A, B).ipv4(CLIENT, SERVER).tcp(1, 2).flags(RST).build();
    assert_eq!(states(&rig, &stray, track()), [TRK | INV]);
}

#[test]
fn the_original_goes_on_untracked() {
    let rig = rig();
    let tracked = DpAction::Clone([ct(|spec| spec.commit = true), recirc(1)].into());
    rig.flow(3, |k| k.packet.extras = 0, |_| (), &[capture(1000)]);
    let got = rig.execute(&udp(CLIENT, SERVER, (1, 2)), &[tracked, recirc(3)]);
    let mut marks: Vec<u64> = got.iter().map(|g| g.0).collect();
    marks.sort_unstable();
    assert_eq!(marks, [u64::from(TRK | NEW), 1000]);
}

#[test]
fn addresses_are_translated_both_ways() {
    let rig = rig();
    let there = udp(CLIENT, SERVER, (1000, 53));
    let addr = OUTSIDE.into();
    let nat = Nat {
        side: Some(NatSide::Src),
        addrs: Some((addr, addr)),
        ports: Some((5000, 5000)),
        ..Nat::default()
    };
    let commit = ct(|spec| (spec.commit, spec.nat) = (true, Some(nat)));
    let got = rig.execute(&there, &[commit, capture(1)]);
    assert_eq!(got[0].1, udp(OUTSIDE, SERVER, (5000, 53)), "checksums included");
    let answer = udp(SERVER, OUTSIDE, (53, 5000));
    let track = || ct(|spec| spec.nat = Some(Nat::default()));
    let got = rig.execute(&answer, &[track(), capture(1)]);
    assert_eq!(got[0].1, udp(SERVER, CLIENT, (53, 1000)));
    let got = rig.execute(&there, &[track(), capture(1)]);
    assert_eq!(got[0].1, udp(OUTSIDE, SERVER, (5000, 53)));
}

#[test]
fn fragments_are_tracked_whole() {
    let rig = rig();
    let out = PortSpec { number: Some(DpPort(3)), ..PortSpec::new("out", PortKind::Null) };
    rig.datapath.add_port(&out).unwrap();
    // By a flow of its own, and by a list.
    rig.flow(4, |k| k.packet.extras = EXTRA_CT, |_| (), &[DpAction::Output(DpPort(3))]);
    let whole = Frame::eth(A, B)
        .ipv4(CLIENT, SERVER)
        .id(7)
        .frag(Ipv4Frag::default())
        .udp(1000, 53)
        .payload(vec![9; 3000])
        .build();
    let cut = Fragmenter::new(&whole, 1500, 0).unwrap();
    let fragments: Vec<Vec<u8>> = (0..cut.count())
        .map(|index| {
            let mut frame = vec![0; 1514];
            let len = cut.write(index, &mut frame).unwrap();
            frame.truncate(len);
            frame
        })
        .collect();
    assert!(fragments.len() == 3 && fragments.iter().all(|f| key(f).ip_frag != 0));
    let commit = || ct(|spec| spec.commit = true);
    for order in [[0, 1, 2], [2, 0, 1]] {
        let got: Vec<_> = order
            .iter()
            .flat_map(|i| rig.execute(&fragments[*i], &[commit(), capture(1), recirc(1), recirc(4)]))
            .collect();
        assert_eq!(got.iter().map(|g| g.0).collect::<Vec<_>>()[0], 1);
        assert_eq!(got.len(), 2, "once for all fragments, in the list and after");
        assert_eq!(got[0].1, whole);
        assert_eq!(got[0].1, got[1].1);
    }
    assert_eq!(rig.datapath.conntrack().count(), 1);
    let sent = rig.datapath.port_stats(DpPort(3)).unwrap();
    let bytes: usize = fragments.iter().map(Vec::len).sum();
    assert_eq!((sent.tx_packets, sent.tx_bytes), (2 * 3, 2 * bytes as u64), "in fragments again");
    assert_eq!(rig.datapath.drops().iter().sum::<u64>(), 0, "a fragment that waits is not dropped");
}
