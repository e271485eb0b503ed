//! What does each OpenFlow action do to the packet?

use weft_flow::{Action, DropReason, Field, OfPort, VLAN_PRESENT, Vlan};
use weft_wire::{EtherType, IpProto};

use super::{End, Frame, List, MAX_DEPTH, MAX_STACK, Next, Origin, Walk, Why, reason};

impl<'a> Walk<'a> {
    pub(super) fn action(&mut self, action: &'a Action, origin: Origin) -> Next<'a> {
        if self.packet.beneath_unknown && super::mpls::needs_beneath(action) {
            return Next::Again(Why::Mpls);
        }
        match action {
            Action::Output { port, max_len } => self.output(*port, *max_len, origin),
            Action::OutputReg { src, max_len } => {
                let port = OfPort(self.read(*src) as u32);
                let port = if src.bits == 16 { OfPort::from_u16(port.0 as u16) } else { port };
                self.note(|| format!("output port is {port}"));
                self.output(port, *max_len, origin);
            }
            Action::OutputTrunc { port, max_len } => {
                let before = self.trunc;
                self.trunc = Some(before.map_or(*max_len, |b| b.min(*max_len)));
                self.output(*port, u16::MAX, origin);
                self.trunc = before;
            }
            Action::Enqueue { port, queue } => {
                let before = self.packet.key.pipeline.skb_priority;
                self.packet.key.pipeline.skb_priority = *queue;
                self.output(*port, u16::MAX, origin);
                self.packet.key.pipeline.skb_priority = before;
            }
            Action::Controller(to) if to.pause => return Next::Pause(to),
            Action::Controller(to) => self.tell_controllers(to, origin, None),
            Action::Resubmit { port, table, ct } => return self.resubmit(*port, *table, *ct, origin),
            Action::Clone(actions) => {
                let end = End::Clone(self.save());
                return Next::Into(Frame { end, ..Frame::of(List::Slice(actions), origin) });
            }
            Action::Exit => self.exit = true,
            Action::Group(id) => return self.group(*id, origin),
            Action::CheckPktLarger { len, dst } => return Next::Fork(*len, *dst),
            Action::DecTtl(ids) => return self.dec_ttl(ids, origin),
            Action::DecMplsTtl => {
                if !self.dec_mpls_ttl() {
                    return self.expired(&[], origin);
                }
            }
            Action::DecNshTtl => return self.dec_nsh_ttl(origin),
            Action::Decap(wanted) => return self.decap(*wanted),
            Action::Meter(id) => self.meter(*id),
            Action::Multipath(m) => self.multipath(m),
            Action::Bundle(b) => self.bundle(b, origin),
            Action::Learn(learn) => self.learn_rule(learn),
            Action::FinTimeout { idle, hard } => self.fin_timeout(*idle, *hard, origin),
            Action::Ct(ct) => self.track(ct),
            Action::CtClear => self.clear_tracking(),
            Action::Sample(sample) => self.sample_by_rule(sample),
            other => self.change(other),
        }
        Next::Go
    }

    /// Actions that change the packet or the walk's own state, and nothing else.
    fn change(&mut self, action: &'a Action) {
        match action {
            Action::SetField { field, value, mask, .. } => self.set_field(*field, *value, *mask),
            Action::SetOption(option) => self.set_option(option.field, &option.value, &option.mask),
            Action::DeleteField(field) => self.delete_option(*field),
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
            Action::SetTpPort { dst, port } => self.set_tp_port(*dst, *port),
            Action::PushMpls(ethertype) => self.push_mpls(*ethertype),
            Action::Encap(encap) => self.encap(encap),
            Action::PopMpls(ethertype) => self.pop_mpls(*ethertype),
            Action::CopyTtlOut => self.copy_ttl(true),
            Action::CopyTtlIn => self.copy_ttl(false),
            Action::SetQueue(queue) => self.packet.key.pipeline.skb_priority = *queue,
            Action::PopQueue => self.packet.key.pipeline.skb_priority = 0,
            // Conjunctions are looked up by the tables; notes are for people.
            Action::Conjunction { .. } | Action::Note(_) => {}
            _ => self.blame(DropReason::BadAction),
        }
    }

    /// Sets a port of a packet that has ports.
    fn set_tp_port(&mut self, dst: bool, port: u16) {
        for (proto, fields) in [
            (IpProto::TCP, [Field::TcpSrc, Field::TcpDst]),
            (IpProto::UDP, [Field::UdpSrc, Field::UdpDst]),
            (IpProto::SCTP, [Field::SctpSrc, Field::SctpDst]),
        ] {
            if self.has_l4(proto) {
                return self.set_field(fields[usize::from(dst)], port.into(), 0xffff);
            }
        }
    }

    fn push_vlan(&mut self, tpid: EtherType) {
        if self.packet.is_bare() {
            return self.wrong_type(|| "a tag needs a frame".to_owned());
        }
        if !self.packet.push_tag(Vlan { tpid: tpid.0, tci: VLAN_PRESENT }) {
            self.fatal(DropReason::BadAction);
        }
    }

    /// Sets bits of the outermost tag, pushing one if there is none.
    fn set_tci(&mut self, value: u16, bits: u16) {
        if self.packet.is_bare() {
            return self.wrong_type(|| "a tag needs a frame".to_owned());
        }
        let mut tag = self.packet.top_tag(&mut self.mask);
        tag.tci = tag.tci & !bits | value | VLAN_PRESENT;
        self.packet.set_top_tag(tag, &mut self.mask);
    }

    fn dec_ttl(&mut self, ids: &[u16], origin: Origin) -> Next<'a> {
        if !self.is_ip() {
            return Next::Go;
        }
        let ttl = self.get(Field::NwTtl);
        if ttl > 1 {
            self.packet.write(Field::NwTtl, ttl - 1, 0xff, &mut self.mask);
            return Next::Go;
        }
        self.expired(ids, origin)
    }

    /// The TTL ran out: controllers are told, by identifier, and the rest of the list is skipped.
    pub(super) fn expired(&mut self, ids: &[u16], origin: Origin) -> Next<'a> {
        self.blame(DropReason::TtlExceeded);
        for id in if ids.is_empty() { &[0] } else { ids } {
            self.packet_in(u16::MAX, *id, reason::INVALID_TTL, origin);
        }
        Next::Stop
    }

    fn resubmit(&mut self, port: Option<OfPort>, table: Option<u8>, ct: bool, origin: Origin) -> Next<'a> {
        let port = port.filter(|p| *p != OfPort::IN_PORT).unwrap_or(self.in_port());
        let table = table.filter(|t| *t != 255).unwrap_or(origin.table);
        let deep = table <= origin.table;
        if deep && self.depth >= MAX_DEPTH {
            self.fatal(DropReason::ResubmitTooDeep);
            return Next::Stop;
        }
        match self.frame_by(table, port, true, ct) {
            Some(frame) => {
                self.depth += u32::from(deep);
                Next::Into(Frame { deep, ..frame })
            }
            None => Next::Go,
        }
    }
}
