//! When do two traces say the same? When their actions, executed on the traced packet, have the same outcome.
//!
//! The outcome is what can be seen from outside: what each port, controller and connection tracker is given, in order,
//! with which headers, cut to which length, and after which meters. Lists of actions that come to the same are the
//! same: a field set in part or whole, a change undone or made on a copy, a tag taken off and put back. Where the
//! length of the packet decides, the packet is executed with lengths on either side of the limit.

use std::collections::{BTreeMap, BTreeSet};

use crate::actions::{self, DpAction};
use crate::run::{Event, HASHED, Headers, Machine, Passes};

/// Why a packet may come out differently. Each is explained in docs/oracle.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Open vSwitch loses the innermost of three VLAN tags when the third is pushed.
    ThirdTag,
    /// Open vSwitch loses the tag beneath a priority tag that NORMAL takes off, or leaves that on.
    PriorityTag,
    /// Open vSwitch executes no action set behind `exit`.
    ExitSet,
    /// Open vSwitch looks the packet up again, of which it took a header off, and its trace does not go on there.
    Untraced,
    /// Open vSwitch says of a packet that a rule pauses that the first rule of the walk did.
    PauseCookie,
    /// Open vSwitch does only the rest of the rule for packets that are longer, and those that are not, than
    /// `check_pkt_larger` says. With the bit loaded in its place it agrees.
    LengthKnown,
}

/// The datapath actions of each pass, as printed.
pub(crate) fn decisions(trace: &str) -> Vec<&str> {
    trace.lines().filter_map(|l| l.strip_prefix("Datapath actions: ")).map(str::trim).collect()
}

/// Reads a trace's passes, with the recirculations numbered by the pass that they lead to.
pub(crate) fn passes(trace: &str) -> Result<Passes, String> {
    // Which pass a recirculation leads to: those of one number are in the order of the recirculations.
    let mut waiting: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut passes = Passes::default();
    let mut ids = vec![None];
    for line in trace.lines() {
        if let Some(id) = line.strip_prefix("recirc(").and_then(|l| l.split(')').next()) {
            ids.push(Some(id));
        } else if let Some(list) = line.strip_prefix("Datapath actions: ") {
            passes.lists.push(actions::parse(list.trim())?);
        }
    }
    if ids.len() != passes.lists.len() {
        return Err(format!("{} passes, {} lists of actions", ids.len(), passes.lists.len()));
    }
    for (n, id) in ids.into_iter().enumerate().rev() {
        id.into_iter().for_each(|id| waiting.entry(id).or_default().push(n));
    }
    passes.lists.iter_mut().try_for_each(|list| link(list, &mut waiting))?;
    Ok(passes)
}

fn number_meters(list: &mut [DpAction]) {
    for action in list {
        match action {
            DpAction::Meter(id) => {
                if let Ok(n) = id.parse::<u32>() {
                    *id = (n + 1).to_string();
                }
            }
            DpAction::Clone(list) | DpAction::Sample(_, list) => number_meters(list),
            DpAction::CheckPktLen { greater, not_greater, .. } => {
                number_meters(greater);
                number_meters(not_greater);
            }
            _ => {}
        }
    }
}

/// Cookies of the rules that say `controller(pause)`: the last ones before it that are indented less.
fn pause_cookies(trace: &str) -> BTreeSet<String> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = trace.lines().collect();
    let paused = lines.iter().enumerate().filter(|(_, l)| l.trim() == "controller(pause)");
    let rule = |(at, pause): (usize, &&str)| {
        let before = lines[..at].iter().rev().filter(|l| indent(l) < indent(pause));
        let cookie =
            before.filter_map(|l| l.trim().rsplit_once(", cookie ")).map(|(_, cookie)| cookie).next();
        cookie.unwrap_or("0").to_owned()
    };
    paused.map(rule).collect()
}

fn link(list: &mut [DpAction], waiting: &mut BTreeMap<&str, Vec<usize>>) -> Result<(), String> {
    let mut tracked = false;
    for action in list {
        match action {
            DpAction::Recirc(id) => {
                let passes = waiting.get_mut(id.as_str()).filter(|p| !p.is_empty());
                *id = match passes {
                    // Behind a hash, or a header taken off, Open vSwitch's traces do not go on.
                    _ if !tracked => HASHED.to_owned(),
                    // The last one may be led to more than once.
                    Some(passes) if passes.len() > 1 => passes.pop().unwrap_or_default().to_string(),
                    Some(passes) => passes[0].to_string(),
                    None => return Err(format!("recirc({id}) was not traced")),
                };
            }
            DpAction::Clone(list) | DpAction::Sample(_, list) => link(list, waiting)?,
            DpAction::CheckPktLen { greater, not_greater, .. } => {
                link(greater, waiting)?;
                link(not_greater, waiting)?;
            }
            _ => {}
        }
        tracked = matches!(action, DpAction::Ct(_));
    }
    Ok(())
}

/// What each receiver is given, in order. Which of two receivers is served first cannot be seen.
fn by_receiver(events: &[Event]) -> BTreeMap<&str, Vec<&Event>> {
    let mut out: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        // Trackings change one table, controllers have one connection.
        let to =
            event.to.split_once(' ').map_or("", |(kind, _)| if kind == "port" { &event.to } else { kind });
        out.entry(to).or_default().push(event);
    }
    out
}

/// Compares two traces of a packet of this many bytes. `Err` says what is different.
pub(crate) fn same(
    theirs: &str,
    ours: &str,
    headers: &Headers,
    length: usize,
) -> Result<BTreeSet<Rule>, String> {
    let pair = Pair::new(theirs, ours, headers)?;
    let mut rules = BTreeSet::new();
    let mut lengths = BTreeSet::from([length as i64]);
    let mut done = BTreeSet::new();
    while let Some(length) = lengths.pop_first() {
        if done.insert(length) {
            let (limits, rule) = pair.of_length(length)?;
            rules.extend(rule);
            lengths.extend(limits.iter().flat_map(|t| [*t, t + 1]));
        }
    }
    Ok(rules)
}

/// Compares two traces of a packet that is longer, or is not, than every limit.
pub(crate) fn same_extreme(
    theirs: &str,
    ours: &str,
    headers: &Headers,
    long: bool,
) -> Result<Option<Rule>, String> {
    let length = if long { i64::from(u16::MAX) } else { 0 };
    Pair::new(theirs, ours, headers)?.of_length(length).map(|(_, rule)| rule)
}

/// Two traces of a packet.
struct Pair<'a> {
    passes: [Passes; 2],
    headers: &'a Headers,
    /// Tags that were on the packet, at most.
    tags: usize,
    /// Whether NORMAL saw it.
    normal: bool,
    /// Whether it met an `exit`, and no action was executed of the set.
    no_set: bool,
    /// Whether it was hashed.
    hashed: bool,
    /// Cookies of the rules that pause, as either trace shows them.
    pauses: [BTreeSet<String>; 2],
}

impl<'a> Pair<'a> {
    fn new(theirs: &str, ours: &str, headers: &'a Headers) -> Result<Pair<'a>, String> {
        let tags = headers.tags() + theirs.matches("push_vlan:").count();
        let normal = theirs.lines().any(|line| line.trim() == "NORMAL");
        let mut passes = [passes(theirs)?, passes(ours)?];
        // Open vSwitch's datapath counts the meters from 0, Weft's knows them by the controller's numbers.
        passes[0].lists.iter_mut().for_each(|list| number_meters(list));
        let pauses = [pause_cookies(theirs), pause_cookies(ours)];
        let no_set = theirs.lines().any(|line| line.trim() == "exit")
            && theirs.contains("--. Executing action set:\n\n");
        let hashed = decisions(theirs).iter().any(|line| line.contains("hash("));
        Ok(Pair { passes, headers, tags, normal, no_set, hashed, pauses })
    }

    /// Compares the outcomes for one length. Returns the limits of lengths that were met, and a rule that explains what
    /// is different.
    fn of_length(&self, length: i64) -> Result<(BTreeSet<i64>, Option<Rule>), String> {
        let runs = self.passes.each_ref().map(|p| Machine::run(p, self.headers.clone(), length));
        if let Some(e) = runs.iter().find_map(|run| run.errors.first()) {
            return Err(e.clone());
        }
        let limits = runs.iter().flat_map(|run| run.thresholds.iter().copied()).collect();
        let [a, b] = runs.each_ref().map(|run| by_receiver(&run.events));
        let pairs = || a.values().zip(b.values()).flat_map(|(a, b)| a.iter().zip(b));
        let one_to_one = a.keys().eq(b.keys()) && a.values().zip(b.values()).all(|(a, b)| a.len() == b.len());
        let alike = one_to_one && pairs().all(|(a, b)| a.agrees_but_for_lost_tags(b));
        if a == b {
            Ok((limits, None))
        } else if one_to_one && pairs().all(|(a, b)| a == b || self.paused_by_another(a, b)) {
            Ok((limits, Some(Rule::PauseCookie)))
        } else if self.no_set && begins(&a, &b) {
            Ok((limits, Some(Rule::ExitSet)))
        } else if a.contains_key("looked") && !self.hashed && begins(&a, &b) {
            Ok((limits, Some(Rule::Untraced)))
        } else if alike && self.tags > 2 {
            Ok((limits, Some(Rule::ThirdTag)))
        } else if alike && self.tags == 2 && self.normal && pairs().all(|(a, b)| a == b || a.untagged())
            || one_to_one && self.normal && pairs().all(|(a, b)| a == b || a.has_priority_tag_besides(b))
        {
            Ok((limits, Some(Rule::PriorityTag)))
        } else {
            Err(format!("length {length}, {}", first_difference(&a, &b)))
        }
    }
}

impl Pair<'_> {
    /// Whether two packet-ins differ in the cookie alone, and ours is the one of a rule that pauses.
    fn paused_by_another(&self, theirs: &Event, ours: &Event) -> bool {
        let cookie = |event: &Event| {
            let (_, rest) = event.to.split_once("continuation=1,rule_cookie=")?;
            rest.split(',').next().map(str::to_owned)
        };
        let (Some(of_theirs), Some(of_ours)) = (cookie(theirs), cookie(ours)) else { return false };
        let to = theirs.to.replace(&format!("rule_cookie={of_theirs},"), &format!("rule_cookie={of_ours},"));
        self.pauses.iter().all(|rules| rules.contains(&of_ours)) && theirs.sent_to(to) == *ours
    }
}

/// Whether each receiver is given the same first, as far as the first list goes. That a packet is looked up again is not
/// received by anybody.
fn begins(a: &Received<'_>, b: &Received<'_>) -> bool {
    a.iter().filter(|(to, _)| **to != "looked").all(|(to, a)| b.get(to).is_some_and(|b| b.starts_with(a)))
}

type Received<'a> = BTreeMap<&'a str, Vec<&'a Event>>;

/// Says what the first receiver to which something else is sent is sent.
fn first_difference(a: &Received<'_>, b: &Received<'_>) -> String {
    let receivers: BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differ = receivers.into_iter().find(|to| a.get(*to) != b.get(*to)).expect("one differs");
    let text = |of: &Received<'_>| {
        let events = of.get(differ).into_iter().flatten();
        events.map(|e| format!("\n    {e}")).collect::<String>()
    };
    format!("{differ}:\n  OVS{}\n  Weft{}", text(a), text(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ovs: &str, weft: &str) -> bool {
        let mut key = weft_flow::PacketKey { eth_type: 0x800, ipv4_src: 0x0a00_0001, ..Default::default() };
        key.vlan[0] = weft_flow::Vlan { tpid: 0x8100, tci: weft_flow::VLAN_PRESENT | 5 };
        let [ovs, weft] = [ovs, weft].map(|line| {
            format!("Datapath actions: {}\n", line.replace('|', "\nrecirc(0x8) -\nDatapath actions: "))
        });
        same(&ovs, &weft, &Headers::of(&key), 100) == Ok(BTreeSet::new())
    }

    #[test]
    fn lists_that_come_to_the_same_are_the_same() {
        for (ovs, weft) in [
            ("p3,p1", "p1,p3"),
            ("drop", ""),
            ("set(ipv4(src=10.0.0.9)),p1,set(ipv4(src=10.0.0.1)),p2", "clone(set(ipv4(src=10.0.0.9)),p1),p2"),
            ("set(eth(dst=00:00:00:00:00:07/00:00:00:00:00:ff)),p1", "set(eth(dst=00:00:00:00:00:07)),p1"),
            ("pop_vlan,push_vlan(vid=5,pcp=0),push_vlan(vid=6,pcp=1),p1", "push_vlan(vid=6,pcp=1),p1"),
            ("trunc(64),set(ipv4(ttl=3)),p1,p2", "set(ipv4(ttl=3)),trunc(64),p1,p2"),
            ("check_pkt_len(size=100,gt(p1),le(p1)),p2", "p1,p2"),
            ("clone(ct(zone=1),recirc(0x8)),p2|p1", "p2,ct(zone=1),recirc(0x8)|p1"),
            ("hash(l4(0)),recirc(0x9)", "hash(l4(0)),recirc(0x7)"),
        ] {
            assert!(check(ovs, weft), "{ovs} and {weft}");
        }
    }

    #[test]
    fn lists_that_come_to_something_else_are_not() {
        for (ovs, weft) in [
            ("p1", "p1,p1"),
            ("p1,set(ipv4(ttl=3)),p1", "set(ipv4(ttl=3)),p1,p1"),
            ("trunc(64),p1,p2", "trunc(64),p2,p1"),
            ("check_pkt_len(size=100,gt(p1),le(drop))", "check_pkt_len(size=100,gt(drop),le(p1))"),
            ("check_pkt_len(size=100,gt(p1),le(drop))", "drop"),
            (
                "push_vlan(vid=6,pcp=1),check_pkt_len(size=104,gt(p1),le(p2))",
                "check_pkt_len(size=100,gt(p1),le(p2))",
            ),
            ("meter(0),p1", "p1,meter(0)"),
            ("ct(commit,nat(src=1.1.1.1)),set(ipv4(src=10.0.0.1)),p1", "ct(commit,nat(src=1.1.1.1)),p1"),
            ("ct(zone=1),recirc(0x8)|p1", "ct(zone=1),recirc(0x8)|p2"),
            ("p1", "set(skb_priority(0x1)),p1"),
        ] {
            assert!(!check(ovs, weft), "{ovs} and {weft}");
        }
    }
}
