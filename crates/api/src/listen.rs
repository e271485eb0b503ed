//! How do connections come in?

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::guard::{Limits, Peer};

/// How long a client may take to send the headers of a request, or to shake hands.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long running requests may take when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// What a TCP listener needs. At least one of `client_ca` and `token` must be there.
#[derive(Debug, Clone, Default)]
pub struct TcpOptions {
    /// File of the server's certificate chain, PEM.
    pub certificate: PathBuf,
    /// File of its private key, PEM.
    pub key: PathBuf,
    /// File of the CAs of client certificates, PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether clients may come without a certificate, because they show a token.
    pub token: bool,
}

fn wrong(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}

impl TcpOptions {
    fn config(&self) -> io::Result<ServerConfig> {
        if self.client_ca.is_none() && !self.token {
            return Err(wrong("listening on TCP needs a token or the CA of client certificates"));
        }
        let at = |path: &Path, e: &dyn std::fmt::Display| wrong(format!("{}: {e}", path.display()));
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&self.certificate)
            .map_err(|e| at(&self.certificate, &e))?
            .collect();
        let chain = chain.map_err(|e| at(&self.certificate, &e))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| at(&self.key, &e))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(e.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for ca in CertificateDer::pem_file_iter(path).map_err(|e| at(path, &e))? {
                    roots.add(ca.map_err(|e| at(path, &e))?).map_err(|e| at(path, &e))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if self.token { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(|e| at(path, &e))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|e| at(&self.certificate, &e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Makes a unix socket with these permissions. A socket that nobody listens at any more is replaced.
///
/// # Errors
/// When somebody listens there, when something else is in the way, or when the directory cannot be written.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
        Ok(there) => {
            use std::os::unix::fs::FileTypeExt;
            if !there.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("{} is no socket", path.display()),
                ));
            }
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                let message = format!("somebody listens at {} already", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
        }
    }
    // Bound beside and moved there, so that it is never seen with other permissions.
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    match std::fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Serves a unix socket until `stop` becomes true or its sender is gone.
pub async fn serve_unix(listener: UnixListener, router: Router, limits: Limits, stop: watch::Receiver<bool>) {
    let accept = async |listener: &UnixListener| listener.accept().await.map(|(stream, _)| stream);
    serve(listener, accept, limits, stop, move |stream| {
        let router = router.clone();
        async move { connection(stream, router, Peer::Local).await }
    })
    .await;
}

/// Serves a TCP socket with TLS until `stop` becomes true or its sender is gone.
///
/// # Errors
/// When certificates cannot be read, or when there would be no way for clients to say who they are.
pub async fn serve_tcp(
    listener: TcpListener,
    options: &TcpOptions,
    router: Router,
    limits: Limits,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(options.config()?));
    let accept = async |listener: &TcpListener| listener.accept().await.map(|(stream, _)| stream);
    serve(listener, accept, limits, stop, move |stream| {
        let (router, acceptor) = (router.clone(), acceptor.clone());
        async move {
            drop(stream.set_nodelay(true));
            let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else {
                return;
            };
            let certificate = stream.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
            connection(stream, router, Peer::Remote { certificate }).await;
        }
    })
    .await;
    Ok(())
}

/// Accepts connections and lets each be worked on by a task of its own.
async fn serve<L, T, W>(
    listener: L,
    accept: impl AsyncFn(&L) -> io::Result<T>,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
    work: impl Fn(T) -> W,
) where
    W: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits.connections.max(1)));
    let mut tasks = JoinSet::new();
    loop {
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, accept(&listener).await)
        };
        let (permit, accepted) = tokio::select! {
            next = next => next,
            Some(_) = tasks.join_next() => continue,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok(stream) => {
                let work = work(stream);
                tasks.spawn(async move {
                    let _permit = permit;
                    work.await;
                });
            }
            Err(error) => {
                // Out of file descriptors, or the client went away: neither is cured by trying at once.
                tracing::debug!(%error, "a connection to the API was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let finish = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finish).await.is_err() {
        tracing::debug!("connections to the API were cut off");
    }
}

async fn connection<T>(stream: T, router: Router, peer: Peer)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the API broke off");
    }
}
