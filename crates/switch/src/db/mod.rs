//! How do the database's clients, its file and the rest of the switch meet?
//!
//! [`Db`] carries out what [`weft_ovsdb::Server`] says: a batch at a time is made durable by the writer thread, then
//! its replies are sent. What changed is told to the rest of the switch at once, before it is durable, because
//! reality is made to match anew after a crash anyway.

pub(crate) mod file;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use weft_ovsdb::log::Compaction;
use weft_ovsdb::{Batch, Commit, ConnOptions, Database, Edit, Now, Server, ServerLimits};

pub(crate) use file::DbFileError;
pub(crate) use writer::Written;

use crate::stream::{Conn, ConnId};
use file::{DbFile, now_ms};
use writer::{Job, Writer};

/// The database this switch serves.
pub(crate) const DATABASE: &str = "Open_vSwitch";

/// The database, its file and its clients.
pub(crate) struct Db {
    server: Server,
    writer: Writer,
    compaction: Compaction,
    /// The batch that is being made durable.
    in_flight: Option<Batch>,
    compact_requested: bool,
    compacting: bool,
    clients: HashMap<weft_ovsdb::ConnId, Conn>,
    by_stream: HashMap<ConnId, weft_ovsdb::ConnId>,
}

impl Db {
    /// Opens or creates the file and serves it.
    pub(crate) fn open(path: &Path, mono_ms: u64, done: UnboundedSender<Written>) -> Result<Db, DbFileError> {
        let now = Now { mono_ms, unix_ms: now_ms() };
        let io = |source| DbFileError::Io { path: path.to_owned(), source };
        let mut server = Server::new(seed().map_err(io)?, ServerLimits::default(), now);
        let schema = weft_ovsdb::schema::open_vswitch();
        let (file, database) = DbFile::open(path, &schema, server.uuids())?;
        let compaction = Compaction::new(0, file.len(), mono_ms);
        let writer = Writer::start(file, done).map_err(io)?;
        let mut db = Db {
            server,
            writer,
            compaction,
            in_flight: None,
            compact_requested: false,
            compacting: false,
            clients: HashMap::new(),
            by_stream: HashMap::new(),
        };
        if let Err(e) = db.server.add_database(database, now) {
            tracing::error!("{e}");
        }
        Ok(db)
    }

    /// The database, to read.
    pub(crate) fn database(&self) -> &Database {
        self.server.database(DATABASE).expect("the database is served for as long as the process lives")
    }

    /// Number of clients.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// A client came. `probe_ms`: after how long a silence it is asked for a sign of life.
    pub(crate) fn connected(&mut self, conn: Conn, probe_ms: Option<u64>, mono_ms: u64) {
        let options = ConnOptions { probe_ms, ..ConnOptions::default() };
        let id = self.server.connect(options, at(mono_ms));
        self.by_stream.insert(conn.id, id);
        self.clients.insert(id, conn);
    }

    /// A client sent bytes.
    pub(crate) fn received(&mut self, conn: ConnId, bytes: &[u8], mono_ms: u64) {
        if let Some(id) = self.by_stream.get(&conn) {
            self.server.receive(*id, bytes, at(mono_ms));
        }
    }

    /// A client went, or is to go.
    pub(crate) fn disconnected(&mut self, conn: ConnId, mono_ms: u64) {
        if let Some(id) = self.by_stream.remove(&conn) {
            self.clients.remove(&id);
            self.server.disconnect(id, at(mono_ms));
        }
    }

    /// Lets time pass.
    pub(crate) fn tick(&mut self, mono_ms: u64) {
        self.server.tick(at(mono_ms));
        if self.compaction.due(mono_ms) {
            self.compaction.attempted(mono_ms);
            self.compact_requested = true;
        }
    }

    /// When [`Db::tick`] next has something to do.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.server.deadline_ms()
    }

    /// Whether a compaction was asked for and is not done.
    pub(crate) fn is_compacting(&self) -> bool {
        self.compact_requested || self.compacting
    }

    /// Rewrites the file as a snapshot, soon.
    pub(crate) fn compact(&mut self) {
        self.compact_requested = true;
    }

    /// Closes every client's connection; they are welcome to come back.
    pub(crate) fn drop_all(&mut self) {
        let all: Vec<_> = self.clients.keys().copied().collect();
        for id in all {
            self.drop_client(id);
        }
    }

    /// What changed since the last call, ours included.
    pub(crate) fn take_changes(&mut self) -> Vec<Arc<Commit>> {
        let changes = self.server.take_changes();
        changes.into_iter().filter(|(name, _)| name == DATABASE).map(|(_, commit)| commit).collect()
    }

    /// Changes rows from inside the switch. An error is a mistake of ours and is logged.
    pub(crate) fn edit(
        &mut self,
        mono_ms: u64,
        change: impl FnOnce(&mut Edit<'_, '_>) -> weft_ovsdb::Result<()>,
    ) {
        if let Err(e) = self.server.edit(DATABASE, at(mono_ms), change) {
            tracing::error!("own transaction refused: {e}");
        }
    }

    /// The writer thread finished a job.
    pub(crate) fn written(&mut self, written: Written) {
        let batch = self.in_flight.take();
        self.compacting = false;
        match written.result {
            Ok(()) => {
                if written.replaced {
                    self.compaction =
                        Compaction::new(written.file_len, written.file_len, crate::clock::now_ms());
                }
                if let Some(batch) = batch {
                    self.deliver(batch);
                }
            }
            Err(e) => {
                tracing::error!("the database cannot be written, its last changes are taken back: {e}");
                self.server.persist_failed();
            }
        }
    }

    /// Makes durable and sends what has come together, when the batch before is done. Called when everything has been
    /// made to match, so that what clients asked for and what the switch says to it share one sync.
    pub(crate) fn pump(&mut self) {
        while self.in_flight.is_none() && (self.server.has_batch() || self.compact_requested) {
            let mut batch = self.server.take_batch();
            let steps = std::mem::take(&mut batch.persist);
            if std::mem::take(&mut self.compact_requested) {
                // The snapshot holds what the batch would append.
                let db = Box::new(self.database().clone());
                self.writer.queue(Job::Compact { db, comment: "compacting database online" });
                self.in_flight = Some(batch);
                self.compacting = true;
            } else if steps.is_empty() {
                self.deliver(batch);
            } else {
                for step in &steps {
                    if let weft_ovsdb::Persist::Append { record, .. } = step {
                        self.compaction.appended(record.len());
                    }
                }
                self.writer.queue(Job::Persist(steps));
                self.in_flight = Some(batch);
            }
        }
    }

    fn deliver(&mut self, batch: Batch) {
        for (id, bytes) in batch.sends {
            let Some(conn) = self.clients.get(&id) else { continue };
            let len = bytes.len();
            if let Err(e) = conn.send(bytes) {
                tracing::warn!("{}: {e}; closing", conn.peer);
                self.drop_client(id);
                continue;
            }
            // The stream has limits of its own.
            self.server.written(id, len);
        }
        for id in batch.closes {
            self.drop_client(id);
        }
    }

    fn drop_client(&mut self, id: weft_ovsdb::ConnId) {
        if let Some(conn) = self.clients.remove(&id) {
            self.by_stream.remove(&conn.id);
            self.server.disconnect(id, at(crate::clock::now_ms()));
        }
    }
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, unix_ms: now_ms() }
}

/// Randomness for UUIDs.
fn seed() -> std::io::Result<[u8; 32]> {
    use std::io::Read;
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}
