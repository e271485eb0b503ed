//! What others change on the host is put right, counted, and told once; what is theirs stays; a cleanup leaves only that.

use std::time::{Duration, Instant};

use crate::field::{Field, network};
use crate::support::Kind;

/// A network behind NAT with a machine in it, and a world that it reaches.
pub(crate) fn field(kind: Kind) -> Field {
    let mut field = Field::start(kind, 1);
    field.site.switch.ok("ip addr add 192.0.2.1/24 dev p1");
    field.site.switch.ok("ip -6 addr add 2001:db8::1/64 dev p1 nodad");
    field.site.on(1, "ip addr add 192.0.2.99/24 dev eth0");
    field.site.on(1, "ip -6 addr add 2001:db8::99/64 dev eth0 nodad");
    // The host listens to routers, and shall go on when it becomes one.
    field.site.switch.ok("sysctl -qw net.ipv6.conf.p1.accept_ra=1");
    field.apply(&network("blue", "mode: nat, nat: {ipv6: true}", &["10.1.0.0/24", "fd00:1::/64"]));
    field.wait("routers are listened to", |f| {
        f.site.switch.ok("sysctl -n net.ipv6.conf.p1.accept_ra").trim() == "2"
    });
    let ns = field.space("vm");
    field.ok(&format!("port add vm --network blue --netns {ns}"));
    reaches(&field, "at first");
    field
}

pub(crate) fn reaches(field: &Field, when: &str) {
    for world in ["192.0.2.99", "2001:db8::99"] {
        let ping = format!("ping -c1 -W0.2 {world}");
        field.wait(&format!("{when}: the world is reached at {world}"), |f| {
            f.try_inside("vm", &ping).code == 0
        });
    }
}

/// Within so long it is put right.
const MENDED: Duration = Duration::from_secs(2);

/// Does something to the host that cuts the network off, and waits until it is mended, which is counted and in time. A
/// busy machine may be late; not each of three times.
pub(crate) fn mended(field: &Field, cause: &str, deed: &str) {
    let mut took = Vec::new();
    while took.len() < 3 && took.iter().all(|t| *t > MENDED) {
        let before = field.healed(cause);
        field.site.switch.ok(deed);
        let since = Instant::now();
        field.wait(&format!("{deed}: it is counted"), |f| f.healed(cause) > before);
        reaches(field, deed);
        took.push(since.elapsed());
    }
    assert!(took.iter().any(|t| *t <= MENDED), "{deed}: mended only after {took:?}");
}

/// What others do, by the name under which its mend is counted.
const DEEDS: [(&str, &[&str]); 4] = [
    ("nftables", &["nft flush ruleset", "nft delete table inet weft"]),
    (
        "sysctl",
        &[
            "sysctl -qw net.ipv4.ip_forward=0",
            "sysctl -qw net.ipv6.conf.all.forwarding=0",
            "sysctl -qw net.ipv4.conf.wn-blue.forwarding=0",
            "sysctl -qw net.ipv6.conf.wn-blue.accept_ra=2",
        ],
    ),
    ("address", &["ip addr flush dev wn-blue scope global", "ip link set wn-blue down"]),
    ("device", &["ip link del wp-vm", "ip link set wp-vm down", "ip link del wn-blue"]),
];

fn check(kind: Kind) {
    let field = field(kind);
    let switch = &field.site.switch;
    for (cause, deeds) in DEEDS {
        deeds.iter().for_each(|deed| mended(&field, cause, deed));
    }

    // Docker: the policy of FORWARD is drop, and its own rules come first.
    for tool in ["iptables", "ip6tables"] {
        switch.ok(&format!("{tool} -N DOCKER-USER"));
        switch.ok(&format!("{tool} -A FORWARD -j DOCKER-USER"));
        switch.ok(&format!("{tool} -P FORWARD DROP"));
    }
    reaches(&field, "FORWARD drops");
    // Its reload takes our rules away with its own.
    let saved = switch.path("saved");
    std::fs::write(
        &saved,
        "*filter\n:FORWARD DROP [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\nCOMMIT\n",
    )
    .expect("a file");
    let restore = format!("iptables-restore {}", saved.display());
    mended(&field, "forward-policy", &restore);
    mended(&field, "forward-policy", "iptables -D FORWARD 1");
    // A firewall of nftables, as firewalld's and others' are, that is written anew.
    let firewall = "table inet wall { chain f { type filter hook forward priority 10; policy drop; \
                    iifname \"lo\" accept; }\n}\n";
    let file = switch.path("wall.nft");
    std::fs::write(&file, format!("table inet wall\ndelete table inet wall\n{firewall}")).expect("a file");
    switch.ok(&format!("nft -f {}", file.display()));
    reaches(&field, "another table drops");
    mended(&field, "forward-policy", &format!("nft -f {}", file.display()));

    // Each is told once, however often it happens.
    let logs = switch.logs();
    assert_eq!(logs.matches("table inet weft").count(), 1, "{logs}");
    // What is theirs is there.
    assert!(switch.ok("iptables -S").contains("-A FORWARD -j DOCKER-USER"));
    assert!(switch.ok("nft list table inet wall").contains("iifname \"lo\" accept"));
    cleanup(field);
}

/// After the agent only what others made is there.
fn cleanup(mut field: Field) {
    let weft = env!("CARGO_BIN_EXE_weft");
    let switch = &field.site.switch;
    switch.ok("ip link add wp-theirs type bridge");
    switch.ok("ip addr add 10.1.0.77/32 dev p1");
    let store = switch.path("agent.redb").display().to_string();
    let words =
        format!("{weft} agent --cleanup --store {store} --rundir {} --socket", switch.path("").display());
    // Somebody relies on one of the settings by now, in their own way.
    switch.ok("sysctl -qw net.ipv6.conf.p1.accept_ra=0");
    let refused = switch.run(&format!("{words} {}", switch.path("api.sock").display()));
    assert!(refused.code == 1 && refused.err.contains("stop it first"), "{refused:?}");
    // Stopped, it leaves all as it is: packets pass.
    field.site.switch.kill_last();
    assert!(field.pings("vm", "192.0.2.99"));
    let switch = &field.site.switch;
    let said = switch.run(&format!("{words} {}", switch.path("none.sock").display()));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("bridge br-int") && said.out.contains("device wp-vm"), "{}", said.out);
    assert_ne!(switch.run("ovs-vsctl br-exists br-int").code, 0);
    let links = switch.ok("ip -o link show");
    assert!(links.contains("wp-theirs") && links.contains("p1@"), "{links}");
    assert!(!links.contains("wp-vm") && !links.contains("weft-agent"), "{links}");
    field.wait("the host's end is gone", |f| f.site.switch.run("ip link show wn-blue").code != 0);
    let switch = &field.site.switch;
    assert!(!switch.ok("nft list ruleset").contains("weft") && !switch.ok("iptables -S").contains("weft"));
    let kept = ["-P FORWARD DROP", "-A FORWARD -j DOCKER-USER"];
    let rules = switch.ok("iptables -S FORWARD");
    assert_eq!(rules.lines().collect::<Vec<_>>(), kept);
    assert!(switch.ok("nft list table inet wall").contains("iifname \"lo\" accept"));
    assert!(switch.ok("ip addr show dev p1").contains("10.1.0.77/32"));
    // Kernel settings are as they were, but for those that somebody else changed.
    for (setting, was) in
        [("ipv4.ip_forward", "0"), ("ipv6.conf.all.forwarding", "0"), ("ipv6.conf.p1.accept_ra", "0")]
    {
        assert_eq!(switch.ok(&format!("sysctl -n net.{setting}")).trim(), was, "{setting}");
    }
    // What is declared is not forgotten.
    field.agent();
    reaches(&field, "a new agent");
}

/// What others change in the flow tables of the bridge: flows, groups and meters that are ours.
fn tables(kind: Kind) {
    let mut field = Field::start(kind, 1);
    let limited = "mode: isolated, bandwidth: {outbound: {average: 100000}, inbound: {average: 100000}}";
    field.apply(&network("blue", limited, &["10.1.0.0/24", "fd00:1::/64"]));
    for name in ["one", "two"] {
        let ns = field.space(name);
        field.ok(&format!("port add {name} --network blue --netns {ns}"));
    }
    let addresses: Vec<String> = field.json("port", "two")["status"]["addresses"]
        .as_array()
        .expect("addresses")
        .iter()
        .map(|a| a.as_str().expect("text").to_owned())
        .collect();
    let reaches = |field: &Field, when: &str| {
        for address in &addresses {
            field.wait(&format!("{when}: {address} is reached"), |f| {
                // Nobody remembers an address from before.
                f.inside("one", "ip neigh flush all");
                f.pings("one", address)
            });
        }
    };
    reaches(&field, "at first");
    let before = flows(&field);
    let deeds = [
        "del-flows br-int",
        "del-flows br-int table=20",
        "del-groups br-int",
        "mod-flows br-int table=10,actions=drop",
        // With a cookie of theirs, in the place of one of ours.
        "--strict mod-flows br-int table=70,priority=0,cookie=0x99,actions=drop",
        "add-flow br-int table=40,priority=0,cookie=0x99,actions=drop",
        "mod-group br-int group_id=1459617793,type=all",
        "del-meters br-int",
    ];
    for deed in deeds {
        let healed = field.healed("flows");
        field.site.switch.ok(&format!("ovs-ofctl -O OpenFlow15 {deed}"));
        field.wait(&format!("{deed}: it is counted"), |f| f.healed("flows") > healed);
        field.wait(&format!("{deed}: all is as before"), |f| flows(f) == before);
        reaches(&field, deed);
    }
    let said = field.ok("status -o json");
    // What is theirs stays, and is no reason to mend.
    field.site.switch.ok(
        "ovs-ofctl -O OpenFlow15 add-flow br-int table=20,priority=1,in_port=4000,cookie=0x99,actions=drop",
    );
    field.wait("their flow is there", |f| {
        f.site.switch.ok("ovs-ofctl -O OpenFlow15 dump-flows br-int table=20").contains("0x99")
    });
    field.apply(&network("red", "mode: isolated", &["10.2.0.0/24"]));
    field.wait("red is ready", |f| f.json("network", "red")["status"]["phase"] == "Ready");
    let now = field.ok("status -o json");
    let healed = |said: &str| {
        let said: serde_json::Value = serde_json::from_str(said).expect("JSON");
        said["counters"]["healed_flows"].clone()
    };
    assert_eq!(healed(&said), healed(&now), "neither theirs nor our own changes are mended");
    let theirs = field.site.switch.ok("ovs-ofctl -O OpenFlow15 dump-flows br-int table=20");
    assert!(theirs.contains("0x99"), "{theirs}");
    // Told once a minute, however often it happened.
    let logs = field.site.switch.logs();
    let told = logs.matches("the flows of br-int").count();
    assert!((1..deeds.len()).contains(&told), "{logs}");
}

/// The flows with our mark, but for what was counted and learned, in order; and groups and meters.
fn flows(field: &Field) -> Vec<String> {
    let ask = |what: &str| field.site.switch.ok(&format!("ovs-ofctl -O OpenFlow15 {what} br-int"));
    let ours = |line: &&str| line.contains("cookie=0x57") && !line.contains("table=61");
    let mut out: Vec<String> = ask("--no-stats dump-flows").lines().filter(ours).map(str::to_owned).collect();
    // In whatever order a group has its copies.
    for group in ask("dump-groups").lines() {
        let mut parts: Vec<&str> = group.split(",bucket=").collect();
        parts.sort_unstable();
        out.push(parts.concat());
    }
    out.extend(ask("dump-meters").lines().filter(|line| line.contains("meter=")).map(str::to_owned));
    out.retain(|line| !line.contains("xid=") && !line.contains("OFPST"));
    out.sort();
    out
}

#[test]
fn tables_on_weft() {
    tables(Kind::Weft);
}

#[test]
fn tables_on_open_vswitch() {
    tables(Kind::Ovs);
}

on_both!(check);

/// Where others plug into the integration bridge, a cleanup leaves it and their ports.
#[test]
fn a_cleanup_leaves_others_ports() {
    let mut field = Field::start(Kind::Weft, 1);
    field.apply(&network("blue", "mode: isolated", &["10.1.0.0/24"]));
    field.site.switch.ok("ovs-vsctl add-port br-int p1 -- set Interface p1 external-ids:iface-id=theirs");
    field.ok("port add theirs --network blue --iface-id theirs");
    field.site.switch.kill_last();
    let switch = &field.site.switch;
    let weft = env!("CARGO_BIN_EXE_weft");
    let none = switch.path("none.sock");
    switch.ok(&format!(
        "{weft} agent --cleanup --rundir {} --socket {}",
        switch.path("").display(),
        none.display()
    ));
    assert_eq!(switch.ok("ovs-vsctl list-ports br-int"), "p1");
    assert!(switch.ok("ovs-vsctl get interface p1 external_ids").contains("theirs"));
    let flows = switch.ok("ovs-ofctl -O OpenFlow15 dump-flows br-int");
    assert!(!flows.contains("cookie=0x57"), "{flows}");
    // It is as if there never had been an agent: the next one takes the bridge as it is.
    field.agent();
    field.ok("port add theirs --network blue --iface-id theirs");
}
