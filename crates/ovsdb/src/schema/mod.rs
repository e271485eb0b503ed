//! What shape does a database have (RFC 7047 §3.2)?

mod builtin;
mod model;
mod types;

pub use builtin::{open_vswitch, server};
pub use model::{ColumnSchema, DatabaseSchema, Reference, TableSchema};
pub use types::{AtomicType, BaseType, ColumnType, RefKind};
