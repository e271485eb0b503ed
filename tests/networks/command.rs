//! What people type: `weft agent` beside a switch, resources applied, shown, changed and deleted.

use crate::field::{Field, WEFT, network};
use crate::support::{Kind, Switch};

const NETWORK: &str = "apiVersion: weft.dev/v1
kind: Network
metadata: {name: blue, labels: {team: one}}
spec: {mode: isolated}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: blue4}
spec: {network: blue, cidr: 10.7.0.0/24}
---
apiVersion: weft.dev/v1
kind: Port
metadata: {name: vm1}
spec: {network: blue}
";

#[test]
fn resources_come_and_go() {
    let field = Field::start(Kind::Weft, 1);
    let (site, call) = (&field.site, |words: &str| field.weft(words));
    let file = field.file("networks.yaml", NETWORK);
    let apply = format!("apply -f {}", file.display());

    let first = call(&apply);
    assert_eq!(first.code, 0, "{}", first.err);
    for name in ["Network/blue", "Subnet/blue4", "Port/vm1"] {
        assert!(first.out.contains(&format!("{name} created")), "{}", first.out);
    }
    assert!(call(&apply).out.contains("Network/blue unchanged"));
    site.switch.ok("ovs-vsctl add-port br-int p1 -- set Interface p1 external-ids:iface-id=vm1");
    field.ready("vm1");
    assert!(call("get ports").out.contains("10.7.0."));
    assert_eq!(call("get networks -l team=one -o name").out.trim(), "Network/blue");
    assert_eq!(call("get networks -l team=two -o name").out.trim(), "");
    assert_eq!(field.json("port", "vm1")["spec"]["network"], "blue");
    assert!(call("describe port vm1").out.contains("Phase: Ready"));
    let subnet = field.json("subnet", "blue4");
    assert_eq!((&subnet["status"]["phase"], &subnet["status"]["allocated"]), (&"Ready".into(), &1.into()));
    assert!(call("status").out.contains("in line with what is wanted"));
    // A watch shows the same.
    let watch = format!("env WEFT_SOCKET={} {WEFT} watch subnets -o json", field.socket().display());
    let line = site.switch.ok(&format!("sh -c 'timeout 20 {watch} | head -n 1'"));
    let event: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(event["object"]["status"], subnet["status"], "{line}");

    // A packet that dies names the resource whose rule it was.
    site.on(1, "ip addr add 10.7.0.77/24 dev eth0");
    assert!(!site.pings(1, "10.7.0.9"), "the port's addresses are others");
    let ask = |words: &str| {
        let place = format!("--rundir {}", site.switch.path("").display());
        site.switch.ok(&format!("env WEFT_SOCKET={} {WEFT} {words} {place}", field.socket().display()))
    };
    site.switch
        .wait_for("the drop is counted", |_| ask("drops").contains("Port/vm1: drops: sent from a MAC"));
    let why = ask("why arp");
    assert!(why.contains("Port/vm1: drops: sent from a MAC address that is not the port's"), "{why}");
    let why: serde_json::Value = serde_json::from_str(&ask("why -o json arp")).expect("JSON");
    assert_eq!(why[0]["owners"][0]["object"]["name"], "vm1", "{why}");

    // What would change is told, and nothing changed by it.
    std::fs::write(&file, NETWORK.replace("mode: isolated", "mode: nat")).expect("a file");
    let diff = call(&format!("diff -f {}", file.display()));
    assert!(
        diff.code == 1 && diff.out.contains("- mode: isolated") && diff.out.contains("+ mode: nat"),
        "{diff:?}"
    );
    assert!(call("get network blue -o yaml").out.contains("mode: isolated"));
    // Also what only changes its place.
    let forwards = |first: u16, second: u16| {
        let to = |port: u16| format!("{{listen: {{port: {port}}}, to: {{address: 10.8.0.2, port: 80}}}}");
        let spec = format!("mode: nat, nat: {{forwards: [{}, {}]}}", to(first), to(second));
        network("swap", &spec, &["10.8.0.0/24"])
    };
    field.apply(&forwards(8001, 8002));
    std::fs::write(&file, forwards(8002, 8001)).expect("a file");
    let diff = call(&format!("diff -f {}", file.display()));
    let (gone, come): (Vec<&str>, Vec<&str>) =
        diff.out.lines().filter(|l| l.contains("800")).partition(|l| l.starts_with("- "));
    assert!(diff.code == 1 && !gone.is_empty() && come.iter().any(|l| l.starts_with("+ ")), "{diff:?}");
    // What is wrong is named, and nothing of the file is taken.
    std::fs::write(&file, NETWORK.replace("10.7.0.0/24", "10.7.0.0/99")).expect("a file");
    let wrong = call(&apply);
    assert!(wrong.code == 1 && wrong.err.contains("cidr"), "{wrong:?}");

    // In use is said; then everything goes.
    let used = call("delete network blue");
    assert!(used.code == 1 && used.err.contains("Subnet/blue4"), "{used:?}");
    assert!(call("delete port vm1").out.contains("Port/vm1 deleted"));
    assert!(call("get port vm1").err.contains("there is no"));
}

/// A switch that was started on the side; it is asked to end when the test does.
struct Aside(Switch);

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.kill();
        // Also when the test failed; it may be over already.
        if let Ok(pid) = std::fs::read_to_string(self.0.path("run/ovs-vswitchd.pid")) {
            let control = self.0.path(&format!("run/ovs-vswitchd.{}.ctl", pid.trim()));
            self.0.run(&format!("ovs-appctl -t {} exit", control.display()));
        }
    }
}

#[test]
fn the_switch_outlives_the_agent() {
    let mut aside = Aside(Switch::prepare(Kind::Weft));
    let (rundir, socket) = (aside.0.path("run"), aside.0.path("run/weft-agent.sock"));
    let agent = |aside: &mut Aside| {
        let (rundir, store) = (rundir.display(), aside.0.path("agent.redb"));
        let words = [format!("--rundir={rundir}"), format!("--store={}", store.display())];
        aside.0.daemon(&[WEFT, "agent", "--with-switch", &words[0], &words[1]]);
        let ask = format!("{WEFT} status --socket {}", socket.display());
        aside.0.wait_for("agent and switch are in line", |s| s.run(&ask).out.contains("in line"));
    };
    agent(&mut aside);
    let pid = std::fs::read_to_string(rundir.join("ovs-vswitchd.pid")).expect("a switch of its own");
    aside.0.kill();
    let show = format!("ovs-vsctl --db=unix:{} show", rundir.join("db.sock").display());
    assert!(aside.0.ok(&show).contains("br-int"), "it goes on");
    agent(&mut aside);
    let again = std::fs::read_to_string(rundir.join("ovs-vswitchd.pid")).expect("the same switch");
    assert_eq!(pid, again);
}

/// Whoever starts Open vSwitch starts its database first and then tells it that it is a switch's. An agent that looks in between
/// waits, and says for what.
#[test]
fn a_switch_that_is_not_set_up_is_waited_for() {
    let mut switch = Switch::prepare(Kind::Ovs);
    let dir = switch.path("").display().to_string();
    let words = |line: &str| line.replace("DIR", &dir);
    let daemon = |switch: &mut Switch, line: &str| switch.daemon(&words(line).split(' ').collect::<Vec<_>>());
    switch.ok(&words("ovsdb-tool create DIR/conf.db /usr/share/openvswitch/vswitch.ovsschema"));
    daemon(&mut switch, "ovsdb-server --remote=punix:DIR/db.sock DIR/conf.db");
    switch.wait_for("the database serves", |s| s.path("db.sock").exists());
    let agent =
        format!("{WEFT} agent --rundir DIR --store DIR/a.redb --socket DIR/a.sock --datapath-type netdev");
    daemon(&mut switch, &agent);
    switch.wait_for("it is told", |s| s.logs().contains("is not a switch's yet"));
    std::fs::write(switch.path("networks.yaml"), NETWORK).expect("a file");
    switch.ok(&words(&format!("{WEFT} apply -f DIR/networks.yaml --socket DIR/a.sock")));
    switch.ok("ovs-vsctl --no-wait init");
    daemon(&mut switch, "ovs-vswitchd unix:DIR/db.sock --disable-system --pidfile=DIR/ovs-vswitchd.pid");
    switch.wait_for("the bridge is made", |s| s.run("ovs-vsctl br-exists br-int").code == 0);
    switch.wait_for("and programmed", |s| {
        s.run("ovs-ofctl -O OpenFlow15 dump-flows br-int table=0").out.contains("cookie=0x57")
    });
    // What only Weft's switch knows is not asked of it in vain without a word; what its rules dropped it knows.
    for command in ["why arp", "trace br-int in_port=1", "metrics"] {
        let said = switch.run(&words(&format!("{WEFT} {command} --rundir DIR")));
        assert!(said.code == 1 && said.err.contains("is not Weft's"), "{command}: {said:?}");
    }
    let drops = switch.ok(&words(&format!("{WEFT} drops --rundir DIR")));
    assert!(drops.contains("This is Open vSwitch"), "{drops}");
}

/// From another machine it is TLS, a token, and a server that is known.
#[test]
fn an_agent_is_asked_by_tls() {
    let mut switch = Switch::prepare(Kind::Weft);
    let dir = switch.path("").display().to_string();
    switch.ok("ip link set lo up");
    for name in ["cert", "other"] {
        switch.ok(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
             -keyout {dir}/{name}.key -out {dir}/{name}.pem"
        ));
    }
    std::fs::write(switch.path("token"), "open sesame\n").expect("a file");
    std::fs::write(switch.path("wrong"), "open rye\n").expect("a file");
    std::fs::write(switch.path("networks.yaml"), NETWORK).expect("a file");
    let listen =
        "--listen 127.0.0.1:7443 --tls-cert DIR/cert.pem --tls-key DIR/cert.key --token-file DIR/token";
    let agent = format!("{WEFT} agent --rundir DIR/run --store DIR/a.redb --socket DIR/a.sock {listen}");
    let agent = agent.replace("DIR", &dir);
    switch.daemon(&agent.split(' ').collect::<Vec<_>>());
    let ask =
        |words: &str| switch.run(&format!("{WEFT} {words} --server 127.0.0.1:7443").replace("DIR", &dir));
    let known = "--ca DIR/cert.pem --token-file DIR/token";
    switch.wait_for("it listens", |_| ask(&format!("status {known}")).code == 0);
    let applied = ask(&format!("apply -f DIR/networks.yaml {known}"));
    assert!(applied.out.contains("Port/vm1 created"), "{applied:?}");
    assert!(ask(&format!("get ports -o name {known}")).out.contains("Port/vm1"));
    let port = ask(&format!("port add vm2 --network blue --iface-id vm2 --no-wait {known}"));
    assert_eq!(port.code, 0, "{port:?}");
    // One that shows another token is refused, and one that is not known is not spoken to.
    let wrong = ask("get ports --ca DIR/cert.pem --token-file DIR/wrong");
    assert!(wrong.code == 1 && wrong.err.contains("token"), "{wrong:?}");
    let other = ask("get ports --ca DIR/other.pem --token-file DIR/token");
    assert!(other.code == 1 && other.err.contains("certificate"), "{other:?}");
    let unsaid = ask("get ports --token-file DIR/token");
    assert!(unsaid.code != 0 && unsaid.err.contains("--ca"), "{unsaid:?}");
}
