//! What lies beyond a router: networks that take less, machines that route on, and the world behind the node's addresses.

use crate::field::Field;
use crate::support::Kind;

/// Two networks, the second with smaller packets, and what of them changes in between.
fn wanted(router: &str) -> String {
    let subnet = |name: &str, network: &str, cidr: &str, more: &str| {
        format!(
            "apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {{name: {name}}}\n\
             spec: {{network: {network}, cidr: '{cidr}'{more}}}\n---\n"
        )
    };
    let network = |name: &str, spec: &str| {
        format!("apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
    };
    [
        network("left", "mode: routed"),
        network("right", "mode: routed, mtu: 1300, spoofGuard: false"),
        subnet("l4", "left", "10.1.0.0/24", ""),
        subnet("l6", "left", "fd00:1::/64", ""),
        subnet("r4", "right", "10.2.0.0/24", ", routes: [{to: 10.98.0.0/16, via: 10.2.0.9}]"),
        subnet("r6", "right", "fd00:2::/64", ", routes: [{to: 'fd00:98::/48', via: 'fd00:2::9'}]"),
        format!(
            "apiVersion: weft.dev/v1\nkind: Router\nmetadata: {{name: r}}\n\
             spec: {{networks: [left, right]{router}}}\n"
        ),
    ]
    .concat()
}

fn check(kind: Kind) {
    let mut field = Field::start(kind, 1);
    field.site.switch.ok("ip addr add 192.0.2.1/24 dev p1");
    field.site.on(1, "ip addr add 192.0.2.99/24 dev eth0");
    field.apply(&wanted(", routes: [{to: 10.99.0.0/16, via: 10.2.0.9}]"));
    let pending = field.json("router", "r");
    assert_eq!(pending["status"]["phase"], "Pending", "{pending}");
    assert_eq!(pending["status"]["conditions"][0]["reason"], "NextHopUnknown", "{pending}");
    let plugs = [
        ("a", "left", "--ip 10.1.0.5 --ip fd00:1::5"),
        ("b", "right", "--ip 10.2.0.5 --ip fd00:2::5"),
        ("gw", "right", "--ip 10.2.0.9 --ip fd00:2::9"),
    ];
    for (name, network, addresses) in plugs {
        let ns = field.space(name);
        field.ok(&format!("port add {name} --network {network} --netns {ns} {addresses}"));
    }
    field.wait("the router is ready", |f| f.json("router", "r")["status"]["phase"] == "Ready");
    for address in ["10.99.0.1/16", "10.98.0.1/16", "fd00:98::1/48"] {
        field.inside("gw", &format!("ip addr add {address} dev lo"));
    }
    too_big(&field);
    routes(&field);
    hidden(&field);
}

/// Who sends more than the next network takes is told how much that is.
fn too_big(field: &Field) {
    for (family, to) in [("-4", "10.2.0.5"), ("-6", "fd00:2::5")] {
        field.wait_ping("a", to);
        field.wait(&format!("what is too big for {to} is told"), |f| {
            f.try_inside("a", &format!("ping {family} -c1 -W1 -M do -s 1400 {to}"));
            f.inside("a", &format!("ip {family} route get {to}")).contains("mtu 1300")
        });
        // From then on packets are made to fit.
        field.wait(&format!("large packets reach {to}"), |f| {
            f.try_inside("a", &format!("ping {family} -c1 -W1 -s 1400 {to}")).code == 0
        });
        // What fits is not told.
        field.wait(&format!("what fits reaches {to}"), |f| {
            f.try_inside("a", &format!("ping {family} -c1 -W1 -M do -s 1200 {to}")).code == 0
        });
    }
}

/// Machines of a network route on: for the router, for the host, and for their neighbours.
fn routes(field: &Field) {
    for (who, to) in [("a", "10.99.0.1"), ("b", "10.99.0.1"), ("a", "10.98.0.1"), ("a", "fd00:98::1")] {
        field.wait_ping(who, to);
    }
    let told = field.inside("b", "ip route show 10.98.0.0/16");
    assert!(told.contains("via 10.2.0.9 dev eth0"), "{told}");
    let own = field.inside("gw", "ip route show 10.98.0.0/16");
    assert!(!own.contains("via"), "it is not told of itself: {own}");
    let switch = &field.site.switch;
    for (family, prefix, to) in [("-4", "10.98.0.0/16", "10.98.0.1"), ("-6", "fd00:98::/48", "fd00:98::1")] {
        let reaches = |when: &str| {
            field.wait(&format!("{when}: the host reaches {to}"), |f| {
                f.site.switch.run(&format!("ping -c1 -W1 {to}")).code == 0
            });
        };
        reaches("at first");
        let before = field.healed("route");
        switch.ok(&format!("ip {family} route del {prefix}"));
        field.wait(&format!("{prefix} is counted"), |f| f.healed("route") > before);
        reaches("put right");
    }
    // Somebody else's route stays, and ours goes with what asked for it.
    switch.ok("ip route add 10.97.0.0/16 dev p1");
    field.apply(&wanted("").replace("10.98.0.0/16", "10.97.0.0/16"));
    field.wait("a route of others is told", |f| {
        f.ok("status -o json").contains("another route to 10.97.0.0/16")
    });
    field.wait("our route is gone", |f| f.site.switch.ok("ip route show 10.98.0.0/16").is_empty());
    assert!(switch.ok("ip route show 10.97.0.0/16").contains("dev p1"));
}

/// A router hides what leaves the node; where nothing does, it says so.
fn hidden(field: &Field) {
    // Nobody out there knows the way back.
    assert!(!field.pings("a", "192.0.2.99"));
    field.apply(&wanted(", nat: true"));
    field.wait_ping("a", "192.0.2.99");
    field.apply(&wanted(""));
    field
        .wait("nothing is hidden any more", |f| !f.site.switch.ok("nft list ruleset").contains("masquerade"));
    let alone = wanted(", nat: true").replace("mode: routed", "mode: isolated");
    let file = field.file("wrong.yaml", &alone);
    let said = field.weft(&format!("apply -f {}", file.display()));
    assert!(said.code != 0 && said.err.contains("spec.nat"), "{said:?}");
}

on_both!(check);
