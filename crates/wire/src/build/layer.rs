//! How is one header put in front of what is inside it?

use crate::arp::ArpRepr;
use crate::checksum::Sum;
use crate::ethernet::EthernetRepr;
use crate::geneve::GeneveRepr;
use crate::gre::{self, GreRepr};
use crate::icmpv4::{Icmpv4Message, Icmpv4Repr};
use crate::icmpv6::{Icmpv6Message, Icmpv6Repr};
use crate::igmp::IgmpRepr;
use crate::ipv4::Ipv4Repr;
use crate::ipv6::Ipv6Repr;
use crate::ipv6_ext::FragmentRepr;
use crate::mpls::MplsEntry;
use crate::ndp::{NdpMessage, NdpRepr};
use crate::sctp::{self, SctpRepr};
use crate::tcp::{self, TcpRepr};
use crate::udp::{self, UdpRepr};
use crate::vlan::{VlanRepr, VlanTci};
use crate::vxlan::VxlanRepr;
use crate::{Error, EtherType, IpProto, Mac, Result, Vni};

/// Bytes that a layer owns.
pub(super) type Bytes = Vec<u8>;

/// One header of the frame. `None` in a type field: follows from the inside.
#[derive(Debug, Clone)]
pub(super) enum Layer {
    Eth {
        src: Mac,
        dst: Mac,
        ether_type: Option<EtherType>,
    },
    Tag {
        tpid: EtherType,
        tci: VlanTci,
        ether_type: Option<EtherType>,
    },
    Mpls(MplsEntry),
    Arp(ArpRepr),
    Ipv4 {
        repr: Ipv4Repr<'static>,
        options: Bytes,
        proto: Option<IpProto>,
    },
    Ipv6 {
        repr: Ipv6Repr,
        next: Option<IpProto>,
    },
    Ext {
        kind: IpProto,
        body: Bytes,
    },
    Fragment(FragmentRepr),
    Tcp {
        repr: TcpRepr<'static>,
        options: Bytes,
    },
    Udp {
        src_port: u16,
        dst_port: u16,
        checksum: bool,
    },
    Sctp(SctpRepr),
    Icmpv4(Icmpv4Message),
    Icmpv6(Icmpv6Message),
    Ndp(NdpMessage),
    Igmp(IgmpRepr),
    Vxlan(VxlanRepr),
    Geneve {
        vni: Vni,
        options: Bytes,
    },
    Gre {
        key: Option<u32>,
        sequence: Option<u32>,
        checksum: bool,
    },
    /// A finished Ethernet frame, which is the payload.
    Carried,
}

/// The type of a payload that no header describes (IEEE 802 local experimental 1).
const EXPERIMENTAL_TYPE: EtherType = EtherType(0x88b5);
/// The protocol of a payload that no header describes (RFC 3692).
const EXPERIMENTAL_PROTO: IpProto = IpProto(253);

/// What an Ethernet-like header says about the layer inside.
fn ether_type(inner: Option<&Layer>) -> EtherType {
    match inner {
        Some(Layer::Tag { tpid, .. }) => *tpid,
        Some(Layer::Mpls(_)) => EtherType::MPLS,
        Some(Layer::Arp(_)) => EtherType::ARP,
        Some(Layer::Ipv4 { .. }) => EtherType::IPV4,
        Some(Layer::Ipv6 { .. }) => EtherType::IPV6,
        Some(Layer::Eth { .. } | Layer::Carried) => EtherType::TEB,
        _ => EXPERIMENTAL_TYPE,
    }
}

/// What an IP-like header says about the layer inside.
fn ip_proto(inner: Option<&Layer>) -> IpProto {
    match inner {
        Some(Layer::Ipv4 { .. }) => IpProto::IPIP,
        Some(Layer::Ipv6 { .. }) => IpProto::IPV6,
        Some(Layer::Ext { kind, .. }) => *kind,
        Some(Layer::Fragment(_)) => IpProto::FRAGMENT,
        Some(Layer::Tcp { .. }) => IpProto::TCP,
        Some(Layer::Udp { .. }) => IpProto::UDP,
        Some(Layer::Sctp(_)) => IpProto::SCTP,
        Some(Layer::Icmpv4(_)) => IpProto::ICMP,
        Some(Layer::Icmpv6(_) | Layer::Ndp(_)) => IpProto::ICMPV6,
        Some(Layer::Igmp(_)) => IpProto::IGMP,
        Some(Layer::Gre { .. }) => IpProto::GRE,
        Some(Layer::Mpls(_)) => IpProto::MPLS,
        _ => EXPERIMENTAL_PROTO,
    }
}

/// The pseudo header's sum for a transport header inside `outer`, of `len` bytes with its payload.
fn pseudo(outer: &[Layer], proto: IpProto, len: usize) -> Result<Sum> {
    for layer in outer.iter().rev() {
        match layer {
            Layer::Ipv4 { repr, .. } => {
                let len = u16::try_from(len).map_err(|_| Error::malformed("frame", "length"))?;
                return Ok(Sum::pseudo_v4(repr.src, repr.dst, proto, len));
            }
            Layer::Ipv6 { repr, .. } => {
                let len = u32::try_from(len).map_err(|_| Error::malformed("frame", "length"))?;
                return Ok(Sum::pseudo_v6(repr.src, repr.dst, proto, len));
            }
            _ => {}
        }
    }
    Err(Error::malformed("frame", "transport header without an IP header"))
}

/// `header_len` bytes for a header, then `inner`.
fn before(header_len: usize, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![0; header_len];
    out.extend_from_slice(inner);
    out
}

/// Puts layer `at` of `layers` in front of `inner`, the bytes of everything inside it.
pub(super) fn wrap(layers: &[Layer], at: usize, inner: Vec<u8>) -> Result<Vec<u8>> {
    let next = layers.get(at + 1);
    let outer = &layers[..at];
    match &layers[at] {
        Layer::Eth { src, dst, ether_type: given } => {
            let mut out = before(crate::ethernet::HEADER_LEN, &inner);
            let ether_type = given.unwrap_or_else(|| ether_type(next));
            EthernetRepr { dst: *dst, src: *src, ether_type }.emit(&mut out)?;
            Ok(out)
        }
        Layer::Tag { tci, ether_type: given, .. } => {
            let mut out = before(crate::vlan::TAG_LEN, &inner);
            let ether_type = given.unwrap_or_else(|| ether_type(next));
            VlanRepr { tci: *tci, ether_type }.emit(&mut out)?;
            Ok(out)
        }
        Layer::Mpls(entry) => {
            let bottom = !matches!(next, Some(Layer::Mpls(_)));
            let mut out = before(crate::mpls::ENTRY_LEN, &inner);
            MplsEntry::new(entry.label(), entry.tc(), bottom, entry.ttl()).emit(&mut out)?;
            Ok(out)
        }
        Layer::Arp(repr) => {
            let mut out = before(crate::arp::PACKET_LEN, &inner);
            repr.emit(&mut out)?;
            Ok(out)
        }
        Layer::Vxlan(repr) => {
            let mut out = before(crate::vxlan::HEADER_LEN, &inner);
            repr.emit(&mut out)?;
            Ok(out)
        }
        Layer::Geneve { vni, options } => {
            let repr = GeneveRepr { protocol: ether_type(next), options, ..GeneveRepr::ethernet(*vni) };
            let mut out = before(repr.header_len(), &inner);
            repr.emit(&mut out)?;
            Ok(out)
        }
        Layer::Gre { key, sequence, checksum } => {
            let protocol = ether_type(next);
            let repr = GreRepr { protocol, checksum: *checksum, key: *key, sequence: *sequence };
            let mut out = before(repr.header_len(), &inner);
            repr.emit(&mut out)?;
            gre::fill_checksum(&mut out)?;
            Ok(out)
        }
        Layer::Ipv4 { .. } | Layer::Ipv6 { .. } | Layer::Ext { .. } | Layer::Fragment(_) => {
            network(&layers[at], next, inner)
        }
        _ => transport(&layers[at], outer, inner),
    }
}

fn network(layer: &Layer, next: Option<&Layer>, inner: Vec<u8>) -> Result<Vec<u8>> {
    let proto = ip_proto(next);
    match layer {
        Layer::Ipv4 { repr, options, proto: given } => {
            let proto = given.unwrap_or(proto);
            let repr = Ipv4Repr { proto, options, payload_len: inner.len(), ..*repr };
            let mut out = before(repr.header_len(), &inner);
            repr.emit(&mut out)?;
            Ok(out)
        }
        Layer::Ipv6 { repr, next: given } => {
            let next_header = given.unwrap_or(proto);
            let mut out = before(crate::ipv6::HEADER_LEN, &inner);
            Ipv6Repr { next_header, payload_len: inner.len(), ..*repr }.emit(&mut out)?;
            Ok(out)
        }
        Layer::Fragment(repr) => {
            let mut out = before(crate::ipv6_ext::FRAGMENT_LEN, &inner);
            FragmentRepr { next_header: proto, ..*repr }.emit(&mut out)?;
            Ok(out)
        }
        Layer::Ext { kind, body } => {
            let len = (body.len() + 2).next_multiple_of(8);
            let units = if *kind == IpProto::AH { len / 4 - 2 } else { len / 8 - 1 };
            let units = u8::try_from(units).map_err(|_| Error::malformed("frame", "extension header"))?;
            let mut out = vec![proto.0, units];
            out.extend_from_slice(body);
            out.resize(len, 0);
            out.extend_from_slice(&inner);
            Ok(out)
        }
        _ => Ok(inner),
    }
}

fn transport(layer: &Layer, outer: &[Layer], inner: Vec<u8>) -> Result<Vec<u8>> {
    match layer {
        Layer::Tcp { repr, options } => {
            let repr = TcpRepr { options, ..*repr };
            let mut out = before(repr.header_len(), &inner);
            repr.emit(&mut out)?;
            let pseudo = pseudo(outer, IpProto::TCP, out.len())?;
            tcp::fill_checksum(&mut out, pseudo)?;
            Ok(out)
        }
        Layer::Udp { src_port, dst_port, checksum } => {
            let mut out = before(udp::HEADER_LEN, &inner);
            let repr = UdpRepr { src_port: *src_port, dst_port: *dst_port, payload_len: inner.len() };
            repr.emit(&mut out)?;
            if *checksum {
                let pseudo = pseudo(outer, IpProto::UDP, out.len())?;
                udp::fill_checksum(&mut out, pseudo)?;
            }
            Ok(out)
        }
        Layer::Sctp(repr) => {
            let mut out = before(sctp::HEADER_LEN, &inner);
            repr.emit(&mut out)?;
            sctp::fill_checksum(&mut out)?;
            Ok(out)
        }
        Layer::Icmpv4(message) => {
            let repr = Icmpv4Repr { message: *message, payload: &inner };
            let mut out = vec![0; repr.wire_len()];
            repr.emit(&mut out)?;
            Ok(out)
        }
        Layer::Icmpv6(message) => {
            let repr = Icmpv6Repr { message: *message, payload: &inner };
            let mut out = vec![0; repr.wire_len()];
            let pseudo = pseudo(outer, IpProto::ICMPV6, out.len())?;
            repr.emit(&mut out, pseudo)?;
            Ok(out)
        }
        Layer::Ndp(message) => {
            let repr = NdpRepr { message: *message, options: &inner };
            let mut out = vec![0; repr.wire_len()];
            let pseudo = pseudo(outer, IpProto::ICMPV6, out.len())?;
            repr.emit(&mut out, pseudo)?;
            Ok(out)
        }
        Layer::Igmp(repr) => {
            let mut out = before(crate::igmp::HEADER_LEN, &inner);
            repr.emit(&mut out)?;
            Ok(out)
        }
        _ => Ok(inner),
    }
}
