//! What if other people's firewalls drop what networks forward, or names that are asked for by TCP? Docker sets the policy
//! of `FORWARD` to drop, many hosts that of `INPUT`, and an accept in a table of ours cannot overrule it: a packet must pass
//! every table.
//!
//! So a rule of ours, marked by its comment, goes to the head of each such chain, for devices of networks that are to be
//! forwarded for, or that are answered, and goes away with them. `open` networks get none: their firewall is the operator's.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use weft_model::{Catalog, Network, NetworkMode};

use crate::heal::Ledger;
use crate::nat::nft;
use crate::resolve::{bridge_end, has_host, host_device};

/// The comment of rules of ours.
pub const MARK: &str = "weft-agent";

/// What others' chains are to let pass, in the words of `iptables`.
pub type Passes = BTreeSet<Pass>;

/// What passes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// What comes in by a device of ours, or leaves by it.
    Routed(String),
    /// The same of a port of a bridge of the kernel, where its frames go through the firewall (`bridge-nf-call-iptables`).
    Bridged(String),
    /// Names that are asked for by TCP, by a device of ours.
    Names(String),
}

/// Where in a packet's way a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hook {
    Forward,
    Input,
}

impl Hook {
    const ALL: [Hook; 2] = [Hook::Forward, Hook::Input];

    /// As `nft` calls it, as `iptables` calls its chain, and what a mend is counted under.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Hook::Forward => ("forward", "FORWARD", "forward-policy"),
            Hook::Input => ("input", "INPUT", "input-policy"),
        }
    }
}

/// A chain that filters what is forwarded, or what is for the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Chain {
    hook: Hook,
    /// The command it is read and written with: `nft`, or one of the kind of `iptables`.
    tool: &'static str,
    family: String,
    table: String,
    name: String,
}

/// One rule of ours, with what it takes to delete it.
type Rule = (BTreeSet<String>, Vec<String>);

/// What others are to let pass for the networks.
pub fn wanted(catalog: &Catalog) -> Passes {
    let routed = |mode| matches!(mode, NetworkMode::Nat | NetworkMode::Routed);
    let ends = catalog.networks().filter(|n| has_host(&n.spec) && routed(n.spec.mode));
    let ends = ends.filter(|n| catalog.subnets_of(n.name()).next().is_some());
    let cables = catalog.networks().filter(|n| n.spec.bridged.as_ref().is_some_and(|b| b.bridge.is_some()));
    let routed = ends.map(|n| Pass::Routed(host_device(n.name())));
    let names = catalog.networks().filter(|n| has_host(&n.spec) && n.spec.mode != NetworkMode::Open);
    let answers = |n: &&Network| {
        n.spec.dns.enabled
            && catalog.subnets_of(n.name()).any(|s| s.spec.service_address(n.spec.mode).is_some())
    };
    let names = names.filter(answers).map(|n| Pass::Names(host_device(n.name())));
    routed.chain(cables.map(|n| Pass::Bridged(bridge_end(n.name())))).chain(names).collect()
}

/// Chains of others, as they were seen last.
#[derive(Debug, Default)]
pub struct Foreign {
    /// What passes by the rules of ours, by chain.
    passed: BTreeMap<Chain, Passes>,
    /// Rules of ours may be somewhere.
    any: bool,
}

impl Foreign {
    /// Puts rules of ours into chains that would drop, and takes those away that are not needed.
    pub fn ensure(&mut self, wanted: &Passes, ledger: &mut Ledger) {
        if wanted.is_empty() && !self.any {
            return;
        }
        let chains = match chains() {
            Ok(chains) => chains,
            Err(why) => return ledger.wrong(why),
        };
        // Chains that are not there at the moment are being written anew.
        let here: BTreeSet<&Chain> = chains.iter().map(|(chain, _)| chain).collect();
        let away = self.passed.iter().filter(|(chain, _)| !here.contains(chain));
        let away = away.map(|(chain, passed)| (chain.clone(), passed & wanted));
        let mut passed: BTreeMap<Chain, Passes> = away.filter(|(_, passed)| !passed.is_empty()).collect();
        for (chain, drops) in chains {
            let here = wanted.iter().filter(|pass| drops && pass.hook() == chain.hook).cloned();
            let wanted: &Passes = &here.collect();
            let before = self.passed.get(&chain).cloned().unwrap_or_default();
            match chain.ensure(wanted, &before, ledger) {
                Ok(now) => drop(passed.insert(chain, now)),
                Err(why) => {
                    ledger.wrong(format!(
                        "the firewall's chain {} {} {} drops what is of networks: {why}; tell it to \
                         accept their devices",
                        chain.family, chain.table, chain.name
                    ));
                    // It may be on its way out: what it had is what it is to have again.
                    passed.insert(chain, &before & wanted);
                }
            }
        }
        self.any = passed.values().any(|p| !p.is_empty());
        self.passed = passed;
    }
}

/// Takes every rule of ours away; what could not be.
pub fn cleanup() -> Vec<String> {
    let mut wrong = Vec::new();
    match chains() {
        Ok(chains) => {
            for (chain, _) in chains {
                let work =
                    chain.ours().and_then(|rules| rules.iter().try_for_each(|(_, rule)| chain.delete(rule)));
                wrong.extend(work.err());
            }
        }
        Err(why) => wrong.push(why),
    }
    wrong
}

/// Chains that filter what is forwarded or for the host, none of ours; true: what they do not know is dropped.
fn chains() -> Result<Vec<(Chain, bool)>, String> {
    let listed = nft(&["-j", "list", "chains"], "")?;
    let listed: Value = serde_json::from_str(&listed).map_err(|e| format!("nft: {e}"))?;
    let mut out = Vec::new();
    for chain in listed["nftables"].as_array().into_iter().flatten().filter_map(|o| o.get("chain")) {
        let text = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
        let (family, table, name) = (text("family"), text("table"), text("name"));
        let ip = matches!(family.as_str(), "ip" | "ip6" | "inet");
        let hook = Hook::ALL.into_iter().find(|hook| text("hook") == hook.names().0);
        let Some(hook) = hook.filter(|_| ip && text("type") == "filter" && table != "weft") else { continue };
        // firewalld's chains reject at their end, whatever their policy.
        let rejects = matches!(name.as_str(), "filter_FORWARD" | "filter_INPUT");
        let drops = text("policy") == "drop" || table == "firewalld" && rejects;
        let known = table == "filter" && name == hook.names().1;
        let tool = match family.as_str() {
            "ip" if known => ["iptables-nft", "iptables"].into_iter().find(|t| runs(t)),
            "ip6" if known => ["ip6tables-nft", "ip6tables"].into_iter().find(|t| runs(t)),
            _ => None,
        };
        out.push((Chain { hook, tool: tool.unwrap_or("nft"), family, table, name }, drops));
    }
    for (tool, family) in legacy_tools() {
        for hook in Hook::ALL {
            let (table, name) = ("filter".to_owned(), hook.names().1.to_owned());
            let drops = run(tool, &asked(hook))?.contains(&format!("-P {name} DROP"));
            out.push((Chain { hook, tool, family: family.into(), table, name }, drops));
        }
    }
    Ok(out)
}

/// How a chain of the firewall from before nftables is asked for.
const fn asked(hook: Hook) -> [&'static str; 4] {
    ["-w", "5", "-S", hook.names().1]
}

/// The commands of that firewall, by family, whose tables are there. Asking makes them: who is not there is not asked.
fn legacy_tools() -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = [("iptables-legacy", "ip_tables_names", "ip"), ("ip6tables-legacy", "ip6_tables_names", "ip6")];
    let there = |(tool, names, _): &(&str, &str, &str)| {
        let tables = std::fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
        tables.lines().any(|l| l == "filter") && runs(tool)
    };
    all.into_iter().filter(there).map(|(tool, _, family)| (tool, family))
}

/// What that firewall does with what is forwarded or for the host: the kernel tells nobody when it changes. Empty: it is not used.
pub fn legacy() -> Vec<String> {
    let all = legacy_tools().flat_map(|(tool, _)| Hook::ALL.map(|hook| run(tool, &asked(hook))));
    all.filter_map(Result::ok).collect()
}

/// Questions for names by TCP, in the words of `iptables`.
const NAMES: &str = "-p tcp -m tcp --dport 53";

impl Pass {
    /// Its rules, each in the words of `iptables`, without comment and target.
    fn rules(&self) -> Vec<Vec<String>> {
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        match self {
            Pass::Routed(device) => vec![words(format!("-i {device}")), words(format!("-o {device}"))],
            Pass::Bridged(port) => ["--physdev-in", "--physdev-out"]
                .map(|way| words(format!("-m physdev {way} {port} --physdev-is-bridged")))
                .into(),
            Pass::Names(device) => vec![words(format!("-i {device} {NAMES}"))],
        }
    }

    fn hook(&self) -> Hook {
        if let Pass::Names(_) = self { Hook::Input } else { Hook::Forward }
    }
}

impl Chain {
    /// Makes the chain hold the rules of these and no others of ours; what passes by them.
    fn ensure(&self, wanted: &Passes, before: &Passes, ledger: &mut Ledger) -> Result<Passes, String> {
        let mut there = self.ours()?;
        let mut passed = Passes::new();
        for pass in wanted {
            if matches!(pass, Pass::Bridged(_)) && !self.sees_bridged() {
                continue;
            }
            let mut missing = false;
            for rule in pass.rules() {
                let words: BTreeSet<String> = rule.iter().cloned().collect();
                let at = there.iter().position(|(found, _)| *found == words);
                if let Some(at) = at {
                    there.remove(at);
                } else {
                    missing = true;
                    self.insert(&rule)?;
                }
            }
            if missing {
                let what = format!("{} {} {} accepts {pass:?}", self.family, self.table, self.name);
                if !before.contains(pass) {
                    tracing::info!(what, "the chain drops what it does not know: a marked rule lets it pass");
                }
                ledger.told(self.hook.names().2, before.contains(pass), &what);
            }
            passed.insert(pass.clone());
        }
        // Of devices that are gone, and what somebody wrote twice.
        there.iter().try_for_each(|(_, rule)| self.delete(rule))?;
        Ok(passed)
    }

    fn sees_bridged(&self) -> bool {
        let setting = match self.family.as_str() {
            "ip" => "bridge-nf-call-iptables",
            "ip6" => "bridge-nf-call-ip6tables",
            _ => return false,
        };
        let on = std::fs::read_to_string(format!("/proc/sys/net/bridge/{setting}"));
        self.tool != "nft" && on.is_ok_and(|on| on.trim() == "1")
    }

    /// The rules of ours.
    fn ours(&self) -> Result<Vec<Rule>, String> {
        if self.tool == "nft" { self.ours_by_nft() } else { self.ours_by_iptables() }
    }

    fn ours_by_iptables(&self) -> Result<Vec<Rule>, String> {
        let listed = run(self.tool, &["-w", "5", "-S", &self.name])?;
        let mut out = Vec::new();
        for line in listed.lines() {
            let words: Vec<String> =
                line.split_whitespace().map(|w| w.trim_matches('"').to_owned()).collect();
            let Some(at) = words.windows(2).position(|w| w[0] == "--comment" && w[1] == MARK) else {
                continue;
            };
            // -A FORWARD … -m comment --comment MARK -j ACCEPT
            let own = words.iter().enumerate().filter(|(i, w)| {
                let comment = *i + 2 >= at && *i <= at + 1;
                *i >= 2 && !comment && !matches!(w.as_str(), "-j" | "ACCEPT")
            });
            out.push((own.map(|(_, w)| w.clone()).collect(), words.into_iter().skip(2).collect()));
        }
        Ok(out)
    }

    fn ours_by_nft(&self) -> Result<Vec<Rule>, String> {
        let listed = nft(&["-a", "-j", "list", "chain", &self.family, &self.table, &self.name], "")?;
        let listed: Value = serde_json::from_str(&listed).map_err(|e| format!("nft: {e}"))?;
        let rules = listed["nftables"].as_array().into_iter().flatten().filter_map(|o| o.get("rule"));
        let mut out = Vec::new();
        for rule in rules.filter(|r| r["comment"].as_str() == Some(MARK)) {
            let matched = &rule["expr"][0]["match"];
            let way = match matched["left"]["meta"]["key"].as_str() {
                Some("iifname") => "-i",
                Some("oifname") => "-o",
                _ => "?",
            };
            let device = matched["right"].as_str().unwrap_or_default();
            let mut words: BTreeSet<String> = [way.to_owned(), device.to_owned()].into();
            if rule["expr"][1]["match"]["right"].as_u64() == Some(53) {
                words.extend(NAMES.split_whitespace().map(str::to_owned));
            }
            out.push((words, vec!["handle".to_owned(), rule["handle"].to_string()]));
        }
        Ok(out)
    }

    fn insert(&self, rule: &[String]) -> Result<(), String> {
        if self.tool != "nft" {
            let mut words = vec!["-w", "5", "-I", &self.name];
            words.extend(rule.iter().map(String::as_str));
            words.extend(["-m", "comment", "--comment", MARK, "-j", "ACCEPT"]);
            return run(self.tool, &words).map(drop);
        }
        let (way, device, port) = match rule {
            [way, device] => (way, device, ""),
            [way, device, ..] if way == "-i" => (way, device, "tcp dport 53 "),
            _ => return Err("it has no words for ports of a bridge".to_owned()),
        };
        let key = if way == "-i" { "iifname" } else { "oifname" };
        let Chain { family, table, name, .. } = self;
        let line = format!(
            "insert rule {family} {table} {name} {key} \"{device}\" {port}accept comment \"{MARK}\"\n"
        );
        nft(&["-f", "-"], &line).map(drop)
    }

    fn delete(&self, rule: &[String]) -> Result<(), String> {
        let rule = rule.iter().map(String::as_str);
        if self.tool == "nft" {
            let words = ["delete", "rule", &self.family, &self.table, &self.name];
            return nft(&words.into_iter().chain(rule).collect::<Vec<_>>(), "").map(drop);
        }
        let words = ["-w", "5", "-D", &self.name];
        run(self.tool, &words.into_iter().chain(rule).collect::<Vec<_>>()).map(drop)
    }
}

/// Whether a command is installed.
fn runs(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

fn run(tool: &str, words: &[&str]) -> Result<String, String> {
    let out = Command::new(tool).args(words).output().map_err(|e| format!("{tool}: {e}"))?;
    if !out.status.success() {
        return Err(format!("{tool} {}: {}", words.join(" "), String::from_utf8_lossy(&out.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
