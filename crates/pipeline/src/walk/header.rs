//! What do `encap` and `decap` do? Headers in front of the packet, whatever it is, and its type.
//!
//! The type is what the packet begins with: Ethernet, or an EtherType (`packet_type`). Ethernet headers go on and off at
//! the next commit; network service headers and labels are pushed at once, and what is set of them then goes into the
//! push. What is beneath a header that was taken off is not known until the packet is looked up again.

use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{
    DpAction, DropReason, Encap, Field, FlowMask, OfPort, PT_ETHERTYPE, PT_NSH, PacketKey, VLAN_PRESENT,
};
use weft_wire::nsh::{self, Metadata, NshRepr, Tlv};
use weft_wire::{EtherType, Mac};

use super::packet::{Packet, Tags, all_ones};
use super::{Next, Origin, Walk, Why};
use crate::config::{PacketTypes, PortConfig, PortKind, TunnelConfig};

/// TTL of a network service header that is pushed (RFC 8300 §2.2: the default).
const NSH_TTL: u8 = 63;
/// Its service index (RFC 8300 §2.3: the default).
const NSH_INDEX: u32 = 255;

impl<'a> Walk<'a> {
    /// The packet is of a type that an action or port does not take.
    pub(super) fn wrong_type(&mut self, text: impl FnOnce() -> String) {
        self.note(text);
        self.fatal(DropReason::PacketType);
    }

    pub(super) fn encap(&mut self, encap: &Encap) {
        match encap {
            Encap::Ethernet if !self.packet.is_bare() => self.wrong_type(|| {
                "Dropping packet as encap(ethernet) is not supported for packet type ethernet.".to_owned()
            }),
            Encap::Ethernet => {
                self.commit();
                self.packet.begin_ethernet();
            }
            Encap::Nsh { md_type, tlvs } => self.push_nsh(*md_type, tlvs),
            Encap::Mpls(ethertype) => self.push_bare_mpls(*ethertype),
        }
    }

    fn push_nsh(&mut self, md_type: u8, tlvs: &[(u16, u8, Vec<u8>)]) {
        let next = match self.packet.packet_type() {
            0 => nsh::next::ETHERNET,
            PT_NSH => nsh::next::NSH,
            bare => match EtherType(bare as u16) {
                EtherType::IPV4 => nsh::next::IPV4,
                EtherType::IPV6 => nsh::next::IPV6,
                _ => {
                    return self.wrong_type(|| {
                        format!(
                            "Dropping packet as encap(nsh) does not support packet type {}",
                            type_text(bare)
                        )
                    });
                }
            },
        };
        self.commit();
        let metadata = match md_type {
            2 => Metadata::Tlvs(metadata(tlvs)),
            _ => Metadata::Fixed([0; 16]),
        };
        let header = NshRepr { flags: 0, ttl: NSH_TTL, next, path: NSH_INDEX, metadata };
        self.packet.begin_bare(EtherType::NSH);
        let first = u32::from_be_bytes([0, header.ttl, header.md_type(), next]);
        for key in [&mut self.packet.key.packet, &mut self.packet.base] {
            (key.nd_reserved, key.ipv4_src) = (first, header.path);
        }
        self.out.push(DpAction::PushNsh(Arc::new(header)));
    }

    /// Puts a label stack entry in front of the packet, whatever it is.
    fn push_bare_mpls(&mut self, ethertype: EtherType) {
        let labelled = self.packet.is_bare() && self.eth_type().is_mpls();
        let lse = if labelled {
            self.look_label(0, u32::MAX);
            self.packet.key.packet.mpls[0] & !super::mpls::BOTTOM
        } else if self.packet.is_bare() {
            self.first_label()
        } else {
            // Nothing of a frame is taken over.
            super::mpls::BOTTOM | 64
        };
        let below = self.packet.key.packet.mpls;
        if labelled {
            (0..2).for_each(|i| self.look_label(i, u32::MAX));
        }
        self.commit();
        self.packet.begin_bare(ethertype);
        let mpls = if labelled { [lse, below[0], below[1]] } else { [lse, 0, 0] };
        (self.packet.key.packet.mpls, self.packet.base.mpls) = (mpls, mpls);
        self.out.push(DpAction::AddMpls { lse, ethertype: ethertype.0 });
    }

    pub(super) fn decap(&mut self, wanted: Option<u32>) -> Next<'a> {
        let packet_type = self.packet.packet_type();
        match (packet_type, EtherType(packet_type as u16)) {
            (0, _) => {
                if !self.unframe() {
                    self.wrong_type(|| {
                        "Dropping packet, cannot decap Ethernet if VLAN is present.".to_owned()
                    });
                }
                Next::Go
            }
            (PT_NSH, _) => {
                let next = self.get(Field::NshNp) as u8;
                if !matches!(next, 1..=4) {
                    self.wrong_type(|| {
                        format!("Dropping packet as NSH next protocol {next} is not supported")
                    });
                    return Next::Stop;
                }
                self.commit();
                self.out.push(DpAction::PopNsh);
                Next::Later(Why::Decap)
            }
            (_, EtherType::MPLS | EtherType::MPLS_MC) => self.pop_bare_mpls(wanted),
            _ => {
                self.wrong_type(|| {
                    format!(
                        "Dropping packet as the decap() does not support packet type {}",
                        type_text(packet_type)
                    )
                });
                Next::Stop
            }
        }
    }

    /// Takes the outermost entry off a packet that begins with a label stack; beneath the last one is what the rule says.
    fn pop_bare_mpls(&mut self, wanted: Option<u32>) -> Next<'a> {
        let beneath = match wanted {
            Some(0) => EtherType::TEB,
            Some(bare) if bare & !0xffff == PT_ETHERTYPE => EtherType(bare as u16),
            _ => {
                self.wrong_type(|| "Dropping packet: decap() of MPLS needs the inner packet type".to_owned());
                return Next::Stop;
            }
        };
        self.look_label(0, super::mpls::BOTTOM);
        self.commit();
        self.out.push(DpAction::PopMpls(beneath.0));
        Next::Later(Why::Decap)
    }

    /// Makes a frame without tags a packet that begins with its EtherType. False: it has a tag.
    pub(super) fn unframe(&mut self) -> bool {
        self.look_field(Field::VlanTci, VLAN_PRESENT.into());
        if self.packet.key.packet.vlan[0].is_present() {
            return false;
        }
        (self.packet.dirty.eth_src, self.packet.dirty.eth_dst) = (Mac::ZERO, Mac::ZERO);
        if !self.packet.base_bare {
            self.commit();
        }
        self.packet.end_ethernet();
        true
    }

    /// Whether a port takes packets of this type. Ethernet goes everywhere.
    pub(super) fn type_fits(&self, port: &PortConfig) -> bool {
        let takes_bare = match &port.kind {
            PortKind::Tunnel(config) => config.packets != PacketTypes::LegacyL2,
            PortKind::Patch { .. } => true,
            PortKind::Device | PortKind::Internal { .. } => false,
        };
        takes_bare || !self.packet.is_bare()
    }

    /// Sends a frame by a tunnel that carries what frames have behind the Ethernet header.
    pub(super) fn send_bare(&mut self, port: &'a PortConfig, config: &TunnelConfig) {
        let saved = self.save();
        if self.unframe() {
            self.encapsulate(port, config);
        } else {
            self.blame(DropReason::PacketType);
        }
        self.restore(*saved);
    }

    /// What a port received without an Ethernet header is a frame if it hides that from its bridge.
    pub(super) fn as_frame(&mut self, port: OfPort) {
        let tunnel = self.bridge.port(port).and_then(PortConfig::tunnel);
        let hides = tunnel.is_some_and(|config| config.packets == PacketTypes::LegacyL3);
        if self.packet.is_bare() && hides {
            self.packet.begin_ethernet();
        }
    }

    pub(super) fn dec_nsh_ttl(&mut self, origin: Origin) -> Next<'a> {
        if self.eth_type() != EtherType::NSH {
            return Next::Go;
        }
        let ttl = self.get(Field::NshTtl);
        if ttl > 1 {
            self.packet.write(Field::NshTtl, ttl - 1, 0xff, &mut self.mask);
            return Next::Go;
        }
        self.note(|| "NSH decrement TTL exception".to_owned());
        self.expired(&[], origin)
    }
}

/// TLVs as they go on the wire; none when they are too long for a header.
fn metadata(tlvs: &[(u16, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (class, kind, data) in tlvs {
        Tlv { class: *class, kind: *kind, data }.append(&mut bytes);
    }
    if bytes.len() > nsh::MAX_METADATA { Vec::new() } else { bytes }
}

fn type_text(packet_type: u32) -> String {
    format!("({},{:#x})", packet_type >> 16, packet_type & 0xffff)
}

impl Packet {
    /// What the packet begins with: 0 for Ethernet, else namespace 1 and the EtherType.
    pub(super) fn packet_type(&self) -> u32 {
        self.key.pipeline.packet_type
    }

    /// Whether the packet has no Ethernet header.
    pub(super) fn is_bare(&self) -> bool {
        self.key.pipeline.packet_type != 0
    }

    /// An Ethernet header with zero addresses stands in front of the packet from now on.
    pub(super) fn begin_ethernet(&mut self) {
        self.key.pipeline.packet_type = 0;
        self.no_ethernet();
    }

    /// The Ethernet header is gone.
    fn end_ethernet(&mut self) {
        self.key.pipeline.packet_type = PT_ETHERTYPE | u32::from(self.key.packet.eth_type);
        self.no_ethernet();
    }

    /// Addresses are zero, and there are no tags.
    fn no_ethernet(&mut self) {
        (self.key.packet.eth_src, self.key.packet.eth_dst) = (Mac::ZERO, Mac::ZERO);
        (self.settled.0.packet.eth_src, self.settled.0.packet.eth_dst) = (Mac::BROADCAST, Mac::BROADCAST);
        (self.dirty.eth_src, self.dirty.eth_dst) = (Mac::ZERO, Mac::ZERO);
        self.base_tags = Tags { pushed: SmallVec::new(), rest: 2 };
        self.set_tags(self.base_tags.clone());
    }

    /// The datapath's packet, and the walk's, begins with a header of this type, which is all there is to be seen.
    /// Everything was committed.
    fn begin_bare(&mut self, ethertype: EtherType) {
        let old = self.key.packet;
        self.key.packet = PacketKey {
            in_port: old.in_port,
            recirc_id: old.recirc_id,
            extras: old.extras,
            eth_type: ethertype.0,
            ..PacketKey::default()
        };
        let all = all_ones();
        (self.settled.0.packet, self.committed) = (all.packet, all.packet);
        (self.base, self.dirty) = (self.key.packet, PacketKey::default());
        self.base_bare = true;
        self.beneath_unknown = false;
        self.end_ethernet();
    }

    /// Pushes an Ethernet header onto the datapath's packet, if the walk's has one.
    pub(super) fn commit_ethernet(&mut self, mask: &mut FlowMask, out: &mut Vec<DpAction>) {
        if !self.base_bare || self.is_bare() {
            return;
        }
        let mut looked = FlowMask::empty();
        (looked.0.packet.eth_src, looked.0.packet.eth_dst) = (Mac::BROADCAST, Mac::BROADCAST);
        self.look(&looked, mask);
        let (src, dst) = (self.key.packet.eth_src, self.key.packet.eth_dst);
        out.push(DpAction::PushEth { src, dst });
        (self.base.eth_src, self.base.eth_dst) = (src, dst);
        (self.committed.eth_src, self.committed.eth_dst) = (Mac::BROADCAST, Mac::BROADCAST);
        (self.dirty.eth_src, self.dirty.eth_dst) = (Mac::ZERO, Mac::ZERO);
        self.base_bare = false;
    }

    /// Pops the Ethernet header of the datapath's packet, if the walk's has none.
    pub(super) fn commit_bare(&mut self, out: &mut Vec<DpAction>) {
        if !self.base_bare && self.is_bare() {
            out.push(DpAction::PopEth);
            self.base_bare = true;
        }
    }
}
