//! Which rule sent or dropped the packets of a live flow?
//!
//! The cached flows that a question overlaps with are walked once more with a recorder: what they pass, and what
//! decides, is what the tables say now.

use std::collections::HashMap;

use serde::Serialize;
use weft_datapath::FlowEntry;
use weft_flow::text::{Syntax, format_dp_actions, format_megaflow, parse_match};
use weft_flow::{DpAction, DpPort, Match, OfPort};
use weft_pipeline::{Step, StepKind};

use crate::clock::now_ms;
use crate::control::Control;

/// Most flows that are explained at once.
const MOST: usize = 256;

/// Most flows before a flow.
const MOST_BEFORE: usize = 16;

/// A live flow, explained.
#[derive(Debug, Serialize)]
pub(crate) struct Why {
    /// What it matches.
    flow: String,
    /// Where its packets come in: bridge and port.
    from: String,
    /// Packets so far.
    packets: u64,
    /// Bytes so far.
    bytes: u64,
    /// Seconds since the last packet.
    idle: Option<f64>,
    /// What is done with them.
    actions: String,
    /// Flows that its packets hit before they were looked up again, first to last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    before: Vec<String>,
    /// Why they go nowhere, if so: the reason's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    drop: Option<&'static str>,
    /// The reason in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<&'static str>,
    /// The rule, or port, that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_by: Option<String>,
    /// What the packets passed, in order: rules by bridge, table, match, priority and cookie, and buckets of groups;
    /// also what they passed before they were looked up again.
    rules: Vec<String>,
}

/// Explains the live flows of a bridge, or of all, that `question` overlaps with: fields of packets, and `cookie=` or
/// `cookie=VALUE/MASK` of a rule that they passed.
pub(crate) fn ask(control: &Control, bridge: Option<&str>, question: &str) -> Result<Vec<Why>, String> {
    let found = match bridge {
        Some(name) => Some(control.world.bridges.get(name).ok_or_else(|| format!("{name}: unknown bridge"))?),
        None => None,
    };
    let by_name = |name: &str| {
        let of = |b: &crate::bridge::Bridge| b.ifaces.get(name).and_then(|i| i.ofport);
        found.map_or_else(|| control.world.bridges.values().find_map(of), of)
    };
    let (cookie, fields) = split_cookie(question)?;
    let question =
        parse_match(&fields, &Syntax::reading(&by_name)).map_err(|e| format!("{question}: {e}"))?;
    let snapshot = control.pipeline.snapshot();
    let mut flows = control.datapath.flows();
    flows.sort_by_key(|f| std::cmp::Reverse(f.packets));
    let chains = Chains::of(&flows);
    let mut out = Vec::new();
    for flow in &flows {
        let entered = snapshot.port_of(DpPort(flow.matching.key.packet.in_port));
        let Some((id, port)) = entered else { continue };
        let Some(name) = snapshot.bridge(id).map(|b| b.config.name.clone()) else { continue };
        if bridge.is_some_and(|b| b != name) || !overlaps(&question, flow, port) {
            continue;
        }
        let before = chains.before(flow);
        let mut passed = before.iter().copied().chain([flow]).flat_map(|f| &f.cookies);
        if cookie.is_some_and(|(value, mask)| !passed.any(|c| (c ^ value) & mask == 0)) {
            continue;
        }
        out.push(explain(control, &before, flow, &name, port));
        if out.len() >= MOST {
            break;
        }
    }
    Ok(out)
}

/// The cookie that is asked for, which bits of it count, and the rest of the question.
fn split_cookie(question: &str) -> Result<(Option<(u64, u64)>, String), String> {
    let number = |text: &str| {
        let parsed = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        parsed.map_err(|_| format!("cookie={text}: a cookie is a number, such as 0x11 or 0x11/0xff"))
    };
    let mut cookie = None;
    let mut fields = Vec::new();
    for word in question.split(',') {
        match word.trim().strip_prefix("cookie=") {
            Some(_) if cookie.is_some() => return Err("one cookie at a time".into()),
            Some(asked) => {
                let (value, mask) = asked.split_once('/').unwrap_or((asked, "0xffffffffffffffff"));
                cookie = Some((number(value)?, number(mask)?));
            }
            None => fields.push(word),
        }
    }
    Ok((cookie, fields.join(",")))
}

/// Whether some packet of the flow may be meant by the question.
fn overlaps(question: &Match, flow: &FlowEntry, port: OfPort) -> bool {
    let (asked, key) = (&question.mask, &question.key);
    if asked.0.pipeline.in_port != 0 && key.pipeline.in_port != port.0 {
        return false;
    }
    let words =
        asked.words().iter().zip(key.words()).zip(flow.matching.mask.words()).zip(flow.matching.key.words());
    words.take(weft_flow::CACHED_WORDS).all(|(((am, av), fm), fv)| am & fm & (av ^ fv) == 0)
}

/// Which flows send their packets to be looked up again, and as what.
struct Chains<'a> {
    /// By what the packet is looked up as.
    parents: HashMap<u32, Vec<&'a FlowEntry>>,
}

impl<'a> Chains<'a> {
    fn of(flows: &'a [FlowEntry]) -> Chains<'a> {
        let mut parents: HashMap<u32, Vec<&FlowEntry>> = HashMap::new();
        for flow in flows {
            let mut ids = Vec::new();
            resumed_by(&flow.actions, &mut ids);
            ids.into_iter().for_each(|id| parents.entry(id).or_default().push(flow));
        }
        Chains { parents }
    }

    /// The flows that packets of `flow` hit before, first to last.
    fn before(&self, flow: &FlowEntry) -> Vec<&'a FlowEntry> {
        let mut chain: Vec<&FlowEntry> = Vec::new();
        let mut at = flow.matching.key.packet;
        while at.recirc_id != 0 && chain.len() < MOST_BEFORE {
            let parents = self.parents.get(&at.recirc_id).map_or(&[][..], Vec::as_slice);
            // Several packets may go on in the same way: the one that came in by the same port, hit most.
            let same = parents.iter().find(|p| p.matching.key.packet.in_port == at.in_port);
            let Some(parent) = same else { break };
            chain.push(parent);
            at = parent.matching.key.packet;
        }
        chain.reverse();
        chain
    }
}

/// What actions have looked up again.
fn resumed_by(actions: &[DpAction], out: &mut Vec<u32>) {
    for action in actions {
        match action {
            DpAction::Recirc(recirc) => out.push(recirc.id),
            DpAction::Clone(actions) | DpAction::TunnelPush { actions, .. } => resumed_by(actions, out),
            DpAction::CheckPktLen { greater, not_greater, .. } => {
                resumed_by(greater, out);
                resumed_by(not_greater, out);
            }
            _ => {}
        }
    }
}

fn explain(control: &Control, before: &[&FlowEntry], flow: &FlowEntry, bridge: &str, port: OfPort) -> Why {
    let names: HashMap<DpPort, String> =
        control.datapath.ports().into_iter().map(|p| (p.number, p.name)).collect();
    let mut rules = Vec::new();
    for earlier in before {
        let (_, trace) = control.pipeline.trace(&earlier.matching.key, now_ms());
        collect(&trace.steps, bridge, &mut rules);
    }
    let (verdict, trace) = control.pipeline.trace(&flow.matching.key, now_ms());
    collect(&trace.steps, bridge, &mut rules);
    let name = |p: DpPort| names.get(&p).cloned();
    let in_port = names.get(&DpPort(flow.matching.key.packet.in_port)).cloned();
    let shown = in_port.clone();
    let port_name = |p: OfPort| if p == port { shown.clone() } else { None };
    let syntax = Syntax::writing(&port_name);
    let text = |flow: &FlowEntry| {
        let mut key = flow.matching.key;
        key.pipeline.in_port = port.0;
        format_megaflow(&key, &flow.matching.mask, &syntax)
    };
    let drop = flow.drop.or(verdict.drop).filter(|_| DpAction::send_nothing(&flow.actions));
    Why {
        flow: text(flow),
        from: format!("{bridge}/{}", in_port.unwrap_or_else(|| port.to_string())),
        packets: flow.packets,
        bytes: flow.bytes,
        idle: flow.idle_ms.map(|ms| ms as f64 / 1000.0),
        actions: format_dp_actions(&flow.actions, &flow.matching.key.packet, &name),
        before: before.iter().map(|flow| text(flow)).collect(),
        drop: drop.map(|r| r.name()),
        because: drop.map(|r| r.describe()),
        decided_by: trace.drop_at.clone().or_else(|| rules.last().cloned()),
        rules,
    }
}

/// The rules that matched, and the buckets that were chosen, in that order.
fn collect(steps: &[Step], bridge: &str, out: &mut Vec<String>) {
    for step in steps {
        let mut here = bridge;
        match step.kind {
            StepKind::Bridge => here = step.text.split('"').nth(1).unwrap_or(bridge),
            StepKind::Table => out.push(format!("{here} table {}", step.text.trim())),
            StepKind::Bucket => out.push(format!("{here} {}", step.text)),
            StepKind::Action if step.text.starts_with("group:") => out.push(format!("{here} {}", step.text)),
            _ => {}
        }
        collect(&step.steps, here, out);
    }
}

/// The answer for people.
pub(crate) fn table(answer: &[Why]) -> String {
    use std::fmt::Write as _;
    if answer.is_empty() {
        return "no live flow: nothing like this passed lately (try `weft trace` for what would happen)\n"
            .to_owned();
    }
    let mut out = String::new();
    for why in answer {
        let idle = why.idle.map_or("never used again".to_owned(), |s| format!("last {s:.1} s ago"));
        let _ = writeln!(
            out,
            "{}\n  from {}: {} packets, {} bytes, {idle}",
            why.flow, why.from, why.packets, why.bytes
        );
        match (why.drop, why.because) {
            (Some(name), Some(text)) => {
                let _ = writeln!(out, "  dropped: {name}: {text}");
            }
            _ => {
                let _ = writeln!(out, "  sent: {}", why.actions);
            }
        }
        if let Some(by) = &why.decided_by {
            let _ = writeln!(out, "  decided by: {by}");
        }
        for earlier in &why.before {
            let _ = writeln!(out, "  looked up again after: {earlier}");
        }
        for rule in &why.rules {
            let _ = writeln!(out, "    {rule}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_stands_among_fields() {
        let all = u64::MAX;
        for (question, cookie, rest) in [
            ("cookie=0x11", Some((0x11, all)), ""),
            ("tcp,cookie=17/0xff,tp_dst=80", Some((17, 0xff)), "tcp,tp_dst=80"),
            ("ct_state=+trk,ip", None, "ct_state=+trk,ip"),
        ] {
            assert_eq!(split_cookie(question), Ok((cookie, rest.to_owned())), "{question}");
        }
        for wrong in ["cookie=", "cookie=0x1/", "cookie=x", "cookie=1,cookie=2", "cookie=0x10000000000000000"]
        {
            assert!(split_cookie(wrong).is_err(), "{wrong}");
        }
    }
}
