//! Do the actions of a rule fit the packets that it matches?

use weft_flow::{Action, Field, Instructions, Match, Prereq, Subfield, VLAN_PRESENT};

use crate::matches::prereq_holds;
use crate::{ErrorCode, Version};

/// Checks that fields which actions read and change are there in what `m` matches (OpenFlow 1.3 §6.4).
///
/// OpenFlow 1.0 lets a rule set what its packets may lack, which then does nothing; so it is not checked there.
///
/// # Errors
/// `OFPBAC_MATCH_INCONSISTENT`.
pub(crate) fn check(version: Version, m: &Match, instructions: &Instructions) -> Result<(), ErrorCode> {
    let mut now = *m;
    check_list(version, &mut now, &instructions.apply)?;
    check_list(version, &mut now, &instructions.write)
}

fn check_list(version: Version, now: &mut Match, actions: &[Action]) -> Result<(), ErrorCode> {
    let lenient = version == Version::V10;
    for action in actions {
        let fits = match action {
            Action::SetField { field, .. } => lenient || settable(*field, now),
            Action::PushVlan(_) | Action::SetVlanVid(_) | Action::SetVlanPcp(_) => {
                set_vlan(now, VLAN_PRESENT);
                true
            }
            Action::PopVlan => {
                let tagged = prereq_holds(Prereq::Vlan, now);
                set_vlan(now, 0);
                lenient || tagged
            }
            Action::DecTtl => lenient || prereq_holds(Prereq::Ip, now),
            Action::Move { src, dst } => there(src, now) && there(dst, now),
            Action::StackPush(what) | Action::StackPop(what) => there(what, now),
            Action::OutputReg { src, .. } => there(src, now),
            Action::Clone(actions) => {
                check_list(version, &mut now.clone(), actions)?;
                true
            }
            _ => true,
        };
        if !fits {
            return Err(ErrorCode::OFPBAC_MATCH_INCONSISTENT);
        }
    }
    Ok(())
}

fn settable(field: Field, now: &Match) -> bool {
    let vlan = field != Field::VlanVid || prereq_holds(Prereq::Vlan, now);
    vlan && prereq_holds(field.prereq(), now)
}

fn there(what: &Subfield, now: &Match) -> bool {
    prereq_holds(what.field.prereq(), now)
}

fn set_vlan(now: &mut Match, tci: u16) {
    now.key.packet.vlan[0].tci = tci;
    now.mask.0.packet.vlan[0].tci |= VLAN_PRESENT;
}
