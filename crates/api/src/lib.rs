//! How do people and programs say what they want, and see what became of it?
//!
//! An HTTP API over the [`weft_store::Store`]: resources are read, put, applied (server-side apply, field by field),
//! deleted and watched under `/apis/weft.dev/v1/`. It listens on a unix socket; on TCP only with TLS and a token or
//! client certificates. `/openapi.json` describes all of it, from the same table that the router is made of.
//!
//! `types` are the words of requests and answers; `merge` decides what an apply comes to and who owns which field;
//! `routes` is the table; `handlers` answer; `guard` keeps limits and asks for credentials; `listen` accepts connections;
//! `client` is the other side; `table` puts resources in columns.

mod client;
mod error;
mod guard;
mod handlers;
mod listen;
mod merge;
mod openapi;
mod routes;
mod table;
mod types;
mod watch;

pub use client::{Client, ClientError, TlsOptions, WatchStream};
pub use error::ApiError;
pub use guard::Limits;
pub use handlers::NodeInfo;
pub use listen::{TcpOptions, bind_unix, serve_tcp, serve_unix};
pub use merge::{Merged, merge, replace};
pub use openapi::document;
pub use routes::{App, PREFIX, router};
pub use table::{columns, describe, row};
pub use types::{
    Applied, ApplyAnswer, ApplyQuery, Deleted, ErrorAnswer, ErrorBody, FieldConflict, FlowOwner, Health,
    LeaseView, ListAnswer, ListQuery, NodeStatus, WatchEvent, WatchEventType, WatchQuery, WriteQuery,
};
