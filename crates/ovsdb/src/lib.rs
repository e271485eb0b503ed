//! RFC 7047: schema, values, transactions, monitors, log and sessions.
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
pub use server::{Batch, ConnId, ConnOptions, Now, Persist, Server, ServerLimits};
pub use txn::Edit;
pub use uuids::{Uuid, UuidStream, parse_uuid};
pub use value::{Atom, Datum};
