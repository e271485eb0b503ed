//! Which room may use which: the rules of ARCHITECTURE.md, held against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Room → rooms it may use. A room that is not listed may not exist.
const MAY_USE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("flow", &["wire"]),
    ("pipeline", &["flow", "wire"]),
    ("openflow", &["flow", "wire"]),
    ("ovsdb", &[]),
    ("host", &["wire"]),
    ("conntrack", &["flow", "wire"]),
    ("datapath", &["conntrack", "pipeline", "flow", "wire", "host"]),
    ("switch", &["openflow", "ovsdb", "pipeline", "datapath", "conntrack", "flow", "wire", "host"]),
    ("compile", &["flow", "wire"]),
    ("model", &["wire"]),
    ("libvirt", &["model"]),
    ("store", &["model"]),
    ("api", &["model", "store"]),
    ("agent", &["compile", "openflow", "ovsdb", "flow", "wire", "services", "model", "store", "api", "host"]),
    ("lab", &["host"]),
    ("services", &["wire"]),
];

/// Rooms without effects: none of these crates may be linked into them.
const PURE: &[&str] = &[
    "wire",
    "flow",
    "pipeline",
    "openflow",
    "ovsdb",
    "conntrack",
    "compile",
    "services",
    "model",
    "libvirt",
];
const EFFECTS: &[&str] =
    &["tokio", "libc", "nix", "socket2", "rustix", "netlink-sys", "rtnetlink", "tracing-subscriber"];

/// Workspace crate → names of its normal and build dependencies.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let meta: serde_json::Value = serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON");
    let mut all = BTreeMap::new();
    for package in meta["packages"].as_array().expect("packages") {
        let deps = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .filter(|d| d["kind"].as_str() != Some("dev"))
            .map(|d| d["name"].as_str().expect("name").to_owned())
            .collect();
        all.insert(package["name"].as_str().expect("name").to_owned(), deps);
    }
    all
}

#[test]
fn rooms_use_only_what_the_plan_allows() {
    let all = dependencies();
    assert!(all.len() > MAY_USE.len(), "too few crates found: {:?}", all.keys());
    let mut wrong = Vec::new();
    for (package, deps) in &all {
        let Some(room) = package.strip_prefix("weft-") else { continue };
        let Some((_, allowed)) = MAY_USE.iter().find(|(r, _)| *r == room) else {
            wrong.push(format!("room {room} is not in the plan"));
            continue;
        };
        for used in deps.iter().filter_map(|d| d.strip_prefix("weft-")) {
            if !allowed.contains(&used) {
                wrong.push(format!("{room} uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_pure_floor_has_no_effects() {
    let all = dependencies();
    for room in PURE {
        let deps = &all[&format!("weft-{room}")];
        let found: Vec<_> = EFFECTS.iter().filter(|e| deps.contains(**e)).collect();
        assert!(found.is_empty(), "{room} links {found:?}");
    }
}
