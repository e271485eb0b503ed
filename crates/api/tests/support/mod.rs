//! A server for a test, and requests by hand.
#![allow(dead_code, unreachable_pub)] // Not every test uses all of it.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use weft_api::{App, Client, Limits, bind_unix, router, serve_unix};
use weft_store::{Embedded, Options};

/// A server on a unix socket, until it is dropped.
pub struct Served {
    pub client: Client,
    pub socket: PathBuf,
    pub store: Embedded,
    pub dir: tempfile::TempDir,
    pub stop: watch::Sender<bool>,
}

pub async fn serve(limits: Limits) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(&dir.path().join("store.redb"), &Options::default()).unwrap();
    let socket = dir.path().join("run/api.sock");
    let listener = bind_unix(&socket, 0o600).unwrap();
    let app = App::new(store.clone()).with_guard(limits.clone(), None);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve_unix(listener, router(app), limits, stopped));
    let client = Client::unix(&socket).with_manager("tester");
    Served { client, socket, store, dir, stop }
}

/// A document of a network.
pub fn network(name: &str, spec: &str) -> String {
    format!("apiVersion: weft.dev/v1\nkind: Network\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// Status and body of a request.
pub async fn raw(socket: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    send(socket, &format!("{head}{body}")).await
}

/// Status and the rest of the answer to some bytes. What is sent may be refused before it is all read.
pub async fn send(socket: &Path, bytes: &str) -> (u16, String) {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let bytes = bytes.to_owned();
    let sender = tokio::spawn(async move {
        let _ = write.write_all(bytes.as_bytes()).await;
        write
    });
    let mut answer = Vec::new();
    let _ = read.read_to_end(&mut answer).await;
    drop(sender.await.unwrap());
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, text)
}
