//! How do label stacks change? (RFC 3031, RFC 3032, and what Open vSwitch fills in.)
//!
//! A label stack entry is pushed or popped in the datapath at once: what is beneath an entry that was popped is not
//! known until the packet is looked up again.

use weft_flow::{Action, DpAction, DropReason, Field, Subfield};
use weft_wire::{EtherType, IpProto};

use super::Walk;

/// Label stack entries that a key holds.
const MAX_LABELS: usize = 3;
/// The bit at the bottom of the stack.
pub(super) const BOTTOM: u32 = 0x100;
/// The TTL of an entry.
const TTL: u32 = 0xff;

impl<'a> Walk<'a> {
    /// How many entries of the label stack are known; where its bottom is, is looked at.
    fn labels(&mut self) -> usize {
        if !self.eth_type().is_mpls() {
            return 0;
        }
        for i in 0..MAX_LABELS {
            self.look_label(i, BOTTOM);
            if self.packet.key.packet.mpls[i] & BOTTOM != 0 {
                return i + 1;
            }
        }
        MAX_LABELS
    }

    pub(super) fn look_label(&mut self, i: usize, bits: u32) {
        let mut looked = weft_flow::FlowMask::empty();
        looked.0.packet.mpls[i] = bits;
        self.look(&looked);
    }

    pub(super) fn push_mpls(&mut self, ethertype: EtherType) {
        if self.packet.is_bare() {
            return self.wrong_type(|| "push_mpls needs a frame".to_owned());
        }
        let n = self.labels();
        if n >= MAX_LABELS {
            return self.fatal(DropReason::BadAction);
        }
        (0..n).for_each(|i| self.look_label(i, u32::MAX));
        let lse = if n > 0 { self.packet.key.packet.mpls[0] & !BOTTOM } else { self.first_label() };
        self.commit();
        let labels = &mut self.packet.key.packet.mpls;
        labels[n..].fill(0);
        labels.copy_within(..MAX_LABELS - 1, 1);
        labels[0] = lse;
        self.packet.relabelled(ethertype, n == 0);
        self.out.push(DpAction::PushMpls { lse, ethertype: ethertype.0 });
    }

    /// The first entry of a packet: explicit null, with the TTL and class of the IP header.
    pub(super) fn first_label(&mut self) -> u32 {
        let (mut class, mut ttl) = (0, 64);
        let label = if self.eth_type() == EtherType::IPV6 { 2 } else { 0 };
        if self.is_ip() && !self.packet.beneath_unknown {
            class = self.get(Field::IpDscp) as u32 & 7;
            let of_packet = self.get(Field::NwTtl) as u32;
            ttl = if of_packet == 0 { 64 } else { of_packet };
        }
        label << 12 | class << 9 | BOTTOM | ttl
    }

    pub(super) fn pop_mpls(&mut self, ethertype: EtherType) {
        if self.packet.is_bare() {
            return self.wrong_type(|| "pop_mpls needs a frame".to_owned());
        }
        let n = self.labels();
        if n == 0 {
            return self.note(|| "the packet has no label".to_owned());
        }
        let labels = self.packet.key.packet.mpls;
        if n == MAX_LABELS && labels[MAX_LABELS - 1] & BOTTOM == 0 {
            return self.fatal(DropReason::BadAction);
        }
        (1..n).for_each(|i| self.look_label(i, u32::MAX));
        self.commit();
        let labels = &mut self.packet.key.packet.mpls;
        labels[n..].fill(0);
        labels.copy_within(1.., 0);
        labels[MAX_LABELS - 1] = 0;
        self.packet.relabelled(ethertype, false);
        self.packet.beneath_unknown = !ethertype.is_mpls();
        self.out.push(DpAction::PopMpls(ethertype.0));
    }

    pub(super) fn dec_mpls_ttl(&mut self) -> bool {
        if !self.eth_type().is_mpls() {
            return true;
        }
        let ttl = self.get(Field::MplsTtl);
        if ttl > 1 {
            self.packet.write(Field::MplsTtl, ttl - 1, 0xff, &mut self.mask);
        }
        ttl > 1
    }

    /// Copies the TTL between the outermost header that has one and the next (OpenFlow 1.5.1 §5.8.2): labels, the IP
    /// header beneath them, an IP header in another. What the walk cannot see the datapath does.
    pub(super) fn copy_ttl(&mut self, outwards: bool) {
        let n = self.labels();
        if n == 0 && !self.carries_ip() {
            return self.note(|| "the packet has no second header with a TTL".to_owned());
        }
        if n < 2 {
            self.commit();
            self.out.push(DpAction::CopyTtl { outwards });
            // The outermost TTL is any now. The inner one was not known before.
            self.packet.beneath_unknown |= outwards;
            return;
        }
        let labels = self.packet.key.packet.mpls;
        if outwards {
            self.look_label(1, TTL);
            self.packet.write(Field::MplsTtl, (labels[1] & TTL).into(), 0xff, &mut self.mask);
        } else {
            self.look_label(0, TTL);
            self.commit();
            self.out.push(DpAction::CopyTtl { outwards });
            self.packet.relabel_second(labels[1] & !TTL | labels[0] & TTL, TTL);
        }
    }

    /// Whether there is an IP header behind that of the packet.
    fn carries_ip(&mut self) -> bool {
        if !self.is_ip() || self.get(Field::IpFrag) & u128::from(weft_flow::FRAG_LATER) != 0 {
            return false;
        }
        matches!(IpProto(self.get(Field::NwProto) as u8), IpProto::IPIP | IpProto::IPV6)
    }
}

/// Whether an action looks at, or changes, what is beneath the Ethernet header and labels.
pub(super) fn needs_beneath(action: &Action) -> bool {
    let deep = |field: Field| {
        !matches!(
            field.prereq(),
            weft_flow::Prereq::None | weft_flow::Prereq::Ethernet | weft_flow::Prereq::Vlan
        )
    };
    let sub = |sub: &Subfield| deep(sub.field);
    match action {
        Action::DecTtl(_)
        | Action::DecMplsTtl
        | Action::PopMpls(_)
        | Action::PushMpls(_)
        | Action::CopyTtlIn
        | Action::CopyTtlOut
        | Action::SetTpPort { .. }
        | Action::Resubmit { .. }
        | Action::Multipath(_)
        | Action::Bundle(_)
        | Action::Learn(_)
        | Action::FinTimeout { .. }
        | Action::Ct(_)
        | Action::Encap(_)
        | Action::Decap(_)
        | Action::DecNshTtl => true,
        Action::SetField { field, .. } => deep(*field),
        Action::Move { src, dst } => sub(src) || sub(dst),
        Action::StackPush(of) | Action::StackPop(of) => sub(of),
        _ => false,
    }
}
