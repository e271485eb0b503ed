//! Is it told which rule sent or dropped packets, and how many: `weft/why`, `weft/drops`, `metrics`, `ofproto/detrace`?

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use crate::harness::{Switch, Workload};

struct Scene {
    s: Switch,
    a: Workload,
    b: Workload,
}

impl Scene {
    fn new() -> Scene {
        let s = Switch::start();
        let (a, b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
        s.vsctl("add-br br0 -- add-port br0 a -- add-port br0 b");
        assert!(s.pings(&a, "10.1.0.2"));
        Scene { s, a, b }
    }

    fn rules(&self, bridge: &str, rules: &[&str]) {
        set_rules(&self.s, bridge, rules);
    }
}

fn set_rules(s: &Switch, bridge: &str, rules: &[&str]) {
    s.ok(&format!("ovs-ofctl del-flows {bridge}"));
    for rule in rules {
        s.ok(&format!("ovs-ofctl add-flow {bridge} '{rule}'"));
    }
}

/// Answers to a question, and each as one text.
fn why(s: &Switch, question: &str) -> Vec<(Value, String)> {
    let text = s.ok(&format!("ovs-appctl weft/why {question} --json"));
    let answer: Vec<Value> = serde_json::from_str(&text).expect("a list");
    let text = |v: &Value| {
        let rules = v["rules"].as_array().cloned().unwrap_or_default();
        rules.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    };
    answer.into_iter().map(|v| (v.clone(), text(&v))).collect()
}

/// That some flow of the answer has these pieces in the rules it passed, in this order, and is sent there.
fn passes(s: &Switch, question: &str, pieces: &[&str], actions: &str) {
    let answer = why(s, question);
    let good = answer.iter().any(|(flow, rules)| {
        let mut rest = rules.as_str();
        let found = pieces.iter().all(|piece| match rest.find(piece) {
            Some(at) => {
                rest = &rest[at + piece.len()..];
                true
            }
            None => false,
        });
        found && flow["actions"] == actions
    });
    assert!(good, "{question}: no flow by {pieces:?} to {actions} in {answer:#?}");
}

#[test]
fn through_connection_tracking_groups_and_bridges() {
    let scene = Scene::new();
    let s = &scene.s;
    s.ok("ovs-ofctl -OOpenFlow13 add-group br0 'group_id=7,type=select,bucket=weight:1,output:b,bucket=weight:1,output:b'");
    s.ok("ovs-ofctl -OOpenFlow13 add-group br0 'group_id=8,type=indirect,bucket=output:a'");
    scene.rules(
        "br0",
        &[
            "priority=1,actions=normal",
            "cookie=0x11,priority=10,ip,in_port=a,actions=ct(table=1,zone=5)",
            "cookie=0x12,priority=10,ip,in_port=b,actions=ct(table=1,zone=5)",
            "cookie=0x13,table=1,ct_state=+new,ip,actions=ct(commit,zone=5),group:7",
            "cookie=0x14,table=1,ct_state=+est,ip,in_port=a,actions=group:7",
            "cookie=0x15,table=1,ct_state=+est,ip,in_port=b,actions=group:8",
        ],
    );
    s.ok(&format!("ip netns exec {} ping -c5 -i0.2 -W2 10.1.0.2", scene.a.ns));
    // What the last flow of a chain does comes from all rules before it.
    passes(s, "icmp,in_port=a", &["cookie 0x11", "cookie 0x14", "group:7", "bucket"], "b");
    passes(s, "icmp,in_port=a", &["cookie 0x11", "cookie 0x13", "group:7", "bucket"], "b");
    passes(s, "icmp,in_port=b", &["cookie 0x12", "cookie 0x15", "group:8", "bucket"], "a");
    // By cookie: what passed such a rule, also before it was looked up again, and nothing else.
    passes(s, "cookie=0x13", &["cookie 0x11", "cookie 0x13", "group:7"], "b");
    for (cookie, from) in [("0x15", "br0/b"), ("0x11", "br0/a"), ("0x4011/0xff", "br0/a")] {
        let answer = why(s, &format!("cookie={cookie},icmp"));
        let others = answer.iter().filter(|(flow, _)| flow["from"] != from).count();
        assert!(!answer.is_empty() && others == 0, "{cookie}: {answer:#?}");
    }
    assert!(why(s, "cookie=0x77").is_empty());
    assert!(s.appctl("weft/why cookie=x").err.contains("a cookie is a number"));
    // By datapath flow: the rules and groups of each.
    let dump = s.ok("ovs-appctl dpctl/dump-flows -m filter=icmp");
    let mut traced = String::new();
    for ufid in dump.lines().filter_map(|line| line.split(',').next()) {
        traced += &s.ok(&format!("ovs-appctl ofproto/detrace {ufid}"));
        traced.push('\n');
    }
    for line in [
        "cookie=0x11, table=0 priority=10,ip,in_port=1,actions=ct(table=1,zone=5)",
        "cookie=0x14, table=1 ct_state=+est,ip,in_port=1,actions=group:7",
        "group_id=8,bucket=bucket_id:0,actions=output:1",
        "group_id=7,bucket=bucket_id:",
    ] {
        assert!(traced.contains(line), "{line} is not in {traced}");
    }
    // Dropped behind connection tracking, by a rule of another bridge.
    s.vsctl(
        "add-br br1 -- add-port br0 p0 -- set interface p0 type=patch options:peer=p1 \
         -- add-port br1 p1 -- set interface p1 type=patch options:peer=p0",
    );
    scene.rules(
        "br0",
        &[
            "priority=1,actions=normal",
            "cookie=0x21,priority=10,icmp,actions=ct(table=2,zone=6)",
            "table=2,cookie=0x22,icmp,actions=output:p0",
        ],
    );
    set_rules(s, "br1", &["cookie=0x23,icmp,priority=7,actions=drop", "priority=0,actions=normal"]);
    assert!(s.silent(&scene.a, "10.1.0.2"));
    let answer = why(s, "icmp,in_port=a");
    let dropped = answer.iter().find(|(flow, _)| flow["drop"] == "rule-drop");
    let (flow, rules) = dropped.unwrap_or_else(|| panic!("{answer:#?}"));
    assert!(
        rules.contains("cookie 0x21") && rules.contains("br1 table 0. icmp, priority 7, cookie 0x23"),
        "{flow}"
    );
    assert!(flow["decided_by"].as_str().is_some_and(|by| by.contains("0x23")), "{flow}");
    assert_eq!(flow["before"].as_array().map(Vec::len), Some(1), "{flow}");
}

/// Rules as `weft/drops` tells them: cookie to (bridge, table, priority, match, reason, packets).
fn dropping(s: &Switch) -> BTreeMap<String, (String, u64, u64, String, String, u64)> {
    let drops: Value = serde_json::from_str(&s.ok("ovs-appctl weft/drops --json")).expect("JSON");
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let number = |v: &Value| v.as_u64().unwrap_or(0);
    let rules = drops["rules"].as_array().cloned().unwrap_or_default();
    let entry = |r: &Value| {
        let told = (
            text(&r["bridge"]),
            number(&r["table"]),
            number(&r["priority"]),
            text(&r["match"]),
            text(&r["reason"]),
            number(&r["packets"]),
        );
        (text(&r["cookie"]), told)
    };
    rules.iter().map(entry).collect()
}

#[test]
fn drops_are_charged_to_rules() {
    let scene = Scene::new();
    let s = &scene.s;
    scene.rules(
        "br0",
        &[
            "priority=1,actions=normal",
            "cookie=0x31,priority=20,icmp,nw_dst=10.1.0.2,actions=drop",
            "cookie=0x32,priority=20,icmp,nw_dst=10.1.0.1,actions=resubmit(,9)",
        ],
    );
    assert_eq!(s.run(&format!("ip netns exec {} ping -c4 -i0.2 -W1 10.1.0.2", scene.a.ns)).code, 1);
    assert_eq!(s.run(&format!("ip netns exec {} ping -c3 -i0.2 -W1 10.1.0.1", scene.b.ns)).code, 1);
    let told = dropping(s);
    let name = |reason: &str, matching: &str, n: u64| {
        ("br0".to_owned(), 0, 20, matching.to_owned(), reason.to_owned(), n)
    };
    assert_eq!(told.get("0x31"), Some(&name("rule-drop", "icmp,nw_dst=10.1.0.2", 4)), "{told:?}");
    // Nobody took it where this rule sent it.
    assert_eq!(told.get("0x32"), Some(&name("table-miss", "icmp,nw_dst=10.1.0.1", 3)), "{told:?}");
    let text = s.ok("ovs-appctl weft/drops");
    assert!(text.contains("cookie=0x31,priority=20,icmp,nw_dst=10.1.0.2"), "{text}");
    let metrics = s.ok("ovs-appctl metrics");
    let series = "weft_rule_dropped_packets_total{bridge=\"br0\",table=\"0\",priority=\"20\",cookie=\"0x31\",\
                  match=\"icmp,nw_dst=10.1.0.2\",reason=\"rule-drop\"} 4";
    assert!(metrics.contains(series), "{metrics}");
    // A rule that is gone is charged no more.
    s.ok("ovs-ofctl del-flows br0 icmp");
    s.wait_for("nothing is told of it", || !dropping(s).contains_key("0x31"));
}

#[test]
fn through_tunnels() {
    let (a, b) = (Switch::start(), Switch::start());
    a.ok(&format!("ip link add name u type veth peer name u netns {}", b.ns));
    for (s, own, other) in [(&a, "192.168.1.10", "192.168.1.20"), (&b, "192.168.1.20", "192.168.1.10")] {
        s.ok("ip link set dev u up");
        s.ok(&format!("ip addr add {own}/24 dev u"));
        s.vsctl(&format!(
            "add-br br0 -- add-port br0 vx -- set interface vx type=vxlan options:remote_ip={other} options:key=flow"
        ));
    }
    let (vm_a, vm_b) = (a.workload("va", "10.0.0.1/24"), b.workload("vb", "10.0.0.2/24"));
    a.vsctl("add-port br0 va");
    b.vsctl("add-port br0 vb");
    let rules = |port: &str| {
        [
            format!("cookie=0x41,in_port={port},actions=set_field:5->tun_id,output:vx"),
            format!("cookie=0x42,in_port=vx,tun_id=5,actions=output:{port}"),
            "cookie=0x43,priority=40000,in_port=vx,tcp,actions=drop".to_owned(),
        ]
    };
    for (s, port) in [(&a, "va"), (&b, "vb")] {
        let rules = rules(port);
        set_rules(s, "br0", &rules.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert!(a.pings(&vm_a, "10.0.0.2"));
    passes(&b, "icmp,in_port=vx", &["cookie 0x42"], "vb");
    let sent = why(&a, "icmp,in_port=va");
    let by = |(flow, rules): &(Value, String)| {
        rules.contains("cookie 0x41") && flow["actions"].as_str().is_some_and(|a| a.contains("vx"))
    };
    assert!(sent.iter().any(by), "{sent:#?}");
    // What is dropped after the tunnel is charged to the rule there.
    let connect = format!(
        "ip netns exec {} timeout 2 python3 -c 'import socket;socket.create_connection((\"10.0.0.2\",9),1)'",
        vm_a.ns
    );
    assert_ne!(a.run(&connect).code, 0);
    let told = dropping(&b);
    assert!(told.get("0x43").is_some_and(|t| t.4 == "rule-drop" && t.5 >= 1), "{told:?}");
    drop(vm_b);
}

/// Reads the exposition format strictly: every series belongs to a family that was announced just before, once.
fn parse_metrics(text: &str) -> Result<BTreeMap<String, usize>, String> {
    let mut families: BTreeMap<String, usize> = BTreeMap::new();
    let (mut family, mut seen) = (String::new(), HashSet::new());
    let mut helped = String::new();
    let is_name = |name: &str| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    for line in text.lines() {
        let wrong = |what: &str| Err(format!("{what}: {line}"));
        if let Some(help) = line.strip_prefix("# HELP ") {
            helped = help.split(' ').next().unwrap_or("").to_owned();
            continue;
        }
        if let Some(ty) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = ty.split_once(' ') else { return wrong("no type") };
            if name != helped || !matches!(kind, "counter" | "gauge") || !is_name(name) {
                return wrong("type");
            }
            if kind == "counter" && !name.ends_with("_total") {
                return wrong("a counter's name ends in _total");
            }
            if families.insert(name.to_owned(), 0).is_some() {
                return wrong("announced twice");
            }
            family = name.to_owned();
            continue;
        }
        let end = line.find(['{', ' ']).unwrap_or(line.len());
        let (name, mut rest) = line.split_at(end);
        if name != family {
            return wrong("not of the family announced");
        }
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let Some((label, value)) = rest.split_once("=\"") else { return wrong("label") };
                let mut text = String::new();
                let mut chars = value.char_indices();
                let close = loop {
                    match chars.next() {
                        Some((_, '\\')) => match chars.next() {
                            Some((_, c @ ('\\' | '"'))) => text.push(c),
                            Some((_, 'n')) => text.push('\n'),
                            _ => return wrong("escape"),
                        },
                        Some((at, '"')) => break at,
                        Some((_, c)) => text.push(c),
                        None => return wrong("open quote"),
                    }
                };
                if !is_name(label) || labels.insert(label.to_owned(), text).is_some() {
                    return wrong("label name");
                }
                rest = &value[close + 1..];
                rest = rest.strip_prefix(',').unwrap_or(rest);
            }
            rest = &rest[1..];
        }
        let value = rest.strip_prefix(' ').and_then(|v| v.parse::<f64>().ok());
        if value.is_none() {
            return wrong("value");
        }
        if !seen.insert((family.clone(), labels)) {
            return wrong("the same series again");
        }
        *families.entry(family.clone()).or_default() += 1;
    }
    Ok(families)
}

#[test]
fn metrics_are_valid_and_bounded() {
    let scene = Scene::new();
    let s = &scene.s;
    // More rules than are listed.
    let mut flows = String::new();
    for n in 0..10_500 {
        flows += &format!(
            "table=5,priority={},ip,nw_dst=11.{}.{}.{},actions=drop\n",
            n % 7,
            n >> 16,
            n >> 8 & 255,
            n & 255
        );
    }
    std::fs::write(s.path("flows"), flows).expect("write a file");
    s.ok(&format!("ovs-ofctl --bundle add-flows br0 {}", s.path("flows").display()));
    let text = s.ok("ovs-appctl metrics");
    let families = parse_metrics(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(families["weft_rule_packets_total"], 10_000);
    assert!(text.contains("weft_rules{bridge=\"br0\"} 10501\n"), "10,501 rules");
    assert!(text.contains("\nweft_rules_listed 10000\n"));
    assert!(families["weft_drops_total"] > 40 && families["weft_port_packets_total"] >= 6);
    let json: Value = serde_json::from_str(&s.ok("ovs-appctl weft/metrics --json")).expect("JSON");
    let of = |name: &str| json.as_array().and_then(|all| all.iter().find(|f| f["name"] == name).cloned());
    assert_eq!(of("weft_rules").expect("a family")["samples"][0]["value"], 10_501);
    for broken in [
        "x 1",
        "# HELP x h\n# TYPE x counter\nx 1",
        "# HELP x h\n# TYPE x gauge\nx{a=\"1} 1",
        "# HELP x h\n# TYPE x gauge\nx 1\nx 2",
    ] {
        assert!(parse_metrics(broken).is_err(), "{broken}");
    }
    drop((scene.a, scene.b));
}

#[test]
fn traces_name_ports_when_asked() {
    let s = Switch::start();
    let _ends = (s.workload("t1", "10.1.0.1/24"), s.workload("t2", "10.1.0.2/24"));
    s.vsctl("add-br br0 -- add-port br0 t1 -- set interface t1 ofport_request=1");
    s.vsctl("add-port br0 t2 -- set interface t2 ofport_request=2");
    s.ok("ovs-ofctl -O OpenFlow13 add-flow br0 in_port=1,udp,actions=output:2,write_actions(output:1)");
    for command in ["ofproto/trace", "weft/trace"] {
        let numbered = s.ok(&format!("ovs-appctl {command} br0 in_port=t1,udp"));
        let wanted = ["Flow: udp,in_port=1,", " 0. udp,in_port=1, priority", "output:2", "Megaflow: "];
        assert!(wanted.iter().all(|text| numbered.contains(text)), "{numbered}");
        assert!(!numbered.contains("t1") && !numbered.contains("t2"), "{numbered}");
        let options =
            if command == "weft/trace" { "br0 in_port=1,udp --names" } else { "--names br0 in_port=1,udp" };
        let named = s.ok(&format!("ovs-appctl {command} {options}"));
        let wanted = [
            "Flow: udp,in_port=t1,",
            " 0. udp,in_port=t1, priority",
            "output:t2",
            "action set is: output:t1",
        ];
        assert!(wanted.iter().all(|text| named.contains(text)), "{named}");
        assert!(named.contains("Datapath actions: t2") && !named.contains("in_port=1"), "{named}");
    }
    let refused = s.run("ovs-appctl weft/trace br0 in_port=1,udp --nickname");
    assert!(refused.code != 0 && refused.err.contains("--nickname: unknown option"), "{}", refused.err);
}
