//! Which rule of a table does the packet match, and what happens when it matches none?

use std::sync::Arc;

use weft_flow::text::Syntax;
use weft_flow::{DropReason, FRAG_ANY, Field, FlowMask, Instructions, OfPort, RuleRef};

use super::{End, Frame, List, MAX_LOOKUPS, Origin, Walk, reason};
use crate::classifier::tags;
use crate::config::FragMode;
use crate::snapshot::{Bridge, tags_on};
use crate::table::{INTERNAL_TABLE, Rule, TableMiss};
use crate::trace::StepKind;

/// Lookups whose flows are told of changes by what they looked up. A flow has few tags, so further ones are told of any
/// change of their table.
const FINE_LOOKUPS: u32 = 4;

/// Fields that `resubmit(…,ct)` looks up in place of others.
const ORIGINAL: [(Field, Field); 7] = [
    (Field::IpSrc, Field::CtNwSrc),
    (Field::IpDst, Field::CtNwDst),
    (Field::Ipv6Src, Field::CtIpv6Src),
    (Field::Ipv6Dst, Field::CtIpv6Dst),
    (Field::NwProto, Field::CtNwProto),
    (Field::TcpSrc, Field::CtTpSrc),
    (Field::TcpDst, Field::CtTpDst),
];

impl<'a> Walk<'a> {
    /// Looks the packet up in a table as if received by `port`; the matching rule's actions, or `None` after the
    /// table's miss.
    pub(super) fn frame_for(&mut self, table: u8, port: OfPort, resubmit: bool) -> Option<Frame<'a>> {
        self.frame_by(table, port, resubmit, false)
    }

    /// The same, by the original direction of the connection if `ct`.
    pub(super) fn frame_by(
        &mut self,
        table: u8,
        port: OfPort,
        resubmit: bool,
        ct: bool,
    ) -> Option<Frame<'a>> {
        self.lookups += 1;
        if self.lookups > MAX_LOOKUPS {
            self.fatal(DropReason::TooManyResubmits);
            return None;
        }
        if self.drops_fragment(table) {
            return None;
        }
        let mut table = table;
        let rule = loop {
            if let Some(rule) = self.lookup(table, port, ct) {
                break rule;
            }
            self.record(StepKind::Table, || format!("{table:2}. No match."));
            let goes_on = !resubmit && self.bridge.tables.miss(table) == TableMiss::Continue;
            if !goes_on || table + 1 >= INTERNAL_TABLE {
                self.miss(table, resubmit);
                self.leave();
                return None;
            }
            self.leave();
            table += 1;
        };
        let told = |syntax: &Syntax<'_>| format!("{table:2}. {}", crate::trace::rule_text(rule, syntax));
        self.record_on(StepKind::Table, told);
        let is_miss_rule = rule.priority == 0 && rule.matching.is_any();
        let reason = if is_miss_rule { reason::NO_MATCH } else { reason::ACTION };
        let origin = Origin { table, cookie: rule.cookie, reason };
        let instructions: &'a Arc<Instructions> = &rule.instructions;
        if **instructions == Instructions::default() {
            self.step(|| "drop".to_owned());
        }
        if let Some(meter) = instructions.meter {
            self.step(|| format!("meter:{meter}"));
            self.meter(meter);
        }
        let end = End::Rule(instructions);
        Some(Frame { end, steps: 1, ..Frame::of(List::Slice(&instructions.apply), origin) })
    }

    /// Whether the packet is a fragment on a bridge that drops those.
    fn drops_fragment(&mut self, table: u8) -> bool {
        let drops = self.bridge.config.fragments == FragMode::Drop
            && self.is_ip()
            && self.packet.key.packet.ip_frag & FRAG_ANY != 0;
        if drops {
            self.record(StepKind::Table, || format!("{table:2}. Fragments are dropped."));
            self.blame(DropReason::RuleDrop);
            self.leave();
        }
        drops
    }

    fn lookup(&mut self, table: u8, port: OfPort, ct: bool) -> Option<&'a Rule> {
        let bridge: &'a Bridge = self.bridge;
        let Some(tables) = bridge.tables.table(table) else {
            self.deps.0 |= tags_on(bridge.config.id, tags::absent(table));
            return None;
        };
        let ct = ct && self.is_ip();
        // Fragments look as if they had no ports: some of a datagram's do not.
        let portless =
            bridge.config.fragments == FragMode::Normal && self.packet.key.packet.ip_frag & FRAG_ANY != 0;
        let mut changed;
        let key = if ct || portless || self.packet.key.pipeline.in_port != port.0 {
            changed = self.packet.key;
            changed.pipeline.in_port = port.0;
            if ct {
                for (field, original) in ORIGINAL {
                    field.set(&mut changed, original.get(&self.packet.key));
                }
            }
            if portless {
                (changed.packet.tp_src, changed.packet.tp_dst) = (0, 0);
            }
            &changed
        } else {
            &self.packet.key
        };
        let mut looked = FlowMask::empty();
        let rule = tables.classifier.lookup(key, &mut looked);
        let coarse = ct || self.lookups > FINE_LOOKUPS;
        let tags = tables.classifier.tags(table, key, &looked, &self.packet.settled, coarse);
        self.deps.0 |= tags_on(bridge.config.id, tags);
        if ct {
            for (field, original) in ORIGINAL {
                let bits = field.mask_of(&looked);
                original.mask_add(&mut looked, bits);
            }
        }
        self.look(&looked);
        let (cookie, stats) = match rule {
            Some(rule) => (rule.cookie, &rule.stats),
            None => (u64::MAX, &tables.missed),
        };
        self.rules.push(RuleRef { bridge: bridge.config.id, table, cookie, stats: stats.clone() });
        self.matched.extend(rule);
        rule.map(Arc::as_ref)
    }

    fn miss(&mut self, table: u8, resubmit: bool) {
        let (bridge, config) = (self.bridge, &self.bridge.config);
        let asked = match bridge.tables.miss(table) {
            _ if resubmit => false,
            TableMiss::Default => config.miss_to_controller,
            TableMiss::Controller | TableMiss::Continue => true,
            TableMiss::Drop => false,
        };
        let wants = asked && bridge.port(self.in_port()).is_none_or(|p| !p.flags.no_packet_in);
        if wants {
            let origin = Origin { table, cookie: u64::MAX, reason: reason::NO_MATCH };
            self.packet_in(u16::MAX, 0, origin.reason, origin);
        } else {
            self.step(|| "drop".to_owned());
            let secure = config.fail_mode == crate::FailMode::Secure && !config.controller_connected;
            let reason = if secure { DropReason::FailSecure } else { DropReason::TableMiss };
            self.blame_on(reason, || format!("table {table}"));
        }
    }
}
