//! What does libvirt itself say of our documents? Its grammar (`network.rng`), and `virsh` with the test driver, which
//! keeps networks in memory and needs no daemon.

mod support;

use std::path::Path;
use std::process::Command;

use support::{documents, network, read, write};
use weft_libvirt::Import;

const GRAMMAR: &str = "/usr/share/libvirt/schemas/network.rng";

/// Every document that is written, except those with words that are younger than this libvirt or unknown to any.
#[test]
fn libvirts_grammar_takes_what_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(Path::new(GRAMMAR).exists(), "libvirt-daemon brings {GRAMMAR}: run scripts/setup");
    let mut files = Vec::new();
    for (name, text) in documents().into_iter().filter(|(n, _)| !n.starts_with("newer-")) {
        let file = dir.path().join(format!("{name}.xml"));
        std::fs::write(&file, write(&read(&text).resources).xml).expect("a file");
        files.push(file);
    }
    // Fields that libvirt has no words for stand in <metadata>.
    let blue = weft_model::parse(
        "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: blue, labels: {a: b}}\nspec: {overlay: {kind: vxlan}}",
    );
    let blue: Vec<_> = blue.expect("a network").into_iter().map(|p| p.resource).collect();
    let out = write(&blue);
    assert!(!out.carried.is_empty());
    files.push(dir.path().join("blue.xml"));
    std::fs::write(&files[files.len() - 1], out.xml).expect("a file");
    let told = Command::new("xmllint").args(["--noout", "--relaxng", GRAMMAR]).args(&files).output();
    let told = told.expect("xmllint of libxml2-utils");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    // The grammar is one that can say no.
    std::fs::write(&files[0], "<network><name>n</name><wine/></network>").expect("a file");
    let told = Command::new("xmllint").args(["--noout", "--relaxng", GRAMMAR]).arg(&files[0]).output();
    assert!(!told.expect("xmllint").status.success());
}

/// What libvirt adds by itself, and what its test driver does not keep.
fn settle(mut import: Import) -> Import {
    for resource in &mut import.resources {
        if let weft_model::Resource::Network(network) = resource {
            for key in [
                "uuid",
                "bridge/@stp",
                "bridge/@delay",
                "@ipv6",
                "@connections",
                "forward/interface/@connections",
                "dnsmasq:options",
            ] {
                network.spec.libvirt.remove(key);
            }
            // It writes the parts of PCI addresses in hexadecimal.
            let addresses = network.spec.libvirt.iter_mut().filter(|(k, _)| k.starts_with("forward/address"));
            addresses.for_each(|(_, v)| *v = v.replace("0x00", "0").replace("000'", "0'").replace("0x", ""));
            let addresses = network.spec.libvirt.iter_mut().filter(|(k, _)| k.starts_with("forward/address"));
            addresses.for_each(|(_, v)| *v = v.replace("'04'", "'4'"));
        }
    }
    import
}

#[test]
fn virsh_takes_what_is_written_and_gives_it_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("network.xml");
    for (name, text) in
        documents().into_iter().filter(|(n, _)| !n.starts_with("newer-") && !n.starts_with("odd-"))
    {
        let first = read(&text);
        let out = write(&first.resources);
        std::fs::write(&file, &out.xml).expect("a file");
        let network = network(&first.resources);
        let title = network.spec.libvirt.get("name").map_or(network.name(), String::as_str);
        let words = format!(
            "net-destroy default; net-undefine default; net-define {}; net-dumpxml \"{title}\"",
            file.display()
        );
        let told = Command::new("virsh").args(["-q", "-c", "test:///default", &words]).output();
        let told = told.expect("virsh of libvirt-clients");
        let (answer, error) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        assert!(told.status.success(), "{name}: {error}\n{}", out.xml);
        let dumped = &answer[answer.find("<network").expect("a document")..];
        let (ours, theirs) = (settle(first), settle(read(dumped)));
        assert_eq!(ours.resources, theirs.resources, "{name}:\n{}\n{dumped}", out.xml);
    }
}
