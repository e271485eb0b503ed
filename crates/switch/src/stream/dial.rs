//! How is a peer reached, and reached again?

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::conn::{ByteStream, carry};
use super::{Dial, DialState, EndpointId, StreamEvent, Tls, words};

/// First wait between attempts.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// How long connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// Connects, carries, waits, for ever. The wait doubles up to `max_backoff` and starts anew after a connection that
/// outlived it.
pub(super) async fn run(
    id: EndpointId,
    dial: Dial,
    max_backoff: Duration,
    tls: Arc<Tls>,
    events: mpsc::Sender<StreamEvent>,
) {
    let max_backoff = max_backoff.max(MIN_BACKOFF);
    let mut backoff = MIN_BACKOFF;
    let tell = |state, error| events.send(StreamEvent::Dial { endpoint: id, state, error });
    loop {
        let _ = tell(DialState::Connecting, None).await;
        let error = match connect(&dial, &tls).await {
            Ok(Connected::Stream(stream)) => {
                let _ = tell(DialState::Active, None).await;
                let since = Instant::now();
                let why = carry(id, stream, name(&dial), &events).await;
                if since.elapsed() > backoff {
                    backoff = MIN_BACKOFF;
                }
                why
            }
            Ok(Connected::Bootstrapped) => continue,
            Err(why) => why,
        };
        let _ = tell(DialState::Backoff, Some(error)).await;
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(max_backoff);
    }
}

enum Connected {
    Stream(Box<dyn ByteStream>),
    /// The CA certificate was learned; the connection was not trustworthy yet.
    Bootstrapped,
}

fn name(dial: &Dial) -> String {
    match dial {
        Dial::Unix(path) => format!("unix:{}", path.display()),
        Dial::Tcp { host, port, tls } => format!("{}:{host}:{port}", if *tls { "ssl" } else { "tcp" }),
    }
}

async fn connect(dial: &Dial, tls: &Tls) -> Result<Connected, String> {
    match tokio::time::timeout(CONNECT, try_connect(dial, tls)).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).to_string()),
    }
}

async fn try_connect(dial: &Dial, tls: &Tls) -> Result<Connected, String> {
    let text = |e: io::Error| words(&e);
    match dial {
        Dial::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(text)?;
            Ok(Connected::Stream(Box::new(stream)))
        }
        Dial::Tcp { host, port, tls: false } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(text)?;
            let _ = stream.set_nodelay(true);
            Ok(Connected::Stream(Box::new(stream)))
        }
        Dial::Tcp { host, port, tls: true } => {
            let config = tls.client().map_err(|e| e.to_string())?;
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(text)?;
            let _ = stream.set_nodelay(true);
            let server = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
            let stream = TlsConnector::from(config).connect(server, stream).await.map_err(text)?;
            if tls.bootstrap(stream.get_ref().1.peer_certificates()).map_err(|e| e.to_string())? {
                return Ok(Connected::Bootstrapped);
            }
            Ok(Connected::Stream(Box::new(stream)))
        }
    }
}
