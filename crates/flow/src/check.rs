//! Do the actions of a rule fit what it matches, each other, and where they stand?
//!
//! As Open vSwitch checks them (`ovs-actions(7)`): the match is followed through the actions, which push and pop headers.
//! What a packet may lack is an error from OpenFlow 1.1 on; in OpenFlow 1.0 such an action does nothing.

use std::borrow::Cow;

use crate::{
    Action, ActionError, CT_INV, Ct, CtZone, Encap, Field, Instructions, Learn, LearnDst, LearnSrc, Match,
    OfPort, Prereq, Subfield, TlvTable, VLAN_PRESENT,
};

const TCP: u128 = 6;
const UDP: u128 = 17;
/// Largest number of a meter (`OFPM_MAX`).
const MAX_METER: u32 = 0xffff_0000;
/// First number that is no port (`OFPP_MAX` of OpenFlow 1.0, which Open vSwitch keeps to in every version).
const PORTS_END: u32 = 0xff00;

/// Where a rule stands, as far as its actions depend on it.
#[derive(Clone, Copy, Debug)]
pub struct CheckContext<'a> {
    /// What the rule matches.
    pub matching: &'a Match,
    /// Its table; `None`: any, and `goto_table` may go everywhere.
    pub table: Option<u8>,
    /// Number of tables there are; 255: any number.
    pub tables: u8,
    /// OpenFlow 1.0's way: an action may change what the packet lacks.
    pub lenient: bool,
    /// Fields are set by actions of their own, as before OpenFlow 1.2.
    pub own_actions: bool,
}

impl<'a> CheckContext<'a> {
    /// A rule in some table, checked as from OpenFlow 1.1 on.
    pub fn new(matching: &'a Match) -> Self {
        CheckContext { matching, table: None, tables: u8::MAX, lenient: false, own_actions: false }
    }
}

impl Instructions {
    /// [`Instructions::check_in`] for a rule in any table.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, m: &Match) -> Result<(), ActionError> {
        self.check_in(&CheckContext::new(m))
    }

    /// Whether every action and instruction may stand where it does, and every field that is read or set has its
    /// prerequisites on the packets that match, headers pushed and popped by earlier actions taken into account.
    ///
    /// # Errors
    /// What is wrong with the first action that does not fit; prerequisites that OpenFlow 1.0 does not ask for count
    /// last.
    pub fn check_in(&self, context: &CheckContext<'_>) -> Result<(), ActionError> {
        let conjunction = |a: &Action| matches!(a, Action::Conjunction { .. });
        let beside = |a: &Action| conjunction(a) || matches!(a, Action::Note(_));
        let alone = !self.clear
            && self.write.is_empty()
            && self.metadata.is_none()
            && self.goto.is_none()
            && self.meter.is_none();
        if self.apply.iter().any(conjunction) && !(alone && self.apply.iter().all(beside)) {
            return Err(ActionError::BadConjunction);
        }
        if let Some(meter) = self.meter {
            meter_exists(meter)?;
        }
        if !self.write.iter().all(Action::in_action_set) {
            return Err(ActionError::NotInActionSet);
        }
        let mut checker = Checker::new(context.matching);
        checker.list(&self.apply)?;
        let lacking = checker.lacking;
        checker.lacking_field = None;
        // The action set runs after the last table. What packets lack there is not known, but a field that is set has to
        // be there in any case, where setting it is not an action of its own.
        checker.list(&self.write)?;
        if let (Some(error), false) = (checker.lacking_field, context.own_actions) {
            return Err(error);
        }
        if let Some(table) = self.goto {
            let back = context.table.is_some_and(|from| table <= from);
            if back || context.tables != u8::MAX && table >= context.tables {
                return Err(ActionError::BadTable(table));
            }
        }
        match lacking {
            Some(error) if !context.lenient => Err(error),
            _ => Ok(()),
        }
    }
}

/// Checks a list of actions that belongs to no rule, such as a packet-out's or a bucket's, for packets that `m` matches.
///
/// # Errors
/// As [`Instructions::check_in`].
pub fn check_actions(actions: &[Action], m: &Match, lenient: bool) -> Result<(), ActionError> {
    let mut checker = Checker::new(m);
    checker.list(actions)?;
    checker.lacking.filter(|_| !lenient).map_or(Ok(()), Err)
}

impl Action {
    /// Whether action sets, and so write-actions, may have it (OpenFlow 1.3.5 §5.10 and Open vSwitch's additions).
    pub fn in_action_set(&self) -> bool {
        match self {
            Action::Output { .. }
            | Action::Group(_)
            | Action::Resubmit { .. }
            | Action::Ct(_)
            | Action::CtClear
            | Action::SetField { .. }
            | Action::SetOption(_)
            | Action::Move { .. }
            | Action::PushVlan(_)
            | Action::PopVlan
            | Action::SetVlanVid(_)
            | Action::SetVlanPcp(_)
            | Action::SetTpPort { .. }
            | Action::DecTtl(_)
            | Action::PushMpls(_)
            | Action::PopMpls(_)
            | Action::DecMplsTtl
            | Action::CopyTtlOut
            | Action::CopyTtlIn
            | Action::SetQueue(_)
            | Action::Encap(_)
            | Action::Decap(_)
            | Action::DecNshTtl => true,
            Action::OutputReg { .. }
            | Action::OutputTrunc { .. }
            | Action::Controller(_)
            | Action::DeleteField(_)
            | Action::StackPush(_)
            | Action::StackPop(_)
            | Action::PopQueue
            | Action::Enqueue { .. }
            | Action::Meter(_)
            | Action::Multipath(_)
            | Action::Bundle(_)
            | Action::Learn(_)
            | Action::Conjunction { .. }
            | Action::FinTimeout { .. }
            | Action::Sample(_)
            | Action::CheckPktLarger { .. }
            | Action::Clone(_)
            | Action::Note(_)
            | Action::Exit => false,
        }
    }

    /// The field that the action sets, if it is one that connection tracking has to set.
    fn connection_field(&self) -> Option<Field> {
        let field = match self {
            Action::SetField { field, .. } => *field,
            Action::Move { dst, .. } => dst.field,
            _ => return None,
        };
        Some(field).filter(|f| matches!(f, Field::CtMark | Field::CtLabel))
    }
}

/// Follows a match through actions.
struct Checker<'a> {
    /// What is known of the packet by now.
    state: Cow<'a, Match>,
    /// The first thing that packets may lack, where OpenFlow 1.0 does not mind.
    lacking: Option<ActionError>,
    /// The first field that is set and that packets may lack.
    lacking_field: Option<ActionError>,
}

impl<'a> Checker<'a> {
    fn new(m: &'a Match) -> Self {
        Checker { state: Cow::Borrowed(m), lacking: None, lacking_field: None }
    }

    fn list(&mut self, actions: &[Action]) -> Result<(), ActionError> {
        actions.iter().try_for_each(|action| match action.connection_field() {
            Some(field) => Err(ActionError::OutsideCt(field)),
            None => self.action(action),
        })
    }

    fn action(&mut self, action: &Action) -> Result<(), ActionError> {
        match action {
            Action::Output { port, .. } => check_port(*port),
            Action::OutputTrunc { port, .. } if !port.may_truncate() => Err(ActionError::BadPort(*port)),
            Action::OutputTrunc { port, .. } => check_port(*port),
            Action::Enqueue { port, .. } if port.may_truncate() => check_port(*port),
            Action::Enqueue { port, .. } => Err(ActionError::BadPort(*port)),
            Action::OutputReg { src, .. } | Action::StackPush(src) => readable(src, &self.state),
            Action::StackPop(dst) => writable(dst, &self.state),
            Action::Move { src, dst } => {
                readable(src, &self.state)?;
                writable(dst, &self.state)?;
                if src.bits == dst.bits { Ok(()) } else { Err(ActionError::BadSubfield(dst.field)) }
            }
            Action::SetField { field, value, mask, load } => self.set_field(*field, *value, *mask, *load),
            Action::SetOption(option) => is_option(option.field),
            Action::DeleteField(field) => is_option(*field),
            Action::Multipath(multipath) => {
                writable(&multipath.dst, &self.state)?;
                let links = u32::from(multipath.max_link) + 1;
                let fits = multipath.dst.bits >= 16 || links <= 1 << multipath.dst.bits;
                if fits { Ok(()) } else { Err(ActionError::BadArgument("fewer values than links")) }
            }
            Action::Bundle(bundle) => {
                if let Some(dst) = &bundle.dst {
                    writable(dst, &self.state)?;
                    if dst.bits < 16 {
                        return Err(ActionError::BadArgument("bundle_load needs 16 bits"));
                    }
                }
                bundle.members.iter().filter(|p| **p != OfPort::ANY).try_for_each(|p| check_port(*p))
            }
            Action::CheckPktLarger { dst, .. } if dst.bits != 1 => Err(ActionError::BadSubfield(dst.field)),
            Action::CheckPktLarger { dst, .. } => writable(dst, &self.state),
            Action::Meter(id) => meter_exists(*id),
            Action::Learn(learn) => check_learn(learn, &self.state),
            Action::Ct(ct) => self.ct(ct),
            Action::Sample(sample) if sample.probability == 0 => {
                Err(ActionError::BadArgument("a sample of nothing"))
            }
            Action::Resubmit { ct: true, .. } => self.need(Prereq::Ct, Field::CtNwProto),
            Action::FinTimeout { .. } => {
                let tcp = self.state.exact(Field::NwProto) == Some(TCP) && self.state.meets(Prereq::Ip);
                self.like(tcp, Field::NwProto);
                Ok(())
            }
            Action::Clone(actions) => {
                let mut inner = Checker { state: self.state.clone(), ..*self };
                inner.list(actions)?;
                (self.lacking, self.lacking_field) = (inner.lacking, inner.lacking_field);
                Ok(())
            }
            _ => self.header(action),
        }
    }

    /// Actions that push, pop or count headers.
    fn header(&mut self, action: &Action) -> Result<(), ActionError> {
        match action {
            Action::PushVlan(_) => {
                if self.state.key.packet.vlan[1].is_present() {
                    return Err(ActionError::TooManyTags);
                }
                let state = self.state.to_mut();
                let (key, mask) = (&mut state.key.packet.vlan, &mut state.mask.0.packet.vlan);
                (key[1], mask[1]) = (key[0], mask[0]);
                (key[0].tci, mask[0].tci) = (VLAN_PRESENT, VLAN_PRESENT);
            }
            Action::SetVlanVid(_) | Action::SetVlanPcp(_) => {
                self.need(Prereq::Ethernet, Field::VlanTci)?;
                self.state.to_mut().key.packet.vlan[0].tci |= VLAN_PRESENT;
                self.state.to_mut().mask.0.packet.vlan[0].tci |= VLAN_PRESENT;
            }
            Action::PopVlan => {
                self.like(self.state.meets(Prereq::Vlan), Field::VlanTci);
                self.state.to_mut().key.packet.vlan = [self.state.key.packet.vlan[1], Default::default()];
                self.state.to_mut().mask.0.packet.vlan =
                    [self.state.mask.0.packet.vlan[1], Default::default()];
            }
            Action::SetTpPort { dst, .. } => {
                let ports = [Prereq::Tcp, Prereq::Udp, Prereq::Sctp];
                let has = ports.iter().any(|p| self.state.meets(*p));
                self.like(has, if *dst { Field::TcpDst } else { Field::TcpSrc });
            }
            Action::DecTtl(_) => self.like(self.state.meets(Prereq::Ip), Field::NwTtl),
            Action::PushMpls(ty) if !matches!(ty.0, 0x8847 | 0x8848) => {
                return Err(ActionError::BadArgument("push_mpls takes 0x8847 or 0x8848"));
            }
            Action::PushMpls(ty) => {
                self.like(self.state.meets(Prereq::Ethernet), Field::MplsLabel);
                self.becomes(ty.0);
            }
            Action::PopMpls(ty) => {
                self.like(self.state.meets(Prereq::Mpls), Field::MplsLabel);
                self.becomes(ty.0);
            }
            Action::DecMplsTtl => self.like(self.state.meets(Prereq::Mpls), Field::MplsTtl),
            Action::DecNshTtl => self.like(self.state.meets(Prereq::Nsh), Field::NshTtl),
            Action::Encap(encap) => {
                let packet_type = match encap {
                    Encap::Ethernet => 0,
                    Encap::Nsh { .. } => 0x0001_894f,
                    Encap::Mpls(ty) => 0x0001_0000 | u32::from(ty.0),
                };
                self.packet_type(packet_type);
            }
            Action::Decap(_) => {
                let inner = self.state.exact(Field::EthType).map(|ty| 0x0001_0000 | ty as u32);
                let ethernet = self.state.meets(Prereq::Ethernet);
                // Beneath anything but Ethernet nothing is known.
                self.packet_type(inner.filter(|_| ethernet).unwrap_or(u32::MAX));
            }
            _ => {}
        }
        Ok(())
    }

    fn set_field(&mut self, field: Field, value: u128, mask: u128, load: bool) -> Result<(), ActionError> {
        if value & !mask != 0 || mask & !field.value_mask() != 0 || !field.accepts(value) {
            return Err(ActionError::BadValue(field));
        }
        let present = u128::from(VLAN_PRESENT);
        if field == Field::VlanVid && mask & present != 0 && value & present == 0 {
            return Err(ActionError::VlanNotPresent);
        }
        // vlan_vid needs a tag to be set, although not to be matched.
        let tag = field != Field::VlanVid || self.state.meets(Prereq::Vlan);
        let lacks = if tag { Ok(()) } else { Err(ActionError::Prerequisite(field)) };
        match check_write(field, &self.state).and(lacks) {
            // What OpenFlow 1.0 has actions of their own for.
            Err(error @ ActionError::Prerequisite(_)) if !load => {
                self.lacking = self.lacking.or(Some(error));
                self.lacking_field = self.lacking_field.or(Some(error));
                Ok(())
            }
            other => other,
        }
    }

    fn ct(&mut self, ct: &Ct) -> Result<(), ActionError> {
        self.need(Prereq::Ip, Field::NwProto)?;
        let proto = self.state.exact(Field::NwProto);
        let invalid = self.state.key.ct.state & CT_INV != 0;
        if ct.alg == 21 && proto != Some(TCP) || ct.alg == 69 && proto != Some(UDP) {
            return Err(ActionError::Prerequisite(Field::NwProto));
        }
        if ct.commit && invalid {
            return Err(ActionError::Prerequisite(Field::CtState));
        }
        if ct.force && !ct.commit {
            return Err(ActionError::BadArgument("force needs commit"));
        }
        let translates = ct.nat.is_some_and(|nat| nat.side.is_some());
        if !ct.commit && (translates || !ct.exec.is_empty()) {
            return Err(ActionError::BadArgument("nat with arguments and exec need commit"));
        }
        if let CtZone::Field(zone) = &ct.zone {
            readable(zone, &self.state)?;
            if zone.bits != 16 {
                return Err(ActionError::BadZone(zone.field));
            }
        }
        if let Some((first, _)) = ct.nat.and_then(|nat| nat.addrs) {
            let (family, field) =
                if first.is_ipv4() { (Prereq::Ipv4, Field::IpSrc) } else { (Prereq::Ipv6, Field::Ipv6Src) };
            self.need(family, field)?;
        }
        ct.exec.iter().try_for_each(|action| match action.connection_field() {
            Some(_) => self.action(action),
            None => Err(ActionError::NotOfConnection(match action {
                Action::SetField { field, .. } => Some(*field),
                Action::Move { dst, .. } => Some(dst.field),
                _ => None,
            })),
        })
    }

    /// Refuses packets that may lack something.
    fn need(&self, prereq: Prereq, field: Field) -> Result<(), ActionError> {
        if self.state.meets(prereq) { Ok(()) } else { Err(ActionError::Prerequisite(field)) }
    }

    /// Notes that packets may lack something that OpenFlow 1.0 does not insist on.
    fn like(&mut self, has: bool, field: Field) {
        if !has {
            self.lacking = self.lacking.or(Some(ActionError::Prerequisite(field)));
        }
    }

    /// The EtherType changes, and what is behind it is not known any more.
    fn becomes(&mut self, eth_type: u16) {
        let packet_type = self.state.key.pipeline.packet_type;
        if packet_type >> 16 == 1 {
            self.state.to_mut().key.pipeline.packet_type = 0x0001_0000 | u32::from(eth_type);
        }
        self.state.to_mut().set(Field::EthType, eth_type.into());
        self.state.to_mut().set_masked(Field::NwProto, 0, 0);
    }

    /// The packet is of another type.
    fn packet_type(&mut self, packet_type: u32) {
        self.state.to_mut().set(Field::PacketType, packet_type.into());
        if packet_type == 0 {
            // Ethernet is what a match without packet type means.
            self.state.to_mut().set_masked(Field::PacketType, 0, 0);
        } else if packet_type >> 16 == 1 {
            let eth_type = u128::from(packet_type & 0xffff);
            if self.state.exact(Field::EthType) != Some(eth_type) {
                self.state.to_mut().set(Field::EthType, eth_type);
                self.state.to_mut().set_masked(Field::NwProto, 0, 0);
            }
        }
    }
}

fn meter_exists(id: u32) -> Result<(), ActionError> {
    if (1..=MAX_METER).contains(&id) { Ok(()) } else { Err(ActionError::BadMeter(id)) }
}

fn check_port(port: OfPort) -> Result<(), ActionError> {
    let special = port.reserved_name().is_some() && !matches!(port, OfPort::ANY | OfPort::UNSET);
    if special || port.0 < PORTS_END { Ok(()) } else { Err(ActionError::BadPort(port)) }
}

fn is_option(field: Field) -> Result<(), ActionError> {
    let option = field.tun_metadata_index().is_some();
    if option { Ok(()) } else { Err(ActionError::BadArgument("not a tunnel option")) }
}

/// Checks what is learned: sources against the packet, destinations against what the learned rule matches.
fn check_learn(learn: &Learn, state: &Match) -> Result<(), ActionError> {
    if let Some(result) = &learn.result {
        writable(result, state)?;
        if result.bits != 1 {
            return Err(ActionError::BadSubfield(result.field));
        }
    }
    let mut learned = Match::any();
    for spec in &learn.specs {
        let bits = match &spec.src {
            LearnSrc::Field(src) => {
                readable(src, state)?;
                Some(src.bits)
            }
            LearnSrc::Value(_) => None,
        };
        let same = |dst: &Subfield| {
            if bits.is_none_or(|n| n == dst.bits) { Ok(()) } else { Err(ActionError::BadSubfield(dst.field)) }
        };
        match (&spec.dst, &spec.src) {
            (LearnDst::Match(dst), src) => {
                readable(dst, &learned)?;
                same(dst)?;
                if let LearnSrc::Value(value) = src {
                    dst.set_number(&mut learned.key, &TlvTable::new(), *value);
                    dst.mask_add(&mut learned.mask, &TlvTable::new());
                }
            }
            (LearnDst::Load(dst), _) => {
                writable(dst, &learned)?;
                same(dst)?;
            }
            (LearnDst::Output(_), _) => {}
        }
    }
    Ok(())
}

fn inside(subfield: &Subfield) -> Result<(), ActionError> {
    let end = subfield.start.checked_add(subfield.bits);
    let fits = subfield.bits > 0 && end.is_some_and(|end| end <= subfield.field.bits());
    if fits { Ok(()) } else { Err(ActionError::BadSubfield(subfield.field)) }
}

fn readable(subfield: &Subfield, state: &Match) -> Result<(), ActionError> {
    inside(subfield)?;
    let field = subfield.field;
    if state.meets(field.prereq()) { Ok(()) } else { Err(ActionError::Prerequisite(field)) }
}

fn writable(subfield: &Subfield, state: &Match) -> Result<(), ActionError> {
    inside(subfield)?;
    check_write(subfield.field, state)
}

fn check_write(field: Field, state: &Match) -> Result<(), ActionError> {
    if !field.writable() {
        return Err(ActionError::ReadOnly(field));
    }
    if state.meets(field.prereq()) { Ok(()) } else { Err(ActionError::Prerequisite(field)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_wire::EtherType;

    fn set(field: Field, value: u128) -> Action {
        Action::set(field, value, field.value_mask())
    }

    #[test]
    fn prerequisites_follow_tags() {
        let any = Match::any();
        let check = |m: &Match, actions: &[Action]| Instructions::apply(actions.to_vec()).check(m);
        let vid = set(Field::VlanVid, 0x100a);
        assert_eq!(check(&any, &[Action::PushVlan(EtherType::VLAN), vid.clone()]), Ok(()));
        assert_eq!(check(&any, std::slice::from_ref(&vid)), Err(ActionError::Prerequisite(Field::VlanVid)));
        let tagged = any.with(Field::DlVlan, 5);
        assert_eq!(check(&tagged, std::slice::from_ref(&vid)), Ok(()));
        let popped = check(&tagged, &[Action::PopVlan, vid]);
        assert_eq!(popped, Err(ActionError::Prerequisite(Field::VlanVid)));
        assert_eq!(check(&tagged, &[set(Field::VlanVid, 10)]), Err(ActionError::VlanNotPresent));
    }

    #[test]
    fn prerequisites_of_headers() {
        let ip = Match::any().with(Field::EthType, 0x800);
        let check = |m: &Match, action: Action| Instructions::apply(vec![action]).check(m);
        assert_eq!(check(&ip, set(Field::IpSrc, 1)), Ok(()));
        assert_eq!(check(&ip, set(Field::TcpSrc, 1)), Err(ActionError::Prerequisite(Field::TcpSrc)));
        assert_eq!(
            check(&Match::any(), Action::DecTtl(Vec::new())),
            Err(ActionError::Prerequisite(Field::NwTtl))
        );
        assert_eq!(check(&ip, set(Field::EthType, 1)), Err(ActionError::ReadOnly(Field::EthType)));
        let beyond = Subfield { field: Field::Reg0, start: 30, bits: 3 };
        assert_eq!(check(&ip, Action::StackPush(beyond)), Err(ActionError::BadSubfield(Field::Reg0)));
        let loose = Action::set(Field::Reg0, 2, 1);
        assert_eq!(check(&ip, loose), Err(ActionError::BadValue(Field::Reg0)));
        let nested = Action::Clone(vec![set(Field::UdpDst, 1)]);
        assert_eq!(check(&ip.with(Field::NwProto, 17), nested), Ok(()));
    }
}
