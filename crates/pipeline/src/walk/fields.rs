//! How are fields read and written, and which does the packet have?

use weft_flow::{DropReason, FRAG_ANY, FRAG_LATER, Field, FlowMask, Prereq, Subfield, VLAN_PRESENT};
use weft_wire::{EtherType, IpProto};

use super::Walk;

impl<'a> Walk<'a> {
    /// The value of a subfield, looked at; the lowest 128 bits of one that is longer.
    pub(super) fn read(&mut self, sub: Subfield) -> u128 {
        let table = self.bridge;
        if sub.field.tun_metadata_index().is_none() {
            let bits = low_bits(sub.bits).checked_shl(u32::from(sub.start)).unwrap_or(0);
            self.look_field(sub.field, bits);
        } else {
            let mut looked = FlowMask::empty();
            sub.mask_add(&mut looked, &table.tlv);
            self.look(&looked);
        }
        sub.get_number(&self.packet.key, &table.tlv)
    }

    /// Sets a subfield, if the packet has the field.
    pub(super) fn write(&mut self, sub: Subfield, value: u128) {
        if sub.field.tun_metadata_index().is_some() {
            let len = usize::from(sub.start + sub.bits).div_ceil(8).min(weft_flow::MAX_OPTION);
            let place = |number: u128| {
                let mut key = vec![0u8; len];
                for bit in (0..sub.bits.min(128)).filter(|bit| number >> bit & 1 != 0) {
                    let at = usize::from(sub.start + bit);
                    key[len - 1 - at / 8] |= 1 << (at % 8);
                }
                key
            };
            return self.set_option(sub.field, &place(value), &place(u128::MAX));
        }
        let shift = u32::from(sub.start);
        let bits = low_bits(sub.bits).checked_shl(shift).unwrap_or(0);
        self.set_field(sub.field, (value & low_bits(sub.bits)).checked_shl(shift).unwrap_or(0), bits);
    }

    /// Sets bits of a tunnel option, which is present then.
    pub(super) fn set_option(&mut self, field: Field, value: &[u8], mask: &[u8]) {
        let (table, Some(index)) = (self.bridge, field.tun_metadata_index()) else { return };
        if !table.tlv.set(index, &mut self.packet.key.tun_metadata, value, mask) {
            return self.note(|| format!("{} is not mapped to an option", field.name()));
        }
        table.tlv.set(index, &mut self.packet.settled.0.tun_metadata, mask, mask);
        self.packet.options_written = true;
    }

    /// Removes a tunnel option.
    pub(super) fn delete_option(&mut self, field: Field) {
        let (table, Some(index)) = (self.bridge, field.tun_metadata_index()) else { return };
        table.tlv.remove(index, &mut self.packet.key.tun_metadata);
        table.tlv.set(index, &mut self.packet.settled.0.tun_metadata, &[0xff; 124], &[0xff; 124]);
        self.packet.settled.0.tun_metadata.present |= 1 << (index & 63);
        self.packet.options_written = true;
    }

    /// The tunnel options as they go on the wire.
    pub(super) fn options(&mut self) -> Vec<u8> {
        let table = &self.bridge.tlv;
        if table.is_empty() || self.packet.key.tun_metadata == Default::default() {
            // Whether the packet came with options is known by its sections.
            if self.packet.key.packet.extras & weft_flow::EXTRA_TUN_METADATA == 0 {
                return Vec::new();
            }
        }
        let mut looked = FlowMask::empty();
        looked.0.tun_metadata.present = u64::MAX;
        let present = self.packet.key.tun_metadata.present;
        for mapping in table.mappings().filter(|m| present >> (m.index & 63) & 1 != 0) {
            table.set(mapping.index.into(), &mut looked.0.tun_metadata, &[0xff; 124], &[0xff; 124]);
        }
        looked.0.tun_metadata.present = u64::MAX;
        self.look(&looked);
        table.encode(&self.packet.key.tun_metadata)
    }

    pub(super) fn look_field(&mut self, field: Field, bits: u128) {
        self.packet.look_field(field, bits & field.value_mask(), &mut self.mask);
    }

    /// The whole of a field, looked at.
    pub(super) fn get(&mut self, field: Field) -> u128 {
        self.look_field(field, u128::MAX);
        field.get(&self.packet.key)
    }

    /// Sets bits of a field, if the packet has it.
    pub(super) fn set_field(&mut self, field: Field, value: u128, bits: u128) {
        if !field.writable() || !field.supported() {
            return self.blame(DropReason::BadAction);
        }
        if !self.meets(field.prereq()) {
            return self.note(|| "the packet has no such field".to_owned());
        }
        self.packet.write(field, value, bits & field.value_mask(), &mut self.mask);
    }

    /// Whether the packet at hand has what `prereq` asks for; what tells that is looked at.
    pub(super) fn meets(&mut self, prereq: Prereq) -> bool {
        match prereq {
            Prereq::None => true,
            Prereq::Ethernet => !self.packet.is_bare(),
            Prereq::Vlan if self.packet.is_bare() => false,
            Prereq::Vlan => {
                self.look_field(Field::VlanTci, VLAN_PRESENT.into());
                self.packet.key.packet.vlan[0].is_present()
            }
            Prereq::Arp => matches!(self.eth_type(), EtherType::ARP | EtherType::RARP),
            Prereq::Ipv4 => self.eth_type() == EtherType::IPV4,
            Prereq::Ipv6 => self.eth_type() == EtherType::IPV6,
            Prereq::Ip => self.is_ip(),
            Prereq::Mpls => self.eth_type().is_mpls(),
            Prereq::Nsh => self.eth_type() == EtherType::NSH,
            Prereq::Tcp => self.has_l4(IpProto::TCP),
            Prereq::Udp => self.has_l4(IpProto::UDP),
            Prereq::Sctp => self.has_l4(IpProto::SCTP),
            Prereq::Icmp4 => self.eth_type() == EtherType::IPV4 && self.has_l4(IpProto::ICMP),
            Prereq::Icmp6 => self.eth_type() == EtherType::IPV6 && self.has_l4(IpProto::ICMPV6),
            Prereq::NdSolicit => self.is_nd(&[135]),
            Prereq::NdAdvert => self.is_nd(&[136]),
            Prereq::Nd => self.is_nd(&[135, 136]),
            Prereq::Ct => self.packet.key.packet.extras & weft_flow::EXTRA_CT != 0,
        }
    }

    pub(super) fn eth_type(&mut self) -> EtherType {
        self.mask.0.packet.eth_type |= !self.packet.settled.0.packet.eth_type;
        EtherType(self.packet.key.packet.eth_type)
    }

    pub(super) fn is_ip(&mut self) -> bool {
        matches!(self.eth_type(), EtherType::IPV4 | EtherType::IPV6)
    }

    /// Whether the packet is IP with a header of this transport protocol.
    pub(super) fn has_l4(&mut self, proto: IpProto) -> bool {
        if !self.is_ip() {
            return false;
        }
        let (mask, settled) = (&mut self.mask.0.packet, &self.packet.settled.0.packet);
        mask.ip_proto |= !settled.ip_proto;
        if self.packet.key.packet.ip_proto != proto.0 {
            return false;
        }
        mask.ip_frag |= (FRAG_ANY | FRAG_LATER) & !settled.ip_frag;
        self.packet.key.packet.ip_frag & FRAG_LATER == 0
    }

    fn is_nd(&mut self, types: &[u16]) -> bool {
        self.eth_type() == EtherType::IPV6
            && self.has_l4(IpProto::ICMPV6)
            && types.contains(&(self.get(Field::Icmpv6Type) as u16))
            && self.get(Field::Icmpv6Code) == 0
    }
}

/// A number with the lowest `n` bits set.
pub(super) fn low_bits(n: u16) -> u128 {
    if n >= 128 { u128::MAX } else { (1 << n) - 1 }
}
