//! Do the actions of a rule fit what it matches?

use crate::{Action, Field, Instructions, Match, OfPort, Subfield, VLAN_PRESENT};

/// Why actions do not fit a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// A field that actions may not change (`OFPBAC_BAD_SET_ARGUMENT`).
    #[error("{} is read-only", .0.name())]
    ReadOnly(Field),
    /// A field that is read or set on packets that may not have it (`OFPBAC_MATCH_INCONSISTENT`).
    #[error("actions are invalid with specified match: {} lacks its prerequisites", .0.name())]
    Prerequisite(Field),
    /// `vlan_vid` set without the bit that says that there is a tag (`OFPBAC_BAD_SET_ARGUMENT`).
    #[error("vlan_vid must be set with bit 12 (0x1000)")]
    VlanNotPresent,
    /// A subfield that is empty, or reaches beyond its field (`OFPBAC_BAD_SET_LEN`).
    #[error("subfield reaches beyond {}", .0.name())]
    BadSubfield(Field),
    /// A value with bits outside the mask or the field (`OFPBAC_BAD_SET_ARGUMENT`).
    #[error("value does not fit {}", .0.name())]
    BadValue(Field),
    /// The zone of `ct` is not 16 bits of a field (`OFPBAC_BAD_SET_LEN`).
    #[error("the zone must be 16 bits of {}", .0.name())]
    BadZone(Field),
    /// Something within `ct` that does not set `ct_mark` or `ct_label` (`OFPBAC_BAD_ARGUMENT`).
    #[error("ct may change ct_mark and ct_label, and nothing else")]
    NotOfConnection(Option<Field>),
    /// `ct_mark` or `ct_label` set outside of `ct` (`OFPBAC_BAD_SET_ARGUMENT`).
    #[error("cannot set {} outside of ct", .0.name())]
    OutsideCt(Field),
    /// An argument that the action cannot have (`OFPBAC_BAD_ARGUMENT`).
    #[error("{0}")]
    BadArgument(&'static str),
    /// A port that nothing can be sent to (`OFPBAC_BAD_OUT_PORT`).
    #[error("cannot output to port {0}")]
    BadPort(OfPort),
    /// More VLAN tags than a packet can have (`OFPBAC_BAD_TAG`).
    #[error("too many VLAN tags")]
    TooManyTags,
    /// `conjunction` beside something other than `conjunction` and `note` (`NXBAC_BAD_CONJUNCTION`).
    #[error("conjunction may stand beside conjunction and note, and nothing else")]
    BadConjunction,
    /// A table to go to that does not come later, or does not exist (`OFPBIC_BAD_TABLE_ID`).
    #[error("cannot go to table {0}")]
    BadTable(u8),
    /// A meter that cannot exist (`OFPMMFC_INVALID_METER`).
    #[error("there is no meter {0}")]
    BadMeter(u32),
    /// An action that action sets do not have (`OFPBAC_BAD_TYPE`).
    #[error("not allowed in an action set")]
    NotInActionSet,
}

impl Instructions {
    /// Whether every field that is read or set has its prerequisites on the packets that `m` matches, tags pushed
    /// and popped by earlier actions taken into account.
    ///
    /// # Errors
    /// What is wrong with the first action that does not fit.
    pub fn check(&self, m: &Match) -> Result<(), ActionError> {
        let mut state = *m;
        check_list(&self.apply, &mut state)?;
        // The action set runs after the last table: what it meets there is known only in part.
        check_list(&self.write, &mut state)
    }
}

fn check_list(actions: &[Action], state: &mut Match) -> Result<(), ActionError> {
    actions.iter().try_for_each(|action| check_action(action, state))
}

fn check_action(action: &Action, state: &mut Match) -> Result<(), ActionError> {
    match action {
        Action::OutputReg { src, .. } | Action::StackPush(src) => readable(src, state),
        Action::StackPop(dst) => writable(dst, state),
        Action::Move { src, dst } => readable(src, state).and_then(|()| writable(dst, state)),
        Action::SetField { field, value, mask, .. } => {
            if value & !mask != 0 || mask & !field.value_mask() != 0 {
                return Err(ActionError::BadValue(*field));
            }
            let present = u128::from(VLAN_PRESENT);
            if *field == Field::VlanVid && mask & present != 0 && value & present == 0 {
                return Err(ActionError::VlanNotPresent);
            }
            check_write(*field, state)
        }
        Action::PushVlan(_) | Action::SetVlanVid(_) | Action::SetVlanPcp(_) => {
            state.key.packet.vlan[0].tci |= VLAN_PRESENT;
            state.mask.0.packet.vlan[0].tci |= VLAN_PRESENT;
            Ok(())
        }
        Action::PopVlan => {
            state.key.packet.vlan = [state.key.packet.vlan[1], Default::default()];
            state.mask.0.packet.vlan = [state.mask.0.packet.vlan[1], Default::default()];
            Ok(())
        }
        Action::DecTtl(_) if !state.meets(crate::Prereq::Ip) => Err(ActionError::Prerequisite(Field::NwTtl)),
        Action::Clone(actions) => check_list(actions, &mut state.clone()),
        _ => Ok(()),
    }
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
    // vlan_vid needs a tag to be set, although not to be matched.
    let vlan = field == Field::VlanVid && !state.meets(crate::Prereq::Vlan);
    if vlan || !state.meets(field.prereq()) { Err(ActionError::Prerequisite(field)) } else { Ok(()) }
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
