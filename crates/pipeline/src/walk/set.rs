//! What is in the action set, and in which order is it executed? (OpenFlow 1.5.1 §5.6 and §5.6.1)

use weft_flow::{Action, OfPort};

use super::{Frame, List, Origin, Root, Walk};

impl<'a> Walk<'a> {
    /// Puts an action in the action set, in place of one of its kind.
    pub(super) fn write_set(&mut self, action: &'a Action) {
        put(&mut self.action_set, action);
        self.packet.key.pipeline.actset_output = output_of(&self.action_set).0;
    }

    pub(super) fn clear_set(&mut self) {
        self.action_set.clear();
        self.packet.key.pipeline.actset_output = OfPort::UNSET.0;
    }

    /// The action set, which is empty after, as actions to be executed; `None`: nothing is to be done.
    pub(super) fn frame_of_set(&mut self) -> Option<Frame<'a>> {
        let set = std::mem::take(&mut self.action_set);
        if set.is_empty() || self.fatal.is_some() {
            return None;
        }
        self.exit = false;
        self.record(crate::trace::StepKind::Table, || "--. Executing action set:".to_owned());
        let set = List::Set(ordered(set.into_iter()));
        Some(Frame { steps: 1, ..Frame::of(set, Origin::of_set()) })
    }

    /// Executes an action set.
    pub(super) fn execute_set(&mut self, set: &[&'a Action]) {
        // The set stands at the end of what the first table led to.
        let reopened = self.recorder.as_mut().is_some_and(crate::trace::Recorder::reopen);
        self.record(crate::trace::StepKind::Table, || "--. Executing action set:".to_owned());
        let set = ordered(set.iter().copied());
        self.run_frames(&mut vec![Frame::of(List::Set(set), Origin::of_set())], Root::Part);
        self.leave_steps(1 + u16::from(reopened));
    }
}

/// Where the action set outputs to: nowhere that is known when a group does it.
fn output_of(set: &[&Action]) -> OfPort {
    if set.iter().any(|a| matches!(a, Action::Group(_))) {
        return OfPort::UNSET;
    }
    set.iter().rev().find_map(|a| output_port(a)).unwrap_or(OfPort::UNSET)
}

fn put<'a>(set: &mut Vec<&'a Action>, action: &'a Action) {
    let kind = |a: &Action| std::mem::discriminant(a);
    set.retain(|old| match (*old, action) {
        // Fields are set in the order in which they were written.
        (Action::SetField { .. } | Action::Move { .. }, _) => true,
        (old, new) if output_port(old).is_some() && output_port(new).is_some() => false,
        (old, new) => kind(old) != kind(new),
    });
    set.push(action);
}

/// Actions as a set, in the order of execution; a group leaves the output out.
pub(super) fn ordered<'a>(actions: impl Iterator<Item = &'a Action>) -> Vec<&'a Action> {
    let mut set = Vec::new();
    actions.for_each(|action| put(&mut set, action));
    if set.iter().any(|a| matches!(a, Action::Group(_))) {
        set.retain(|a| output_port(a).is_none() && !matches!(a, Action::Resubmit { .. }));
    } else if set.iter().any(|a| output_port(a).is_some()) {
        set.retain(|a| !matches!(a, Action::Resubmit { .. }));
    }
    set.sort_by_key(|a| rank(a));
    set
}

/// Place of an action in a set: copy inwards, pop, push, copy outwards, decrement, set, queue, meter, send.
fn rank(action: &Action) -> u8 {
    match action {
        Action::CopyTtlIn => 0,
        Action::PopVlan => 1,
        Action::PopMpls(_) => 2,
        Action::Decap(_) => 3,
        Action::Encap(_) => 4,
        Action::PushMpls(_) => 5,
        Action::PushVlan(_) => 6,
        Action::CopyTtlOut => 7,
        Action::DecMplsTtl => 8,
        Action::DecTtl(_) | Action::DecNshTtl => 9,
        Action::SetQueue(_) => 11,
        Action::Meter(_) => 12,
        Action::Group(_) => 13,
        a if output_port(a).is_some() => 14,
        Action::Resubmit { .. } => 15,
        Action::Ct(_) => 16,
        _ => 10,
    }
}

/// The port that an action of the action set outputs to.
fn output_port(action: &Action) -> Option<OfPort> {
    match action {
        Action::Output { port, .. } | Action::OutputTrunc { port, .. } | Action::Enqueue { port, .. } => {
            Some(*port)
        }
        Action::OutputReg { .. } => Some(OfPort::UNSET),
        Action::Controller(_) => Some(OfPort::CONTROLLER),
        _ => None,
    }
}
