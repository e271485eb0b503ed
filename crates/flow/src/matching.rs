//! What does a rule match, and may it look at what it looks at?

use std::sync::OnceLock;

use crate::{FRAG_LATER, Field, FlowKey, FlowMask, OptionValue, Prereq, TlvTable, VLAN_PRESENT};

/// `ct_state` bit: the packet starts a connection.
pub const CT_NEW: u16 = 0x01;
/// `ct_state` bit: part of an established connection.
pub const CT_EST: u16 = 0x02;
/// `ct_state` bit: related to an existing connection.
pub const CT_REL: u16 = 0x04;
/// `ct_state` bit: in the reply direction.
pub const CT_RPL: u16 = 0x08;
/// `ct_state` bit: cannot be tracked.
pub const CT_INV: u16 = 0x10;
/// `ct_state` bit: went through the tracker.
pub const CT_TRK: u16 = 0x20;
/// `ct_state` bit: its source was translated.
pub const CT_SNAT: u16 = 0x40;
/// `ct_state` bit: its destination was translated.
pub const CT_DNAT: u16 = 0x80;

/// A value and the bits of it that count. Canonical: bits outside the mask are zero.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Match {
    /// Values.
    pub key: FlowKey,
    /// Bits that count.
    pub mask: FlowMask,
}

impl std::fmt::Debug for Match {
    /// Flow syntax: a dump of all words tells nobody anything.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Match({})", crate::text::format_match(self, &crate::text::Syntax::default()))
    }
}

/// What it depends on which prerequisites a match meets, besides its mask: see [`Match::premises`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Premises {
    packet_type: u32,
    eth_type: u16,
    ip_proto: u8,
    ip_frag: u8,
    tagged: bool,
    icmp6: (u16, u16),
    ct_state: u16,
}

impl Match {
    /// Matches every packet.
    pub fn any() -> Self {
        Match::default()
    }
    /// A match of `key` under `mask`, made canonical.
    pub fn new(key: &FlowKey, mask: FlowMask) -> Self {
        Match { key: mask.apply(key), mask }
    }
    /// Whether `key` matches.
    #[inline]
    pub fn covers(&self, key: &FlowKey) -> bool {
        self.mask.matches(key, &self.key)
    }

    /// Matches the bits of `mask` of a field against `value`, in place of what was matched of that field before.
    ///
    /// The OpenFlow 1.0 names keep their meaning: `dl_vlan` and the two PCP fields ask for a tag besides, and
    /// `dl_vlan` 0xffff is a packet without one.
    pub fn set_masked(&mut self, field: Field, value: u128, mask: u128) {
        match field {
            Field::DlVlan if mask == 0 => self.put(Field::VlanVid, 0, 0),
            Field::DlVlan if value == 0xffff => self.put(Field::VlanVid, 0, 0x1fff),
            Field::DlVlan => self.put(Field::VlanVid, value & 0xfff | u128::from(VLAN_PRESENT), 0x1fff),
            Field::DlVlanPcp | Field::VlanPcp if mask != 0 => {
                let tci = self.key.packet.vlan[0].tci & 0xfff;
                let tci_mask = self.mask.0.packet.vlan[0].tci & 0xfff;
                let (value, present) = ((value as u16 & 7) << 13, VLAN_PRESENT);
                self.put(
                    Field::VlanTci,
                    (value | present | tci).into(),
                    (0xe000 | present | tci_mask).into(),
                );
            }
            _ => self.put(field, value, mask),
        }
    }

    fn put(&mut self, field: Field, value: u128, mask: u128) {
        field.set(&mut self.key, value & mask);
        if field == Field::InPort16 {
            let bits = if mask == 0 { 0 } else { u128::from(u32::MAX) };
            Field::InPort.set(&mut self.mask.0, bits);
            let value = if mask == 0 { 0 } else { Field::InPort.get(&self.key) };
            Field::InPort.set(&mut self.key, value);
        } else {
            field.set(&mut self.mask.0, mask);
        }
    }

    /// Matches a whole field; see [`Match::set_masked`].
    pub fn set(&mut self, field: Field, value: u128) {
        self.set_masked(field, value, field.value_mask());
    }

    /// Matches bits of a tunnel option, which must be present; with no bit in the mask, only that. False: the table does
    /// not map the field.
    pub fn set_option(&mut self, option: &OptionValue, table: &TlvTable) -> bool {
        let Some(index) = option.field.tun_metadata_index() else { return false };
        table.remove(index, &mut self.key.tun_metadata);
        table.remove(index, &mut self.mask.0.tun_metadata);
        table.set(index, &mut self.key.tun_metadata, &option.value, &option.mask)
            && table.set(index, &mut self.mask.0.tun_metadata, &option.mask, &option.mask)
    }

    /// What is matched of a tunnel option, as long as the table says: value and mask. `None`: not even whether it is
    /// present.
    pub fn option(&self, index: usize, table: &TlvTable) -> Option<(Vec<u8>, Vec<u8>)> {
        if index >= 64 || self.mask.0.tun_metadata.present >> index & 1 == 0 {
            return None;
        }
        Some((table.get(index, &self.key.tun_metadata)?, table.get(index, &self.mask.0.tun_metadata)?))
    }

    /// The same match with a whole field more.
    #[must_use]
    pub fn with(mut self, field: Field, value: u128) -> Self {
        self.set(field, value);
        self
    }

    /// Value and mask of a field; `None` if no bit of it counts.
    pub fn get(&self, field: Field) -> Option<(u128, u128)> {
        let mask = field.mask_of(&self.mask);
        (mask != 0).then(|| (field.get(&self.key) & mask, mask))
    }

    /// The value of a field that is matched whole.
    pub fn exact(&self, field: Field) -> Option<u128> {
        self.get(field).filter(|(_, mask)| *mask == field.value_mask()).map(|(value, _)| value)
    }

    /// Whether every packet that matches has what `prereq` asks for (`ovs-fields(7)`, "Prerequisites").
    pub fn meets(&self, prereq: Prereq) -> bool {
        let packet_type = self.key.pipeline.packet_type;
        let ethernet = packet_type == 0;
        let eth_type = |types: &[u16]| match packet_type >> 16 {
            0 if ethernet => {
                self.mask.0.packet.eth_type == 0xffff && types.contains(&self.key.packet.eth_type)
            }
            // Namespace 1: the type is an EtherType.
            1 => types.contains(&(packet_type as u16)),
            _ => false,
        };
        let ip_proto = |proto| self.mask.0.packet.ip_proto == 0xff && self.key.packet.ip_proto == proto;
        let l4 = |proto| {
            let later = self.key.packet.ip_frag & FRAG_LATER != 0;
            eth_type(&[0x0800, 0x86dd]) && ip_proto(proto) && !later
        };
        let nd = |types: &[u128]| {
            eth_type(&[0x86dd])
                && ip_proto(58)
                && self.exact(Field::Icmpv6Type).is_some_and(|t| types.contains(&t))
                && matches!(self.get(Field::Icmpv6Code), None | Some((0, _)))
        };
        match prereq {
            Prereq::None => true,
            Prereq::Ethernet => ethernet,
            Prereq::Vlan => self.key.packet.vlan[0].is_present(),
            Prereq::Arp => eth_type(&[0x0806, 0x8035]),
            Prereq::Ipv4 => eth_type(&[0x0800]),
            Prereq::Ipv6 => eth_type(&[0x86dd]),
            Prereq::Ip => eth_type(&[0x0800, 0x86dd]),
            Prereq::Mpls => eth_type(&[0x8847, 0x8848]),
            Prereq::Tcp => l4(6),
            Prereq::Udp => l4(17),
            Prereq::Sctp => l4(132),
            Prereq::Icmp4 => eth_type(&[0x0800]) && ip_proto(1),
            Prereq::Icmp6 => eth_type(&[0x86dd]) && ip_proto(58),
            Prereq::NdSolicit => nd(&[135]),
            Prereq::NdAdvert => nd(&[136]),
            Prereq::Nd => nd(&[135, 136]),
            Prereq::Nsh => eth_type(&[0x894f]),
            Prereq::Ct => self.knows_connection(),
        }
    }

    /// The values that [`Match::meets`] looks at. Matches with the same mask and premises meet the same prerequisites.
    pub fn premises(&self) -> Premises {
        let p = &self.key.packet;
        let icmp6 = p.ip_proto == 58;
        Premises {
            packet_type: self.key.pipeline.packet_type,
            eth_type: p.eth_type,
            ip_proto: p.ip_proto,
            ip_frag: p.ip_frag,
            tagged: p.vlan[0].is_present(),
            icmp6: if icmp6 { (p.tp_src, p.tp_dst) } else { (0, 0) },
            ct_state: self.key.ct.state,
        }
    }

    /// Whether the match implies a valid connection: one of the bits that only tracked packets of a connection
    /// have, or tracked and explicitly not invalid.
    fn knows_connection(&self) -> bool {
        let (state, mask) = (self.key.ct.state, self.mask.0.ct.state);
        state & (CT_NEW | CT_EST | CT_REL | CT_RPL | CT_SNAT | CT_DNAT) != 0
            || (state & CT_TRK != 0 && mask & CT_INV != 0 && state & CT_INV == 0)
    }

    /// The bits that are matched although their prerequisites are not met. Bits that fields share (`tcp_src` and
    /// `udp_src`) are fine when those of one of them are met.
    fn unmet(&self) -> FlowMask {
        let classes = prereq_masks();
        let (mut known, mut allowed) = (FlowMask::empty(), FlowMask::empty());
        for (prereq, mask) in classes {
            known.add(mask);
            if self.meets(*prereq) {
                allowed.add(mask);
            }
        }
        let mut out = self.mask;
        for (i, word) in out.0.words_mut().iter_mut().enumerate() {
            *word &= known.words()[i] & !allowed.words()[i];
        }
        out
    }

    /// Whether every field that the match looks at has its prerequisites.
    ///
    /// # Errors
    /// A field whose prerequisites are not met.
    pub fn check_prereqs(&self) -> Result<(), Field> {
        let unmet = self.unmet();
        let found = Field::ALL.iter().find(|f| f.mask_of(&unmet) != 0 && !self.meets(f.prereq()));
        found.map_or(Ok(()), |field| Err(*field))
    }

    /// Stops matching fields without their prerequisites, and says which those were.
    pub fn normalize(&mut self) -> Vec<Field> {
        let mut out = Vec::new();
        while let Err(field) = self.check_prereqs() {
            let unmet = field.mask_of(&self.unmet());
            let keep = field.mask_of(&self.mask) & !unmet;
            self.put(field, field.get(&self.key), keep);
            out.push(field);
        }
        out
    }

    /// The fields of the transport's ports: those of UDP or SCTP if the match asks for these, otherwise TCP's.
    pub fn transport_ports(&self) -> (Field, Field) {
        match self.exact(Field::NwProto) {
            Some(17) => (Field::UdpSrc, Field::UdpDst),
            Some(132) => (Field::SctpSrc, Field::SctpDst),
            _ => (Field::TcpSrc, Field::TcpDst),
        }
    }
}

/// For each prerequisite, the bits of the fields that have it.
fn prereq_masks() -> &'static [(Prereq, FlowMask)] {
    static MASKS: OnceLock<Vec<(Prereq, FlowMask)>> = OnceLock::new();
    MASKS.get_or_init(|| {
        let mut out: Vec<(Prereq, FlowMask)> = Vec::new();
        for &field in Field::ALL {
            let at = out.iter().position(|(p, _)| *p == field.prereq()).unwrap_or_else(|| {
                out.push((field.prereq(), FlowMask::empty()));
                out.len() - 1
            });
            field.mask_add(&mut out[at].1, field.value_mask());
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OfPort;

    #[test]
    fn every_field_reads_back_what_was_written() {
        for &field in Field::ALL.iter().filter(|f| f.supported() && f.tun_metadata_index().is_none()) {
            for bit in 0..128 {
                let value = (1u128 << bit) & field.value_mask();
                let mut key = FlowKey::default();
                field.set(&mut key, value);
                if field != Field::InPort16 {
                    assert_eq!(field.get(&key), value, "{field:?} bit {bit}");
                }
                assert_eq!(value == 0, key == FlowKey::default(), "{field:?} bit {bit}");
            }
            let mut key = FlowKey::default();
            key.words_mut().fill(u64::MAX);
            field.set(&mut key, 0);
            assert_eq!(field.get(&key), 0, "{field:?}");
        }
    }

    #[test]
    fn names_and_numbers_lead_back() {
        for &field in Field::ALL {
            assert_eq!(Field::by_name(field.name()), Some(field));
            for point in field.info().points {
                let by_number = Field::by_oxm(point.class, point.number, point.experimenter);
                assert_eq!(by_number, Some(field), "{}", point.name);
                assert_eq!(Field::by_point_name(point.name).map(|(f, _)| f), Some(field));
            }
            assert!(usize::from(field.bits()).div_ceil(8) <= usize::from(field.bytes()), "{field:?}");
        }
        assert_eq!(Field::by_name("nw_src"), Some(Field::IpSrc));
        assert_eq!(Field::tun_metadata(63).map(Field::name), Some("tun_metadata63"));
        assert_eq!(Field::reg(15), Some(Field::Reg15));
        assert_eq!(Field::by_oxm(0x8000, 6, 0), Some(Field::VlanVid));
        assert_eq!(Field::TcpFlags.oxm(4).map(|p| p.name), Some("ONFOXM_ET_TCP_FLAGS"));
        assert_eq!(Field::TcpFlags.oxm(6).map(|p| p.name), Some("OXM_OF_TCP_FLAGS"));
        assert_eq!(Field::TcpFlags.oxm(3).map(|p| p.name), Some("NXM_NX_TCP_FLAGS"));
        assert_eq!(Field::TunId.oxm(3).map(|p| p.name), Some("NXM_NX_TUN_ID"));
        assert_eq!(Field::EthSrc.oxm(1).map(|p| p.header(6, true)), Some(0x0000_050c));
    }

    #[test]
    fn port_numbers_fold() {
        let m = Match::any().with(Field::InPort16, 0xfffe);
        assert_eq!(m.key.pipeline.in_port, OfPort::LOCAL.0);
        assert_eq!(m.exact(Field::InPort), Some(0xffff_fffe));
        assert_eq!(m.exact(Field::InPort16), Some(0xfffe));
    }

    #[test]
    fn openflow_1_0_vlan_names() {
        let tagged = Match::any().with(Field::DlVlan, 10).with(Field::DlVlanPcp, 3);
        assert_eq!(tagged.get(Field::VlanTci), Some((0x700a, 0xffff)));
        let untagged = Match::any().with(Field::DlVlan, 0xffff);
        assert_eq!(untagged.get(Field::VlanTci), Some((0, 0x1fff)));
    }

    #[test]
    fn prerequisites() {
        let tcp = Match::any().with(Field::EthType, 0x800).with(Field::NwProto, 6);
        assert!(tcp.meets(Prereq::Tcp) && tcp.meets(Prereq::Ip) && !tcp.meets(Prereq::Udp));
        assert_eq!(tcp.with(Field::TcpDst, 80).check_prereqs(), Ok(()));
        assert_eq!(tcp.with(Field::NdTarget, 1).check_prereqs(), Err(Field::NdTarget));
        assert!(!tcp.with(Field::IpFrag, 3).meets(Prereq::Tcp));
        assert_eq!(Match::any().with(Field::IpSrc, 1).check_prereqs(), Err(Field::IpSrc));
        let icmp6 = Match::any().with(Field::EthType, 0x86dd).with(Field::NwProto, 58);
        assert!(icmp6.with(Field::Icmpv6Type, 135).meets(Prereq::NdSolicit));
        assert!(!icmp6.with(Field::Icmpv6Type, 135).meets(Prereq::NdAdvert));
        assert!(!Match::any().with(Field::CtState, u128::from(CT_TRK)).meets(Prereq::Vlan));
        assert!(Match::any().with(Field::CtState, u128::from(CT_TRK)).meets(Prereq::Ct));
    }
}
