//! What must hold for any bytes at all? Shared by the fuzz targets and `tests/mutations.rs`.

use std::sync::OnceLock;

use serde_json::{Value, json};
use weft_ovsdb::client::{ClientEvent, ClientSession, Replica};
use weft_ovsdb::log::{self, Tail};
use weft_ovsdb::rpc::FrameLimits;
use weft_ovsdb::{ConnOptions, Database, Datum, Now, Persist, Server, ServerLimits, UuidStream, schema};

const DB: &str = "Open_vSwitch";

fn now(mono_ms: u64) -> Now {
    Now { mono_ms, unix_ms: 1_700_000_000_000 }
}

/// A database with a bridge, a port and an interface in it, and its file.
fn start() -> &'static (Database, Vec<u8>) {
    static START: OnceLock<(Database, Vec<u8>)> = OnceLock::new();
    START.get_or_init(|| {
        let mut server = Server::new([0; 32], ServerLimits::default(), now(0));
        let db = Database::new(schema::open_vswitch(), server.uuids().draw());
        server.add_database(db, now(0)).expect("added");
        let name = || Datum::scalar("br0");
        let made = server.edit(DB, now(0), |edit| {
            let interface = edit.insert("Interface", &[("name", name())])?;
            let refs = Datum::set([interface]);
            let port = edit.insert("Port", &[("name", name()), ("interfaces", refs)])?;
            let refs = Datum::set([port]);
            let bridge = edit.insert("Bridge", &[("name", name()), ("ports", refs)])?;
            edit.insert("Open_vSwitch", &[("bridges", Datum::set([bridge]))])?;
            Ok(())
        });
        made.expect("commits");
        let db = server.database(DB).expect("served").clone();
        let file = log::snapshot(&db, 0, "");
        (db, file)
    })
}

/// What real clients say: the requests of the conformance dialogues.
pub(crate) fn requests() -> &'static [Vec<u8>] {
    static REQUESTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let dialogues = [
        include_str!("../conformance/operations.jsonl"),
        include_str!("../conformance/monitors.jsonl"),
        include_str!("../conformance/sessions.jsonl"),
    ];
    REQUESTS.get_or_init(|| {
        let lines = dialogues.into_iter().flat_map(str::lines);
        let steps = lines.filter(|l| l.starts_with('['));
        let request = |(id, line)| {
            let step: Value = serde_json::from_str(line).expect("a step");
            let request = json!({"id": id, "method": step[1], "params": step[2]});
            request.to_string().into_bytes()
        };
        steps.enumerate().map(request).collect()
    })
}

/// Bytes for the server: as they stand, or `T` and two bytes that pick a real request, then
/// groups of three that change one byte of it.
fn message(bytes: &[u8]) -> Vec<u8> {
    let [b'T', high, low, patches @ ..] = bytes else {
        return bytes.to_vec();
    };
    let index = usize::from(*high) << 8 | usize::from(*low);
    let mut message = requests()[index % requests().len()].clone();
    for patch in patches.chunks_exact(3) {
        let at = (usize::from(patch[0]) << 8 | usize::from(patch[1])) % message.len();
        message[at] = patch[2];
    }
    message
}

/// Parts of the input, separated by NUL, are sent by one of two clients (the first byte
/// says which) or let time pass. What the server asks to be persisted must always be a log
/// of what it holds, and what it sends must be JSON.
pub(crate) fn session(data: &[u8]) {
    let limits = ServerLimits {
        frame: FrameLimits { bytes: 1 << 16, depth: 32, values: 1 << 12 },
        backlog: 1 << 20,
        ..ServerLimits::default()
    };
    let mut server = Server::new([0; 32], limits, now(0));
    let (db, mut file) = start().clone();
    server.add_database(db, now(0)).expect("added");
    let options = ConnOptions { probe_ms: Some(5_000), ..ConnOptions::default() };
    let clients = [0, 1].map(|_| server.connect(options, now(0)));
    let mut time = 0;
    for part in data.split(|b| *b == 0) {
        match part {
            [] => {}
            [b'~', ticks @ ..] => {
                time += 100 * ticks.len() as u64;
                server.tick(now(time));
            }
            [who, bytes @ ..] => {
                let client = clients[usize::from(*who) % 2];
                server.receive(client, &message(bytes), now(time));
            }
        }
        for persist in server.take_batch_checked() {
            match persist {
                Persist::Append { record, .. } => file.extend_from_slice(&record),
                Persist::Replace { file: new, .. } => file = new,
            }
        }
    }
    if file.len() == start().1.len() {
        return;
    }
    let loaded = log::load(&file, &mut UuidStream::new([1; 32])).expect("the log loads");
    let db = server.database(DB).expect("served");
    assert_eq!((loaded.tail, loaded.db.row_count()), (Tail::Clean, db.row_count()));
}

trait Checked {
    fn take_batch_checked(&mut self) -> Vec<Persist>;
}

impl Checked for Server {
    fn take_batch_checked(&mut self) -> Vec<Persist> {
        let batch = self.take_batch();
        for (_, bytes) in &batch.sends {
            let mut messages = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
            assert!(messages.all(|m| m.is_ok_and(|m| m.is_object())), "replies are JSON objects");
        }
        batch.persist
    }
}

/// The input is a file. If it loads, a snapshot of it loads to the same rows.
pub(crate) fn file(data: &[u8]) {
    // The input may stand for the body of a transaction record after a good start.
    let mut file = start().1.clone();
    if let Ok(json) = serde_json::from_slice::<Value>(data) {
        file.extend_from_slice(&log::encode_record(&json));
    } else {
        file = data.to_vec();
    }
    let mut uuids = UuidStream::new([2; 32]);
    let Ok(loaded) = log::load(&file, &mut uuids) else {
        return;
    };
    assert!(loaded.valid_len <= file.len());
    let snapshot = log::snapshot(&loaded.db, 0, "again");
    let again = log::load(&snapshot, &mut uuids).expect("a snapshot loads");
    assert_eq!(again.db.row_count(), loaded.db.row_count());
}

/// The input is what a server says to a client of ours.
pub(crate) fn client(data: &[u8]) {
    let mut session = ClientSession::new(FrameLimits::default());
    let mut replica = Replica::new(schema::open_vswitch());
    let _ = session.get_schema(DB);
    for part in data.chunks(50) {
        let Ok(events) = session.receive(part) else {
            return;
        };
        for event in events {
            if let ClientEvent::Update { updates, .. } = event {
                let _ = replica.apply(&updates);
            }
        }
    }
}
