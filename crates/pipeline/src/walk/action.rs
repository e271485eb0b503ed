//! What does each OpenFlow action do to the packet?

use weft_flow::{
    Action, DropReason, FRAG_LATER, Field, FlowMask, OfPort, Prereq, Subfield, VLAN_PRESENT, Vlan,
};
use weft_wire::{EtherType, IpProto};

use super::{End, Frame, MAX_DEPTH, MAX_STACK, Next, Origin, Walk, reason};

impl<'a> Walk<'a> {
    pub(super) fn action(&mut self, action: &'a Action, origin: Origin) -> Next<'a> {
        match action {
            Action::Output { port, max_len } => self.output(*port, *max_len, origin),
            Action::OutputReg { src, max_len } => {
                let port = OfPort(self.read(*src) as u32);
                let port = if src.bits == 16 { OfPort::from_u16(port.0 as u16) } else { port };
                self.output(port, *max_len, origin);
            }
            Action::OutputTrunc { port, max_len } => {
                let before = self.trunc;
                self.trunc = Some(before.map_or(*max_len, |b| b.min(*max_len)));
                self.output(*port, u16::MAX, origin);
                self.trunc = before;
            }
            Action::Controller(to) => self.packet_in(to.max_len, to.id, to.reason, origin),
            Action::SetField { field, value, mask, .. } => self.set_field(*field, *value, *mask),
            Action::Move { src, dst } => {
                if self.meets(src.field.prereq()) && self.meets(dst.field.prereq()) {
                    let value = self.read(*src);
                    self.write(*dst, value);
                }
            }
            Action::StackPush(src) => {
                let value = self.read(*src);
                if self.stack.len() >= MAX_STACK {
                    self.fatal(DropReason::BadAction);
                } else {
                    self.stack.push(value);
                }
            }
            Action::StackPop(dst) => match self.stack.pop() {
                Some(value) => self.write(*dst, value),
                None => self.note(|| "the stack is empty".to_owned()),
            },
            Action::PushVlan(tpid) => self.push_vlan(*tpid),
            Action::PopVlan => {
                self.packet.pop_tag(&mut self.mask);
            }
            Action::SetVlanVid(vid) => self.set_tci(vid & 0xfff, 0xfff),
            Action::SetVlanPcp(pcp) => self.set_tci(u16::from(pcp & 7) << 13, 0xe000),
            Action::DecTtl(_) => return self.dec_ttl(origin),
            Action::Resubmit { port, table, ct: false } => return self.resubmit(*port, *table, origin),
            Action::Clone(actions) => {
                let end = End::Restore(self.save());
                return Next::Into(Frame { actions, next: 0, origin, end, deep: false, steps: 1 });
            }
            Action::Note(_) => {}
            Action::Exit => self.exit = true,
            _ => self.blame(DropReason::BadAction),
        }
        Next::Go
    }

    /// The value of a subfield, looked at.
    fn read(&mut self, sub: Subfield) -> u128 {
        let bits = low_bits(sub.bits).checked_shl(sub.start.into()).unwrap_or(0);
        self.look_field(sub.field, bits);
        (sub.field.get(&self.packet.key) & bits).checked_shr(sub.start.into()).unwrap_or(0)
    }

    fn write(&mut self, sub: Subfield, value: u128) {
        let shift = u32::from(sub.start);
        let bits = low_bits(sub.bits).checked_shl(shift).unwrap_or(0);
        self.set_field(sub.field, (value & low_bits(sub.bits)).checked_shl(shift).unwrap_or(0), bits);
    }

    pub(super) fn look_field(&mut self, field: Field, bits: u128) {
        let mut looked = FlowMask::empty();
        field.mask_add(&mut looked, bits & field.value_mask());
        self.look(&looked);
    }

    /// The whole of a field, looked at.
    pub(super) fn get(&mut self, field: Field) -> u128 {
        self.look_field(field, u128::MAX);
        field.get(&self.packet.key)
    }

    /// Sets bits of a field, if the packet has it.
    fn set_field(&mut self, field: Field, value: u128, bits: u128) {
        if !field.writable()
            || matches!(field, Field::NdReserved | Field::NdOptionsType)
            || !field.supported()
        {
            return self.blame(DropReason::BadAction);
        }
        if !self.meets(field.prereq()) {
            return self.note(|| "the packet has no such field".to_owned());
        }
        self.packet.write(field, value, bits & field.value_mask(), &mut self.mask);
    }

    /// Whether the packet at hand has what `prereq` asks for; what tells that is looked at.
    fn meets(&mut self, prereq: Prereq) -> bool {
        match prereq {
            Prereq::None | Prereq::Ethernet => true,
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
        EtherType(self.get(Field::EthType) as u16)
    }

    pub(super) fn is_ip(&mut self) -> bool {
        matches!(self.eth_type(), EtherType::IPV4 | EtherType::IPV6)
    }

    /// Whether the packet is IP with a header of this transport protocol.
    pub(super) fn has_l4(&mut self, proto: IpProto) -> bool {
        self.is_ip()
            && self.get(Field::NwProto) == u128::from(proto.0)
            && self.get(Field::IpFrag) & u128::from(FRAG_LATER) == 0
    }

    fn is_nd(&mut self, types: &[u16]) -> bool {
        self.eth_type() == EtherType::IPV6
            && self.has_l4(IpProto::ICMPV6)
            && types.contains(&(self.get(Field::Icmpv6Type) as u16))
            && self.get(Field::Icmpv6Code) == 0
    }

    fn push_vlan(&mut self, tpid: EtherType) {
        if !self.packet.push_tag(Vlan { tpid: tpid.0, tci: VLAN_PRESENT }) {
            self.fatal(DropReason::BadAction);
        }
    }

    /// Sets bits of the outermost tag, pushing one if there is none.
    fn set_tci(&mut self, value: u16, bits: u16) {
        let mut tag = self.packet.top_tag(&mut self.mask);
        tag.tci = tag.tci & !bits | value | VLAN_PRESENT;
        self.packet.set_top_tag(tag, &mut self.mask);
    }

    fn dec_ttl(&mut self, origin: Origin) -> Next<'a> {
        if !self.is_ip() {
            return Next::Go;
        }
        let ttl = self.get(Field::NwTtl);
        if ttl > 1 {
            self.packet.write(Field::NwTtl, ttl - 1, 0xff, &mut self.mask);
            return Next::Go;
        }
        self.blame(DropReason::TtlExceeded);
        if self.bridge.config.controller_connected {
            self.packet_in(u16::MAX, 0, reason::INVALID_TTL, origin);
        }
        Next::Stop
    }

    fn resubmit(&mut self, port: Option<OfPort>, table: Option<u8>, origin: Origin) -> Next<'a> {
        let port = port.filter(|p| *p != OfPort::IN_PORT).unwrap_or(self.in_port());
        let table = table.filter(|t| *t != 255).unwrap_or(origin.table);
        let deep = table <= origin.table;
        if deep && self.depth >= MAX_DEPTH {
            self.fatal(DropReason::ResubmitTooDeep);
            return Next::Stop;
        }
        match self.frame_for(table, port, true) {
            Some(frame) => {
                self.depth += u32::from(deep);
                Next::Into(Frame { deep, steps: 2, ..frame })
            }
            None => Next::Go,
        }
    }

    /// Puts an action in the action set, in place of one of its kind (OpenFlow 1.5.1 §5.6).
    pub(super) fn write_set(&mut self, action: &'a Action) {
        if let Some(port) = output_port(action) {
            self.packet.key.pipeline.actset_output = port.0;
        }
        let kind = |a: &Action| std::mem::discriminant(a);
        let keeps = |old: &Action| match (old, action) {
            // Fields are set in the order in which they were written.
            (Action::SetField { .. } | Action::Move { .. }, _) => true,
            _ if output_port(old).is_some() && output_port(action).is_some() => false,
            _ => kind(old) != kind(action),
        };
        self.action_set.retain(|old| keeps(old));
        self.action_set.push(action);
    }

    pub(super) fn clear_set(&mut self) {
        self.action_set.clear();
        self.packet.key.pipeline.actset_output = OfPort::UNSET.0;
    }

    /// Executes the action set in the order that OpenFlow 1.5.1 §5.6.1 gives.
    pub(super) fn execute_set(&mut self, set: &[&'a Action]) {
        let rank = |action: &Action| match action {
            Action::PopVlan => 0,
            Action::PushVlan(_) => 1,
            Action::DecTtl(_) => 2,
            a if output_port(a).is_some() => 5,
            Action::Resubmit { .. } => 4,
            _ => 3,
        };
        let mut set: Vec<&'a Action> = set.to_vec();
        set.sort_by_key(|a| rank(a));
        let origin = Origin { table: 0, cookie: u64::MAX, reason: reason::ACTION_SET };
        self.record(crate::trace::StepKind::Note, || "action set".to_owned());
        for action in set {
            let actions = std::slice::from_ref(action);
            let mut frames =
                vec![Frame { actions, next: 0, origin, end: End::Return, deep: false, steps: 0 }];
            let before = self.blame;
            self.run_frames(&mut frames);
            if self.fatal.is_some() || self.blame == Some(DropReason::TtlExceeded) && self.blame != before {
                break;
            }
        }
        self.leave();
    }
}

/// The port that an action of the action set outputs to.
fn output_port(action: &Action) -> Option<OfPort> {
    match action {
        Action::Output { port, .. } | Action::OutputTrunc { port, .. } => Some(*port),
        Action::OutputReg { .. } => Some(OfPort::UNSET),
        Action::Controller(_) => Some(OfPort::CONTROLLER),
        _ => None,
    }
}

fn low_bits(n: u16) -> u128 {
    if n >= 128 { u128::MAX } else { (1 << n) - 1 }
}
