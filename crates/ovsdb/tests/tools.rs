//! Do the tools of Open vSwitch work with our server and our files?

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{Debian, Scratch, run, run_failing, start_ours, tool};

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/open_vswitch.json");
const SERVER_SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/server.json");
const DEBIANS: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// A fresh server of ours and the words that make ovs-vsctl talk to it.
struct Ours {
    scratch: Scratch,
    db: String,
    socket: String,
}

impl Ours {
    fn start() -> Self {
        let scratch = Scratch::new();
        let db = scratch.path("conf.db");
        let socket = format!("unix:{}", start_ours(&scratch, &db));
        Self { scratch, db, socket }
    }

    fn vsctl(&self, line: &str) -> String {
        let db = format!("--db={}", self.socket);
        let mut args = vec![db.as_str(), "--no-wait", "--timeout=10"];
        args.extend(line.split(' '));
        run("ovs-vsctl", &args)
    }

    fn vsctl_fails(&self, line: &str) -> String {
        let db = format!("--db={}", self.socket);
        let mut args = vec![db.as_str(), "--no-wait", "--timeout=10"];
        args.extend(line.split(' '));
        run_failing("ovs-vsctl", &args)
    }

    fn client(&self, args: &[&str]) -> String {
        let mut all = vec![args[0], self.socket.as_str()];
        all.extend(&args[1..]);
        run("ovsdb-client", &all)
    }
}

#[test]
fn our_schema_is_the_one_debian_carries() {
    let scratch = Scratch::new();
    let db = scratch.path("conf.db");
    run("ovsdb-tool", &["create", &db, SCHEMA]);
    assert_eq!(run("ovsdb-tool", &["needs-conversion", &db, DEBIANS]), "no\n");
    for command in ["schema-version", "schema-cksum", "schema-name"] {
        assert_eq!(run("ovsdb-tool", &[command, SCHEMA]), run("ovsdb-tool", &[command, DEBIANS]));
    }
    let bridge = fs::read_to_string(SCHEMA).expect("our schema").replace("4095", "4094");
    let altered = scratch.path("altered");
    fs::write(&altered, bridge).expect("written");
    assert_eq!(run("ovsdb-tool", &["needs-conversion", &db, &altered]), "yes\n");
}

#[test]
fn the_server_schema_is_the_one_debian_serves() {
    let scratch = Scratch::new();
    let db = scratch.path("conf.db");
    run("ovsdb-tool", &["create", &db, SCHEMA]);
    let (_debian, socket) = Debian::start(&scratch, &db);
    let socket = format!("unix:{socket}");
    let theirs = scratch.path("server.ovsschema");
    fs::write(&theirs, run("ovsdb-client", &["get-schema", &socket, "_Server"])).expect("written");
    let file = scratch.path("server.db");
    run("ovsdb-tool", &["create", &file, SERVER_SCHEMA]);
    assert_eq!(run("ovsdb-tool", &["needs-conversion", &file, &theirs]), "no\n");
}

#[test]
fn every_ovs_vsctl_command() {
    let ours = Ours::start();
    // Line, what it prints (None: anything).
    let lines: &[(&str, Option<&str>)] = &[
        ("init", Some("")),
        ("add-br br0", Some("")),
        ("--may-exist add-br br0", Some("")),
        ("br-exists br0", Some("")),
        ("add-br fake br0 10", Some("")),
        ("list-br", Some("br0\nfake\n")),
        ("br-to-vlan fake", Some("10\n")),
        ("br-to-parent fake", Some("br0\n")),
        ("br-set-external-id br0 k v", Some("")),
        ("br-get-external-id br0 k", Some("v\n")),
        ("add-port br0 p1 tag=5 -- set Interface p1 type=internal", Some("")),
        (
            "add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip=192.168.1.20 options:key=1000",
            Some(""),
        ),
        ("list-ports br0", Some("p1\nvx0\n")),
        ("port-to-br p1", Some("br0\n")),
        ("list-ifaces br0", Some("p1\nvx0\n")),
        ("iface-to-br vx0", Some("br0\n")),
        ("add-bond br0 bond0 e1 e2 bond_mode=active-backup", Some("")),
        ("add-bond-iface bond0 e3", Some("")),
        ("del-bond-iface bond0 e3", Some("")),
        ("list-ports br0", Some("bond0\np1\nvx0\n")),
        ("set-controller br0 tcp:127.0.0.1:6653 ptcp:6654", Some("")),
        ("get-controller br0", Some("ptcp:6654\ntcp:127.0.0.1:6653\n")),
        ("del-controller br0", Some("")),
        ("set-fail-mode br0 secure", Some("")),
        ("get-fail-mode br0", Some("secure\n")),
        ("del-fail-mode br0", Some("")),
        ("set-manager ptcp:6640 ssl:10.0.0.1:6640", Some("")),
        ("get-manager", Some("ptcp:6640\nssl:10.0.0.1:6640\n")),
        ("del-manager", Some("")),
        ("set-ssl /k /c /ca", Some("")),
        ("get-ssl", Some("Private key: /k\nCertificate: /c\nCA Certificate: /ca\nBootstrap: false\n")),
        ("del-ssl", Some("")),
        ("get Port p1 tag", Some("5\n")),
        ("set Port p1 trunks=1,2,3 other_config:a=b", Some("")),
        ("add Port p1 trunks 4", Some("")),
        ("remove Port p1 trunks 1 2", Some("")),
        ("get Port p1 trunks", Some("[3, 4]\n")),
        ("clear Port p1 trunks", Some("")),
        ("get Port p1 trunks other_config:a", Some("[]\nb\n")),
        ("--bare --columns=name find Interface type=vxlan", Some("vx0\n")),
        ("--columns=name,type --format=csv list Interface p1", Some("name,type\np1,internal\n")),
        ("wait-until Port p1 tag=5", Some("")),
        ("comment some words", Some("")),
        (
            "--id=@q create qos type=linux-htb queues:1=@a -- --id=@a create queue other_config:max-rate=1000000 -- set Port p1 qos=@q",
            None,
        ),
        ("--bare --columns=type list qos", Some("linux-htb\n")),
        ("--all destroy qos -- --all destroy queue -- clear Port p1 qos", Some("")),
        (
            "--id=@m create mirror name=m0 select_all=true -- set bridge br0 mirrors=@m -- --id=@p get port p1 -- set mirror m0 output_port=@p",
            None,
        ),
        ("del-port p1", Some("")),
        ("get mirror m0 output_port", Some("[]\n")),
        // The lines libvirt runs.
        (
            "--timeout=5 -- --may-exist add-port br0 vnet0 tag=7 -- set Interface vnet0 external-ids:attached-mac=\"52:54:00:00:00:01\" -- set Interface vnet0 external-ids:iface-id=\"a\" -- set Interface vnet0 external-ids:vm-id=\"b\" -- set Interface vnet0 external-ids:iface-status=active",
            Some(""),
        ),
        ("--timeout=5 -- --may-exist add-port br0 vnet1 vlan_mode=trunk trunk=1,2", Some("")),
        (
            "--if-exists --format=list --data=json --no-headings --columns=statistics list Interface vnet0",
            Some("[\"map\",[]]\n"),
        ),
        ("--timeout=5 -- --if-exists del-port vnet0", Some("")),
        ("emer-reset", Some("")),
        ("show", None),
        ("del-br fake", Some("")),
        ("del-br br0", Some("")),
        ("list-br", Some("")),
        ("--if-exists del-br br0", Some("")),
    ];
    for (line, printed) in lines {
        let found = ours.vsctl(line);
        if let Some(printed) = printed {
            assert_eq!(found, *printed, "ovs-vsctl {line}");
        }
    }
    let left = ours.client(&["dump", "Open_vSwitch", "Port", "name"]);
    assert!(!left.contains("bond0"), "rows of a deleted bridge are collected:\n{left}");
}

#[test]
fn errors_reach_the_user() {
    let ours = Ours::start();
    ours.vsctl("init");
    ours.vsctl("add-br br0");
    let cases = [
        ("add-port br0 p tag=4096", "constraint violation"),
        ("add-port br0 p tag=x", "valid integer"),
        ("set Bridge br0 fail_mode=maybe", "constraint violation"),
    ];
    for (line, complaint) in cases {
        let found = ours.vsctl_fails(line);
        assert!(found.contains(complaint), "ovs-vsctl {line}: {found}");
    }
}

#[test]
fn ovsdb_client_commands() {
    let ours = Ours::start();
    ours.vsctl("init");
    ours.vsctl("add-br br0");
    assert_eq!(ours.client(&["list-dbs"]), "Open_vSwitch\n_Server\n");
    assert_eq!(ours.client(&["get-schema-version"]), "8.3.1\n");
    assert_eq!(ours.client(&["needs-conversion", DEBIANS]), "no\n");
    assert_eq!(ours.client(&["list-tables"]).lines().count(), 2 + 19);
    assert!(ours.client(&["list-columns", "Open_vSwitch", "Port"]).contains("vlan_mode"));
    assert!(ours.client(&["dump"]).contains("br0"));
    let select = r#"["Open_vSwitch",{"op":"select","table":"Bridge","where":[],"columns":["name"]}]"#;
    assert_eq!(ours.client(&["transact", select]), "[{\"rows\":[{\"name\":\"br0\"}]}]\n");
    assert_eq!(ours.client(&["query", select]), "[{\"rows\":[{\"name\":\"br0\"}]}]\n");
    assert_eq!(ours.client(&["wait", "Open_vSwitch", "connected"]), "");
    // A backup, and its restoration in place of other content.
    let backup = ours.client(&["backup"]);
    let file = ours.scratch.path("backup.db");
    fs::write(&file, &backup).expect("written");
    assert_eq!(run("ovsdb-tool", &["db-version", &file]), "8.3.1\n");
    ours.vsctl("del-br br0");
    let status = Command::new(tool("ovsdb-client"))
        .args(["restore", &ours.socket])
        .stdin(fs::File::open(&file).expect("the backup"))
        .status()
        .expect("runs");
    assert!(status.success());
    assert_eq!(ours.vsctl("list-br"), "br0\n");
    // A schema with one column less, and back: the rows survive.
    let less = scratch_schema(&ours, "\"bond_active_slave\"", "\"bond_active_slave2\"");
    ours.client(&["convert", &less]);
    assert_eq!(ours.client(&["needs-conversion", DEBIANS]), "yes\n");
    ours.client(&["convert", DEBIANS]);
    assert_eq!(ours.client(&["needs-conversion", DEBIANS]), "no\n");
    assert_eq!(ours.vsctl("list-br"), "br0\n");
}

fn scratch_schema(ours: &Ours, from: &str, to: &str) -> String {
    let text = fs::read_to_string(SCHEMA).expect("our schema");
    assert!(text.contains(from));
    let path = ours.scratch.path("altered");
    fs::write(&path, text.replace(from, to)).expect("written");
    path
}

#[test]
fn monitors_follow_along() {
    let ours = Ours::start();
    ours.vsctl("init");
    let differences = ["insert,br0,", "modify,,secure", "delete,"];
    let cases = [
        ("monitor", ["insert,br0,[]", "new,br0,secure", "delete,br0"]),
        ("monitor-cond", differences),
        ("monitor-cond-since", differences),
    ];
    for (command, wanted) in cases {
        let mut args = vec![command, "--format=csv", ours.socket.as_str(), "Open_vSwitch"];
        if command != "monitor" {
            args.push("[]");
        }
        args.extend(["Bridge", "name,fail_mode"]);
        let mut child =
            Command::new(tool("ovsdb-client")).args(&args).stdout(Stdio::piped()).spawn().expect("runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // Only once the monitor is in place is there something to hear of.
        std::thread::sleep(std::time::Duration::from_millis(300));
        ours.vsctl("add-br br0");
        ours.vsctl("set-fail-mode br0 secure");
        ours.vsctl("del-br br0");
        let mut heard = Vec::new();
        for wanted in wanted {
            loop {
                let line = lines.next().expect("more").expect("text");
                heard.push(line.clone());
                if line.contains(wanted) {
                    break;
                }
                assert!(heard.len() < 40, "{command} never said {wanted}: {heard:#?}");
            }
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
}

#[test]
fn ovsdb_tool_reads_what_we_write_and_we_what_debian_writes() {
    let ours = Ours::start();
    let steps = [
        "init",
        "add-br br0",
        "add-port br0 p1 -- set Port p1 trunks=1,2,3",
        "set Port p1 trunks=2,3,4 other_config:a=b other_config:c=d",
        "set Port p1 other_config:a=x",
        "remove Port p1 other_config c",
        "add-port br0 p2",
        "del-port p1",
    ];
    for step in steps {
        ours.vsctl(step);
    }
    let all = |socket: &str| run("ovsdb-client", &["--format=csv", "dump", socket]);
    let ours_now = all(&ours.socket);
    let log = run("ovsdb-tool", &["show-log", "-mm", &ours.db]);
    assert_eq!(log.matches("record ").count(), 1 + steps.len());
    assert!(log.contains("--no-wait --timeout=10 add-br br0"), "comments are kept:\n{log}");
    // Debian's server opens our file, continues it, and we open it again.
    let copy = ours.scratch.path("copy.db");
    fs::copy(&ours.db, &copy).expect("copied");
    let other = Scratch::new();
    {
        let (_debian, socket) = Debian::start(&other, &copy);
        let socket = format!("unix:{socket}");
        assert_eq!(all(&socket), ours_now);
        let db = format!("--db={socket}");
        for line in ["add-br br1", "set Port p2 trunks=7,8", "set Port p2 trunks=8,9", "del-br br1"] {
            let mut args = vec![db.as_str(), "--no-wait"];
            args.extend(line.split(' '));
            run("ovs-vsctl", &args);
        }
    }
    let third = Scratch::new();
    let again = format!("unix:{}", start_ours(&third, &copy));
    let db = format!("--db={again}");
    assert_eq!(run("ovs-vsctl", &[&db, "get", "Port", "p2", "trunks"]), "[8, 9]\n");
    assert_eq!(run("ovs-vsctl", &[&db, "list-br"]), "br0\n");
    // Compacted by Debian, it is still ours to read.
    let compact = ours.scratch.path("compact.db");
    run("ovsdb-tool", &["compact", &ours.db, &compact]);
    let fourth = Scratch::new();
    let compacted = format!("unix:{}", start_ours(&fourth, &compact));
    assert_eq!(all(&compacted), ours_now);
}
