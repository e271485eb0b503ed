//! What do the tests share? Documents, and the way there and back.
#![allow(dead_code)] // Each test binary uses a part.

use std::path::{Path, PathBuf};

use weft_libvirt::{Export, Import, export, import};
use weft_model::{Network, Resource, Subnet};

/// All documents of `tests/data`, by name.
pub(crate) fn documents() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut all: Vec<PathBuf> = std::fs::read_dir(dir).expect("data").flatten().map(|e| e.path()).collect();
    all.sort();
    assert!(all.len() > 30, "only {} documents", all.len());
    let name = |p: &PathBuf| p.file_stem().expect("a name").to_string_lossy().into_owned();
    all.iter().map(|p| (name(p), std::fs::read_to_string(p).expect("a document"))).collect()
}

pub(crate) fn read(text: &str) -> Import {
    match import(text) {
        Ok(import) => import,
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

pub(crate) fn network(resources: &[Resource]) -> &Network {
    resources.iter().find_map(Resource::as_network).expect("a network")
}

pub(crate) fn subnets(resources: &[Resource]) -> Vec<&Subnet> {
    resources.iter().filter_map(Resource::as_subnet).collect()
}

pub(crate) fn write(resources: &[Resource]) -> Export {
    match export(network(resources), &subnets(resources)) {
        Ok(export) => export,
        Err(problems) => panic!("{problems}"),
    }
}
