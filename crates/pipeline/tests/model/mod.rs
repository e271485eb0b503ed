//! A plain interpreter of rules, and a plain datapath: whole packets, nothing put off, nothing cached.
#![allow(unreachable_pub)]

mod packet;

use weft_flow::{
    Action, Ct, CtKey, CtZone, DpAction, Encap, Field, FlowKey, FlowMask, OfPort, Prereq, SetField, Subfield,
    VLAN_PRESENT, Vlan,
};
use weft_pipeline::group::{GroupKind, GroupSet};
use weft_pipeline::{Rule, RuleFilter, Snapshot};
use weft_wire::Mac;
use weft_wire::nsh::Metadata;

pub use packet::Sent;
use packet::{BOTTOM, Packet};

/// What a datapath sends, in no particular order. `walk` gives the actions on a packet that is looked up again.
pub fn execute(key: &FlowKey, actions: &[DpAction], walk: &dyn Fn(&FlowKey) -> Vec<DpAction>) -> Vec<Sent> {
    let mut datapath =
        Datapath { sent: Vec::new(), waiting: vec![(Packet::new(key), actions.to_vec())], walk };
    while let Some((mut packet, actions)) = datapath.waiting.pop() {
        datapath.run(&mut packet, &actions);
    }
    sorted(datapath.sent)
}

fn sorted(mut sent: Vec<Sent>) -> Vec<Sent> {
    sent.sort_by_key(|s| format!("{s:?}"));
    sent
}

struct Datapath<'a> {
    sent: Vec<Sent>,
    waiting: Vec<(Packet, Vec<DpAction>)>,
    walk: &'a dyn Fn(&FlowKey) -> Vec<DpAction>,
}

impl Datapath<'_> {
    fn run(&mut self, packet: &mut Packet, actions: &[DpAction]) {
        let mut cut = None;
        for action in actions {
            let p = &mut packet.key.packet;
            match action {
                DpAction::Output(port) => self.sent.push(packet.sent(port.0, cut.take())),
                DpAction::Trunc(n) => cut = Some(*n),
                DpAction::PushVlan { tpid, tci } => {
                    packet.push(Vlan { tpid: *tpid, tci: tci | VLAN_PRESENT })
                }
                DpAction::PopVlan => {
                    assert!(!packet.tags.is_empty(), "nothing to pop");
                    packet.pop();
                }
                DpAction::PushMpls { lse, .. } => packet.push_label(*lse),
                DpAction::PopMpls(eth_type) => packet.pop_label(*eth_type),
                DpAction::PushEth { src, dst } => packet.push_eth(*src, *dst),
                DpAction::PopEth => packet.pop_eth(),
                DpAction::PushNsh(h) => {
                    let Metadata::Fixed(context) = h.metadata else { panic!("TLVs are not modelled") };
                    packet.push_nsh(h.next, h.ttl, h.path, h.flags, context);
                }
                DpAction::PopNsh => packet.pop_front(packet.key.packet.nd_reserved as u8),
                DpAction::Clone(inner) => self.run(&mut packet.clone(), inner),
                DpAction::CheckPktLen { len, greater, not_greater } => {
                    let list = if packet.len() > usize::from(*len) { greater } else { not_greater };
                    self.run(packet, list);
                }
                DpAction::Ct(spec) => packet.track(spec.zone, spec.mark),
                DpAction::CtClear => packet.key.ct = CtKey::default(),
                DpAction::Recirc(recirc) => {
                    let mut copy = packet.clone();
                    copy.key.packet.recirc_id = recirc.id;
                    let actions = (self.walk)(&copy.key);
                    self.waiting.push((copy, actions));
                }
                DpAction::Meter(_) | DpAction::Controller(_) | DpAction::Sample { .. } => {}
                DpAction::Set(set) => match set {
                    SetField::Mark(v) => packet.told.0 = *v,
                    SetField::Priority(v) => packet.told.1 = *v,
                    SetField::Mpls(v) => p.mpls[0] = *v,
                    SetField::VlanTci(tci) => {
                        packet.tags[0].tci = tci | VLAN_PRESENT;
                        packet.show();
                    }
                    SetField::EthSrc(v) => p.eth_src = *v,
                    SetField::EthDst(v) => p.eth_dst = *v,
                    SetField::Ipv4Src(v) => p.ipv4_src = *v,
                    SetField::Ipv4Dst(v) => p.ipv4_dst = *v,
                    SetField::Ipv6Src(v) => p.ipv6_src = *v,
                    SetField::Ipv6Dst(v) => p.ipv6_dst = *v,
                    SetField::IpTos(v) => p.ip_tos = *v,
                    SetField::IpTtl(v) => p.ip_ttl = *v,
                    SetField::TpSrc(v) => p.tp_src = *v,
                    SetField::TpDst(v) => p.tp_dst = *v,
                    SetField::ArpOp(v) => p.ip_proto = *v as u8,
                    SetField::ArpSha(v) => p.arp_sha = *v,
                    SetField::NshBase { value, mask } => p.nd_reserved = p.nd_reserved & !mask | value,
                    SetField::NshPath { value, mask } => p.ipv4_src = p.ipv4_src & !mask | value,
                    SetField::NshContext { index, value, mask } => {
                        let at = usize::from(*index) * 4;
                        let old = u32::from_be_bytes(p.nd_target[at..at + 4].try_into().unwrap());
                        p.nd_target[at..at + 4].copy_from_slice(&(old & !mask | value).to_be_bytes());
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What rules send, in no particular order; `None` when they do not end or push more tags than the pipeline takes.
pub fn interpret(snapshot: &Snapshot, key: &FlowKey) -> Option<Vec<Sent>> {
    let bridge = snapshot.bridges().next().unwrap();
    let rules = bridge.tables.rules(&RuleFilter::default()).iter().map(|r| Rule::clone(r)).collect();
    let ports = bridge.config.ports.iter().map(|p| p.ofport.0).collect();
    let mut packet = Packet::new(key);
    packet.key.pipeline.in_port = key.packet.in_port - 100;
    packet.key.pipeline.actset_output = OfPort::UNSET.0;
    let mut model = Model {
        rules,
        ports,
        groups: bridge.groups.clone(),
        packet,
        set: Vec::new(),
        stack: Vec::new(),
        sent: Vec::new(),
        forked: Vec::new(),
        steps: 0,
        exit: false,
    };
    model.pass(0)?;
    while let Some(fork) = model.forked.pop() {
        (model.packet, model.set, model.stack, model.exit) = (fork.packet, fork.set, fork.stack, false);
        model.pass(fork.table)?;
    }
    Some(sorted(model.sent))
}

/// A packet that goes on at a table once it was tracked.
struct Fork {
    table: u8,
    packet: Packet,
    set: Vec<Action>,
    stack: Vec<u128>,
}

struct Model {
    rules: Vec<Rule>,
    ports: Vec<u32>,
    packet: Packet,
    groups: GroupSet,
    set: Vec<Action>,
    stack: Vec<u128>,
    sent: Vec<Sent>,
    forked: Vec<Fork>,
    steps: u32,
    exit: bool,
}

impl Model {
    /// From a table on, the action set included.
    fn pass(&mut self, table: u8) -> Option<()> {
        self.table(table, None)?;
        self.execute_set()
    }

    fn execute_set(&mut self) -> Option<()> {
        self.exit = false;
        let set = std::mem::take(&mut self.set);
        let rank = |a: &Action| match a {
            Action::SetField { .. } => 0,
            _ => 1,
        };
        for r in 0..2 {
            for action in set.iter().filter(|a| rank(a) == r) {
                self.list(std::slice::from_ref(action), 0)?;
            }
        }
        Some(())
    }

    fn table(&mut self, table: u8, port: Option<u32>) -> Option<()> {
        self.steps += 1;
        if self.steps > 100 {
            return None;
        }
        let mut key = self.packet.key;
        key.pipeline.in_port = port.unwrap_or(key.pipeline.in_port);
        // Rules that match an Ethernet header and no type are for frames.
        let of_type = |r: &Rule| {
            let m = r.matching.expand();
            let ethernet = [Field::EthType, Field::EthSrc, Field::EthDst, Field::VlanTci];
            key.pipeline.packet_type == 0
                || m.get(Field::PacketType).is_some()
                || ethernet.iter().all(|f| m.get(*f).is_none())
        };
        let fits = |r: &&Rule| r.table == table && r.matching.expand().covers(&key) && of_type(r);
        let best = self.rules.iter().filter(fits).map(|r| r.priority).max();
        let Some(best) = best else { return Some(()) };
        let mut candidates = self.rules.iter().filter(fits).filter(|r| r.priority == best);
        let rule = candidates.next()?.clone();
        // Which of several rules of one priority matches is not defined.
        if candidates.next().is_some() {
            return None;
        }
        let whole = self.list(&rule.instructions.apply, table)?;
        if !whole || self.exit {
            return Some(());
        }
        if rule.instructions.clear {
            self.set.clear();
            self.packet.key.pipeline.actset_output = OfPort::UNSET.0;
        }
        for action in &rule.instructions.write {
            if let Action::Output { port, .. } = action {
                self.set.retain(|a| !matches!(a, Action::Output { .. }));
                self.packet.key.pipeline.actset_output = port.0;
            }
            self.set.push(action.clone());
        }
        if let Some((value, mask)) = rule.instructions.metadata {
            let metadata = &mut self.packet.key.pipeline.metadata;
            *metadata = *metadata & !mask | value & mask;
        }
        match rule.instructions.goto {
            Some(to) => self.table(to, None),
            None => Some(()),
        }
    }

    /// False: the rest of the rule is skipped.
    fn list(&mut self, actions: &[Action], table: u8) -> Option<bool> {
        for action in actions {
            if self.exit {
                return Some(true);
            }
            match action {
                // Such packets are dropped as a whole, which the model does not do.
                Action::PushVlan(_)
                | Action::SetVlanVid(_)
                | Action::SetVlanPcp(_)
                | Action::PushMpls(_)
                | Action::PopMpls(_)
                    if self.packet.is_bare() =>
                {
                    return None;
                }
                Action::Output { port, .. } => self.output(*port, None),
                Action::OutputTrunc { port, max_len } => self.output(*port, Some(*max_len)),
                Action::OutputReg { src, .. } => self.output(OfPort(self.read(*src) as u32), None),
                Action::SetField { field, value, mask, .. } => self.set_field(*field, *value, *mask)?,
                Action::Move { src, dst } => {
                    let (value, present) = (self.read(*src), self.has(src.field));
                    if present {
                        self.write(*dst, value)?;
                    }
                }
                Action::StackPush(src) => self.stack.push(self.read(*src)),
                Action::StackPop(dst) => {
                    if let Some(value) = self.stack.pop() {
                        self.write(*dst, value)?;
                    }
                }
                Action::PushVlan(tpid) => {
                    self.packet.push(Vlan { tpid: tpid.0, tci: VLAN_PRESENT });
                    self.check_tags()?;
                }
                Action::PopVlan => self.packet.pop(),
                Action::SetVlanVid(vid) => self.tci(*vid, 0xfff)?,
                Action::SetVlanPcp(pcp) => self.tci(u16::from(*pcp) << 13, 0xe000)?,
                Action::DecTtl(_) => {
                    if self.has(Field::NwTtl) {
                        let ttl = self.packet.key.packet.ip_ttl;
                        if ttl <= 1 {
                            return Some(false);
                        }
                        self.packet.key.packet.ip_ttl = ttl - 1;
                    }
                }
                Action::Resubmit { port, table: to, .. } => {
                    self.table(to.unwrap_or(table), port.map(|p| p.0))?;
                }
                Action::Clone(actions) => {
                    let saved = (self.packet.clone(), self.set.clone(), self.stack.clone());
                    self.list(actions, table)?;
                    let exit = self.exit;
                    self.execute_set()?;
                    (self.packet, self.set, self.stack) = saved;
                    self.exit = exit;
                }
                Action::Exit => self.exit = true,
                Action::Group(id) => self.group(*id, table)?,
                Action::CheckPktLarger { len, dst } => {
                    let longer = self.packet.len() > usize::from(*len);
                    self.write(*dst, longer.into())?;
                }
                Action::Ct(ct) => self.ct(ct)?,
                Action::CtClear => self.packet.key.ct = CtKey::default(),
                Action::SetQueue(queue) => self.packet.key.pipeline.skb_priority = *queue,
                Action::PopQueue => self.packet.key.pipeline.skb_priority = 0,
                Action::Enqueue { port, queue } => {
                    let before = self.packet.key.pipeline.skb_priority;
                    self.packet.key.pipeline.skb_priority = *queue;
                    self.output(*port, None);
                    self.packet.key.pipeline.skb_priority = before;
                }
                Action::PushMpls(_) => self.push_mpls()?,
                Action::PopMpls(eth_type) => {
                    if self.packet.labels() == 3 && self.packet.key.packet.mpls[2] & BOTTOM == 0 {
                        return None;
                    }
                    if self.packet.labels() > 0 {
                        self.packet.pop_label(eth_type.0);
                    }
                }
                Action::DecMplsTtl => {
                    if self.packet.labels() > 0 {
                        if self.packet.key.packet.mpls[0] & 0xff <= 1 {
                            return Some(false);
                        }
                        self.packet.key.packet.mpls[0] -= 1;
                    }
                }
                Action::Encap(Encap::Ethernet) => {
                    if !self.packet.is_bare() {
                        return None;
                    }
                    self.packet.push_eth(Mac::ZERO, Mac::ZERO);
                }
                Action::Encap(Encap::Nsh { .. }) => {
                    let np = match self.packet.key.pipeline.packet_type {
                        0 => 3,
                        0x1_0800 => 1,
                        0x1_86dd => 2,
                        0x1_894f => 4,
                        _ => return None,
                    };
                    self.packet.push_nsh(np, 63, 255, 0, [0; 16]);
                }
                Action::Decap(_) => match self.packet.key.pipeline.packet_type {
                    // Such packets are dropped as a whole, which the model does not do.
                    0 if !self.packet.tags.is_empty() => return None,
                    0 => self.packet.pop_eth(),
                    0x1_894f => match self.packet.key.packet.nd_reserved as u8 {
                        np @ 1..=4 => self.packet.pop_front(np),
                        _ => return None,
                    },
                    _ => return None,
                },
                Action::DecNshTtl => {
                    if self.has(Field::NshTtl) {
                        let ttl = self.packet.key.packet.nd_reserved >> 16 & 0xff;
                        if ttl <= 1 {
                            return Some(false);
                        }
                        self.packet.key.packet.nd_reserved -= 1 << 16;
                    }
                }
                Action::Meter(_) | Action::Note(_) | Action::Controller(_) => {}
                other => panic!("the model has no {other:?}"),
            }
        }
        Some(true)
    }

    fn group(&mut self, id: u32, table: u8) -> Option<()> {
        let Some(group) = self.groups.get(id).cloned() else { return Some(()) };
        let buckets: Vec<_> = match group.kind {
            GroupKind::FastFailover => {
                let live = group.buckets.iter().find(|b| self.ports.contains(&b.watch_port.0));
                live.into_iter().collect()
            }
            _ => group.buckets.iter().collect(),
        };
        for bucket in buckets {
            let saved = (self.packet.clone(), std::mem::take(&mut self.set), self.stack.clone());
            self.list(&bucket.actions, table)?;
            (self.packet, self.set, self.stack) = saved;
            self.exit = false;
        }
        Some(())
    }

    fn ct(&mut self, ct: &Ct) -> Option<()> {
        let zone = match ct.zone {
            CtZone::Number(zone) => zone,
            CtZone::Field(sub) => self.read(sub) as u16,
        };
        if let Some(table) = ct.table {
            let mark = ct.exec.iter().find_map(|a| match a {
                Action::SetField { value, mask, .. } => Some((*value as u32, *mask as u32)),
                _ => None,
            });
            let mut packet = self.packet.clone();
            let pipeline = packet.key.pipeline;
            packet.track(zone, mark);
            packet.told = (pipeline.pkt_mark, pipeline.skb_priority);
            let (set, stack) = (self.set.clone(), self.stack.clone());
            self.forked.push(Fork { table, packet, set, stack });
        }
        self.packet.key.ct = CtKey::default();
        Some(())
    }

    /// More labels than a pipeline keeps are no case to compare.
    fn push_mpls(&mut self) -> Option<()> {
        let p = &self.packet.key.packet;
        let lse = match (self.packet.labels(), p.eth_type) {
            (3.., _) => return None,
            (1.., _) => p.mpls[0] & !BOTTOM,
            (0, eth_type @ (0x800 | 0x86dd)) => {
                let label = if eth_type == 0x86dd { 2 } else { 0 };
                let ttl = if p.ip_ttl == 0 { 64 } else { p.ip_ttl };
                label << 12 | u32::from(p.ip_tos >> 2 & 7) << 9 | BOTTOM | u32::from(ttl)
            }
            _ => BOTTOM | 64,
        };
        self.packet.push_label(lse);
        Some(())
    }

    fn output(&mut self, port: OfPort, cut: Option<u32>) {
        let in_port = self.packet.key.pipeline.in_port;
        let pipeline = &self.packet.key.pipeline;
        self.packet.told = (pipeline.pkt_mark, pipeline.skb_priority);
        if self.packet.is_bare() {
            // The ports take frames only.
            return;
        }
        let to: Vec<u32> = match port {
            OfPort::IN_PORT => vec![in_port],
            OfPort::ALL | OfPort::FLOOD => self.ports.iter().copied().filter(|p| *p != in_port).collect(),
            OfPort(n) if n != in_port && self.ports.contains(&n) => vec![n],
            _ => vec![],
        };
        for port in to {
            self.sent.push(self.packet.sent(100 + port, cut));
        }
    }

    fn has(&self, field: Field) -> bool {
        let p = &self.packet.key.packet;
        let ip = matches!(p.eth_type, 0x800 | 0x86dd);
        match field.prereq() {
            Prereq::None => true,
            Prereq::Ethernet => !self.packet.is_bare(),
            Prereq::Nsh => p.eth_type == 0x894f,
            Prereq::Vlan => !self.packet.tags.is_empty(),
            Prereq::Ipv4 => p.eth_type == 0x800,
            Prereq::Ipv6 => p.eth_type == 0x86dd,
            Prereq::Ip => ip,
            Prereq::Arp => p.eth_type == 0x806,
            Prereq::Mpls => p.eth_type == 0x8847,
            Prereq::Icmp4 => p.eth_type == 0x800 && p.ip_proto == 1,
            Prereq::Tcp => ip && p.ip_proto == 6,
            Prereq::Udp => ip && p.ip_proto == 17,
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, sub: Subfield) -> u128 {
        sub.field.get(&self.packet.key) >> sub.start & ((1 << sub.bits) - 1)
    }

    fn write(&mut self, sub: Subfield, value: u128) -> Option<()> {
        let mask = ((1u128 << sub.bits) - 1) << sub.start;
        self.set_field(sub.field, value << sub.start & mask, mask)
    }

    fn set_field(&mut self, field: Field, value: u128, mask: u128) -> Option<()> {
        if !self.has(field) {
            return Some(());
        }
        let mut touched = FlowMask::empty();
        field.mask_add(&mut touched, mask);
        let old = field.get(&self.packet.key);
        let mut key = self.packet.key;
        field.set(&mut key, old & !mask | value & mask);
        let tag = key.packet.vlan[0];
        if touched.0.packet.vlan[0] != Vlan::default() {
            self.retag(tag)
        } else {
            self.packet.key = key;
            Some(())
        }
    }

    fn tci(&mut self, value: u16, mask: u16) -> Option<()> {
        let old = self.packet.key.packet.vlan[0];
        self.retag(Vlan { tci: old.tci & !mask | value | VLAN_PRESENT, ..old })
    }

    fn retag(&mut self, mut tag: Vlan) -> Option<()> {
        if tag.tpid == 0 {
            tag.tpid = 0x8100;
        }
        match (self.packet.tags.is_empty(), tag.is_present()) {
            (true, true) => self.packet.push(tag),
            (false, false) => self.packet.pop(),
            (false, true) => {
                self.packet.tags[0] = tag;
                self.packet.show();
            }
            (true, false) => {}
        }
        self.check_tags()
    }

    /// More tags than a pipeline keeps are no case to compare.
    fn check_tags(&self) -> Option<()> {
        (self.packet.tags.len() <= 4).then_some(())
    }
}
