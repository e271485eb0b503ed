//! Does the builder make frames that every parser takes?

use super::*;
use crate::ethernet::EthernetView;
use crate::geneve::GeneveView;
use crate::gre::GreView;
use crate::ipv4::Ipv4View;
use crate::ipv6::Ipv6View;
use crate::ipv6_ext::Chain;
use crate::mpls::MplsStack;
use crate::tcp::TcpView;
use crate::udp::UdpView;
use crate::vlan::network_layer;
use crate::vxlan::VxlanView;

const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

#[test]
fn a_tcp_segment_in_two_tags() {
    let frame = Frame::eth(A, B)
        .qinq(5)
        .vlan(6)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2])
        .ttl(3)
        .tcp(1, 2)
        .seq(7, 8)
        .tcp_options(&[1, 1, 1, 1])
        .payload([9; 33])
        .build();
    let (at, ether_type) = network_layer(&frame).unwrap();
    assert_eq!((at, ether_type), (22, EtherType::IPV4));
    let ip = Ipv4View::parse(&frame[at..]).unwrap();
    assert!(ip.checksum_ok() && ip.ttl() == 3 && ip.proto() == IpProto::TCP);
    let tcp = TcpView::parse(ip.payload()).unwrap();
    assert!(tcp.checksum_ok(ip.pseudo_sum()));
    assert_eq!((tcp.seq(), tcp.ack(), tcp.payload()), (7, 8, &[9; 33][..]));
}

#[test]
fn an_ipv6_packet_with_extension_headers() {
    let (src, dst): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    let frame = Frame::bare()
        .ipv6(src, dst)
        .ext(IpProto::HOPOPT, &[5, 2, 0, 0])
        .fragment(0, false, 9)
        .udp(3, 4)
        .payload([1, 2, 3])
        .build();
    let ip = Ipv6View::parse(&frame).unwrap();
    let chain = Chain::walk(ip.next_header(), ip.payload()).unwrap();
    assert_eq!((chain.proto, chain.len), (IpProto::UDP, 16));
    let udp = UdpView::parse(chain.payload).unwrap();
    let pseudo = crate::checksum::Sum::pseudo_v6(src, dst, IpProto::UDP, chain.payload.len() as u32);
    assert!(udp.checksum() != 0 && udp.checksum_ok(pseudo));
}

#[test]
fn tunnels() {
    let vni = Vni::new(1000).unwrap();
    let inner = |frame: Frame| frame.inner_eth(A, B).ipv4([1, 1, 1, 1], [2, 2, 2, 2]).udp(1, 2);
    let outer = || Frame::bare().ipv4([10, 0, 0, 1], [10, 0, 0, 2]);
    let check = |bytes: &[u8]| {
        let eth = EthernetView::parse(bytes).unwrap();
        assert_eq!((eth.src(), eth.ether_type()), (A, EtherType::IPV4));
        assert_eq!(Ipv4View::parse(eth.payload()).unwrap().dst(), Ipv4Addr::new(2, 2, 2, 2));
    };

    let vxlan = inner(outer().udp(9, 4789).vxlan(vni)).build();
    check(VxlanView::parse(&vxlan[28..]).unwrap().payload());
    let geneve = inner(outer().udp(9, 6081).geneve(vni, &[0, 1, 2, 0])).build();
    let view = GeneveView::parse(&geneve[28..]).unwrap();
    assert_eq!(view.protocol(), EtherType::TEB);
    check(view.payload());
    let gre = inner(outer().gre(Some(1), Some(2), true)).build();
    let view = GreView::parse(&gre[20..]).unwrap();
    assert!(view.checksum_ok() && view.protocol() == EtherType::TEB);
    check(view.payload());
    let mpls = Frame::eth(A, B).mpls(16).mpls(17).ipv4([1, 1, 1, 1], [2, 2, 2, 2]).udp(1, 2).build();
    let mut stack = MplsStack::new(&mpls[14..]);
    assert_eq!(stack.by_ref().map(|e| e.unwrap().label()).collect::<Vec<_>>(), [16, 17]);
    assert!(Ipv4View::parse(stack.rest()).is_ok());
}

#[test]
fn impossible_frames() {
    assert!(Frame::eth(A, B).ttl(1).try_build().is_err(), "no IP header");
    assert!(Frame::eth(A, B).udp(1, 2).try_build().is_err(), "no IP header");
    let long = Frame::eth(A, B).ipv4([1, 1, 1, 1], [2, 2, 2, 2]).udp(1, 2).payload(vec![0; 65_508]);
    assert!(long.try_build().is_err());
}
