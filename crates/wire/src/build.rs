//! How is a whole frame made from its headers, outermost first?
//!
//! For tests, tools and replies off the fast path: lengths, types and checksums follow from what
//! is inside, so that only what matters is said.
//!
//! ```
//! use weft_wire::{Mac, build::Frame};
//! let frame = Frame::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]))
//!     .vlan(10)
//!     .ipv4([10, 0, 0, 1], [10, 0, 0, 2])
//!     .udp(1000, 53)
//!     .payload(b"hello")
//!     .build();
//! assert_eq!(frame.len(), 14 + 4 + 20 + 8 + 5);
//! ```

mod layer;

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::arp::ArpRepr;
use crate::icmpv4::Icmpv4Message;
use crate::icmpv6::Icmpv6Message;
use crate::igmp::IgmpRepr;
use crate::ipv4::{Ipv4Frag, Ipv4Repr};
use crate::ipv6::Ipv6Repr;
use crate::ipv6_ext::FragmentRepr;
use crate::mpls::MplsEntry;
use crate::ndp::NdpMessage;
use crate::sctp::SctpRepr;
use crate::tcp::{TcpFlags, TcpRepr};
use crate::vlan::VlanTci;
use crate::vxlan::{Gbp, VxlanRepr};
use crate::{Error, EtherType, IpProto, Mac, Result, Vni};
use layer::{Bytes, Layer};

/// A frame under construction: headers from the outside in, then a payload.
///
/// Methods that name a header add it. Methods that name a field set it in the header added last
/// that has it; where there is none, building fails.
#[derive(Debug, Clone)]
#[must_use = "call build()"]
pub struct Frame {
    layers: Vec<Layer>,
    payload: Vec<u8>,
    error: Option<Error>,
}

impl Frame {
    /// Starts with an Ethernet header.
    pub fn eth(src: Mac, dst: Mac) -> Self {
        Self::bare().inner_eth(src, dst)
    }

    /// Starts with nothing: the first header added is the first of the packet.
    pub fn bare() -> Self {
        Self { layers: Vec::new(), payload: Vec::new(), error: None }
    }

    fn push(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Lets `set` change the last layer that it says it has changed.
    fn set(mut self, what: &'static str, mut set: impl FnMut(&mut Layer) -> bool) -> Self {
        if !self.layers.iter_mut().rev().any(&mut set) {
            self.error = Some(Error::malformed("frame", what));
        }
        self
    }

    /// An Ethernet header inside a tunnel.
    pub fn inner_eth(self, src: Mac, dst: Mac) -> Self {
        self.push(Layer::Eth { src, dst, ether_type: None })
    }

    /// An 802.1Q tag with priority 0.
    pub fn vlan(self, vid: u16) -> Self {
        self.tag(EtherType::VLAN, VlanTci::new(vid, 0, false))
    }

    /// An 802.1ad service tag with priority 0.
    pub fn qinq(self, vid: u16) -> Self {
        self.tag(EtherType::QINQ, VlanTci::new(vid, 0, false))
    }

    /// A tag of any kind.
    pub fn tag(self, tpid: EtherType, tci: VlanTci) -> Self {
        self.push(Layer::Tag { tpid, tci, ether_type: None })
    }

    /// An MPLS label stack entry with TTL 64; the last of a row is the bottom of the stack.
    pub fn mpls(self, label: u32) -> Self {
        self.push(Layer::Mpls(MplsEntry::new(label, 0, false, 64)))
    }

    /// An ARP packet.
    pub fn arp(self, repr: ArpRepr) -> Self {
        self.push(Layer::Arp(repr))
    }

    /// An IPv4 header: TTL 64, "don't fragment", identification 0.
    pub fn ipv4(self, src: impl Into<Ipv4Addr>, dst: impl Into<Ipv4Addr>) -> Self {
        let repr = Ipv4Repr::new(src.into(), dst.into(), IpProto(0), 0);
        self.push(Layer::Ipv4 { repr, options: Bytes::new(), proto: None })
    }

    /// An IPv6 header: hop limit 64.
    pub fn ipv6(self, src: impl Into<Ipv6Addr>, dst: impl Into<Ipv6Addr>) -> Self {
        let repr = Ipv6Repr::new(src.into(), dst.into(), IpProto(0), 0);
        self.push(Layer::Ipv6 { repr, next: None })
    }

    /// An IPv6 extension header of `kind`; `body` is what follows its length field, and is padded
    /// with zeros to a multiple of 8 bytes.
    pub fn ext(self, kind: IpProto, body: &[u8]) -> Self {
        self.push(Layer::Ext { kind, body: body.to_vec() })
    }

    /// An IPv6 fragment header; `next_header` is filled in.
    pub fn fragment(self, offset: usize, more_fragments: bool, id: u32) -> Self {
        let repr = FragmentRepr { next_header: IpProto(0), offset, more_fragments, id };
        self.push(Layer::Fragment(repr))
    }

    /// A TCP header: flag ACK, window 65,535, sequence and acknowledgment 1.
    pub fn tcp(self, src_port: u16, dst_port: u16) -> Self {
        let repr = TcpRepr {
            src_port,
            dst_port,
            seq: 1,
            ack: 1,
            flags: TcpFlags(TcpFlags::ACK),
            window: 0xffff,
            urgent: 0,
            options: &[],
        };
        self.push(Layer::Tcp { repr, options: Bytes::new() })
    }

    /// A UDP header.
    pub fn udp(self, src_port: u16, dst_port: u16) -> Self {
        self.push(Layer::Udp { src_port, dst_port, checksum: true })
    }

    /// An SCTP common header with verification tag 1.
    pub fn sctp(self, src_port: u16, dst_port: u16) -> Self {
        self.sctp_tagged(src_port, dst_port, 1)
    }

    /// An SCTP common header with this verification tag.
    pub fn sctp_tagged(self, src_port: u16, dst_port: u16, tag: u32) -> Self {
        self.push(Layer::Sctp(SctpRepr { src_port, dst_port, tag }))
    }

    /// An ICMP message.
    pub fn icmpv4(self, message: Icmpv4Message) -> Self {
        self.push(Layer::Icmpv4(message))
    }

    /// An ICMPv6 message.
    pub fn icmpv6(self, message: Icmpv6Message) -> Self {
        self.push(Layer::Icmpv6(message))
    }

    /// A neighbour discovery message; its options are the payload.
    pub fn ndp(self, message: NdpMessage) -> Self {
        self.push(Layer::Ndp(message))
    }

    /// An IGMP message of version 1 or 2.
    pub fn igmp(self, repr: IgmpRepr) -> Self {
        self.push(Layer::Igmp(repr))
    }

    /// A VXLAN header.
    pub fn vxlan(self, vni: Vni) -> Self {
        self.push(Layer::Vxlan(VxlanRepr::plain(vni)))
    }

    /// A VXLAN header with group policy.
    pub fn vxlan_gbp(self, vni: Vni, gbp: Gbp) -> Self {
        self.push(Layer::Vxlan(VxlanRepr { gbp: Some(gbp), ..VxlanRepr::plain(vni) }))
    }

    /// A Geneve header with options, given as bytes.
    pub fn geneve(self, vni: Vni, options: &[u8]) -> Self {
        self.push(Layer::Geneve { vni, options: options.to_vec() })
    }

    /// A GRE header.
    pub fn gre(self, key: Option<u32>, sequence: Option<u32>, checksum: bool) -> Self {
        self.push(Layer::Gre { key, sequence, checksum })
    }

    /// Sets the type field of an Ethernet header or tag, instead of what follows from the inside.
    pub fn ether_type(self, value: EtherType) -> Self {
        self.set("ether_type", |layer| match layer {
            Layer::Eth { ether_type, .. } | Layer::Tag { ether_type, .. } => {
                *ether_type = Some(value);
                true
            }
            _ => false,
        })
    }

    /// Sets the protocol (next header) of an IP header.
    pub fn proto(self, value: IpProto) -> Self {
        self.set("proto", |layer| match layer {
            Layer::Ipv4 { proto: field, .. } | Layer::Ipv6 { next: field, .. } => {
                *field = Some(value);
                true
            }
            _ => false,
        })
    }

    /// Sets TOS or traffic class.
    pub fn tos(self, tos: u8) -> Self {
        self.set("tos", |layer| match layer {
            Layer::Ipv4 { repr: Ipv4Repr { tos: field, .. }, .. }
            | Layer::Ipv6 { repr: Ipv6Repr { traffic_class: field, .. }, .. } => {
                *field = tos;
                true
            }
            _ => false,
        })
    }

    /// Sets the TTL or hop limit of an IP header or label stack entry.
    pub fn ttl(self, ttl: u8) -> Self {
        self.set("ttl", |layer| match layer {
            Layer::Ipv4 { repr: Ipv4Repr { ttl: field, .. }, .. }
            | Layer::Ipv6 { repr: Ipv6Repr { hop_limit: field, .. }, .. } => {
                *field = ttl;
                true
            }
            Layer::Mpls(entry) => {
                *entry = MplsEntry::new(entry.label(), entry.tc(), false, ttl);
                true
            }
            _ => false,
        })
    }

    fn set_ipv4(self, what: &'static str, set: impl Fn(&mut Ipv4Repr<'static>)) -> Self {
        self.set(what, |layer| match layer {
            Layer::Ipv4 { repr, .. } => {
                set(repr);
                true
            }
            _ => false,
        })
    }

    /// Sets the identification of an IPv4 header.
    pub fn id(self, id: u16) -> Self {
        self.set_ipv4("id", |repr| repr.id = id)
    }

    /// Sets flags and fragment offset of an IPv4 header.
    pub fn frag(self, frag: Ipv4Frag) -> Self {
        self.set_ipv4("frag", |repr| repr.frag = frag)
    }

    /// Sets the options of an IPv4 header.
    pub fn ip_options(self, bytes: &[u8]) -> Self {
        self.set("ip_options", |layer| match layer {
            Layer::Ipv4 { options, .. } => {
                *options = bytes.to_vec();
                true
            }
            _ => false,
        })
    }

    /// Sets the flow label of an IPv6 header.
    pub fn flow_label(self, label: u32) -> Self {
        self.set("flow_label", |layer| match layer {
            Layer::Ipv6 { repr, .. } => {
                repr.flow_label = label;
                true
            }
            _ => false,
        })
    }

    fn set_tcp(self, what: &'static str, set: impl Fn(&mut TcpRepr<'static>)) -> Self {
        self.set(what, |layer| match layer {
            Layer::Tcp { repr, .. } => {
                set(repr);
                true
            }
            _ => false,
        })
    }

    /// Sets the flags of a TCP header: [`TcpFlags`] bits.
    pub fn flags(self, bits: u16) -> Self {
        self.set_tcp("flags", |repr| repr.flags = TcpFlags(bits))
    }

    /// Sets sequence and acknowledgment numbers of a TCP header.
    pub fn seq(self, seq: u32, ack: u32) -> Self {
        self.set_tcp("seq", |repr| (repr.seq, repr.ack) = (seq, ack))
    }

    /// Sets the window of a TCP header.
    pub fn window(self, window: u16) -> Self {
        self.set_tcp("window", |repr| repr.window = window)
    }

    /// Sets the options of a TCP header.
    pub fn tcp_options(self, bytes: &[u8]) -> Self {
        self.set("tcp_options", |layer| match layer {
            Layer::Tcp { options, .. } => {
                *options = bytes.to_vec();
                true
            }
            _ => false,
        })
    }

    /// Leaves the checksum of a UDP header 0 ("none").
    pub fn no_checksum(self) -> Self {
        self.set("no_checksum", |layer| match layer {
            Layer::Udp { checksum, .. } => {
                *checksum = false;
                true
            }
            _ => false,
        })
    }

    /// Sets what stands behind the last header.
    pub fn payload(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.payload = bytes.as_ref().to_vec();
        self
    }

    /// Sets the Ethernet frame that stands behind the last header, which a tunnel header then
    /// announces as one.
    pub fn carry(mut self, frame: impl AsRef<[u8]>) -> Self {
        self.layers.push(Layer::Carried);
        self.payload(frame)
    }

    /// The finished frame.
    ///
    /// # Panics
    /// When no such frame exists; [`Self::try_build`] says why instead.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        match self.try_build() {
            Ok(frame) => frame,
            Err(error) => panic!("cannot build the frame: {error}"),
        }
    }

    /// The finished frame.
    ///
    /// # Errors
    /// `Malformed` when a field was set without its header, options have an impossible length, a
    /// transport header has no IP header, or a length exceeds its field.
    pub fn try_build(self) -> Result<Vec<u8>> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut inner = self.payload;
        for at in (0..self.layers.len()).rev() {
            inner = layer::wrap(&self.layers, at, inner)?;
        }
        Ok(inner)
    }
}

#[cfg(test)]
mod tests;
