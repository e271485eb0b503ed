//! Which rule does a packet teach, and when does it shorten timeouts?

use std::sync::Arc;

use weft_flow::{Action, DropReason, Field, Learn, LearnDst, LearnSrc, Match, OfPort, Subfield};
use weft_wire::IpProto;

use super::{MAX_EFFECTS, Origin, Walk};
use crate::effect::Effect;
use crate::table::{FlowMod, Learned};
use crate::trace::StepKind;

/// FIN and RST.
const ENDS: u128 = 0x05;

impl<'a> Walk<'a> {
    pub(super) fn learn_rule(&mut self, learn: &'a Learn) {
        let mut matching = Match::any();
        let mut actions = Vec::new();
        for spec in &learn.specs {
            let bits = match spec.dst {
                LearnDst::Match(dst) | LearnDst::Load(dst) => dst.bits,
                LearnDst::Output(bits) => bits,
            };
            let value = match &spec.src {
                LearnSrc::Value(value) => *value,
                LearnSrc::Field(src) => self.read(Subfield { bits: bits.min(src.bits), ..*src }),
            };
            match spec.dst {
                LearnDst::Match(dst) => add_match(&mut matching, dst, value),
                LearnDst::Load(dst) => {
                    let ones = super::fields::low_bits(dst.bits) << dst.start;
                    actions.push(Action::load(dst.field, value << dst.start & ones, ones));
                }
                LearnDst::Output(bits) => {
                    let port = if bits <= 16 { OfPort::from_u16(value as u16) } else { OfPort(value as u32) };
                    if port_is_real(port) {
                        actions.push(Action::Output { port, max_len: 0 });
                    }
                }
            }
        }
        let (idle, hard) = learn.fin_timeout;
        if (idle, hard) != (0, 0) {
            actions.push(Action::FinTimeout { idle, hard });
        }
        let mut rule = FlowMod::add(learn.table, learn.priority, matching, actions);
        (rule.cookie, rule.idle_timeout, rule.hard_timeout) =
            (learn.cookie, learn.idle_timeout, learn.hard_timeout);
        rule.flags.send_flow_rem = learn.send_flow_rem;
        self.record_on(StepKind::Note, |syntax| crate::trace::learned_text(&rule, syntax));
        self.leave();
        let (bridge, learned) = (self.bridge, Box::new(Learned { rule, limit: learn.limit }));
        if let Some(dst) = learn.result {
            self.write(dst, bridge.tables.may_learn(&learned).into());
        }
        if self.effects.len() >= MAX_EFFECTS {
            return self.fatal(DropReason::TooManyResubmits);
        }
        self.effects.push(Arc::new(Effect::Learn { bridge: bridge.config.id, learned }));
    }

    /// Shortens the timeouts of the rule at hand when the packet ends a TCP connection.
    pub(super) fn fin_timeout(&mut self, idle: u16, hard: u16, origin: Origin) {
        if !self.has_l4(IpProto::TCP) {
            return;
        }
        self.look_field(Field::TcpFlags, ENDS);
        if Field::TcpFlags.get(&self.packet.key) & ENDS == 0 {
            return;
        }
        let rule = self.matched.iter().rfind(|r| (r.table, r.cookie) == (origin.table, origin.cookie));
        if let Some(rule) = rule {
            let (bridge, rule) = (self.bridge.config.id, Arc::clone(rule));
            self.effects.push(Arc::new(Effect::FinTimeout { bridge, rule, idle, hard }));
        }
    }
}

/// Matches bits of a field, and what is needed to look at it.
fn add_match(matching: &mut Match, dst: Subfield, value: u128) {
    let ones = super::fields::low_bits(dst.bits) << dst.start;
    let (old, bits) = matching.get(dst.field).unwrap_or((0, 0));
    let value = old & !ones | value << dst.start & ones;
    matching.set_masked(dst.field, value, bits | ones);
}

/// Whether a learned rule may output to a port.
fn port_is_real(port: OfPort) -> bool {
    !port.is_reserved()
        || matches!(
            port,
            OfPort::IN_PORT
                | OfPort::NORMAL
                | OfPort::FLOOD
                | OfPort::ALL
                | OfPort::CONTROLLER
                | OfPort::LOCAL
        )
}
