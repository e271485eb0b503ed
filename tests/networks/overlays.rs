//! One network on two nodes, through each kind of tunnel: neighbours reach each other, whole connections pass, and what is
//! on the wire between the nodes is what it says.

use crate::field::{Field, network};
use crate::support::Kind;

/// Kinds of overlay, each with a filter for what it looks like in the underlay.
const KINDS: [(&str, u8, &str); 3] =
    [("vxlan", 1, "udp port 4789"), ("gre", 2, "ip proto 47"), ("geneve", 3, "udp port 6081")];

#[test]
fn neighbours_of_two_nodes() {
    let (mut a, mut b) = (Field::node(Kind::Weft, 0, "a"), Field::node(Kind::Weft, 0, "b"));
    let far = b.site.switch.ns.clone();
    a.site.switch.ok(&format!("ip link add under type veth peer name under netns {far}"));
    for (field, own, peer, n) in
        [(&mut a, "192.0.2.1", "192.0.2.2", 11), (&mut b, "192.0.2.2", "192.0.2.1", 12)]
    {
        field.site.switch.ok(&format!("ip addr add {own}/24 dev under"));
        field.site.switch.ok("ip link set under up");
        for (kind, net, _) in KINDS {
            let spec = format!("mode: isolated, overlay: {{kind: {kind}, key: {net}00, peers: [{peer}]}}");
            field.apply(&network(kind, &spec, &[&format!("10.{net}.0.0/24"), &format!("fd00:{net}::/64")]));
            let ns = field.space(kind);
            let ip = format!("--ip 10.{net}.0.{n} --ip fd00:{net}::{n}");
            field.ok(&format!("port add {kind}-{n} --network {kind} --netns {ns} {ip}"));
        }
    }
    for (kind, net, filter) in KINDS {
        let seen =
            a.site.serve_in(&a.site.switch.ns, &format!("timeout 60 tcpdump -l -nn -i under '{filter}'"));
        a.wait("tcpdump listens", |_| seen.log().contains("listening"));
        for there in [format!("10.{net}.0.12"), format!("fd00:{net}::12")] {
            a.wait_ping(kind, &there);
        }
        b.wait_ping(kind, &format!("10.{net}.0.11"));
        a.wait(&format!("{kind} in the underlay"), |_| seen.log().lines().any(|l| l.contains("192.0.2.2")));
        // Segments that are larger than the underlay takes.
        let _server = b.serve(kind, "busybox httpd -f -p 80 -h /usr/share/common-licenses");
        for host in [format!("10.{net}.0.12"), format!("[fd00:{net}::12]")] {
            a.wait(&format!("HTTP over {kind}"), |f| {
                f.try_inside(kind, &format!("curl -g -s -m 5 http://{host}/GPL-3"))
                    .out
                    .contains("END OF TERMS")
            });
        }
        // Two networks of the same nodes are apart.
        let other = if net == 1 { 2 } else { 1 };
        assert!(!a.pings(kind, &format!("10.{other}.0.12")), "{kind} reaches another network");
    }
    apart(&mut a, &mut b);
}

/// `portIsolation` holds between ports of two nodes, each by what its own node knows, and leaves the gateway.
fn apart(a: &mut Field, b: &mut Field) {
    let shy = |field: &Field, peer: &str, isolated: bool| {
        let overlay = format!("overlay: {{kind: geneve, key: 900, peers: [{peer}]}}");
        let spec = format!("mode: isolated, portIsolation: {isolated}, {overlay}");
        field.apply(&network("shy", &spec, &["10.9.0.0/24", "fd00:9::/64"]));
    };
    for (field, peer, n) in [(&mut *a, "192.0.2.2", 11), (&mut *b, "192.0.2.1", 12)] {
        shy(field, peer, false);
        let ns = field.space("shy");
        let ip = format!("--ip 10.9.0.{n} --ip fd00:9::{n}");
        field.ok(&format!("port add shy --network shy --netns {ns} {ip}"));
    }
    let far = ["10.9.0.12", "fd00:9::12"];
    far.iter().for_each(|there| a.wait_ping("shy", there));
    // Either node alone keeps them apart.
    for (one, two) in [(true, false), (false, true), (true, true)] {
        shy(a, "192.0.2.2", one);
        shy(b, "192.0.2.1", two);
        a.wait("they are apart", |f| far.iter().all(|there| !f.pings("shy", there)));
        b.wait("both ways", |f| !f.pings("shy", "10.9.0.11") && !f.pings("shy", "fd00:9::11"));
        for field in [&*a, &*b] {
            for gateway in ["10.9.0.1", "fd00:9::1"] {
                field.wait_ping("shy", gateway);
            }
        }
        a.wait("the host reaches its port", |f| f.site.switch.run("ping -c1 -W1 10.9.0.11").code == 0);
    }
    shy(a, "192.0.2.2", false);
    shy(b, "192.0.2.1", false);
    far.iter().for_each(|there| a.wait_ping("shy", there));
}
