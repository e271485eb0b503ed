//! How does one connection carry bytes both ways without letting either side fill memory?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use super::{EndpointId, StreamEvent, words};

/// Bytes waiting to be written above which nothing more is read from the peer.
const PAUSE_READING: usize = 1 << 20;
/// Bytes waiting to be written above which nothing more is taken: the peer does not read.
const MAX_QUEUED: usize = 64 << 20;
/// Bytes waiting to be written below which a control task that asked for it is told that there is room again.
const ROOM: usize = 64 << 10;
/// Fewest and most bytes read at once: a buffer grows with what comes.
const READ_SIZE: (usize, usize) = (4 << 10, 64 << 10);
/// How long the last bytes may take after the peer has stopped sending.
const LINGER: Duration = Duration::from_secs(5);

/// A stream of any kind.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Names a connection for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnId(u64);

impl ConnId {
    fn next() -> ConnId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        ConnId(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The peer does not read what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_QUEUED} bytes wait to be read by the peer")]
pub(crate) struct Overflow;

/// The control task's end of a connection.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Its number.
    pub id: ConnId,
    /// The peer's address, for people; empty for local sockets.
    pub peer: String,
    outbox: mpsc::UnboundedSender<Vec<u8>>,
    gauge: Arc<Gauge>,
}

impl Conn {
    /// Queues bytes for the peer. What is sent to a peer that is gone vanishes.
    pub(crate) fn send(&self, bytes: Vec<u8>) -> Result<(), Overflow> {
        if bytes.is_empty() {
            return Ok(());
        }
        if self.gauge.queued.load(Ordering::Relaxed) > MAX_QUEUED {
            return Err(Overflow);
        }
        self.gauge.queued.fetch_add(bytes.len(), Ordering::Relaxed);
        let _ = self.outbox.send(bytes);
        Ok(())
    }

    /// Bytes that wait to be written.
    pub(crate) fn queued(&self) -> usize {
        self.gauge.queued.load(Ordering::Relaxed)
    }

    /// Bytes written since the connection began.
    pub(crate) fn written(&self) -> u64 {
        self.gauge.written.load(Ordering::Relaxed)
    }

    /// Asks for a [`StreamEvent::Drained`] when little waits to be written.
    pub(crate) fn tell_when_drained(&self) {
        self.gauge.tell.store(true, Ordering::Release);
        // Nothing may wait any more by now; then it is the writer that is to be woken, by nothing to write.
        if self.queued() <= ROOM {
            let _ = self.outbox.send(Vec::new());
        }
    }

    /// Reads nothing more from the peer, or goes on reading.
    pub(crate) fn pause_reading(&self, pause: bool) {
        if self.gauge.paused.swap(pause, Ordering::Relaxed) && !pause {
            self.gauge.drained.notify_one();
        }
    }
}

/// How much waits to be written.
#[derive(Debug, Default)]
struct Gauge {
    queued: AtomicUsize,
    written: AtomicU64,
    /// The control task wants to know when little waits.
    tell: AtomicBool,
    /// The control task wants nothing more to be read.
    paused: AtomicBool,
    drained: Notify,
}

impl Gauge {
    async fn low(&self) {
        while self.queued.load(Ordering::Relaxed) > PAUSE_READING || self.paused.load(Ordering::Relaxed) {
            self.drained.notified().await;
        }
    }
    /// Notes what was written. True: the control task is to be told that there is room.
    fn written(&self, n: usize) -> bool {
        let left = self.queued.fetch_sub(n, Ordering::Relaxed) - n;
        self.written.fetch_add(n as u64, Ordering::Relaxed);
        self.drained.notify_one();
        left <= ROOM && self.tell.swap(false, Ordering::AcqRel)
    }
}

/// Carries bytes until either side ends. Tells the control task of the beginning, every piece, and the end.
pub(super) async fn carry(
    endpoint: EndpointId,
    stream: Box<dyn ByteStream>,
    peer: String,
    events: &mpsc::Sender<StreamEvent>,
) -> String {
    let (outbox, mut inbox) = mpsc::unbounded_channel::<Vec<u8>>();
    let gauge = Arc::new(Gauge::default());
    let id = ConnId::next();
    let conn = Conn { id, peer, outbox, gauge: Arc::clone(&gauge) };
    let (mut from, mut to) = tokio::io::split(stream);
    if events.send(StreamEvent::Opened { endpoint, conn }).await.is_err() {
        return "the switch ends".into();
    }
    let read = async {
        let mut buf = vec![0; READ_SIZE.0];
        loop {
            gauge.low().await;
            match from.read(&mut buf).await {
                Ok(0) => return "closed by the peer".to_owned(),
                Ok(n) => {
                    let data = StreamEvent::Data { conn: id, bytes: buf[..n].to_vec() };
                    if events.send(data).await.is_err() {
                        return "the switch ends".into();
                    }
                    let size = buf.len();
                    if n == size && size < READ_SIZE.1 {
                        buf.resize(size * 2, 0);
                    } else if n < size / 8 && size > READ_SIZE.0 {
                        buf = vec![0; READ_SIZE.0];
                    }
                }
                Err(e) => return words(&e),
            }
        }
    };
    let write = async {
        while let Some(bytes) = inbox.recv().await {
            if let Err(e) = to.write_all(&bytes).await {
                return words(&e);
            }
            if gauge.written(bytes.len()) {
                let _ = events.send(StreamEvent::Drained).await;
            }
        }
        let _ = to.shutdown().await;
        "closed by the switch".to_owned()
    };
    tokio::pin!(write);
    let (why, ended_by_peer) = {
        // Reading ends with this block: left alive, it could keep a place in the queue of events for ever.
        tokio::pin!(read);
        tokio::select! {
            why = &mut read => (why, true),
            why = &mut write => (why, false),
        }
    };
    let _ = events.send(StreamEvent::Closed { conn: id, why: why.clone() }).await;
    if ended_by_peer {
        // A peer that only shut down its sending side still gets its answers.
        let _ = tokio::time::timeout(LINGER, write).await;
    }
    why
}
