//! What do the flow tables do with a packet? The walk itself.

use weft_flow::{DepTags, DropReason, FlowKey, FlowMask, RuleRef, Verdict};

use crate::pipeline::{PacketOut, Resolve};
use crate::snapshot::Snapshot;
use crate::trace::Trace;

/// What a walk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A packet is there: learn from it.
    Learn,
    /// A cached flow is checked.
    DryRun,
    /// Someone wants to know.
    Trace,
}

/// What a walk returns.
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) learned: DepTags,
    pub(crate) resolves: Vec<Resolve>,
    pub(crate) trace: Option<Trace>,
}

/// Walks a packet that came in by `key.packet.in_port`.
pub(crate) fn received(snapshot: &Snapshot, key: &FlowKey, _now_ms: u64, _mode: Mode) -> Outcome {
    let mut verdict = Verdict {
        actions: Vec::new(),
        mask: Box::new(FlowMask::empty()),
        drop: Some(DropReason::NotAttached),
        cacheable: true,
        deps: DepTags::default(),
        rules: Vec::new(),
        refresh: Vec::new(),
    };
    verdict.mask.0.packet.in_port = u32::MAX;
    let port = weft_flow::DpPort(key.packet.in_port);
    if let Some((bridge, of_port)) = snapshot.port_of(port)
        && let Some(bridge) = snapshot.bridge(bridge)
        && let Some(table) = bridge.tables.table(0)
    {
        let mut key = *key;
        key.pipeline.in_port = of_port.0;
        verdict.drop = Some(DropReason::TableMiss);
        if let Some(rule) = table.classifier.lookup(&key, &mut verdict.mask) {
            let stats = rule.stats.clone();
            verdict.rules.push(RuleRef { bridge: bridge.config.id, table: 0, cookie: rule.cookie, stats });
            verdict.drop = Some(DropReason::RuleDrop);
        }
    }
    Outcome { verdict, learned: DepTags::default(), resolves: Vec::new(), trace: None }
}

/// Executes a packet-out.
pub(crate) fn packet_out(
    snapshot: &Snapshot,
    _out: &PacketOut<'_>,
    key: &FlowKey,
    now_ms: u64,
    mode: Mode,
) -> Outcome {
    received(snapshot, key, now_ms, mode)
}
