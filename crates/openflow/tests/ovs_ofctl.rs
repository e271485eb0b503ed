//! Debian's `ovs-ofctl` against the toy switch: every command of the first milestone, in every version.
//!
//! Needs `ovs-ofctl`, which `make setup` installs, and fails without it.

#[allow(dead_code)]
#[path = "../examples/ofserve.rs"]
mod ofserve;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, thread};

/// A toy switch in a directory of its own.
struct Toy {
    dir: PathBuf,
    version: &'static str,
}

impl Drop for Toy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Toy {
    fn new(version: &'static str) -> Toy {
        let name = format!("weft-ofctl-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("toy.mgmt")).unwrap();
        thread::spawn(move || ofserve::serve_all(&listener));
        Toy { dir, version }
    }

    fn command(&self, args: &[&str]) -> Command {
        let switch = format!("unix:{}", self.dir.join("toy.mgmt").display());
        let mut command = Command::new("ovs-ofctl");
        command.args(["-t", "20", "-O", self.version]).env("OVS_RUNDIR", &self.dir).stdin(Stdio::null());
        command.args(args.iter().map(|a| if *a == "SW" { switch.as_str() } else { a }));
        command
    }

    /// Standard output and error of a command.
    fn run(&self, args: &[&str]) -> (String, String) {
        let output = self.command(args).output();
        let output = output.unwrap_or_else(|e| panic!("ovs-ofctl cannot be run ({e}); run `make setup`"));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    /// Output of a command that must succeed without a word of complaint.
    fn ok(&self, args: &[&str]) -> String {
        let (out, err) = self.run(args);
        assert_eq!(err, "", "{} {args:?} said {out}", self.version);
        out
    }

    /// The flows, without statistics and the reply's header.
    fn flows(&self) -> Vec<String> {
        let dump = self.ok(&["--no-stats", "dump-flows", "SW"]);
        dump.lines().filter(|l| !l.contains("reply")).map(|l| l.trim().to_string()).collect()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

const VERSIONS: [&str; 6] =
    ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"];

/// A flow of `flows.txt`, and what becomes of it in which versions.
struct Case {
    flow: &'static str,
    expected: Vec<(Vec<&'static str>, &'static str)>,
}

fn cases() -> Vec<Case> {
    let mut out: Vec<Case> = Vec::new();
    for line in include_str!("flows.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match line.strip_prefix("    ") {
            Some(expected) => {
                let (versions, text) = expected.split_once(" = ").unwrap();
                let case = out.last_mut().unwrap();
                case.expected.push((versions.split(' ').collect(), text));
            }
            None => out.push(Case { flow: line, expected: Vec::new() }),
        }
    }
    out
}

#[test]
fn flows_come_back_as_they_were_added() {
    let cases = cases();
    assert!(cases.len() > 50);
    thread::scope(|scope| {
        for version in VERSIONS {
            let cases = &cases;
            scope.spawn(move || flows_of(version, cases));
        }
    });
}

/// Adds every flow of a version at once, told apart by cookies, and compares the dump.
fn flows_of(version: &'static str, cases: &[Case]) {
    let toy = Toy::new(version);
    let number = version.trim_start_matches("OpenFlow");
    let mut checked = 0;
    for Case { flow, expected } in cases {
        let Some((_, text)) = expected.iter().find(|(versions, _)| versions.contains(&number)) else {
            continue;
        };
        toy.ok(&["--no-names", "add-flow", "SW", flow]);
        assert_eq!(toy.flows(), [*text], "{version} {flow}");
        // OpenFlow 1.1 has no way to say "all tables".
        let table = if flow.contains("table=3") { "table=3" } else { "" };
        toy.ok(&["--no-names", "del-flows", "SW", table]);
        checked += 1;
    }
    assert!(checked > if number == "11" { 10 } else { 40 }, "{version}: {checked}");
}

#[test]
fn show_and_dumps() {
    for version in VERSIONS {
        let toy = Toy::new(version);
        let show = toy.ok(&["show", "SW"]);
        for part in [
            "dpid:0000020000000000",
            "1(p1): addr:02:00:00:00:00:01",
            "LOCAL(toy)",
            "10GB-FD",
            "frags=normal",
        ] {
            assert!(show.contains(part), "{version}: {part} in {show}");
        }
        assert!(toy.ok(&["dump-desc", "SW"]).contains("Software: ofserve"));
        assert!(toy.ok(&["dump-ports", "SW"]).contains(": 3 ports"));
        assert!(toy.ok(&["dump-ports", "SW", "2"]).contains("rx pkts=7"));
        assert!(toy.ok(&["dump-ports-desc", "SW"]).contains("2(p2): addr:02:00:00:00:00:02"));
        assert!(toy.ok(&["dump-tables", "SW"]).contains("table 0"));
        assert!(toy.ok(&["queue-stats", "SW"]).contains("0 queues"));
        if version >= "OpenFlow13" {
            let features = toy.ok(&["dump-table-features", "SW"]);
            assert!(features.contains("apply_actions") && features.contains("reg0...reg15"), "{features}");
        }
        if version >= "OpenFlow14" {
            assert!(toy.ok(&["dump-table-desc", "SW"]).contains("table 0"));
        }
        toy.ok(&["probe", "SW"]);
        assert!(ping(&toy).contains("100 bytes from"));
    }
}

/// `ping` never ends by itself.
fn ping(toy: &Toy) -> String {
    let out = toy.file("ping", "");
    let file = fs::File::create(&out).unwrap();
    let mut child = toy.command(&["ping", "SW", "100"]).stdout(file).spawn().unwrap();
    wait_for(&out, "100 bytes");
    stop(&mut child);
    fs::read_to_string(&out).unwrap()
}

fn stop(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits until a file contains a text; the assertion that follows tells if it never did.
fn wait_for(path: impl AsRef<Path>, text: &str) {
    for _ in 0..500 {
        if fs::read_to_string(path.as_ref()).is_ok_and(|t| t.contains(text)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn flows_are_modified_replaced_and_deleted() {
    for version in VERSIONS {
        let toy = Toy::new(version);
        let before = toy.file("before", "priority=1,actions=drop\npriority=2,arp,actions=normal\n");
        let after = toy.file("after", "priority=3,actions=drop\npriority=2,arp,actions=flood\n");
        toy.ok(&["add-flows", "SW", &before]);
        assert_eq!(toy.flows(), ["priority=2,arp actions=NORMAL", "priority=1 actions=drop"]);
        toy.ok(&["replace-flows", "SW", &after]);
        assert_eq!(toy.flows(), ["priority=3 actions=drop", "priority=2,arp actions=FLOOD"]);
        assert_eq!(toy.ok(&["diff-flows", "SW", &after]), "");
        toy.ok(&["mod-flows", "SW", "arp,actions=output:2"]);
        toy.ok(&["--strict", "mod-flows", "SW", "priority=3,actions=output:1"]);
        assert_eq!(toy.flows(), ["priority=3 actions=output:1", "priority=2,arp actions=output:2"]);
        assert!(toy.ok(&["dump-aggregate", "SW"]).contains("flow_count=2"));
        assert!(toy.ok(&["dump-flows", "SW", "out_port=2"]).contains("arp"));
        toy.ok(&["--strict", "del-flows", "SW", "priority=1,arp"]);
        toy.ok(&["del-flows", "SW", "out_port=1"]);
        assert_eq!(toy.flows(), ["priority=2,arp actions=output:2"]);
        if version != "OpenFlow11" {
            toy.ok(&["add-flow", "SW", "cookie=7,actions=drop"]);
            toy.ok(&["del-flows", "SW", "cookie=7/-1"]);
            assert_eq!(toy.flows(), ["priority=2,arp actions=output:2"]);
        }
        toy.ok(&["del-flows", "SW"]);
        assert_eq!(toy.flows(), [""; 0]);
    }
}

#[test]
fn bundles() {
    for version in ["OpenFlow13", "OpenFlow14", "OpenFlow15"] {
        let toy = Toy::new(version);
        let good = toy.file("good", "priority=1,actions=drop\npriority=2,arp,actions=normal\n");
        let bad = toy.file("bad", "priority=7,actions=drop\npriority=1,check_overlap,ip,actions=normal\n");
        toy.ok(&["--bundle", "add-flows", "SW", &good]);
        assert_eq!(toy.flows().len(), 2);
        let (_, err) = toy.run(&["--bundle", "add-flows", "SW", &bad]);
        assert!(err.contains("OFPFMFC_OVERLAP"), "{err}");
        assert_eq!(toy.flows().len(), 2, "all or nothing");
        toy.ok(&["--bundle", "replace-flows", "SW", &toy.file("one", "actions=normal\n")]);
        assert_eq!(toy.flows(), ["actions=NORMAL"]);
    }
}

#[test]
fn ports_fragments_and_errors() {
    for version in VERSIONS {
        let toy = Toy::new(version);
        toy.ok(&["mod-port", "SW", "p1", "no-forward"]);
        assert!(toy.ok(&["show", "SW"]).contains("NO_FWD"));
        toy.ok(&["mod-port", "SW", "1", "forward"]);
        toy.ok(&["mod-port", "SW", "p2", "down"]);
        assert!(toy.ok(&["dump-ports-desc", "SW"]).contains("PORT_DOWN"));
        assert_eq!(toy.ok(&["get-frags", "SW"]), "normal\n");
        toy.ok(&["set-frags", "SW", "drop"]);
        assert_eq!(toy.ok(&["get-frags", "SW"]), "drop\n");
        toy.ok(&["add-flow", "SW", "priority=9,ip,actions=1"]);
        let (_, err) = toy.run(&["add-flow", "SW", "priority=9,check_overlap,tcp,actions=2"]);
        assert!(err.contains("OFPFMFC_OVERLAP"), "{version}: {err}");
        let (_, err) = toy.run(&["add-group", "SW", "group_id=1,type=all"]);
        let known = version == "OpenFlow10" || err.contains("OFPGMFC_OUT_OF_GROUPS");
        assert!(known, "{version}: {err}");
    }
}

#[test]
fn packets_go_out_and_come_in() {
    for version in VERSIONS {
        for format in ["standard", "nxt_packet_in", "nxt_packet_in2"] {
            let toy = Toy::new(version);
            let seen = toy.file("seen", "");
            let file = fs::File::create(&seen).unwrap();
            let mut monitor =
                toy.command(&["-P", format, "monitor", "SW", "65534"]).stderr(file).spawn().unwrap();
            let packet = "ffffffffffff0200000000010800450000140000000040fd0000c0a80001c0a80002";
            // The monitor is listening some time after it was started.
            for _ in 0..100 {
                toy.ok(&["packet-out", "SW", "1", "controller", packet]);
                if fs::read_to_string(&seen).is_ok_and(|t| t.contains("in_port=1")) {
                    break;
                }
            }
            stop(&mut monitor);
            let text = fs::read_to_string(&seen).unwrap();
            assert!(text.contains("in_port=1 (via action) data_len="), "{version} {format}: {text}");
            assert!(text.contains("nw_src=192.168.0.1"), "{version} {format}: {text}");
        }
    }
}
