//! How do bytes come from and go to the peers of the switch?
//!
//! [`Streams`] opens *endpoints*: a listener, or a dialler that connects again whenever its connection ends. Each runs
//! as a task of its own and knows nothing of protocols; what happens is told to the control task as [`StreamEvent`]s.
//!
//! ```text
//!   listener task ──accept──▶ connection task ─┐
//!   dialler task ──connect──▶ (inline)         ├─ StreamEvent ─▶ control task
//!                              ▲               │
//!                              └──── Conn::send (bytes) ◀────────┘
//! ```

mod conn;
mod dial;
mod listen;
pub(crate) mod target;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

pub(crate) use conn::{Conn, ConnId};
pub(crate) use target::{Dial, Listen, Target};
pub(crate) use tls::{Tls, TlsFiles};

/// Names an endpoint for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EndpointId(u64);

/// What a dialler is doing, in the words of the `status:state` key of Manager and Controller rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DialState {
    /// Waiting before the next attempt.
    Backoff,
    /// Connecting.
    Connecting,
    /// Connected.
    Active,
}

impl DialState {
    /// The word for the database.
    pub(crate) fn word(self) -> &'static str {
        match self {
            DialState::Backoff => "BACKOFF",
            DialState::Connecting => "CONNECTING",
            DialState::Active => "ACTIVE",
        }
    }
}

/// Something that happened on a stream.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    /// A peer is there.
    Opened {
        /// Through which endpoint.
        endpoint: EndpointId,
        /// To talk to it; dropping it closes the connection once everything sent is written.
        conn: Conn,
    },
    /// Bytes from the peer.
    Data {
        /// From which connection.
        conn: ConnId,
        /// The bytes, never empty.
        bytes: Vec<u8>,
    },
    /// Little waits to be written, as [`Conn::tell_when_drained`] asked to be told.
    Drained,
    /// The peer is gone.
    Closed {
        /// Which connection.
        conn: ConnId,
        /// Why, for people.
        why: String,
    },
    /// A dialler's state changed.
    Dial {
        /// Which dialler.
        endpoint: EndpointId,
        /// What it does now.
        state: DialState,
        /// Why the last attempt or connection ended.
        error: Option<String>,
    },
}

/// An error in the kernel's words alone.
pub(crate) fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().to_owned(),
        None => error.to_string(),
    }
}

/// All endpoints of the switch.
pub(crate) struct Streams {
    tls: Arc<Tls>,
    events: mpsc::Sender<StreamEvent>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    closed: Vec<EndpointId>,
    next: u64,
}

struct Endpoint {
    task: AbortHandle,
    /// The socket file, to remove in the end.
    file: Option<PathBuf>,
    /// Where a TCP listener listens.
    addr: Option<SocketAddr>,
}

impl Streams {
    /// No endpoints yet; what happens on them is sent to `events`.
    pub(crate) fn new(tls: Arc<Tls>, events: mpsc::Sender<StreamEvent>) -> Streams {
        Streams { tls, events, endpoints: BTreeMap::new(), closed: Vec::new(), next: 1 }
    }

    /// Opens an endpoint. Only listening can fail here; a dialler tries for ever.
    pub(crate) fn open(&mut self, target: &Target, max_backoff: Duration) -> io::Result<EndpointId> {
        match target {
            Target::Passive(listen) => self.listen(listen),
            Target::Active(dial) => Ok(self.dial(dial, max_backoff)),
        }
    }

    fn listen(&mut self, listen: &Listen) -> io::Result<EndpointId> {
        let socket = listen::bind(listen)?;
        let addr = socket.local_addr();
        let file = match listen {
            Listen::Unix(path) => Some(path.clone()),
            Listen::Tcp { .. } => None,
        };
        let id = self.id();
        let task = tokio::spawn(listen::run(id, socket, Arc::clone(&self.tls), self.events.clone()));
        self.endpoints.insert(id, Endpoint { task: task.abort_handle(), file, addr });
        Ok(id)
    }

    fn dial(&mut self, dial: &Dial, max_backoff: Duration) -> EndpointId {
        let id = self.id();
        let run = dial::run(id, dial.clone(), max_backoff, Arc::clone(&self.tls), self.events.clone());
        let task = tokio::spawn(run);
        self.endpoints.insert(id, Endpoint { task: task.abort_handle(), file: None, addr: None });
        id
    }

    fn id(&mut self) -> EndpointId {
        self.next += 1;
        EndpointId(self.next)
    }

    /// The address a TCP listener was given.
    pub(crate) fn address(&self, id: EndpointId) -> Option<SocketAddr> {
        self.endpoints.get(&id)?.addr
    }

    /// Stops an endpoint and removes its socket file. Connections that came by it are for the control task to end, see
    /// [`Streams::take_closed`]; a dialler's connection ends without an event.
    pub(crate) fn close(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.remove(&id) {
            endpoint.end();
            self.closed.push(id);
        }
    }

    /// Endpoints closed since the last call.
    pub(crate) fn take_closed(&mut self) -> Vec<EndpointId> {
        std::mem::take(&mut self.closed)
    }
}

impl Endpoint {
    fn end(self) {
        self.task.abort();
        if let Some(file) = self.file {
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        std::mem::take(&mut self.endpoints).into_values().for_each(Endpoint::end);
    }
}
