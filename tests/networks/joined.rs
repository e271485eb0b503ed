//! Are the names of networks that a router joins known in all of them, and in no other? Asked with ISC's dig.

use crate::field::{Field, network};
use crate::support::Kind;

const ROUTER: &str =
    "apiVersion: weft.dev/v1\nkind: Router\nmetadata: {name: r}\nspec: {networks: [left, right]}\n";

/// What the name server at a network's gateway says, as `STATUS ANSWER…`.
fn dig(field: &Field, from: &str, server: &str, question: &str) -> String {
    let line = format!("dig +time=3 +tries=2 +noall +comments +answer @{server} {question}");
    let said = field.try_inside(from, &line).out;
    let status = said.split("status: ").nth(1).and_then(|t| t.split(',').next()).unwrap_or("silent");
    let own = said.lines().filter(|l| !l.starts_with(';') && !l.is_empty());
    let answers: Vec<&str> = own.filter_map(|l| l.split_whitespace().last()).collect();
    [&[status], answers.as_slice()].concat().join(" ")
}

fn check(kind: Kind) {
    let mut field = Field::start(kind, 0);
    for (name, n) in [("left", 1), ("right", 2), ("far", 3)] {
        let spec = format!("mode: isolated, domain: {{name: {name}.example, localOnly: true}}");
        let (four, six) = (format!("10.{n}.0.0/24"), format!("fd00:{n}::/64"));
        // Machines of networks that reach nothing else have a gateway only if it is written, or if a router joins them.
        let mut text = network(name, &spec, &[&four, &six]);
        if name == "left" {
            text = text.replace("/24'}", &format!("/24', gateway: 10.{n}.0.1}}"));
            text = text.replace("/64'}", &format!("/64', gateway: 'fd00:{n}::1'}}"));
        }
        field.apply(&text);
        let ns = field.space(name);
        field.ok(&format!(
            "port add vm-{name} --network {name} --netns {ns} --ip 10.{n}.0.9 --ip fd00:{n}::9"
        ));
    }
    let left = |f: &Field, question: &str| dig(f, "left", "10.1.0.1", question);
    assert_eq!(left(&field, "vm-left.left.example"), "NOERROR 10.1.0.9");
    // Nothing leads there: nothing is said.
    assert_ne!(left(&field, "vm-right.right.example"), "NOERROR 10.2.0.9");
    field.apply(ROUTER);
    field.wait("the other's names", |f| left(f, "vm-right.right.example") == "NOERROR 10.2.0.9");
    let right = |f: &Field, question: &str| dig(f, "right", "10.2.0.1", question);
    field.wait("and the other way", |f| right(f, "vm-left.left.example") == "NOERROR 10.1.0.9");
    assert_eq!(left(&field, "vm-right.right.example aaaa"), "NOERROR fd00:2::9");
    assert_eq!(left(&field, "-x 10.2.0.9"), "NOERROR vm-right.right.example.");
    field.wait("by TCP", |f| left(f, "+tcp vm-right.right.example") == "NOERROR 10.2.0.9");
    assert_eq!(left(&field, "none.right.example"), "NXDOMAIN");
    for question in ["vm-far.far.example", "-x 10.3.0.9"] {
        assert!(!left(&field, question).starts_with("NOERROR"), "{question}");
    }
    // What is named is reached, both ways.
    for (from, to) in
        [("left", "10.2.0.9"), ("left", "fd00:2::9"), ("right", "10.1.0.9"), ("right", "fd00:1::9")]
    {
        field.wait_ping(from, to);
    }
    assert_eq!(field.json("subnet", "right-0")["status"]["gateway"], "10.2.0.1");
    assert_eq!(field.json("router", "r")["status"]["phase"], "Ready");
    assert!(!field.pings("right", "10.3.0.9") && !field.pings("far", "10.2.0.9"), "no router joins it");
    // A machine that comes later is known at once, and one that goes is not.
    let ns = field.space("late");
    field.ok(&format!("port add late --network right --netns {ns}"));
    field.wait("the newcomer's name", |f| left(f, "late.right.example").starts_with("NOERROR 10.2.0."));
    field.ok("port del late");
    field.wait("the name is gone", |f| left(f, "late.right.example") == "NXDOMAIN");
    // A subnet without a gateway is not routed, and that is said.
    let mute =
        network("right", "mode: isolated, domain: {name: right.example, localOnly: true}", &["10.2.0.0/24"]);
    field.apply(&mute.replace("/24'}", "/24', gateway: none}"));
    field.wait("it is told", |f| {
        let said = f.json("router", "r")["status"].to_string();
        said.contains("NoGateway") && said.contains("right-0") && said.contains("Error")
    });
    field.ok("delete router r");
    field.wait("apart again", |f| !left(f, "vm-right.right.example").starts_with("NOERROR"));
}

on_both!(check);
