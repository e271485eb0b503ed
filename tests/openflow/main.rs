//! Does the switch do what rules say? Cases that are data, put to a running switch through ovs-ofctl and real ports.
//!
//! `WEFT_CASES=text` runs only those whose name contains it; `WEFT_CASES_SWITCH=ovs` puts them to Debian's Open vSwitch
//! instead, to see whether they ask the right thing.

mod cases;
mod collector;
mod compose;
mod control;
mod export;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod wires;

use std::collections::HashMap;

use cases::{ForwardCase, MatchCase, RefusalCase};
use control::{Raw, error_of, unhex};
use support::{Kind, Said, Switch};
use weft_openflow::Version;
use wires::{MARK, Wires};

/// Ports of the bridge.
const PORTS: usize = 5;

struct Bench {
    switch: Switch,
    /// Ports' other ends; none where ports are dummies.
    wires: Wires,
    mac: String,
    /// What ovs-ofctl calls errors, by version, type, code and experimenter.
    names: HashMap<Vec<u8>, String>,
}

/// Messages of OpenFlow 1.3 that delete all rules, groups, meters and mappings of tunnel options.
const CLEAR: [&str; 4] = [
    "040e 0038 00000001 0000000000000000 0000000000000000 ff03 0000 0000 0000 ffffffff ffffffff ffffffff
     0000 0000 0001 0004 00000000",
    "040f 0010 00000001 0002 00 00 fffffffc",
    "041d 0010 00000001 0002 0000 ffffffff",
    "0404 0018 00000001 00002320 00000018 0002 000000000000",
];

impl Bench {
    fn new(kind: Kind) -> Bench {
        let switch = Switch::start(kind);
        let wires = Wires::make(&switch.ns, if kind == Kind::OvsDummy { 0 } else { PORTS });
        let mut line = "ovs-vsctl add-br br0 -- set bridge br0 fail_mode=secure".to_owned();
        let (bridge, port) = match kind {
            Kind::Weft => ("", ""),
            Kind::OvsDummy => (" datapath_type=dummy", " type=dummy"),
            Kind::Ovs => (" datapath_type=netdev", ""),
        };
        line.push_str(bridge);
        for n in 1..=PORTS {
            line.push_str(&format!(" -- add-port br0 p{n} -- set interface p{n} ofport_request={n}{port}"));
        }
        switch.ok(&line);
        Bench { switch, wires, mac: String::new(), names: HashMap::new() }
    }

    /// Has Open vSwitch forget what it cached by the rules before: it answers barriers before it does.
    fn settle(&self) -> Result<(), String> {
        if self.switch.kind != Kind::Ovs {
            return Ok(());
        }
        let said = self.switch.run_words(&["ovs-appctl", "revalidator/purge"]);
        if said.code == 0 { Ok(()) } else { Err(said.err) }
    }

    fn ofctl(&self, version: &str, words: &[&str]) -> Said {
        self.switch.run_words(&[&["ovs-ofctl", "-O", version], words].concat())
    }

    fn must(&self, version: &str, words: &[&str]) -> Result<(), String> {
        let said = self.ofctl(version, words);
        if said.code == 0 { Ok(()) } else { Err(format!("{words:?}: {}{}", said.out, said.err)) }
    }

    /// Empty tables but for the rule that lets marks through.
    fn clear(&self) -> Result<(), String> {
        for command in ["del-flows", "del-groups", "del-meters"] {
            self.must("OpenFlow15", &[command, "br0"])?;
        }
        let ports: Vec<String> = (1..=PORTS).map(|n| n.to_string()).collect();
        let mark = format!("priority=65535,dl_type={MARK:#x},actions=in_port,{}", ports.join(","));
        self.must("OpenFlow15", &["add-flow", "br0", &mark])
    }

    fn matches(&mut self, case: &MatchCase) -> Result<(), String> {
        let version = case.3.as_deref().unwrap_or("OpenFlow15");
        self.clear()?;
        let flow = format!("priority=10,{},actions=output:2", case.0);
        self.must(version, &["add-flow", "br0", &flow])?;
        self.settle()?;
        for (packet, taken) in [(&case.1, true), (&case.2, false)] {
            let (port, frame) = packet_of(packet)?;
            // Twice: by a walk, then from the cache.
            for time in ["first", "second"] {
                self.wires.send(port, &frame);
                let out = self.wires.drain(port, &[])?;
                let expected: &[(usize, Vec<u8>)] = if taken { &[(2, frame.clone())] } else { &[] };
                if out != expected {
                    let ports: Vec<usize> = out.iter().map(|o| o.0).collect();
                    return Err(format!(
                        "{packet}, the {time} time: taken: {taken}, but it left by {ports:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn forwards(&mut self, case: &ForwardCase) -> Result<(), String> {
        self.clear()?;
        for line in &case.vsctl {
            let words = support::split(&format!("ovs-vsctl {line}"));
            let said = self.switch.run_words(&words.iter().map(String::as_str).collect::<Vec<_>>());
            if said.code != 0 {
                return Err(format!("{line}: {}", said.err));
            }
        }
        for meter in &case.meters {
            self.must(&case.version, &["add-meter", "br0", meter])?;
        }
        for group in &case.groups {
            self.must(&case.version, &["add-group", "br0", group])?;
        }
        for flow in &case.flows {
            self.must(&case.version, &["add-flow", "br0", flow])?;
        }
        for flow in &case.encoded {
            self.add_encoded(&case.version, flow)?;
        }
        for line in &case.before {
            self.must(&case.version, &support::split(line).iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        // Ports that marks do not come out of, or do not get into.
        let set = |words: &[&str]| {
            (1..=PORTS)
                .filter(|n| {
                    case.before.iter().any(|line| words.iter().any(|w| line.ends_with(&format!("p{n} {w}"))))
                })
                .collect::<Vec<usize>>()
        };
        let (silent, deaf) = (set(&["down", "no-forward"]), set(&["down", "no-receive"]));
        let from = (1..=PORTS).find(|n| !deaf.contains(n)).ok_or("no port takes marks")?;
        self.settle()?;
        let mut out = Vec::new();
        for packet in &case.send {
            let (port, frame) = packet_of(packet)?;
            self.wires.send(port, &frame);
            // One after the other: what one packet changes is for the next.
            out.extend(self.wires.drain(from, &silent)?);
        }
        for (port, frames) in &case.expect {
            for text in frames {
                let Some(at) = out.iter().position(|(p, _)| p == port) else {
                    return Err(format!("nothing (more) left by port {port} where {text:?} was expected"));
                };
                let (_, frame) = out.remove(at);
                if !compose::fits(&frame, text)? {
                    let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
                    return Err(format!("port {port}: not {text:?}: {hex} ({})", describe(&frame)));
                }
            }
        }
        if let Some((port, frame)) = out.first() {
            return Err(format!("a frame left by port {port} that was not expected: {}", describe(frame)));
        }
        self.rules_after(case)?;
        self.connections_after(case)
    }

    fn add_encoded(&self, version: &str, flow: &str) -> Result<(), String> {
        let version = version_of(version)?;
        let message = control::addition(version, flow)?;
        match error_of(&Raw::connect(&self.switch.path("br0.mgmt"), version.wire()).ask(&message)) {
            Some((_, kind, code)) => Err(format!("{flow} is refused: type {kind}, code {code}")),
            None => Ok(()),
        }
    }

    fn connections_after(&self, case: &ForwardCase) -> Result<(), String> {
        if case.connections_after.is_empty() {
            return Ok(());
        }
        let said = self.switch.run_words(&["ovs-appctl", "dpctl/dump-conntrack", "-s"]);
        let missing = case.connections_after.iter().find(|text| !said.out.contains(text.as_str()));
        missing.map_or(Ok(()), |text| Err(format!("no connection with {text:?} in\n{}", said.out)))
    }

    fn rules_after(&self, case: &ForwardCase) -> Result<(), String> {
        if case.rules_after.is_empty() {
            return Ok(());
        }
        let said = self.ofctl(&case.version, &["dump-flows", "br0", "--no-stats"]);
        let missing = case.rules_after.iter().find(|line| !said.out.contains(line.as_str()));
        missing.map_or(Ok(()), |line| Err(format!("no rule {line:?} in\n{}", said.out)))
    }

    /// Empty tables, without a rule that lets anything through: quickly, as there are many refusals.
    fn clear_raw(&self) -> Result<(), String> {
        let mut raw = Raw::connect(&self.switch.path("br0.mgmt"), 4);
        let all: Vec<u8> = CLEAR.iter().map(|hex| unhex(hex)).collect::<Result<Vec<_>, _>>()?.concat();
        match error_of(&raw.ask(&all)) {
            Some((_, kind, code)) => Err(format!("tables are not emptied: type {kind}, code {code}")),
            None => Ok(()),
        }
    }

    fn refuses(&mut self, case: &RefusalCase) -> Result<(), String> {
        self.clear_raw()?;
        for line in &case.before {
            self.must(&case.version, &support::split(line).iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        let said = match (&case.ofctl, &case.message) {
            (Some(line), None) => {
                let words = support::split(line);
                let said = self.ofctl(&case.version, &words.iter().map(String::as_str).collect::<Vec<_>>());
                format!("{}{}", said.out, said.err)
            }
            (None, Some(hex)) => self.answer(&case.version, &case.first, hex)?,
            _ => return Err("a case has either ofctl or message".to_owned()),
        };
        let named = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == case.error);
        if named {
            Ok(())
        } else {
            Err(format!("expected {}, got: {}", case.error, said.lines().next().unwrap_or_default()))
        }
    }

    /// Whether Open vSwitch refuses it in the same way, unless the case says otherwise.
    fn refuses_as_peer(&mut self, case: &RefusalCase) -> Result<(), String> {
        let device = case.ovs_device.as_ref().filter(|_| self.switch.kind == Kind::Ovs);
        let error = device.or(case.ovs.as_ref()).unwrap_or(&case.error).clone();
        self.refuses(&RefusalCase { error, ..case.clone() })
    }

    /// The address of port 1, in hexadecimal digits.
    fn mac(&mut self) -> String {
        if self.mac.is_empty() {
            let shown = self.ofctl("OpenFlow13", &["dump-ports-desc", "br0"]).out;
            let line = shown.lines().find(|l| l.trim_start().starts_with("1(")).unwrap_or_default();
            self.mac = line.split("addr:").nth(1).unwrap_or_default().replace(':', "");
        }
        self.mac.clone()
    }

    /// What the switch says to a message, in the words of ovs-ofctl.
    fn answer(&mut self, version: &str, first: &[String], hex: &str) -> Result<String, String> {
        let number = version_of(version)?.wire();
        let mac = self.mac();
        let message = |hex: &str| {
            let hex = hex.replace("MMMMMMMMMMMM", &mac);
            let length = format!("{:04x}", unhex(&hex.replace("LLLL", "0000"))?.len());
            unhex(&hex.replace("LLLL", &length))
        };
        let mut raw = Raw::connect(&self.switch.path("br0.mgmt"), number);
        for hex in first {
            if let Some((_, kind, code)) = error_of(&raw.ask(&message(hex)?)) {
                return Err(format!("{hex} is refused: type {kind}, code {code}"));
            }
        }
        let answers = raw.ask(&message(hex)?);
        let Some((message, kind, code)) = error_of(&answers) else {
            return Ok(format!("no error among {} messages", answers.len()));
        };
        let number: Vec<u8> = [&message[..1], &message[8..message.len().min(20)]].concat();
        if let Some(name) = self.names.get(&number) {
            return Ok(name.clone());
        }
        let hex: String = message.iter().map(|b| format!("{b:02x}")).collect();
        let said = self.switch.run_words(&["ovs-ofctl", "ofp-print", &hex]);
        let line = said.out.lines().next().unwrap_or_default();
        let name = format!("{line} (type {kind}, code {code})");
        self.names.insert(number, name.clone());
        Ok(name)
    }
}

fn version_of(name: &str) -> Result<Version, String> {
    Version::by_name(name).ok_or_else(|| format!("no version {name}"))
}

/// Port and frame of `port: flow`.
fn packet_of(text: &str) -> Result<(usize, Vec<u8>), String> {
    let (port, flow) = match text.split_once(": ") {
        Some((port, flow)) => (port.trim().parse().map_err(|_| format!("{text}: no port"))?, flow),
        None => (1, text),
    };
    Ok((port, compose::frame(flow)?))
}

fn describe(frame: &[u8]) -> String {
    let mut key = weft_flow::FlowKey::default();
    let parsed = weft_flow::extract_packet(frame, 0, &mut key.packet).is_ok();
    let text = weft_flow::text::format_key(&key, &weft_flow::text::Syntax::default());
    format!("{} bytes, {}{text}", frame.len(), if parsed { "" } else { "malformed: " })
}

#[test]
fn every_case() {
    let filter = std::env::var("WEFT_CASES").unwrap_or_default();
    let peer = std::env::var("WEFT_CASES_SWITCH").is_ok_and(|s| s == "ovs");
    let mut bench = Bench::new(if peer { Kind::Ovs } else { Kind::Weft });
    let (mut run, mut failed) = (0usize, Vec::new());
    for (file, cases) in cases::read() {
        let mut tell = |name: String, result: Result<(), String>| {
            run += 1;
            if let Err(e) = result {
                failed.push(format!("{name}: {e}"));
            }
        };
        let wanted = |name: &str| name.contains(&filter);
        for case in &cases.matches {
            let name = format!("{file}: match {}", case.0);
            if wanted(&name) {
                tell(name, bench.matches(case));
            }
        }
        for case in &cases.forwards {
            let name = format!("{file}: {}", case.name);
            if wanted(&name) && !(peer && case.ovs.is_some()) {
                tell(name, bench.forwards(case));
            }
        }
        for case in &cases.refusals {
            let name = format!("{file}: {}", case.name);
            if wanted(&name) {
                tell(name, if peer { bench.refuses_as_peer(case) } else { bench.refuses(case) });
            }
        }
    }
    println!("{run} cases, {} failed", failed.len());
    assert!(failed.is_empty(), "{} of {run} cases failed:\n{}", failed.len(), failed.join("\n"));
    assert!(!filter.is_empty() || run >= 600, "only {run} cases");
}

#[test]
fn marks_and_priorities_reach_the_device() {
    let mut bench = Bench::new(Kind::Weft);
    let table = "table netdev weft {
chain out {
type filter hook egress device p2 priority 0;
meta mark 7 counter
meta priority 1:1 counter
meta mark 0 meta priority none counter
}
}
";
    let file = bench.switch.path("marks.nft");
    std::fs::write(&file, table).expect("write rules");
    bench.switch.ok(&format!("nft -f {}", file.display()));
    bench.clear().expect("empty tables");
    let flow = "priority=10,udp,actions=output:2,set_field:7->pkt_mark,set_queue:65537,output:2,output:3";
    bench.must("OpenFlow15", &["add-flow", "br0", flow]).expect("a rule");
    let frame = compose::frame("udp").expect("a frame");
    for _ in 0..3 {
        bench.wires.send(1, &frame);
        let out = bench.wires.drain(1, &[]).expect("what leaves");
        assert_eq!(out.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [2, 2, 3]);
    }
    let counters = bench.switch.ok("nft list ruleset");
    let counts: Vec<&str> = counters.lines().filter_map(|line| line.split("packets ").nth(1)).collect();
    let counts: Vec<&str> = counts.iter().filter_map(|line| line.split(' ').next()).collect();
    // What marks the drain's own frames are is not said; they have none.
    assert_eq!(counts[..2], ["3", "3"], "{counters}");
    assert!(counts[2].parse::<u64>().expect("a number") >= 3, "{counters}");
}

#[test]
fn refusals_are_those_of_open_vswitch() {
    let mut bench = Bench::new(Kind::OvsDummy);
    let (mut run, mut failed) = (0usize, Vec::new());
    for (file, cases) in cases::read() {
        for case in &cases.refusals {
            run += 1;
            if let Err(e) = bench.refuses_as_peer(case) {
                failed.push(format!("{file}: {}: {e}", case.name));
            }
        }
    }
    assert!(failed.is_empty() && run > 50, "{} of {run} differ:\n{}", failed.len(), failed.join("\n"));
}
