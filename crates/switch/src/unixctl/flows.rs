//! Which commands are about cached flows: showing them, putting them by hand, and telling the rules they come from?

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use weft_datapath::FlowEntry;
use weft_flow::text::{
    Syntax, format_dp_actions, format_dp_flow, format_dp_flow_stats, format_instructions, format_match,
    parse_dp_actions, parse_dp_flow, parse_match,
};
use weft_flow::{DpAction, DpPort, Match, OfPort, RuleRef, TlvTable};
use weft_pipeline::{Bridge, Rule, RuleFilter, Snapshot};

use super::bridge::find;
use super::datapath::without_dp;
use super::{Answer, Command, command};
use crate::clock::now_ms;
use crate::control::Control;

/// Largest file of flows.
const MAX_FILE: u64 = 64 << 20;

pub(super) const COMMANDS: &[Command] = &[
    command("dpctl/add-flow", "[dp] flow actions", (2, 5), |c, a| put_one(c, a, Verb::Add)),
    command("dpctl/add-flows", "[dp] file", (1, 2), |c, a| put_file(c, a, Verb::Add)),
    command("dpctl/del-flow", "[dp] flow", (1, 4), |c, a| put_one(c, a, Verb::Delete)),
    command("dpctl/del-flows", "[dp] [file]", (0, 2), del_flows),
    command("dpctl/dump-flows", "[-m] [--names] [dp] [filter=..] [type=..] [pmd=..]", (0, 6), dump_flows),
    command("dpctl/get-flow", "[dp] ufid", (1, 4), get_flow),
    command("dpctl/mod-flow", "[dp] flow actions", (2, 6), |c, a| put_one(c, a, Verb::Modify)),
    command("dpctl/mod-flows", "[dp] file", (1, 2), |c, a| put_file(c, a, Verb::Modify)),
    command("dpif/dump-flows", "[-m] [--names | --no-names] bridge", (1, 4), dump_bridge_flows),
    command("ofproto/detrace", "[dp] ufid [pmd=..]", (1, 3), detrace),
];

/// Options, and the arguments besides.
#[derive(Default)]
struct Options {
    more: bool,
    names: Option<bool>,
    statistics: bool,
    clear: bool,
    may_create: bool,
    rest: Vec<String>,
}

impl Options {
    fn of(args: &[String]) -> Result<Options, String> {
        let mut options = Options::default();
        for arg in args {
            match arg.as_str() {
                "-m" | "--more" => options.more = true,
                "--names" => options.names = Some(true),
                "--no-names" => options.names = Some(false),
                "-s" | "--statistics" => options.statistics = true,
                "--clear" => options.clear = true,
                "--may-create" => options.may_create = true,
                other if other.starts_with("--") => return Err(format!("unrecognized option '{other}'")),
                _ => options.rest.push(arg.clone()),
            }
        }
        Ok(options)
    }

    fn names(&self) -> bool {
        self.names.unwrap_or(self.more)
    }
}

/// What a flow is known by: the same for the same match, whichever lane caches it.
pub(crate) fn ufid(matching: &Match) -> String {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(salt);
        matching.key.words().iter().chain(matching.mask.words()).for_each(|word| hasher.write_u64(*word));
        hasher.finish()
    };
    let (a, b) = (half(1), half(2));
    format!(
        "ufid:{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

fn by_ufid(control: &Control, text: &str) -> Result<Option<FlowEntry>, String> {
    let digits = text.strip_prefix("ufid:").ok_or("ovs-vswitchd: parsing flow ufid")?;
    let plain: String = digits.chars().filter(|c| *c != '-').collect();
    if plain.len() != 32 || !plain.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err("ovs-vswitchd: parsing flow ufid".into());
    }
    let same = |flow: &FlowEntry| {
        ufid(&flow.matching)[5..]
            .chars()
            .filter(|c| *c != '-')
            .eq(plain.chars().map(|c| c.to_ascii_lowercase()))
    };
    Ok(control.datapath.flows().into_iter().find(same))
}

/// How flows are written.
struct Form<'a> {
    names: bool,
    more: bool,
    ports: std::collections::HashMap<DpPort, String>,
    ufids: bool,
    /// Between identifier and match.
    separator: &'a str,
}

impl<'a> Form<'a> {
    fn of(control: &Control, options: &Options, separator: &'a str) -> Form<'a> {
        let ports = control.datapath.ports().into_iter().map(|p| (p.number, p.name)).collect();
        let ufids = control.unixctl.tools.ufids;
        Form { names: options.names(), more: options.more, ports, ufids, separator }
    }

    fn write(&self, flow: &FlowEntry) -> String {
        let name = |port: DpPort| self.ports.get(&port).filter(|_| self.names).cloned();
        let identifier = match self.more && self.ufids {
            true => format!("{}{}", ufid(&flow.matching), self.separator),
            false => String::new(),
        };
        let matching = format_dp_flow(&flow.matching.key, &flow.matching.mask, &name);
        let stats = format_dp_flow_stats(flow.packets, flow.bytes, flow.idle_ms, flow.tcp_flags);
        let actions = format_dp_actions(&flow.actions, &flow.matching.key.packet, &name);
        let handler = if self.more { ", dp:ovs" } else { "" };
        let extra = match flow.drop {
            Some(reason) if DpAction::send_nothing(&flow.actions) && self.more => {
                format!(", dp-extra-info:drop_reason({reason})")
            }
            _ => String::new(),
        };
        format!("{identifier}{matching}, {stats}{handler}, actions:{actions}{extra}\n")
    }
}

fn dump_flows(control: &mut Control, args: &[String]) -> Answer {
    let options = Options::of(args)?;
    let mut filter = None;
    let mut wanted = true;
    for arg in without_dp(&options.rest)? {
        match arg.split_once('=') {
            Some(("filter", text)) => filter = Some(Filter::parse(control, text)?),
            Some(("type", list)) => wanted &= has_type(list)?,
            // Flows of all lanes are shown as one; there are no others.
            Some(("pmd", number)) => wanted &= number == "-1",
            _ => return Err("ovs-vswitchd: datapath not found (Invalid argument)".into()),
        }
    }
    let form = Form::of(control, &options, ", ");
    let flows = if wanted { control.datapath.flows() } else { Vec::new() };
    Ok(flows.iter().filter(|f| filter.as_ref().is_none_or(|w| w.selects(f))).map(|f| form.write(f)).collect())
}

/// Whether a list of types has one that flows are of: nothing is offloaded.
fn has_type(list: &str) -> Result<bool, String> {
    let mut found = false;
    for kind in list.split(',') {
        match kind {
            "ovs" | "non-offloaded" | "all" => found = true,
            "tc" | "dpdk" | "offloaded" | "partially-offloaded" => {}
            _ => return Err(format!("ovs-vswitchd: Failed to parse type ({list}) (Invalid argument)")),
        }
    }
    Ok(found)
}

fn dump_bridge_flows(control: &mut Control, args: &[String]) -> Answer {
    let options = Options::of(args)?;
    let [bridge] = &options.rest[..] else { return Err("a bridge is needed".into()) };
    let ports: Vec<DpPort> = find(control, bridge)?.ifaces.values().filter_map(|i| i.dp_port).collect();
    let form = Form::of(control, &options, " ");
    let of_bridge = |f: &&FlowEntry| ports.contains(&DpPort(f.matching.key.packet.in_port));
    Ok(control.datapath.flows().iter().filter(of_bridge).map(|f| form.write(f)).collect())
}

/// Packets that are asked for, in the words of `ovs-ofctl`; `in_port` is a port of the datapath.
struct Filter(Match);

impl Filter {
    fn parse(control: &Control, text: &str) -> Result<Filter, String> {
        let by_name = |name: &str| port(control, name).map(|p| OfPort(p.0));
        let parsed = parse_match(text, &Syntax::reading(&by_name));
        let mut matching =
            parsed.map_err(|e| format!("ovs-vswitchd: Failed to parse filter ({text}: {e})"))?;
        matching.key.packet.in_port = matching.key.pipeline.in_port;
        matching.mask.0.packet.in_port = matching.mask.0.pipeline.in_port;
        matching.key.pipeline.in_port = 0;
        matching.mask.0.pipeline.in_port = 0;
        Ok(Filter(matching))
    }

    /// Whether the flow may stand for such packets: what it does not look at does not tell them apart.
    fn selects(&self, flow: &FlowEntry) -> bool {
        let matched = flow.matching.key.words().iter().zip(flow.matching.mask.words());
        let asked = self.0.key.words().iter().zip(self.0.mask.0.words());
        matched.zip(asked).all(|((have, looked), (want, mask))| (have ^ want) & looked & mask == 0)
    }
}

fn port(control: &Control, name: &str) -> Option<DpPort> {
    control.datapath.ports().into_iter().find(|p| p.name == name).map(|p| p.number)
}

/// What to do with a flow put by hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Add,
    Modify,
    Delete,
}

/// Reads a match, with what every cached flow matches: input port, recirculation, and which parts there are.
fn read_flow(control: &Control, text: &str) -> Result<Match, String> {
    let parsed = parse_dp_flow(text, &|name| port(control, name), &TlvTable::new());
    let (mut key, mut mask) =
        parsed.map_err(|e| format!("ovs-vswitchd: parsing flow key ({e}) (Invalid argument)"))?;
    if mask.0.packet.in_port == 0 {
        return Err("ovs-vswitchd: updating flow table (Invalid argument): in_port is needed".into());
    }
    (mask.0.packet.in_port, mask.0.packet.recirc_id) = (u32::MAX, u32::MAX);
    key = mask.apply(&key);
    Ok(Match { key, mask })
}

/// The cached flow with exactly this match.
fn find_flow(control: &Control, matching: &Match) -> Option<FlowEntry> {
    let same = |flow: &FlowEntry| {
        flow.matching.mask.words().iter().eq(matching.mask.words())
            && matching.mask.apply(&flow.matching.key).words() == matching.key.words()
    };
    control.datapath.flows().into_iter().find(same)
}

/// Adds, modifies or deletes one flow. Returns its statistics from before.
fn put(
    control: &Control,
    verb: Verb,
    flow: &str,
    actions: Option<&str>,
    options: &Options,
) -> Result<String, String> {
    let missing = match verb {
        Verb::Delete => {
            "ovs-vswitchd: deleting flow (No such file or directory)\nPerhaps you need to specify a UFID?"
        }
        _ => "ovs-vswitchd: updating flow table (No such file or directory)",
    };
    let found = match flow.strip_prefix("ufid:") {
        Some(_) if verb == Verb::Delete => by_ufid(control, flow)?,
        _ => None,
    };
    let (matching, found) = match found {
        Some(found) => (*found.matching.clone(), Some(found)),
        None if flow.starts_with("ufid:") && verb == Verb::Delete => return Err(missing.into()),
        None => {
            let matching = read_flow(control, flow)?;
            let found = find_flow(control, &matching);
            (matching, found)
        }
    };
    let actions = match actions {
        Some(text) => read_actions(control, text)?,
        None => Vec::new(),
    };
    match (&found, verb) {
        (Some(_), Verb::Add) => return Err("ovs-vswitchd: updating flow table (File exists)".into()),
        (None, Verb::Modify) if !options.may_create => return Err(missing.into()),
        (None, Verb::Delete) => return Err(missing.into()),
        _ => {}
    }
    let gone = |e| format!("ovs-vswitchd: updating flow table ({e})");
    if let Some(found) = found.as_ref().filter(|_| verb == Verb::Delete || options.clear) {
        control.datapath.del_flow(&found.matching).map_err(gone)?;
    }
    if verb != Verb::Delete {
        control.datapath.put_flow(&matching, &actions).map_err(gone)?;
    }
    let stats = |f: &FlowEntry| format_dp_flow_stats(f.packets, f.bytes, f.idle_ms, f.tcp_flags) + "\n";
    Ok(found.as_ref().filter(|_| options.statistics).map(stats).unwrap_or_default())
}

fn read_actions(control: &Control, text: &str) -> Result<Vec<DpAction>, String> {
    let text = text.strip_prefix("actions:").unwrap_or(text);
    let parsed = parse_dp_actions(text, &|name| port(control, name));
    parsed.map_err(|e| format!("ovs-vswitchd: parsing actions ({e}) (Invalid argument)"))
}

fn put_one(control: &mut Control, args: &[String], verb: Verb) -> Answer {
    let options = Options::of(args)?;
    match (without_dp(&options.rest)?, verb) {
        ([flow], Verb::Delete) => put(control, verb, flow, None, &options),
        ([flow, actions], Verb::Add | Verb::Modify) => put(control, verb, flow, Some(actions), &options),
        _ => Err("ovs-vswitchd: datapath not found (Invalid argument)".into()),
    }
}

fn del_flows(control: &mut Control, args: &[String]) -> Answer {
    match without_dp(args)? {
        [] => {
            control.datapath.flush_flows();
            Ok(String::new())
        }
        file => put_file(control, file, Verb::Delete),
    }
}

/// Does what a file says, line by line; what cannot be done is told, and the rest is done.
fn put_file(control: &mut Control, args: &[String], verb: Verb) -> Answer {
    let [name] = without_dp(args)? else {
        return Err("ovs-vswitchd: datapath not found (Invalid argument)".into());
    };
    let failed = |e: &dyn std::fmt::Display| format!("ovs-vswitchd: Opening file \"{name}\" failed ({e})");
    let file = std::fs::metadata(name).map_err(|e| failed(&e))?;
    if !file.is_file() || file.len() > MAX_FILE {
        return Err(failed(&"not a file, or too long"));
    }
    let text = std::fs::read_to_string(name).map_err(|e| failed(&e))?;
    let options = Options { may_create: false, ..Options::default() };
    let mut errors = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let (verb, line) = match line.split_once(char::is_whitespace) {
            Some(("add", rest)) => (Verb::Add, rest.trim()),
            Some(("modify", rest)) => (Verb::Modify, rest.trim()),
            Some(("delete", rest)) => (Verb::Delete, rest.trim()),
            _ => (verb, line),
        };
        let (flow, actions) = parts(line);
        let actions = actions.filter(|_| verb != Verb::Delete);
        if actions.is_none() && verb != Verb::Delete {
            let _ = writeln!(errors, "ovs-vswitchd: Failed parsing line number {}, skipped!", number + 1);
        } else if let Err(e) = put(control, verb, flow, actions, &options) {
            let _ = writeln!(errors, "{e} (line {})", number + 1);
        }
    }
    if errors.is_empty() { Ok(String::new()) } else { Err(errors) }
}

/// Match and actions of a line: `MATCH ACTIONS`, or as flows are dumped.
fn parts(line: &str) -> (&str, Option<&str>) {
    if let Some((flow, actions)) = line.split_once("actions:") {
        let flow = flow.split_once("packets:").map_or(flow, |(flow, _)| flow);
        let extra = actions.split_once(", dp-extra-info:").map_or(actions, |(actions, _)| actions);
        return (flow.trim_end_matches([',', ' ']), Some(extra.trim()));
    }
    match line.rsplit_once(char::is_whitespace) {
        Some((flow, actions)) => (flow.trim().trim_end_matches(','), Some(actions)),
        None => (line, None),
    }
}

fn get_flow(control: &mut Control, args: &[String]) -> Answer {
    let options = Options::of(args)?;
    let [identifier] = without_dp(&options.rest)? else {
        return Err("ovs-vswitchd: datapath not found (Invalid argument)".into());
    };
    let found = by_ufid(control, identifier)?;
    let flow = found.ok_or("ovs-vswitchd: getting flow (No such file or directory)")?;
    Ok(Form::of(control, &options, ", ").write(&flow))
}

/// The rules, and groups, that a cached flow comes from.
fn detrace(control: &mut Control, args: &[String]) -> Answer {
    let mut words = without_dp(args)?.to_vec();
    words.retain(|w| !w.starts_with("pmd="));
    let [identifier] = &words[..] else { return Err("a flow is needed: ofproto/detrace ufid:...".into()) };
    let flow = by_ufid(control, identifier)?.ok_or("UFID was not found")?;
    if flow.pinned {
        return Err("the flow was put by hand: no rule made it".into());
    }
    let verdict = control.pipeline.revalidate(&flow.matching.key, now_ms());
    let snapshot = control.pipeline.snapshot();
    let mut out = String::new();
    let syntax = Syntax::default();
    for rule in &verdict.rules {
        let Some((_, found)) = rule_of(&snapshot, rule) else { continue };
        let priority = match found.priority {
            super::bridge::DEFAULT_PRIORITY => String::new(),
            other => format!("priority={other}"),
        };
        let matching = format_match(&found.matching.expand(), &syntax);
        let words: Vec<String> = [priority, matching].into_iter().filter(|w| !w.is_empty()).collect();
        let comma = if words.is_empty() { "" } else { "," };
        let _ = writeln!(
            out,
            "cookie={:#x}, table={} {}{comma}actions={}",
            found.cookie,
            found.table,
            words.join(","),
            format_instructions(&found.instructions, &syntax)
        );
    }
    for stats in &verdict.counters {
        let groups = snapshot.bridges().flat_map(|b| b.groups.iter());
        for group in groups.filter(|g| Arc::ptr_eq(&g.stats, stats)) {
            let _ = write!(out, "group_id={}", group.id);
            for bucket in &group.buckets {
                let used = verdict.counters.iter().any(|c| Arc::ptr_eq(c, &bucket.stats));
                if used {
                    let actions = weft_flow::text::format_actions(&bucket.actions, &syntax);
                    let _ = write!(out, ",bucket=bucket_id:{},actions={actions}", bucket.id);
                }
            }
            out.push('\n');
        }
    }
    Ok(out)
}

/// A rule that was matched, with its bridge, if it is still there.
pub(crate) fn rule_of(snapshot: &Snapshot, seen: &RuleRef) -> Option<(Arc<Bridge>, Arc<Rule>)> {
    let bridge = snapshot.bridge(seen.bridge)?;
    let filter = RuleFilter {
        table: Some(seen.table),
        cookie: seen.cookie,
        cookie_mask: u64::MAX,
        ..RuleFilter::default()
    };
    let rules = bridge.tables.rules(&filter);
    let found = rules.into_iter().find(|rule| Arc::ptr_eq(&rule.stats, &seen.stats))?;
    Some((bridge.clone(), found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let cases = [
            ("in_port(1),eth() 2", ("in_port(1),eth()", Some("2"))),
            ("in_port(1),eth(), actions:2,3", ("in_port(1),eth()", Some("2,3"))),
            (
                "recirc_id(0),in_port(1), packets:3, bytes:4, used:never, actions:drop, dp-extra-info:x",
                ("recirc_id(0),in_port(1)", Some("drop")),
            ),
            ("in_port(1)", ("in_port(1)", None)),
        ];
        for (line, want) in cases {
            assert_eq!(parts(line), want, "{line}");
        }
    }

    #[test]
    fn identifiers_tell_matches_apart() {
        let mut a = Match::any();
        let first = ufid(&a);
        assert_eq!(first.len(), "ufid:".len() + 36);
        a.key.packet.in_port = 1;
        assert_ne!(ufid(&a), first);
        assert_eq!(ufid(&a), ufid(&a.clone()));
    }
}
