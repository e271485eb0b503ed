//! A plain interpreter of rules, and a plain datapath: whole packets, nothing put off, nothing cached.
#![allow(unreachable_pub)]

use weft_flow::{
    Action, DpAction, Field, FlowKey, FlowMask, OfPort, PacketKey, Prereq, SetField, Subfield, VLAN_PRESENT,
    Vlan,
};
use weft_pipeline::{Rule, RuleFilter, Snapshot};

/// A packet with all its tags, outermost first; the key's own tag fields are the outer two of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Packet {
    key: FlowKey,
    tags: Vec<Vlan>,
}

/// A packet that left: port, headers, tags, cut.
pub type Sent = (u32, PacketKey, Vec<Vlan>, Option<u32>);

impl Packet {
    fn new(key: &FlowKey) -> Packet {
        let tags = key.packet.vlan.iter().copied().filter(|t| t.is_present()).collect();
        Packet { key: *key, tags }
    }
    fn show(&mut self) {
        for slot in 0..2 {
            self.key.packet.vlan[slot] = self.tags.get(slot).copied().unwrap_or_default();
        }
    }
    fn push(&mut self, tag: Vlan) {
        self.tags.insert(0, tag);
        self.show();
    }
    fn pop(&mut self) {
        if !self.tags.is_empty() {
            self.tags.remove(0);
            self.show();
        }
    }
    fn sent(&self, port: u32, cut: Option<u32>) -> Sent {
        let mut headers = self.key.packet;
        headers.vlan = Default::default();
        (port, headers, self.tags.clone(), cut)
    }
}

/// What a datapath sends.
pub fn execute(key: &FlowKey, actions: &[DpAction]) -> Vec<Sent> {
    let mut sent = Vec::new();
    run(&mut Packet::new(key), actions, &mut sent);
    sent
}

fn run(packet: &mut Packet, actions: &[DpAction], sent: &mut Vec<Sent>) {
    let mut cut = None;
    for action in actions {
        let p = &mut packet.key.packet;
        match action {
            DpAction::Output(port) => sent.push(packet.sent(port.0, cut.take())),
            DpAction::Trunc(n) => cut = Some(*n),
            DpAction::PushVlan { tpid, tci } => packet.push(Vlan { tpid: *tpid, tci: tci | VLAN_PRESENT }),
            DpAction::PopVlan => {
                assert!(!packet.tags.is_empty(), "nothing to pop");
                packet.pop();
            }
            DpAction::Clone(inner) => run(&mut packet.clone(), inner, sent),
            DpAction::Set(set) => match set {
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
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

/// What rules send; `None` when they do not end or push more tags than the pipeline takes.
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
        packet,
        set: Vec::new(),
        stack: Vec::new(),
        sent: Vec::new(),
        steps: 0,
        exit: false,
    };
    model.table(0, None, true)?;
    model.exit = false;
    let set = std::mem::take(&mut model.set);
    let rank = |a: &Action| match a {
        Action::SetField { .. } => 0,
        _ => 1,
    };
    for r in 0..2 {
        for action in set.iter().filter(|a| rank(a) == r) {
            model.list(std::slice::from_ref(action), 0)?;
        }
    }
    Some(model.sent)
}

struct Model {
    rules: Vec<Rule>,
    ports: Vec<u32>,
    packet: Packet,
    set: Vec<Action>,
    stack: Vec<u128>,
    sent: Vec<Sent>,
    steps: u32,
    exit: bool,
}

impl Model {
    fn table(&mut self, table: u8, port: Option<u32>, clears: bool) -> Option<()> {
        self.steps += 1;
        if self.steps > 300 {
            return None;
        }
        let mut key = self.packet.key;
        key.pipeline.in_port = port.unwrap_or(key.pipeline.in_port);
        let fits = |r: &&Rule| r.table == table && r.matching.expand().covers(&key);
        let best = self.rules.iter().filter(fits).map(|r| r.priority).max();
        let Some(best) = best else {
            if clears {
                self.set.clear();
            }
            return Some(());
        };
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
            Some(to) => self.table(to, None, true),
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
                    self.table(to.unwrap_or(table), port.map(|p| p.0), false)?;
                }
                Action::Clone(actions) => {
                    let saved = (self.packet.clone(), self.set.clone(), self.stack.clone());
                    self.list(actions, table)?;
                    (self.packet, self.set, self.stack) = saved;
                    self.exit = false;
                }
                Action::Exit => self.exit = true,
                Action::Note(_) | Action::Controller(_) => {}
                other => panic!("the model has no {other:?}"),
            }
        }
        Some(true)
    }

    fn output(&mut self, port: OfPort, cut: Option<u32>) {
        let in_port = self.packet.key.pipeline.in_port;
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
            Prereq::None | Prereq::Ethernet => true,
            Prereq::Vlan => !self.packet.tags.is_empty(),
            Prereq::Ipv4 => p.eth_type == 0x800,
            Prereq::Ipv6 => p.eth_type == 0x86dd,
            Prereq::Ip => ip,
            Prereq::Arp => p.eth_type == 0x806,
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
