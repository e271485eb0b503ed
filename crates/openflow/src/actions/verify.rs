//! May these actions stand beside each other, and where they stand?

use weft_flow::{Action, Field};

use super::{Decoded, Item};
use crate::ErrorCode;

/// Where a list of actions stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where nothing but actions may stand.
    Actions,
    /// Where something may stand for an instruction.
    Instructions,
    /// Inside `ct`.
    Ct,
}

/// Checks a list as a whole and takes it apart.
pub(super) fn verify(items: Vec<Item>, place: Place) -> Result<Decoded, ErrorCode> {
    let mut previous: Option<&Item> = None;
    for item in &items {
        if let Item::Action(Action::Conjunction { .. }) = item {
            // A rule is either a clause of a conjunction or does something.
            let fits = |item: &Item| {
                matches!(item, Item::Action(Action::Conjunction { .. } | Action::Note(_)))
                    && place != Place::Ct
            };
            if items.iter().all(fits) {
                break;
            }
            return Err(ErrorCode::NXBAC_BAD_CONJUNCTION);
        }
        check_place(item, place)?;
        // An instruction in the guise of an action comes after all actions, and once.
        if let Some(Item::Metadata(..)) = previous {
            return Err(ErrorCode::OFPBAC_UNSUPPORTED_ORDER);
        }
        if matches!(item, Item::Metadata(..)) && place != Place::Instructions {
            return Err(ErrorCode::OFPBIC_UNSUP_INST);
        }
        previous = Some(item);
    }
    let mut out = Decoded::default();
    for item in items {
        match item {
            Item::Action(action) => out.actions.push(action),
            Item::Metadata(value, mask) => out.metadata = Some((value, mask)),
            // `ct` has taken it already.
            Item::Nat(_) => {}
        }
    }
    Ok(out)
}

/// The field that an action changes, as far as `ct` is concerned.
fn changed(action: &Action) -> Option<Field> {
    match action {
        Action::SetField { field, .. } => Some(*field),
        Action::SetOption(option) => Some(option.field),
        Action::Move { dst, .. } => Some(dst.field),
        _ => None,
    }
}

fn check_place(item: &Item, place: Place) -> Result<(), ErrorCode> {
    let field = match item {
        Item::Nat(_) if place == Place::Ct => return Ok(()),
        Item::Nat(_) => return Err(ErrorCode::OFPBAC_BAD_SET_ARGUMENT),
        Item::Action(action) => changed(action),
        Item::Metadata(..) => None,
    };
    let of_connection = matches!(field, Some(Field::CtMark | Field::CtLabel));
    match place {
        Place::Ct if !of_connection => Err(ErrorCode::OFPBAC_BAD_ARGUMENT),
        Place::Actions | Place::Instructions if of_connection => Err(ErrorCode::OFPBAC_BAD_SET_ARGUMENT),
        _ => Ok(()),
    }
}

/// Checks the actions of an action set (OpenFlow 1.3 §5.10).
pub(super) fn action_set(items: Vec<Item>) -> Result<Vec<Action>, ErrorCode> {
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Item::Action(action) if action.in_action_set() => out.push(action),
            _ => return Err(ErrorCode::OFPBAC_BAD_TYPE),
        }
    }
    Ok(out)
}
