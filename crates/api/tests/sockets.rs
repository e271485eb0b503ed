//! Who gets in: unix sockets, TLS, tokens, client certificates.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{Served, network, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use weft_api::{App, Client, ClientError, Limits, TcpOptions, TlsOptions, bind_unix, router, serve_tcp};

/// Certificates of a CA for a server and a client, and those of another CA for a stranger.
struct Pki {
    dir: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (ca, name) in [("ca", "server"), ("ca", "client"), ("other-ca", "stranger")] {
            let ca_key_file = dir.path().join(format!("{ca}.key"));
            let ca_key = match std::fs::read_to_string(&ca_key_file) {
                Ok(pem) => rcgen::KeyPair::from_pem(&pem).unwrap(),
                Err(_) => rcgen::KeyPair::generate().unwrap(),
            };
            let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, ca);
            let certificate = params.self_signed(&ca_key).unwrap();
            std::fs::write(dir.path().join(format!("{ca}.pem")), certificate.pem()).unwrap();
            std::fs::write(&ca_key_file, ca_key.serialize_pem()).unwrap();
            let issuer = rcgen::Issuer::new(params, ca_key);
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
            params.extended_key_usages =
                vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(dir.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pair(&self, name: &str) -> Option<(PathBuf, PathBuf)> {
        Some((self.file(&format!("{name}.pem")), self.file(&format!("{name}.key"))))
    }
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn tcp(served: &Served, pki: &Pki, client_ca: bool, token: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = TcpOptions {
        certificate: pki.file("server.pem"),
        key: pki.file("server.key"),
        client_ca: client_ca.then(|| pki.file("ca.pem")),
        token,
    };
    let limits = Limits::default();
    let app = App::new(served.store.clone()).with_guard(limits.clone(), token.then(|| TOKEN.to_owned()));
    let stop = served.stop.subscribe();
    tokio::spawn(async move { serve_tcp(listener, &options, router(app), limits, stop).await.unwrap() });
    address
}

async fn status(
    address: &str,
    ca: PathBuf,
    certificate: Option<(PathBuf, PathBuf)>,
    token: Option<&str>,
) -> u16 {
    let options = TlsOptions { ca, certificate, token: token.map(str::to_owned) };
    match Client::tcp(address, &options).unwrap().health().await {
        Ok(_) => 200,
        Err(ClientError::Refused(error)) => error.status,
        Err(ClientError::Connect { .. }) => 0,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_asks_for_a_token_or_a_certificate() {
    let served = serve(Limits::default()).await;
    let pki = Pki::new();
    let ca = || pki.file("ca.pem");
    let by_token = tcp(&served, &pki, false, true).await;
    assert_eq!(status(&by_token, ca(), None, Some(TOKEN)).await, 200);
    assert_eq!(status(&by_token, ca(), None, None).await, 401);
    assert_eq!(status(&by_token, ca(), None, Some("0123456789abcdef0123456789abcdeF")).await, 401);
    assert_eq!(status(&by_token, ca(), None, Some("")).await, 401);
    // A client that does not know the server's CA does not talk to it.
    assert_eq!(status(&by_token, pki.file("other-ca.pem"), None, Some(TOKEN)).await, 0);

    let by_certificate = tcp(&served, &pki, true, false).await;
    assert_eq!(status(&by_certificate, ca(), pki.pair("client"), None).await, 200);
    assert_eq!(status(&by_certificate, ca(), pki.pair("stranger"), None).await, 0);
    assert_eq!(status(&by_certificate, ca(), None, Some(TOKEN)).await, 0);

    let by_either = tcp(&served, &pki, true, true).await;
    assert_eq!(status(&by_either, ca(), pki.pair("client"), None).await, 200);
    assert_eq!(status(&by_either, ca(), None, Some(TOKEN)).await, 200);
    assert_eq!(status(&by_either, ca(), None, None).await, 401);
    assert_eq!(status(&by_either, ca(), pki.pair("stranger"), Some(TOKEN)).await, 0);

    // Without TLS nothing is answered.
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut plain = tokio::net::TcpStream::connect(&by_token).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn tcp_without_credentials_is_not_served() {
    let served = serve(Limits::default()).await;
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (certificate, key) = pki.pair("server").unwrap();
    let mut options = TcpOptions { certificate, key, client_ca: None, token: false };
    let (_stop, stopped) = watch::channel(false);
    let app = || router(App::new(served.store.clone()));
    let error = serve_tcp(listener, &options, app(), Limits::default(), stopped.clone()).await.unwrap_err();
    assert!(error.to_string().contains("needs a token"), "{error}");
    options.token = true;
    options.key = PathBuf::from("/nowhere/key.pem");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = serve_tcp(listener, &options, app(), Limits::default(), stopped).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/key.pem"), "{error}");
}

#[tokio::test]
async fn the_unix_socket_is_made_safely() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/api.sock");
    let first = bind_unix(&path, 0o660).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let error = bind_unix(&path, 0o660).unwrap_err();
    assert!(error.to_string().contains("somebody listens"), "{error}");
    drop(first);
    let second = bind_unix(&path, 0o660).unwrap();
    drop(second);
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(bind_unix(&file, 0o660).unwrap_err().to_string().contains("no socket"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    let left: Vec<_> = std::fs::read_dir(Path::new(&dir.path().join("a/b"))).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is left beside the socket");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_ends_watches_and_a_missing_server_is_told() {
    let served = serve(Limits::default()).await;
    let query = weft_api::WatchQuery::default();
    let mut watch = served.client.watch(&query).await.unwrap();
    assert!(watch.next().await.unwrap().is_some());
    served.stop.send(true).unwrap();
    let end = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("the watch ends");
    assert!(matches!(end, Ok(None) | Err(ClientError::Answer(_))), "{end:?}");
    let error = served.client.apply(network("n", "{}"), false, false).await.unwrap_err();
    assert!(error.to_string().contains("is `weft agent` running?"), "{error}");
}
