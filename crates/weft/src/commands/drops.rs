//! `weft drops`: why did packets die, where, and how many?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_api::FlowOwner;
use weft_switch::{Daemon, Paths, call};

use super::{Outcome, intent, is_foreign};
use crate::output::{Format, table};

mod ovs;

const EXAMPLES: &str = "\
Examples:
  weft drops                   every reason for which packets were dropped, with ports and rules
  weft drops --watch           what is dropped from now on, second by second
  weft drops -o json           the same for programs

A reason's name is stable; `weft trace` tells which rule or port gives it to a packet.
A rule is charged when it drops, or was the last to match before no other did; the 1,000 rules
that drop most are told.";

/// Arguments of `weft drops`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print what is dropped anew, as it happens, until interrupted.
    #[arg(short, long)]
    watch: bool,
    /// Seconds between looks with --watch.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, requires = "watch")]
    interval: f64,
    /// Run directory of the switch [default: $OVS_RUNDIR, or /var/run/openvswitch].
    #[arg(long, value_name = "DIR")]
    rundir: Option<PathBuf>,
}

/// Drops by reason.
type Counts = BTreeMap<String, u64>;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Report {
    total: Counts,
    reasons: BTreeMap<String, String>,
    ports: Vec<PortDrops>,
    /// Rules that drop, most first.
    rules: Vec<RuleDrops>,
    /// Rules that drop fewer packets than these, which are not told.
    rules_left_out: u64,
    /// What the agent's rules among them are for.
    #[serde(default)]
    owners: Vec<FlowOwner>,
    /// What is to be known of all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// What a rule dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RuleDrops {
    bridge: String,
    table: u8,
    priority: u16,
    cookie: String,
    #[serde(rename = "match")]
    matching: String,
    actions: String,
    reason: String,
    packets: u64,
    bytes: u64,
}

impl RuleDrops {
    /// Whether both are about the same rule and reason.
    fn same(&self, other: &RuleDrops) -> bool {
        let name = |r: &RuleDrops| (r.table, r.priority, r.cookie.clone(), r.reason.clone());
        name(self) == name(other) && self.bridge == other.bridge && self.matching == other.matching
    }

    /// What came since an earlier count; `None`: nothing did.
    fn since(&self, before: &[RuleDrops]) -> Option<RuleDrops> {
        let old = before.iter().find(|old| self.same(old));
        let (packets, bytes) = old.map_or((0, 0), |old| (old.packets, old.bytes));
        let (packets, bytes) = (self.packets.saturating_sub(packets), self.bytes.saturating_sub(bytes));
        (packets > 0).then(|| RuleDrops { packets, bytes, ..self.clone() })
    }

    /// For people.
    fn text(&self) -> String {
        let comma = if self.matching.is_empty() { "" } else { "," };
        format!(
            "{} table {} cookie={},priority={}{comma}{} {}",
            self.bridge, self.table, self.cookie, self.priority, self.matching, self.packets
        )
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PortDrops {
    bridge: String,
    port: String,
    drops: Counts,
}

/// Runs `weft drops`.
pub(crate) fn exec(args: &Args, format: Format) -> Outcome {
    let paths = Paths::resolve(args.rundir.as_deref(), None);
    let report = read(&paths.rundir)?;
    if !args.watch {
        format.print(&report, human)?;
        return Ok(ExitCode::SUCCESS);
    }
    let pause = Duration::try_from_secs_f64(args.interval.max(0.1))?;
    let mut before = report;
    loop {
        std::thread::sleep(pause);
        let now = read(&paths.rundir)?;
        let new = now.since(&before);
        before = now;
        match format {
            Format::Json => println!("{}", serde_json::to_string(&new)?),
            Format::Table if new.total.is_empty() => {}
            _ => println!("{}\n", human(&new)),
        }
    }
}

fn read(rundir: &Path) -> Result<Report, Box<dyn std::error::Error>> {
    let report = match call(rundir, Daemon::Vswitchd, "weft/drops", &["--json"]) {
        Err(why) if is_foreign(&why) => ovs::read(rundir)?,
        answer => serde_json::from_str(&answer?)?,
    };
    let cookies: Vec<&str> = report.rules.iter().map(|rule| rule.cookie.as_str()).collect();
    Ok(Report { owners: intent::owners(&cookies.join(" "), rundir), ..report })
}

impl Report {
    /// What came since an earlier report.
    fn since(&self, before: &Report) -> Report {
        let earlier =
            |p: &PortDrops| before.ports.iter().find(|b| (&b.bridge, &b.port) == (&p.bridge, &p.port));
        let ports = self.ports.iter().map(|p| {
            let old = earlier(p).map(|b| b.drops.clone()).unwrap_or_default();
            PortDrops { bridge: p.bridge.clone(), port: p.port.clone(), drops: difference(&p.drops, &old) }
        });
        Report {
            total: difference(&self.total, &before.total),
            reasons: self.reasons.clone(),
            ports: ports.filter(|p| !p.drops.is_empty()).collect(),
            rules: self.rules.iter().filter_map(|r| r.since(&before.rules)).collect(),
            rules_left_out: self.rules_left_out,
            owners: self.owners.clone(),
            note: None,
        }
    }
}

fn difference(now: &Counts, before: &Counts) -> Counts {
    let new = now.iter().map(|(k, n)| (k.clone(), n.saturating_sub(before.get(k).copied().unwrap_or(0))));
    new.filter(|(_, n)| *n > 0).collect()
}

fn human(report: &Report) -> String {
    let note = report.note.as_ref().map(|note| format!("\n\n{note}")).unwrap_or_default();
    if report.total.is_empty() {
        return format!("no drops{note}");
    }
    let mut rows = table(&["REASON", "PACKETS", "WHERE", "WHY"]);
    for (reason, n) in &report.total {
        let ports: Vec<String> = report
            .ports
            .iter()
            .filter_map(|p| Some(format!("{}/{} {}", p.bridge, p.port, p.drops.get(reason)?)))
            .collect();
        let rules = report.rules.iter().filter(|r| r.reason == *reason);
        let places: Vec<String> = ports.into_iter().chain(rules.map(RuleDrops::text)).collect();
        let why = report.reasons.get(reason).map_or("", String::as_str);
        rows.add_row([reason.clone(), n.to_string(), places.join("\n"), why.to_owned()]);
    }
    let mut text = rows.to_string();
    if report.rules_left_out > 0 {
        text += &format!("\n{} more rules drop fewer packets each", report.rules_left_out);
    }
    let named = |o: &&FlowOwner| report.rules.iter().any(|r| r.cookie == o.cookie);
    let owners: Vec<FlowOwner> = report.owners.iter().filter(named).cloned().collect();
    if !owners.is_empty() {
        text += &format!("\n\nWhose rules these are:\n{}", intent::legend(&owners));
    }
    text + &note
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs.iter().map(|(k, n)| ((*k).to_owned(), *n)).collect()
    }

    #[test]
    fn a_watch_shows_what_is_new() {
        let port = |n| PortDrops {
            bridge: "br0".into(),
            port: "vx".into(),
            drops: counts(&[("tunnel-wrong-vni", n)]),
        };
        let reasons = BTreeMap::from([("tunnel-wrong-vni".to_owned(), "No tunnel.".to_owned())]);
        let rule = |n| RuleDrops {
            bridge: "br0".into(),
            table: 3,
            priority: 9,
            cookie: "0x77".into(),
            matching: "icmp".into(),
            actions: "drop".into(),
            reason: "tunnel-wrong-vni".into(),
            packets: n,
            bytes: n * 100,
        };
        let report = |n| Report {
            rules: vec![rule(n)],
            note: None,
            owners: Vec::new(),
            rules_left_out: 0,
            total: counts(&[("tunnel-wrong-vni", n)]),
            reasons: reasons.clone(),
            ports: vec![port(n)],
        };
        let new = report(7).since(&report(5));
        assert_eq!(new.total, counts(&[("tunnel-wrong-vni", 2)]));
        assert!(human(&new).contains("br0/vx 2"), "{}", human(&new));
        assert_eq!((new.rules.len(), new.rules[0].packets, new.rules[0].bytes), (1, 2, 200));
        assert!(human(&new).contains("br0 table 3 cookie=0x77,priority=9,icmp 2"), "{}", human(&new));
        let none = report(5).since(&report(5));
        assert_eq!(human(&none), "no drops");
    }
}
