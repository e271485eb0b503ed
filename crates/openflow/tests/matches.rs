//! Flow-mods as bytes: does Weft refuse the matches that Debian's `ovs-ofctl` refuses, for the same reasons?
//!
//! Needs `ovs-ofctl`, which `make setup` installs, and fails without it.

use std::fs;
use std::process::Command;

use weft_openflow::{Codec, Version};

struct Case {
    version: Version,
    bytes: Vec<u8>,
    /// Name of an error, or `ok`.
    expected: &'static str,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn cases() -> Vec<Case> {
    let lines = include_str!("matches.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.split(' ');
            let version = Version::by_name(&format!("OpenFlow{}", parts.next().unwrap())).unwrap();
            let bytes = unhex(parts.next().unwrap());
            Case { version, bytes, expected: parts.next().unwrap() }
        })
        .collect()
}

/// What `ovs-ofctl` says of each message: an error, or `ok`.
fn peer(cases: &[Case]) -> Vec<String> {
    let path = std::env::temp_dir().join(format!("weft-matches-{}", std::process::id()));
    let stream: Vec<u8> = cases.iter().flat_map(|c| c.bytes.iter().copied()).collect();
    fs::write(&path, stream).unwrap();
    let output = Command::new("ovs-ofctl").args(["-vconsole:off", "ofp-parse"]).arg(&path).output();
    let output = output.unwrap_or_else(|e| panic!("ovs-ofctl cannot be run ({e}); run `make setup`"));
    fs::remove_file(&path).unwrap();
    let mut out: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if line.starts_with("OFPT_FLOW_MOD") || line.starts_with("NXT_FLOW_MOD") {
            out.push("ok".to_owned());
        }
        if let (Some((_, error)), Some(last)) = (line.split_once("decode error: "), out.last_mut()) {
            *last = error.trim_end_matches('*').to_owned();
        }
    }
    out
}

#[test]
fn matches_are_refused_as_by_open_vswitch() {
    let cases = cases();
    assert!(cases.len() > 200, "{}", cases.len());
    let answers = peer(&cases);
    assert_eq!(answers.len(), cases.len());
    for (case, answer) in cases.iter().zip(&answers) {
        let hex: String = case.bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(answer, case.expected, "ovs-ofctl of {} {hex}", case.version);
        let read = Codec::new(case.version).decode(&case.bytes);
        let ours = read.map_or_else(|error| error.name(), |_| "ok");
        assert_eq!(ours, case.expected, "{} {hex}", case.version);
    }
}
