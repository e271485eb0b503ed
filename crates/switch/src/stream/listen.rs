//! How are peers waited for?

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use super::conn::{ByteStream, carry};
use super::target::ipv4_fallback;
use super::{EndpointId, Listen, StreamEvent, Tls};

/// Descriptors kept for everything that is not a connection: the database, ports, sockets of the lanes.
const RESERVED_FILES: u64 = 512;
/// Connections that one listener holds at a time, whatever the limit of descriptors.
const MIN_CONNECTIONS: usize = 64;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after accept(2) failed, which it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
pub(super) enum Socket {
    Unix(UnixListener),
    Tcp { listener: TcpListener, tls: bool },
}

impl Socket {
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Socket::Unix(_) => None,
            Socket::Tcp { listener, .. } => listener.local_addr().ok(),
        }
    }
}

/// Binds at once; a socket file left by a process that is gone is replaced.
pub(super) fn bind(listen: &Listen) -> io::Result<Socket> {
    match listen {
        Listen::Unix(path) => bind_unix(path).map(Socket::Unix),
        Listen::Tcp { addr, tls } => bind_tcp(*addr).map(|listener| Socket::Tcp { listener, tls: *tls }),
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AddrInUse));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o750))?;
    Ok(listener)
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    match bind_one(addr) {
        Err(e) => match ipv4_fallback(addr) {
            Some(v4) => bind_one(v4),
            None => Err(e),
        },
        bound => bound,
    }
}

fn bind_one(addr: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(addr);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// Connections that one listener may hold: half of the descriptors that the process may open, so that one that is
/// flooded leaves room for the others.
fn max_connections() -> usize {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let files = limit.map_or(1024, |(soft, _)| soft);
    usize::try_from(files.saturating_sub(RESERVED_FILES) / 2).unwrap_or(MIN_CONNECTIONS).max(MIN_CONNECTIONS)
}

/// Accepts until aborted.
pub(super) async fn run(id: EndpointId, socket: Socket, tls: Arc<Tls>, events: mpsc::Sender<StreamEvent>) {
    let slots = Arc::new(Semaphore::new(max_connections()));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = match &socket {
            Socket::Unix(listener) => listener.accept().await.map(|(s, _)| Accepted::Unix(s)),
            Socket::Tcp { listener, tls } => {
                listener.accept().await.map(|(s, peer)| Accepted::Tcp(s, peer, *tls))
            }
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, events) = (Arc::clone(&tls), events.clone());
        tokio::spawn(async move {
            let _slot = slot;
            match accepted.open(&tls).await {
                Ok((stream, peer)) => drop(carry(id, stream, peer, &events).await),
                Err(why) => tracing::warn!("{why}"),
            }
        });
    }
}

enum Accepted {
    Unix(tokio::net::UnixStream),
    Tcp(TcpStream, SocketAddr, bool),
}

impl Accepted {
    async fn open(self, tls: &Tls) -> Result<(Box<dyn ByteStream>, String), String> {
        match self {
            Accepted::Unix(stream) => Ok((Box::new(stream), String::new())),
            Accepted::Tcp(stream, peer, false) => {
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), format!("tcp:{}", display(peer))))
            }
            Accepted::Tcp(stream, peer, true) => {
                let _ = stream.set_nodelay(true);
                let name = format!("ssl:{}", display(peer));
                let config = tls.server().map_err(|e| format!("{name}: {e}"))?;
                let accept = TlsAcceptor::from(config).accept(stream);
                match tokio::time::timeout(HANDSHAKE, accept).await {
                    Ok(Ok(stream)) => Ok((Box::new(stream), name)),
                    Ok(Err(e)) => Err(format!("{name}: TLS handshake: {e}")),
                    Err(_) => Err(format!("{name}: TLS handshake timed out")),
                }
            }
        }
    }
}

/// An address with IPv4 told as such, also when it came by an IPv6 socket.
fn display(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}
