//! Is the text tidy? Length of files, a question at the top of each module, no unfinished marks, unsafe only where
//! it may live.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines a source file may have.
const MAX_LINES: usize = 600;

/// Files that are longer, with the length they may not exceed. This list may only shrink.
const LONGER: &[(&str, usize)] = &[];

/// Rooms that may hold `unsafe`.
const UNSAFE_ROOMS: &[&str] = &["crates/host/", "crates/datapath/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace has a root")
}

/// Every Rust file of the project, as path relative to the root and text.
fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, root: &Path, out: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(dir).expect("directory is readable").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                if name != "target" && name != "corpus" && name != "artifacts" {
                    walk(&path, root, out);
                }
            } else if name.ends_with(".rs") {
                let rel = path.strip_prefix(root).expect("inside the root").to_string_lossy().into_owned();
                out.push((rel, fs::read_to_string(&path).expect("source is UTF-8")));
            }
        }
    }
    let root = root();
    let mut out = Vec::new();
    for top in ["crates", "tests", "fuzz"] {
        walk(&root.join(top), &root, &mut out);
    }
    assert!(out.len() > 30, "only {} sources found", out.len());
    out
}

/// Collects the complaints of `check` over all sources and fails with all of them.
fn check_all(check: impl Fn(&str, &str) -> Vec<String>) {
    let wrong: Vec<String> = sources().iter().flat_map(|(path, text)| check(path, text)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_are_short() {
    check_all(|path, text| {
        let lines = text.lines().count();
        let allowed = LONGER.iter().find(|(p, _)| *p == path).map_or(MAX_LINES, |(_, n)| *n);
        if lines > allowed { vec![format!("{path}: {lines} lines, {allowed} allowed")] } else { vec![] }
    });
    for (path, _) in LONGER {
        assert!(root().join(path).exists(), "{path} is gone: take it off the list");
    }
}

#[test]
fn modules_say_which_question_they_answer() {
    check_all(|path, text| {
        if text.trim_start().starts_with("//!") {
            vec![]
        } else {
            vec![format!("{path}: does not open with `//!`")]
        }
    });
}

#[test]
fn nothing_is_left_unfinished() {
    let marks: Vec<String> = ["TODO", "FIXME", "XXX", "HACK"].iter().map(|m| format!("// {m}")).collect();
    let ignored = ["#[", "ignore"].concat();
    check_all(|path, text| {
        let mut wrong = Vec::new();
        for (n, line) in text.lines().enumerate() {
            if marks.iter().any(|m| line.contains(m.as_str())) || line.contains(&ignored) {
                wrong.push(format!("{path}:{}: {}", n + 1, line.trim()));
            }
        }
        wrong
    });
}

#[test]
fn unsafe_lives_in_named_rooms() {
    let block = ["unsafe", " {"].concat();
    check_all(|path, text| {
        let room = UNSAFE_ROOMS.iter().any(|r| path.starts_with(r));
        if !room && text.contains(&block) {
            vec![format!("{path}: unsafe outside host and datapath")]
        } else {
            vec![]
        }
    });
}
