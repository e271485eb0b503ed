//! Which datapath actions make the datapath's packet equal to the walk's?
//!
//! Changes are put off until a packet leaves, so that what is written twice or undone costs nothing. A field that was
//! written is set even where it might have that value already: to leave that out one would have to look at it.

use std::sync::Arc;

use smallvec::SmallVec;
use weft_flow::{DpAction, FlowMask, PacketKey, SetField, VLAN_PRESENT, Vlan};
use weft_wire::nsh::{self, Metadata, NshRepr};
use weft_wire::{EtherType, Mac};

use super::packet::{Packet, Tags};

/// A field of a header, as bits.
trait Bits: Copy + PartialEq {
    const ZERO: Self;
    const ONES: Self;
    /// Whether no bit is set.
    fn none(self) -> bool {
        self == Self::ZERO
    }
    /// Whether every bit is set.
    fn all(self) -> bool {
        self == Self::ONES
    }
    /// Adds the bits that are not in `settled` to `mask`.
    fn look(settled: Self, mask: &mut Self);
}

macro_rules! bits_of_numbers {
    ($($number:ty)*) => {$(
        impl Bits for $number {
            const ZERO: Self = 0;
            const ONES: Self = <$number>::MAX;
            fn look(settled: Self, mask: &mut Self) {
                *mask |= !settled;
            }
        }
    )*};
}

bits_of_numbers!(u8 u16 u32);

impl<const N: usize> Bits for [u8; N] {
    const ZERO: Self = [0; N];
    const ONES: Self = [0xff; N];
    fn look(settled: Self, mask: &mut Self) {
        for i in 0..N {
            mask[i] |= !settled[i];
        }
    }
}

impl Bits for Mac {
    const ZERO: Self = Mac::ZERO;
    const ONES: Self = Mac::BROADCAST;
    fn look(settled: Self, mask: &mut Self) {
        Bits::look(settled.0, &mut mask.0);
    }
}

impl Packet {
    /// Emits what the packet's changes since the last commit come to.
    pub(super) fn commit(&mut self, mask: &mut FlowMask, out: &mut Vec<DpAction>) {
        self.commit_ethernet(mask, out);
        if self.dirty != PacketKey::default() {
            self.commit_fields(mask, out);
            self.dirty = PacketKey::default();
        }
        self.commit_tags(mask, out);
        self.commit_bare(out);
        let wanted = (self.key.pipeline.pkt_mark, self.key.pipeline.skb_priority);
        if wanted.1 != self.told.1 {
            out.push(DpAction::Set(SetField::Priority(wanted.1)));
        }
        if wanted.0 != self.told.0 {
            out.push(DpAction::Set(SetField::Mark(wanted.0)));
        }
        self.told = wanted;
    }

    fn commit_fields(&mut self, mask: &mut FlowMask, out: &mut Vec<DpAction>) {
        let (translated, remarked) = self.changed_elsewhere();
        macro_rules! field {
            ($($place:ident).+ $([$i:literal])?, $make:expr) => {
                field!($($place).+ $([$i])?, $make, false)
            };
            ($($place:ident).+ $([$i:literal])?, $make:expr, $stale:expr) => {
                if !self.dirty.$($place).+ $([$i])?.none() {
                    // The bits that were not written are sent along.
                    let (settled, seen) = (self.settled.0.packet.$($place).+ $([$i])?, &mut mask.0.packet.$($place).+ $([$i])?);
                    Bits::look(settled, seen);
                    let value = self.key.packet.$($place).+ $([$i])?;
                    let known = !$stale && (seen.all() || self.committed.$($place).+ $([$i])?.all());
                    if !known || self.base.$($place).+ $([$i])? != value {
                        out.push(DpAction::Set($make(value)));
                        self.base.$($place).+ $([$i])? = value;
                        self.committed.$($place).+ $([$i])? = Bits::ONES;
                    }
                }
            };
        }
        let arp = matches!(EtherType(self.key.packet.eth_type), EtherType::ARP | EtherType::RARP);
        field!(eth_src, SetField::EthSrc);
        field!(eth_dst, SetField::EthDst);
        if self.key.packet.eth_type == EtherType::NSH.0 {
            return self.commit_nsh(mask, out);
        }
        field!(mpls[0], SetField::Mpls);
        // An entry that was pushed just now is pushed as it is to be.
        if let [
            ..,
            DpAction::PushMpls { lse, .. } | DpAction::AddMpls { lse, .. },
            DpAction::Set(SetField::Mpls(new)),
        ] = &mut out[..]
        {
            *lse = *new;
            out.pop();
        }
        field!(ipv4_src, SetField::Ipv4Src, translated);
        field!(ipv4_dst, SetField::Ipv4Dst, translated);
        field!(ipv6_src, SetField::Ipv6Src, translated);
        field!(ipv6_dst, SetField::Ipv6Dst, translated);
        field!(ipv6_label, SetField::Ipv6Label);
        field!(ip_tos, SetField::IpTos, remarked);
        field!(ip_ttl, SetField::IpTtl);
        field!(tp_src, SetField::TpSrc, translated);
        field!(tp_dst, SetField::TpDst, translated);
        field!(nd_target, SetField::NdTarget);
        field!(nd_reserved, SetField::NdReserved);
        field!(nd_options_type, SetField::NdOptionsType);
        if arp {
            field!(ip_proto, |op| SetField::ArpOp(u16::from(op)));
            field!(arp_sha, SetField::ArpSha);
            field!(arp_tha, SetField::ArpTha);
        } else {
            field!(arp_sha, SetField::NdSll);
            field!(arp_tha, SetField::NdTll);
        }
    }

    /// Sets what was written of a network service header: of one that was pushed just now, in the push.
    fn commit_nsh(&mut self, mask: &FlowMask, out: &mut Vec<DpAction>) {
        let seen = mask.0.packet;
        let word = |key: &PacketKey, i: usize| match i {
            0 => key.nd_reserved,
            1 => key.ipv4_src,
            _ => be_word(&key.nd_target, i - 2),
        };
        for i in 0..6 {
            let (dirty, value) = (word(&self.dirty, i), word(&self.key.packet, i));
            let known = word(&seen, i) | word(&self.committed, i);
            if dirty == 0 || dirty & !known == 0 && (word(&self.base, i) ^ value) & dirty == 0 {
                continue;
            }
            if let Some(DpAction::PushNsh(header)) = out.last_mut() {
                set_pushed(Arc::make_mut(header), i, value);
            } else {
                let (value, mask) = (value & dirty, dirty);
                out.push(DpAction::Set(match i {
                    0 => SetField::NshBase { value, mask },
                    1 => SetField::NshPath { value, mask },
                    _ => SetField::NshContext { index: (i - 2) as u8, value, mask },
                }));
            }
        }
        let ones = super::packet::all_ones().packet;
        for (key, bits) in [(&mut self.base, self.key.packet), (&mut self.committed, ones)] {
            let put = |old: u32, new: u32, at: u32| old & !at | new & at;
            key.nd_reserved = put(key.nd_reserved, bits.nd_reserved, self.dirty.nd_reserved);
            key.ipv4_src = put(key.ipv4_src, bits.ipv4_src, self.dirty.ipv4_src);
            for ((old, new), at) in key.nd_target.iter_mut().zip(bits.nd_target).zip(self.dirty.nd_target) {
                *old = *old & !at | new & at;
            }
        }
    }

    /// Pops and pushes tags until the datapath's packet has the walk's.
    fn commit_tags(&mut self, mask: &mut FlowMask, out: &mut Vec<DpAction>) {
        if self.tags == self.base_tags {
            return;
        }
        let base = self.base_tags.clone();
        // Received tags that the datapath has popped already are pushed again as they were.
        let mut wanted = self.tags.clone();
        if wanted.rest < base.rest {
            let again = (wanted.rest..base.rest.min(2)).rev().map(|i| {
                mask.0.packet.vlan[usize::from(i)] = Vlan { tpid: 0xffff, tci: 0xffff };
                self.received[usize::from(i)]
            });
            wanted.pushed = again.chain(wanted.pushed.iter().copied()).collect();
            wanted.rest = base.rest;
        }
        // What is above the tags that both keep, innermost first: the tag if it is known, and its TPID.
        let seen = mask.0.packet.vlan;
        let received = |i: u8| {
            let (tag, seen) = (self.received[usize::from(i)], seen[usize::from(i)]);
            (seen == Vlan { tpid: 0xffff, tci: 0xffff }, seen.tpid == 0xffff, tag)
        };
        let have: SmallVec<[(bool, bool, Vlan); 4]> = (base.rest..wanted.rest)
            .rev()
            .map(received)
            .chain(base.pushed.iter().map(|tag| (true, true, *tag)))
            .collect();
        let same = have.iter().zip(&wanted.pushed).take_while(|((known, _, a), b)| *known && a == *b).count();
        let mut push = &wanted.pushed[same..];
        let mut pops = have.len() - same;
        let mut change = None;
        if let (Some((_, true, old)), Some(new)) = (have.get(same), push.first())
            && old.tpid == new.tpid
        {
            change = Some(DpAction::Set(SetField::VlanTci(wire_tci(*new))));
            pops -= 1;
            push = &push[1..];
        }
        out.extend((0..pops).map(|_| DpAction::PopVlan));
        out.extend(change);
        out.extend(push.iter().map(|tag| DpAction::PushVlan { tpid: tag.tpid, tci: wire_tci(*tag) }));
        self.base_tags = Tags { pushed: wanted.pushed, rest: wanted.rest };
        self.tags = self.base_tags.clone();
    }
}

/// One of the four words of 16 bytes.
fn be_word(bytes: &[u8; 16], i: usize) -> u32 {
    bytes[i * 4..i * 4 + 4].iter().fold(0, |n, b| n << 8 | u32::from(*b))
}

/// Changes a header that is about to be pushed: word 0 is flags, TTL and types, 1 the path, the others the context.
fn set_pushed(header: &mut NshRepr, i: usize, value: u32) {
    match (i, &mut header.metadata) {
        (0, _) => (header.flags, header.ttl) = ((value >> 24) as u8 & 3, (value >> 16) as u8 & nsh::MAX_TTL),
        (1, _) => header.path = value,
        (_, Metadata::Fixed(words)) => words[(i - 2) * 4..][..4].copy_from_slice(&value.to_be_bytes()),
        (_, Metadata::Tlvs(_)) => {}
    }
}

/// The TCI without the bit that says it is there.
fn wire_tci(tag: Vlan) -> u16 {
    tag.tci & !VLAN_PRESENT
}
