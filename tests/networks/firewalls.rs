//! Other people's firewalls, as they are: firewalld, started, reloaded and asked; Docker's rules in `iptables-legacy`.

use crate::field::Field;
use crate::healing::{field, mended, reaches};
use crate::support::Kind;

/// A bus for one that is asked by it, where everybody may do everything.
const BUS: &str = "<busconfig><type>system</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth>
<policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/><allow send_type=\"method_call\"/>
<allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>
";

/// Becomes firewalld, whose files are in `$1`; what it writes elsewhere is its own.
const FIREWALLD: &str =
    "set -e; mount -t tmpfs none /run; mount -t tmpfs none /var/log; mkdir -p \"$1/firewalld\"
exec firewalld --nofork --nopid --system-config \"$1/firewalld\"";

fn firewalld(kind: Kind) {
    let mut field = field(kind);
    let dir = field.site.switch.path("").display().to_string();
    let bus = field.file("bus.conf", &BUS.replace("SOCKET", &format!("{dir}/bus"))).display().to_string();
    let address = format!("DBUS_SYSTEM_BUS_ADDRESS=unix:path={dir}/bus");
    let switch = &mut field.site.switch;
    switch.daemon(&["dbus-daemon", &format!("--config-file={bus}"), "--nofork", "--nopidfile"]);
    switch.wait_for("the bus is there", |s| s.path("bus").exists());
    switch.daemon(&["env", &address, "unshare", "-m", "sh", "-c", FIREWALLD, "firewalld", &dir]);
    let ask = |words: &str| format!("env {address} firewall-cmd {words}");
    field.wait("firewalld runs", |f| f.site.switch.run(&ask("--state")).code == 0);
    let forward = "nft list chain inet firewalld filter_FORWARD";
    assert!(field.site.switch.ok(forward).contains("reject"), "it drops what it does not know");
    reaches(&field, "firewalld runs");
    mended(&field, "forward-policy", &ask("--reload"));
    mended(&field, "forward-policy", &ask("--complete-reload"));
    // What firewalld is told is its own affair.
    field.site.switch.ok(&ask("--add-port=99/tcp"));
    assert!(field.site.switch.ok(&ask("--list-ports")).contains("99/tcp"));
    field.ok("delete port vm");
    field.ok("delete subnet blue-0 blue-1");
    field.ok("delete network blue");
    field.wait("no rule of ours is left", |f| !f.site.switch.ok(forward).contains("weft"));
}

#[test]
fn firewalld_on_weft() {
    firewalld(Kind::Weft);
}

#[test]
fn firewalld_on_open_vswitch() {
    firewalld(Kind::Ovs);
}

#[test]
fn docker_by_iptables_legacy() {
    let field = field(Kind::Weft);
    for tool in ["iptables-legacy", "ip6tables-legacy"] {
        field.site.switch.ok(&format!("{tool} -N DOCKER-USER"));
        field.site.switch.ok(&format!("{tool} -A FORWARD -j DOCKER-USER"));
        field.site.switch.ok(&format!("{tool} -P FORWARD DROP"));
    }
    reaches(&field, "FORWARD drops");
    let rules = "*filter\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\nCOMMIT\n";
    let saved = field.file("saved", rules);
    // The kernel tells nobody of it: it is looked at each second.
    mended(&field, "forward-policy", &format!("iptables-legacy-restore {}", saved.display()));
    assert!(field.site.switch.ok("iptables-legacy -S").contains("-A FORWARD -j DOCKER-USER"));
}

/// A host that drops what is for it answers names by TCP all the same, and nothing else.
fn names_by_tcp(kind: Kind) {
    let field = field(kind);
    let address = field.json("port", "vm")["status"]["addresses"][0].as_str().expect("an address").to_owned();
    let asks =
        |f: &Field| f.try_inside("vm", "dig +tcp +short +time=1 +tries=1 @10.1.0.1 vm").out.trim() == address;
    field.wait("names are answered by TCP", asks);
    let rules =
        "table inet mine {\n chain input {\n type filter hook input priority 0; policy drop;\n }\n}\n";
    let rules = field.file("mine.nft", rules);
    field.site.switch.ok(&format!("nft -f {}", rules.display()));
    field.wait("they are, whatever the host's firewall drops", asks);
    let before = field.healed("input-policy");
    field.site.switch.ok("nft flush chain inet mine input");
    field.wait("it is put right", |f| f.healed("input-policy") > before && asks(f));
    let list = |f: &Field| f.site.switch.ok("nft list chain inet mine input");
    assert_eq!(list(&field).matches("accept").count(), 1, "{}", list(&field));
    field.ok("delete port vm");
    field.ok("delete subnet blue-0 blue-1");
    field.ok("delete network blue");
    field.wait("no rule of ours is left", |f| !list(f).contains("accept"));
}

on_both!(names_by_tcp);
