//! What libvirt's users do: take a network of theirs here, and one of ours there.

use std::path::Path;
use std::process::Command;

use crate::field::Field;
use crate::support::Kind;

/// As `virsh net-dumpxml default` prints it on most machines.
const DEFAULT: &str = include_str!("../../crates/libvirt/tests/data/default.xml");

/// A new network of libvirt's test driver: what it prints of a document that it has taken.
fn through_virsh(file: &Path, name: &str) -> String {
    let words = format!(
        "net-destroy default; net-undefine default; net-define {}; net-start {name}; net-dumpxml {name}",
        file.display()
    );
    let told = Command::new("virsh").args(["-q", "-c", "test:///default", &words]).output().expect("virsh");
    let (out, err) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{err}{out}");
    out[out.find("<network").expect("a document")..].to_owned()
}

#[test]
fn networks_of_libvirt_come_and_go() {
    let mut field = Field::start(Kind::Weft, 0);
    let ns = field.space("vm1");
    let call = |words: &str| field.weft(words);
    let file = field.site.switch.path("default.xml");
    let import = format!("net import {}", file.display());
    // How many machines it has is libvirt's state, which `net-define` forgets.
    let default = DEFAULT.replace(" connections='1'", "");
    std::fs::write(&file, &default).expect("a file");

    // What would come of it is told, and nothing of it done.
    let dry = call(&format!("{import} --dry-run -o json"));
    let json: serde_json::Value = serde_json::from_str(&dry.out).expect(&dry.err);
    assert_eq!(json["items"][1]["spec"]["cidr"], "192.168.122.0/24");
    assert!(json["warnings"].as_array().expect("warnings").iter().any(|w| w["element"] == "bridge/@stp"));
    assert!(!call("get networks -o name").out.contains("Network/default"));

    let first = call(&import);
    assert_eq!(first.code, 0, "{}", first.err);
    for line in ["Network/default created", "Subnet/default-v4 created"] {
        assert!(first.out.contains(line), "{}", first.out);
    }
    let warning = format!("warning: {}: line 4: uuid is kept only", file.display());
    assert!(first.err.contains(&warning), "{}", first.err);
    let second = call(&import);
    assert!(second.out.contains("Network/default unchanged"), "{}", second.out);
    assert!(second.out.contains("Subnet/default-v4 unchanged"), "{}", second.out);

    // libvirt takes what is exported, and what it makes of it is the same network here.
    let export = call("net export default");
    assert_eq!((export.code, export.err.as_str()), (0, ""), "{}", export.out);
    std::fs::write(&file, &export.out).expect("a file");
    let dumped = through_virsh(&file, "default");
    std::fs::write(&file, &dumped).expect("a file");
    let third = call(&import);
    assert_eq!(third.code, 0, "{}", third.err);
    for name in ["Network/default", "Subnet/default-v4"] {
        assert!(third.out.contains(&format!("{name} unchanged")), "{}\n{dumped}", third.out);
    }
    assert_eq!(call("net export default").out, export.out, "after {dumped}");

    // The network works: a port gets an address, though libvirt's range is all addresses.
    let address = field.ok(&format!("port add vm1 --network default --netns {ns}"));
    assert!(address.starts_with("192.168.122."), "{address}");
    field.wait_ping("vm1", "192.168.122.1");
    field.site.switch.wait_for("flows with the gateway's address", |s| {
        s.run("ovs-ofctl -O OpenFlow15 dump-flows br-int").out.contains("52:54:00:f8:50:5d")
    });

    one_mistake_refuses_all(&field, &export.out);
    ours_goes_to_libvirt(&field);
}

/// Of several files all are taken, or none.
fn one_mistake_refuses_all(field: &Field, exported: &str) {
    let call = |words: &str| field.weft(words);
    let site = &field.site;
    let (good, bad) = (site.switch.path("good.xml"), site.switch.path("bad.xml"));
    std::fs::write(&good, "<network><name>good</name><ip address='10.44.0.1' prefix='24'/></network>")
        .expect("a file");
    std::fs::write(&bad, "<network><name>bad</name>\n<ip address='10.45.0.1' prefix='99'/></network>")
        .expect("a file");
    let import = format!("net import {} {}", good.display(), bad.display());
    let told = call(&import);
    let wanted =
        format!("{}: line 2: ip: a prefix of 10.45.0.1 is not 99 long; write prefix='…'", bad.display());
    assert!(told.code == 1 && told.err.contains(&wanted), "{told:?}");
    // A mistake that only the agent can know: another network has the addresses.
    let clash = "<network><name>bad</name><forward/><ip address='192.168.122.9' prefix='25'/></network>";
    std::fs::write(&bad, clash).expect("a file");
    let told = call(&import);
    assert!(
        told.code == 1 && told.err.contains("overlaps 192.168.122.0/24 of Subnet/default-v4"),
        "{told:?}"
    );
    assert!(!told.err.contains("line "), "{told:?}");
    assert!(!call("get networks -o name").out.contains("Network/good"));
    assert_eq!(call("net export default").out, exported);
    assert!(call("net export nothing").err.contains("there is no network nothing"));
    // What a document no longer says is told.
    std::fs::write(&bad, "<network><name>default</name><forward/></network>").expect("a file");
    let told = call(&format!("net import {} --dry-run", bad.display()));
    assert!(
        told.code == 0 && told.err.contains("Subnet/default-v4: 192.168.122.0/24 is in no file"),
        "{told:?}"
    );
}

/// A network with words that libvirt has not goes through libvirt and comes back whole.
fn ours_goes_to_libvirt(field: &Field) {
    let (site, call) = (&field.site, |words: &str| field.weft(words));
    let ours = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: ours, labels: {team: one}}\nspec: {mode: isolated, \
                spoofGuard: false}\n---\napiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: four}\nspec: {network: \
                ours, cidr: 10.46.0.0/24, reserved: [{start: 10.46.0.9, end: 10.46.0.12}]}\n";
    field.apply(ours);
    let out = call("net export ours");
    assert!(out.err.contains("spec.spoofGuard: libvirt has no words for it"), "{out:?}");
    let file = site.switch.path("ours.xml");
    std::fs::write(&file, &out.out).expect("a file");
    std::fs::write(&file, through_virsh(&file, "ours")).expect("a file");
    let told = call(&format!("net import {}", file.display()));
    assert_eq!(told.code, 0, "{}", told.err);
    assert_eq!(field.json("subnet", "four")["spec"]["reserved"][0]["end"], "10.46.0.12");
    let json = field.json("network", "ours");
    assert_eq!(
        (&json["spec"]["spoofGuard"], &json["metadata"]["labels"]["team"]),
        (&false.into(), &"one".into())
    );
    assert_eq!(call("get subnets -o name").out.matches("four").count(), 1);
}
