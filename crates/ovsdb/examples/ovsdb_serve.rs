//! A small OVSDB server on a unix socket, for trying the crate with real clients:
//! `cargo run -p weft-ovsdb --example ovsdb_serve -- SOCKET DATABASE`.

#[path = "../tests/common/serve.rs"]
mod serve;

use std::error::Error;
use std::fs::File;
use std::io::Read;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, socket, path] = args.as_slice() else {
        return Err("usage: ovsdb_serve SOCKET DATABASE".into());
    };
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    serve::serve(socket, path, seed)
}
