//! What is known of the packet during a walk, and what did the walk change?
//!
//! Every bit of the key is either *settled* (it does not depend on the packet received: constants that actions wrote,
//! what is matched exactly anyway) or still the packet's own. Looking at the packet's own bits adds them to the mask of
//! the verdict; looking at settled ones costs nothing. So a rule that overwrites a field does not make caches match
//! on it.

use std::mem::offset_of;

use smallvec::SmallVec;
use weft_flow::{
    CACHED_WORDS, CT_WORDS, EXTRA_BARE, EXTRA_CT, EXTRA_TUN_METADATA, EXTRA_TUNNEL, Field, FlowKey, FlowMask,
    PACKET_WORDS, PacketKey, PipelineKey, TUN_METADATA_WORDS, TUNNEL_WORDS, Vlan,
};
use weft_wire::EtherType;

/// The word in which the tags are holds nothing else.
const _: () = assert!(offset_of!(PacketKey, vlan) % 8 == 0 && size_of::<[Vlan; 2]>() == 8);

/// Tags that a walk may push on top of each other.
const MAX_PUSHED: usize = 4;

/// The stack of VLAN tags: new ones on top of what is left of the received ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tags {
    /// Tags that do not depend on the packet received, outermost last.
    pub(super) pushed: SmallVec<[Vlan; 2]>,
    /// How many received tags are gone.
    pub(super) rest: u8,
}

impl Tags {
    /// Which received tag is at `slot` from the top; `None`: a new tag, or deeper than is known.
    fn origin(&self, slot: usize) -> Option<usize> {
        let below = slot.checked_sub(self.pushed.len())? + usize::from(self.rest);
        (below < 2).then_some(below)
    }
    fn at(&self, slot: usize, received: &[Vlan; 2]) -> Vlan {
        if slot < self.pushed.len() {
            return self.pushed[self.pushed.len() - 1 - slot];
        }
        self.origin(slot).map(|i| received[i]).unwrap_or_default()
    }
}

/// The packet as it is at one point of a walk.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    /// Its headers and everything else that rules match.
    pub(super) key: FlowKey,
    /// Bits of `key` that do not depend on the packet received; the VLAN tags are in `tags` instead.
    pub(super) settled: FlowMask,
    /// Bits of headers that were written since the last commit.
    pub(super) dirty: PacketKey,
    /// The headers as the datapath's packet has them, after the actions so far.
    pub(super) base: PacketKey,
    /// Fields of `base` that actions wrote.
    pub(super) committed: PacketKey,
    pub(super) tags: Tags,
    pub(super) base_tags: Tags,
    /// The tags received.
    pub(super) received: [Vlan; 2],
    /// It came with no section but that of its headers.
    plain: bool,
    /// Mark and priority that the datapath was told of.
    pub(super) told: (u32, u32),
    /// The datapath has the packet's hash.
    pub(super) hashed: bool,
    /// Tunnel options were set or removed.
    pub(super) options_written: bool,
    /// The datapath's packet has no Ethernet header.
    pub(super) base_bare: bool,
    /// A label was popped: what follows the Ethernet header and tags is not known until the packet is looked up again.
    pub(super) beneath_unknown: bool,
    /// Headers that the datapath may have changed by itself, so that `base` is not what it has: addresses and ports.
    translated: bool,
    /// The same of the TOS byte.
    remarked: bool,
}

impl Packet {
    /// No packet, to be filled in by [`Packet::receive`].
    pub(super) const BLANK: Packet = Packet {
        key: FlowKey::ZERO,
        settled: FlowMask::empty(),
        dirty: FlowKey::ZERO.packet,
        base: FlowKey::ZERO.packet,
        committed: FlowKey::ZERO.packet,
        tags: Tags { pushed: SmallVec::new_const(), rest: 0 },
        base_tags: Tags { pushed: SmallVec::new_const(), rest: 0 },
        received: [Vlan { tpid: 0, tci: 0 }; 2],
        plain: false,
        told: (0, 0),
        hashed: false,
        options_written: false,
        base_bare: false,
        beneath_unknown: false,
        translated: false,
        remarked: false,
    };

    /// A packet that was received, in place of none: its pipeline section is set by the caller and settled, as is what
    /// it does not have. In place, for a packet is large and there is one for every walk.
    pub(super) fn receive(&mut self, key: &FlowKey, pipeline: &PipelineKey) {
        let extras = key.packet.extras;
        self.plain = extras & (EXTRA_TUNNEL | EXTRA_TUN_METADATA | EXTRA_CT) == 0;
        let settled = &mut self.settled;
        settled.0.packet.in_port = u32::MAX;
        settled.0.packet.recirc_id = u32::MAX;
        settled.0.packet.extras = u16::MAX;
        let rest = &mut settled.0.words_mut()[PACKET_WORDS..];
        self.key.packet = key.packet;
        if self.plain {
            rest.fill(u64::MAX);
        } else {
            let sections = [
                (EXTRA_TUNNEL, TUNNEL_WORDS),
                (EXTRA_TUN_METADATA, TUN_METADATA_WORDS),
                (EXTRA_CT, CT_WORDS),
            ];
            let mut rest = rest;
            for (extra, words) in sections {
                let (section, others) = rest.split_at_mut(words);
                section.fill(if extras & extra == 0 { u64::MAX } else { 0 });
                rest = others;
            }
            rest.fill(u64::MAX);
            (self.key.tunnel, self.key.tun_metadata, self.key.ct) = (key.tunnel, key.tun_metadata, key.ct);
        }
        self.key.pipeline = PipelineKey { packet_type: key.packet.packet_type(), ..*pipeline };
        self.base_bare = extras & EXTRA_BARE != 0;
        if self.base_bare {
            // A packet without Ethernet header has no tags to be looked at.
            self.key.packet.vlan = Default::default();
            (self.tags.rest, self.base_tags.rest) = (2, 2);
        }
        self.base = self.key.packet;
        self.received = self.key.packet.vlan;
    }

    /// The datapath may translate addresses and ports.
    pub(super) fn translated(&mut self) {
        self.translated = true;
    }

    /// The datapath may change the DSCP.
    pub(super) fn remarked(&mut self) {
        self.remarked = true;
    }

    /// Whether the datapath may have changed addresses and ports, or the TOS byte.
    pub(super) fn changed_elsewhere(&self) -> (bool, bool) {
        (self.translated, self.remarked)
    }

    /// What follows the Ethernet header and tags has this type now; the label stack is as in `key`. With `buried`, what
    /// was there before is not to be seen any more.
    pub(super) fn relabelled(&mut self, ethertype: EtherType, buried: bool) {
        self.key.packet.eth_type = ethertype.0;
        self.settled.0.packet.eth_type = u16::MAX;
        self.settled.0.packet.mpls = [u32::MAX; 3];
        self.beneath_unknown = false;
        if buried {
            let (all, key) = (all_ones().packet, &mut self.key.packet);
            let kept = PacketKey {
                in_port: key.in_port,
                recirc_id: key.recirc_id,
                eth_dst: key.eth_dst,
                eth_src: key.eth_src,
                eth_type: key.eth_type,
                extras: key.extras,
                vlan: key.vlan,
                mpls: key.mpls,
                ..PacketKey::default()
            };
            let settled = self.settled.0.packet;
            self.settled.0.packet =
                PacketKey { eth_dst: settled.eth_dst, eth_src: settled.eth_src, vlan: settled.vlan, ..all };
            *key = kept;
        }
        self.base = self.key.packet;
        self.committed = PacketKey {
            mpls: [u32::MAX; 3],
            eth_src: self.committed.eth_src,
            eth_dst: self.committed.eth_dst,
            ..PacketKey::default()
        };
        self.dirty = PacketKey::default();
    }

    /// The datapath changed `bits` of the second label stack entry; they do not depend on what was not looked at.
    pub(super) fn relabel_second(&mut self, entry: u32, bits: u32) {
        (self.key.packet.mpls[1], self.base.mpls[1]) = (entry, entry);
        self.settled.0.packet.mpls[1] |= bits;
    }

    /// A packet that the walk itself made: nothing of it depends on the packet received. It has no tags.
    pub(super) fn made(key: &FlowKey) -> Packet {
        let mut packet = Packet::BLANK;
        packet.receive(key, &key.pipeline);
        packet.settled = FlowMask(all_ones());
        (packet.tags.rest, packet.base_tags.rest) = (2, 2);
        packet.received = [Vlan::default(); 2];
        packet.committed = all_ones().packet;
        packet
    }

    /// Forgets the outer header and connection that the packet came in with.
    pub(super) fn forget_origin(&mut self) {
        let all = all_ones();
        (self.key.tunnel, self.settled.0.tunnel) = (Default::default(), all.tunnel);
        (self.key.tun_metadata, self.settled.0.tun_metadata) = (Default::default(), all.tun_metadata);
        self.options_written |= self.key.packet.extras & EXTRA_TUN_METADATA != 0;
        (self.key.ct, self.settled.0.ct) = (Default::default(), all.ct);
    }

    /// Adds to `mask` what looking at `bits` of the key tells about the packet received.
    pub(super) fn look(&self, bits: &FlowMask, mask: &mut FlowMask) {
        let settled = self.settled.words();
        let vlan = mask.0.packet.vlan;
        // Sections that the packet came without, and that of the pipeline, are settled: the packet's own bits are none.
        let own = if self.plain { PACKET_WORDS } else { CACHED_WORDS };
        for ((m, b), s) in mask.0.words_mut()[..own].iter_mut().zip(bits.words()).zip(settled) {
            *m |= b & !s;
        }
        mask.0.packet.vlan = vlan;
        for slot in 0..2 {
            if let Some(i) = self.tags.origin(slot) {
                let (out, seen) = (&mut mask.0.packet.vlan[i], bits.0.packet.vlan[slot]);
                out.tpid |= seen.tpid;
                out.tci |= seen.tci;
            }
        }
    }

    /// [`Packet::look`] at bits of one field.
    pub(super) fn look_field(&self, field: Field, bits: u128, mask: &mut FlowMask) {
        if is_vlan(field) {
            let mut looked = FlowMask::empty();
            field.mask_add(&mut looked, bits);
            return self.look(&looked, mask);
        }
        let own = bits & !field.mask_of(&self.settled);
        if own != 0 {
            field.mask_add(mask, own);
        }
    }

    /// Writes `bits` of a field; `value` must not depend on bits of the packet that were not looked at.
    pub(super) fn write(&mut self, field: Field, value: u128, bits: u128, mask: &mut FlowMask) {
        if is_vlan(field) {
            return self.write_vlan(field, value, bits, mask);
        }
        let old = field.get(&self.key);
        field.set(&mut self.key, old & !bits | value & bits);
        if field.is_of_pipeline() {
            // Settled from the beginning.
            return;
        }
        field.mask_add(&mut self.settled, bits);
        let mut touched = FlowMask::empty();
        field.mask_add(&mut touched, bits);
        for (d, t) in self.dirty.words_mut().iter_mut().zip(touched.0.packet.words()) {
            *d |= t;
        }
    }

    fn write_vlan(&mut self, field: Field, value: u128, bits: u128, mask: &mut FlowMask) {
        let mut tag = FlowKey::default();
        tag.packet.vlan[0] = self.top_tag(mask);
        let old = field.get(&tag);
        field.set(&mut tag, old & !bits | value & bits);
        self.set_top_tag(tag.packet.vlan[0], mask);
    }

    /// The outermost tag, looked at whole.
    pub(super) fn top_tag(&self, mask: &mut FlowMask) -> Vlan {
        let mut bits = FlowMask::empty();
        bits.0.packet.vlan[0] = Vlan { tpid: 0xffff, tci: 0xffff };
        self.look(&bits, mask);
        self.key.packet.vlan[0]
    }

    /// Makes the outermost tag what `tag` is: pushes, changes or pops one. Returns false when there are too many.
    pub(super) fn set_top_tag(&mut self, tag: Vlan, mask: &mut FlowMask) -> bool {
        let old = self.top_tag(mask);
        match (old.is_present(), tag.is_present()) {
            (true, true) if old == tag => true,
            (true, true) => self.pop_tag(mask) && self.push_tag(tag),
            (true, false) => self.pop_tag(mask),
            (false, true) => {
                let tpid = if tag.tpid == 0 { EtherType::VLAN.0 } else { tag.tpid };
                self.push_tag(Vlan { tpid, tci: tag.tci })
            }
            (false, false) => true,
        }
    }

    /// Pushes a tag that does not depend on the packet. Returns false when there are too many.
    pub(super) fn push_tag(&mut self, tag: Vlan) -> bool {
        if self.tags.pushed.len() >= MAX_PUSHED {
            return false;
        }
        self.tags.pushed.push(tag);
        self.show_tags();
        true
    }

    /// Pops the outermost tag, if there is one. Returns whether there was.
    pub(super) fn pop_tag(&mut self, mask: &mut FlowMask) -> bool {
        let mut bits = FlowMask::empty();
        bits.0.packet.vlan[0].tci = weft_flow::VLAN_PRESENT;
        self.look(&bits, mask);
        if !self.key.packet.vlan[0].is_present() {
            return false;
        }
        if self.tags.pushed.pop().is_none() {
            self.tags.rest += 1;
        }
        self.show_tags();
        true
    }

    /// Puts another stack of tags in place.
    pub(super) fn set_tags(&mut self, tags: Tags) {
        self.tags = tags;
        self.show_tags();
    }

    fn show_tags(&mut self) {
        self.key.packet.vlan = [self.tags.at(0, &self.received), self.tags.at(1, &self.received)];
    }
}

/// A key with every bit set, used as a mask.
pub(super) fn all_ones() -> FlowKey {
    let mut key = FlowKey::default();
    key.words_mut().fill(u64::MAX);
    key
}

/// Whether a field is of the outermost VLAN tag.
pub(super) fn is_vlan(field: Field) -> bool {
    matches!(field, Field::VlanVid | Field::VlanPcp | Field::VlanTci | Field::DlVlan | Field::DlVlanPcp)
}
