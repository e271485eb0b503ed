//! Every parser of the crate over one input, and the laws that must hold for whatever it accepts.
//!
//! Shared by the fuzz target and by the property test of hostile input.

use weft_wire::checksum::Sum;
use weft_wire::fragment::Fragmenter;
use weft_wire::locate::Located;
use weft_wire::merge::{Merger, Push, Trust};
use weft_wire::segment::Segmenter;
use weft_wire::vnet::{ByteOrder, Csum, VnetForm, VnetHdr, complete_checksum, make_partial};
use weft_wire::*;

/// Runs everything on `data`. Panics when a law is broken.
pub(crate) fn everything(data: &[u8]) {
    headers(data);
    tunnels(data);
    control(data);
    let Ok(hdr) = VnetHdr::parse(data, VnetForm::Legacy, ByteOrder::Little) else { return };
    let mut again = [0; 10];
    hdr.emit(&mut again, VnetForm::Legacy, ByteOrder::Little).unwrap();
    assert_eq!(VnetHdr::parse(&again, VnetForm::Legacy, ByteOrder::Little), Ok(hdr));
    offloads(&data[10..], hdr);
    inner(&data[10..]);
}

/// `parse` then `emit` into a buffer of the same size must succeed and parse to the same again.
macro_rules! round_trip {
    ($repr:expr, $len:expr, $reparse:expr) => {{
        let repr = $repr;
        let mut buf = vec![0; $len];
        assert_eq!(repr.emit(&mut buf), Ok($len));
        assert_eq!($reparse(&buf), repr);
    }};
}

fn headers(data: &[u8]) {
    if let Ok(view) = ethernet::EthernetView::parse(data) {
        let mut buf = [0; ethernet::HEADER_LEN];
        ethernet::EthernetRepr::parse(&view).emit(&mut buf).unwrap();
        assert_eq!(buf, data[..ethernet::HEADER_LEN]);
        let _ = vlan::network_layer(data);
    }
    if let Ok(view) = arp::ArpView::parse(data) {
        let mut buf = [0; arp::PACKET_LEN];
        arp::ArpRepr::parse(&view).emit(&mut buf).unwrap();
        assert_eq!(buf, data[..arp::PACKET_LEN]);
    }
    if let Ok(view) = ipv4::Ipv4View::parse(data) {
        let len = view.header_len();
        let mut buf = vec![0; len];
        ipv4::Ipv4Repr::parse(&view).emit(&mut buf).unwrap();
        if view.checksum_ok() && view.checksum() != 0xffff {
            assert_eq!(buf, data[..len]);
        }
    }
    if let Ok(view) = ipv6::Ipv6View::parse(data) {
        let mut buf = [0; ipv6::HEADER_LEN];
        ipv6::Ipv6Repr::parse(&view).emit(&mut buf).unwrap();
        assert_eq!(buf, data[..ipv6::HEADER_LEN]);
        if let Ok(chain) = ipv6_ext::Chain::walk(view.next_header(), view.payload()) {
            assert_eq!(chain.len + chain.payload.len(), view.payload().len());
        }
    }
    if let Ok(view) = tcp::TcpView::parse(data) {
        let repr = tcp::TcpRepr::parse(&view);
        round_trip!(repr, view.header_len(), |b| tcp::TcpRepr::parse(&tcp::TcpView::parse(b).unwrap()));
        for option in tcp_option::TcpOptions::new(view.options()).flatten() {
            option.emit(&mut [0; 64]).unwrap();
        }
    }
    if let Ok(view) = udp::UdpView::parse(data) {
        udp::UdpRepr::parse(&view).emit(&mut [0; 8]).unwrap();
        let _ = view.checksum_ok(Sum::ZERO);
    }
    if let Ok(view) = sctp::SctpView::parse(data) {
        sctp::SctpRepr::parse(&view).emit(&mut [0; 12]).unwrap();
        let _ = view.checksum_ok();
    }
}

fn tunnels(data: &[u8]) {
    services(data);
    assert!(mpls::MplsStack::new(data).count() <= data.len() / 4 + 1);
    if let Ok(view) = vxlan::VxlanView::parse(data) {
        let repr = vxlan::VxlanRepr::parse(&view);
        round_trip!(repr, 8, |b| vxlan::VxlanRepr::parse(&vxlan::VxlanView::parse(b).unwrap()));
    }
    if let Ok(view) = geneve::GeneveView::parse(data) {
        let repr = geneve::GeneveRepr::parse(&view);
        round_trip!(repr, view.header_len(), |b| {
            let view = geneve::GeneveView::parse(b).unwrap();
            geneve::GeneveRepr { options: repr.options, ..geneve::GeneveRepr::parse(&view) }
        });
        for option in geneve::GeneveOptions::new(view.options()).flatten() {
            option.emit(&mut [0; 256]).unwrap();
        }
    }
    if let Ok(view) = gre::GreView::parse(data) {
        let repr = gre::GreRepr::parse(&view);
        round_trip!(repr, view.header_len(), |b| gre::GreRepr::parse(&gre::GreView::parse(b).unwrap()));
        let _ = (view.checksum_ok(), gre::NvgreRepr::parse(&repr));
    }
}

/// Network service headers, one inside another.
fn services(mut data: &[u8]) {
    while let Ok(view) = nsh::NshView::parse(data) {
        let repr = nsh::NshRepr::parse(&view);
        let mut buf = vec![0; view.header_len()];
        assert_eq!(repr.emit(&mut buf), Ok(view.header_len()));
        assert_eq!(nsh::NshRepr::parse(&nsh::NshView::parse(&buf).unwrap()), repr);
        let mut out = Vec::new();
        for tlv in view.tlvs().flatten() {
            tlv.append(&mut out);
        }
        assert!(out.len() <= view.metadata().len().next_multiple_of(4));
        data = view.payload();
    }
}

fn control(data: &[u8]) {
    if let Ok(view) = icmpv4::Icmpv4View::parse(data) {
        let mut buf = vec![0; data.len()];
        icmpv4::Icmpv4Repr::parse(&view).emit(&mut buf).unwrap();
        assert_eq!((&buf[..2], &buf[4..]), (&data[..2], &data[4..]));
    }
    if let Ok(view) = icmpv6::Icmpv6View::parse(data) {
        let mut buf = vec![0; data.len()];
        icmpv6::Icmpv6Repr::parse(&view).emit(&mut buf, Sum::ZERO).unwrap();
        assert_eq!((&buf[..2], &buf[4..]), (&data[..2], &data[4..]));
        if let Ok(repr) = ndp::NdpRepr::parse(&view) {
            repr.emit(&mut buf, Sum::ZERO).unwrap();
            for option in ndp_option::NdpOptions::new(repr.options) {
                option.unwrap().emit(&mut [0; 2048]).unwrap();
            }
        }
    }
    if let Ok(view) = igmp::IgmpView::parse(data) {
        igmp::IgmpRepr::parse(&view).emit(&mut [0; 8]).unwrap();
        let _ = view.records().count();
    }
}

/// What is done with a frame and what is still to be done on it.
fn offloads(frame: &[u8], mut hdr: VnetHdr) {
    let _ = hdr.validate(frame);
    vnet::infer(frame, 1450).validate(frame).unwrap();
    let mut out = vec![0; 70_000];
    for csum in [hdr.csum, Csum::None] {
        if let Ok(seg) = Segmenter::new(frame, &VnetHdr { csum, ..hdr }) {
            for i in 0..seg.count() {
                assert_eq!(seg.write(i, &mut out), Ok(seg.segment_len(i)));
            }
            let train = seg.write_train(0, 64, &[1; 8], &mut out).unwrap();
            assert!(train.len <= out.len() && train.segments >= 1);
        }
    }
    let mut copy = frame.to_vec();
    let _ = complete_checksum(&mut copy, &mut hdr);
    let _ = make_partial(&mut copy);
    for mtu in [60, 576, 1280] {
        if let Ok(cut) = Fragmenter::new(frame, mtu, 1) {
            for i in 0..cut.count() {
                cut.write(i, &mut out).unwrap();
            }
        }
        let _ = icmp_error::too_big(frame, mtu, None, &mut out);
    }
    let mut merger = Merger::new(Trust::Verified);
    for frame in [frame, frame, &copy] {
        if merger.push(frame, &mut out) != Push::Taken
            && let Some(merged) = merger.finish(&mut out).unwrap()
        {
            merged.hdr.validate(&out[..merged.len]).unwrap();
        }
    }
}

/// What a frame carries, at the offsets a switch would find it.
fn inner(frame: &[u8]) {
    if let Ok(found) = Located::parse(frame) {
        assert!(found.l4 <= found.end && found.end <= frame.len());
        assert_eq!(found.transport.len(), found.end - found.l4);
        headers(found.transport);
        control(found.transport);
        tunnels(found.transport);
        if let Ok(udp) = udp::UdpView::parse(found.transport) {
            tunnels(udp.payload());
        }
    }
}
