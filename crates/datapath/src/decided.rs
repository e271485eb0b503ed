//! What was decided about many flows alike? Verdicts that flows share.
//!
//! Flows differ in what they match; what becomes of their packets is mostly the same for many. It is kept once, so that a
//! flow is small, and coming and going costs no allocations.

use std::sync::Arc;

use weft_flow::{DpAction, DropReason, FdbRef, Opaque, RuleRef, RuleStats, Verdict};

/// Decisions that are remembered, to be shared.
const RECENT: usize = 64;

/// A verdict without what is a flow's own.
#[derive(Default)]
pub(crate) struct Decided {
    pub(crate) actions: Vec<DpAction>,
    pub(crate) drop: Option<DropReason>,
    pub(crate) rules: Vec<RuleRef>,
    pub(crate) refresh: Vec<FdbRef>,
    /// Groups and buckets whose traffic this is too.
    pub(crate) counters: Vec<Arc<RuleStats>>,
    /// What the pipeline is to hear of when the flow is used.
    pub(crate) effects: Vec<Opaque>,
    /// The actions look at, or pass on, what frames carry along.
    pub(crate) carries: bool,
}

impl Decided {
    /// Whether a verdict says the same.
    fn is(&self, verdict: &Verdict) -> bool {
        let same_rule =
            |(a, b): (&RuleRef, &RuleRef)| Arc::ptr_eq(&a.stats, &b.stats) && a.cookie == b.cookie;
        let same_stats = |(a, b): (&Arc<RuleStats>, &Arc<RuleStats>)| Arc::ptr_eq(a, b);
        self.drop == verdict.drop
            && self.rules.len() == verdict.rules.len()
            && self.rules.iter().zip(&verdict.rules).all(same_rule)
            && self.counters.len() == verdict.counters.len()
            && self.counters.iter().zip(&verdict.counters).all(same_stats)
            && self.actions == verdict.actions
            && self.refresh == verdict.refresh
            && self.effects == verdict.effects
    }
}

impl From<Verdict> for Decided {
    fn from(verdict: Verdict) -> Self {
        Decided {
            carries: carries(&verdict.actions),
            actions: verdict.actions,
            drop: verdict.drop,
            rules: verdict.rules,
            refresh: verdict.refresh,
            counters: verdict.counters,
            effects: verdict.effects,
        }
    }
}

/// The decisions of late.
pub(crate) struct Decisions {
    recent: Box<[Arc<Decided>; RECENT]>,
    none: Arc<Decided>,
}

impl Default for Decisions {
    fn default() -> Self {
        let none = Arc::new(Decided::default());
        Decisions { recent: Box::new(std::array::from_fn(|_| none.clone())), none }
    }
}

impl Decisions {
    /// The decision of a slot without a flow.
    pub(crate) fn none(&self) -> Arc<Decided> {
        self.none.clone()
    }

    /// The decision of a verdict, shared with flows that came shortly before.
    pub(crate) fn share(&mut self, verdict: Verdict) -> Arc<Decided> {
        // By the last rule: it is the one that tells most.
        let rule = verdict.rules.last().map_or(0, |rule| Arc::as_ptr(&rule.stats) as u64);
        let place = rule.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        let recent = &mut self.recent[place as usize % RECENT];
        if !recent.is(&verdict) {
            *recent = Arc::new(verdict.into());
        }
        recent.clone()
    }

    /// Forgets everything: what is remembered keeps rules and walks alive.
    pub(crate) fn clear(&mut self) {
        self.recent.fill(self.none.clone());
    }
}

/// Whether a list has to do with what frames carry along ([`crate::meta::Meta`]).
fn carries(actions: &[DpAction]) -> bool {
    actions.iter().any(|action| match action {
        DpAction::Ct(_)
        | DpAction::CtClear
        | DpAction::Hash { .. }
        | DpAction::Recirc(_)
        | DpAction::Sample { .. } => true,
        DpAction::Clone(actions) | DpAction::TunnelPush { actions, .. } => carries(actions),
        DpAction::CheckPktLen { greater, not_greater, .. } => carries(greater) || carries(not_greater),
        DpAction::Output(_)
        | DpAction::SetTunnel(_)
        | DpAction::Trunc(_)
        | DpAction::PushVlan { .. }
        | DpAction::PopVlan
        | DpAction::Set(_)
        | DpAction::TunnelPop(_)
        | DpAction::Controller(_)
        | DpAction::Meter(_)
        | DpAction::PushMpls { .. }
        | DpAction::PopMpls(_)
        | DpAction::CopyTtl { .. }
        | DpAction::AddMpls { .. }
        | DpAction::PushEth { .. }
        | DpAction::PopEth
        | DpAction::PushNsh(_)
        | DpAction::PopNsh => false,
    })
}
