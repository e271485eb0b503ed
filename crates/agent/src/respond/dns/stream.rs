//! How are names asked for by TCP? At the gateway's address on the host's own device of the network. (RFC 7766)
//!
//! Listeners are bound to the device, so that nobody outside of the network reaches them, and may wait for an address
//! that is not there yet. A device that vanishes and comes back gets new ones.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use weft_host::netlink::Netlink;
use weft_services::dns::tcp::{Frames, frame};

/// Connections of a network, and of one client.
const CONNECTIONS: (usize, usize) = (128, 8);
/// Longest time between two whole questions, and to write an answer (RFC 7766 §6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// Longest question: a name, a type and options.
const QUESTION: usize = 4096;
/// Questions of a connection that wait for their answers.
const WAITING: usize = 16;
/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 64;

/// A question that came by TCP.
#[derive(Debug)]
pub(super) struct Query {
    /// The network.
    pub(super) key: u64,
    pub(super) client: IpAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) back: mpsc::Sender<Vec<u8>>,
}

/// Where to listen: a network, its device, and an address.
pub(super) type Place = (u64, String, IpAddr);

#[derive(Debug)]
struct Listener {
    /// Of the device.
    index: u32,
    task: AbortHandle,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All listeners.
#[derive(Debug)]
pub(super) struct Streams {
    listeners: HashMap<Place, Listener>,
    queries: mpsc::Sender<Query>,
    /// Open connections by client.
    open: Arc<Mutex<HashMap<(u64, IpAddr), usize>>>,
    /// Said once each.
    wrong: Vec<String>,
}

impl Streams {
    pub(super) fn new() -> (Streams, mpsc::Receiver<Query>) {
        let (queries, heard) = mpsc::channel(256);
        (Streams { listeners: HashMap::new(), queries, open: Arc::default(), wrong: Vec::new() }, heard)
    }

    /// Listens at these places and no others.
    pub(super) async fn look(&mut self, wanted: Vec<Place>) {
        if wanted.is_empty() && self.listeners.is_empty() {
            return;
        }
        let links = tokio::task::spawn_blocking(|| Netlink::open().and_then(|mut n| n.links())).await;
        let Ok(Ok(links)) = links else { return };
        let index: HashMap<&str, u32> = links.iter().map(|l| (l.name.as_str(), l.index)).collect();
        self.listeners.retain(|place, listener| {
            wanted.contains(place)
                && index.get(place.1.as_str()) == Some(&listener.index)
                && !listener.task.is_finished()
        });
        let mut wrong = Vec::new();
        for place in wanted {
            let Some(index) = index.get(place.1.as_str()).copied() else { continue };
            if self.listeners.contains_key(&place) {
                continue;
            }
            match listen(&place.1, place.2) {
                Ok(listener) => {
                    let task = accept(listener, place.0, self.queries.clone(), Arc::clone(&self.open));
                    let task = tokio::spawn(task).abort_handle();
                    self.listeners.insert(place, Listener { index, task });
                }
                Err(why) => wrong.push(format!("{} on {}: {why}", place.2, place.1)),
            }
        }
        let new = wrong.iter().filter(|why| !self.wrong.contains(why));
        new.for_each(|why| tracing::warn!(why, "DNS is not answered by TCP"));
        self.wrong = wrong;
    }
}

fn listen(device: &str, address: IpAddr) -> io::Result<TcpListener> {
    let at = SocketAddr::new(address, 53);
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// A connection's place among those of its client; given back when dropped.
struct Seat {
    open: Arc<Mutex<HashMap<(u64, IpAddr), usize>>>,
    at: (u64, IpAddr),
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.at);
            }
        }
    }
}

async fn accept(
    listener: TcpListener,
    key: u64,
    queries: mpsc::Sender<Query>,
    open: Arc<Mutex<HashMap<(u64, IpAddr), usize>>>,
) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Too many files are open, or the like.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let at = (key, peer.ip());
        {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let all: usize = open.iter().filter(|((k, _), _)| *k == key).map(|(_, count)| count).sum();
            let own = open.get(&at).copied().unwrap_or_default();
            if all >= CONNECTIONS.0 || own >= CONNECTIONS.1 {
                continue;
            }
            open.insert(at, own + 1);
        }
        let seat = Seat { open: Arc::clone(&open), at };
        let queries = queries.clone();
        tokio::spawn(async move {
            if let Err(why) = serve(stream, at, queries).await {
                tracing::debug!(client = %at.1, %why, "a DNS connection ended");
            }
            drop(seat);
        });
    }
}

/// Questions in, answers out, in whichever order they come (RFC 7766 §6.2.1.1).
async fn serve(
    mut stream: TcpStream,
    (key, client): (u64, IpAddr),
    queries: mpsc::Sender<Query>,
) -> io::Result<()> {
    let (mut read, mut write) = stream.split();
    let (back, mut answers) = mpsc::channel::<Vec<u8>>(WAITING);
    // Gone when the client has no more questions.
    let mut back = Some(back);
    let (mut frames, mut buffer) = (Frames::default(), vec![0; 2 + QUESTION]);
    let mut end = Instant::now() + IDLE;
    loop {
        tokio::select! {
            Some(answer) = answers.recv() => {
                let Some(framed) = frame(&answer) else { continue };
                timeout(IDLE, write.write_all(&framed)).await??;
                end = Instant::now() + IDLE;
            }
            len = timeout_at(end, read.read(&mut buffer)), if back.is_some() => {
                let len = len??;
                if len == 0 {
                    back = None;
                    continue;
                }
                frames.push(buffer.get(..len).unwrap_or_default());
                while let Some(bytes) = frames.next().map_err(io::Error::other)? {
                    if bytes.len() > QUESTION {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    // Slow answers slow the asker down.
                    let Some(back) = back.clone() else { break };
                    let query = Query { key, client, bytes, back };
                    queries.send(query).await.map_err(io::Error::other)?;
                    end = Instant::now() + IDLE;
                }
            }
            else => return Ok(()),
        }
    }
}
