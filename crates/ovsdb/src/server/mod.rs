//! What does a server do with each client's bytes, and what must reach the disk first?
//!
//! ```text
//!   bytes ─▶ receive ─▶ Decoder ─▶ Message ─▶ methods ─▶ txn::execute ─▶ Commit
//!                                                                          │
//!   Batch { persist, sends, closes, changes } ◀── take_batch ◀── replies, updates
//! ```
//! One thread owns the server. It feeds bytes and time in, and carries out each [`Batch`]:
//! `persist` on the disk and synced **before** any of `sends` leaves. Several calls of
//! [`receive`](Server::receive) may share a batch, and so one sync.

mod batch;
mod blocked;
mod catalog;
mod commit;
mod connection;
mod local;
mod locks;
mod methods;
mod monitors;
mod transact;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use batch::{Batch, Persist};
pub use connection::{ConnId, ConnOptions, ServerLimits};
pub use locks::LockStatus;

use batch::Undo;
use connection::Connection;
use locks::Locks;

use crate::db::{Commit, Database};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::rpc::Message;
use crate::uuids::{Uuid, UuidStream};

/// The moment of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never steps back.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch, for the dates in the log.
    pub unix_ms: i64,
}

/// Databases, connections and locks: an OVSDB server without its sockets and files.
#[derive(Debug)]
pub struct Server {
    id: Uuid,
    uuids: UuidStream,
    limits: ServerLimits,
    databases: BTreeMap<String, Database>,
    connections: BTreeMap<ConnId, Connection>,
    next_connection: u64,
    locks: Locks,
    batch: Batch,
    unconfirmed: Vec<Undo>,
    /// Tables changed since blocked transactions were last tried.
    changed: Vec<(String, usize)>,
    /// The moment of the call being served.
    now: Now,
}

impl Server {
    /// A server that holds only `_Server`. `seed` is 32 bytes of randomness.
    pub fn new(seed: [u8; 32], limits: ServerLimits, now: Now) -> Self {
        let mut uuids = UuidStream::new(seed);
        let mut server = Self {
            id: uuids.draw(),
            uuids,
            limits,
            databases: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            locks: Locks::default(),
            batch: Batch::default(),
            unconfirmed: Vec::new(),
            changed: Vec::new(),
            now,
        };
        server.start_catalog();
        server
    }

    /// The server's id, new with every start.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Where the server draws its UUIDs.
    pub fn uuids(&mut self) -> &mut UuidStream {
        &mut self.uuids
    }

    /// Serves one more database, under its schema's name.
    ///
    /// # Errors
    /// A database of that name is there already.
    pub fn add_database(&mut self, db: Database, now: Now) -> Result<()> {
        self.now = now;
        let name = db.schema().name.clone();
        if self.databases.contains_key(&name) {
            let details = format!("database {name} is already served");
            return Err(OvsdbError::new(ErrorKind::InvalidParameters, details));
        }
        self.catalog_insert(&name, db.schema())?;
        self.databases.insert(name, db);
        self.retry_blocked();
        Ok(())
    }

    /// A database, to read.
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.get(name)
    }

    /// Accepts a client.
    pub fn connect(&mut self, options: ConnOptions, now: Now) -> ConnId {
        self.now = now;
        let id = ConnId(self.next_connection);
        self.next_connection += 1;
        let connection = Connection::new(options, self.limits.frame, now.mono_ms);
        self.connections.insert(id, connection);
        id
    }

    /// Number of clients.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Takes bytes a client sent. Unknown clients (closed meanwhile) are ignored.
    pub fn receive(&mut self, id: ConnId, bytes: &[u8], now: Now) {
        self.now = now;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.heard(now.mono_ms);
        connection.decoder.feed(bytes);
        while let Some(connection) = self.connections.get_mut(&id) {
            let Some(found) = connection.decoder.next() else {
                break;
            };
            match found.and_then(Message::from_json) {
                Ok(message) => self.message(id, message),
                Err(_) => self.close(id),
            }
        }
    }

    /// Notes that `bytes` of a client's sends have left; see [`ServerLimits::backlog`].
    pub fn written(&mut self, id: ConnId, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.backlog = connection.backlog.saturating_sub(bytes);
        }
    }

    /// Forgets a client that has gone: its monitors, locks and waiting transactions.
    pub fn disconnect(&mut self, id: ConnId, now: Now) {
        self.now = now;
        if self.connections.remove(&id).is_some() {
            self.release_locks(id);
        }
    }

    /// Lets time pass: waits run out, silent clients are probed and dropped.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        self.expire_blocked();
        self.probe();
    }

    /// When [`tick`](Self::tick) next has something to do, on the monotonic clock.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.connections.values().filter_map(Connection::deadline_ms).min()
    }

    /// What has to be done since the last call. Taking a batch confirms that the one before
    /// was persisted.
    pub fn take_batch(&mut self) -> Batch {
        self.unconfirmed.clear();
        self.unconfirmed.append(&mut self.batch.undo);
        std::mem::take(&mut self.batch)
    }

    /// What changed since the last call, ahead of the batch that persists it, which then does
    /// not carry it: for parts of this process whose answer shall be in the same batch.
    pub fn take_changes(&mut self) -> Vec<(String, Arc<Commit>)> {
        std::mem::take(&mut self.batch.changes)
    }

    /// True when there is something to take.
    pub fn has_batch(&self) -> bool {
        !self.batch.is_empty() || !self.batch.undo.is_empty()
    }

    /// Drops a client and tells the rim.
    fn close(&mut self, id: ConnId) {
        if self.connections.remove(&id).is_some() {
            self.batch.closes.push(id);
            self.release_locks(id);
        }
    }

    /// Queues a message, or drops the client when it has stopped reading.
    fn send(&mut self, id: ConnId, message: Message) {
        let limit = self.limits.backlog;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.backlog > limit {
            self.close(id);
            return;
        }
        let bytes = message.encode();
        connection.backlog += bytes.len();
        self.batch.push_send(id, bytes);
    }

    fn probe(&mut self) {
        let now = self.now.mono_ms;
        let ids: Vec<ConnId> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            match connection.probe(now) {
                connection::Probe::Quiet => {}
                connection::Probe::Dead => self.close(id),
                connection::Probe::Ask => {
                    let probe =
                        Message::Request { id: "echo".into(), method: "echo".into(), params: Vec::new() };
                    self.send(id, probe);
                }
            }
        }
    }
}
