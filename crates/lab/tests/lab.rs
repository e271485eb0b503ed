//! Labs against the real kernel. Needs root.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use weft_host::ethtool::{self, Feature};
use weft_host::netns::NetNs;
use weft_host::procfs::ProcessId;
use weft_lab::{Lab, LabSpec, Outcome, UpOptions};

const TWO: &str = r#"
name: t
networks:
  - { name: lan, mtu: 2000, subnets: [192.168.1.0/24, "2001:db8:1::/64"] }
hosts:
  - name: a
    links: [{ addresses: [192.168.1.10, "2001:db8:1::a"] }]
    workloads:
      - { name: vm0, device: vnet0, addresses: [10.0.0.1/8], mtu: 1400, gateways: [10.0.0.9], mac: "02:00:00:00:00:01" }
  - name: b
    links: [{ addresses: [192.168.1.20/25, "2001:db8:1::b"], offloads: false, mtu: 1800, device: uplink }]
    workloads:
      - { name: vm0, offloads: false }
"#;

fn spec(yaml: &str) -> LabSpec {
    LabSpec::parse(yaml, "test").unwrap().unique()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Names of namespaces and files that the lab of this name left on the machine.
fn leftovers(name: &str) -> Vec<String> {
    let mut left: Vec<_> =
        NetNs::names().unwrap().into_iter().filter(|n| n.starts_with(&format!("weft-{name}-"))).collect();
    let dir = Path::new("/run/weft/lab").join(name);
    left.extend(
        [dir.clone(), dir.with_extension("lock")].iter().filter(|p| p.exists()).map(|p| format!("{p:?}")),
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(
        mounts
            .lines()
            .filter(|l| l.contains(&format!("{name}/")) || l.contains(&format!("{name}-")))
            .map(String::from),
    );
    left
}

#[test]
fn two_hosts_reach_each_other_quickly_and_vanish() {
    let spec = spec(TWO);
    let begin = Instant::now();
    let lab = Lab::up(&spec).unwrap();
    let took = begin.elapsed();
    let (a, b) = (lab.host("a"), lab.host("b"));
    for to in ["192.168.1.20", "2001:db8:1::b"] {
        assert!(a.ping(ip(to), second()).unwrap().is_some(), "{to}");
    }
    assert!(b.ping(ip("2001:db8:1::a"), second()).unwrap().is_some());
    assert!(a.ping(ip("192.168.1.99"), Duration::ZERO).unwrap().is_none());
    // Generous: the machine may be busy. Alone it takes a tenth of it.
    assert!(took < second() * 20, "{took:?}");
    eprintln!("up in {took:?}");
    let begin = Instant::now();
    lab.down().unwrap();
    eprintln!("down in {:?}", begin.elapsed());
    assert_eq!(leftovers(&spec.name), Vec::<String>::new());
}

#[test]
fn links_and_workloads_are_as_the_file_says() {
    let lab = Lab::up(&spec(TWO)).unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    let (mut na, mut nb) = (a.netlink().unwrap(), b.netlink().unwrap());
    assert_eq!((na.link("eth0").unwrap().mtu, nb.link("uplink").unwrap().mtu), (2000, 1800));
    let prefixes: Vec<_> =
        nb.addresses().unwrap().into_iter().filter(|x| x.ip == ip("192.168.1.20")).collect();
    assert_eq!(prefixes[0].prefix, 25);
    let vm = lab.workload("a", "vm0");
    let eth0 = vm.netlink().unwrap().link("eth0").unwrap();
    assert_eq!((eth0.mtu, eth0.mac.unwrap().to_string().as_str()), (1400, "02:00:00:00:00:01"));
    assert_eq!(
        vm.netlink().unwrap().route_to(ip("8.8.8.8"), None).unwrap().hops[0].gateway,
        Some(ip("10.0.0.9"))
    );
    assert!(na.link("vnet0").unwrap().admin_up && nb.link("v-vm0").unwrap().carrier);
    let tso = |place: &weft_lab::Place, device: &str| {
        place.inside(|| ethtool::feature(device, Feature::Tso)).unwrap().unwrap()
    };
    assert!(tso(&a, "eth0") && tso(&a, "vnet0"));
    assert!(!tso(&b, "uplink") && !tso(&b, "v-vm0") && !tso(&lab.workload("b", "vm0"), "eth0"));
    assert!(!tso(&lab.network("lan"), "2-b"));
    assert!(lab.place("c").unwrap_err().to_string().ends_with("no host or network c; it has a, b, lan"));
    assert!(lab.place("a/vm9").unwrap_err().to_string().ends_with("no workload a/vm9; it has vm0"));
}

#[test]
fn hosts_have_run_directories_of_their_own() {
    let lab = Lab::up(&spec(TWO)).unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    // The same names on both hosts, and on the machine none.
    for host in [&a, &b] {
        host.sh("sudo ip netns add own && echo $WEFT_LAB_HOST > /run/mark && test ! -e /run/systemd").ok();
        host.sh("sudo -E ip netns exec own ip link set lo up").ok();
        let names = host.exec(["ip", "netns", "list"]).ok();
        assert!(names.contains("own") && names.contains("vm0"), "{names}");
        assert!(host.netns("own").unwrap().ping(ip("127.0.0.1"), second()).unwrap().is_some());
    }
    assert_eq!((a.sh("cat /run/mark").ok(), b.sh("cat /var/run/mark").ok()), ("a".into(), "b".into()));
    assert!(!Path::new("/run/mark").exists() && !NetNs::names().unwrap().contains(&"own".to_owned()));
    assert!(a.sh("ls /sys/class/net").ok().contains("vnet0"));
    // The run directory is the same path inside and outside.
    a.sh("echo hello > $OVS_RUNDIR/file; test -e /run/openvswitch/file").ok();
    assert_eq!(std::fs::read_to_string(a.dir().join("file")).unwrap(), "hello\n");
    assert!(lab.status().hosts[0].workloads.iter().any(|w| w.name == "own"));
    assert!(lab.place("a/own").is_ok());
}

const SERVICES: &str = r#"
name: s
hosts:
  - name: a
    env: { GREETING: hello }
    run:
      - { name: first, command: "sh -c 'sleep 0.05; echo $GREETING; touch $WEFT_RUNDIR/ready; exec sleep 1000'", ready: { file: ready } }
      - { name: second, command: sleep 1000 }
    setup:
      - test -e $OVS_RUNDIR/ready
      - |
        # comments and several lines
        echo one two > x
        grep -q two x
check:
  - { on: a, command: "cat x", expect: two }
"#;

#[test]
fn services_start_in_order_and_are_restarted() {
    let spec = spec(SERVICES);
    let lab = Lab::up(&spec).unwrap();
    assert_eq!(lab.log("a", "first").unwrap(), "hello\n");
    let pid = lab.pid("a", "second").unwrap();
    let line = ProcessId::of(pid).unwrap().command_line();
    assert_eq!(line, "sleep 1000", "the shell makes way");
    assert_eq!(Lab::up_with(&spec, &UpOptions::default()).unwrap().1, Outcome::Unchanged);
    assert!(lab.kill("a", "second").unwrap() && !lab.kill("a", "second").unwrap());
    assert_eq!(lab.status().state, "damaged");
    let (again, outcome) = Lab::up_with(&spec, &UpOptions::default()).unwrap();
    assert_eq!(outcome, Outcome::Restarted(vec!["a/second".into()]));
    assert_ne!(again.pid("a", "second"), Some(pid));
    assert_eq!(again.status().state, "up");
    assert!(again.stop("a", "first", second()).unwrap());
    again.start("a", "first").unwrap();
    let error = again.start("a", "third").unwrap_err().to_string();
    assert!(error.ends_with("has no command a/third; it has a/first, a/second"), "{error}");
}

/// Brings up a lab that must fail; the error, and nothing may be left.
fn failure(yaml: &str) -> String {
    let spec = spec(yaml);
    let error = Lab::up(&spec).unwrap_err().to_string();
    assert_eq!(leftovers(&spec.name), Vec::<String>::new());
    error
}

#[test]
fn failures_name_the_field_and_leave_nothing() {
    let error = failure("name: f\nhosts: [{name: a, setup: ['true', 'echo oops >&2; exit 3']}]");
    assert_eq!(error, "hosts[0].setup[1]: `echo oops >&2; exit 3` failed (status 3 on a)\n    oops");
    let error = failure(
        "name: f\nhosts: [{name: a, run: [{name: r, command: 'echo bad; exit 1', ready: {file: x}}]}]",
    );
    assert!(error.starts_with("hosts[0].run[0]: `echo bad; exit 1` failed (ended at once"), "{error}");
    assert!(error.ends_with("\n    bad"), "{error}");
    let error = failure("name: f\nhosts: [{name: a, wait: [{file: never, seconds: 0.05}]}]");
    assert_eq!(error, "hosts[0].wait[0]: waited 0.05 s for file never on a");
    let error = failure("name: f\nhosts: [{name: a}]\nwait: [{on: a, ping: 192.0.2.1, seconds: 0}]");
    assert_eq!(error, "wait[0]: waited 0 s for 192.0.2.1 to answer ping on a");
    let error = failure("name: f\nhosts: [{name: a}]\ncheck: [{on: a, command: echo yes, expect: no}]");
    assert_eq!(error, "check[0].expect: `echo yes` failed (its output lacks \"no\")\n    yes");
    let error = failure("name: f\nhosts: [{name: a, sysctls: {net.ipv4.no_such: '1'}}]");
    assert!(error.starts_with("hosts[0].sysctls: set sysctl net.ipv4.no_such=1"), "{error}");
}

#[test]
fn another_definition_is_refused_unless_replaced() {
    let one = spec("name: d\nhosts: [{name: a}]");
    let _lab = Lab::up(&one).unwrap();
    let mut two = one.clone();
    two.hosts[0].name = "z".into();
    let error = Lab::up_with(&two, &UpOptions::default()).unwrap_err().to_string();
    assert!(error.contains("is up with another definition"), "{error}");
    let replace = UpOptions { replace: true, ..UpOptions::default() };
    let (lab, outcome) = Lab::up_with(&two, &replace).unwrap();
    assert_eq!(outcome, Outcome::Remade);
    assert!(lab.place("z").is_ok() && lab.place("a").is_err());
    assert!(Lab::list().iter().any(|l| l.name == one.name && l.hosts == 1 && l.state == "up"));
}

#[test]
fn everything_inside_ends_with_the_lab() {
    let spec = spec(TWO);
    let lab = Lab::up(&spec).unwrap();
    let a = lab.host("a");
    // In a namespace of its own making, in a mount namespace of its own, without the lab's environment.
    a.sh("ip netns add own; env -i ip netns exec own setsid sleep 1001 >/dev/null 2>&1 & sleep 0.1").ok();
    // In no namespace of the lab, but marked by the environment.
    let mut marked = Command::new("sleep")
        .arg("1002")
        .envs(a.command(["x"]).get_envs().filter_map(|(k, v)| Some((k, v?))))
        .spawn()
        .unwrap();
    let own: Vec<_> =
        weft_host::procfs::processes().into_iter().filter(|p| p.command_line() == "sleep 1001").collect();
    assert_eq!(own.len(), 1);
    lab.down().unwrap();
    assert!(!own[0].alive() && ProcessId::of(marked.id() as i32).is_none());
    marked.wait().unwrap();
    assert_eq!(leftovers(&spec.name), Vec::<String>::new());
    assert!(!Lab::down_by_name(&spec.name, Duration::ZERO).unwrap(), "there is no such lab any more");
}

#[test]
fn damage_is_mended_and_down_works_after_it() {
    let spec = spec(TWO);
    let lab = Lab::up(&spec).unwrap();
    NetNs::delete(&format!("weft-{}-b", spec.name)).unwrap();
    assert_eq!(lab.status().state, "damaged");
    let (_, outcome) = Lab::up_with(&spec, &UpOptions::default()).unwrap();
    assert_eq!(outcome, Outcome::Remade);
    let mine = format!("weft-{}-b", spec.name);
    NetNs::delete(&mine).unwrap();
    let foreign = NetNs::create(&mine).unwrap();
    let error = Lab::down_by_name(&spec.name, Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains(&format!("network namespace {mine} is another one now; left alone")), "{error}");
    assert_eq!(NetNs::id_of(&mine), Some(foreign.id().unwrap()));
    // Nor is a lab built over what others made.
    let error = Lab::up_with(&spec, &UpOptions::default()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("network namespace {mine} exists")), "{error}");
    NetNs::delete(&mine).unwrap();
    assert_eq!(leftovers(&spec.name), Vec::<String>::new());
}

#[test]
fn panics_take_the_lab_down() {
    let spec = spec("name: p\nhosts: [{name: a, run: [{name: s, command: sleep 1000}]}]");
    let inner = spec.clone();
    let ended = std::thread::spawn(move || {
        let lab = Lab::up(&inner).unwrap();
        let _running = lab.host("a").spawn(["sleep", "1000"]);
        lab.host("nowhere");
    })
    .join();
    assert!(ended.is_err());
    assert_eq!(leftovers(&spec.name), Vec::<String>::new());
}

#[test]
fn labs_live_side_by_side_and_hold_nothing_of_each_other() {
    let (one, two) = (spec(TWO), spec(TWO));
    let first = Lab::up(&one).unwrap();
    let second_lab = Lab::up(&two).unwrap();
    assert_eq!(second_lab.host("a").sh("ls /run/weft/lab").ok(), two.name);
    let id = first.host("a").net_ns().id().unwrap();
    first.down().unwrap();
    assert!(second_lab.host("a").ping(ip("192.168.1.20"), second()).unwrap().is_some());
    // Were the first lab's namespace held by a mount copied into the second's hosts, it would be seen there.
    let mounts = second_lab.host("b").sh("cat /proc/self/mountinfo").ok();
    assert!(!mounts.contains(&one.name) && !mounts.contains(&format!("net:[{}]", id.ino)), "{mounts}");
}

#[test]
fn commands_are_spawned_watched_and_killed() {
    let lab = Lab::up(&spec("name: c\nhosts: [{name: a}]")).unwrap();
    let a = lab.host("a");
    let failed = a.exec(["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((failed.code, failed.stdout.trim(), failed.stderr.trim()), (7, "out", "err"));
    assert!(a.try_exec(["no-such-program"]).unwrap_err().to_string().contains("a: run `no-such-program`"));
    let mut running = a.spawn(["sh", "-c", "echo up; sleep 1000"]);
    while running.stdout() != "up\n" {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(running.process().is_some() && running.try_wait().is_none());
    running.kill();
    assert_eq!(running.wait(second()), Some(137));
}

/// The child of the next test, which alone sets the variable: brings a lab up and leaves it, or is killed on the way.
#[test]
fn child_that_brings_a_lab_up() {
    let Ok(name) = std::env::var("WEFT_TEST_LAB") else { return };
    let mut spec = LabSpec::parse(TWO, "test").unwrap();
    spec.name = name;
    spec.hosts[0].run = LabSpec::parse(SERVICES, "test").unwrap().hosts.remove(0).run;
    Lab::up_with(&spec, &UpOptions::default()).unwrap();
}

#[test]
fn a_lab_killed_while_being_made_is_removed() {
    let name = spec(TWO).name;
    let mut made = 0;
    for round in 0..40u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_brings_a_lab_up"])
            .env("WEFT_TEST_LAB", &name)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(round * 3));
        child.kill().unwrap();
        child.wait().unwrap();
        let state = Lab::list().into_iter().find(|l| l.name == name).map(|l| l.state);
        made += u32::from(state.is_some());
        Lab::down_by_name(&name, Duration::ZERO).unwrap_or_else(|e| panic!("round {round}, {state:?}: {e}"));
        assert_eq!(leftovers(&name), Vec::<String>::new(), "round {round}, {state:?}");
    }
    assert!(made > 5, "killed too early to tell: {made}");
}

#[test]
fn records_of_other_versions_do_not_hinder_removal() {
    let spec = spec("name: v\nhosts: [{name: a, run: [{name: s, command: sleep 1000}]}]");
    let (lab, _) = Lab::up_with(&spec, &UpOptions::default()).unwrap();
    let process = ProcessId::of(lab.pid("a", "s").unwrap()).unwrap();
    let file = Path::new("/run/weft/lab").join(&spec.name).join("lab.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"run\"", "\"launch\"")).unwrap();
    assert!(Lab::open(&spec.name).unwrap_err().to_string().contains("another version of weft"));
    assert!(Lab::down_by_name(&spec.name, Duration::ZERO).unwrap());
    assert!(!process.alive());
    assert_eq!(leftovers(&spec.name), Vec::<String>::new());
    for outside in ["..", "", "a/b", "."] {
        assert!(!Lab::down_by_name(outside, Duration::ZERO).unwrap());
    }
}
