//! Does `weft switch` behave on the command line, and do `weft trace`, `drops`, `why`, `metrics` and `completions`?

use std::process::{Command, Output};

/// A network namespace and a run directory; what runs in them ends with the test.
struct Place {
    ns: String,
    dir: tempfile::TempDir,
}

impl Place {
    fn new(name: &str) -> Place {
        let ns = format!("weft-cli{}-{name}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &ns]).status().expect("run ip");
        assert!(made.success(), "make a network namespace (root is needed)");
        let dir = tempfile::Builder::new().prefix("wcli").tempdir_in("/tmp").expect("make a directory");
        Place { ns, dir }
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new("ip")
            .args(["netns", "exec", &self.ns, "timeout", "20"])
            .args(words)
            .env("OVS_RUNDIR", self.dir.path())
            .env("OVS_DBDIR", self.dir.path())
            .env("OVS_LOGDIR", self.dir.path())
            .output()
            .expect("run ip")
    }

    fn weft(&self, args: &str) -> Output {
        let words: Vec<&str> = [env!("CARGO_BIN_EXE_weft")].into_iter().chain(args.split(' ')).collect();
        self.run(&words)
    }

    fn ok(&self, args: &str) -> String {
        let said = self.weft(args);
        assert!(said.status.success(), "weft {args}: {said:?}");
        String::from_utf8(said.stdout).expect("UTF-8")
    }

    fn pid(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.dir.path().join("ovs-vswitchd.pid")).ok()?;
        Some(text.trim().to_owned())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = Command::new("kill").args(["-9", &pid]).status();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.ns]).status();
    }
}

#[test]
fn detaches_when_ready_and_runs_once() {
    let place = Place::new("detach");
    place.ok("switch --detach --pidfile --log-file -vconsole:off");
    // Ready means ready: no retry, no wait.
    assert!(place.run(&["ovs-vsctl", "--timeout=1", "add-br", "br0"]).status.success());
    let pid = place.pid().expect("a pid file");
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
    assert_eq!(name.trim(), "weft");
    let again = place.weft("switch --detach");
    assert!(!again.status.success());
    let why = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(why.contains("already locked by process") && why.contains(&pid), "{why}");
    assert!(place.dir.path().join("ovs-vswitchd.log").exists());
    // After a kill -9 everything stale is taken over.
    assert!(Command::new("kill").args(["-9", &pid]).status().expect("run kill").success());
    place.ok("switch --detach");
    assert_ne!(place.pid().expect("a pid file"), pid);
    let list = place.run(&["ovs-vsctl", "--timeout=1", "list-br"]);
    assert_eq!(String::from_utf8_lossy(&list.stdout), "br0\n");
    let stale = place.dir.path().join(format!("ovs-vswitchd.{pid}.ctl"));
    assert!(!stale.exists());
}

#[test]
fn says_why_it_does_not_start() {
    let place = Place::new("start");
    std::fs::write(place.dir.path().join("conf.db"), "not a database\n").expect("write");
    let said = place.weft("switch --detach");
    assert!(!said.status.success());
    let why = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(why.contains("conf.db: not an OVSDB database file"), "{why}");
    assert!(!place.weft("switch -vnonsense").status.success());
    assert!(place.pid().is_none());
}

#[test]
fn traces_and_counts() {
    let place = Place::new("trace");
    assert!(!place.weft("drops").status.success(), "no switch runs");
    place.ok("switch --detach -vconsole:off");
    assert!(place.run(&["ovs-vsctl", "--timeout=5", "add-br", "br0"]).status.success());
    assert_eq!(place.ok("drops").trim(), "no drops");
    let drops: serde_json::Value = serde_json::from_str(&place.ok("drops -o json")).expect("JSON");
    assert!(drops["total"].as_object().is_some_and(serde_json::Map::is_empty), "{drops}");
    let trace = place.ok("trace br0 in_port=LOCAL,dl_src=02:00:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff");
    assert!(trace.contains("bridge(\"br0\")") && trace.contains("Datapath actions: drop"), "{trace}");
    let trace: serde_json::Value =
        serde_json::from_str(&place.ok("trace -o json br0 in_port=LOCAL,dl_dst=ff:ff:ff:ff:ff:ff"))
            .expect("JSON");
    assert_eq!(trace["drop"], "no-other-port");
    let said = place.weft("trace nobr in_port=1");
    assert!(String::from_utf8_lossy(&said.stderr).contains("nobr: unknown bridge"), "{said:?}");
}

#[test]
fn tells_which_rule_decides_and_counts_for_prometheus() {
    let place = Place::new("why");
    place.ok("switch --detach -vconsole:off");
    let run = |line: &str| {
        let said = place.run(&line.split(' ').collect::<Vec<_>>());
        assert!(said.status.success(), "{line}: {said:?}");
    };
    run("ovs-vsctl --timeout=5 add-br br0");
    run("ip addr add 10.0.0.1/24 dev br0");
    run("ip link set br0 up");
    run("ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:02 dev br0");
    run("ovs-ofctl add-flow br0 cookie=0x77,priority=9,icmp,nw_dst=10.0.0.2,actions=drop");
    assert!(!place.run(&["ping", "-c3", "-i0.2", "-W1", "10.0.0.2"]).status.success());
    let why = place.ok("why icmp,nw_dst=10.0.0.2");
    assert!(why.contains("from br0/br0") && why.contains("dropped: rule-drop"), "{why}");
    assert!(why.contains("cookie 0x77"), "{why}");
    let list: serde_json::Value =
        serde_json::from_str(&place.ok("why -o json --bridge br0 icmp")).expect("JSON");
    assert_eq!(list[0]["drop"], "rule-drop", "{list}");
    assert!(place.ok("why tcp,nw_dst=10.0.0.9").contains("no live flow"));
    assert!(!place.weft("why nonsense=1").status.success());
    let metrics = place.ok("metrics");
    let count = |start: &str| {
        let line =
            metrics.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{start}: {metrics}"));
        line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    assert_eq!(count("weft_drops_total{reason=\"rule-drop\"}"), 3);
    assert_eq!(count("weft_rule_packets_total{bridge=\"br0\",table=\"0\",priority=\"9\",cookie=\"0x77\""), 3);
    // Served over HTTP too.
    run("ip link set lo up");
    let weft = env!("CARGO_BIN_EXE_weft");
    let script = format!(
        "{weft} metrics --listen 127.0.0.1:9477 >/dev/null & for i in 1 2 3 4 5 6 7 8 9; do \
         curl -sS http://127.0.0.1:9477/metrics && break; sleep 0.2; done; kill $!"
    );
    let served = place.run(&["sh", "-c", &script]);
    let served = String::from_utf8_lossy(&served.stdout).into_owned();
    assert!(served.contains("weft_rule_packets_total"), "{served}");
}

#[test]
fn completes_for_shells() {
    let place = Place::new("complete");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.ok(&format!("completions {shell}"));
        assert!(script.contains("COMPLETE"), "{shell}");
    }
}
