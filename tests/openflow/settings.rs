//! What do settings of the bridge, of its ports and of the switch change about packets? Put to Weft and to Open vSwitch.

use std::process::{Child, Stdio};

use super::{Bench, Kind, compose};

/// Ports that a frame sent into port 1 leaves by.
fn left_by(bench: &mut Bench, frame: &[u8]) -> Vec<usize> {
    bench.wires.send(1, frame);
    bench.wires.drain(1, &[]).expect("what leaves").into_iter().map(|(port, _)| port).collect()
}

/// A bench with these rules.
fn with_rules(kind: Kind, flows: &[&str]) -> Bench {
    let bench = Bench::new(kind);
    bench.clear().expect("empty tables");
    for flow in flows {
        bench.must("OpenFlow10", &["add-flow", "br0", flow]).expect("a rule");
    }
    bench.settle().expect("no old flows");
    bench
}

#[test]
fn fragments_follow_the_mode_at_once() {
    for kind in [Kind::Weft, Kind::Ovs] {
        let rules = ["priority=9,udp,tp_dst=80,actions=output:3", "priority=8,udp,actions=output:2"];
        let mut bench = with_rules(kind, &rules);
        let first = compose::frame("udp,udp_dst=80,ip_frag=first").expect("a frame");
        let later = compose::frame("udp,ip_frag=later").expect("a frame");
        // What was cached under one mode is not used under the next.
        let modes: [(&str, &[usize], &[usize]); 4] =
            [("normal", &[2], &[2]), ("nx-match", &[3], &[2]), ("drop", &[], &[]), ("normal", &[2], &[2])];
        for (mode, of_first, of_later) in modes {
            bench.must("OpenFlow15", &["set-frags", "br0", mode]).expect("a mode");
            bench.settle().expect("no old flows");
            assert_eq!(bench.ofctl("OpenFlow15", &["get-frags", "br0"]).out.trim(), mode, "{kind:?}");
            for (frame, ports) in [(&first, of_first), (&later, of_later)] {
                for time in 1..=2 {
                    assert_eq!(left_by(&mut bench, frame), ports, "{kind:?}: {mode}, time {time}");
                }
            }
        }
    }
}

#[test]
fn tags_are_read_as_far_as_the_limit_says() {
    for kind in [Kind::Weft, Kind::Ovs] {
        let rules = [
            "priority=9,dl_vlan=5,ip,actions=output:3",
            "priority=8,dl_vlan=5,dl_type=0x8100,actions=output:2",
        ];
        let mut bench = with_rules(kind, &rules);
        let mut frame = compose::frame("udp,dl_vlan=6").expect("a frame");
        frame.splice(12..12, [0x81, 0, 0, 5]);
        // One unless told otherwise; 0 is as many as there may be.
        let limits = [(None, 2), (Some(2), 3), (Some(1), 2), (Some(0), 3), (Some(9), 3), (None, 2)];
        for (limit, port) in limits {
            bench.switch.ok(&match limit {
                Some(n) => format!("ovs-vsctl set open_vswitch . other_config:vlan-limit={n}"),
                None => "ovs-vsctl remove open_vswitch . other_config vlan-limit".to_owned(),
            });
            bench.settle().expect("no old flows");
            for time in 1..=2 {
                assert_eq!(left_by(&mut bench, &frame), [port], "{kind:?}: {limit:?}, time {time}");
            }
        }
    }
}

#[test]
fn cached_flows_are_limited() {
    let mut bench =
        with_rules(Kind::Weft, &["priority=9,udp,tp_src=7,actions=output:3", "udp,actions=output:2"]);
    let limit = |bench: &Bench| {
        let shown = bench.switch.ok("ovs-appctl upcall/show");
        let word = shown.split("(limit ").nth(1).and_then(|rest| rest.split(')').next());
        word.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no limit: {shown}"))
    };
    let cached = |bench: &Bench| bench.switch.ok("ovs-appctl dpctl/dump-flows filter=udp");
    let unlimited: usize = limit(&bench);
    bench.switch.ok("ovs-vsctl set open_vswitch . other_config:flow-limit=5");
    assert_eq!(limit(&bench), 5);
    // Source ports that differ from 7 in other bits are other flows.
    for port in [7, 6, 5, 3, 15, 23, 39, 71, 135, 263] {
        let frame = compose::frame(&format!("udp,udp_src={port}")).expect("a frame");
        left_by(&mut bench, &frame);
        assert!(cached(&bench).lines().count() <= 5, "{}", cached(&bench));
    }
    bench.switch.ok("ovs-vsctl remove open_vswitch . other_config flow-limit");
    assert_eq!(limit(&bench), unlimited);
    // What nobody uses goes when it has not been used for as long as it may: half a second, not the usual ten.
    bench.switch.ok("ovs-vsctl set open_vswitch . other_config:max-idle=500");
    left_by(&mut bench, &compose::frame("udp").expect("a frame"));
    let mut longest = 0.0f64;
    loop {
        let flows = cached(&bench);
        if flows.is_empty() {
            break;
        }
        for word in flows.split("used:").skip(1).filter_map(|rest| rest.split("s,").next()) {
            longest = longest.max(word.parse().unwrap_or(0.0));
        }
        assert!(longest < 9.0, "{flows}");
    }
}

#[test]
fn the_serial_number_is_the_configured_one() {
    for kind in [Kind::Weft, Kind::OvsDummy] {
        let bench = Bench::new(kind);
        let serial = |bench: &Bench| {
            let shown = bench.ofctl("OpenFlow13", &["dump-desc", "br0"]).out;
            let line = shown.lines().find_map(|l| l.strip_prefix("Serial Num: "));
            line.unwrap_or_default().to_owned()
        };
        assert_eq!(serial(&bench), "None", "{kind:?}");
        bench.switch.ok("ovs-vsctl set bridge br0 other_config:dp-sn=rack-7");
        assert_eq!(serial(&bench), "rack-7", "{kind:?}");
        bench.switch.ok("ovs-vsctl remove bridge br0 other_config dp-sn");
        assert_eq!(serial(&bench), "None", "{kind:?}");
    }
}

#[test]
fn ports_that_take_no_spanning_tree_frames_say_so() {
    for kind in [Kind::Weft, Kind::Ovs] {
        let bench = Bench::new(kind);
        let line = |version: &str| {
            let command = if version == "OpenFlow10" { "show" } else { "dump-ports-desc" };
            let shown = bench.ofctl(version, &[command, "br0"]).out;
            let mut lines = shown.lines().skip_while(|l| !l.trim_start().starts_with("2(p2)"));
            lines.nth(1).unwrap_or_default().trim().to_owned()
        };
        for (flag, shown) in [("no-receive-stp", "config:     NO_RECV_STP"), ("receive-stp", "config:     0")]
        {
            bench.must("OpenFlow10", &["mod-port", "br0", "p2", flag]).expect("a change");
            assert_eq!(line("OpenFlow10"), shown, "{kind:?}");
            // Later versions have no such bit.
            assert_eq!(line("OpenFlow13"), "config:     0", "{kind:?}");
        }
    }
}

/// `ovs-ofctl monitor`, and what it has heard.
struct Monitor {
    child: Child,
    log: std::path::PathBuf,
}

impl Monitor {
    fn start(bench: &Bench, name: &str, words: &[&str]) -> Monitor {
        let log = bench.switch.path(name);
        let file = std::fs::File::create(&log).expect("a file");
        let child = bench
            .switch
            .inside(&[&["ovs-ofctl", "monitor", "br0", "65534"], words].concat())
            .stdout(file.try_clone().map(Stdio::from).expect("the file twice"))
            .stderr(file)
            .spawn()
            .expect("run ovs-ofctl");
        Monitor { child, log }
    }

    /// How often it heard of packets with this reason.
    fn heard(&self, reason: &str) -> usize {
        let text = std::fs::read_to_string(&self.log).expect("what it heard");
        text.matches(&format!("(via {reason})")).count()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn packets_whose_ttl_ran_out_are_told_to_those_who_ask() {
    for kind in [Kind::Weft, Kind::Ovs] {
        let mut bench = with_rules(kind, &["udp,actions=controller", "tcp,actions=dec_ttl,output:2"]);
        let monitors =
            [Monitor::start(&bench, "asks", &["invalid_ttl"]), Monitor::start(&bench, "does-not", &[])];
        let mark = compose::frame("udp").expect("a frame");
        // Those behind a mark that both heard have heard all before it.
        let both_hear = |bench: &mut Bench| {
            let before: Vec<usize> = monitors.iter().map(|m| m.heard("action")).collect();
            let until = std::time::Instant::now() + crate::support::PATIENCE;
            while monitors.iter().zip(&before).any(|(m, before)| m.heard("action") == *before) {
                assert!(std::time::Instant::now() < until, "{kind:?}: a monitor hears nothing");
                left_by(bench, &mark);
            }
        };
        both_hear(&mut bench);
        let expired = compose::frame("tcp,nw_ttl=1").expect("a frame");
        for _ in 0..2 {
            assert!(left_by(&mut bench, &expired).is_empty());
        }
        both_hear(&mut bench);
        both_hear(&mut bench);
        assert_eq!(monitors.each_ref().map(|m| m.heard("invalid_ttl")), [2, 0], "{kind:?}");
    }
}
