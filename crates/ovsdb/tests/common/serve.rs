//! The smallest rim that can serve real clients: a thread owns the server, each client has
//! a reading thread, batches are persisted and synced before their replies leave.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use weft_ovsdb::log::{self, LoadError};
use weft_ovsdb::{ConnId, ConnOptions, Database, Now, Persist, Server, ServerLimits, UuidStream, schema};

enum Event {
    Accepted(UnixStream),
    Bytes(ConnId, Vec<u8>),
    Gone(ConnId),
}

struct Rim {
    server: Server,
    file: File,
    path: String,
    clients: HashMap<ConnId, UnixStream>,
    start: Instant,
}

/// Serves the database file at `path` on the socket, for ever. The file is created when it
/// is missing.
pub(crate) fn serve(socket: &str, path: &str, seed: [u8; 32]) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut server = Server::new(seed, ServerLimits::default(), now(start));
    let db = open(path, server.uuids(), now(start).unix_ms)?;
    server.add_database(db, now(start))?;
    server.take_batch();
    let _ = fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    let (events, inbox) = channel();
    let accepts = events.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = accepts.send(Event::Accepted(stream));
        }
    });
    let mut rim = Rim {
        server,
        file: OpenOptions::new().append(true).open(path)?,
        path: path.to_owned(),
        clients: HashMap::new(),
        start,
    };
    rim.run(&events, &inbox)
}

fn now(start: Instant) -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms: start.elapsed().as_millis() as u64, unix_ms: unix.as_millis() as i64 }
}

/// Opens the database file, or creates it.
fn open(path: &str, uuids: &mut UuidStream, date_ms: i64) -> Result<Database, Box<dyn Error>> {
    let bytes = fs::read(path).unwrap_or_default();
    match log::load(&bytes, uuids) {
        Ok(loaded) => {
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(loaded.valid_len as u64)?;
            Ok(loaded.db)
        }
        Err(LoadError::Empty) => {
            let db = Database::new(schema::open_vswitch(), uuids.draw());
            fs::write(path, log::snapshot(&db, date_ms, ""))?;
            Ok(db)
        }
        Err(error) => Err(error.into()),
    }
}

impl Rim {
    fn run(&mut self, events: &Sender<Event>, inbox: &Receiver<Event>) -> Result<(), Box<dyn Error>> {
        loop {
            let wait = match self.server.deadline_ms() {
                Some(at) => at.saturating_sub(now(self.start).mono_ms).min(1000),
                None => 1000,
            };
            match inbox.recv_timeout(Duration::from_millis(wait)) {
                Ok(event) => self.event(event, events),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            // Whatever else has arrived shares the batch, and so the sync.
            while let Ok(event) = inbox.try_recv() {
                self.event(event, events);
            }
            self.server.tick(now(self.start));
            self.carry_out()?;
        }
    }

    fn event(&mut self, event: Event, events: &Sender<Event>) {
        let now = now(self.start);
        match event {
            Event::Accepted(stream) => {
                let id = self.server.connect(ConnOptions::default(), now);
                if let Ok(reader) = stream.try_clone() {
                    let events = events.clone();
                    std::thread::spawn(move || read(id, reader, &events));
                    self.clients.insert(id, stream);
                }
            }
            Event::Bytes(id, bytes) => self.server.receive(id, &bytes, now),
            Event::Gone(id) => {
                self.server.disconnect(id, now);
                self.clients.remove(&id);
            }
        }
    }

    fn carry_out(&mut self) -> Result<(), Box<dyn Error>> {
        while self.server.has_batch() {
            let batch = self.server.take_batch();
            for persist in &batch.persist {
                match persist {
                    Persist::Append { record, .. } => self.file.write_all(record)?,
                    Persist::Replace { file, .. } => {
                        let aside = format!("{}.new", self.path);
                        fs::write(&aside, file)?;
                        fs::rename(&aside, &self.path)?;
                        self.file = OpenOptions::new().append(true).open(&self.path)?;
                    }
                }
            }
            if !batch.persist.is_empty() {
                self.file.sync_data()?;
            }
            for (id, bytes) in &batch.sends {
                if let Some(client) = self.clients.get_mut(id) {
                    let _ = client.write_all(bytes);
                    self.server.written(*id, bytes.len());
                }
            }
            for id in &batch.closes {
                if let Some(client) = self.clients.remove(id) {
                    let _ = client.shutdown(std::net::Shutdown::Both);
                }
            }
        }
        Ok(())
    }
}

fn read(id: ConnId, mut stream: UnixStream, events: &Sender<Event>) {
    let mut buffer = [0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => {
                let _ = events.send(Event::Bytes(id, buffer[..n].to_vec()));
            }
            _ => {
                let _ = events.send(Event::Gone(id));
                return;
            }
        }
    }
}
