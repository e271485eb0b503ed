//! Does what people type with help come out right: resources in an editor, names that the shell completes?

use std::path::Path;

use crate::field::{Field, WEFT};
use crate::support::{Kind, Said};

const NETWORKS: &str = "apiVersion: weft.dev/v1
kind: Network
metadata: {name: blue}
spec: {mode: isolated}
---
apiVersion: weft.dev/v1
kind: Network
metadata: {name: brown}
---
apiVersion: weft.dev/v1
kind: Subnet
metadata: {name: cellar}
spec: {network: brown, cidr: 10.7.0.0/24}
";

struct Desk {
    field: Field,
}

impl Desk {
    fn start() -> Desk {
        let field = Field::start(Kind::Weft, 0);
        field.apply(NETWORKS);
        Desk { field }
    }

    /// `weft` with these variables and words.
    fn weft(&self, variables: &str, words: &str) -> Said {
        let socket = self.field.socket();
        let line = format!("env {variables} WEFT_SOCKET={} {WEFT} {words}", socket.display());
        self.field.site.switch.run(&line)
    }

    /// An editor that does this with the file `$1`.
    fn editor(&self, what: &str) -> String {
        let path = self.field.file("editor", &format!("#!/bin/sh\n{what}\n"));
        self.field.site.switch.ok(&format!("chmod +x {}", path.display()));
        path.display().to_string()
    }

    /// Edits network blue.
    fn edit(&self, what: &str) -> Said {
        let editor = self.editor(what);
        self.weft(&format!("-u VISUAL EDITOR={editor}"), "edit network blue")
    }

    /// What bash would offer for the last word.
    fn offers(&self, words: &[&str]) -> Vec<String> {
        let index = format!("_CLAP_COMPLETE_INDEX={}", words.len());
        let socket = format!("WEFT_SOCKET={}", self.field.socket().display());
        let head = ["env", "COMPLETE=bash", &index, &socket, WEFT, "--", "weft"];
        let said = self.field.site.switch.run_words(&[&head, words].concat());
        assert_eq!(said.code, 0, "{}", said.err);
        said.out.split_whitespace().map(str::to_owned).collect()
    }
}

/// The file that a complaint says something is kept in.
fn kept(said: &Said) -> String {
    let path = said.err.rsplit_once(" is in ").unwrap_or_else(|| panic!("no file in {said:?}")).1.trim();
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    std::fs::remove_file(Path::new(path)).expect("it can be removed");
    text
}

#[test]
fn resources_are_edited() {
    let desk = Desk::start();
    assert!(desk.edit("exit 0").out.contains("Network/blue unchanged"));
    let said = desk.edit("sed -i 's/mode: isolated/mode: nat/' $1");
    assert!(said.code == 0 && said.out.contains("Network/blue changed"), "{said:?}");
    assert!(desk.weft("", "get network blue -o yaml").out.contains("mode: nat"));

    // What is not taken is kept: no document, no valid network, another resource, an editor that fails.
    for (what, complaint) in [
        ("echo 'spec: [' >> $1", "line"),
        ("sed -i 's/mode: nat/mode: odd/' $1", "odd"),
        ("sed -i 's/name: blue/name: green/' $1", "not Network/blue"),
        ("echo kept >> $1; exit 3", "failed"),
    ] {
        let said = desk.edit(what);
        assert!(said.code == 1 && said.err.contains(complaint), "{what}: {said:?}");
        assert!(kept(&said).contains("kind: Network"));
    }
    // Somebody else was faster.
    let other = desk.field.file("other.yaml", &NETWORKS.replace("mode: isolated", "mode: routed"));
    let faster =
        format!("{WEFT} apply --force -f {} && sed -i 's/mode: nat/mode: open/' $1", other.display());
    let said = desk.edit(&faster);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(kept(&said).contains("mode: open"));
    assert!(desk.weft("", "get network blue -o yaml").out.contains("mode: routed"));
    assert!(desk.weft("", "edit network none").err.contains("there is no Network/none"));
}

#[test]
fn names_are_completed() {
    let desk = Desk::start();
    assert_eq!(desk.offers(&["get", "network", ""])[..2], ["blue", "brown"]);
    assert_eq!(desk.offers(&["describe", "net", "bl"]), ["blue"]);
    assert_eq!(desk.offers(&["delete", "networks", "br"]), ["brown"]);
    assert_eq!(desk.offers(&["edit", "subnet", "c"]), ["cellar"]);
    assert_eq!(desk.offers(&["leases", "--network", "b"]), ["blue", "brown"]);
    assert_eq!(desk.offers(&["get", "subn"]), ["subnets"]);
    // Nobody answers: nothing is offered, and nothing is said.
    let silent = desk.offers(&["get", "network", "b", "--socket", "/nonexistent"]);
    assert!(!silent.contains(&"blue".to_owned()), "{silent:?}");
}
