//! How is a forwarder asked? Each question from a socket of its own, on a random port, that hears its server alone.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use weft_services::dns::tcp::{Frames, frame};
use weft_services::dns::{Ask, Transport};

/// Sockets open at a time.
const SOCKETS: usize = 512;
/// Longest that one is kept; who asked gave up before.
const LIFE: Duration = Duration::from_secs(8);
/// Datagrams that one hears at most: forgers get few guesses.
const GUESSES: usize = 8;

/// What a forwarder said.
#[derive(Debug)]
pub(super) struct Reply {
    /// The network.
    pub(super) key: u64,
    pub(super) token: u64,
    pub(super) from: SocketAddr,
    pub(super) transport: Transport,
    pub(super) bytes: Vec<u8>,
}

/// Questions on their way, by network and token.
#[derive(Debug)]
pub(super) struct Upstream {
    replies: mpsc::Sender<Reply>,
    asked: HashMap<(u64, u64), AbortHandle>,
    free: Arc<Semaphore>,
}

impl Upstream {
    pub(super) fn new() -> (Upstream, mpsc::Receiver<Reply>) {
        let (replies, heard) = mpsc::channel(1024);
        (Upstream { replies, asked: HashMap::new(), free: Arc::new(Semaphore::new(SOCKETS)) }, heard)
    }

    /// Sends a question. When there are too many already, its time passes unasked.
    pub(super) fn ask(&mut self, key: u64, ask: Ask) {
        let at = (key, ask.token);
        self.finish(at);
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else { return };
        let replies = self.replies.clone();
        let task = tokio::spawn(async move {
            let _permit = permit;
            let done = match ask.transport {
                Transport::Udp => timeout(LIFE, by_udp(key, &ask, &replies)).await,
                Transport::Tcp => timeout(LIFE, by_tcp(key, &ask, &replies)).await,
            };
            if let Ok(Err(why)) = done {
                tracing::debug!(server = %ask.server, %why, "a forwarder could not be asked");
            }
        });
        self.asked.insert(at, task.abort_handle());
    }

    /// Nobody waits for this any more.
    pub(super) fn finish(&mut self, at: (u64, u64)) {
        if let Some(task) = self.asked.remove(&at) {
            task.abort();
        }
    }

    /// Nor for anything of this network.
    pub(super) fn forget(&mut self, key: u64) {
        self.asked.retain(|(k, _), task| {
            if *k == key {
                task.abort();
            }
            *k != key
        });
    }
}

async fn by_udp(key: u64, ask: &Ask, replies: &mpsc::Sender<Reply>) -> io::Result<()> {
    let at = |port: u16| -> SocketAddr {
        if ask.server.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, port).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, port).into()
        }
    };
    let socket = match UdpSocket::bind(at(ask.port)).await {
        Ok(socket) => socket,
        // Somebody has the port; the kernel's choice is random, too.
        Err(_) => UdpSocket::bind(at(0)).await?,
    };
    socket.connect(ask.server).await?;
    socket.send(&ask.message).await?;
    let mut buffer = vec![0; 4096];
    for _ in 0..GUESSES {
        let len = socket.recv(&mut buffer).await?;
        let bytes = buffer.get(..len).unwrap_or_default().to_vec();
        let reply = Reply { key, token: ask.token, from: ask.server, transport: Transport::Udp, bytes };
        if replies.send(reply).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn by_tcp(key: u64, ask: &Ask, replies: &mpsc::Sender<Reply>) -> io::Result<()> {
    let mut stream = TcpStream::connect(ask.server).await?;
    let Some(framed) = frame(&ask.message) else { return Ok(()) };
    stream.write_all(&framed).await?;
    let (mut frames, mut buffer) = (Frames::default(), vec![0; 16 << 10]);
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Ok(());
        }
        // One message is waited for, and the buffer of `frames` holds the longest there is.
        frames.push(buffer.get(..len).unwrap_or_default());
        if let Some(bytes) = frames.next().map_err(io::Error::other)? {
            let reply = Reply { key, token: ask.token, from: ask.server, transport: Transport::Tcp, bytes };
            let _ = replies.send(reply).await;
            return Ok(());
        }
    }
}
