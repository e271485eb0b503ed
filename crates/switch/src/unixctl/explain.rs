//! Which commands tell programs what packets meet: cached flows with the rules they came from, rules with their counts?
//!
//! Both answer a JSON list, one object per flow or rule; what it holds is said at [`flow`] and [`rule`].

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use weft_datapath::FlowEntry;
use weft_flow::DpPort;
use weft_flow::text::{Syntax, format_dp_actions, format_dp_flow, format_instructions, format_match};
use weft_pipeline::{Rule, RuleCursor, RuleFilter};

use super::bridge::find;
use super::{Answer, Command, SWITCH};
use crate::clock::now_ms;
use crate::control::Control;

pub(super) const COMMANDS: &[Command] = &[
    Command { daemons: SWITCH, name: "weft/flows", usage: "[bridge]", arguments: (0, 1), run: flows },
    Command { daemons: SWITCH, name: "weft/rules", usage: "[bridge]", arguments: (0, 1), run: rules },
];

/// Rules looked at together.
const AT_ONCE: usize = 512;

fn flows(control: &mut Control, args: &[String]) -> Answer {
    let only = args.first().map(|name| find(control, name)).transpose()?;
    let mut owners = HashMap::new();
    for (bridge, iface) in control.world.ifaces() {
        if let Some(port) = iface.dp_port {
            owners.insert(port, (bridge.name.clone(), iface.wanted.name.clone()));
        }
    }
    let wanted = |flow: &&FlowEntry| {
        let owner = owners.get(&DpPort(flow.matching.key.packet.in_port));
        only.is_none_or(|bridge| owner.is_some_and(|(name, _)| *name == bridge.name))
    };
    let all = control.datapath.flows();
    let list: Vec<Value> = all.iter().filter(wanted).map(|f| flow(f, &owners)).collect();
    Ok(Value::from(list).to_string())
}

/// `{bridge, in_port, match, actions, drop, packets, bytes, idle_ms, cookies}`: `drop` is the reason's name or null,
/// `cookies` those of the rules that matched, in order, as `0x…`.
fn flow(flow: &FlowEntry, owners: &HashMap<DpPort, (String, String)>) -> Value {
    let owner = owners.get(&DpPort(flow.matching.key.packet.in_port));
    let name = |port: DpPort| owners.get(&port).map(|(_, name)| name.clone());
    let cookies: Vec<String> = flow.cookies.iter().map(|c| format!("{c:#x}")).collect();
    json!({
        "bridge": owner.map(|(bridge, _)| bridge),
        "in_port": owner.map(|(_, port)| port),
        "match": format_dp_flow(&flow.matching.key, &flow.matching.mask, &name),
        "actions": format_dp_actions(&flow.actions, &flow.matching.key.packet, &name),
        "drop": flow.drop.map(|reason| reason.name()),
        "packets": flow.packets,
        "bytes": flow.bytes,
        "idle_ms": flow.idle_ms,
        "cookies": cookies,
    })
}

fn rules(control: &mut Control, args: &[String]) -> Answer {
    let only = args.first().map(|name| find(control, name)).transpose()?.map(|b| b.id);
    control.datapath.refresh();
    let snapshot = control.pipeline.snapshot();
    let now = now_ms();
    let mut list = Vec::new();
    for bridge in snapshot.bridges().filter(|b| only.is_none_or(|id| id == b.config.id)) {
        let mut rules = RuleCursor::new(bridge.tables.clone(), RuleFilter::default());
        while !rules.is_done() {
            list.extend(rules.next_page(AT_ONCE).iter().map(|r| rule(&bridge.config.name, r, now)));
        }
    }
    Ok(Value::from(list).to_string())
}

/// `{bridge, table, priority, cookie, match, actions, packets, bytes, age_ms, idle_ms}`: `idle_ms` is null when no
/// packet came.
fn rule(bridge: &str, rule: &Rule, now: u64) -> Value {
    let syntax = Syntax::default();
    let used = rule.stats.used_ms.load(Relaxed);
    json!({
        "bridge": bridge,
        "table": rule.table,
        "priority": rule.priority,
        "cookie": format!("{:#x}", rule.cookie),
        "match": format_match(&rule.matching.expand(), &syntax),
        "actions": format_instructions(&rule.instructions, &syntax),
        "packets": rule.stats.packets.load(Relaxed),
        "bytes": rule.stats.bytes.load(Relaxed),
        "age_ms": now.saturating_sub(rule.created_ms),
        "idle_ms": (used > 0).then(|| now.saturating_sub(used)),
    })
}
