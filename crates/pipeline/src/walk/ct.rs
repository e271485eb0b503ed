//! How does a packet pass connection tracking?

use std::sync::Arc;

use weft_flow::{Action, Ct, CtSpec, CtZone, DpAction, Field};

use super::Walk;

/// A value and which bits of it are set; `None`: nothing is.
type Masked<T> = Option<(T, T)>;

impl<'a> Walk<'a> {
    /// Has the packet tracked. With a table, a copy goes on there once it was looked up again; the packet itself goes
    /// on with the actions after this one as one that was not tracked.
    pub(super) fn track(&mut self, ct: &'a Ct) {
        let zone = match ct.zone {
            CtZone::Number(zone) => zone,
            CtZone::Field(sub) => self.read(sub) as u16,
        };
        if let Some(nat) = &ct.nat {
            self.step(|| crate::trace::nat_text(nat));
        }
        let (mark, label) = self.marks(&ct.exec);
        if ct.nat.is_none() && ct.exec.is_empty() {
            self.step(|| "drop".to_owned());
        }
        let spec = CtSpec { zone, commit: ct.commit, force: ct.force, mark, label, nat: ct.nat, alg: ct.alg };
        self.commit();
        self.emit(DpAction::Ct(Arc::new(spec)));
        if ct.nat.is_some() {
            self.packet.translated();
        }
        if let Some(table) = ct.table {
            self.note(|| {
                format!(
                    "A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table \
                     {table}."
                )
            });
            let mut frozen = self.freeze();
            (frozen.table, frozen.conntracked) = (Some(table), true);
            frozen.action_set = self.action_set.iter().copied().cloned().collect();
            self.recirculate(frozen, Some((zone, ct.nat)));
        }
        self.note(|| {
            "Sets the packet to an untracked state, and clears all the conntrack fields.".to_owned()
        });
        self.packet.forget_tracking();
    }

    /// What `exec(...)` sets mark and label to, and which bits of them.
    fn marks(&mut self, exec: &'a [Action]) -> (Masked<u32>, Masked<u128>) {
        let (mut mark, mut label) = ((0u128, 0u128), (0u128, 0u128));
        for action in exec {
            self.step_action(action);
            let (field, value, bits) = match action {
                Action::SetField { field, value, mask, .. } => (*field, *value, *mask),
                Action::Move { src, dst } if self.meets(src.field.prereq()) => {
                    let ones = super::fields::low_bits(dst.bits);
                    let shift = |v: u128| v.checked_shl(dst.start.into()).unwrap_or(0);
                    (dst.field, shift(self.read(*src) & ones), shift(ones))
                }
                _ => continue,
            };
            let of = match field {
                Field::CtMark => &mut mark,
                Field::CtLabel => &mut label,
                _ => continue,
            };
            let bits = bits & field.value_mask();
            *of = (of.0 & !bits | value & bits, of.1 | bits);
        }
        let mark = (mark.1 != 0).then_some((mark.0 as u32, mark.1 as u32));
        (mark, (label.1 != 0).then_some(label))
    }

    /// Forgets what connection tracking said, in the datapath too.
    pub(super) fn clear_tracking(&mut self) {
        if self.packet.is_tracked() {
            self.commit();
            self.out.push(DpAction::CtClear);
        }
        self.packet.forget_tracking();
    }
}
