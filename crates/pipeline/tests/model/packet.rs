//! What is a packet to the model? All its headers at once, those that others hide kept aside.

use weft_flow::{
    CT_EST, CT_NEW, CT_TRK, CtKey, EXTRA_BARE, EXTRA_CT, EXTRA_TUNNEL, FlowKey, PacketKey, Vlan,
};
use weft_wire::Mac;

/// A packet with all its tags, outermost first; the key's own tag fields are the outer two of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    pub(super) key: FlowKey,
    pub(super) tags: Vec<Vlan>,
    /// What labels hide.
    beneath: Option<PacketKey>,
    /// What headers in front hide, outermost last: headers, tags and what labels hide.
    inner: Vec<(PacketKey, Vec<Vlan>, Option<PacketKey>)>,
    /// Mark and priority as the datapath has them.
    pub(super) told: (u32, u32),
}

/// A packet that left: port, headers, tags, cut, mark and priority.
pub type Sent = (u32, PacketKey, Vec<Vlan>, usize, Option<u32>, (u32, u32));

pub(super) const BOTTOM: u32 = 0x100;

impl Packet {
    pub(super) fn new(key: &FlowKey) -> Packet {
        let tags = key.packet.vlan.iter().copied().filter(|t| t.is_present()).collect();
        let mut key = *key;
        key.pipeline.packet_type = key.packet.packet_type();
        Packet { key, tags, beneath: None, inner: Vec::new(), told: (0, 0) }
    }
    pub(super) fn show(&mut self) {
        for slot in 0..2 {
            self.key.packet.vlan[slot] = self.tags.get(slot).copied().unwrap_or_default();
        }
    }
    pub(super) fn push(&mut self, tag: Vlan) {
        self.tags.insert(0, tag);
        self.show();
    }
    pub(super) fn pop(&mut self) {
        if !self.tags.is_empty() {
            self.tags.remove(0);
            self.show();
        }
    }
    /// Labels, as far as they are known.
    pub(super) fn labels(&self) -> usize {
        let p = &self.key.packet;
        if p.eth_type != 0x8847 {
            return 0;
        }
        p.mpls.iter().position(|l| l & BOTTOM != 0).map_or(3, |i| i + 1)
    }
    pub(super) fn push_label(&mut self, lse: u32) {
        let p = self.key.packet;
        let mut mpls = [lse, 0, 0];
        if self.labels() == 0 {
            self.beneath = Some(p);
        } else {
            mpls[1..].copy_from_slice(&p.mpls[..2]);
        }
        self.key.packet = PacketKey {
            in_port: p.in_port,
            recirc_id: p.recirc_id,
            extras: p.extras,
            eth_src: p.eth_src,
            eth_dst: p.eth_dst,
            vlan: p.vlan,
            eth_type: 0x8847,
            mpls,
            ..PacketKey::default()
        };
    }
    /// What is beneath the last label is seen at once, if it is what it is said to be.
    pub(super) fn pop_label(&mut self, eth_type: u16) {
        let p = &mut self.key.packet;
        p.mpls = [p.mpls[1], p.mpls[2], 0];
        p.eth_type = eth_type;
        if let Some(inner) = self.beneath.filter(|inner| inner.eth_type == eth_type) {
            *p = PacketKey {
                in_port: p.in_port,
                recirc_id: p.recirc_id,
                extras: p.extras,
                eth_src: p.eth_src,
                eth_dst: p.eth_dst,
                vlan: p.vlan,
                mpls: p.mpls,
                ..inner
            };
        }
        if eth_type != 0x8847 {
            self.beneath = None;
        }
    }
    pub(super) fn is_bare(&self) -> bool {
        self.key.pipeline.packet_type != 0
    }
    /// Says whether there is an Ethernet header, which has no addresses and tags if it is new.
    pub(super) fn set_bare(&mut self, bare: bool) {
        let p = &mut self.key.packet;
        p.extras = p.extras & !EXTRA_BARE | if bare { EXTRA_BARE } else { 0 };
        self.key.pipeline.packet_type = self.key.packet.packet_type();
    }
    pub(super) fn push_eth(&mut self, src: Mac, dst: Mac) {
        assert!(self.is_bare(), "a frame gets no Ethernet header");
        (self.key.packet.eth_src, self.key.packet.eth_dst) = (src, dst);
        self.set_bare(false);
    }
    pub(super) fn pop_eth(&mut self) {
        assert!(!self.is_bare() && self.tags.is_empty(), "no Ethernet header to pop");
        (self.key.packet.eth_src, self.key.packet.eth_dst) = (Mac::ZERO, Mac::ZERO);
        self.set_bare(true);
    }
    /// Puts a header in front of everything, which is hidden then.
    pub(super) fn push_front(&mut self, front: PacketKey) {
        let p = self.key.packet;
        self.inner.push((p, std::mem::take(&mut self.tags), self.beneath.take()));
        let (in_port, recirc_id, extras) = (p.in_port, p.recirc_id, p.extras);
        self.key.packet = PacketKey { in_port, recirc_id, extras, ..front };
        self.set_bare(true);
    }
    pub(super) fn push_nsh(&mut self, np: u8, ttl: u8, path: u32, flags: u8, context: [u8; 16]) {
        self.push_front(PacketKey {
            eth_type: 0x894f,
            nd_reserved: u32::from_be_bytes([flags, ttl, 1, np]),
            ipv4_src: path,
            nd_target: context,
            ..PacketKey::default()
        });
    }
    /// Takes the header in front off; of what a packet came with nothing is known.
    pub(super) fn pop_front(&mut self, np: u8) {
        let p = self.key.packet;
        let eth_type = [0, 0x800, 0x86dd, 0, 0x894f][usize::from(np.min(4))];
        let unknown = PacketKey { eth_type, ..PacketKey::default() };
        let known = self.inner.pop();
        let (inner, tags, beneath) = known.unwrap_or((unknown, Vec::new(), None));
        let (in_port, recirc_id, extras) = (p.in_port, p.recirc_id, p.extras);
        self.key.packet = PacketKey { in_port, recirc_id, extras, ..inner };
        (self.tags, self.beneath) = (tags, beneath);
        self.set_bare(np != 3);
    }
    pub(super) fn len(&self) -> usize {
        300 + 4 * (self.tags.len() + self.labels()) + 24 * self.inner.len()
    }
    pub(super) fn track(&mut self, zone: u16, mark: Option<(u32, u32)>) {
        self.key.packet.extras |= EXTRA_CT;
        let state = if zone == 2 { CT_EST } else { CT_NEW };
        let (value, mask) = mark.unwrap_or_default();
        self.key.ct = CtKey { state: state | CT_TRK, zone, mark: value & mask, ..CtKey::default() };
    }
    pub(super) fn sent(&self, port: u32, cut: Option<u32>) -> Sent {
        let mut headers = self.key.packet;
        headers.vlan = Default::default();
        (headers.recirc_id, headers.extras) = (0, headers.extras & (EXTRA_TUNNEL | EXTRA_BARE));
        (port, headers, self.tags.clone(), self.inner.len(), cut, self.told)
    }
}
