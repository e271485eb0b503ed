//! RFC 7047 without sockets, clocks and files: what does an OVSDB server answer, what must
//! it write down, and what does a client make of it?
//!
//! # The rooms in this room
//! | module | question |
//! |---|---|
//! | [`schema`] | what shape does a database have? |
//! | [`value`] | what can a column hold? |
//! | [`db`] | what rows are there, and what did a commit change? |
//! | [`txn`] | what does a transaction answer, and what would it change? |
//! | `monitor` | what is a client told of a change? |
//! | [`log`] | how does a database outlive its process? |
//! | [`rpc`] | where does a JSON-RPC message begin and end? |
//! | [`Server`] | who is connected, who waits, who hears of it? |
//! | [`client`] | the other end of the connection |
//!
//! # Driving a server
//! One thread owns the [`Server`]. It feeds bytes and time in, takes a [`Batch`], and carries
//! the batch out **in the order of its fields**: append the records and sync, then send, then
//! close. However many clients have spoken since the last batch, it is one sync. When the
//! write fails, cut the file back to the length it had and call [`Server::persist_failed`].
//!
//! ```
//! use weft_ovsdb::{ConnOptions, Database, Datum, Now, Persist, Server, ServerLimits};
//! use weft_ovsdb::{log, schema};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = Now { mono_ms: 0, unix_ms: 1_700_000_000_000 };
//! let seed = [7; 32]; // in earnest: 32 bytes of the system's randomness
//! let mut server = Server::new(seed, ServerLimits::default(), now);
//!
//! // The file: created from a snapshot of an empty database, or read.
//! let empty = Database::new(schema::open_vswitch(), server.uuids().draw());
//! let mut file = log::snapshot(&empty, now.unix_ms, "");
//! let loaded = log::load(&file, server.uuids())?;
//! file.truncate(loaded.valid_len); // cuts off what a crash left half written
//! server.add_database(loaded.db, now)?;
//!
//! // A client connects and speaks.
//! let client = server.connect(ConnOptions::default(), now);
//! let request = br#"{"id":1,"method":"transact","params":["Open_vSwitch",
//!     {"op":"insert","table":"Open_vSwitch","row":{}}]}"#;
//! server.receive(client, request, now);
//!
//! // This process writes too: no JSON, and nothing happens when nothing changes.
//! let root = server.database("Open_vSwitch").and_then(|db| db.only_row("Open_vSwitch"));
//! let root = root.map(|row| row.uuid()).ok_or("no row")?;
//! server.edit("Open_vSwitch", now, |edit| {
//!     edit.set("Open_vSwitch", root, "cur_cfg", Datum::scalar(1))
//! })?;
//!
//! let batch = server.take_batch();
//! for persist in &batch.persist {
//!     match persist {
//!         Persist::Append { record, .. } => file.extend_from_slice(record),
//!         Persist::Replace { file: new, .. } => file = new.clone(),
//!     }
//! } // … and sync
//! for (client, bytes) in &batch.sends {
//!     // … write to the socket, then:
//!     server.written(*client, bytes.len());
//! }
//! for (_, commit) in &batch.changes {
//!     if commit.touches("Open_vSwitch", &["next_cfg"]) { /* reconcile */ }
//! }
//!
//! // Reading, by column name.
//! let db = server.database("Open_vSwitch").ok_or("not served")?;
//! let row = db.row("Open_vSwitch", root).ok_or("no row")?;
//! assert_eq!((row.int("cur_cfg"), row.get("other_config", "hw-offload")), (1, None));
//! assert_eq!(log::load(&file, server.uuids())?.db.row_count(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Call [`Server::tick`] at [`Server::deadline_ms`] and take a batch after it.
//!
//! # What is not here
//! Clustering, relays, replication and role-based access: the switch's database is
//! standalone. TLS and listening belong to whoever owns the sockets.
#![forbid(unsafe_code)]

pub mod client;
pub mod db;
pub mod error;
mod json;
pub mod log;
mod monitor;
pub mod rpc;
pub mod schema;
mod server;
pub mod txn;
mod uuids;
pub mod value;

pub use db::{Commit, Database, Row, RowChange, RowView, TableView};
pub use error::{ErrorKind, OvsdbError, Result};
pub use server::{Batch, ConnId, ConnOptions, LockStatus, Now, Persist, Server, ServerLimits};
pub use txn::Edit;
pub use uuids::{Uuid, UuidStream, parse_uuid};
pub use value::{Atom, Datum};
